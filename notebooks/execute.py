"""Executes a notebook with the Jaeda kernel, without a browser: shows each cell and, as it comes, its text; writes the
executed copy beside the notebook (FILE.executed.ipynb) and leaves the notebook itself alone.

execute.py FILE.ipynb    exit status 1 when a cell fails, and its number
"""
import os
import pathlib
import sys
import tempfile
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

KERNEL = "jaeda"


def text_of(data):
    """What a terminal can show of a MIME bundle."""
    for mime in ("text/plain", "text/markdown", "application/json"):
        if mime in data:
            return str(data[mime]).rstrip("\n")
    return "[" + ", ".join(data) + "]"



class Shown(NotebookClient):
    """Prints what the kernel says while it says it."""

    at_line_start = True
    pending = None  # displays that the kernel may still update, by id: printed when their cell ends

    def stream(self, text):
        for line in text.splitlines(keepends=True):
            sys.stdout.write(("    " if self.at_line_start else "") + line)
            self.at_line_start = line.endswith("\n")
        sys.stdout.flush()

    def block(self, text):
        if not self.at_line_start:
            self.stream("\n")
        self.stream(text + "\n")

    def process_message(self, msg, cell, cell_index):
        kind, content = msg["msg_type"], msg["content"]
        if kind == "stream":
            self.stream(content["text"])
        elif kind in ("display_data", "execute_result", "update_display_data"):
            display_id = content.get("transient", {}).get("display_id")
            if display_id is None:
                self.block(text_of(content["data"]))
            else:
                self.pending[display_id] = text_of(content["data"])
        elif kind == "error":
            self.flush()
            self.block(f"{content['ename']}: {content['evalue']}")
        return super().process_message(msg, cell, cell_index)

    def begin(self):
        self.pending, self.at_line_start = {}, True

    def flush(self):
        for text in self.pending.values():
            self.block(text)
        self.pending = {}
        if not self.at_line_start:
            self.stream("\n")


def write(notebook, source):
    """Beside the notebook when that folder can be written, else among the temporary files."""
    name = source.stem + ".executed.ipynb"
    for folder in (source.parent, pathlib.Path(tempfile.gettempdir())):
        try:
            new = folder / (name + ".new")
            new.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
            os.replace(new, folder / name)
            return folder / name
        except OSError as problem:
            last = problem
    sys.exit(f"the executed notebook could not be written: {last}")


def run_cells(client, notebook):
    """The number of the cell that failed, or 0. Blank cells and text are not counted as cells to run."""
    code = [i for i, c in enumerate(notebook.cells) if c.cell_type == "code" and c.source.strip()]
    for number, index in enumerate(code, 1):
        cell, start = notebook.cells[index], time.monotonic()
        print(f"\ncell {number}/{len(code)}")
        print("".join(f"  > {line}\n" for line in cell.source.splitlines()), end="", flush=True)
        client.begin()
        try:
            client.execute_cell(cell, index)
        except CellExecutionError:
            return number
        except DeadKernelError:
            client.flush()
            print("    the kernel died")
            return number
        finally:
            client.flush()
            print(f"  ({time.monotonic() - start:.1f} s)", flush=True)
    return 0


def main():
    source = pathlib.Path(sys.argv[1]).resolve()
    try:
        notebook = nbformat.read(source, as_version=4)
    except Exception as problem:
        sys.exit(f"notebooks/run: {source} is not a notebook: {str(problem).splitlines()[0][:200]}")
    if (made_for := notebook.metadata.get("kernelspec", {}).get("name", KERNEL)) != KERNEL:
        print(f"{source.name} was made for the kernel {made_for}; it runs with {KERNEL} here")
    resources = {"metadata": {"path": str(source.parent)}}
    client = Shown(notebook, kernel_name=KERNEL, timeout=None, resources=resources, coalesce_streams=True)
    print(f"executing {source}", flush=True)
    start = time.monotonic()
    try:
        with client.setup_kernel():
            info = client.wait_for_reply(client.kc.kernel_info())
            notebook.metadata.language_info = info["content"]["language_info"]
            failed = run_cells(client, notebook)
    except KeyboardInterrupt:
        sys.exit("\nnotebooks/run: stopped")
    except (RuntimeError, DeadKernelError) as problem:
        sys.exit(f"notebooks/run: the kernel did not start: {problem}")
    target = write(notebook, source)
    if failed:
        sys.exit(f"\nnotebooks/run: cell {failed} failed; the outputs up to it are in {target}")
    print(f"\nexecuted in {time.monotonic() - start:.0f} s: {target}")


main()
