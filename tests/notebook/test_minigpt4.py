"""notebooks/minigpt4.ipynb from top to bottom, and the other two kinds at their true shapes with random weights."""
import base64
import io
import pathlib
import shutil
import subprocess
import sys

import nbformat
import pytest
from PIL import Image
from test_korean import NOTICE, cells, free_gib, shown

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "minigpt4.ipynb"
PICTURE = ROOT / "notebooks" / "picture.jpg"

pytestmark = [pytest.mark.timeout(900),  # two to three minutes on two idle cores
              pytest.mark.skipif(free_gib() < 9, reason="a MiniGPT-4 of int4 weights takes 6 GiB, here is less")]


def execute(folder, notebook):
    nbformat.write(notebook, folder / "it.ipynb")
    shutil.copy(PICTURE, folder)
    done = subprocess.run([sys.executable, ROOT / "notebooks" / "execute.py", folder / "it.ipynb"], capture_output=True,
                          text=True, timeout=880)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return nbformat.read(folder / "it.executed.ipynb", as_version=4)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    return execute(tmp_path_factory.mktemp("minigpt4"), nbformat.read(NOTEBOOK, as_version=4))


def pictures(cell):
    found = []
    for o in cell.outputs:
        for kind in ("image/png", "image/jpeg"):
            if kind in o.get("data", {}):
                found.append(Image.open(io.BytesIO(base64.b64decode(o.data[kind]))))
                assert o.metadata[kind]["width"] <= found[-1].width and o.metadata[kind]["height"] <= found[-1].height
        assert "image/svg+xml" not in o.get("data", {})  # which GitHub does not show
    return found


def test_every_cell_shows_something(seen):
    code = [c for c in seen.cells if c.cell_type == "code"]
    assert not [c.source for c in code if not c.outputs and not c.source.startswith("# Parameters")]
    assert "error" not in {o.output_type for c in code for o in c.outputs}


def test_fit_counts_the_image_path(seen):
    text = shown(cells(seen, "%fit")[0]).replace("\n", " ")
    for word in ("7.75 B parameters", "EVA ViT", "224 px", "1.88 GiB of the weights", "64 tokens", "g5.2xlarge", "g5.12xlarge"):
        assert word in text, text
    rows = {tuple(line.split()[:2]): float(line.split()[2]) for line in shown(cells(seen, "%fit")[0]).splitlines()
            if line.startswith("g5.2xlarge ")}
    # 6,738,415,616 weights of Llama-2-7b, 985,894,528 of EVA ViT-g's 39 blocks, 23,072,768 of the projection; two bytes each
    assert abs(rows["g5.2xlarge", "fp16"] - 2 * (6738415616 + 985894528 + 23072768) / 2**30) < 0.06, rows


def test_load_tells_what_sees(seen):
    text = shown(cells(seen, "%load")[0]).replace("\n", " ")
    assert "64 tokens a picture" in text and "minigpt4-7b is ready" in text, text
    if "filled with random numbers" in text:
        assert "eva_vit_g.pth" in text and "--vit PATH" in text, text  # what would get the weights


def test_the_picture_is_shown_and_survives(seen):
    picture, = pictures(cells(seen, "%image")[0])
    assert picture.size == (512, 341) and picture.format == "JPEG"
    assert "960 x 640" in shown(cells(seen, "%image")[0])


def test_the_second_question_encodes_nothing(seen):
    first, second = (shown(c).replace("\n", " ") for c in cells(seen, "%%chat"))
    assert "image encoder" in first and "projection" in first and "resize" in first, first
    assert "known already, not encoded again" in second and "cached)" in second, second
    for text in (first, second):
        assert "template: minigpt4-llama2" in text and "T=1 top_k=50 top_p=0.9 repetition_penalty=1.05" in text, text


def test_what_the_model_sees_is_laid_over_the_picture(seen):
    cell = cells(seen, "%%generate")[0]
    found = pictures(cell)
    assert [p.size for p in found][:2] == [(512, 341), (224, 224)], [p.size for p in found]
    assert all(p.size[1] == 341 and p.size[0] >= 512 for p in found[2:]) and len(found) == 4
    text = shown(cell).replace("\n", " ")
    for word in ("224 x 224", "where the image encoder looked", "where the answer looked", "16 x 16"):
        assert word in text, text


def test_the_stages_are_measured_apart(seen):
    vision, whole = (shown(c).replace("\n", " ") for c in cells(seen, "%profile"))
    assert "image: a picture in" in vision and "mlp.down" in vision and "prefill:" not in vision, vision
    for word in ("image: a picture in", "prefill: 128 tokens", "decode: a token"):
        assert word in whole, whole


def test_random_weights_are_named_in_every_result(seen):
    if "filled with random numbers" not in shown(cells(seen, "%load")[0]):
        pytest.skip("this machine has the weights")
    for start in ("%load", "%%chat", "%%generate", "%profile"):
        for cell in cells(seen, start):
            assert NOTICE in shown(cell).replace("\n", " "), cell.source


@pytest.mark.parametrize("model, tokens, px", [("minigpt-v2", 256, 448), ("minigpt4-vicuna-7b", 32, 224)])
def test_its_siblings_run_at_their_true_shape(tmp_path, model, tokens, px):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in (
        f"%load {model} --dtype int4 -c 768 --load-format dummy",
        "%%generate --image picture.jpg -n 4\nWhat is this?", "%unload")])
    nb.metadata.kernelspec = {"display_name": "Jaeda", "language": "jaeda", "name": "jaeda"}
    done = execute(tmp_path, nb)
    load, answer, _ = (shown(c).replace("\n", " ") for c in done.cells)
    assert f"{tokens} tokens a picture" in load and f"{px} px" in load, load
    assert f"picture.jpg: {tokens} tokens" in answer and "image encoder" in answer and NOTICE in answer, answer
    template = "minigpt-v2" if px == 448 else "minigpt4-vicuna0"
    assert f"template: {template}" in answer, answer


def test_the_outputs_are_not_committed():
    nb = nbformat.read(NOTEBOOK, as_version=4)
    assert not [c.source for c in nb.cells if c.get("outputs") or c.get("execution_count")]
