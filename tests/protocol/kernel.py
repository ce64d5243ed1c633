"""A kernel process and a client that sees every frame: what the conformance tests are written with.

The client signs with hmac from the standard library and builds its frames itself, so that a test can send what no
well-behaved client would. Time limits are generous: they bound a hang, they measure nothing."""

import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from datetime import datetime, timezone

import zmq

LIMIT = int(os.environ.get("JAEDA_TEST_LIMIT", "60"))  # seconds that anything may take on a slow machine
DELIMITER = b"<IDS|MSG>"
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


def executable():
    path = os.environ.get("JAEDA_KERNEL")
    if not path or not os.access(path, os.X_OK):
        raise RuntimeError("set JAEDA_KERNEL to the built jaeda-kernel")
    return os.path.abspath(path)


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_until(true, seconds=LIMIT):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Connection:
    """The kernel that a connection file names, whoever started it."""

    def __init__(self, file):
        with open(file) as f:
            self.connection = json.load(f)
        self.key, self.scheme = self.connection["key"].encode(), self.connection["signature_scheme"]

    def endpoint(self, channel):
        c = self.connection
        between = "-" if c["transport"] == "ipc" else ":"
        return f"{c['transport']}://{c['ip']}{between}{c[channel + '_port']}"

    def log_text(self):
        return ""


class Kernel(Connection):
    """One jaeda-kernel with its connection file, in a session of its own as Jupyter starts it."""

    def __init__(self, directory, key=None, transport="tcp", scheme="hmac-sha256", env=None, prefix=(), arguments=(), **more):
        self.directory = str(directory)
        key = uuid.uuid4().hex if key is None else key.decode()
        if transport == "ipc":
            ip, ports = tempfile.mktemp(prefix="jaeda-ipc-"), range(1, 6)
        else:
            ip, ports = "127.0.0.1", free_ports(5)
        connection = {f"{c}_port": p for c, p in zip(CHANNELS, ports)}
        connection.update(ip=ip, transport=transport, key=key, signature_scheme=scheme, kernel_name="jaeda", **more)
        self.file = os.path.join(self.directory, f"kernel-{uuid.uuid4().hex}.json")
        with open(self.file, "w") as f:
            json.dump(connection, f)
        super().__init__(self.file)
        self.env = {**os.environ, "XDG_DATA_HOME": self.directory, **(env or {})}
        self.log = open(self.file + ".log", "wb")
        self.prefix, self.arguments = list(prefix), list(arguments)
        self.clients = []
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.prefix + [executable(), "-f", self.file] + self.arguments,
            env=self.env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
        )

    def client(self, **options):
        c = Client(self, **options)
        self.clients.append(c)
        return c

    def log_text(self):
        with open(self.file + ".log", errors="replace") as f:
            return f.read()

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        for c in self.clients:
            c.close()
        self.clients.clear()
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.log.close()


class Message:
    def __init__(self, frames):
        at = frames.index(DELIMITER)
        self.ids, self.signature = frames[:at], frames[at + 1]
        self.raw = frames[at + 2 : at + 6]
        self.header, self.parent, self.metadata, self.content = (json.loads(f.decode("utf-8")) for f in self.raw)
        self.type = self.header["msg_type"]
        self.parent_id = self.parent.get("msg_id")

    def __repr__(self):
        return f"<{self.type} {self.content} of {self.parent_id}>"

    @property
    def state(self):
        return self.content.get("execution_state")


class Client:
    """identity: ROUTER identity of shell, control and stdin (None: ZeroMQ's own choice)."""

    def __init__(self, kernel, identity=None, channels=CHANNELS, welcome=True):
        self.kernel, self.session = kernel, uuid.uuid4().hex
        self.context = zmq.Context()
        self.identity = self.session.encode() if identity is None else identity
        self.sockets = {}
        for c in channels:
            kind = {"iopub": zmq.SUB, "hb": zmq.REQ}.get(c, zmq.DEALER)
            s = self.context.socket(kind)
            s.linger = 0
            s.rcvhwm = s.sndhwm = 0
            if kind == zmq.DEALER:
                s.identity = self.identity
            if kind == zmq.SUB:
                s.subscribe(b"")
            s.connect(kernel.endpoint(c))
            self.sockets[c] = s
        self.early = []  # what others caused before the kernel heard of this subscriber
        if welcome and "iopub" in channels:
            early = []
            while (m := self.get("iopub")).type != "iopub_welcome":
                early.append(m)
            self.welcome, self.early = m, early

    def close(self):
        for s in self.sockets.values():
            s.close(0)
        self.context.term()

    def sign(self, parts, key=None):
        key = self.kernel.key if key is None else key
        if not key:
            return b""
        digest = getattr(hashlib, self.kernel.scheme[5:])
        return hmac.new(key, b"".join(parts), digest).hexdigest().encode()

    def parts(self, kind, content, parent=None, **header):
        head = {"msg_id": uuid.uuid4().hex, "session": self.session, "username": "test", "msg_type": kind,
                "version": "5.4", "date": datetime.now(timezone.utc).isoformat()}
        head.update(header)
        return head["msg_id"], [json.dumps(x).encode() for x in (head, parent or {}, {}, content)]

    def send(self, kind, content=None, channel="shell", parent=None, **header):
        """Sends a proper message; returns its msg_id."""
        msg_id, parts = self.parts(kind, content or {}, parent, **header)
        self.sockets[channel].send_multipart([DELIMITER, self.sign(parts)] + parts)
        return msg_id

    def send_raw(self, frames, channel="shell"):
        self.sockets[channel].send_multipart(frames)

    def execute(self, code, **options):
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
                   "stop_on_error": True}
        content.update(options)
        return self.send("execute_request", content)

    def get(self, channel, seconds=LIMIT):
        """The next message, its signature checked; AssertionError when none comes."""
        if channel == "iopub" and self.early:
            return self.early.pop(0)
        s = self.sockets[channel]
        assert s.poll(int(seconds * 1000)), f"no message on {channel} within {seconds} s\n{self.kernel.log_text()}"
        m = Message(s.recv_multipart())
        if channel != "iopub":
            assert m.ids == [], m
        else:
            assert len(m.ids) == 1
        assert m.signature == self.sign(m.raw), m
        return m

    def quiet(self, channel, seconds=0.5):
        return not (channel == "iopub" and self.early) and not self.sockets[channel].poll(int(seconds * 1000))

    def reply(self, msg_id, channel="shell"):
        """The reply to msg_id; other replies on the way are dropped."""
        while True:
            m = self.get(channel)
            if m.parent_id == msg_id:
                return m

    def outputs(self, msg_id):
        """All iopub messages of one request, from its busy to its idle; those of others are dropped."""
        found = []
        while True:
            m = self.get("iopub")
            if m.parent_id != msg_id:
                continue
            found.append(m)
            if m.state == "idle":
                return found

    def until(self, true):
        while True:
            m = self.get("iopub")
            if true(m):
                return m

    def run(self, code, **options):
        """Executes; returns reply and outputs."""
        msg_id = self.execute(code, **options)
        return self.reply(msg_id), self.outputs(msg_id)

    def ask(self, kind, content=None, channel="shell"):
        return self.reply(self.send(kind, content, channel), channel)

    def started(self, msg_id):
        """Returns when that cell is running."""
        self.until(lambda m: m.type == "execute_input" and m.parent_id == msg_id)


def types(messages):
    return [m.state or m.type for m in messages]


def text(messages, name="stdout"):
    return "".join(m.content["text"] for m in messages if m.type == "stream" and m.content["name"] == name)
