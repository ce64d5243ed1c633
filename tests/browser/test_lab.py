"""What a user sees in JupyterLab, in a headless Chromium. The pictures stay in tests/output.

The tests share one notebook and go through it from top to bottom, as a user would."""
import json
import time

import pytest
from devtools import SHIFT
from lab import opened

LOAD, STREAM, LONG, AFTER, PROFILE, COMPLETE, HELP, KOREAN = range(8)
CELLS = [
    "%load smollm2-135m",
    "%%generate -n 160 --temperature 0 --ignore-eos\nOnce upon a time, in a small village by the sea,",
    "%%generate -n 4000 --temperature 0 --ignore-eos\nCount from one to a thousand:",
    "!echo the kernel is still here",
    "%profile --prompt-tokens 64 --top 6",
    "%l",
    "%generate",
    "%%generate -n 24 --temperature 0 --template chatml\n### 질문: 딥러닝이 뭐야?\n\n### 답변:",
]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    with opened(tmp_path_factory, CELLS) as notebook:
        yield notebook


def seen_and_prompt(notebook, number):
    """Text and prompt of one moment: both in one expression."""
    return notebook.browser.js(f"[{notebook.cell(number, '.jp-OutputArea')}?.innerText || '',"
                               f" {notebook.cell(number, '.jp-InputPrompt')}.innerText.trim()]")


def wait_for_text(notebook, number, length, seconds=60):
    return notebook.browser.wait(lambda: (lambda s: s if len(s[0]) >= length else None)(seen_and_prompt(notebook, number)),
                                 f"text under cell {number}", seconds)


def streamed(notebook, number, length):
    """What was generated so far, without the bar with its Stop button above it, and the prompt; None: too little yet."""
    seen, prompt = seen_and_prompt(notebook, number)
    bar, end, written = seen.rpartition("tok\n")
    return (written.rstrip(), prompt) if end and len(written.rstrip()) >= length else None


def test_a_load_ends_as_one_sentence(notebook):
    text = notebook.run(LOAD, 120)
    for word in ("SmolLM2", "iB/s", "135 M", "predicted", "measured"):
        assert word in text, f"{word} is not in: {text}"
    outputs = notebook.browser.js(f"{notebook.cell(LOAD)}.querySelectorAll('.jp-OutputArea-output').length")
    assert outputs == 1, f"{outputs} displays where one is updated in place: {text}"


def test_streamed_text_is_visible_before_the_cell_ends(notebook):
    notebook.start(STREAM)
    written, prompt = notebook.browser.wait(lambda: streamed(notebook, STREAM, 25), "streamed text", 60)
    notebook.picture("streaming")
    assert prompt.startswith("[*]"), f"the text came only with the end: {prompt} {written}"
    notebook.finished(STREAM, 120)
    text = notebook.text(STREAM)
    assert len(text) > len(written) and text.startswith(written[:25]), text
    for word in ("160", "TTFT", "TPOT", "tok/s", "chars/s"):
        assert word in text, f"{word} is not in: {text[-300:]}"


def test_a_completion_while_generating_leaves_the_server_busy(notebook):
    notebook.start(LONG)
    wait_for_text(notebook, LONG, 30)
    start = time.monotonic()
    reply = notebook.browser.js("jupyterapp.shell.currentWidget.sessionContext.session.kernel"
                                ".requestComplete({code: '%l', cursor_pos: 2}).then(r => r.content)")
    took = time.monotonic() - start
    assert any("load" in m for m in reply["matches"]), reply
    assert took < 5, f"the completion waited {took:.1f} s for the generation"
    states = []
    for _ in range(10):
        states.append(notebook.lab.execution_state())
        time.sleep(0.1)
    assert notebook.running(LONG), "the generation was over too early to say anything"
    assert set(states) == {"busy"}, f"the server believes that the kernel rests: {states}"


def test_the_stop_button_ends_a_generation_and_the_next_cell_runs(notebook):
    assert notebook.running(LONG)
    start = time.monotonic()
    notebook.browser.click("document.querySelector('.jp-NotebookPanel-toolbar [data-jp-item-name=interrupt] button,"
                           " .jp-NotebookPanel-toolbar [data-jp-item-name=interrupt] jp-button')")
    notebook.finished(LONG, 30)
    assert time.monotonic() - start < 15
    assert "interrupted" in notebook.text(LONG).lower(), notebook.text(LONG)[-300:]
    assert "the kernel is still here" in notebook.run(AFTER, 30)
    # The weights stayed: a generation starts without a load.
    assert "tok/s" in notebook.run(KOREAN, 60)


def test_no_syllable_is_broken(notebook):
    text = notebook.text(KOREAN)
    assert "딥러닝" in text and "\ufffd" not in text, text


def test_the_profile_is_a_table(notebook):
    notebook.run(PROFILE, 180)
    tables = notebook.browser.js(f"[...{notebook.cell(PROFILE)}.querySelectorAll('.jp-RenderedHTMLCommon table')].map(t => ("
                                 "{head: [...t.querySelectorAll('th')].map(e => e.innerText), rows: t.rows.length}))")
    assert tables and tables[0]["rows"] >= 4, notebook.html(PROFILE)[:2000]
    head = " ".join(tables[0]["head"])
    for word in ("ms", "GB/s"):
        assert word in head, head
    text = notebook.text(PROFILE).lower()
    assert "prefill" in text and "decode" in text
    notebook.browser.js(f"{notebook.cell(PROFILE)}.scrollIntoView()")
    notebook.picture("profile")


def test_tab_shows_what_can_follow(notebook):
    notebook.select(COMPLETE)
    notebook.browser.key("Tab")
    text = notebook.browser.wait("document.querySelector('.jp-Completer:not(.lm-mod-hidden)')?.innerText", "completions")
    notebook.picture("completion")
    for name in ("load", "lsmagic", "log"):
        assert name in text, text
    notebook.browser.key("Escape")


def test_shift_tab_shows_help(notebook):
    notebook.select(HELP)
    notebook.browser.key("Tab", SHIFT)
    text = notebook.browser.wait("document.querySelector('.jp-Tooltip')?.innerText", "the tooltip")
    notebook.picture("help")
    assert "--max-new-tokens" in text, text
    notebook.browser.key("Escape")


@pytest.mark.parametrize("name", ["JupyterLab Light", "JupyterLab Dark"])
def test_results_are_readable_in_both_themes(notebook, name):
    notebook.theme(name)
    ratio, text = notebook.contrast()
    for number, what in ((LOAD, "top"), (PROFILE, "profile")):
        notebook.browser.js(f"{notebook.cell(number)}.scrollIntoView()")
        time.sleep(0.3)
        notebook.picture(f"{what}-{name.split()[1].lower()}")
    assert ratio >= 4.5, f"contrast {ratio:.1f} of '{text}'"


def test_the_saved_notebook_keeps_three_forms_of_each_table(notebook):
    notebook.browser.js("jupyterapp.commands.execute('docmanager:save')")
    path = notebook.lab.folder / "first-light.ipynb"
    notebook.browser.wait(lambda: json.loads(path.read_text())["cells"][PROFILE]["outputs"], "the notebook on disk")
    bundles = [o["data"] for o in json.loads(path.read_text())["cells"][PROFILE]["outputs"] if "data" in o]
    assert any({"text/html", "text/markdown", "text/plain"} <= set(b) for b in bundles), [list(b) for b in bundles]
