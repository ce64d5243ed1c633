"""The results database as a user's tools see it: read with Python's own sqlite3 while kernels write it."""
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import time

import pytest
from kernel import text, wait_until

TINY = pathlib.Path(__file__).resolve().parents[1] / "golden" / "tiny-tied.gguf"
LOAD = f"%load {TINY} --dtype fp32"


def shown(outputs):
    return text(outputs) + "\n".join(m.content["data"].get("text/plain", "") for m in outputs if "data" in m.content)


def ok(client, code, **options):
    reply, outputs = client.run(code, **options)
    assert reply.content["status"] == "ok", f"{code}: {reply.content}"
    return shown(outputs)


def file_of(kernel):
    return pathlib.Path(kernel.env["XDG_DATA_HOME"], "jaeda", "results.sqlite")


def rows(kernel):
    # May write: it rolls back what a killed kernel had begun.
    db = sqlite3.connect(f"file:{file_of(kernel)}?mode=rw", uri=True)
    db.row_factory = sqlite3.Row
    assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
    found = [dict(r) for r in db.execute("select * from run order by number")]
    db.close()
    return found


def test_a_profile_is_recorded_with_its_rows_and_the_machine(start):
    kernel = start(env={"JPY_SESSION_NAME": "/x/bench.ipynb"})
    c = kernel.client()
    ok(c, LOAD)
    ok(c, "%profile --runs 2 -p 16 -n 3")
    (r,) = rows(kernel)
    numbers, system = json.loads(r["numbers"]), json.loads(r["system"])
    assert (r["kind"], r["state"], r["notebook"], r["code"]) == \
        ("profile", "finished", "/x/bench.ipynb", "%profile --runs 2 -p 16 -n 3")
    assert numbers["runs"] == 2 and numbers["prompt_tokens"] == 16 and numbers["decode_steps"] == 3
    assert {x["phase"] for x in numbers["rows"]} == {"prefill", "decode"}
    for phase in ("prefill", "decode"):
        total = sum(x["ms"] for x in numbers["rows"] if x["phase"] == phase)
        assert total == pytest.approx(numbers["spans_ms"][phase], rel=0.01)
    assert system["transport"] == "local" and system["threads"] >= 1 and system["memory_total"] > 1 << 28
    assert r["file"] == str(TINY) and r["ttft_ms"] == numbers["wall_ms"]["prefill"]


def test_the_line_that_repeats_a_run_gives_its_text_again(start):
    kernel = start()
    c = kernel.client()
    ok(c, LOAD)
    ok(c, "%%generate -n 12 --ignore-eos --temperature 0.8 --top-k 20 --seed 5 --stop \"no such\\nstop\"\nsome text\n and $more")
    ok(c, "%unload\n%set temperature=0.1 seed=99 template=chatml no_record=true")
    said = ok(c, "%runs show 1")
    ok(c, "%set no_record=false")
    ok(c, said.split("to repeat it:\n")[1])
    first, second = rows(kernel)
    assert first["text"] == second["text"] and len(first["text"]) > 0
    assert first["messages"].rstrip() == second["messages"].rstrip() and first["options"] == second["options"]


def test_two_kernels_at_once_lose_nothing(start):
    kernels = [start(), start()]
    clients = [k.client() for k in kernels]
    for c in clients:
        ok(c, LOAD)
    for i in range(8):
        waiting = [(c, c.execute(f"%generate -n 2 text {i} of {j}")) for j, c in enumerate(clients)]
        for c, msg_id in waiting:
            assert c.reply(msg_id).content["status"] == "ok"
            assert "not recorded" not in shown(c.outputs(msg_id))
    found = [json.loads(r["messages"])[0]["text"] for r in rows(kernels[0])]
    assert sorted(found) == sorted(f"text {i} of {j}" for i in range(8) for j in range(2))


