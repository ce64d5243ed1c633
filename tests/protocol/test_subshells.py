"""Kernel subshells (JEP 91): made on control, named in the header of shell messages, each with a queue of its own."""

import os
import random
import signal
import time
import uuid
from queue import Empty

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from kernel import LIMIT, wait_until

LONG = "!sleep 120"
ASK = "%env --ask {}"
MOST = 16  # subshells


class Front:
    """A front end made of jupyter_client: keeps what comes until someone asks for it."""

    def __init__(self, manager):
        self.client = BlockingKernelClient(connection_file=manager.connection_file)
        self.client.load_connection_file()  # manager.client() would give all of them one session
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LIMIT)
        self.kept = {"shell": [], "control": [], "iopub": [], "stdin": []}

    def channel(self, name):
        return getattr(self.client, name + "_channel")

    def send(self, kind, content=None, channel="shell", subshell=None):
        m = self.client.session.msg(kind, content or {})
        if subshell is not None:
            m["header"]["subshell_id"] = subshell
        self.channel(channel).send(m)
        return m["header"]["msg_id"]

    def get(self, channel, true, seconds=LIMIT):
        """The first message, kept or new, that is true; it is kept no more."""
        end, kept = time.monotonic() + seconds, self.kept[channel]
        for m in kept:
            if true(m):
                kept.remove(m)
                return m
        while True:
            try:
                m = self.channel(channel).get_msg(timeout=max(0.01, end - time.monotonic()))
            except Empty:
                raise AssertionError(f"no such message on {channel} within {seconds} s; others: {kept}") from None
            if true(m):
                return m
            kept.append(m)

    def reply(self, msg_id, channel="shell", seconds=LIMIT):
        return self.get(channel, lambda m: m["parent_header"].get("msg_id") == msg_id, seconds)

    def ask(self, kind, content=None, channel="shell", subshell=None):
        return self.reply(self.send(kind, content, channel, subshell), channel)["content"]

    def execute(self, code, subshell=None, **options):
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
                   "stop_on_error": True, **options}
        return self.send("execute_request", content, subshell=subshell)

    def outputs(self, msg_id):
        """From busy to idle. The busy that follows another request's idle is left out."""
        found = []
        while not found or found[-1]["content"].get("execution_state") != "idle":
            m = self.get("iopub", lambda m: m["parent_header"].get("msg_id") == msg_id)
            if not (found and m["content"].get("execution_state") == "busy"):
                found.append(m)
        return found

    def run(self, code, subshell=None, **options):
        msg_id = self.execute(code, subshell, **options)
        return self.reply(msg_id)["content"], self.outputs(msg_id)

    def started(self, msg_id):
        self.get("iopub", lambda m: m["msg_type"] == "execute_input" and m["parent_header"]["msg_id"] == msg_id)

    def busy(self, subshell=None, code=LONG):
        msg_id = self.execute(code, subshell)
        self.started(msg_id)
        return msg_id

    def create(self):
        c = self.ask("create_subshell_request", channel="control")
        assert c["status"] == "ok", c
        return c["subshell_id"]

    def delete(self, subshell):
        return self.ask("delete_subshell_request", {"subshell_id": subshell}, "control")

    def list(self):
        return self.ask("list_subshell_request", channel="control")["subshell_id"]

    def close(self):
        self.client.stop_channels()


def kinds(messages):
    return [m["content"].get("execution_state") or m["msg_type"] for m in messages]


def text(messages):
    return "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")


@pytest.fixture
def manager():
    km = KernelManager(kernel_name="jaeda")
    km.start_kernel()
    yield km
    if km.is_alive():
        km.shutdown_kernel(now=True)
    km.cleanup_resources()


@pytest.fixture
def connect(manager):
    fronts = []

    def run():
        fronts.append(Front(manager))
        return fronts[-1]

    yield run
    for f in fronts:
        f.close()


@pytest.fixture
def front(connect):
    return connect()


def pid(manager):
    return manager.provisioner.pid


def threads(manager):
    return len(os.listdir(f"/proc/{pid(manager)}/task"))


def ended(manager):
    return wait_until(lambda: manager.provisioner.process.poll() is not None)


# ---- create, list, delete ----


def test_they_are_advertised_and_there_are_none_at_first(front):
    assert "kernel subshells" in front.ask("kernel_info_request")["supported_features"]
    assert front.ask("list_subshell_request", channel="control") == {"status": "ok", "subshell_id": []}


