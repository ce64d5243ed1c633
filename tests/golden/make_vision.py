#!/usr/bin/env python3
"""Writes vision/*.pth and vision.bin: a tiny MiniGPT-4 image path in the original checkpoints' names, and what the reference framework's
BLIP-2 classes compute with it; a full-width block whose weights follow from their names alone (weight()).

Mind: ln_vision has eps 1e-5 where BLIP-2's classes use that of the blocks, and no trained values without a Q-Former.
"""
import pathlib
from collections import OrderedDict

import numpy as np
import torch
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig, Blip2VisionModel

from reference import Vectors

HERE = pathlib.Path(__file__).parent
TINY = dict(hidden=48, layers=3, heads=2, ffn=80, image=56, grid=4, queries=5, q_hidden=32, q_layers=3, q_heads=2, q_ffn=72, out=40)
FULL = dict(hidden=1408, layers=1, heads=16, ffn=6144, image=224, grid=16, out=0)


def weight(name, shape, gain=False):
    """Small multiples of 2^-12, exact in fp16: a mix of the name's hash and the place (test_vision.c does the same)."""
    seed = 2166136261
    for c in name.encode():
        seed = (seed ^ c) * 16777619 % 2**32
    x = (np.arange(int(np.prod(shape)), dtype=np.uint64) * 2654435761 + seed) % 2**32
    x ^= x >> 15
    x = x * 2246822519 % 2**32
    x ^= x >> 13
    v = ((x >> 8) % 256).astype(np.float32) - 128
    return torch.tensor((v / 1024 + 1 if gain else v / 4096).reshape(shape))


def vit_state(c):
    h, f = c["hidden"], c["ffn"]
    shapes = {"cls_token": (1, 1, h), "pos_embed": (1, c["grid"]**2 + 1, h), "patch_embed.proj.weight": (h, 3, 14, 14), "patch_embed.proj.bias": (h,)}
    for i in range(c["layers"]):
        shapes |= {f"blocks.{i}.{k}": s for k, s in {
            "norm1.weight": (h,), "norm1.bias": (h,), "attn.q_bias": (h,), "attn.v_bias": (h,), "attn.qkv.weight": (3 * h, h),
            "attn.proj.weight": (h, h), "attn.proj.bias": (h,), "norm2.weight": (h,), "norm2.bias": (h,), "mlp.fc1.weight": (f, h),
            "mlp.fc1.bias": (f,), "mlp.fc2.weight": (h, f), "mlp.fc2.bias": (h,)}.items()}
    return OrderedDict((k, weight(k, s, "norm" in k and k.endswith("weight"))) for k, s in shapes.items())


