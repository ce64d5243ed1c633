"""%engine where the engine runs inside the kernel: what there is, and one clear line for what cannot be.
The resident engine's side is in test_resident.py."""
import pathlib

import pytest
from kernel import text

TINY = pathlib.Path(__file__).resolve().parents[1] / "golden" / "tiny-tied.gguf"


def shown(outputs):
    return text(outputs) + "\n".join(m.content["data"].get("text/plain", "") for m in outputs if "data" in m.content)


def ok(client, code):
    reply, outputs = client.run(code)
    assert reply.content["status"] == "ok", f"{code}: {reply.content}"
    return shown(outputs)


def test_it_says_where_it_is(client):
    assert client.ask("kernel_info_request").content["banner"].endswith("engine: in this kernel (local:)")
    for code in ("%engine", "%engine status", "%ps", "%sysinfo"):
        assert "in this kernel (local:)" in ok(client, code), code
    assert "%log" in ok(client, "%engine log")


def test_the_banner_names_the_resident_one(start, tmp_path):
    c = start(env={"JAEDA_ENGINE": f"ipc:{tmp_path}"}).client()  # which no cell needs: none is started
    assert c.ask("kernel_info_request").content["banner"].endswith("engine: resident (ipc:)")


@pytest.mark.parametrize("code, words", [
    ("%engine stop", "%unload --all"), ("%engine restart", "in this kernel (local:)"),
    ("%engine restart --load", "in this kernel (local:)"), ("%engine idle", "no idle limit"),
    ("%engine idle 30m", "no idle limit"), ("%engine halt", "status, stop, restart, log and idle"),
    ("%engine stop now", "takes no \"now\""), ("%load", "has loaded no model yet"),
])
def test_what_cannot_be_is_one_line(client, code, words):
    reply, _ = client.run(code)
    assert reply.content["status"] == "error" and words in reply.content["evalue"], reply.content
    assert "\n" not in reply.content["evalue"]


def test_subcommands_are_completed(client):
    for code, want in (("%engine re", "restart"), ("%engine ", "idle"), ("%runs de", "delete"), ("%runs ", "path")):
        matches = client.ask("complete_request", {"code": code, "cursor_pos": len(code)}).content["matches"]
        assert want in matches, f"{code}: {matches}"


def test_load_alone_loads_the_last_again(client):
    ok(client, f"%load {TINY} --dtype fp32 -c 64")
    said = ok(client, "%unload")
    assert "given back" in said and "before" in said and "after" in said, said
    said = ok(client, "%cd /\n%load")
    assert "weights fp32" in said and "context of 64 tokens" in said, said
    said = ok(client, "%load")
    assert "loaded already, ready after" in said, said
