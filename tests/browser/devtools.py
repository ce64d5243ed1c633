"""A headless Chromium, driven over its DevTools protocol: no driver program and no package beside websocket-client,
which JupyterLab brings along."""
import base64
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

import websocket

KEYS = {  # key -> (code, virtual key, text)
    "Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, ""), "End": ("End", 35, ""),
}
CTRL, SHIFT = 2, 8


def find():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page. Every wait is bounded and says what it waited for."""

    def __init__(self, width=1280, height=900):
        self.profile = tempfile.mkdtemp(prefix="jaeda-browser-")
        options = ["--headless=new", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars",
                   "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
                   "--remote-allow-origins=*", f"--user-data-dir={self.profile}", f"--window-size={width},{height}"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")  # Chromium refuses to run its sandbox as root
        self.log = open(os.path.join(self.profile, "log"), "w")
        self.process = subprocess.Popen([find(), *options, "about:blank"], stdout=self.log, stderr=self.log)
        self.calls = 0
        port_file = pathlib.Path(self.profile, "DevToolsActivePort")
        self.wait(lambda: port_file.exists() and port_file.read_text().count("\n") >= 1, "Chromium's start", 60)
        port = port_file.read_text().split("\n")[0]
        # No proxy of the environment may stand between the test and this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            page = next(t for t in json.load(answer) if t["type"] == "page")
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60, http_no_proxy=["127.0.0.1"])
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, **params):
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "Page.javascriptDialogOpening":  # "leave this page?" and nothing else goes on
                self.socket.send(json.dumps({"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}))
            if message.get("id") == self.calls:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def js(self, expression):
        """The value of a JavaScript expression; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression[:200]}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def open(self, url):
        self.call("Page.navigate", url=url)

    def wait(self, condition, what, seconds=30):
        """Until condition() or a JavaScript expression is truthy; its value."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.js(condition) if isinstance(condition, str) else condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.05)

    def key(self, key, modifiers=0):
        code, number, text = KEYS[key]
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        writes = {"text": text} if text and not modifiers else {}
        self.call("Input.dispatchKeyEvent", type="keyDown" if writes else "rawKeyDown", **common, **writes)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def click(self, element):
        """In the middle of what a JavaScript expression names."""
        box = self.js(f"(() => {{ const e = {element}; if (!e) return null; e.scrollIntoView({{block: 'center'}});"
                      "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()")
        assert box, f"nothing to click: {element}"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))
