"""What survives what, as a user of JupyterLab sees it: a page that is loaded anew while text streams, a kernel that is
restarted, a Stop button. The pictures stay in tests/output."""
import re
import time

import pytest
from lab import opened

LOAD, STREAM, ATTACH, AGAIN, LONG, AFTER = range(6)
CELLS = [
    "%load smollm2-135m",
    "%%generate -n 1600 --temperature 0 --ignore-eos\nOnce upon a time, in a small village by the sea,",
    "%attach",
    "%load smollm2-135m",
    "%%generate -n 4000 --temperature 0 --ignore-eos\nCount from one to a thousand:",
    "%ps",
]
KERNEL = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
STOP = "[...document.querySelectorAll('.jp-OutputArea button')].find(b => b.innerText.trim() === 'Stop')"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    with opened(tmp_path_factory, CELLS, name="survive.ipynb") as notebook:
        yield notebook


def grows(notebook, number, beyond=0, seconds=60):
    return notebook.browser.wait(lambda: (lambda s: s if len(s) > beyond else None)(notebook.text(number)),
                                 f"text under cell {number}", seconds)


def test_a_page_that_is_loaded_anew_sees_busy_and_attaches(notebook):
    browser = notebook.browser
    notebook.run(LOAD, 120)
    notebook.start(STREAM)
    grows(notebook, STREAM, 80)
    browser.js("(jupyterapp.commands.execute('docmanager:save'), true)")
    time.sleep(1)
    browser.open(notebook.lab.url("survive.ipynb"))
    browser.wait(f"document.querySelectorAll('{notebook.CELL} .cm-content').length >= 3", "the notebook's cells", 90)
    browser.wait(f"{KERNEL}?.status === 'busy'", "the kernel to be seen busy", 30)
    notebook.start(ATTACH)
    first = grows(notebook, ATTACH, 40)
    assert notebook.running(ATTACH)
    more = grows(notebook, ATTACH, len(first) + 40)
    notebook.picture("attached")
    assert more.startswith(first[:30])
    notebook.finished(ATTACH, 120)
    text = notebook.text(ATTACH)
    assert "1,600 new" in text and "was done after" in text, text[-400:]


def test_after_a_restart_the_model_is_there_at_once(notebook):
    browser = notebook.browser
    browser.js(f"({KERNEL}.restart(), true)")
    browser.wait(f"{KERNEL}?.status === 'idle'", "the restarted kernel", 60)
    begun = time.monotonic()
    text = notebook.run(AGAIN, 30)
    took = time.monotonic() - begun
    found = re.search(r"loaded already, ready after ([\d.]+) (ms|s)", text)
    assert found, text
    assert float(found[1]) * (1 if found[2] == "s" else 1e-3) < 1, f"{text} (by the wall {took:.1f} s)"


def test_the_stop_button_stops(notebook):
    browser = notebook.browser
    notebook.start(LONG)
    browser.wait(f"!!{STOP}", "a Stop button", 30)
    grows(notebook, LONG, 80)
    notebook.picture("stop-button")
    browser.click(STOP)
    notebook.finished(LONG, 30)
    text = notebook.text(LONG)
    assert "interrupted after" in text and "KeyboardInterrupt" in text, text[-400:]
    assert browser.js(f"!{STOP}"), "the button stays when there is nothing to stop"
    assert "smollm2-135m" in notebook.run(AFTER)
