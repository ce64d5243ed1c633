"""notebooks/korean.ipynb as a user sees it in JupyterLab, from top to bottom in one picture for each theme."""
import pathlib

import pytest
from lab import WIDTH, opened

KOREAN = pathlib.Path(__file__).resolve().parents[2] / "notebooks" / "korean.ipynb"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    with opened(tmp_path_factory, KOREAN, width=WIDTH) as notebook:
        yield notebook


@pytest.mark.timeout(420)
def test_the_korean_notebook_runs_and_can_be_read(notebook):
    outputs = notebook.run_all(360)  # a minute on two idle cores
    assert "error" not in {o["output_type"] for cell in outputs for o in cell}, outputs
    for name in ("Light", "Dark"):
        notebook.theme(f"JupyterLab {name}")
        notebook.picture_of_all(f"korean-{name.lower()}")
        ratio, text = notebook.contrast()
        assert ratio >= 4.5, f"contrast {ratio:.1f} of '{text}'"
    tables = notebook.browser.js("[...document.querySelectorAll('.jp-RenderedHTMLCommon table')]"
                                 ".map(t => [t.scrollWidth, t.closest('.jp-OutputArea-output').clientWidth])")
    assert len(tables) >= 7 and all(w <= room for w, room in tables), tables  # none needs to be scrolled sideways
