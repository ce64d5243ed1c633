"""Start, shutdown, restart, death: no process stays behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from kernel import LIMIT, Kernel, executable, text, types, wait_until


def run(*arguments):
    return subprocess.run([executable(), *arguments], capture_output=True, text=True, timeout=LIMIT)


def test_version_and_help():
    v, h = run("--version"), run("--help")
    assert v.returncode == 0 and v.stdout.startswith("jaeda-kernel ")
    assert h.returncode == 0 and all(x in h.stdout for x in ("-f CONNECTION_FILE", "-r REGISTRATION_FILE", "--engine URI"))
    assert run("--features").stdout.split() in ([], ["curve"])


def test_the_engine_can_be_named(start):
    """The option wins over the environment; commands of cells see it as %engine does."""
    k = start(env={"JAEDA_ENGINE": "ipc:/nowhere"}, arguments=["--engine", "local:"])
    assert text(k.client().run("!echo $JAEDA_ENGINE")[1]) == "local:\n"


def test_a_connection_file_is_no_registration_file(tmp_path):
    f = tmp_path / "c.json"
    f.write_text(json.dumps(GOOD))
    r = run("--registration-file", str(f))
    assert r.returncode == 1 and "registration_port" in r.stderr and r.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["-f"], ["--nonsense"], ["-f", "a", "b"], ["file.json"],
                                       ["-f", ""], ["-f", "a", "-r", "b"], ["-f", "a", "-f", "b"], ["-r"], ["--engine", "local:"],
                                       ["-f", "a", "--engine"], ["-f", "a", "--engine="], ["--version", "x"]])
def test_wrong_arguments(arguments):
    r = run(*arguments)
    assert r.returncode == 2 and r.stderr.count("\n") == 1 and r.stdout == ""


GOOD = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5, "ip": "127.0.0.1",
        "transport": "tcp", "key": "k", "signature_scheme": "hmac-sha256"}


@pytest.mark.parametrize("change, named", [
    ({"shell_port": None}, "shell_port"), ({"hb_port": 0}, "hb_port"), ({"hb_port": 70000}, "hb_port"),
    ({"stdin_port": "x1"}, "stdin_port"), ({"transport": "carrier-pigeon"}, "transport"),
    ({"signature_scheme": "rsa"}, "signature_scheme"), ({"signature_scheme": "hmac-nonsense"}, "signature_scheme"),
    ({"key": 7}, "key"), ({"ip": "x" * 300}, "ip"), ({"transport": "ipc", "ip": "/tmp/" + "x" * 120}, "longer"),
    ({"curve_publickey": "x" * 40}, "Curve"), ({"ip": "no.such.host.invalid"}, "bind"),
])
def test_a_bad_connection_file_is_one_line_and_exit_1(tmp_path, change, named):
    f = tmp_path / "c.json"
    f.write_text(json.dumps({k: v for k, v in {**GOOD, **change}.items() if v is not None}))
    r = run("-f", str(f))
    assert r.returncode == 1 and r.stderr.count("\n") == 1 and named in r.stderr, r


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "\0", "{}" * 50000])
def test_a_connection_file_that_is_none(tmp_path, content):
    f = tmp_path / "c.json"
    f.write_text(content)
    r = run("--connection-file", str(f))
    assert r.returncode == 1 and r.stderr.count("\n") == 1 and "c.json" in r.stderr
    assert run("-f", str(tmp_path / "none.json")).returncode == 1
    assert run("-f", str(tmp_path)).returncode == 1


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        f = tmp_path / "c.json"
        f.write_text(json.dumps(dict(GOOD, shell_port=s.getsockname()[1], iopub_port=s.getsockname()[1])))
        r = run(f"--connection-file={f}")
    assert r.returncode == 1 and "in use" in r.stderr and r.stderr.count("\n") == 1


def test_ports_may_be_texts(start):
    k = start()
    k.stop()
    ports = {n: str(v) for n, v in k.connection.items() if n.endswith("_port")}
    again = start(**ports)
    assert again.client().run("!echo x")[0].content["status"] == "ok"


def test_ipc(start):
    k = start(transport="ipc")
    c = k.client()
    assert text(c.run("!echo over ipc")[1]) == "over ipc\n"
    paths = [k.endpoint(n)[len("ipc://"):] for n in ("shell", "iopub", "hb")]
    assert all(os.stat(p).st_mode & 0o077 == 0 for p in paths)
    c.send("shutdown_request", {"restart": False}, "control")
    assert k.process.wait(LIMIT) == 0
    assert not any(os.path.exists(p) for p in paths)


def group(pid):
    """Living processes of a process group or session."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z" and str(pid) in (fields[2], fields[3]):
            found.append(int(p))
    return found


@pytest.mark.parametrize("channel", ["control", "shell"])
@pytest.mark.parametrize("restart", [False, True])
def test_shutdown(kernel, client, channel, restart):
    client.run("!echo x")
    msg_id = client.send("shutdown_request", {"restart": restart}, channel)
    reply = client.reply(msg_id, channel)
    assert reply.type == "shutdown_reply" and reply.content == {"status": "ok", "restart": restart}
    out = client.outputs(msg_id)
    assert types(out) == ["busy", "shutdown_reply", "idle"] and out[1].content["restart"] is restart
    assert kernel.process.wait(LIMIT) == 0
    assert group(kernel.process.pid) == []


