"""notebooks/korean.ipynb as a user sees it in JupyterLab, from top to bottom in one picture for each theme."""
import pathlib
import time

import pytest
from devtools import Browser, find
from lab import Lab, Notebook
from test_lab import CONTRAST, PICTURES, theme

KOREAN = pathlib.Path(__file__).resolve().parents[2] / "notebooks" / "korean.ipynb"
WIDTH = 1180


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    if find() is None:
        pytest.skip("no chromium here")
    PICTURES.mkdir(exist_ok=True)
    lab = Lab(tmp_path_factory.mktemp("lab"))
    browser = None
    try:
        browser = Browser(WIDTH, 900)
        yield Notebook(lab, browser, KOREAN)
    finally:
        if browser:
            browser.close()
        lab.close()


def whole(notebook, name):
    """A picture of all cells: the page is made as high as they are."""
    height = notebook.browser.js("[...document.querySelectorAll('.jp-Notebook .jp-Cell')]"
                                 ".reduce((sum, e) => sum + e.getBoundingClientRect().height, 0)")
    notebook.browser.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=int(height) + 300, deviceScaleFactor=1,
                          mobile=False)
    notebook.browser.js("(jupyterapp.shell.collapseLeft(), document.querySelector('.jp-WindowedPanel-outer').scrollTo(0, 0))")
    time.sleep(1.5)  # the page lays out anew
    notebook.browser.screenshot(PICTURES / f"{name}.png")


@pytest.mark.timeout(420)
def test_the_korean_notebook_runs_and_can_be_read(notebook):
    outputs = notebook.run_all(360)  # a minute on two idle cores
    assert "error" not in {o["output_type"] for cell in outputs for o in cell}, outputs
    for name in ("Light", "Dark"):
        theme(notebook, f"JupyterLab {name}")
        whole(notebook, f"korean-{name.lower()}")
        ratio, text = notebook.browser.js(CONTRAST)
        assert ratio >= 4.5, f"contrast {ratio:.1f} of '{text}'"
    tables = notebook.browser.js("[...document.querySelectorAll('.jp-RenderedHTMLCommon table')]"
                                 ".map(t => [t.scrollWidth, t.closest('.jp-OutputArea-output').clientWidth])")
    assert len(tables) >= 7 and all(w <= room for w, room in tables), tables  # none needs to be scrolled sideways
