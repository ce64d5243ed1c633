"""What comes over the wire: signatures, identities, malformed and oversized messages."""

import json
import uuid

import pytest
import zmq
from kernel import DELIMITER, LIMIT, types, wait_until


def still_answers(client):
    """The kernel lives on, and what was refused has had no answer."""
    reply = client.ask("kernel_info_request")
    assert reply.content["status"] == "ok"
    return reply


def refused(kernel, client, frames, log):
    client.send_raw(frames)
    msg_id = client.send("kernel_info_request")
    assert client.get("shell").parent_id == msg_id  # the first reply is not one to the refused message
    assert wait_until(lambda: log in kernel.log_text()), kernel.log_text()


def test_kernel_info(client):
    reply = still_answers(client)
    c = reply.content
    assert c["protocol_version"] == "5.6" and reply.header["version"] == "5.6"
    assert c["implementation"] == "jaeda" and c["banner"]
    info = c["language_info"]
    assert info["name"] and info["mimetype"] and info["file_extension"].startswith(".") and info["version"]


def test_kernel_info_on_control(client):
    assert client.ask("kernel_info_request", channel="control").content["status"] == "ok"


def test_welcome_is_first_for_every_subscriber(kernel):
    for _ in range(3):
        c = kernel.client()
        w = c.welcome
        assert not c.early
        assert w.content == {"subscription": ""} and w.parent == {} and w.ids == [b""]


def test_welcome_names_the_subscription(kernel):
    c = kernel.client(channels=("shell",))
    s = c.context.socket(zmq.SUB)
    s.linger = 0
    s.subscribe("stream.stdout")
    s.connect(kernel.endpoint("iopub"))
    c.sockets["iopub"] = s
    w = c.get("iopub")
    assert w.type == "iopub_welcome" and w.content == {"subscription": "stream.stdout"} and w.ids == [b"stream.stdout"]
    c.execute("!echo topical")
    assert c.get("iopub").content == {"name": "stdout", "text": "topical\n"}


def test_one_session_on_all_channels(client):
    reply, out = client.run("!echo x")
    control = client.ask("kernel_info_request", channel="control")
    sessions = {m.header["session"] for m in [reply, control, client.welcome] + out}
    assert len(sessions) == 1 and sessions != {client.session}
    ids = [m.header["msg_id"] for m in [reply, control, client.welcome] + out]
    assert len(set(ids)) == len(ids)


def test_parent_header_is_a_verbatim_copy(client):
    msg_id, parts = client.parts("kernel_info_request", {}, extra={"big": 2**70, "한": "글"})
    client.send_raw([DELIMITER, client.sign(parts)] + parts)
    reply = client.reply(msg_id)
    assert reply.raw[1] == parts[0]


def test_unsigned_is_refused(kernel, client):
    _, parts = client.parts("kernel_info_request", {})
    refused(kernel, client, [DELIMITER, b""] + parts, "not signed")


@pytest.mark.parametrize("length", [1, 32, 63, 65, 128])
def test_signature_of_another_length_is_refused(kernel, client, length):
    _, parts = client.parts("kernel_info_request", {})
    signature = (client.sign(parts) * 2)[:length]
    refused(kernel, client, [DELIMITER, signature] + parts, "signature has")


def test_wrong_signature_is_refused(kernel, client):
    _, parts = client.parts("kernel_info_request", {})
    refused(kernel, client, [DELIMITER, client.sign(parts, b"another key")] + parts, "signature is wrong")
    good = bytearray(client.sign(parts))
    good[-1] = ord("0") if good[-1] != ord("0") else ord("1")
    refused(kernel, client, [DELIMITER, bytes(good)] + parts, "signature is wrong")


def test_replay_is_refused_on_every_channel(kernel, client):
    msg_id, parts = client.parts("kernel_info_request", {})
    frames = [DELIMITER, client.sign(parts)] + parts
    client.send_raw(frames)
    assert client.reply(msg_id)
    refused(kernel, client, frames, "replay")
    client.send_raw(frames, "control")
    other = client.send("kernel_info_request", channel="control")
    assert client.get("control").parent_id == other


def test_changed_content_is_refused(kernel, client):
    _, parts = client.parts("execute_request", {"code": "!true"})
    signature = client.sign(parts)
    parts[3] = parts[3].replace(b"!true", b"!evil")
    refused(kernel, client, [DELIMITER, signature] + parts, "signature is wrong")


def test_empty_key_means_unsigned(start):
    c = start(key=b"").client()
    assert still_answers(c).signature == b""
    _, out = c.run("!echo x")
    assert types(out) == ["busy", "execute_input", "stream", "idle"]


@pytest.mark.parametrize("scheme", ["hmac-md5", "hmac-sha512"])
def test_other_schemes(start, scheme):
    still_answers(start(scheme=scheme).client())


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_too_few_frames(kernel, client, n):
    _, parts = client.parts("kernel_info_request", {})
    frames = [DELIMITER, client.sign(parts)] + parts
    refused(kernel, client, frames[: n + 1], "frames behind")


def test_no_delimiter(kernel, client):
    refused(kernel, client, [b"", b"\0\0", b"<IDS|MSH>", b"x" * 100], "no <IDS|MSG>")


def test_identities_with_nuls_and_any_number_of_frames(kernel):
    c = kernel.client(identity=b"\x01\0a\0b\0\xff")
    s = c.sockets["shell"]
    msg_id, parts = c.parts("kernel_info_request", {})
    more = [b"", b"\0\0\0", b"route", b"\xff\xfe"]
    s.send_multipart(more + [DELIMITER, c.sign(parts)] + parts)
    assert s.poll(LIMIT * 1000)
    frames = s.recv_multipart()
    assert frames[: len(more)] == more and frames[len(more)] == DELIMITER
    assert json.loads(frames[len(more) + 3])["msg_id"] == msg_id


