"""execute_request: order, counters, flags, aborts, outputs."""

import re
import time

import pytest
from kernel import text, types

ERROR = "%no_such_magic_at_all"
LATE_ERROR = "%%bash\nsleep 1\nfalse"


def test_order_busy_input_outputs_reply_idle(client):
    code = "%%bash\necho out; echo err >&2; echo again"
    msg_id = client.execute(code)
    reply = client.reply(msg_id)
    out = client.outputs(msg_id)
    kinds = types(out)
    assert kinds[:2] == ["busy", "execute_input"] and kinds[-1] == "idle"
    assert set(kinds[2:-1]) == {"stream"}
    assert text(out) == "out\nagain\n" and text(out, "stderr") == "err\n"
    assert reply.content["status"] == "ok" and reply.parent == out[0].parent
    assert out[1].content == {"code": code, "execution_count": 1}


def test_reply_comes_after_its_outputs_and_before_idle(client):
    """Whatever the sockets' timing: the dates are set in the order of sending."""
    for i in range(20):
        reply, out = client.run(f"!echo {i}")
        dates = [m.header["date"] for m in out]
        assert dates == sorted(dates)
        assert dates[-2] <= reply.header["date"] <= dates[-1], types(out)


def test_dates_and_started(client):
    reply, _ = client.run("!true")
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert re.fullmatch(form, reply.header["date"]) and re.fullmatch(form, reply.metadata["started"])


def test_counts(client):
    counts = [client.run("!true")[0].content["execution_count"] for _ in range(2)]
    reply, out = client.run("!true", store_history=False)
    assert counts == [1, 2] and reply.content["execution_count"] == 2 and out[1].content["execution_count"] == 2
    reply, out = client.run(ERROR)
    assert reply.content["execution_count"] == 3 and out[1].content["execution_count"] == 3
    assert client.run("", silent=True)[0].content["execution_count"] == 3


def test_silent(client):
    reply, out = client.run("!echo loud; echo err >&2", silent=True, store_history=True)
    assert types(out) == ["busy", "idle"]
    assert reply.content["status"] == "ok" and reply.content["execution_count"] == 0
    reply, out = client.run(ERROR, silent=True)
    assert types(out) == ["busy", "idle"] and reply.content["status"] == "error"


def test_error_is_one_message_and_a_reply(client):
    reply, out = client.run(ERROR)
    assert types(out) == ["busy", "execute_input", "error", "idle"]
    for c in (reply.content, out[2].content):
        assert c["ename"] and c["evalue"] and all(isinstance(t, str) for t in c["traceback"])
    assert reply.content["status"] == "error" and "status" not in out[2].content
    assert out[2].content["evalue"] == reply.content["evalue"]


def test_error_text_with_any_bytes(client):
    reply, out = client.run("%no_such_\u0000\u200b한글_" + "가" * 500)
    assert reply.content["status"] == "error" and types(out)[-2:] == ["error", "idle"]


def test_stop_on_error_aborts_what_is_queued(client):
    first = client.execute(LATE_ERROR)
    queued = [client.execute(f"!echo {i}") for i in range(5)]
    info = client.send("kernel_info_request")
    completion = client.send("complete_request", {"code": "%gen", "cursor_pos": 4})
    assert client.reply(info).content["status"] == "ok"  # long before the cell ends
    assert client.reply(completion).content["status"] == "ok"
    assert client.reply(first).content["status"] == "error"
    for msg_id in queued:
        reply = client.reply(msg_id)
        assert reply.content["status"] == "aborted" and reply.content["execution_count"] == 1
    after = client.execute("!echo after")
    assert client.reply(after).content == {"status": "ok", "execution_count": 2, "payload": [], "user_expressions": {}}
    seen = {}
    client.until(lambda m: seen.setdefault(m.parent_id, []).append(m) or (m.parent_id == after and m.state == "idle"))
    for msg_id in queued:
        assert types(seen[msg_id]) == ["busy", "idle"]


@pytest.mark.parametrize("n", [3, 900])
def test_cells_sent_in_one_go_are_aborted(client, n):
    """A cell that fails at once: those sent with it must not run, however many they are."""
    good = 0
    for _ in range(5):
        ids = [client.execute(c, store_history=False) for c in [ERROR] + ["answer = 1"] * n]
        good += [client.reply(i).content["status"] for i in ids] == ["error"] + ["aborted"] * n
        assert client.run("!echo fresh")[0].content["status"] == "ok"
    assert good >= 4  # once, this process may have been kept from sending


