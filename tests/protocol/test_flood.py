"""More output than anybody can read: nothing is lost, the server's budget is kept, everything stays interruptible."""

import signal
import time
from collections import deque

import pytest
import zmq
from kernel import Client, text, types, wait_until

WINDOW, MESSAGES, BYTES = 3.0, 3000, 3_000_000  # jupyter_server's limits, per window


class Meter:
    """The counting of jupyter_server's ZMQChannelsWebsocketConnection, on the dates that the kernel wrote."""

    def __init__(self):
        self.seen, self.messages, self.bytes = deque(), 0, 0

    def __call__(self, m):
        if m.state == "idle":
            self.__init__()
        if m.type in ("status", "comm_open", "execute_input"):
            return
        now = time.mktime(time.strptime(m.header["date"][:19], "%Y-%m-%dT%H:%M:%S")) + float(m.header["date"][19:-1])
        size = sum(len(x) for x in m.raw) + 64 if m.type == "stream" else 0
        self.seen.append((now, size))
        while self.seen[0][0] <= now - WINDOW:
            self.seen.popleft()
        assert len(self.seen) <= MESSAGES
        assert sum(s for _, s in self.seen) <= BYTES


def metered(client, msg_id):
    out, meter = [], Meter()
    while not out or out[-1].state != "idle":
        m = client.get("iopub")
        meter(m)
        if m.parent_id == msg_id:
            out.append(m)
    return out


@pytest.mark.slow
def test_a_million_lines(client):
    msg_id = client.execute("!seq 1000000")
    out = metered(client, msg_id)
    assert client.reply(msg_id).content["status"] == "ok"
    assert text(out) == "".join(f"{i}\n" for i in range(1, 1000001))


def test_two_streams_keep_their_order_under_flood(client):
    msg_id = client.execute("%%bash\nfor i in $(seq 2000); do echo $i; echo $i >&2; done")
    out = metered(client, msg_id)
    want = "".join(f"{i}\n" for i in range(1, 2001))
    assert text(out) == want and text(out, "stderr") == want


def test_flood_is_interrupted_and_the_error_is_not_lost(client):
    msg_id = client.execute("!yes")
    client.until(lambda m: m.type == "stream" and m.parent_id == msg_id)
    time.sleep(0.5)
    assert client.ask("interrupt_request", channel="control").content["status"] == "ok"
    out = metered(client, msg_id)
    last = [m for m in out if m.state != "busy"][-2:]  # busy comes again behind the interrupt's own idle
    assert types(last) == ["error", "idle"] and last[0].content["ename"] == "KeyboardInterrupt"
    assert client.reply(msg_id).content["status"] == "error"
    assert text(client.run("!echo alive")[1]) == "alive\n"


def test_kernel_answers_during_a_flood(client):
    msg_id = client.execute("!yes")
    client.until(lambda m: m.type == "stream" and m.parent_id == msg_id)
    for _ in range(5):
        assert client.ask("kernel_info_request").content["status"] == "ok"
        assert client.ask("complete_request", {"code": "%gen", "cursor_pos": 4}).content["status"] == "ok"
    client.ask("interrupt_request", channel="control")
    assert client.reply(msg_id).content["status"] == "error"


@pytest.mark.slow
def test_a_flood_costs_bounded_memory(kernel, client):
    def resident():
        with open(f"/proc/{kernel.process.pid}/statm") as f:
            return int(f.read().split()[1]) * 4096

    client.run("!echo warm")
    before = resident()
    msg_id = client.execute("!yes")
    client.until(lambda m: m.type == "stream" and m.parent_id == msg_id)
    time.sleep(3)
    grown = resident() - before
    client.ask("interrupt_request", channel="control")
    client.reply(msg_id)
    assert grown < 64 << 20


@pytest.mark.slow
def test_a_subscriber_that_does_not_read_hangs_nobody(start):
    """One subscriber reads nothing: the others get every byte, cells can be interrupted, the kernel goes on."""
    kernel = start(transport="ipc")  # its buffers are small
    client = kernel.client()
    deaf = Client(kernel, channels=("shell",))
    s = deaf.context.socket(zmq.SUB)
    s.linger, s.rcvhwm = 0, 1
    s.setsockopt(zmq.RCVBUF, 4096)
    s.subscribe("")
    s.connect(kernel.endpoint("iopub"))
    try:
        time.sleep(0.5)
        for _ in range(150):
            msg_id = client.execute("!head -c 10000 /dev/zero | tr '\\0' x")
            assert client.reply(msg_id).content["status"] == "ok"
            assert text(client.outputs(msg_id)) == "x" * 10000
        assert "a subscriber has read nothing" in kernel.log_text()  # it did get in the way
        msg_id = client.execute("!yes")
        client.started(msg_id)
        client.ask("interrupt_request", channel="control")
        assert client.reply(msg_id).content["status"] == "error"
    finally:
        s.close(0)
        deaf.close()


def test_a_subscriber_that_vanishes_in_a_flood(kernel, client):
    gone = kernel.client()
    msg_id = client.execute("!seq 200000")
    gone.started(msg_id)
    gone.close()
    kernel.clients.remove(gone)
    assert text(client.outputs(msg_id)) == "".join(f"{i}\n" for i in range(1, 200001))


@pytest.mark.parametrize("way", ["control", "shell", "signal"])
def test_interrupt_in_every_way(kernel, client, way):
    msg_id = client.execute("!yes")
    client.started(msg_id)
    if way == "signal":
        kernel.process.send_signal(signal.SIGINT)
    else:
        client.ask("interrupt_request", channel=way)
    reply = client.reply(msg_id)
    assert reply.content["status"] == "error" and reply.content["ename"] == "KeyboardInterrupt"
    assert types(client.outputs(msg_id))[-1] == "idle"
    assert kernel.alive() and wait_until(lambda: client.run("!echo on")[0].content["status"] == "ok")
