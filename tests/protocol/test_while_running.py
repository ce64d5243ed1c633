"""What is answered while a cell runs, how cells are interrupted, and questions to the user."""

import os
import signal
import time

import pytest
from kernel import Client, text, types, wait_until

LONG = "!sleep 120"


@pytest.fixture
def running(client):
    msg_id = client.execute(LONG)
    client.started(msg_id)
    yield msg_id
    client.send("interrupt_request", channel="control")


REQUESTS = [
    ("shell", "kernel_info_request", {}),
    ("control", "kernel_info_request", {}),
    ("shell", "complete_request", {"code": "%gen", "cursor_pos": 4}),
    ("shell", "inspect_request", {"code": "%generate", "cursor_pos": 3, "detail_level": 0}),
    ("shell", "is_complete_request", {"code": "%lsmagic"}),
    ("shell", "history_request", {"hist_access_type": "tail", "n": 3, "output": False, "raw": True}),
    ("shell", "comm_info_request", {}),
    ("control", "usage_request", {}),
]


@pytest.mark.parametrize("channel, kind, content", REQUESTS)
def test_answered_while_a_cell_runs_and_the_kernel_stays_busy(client, running, channel, kind, content):
    msg_id = client.send(kind, content, channel)
    assert client.reply(msg_id, channel).type == kind.replace("request", "reply")
    assert types(client.outputs(msg_id)) == ["busy", "idle"]
    after = client.get("iopub")  # a bare idle would make a server believe that the kernel rests
    assert after.state == "busy" and after.parent_id == running


def test_no_second_busy_when_nothing_was_asked(client):
    reply, out = client.run("!sleep 0.5")
    assert types(out) == ["busy", "execute_input", "idle"]
    client.ask("kernel_info_request")
    assert client.quiet("iopub", 0.3) or True
    states = []
    while not client.quiet("iopub", 0.3):
        states.append(client.get("iopub").state)
    assert states == ["busy", "idle"]


def test_a_subscriber_that_comes_while_a_cell_runs_learns_it(kernel, client, running):
    m = kernel.client().get("iopub")
    assert m.state == "busy" and m.parent_id == running


@pytest.mark.parametrize("way", ["control", "shell", "signal"])
def test_interrupt(kernel, client, running, way):
    if way == "signal":
        kernel.process.send_signal(signal.SIGINT)
    else:
        reply = client.ask("interrupt_request", channel=way)
        assert reply.type == "interrupt_reply" and reply.content == {"status": "ok"}
    reply = client.reply(running)
    assert reply.content["status"] == "error" and reply.content["ename"] == "KeyboardInterrupt"
    assert text(client.run("!echo on")[1]) == "on\n"


def test_signal_to_the_whole_group_does_not_end_the_kernel(kernel, client, running):
    os.killpg(kernel.process.pid, signal.SIGINT)
    assert client.reply(running).content["status"] == "error"
    assert text(client.run("!echo on")[1]) == "on\n"


def test_interrupt_while_idle_does_not_hit_the_next_cell(kernel, client):
    assert client.ask("interrupt_request", channel="control").content["status"] == "ok"
    kernel.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert text(client.run("!sleep 0.3; echo on")[1]) == "on\n"


def test_an_interrupt_aborts_the_cells_behind(client, running):
    queued = [client.execute("!echo ran") for _ in range(3)]
    client.ask("is_complete_request", {"code": "x"})  # they are queued now
    client.send("interrupt_request", channel="control")
    assert client.reply(running).content["status"] == "error"
    assert [client.reply(i).content["status"] for i in queued] == ["aborted"] * 3


def test_many_interrupts(client):
    for _ in range(10):
        msg_id = client.execute(LONG)
        client.started(msg_id)
        for _ in range(3):
            client.send("interrupt_request", channel="control")
        assert client.reply(msg_id).content["status"] == "error"


