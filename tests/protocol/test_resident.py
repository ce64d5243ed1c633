"""Kernels with the resident engine: what outlives what, jobs that are shown again, and the database of results."""
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import tempfile
import time

import pytest
from kernel import LIMIT, text

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "golden" / "tiny-tied.gguf"
LOAD = f"%load {TINY} --dtype fp32"


@pytest.fixture
def place():
    """A folder for an engine, with a short path; whatever engine is left there ends."""
    with tempfile.TemporaryDirectory(prefix="jaeda-test-") as folder:
        yield folder
        subprocess.run(["pkill", "-KILL", "-f", f"jaeda-engine --dir {folder}"])
        while subprocess.run(["pgrep", "-f", f"jaeda-engine --dir {folder}"], stdout=subprocess.DEVNULL).returncode == 0:
            time.sleep(0.05)


@pytest.fixture
def resident(start, place, tmp_path):
    return lambda name="a.ipynb": start(env={"JAEDA_ENGINE": f"ipc:{place}", "JPY_SESSION_NAME": f"/x/{name}"})


def shown(outputs):
    return text(outputs) + "\n".join(m.content["data"].get("text/plain", "") for m in outputs if "data" in m.content)


def ok(client, code):
    reply, outputs = client.run(code)
    assert reply.content["status"] == "ok", f"{code}: {reply.content}"
    return shown(outputs)


def refused(client, code):
    reply, outputs = client.run(code)
    assert reply.content["status"] == "error", f"{code}: {shown(outputs)}"
    return reply.content["evalue"], outputs


def engine_pid(client):
    line = next(x for x in ok(client, "%engine").splitlines() if x.startswith("process"))
    return int(line.split()[-1])


def test_weights_outlive_a_killed_kernel_and_the_conversation_does_not(resident):
    first = resident()
    c = first.client()
    ok(c, LOAD)
    ok(c, "%chat --template raw -n 2 hello")
    pid = engine_pid(c)
    first.process.kill()
    c = resident().client()
    assert engine_pid(c) == pid
    begun = time.monotonic()
    assert "already" in ok(c, LOAD)
    assert time.monotonic() - begun < LIMIT / 6
    assert "conversation is empty" in ok(c, "%chat")


def test_two_notebooks_share_one_copy_and_see_each_other(resident):
    a, b = resident("a.ipynb").client(), resident("b.ipynb").client()
    ok(a, LOAD)
    assert "shared by" in ok(b, LOAD)
    ps = " ".join(ok(b, "%ps").split())
    assert "a.ipynb" in ps and "b.ipynb (you)" in ps and "2 connections" in ps
    one, two = (c.execute("%generate -n 150 --ignore-eos hello") for c in (a, b))
    assert a.reply(one).content["status"] == b.reply(two).content["status"] == "ok"
    said = ok(a, "%unload")
    assert "b.ipynb" in said
    ok(b, "%generate -n 2 hello")
    said = ok(b, "%unload")
    assert "before" in said and "after" in said and "given back" in said


@pytest.mark.parametrize("way, words", [(signal.SIGKILL, "killed by signal 9"), (signal.SIGABRT, "signal 6")])
def test_an_engine_that_dies_is_an_error_in_the_cell_and_no_more(resident, way, words):
    c = resident().client()
    ok(c, LOAD)
    ok(c, "answer = 42")
    pid = engine_pid(c)
    running = c.execute("%profile --runs 100")
    c.started(running)
    time.sleep(0.3)
    os.kill(pid, way)
    reply = c.reply(running)
    assert reply.content["ename"] == "EngineGone" and words in reply.content["evalue"] and "%load" in reply.content["evalue"]
    errors = text(c.outputs(running), "stderr")
    assert "last lines" in errors and "listens" in errors
    assert "42" in ok(c, "answer")  # what the notebook holds is still there
    assert "%profile" in ok(c, "%history")
    assert "ready" in ok(c, "%load")  # the same model again, without its name
    assert engine_pid(c) != pid
    ok(c, "%generate -n 2 hello")


def test_engine_idle_stop_restart_and_log(resident, place):
    c = resident().client()
    ok(c, LOAD)
    assert "30 min" in ok(c, "%engine idle 30m")
    assert "never" in ok(c, "%engine idle never")
    evalue, _ = refused(c, "%engine idle soon")
    assert "soon" in evalue
    assert "listens in" in ok(c, "%engine log")
    pid = engine_pid(c)
    assert "tiny-tied" in ok(c, "%engine restart --load")
    assert engine_pid(c) != pid
    ok(c, "%generate -n 2 hello")
    assert "stopped" in ok(c, "%engine stop")
    assert not os.path.exists(f"{place}/engine.sock")
    evalue, _ = refused(c, "%generate -n 2 hello")
    assert "%load" in evalue


