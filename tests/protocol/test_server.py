"""Behind a real jupyter_server: what its REST API tells about the kernel."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from kernel import Client, Connection, free_ports, wait_until


class Server:
    def __init__(self, directory):
        self.token, self.port = "for-this-test", free_ports(1)[0]
        self.log = open(directory / "server.log", "wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={self.port}", "--ip=127.0.0.1",
             f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={directory}"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
        )

    def __call__(self, method, path, body=None):
        r = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/{path}", method=method,
                                   headers={"Authorization": f"token {self.token}"},
                                   data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(r, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def up(self):
        try:
            return self("GET", "status")
        except OSError:
            return None

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


@pytest.fixture
def server(tmp_path):
    pytest.importorskip("jupyter_server")
    s = Server(tmp_path)
    try:
        assert wait_until(s.up), (tmp_path / "server.log").read_text()
        yield s
    finally:
        s.kill()


def client_of(kernel_id):
    return Client(Connection(os.path.join(os.environ["JUPYTER_RUNTIME_DIR"], f"kernel-{kernel_id}.json")))


def test_the_server_sees_a_working_kernel_as_busy(server):
    """A completion, an inspection, a history answered while a cell runs must not make it look idle: idle kernels are
    culled, and idle machines are stopped."""
    kernel = server("POST", "kernels", {"name": "jaeda"})["id"]
    state = lambda: server("GET", f"kernels/{kernel}")["execution_state"]  # noqa: E731
    client = client_of(kernel)
    try:
        # The server takes no state from answers to kernel_info_request, and it may subscribe after this client's first cell.
        assert wait_until(lambda: client.reply(client.execute("")) and state() == "idle")
        running = client.execute("!sleep 120")
        client.started(running)
        assert wait_until(lambda: state() == "busy")
        for kind, content in (("complete_request", {"code": "%gen", "cursor_pos": 4}),
                              ("inspect_request", {"code": "%generate", "cursor_pos": 4}),
                              ("history_request", {"hist_access_type": "tail", "n": 1})):
            asked = client.send(kind, content)
            client.reply(asked)
            client.outputs(asked)
            client.until(lambda m: m.state == "busy" and m.parent_id == running)
            # Between the answer's idle and the busy behind it the server may be asked once; it must end in busy.
            assert wait_until(lambda: all(state() == "busy" for _ in range(10))), kind
        server("POST", f"kernels/{kernel}/interrupt")
        assert client.reply(running).content["ename"] == "KeyboardInterrupt"
        assert wait_until(lambda: state() == "idle")
        before = client.welcome.header["session"]
        server("POST", f"kernels/{kernel}/restart")
        assert client.ask("kernel_info_request").header["session"] != before
    finally:
        client.close()
    server("DELETE", f"kernels/{kernel}")


def test_the_kernel_goes_when_the_server_is_killed(server):
    kernel = server("POST", "kernels", {"name": "jaeda"})["id"]
    client = client_of(kernel)
    try:
        pid = client.ask("usage_request", channel="control").content["pid"]
    finally:
        client.close()
    server.kill()

    def gone():
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    assert wait_until(gone)
