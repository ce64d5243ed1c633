"""%gpu, %sysinfo and %profile of a machine with cards (a library that stands in for the driver's), and of one without."""
import json
import os
import pathlib
import sqlite3
import tempfile

import pytest
from kernel import executable, text

TINY = pathlib.Path(__file__).resolve().parents[1] / "golden" / "tiny-tied.gguf"
BUILD = pathlib.Path(executable()).parent if os.environ.get("JAEDA_KERNEL") else pathlib.Path()
NVML, EMULATED = BUILD / "libfake-nvml.so", BUILD / "libjaeda-cuda-emu.so"


def ok(client, code):
    reply, outputs = client.run(code)
    assert reply.content["status"] == "ok", f"{code}: {reply.content}"
    return text(outputs) + "\n".join(m.content["data"].get("text/plain", "") for m in outputs if "data" in m.content)


def says(shown, *words):
    flat = " ".join(shown.split())
    for w in words:
        assert w in flat, f"{w!r} is not in:\n{shown}"


def recorded(client):
    file = pathlib.Path(client.kernel.env["XDG_DATA_HOME"], "jaeda", "results.sqlite")
    db = sqlite3.connect(f"file:{file}?mode=rw", uri=True)
    (numbers,), = db.execute("select numbers from run").fetchall()
    db.close()
    return json.loads(numbers)


@pytest.fixture
def machine(start, tmp_path):
    """machine(card on the bus?, environment...) -> client"""
    def run(on_bus, **env):
        bus = tmp_path / "bus"
        bus.mkdir()
        if on_bus:
            card = bus / "0000:00:1e.0"
            card.mkdir()
            card.joinpath("vendor").write_text("0x10de\n")
            card.joinpath("class").write_text("0x030200\n")
        return start(env={"JAEDA_PCI": str(bus), "JAEDA_NVML": str(NVML), **env}).client()
    return run


def test_cards_tell_what_they_can(machine):
    c = machine(True)
    says(ok(c, "%gpu"), "2 NVIDIA GPUs; the CPU computes: ", "NVIDIA A10G", "PCI 00:1e.0", "570.86.15, CUDA 12.8",
         "2.00 GiB used, 22.0 GiB free of 24.0 GiB", "computes 37 % of the time, moves memory 12 %",
         "SM clock 1,410 of 1,710 MHz", "memory clock 6,250 of 6,251 MHz", "power 61.4 of 300 W", "42.0 °C",
         "software power cap, hardware thermal limit", "on, off after a reboot, 3 uncorrected errors",
         "jaeda-kernel (pid ", ", the engine) 512 MiB", "GPU 1: direct / host bridge",
         "NVIDIA Plain", "PCI 0001:af:00.0", "power not supported", "temperature not supported",
         "SM clock 1,410 MHz", "processes not supported", "computes on cpu")
    says(ok(c, "%sysinfo"), "GPU 0 NVIDIA A10G, PCI 00:1e.0, driver 570.86.15, CUDA 12.8; memory: 2.00 GiB used",
         "GPU 1 NVIDIA Plain")


def test_a_lost_card_is_told(machine):
    says(ok(machine(True, FAKE_NVML_FAIL="nvmlDeviceGetHandleByIndex_v2=15"), "%gpu"), "no answer: GPU is lost")


@pytest.mark.parametrize("on_bus, env, words", [
    (False, {"JAEDA_NVML": "/nowhere/nvml.so"}, "no GPU: no NVIDIA card is on the PCI bus"),
    (True, {"JAEDA_NVML": "/nowhere/nvml.so"}, "GPU present, driver missing: 1 NVIDIA card (PCI 00:1e.0), but"),
    (True, {"FAKE_NVML_FAIL": "nvmlInit_v2=9"}, "GPU present, driver missing: "),
    (True, {"FAKE_NVML_CARDS": "0"}, "GPU present, but its driver does not find it (PCI 00:1e.0)"),
])
def test_without_one_it_says_which_of_the_two(machine, on_bus, env, words):
    c = machine(on_bus, **env)
    for code in ("%gpu", "%sysinfo"):
        says(ok(c, code), words)
    ok(c, f"%load {TINY} -c 64")
    assert "conditions" not in ok(c, "%profile -p 8 -n 2 --runs 1")


