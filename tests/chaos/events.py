"""What can happen. Each event is run(world, book); False: it could not happen now and does not count."""
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import Callable

import zmq

TINY = pathlib.Path(__file__).resolve().parent.parent / "golden" / "tiny-tied.gguf"
QUEUED = 6  # cells of a notebook that may wait: a user does not queue hundreds


@dataclass
class Event:
    name: str
    weight: float
    run: Callable
    needs_engine: bool = False


EVENTS = []


def event(name, weight, needs_engine=False):
    def add(run):
        EVENTS.append(Event(name, weight, run, needs_engine))
        return run
    return add


def busy(book):
    return not book.up or len(book.cells()) >= QUEUED


def cell(book, code, **options):
    return False if busy(book) else book.execute(code, **options) and None


# ---- what a user types ----
@event("generate", 20)
def generate(world, book):
    mark = world.marker()
    n = world.rng.choice((3, 20, 80, 200))
    return cell(book, f"%generate -n {n} --ignore-eos {mark}", markers=[mark])


@event("load", 12)
def load(world, book):
    dtype = world.rng.choice(("fp32", "fp32", "int8"))
    length = world.rng.choice(("", "", " -c 128"))
    return cell(book, f"%load {TINY} --dtype {dtype}{length}")


@event("chat", 4)
def chat(world, book):
    return cell(book, "%chat --template raw -n 4 --no-record hello")


@event("profile", 3)
def profile(world, book):
    return cell(book, "%profile -r 1 -p 40 -n 4 --no-record")


@event("unload", 4)
def unload(world, book):
    return cell(book, "%unload" if world.rng.random() < 0.7 else "%unload --all")


@event("look", 10)
def look(world, book):
    return cell(book, world.rng.choice(("%ps", "%engine", "%runs", "%jobs", "%models", "%engine log -n 3", "%sysinfo")))


@event("shell", 5)
def shell(world, book):
    return cell(book, world.rng.choice(("!sleep 0.3", "!seq 3000", "!head -c 200000 /dev/zero | tr '\\0' x", "!false")))


@event("background", 6)
def background(world, book):
    return cell(book, f"%bg %generate -n {world.rng.choice((20, 150))} --ignore-eos --no-record in the background")


@event("attach", 5)
def attach(world, book):
    return cell(book, "%attach")


@event("wrong", 3)
def wrong(world, book):
    return cell(book, world.rng.choice(("%laod", "%load /nonexistent.gguf", "%generate -n -1 x", "%jobs stop 999", "%%bash\nexit 3")))


@event("subshell", 4)
def subshell(world, book):
    if busy(book):
        return False
    if len(book.subshells) < 2:
        book.ask("create_subshell_request", channel="control")
    elif world.rng.random() < 0.8:
        book.execute("%ps", subshell=world.rng.choice(book.subshells))
    else:
        gone = book.subshells.pop()
        if any(a.subshell == gone for a in book.asks.values()):
            book.subshells.append(gone)
            return False
        book.ask("delete_subshell_request", {"subshell_id": gone}, channel="control")
    return None


@event("question", 6)
def question(world, book):
    if not book.up:
        return False
    kind, content = world.rng.choice((
        ("complete_request", {"code": "%gen", "cursor_pos": 4}), ("kernel_info_request", {}), ("comm_info_request", {}),
        ("inspect_request", {"code": "%load", "cursor_pos": 5, "detail_level": 0}), ("is_complete_request", {"code": "%ps"}),
        ("history_request", {"hist_access_type": "tail", "n": 3, "output": False, "raw": True})))
    book.ask(kind, content)
    return None


# ---- what a user does ----
@event("interrupt", 14)
def interrupt(world, book):
    if not book.up:
        return False
    book.interrupt()
    return None


@event("SIGINT", 6)
def sigint(world, book):
    if not book.up:
        return False
    book.process.send_signal(signal.SIGINT)
    return None


@event("reload", 8)
def reload(world, book):
    if not book.up:
        return False
    book.reload(world.rng.random() < 0.4)
    return None


@event("restart", 3)
def restart(world, book):
    if not book.up or book.steady:
        return False
    book.restart()
    return None