def test_a_secret_that_was_asked_for_is_nowhere(start):
    kernel = start(env={"MY_API_KEY": "key-of-the-environment"})
    c = kernel.client()
    ok(c, LOAD)
    msg_id = c.execute("%env --ask PLAIN", allow_stdin=True)
    asked = c.get("stdin")
    c.send("input_reply", {"value": "what-nobody-may-see"}, "stdin", parent=asked.header)
    assert c.reply(msg_id).content["status"] == "ok"
    ok(c, "%%generate -n 2\nsay what-nobody-may-see and key-of-the-environment")
    assert json.loads(rows(kernel)[0]["messages"])[0]["text"] == "say <hidden> and <hidden>"
    for file in file_of(kernel).parent.glob("results*"):
        assert b"what-nobody" not in file.read_bytes() and b"key-of-the" not in file.read_bytes()


def test_a_full_disk_costs_one_line(start, tmp_path):
    (tmp_path / "small").mkdir()
    kernel = start(env={"XDG_DATA_HOME": str(tmp_path / "small")}, prefix=["prlimit", "--fsize=40960"])
    c = kernel.client()
    ok(c, LOAD)
    prompt, said = "%%generate -n 2\n" + "words " * 25, ""
    for _ in range(30):
        said = ok(c, prompt)  # the cell is well all the time
        if "not recorded" in said:
            break
    assert said.count("! not recorded:") == 1 and "full" in said, said
    assert 0 < len(rows(kernel)) < 30
    ok(c, "%runs delete --all")
    assert "not recorded" not in ok(c, "%generate -n 2 there is room again")


def test_a_folder_that_cannot_be_written(start, tmp_path):
    (tmp_path / "here").write_text("a file where the folder should be")
    c = start(env={"XDG_DATA_HOME": str(tmp_path / "here")}).client()
    ok(c, LOAD)
    assert "! not recorded" in ok(c, "%generate -n 2 x")
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        c = start(env={"XDG_DATA_HOME": str(tmp_path / "locked")}).client()
        ok(c, LOAD)
        assert "! not recorded" in ok(c, "%generate -n 2 x")


def test_a_damaged_file_is_kept_aside(start):
    kernel = start()
    c = kernel.client()
    ok(c, LOAD)
    ok(c, "%generate -n 2 before")
    whole = file_of(kernel).read_bytes()
    file_of(kernel).write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    said = " ".join(ok(c, "%generate -n 2 after").split())
    assert "was damaged" in said and "a fresh one is begun" in said, said
    assert ["after" in r["messages"] for r in rows(kernel)] == [True]
    assert len(list(file_of(kernel).parent.glob("results.sqlite.damaged-*"))) == 1


def test_a_locked_file_does_not_fail_the_cell(start):
    kernel = start()
    c = kernel.client()
    ok(c, LOAD)
    ok(c, "%generate -n 2 first")
    db = sqlite3.connect(file_of(kernel), isolation_level=None)
    db.execute("begin exclusive")
    begun = time.monotonic()
    assert "another program holds it" in " ".join(ok(c, "%generate -n 2 second").split())
    assert time.monotonic() - begun < 30
    db.execute("rollback")
    db.close()
    ok(c, "%generate -n 2 third")
    assert [json.loads(r["messages"])[0]["text"] for r in rows(kernel)] == ["first", "third"]


def test_a_kernel_killed_while_it_writes_leaves_a_whole_database(start):
    prompt = "%%generate -n 1\n" + "x" * 100
    done = 0
    for round_ in range(5):
        kernel = start()
        c = kernel.client()
        ok(c, LOAD)
        for _ in range(3 + round_):
            ok(c, prompt)
            done += 1
        c.execute(prompt)
        time.sleep(0.003 * round_)
        if round_ % 2:
            wait_until(lambda: os.path.exists(f"{file_of(kernel)}-journal"), 0.2)
        os.killpg(kernel.process.pid, signal.SIGKILL)
        kernel.process.wait()
        assert len(rows(kernel)) >= done  # all that the user saw finished
        done = len(rows(kernel))


def test_another_sqlite_reads_what_is_there(start):
    """The command-line shell, where there is one: the file is anybody's to open."""
    kernel = start()
    c = kernel.client()
    ok(c, LOAD)
    ok(c, "%generate -n 3 --ignore-eos hello")
    path = ok(c, "%runs path").splitlines()[0]
    assert path == str(file_of(kernel))
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('select new_tokens from run').fetchone()[0])"
    assert subprocess.run(["python3", "-c", code, path], capture_output=True, text=True).stdout.strip() == "3"
