"""More output than anybody can read: nothing is lost, the server's budget is kept, everything stays interruptible."""

import os
import random
import signal
import socket
import time
from collections import deque

import pytest
import zmq
from kernel import CHANNELS, DELIMITER, LIMIT, Client, text, types, wait_until

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

def peak(kernel):
    """VmHWM of the process, in bytes."""
    with open(f"/proc/{kernel.process.pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


class Narrow:
    """A subscriber that reads only when told to, and whose own process keeps next to nothing for it."""

    def __init__(self, kernel):
        self.client = Client(kernel, channels=("shell",))
        s = self.client.context.socket(zmq.SUB)
        s.linger, s.rcvhwm = 0, 1
        s.setsockopt(zmq.RCVBUF, 4096)
        s.subscribe(b"")
        s.connect(kernel.endpoint("iopub"))
        self.client.sockets["iopub"] = s
        assert self.client.get("iopub").type == "iopub_welcome"

    def read(self, msg_id, pause=lambda: None):
        out = []
        while not out or out[-1].state != "idle":
            m = self.client.get("iopub")
            pause()
            if m.parent_id == msg_id:
                out.append(m)
        return out


@pytest.fixture
def narrow():
    """narrow(kernel) -> Narrow; all are closed at the end."""
    made = []

    def make(kernel):
        made.append(Narrow(kernel))
        return made[-1]

    yield make
    for n in made:
        n.client.close()


def numbers(n):
    return "".join(f"{i}\n" for i in range(1, n + 1))


@pytest.mark.slow
def test_a_million_lines_for_a_slow_subscriber(start, narrow):
    """It reads at a third of the speed at which they come: it gets every line, and memory does not grow with them."""
    kernel = start(transport="ipc")  # its buffers are small
    client = kernel.client()
    client.run("!seq 100000")
    slow, before, begun = narrow(kernel), peak(kernel), time.monotonic()
    msg_id = client.execute("!seq 1000000")
    out = slow.read(msg_id, pause=lambda: time.sleep(0.15))
    assert text(out) == numbers(1000000)
    assert types(out)[0] == "busy" and types(out)[-1] == "idle"
    assert peak(kernel) - before < 64 << 20
    assert time.monotonic() - begun > 6_888_896 / 1_000_000  # the producer was throttled
    assert text(client.outputs(msg_id)) == numbers(1000000)


@pytest.mark.slow
def test_a_subscriber_that_stalls_gets_everything_and_holds_up_nobody(start, narrow):
    """For so long it reads nothing while a flood runs; the other one is served as if it were alone."""
    seconds = float(os.environ.get("JAEDA_TEST_STALL", "30"))
    kernel = start(transport="ipc")
    client = kernel.client()
    client.run("!seq 100000")
    stalled, before = narrow(kernel), peak(kernel)
    lines = int(80_000 * seconds)
    msg_id, begun = client.execute(f"!seq {lines}"), time.monotonic()
    out = metered(client, msg_id)
    took = time.monotonic() - begun
    assert text(out) == numbers(lines)
    assert took < LIMIT / 6 + len(numbers(lines)) / 325_000  # the budget is 650,000 bytes a second
    assert client.reply(msg_id).content["status"] == "ok"
    assert temporary_files(kernel)
    time.sleep(max(0, seconds - took))
    assert text(stalled.read(msg_id)) == numbers(lines)
    assert peak(kernel) - before < 64 << 20
    client.run("!true")
    assert temporary_files(kernel) == []


def temporary_files(kernel):
    """Of the process: mapped, without a name."""
    with open(f"/proc/{kernel.process.pid}/maps") as f:
        return [line for line in f if "(deleted)" in line and "/dev/" not in line]


@pytest.mark.slow
def test_with_no_room_on_disk_who_does_not_read_is_cut_off(start, narrow):
    """All wait for it a while, then it loses what was kept for it; it connects again by itself."""
    kernel = start(transport="ipc", prefix=["bash", "-c", 'ulimit -f 200; exec "$0" "$@"'])
    client = kernel.client()
    deaf = narrow(kernel)
    msg_id = client.execute("!seq 1500000")
    assert text(metered(client, msg_id)) == numbers(1500000)
    assert "cut off" in kernel.log_text()
    while deaf.client.get("iopub").type != "iopub_welcome":
        pass
    msg_id = client.execute("!echo heard again")
    assert text(deaf.read(msg_id)) == "heard again\n"


def test_malformed_messages_on_every_socket_during_a_flood(kernel, client):
    msg_id = client.execute("!seq 200000")
    client.started(msg_id)
    vandal = Client(kernel, channels=("shell", "control", "stdin", "hb"), identity=b"vandal")
    up = vandal.context.socket(zmq.XSUB)
    up.linger = 0
    up.connect(kernel.endpoint("iopub"))
    raw = [socket.create_connection(("127.0.0.1", kernel.connection[f"{c}_port"])) for c in CHANNELS]
    try:
        dice = random.Random(4)
        for _ in range(300):
            junk = [dice.randbytes(dice.choice([0, 1, 9, 64, 5000])) for _ in range(dice.randrange(1, 9))]
            for c in ("shell", "control", "stdin"):
                _, parts = vandal.parts("execute_request", {"code": "!echo never"})
                vandal.send_raw(dice.choice([junk, [DELIMITER] + junk, [DELIMITER, b"0" * 64] + parts, junk + parts]), c)
            up.send_multipart([bytes([dice.randrange(2)]) + junk[0]])
        for s in raw:
            s.sendall(dice.randbytes(3000))
        assert text(client.outputs(msg_id)) == numbers(200000)
        assert client.reply(msg_id).content["status"] == "ok"
        assert "never" not in text(client.run("!echo on")[1]) and kernel.alive()
    finally:
        for s in raw:
            s.close()
        up.close(0)
        vandal.close()


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
