"""Models by name: what fits, random weights in a true shape, and one clear line for every slip. The real engine."""
from pathlib import Path

import pytest

NOTICE = "random weights (load format dummy)"


def shown(messages):
    """All displays and texts, line breaks of the 100 columns undone."""
    parts = [m.content["text"] if m.type == "stream" else m.content.get("data", {}).get("text/plain", "")
             for m in messages if m.type in ("stream", "display_data", "update_display_data")]
    return "\n".join(parts).replace("\n", " ")

FOLDERS = Path(__file__).resolve().parents[1] / "golden" / "folders"


def ok(client, code):
    reply, out = client.run(code)
    assert reply.content["status"] == "ok", f"{code}: {reply.content.get('evalue')}"
    return shown(out)


@pytest.mark.parametrize("code, words", [
    ("%load smollm2-135m --dtype int3", ["--dtype takes auto, fp32, fp16, bf16, int8, int4", "int3"]),
    ("%load smollm2-135m --load-format sharded", ["--load-format takes auto, dummy", "sharded"]),
    ("%load polyglot-ko-5.8", ["polyglot-ko-5.8b"]),
    ("%load no-such-model --load-format dummy", ["no-such-model"]),
    ("%load no-such-model --load-format auto-or-dummy", ["no-such-model"]),
    ("%generate hi --num-beams 0", ["a whole number from 1 to 16"]),
    ("%generate hi --num-beams 99", ["a whole number from 1 to 16"]),
    ("%generate hi --num-beam 2 --do-sample", ["does not sample"]),
    ("%generate hi --input x", ["--input has no place in the template raw", "koalpaca", "kullm"]),
    ("%generate hi --template koalpacca", ["koalpaca", "koalpacca"]),
    ("%fit no-such-model", ["no-such-model"]),
    ("%fit polyglot-ko-5.8b -c 4096", ["4096", "2048"]),
    ("%fit polyglot-ko-5.8b --batch-size 1000", ["1 to 256"]),
    ("%fit polyglot-ko-5.8b --machine g4dn", ["g5.2xlarge"]),
    ("%fit polyglot-ko-5.8b --dtyp fp16 --machin this --bach 2", ["--batch-size"]),
])
def test_a_slip_is_one_clear_line(client, code, words):
    reply, _ = client.run(code)
    assert reply.content["status"] == "error", code
    line = reply.content["evalue"]
    assert "\n" not in line and all(w in line for w in words), line
    assert "here" in ok(client, "!echo here")


def test_torch_files_are_loaded_as_safetensors_are(client):
    texts = []
    for name, kind in (("llama-gqa", "safetensors"), ("llama-bin", "torch")):
        folder = FOLDERS / name
        assert name in ok(client, f"%load {folder}"), name
        assert kind in ok(client, f"%show {folder}")
        _, out = client.run("%generate hello -n 24 --ignore-eos --quiet")
        texts.append("".join(m.content["text"] for m in out if m.type == "stream"))
    assert texts[0] == texts[1] and texts[0].strip(), texts


def test_a_repository_without_its_weights_says_how_to_get_either_kind(client, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    for repo in ("lmsys/vicuna-7b-v1.5", "some/Thing"):
        folder = tmp_path / ("models--" + repo.replace("/", "--"))
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / "config.json").write_text((FOLDERS / "llama-gqa" / "config.json").read_text())
    ok(client, f"%env HF_HUB_CACHE={tmp_path}")
    for repo in ("lmsys/vicuna-7b-v1.5", "some/Thing"):
        reply, _ = client.run(f"%load {repo}")
        line = reply.content["evalue"]
        assert reply.content["status"] == "error" and f"hf download {repo} " in line, line
        assert '--include "*.safetensors*"' in line and '--include "*.bin*"' in line, line


def test_fit_knows_the_machines_that_its_option_offers(client):
    offered = client.ask("complete_request", {"code": "%fit x --machine ", "cursor_pos": 17}).content["matches"]
    assert set(offered) >= {"this", "all", "h100"}
    everywhere = ok(client, "%fit smollm2-135m --dtype auto --machine all")
    for name in set(offered) - {"all"}:
        assert f" {name} " in everywhere, everywhere
        assert f" {name} " in ok(client, f"%fit smollm2-135m --dtype auto --machine {name}")


def test_fit_and_load_agree(client):
    fit = ok(client, "%fit pythia-160m --machine this --dtype int8 -c 512")
    assert "not on this disk" in fit and "int8" in fit and "No weights were read" in fit, fit
    both = ok(client, "%fit pythia-160m -c 512,1024,4096 --machine this --batch-size 1,2")
    assert "4,096 tokens are more than the 2,048" in both and "batch 2" in both, both


def test_models_names_all_and_says_how_to_get_them(client):
    text = ok(client, "%models")
    for word in ("polyglot-ko-5.8b", "koalpaca-polyglot-12.8b", "kullm-polyglot-5.8b-v2", "llama-2-7b-chat", "gated",
                 "hf download EleutherAI/polyglot-ko-5.8b", "EleutherAI/polyglot-ko-12.8b", "5.89 B"):
        assert word in text, f"{word}: {text}"
    text = ok(client, "%show koalpaca")
    for word in ("beomi/KoAlpaca-Polyglot-5.8B", "gptneox", "koalpaca", "KV cache a token", "vocabulary rows"):
        assert word in text, f"{word}: {text}"


def test_random_weights_say_so(client):
    text = ok(client, "%load smollm2-135m --load-format dummy --load-in-4bit -c 256 --kv-cache-dtype fp32")
    assert NOTICE in text and "weights int4" in text and "KV cache fp32" in text, text
    assert "135 M" in text or "134" in text, text
    text = ok(client, "%generate -n 4 --ignore-eos Hello")
    assert NOTICE in text and "4 new" in text, text
    assert NOTICE in ok(client, "%chat -n 2 Hello")
    assert NOTICE in ok(client, "%ps")
    assert NOTICE in ok(client, "%profile -p 16 -n 2 --runs 1")
    assert "5 beams, score" in ok(client, "%generate -n 4 --num-beams 5 Hello")
    assert "sampling: T=1 top_k=50 min_p=0.1 typical_p=0.9 seed=7" in \
        ok(client, "%generate -n 2 --min-p 0.1 --typical-p 0.9 --seed 7 Hello")
    assert "unloaded" in ok(client, "%unload")
