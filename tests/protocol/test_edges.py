"""Encrypted connections (CurveZMQ) and the registration handshake (JEP 66), each from the other side's point of view."""
import hashlib
import hmac
import json
import subprocess
import uuid

import pytest
import zmq
from kernel import DELIMITER, Client, executable

if not zmq.has("curve"):
    pytest.skip("this libzmq has no curve", allow_module_level=True)


class Encrypted(Client):
    """A client that knows the server's public key; keys of its own are made for the occasion."""

    def __init__(self, kernel, server_key):
        super().__init__(kernel, channels=())
        public, secret = zmq.curve_keypair()
        for c, kind in {"shell": zmq.DEALER, "control": zmq.DEALER, "stdin": zmq.DEALER, "iopub": zmq.SUB, "hb": zmq.REQ}.items():
            s = self.context.socket(kind)
            s.linger = 0
            if kind == zmq.DEALER:
                s.identity = self.identity
            s.curve_serverkey, s.curve_publickey, s.curve_secretkey = server_key, public, secret
            if kind == zmq.SUB:
                s.subscribe(b"")
            s.connect(kernel.endpoint(c))
            self.sockets[c] = s


@pytest.fixture
def keys():
    return zmq.curve_keypair()


@pytest.fixture
def encrypted(start, keys):
    public, secret = keys
    return start(curve_publickey=public.decode(), curve_secretkey=secret.decode())


def test_a_whole_session_is_encrypted(encrypted, keys):
    c = Encrypted(encrypted, keys[0])
    encrypted.clients.append(c)
    assert c.get("iopub").type == "iopub_welcome"
    reply, outputs = c.run("!echo hello")
    assert reply.content["status"] == "ok" and any("hello" in m.content.get("text", "") for m in outputs)
    assert c.ask("kernel_info_request", channel="control").content["status"] == "ok"
    c.sockets["hb"].send(b"beat")
    assert c.sockets["hb"].poll(5000) and c.sockets["hb"].recv() == b"beat"


@pytest.mark.parametrize("which", ["plain", "wrong key"])
def test_who_has_not_the_key_gets_nothing(encrypted, keys, which):
    c = Client(encrypted, welcome=False) if which == "plain" else Encrypted(encrypted, zmq.curve_keypair()[0])
    encrypted.clients.append(c)
    c.send("kernel_info_request")
    c.sockets["hb"].send(b"beat")
    assert c.quiet("shell", 1) and c.quiet("iopub", 0.1) and not c.sockets["hb"].poll(100)
    good = Encrypted(encrypted, keys[0])
    encrypted.clients.append(good)
    assert good.ask("kernel_info_request").content["status"] == "ok"
    for key in keys:
        assert key.decode() not in encrypted.log_text()


@pytest.mark.parametrize("bad", [{"curve_publickey": "x" * 40}, {"curve_publickey": "short", "curve_secretkey": "short"},
                                 {"curve_publickey": 5, "curve_secretkey": 6}])
def test_half_a_key_is_refused_in_one_line(start, bad):
    kernel = start(**bad)
    assert kernel.process.wait(10) == 1
    log = kernel.log_text().strip()
    assert "curve" in log and "\n" not in log


# ---- registration ----
class Launcher:
    """The side that starts kernels and learns their ports from them."""

    def __init__(self, folder, key=b"launcher-key"):
        self.context, self.key, self.id = zmq.Context(), key, uuid.uuid4().hex
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.file = folder / "registration.json"
        self.file.write_text(json.dumps({"kernel_id": self.id, "transport": "tcp", "registration_ip": "127.0.0.1",
                                         "registration_port": port, "signature_scheme": "hmac-sha256", "key": key.decode()}))

    def sign(self, content):
        return hmac.new(self.key, content, hashlib.sha256).hexdigest().encode()

    def heard(self):
        assert self.socket.poll(10000), "no registration"
        frames = self.socket.recv_multipart()
        at = frames.index(DELIMITER)
        signature, content = frames[at + 1], frames[at + 2]
        assert signature == self.sign(content)
        return frames[:at], json.loads(content)

    def close(self):
        self.socket.close()
        self.context.term()


class Registered:
    """What a client needs of a kernel whose ports came by registration."""

    def __init__(self, content, key):
        self.ports, self.key, self.scheme = content, key, "hmac-sha256"

    def endpoint(self, channel):
        return f"tcp://127.0.0.1:{self.ports[channel + '_port']}"

    def log_text(self):
        return ""


@pytest.fixture
def launcher(tmp_path):
    found = Launcher(tmp_path)
    yield found
    found.close()


def test_a_kernel_registers_its_ports_and_serves(launcher):
    with subprocess.Popen([executable(), "-r", launcher.file], stderr=subprocess.PIPE) as p:
        to, content = launcher.heard()
        assert content["kernel_id"] == launcher.id
        answer = b"{}"
        launcher.socket.send_multipart([*to, DELIMITER, launcher.sign(answer), answer])
        c = Client(Registered(content, launcher.key))
        reply, _ = c.run("!true")
        assert reply.content["status"] == "ok"
        c.send("shutdown_request", {"restart": False}, "control")
        assert p.wait(10) == 0
        c.close()


@pytest.mark.parametrize("how", ["silence", "wrong signature"])
def test_a_kernel_that_nobody_acknowledges_leaves(launcher, how):
    with subprocess.Popen([executable(), "-r", launcher.file], stderr=subprocess.PIPE, text=True) as p:
        to, _ = launcher.heard()
        if how != "silence":
            launcher.socket.send_multipart([*to, DELIMITER, b"00" * 32, b"{}"])
        assert p.wait(15) == 1
        said = p.stderr.read().strip()
        assert "launcher" in said and "\n" not in said
