"""notebooks/korean.ipynb from top to bottom: on a machine without the weights its text is noise, and it must say so."""
import pathlib
import re
import subprocess
import sys
import unicodedata

import nbformat
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
KOREAN = ROOT / "notebooks" / "korean.ipynb"
NOTICE = "random weights (load format dummy)"


pytestmark = pytest.mark.timeout(420)  # under a minute on two idle cores


def free_gib():
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20


def shown(cell):
    return "".join(o.text if o.output_type == "stream" else o.get("data", {}).get("text/plain", "") + "\n"
                   for o in cell.outputs)


@pytest.fixture(scope="module")
def korean(tmp_path_factory):
    """The executed notebook; on a small machine with the smaller model, as a user would set it."""
    folder = tmp_path_factory.mktemp("korean")
    source = KOREAN.read_text()
    if free_gib() < 6:
        source = source.replace('model = \\"polyglot-ko-5.8b', 'model = \\"polyglot-ko-1.3b')
        assert "polyglot-ko-1.3b" in source
    (folder / KOREAN.name).write_text(source)
    done = subprocess.run([sys.executable, ROOT / "notebooks" / "execute.py", folder / KOREAN.name], capture_output=True,
                          text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return nbformat.read(folder / "korean.executed.ipynb", as_version=4)


def cells(nb, start):
    found = [c for c in nb.cells if c.cell_type == "code" and c.source.startswith(start)]
    assert found, start
    return found


def is_random(nb):
    return "filled with random numbers" in shown(cells(nb, "%load")[0])


def test_every_cell_shows_something(korean):
    code = [c for c in korean.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert not [c.source for c in code if not c.outputs and not c.source.startswith("# Parameters")]
    assert "error" not in {o.output_type for c in code for o in c.outputs}


def test_no_line_is_wider_than_a_terminal(korean):
    for cell in korean.cells:
        for o in cell.get("outputs", []):
            for line in o.get("data", {}).get("text/plain", "").splitlines():
                if line.startswith(("hf download", "# ")) or "why: " in line:
                    continue  # a command is one line however long
                width = sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line)
                assert width <= 100, line


def test_fit_answers_before_anything_is_read(korean):
    one, many = (shown(c) for c in cells(korean, "%fit"))
    for word in ("this machine:", "g5.2xlarge", "g5.12xlarge", "a100-80gb", "h100", "int8", "int4", "largest context",
                 "tok/s at most", "assumed: one device", "No weights were read"):
        assert word in one, one
    if "polyglot-ko-5.8b" in one:  # 5,885,059,072 weights of two bytes; 28 layers x 2 x 4096 x two bytes a token
        flat = one.replace("\n", " ")
        assert "5.89 B parameters" in flat and "KV cache 448 KiB a token" in flat, one
        row = next(line.split() for line in one.splitlines() if re.match(r"g5.2xlarge +f", line))
        assert abs(float(row[2]) - 10.96) < 0.1, row
        assert abs(float(row[3]) - 0.875) < 0.002, row
        assert 45 < float(row[-1]) < 51, row  # 51.0 by the weights alone
    assert "batch 8" in many and "1,024 tok" in many and "2,048 tok" in many, many
    large = many[many.index("koalpaca-polyglot-12.8b"):]
    row = next(line for line in large.splitlines() if re.match(r"g5.2xlarge +fp16", line))
    assert "OOM +" in row, row  # 24 GiB of weights on a card of 22.4
    assert re.search(r"g5.2xlarge: nothing in the table fits. What would: --dtype int[48] -c 2048", large), large


def test_memory_is_what_was_predicted(korean):
    text = shown(cells(korean, "%load")[0])
    sizes = re.search(r"memory: ([\d.,]+) (\w+) measured, ([\d.,]+) (\w+) predicted", text)
    assert sizes, text
    unit = {"MiB": 1, "GiB": 1024}
    measured, predicted = (float(sizes[i].replace(",", "")) * unit[sizes[i + 1]] for i in (1, 3))
    assert abs(measured / predicted - 1) < 0.05, text


def test_random_weights_are_named_in_every_result(korean):
    text = shown(cells(korean, "%load")[0])
    assert "weights int4" in text, text
    if not is_random(korean):
        pytest.skip("this machine has the weights")
    assert "not on this disk" in text and "hf download EleutherAI/polyglot-ko-" in text.replace("\n", " "), text
    for cell in cells(korean, "%load") + cells(korean, "%show") + cells(korean, "%%generate") + cells(korean, "%profile"):
        assert NOTICE in shown(cell).replace("\n", " "), cell.source
    for cell in cells(korean, "%%generate"):
        assert cell.outputs[-1].metadata.jaeda.dummy is True


def test_each_template_is_used(korean):
    tokens = []
    for cell, template in zip(cells(korean, "%%generate"), ("raw", "koalpaca", "koalpaca", "kullm", "kullm", "kullm")):
        text = shown(cell).replace("\n", " ")
        assert f"template: {template}" in text, text
        assert "stopped: " in text
        tokens.append(cell.outputs[-1].metadata.jaeda.prompt_tokens)
        assert cell.outputs[-1].metadata.jaeda.new_tokens >= 1
    assert tokens[2] > tokens[1] and tokens[4] > tokens[3], tokens  # with 맥락, with 입력


def test_five_beams_end_in_one_text(korean):
    text = shown(cells(korean, "%%generate")[-1])
    assert "5 beams, score -" in text and "no sampling" in text and "TTFT" not in text, text


def test_the_profile_says_what_limits(korean):
    text = shown(cells(korean, "%profile")[0]).replace("\n", " ")
    for word in ("prefill: 64 tokens", "decode: a token", "GB/s", "peaks measured here"):
        assert word in text, text


def test_the_outputs_are_not_committed():
    nb = nbformat.read(KOREAN, as_version=4)
    assert not [c.source for c in nb.cells if c.get("outputs") or c.get("execution_count")]
