"""Notebooks for chaos: one behind a real jupyter_server, one whose kernel is started directly. Both keep what they asked
until it has ended, and an observer of their own beside every client: what the kernel published is known even when the
page that asked is gone."""
import json
import os
import pathlib
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field

import psutil
import requests
import websocket
import zmq

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "protocol"))
from kernel import Client, Connection, Kernel, Message, free_ports  # noqa: E402

START = 60  # seconds that a start may take on a slow machine


@dataclass
class Ask:
    """A request and what has come of it. It has ended when the reply (if its client still listens) and the idle came."""

    kind: str
    code: str = ""
    markers: list = field(default_factory=list)  # of its generations: each must be in the database when it went well
    reply: str = None
    idle: bool = False
    listening: bool = True
    died: bool = False
    excused: bool = False  # from the database: the disk was full
    subshell: str = None
    text: str = ""
    since: float = field(default_factory=time.monotonic)

    def ended(self):
        return self.died or self.idle and (self.reply is not None or not self.listening)

    def __str__(self):
        age = time.monotonic() - self.since
        return f"{self.kind} {self.code[:60]!r} reply={self.reply} idle={self.idle} listening={self.listening} {age:.0f} s ago"


class Book:
    """up: the kernel answers. A kernel that ends without the notebook's doing is a fault."""

    def __init__(self, world, name, steady):
        self.world, self.name, self.steady = world, name, steady
        self.asks, self.done, self.subshells, self.idles = {}, [], [], set()
        self.connection, self.observer, self.up, self.process, self.welcomed = None, None, False, None, False
        self.down_since, self.lives = time.monotonic(), 0

    # ---- what travels ----
    def observe(self, connection):
        if self.observer:
            self.observer.close(0)
        self.connection, self.welcomed = connection, False
        self.observer = self.world.context.socket(zmq.SUB)
        self.observer.rcvhwm = 0
        self.observer.subscribe(b"")
        self.observer.connect(connection.endpoint("iopub"))

    def sources(self):
        return [(self.observer, self.read_observer)] if self.observer else []

    def read_observer(self):
        while self.observer.poll(0):
            m = Message(self.observer.recv_multipart())
            self.on_iopub(m.type, m.parent_id, m.content)

    def on_iopub(self, kind, parent, content):
        if kind == "iopub_welcome":
            self.welcomed = True
        idle = kind == "status" and content["execution_state"] == "idle"
        if idle:
            self.idles.add(parent)
        ask = self.asks.get(parent)
        if not ask:
            return
        if kind == "stream":
            ask.text = (ask.text + content["text"])[-2000:]
        ask.idle |= idle
        self.settle(parent)

    def on_reply(self, kind, parent, content):
        if kind == "create_subshell_reply" and content.get("status") == "ok":
            self.subshells.append(content["subshell_id"])
        if parent in self.asks:
            self.asks[parent].reply = content.get("status", "ok")
            self.settle(parent)

    def settle(self, msg_id):
        if self.asks[msg_id].ended():
            self.done.append(self.asks.pop(msg_id))

    # ---- what is asked ----
    def ask(self, kind, content=None, channel="shell", code="", markers=(), subshell=None, listening=True):
        msg_id = uuid.uuid4().hex
        self.asks[msg_id] = Ask(kind, code, list(markers), listening=listening, subshell=subshell)
        if listening:
            self.send(kind, content or {}, channel, msg_id=msg_id, **({"subshell_id": subshell} if subshell else {}))
        return msg_id

    def execute(self, code, markers=(), subshell=None):
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
                   "stop_on_error": True}
        return self.ask("execute_request", content, code=code, markers=markers, subshell=subshell)

    def run(self, code, seconds=START):
        """Executes and waits for the end; the ask, or None when the kernel died meanwhile."""
        msg_id = self.execute(code)
        ask = self.asks[msg_id]
        self.world.pump_until(ask.ended, seconds)
        return ask

    def cells(self):
        return [a for a in self.asks.values() if a.kind == "execute_request"]

    # ---- life ----
    def pid(self):
        return self.process.pid if self.process else None

    def lost(self):
        """Its kernel is gone: what it was asked ends with it."""
        for ask in self.asks.values():
            ask.died = True
            self.done.append(ask)
        self.asks.clear()
        self.subshells.clear()
        self.up, self.welcomed, self.process, self.down_since = False, False, None, time.monotonic()

    def kill(self):
        if self.process:
            self.world.drain()  # what it published before counts
            self.process.kill()
        self.lost()
        self.after_kill()

    def watch(self):
        """Notices starts, and ends that nobody asked for."""
        if self.up:
            if not alive(self.process):
                self.world.drain()
                self.world.fault(f"{self.name}: the kernel {self.pid()} ended by itself")
                self.lost()
                self.after_kill()
            return
        if not self.process:
            self.process = self.find()
        if self.process and self.welcomed:
            self.up = True
            self.lives += 1
            self.ask("kernel_info_request")
        elif time.monotonic() - self.down_since > START:
            self.world.fault(f"{self.name}: no kernel within {START} s")
            self.down_since = time.monotonic()
            self.after_kill()


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class DirectBook(Book):
    """A kernel without a server, as a tool starts it."""

    def __init__(self, world, name, steady):
        super().__init__(world, name, steady)
        self.kernel = Kernel(world.runtime, env={"XDG_DATA_HOME": str(world.data), "JPY_SESSION_NAME": f"{name}.ipynb"})
        self.observe(self.kernel)
        self.client = Client(self.kernel, channels=("shell", "control", "stdin"), welcome=False)

    def find(self):
        return psutil.Process(self.kernel.process.pid) if self.kernel.alive() else None

    def after_kill(self):
        self.kernel.process.wait()
        self.kernel.start()

    def sources(self):
        return super().sources() + [(self.client.sockets[c], lambda c=c: self.read(c)) for c in ("shell", "control")]

    def read(self, channel):
        while self.client.sockets[channel].poll(0):
            m = Message(self.client.sockets[channel].recv_multipart())
            self.on_reply(m.type, m.parent_id, m.content)

    def send(self, kind, content, channel, **header):
        self.client.send(kind, content, channel, **header)

    def interrupt(self):
        self.send("interrupt_request", {}, "control")

    def restart(self):
        """As a launcher does it: asked to shut down, ended when it does not, started again."""
        self.send("shutdown_request", {"restart": True}, "control")
        process = self.kernel.process
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            self.world.fault(f"{self.name}: the kernel {process.pid} did not shut down within 15 s")
            process.kill()
        self.world.drain()
        self.lost()
        self.after_kill()

    def reload(self, same):
        """A client that leaves, and another that comes: what the first asked is answered to nobody."""
        self.world.drain()
        for ask in list(self.asks):
            self.asks[ask].listening = False
            self.settle(ask)
        self.client.close()
        self.client = Client(self.kernel, channels=("shell", "control", "stdin"), welcome=False)

    def close(self):
        if self.kernel.alive():
            self.send("shutdown_request", {"restart": False}, "control")
            try:
                self.kernel.process.wait(20)
            except subprocess.TimeoutExpired:
                self.world.fault(f"{self.name}: the kernel {self.kernel.process.pid} did not shut down within 20 s")
        self.client.close()
        self.observer.close(0)
        self.kernel.stop()