def test_a_command_and_its_children_die_with_the_interrupt(client, tmp_path):
    mark = f"31337.{os.getpid()}"
    msg_id = client.execute(f"!sh -c 'sleep {mark}' & sleep {mark}")
    client.started(msg_id)
    seen = lambda: any(mark in line for line in commands())  # noqa: E731
    assert wait_until(seen)
    client.send("interrupt_request", channel="control")
    assert client.reply(msg_id).content["status"] == "error"
    assert wait_until(lambda: not seen())


def commands():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                found.append(f.read().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            pass
    return [c for c in found if c.startswith("sleep ") or c.startswith("sh ")]


# ---- questions ----

ASK = "%env --ask JAEDA_TEST_SECRET"


def answer(client, value, **header):
    question = client.get("stdin")
    assert question.type == "input_request" and question.content["prompt"] and question.content["password"] is True
    client.send("input_reply", {"value": value}, "stdin", **header)
    return question


def test_a_password_is_asked_and_used(client):
    msg_id = client.execute(ASK, allow_stdin=True)
    question = answer(client, "비밀 sesame")
    assert question.parent_id == msg_id
    reply, out = client.reply(msg_id), client.outputs(msg_id)
    assert reply.content["status"] == "ok"
    assert not any("sesame" in str(m.content) for m in out)
    assert text(client.run("!printf %s \"$JAEDA_TEST_SECRET\"")[1]) == "비밀 sesame"


def test_no_question_when_stdin_is_not_allowed(client):
    reply, _ = client.run(ASK, allow_stdin=False)
    assert reply.content["status"] == "error" and client.quiet("stdin", 0.2)


def test_end_of_file_is_an_error(client):
    msg_id = client.execute(ASK, allow_stdin=True)
    answer(client, "\x04")
    assert client.reply(msg_id).content["status"] == "error"


def test_a_question_can_be_interrupted(client):
    msg_id = client.execute(ASK, allow_stdin=True)
    assert client.get("stdin").type == "input_request"
    client.send("interrupt_request", channel="control")
    assert client.reply(msg_id).content["ename"] == "KeyboardInterrupt"


def test_kernel_answers_while_it_asks(client):
    msg_id = client.execute(ASK, allow_stdin=True)
    question = client.get("stdin")
    assert client.ask("complete_request", {"code": "%gen", "cursor_pos": 4}).content["status"] == "ok"
    client.send("input_reply", {"value": "x"}, "stdin", parent=question.header)
    assert client.reply(msg_id).content["status"] == "ok"


def test_stale_answers_are_dropped(client):
    client.send("input_reply", {"value": "too early"}, "stdin")
    client.ask("kernel_info_request")  # by now it has come: the channels have no order among each other
    first = client.execute(ASK, allow_stdin=True)
    old = client.get("stdin")
    client.send("interrupt_request", channel="control")
    assert client.reply(first).content["status"] == "error"
    second = client.execute(ASK, allow_stdin=True)
    question = client.get("stdin")
    client.send("input_reply", {"value": "stale"}, "stdin", parent=old.header)
    client.send("input_reply", {"value": "fresh"}, "stdin", parent=question.header)
    assert client.reply(second).content["status"] == "ok"
    assert text(client.run("!printf %s \"$JAEDA_TEST_SECRET\"")[1]) == "fresh"


def test_only_the_client_that_was_asked_may_answer(kernel, client):
    other = kernel.client()
    msg_id = client.execute(ASK, allow_stdin=True)
    client.get("stdin")
    other.send("input_reply", {"value": "stolen"}, "stdin")
    assert other.ask("kernel_info_request").content["status"] == "ok"
    client.send("input_reply", {"value": "mine"}, "stdin")
    assert client.reply(msg_id).content["status"] == "ok"
    assert text(client.run("!printf %s \"$JAEDA_TEST_SECRET\"")[1]) == "mine"
    assert other.quiet("stdin", 0.2)


def test_a_malformed_answer_is_an_error(client):
    msg_id = client.execute(ASK, allow_stdin=True)
    client.get("stdin")
    client.send("input_reply", {"value": None}, "stdin")
    assert client.reply(msg_id).content["status"] == "error"


def test_a_client_that_leaves_while_it_is_asked(kernel, client):
    gone = kernel.client()
    msg_id = gone.execute(ASK, allow_stdin=True)
    gone.get("stdin")
    gone.close()
    kernel.clients.remove(gone)
    assert types(client.outputs(msg_id))[-2:] == ["error", "idle"]
    assert text(client.run("!echo on")[1]) == "on\n"


def test_a_client_without_a_stdin_channel(kernel, client):
    plain = Client(kernel, channels=("shell", "iopub"))
    try:
        msg_id = plain.execute(ASK, allow_stdin=True)
        assert plain.reply(msg_id).content["status"] == "error"
    finally:
        plain.close()


# ---- completion, inspection, history, comms, usage ----


def test_completion_counts_code_points(client):
    code = "# 한글 😀\n%gene"
    reply = client.ask("complete_request", {"code": code, "cursor_pos": len(code)})
    c = reply.content
    assert c["status"] == "ok" and "%generate" in c["matches"]
    assert code[c["cursor_start"] : c["cursor_end"]] == "%gene"
    kinds = c["metadata"]["_jupyter_types_experimental"]
    assert len(kinds) == len(c["matches"])
    for k, match in zip(kinds, c["matches"]):
        assert k["text"] == match and (k["start"], k["end"]) == (c["cursor_start"], c["cursor_end"]) and k["type"]


@pytest.mark.parametrize("pos", [-5, 0, 10**6, 2**62, None, 3.5])
def test_a_cursor_anywhere_is_clamped(client, pos):
    c = client.ask("complete_request", {"code": "%gene", "cursor_pos": pos}).content
    assert c["status"] == "ok" and 0 <= c["cursor_start"] <= c["cursor_end"] <= 5
    assert client.ask("inspect_request", {"code": "%gene", "cursor_pos": pos}).content["status"] == "ok"


def test_inspect(client):
    known = [client.ask("inspect_request", {"code": "%generate", "cursor_pos": 5, "detail_level": d}).content for d in (0, 1)]
    for c in known:
        assert c["found"] is True and c["data"]["text/plain"] and isinstance(c["metadata"], dict)
    c = client.ask("inspect_request", {"code": "zzz", "cursor_pos": 1}).content
    assert c["status"] == "ok" and c["found"] is False and c["data"] == {}


def test_is_complete(client):
    assert client.ask("is_complete_request", {"code": "%lsmagic"}).content == {"status": "complete"}
    c = client.ask("is_complete_request", {"code": "!echo a \\"}).content
    assert c["status"] in ("incomplete", "complete") and ("indent" in c) == (c["status"] == "incomplete")


def test_unknown_comm_is_closed_on_iopub(client):
    msg_id = client.send("comm_open", {"comm_id": "c1", "target_name": "jupyter.widget", "data": {}})
    out = client.outputs(msg_id)
    assert types(out) == ["busy", "comm_close", "idle"]
    assert out[1].content == {"comm_id": "c1", "data": {}}
    for kind in ("comm_msg", "comm_close"):
        assert types(client.outputs(client.send(kind, {"comm_id": "c1", "data": {}}))) == ["busy", "idle"]
    assert client.quiet("shell", 0.2)
    assert client.ask("comm_info_request", {"target_name": "x"}).content == {"status": "ok", "comms": {}}


def test_usage(kernel, client):
    client.ask("usage_request", channel="control")
    client.run("!true")
    time.sleep(0.3)
    c = client.ask("usage_request", channel="control").content
    assert c["pid"] == kernel.process.pid and c["hostname"] and c["cpu_count"] == os.cpu_count()
    assert 0 <= c["kernel_cpu"] <= 100 * c["cpu_count"] + 1 and 0 <= c["host_cpu_percent"] <= 100
    memory = c["host_virtual_memory"]
    assert 1 << 20 < c["kernel_memory"] < memory["total"] and 0 < memory["percent"] < 100
    assert memory["used"] == memory["total"] - memory["available"]
