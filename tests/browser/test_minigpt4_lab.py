"""notebooks/minigpt4.ipynb as a user sees it in JupyterLab, with the tests' tiny MiniGPT-4: its pictures are decoded and shown."""
import json
import pathlib

import pytest
from lab import WIDTH, opened

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "golden" / "minigpt4" / "llama2"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    source = json.loads((ROOT / "notebooks" / "minigpt4.ipynb").read_text())
    for cell in source["cells"]:
        cell["source"] = "".join(cell["source"]).replace('"minigpt4-7b"', f'"{TINY}"').replace('dtype = "int4"', 'dtype = "auto"')
    small = tmp_path_factory.mktemp("source") / "minigpt4.ipynb"
    small.write_text(json.dumps(source))
    with opened(tmp_path_factory, small, width=WIDTH, beside=[ROOT / "notebooks" / "picture.jpg"]) as notebook:
        yield notebook


@pytest.mark.timeout(300)
def test_pictures_are_shown_under_their_cells(notebook):
    outputs = notebook.run_all(240)
    assert "error" not in {o["output_type"] for cell in outputs for o in cell}, outputs
    for name in ("Light", "Dark"):
        notebook.theme(f"JupyterLab {name}")
        notebook.picture_of_all(f"minigpt4-{name.lower()}")
        ratio, text = notebook.contrast()
        assert ratio >= 4.5, f"contrast {ratio:.1f} of '{text}'"
    images = notebook.browser.js("[...document.querySelectorAll('.jp-OutputArea img')].map(i => "
                                 "[i.complete && i.naturalWidth, i.width, i.height, i.closest('.jp-OutputArea-output').clientWidth])")
    assert len(images) >= 5, images
    for natural, width, height, room in images:
        assert natural > 0 and 0 < width <= room and height > 0, images
    assert [i[1:3] for i in images[:1]] == [[512, 341]], images
