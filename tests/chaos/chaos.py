#!/usr/bin/env python3
"""chaos.py: everything that can happen to notebooks on a rented machine, at random, and then the accounts.

tests/chaos/chaos.py [--seed N] [--events 500] [--minutes M] [--notebooks 3] [--engine ipc:|local:] [--keep]

JAEDA_KERNEL names the kernel (jaeda-engine lies beside it). A real jupyter_server, kernels started by it and directly, an
engine of their own, a home of their own. The events are drawn from the seed; how they meet depends on the machine. With
--minutes it goes on beyond --events until they are over. Afterwards: no cell without an end, every finished result in the
database once, memory, descriptors and threads back where they were, no process, socket, lock or shared memory left."""
import argparse
import atexit
import collections
import fcntl
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve()
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(HERE.parent))

import psutil  # noqa: E402
import zmq  # noqa: E402
from books import Book, Client, Connection, DirectBook, LabBook, Server, alive  # noqa: E402
from events import EVENTS  # noqa: E402

LEAST_END = 60  # seconds within which every cell ends by itself once nothing more happens
GROWTH = {"kernel": 32 << 20, "engine": 48 << 20}  # bytes that a surviving process may be larger than when it was warm
KEPT = 32  # background jobs of a kernel that %attach can still show: each holds its eventfd
LANES = 8  # of a connection to the engine: the thread of one begins with its first job and ends with the connection
DATA_BYTES = 48 << 20
TINY = ROOT / "tests" / "golden" / "tiny-tied.gguf"