def test_buffers_are_ignored_and_not_signed(client):
    msg_id, parts = client.parts("kernel_info_request", {})
    client.send_raw([DELIMITER, client.sign(parts)] + parts + [b"buffer \0 one", b"two"])
    assert client.reply(msg_id).content["status"] == "ok"


@pytest.mark.parametrize("bad", [b"", b"{", b"null", b"[]", b"7", b"{\"code\": \"\xff\"}", b"{\"a\": 1e999}", b"{} {}",
                                 b'{"code": "\\ud800"}', b"[" * 100000])
def test_malformed_content_gets_an_error_with_busy_and_idle(client, bad):
    for kind, answer in (("complete_request", "complete_reply"), ("execute_request", "execute_reply")):
        msg_id, parts = client.parts(kind, {})
        parts[3] = bad
        client.send_raw([DELIMITER, client.sign(parts)] + parts)
        reply = client.reply(msg_id)
        assert reply.type == answer and reply.content["status"] == "error"
        assert reply.content["ename"] and reply.content["evalue"] and reply.content["traceback"]
        out = types(client.outputs(msg_id))
        assert out == (["busy", "error", "idle"] if kind == "execute_request" else ["busy", "idle"])
    still_answers(client)


@pytest.mark.parametrize("bad", [b"", b"{", b"[]", b"{}", b'{"msg_type": 7}'])
def test_malformed_header_is_refused(kernel, client, bad):
    _, parts = client.parts("kernel_info_request", {})
    parts[0] = bad
    refused(kernel, client, [DELIMITER, client.sign(parts)] + parts, "shell: refused a message")


@pytest.mark.parametrize("content", [{}, {"code": None}, {"code": 7}, {"code": ["!true"]}])
@pytest.mark.parametrize("kind", ["execute", "complete", "inspect", "is_complete"])
def test_missing_code_is_an_error(client, kind, content):
    assert client.ask(kind + "_request", content).content["status"] == "error"


def test_unknown_type_has_busy_and_idle_and_no_reply(client):
    msg_id = client.send("no_such_request", {"x": 1})
    assert types(client.outputs(msg_id)) == ["busy", "idle"]
    assert client.quiet("shell")


def test_nul_and_huge_numbers_and_unknown_fields(client):
    msg_id, parts = client.parts("complete_request", {})
    parts[3] = b'{"code": "%gen\\u0000", "cursor_pos": 123456789012345678901234567890, "later": [1, {"x": null}]}'
    client.send_raw([DELIMITER, client.sign(parts)] + parts)
    assert client.reply(msg_id).content["status"] == "ok"


def test_oversized_content_is_refused_with_an_error(kernel, client):
    msg_id = client.send("complete_request", {"code": "x" * (17 << 20), "cursor_pos": 1})
    reply = client.reply(msg_id)
    assert reply.content["status"] == "error" and "bytes" in reply.content["evalue"]
    still_answers(client)


def test_enormous_message_costs_no_memory(kernel, client):
    def peak():
        with open(f"/proc/{kernel.process.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))

    still_answers(client)
    before = peak()
    left = client.sockets["shell"].get_monitor_socket(zmq.EVENT_DISCONNECTED)
    client.send_raw([DELIMITER, b"", b"x" * (80 << 20)])
    cut_off = left.poll(LIMIT * 1000)  # it is not even read to its end
    client.sockets["shell"].disable_monitor()
    left.close()
    assert cut_off
    other = kernel.client()
    still_answers(other)
    assert peak() < before + (40 << 20)
    other.send_raw([DELIMITER] + [b"y"] * 5000)
    assert wait_until(lambda: "frames" in kernel.log_text())
    still_answers(other)


def test_two_clients(kernel):
    a, b = kernel.client(), kernel.client()
    first, second = a.execute("!echo a"), b.execute("!echo b")
    assert {a.reply(first).content["execution_count"], b.reply(second).content["execution_count"]} == {1, 2}
    both = sorted([first, second])
    for c in (a, b):  # both see everything
        seen = [c.until(lambda m: m.state == "idle").parent_id for _ in both]
        assert sorted(seen) == both
    assert a.quiet("shell", 0.2) and b.quiet("shell", 0.2)


def test_client_that_reconnects_with_its_identity_is_heard(kernel):
    a = kernel.client(identity=b"same")
    still_answers(a)
    b = kernel.client(identity=b"same")  # a has not left
    for _ in range(3):
        still_answers(b)
    a.close()
    kernel.clients.remove(a)
    still_answers(b)


def test_client_that_vanishes_while_its_cell_runs(kernel):
    gone = kernel.client()
    msg_id = gone.execute("!sleep 1; echo done")
    watcher = kernel.client()
    gone.close()
    kernel.clients.remove(gone)
    reply, out = watcher.run("!echo next")
    assert reply.content["status"] == "ok" and "next\n" in [m.content.get("text") for m in out]
    assert msg_id


def test_heartbeat_echoes_bytes(client):
    hb = client.sockets["hb"]
    for payload in ([b"ping"], [b""], [b"\0\xff" * 1000], [uuid.uuid4().bytes, b"", b"more frames"]):
        hb.send_multipart(payload)
        assert hb.poll(LIMIT * 1000)
        assert hb.recv_multipart() == payload
