"""Pictures: read from files and servers, shown, and asked about. The real engine with a tiny MiniGPT-4 of random numbers."""
import base64
import http.server
import io
import json
import math
import random
import shutil
import ssl
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from kernel import text

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LLM, OUT = GOLDEN / "folders" / "llama-gqa", 64  # a tiny language model, and how wide it is
HIDDEN, FFN, BLOCKS, GRID = 88, 96, 3, 4  # of the image encoder that is made up here: one head, a picture of 56 x 56


def photo(width=640, height=360, format="JPEG", blue=90):
    """A picture with a gradient and a bright square at the right."""
    image = Image.new("RGB", (width, height))
    image.putdata([(x * 255 // width, y * 255 // height, blue) for y in range(height) for x in range(width)])
    image.paste((250, 240, 20), (width * 3 // 4, height // 4, width * 7 // 8, height * 3 // 4))
    out = io.BytesIO()
    image.save(out, format)
    return out.getvalue()


def shown(out):
    """What stands at the end, in order: pictures, or texts. A display that was updated has its last content."""
    displays = {}
    for i, m in enumerate(m for m in out if m.type in ("display_data", "update_display_data")):
        displays[m.content.get("transient", {}).get("display_id", i)] = m.content
    return [picture_or_text(d) for d in displays.values() if d["data"]]


def picture_or_text(display):
    data = display["data"]
    kind = next((k for k in data if k.startswith("image/")), None)
    if not kind:
        return data.get("text/plain", "").replace("\n", " ")
    image = Image.open(io.BytesIO(base64.b64decode(data[kind])))
    image.load()
    told = display["metadata"][kind]
    assert (told["width"], told["height"]) == image.size and image.format == kind.split("/")[1].upper()
    return image


def ok(client, code):
    reply, out = client.run(code)
    assert reply.content["status"] == "ok", f"{code}: {reply.content.get('evalue')}"
    return shown(out)


def slip(client, code):
    reply, _ = client.run(code)
    assert reply.content["status"] == "error", code
    assert "\n" not in reply.content["evalue"]
    return reply.content["evalue"]


# ---- servers ----

class Web(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        name = self.path.split("?")[0]
        try:
            if name == "/a%20photo.jpg":
                self.answer(200, photo(), Content_Type="image/jpeg")
            elif name == "/moved":
                self.answer(301, Location="/a%20photo.jpg")
            elif name == "/loop":
                self.answer(302, Location="/loop")
            elif name == "/escape":
                self.answer(302, Location="file:///etc/hostname")
            elif name == "/page":
                self.answer(200, b"<html>no</html>", Content_Type="text/html; charset=utf-8")
            elif name == "/large":
                self.answer(200, Content_Length=str(65 << 20))
            elif name == "/endless":
                self.answer(200, Transfer_Encoding="chunked")
                while True:
                    self.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
            elif name == "/slow":
                self.answer(200, Content_Length="100000")
                for _ in range(200):
                    self.wfile.write(b"\xff")
                    time.sleep(0.05)
            else:
                self.answer(404)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def web():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(start):
    return start(env={"no_proxy": "*"}).client()


@pytest.mark.parametrize("path, words", [
    ("/none.jpg", ["/none.jpg", "404", "no such file"]),
    ("/loop", ["/loop", "redirected more than 5 times"]),
    ("/escape", ["neither http nor https"]),
    ("/page", ["/page is no picture", "text/html"]),
    ("/large", ["larger than 64 MiB"]),
    ("/endless", ["larger than 64 MiB"]),
])
def test_what_a_server_does_wrong_is_one_clear_line(client, web, path, words):
    line = slip(client, f"%image {web}{path}")
    assert all(w in line for w in words), line


@pytest.mark.parametrize("where, words", [
    ("http://127.0.0.1:1/a.jpg", ["no server answers there"]),
    ("https://127.0.0.1:1/a.jpg", ["no server answers there"]),
    ("http://no-such-host.invalid/a.jpg", ["no such host"]),
    ("ftp://127.0.0.1/a.jpg", ["paths, file: and http(s): URLs"]),
    ("no-such-file.jpg", ["no-such-file.jpg", "No such file"]),
    ("/etc", ["is a folder"]),
    ("/etc/passwd", ["is no picture"]),
])
def test_what_cannot_be_read_is_one_clear_line(client, where, words):
    line = slip(client, f"%image {where}")
    assert all(w in line for w in words), line


def test_a_server_that_nobody_vouches_for_is_not_read(client, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate")
    pem = tmp_path / "server.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                    "-keyout", pem, "-out", tmp_path / "certificate.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", pem)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        line = slip(client, f"%image https://localhost:{server.server_port}/a%20photo.jpg")
    finally:
        server.shutdown()
        server.server_close()
    assert "its certificate is not trusted here, nothing was read" in line, line


def test_a_slow_download_is_interrupted_and_the_kernel_goes_on(client, web):
    sent = client.send("execute_request", {"code": f"%image {web}/slow", "silent": False})
    time.sleep(1.5)
    at = time.monotonic()
    client.ask("interrupt_request", channel="control")
    while (reply := client.get("shell")).parent_id != sent:
        pass
    assert time.monotonic() - at < 5, "the interrupt took too long"
    assert reply.content["status"] == "error" and "interrupted while slow was fetched" in reply.content["evalue"]
    assert client.run("x = 1\nx")[0].content["status"] == "ok"


def test_a_picture_of_a_server_is_shown(client, web):
    for path in ("/a%20photo.jpg?x=1", "/moved"):
        picture, line = ok(client, f"%image {web}{path}")
        assert picture.format == "JPEG" and picture.size == (512, 288)
        assert "JPEG, 640 x 360" in line, line
        r, g, b = picture.getpixel((415, 144))
        assert r > 220 and g > 210 and b < 70, "the bright square is not where it was"


def test_a_file_that_an_earlier_cell_fetched_is_a_path(client, web, tmp_path):
    ok(client, f"%cd {tmp_path}")
    (tmp_path / "한글 사진.png").write_bytes(photo(90, 60, "PNG"))
    ok(client, f"!/usr/bin/env python3 -c \"import urllib.request as u; u.urlretrieve('{web}/moved', 'got.jpg')\"")
    picture, line = ok(client, "%image got.jpg")
    assert picture.size == (512, 288) and "got.jpg: JPEG" in line
    picture, line = ok(client, "%image \"한글 사진.png\"")
    assert picture.format == "PNG" and picture.size == (90, 60)
    assert picture.convert("RGB").tobytes() == Image.open(tmp_path / "한글 사진.png").tobytes()
    picture, line = ok(client, "%image got.jpg --width 64")
    assert picture.size == (64, 36)
    (tmp_path / "cut.jpg").write_bytes(photo()[:3000])
    assert "cut.jpg" in slip(client, "%image cut.jpg")
    assert "got.jpg" in ok(client, "%image")[1]  # the last that was seen


# ---- a model that sees ----

def write_safetensors(path, tensors):
    head, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def made_up(shapes, spread=0.05):
    """Random tensors: norms near one, the others near zero."""
    numbers, tensors = random.Random(5), {}
    for name, shape in shapes.items():
        mean = float(("norm" in name.lower() or name.startswith("ln_")) and name.endswith("weight"))
        tensors[name] = (shape, [numbers.gauss(mean, spread) for _ in range(math.prod(shape))])
    return tensors


@pytest.fixture
def folder(tmp_path):
    """Two photographs, an image encoder, and a projection to a tiny language model."""
    shapes = {"cls_token": [1, 1, HIDDEN], "pos_embed": [1, GRID * GRID + 1, HIDDEN],
              "patch_embed.proj.weight": [HIDDEN, 3, 14, 14], "patch_embed.proj.bias": [HIDDEN]}
    for i in range(BLOCKS):
        parts = {"norm1.weight": [HIDDEN], "norm1.bias": [HIDDEN], "attn.q_bias": [HIDDEN], "attn.v_bias": [HIDDEN],
                 "attn.qkv.weight": [3 * HIDDEN, HIDDEN], "attn.proj.weight": [HIDDEN, HIDDEN], "attn.proj.bias": [HIDDEN],
                 "norm2.weight": [HIDDEN], "norm2.bias": [HIDDEN], "mlp.fc1.weight": [FFN, HIDDEN], "mlp.fc1.bias": [FFN],
                 "mlp.fc2.weight": [HIDDEN, FFN], "mlp.fc2.bias": [HIDDEN]}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in parts.items()}
    write_safetensors(tmp_path / "vit.safetensors", made_up(shapes))
    write_safetensors(tmp_path / "proj.safetensors", made_up({"llama_proj.weight": [OUT, 4 * HIDDEN], "llama_proj.bias": [OUT]}, 0.5))
    shutil.copytree(LLM, tmp_path / "llm")
    tokenizer = tmp_path / "llm" / "tokenizer.json"  # the templates of MiniGPT-4 name Llama's tokens
    tokenizer.write_text(tokenizer.read_text().replace('"<eos>"', '"<s>"').replace('"<|sep|>"', '"</s>"'))
    (tmp_path / "a.jpg").write_bytes(photo())
    (tmp_path / "b.png").write_bytes(photo(200, 300, "PNG", 250))
    return tmp_path


@pytest.fixture
def seeing(client, folder):
    ok(client, f"%cd {folder}")
    line = ok(client, "%load minigpt4-7b --vit vit.safetensors --projector proj.safetensors --llm llm")[-1]
    assert "sees: " in line and "tokens a picture" in line, line
    return client


def test_a_question_about_a_picture(seeing):
    picture, line = ok(seeing, "%generate --image a.jpg -n 5 --ignore-eos what?")
    assert picture.size == (512, 288)
    for word in ("a.jpg: 4 tokens", "read ", "resize ", "image encoder ", "merge ", "projection ", "minigpt4"):
        assert word in line, line
    assert "not encoded again" not in line
    (line,) = ok(seeing, "%image a.jpg\n%generate -n 5 --ignore-eos and now?")[2:]
    assert "a.jpg: 4 tokens · known already, not encoded again" in line, line
    (line,) = ok(seeing, "a prompt without a magic")
    assert "a.jpg: 4 tokens" in line, line


def test_a_picture_changes_what_is_written(seeing):
    texts = set()
    for picture in ("a.jpg", "b.png", "a.jpg"):
        _, out = seeing.run(f"%generate --image {picture} --greedy -n 24 --ignore-eos what?")
        texts.add(text(out))
    assert len(texts) == 2, texts


def test_a_conversation_keeps_its_pictures(seeing):
    ok(seeing, "%chat --image a.jpg -n 4 --ignore-eos what?")
    (line,) = ok(seeing, "%chat -n 4 --ignore-eos more")
    assert "a.jpg: 4 tokens · known already" in line, line
    line = ok(seeing, "%chat --image b.png -n 4 --ignore-eos and this?")[-1]
    assert "a.jpg, b.png: 8 tokens · 1 of 2 encoded" in line, line
    (page,) = ok(seeing, "%chat")
    assert "user, about a.jpg: what?" in page and "user, about b.png: and this?" in page


def test_a_conversation_holds_as_many_as_were_reserved(seeing, folder):
    for i in range(5):
        (folder / f"{i}.png").write_bytes(photo(32, 32, "PNG", 50 * i))
    line = slip(seeing, "%chat what are" + "".join(f" --image {i}.png" for i in range(5)))
    assert "4" in line and "--max-images" in line, line
    ok(seeing, "%load --max-images 5")
    assert "5 pictures: 20 tokens" in ok(seeing, "%chat -n 2 what are" + "".join(f" --image {i}.png" for i in range(5)))[-1]


def test_what_the_model_sees_and_where_it_looks(seeing):
    out = ok(seeing, "%generate --image a.jpg --show input,attention --greedy -n 6 --ignore-eos what?")
    picture, seen, said = out[:3]
    assert seen.size == (56, 56) and "what the model sees: 56 x 56" in said, said
    encoder, where, answer, share = out[3:7]
    assert encoder.height == answer.height == 288 and encoder.width > 512  # with the bar of its colours
    assert "where the image encoder looked" in where and "4 x 4 fields" in where
    assert "of its attention went to this picture" in share
    assert len(set(encoder.convert("L").crop((0, 0, 512, 288)).tobytes())) > 30


def test_a_picture_through_a_qformer(client, folder):
    q, queries, ffn = 64, 5, 96
    norm = lambda name, n: {f"{name}.weight": [n], f"{name}.bias": [n]}  # noqa: E731
    linear = lambda name, out, into: {f"{name}.weight": [out, into], f"{name}.bias": [out]}  # noqa: E731
    shapes = {"query_tokens": [1, queries, q], **norm("ln_vision", HIDDEN), **norm("Qformer.bert.embeddings.LayerNorm", q)}
    for i in range(2):
        parts = linear("intermediate_query.dense", ffn, q) | linear("output_query.dense", q, ffn) | norm("output_query.LayerNorm", q)
        for kind, into in (("attention", q), ("crossattention", HIDDEN))[:2 - i]:
            parts |= linear(f"{kind}.self.query", q, q) | linear(f"{kind}.self.key", q, into) | linear(f"{kind}.self.value", q, into)
            parts |= linear(f"{kind}.output.dense", q, q) | norm(f"{kind}.output.LayerNorm", q)
        shapes |= {f"Qformer.bert.encoder.layer.{i}.{name}": shape for name, shape in parts.items()}
    write_safetensors(folder / "q.safetensors", made_up(shapes))
    write_safetensors(folder / "p.safetensors", made_up({"llama_proj.weight": [OUT, q], "llama_proj.bias": [OUT]}, 0.5))
    ok(client, f"%cd {folder}")
    line = ok(client, "%load minigpt4-vicuna-7b --vit vit.safetensors --qformer q.safetensors --projector p.safetensors --llm llm")[-1]
    assert "5 tokens a picture" in line, line
    line = ok(client, "%generate --image a.jpg -n 5 --ignore-eos what?")[-1]
    assert "a.jpg: 5 tokens" in line and "Q-Former " in line and "merge" not in line and "minigpt4-vicuna0" in line, line


def test_a_text_model_says_that_it_does_not_see(client, folder):
    ok(client, f"%cd {folder}")
    ok(client, f"%load {LLM}")
    line = slip(client, "%generate --image a.jpg what?")
    assert "text" in line, line
    (line,) = ok(client, "%image a.jpg\n%generate -n 4 --ignore-eos what?")[2:]
    assert "! a.jpg is not shown to llama-gqa: it reads text only" in line, line


def test_the_image_path_is_profiled_and_planned(seeing):
    (page,) = ok(seeing, "%profile --stage vision --runs 2")
    assert "image: a picture in" in page and "images/s" in page and "prefill:" not in page, page
    (page,) = ok(seeing, "%profile -p 16 -n 4 --runs 1")
    assert all(w in page for w in ("image: a picture in", "prefill: 16 tokens", "decode: ")), page
    (page,) = ok(seeing, "%ps")
    assert "sees: " in page
    (page,) = ok(seeing, "%fit minigpt4-7b --machine this --dtype int8")
    assert "the image path" in page and "a picture takes 64 tokens of the context" in page, page
