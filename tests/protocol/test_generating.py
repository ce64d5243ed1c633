"""The same while a real model writes: tokens stream, everything is answered, each kind of interrupt stops it."""

import signal
import time

import pytest
from kernel import text, types

LONG = "%generate -n 4000 --ignore-eos Tell me a long story about a lighthouse."


@pytest.fixture
def model(client):
    reply, _ = client.run("%load smollm2-135m")
    if reply.content["status"] != "ok":
        pytest.skip(f"no model on this machine: {reply.content['evalue']}")
    return client


def begin(client):
    msg_id = client.execute(LONG)
    client.until(lambda m: m.type == "stream" and m.parent_id == msg_id)  # tokens come while the cell runs
    return msg_id


def test_everything_is_answered_while_tokens_stream(model):
    running = begin(model)
    for channel, kind, content in [("shell", "kernel_info_request", {}), ("control", "kernel_info_request", {}),
                                   ("shell", "complete_request", {"code": "%gene", "cursor_pos": 5}),
                                   ("shell", "inspect_request", {"code": "%generate", "cursor_pos": 5}),
                                   ("shell", "history_request", {"hist_access_type": "tail", "n": 1}),
                                   ("control", "usage_request", {})]:
        assert model.reply(model.send(kind, content, channel), channel).content.get("status", "ok") == "ok"
    assert model.quiet("shell", 0.1)  # and the cell goes on
    model.until(lambda m: m.type == "stream" and m.parent_id == running)
    model.ask("interrupt_request", channel="control")
    assert model.reply(running).type == "execute_reply"


def test_every_interrupt_stops_it_and_the_model_stays(kernel, model):
    for way in ("control", "shell", "signal"):
        running = begin(model)
        begun = time.monotonic()
        if way == "signal":
            kernel.process.send_signal(signal.SIGINT)
        else:
            model.send("interrupt_request", channel=way)
        seen = []
        model.until(lambda m: m.parent_id == running and (seen.append(m) or m.state == "idle"))
        assert model.reply(running).content["status"] == "error", way
        assert [t for t in types(seen) if t == "error"] == ["error"]
        assert time.monotonic() - begun < 30  # of more than a minute that it would take
    reply, out = model.run("%generate -n 8 --ignore-eos Once upon a time")
    assert reply.content["status"] == "ok" and text(out)


def test_a_load_can_be_interrupted(client):
    """Whether it was in time or not, the next cell runs."""
    msg_id = client.execute("%load smollm2-135m")
    client.started(msg_id)
    client.send("interrupt_request", channel="control")
    assert client.reply(msg_id).content["status"] in ("ok", "error")
    assert text(client.run("!echo on")[1]) == "on\n"
