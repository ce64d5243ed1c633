#!/usr/bin/env python3
"""Writes tiny-*.gguf and tiny-*.bin: random Llamas and what the reference framework computes with them.

tied    F32; one matrix for embedding and head, one KV head for all queries, sizes that no vector width divides
untied  F16 matrices, a head of its own; weights are rounded before the reference sees them, so that both have the same
quant   Q4_1 layers and a tied Q8_0 embedding, as in the default model, but for a few matrices of other types (files
        often mix them); the reference gets the dequantised values
"""
import pathlib

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from transformers import LlamaConfig, LlamaForCausalLM

from reference import LlamaWatch, Vectors, greedy, hf_name, to_pairs

HERE = pathlib.Path(__file__).parent
VOCAB, CONTEXT, PROMPT, NEW = 267, 256, 12, 64
SHAPES = {
    "tied": dict(seed=1, hidden=48, heads=3, kv=1, ffn=72, theta=1e4, eps=1e-5, tied=True, matrix=Q.F32, embed=Q.F32),
    "untied": dict(seed=2, hidden=64, heads=4, kv=2, ffn=96, theta=5e5, eps=1e-6, tied=False, matrix=Q.F16, embed=Q.F16),
    "quant": dict(seed=3, hidden=64, heads=4, kv=2, ffn=160, theta=1e5, eps=1e-5, tied=True, matrix=Q.Q4_1, embed=Q.Q8_0),
}
LAYERS = 3
MIXED = {"blk.1.attn_v.weight": Q.Q8_0, "blk.1.ffn_down.weight": Q.Q4_0, "blk.2.attn_q.weight": Q.F16,
         "blk.2.attn_k.weight": Q.Q8_0, "blk.2.attn_output.weight": Q.BF16, "blk.2.ffn_gate.weight": Q.Q4_0}  # quant's


def build(s, seed):
    """A model whose activations and logits are of the order of one, so that 1e-4 means something."""
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=VOCAB, hidden_size=s["hidden"], intermediate_size=s["ffn"],
                         num_hidden_layers=LAYERS, num_attention_heads=s["heads"], num_key_value_heads=s["kv"],
                         max_position_embeddings=CONTEXT, rms_norm_eps=s["eps"], tie_word_embeddings=s["tied"],
                         rope_parameters={"rope_type": "default", "rope_theta": s["theta"]},
                         attn_implementation="eager")
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif "embed" in name or "lm_head" in name:
                p.copy_(torch.randn_like(p) * (0.2 if s["tied"] else 0.4))  # tied and large: it would repeat its input
            else:  # Q and K larger: attention that looks somewhere
                p.copy_(torch.randn_like(p) * (1.6 if "q_proj" in name or "k_proj" in name else 1.1) / p.shape[1] ** 0.5)
    return model


def tensors(model, s):
    """(GGUF name, bytes as stored, type); each parameter is replaced by what its stored bytes mean."""
    names = ["token_embd.weight", "output_norm.weight"] + ([] if s["tied"] else ["output.weight"])
    for i in range(LAYERS):
        names += [f"blk.{i}.{part}.weight" for part in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output",
                                                        "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")]
    parameters = dict(model.named_parameters())
    for name in names:
        p = parameters[hf_name(name)]
        kind = Q.F32 if p.ndim == 1 else s["embed"] if name in ("token_embd.weight", "output.weight") else s["matrix"]
        kind = MIXED.get(name, kind) if kind == Q.Q4_1 else kind
        stored = gguf.quants.quantize(p.detach().numpy(), kind)
        with torch.no_grad():
            p.copy_(torch.from_numpy(gguf.quants.dequantize(stored, kind).reshape(p.shape)))
        heads = s["heads"] if "attn_q" in name else s["kv"] if "attn_k" in name else 0
        yield name, to_pairs(stored, heads) if heads else stored, kind


def add_tokenizer(w, pre):
    """Byte-level BPE: four control tokens, the 256 bytes, seven merges."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    char = {b: chr(b) for b in printable}
    char.update({b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in char)})
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    merges = ["Ġ t", "h e", "Ġt he", "i n", "e r", "Ġ a", "o n"]
    tokens = control + [char[b] for b in range(256)] + [m.replace(" ", "") for m in merges]
    assert len(tokens) == VOCAB
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([3] * len(control) + [1] * (VOCAB - len(control)))
    w.add_token_merges(merges)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_pad_token_id(3)
    w.add_add_bos_token(False)
    w.add_chat_template("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
                        " + '<|im_end|>' + '\n'}}{% endfor %}"
                        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def write_gguf(path, name, s, stored):
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(f"Jaeda tiny {name}")
    w.add_block_count(LAYERS)
    w.add_context_length(CONTEXT)
    w.add_embedding_length(s["hidden"])
    w.add_feed_forward_length(s["ffn"])
    w.add_head_count(s["heads"])
    w.add_head_count_kv(s["kv"])
    w.add_layer_norm_rms_eps(s["eps"])
    w.add_rope_freq_base(s["theta"])
    w.add_rope_dimension_count(s["hidden"] // s["heads"])
    w.add_vocab_size(VOCAB)
    add_tokenizer(w, "smollm" if s["tied"] else "gpt-2")
    for tensor, data, kind in stored:
        w.add_tensor(tensor, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def make(name, s):
    rng = np.random.default_rng(s["seed"])
    for seed in range(s["seed"] * 1000, s["seed"] * 1000 + 100):
        model = build(s, seed)
        stored = list(tensors(model, s))
        prompt = rng.integers(4, VOCAB, PROMPT).tolist()
        ids, margin = greedy(model, prompt, NEW)
        if min(margin) > 0.01 and len(set(ids)) > 20:  # no near-tie, no short loop: 64 equal tokens are a real test
            break
    else:
        raise SystemExit(f"{name}: no seed gave a run worth comparing")
    write_gguf(HERE / f"tiny-{name}.gguf", name, s, stored)
    out = Vectors()
    out.add("prompt", -1, prompt)
    out.add("greedy", -1, ids)
    watch = LlamaWatch(model, out) if name != "quant" else None
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
        if watch:
            watch.close()
        else:
            out.add("head", -1, logits)
        double = model.double()(torch.tensor([prompt])).logits[0]
    out.write(HERE / f"tiny-{name}.bin")
    print(f"{name}: seed {seed}, logits up to {logits.abs().max():.2f}, fp32 - fp64 {(logits - double).abs().max():.1e}, "
          f"least margin {min(margin):.3f}, {len(set(ids))} distinct tokens")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in SHAPES.items():
        make(*each)
