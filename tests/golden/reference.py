"""What both generators share: the vector file, the GGUF names of a Llama, and the reference's greedy run."""
import struct

import numpy as np
import torch

LABEL_BYTES = 24


class Vectors:
    """Read by vectors.c: "JGV1", count, then {label[24], layer, kind 0 f32 | 1 i32, rows, cols, rows * cols numbers}."""

    def __init__(self):
        self.records = []

    def add(self, label, layer, values):
        a = values.detach().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        a = np.atleast_2d(a)
        kind = 1 if a.dtype.kind in "iu" else 0
        a = np.ascontiguousarray(a, dtype="<i4" if kind else "<f4")
        name = label.encode()
        assert a.ndim == 2 and len(name) < LABEL_BYTES
        self.records.append(struct.pack(f"<{LABEL_BYTES}s4i", name, layer, kind, *a.shape) + a.tobytes())

    def write(self, path):
        with open(path, "wb") as f:
            f.write(b"JGV1" + struct.pack("<i", len(self.records)) + b"".join(self.records))


def quote(text):
    """One line of printable text; read_quoted() in vectors.h undoes it."""
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(named.get(c) or (c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}") for c in text)


def hf_name(name):
    """GGUF tensor name -> transformers' name."""
    ends = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
            "output.weight": "lm_head.weight"}
    if name in ends:
        return ends[name]
    parts = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{parts[part]}.weight"


def to_pairs(w, heads):
    """Rows from rotate-half order (j, j + d/2) to the pairwise order (2j, 2j + 1) in which GGUF stores Q and K."""
    d = w.shape[0] // heads
    return w.reshape(heads, 2, d // 2, -1).swapaxes(1, 2).reshape(w.shape)


def from_pairs(w, heads):
    d = w.shape[0] // heads
    return w.reshape(heads, d // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


@torch.no_grad()
def greedy(model, ids, n):
    """n tokens by argmax, and how far the chosen logit was above the second at each step."""
    out, margin, cache, step = [], [], None, torch.tensor([ids])
    for _ in range(n):
        r = model(step, past_key_values=cache, use_cache=True)
        top = torch.topk(r.logits[0, -1], 2)
        out.append(int(top.indices[0]))
        margin.append(float(top.values[0] - top.values[1]))
        cache, step = r.past_key_values, torch.tensor([[out[-1]]])
    return out, margin
