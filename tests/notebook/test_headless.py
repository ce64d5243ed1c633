"""Notebooks without a browser: as notebooks/run, nbclient, papermill and nbconvert execute and show them."""
import pathlib
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "notebooks" / "quickstart.ipynb"


def notebook_of(*cells):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nb.metadata.kernelspec = {"name": "jaeda", "display_name": "Jaeda", "language": "jaeda"}
    return nb


def execute(*cells, **options):
    nb = notebook_of(*cells)
    NotebookClient(nb, kernel_name="jaeda", timeout=120, **options).execute()
    return nb


def text(cell):
    """All that the cell shows as text. A stream goes on from one message to the next."""
    parts = []
    for o in cell.outputs:
        parts.append(o.text if o.output_type == "stream" else o.get("data", {}).get("text/plain", "") + "\n")
    return "".join(parts)


def command(*arguments, cwd=None):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=170, cwd=cwd)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    shutil.copy(QUICKSTART, folder)
    done = command(ROOT / "notebooks" / "execute.py", folder / QUICKSTART.name)
    return done, folder / "quickstart.executed.ipynb"


def test_the_quickstart_runs_from_top_to_bottom(quickstart):
    done, path = quickstart
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert str(path) in done.stdout.splitlines()[-1]
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    code = [c for c in nb.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    silent = [c.source for c in code if not c.outputs and not c.source.startswith("# Parameters")]
    assert not silent, f"cells that show nothing: {silent}"
    assert "error" not in {o.output_type for c in code for o in c.outputs}
    assert nb.metadata.language_info.name == "jaeda"


def test_each_cell_is_shown_as_text_while_it_runs(quickstart):
    done, path = quickstart
    nb = nbformat.read(path, as_version=4)
    code = [c for c in nb.cells if c.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        assert f"cell {number}/{len(code)}" in done.stdout
        for output in cell.outputs:
            shown = output.text if output.output_type == "stream" else output["data"]["text/plain"]
            for line in filter(None, map(str.strip, shown.splitlines())):
                assert line in done.stdout, f"cell {number} does not show: {line}"


def test_the_committed_notebook_is_not_touched(quickstart):
    _, path = quickstart
    assert (path.parent / QUICKSTART.name).read_bytes() == QUICKSTART.read_bytes()


def test_every_rich_output_can_be_read_as_text(quickstart):
    nb = nbformat.read(quickstart[1], as_version=4)
    bundles = [o.data for c in nb.cells for o in c.get("outputs", []) if "data" in o]
    assert bundles
    for data in bundles:
        assert data.get("text/plain", "").strip(), list(data)
        assert "text/html" not in data or "text/markdown" in data, list(data)
        rows = [line for line in data["text/plain"].splitlines() if "  " in line]
        assert all(len(row) <= 100 for row in rows), max(rows, key=len)


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_nbconvert_shows_the_tables(quickstart, form):
    done = command("-m", "nbconvert", "--to", form, "--stdout", quickstart[1])
    assert done.returncode == 0, done.stderr[-2000:]
    assert "<table" in done.stdout and "TTFT" in done.stdout
    assert "unknown" not in done.stderr.lower(), done.stderr


def test_a_cell_that_fails_stops_the_run_and_is_named(tmp_path):
    nbformat.write(notebook_of("!echo first", "%load no-such-model", "!echo never"), tmp_path / "x.ipynb")
    done = command(ROOT / "notebooks" / "execute.py", tmp_path / "x.ipynb")
    assert done.returncode == 1
    assert "cell 2 failed" in done.stderr
    nb = nbformat.read(tmp_path / "x.executed.ipynb", as_version=4)
    assert "first" in text(nb.cells[0]) and not nb.cells[2].outputs
    assert [o.output_type for o in nb.cells[1].outputs] == ["error"]
    assert "\n" not in nb.cells[1].outputs[0].evalue and "no-such-model" in nb.cells[1].outputs[0].evalue


def test_nbclient_raises_what_the_kernel_says():
    with pytest.raises(CellExecutionError) as problem:
        execute("%generate --max-new-tokns 3 hello")
    assert "--max-new-tokens" in problem.value.evalue
    execute("%no_such_magic", "!echo goes on", allow_errors=True)


def test_a_question_fails_fast_where_nobody_can_answer():
    with pytest.raises(CellExecutionError):
        execute("%env --ask JAEDA_TEST_SECRET")


def test_parameters_of_papermill_reach_the_magics(tmp_path):
    done = command("-m", "papermill", "--language", "python", "-p", "max_new_tokens", "8", "-p", "model", "smollm2-135m",
                   "--no-progress-bar", QUICKSTART, tmp_path / "out.ipynb")
    assert done.returncode == 0, done.stderr[-3000:]
    nb = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    tags = [c.metadata.get("tags", []) for c in nb.cells]
    injected = next(i for i, t in enumerate(tags) if "injected-parameters" in t)
    assert "max_new_tokens = 8" in nb.cells[injected].source
    generated = [c for c in nb.cells if c.source.startswith("%%generate")]
    assert generated and all("8 new" in text(c) or "8 tokens" in text(c) for c in generated), text(generated[0])


def test_every_kind_of_papermill_literal_is_a_variable(tmp_path):
    """The translator's own spelling of strings, numbers, None, lists and dictionaries."""
    values = "text: \"it's \\\"quoted\\\"\"\nkorean: 한국어\nnumber: 2.5\nnegative: -3\nyes_no: true\nnothing: null\n" \
             "items: [a, 1]\ntable: {a: 1}\n"
    (tmp_path / "values.yaml").write_text(values)
    nb = notebook_of("# Parameters\nnumber = 1", "%%bash\necho ran", "%set max_new_tokens=4")
    nb.cells[0].metadata.tags = ["parameters"]
    nbformat.write(nb, tmp_path / "in.ipynb")
    done = command("-m", "papermill", "--language", "python", "-f", tmp_path / "values.yaml", "--no-progress-bar",
                   tmp_path / "in.ipynb", tmp_path / "out.ipynb")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "korean" in (tmp_path / "out.ipynb").read_text()


def test_papermill_stops_at_a_failing_cell(tmp_path):
    nbformat.write(notebook_of("%load no-such-model", "!echo never"), tmp_path / "in.ipynb")
    done = command("-m", "papermill", "--no-progress-bar", tmp_path / "in.ipynb", tmp_path / "out.ipynb")
    assert done.returncode != 0 and "no-such-model" in done.stderr


def test_a_long_flood_arrives_whole():
    nb = execute("!seq 1 200000")
    lines = text(nb.cells[0]).split()
    assert len(lines) == 200000 and lines[-1] == "200000"
