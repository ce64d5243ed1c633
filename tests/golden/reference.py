"""What both generators share: the vector file, the GGUF names of a Llama, and the reference's greedy run."""
import struct

import numpy as np
import torch
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama

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


class Watch:
    """Records each activation of one forward pass under the engine's labels; of two equal ones the first comes first."""

    def __init__(self, out, module):
        self.handles, self.out, self.layer, self.module = [], out, -1, module
        self.rope, module.apply_rotary_pos_emb = module.apply_rotary_pos_emb, self.rotate

    def hook(self, module, layer, seen, before=False):
        def take(_, args, result=None):
            value = args[0] if before else result
            value = value[0] if isinstance(value, tuple) else value
            self.layer = layer
            seen(value[0])
        self.handles.append(module.register_forward_pre_hook(take) if before else module.register_forward_hook(take))

    def on(self, module, label, layer, before=False):
        self.hook(module, layer, lambda value: self.out.add(label, layer, value), before)

    def rotate(self, q, k, *rest, **more):
        q, k = self.rope(q, k, *rest, **more)
        for x in (q, k):  # [1, heads, rows, d] -> [rows, heads * d]
            self.out.add("rope", self.layer, x[0].transpose(0, 1).reshape(x.shape[2], -1))
        return q, k

    def close(self):
        self.module.apply_rotary_pos_emb = self.rope
        for h in self.handles:
            h.remove()


class LlamaWatch(Watch):
    def __init__(self, model, out):
        super().__init__(out, modeling_llama)
        core = model.model
        self.on(core.embed_tokens, "embed", -1)
        for i, L in enumerate(core.layers):
            self.on(L.input_layernorm, "ln1", i)
            for part in "qkv":
                self.on(getattr(L.self_attn, f"{part}_proj"), f"attn.{part}", i)
            self.on(L.self_attn.o_proj, "attn.mix", i, before=True)
            self.on(L.self_attn.o_proj, "attn.o", i)
            self.on(L.post_attention_layernorm, "residual", i, before=True)
            self.on(L.post_attention_layernorm, "ln2", i)
            self.on(L.mlp.gate_proj, "mlp.gate", i)
            self.on(L.mlp.up_proj, "mlp.up", i)
            self.on(L.mlp.down_proj, "mlp.gate*up", i, before=True)
            self.on(L.mlp.down_proj, "mlp.down", i)
            self.on(L, "residual", i)
        self.on(core.norm, "norm", -1)
        self.on(model.lm_head, "head", -1)


class NeoxWatch(Watch):
    """Of a parallel layer the stream after attention alone is no activation of the reference: it is the sum of two."""

    def __init__(self, model, out):
        super().__init__(out, modeling_gpt_neox)
        core = model.gpt_neox
        self.heads, self.x = model.config.num_attention_heads, None
        self.on(core.embed_in, "embed", -1)
        for i, L in enumerate(core.layers):
            self.hook(L, i, self.enter, before=True)
            self.on(L.input_layernorm, "ln1", i)
            self.hook(L.attention.query_key_value, i, self.split)
            self.on(L.attention.dense, "attn.mix", i, before=True)
            self.on(L.attention.dense, "attn.o", i)
            self.hook(L.attention.dense, i, self.after_attention)
            self.on(L.post_attention_layernorm, "ln2", i)
            self.on(L.mlp.act, "mlp.up", i)
            self.on(L.mlp.dense_4h_to_h, "mlp.down", i)
            self.on(L, "residual", i)
        self.on(core.final_layer_norm, "norm", -1)
        self.on(model.lm_head, "head", -1)

    def enter(self, x):
        self.x = x

    def after_attention(self, a):
        self.out.add("residual", self.layer, self.x + a)

    def split(self, qkv):
        parts = qkv.view(qkv.shape[0], self.heads, 3, -1)
        for j, part in enumerate("qkv"):
            self.out.add(f"attn.{part}", self.layer, parts[:, :, j].reshape(qkv.shape[0], -1))
