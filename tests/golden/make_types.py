#!/usr/bin/env python3
"""Writes types-*.gguf and types-*.bin: every number format that a GGUF may have, and the reference framework's run of what
the gguf package makes of those bytes. The K formats are encoded here, as that package only decodes them.

types-llama   each matrix in another format
types-neox    one QKV matrix in Q4_K, which three weights read by rows; a layer of other K formats
types-q8      Q8_0 throughout, as many published files are
"""
import pathlib

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q

from make_folders import NEW, PROMPT, VOCAB, build, reorder, write_gguf
from reference import LlamaWatch, NeoxWatch, Vectors, greedy

HERE = pathlib.Path(__file__).parent
LLAMA = {"blk.0.attn_q": Q.Q4_K, "blk.0.attn_k": Q.Q6_K, "blk.0.attn_v": Q.Q5_0, "blk.0.attn_output": Q.Q5_K,
         "blk.0.ffn_gate": Q.Q4_0, "blk.0.ffn_up": Q.Q4_1, "blk.0.ffn_down": Q.Q5_0, "blk.1.attn_q": Q.Q5_1,
         "blk.1.attn_k": Q.F32, "blk.1.attn_v": Q.F16, "blk.1.attn_output": Q.BF16, "blk.1.ffn_gate": Q.Q8_0,
         "blk.1.ffn_up": Q.Q4_K, "blk.1.ffn_down": Q.Q6_K, "token_embd": Q.Q6_K, "output": Q.Q5_K}
NEOX = {"blk.0.attn_qkv": Q.Q4_K, "blk.0.attn_output": Q.Q6_K, "blk.0.ffn_up": Q.Q5_K, "blk.0.ffn_down": Q.Q5_1,
        "token_embd": Q.Q4_K, "output": Q.Q5_0}
MODELS = {
    "llama": dict(arch="llama", seed=21, hidden=256, heads=4, kv=1, ffn=256, layers=2, formats=LLAMA),
    "neox": dict(arch="neox", seed=22, hidden=256, heads=2, ffn=256, layers=1, rotary=0.5, formats=NEOX),
    "q8": dict(arch="neox", seed=23, hidden=64, heads=2, ffn=160, layers=2, rotary=0.25, formats={}),
}


def half(x):
    return x.astype("<f2").view(np.uint8).reshape(-1, 2)


def six_bits(scale, least):
    """[n, 8] scales and minima of 6 bits each -> [n, 12]: four of each whole, of the others four bits and two."""
    out = np.zeros((len(scale), 12), np.uint8)
    out[:, 0:4] = scale[:, :4] | scale[:, 4:] >> 4 << 6
    out[:, 4:8] = least[:, :4] | least[:, 4:] >> 4 << 6
    out[:, 8:12] = (scale[:, 4:] & 15) | (least[:, 4:] & 15) << 4
    return out


def encode_k(x, bits):
    """Q4_K, Q5_K: groups of 32 as scale * q - minimum, both multiples of a scale of the block."""
    x = x.reshape(-1, 8, 32)
    top = 2**bits - 1
    least = np.maximum(-x.min(2), 0)
    scale = (x.max(2) + least) / top
    d = (scale.max(1, keepdims=True) / 63).astype("<f2")
    dmin = (least.max(1, keepdims=True) / 63).astype("<f2")
    s6 = np.clip(np.ceil(scale / d.astype(np.float32)), 1, 63).astype(np.uint8)
    m6 = np.clip(np.round(least / dmin.astype(np.float32)), 0, 63).astype(np.uint8)
    step, low = d.astype(np.float32) * s6, dmin.astype(np.float32) * m6
    q = np.clip(np.round((x + low[..., None]) / step[..., None]), 0, top).astype(np.uint8)
    parts = [half(d), half(dmin), six_bits(s6, m6)]
    if bits == 5:
        parts.append(np.bitwise_or.reduce((q >> 4) << np.arange(8, dtype=np.uint8)[None, :, None], axis=1))
    q &= 15
    parts.append((q[:, 0::2] | q[:, 1::2] << 4).reshape(len(x), 128))
    return np.concatenate(parts, 1)


def encode_q6_k(x):
    x = x.reshape(-1, 16, 16)
    scale = np.abs(x).max(2) / 31
    d = (scale.max(1, keepdims=True) / 127).astype("<f2")
    s8 = np.clip(np.ceil(scale / d.astype(np.float32)), 1, 127).astype(np.int8)
    s8[:, 1::5] *= -1  # negative scales are legal
    step = d.astype(np.float32) * s8
    q = (np.clip(np.round(x / step[..., None]), -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = (q[:, :, :2] & 15) | (q[:, :, 2:] & 15) << 4
    high = np.bitwise_or.reduce((q >> 4) << np.array([0, 2, 4, 6], np.uint8)[None, None, :, None], axis=2)
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), s8.view(np.uint8), half(d)], 1)


def encode(x, kind):
    if kind not in (Q.Q4_K, Q.Q5_K, Q.Q6_K):
        return gguf.quants.quantize(x, kind)
    blocks = encode_q6_k(x) if kind == Q.Q6_K else encode_k(x, 4 if kind == Q.Q4_K else 5)
    return blocks.reshape(x.shape[0], -1)


def store(ours, p, how, s):
    """Encodes; the parameter becomes what the bytes mean."""
    x = np.ascontiguousarray(reorder(p.detach().numpy(), how, s))
    kind = Q.F32 if p.ndim == 1 else s["formats"].get(ours.removesuffix(".weight"), Q.Q8_0)
    data = encode(x, kind)
    means = gguf.quants.dequantize(data, kind).reshape(x.shape)
    off = np.abs(means - x).max() / np.abs(x).max()
    assert off < {Q.F32: 1e-7, Q.F16: 1e-3, Q.BF16: 5e-3, Q.Q8_0: 0.01, Q.Q6_K: 0.04}.get(kind, 0.15), (ours, kind, off)
    with torch.no_grad():
        p.copy_(torch.from_numpy(undo(means, how, s)))
    return data, kind


def undo(x, how, s):
    place = np.argsort(reorder(np.arange(x.shape[0]), how, s))  # where each row went
    return np.ascontiguousarray(x[place])


def make(name, s):
    rng = np.random.default_rng(s["seed"])
    for seed in range(s["seed"] * 1000, s["seed"] * 1000 + 100):
        model = build(s, seed)
        with torch.no_grad():
            for p in model.parameters():  # all the bits that a format has
                p += 0.05 * p.abs().mean() * torch.randn_like(p)
        write_gguf(HERE / f"types-{name}.gguf", f"types-{name}", s, model, store)
        prompt = rng.integers(4, VOCAB, PROMPT).tolist()
        ids, margin = greedy(model, prompt, NEW)
        if min(margin) > 0.01 and len(set(ids)) > 20:
            break
    else:
        raise SystemExit(f"{name}: no seed gave a run worth comparing")
    out = Vectors()
    out.add("prompt", -1, prompt)
    out.add("greedy", -1, ids)
    watch = (NeoxWatch if s["arch"] == "neox" else LlamaWatch)(model, out)
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
    watch.close()
    out.write(HERE / f"types-{name}.bin")
    print(f"types-{name}: seed {seed}, logits up to {logits.abs().max():.2f}, least margin {min(margin):.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in MODELS.items():
        make(*each)
