"""Encryption as jupyter_client provides it, from the kernelspec's promise to a restart; and what a kernel refuses."""

import json
import os
import shutil
import subprocess

import jsonschema
import pytest
import zmq
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager
from kernel import LIMIT, executable

INSTALL = os.path.join(os.path.dirname(__file__), "..", "..", "kernelspec", "install")
PUBLIC, SECRET = (k.decode() for k in zmq.curve_keypair())


def features(**env):
    return subprocess.run([executable(), "--features"], capture_output=True, text=True, timeout=LIMIT,
                          env={**os.environ, **env}).stdout.split()


encrypted = pytest.mark.skipif(not zmq.has("curve") or "curve" not in features(), reason="a libzmq has no curve")


@pytest.fixture
def staged(tmp_path):
    """A folder of kernelspecs with the one that kernelspec/install makes."""
    subprocess.run([INSTALL, "--stage", tmp_path / "specs" / "jaeda", executable()], check=True, timeout=LIMIT)
    return tmp_path / "specs"


def test_the_kernelspec_promises_what_the_kernel_can(staged):
    spec = json.loads((staged / "jaeda" / "kernel.json").read_text())
    assert spec["metadata"]["supported_encryption"] == features()
    # JEP 105, in its own words
    jsonschema.validate(spec, {
        "type": "object", "required": ["argv", "display_name", "language"],
        "properties": {
            "argv": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "display_name": {"type": "string"}, "language": {"type": "string"},
            "kernel_protocol_version": {"type": "string", "pattern": r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$"},
            "interrupt_mode": {"enum": ["signal", "message"]}, "metadata": {"type": "object"},
        }})


@encrypted
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_jupyter_client_encrypts_a_session_and_restarts_it(staged, tmp_path, transport):
    km = KernelManager(kernel_name="jaeda", transport=transport, transport_encryption="required",
                       kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(staged)]))
    log = tmp_path / "log"
    with log.open("w") as stderr:
        km.start_kernel(stderr=stderr)
        encrypted_session(km)
    said = log.read_text()
    assert km.curve_publickey.decode() not in said and km.curve_secretkey.decode() not in said


def encrypted_session(km):
    kc = km.client()
    try:
        assert json.loads(open(km.connection_file).read())["curve_publickey"] == kc.curve_publickey.decode()
        kc.start_channels()
        for n in (1, 2):
            kc.wait_for_ready(timeout=LIMIT)
            assert kc.hb_channel.is_alive()
            said = []
            kc.execute_interactive("!echo secret", timeout=LIMIT, output_hook=lambda m: said.append(m["content"].get("text")))
            assert "secret\n" in said
            if n == 1:
                km.restart_kernel()
        plain = zmq.Context.instance().socket(zmq.SUB)
        plain.linger = 0
        plain.subscribe(b"")
        plain.connect(km._make_url("iopub"))
        kc.execute_interactive("!echo secret", timeout=LIMIT)
        assert not plain.poll(500)
        plain.close()
    finally:
        kc.stop_channels()
        km.shutdown_kernel()


def refusal(tmp_path, env=None, **change):
    """What a kernel says that is started with such a file."""
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5,
                                "ip": "127.0.0.1", "transport": "tcp", "key": "k", **change}))
    r = subprocess.run([executable(), "-f", file], capture_output=True, text=True, timeout=LIMIT,
                       env={**os.environ, **(env or {})})
    assert r.returncode == 1 and r.stderr.count("\n") == 1 and r.stdout == "", r
    assert PUBLIC not in r.stderr and SECRET not in r.stderr
    return r.stderr


@pytest.mark.parametrize("public, secret, says", [
    (PUBLIC, None, "no curve_secretkey"), (None, SECRET, "no curve_publickey"), (PUBLIC[:39], SECRET, "curve_publickey"),
    (PUBLIC, SECRET + "0", "curve_secretkey"), (PUBLIC, SECRET[:39] + '"', "curve_secretkey"), (PUBLIC, 7, "curve_secretkey"),
    (PUBLIC, "#" * 40, "belong together"), (SECRET, PUBLIC, "belong together"),
], ids=["no secret", "no public", "short public", "long secret", "quote", "number", "not a key", "exchanged"])
def test_keys_that_cannot_work_are_refused(tmp_path, public, secret, says):
    if says == "belong together" and "curve" not in features():
        pytest.skip("this libzmq has no curve")
    keys = {"curve_publickey": public, "curve_secretkey": secret}
    assert says in refusal(tmp_path, **{k: v for k, v in keys.items() if v is not None})


@pytest.mark.skipif(not shutil.which("cc"), reason="no compiler")
def test_a_libzmq_without_curve_is_said(tmp_path):
    """Not with a sanitizer in the kernel: it wants to be the first library."""
    if b"__sanitizer" in open(executable(), "rb").read() or b"__tsan_init" in open(executable(), "rb").read():
        pytest.skip("a sanitizer is in the kernel")
    source, library = tmp_path / "none.c", tmp_path / "none.so"
    source.write_text("int zmq_has(const char *what) { (void)what; return 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=LIMIT)
    env = {"LD_PRELOAD": str(library)}
    assert "transport_encryption disabled" in refusal(tmp_path, env, curve_publickey=PUBLIC, curve_secretkey=SECRET)
    assert features(**env) == []