@pytest.mark.slow
def test_a_profile_carries_the_cards_conditions(machine):
    c = machine(True, JAEDA_BACKEND=str(EMULATED))
    says(ok(c, "%gpu"), "2 NVIDIA GPUs GPU 0", "computes on cuda")
    says(ok(c, f"%load {TINY} -c 64"), "side by side: waiting for the file", "copying to the GPU", "packing there")
    says(ok(c, "%profile -p 8 -n 4 --runs 2"), "· GPU Emulated GPU, sm_", "launch gaps",
         "conditions: NVIDIA A10G, PCI 00:1e.0, driver 570.86.15, CUDA 12.8",
         "SM clock 1,410 of 1,710 MHz 1,410 of 1,710 MHz", "temperature 42.0 °C 42.0 °C",
         "! the card was held down by software power cap, hardware thermal limit", "! others are on this card, the rates may be too low: ", "(pid 1)",
         # the stand-in counts five joules more at each look, and there is one before and one after each phase
         "5.00 J a prefill (0.625 J a token), 1.25 J a token of decode")
    numbers = recorded(c)
    assert numbers["gpu_before"]["pci"] == "00:1e.0" and numbers["gpu_after"]["celsius"] == 42, numbers
    assert numbers["energy_j"] == {"prefill": 5.0, "decode": 1.25}


@pytest.mark.slow
def test_a_card_that_nvml_does_not_know_is_no_zero(machine):
    c = machine(True, JAEDA_BACKEND=str(EMULATED), JAEDA_NVML="/nowhere/nvml.so")
    ok(c, f"%load {TINY} -c 64")
    shown = ok(c, "%profile -p 8 -n 2 --runs 1")
    says(shown, "NVML) does not tell of this card")
    assert "conditions:" not in shown


@pytest.mark.slow
def test_a_cache_of_int8_and_what_fits_are_the_devices(machine):
    c = machine(True, JAEDA_BACKEND=str(EMULATED))
    says(ok(c, f"%load {TINY} -c 64 --kv-cache-dtype int8"), "int8")
    says(ok(c, "%show"), "int8")
    assert ok(c, "%generate -n 4 hello")
    says(ok(c, "%profile -p 10 -n 4 --runs 1 --batch-size 3"), "prefill: 3 × 10 tokens", "decode: 3 × a token", "· b3 ·")
    says(ok(c, f"%load {TINY} -c 64 --max-sequences 20"), "ready")
    says(ok(c, "%show"), "sequences reserved 20")
    says(ok(c, "%profile -p 60 -n 4 --runs 1 --batch-size 20"), "prefill: 20 × 60 tokens")
    says(ok(c, f"%fit {TINY} --machine this -c 64"), "this machine: 7.9")  # of the 8 that the stand-in has


@pytest.mark.slow
@pytest.mark.parametrize("code, words", [(214, "uncorrectable error (ECC)"), (702, "time limit"), (999, "no longer answers")])
def test_a_fault_ends_the_engine_and_not_the_notebook(machine, tmp_path, code, words):
    fault = tmp_path / "fault"
    with tempfile.TemporaryDirectory(prefix="jaeda-test-") as place:  # sockets want short paths
        c = machine(True, JAEDA_BACKEND=str(EMULATED), JAEDA_ENGINE=f"ipc:{place}", EMU_FAULT=str(fault))
        ok(c, f"%load {TINY} -c 64")
        ok(c, "n = 4")
        fault.write_text(str(code))
        reply, _ = c.run("%generate -n 40 --ignore-eos hello")
        assert reply.content["status"] == "error" and words in reply.content["evalue"], reply.content
        assert not fault.exists()
        says(ok(c, "!echo $n"), "4")
        reply, _ = c.run(f"%load {TINY} -c 64")
        if reply.content["status"] == "error":  # it met the engine on its way out
            assert "left after a device fault" in reply.content["evalue"], reply.content
            ok(c, f"%load {TINY} -c 64")
        assert ok(c, "%generate -n $n hello")
        ok(c, "%engine stop")


def test_a_cache_of_int8_needs_a_gpu(machine):
    c = machine(False)
    reply, _ = c.run(f"%load {TINY} -c 64 --kv-cache-dtype int8")
    assert "cpu caches in auto, fp32 or fp16" in reply.content["evalue"], reply.content