class Server:
    """A jupyter_server with a token, on loopback; its kernels are looked at every half second."""

    def __init__(self, world):
        self.world, self.port, self.token, self.lives = world, free_ports(1)[0], uuid.uuid4().hex, 0
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers["Authorization"] = f"token {self.token}"
        (world.root / "config").mkdir()
        (world.root / "config" / "jupyter_server_config.json").write_text(json.dumps({
            "KernelRestarter": {"time_to_dead": 0.5, "restart_limit": 10000, "random_ports_until_alive": False},
            "ServerApp": {"ip": "127.0.0.1", "port": self.port, "port_retries": 0, "open_browser": False, "allow_root": True,
                          "root_dir": str(world.root / "books"), "jpserver_extensions": {}},
            "IdentityProvider": {"token": self.token},
        }))
        (world.root / "books").mkdir()
        self.start()

    def start(self):
        self.lives += 1
        self.log = open(self.world.root / f"server-{self.lives}.log", "wb")
        self.process = subprocess.Popen([sys.executable, "-m", "jupyter_server"], stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, start_new_session=True)
        end = time.monotonic() + START
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"jupyter_server does not start: {self.world.root}/server-{self.lives}.log")
            self.world.pump(0.1)

    def answers(self):
        try:
            return self.http.get(f"http://127.0.0.1:{self.port}/api/status", timeout=5).ok
        except requests.ConnectionError:
            return False

    def call(self, method, path, body=None):
        r = self.http.request(method, f"http://127.0.0.1:{self.port}/api/{path}", json=body, timeout=60)
        r.raise_for_status()
        return r.json() if r.content else None

    def kernels(self):
        """Its kernels' processes."""
        try:
            return [p for p in psutil.Process(self.process.pid).children() if alive(p) and "jaeda-kernel" in p.name()]
        except psutil.NoSuchProcess:
            return []

    def kill(self):
        """The power goes: its kernels must notice by themselves."""
        left = self.kernels()
        self.process.kill()
        self.process.wait()
        self.log.close()
        for process in psutil.wait_procs(left, 20)[1]:
            self.world.fault(f"kernel {process.pid} lives 20 s after its server was killed")
            process.kill()

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.world.fault("jupyter_server does not end")
            self.process.kill()
            self.process.wait()
        self.log.close()


