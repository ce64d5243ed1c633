import json
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from kernel import Kernel, executable  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes several seconds by its nature; left out under sanitizers")


@pytest.fixture(scope="session", autouse=True)
def jupyter_home(tmp_path_factory):
    """A kernelspec "jaeda" that only this run sees, and a home for histories."""
    home = tmp_path_factory.mktemp("jupyter")
    spec = home / "kernels" / "jaeda"
    spec.mkdir(parents=True)
    spec.joinpath("kernel.json").write_text(json.dumps({
        "argv": [executable(), "-f", "{connection_file}"], "display_name": "Jaeda", "language": "jaeda",
        "interrupt_mode": "message",
    }))
    names = ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "XDG_DATA_HOME", "JUPYTER_PATH", "JAEDA_ENGINE")
    before = {n: os.environ.get(n) for n in names}
    os.environ.update(JUPYTER_DATA_DIR=str(home), JUPYTER_RUNTIME_DIR=str(home / "runtime"), XDG_DATA_HOME=str(home / "data"))
    os.environ.pop("JUPYTER_PATH", None)
    # Each kernel with an engine of its own, so that no test finds another's models; tests of the resident one say so.
    os.environ["JAEDA_ENGINE"] = "local:"
    yield home
    for n, value in before.items():
        os.environ.pop(n, None)
        if value is not None:
            os.environ[n] = value


@pytest.fixture
def start(tmp_path):
    """start(**options) -> Kernel; all are stopped at the end."""
    kernels = []

    def run(**options):
        kernels.append(Kernel(tmp_path, **options))
        return kernels[-1]

    yield run
    for k in kernels:
        k.stop()


@pytest.fixture
def kernel(start):
    return start()


@pytest.fixture
def client(kernel):
    return kernel.client()