def vit(c, state, ln=None):
    h = c["hidden"]
    config = Blip2VisionConfig(hidden_size=h, intermediate_size=c["ffn"], num_hidden_layers=c["layers"], num_attention_heads=c["heads"],
                               image_size=c["image"], patch_size=14, hidden_act="gelu", layer_norm_eps=1e-6, qkv_bias=True)
    model = Blip2VisionModel(config).eval()
    names = {"embeddings.class_embedding": state["cls_token"], "embeddings.position_embedding": positions(c, state),
             "embeddings.patch_embedding.weight": state["patch_embed.proj.weight"], "embeddings.patch_embedding.bias": state["patch_embed.proj.bias"],
             "post_layernorm.weight": ln[0] if ln else torch.ones(h), "post_layernorm.bias": ln[1] if ln else torch.zeros(h)}
    for i in range(c["layers"]):
        of, to = f"blocks.{i}.", f"encoder.layers.{i}."
        for a, b in (("norm1", "layer_norm1"), ("norm2", "layer_norm2"), ("attn.proj", "self_attn.projection"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):
            names |= {f"{to}{b}.{end}": state[f"{of}{a}.{end}"] for end in ("weight", "bias")}
        names[to + "self_attn.qkv.weight"] = state[of + "attn.qkv.weight"]
        names[to + "self_attn.qkv.bias"] = torch.cat([state[of + "attn.q_bias"], torch.zeros(h), state[of + "attn.v_bias"]])
    print(model.load_state_dict(names, strict=True))
    model.post_layernorm.eps = 1e-5
    return model


def positions(c, state):
    p, side = state["pos_embed"].float(), c["image"] // 14
    if side == c["grid"]:
        return p
    grid = p[:, 1:].reshape(1, c["grid"], c["grid"], -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([p[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def pixels(side):
    """A picture as test_vision.c makes it, and what the reference makes of its numbers."""
    y, x, c = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    u8 = ((x * 7 + y * 13 + c * 50 + x * y // 5) % 256).astype(np.uint8)
    t = torch.tensor(u8).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    return ((t - mean[:, None, None]) / std[:, None, None])[None]


def qformer_state(c):
    q, f, h = c["q_hidden"], c["q_ffn"], c["hidden"]
    shapes = {"query_tokens": (1, c["queries"], q), "ln_vision.weight": (h,), "ln_vision.bias": (h,)}
    shapes |= {f"Qformer.bert.embeddings.LayerNorm.{e}": (q,) for e in ("weight", "bias")}
    for i in range(c["q_layers"]):
        parts = {"attention.self.query": (q, q), "attention.self.key": (q, q), "attention.self.value": (q, q), "attention.output.dense": (q, q),
                 "attention.output.LayerNorm": (q,), "intermediate_query.dense": (f, q), "output_query.dense": (q, f), "output_query.LayerNorm": (q,)}
        if i % 2 == 0:
            parts |= {"crossattention.self.query": (q, q), "crossattention.self.key": (q, h), "crossattention.self.value": (q, h),
                      "crossattention.output.dense": (q, q), "crossattention.output.LayerNorm": (q,)}
        for name, shape in parts.items():
            shapes[f"Qformer.bert.encoder.layer.{i}.{name}.weight"] = shape
            shapes[f"Qformer.bert.encoder.layer.{i}.{name}.bias"] = shape[:1]
    return OrderedDict((k, weight(k, s, ("Norm" in k or "ln_" in k) and k.endswith("weight"))) for k, s in shapes.items())


def qformer(c, state):
    config = Blip2QFormerConfig(hidden_size=c["q_hidden"], num_hidden_layers=c["q_layers"], num_attention_heads=c["q_heads"], intermediate_size=c["q_ffn"],
                                encoder_hidden_size=c["hidden"], cross_attention_frequency=2, layer_norm_eps=1e-12, hidden_act="gelu")
    model = Blip2QFormerModel(config).eval()
    names = {}
    for k, v in state.items():
        if k.startswith("Qformer.bert."):
            k = k.removeprefix("Qformer.bert.").replace("attention.self.", "attention.attention.").replace("embeddings.LayerNorm", "layernorm")
            names[k] = v
    wrong = model.load_state_dict(names, strict=False)
    print(wrong)
    assert not wrong.unexpected_keys and not wrong.missing_keys, wrong
    return model


def half(state):
    return OrderedDict((k, v.half()) for k, v in state.items())


@torch.no_grad()
def main():
    torch.manual_seed(1)
    torch.set_num_threads(2)
    out, c, folder = Vectors(), TINY, HERE / "vision"
    folder.mkdir(exist_ok=True)
    state, q_state = vit_state(c), qformer_state(c)
    join = {"llama_proj.weight": weight("llama_proj.weight.join", (c["out"], 4 * c["hidden"])), "llama_proj.bias": weight("b", (c["out"],))}
    ask = {"llama_proj.weight": weight("llama_proj.weight.ask", (c["out"], c["q_hidden"])), "llama_proj.bias": weight("b", (c["out"],))}
    junk = {"blocks.3.norm1.weight": torch.ones(c["hidden"]), "head.weight": torch.ones(3, c["hidden"])}  # as the real file has
    torch.save(half(state | junk), folder / "eva_vit.pth")
    torch.save({"model": q_state}, folder / "blip2.pth")
    adam = {"state": {0: {"exp_avg": torch.zeros(2, 2)}}, "param_groups": [{"lr": 1e-5}]}
    torch.save({"model": join, "optimizer": adam, "config": {"run": {"seed": 1}}, "scaler": {"scale": 1.0}, "epoch": 1}, folder / "proj_join.pth")
    torch.save({"model": ask, "optimizer": adam, "config": {}, "scaler": {}, "epoch": 1}, folder / "proj_ask.pth")

    x = vit(c, state)(pixels(c["image"])).last_hidden_state
    out.add("tiny.encode", -1, x[0])
    out.add("tiny.join", -1, torch.nn.functional.linear(x[0, 1:].reshape(-1, 4 * c["hidden"]), *join.values()))
    x = vit(c, state, (q_state["ln_vision.weight"], q_state["ln_vision.bias"]))(pixels(c["image"])).last_hidden_state
    out.add("tiny.encode_ln", -1, x[0])
    y = qformer(c, q_state)(query_embeds=q_state["query_tokens"], encoder_hidden_states=x).last_hidden_state
    out.add("tiny.query", -1, y[0])
    out.add("tiny.ask", -1, torch.nn.functional.linear(y[0], *ask.values()))
    wide = c | {"image": 112}
    out.add("wide.positions", -1, positions(wide, state)[0])
    out.add("wide.encode", -1, vit(wide, state)(pixels(112)).last_hidden_state[0])
    x = vit(FULL, vit_state(FULL))(pixels(224)).last_hidden_state[0]
    out.add("full.encode", -1, x[[0, 1, 128, 256]])
    out.write(HERE / "vision.bin")


if __name__ == "__main__":
    main()