class LabBook(Book):
    """A notebook that is open in a page: sessions, websocket and interrupts as JupyterLab does them."""

    def __init__(self, world, name, steady):
        super().__init__(world, name, steady)
        self.socket = None
        self.open()

    def open(self):
        """A session of the server, which starts the kernel, and the page's websocket."""
        s = self.world.server.call("POST", "sessions", {"path": f"{self.name}.ipynb", "type": "notebook", "name": self.name,
                                                        "kernel": {"name": "jaeda"}})
        self.session, self.kernel = s["id"], s["kernel"]["id"]
        self.observe(Connection(os.path.join(self.world.runtime, f"kernel-{self.kernel}.json")))
        self.page = uuid.uuid4().hex
        self.connect()

    def connect(self):
        s = self.world.server
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{s.port}/api/kernels/{self.kernel}/channels?session_id={self.page}", timeout=30,
            header={"Authorization": f"token {s.token}"}, http_no_proxy=["127.0.0.1"], enable_multithread=False)

    def find(self):
        try:
            return next((p for p in self.world.server.kernels() if any(self.kernel in a for a in p.cmdline())), None)
        except psutil.NoSuchProcess:
            return None

    def after_kill(self):
        pass  # the server starts it again

    def sources(self):
        return super().sources() + ([(self.socket.fileno(), self.read)] if self.socket else [])

    def read(self):
        try:
            m = json.loads(self.socket.recv())
        except (websocket.WebSocketException, OSError, ValueError) as e:
            self.world.note(f"{self.name}: the server closed the websocket: {e}")
            self.leave()
            self.connect()
            return
        parent, kind = m["parent_header"].get("msg_id"), m["header"]["msg_type"]
        if m["channel"] == "iopub":
            if kind == "status" and m["content"]["execution_state"] == "idle":  # the rest comes to the observer too
                self.on_iopub(kind, parent, m["content"])
        else:
            self.on_reply(kind, parent, m["content"])

    def send(self, kind, content, channel, **header):
        head = {"msg_id": uuid.uuid4().hex, "session": self.page, "username": "chaos", "msg_type": kind, "version": "5.4",
                "date": "2026-01-01T00:00:00Z", **header}
        self.socket.send(json.dumps({"header": head, "parent_header": {}, "metadata": {}, "content": content, "buffers": [],
                                     "channel": channel}))

    def leave(self):
        """The page is gone for good: what it asked is answered to nobody."""
        self.socket.close()
        self.page = uuid.uuid4().hex
        for ask in list(self.asks):
            self.asks[ask].listening = False
            self.settle(ask)

    def reload(self, same):
        """same: a network that came back, the server kept what was said meanwhile; else a new page."""
        self.world.drain()
        if same:
            self.socket.close()
            self.socket = None
            self.world.pump(0.3)
        else:
            self.leave()
        self.connect()

    def interrupt(self):
        self.world.server.call("POST", f"kernels/{self.kernel}/interrupt")

    def restart(self):
        self.world.drain()
        self.lost()
        self.world.server.call("POST", f"kernels/{self.kernel}/restart")

    def server_died(self):
        self.world.drain()
        if self.socket:
            self.socket.close()
            self.socket = None
        self.lost()

    def close(self):
        self.world.server.call("DELETE", f"sessions/{self.session}")
        if self.socket:
            self.socket.close()
        self.observer.close(0)