class World:
    """One run: its folders, its processes, what happened and what was wrong."""

    def __init__(self, options):
        self.options, self.rng = options, random.Random(options.seed)
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="jaeda-chaos-"))
        self.runtime, self.data, self.engine_dir = self.root / "runtime", self.root / "data", self.root / "engine"
        self.counts, self.faults, self.notes = collections.Counter(), [], collections.Counter()
        self.context, self.books, self.server, self.junk = zmq.Context(), [], None, []
        self.helpers = []  # client processes of ours
        self.engines, self.engine_may_end, self.looked = {}, 0.0, 0.0
        self.markers, self.mounted, self.dead_cells = 0, False, 0
        self.shared = set(os.listdir("/dev/shm"))

    # ---- words ----
    def fault(self, text):
        self.faults.append(text)
        print(f"chaos: FAULT after {sum(self.counts.values())} events: {text}", flush=True)

    def note(self, text):
        self.notes[re.sub(r"\d+", "N", text)] += 1

    def marker(self):
        self.markers += 1
        return f"c{self.markers:05}"

    # ---- start ----
    def set_up(self):
        for folder in ("runtime", "data", "tmp", "home"):
            (self.root / folder).mkdir(mode=0o700)
        if os.geteuid() == 0:
            mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DATA_BYTES},mode=700", "chaos", str(self.data)],
                                   capture_output=True)
            self.mounted = mount.returncode == 0
            atexit.register(self.unmount)
        if not self.mounted:
            print("chaos: no tmpfs of its own here: no disk-full events")
        for name in list(os.environ):
            if name.startswith(("JUPYTER_", "XDG_", "JPY_")):
                del os.environ[name]
        os.environ.update(
            HOME=str(self.root / "home"), XDG_DATA_HOME=str(self.data), TMPDIR=str(self.root / "tmp"), JAEDA_CHAOS=str(self.root),
            JUPYTER_DATA_DIR=str(self.root / "jupyter"), JUPYTER_RUNTIME_DIR=str(self.runtime), JUPYTER_PLATFORM_DIRS="0",
            JUPYTER_CONFIG_DIR=str(self.root / "config"), IPYTHONDIR=str(self.root / "ipython"), JUPYTER_NO_CONFIG="",
            JAEDA_ENGINE=f"ipc:{self.engine_dir}" if self.options.engine == "ipc:" else self.options.engine)
        del os.environ["JUPYTER_NO_CONFIG"]
        spec = self.root / "jupyter" / "kernels" / "jaeda"
        subprocess.run([str(ROOT / "kernelspec" / "install"), "--stage", str(spec), os.environ["JAEDA_KERNEL"]], check=True)
        os.environ["JAEDA_KERNEL"] = str(spec / "jaeda-kernel")
        self.server = Server(self)
        for i in range(self.options.notebooks):  # the first one is never killed: it shows what stays behind
            kind = DirectBook if i in (0, 3) else LabBook
            self.books.append(kind(self, f"book{i}", steady=i == 0))
        self.pump_until(lambda: all(b.up for b in self.books), 60)

    def unmount(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.data)], capture_output=True)
            self.mounted = False

    def resident(self):
        return self.options.engine == "ipc:"

    # ---- the messages ----
    def pump(self, seconds):
        """Reads what comes, for that long; looks at the processes now and then."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if not self.drain(max(0, min(left, 0.25))) and left <= 0:
                break
            if left < -5:  # a flood: others want their turn
                break
            if time.monotonic() - self.looked > 0.5:
                self.look()
        return True

    def drain(self, seconds=0.0):
        """Reads what is there now; waits at most that long for the first. Was there anything?"""
        poller, sources = zmq.Poller(), {}
        for book in self.books:
            for source, read in book.sources():
                poller.register(source, zmq.POLLIN)
                sources[source] = read
        if not sources:
            time.sleep(seconds)
            return False
        ready = poller.poll(int(seconds * 1000))
        for source, _ in ready:
            sources[source]()
        return bool(ready)

    def pump_until(self, true, seconds):
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                return False
            self.pump(0.02)
        return True

    # ---- the processes ----
    def ours(self):
        """Every process that this run started, but itself."""
        found = []
        for p in psutil.process_iter():
            try:
                if p.pid != os.getpid() and (any(str(self.root) in a for a in p.cmdline())
                                             or p.environ().get("JAEDA_CHAOS") == str(self.root)):
                    found.append(p)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass
        return [p for p in found if alive(p)]

    def engine_processes(self):
        """Guardian first, then the engine itself: the child."""
        found = []
        for p in psutil.process_iter(["name"]):
            try:
                if (p.info["name"] or "").startswith("jaeda-engine") and any(str(self.engine_dir) in a for a in p.cmdline()) and alive(p):
                    found.append((p.ppid(), p))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass
        pids = {p.pid for _, p in found}
        return [p for _, p in sorted(found, key=lambda x: x[0] in pids)]

    def look(self):
        self.looked = time.monotonic()
        for book in self.books:
            book.watch()
        for helper in [h for h in self.helpers if h.poll() is not None]:
            self.helpers.remove(helper)
        if self.resident():
            now = {p.pid: p for p in self.engine_processes()}
            gone = set(self.engines) - set(now)
            if gone and time.monotonic() > self.engine_may_end:
                self.fault(f"engine process {sorted(gone)} ended by itself: {self.last_words()}")
            self.engines = now

    def engine_ends(self, seconds=15):
        """From now on, for a while, an engine that ends is no news."""
        self.engine_may_end = time.monotonic() + seconds

    def last_words(self):
        try:
            return (self.engine_dir / "ended").read_text().strip()[:300]
        except OSError:
            return "(no word of its guardian)"

    # ---- the run ----
    def events(self):
        begun, names = time.monotonic(), [e for e in EVENTS if self.resident() or not e.needs_engine]
        weights = [e.weight for e in names]
        while True:
            n, passed = sum(self.counts.values()), time.monotonic() - begun
            if n >= self.options.events and passed >= (self.options.minutes or 0) * 60:
                return
            event = self.rng.choices(names, weights)[0]
            try:
                happened = event.run(self, self.rng.choice(self.books)) is not False
            except psutil.NoSuchProcess:  # it ended at that very moment; whether it should have, look() says
                happened = False
            self.counts[event.name] += happened
            self.pump(self.rng.random() * 0.3 if self.rng.random() < 0.7 else 0)

    def warm_up(self):
        """One of each once; then the size of what survives is known."""
        for book in self.books:
            self.pump_until(lambda b=book: b.up, 60)
            for code in (f"%load {TINY} --dtype fp32", "%generate -n 200 --ignore-eos --no-record warm", "%profile -r 1 --no-record",
                         "%ps", "%unload --all"):
                ask = book.run(code)
                if ask.reply != "ok":
                    self.fault(f"{book.name}: {code}: {ask}")
        self.before = self.measure()

    def measure(self):
        """Size, descriptors and threads of what must survive: the first notebook's kernel and the engine."""
        found = {}
        chosen = [("kernel", self.books[0].process)] + [("engine", p) for p in self.engine_processes()[-1:]]
        for name, p in chosen:
            try:
                folder = f"/proc/{p.pid}/fd"
                open_ = collections.Counter(re.sub(r"\d+", "N", os.readlink(f"{folder}/{n}")) for n in os.listdir(folder))
                found[name] = (p.memory_info().rss, open_, p.num_threads())
            except (psutil.NoSuchProcess, OSError):
                pass
        return found

    # ---- the accounts ----
    def settle(self):
        """Nothing more happens: every cell must end by itself."""
        for s in self.junk:
            s.close()
        self.junk.clear()
        for h in self.helpers:
            h.kill()
            h.wait()
        self.pump_until(lambda: all(b.up and not b.asks for b in self.books), LEAST_END)
        for book in self.books:
            if not book.up:
                self.fault(f"{book.name}: its kernel did not come back")
            for msg_id, ask in book.asks.items():
                self.fault(f"{book.name} (kernel {book.pid()}): no end: {msg_id} {ask}")
                self.backtrace(book.pid())
        if any(b.asks for b in self.books):
            for p in self.engine_processes():
                self.backtrace(p.pid)

    def backtrace(self, pid):
        if pid and shutil.which("gdb"):
            out = subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"], capture_output=True, text=True)
            with open(self.root / f"backtrace-{pid}.txt", "w") as f:
                f.write(out.stdout)

    def jobs_end(self):
        """Background jobs belong to no cell: they end by themselves too."""
        for book in self.books:
            end = time.monotonic() + LEAST_END
            while "running" in (text := book.run("%jobs").text):
                if time.monotonic() > end:
                    self.fault(f"{book.name}: a background job does not end:\n{text}")
                    break
                self.pump(0.2)

    def sizes(self):
        for book in self.books:
            book.run("%unload --all")
            for gone in book.subshells:
                book.ask("delete_subshell_request", {"subshell_id": gone}, channel="control")
            book.subshells.clear()
        self.pump_until(lambda: not any(b.asks for b in self.books), 10)
        self.pump(1)
        after = self.measure()
        for name, (rss, fds, threads) in after.items():
            if name not in self.before:
                continue
            was, n, lanes = self.before[name], fds.total(), LANES * len(self.books) if name == "engine" else 0
            print(f"chaos: {name}: {was[0] >> 20} -> {rss >> 20} MiB, {was[1].total()} -> {n} descriptors, {was[2]} -> {threads} threads")
            if rss > was[0] + GROWTH[name]:
                self.fault(f"the {name} grew from {was[0] >> 20} to {rss >> 20} MiB")
            eventfds = min(KEPT, (fds - was[1])["anon_inode:[eventfd]"]) if name == "kernel" else 0
            if n > was[1].total() + 4 + eventfds:
                self.fault(f"the {name} has {n - was[1].total()} more descriptors: {dict(fds - was[1])}")
            if threads > was[2] + 2 + lanes:
                self.fault(f"the {name} had {was[2]} threads, and now {threads}")

    def results(self):
        """Each generation that ended well stands in the database, once."""
        path = self.data / "jaeda" / "results.sqlite"
        seen = collections.Counter()
        if path.exists():
            with sqlite3.connect(f"file:{path}?mode=rw", uri=True) as db:
                if (word := db.execute("pragma integrity_check").fetchone()[0]) != "ok":
                    self.fault(f"the results database is damaged: {word}")
                for (name,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
                    for row in db.execute(f"select * from \"{name}\""):
                        found = [set(re.findall(r"\bc\d{5}\b", str(v))) for v in row]
                        seen.update({m for m in set().union(*found)})
            db.close()
        wanted = [m for b in self.books for a in b.done if a.reply == "ok" and not a.excused for m in a.markers]
        missing = [m for m in wanted if not seen[m]]
        twice = [m for m in wanted if seen[m] > 1]
        print(f"chaos: {len(wanted)} finished generations, {len(seen)} in {path.name}")
        if missing:
            self.fault(f"{len(missing)} of {len(wanted)} results are not in the database: {missing[:8]}")
        if twice:
            self.fault(f"results that stand in the database more than once: {twice[:8]}")

    def shut_down(self):
        if self.resident():
            self.engine_ends(3600)
            self.books[0].run("%engine idle 2s")
        for book in self.books:
            book.close()
        self.books = []
        self.server.close()
        end = time.monotonic() + 20
        while (left := self.ours()) and time.monotonic() < end:
            time.sleep(0.2)
        for p in left:
            self.fault(f"process is left: {p}")
        self.leftovers()

    def leftovers(self):
        sockets = [f for f in self.root.rglob("*") if f.is_socket()]
        if sockets:
            self.fault(f"sockets are left: {[str(f.relative_to(self.root)) for f in sockets]}")
        with open("/proc/net/unix") as f:
            if listening := [line.split()[-1] for line in f if str(self.root) in line]:
                self.fault(f"somebody listens still: {listening}")
        if left := [f for f in (self.root / "tmp").iterdir() if not f.name.startswith(("tmp", "pymp"))]:
            self.fault(f"temporary files are left: {[f.name for f in left]}")
        if left := [f for f in set(os.listdir("/dev/shm")) - self.shared if "jaeda" in f]:
            self.fault(f"shared memory is left: {left}")
        for lock in self.root.rglob("*lock*"):
            if lock.is_file():
                with open(lock) as f:
                    try:
                        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:
                        self.fault(f"{lock.name} is locked still")

    def end(self):
        """Whatever happened before: nothing of this run goes on."""
        for p in self.ours():
            try:
                p.kill()
            except psutil.NoSuchProcess:
                pass
        self.unmount()
        if self.faults or self.options.keep:
            print(f"chaos: logs and files: {self.root}")
        else:
            shutil.rmtree(self.root, ignore_errors=True)

    def report(self, begun):
        asks = [a for b in self.all_books for a in b.done]
        cells = [a for a in asks if a.kind == "execute_request"]
        replies = collections.Counter("died" if a.died else a.reply or "left" for a in cells)
        print(f"chaos: seed {self.options.seed}, {sum(self.counts.values())} events in {time.monotonic() - begun:.0f} s: "
              + ", ".join(f"{n} {k}" for k, n in sorted(self.counts.items())))
        print(f"chaos: {len(asks)} requests, {len(cells)} of them cells: " + ", ".join(f"{n} {k}" for k, n in replies.most_common())
              + f"; kernels lived {[b.lives for b in self.all_books]} times, servers {self.server.lives if self.server else 0}")
        for text, n in self.notes.most_common(20):
            print(f"chaos: {n} times: {text}")


def client(connection, msg_id, code):
    """A client of its own process, which is killed in the middle of its cell."""
    c = Client(Connection(connection))
    c.send("execute_request", {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
                               "stop_on_error": True}, msg_id=msg_id)
    c.until(lambda m: m.parent_id == msg_id)
    print("begun", flush=True)
    time.sleep(60)


def main():
    parser = argparse.ArgumentParser(description="random events against notebooks and their engine, and the accounts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--notebooks", type=int, default=3, choices=range(2, 5))
    parser.add_argument("--engine", default="ipc:", choices=("ipc:", "local:"))
    parser.add_argument("--keep", action="store_true", help="leave its files")
    options = parser.parse_args()
    if not os.access(os.environ.get("JAEDA_KERNEL", ""), os.X_OK):
        sys.exit("chaos: set JAEDA_KERNEL to the built jaeda-kernel")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    world, begun = World(options), time.monotonic()
    try:
        world.set_up()
        world.all_books = list(world.books)
        world.warm_up()
        world.events()
        world.settle()
        world.jobs_end()
        world.sizes()
        world.results()
        world.shut_down()
        world.report(begun)
    except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever it is, the processes end and the seed is named
        world.fault(f"{type(e).__name__}: {e}")
        raise
    finally:
        world.end()
        if world.faults:
            print(f"chaos: FAILED with {len(world.faults)} faults:", *world.faults, sep="\n  ")
            print(f"chaos: again: tests/chaos/chaos.py --seed {options.seed} --events {options.events} --notebooks "
                  f"{options.notebooks} --engine {options.engine}" + (f" --minutes {options.minutes}" if options.minutes else ""))
    sys.exit(bool(world.faults))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        client(*sys.argv[2:])
    else:
        main()
