"""notebooks/minigpt4.ipynb as a user sees it in JupyterLab, with the tests' tiny MiniGPT-4: its pictures are decoded and shown."""
import json
import pathlib
import shutil

import pytest
from devtools import Browser, find
from lab import Lab, Notebook
from test_korean_lab import WIDTH, whole
from test_lab import CONTRAST, PICTURES, theme

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "golden" / "minigpt4" / "llama2"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    if find() is None:
        pytest.skip("no chromium here")
    PICTURES.mkdir(exist_ok=True)
    lab = Lab(tmp_path_factory.mktemp("lab"))
    source = json.loads((ROOT / "notebooks" / "minigpt4.ipynb").read_text())
    for cell in source["cells"]:
        cell["source"] = "".join(cell["source"]).replace('"minigpt4-7b"', f'"{TINY}"').replace('dtype = "int4"', 'dtype = "auto"')
    small = tmp_path_factory.mktemp("source") / "minigpt4.ipynb"
    small.write_text(json.dumps(source))
    shutil.copy(ROOT / "notebooks" / "picture.jpg", lab.folder)
    browser = None
    try:
        browser = Browser(WIDTH, 900)
        yield Notebook(lab, browser, small)
    finally:
        if browser:
            browser.close()
        lab.close()


@pytest.mark.timeout(300)
def test_pictures_are_shown_under_their_cells(notebook):
    outputs = notebook.run_all(240)
    assert "error" not in {o["output_type"] for cell in outputs for o in cell}, outputs
    for name in ("Light", "Dark"):
        theme(notebook, f"JupyterLab {name}")
        whole(notebook, f"minigpt4-{name.lower()}")
        ratio, text = notebook.browser.js(CONTRAST)
        assert ratio >= 4.5, f"contrast {ratio:.1f} of '{text}'"
    images = notebook.browser.js("[...document.querySelectorAll('.jp-OutputArea img')].map(i => "
                                 "[i.complete && i.naturalWidth, i.width, i.height, i.closest('.jp-OutputArea-output').clientWidth])")
    assert len(images) >= 5, images
    for natural, width, height, room in images:
        assert natural > 0 and 0 < width <= room and height > 0, images
    assert [i[1:3] for i in images[:1]] == [[512, 341]], images
