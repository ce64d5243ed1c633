"""A JupyterLab of the test's own, and what a user does in it."""
import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from devtools import CTRL, Browser, find

PICTURES = pathlib.Path(__file__).resolve().parents[1] / "output"
WIDTH = 1180  # of a page that is read as a whole
# The lowest contrast of any text in a cell's output against what is painted behind it (WCAG 2: 4.5 is readable).
CONTRAST = """(() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = c => { const [r, g, b] = c.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                       return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
                        if (c.length && (c.length < 4 || c[3] > .5)) return c.slice(0, 3); } return [255, 255, 255]; };
  let worst = [99, ''];
  for (const e of document.querySelectorAll('.jp-OutputArea *')) {
    const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join('').trim();
    if (!text || !e.getClientRects().length || e.closest('.jp-OutputPrompt')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color).slice(0, 3)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < worst[0]) worst = [ratio, text.slice(0, 60)];
  }
  return worst; })()"""


class Lab:
    """The server: started on a free port, with a token, in a folder of the test's."""

    def __init__(self, folder):
        self.folder, self.token = pathlib.Path(folder) / "notebooks", secrets.token_hex(16)
        self.folder.mkdir()
        self.log_file = pathlib.Path(folder) / "lab.log"
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = open(self.log_file, "w")
        options = ["--no-browser", "--expose-app-in-browser", "--ip=127.0.0.1", f"--port={self.port}", "--ServerApp.port_retries=0",
                   f"--ServerApp.root_dir={self.folder}"] + (["--allow-root"] if os.geteuid() == 0 else [])
        self.process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], stdout=self.log, stderr=self.log,
                                        env={**os.environ, "JUPYTER_TOKEN": self.token})
        deadline = time.monotonic() + 60
        while True:
            try:
                self.get("/api/status")
                break
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None and time.monotonic() < deadline, self.log_file.read_text()
                time.sleep(0.2)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def get(self, path):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}",
                                         headers={"Authorization": f"token {self.token}"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return json.load(answer)

    def url(self, name):
        return f"http://127.0.0.1:{self.port}/lab/tree/{name}?reset&token={self.token}"

    def execution_state(self):
        return self.get("/api/kernels")[0]["execution_state"]


class Notebook:
    """One notebook, open in the browser."""

    CELL = ".jp-Notebook .jp-Cell"

    def __init__(self, lab, browser, cells, name="first-light.ipynb", kernel="jaeda"):
        """cells: the sources of code cells, or the path of a notebook."""
        if isinstance(cells, pathlib.Path):
            name, content = cells.name, json.loads(cells.read_text())
        else:
            content = {"cells": [{"cell_type": "code", "execution_count": None, "id": f"cell-{i}", "metadata": {},
                                  "outputs": [], "source": source} for i, source in enumerate(cells)],
                       "metadata": {"kernelspec": {"name": kernel, "display_name": "Jaeda", "language": "jaeda"}},
                       "nbformat": 4, "nbformat_minor": 5}
        self.browser, self.lab, self.cells = browser, lab, len(content["cells"])
        (lab.folder / name).write_text(json.dumps(content))
        browser.open(lab.url(name))
        browser.wait(f"document.querySelectorAll('{self.CELL} .cm-content').length >= {min(self.cells, 3)}",
                     "the notebook's cells", 90)
        # The page has its own idea of the kernel before there is one: ask the session itself.
        browser.wait("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
                     "the kernel", 60)

    def cell(self, number, inside=""):
        """JavaScript for the cell's element, or for what is inside it."""
        return f"document.querySelectorAll('{self.CELL}')[{number}]" + (f"?.querySelector('{inside}')" if inside else "")

    def text(self, number):
        return self.browser.js(f"{self.cell(number, '.jp-OutputArea')}?.innerText || ''")

    def html(self, number):
        return self.browser.js(f"{self.cell(number, '.jp-OutputArea')}?.innerHTML || ''")

    def prompt(self, number):
        return self.browser.js(f"{self.cell(number, '.jp-InputPrompt')}?.innerText || ''").strip()

    def select(self, number):
        """The cursor stands at the end of the cell's text."""
        self.browser.click(self.cell(number, ".cm-content"))
        self.browser.wait(f"{self.cell(number)}.contains(document.activeElement)", f"cell {number} to take the cursor")
        self.browser.key("End", CTRL)

    def start(self, number):
        self.select(number)
        before = self.prompt(number)
        self.browser.key("Enter", CTRL)  # run, and stay on the cell
        self.browser.wait(lambda: self.prompt(number) != before, f"cell {number} to start")

    def finished(self, number, seconds=60):
        self.browser.wait(lambda: re.fullmatch(r"\[\d+\]:?", self.prompt(number)), f"cell {number} to end", seconds)

    def run(self, number, seconds=60):
        self.start(number)
        self.finished(number, seconds)
        return self.text(number)

    def run_all(self, seconds):
        """Every cell, from top to bottom; returns what the page's own model holds of the code cells' outputs."""
        self.browser.js("(jupyterapp.commands.execute('notebook:run-all-cells'), true)")  # not waited for: it takes minutes
        code = "jupyterapp.shell.currentWidget.content.widgets.filter(w => w.model.type === 'code')"
        self.browser.wait(f"{code}.every(w => w.model.executionCount)", "all cells to end", seconds)
        return self.browser.js(f"{code}.map(w => w.model.outputs.toJSON())")

    def running(self, number):
        return self.prompt(number).startswith("[*]")

    def theme(self, name):
        self.browser.js(f"jupyterapp.commands.execute('apputils:change-theme', {{theme: '{name}'}})")
        light = "false" if "Dark" in name else "true"
        self.browser.wait(f"document.body.dataset.jpThemeLight === '{light}'", f"the theme {name}")
        time.sleep(0.5)  # the style sheet follows the attribute

    def contrast(self):
        return self.browser.js(CONTRAST)

    def picture(self, name):
        self.browser.screenshot(PICTURES / f"{name}.png")

    def picture_of_all(self, name):
        """Of all cells: the page is made as high as they are."""
        height = self.browser.js("[...document.querySelectorAll('.jp-Notebook .jp-Cell')]"
                                 ".reduce((sum, e) => sum + e.getBoundingClientRect().height, 0)")
        self.browser.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=int(height) + 300, deviceScaleFactor=1,
                          mobile=False)
        self.browser.js("(jupyterapp.shell.collapseLeft(), document.querySelector('.jp-WindowedPanel-outer').scrollTo(0, 0))")
        time.sleep(1.5)  # the page lays out anew
        self.picture(name)


@contextlib.contextmanager
def opened(tmp_path_factory, cells, width=1280, beside=(), **options):
    """A notebook in a JupyterLab and a browser of its own; beside: files that its cells name."""
    if find() is None:
        pytest.skip("no chromium here")
    PICTURES.mkdir(exist_ok=True)
    lab = Lab(tmp_path_factory.mktemp("lab"))
    browser = None
    try:
        for file in beside:
            shutil.copy(file, lab.folder)
        browser = Browser(width, 900)
        yield Notebook(lab, browser, cells, **options)
    except Exception:
        if browser:
            browser.screenshot(PICTURES / "failure.png")
        print(lab.log_file.read_text()[-4000:])
        raise
    finally:
        if browser:
            browser.close()
        lab.close()