def test_shutdown_while_a_cell_runs_leaves_no_process(kernel, client):
    running = client.execute("!sleep 300 & sleep 301")
    client.started(running)
    queued = client.execute("!echo queued")
    msg_id = client.send("shutdown_request", {"restart": False}, "control")
    assert client.reply(msg_id, "control").content["status"] == "ok"
    assert client.reply(running).content["status"] == "error"
    assert client.reply(queued).content["status"] == "aborted"
    begin = time.monotonic()
    assert kernel.process.wait(LIMIT) == 0
    assert wait_until(lambda: commands_of(kernel.directory) == []), commands_of(kernel.directory)
    assert time.monotonic() - begin < LIMIT / 2


def test_a_command_that_ignores_signals_does_not_stay(kernel, client):
    running = client.execute("%%bash\ntrap '' INT TERM HUP\nsleep 300 &\necho deaf\nwhile true; do sleep 1; done")
    client.until(lambda m: m.type == "stream" and m.parent_id == running)
    client.send("shutdown_request", {"restart": False}, "control")
    assert kernel.process.wait(LIMIT) == 0
    assert wait_until(lambda: commands_of(kernel.directory) == [])


def commands_of(directory):
    """Living processes that were started with this directory as their data home."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/environ", "rb") as f:
                if f"XDG_DATA_HOME={directory}".encode() in f.read().split(b"\0") and not zombie(p):
                    found.append(p)
        except OSError:
            pass
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_in_order(kernel, client, number):
    running = client.execute("!sleep 300")
    client.started(running)
    kernel.process.send_signal(number)
    assert client.reply(running).content["status"] == "error"
    assert kernel.process.wait(LIMIT) == 0
    assert wait_until(lambda: group(kernel.process.pid) == [])


def test_restart_on_the_same_ports(kernel):
    c = kernel.client()
    c.run("first = 1")
    c.send("shutdown_request", {"restart": True}, "control")
    assert kernel.process.wait(LIMIT) == 0
    kernel.start()
    new = kernel.client()
    assert new.run("!echo again")[0].content["execution_count"] == 1
    # the client of before has stayed connected: its sockets find the new process
    assert c.ask("kernel_info_request").header["session"] == new.welcome.header["session"]


def test_no_descriptor_leaks_into_commands(client):
    out = text(client.run("!ls -l /proc/self/fd")[1])
    opened = {int(n): to for n, to in (line.split()[-3::2] for line in out.splitlines() if "->" in line)}
    # 3: the directory itself
    assert {n for n, to in opened.items() if to != "/dev/null"} <= {0, 1, 2, 3} and len(opened) >= 3, out


def test_every_descriptor_of_the_kernel_is_its_own(kernel, client):
    """Not only those that a shell would show: each is closed in whatever the kernel starts."""
    client.run("!echo x")
    inherited = []
    for n in os.listdir(f"/proc/{kernel.process.pid}/fd"):
        with open(f"/proc/{kernel.process.pid}/fdinfo/{n}") as f:
            flags = next(int(line.split()[1], 8) for line in f if line.startswith("flags:"))
        if int(n) > 2 and not flags & os.O_CLOEXEC:
            inherited.append((n, os.readlink(f"/proc/{kernel.process.pid}/fd/{n}")))
    assert inherited == []


def test_commands_have_default_signals(client):
    out = text(client.run("!grep -E 'Sig(Blk|Ign)' /proc/self/status")[1])
    masks = [int(line.split()[1], 16) for line in out.splitlines()]
    assert masks == [0, 0], out


PARENT = """
import os, subprocess, sys, time
env = dict(os.environ, JPY_PARENT_PID=str(os.getpid()))
p = subprocess.Popen(sys.argv[1:], env=env, start_new_session=True)
print(p.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("wrapped", [False, True], ids=["child", "grandchild"])
def test_it_dies_with_its_parent(start, wrapped):
    prefix = [sys.executable, "-c", PARENT] + (["sh", "-c", '"$0" "$@"; true'] if wrapped else [])
    k = start(prefix=prefix)
    c = k.client()
    pid = int(c.ask("usage_request", channel="control").content["pid"])
    running = c.execute("!sleep 300")
    c.started(running)
    k.process.kill()
    k.process.wait()
    assert wait_until(lambda: not os.path.exists(f"/proc/{pid}") or zombie(pid))
    assert wait_until(lambda: commands_of(k.directory) == [])


def zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_without_a_named_parent_it_lives_on(tmp_path):
    os.environ.pop("JPY_PARENT_PID", None)
    k = Kernel(tmp_path, prefix=["setsid", "--fork"])
    try:
        k.process.wait(LIMIT)
        c = k.client()
        assert c.ask("kernel_info_request").content["status"] == "ok"
        time.sleep(1.5)
        assert c.ask("kernel_info_request").content["status"] == "ok"
        c.send("shutdown_request", {"restart": False}, "control")
        assert c.get("control").type == "shutdown_reply"
    finally:
        k.stop()


def test_it_starts_with_closed_descriptors(start):
    k = start(prefix=["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-'])
    assert text(k.client().run("!echo x")[1]) == "x\n"
    k.process.terminate()
    assert k.process.wait(LIMIT) == 0