# ---- what the machine does ----
@event("SIGKILL of a kernel", 4)
def kill_kernel(world, book):
    if not book.up or book.steady:
        return False
    book.kill()
    return None


@event("SIGKILL of the engine", 3, needs_engine=True)
def kill_engine(world, book):
    engines = world.engine_processes()
    if not engines:
        return False
    world.engine_ends()
    engines[-1].send_signal(world.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)))
    return None


@event("engine stopped", 1, needs_engine=True)
def stop_engine(world, book):
    if busy(book):
        return False
    world.engine_ends(30)
    book.execute("%engine stop")
    return None


@event("SIGKILL of the server", 1)
def kill_server(world, book):
    if world.server.lives > 4:
        return False
    pages = [b for b in world.books if hasattr(b, "server_died")]
    for b in pages:
        b.server_died()  # first: what is read afterwards finds nobody
    world.server.kill()
    world.server.start()
    for b in pages:
        b.open()
    return None


@event("SIGKILL of a client", 3)
def kill_client(world, book):
    if busy(book):
        return False
    path = book.kernel.file if hasattr(book.kernel, "file") else os.path.join(world.runtime, f"kernel-{book.kernel}.json")
    code = "!sleep 1"
    msg_id = book.ask("execute_request", code=code, listening=False)
    helper = subprocess.Popen([sys.executable, str(pathlib.Path(__file__).parent / "chaos.py"), "--client", str(path), msg_id, code],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.set_blocking(helper.stdout.fileno(), False)
    while not (begun := helper.stdout.read()) and msg_id in book.asks and helper.poll() is None:
        world.pump(0.05)
    helper.kill()
    helper.wait()
    helper.stdout.close()
    if begun and msg_id in book.asks:
        return None  # in the middle of its cell, which must end all the same
    book.asks.pop(msg_id, None)  # it ended, or the kernel did, before the client had seen anything
    return False


# ---- what a hostile neighbour does ----
@event("rubbish to a kernel", 8)
def rubbish(world, book):
    if not book.up:
        return False
    channel = world.rng.choice(("shell", "control", "stdin", "iopub", "hb"))
    kind = zmq.SUB if channel == "iopub" else zmq.DEALER
    s = world.context.socket(kind)
    s.linger = 0
    s.connect(book.connection.endpoint(channel))
    if channel == "iopub":
        s.subscribe(world.rng.randbytes(8))  # a subscriber that never reads
        s.rcvhwm = 1
        world.junk.append(s)
        if len(world.junk) > 4:
            world.junk.pop(0).close()
        return None
    frames = world.rng.choice((
        [b""], [b"<IDS|MSG>"], [b"<IDS|MSG>", b"00", b"{}", b"{}", b"{}", b"{}"], [world.rng.randbytes(200)] * 3,
        [b"<IDS|MSG>", b"a" * 64, b"{", b"[]", b"null", b"\xff"], [b"x"] * 60))
    s.send_multipart(frames)
    world.pump(0.02)
    s.close()
    return None


@event("rubbish to the engine", 6, needs_engine=True)
def rubbish_engine(world, book):
    path = world.engine_dir / "engine.sock"
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(str(path))
            s.sendall(world.rng.choice((b"GET / HTTP/1.1\r\n\r\n", struct.pack("<II", 0xffffffff, 0), world.rng.randbytes(300),
                                        struct.pack("<II", 4, 2) + b"abcd", struct.pack("<II", 5, 0) + b"x")))
        except OSError:
            return False
    return None


@event("disk full", 1)
def disk_full(world, book):
    """For a moment; results of that moment may be lost, with a word in their cells."""
    if not world.mounted:
        return False
    for b in world.books:
        for ask in b.asks.values():
            ask.excused = True
    full = world.data / "full"
    try:
        with open(full, "wb") as f:
            while True:
                f.write(bytes(1 << 20))
                f.flush()
    except OSError:
        pass
    mark = world.marker()
    if not busy(book):
        book.asks[book.execute(f"%generate -n 3 {mark}", markers=[mark])].excused = True
        world.pump(0.5)
    for b in world.books:
        for ask in b.asks.values():
            ask.excused = True
    full.unlink()
    return None
