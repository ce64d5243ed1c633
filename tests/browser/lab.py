"""A JupyterLab of the test's own, and what a user does in it."""
import json
import os
import pathlib
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from devtools import CTRL


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