def test_create_list_delete(front, manager):
    before = threads(manager)
    made = [front.create() for _ in range(3)]
    assert [str(uuid.UUID(i)) for i in made] == made and len(set(made)) == 3
    assert front.list() == made
    assert front.delete(made[1]) == {"status": "ok"}
    assert front.list() == [made[0], made[2]]
    for i in (made[0], made[2]):
        assert front.delete(i) == {"status": "ok"}
    assert front.list() == []
    assert wait_until(lambda: threads(manager) == before)


@pytest.mark.parametrize("content", [{"subshell_id": "nonsense"}, {"subshell_id": str(uuid.uuid4())}, {"subshell_id": ""},
                                     {"subshell_id": None}, {"subshell_id": 7}, {}])
def test_deleting_what_is_not_there(front, content):
    made = front.create()
    c = front.ask("delete_subshell_request", content, "control")
    assert c["status"] == "error" and c["ename"] and c["evalue"] and c["traceback"]
    assert front.list() == [made]


def test_twice_deleted(front):
    made = front.create()
    assert front.delete(made)["status"] == "ok" and front.delete(made)["status"] == "error"


def test_there_is_a_limit(front):
    made = [front.create() for _ in range(MOST)]
    c = front.ask("create_subshell_request", channel="control")
    assert c["status"] == "error" and str(MOST) in c["evalue"]
    assert front.list() == made
    assert front.delete(made[0])["status"] == "ok"
    assert wait_until(lambda: front.ask("create_subshell_request", channel="control")["status"] == "ok")


@pytest.mark.parametrize("kind", ["create", "list", "delete"])
def test_control_requests_are_between_busy_and_idle(front, kind):
    msg_id = front.send(f"{kind}_subshell_request", {}, "control")
    assert front.reply(msg_id, "control")["msg_type"] == f"{kind}_subshell_reply"
    assert kinds(front.outputs(msg_id)) == ["busy", "idle"]


# ---- cells ----


def test_a_subshell_runs_while_the_main_shell_is_busy(front):
    sub = front.create()
    main = front.busy(code="!sleep 3")
    msg_id = front.execute("!echo beside", sub)
    reply, out = front.reply(msg_id), front.outputs(msg_id)
    assert reply["content"]["status"] == "ok" and text(out) == "beside\n"
    assert kinds(out) == ["busy", "execute_input", "stream", "idle"]
    assert {m["parent_header"]["subshell_id"] for m in [reply, *out]} == {sub}
    with pytest.raises(AssertionError):
        front.reply(main, seconds=0.1)  # it sleeps still
    reply, out = front.reply(main), front.outputs(main)
    assert reply["content"]["status"] == "ok"
    assert not any("subshell_id" in m["parent_header"] for m in [reply, *out])


@pytest.mark.parametrize("busy", [False, True])
def test_completion_and_information_need_no_turn(front, busy):
    """Whatever shell they name: also one that is busy, or is not there."""
    sub = front.create()
    if busy:
        front.busy(), front.busy(sub)
    for name in (sub, "nonsense", None):
        for kind, content in (("complete_request", {"code": "%gene", "cursor_pos": 5}), ("kernel_info_request", {}),
                              ("comm_info_request", {}), ("is_complete_request", {"code": "%lsmagic"}),
                              ("inspect_request", {"code": "%generate", "cursor_pos": 3, "detail_level": 0}),
                              ("history_request", {"hist_access_type": "tail", "n": 1, "output": False, "raw": True})):
            msg_id = front.send(kind, content, subshell=name)
            reply = front.reply(msg_id)
            assert reply["content"]["status"] in ("ok", "complete")
            assert reply["parent_header"].get("subshell_id") == name
            assert kinds(front.outputs(msg_id)) == ["busy", "idle"]


def meet(directory, me, others):
    """A cell that ends only when the others run as well."""
    waits = "; ".join(f"while [ ! -e {directory}/{o} ]; do sleep 0.02; done" for o in others)
    return f"!touch {directory}/{me}; {waits}; echo {me}"


def test_all_shells_run_at_the_same_time(front, tmp_path):
    shells = [None] + [front.create() for _ in range(MOST)]
    names = [f"s{i}" for i in range(len(shells))]
    sent = [front.execute(meet(tmp_path, n, names), s) for n, s in zip(names, shells)]
    for msg_id, name in zip(sent, names):
        assert front.reply(msg_id)["content"]["status"] == "ok" and text(front.outputs(msg_id)) == name + "\n"