def test_without_stop_on_error_the_queue_runs(client):
    first = client.execute(LATE_ERROR, stop_on_error=False)
    second = client.execute("!echo ran")
    assert client.reply(first).content["status"] == "error"
    assert client.reply(second).content["status"] == "ok"
    assert text(client.outputs(second)) == "ran\n"


def test_queue_keeps_its_order(client):
    ids = [client.execute(f"!echo {i}") for i in range(30)]
    replies = [client.get("shell") for _ in ids]
    assert [r.parent_id for r in replies] == ids
    assert [r.content["execution_count"] for r in replies] == list(range(1, 31))


def test_user_expressions(client):
    client.run("answer = 42")
    reply, _ = client.run("!true", user_expressions={"a": "answer", "b": "no_such_name", "c": 7})
    got = reply.content["user_expressions"]
    assert got["a"]["status"] == "ok" and got["a"]["data"]["text/plain"] == "42" and got["a"]["metadata"] == {}
    for bad in (got["b"], got["c"]):
        assert bad["status"] == "error" and bad["ename"] and bad["evalue"] and isinstance(bad["traceback"], list)
    reply, _ = client.run("", silent=True, user_expressions={"a": "answer"})
    assert reply.content["user_expressions"]["a"]["status"] == "ok"


def test_variables_are_set_from_python_literals(client):
    """What papermill injects."""
    reply, out = client.run("# Parameters\nanswer = 42\n")
    assert reply.content["status"] == "ok" and "error" not in types(out)


def test_page_payload(client):
    payload = client.run("%generate?")[0].content["payload"]
    assert [p["source"] for p in payload] == ["page"]
    assert payload[0]["data"]["text/plain"] and payload[0]["start"] == 0


def test_display_data(client):
    _, out = client.run("%lsmagic")
    shown = [m for m in out if m.type == "display_data"]
    assert shown and "text/plain" in shown[0].content["data"]
    assert isinstance(shown[0].content["metadata"], dict) and isinstance(shown[0].content["transient"], dict)


def test_clear_output(client):
    _, out = client.run("%clear")
    assert [m.content for m in out if m.type == "clear_output"] in ([{"wait": False}], [{"wait": True}])


def test_text_of_any_bytes_arrives_as_whole_characters(client):
    # 한 in two writes, an invalid byte, a NUL, an emoji byte by byte, and a tail that never ends
    code = (r"!printf '\355\225'; sleep 0.3; printf '\234\377\000'; for b in 360 237 230 200; do printf \\$b; sleep 0.1; done;"
            r" printf 'end\352\260'")
    _, out = client.run(code)
    assert text(out) == "한\ufffd\0😀end\ufffd"


def test_streams_are_coalesced(client):
    _, out = client.run("!for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; done; sleep 0.3; echo later")
    streams = [m for m in out if m.type == "stream"]
    assert text(out) == "".join(f"{i}\n" for i in range(1, 11)) + "later\n"
    assert 2 <= len(streams) <= 9


def test_streamed_text_is_seen_before_the_cell_ends(client):
    msg_id = client.execute("!echo early; sleep 2; echo late")
    client.until(lambda m: m.type == "stream" and m.content["text"].startswith("early"))
    assert client.quiet("shell", 0.2)
    assert client.reply(msg_id).content["status"] == "ok"


def test_large_output_in_one_line(client):
    _, out = client.run("!head -c 3000000 /dev/zero | tr '\\0' x")
    assert text(out) == "x" * 3000000


def test_deep_nesting_in_expressions_is_no_crash(client):
    assert client.run("!true", user_expressions={"a": "(" * 100000})[0].content["status"] == "ok"


def test_many_waiting_cells_are_bounded(client):
    first = client.execute("!sleep 4", stop_on_error=False)
    ids = [client.execute("", silent=True) for _ in range(1100)]
    states = {}
    for _ in range(len(ids) + 1):
        m = client.get("shell")
        states.setdefault(m.content["status"], []).append(m)
    assert len(states["ok"]) == 1001 and len(states["error"]) == 100
    assert all("wait" in m.content["evalue"] for m in states["error"])
    assert first in [m.parent_id for m in states["ok"]]


@pytest.mark.parametrize("code", ["", " \n", "# only a comment"])
def test_nothing_to_do(client, code):
    reply, out = client.run(code)
    assert reply.content["status"] == "ok" and types(out)[-1] == "idle"


def test_a_cell_that_takes_no_time_costs_little(client):
    """No fixed delay in the path of a cell (a gate against sleeps, far above any machine's noise)."""
    begin = time.monotonic()
    for _ in range(20):
        client.run("answer = 1")
    assert time.monotonic() - begin < 20
