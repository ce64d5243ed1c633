#!/usr/bin/env python3
"""Writes lora/*.pth and lora.bin: low-rank pairs under both spellings of their names, and what torch makes of weights with them.

exact.pth  rank 4, few-bit numbers: every sum is exact, so that only the rounding to fp16 and bf16 is left to compare, bit for bit
wide.pth   rank 6 (alpha / r is no power of two), more columns than one tile of the merge
"""
import pathlib

import torch

from reference import Vectors

HERE = pathlib.Path(__file__).parent
ALPHA, HIDDEN, KV, LAYERS = 16, 48, 16, 2
PREFIX = "llama_model.base_model.model."


def few_bits(shape, exponent):
    return torch.randint(-63, 64, shape) * 2.0**exponent


def main():
    torch.manual_seed(5)
    out, folder = Vectors(), HERE / "lora"
    folder.mkdir(exist_ok=True)
    state = {"llama_proj.weight": few_bits((3, 8), -8), "llama_proj.bias": few_bits((3,), -8)}
    for i in range(LAYERS):
        for part, rows in (("q", HIDDEN), ("v", KV)):
            module, adapter = f"model.layers.{i}.self_attn.{part}_proj", "" if i == 0 else ".default"
            a, b = few_bits((4, HIDDEN), -7), few_bits((rows, 4), -9)
            state[f"{PREFIX}{module}.lora_A{adapter}.weight"] = a if i else a.half()
            state[f"{PREFIX}{module}.lora_B{adapter}.weight"] = b
            w = few_bits((rows, HIDDEN), -9)
            merged = w + (ALPHA / 4) * (b @ a)
            assert torch.equal(merged.double(), w.double() + 4 * (b.double() @ a.double()))
            name = f"{part}{i}"
            out.add(name + ".before", -1, w)
            out.add(name + ".f32", -1, merged)
            out.add(name + ".f16", -1, merged.half().float())
            out.add(name + ".bf16", -1, merged.bfloat16().float())
            assert not torch.equal(merged.half().float(), merged)
    torch.save({"model": state, "epoch": 1}, folder / "exact.pth")
    a, b, w = torch.randn(6, 1100) / 8, torch.randn(3, 6) / 8, torch.randn(3, 1100) / 32
    module = f"{PREFIX}model.layers.0.mlp.down_proj"
    torch.save({"model": {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}}, folder / "wide.pth")
    out.add("wide.before", -1, w)
    out.add("wide.f32", -1, w + (ALPHA / 6) * (b @ a))
    out.write(HERE / "lora.bin")


if __name__ == "__main__":
    main()