def test_cells_of_one_subshell_run_in_order(front):
    sub = front.create()
    sent = [front.execute(f"!sleep 0.0{9 - i}; echo {i}", sub) for i in range(9)]
    counts = [front.reply(i)["content"]["execution_count"] for i in sent]
    assert counts == sorted(counts) and [text(front.outputs(i)) for i in sent] == [f"{i}\n" for i in range(9)]


def test_one_counter_and_one_set_of_variables_for_all(front):
    a, b = front.create(), front.create()
    counts = [front.run(f"v{i} = {i}", s)[0]["execution_count"] for i, s in enumerate([a, None, b, a, None])]
    assert counts == [1, 2, 3, 4, 5]
    shown = [front.run(f"v{i}", s)[1][2]["content"] for i, s in enumerate([b, a, None])]
    assert [c["data"]["text/plain"] for c in shown] == ["0", "1", "2"]
    assert front.run("!true", a, store_history=False, silent=True)[0]["execution_count"] == 8


@pytest.mark.parametrize("name", ["nonsense", "", 7, {}])
def test_a_cell_for_a_subshell_that_is_not_there(front, name):
    msg_id = front.execute("!echo lost", name)
    reply, out = front.reply(msg_id), front.outputs(msg_id)
    c = reply["content"]
    assert c["status"] == "error" and c["ename"] and c["evalue"] and c["traceback"] and c["execution_count"] == 0
    assert kinds(out) == ["busy", "error", "idle"] and reply["parent_header"]["subshell_id"] == name
    assert text(front.run("!echo on")[1]) == "on\n"


def test_null_names_the_main_shell(front):
    m = front.client.session.msg("execute_request", {"code": "!echo main"})
    m["header"]["subshell_id"] = None
    front.channel("shell").send(m)
    assert front.reply(m["header"]["msg_id"])["content"]["status"] == "ok"


def test_a_failed_cell_aborts_the_cells_of_its_own_shell_only(front):
    a, b = front.create(), front.create()
    first = {s: front.execute("!sleep 1\n%nonsense" if s == a else "!sleep 1", s) for s in (a, b, None)}
    behind = {s: [front.execute("!true", s) for _ in range(2)] for s in (a, b, None)}
    assert front.reply(first[a])["content"]["status"] == "error"
    assert [front.reply(i)["content"]["status"] for i in behind[a]] == ["aborted"] * 2
    for s in (b, None):
        assert [front.reply(i)["content"]["status"] for i in (first[s], *behind[s])] == ["ok"] * 3
    assert front.run("!true", a)[0]["status"] == "ok"


# ---- busy and idle ----


def test_after_each_idle_the_busy_of_a_cell_that_runs(front):
    """A bare idle would make a server believe that the kernel rests."""
    sub = front.create()
    main = front.busy()
    beside = front.busy(sub)

    def after(msg_id):
        front.outputs(msg_id)
        front.kept["iopub"].clear()
        m = front.get("iopub", lambda m: m["msg_type"] == "status")
        return m["content"]["execution_state"], m["parent_header"]["msg_id"]

    assert after(front.send("kernel_info_request")) == ("busy", main)
    front.send("delete_subshell_request", {"subshell_id": sub}, "control")
    assert after(beside) == ("busy", main)
    sub = front.create()
    beside = front.busy(sub, code="!sleep 2")
    assert after(beside) == ("busy", main)
    front.send("interrupt_request", channel="control")
    assert front.reply(main)["content"]["status"] == "error"
    beside = front.busy(sub)
    assert after(front.send("kernel_info_request")) == ("busy", beside)


# ---- ends ----


def test_delete_while_busy(front, manager):
    before = threads(manager)
    sub = front.create()
    running = front.busy(sub)
    queued = [front.execute("!true", sub) for _ in range(3)]
    front.ask("kernel_info_request")  # by now they wait: shell and control have no order among each other
    main = front.busy(code="!sleep 2; echo main")
    assert front.delete(sub) == {"status": "ok"} and front.list() == []
    c = front.reply(running)["content"]
    assert c["status"] == "error" and c["ename"] == "KeyboardInterrupt"
    assert [front.reply(i)["content"]["status"] for i in queued] == ["aborted"] * 3
    assert all(kinds(front.outputs(i)) == ["busy", "idle"] for i in queued)
    assert front.run("!true", sub)[0]["status"] == "error"
    assert front.reply(main)["content"]["status"] == "ok"
    assert wait_until(lambda: threads(manager) == before)


