"""history_request, and the file behind it."""

import os
import sqlite3
import stat

import pytest

DEFAULT = {"output": False, "raw": True}


def history(client, **request):
    reply = client.ask("history_request", dict(DEFAULT, **request))
    assert reply.content["status"] == "ok", reply
    assert all(len(row) == 3 for row in reply.content["history"])
    return reply.content["history"]


def run_all(client, codes):
    for code in codes:
        client.run(code)


def sources(rows):
    return [r[2] for r in rows]


CODES = ["!echo one", "a = 1", "!echo 한글", "a = 1"]


def test_tail_range_search(client):
    run_all(client, CODES)
    client.run("!echo hidden", store_history=False)
    client.run("!echo silent", silent=True)
    assert sources(history(client, hist_access_type="tail", n=10)) == CODES
    assert sources(history(client, hist_access_type="tail", n=2)) == CODES[2:]
    rows = history(client, hist_access_type="range", session=0, start=2, stop=4)
    assert sources(rows) == CODES[1:3] and [r[1] for r in rows] == [2, 3]
    assert sources(history(client, hist_access_type="range", session=0, start=1)) == CODES
    assert sources(history(client, hist_access_type="search", pattern="!echo*")) == ["!echo one", "!echo 한글"]
    assert sources(history(client, hist_access_type="search", pattern="a = ?")) == ["a = 1", "a = 1"]
    assert [r[1:] for r in history(client, hist_access_type="search", pattern="a = ?", unique=True)] == [[4, "a = 1"]]
    assert sources(history(client, hist_access_type="search", pattern="*", n=1)) == ["a = 1"]
    assert history(client, hist_access_type="search", pattern="nothing like this") == []


def test_output_adds_a_pair(client):
    run_all(client, CODES[:1])
    assert history(client, hist_access_type="tail", n=1, output=True)[0][2] in (["!echo one", None], ["!echo one", ""])


@pytest.mark.parametrize("request_", [{}, {"hist_access_type": "no such"}, {"hist_access_type": "range", "session": "x"},
                                      {"hist_access_type": "tail", "n": -3}, {"hist_access_type": "search", "pattern": 7},
                                      {"hist_access_type": "tail", "n": 10**30}])
def test_odd_requests(client, request_):
    reply = client.ask("history_request", request_)
    assert reply.content["status"] in ("ok", "error")
    assert client.run("!true")[0].content["status"] == "ok"


def test_it_survives_a_restart(start):
    first = start()
    c = first.client()
    run_all(c, CODES)
    session = history(c, hist_access_type="tail", n=1)[0][0]
    first.stop()
    c = start().client()
    assert sources(history(c, hist_access_type="range", session=-1)) == CODES
    assert sources(history(c, hist_access_type="range", session=session)) == CODES
    assert sources(history(c, hist_access_type="tail", n=2)) == CODES[2:]
    c.run("!echo later")
    rows = history(c, hist_access_type="tail", n=2)
    assert sources(rows) == [CODES[-1], "!echo later"] and rows[1][0] > session and rows[1][1] == 1
    assert sources(history(c, hist_access_type="range", session=0)) == ["!echo later"]


def test_kernels_at_once_have_sessions_of_their_own(start):
    clients = [start().client() for _ in range(3)]
    for i in range(4):
        for j, c in enumerate(clients):
            c.run(f"!echo {j}.{i}")
    own = [history(c, hist_access_type="range", session=0) for c in clients]
    for j, rows in enumerate(own):
        assert sources(rows) == [f"!echo {j}.{i}" for i in range(4)]
    assert len({rows[0][0] for rows in own}) == 3


def test_the_file_is_private(start, tmp_path):
    start().client().run("!echo x")
    path = tmp_path / "jaeda" / "history.sqlite"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sqlite3.connect(path).execute("pragma journal_mode").fetchone() == ("delete",)


@pytest.mark.parametrize("trouble", ["garbage", "directory", "no home", "file in the way", "foreign"])
def test_a_file_that_cannot_be_used(start, tmp_path, trouble):
    """The history then lives in memory, one line of the log says so, and everything else works."""
    path = tmp_path / "jaeda" / "history.sqlite"
    env = {}
    if trouble == "file in the way":
        path.parent.write_text("x")
    else:
        path.parent.mkdir()
    if trouble == "garbage":
        path.write_bytes(b"this is no database" * 1000)
    if trouble == "directory":
        path.mkdir()
    if trouble == "foreign":
        sqlite3.connect(path).execute("create table session (x)").connection.execute("create table input (y)").connection.commit()
    if trouble == "no home":
        env = {"XDG_DATA_HOME": "", "HOME": ""}
    k = start(env=env)
    c = k.client()
    run_all(c, CODES)
    assert sources(history(c, hist_access_type="tail", n=10)) == CODES
    assert k.log_text().count("history:") == (0 if trouble == "no home" else 1), k.log_text()


def test_a_locked_file_does_not_stop_cells(start, tmp_path):
    path = tmp_path / "jaeda" / "history.sqlite"
    c = start().client()
    c.run("!echo first")
    with sqlite3.connect(path) as db:
        db.execute("begin exclusive")
        assert c.run("!echo locked")[0].content["status"] == "ok"
        db.rollback()
    assert c.run("!echo free")[0].content["status"] == "ok"
    assert sources(history(c, hist_access_type="tail", n=1)) == ["!echo free"]
    assert os.path.exists(path)