def test_a_background_job_frees_the_cell_and_is_shown_in_full(resident):
    c = resident().client()
    ok(c, LOAD)
    want = text(c.run("%generate -n 120 --ignore-eos hello")[1])
    begun = time.monotonic()
    said = ok(c, "%generate -n 120 --ignore-eos --background hello")
    assert time.monotonic() - begun < LIMIT / 6
    number = said.split()[1]
    reply, outputs = c.run(f"%attach {number}")
    assert reply.content["status"] == "ok" and text(outputs) == want
    assert f"job {number} was done" in shown(outputs)
    assert "done" in ok(c, "%jobs")
    ok(c, "%bg !sleep 30")
    number = str(int(number) + 1)
    assert f"job {number}" in ok(c, f"%jobs stop {number}")
    assert "interrupted" in shown(c.run(f"%attach {number}")[1])
    for _ in range(7):
        ok(c, "%bg !sleep 30")
    evalue, _ = refused(c, "%bg !sleep 30")
    assert "7 jobs" in evalue


def test_another_page_attaches_while_the_cell_streams(resident):
    kernel = resident()
    first = kernel.client()
    running = first.execute("!for i in $(seq 1 30); do echo line $i; sleep 0.1; done")
    first.until(lambda m: m.type == "stream" and m.parent_id == running)
    time.sleep(0.7)
    second = kernel.client()  # a page that was loaded anew
    assert second.get("iopub").state == "busy"
    msg_id = second.execute("%attach")
    second.until(lambda m: m.type == "stream" and m.parent_id == msg_id)
    assert first.quiet("shell", 0.1)  # the cell itself goes on
    outputs = second.outputs(msg_id)
    assert first.reply(running).content["status"] == "ok"
    assert second.reply(msg_id).content["status"] == "ok"
    assert "line 30" in text(outputs)


def test_leaving_an_attached_job_does_not_end_it(resident):
    kernel = resident()
    c = kernel.client()
    ok(c, "%bg !sleep 3; echo at last")
    msg_id = c.execute("%attach")
    c.started(msg_id)
    time.sleep(0.3)
    c.ask("interrupt_request", channel="control")
    assert "goes on" in c.reply(msg_id).content["evalue"]
    assert "at last" in text(c.run("%attach")[1])


def test_what_a_killed_kernel_had_shown_is_on_the_disk(resident):
    first = resident()
    c = first.client()
    running = c.execute("!echo before the end; sleep 0.7; echo so far; sleep 30")
    c.until(lambda m: m.type == "stream" and "so far" in m.content["text"] and m.parent_id == running)
    first.process.kill()
    os.killpg(first.process.pid, signal.SIGKILL)
    c = resident().client()
    said = shown(c.run("%attach")[1])
    assert "before the end" in said and "so far" in said and "ended with its kernel" in said
    assert "lost" in ok(c, "%jobs --all")


def rows(kernel):
    with sqlite3.connect(f"file:{kernel.directory}/jaeda/results.sqlite?mode=ro", uri=True) as db:
        db.row_factory = sqlite3.Row
        assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
        return [dict(r) for r in db.execute("select * from run order by number")]


def test_every_result_is_recorded_as_it_was_shown(resident):
    kernel = resident("bench.ipynb")
    c = kernel.client()
    ok(c, LOAD)
    _, outputs = c.run("%generate -n 7 --ignore-eos --temperature 0.7 --seed 11 hello there")
    numbers = next(m.content["metadata"]["jaeda"] for m in outputs if m.content.get("metadata", {}).get("jaeda"))
    ok(c, "%generate -n 3 --no-record secret prompt")
    ok(c, "%profile --runs 1 -p 16 -n 2")
    found = rows(kernel)
    assert [r["kind"] for r in found] == ["generate", "profile"]
    r = found[0]
    assert r["text"] == text(outputs) and r["new_tokens"] == 7 and abs(r["ttft_ms"] - numbers["ttft_ms"]) < 1e-6
    assert "hello there" in r["messages"] and r["dtype"] == "fp32" and "bench" in r["notebook"]
    options = json.loads(r["options"])
    assert options["seed"] == 11 and abs(options["temperature"] - 0.7) < 1e-6
    assert "secret prompt" not in pathlib.Path(kernel.directory, "jaeda", "results.sqlite").read_bytes().decode("latin1")
    assert oct(os.stat(f"{kernel.directory}/jaeda/results.sqlite").st_mode & 0o777) == "0o600"
    said = ok(c, "%runs")
    assert "generate" in said and "results.sqlite" in said
    said = ok(c, f"%runs show {r['number']}")
    assert "hello there" in said and "--seed 11" in said
    ok(c, "%runs delete 1")
    assert [r["kind"] for r in rows(kernel)] == ["profile"]


def test_a_secret_in_a_prompt_is_not_kept(resident):
    kernel = resident()
    c = kernel.client()
    ok(c, LOAD)
    token = "hf_" + "Q" * 34
    ok(c, f"%generate -n 2 my token is {token} and so on")
    assert len(rows(kernel)) == 1
    for file in pathlib.Path(kernel.directory, "jaeda").rglob("*.sqlite"):
        if file.name.startswith("results"):
            assert token not in file.read_bytes().decode("latin1")