def test_a_deleted_cell_that_does_not_end_keeps_nobody_waiting(front):
    sub = front.create()
    deaf = front.execute("%%bash\ntrap '' INT TERM\necho deaf\nfor i in 1 2 3 4 5 6 7 8; do sleep 0.25; done", sub)
    front.get("iopub", lambda m: m["msg_type"] == "stream" and m["parent_header"]["msg_id"] == deaf)
    assert front.delete(sub)["status"] == "ok" and front.list() == []
    assert front.run("!true")[0]["status"] == "ok"
    with pytest.raises(AssertionError):
        front.reply(deaf, seconds=0.1)
    assert front.reply(deaf)["content"]["status"] == "error"


@pytest.mark.parametrize("way", ["control", "shell", "signal"])
def test_an_interrupt_reaches_the_cells_of_every_shell(front, manager, way):
    shells = [None, front.create(), front.create()]
    running = [front.busy(s) for s in shells]
    if way == "signal":
        os.kill(pid(manager), signal.SIGINT)
    else:
        assert front.ask("interrupt_request", channel=way, subshell=shells[1])["status"] == "ok"
    for i in running:
        assert front.reply(i)["content"]["ename"] == "KeyboardInterrupt"
    for s in shells:
        assert text(front.run("!echo on", s)[1]) == "on\n"


def test_an_interrupt_while_one_shell_is_idle_does_not_hit_its_next_cell(front):
    sub = front.create()
    running = front.busy(sub)
    front.send("interrupt_request", channel="control")
    assert front.reply(running)["content"]["status"] == "error"
    assert text(front.run("!sleep 0.2; echo on")[1]) == "on\n"


@pytest.mark.parametrize("way", ["request", "SIGTERM"])
def test_shutdown_with_busy_subshells(front, manager, way):
    shells = [None, front.create(), front.create()]
    running = [front.busy(s, code=f"!sleep 300.{os.getpid()} & sleep 301.{os.getpid()}") for s in shells]
    queued = [front.execute("!true", s) for s in shells]
    front.ask("kernel_info_request")
    if way == "request":
        assert front.ask("shutdown_request", {"restart": False}, "control")["status"] == "ok"
    else:
        os.kill(pid(manager), signal.SIGTERM)
    assert [front.reply(i)["content"]["status"] for i in running] == ["error"] * 3
    assert [front.reply(i)["content"]["status"] for i in queued] == ["aborted"] * 3
    assert ended(manager) and manager.provisioner.process.returncode == 0
    assert wait_until(lambda: not any(f".{os.getpid()}" in c for c in commands()))


def test_shutdown_with_deaf_commands_in_every_shell(front, manager):
    for s in (None, front.create(), front.create()):
        sent = front.execute(f"%%bash\ntrap '' INT TERM HUP\necho deaf\nwhile true; do sleep 1.{os.getpid()}; done", s)
        front.get("iopub", lambda m: m["msg_type"] == "stream" and m["parent_header"]["msg_id"] == sent)
    front.send("shutdown_request", {"restart": False}, "control")
    begin = time.monotonic()
    assert ended(manager) and time.monotonic() - begin < max(5, LIMIT / 10)
    assert wait_until(lambda: not any(f".{os.getpid()}" in c for c in commands()))


def commands():
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if line.startswith("sleep "):
            yield line


# ---- questions ----


def answer(front, question, value, parent=True):
    m = front.client.session.msg("input_reply", {"value": value}, parent=question["header"] if parent else None)
    front.channel("stdin").send(m)


def question_of(front, msg_id):
    return front.get("stdin", lambda m: m["msg_type"] == "input_request" and m["parent_header"]["msg_id"] == msg_id)


@pytest.mark.parametrize("parent", [True, False], ids=["with parent", "without"])
def test_a_question_from_a_subshell(front, parent):
    sub = front.create()
    front.busy()
    msg_id = front.execute(ASK.format("JAEDA_A"), sub, allow_stdin=True)
    question = question_of(front, msg_id)
    assert question["parent_header"]["subshell_id"] == sub
    answer(front, question, "sesame", parent)
    assert front.reply(msg_id)["content"]["status"] == "ok"
    assert text(front.run("!printf %s \"$JAEDA_A\"", sub)[1]) == "sesame"


def test_questions_of_several_shells_are_not_confused(front):
    shells = [None, front.create(), front.create()]
    sent = [front.execute(ASK.format(f"JAEDA_Q{i}"), s, allow_stdin=True) for i, s in enumerate(shells)]
    questions = [question_of(front, i) for i in sent]
    for i in (2, 0, 1):
        answer(front, questions[i], f"line{i}")
        assert front.reply(sent[i])["content"]["status"] == "ok"
    assert text(front.run("!echo $JAEDA_Q0 $JAEDA_Q1 $JAEDA_Q2")[1]) == "line0 line1 line2\n"


def test_an_interrupt_ends_the_questions_of_every_shell(front):
    shells = [None, front.create()]
    sent = [front.execute(ASK.format("JAEDA_B"), s, allow_stdin=True) for s in shells]
    for i in sent:
        question_of(front, i)
    front.send("interrupt_request", channel="control")
    assert [front.reply(i)["content"]["ename"] for i in sent] == ["KeyboardInterrupt"] * 2


# ---- several clients ----


def test_three_front_ends(connect, tmp_path):
    fronts = [connect() for _ in range(3)]
    shells = [f.create() for f in fronts]
    assert all(f.list() == shells for f in fronts)
    names = ["x0", "x1", "x2", "main"]
    main = fronts[0].execute(meet(tmp_path, "main", names))
    sent = [f.execute(meet(tmp_path, n, names), s) for f, n, s in zip(fronts, names, shells)]
    for f, i, n, s in zip(fronts, sent, names, shells):
        assert f.reply(i)["content"]["status"] == "ok"
        for other in fronts:  # everybody sees what everybody's cells show
            out = other.outputs(i)
            assert text(out) == n + "\n" and {m["parent_header"]["subshell_id"] for m in out} == {s}
    assert fronts[0].reply(main)["content"]["status"] == "ok"
    assert text(fronts[2].run("!echo shared", shells[0])[1]) == "shared\n"
    assert fronts[1].delete(shells[0])["status"] == "ok"
    assert all(f.list() == shells[1:] for f in fronts)


def test_every_cell_has_one_answer_and_one_end_whatever_happens(connect, manager):
    """Cells, deletions and interrupts in any order, from two front ends."""
    fronts, dice, sent, shells = [connect(), connect()], random.Random(91), [], [None]
    before = threads(manager)
    for _ in range(150):
        f, s = dice.choice(fronts), dice.choice(shells)
        what = dice.randrange(10)
        if what < 6:
            sent.append((f, f.execute(dice.choice(["!true", "!exit 3", "!sleep 0.05", "x = 1", "%nonsense"]), s)))
        elif what < 8 and len(shells) < 6:
            shells.append(f.create())
        elif what == 8 and s:
            shells.remove(s)
            assert f.delete(s)["status"] == "ok"
        elif what == 9:
            f.send("interrupt_request", channel="control")
    for f, i in sent:
        assert f.reply(i)["content"]["status"] in ("ok", "error", "aborted")
        assert f.outputs(i)[-1]["content"]["execution_state"] == "idle"
    for s in shells[1:]:
        assert fronts[0].delete(s)["status"] == "ok"
    assert wait_until(lambda: threads(manager) == before)
    counts = [fronts[0].run("!true")[0]["execution_count"] for _ in range(2)]
    assert counts[1] == counts[0] + 1
    for f, i in sent:
        assert not any(m["parent_header"].get("msg_id") == i for m in f.kept["shell"])


# ---- a cell beside the one that runs ----


def test_attach_does_not_wait_behind_the_cell_that_runs(front):
    """As a user who reloaded the page: the rest of the running cell streams into a new one."""
    main = front.busy(code="!echo one; sleep 3; echo two")
    behind = front.execute("!echo behind")
    attach = front.execute("%attach")
    front.started(attach)
    with pytest.raises(AssertionError):
        front.reply(main, seconds=0.1)
    assert front.reply(main)["content"]["status"] == "ok"
    assert front.reply(attach)["content"]["status"] in ("ok", "error")
    assert front.reply(behind)["content"]["status"] == "ok"
    assert front.list() == []
