#!/usr/bin/env python3
"""Writes folders/*, *.gguf and *.bin beside them: random models as Hugging Face folders, the same as GGUF files, and what
the reference framework computes with them.

neox-128    parallel residual, head_dim 128 half rotated; spellings and junk buffers as in the files of 2022; fp16
neox-256    parallel residual, head_dim 256 a quarter rotated; the spellings of transformers 4.48; bf16
neox-seq    sequential residual, head_dim 64, three layers in two shards with an index; fp16
neox-30003  a vocabulary of 30,003 rows (the tokenizer knows 267), tanh GELU, the spellings of transformers 5; fp16
llama-gqa   grouped queries, biases everywhere, a head of its own; bf16
llama-bin   the weights of llama-gqa as torch.save writes them: one shard a zip archive, one in the format before that
llama-tied  one KV head, tied, with the head stored once more as some writers do; fp32

Every weight is a small integer times a power of two: exact in fp16 and bf16, and it compresses well.
"""
import json
import pathlib
import shutil

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (AutoConfig, AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig,
                          LlamaForCausalLM)

from make_tiny import add_tokenizer
from reference import LlamaWatch, NeoxWatch, Vectors, greedy, to_pairs

HERE = pathlib.Path(__file__).parent
VOCAB, CONTEXT, PROMPT, NEW, EOS, SAMPLE = 267, 384, 12, 64, 2, 16
MERGES = ["Ġ t", "h e", "Ġt he", "i n", "e r", "Ġ a", "o n"]
CONTROL = ["<pad>", "<eos>", "<|endoftext|>", "<|sep|>"]
F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
MODELS = {
    "neox-128": dict(arch="neox", seed=11, hidden=256, heads=2, ffn=160, layers=1, rotary=0.5, dtype=F16,
                     spelling="old", junk=True, gguf=True),
    "neox-256": dict(arch="neox", seed=12, hidden=256, heads=1, ffn=96, layers=1, rotary=0.25, dtype=BF16,
                     spelling="middle"),
    "neox-seq": dict(arch="neox", seed=13, hidden=128, heads=2, ffn=192, layers=3, rotary=0.25, dtype=F16,
                     spelling="old", parallel=False, shards=2, gguf=True),
    "neox-30003": dict(arch="neox", seed=14, hidden=32, heads=2, ffn=64, layers=2, rotary=0.5, dtype=F16,
                       spelling="new", vocab=30003, act="gelu_new"),
    "llama-gqa": dict(arch="llama", seed=15, hidden=64, heads=4, kv=2, ffn=96, layers=2, dtype=BF16, bias=True,
                      gguf=True),
    "llama-tied": dict(arch="llama", seed=16, hidden=48, heads=3, kv=1, ffn=80, layers=2, dtype=F32, tied=True,
                       gguf=True),
}


def few_levels(x, std):
    """Rounds normal x to multiples -7..7 of a power of two, of about that deviation."""
    scale = 2.0**round(np.log2(std / 2.5))
    return torch.clamp(torch.round(x * std / scale), -7, 7) * scale


def rare_rows(w):
    """Rows of tokens that are no printable ASCII get small: what the model writes can be read, and is valid UTF-8."""
    text = tokenizer().decode
    for i in range(4, min(VOCAB, w.shape[0])):
        if not all(" " <= c <= "~" for c in text([i])):
            w[i] /= 8
    for i in (0, 1, 3):
        w[i] /= 8


def config_of(s):
    common = dict(vocab_size=s.get("vocab", VOCAB), hidden_size=s["hidden"], intermediate_size=s["ffn"],
                  num_hidden_layers=s["layers"], num_attention_heads=s["heads"], max_position_embeddings=CONTEXT,
                  bos_token_id=1, eos_token_id=EOS, pad_token_id=0, tie_word_embeddings=s.get("tied", False),
                  attn_implementation="eager")
    if s["arch"] == "neox":
        return GPTNeoXConfig(hidden_act=s.get("act", "gelu"), layer_norm_eps=1e-5,
                             use_parallel_residual=s.get("parallel", True),
                             rope_parameters={"rope_type": "default", "rope_theta": 1e4,
                                              "partial_rotary_factor": s["rotary"]}, **common)
    return LlamaConfig(num_key_value_heads=s["kv"], rms_norm_eps=1e-6, attention_bias=s.get("bias", False),
                       mlp_bias=s.get("bias", False),
                       rope_parameters={"rope_type": "default", "rope_theta": 5e4}, **common)


def build(s, seed):
    """A model whose activations and logits are of the order of one, so that 1e-4 means something."""
    torch.manual_seed(seed)
    model = (GPTNeoXForCausalLM if s["arch"] == "neox" else LlamaForCausalLM)(config_of(s)).eval()
    hidden = s["hidden"]
    with torch.no_grad():
        for name, p in model.named_parameters():
            x = torch.randn_like(p)
            if p.ndim == 1:
                p.copy_(few_levels(x, 0.2) + (0 if name.endswith(".bias") else 1))
            elif "embed_in" in name or "embed_tokens" in name:
                p.copy_(few_levels(x, 0.2 if s.get("tied") else 0.4))
                if s.get("tied"):
                    rare_rows(p)
            elif "lm_head" in name:
                p.copy_(few_levels(x, 3.2 / hidden**0.5))
                rare_rows(p)
            else:  # Q and K larger: attention that looks somewhere
                std = torch.full((p.shape[0], 1), 1.1 / p.shape[1]**0.5)
                if "q_proj" in name or "k_proj" in name:
                    std *= 1.5
                if "query_key_value" in name:
                    d = hidden // s["heads"]
                    std.view(s["heads"], 3, d)[:, :2] *= 1.5
                for row_std in std.unique():
                    rows = std[:, 0] == row_std
                    p[rows] = few_levels(x[rows], float(row_std))
    return model


def tokenizer():
    """Byte-level BPE: four control tokens, the 256 bytes, seven merges."""
    char = byte_chars()
    tokens = CONTROL + [char[b] for b in range(256)] + [m.replace(" ", "") for m in MERGES]
    assert len(tokens) == VOCAB
    t = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(tokens)}, merges=[tuple(m.split()) for m in MERGES]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in CONTROL])
    return t


def byte_chars():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    char = {b: chr(b) for b in printable}
    char.update({b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in char)})
    return char


def config_json(s):
    """Written by hand, as the years spelt it: transformers itself would only write today's spelling."""
    c = dict(architectures=["GPTNeoXForCausalLM" if s["arch"] == "neox" else "LlamaForCausalLM"], bos_token_id=1,
             hidden_size=s["hidden"], initializer_range=0.02, intermediate_size=s["ffn"],
             max_position_embeddings=CONTEXT, num_attention_heads=s["heads"], num_hidden_layers=s["layers"],
             use_cache=True, vocab_size=s.get("vocab", VOCAB), tie_word_embeddings=s.get("tied", False))
    dtype = str(s["dtype"]).split(".")[1]
    if s["arch"] == "llama":
        return c | dict(model_type="llama", eos_token_id=EOS, hidden_act="silu", rms_norm_eps=1e-6, rope_theta=5e4,
                        rope_scaling=None, num_key_value_heads=s["kv"], attention_bias=s.get("bias", False),
                        mlp_bias=s.get("bias", False), pretraining_tp=1, torch_dtype=dtype,
                        transformers_version="4.41.2")
    c |= dict(model_type="gpt_neox", hidden_act=s.get("act", "gelu"), layer_norm_eps=1e-5)
    if not s.get("parallel", True):
        c |= dict(use_parallel_residual=False)
    if s["spelling"] == "old":  # the end of text is wrong, as it is in those files
        return c | dict(eos_token_id=0, rotary_pct=s["rotary"], rotary_emb_base=10000, torch_dtype=dtype,
                        transformers_version="4.23.1")
    if s["spelling"] == "middle":
        return c | dict(eos_token_id=EOS, partial_rotary_factor=s["rotary"], rope_theta=10000, rope_scaling=None,
                        rotary_pct=s["rotary"], rotary_emb_base=10000, attention_bias=True, attention_dropout=0.0,
                        hidden_dropout=0.0, use_parallel_residual=True, torch_dtype=dtype,
                        transformers_version="4.48.2")
    return c | dict(eos_token_id=[EOS], attention_bias=True, use_parallel_residual=True, dtype=dtype,
                    rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=s["rotary"]),
                    transformers_version="5.0.0")


def write_folder(folder, s, state):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_json(s), indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(
        {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": EOS, "transformers_version": "4.41.2"},
        indent=2) + "\n")
    (folder / "tokenizer.json").write_text(tokenizer().to_str(pretty=True) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"},
        indent=2) + "\n")
    names, shards = list(state), s.get("shards", 1)
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map, total = {}, sum(t.numel() * t.element_size() for t in state.values())
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[len(names) * i // shards:len(names) * (i + 1) // shards]
        save_file({n: state[n] for n in part}, folder / file, metadata={"format": "pt"})
        weight_map |= {n: file for n in part}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n")


def parameters(model):
    """By the names in files: transformers 5 calls NeoX's embed_out lm_head, in memory only."""
    neox = isinstance(model, GPTNeoXForCausalLM)
    return {"embed_out.weight" if neox and n == "lm_head.weight" else n: p for n, p in model.named_parameters()}


def stored(model, s):
    state = {n: p.detach().to(s["dtype"]).contiguous() for n, p in parameters(model).items()}
    for n, p in parameters(model).items():
        assert torch.equal(state[n].float(), p), n
    if s.get("tied"):
        state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    for i in range(s["layers"] if s.get("junk") else 0):
        at, rot = f"gpt_neox.layers.{i}.attention.", int(s["hidden"] // s["heads"] * s["rotary"])
        state[at + "bias"] = torch.tril(torch.ones(1, 1, CONTEXT, CONTEXT, dtype=torch.bool))
        state[at + "masked_bias"] = torch.tensor(-1e9)
        state[at + "rotary_emb.inv_freq"] = 1e4 ** -(torch.arange(0, rot, 2).float() / rot)
    return state


def gguf_names(s):
    """(GGUF name, HF name, how its rows change)."""
    same, pairs, kv_pairs, blocks = None, "pairs", "kv pairs", "blocks"
    if s["arch"] == "neox":
        ends = [("token_embd.weight", "gpt_neox.embed_in.weight", same),
                ("output_norm.weight", "gpt_neox.final_layer_norm.weight", same),
                ("output_norm.bias", "gpt_neox.final_layer_norm.bias", same),
                ("output.weight", "embed_out.weight", same)]
        prefix, kinds = "gpt_neox.layers", ("weight", "bias")
        parts = [("attn_norm", "input_layernorm", same), ("attn_qkv", "attention.query_key_value", blocks),
                 ("attn_output", "attention.dense", same), ("ffn_norm", "post_attention_layernorm", same),
                 ("ffn_up", "mlp.dense_h_to_4h", same), ("ffn_down", "mlp.dense_4h_to_h", same)]
    else:
        ends = [("token_embd.weight", "model.embed_tokens.weight", same),
                ("output_norm.weight", "model.norm.weight", same)]
        ends += [] if s.get("tied") else [("output.weight", "lm_head.weight", same)]
        prefix, kinds = "model.layers", ("weight", "bias") if s.get("bias") else ("weight",)
        parts = [("attn_norm", "input_layernorm", same), ("attn_q", "self_attn.q_proj", pairs),
                 ("attn_k", "self_attn.k_proj", kv_pairs), ("attn_v", "self_attn.v_proj", same),
                 ("attn_output", "self_attn.o_proj", same), ("ffn_norm", "post_attention_layernorm", same),
                 ("ffn_gate", "mlp.gate_proj", same), ("ffn_up", "mlp.up_proj", same),
                 ("ffn_down", "mlp.down_proj", same)]
    yield from ends
    for i in range(s["layers"]):
        for ours, theirs, how in parts:
            for kind in kinds if s["arch"] == "neox" or "norm" not in ours else ("weight",):
                yield f"blk.{i}.{ours}.{kind}", f"{prefix}.{i}.{theirs}.{kind}", how


def reorder(p, how, s):
    """A matrix or bias of an HF file as GGUF has it."""
    if how == "blocks":
        return p.reshape(s["heads"], 3, s["hidden"] // s["heads"], -1).swapaxes(0, 1).reshape(p.shape)
    return to_pairs(p, s["heads"] if how == "pairs" else s["kv"]) if how else p


def plain(ours, p, how, s):
    """What a tensor becomes in a GGUF file: its bytes, and their type."""
    kind = Q.F32 if p.ndim == 1 else {F16: Q.F16, BF16: Q.BF16, F32: Q.F32}[s["dtype"]]
    return gguf.quants.quantize(np.ascontiguousarray(reorder(p.detach().numpy(), how, s)), kind), kind


def write_gguf(path, name, s, model, encode=plain):
    w = gguf.GGUFWriter(path, "gptneox" if s["arch"] == "neox" else "llama")
    w.add_name(f"Jaeda {name}")
    w.add_block_count(s["layers"])
    w.add_context_length(CONTEXT)
    w.add_embedding_length(s["hidden"])
    w.add_feed_forward_length(s["ffn"])
    w.add_head_count(s["heads"])
    if s["arch"] == "neox":
        w.add_rope_dimension_count(int(s["hidden"] // s["heads"] * s["rotary"]))
        w.add_parallel_residual(s.get("parallel", True))
        w.add_layer_norm_eps(1e-5)
    else:
        w.add_head_count_kv(s["kv"])
        w.add_rope_dimension_count(s["hidden"] // s["heads"])
        w.add_rope_freq_base(5e4)
        w.add_layer_norm_rms_eps(1e-6)
        w.add_vocab_size(VOCAB)
    add_tokenizer(w, "gpt-2")
    matrices = parameters(model)
    for ours, theirs, how in gguf_names(s):
        data, kind = encode(ours, matrices[theirs], how, s)
        w.add_tensor(ours, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def check_folder(folder, s, model, prompt):
    """The reference itself reads the folder and gets the same model."""
    config = AutoConfig.from_pretrained(folder)
    again = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    with torch.no_grad():
        a, b = model(torch.tensor([prompt])).logits, again(torch.tensor([prompt])).logits
    assert torch.equal(a, b), f"{folder}: read back it differs by {(a - b).abs().max()}"


def make(name, s):
    rng = np.random.default_rng(s["seed"])
    vocab = s.get("vocab", VOCAB)
    for seed in range(s["seed"] * 1000, s["seed"] * 1000 + 100):
        model = build(s, seed)
        prompt = rng.integers(4, vocab, PROMPT).tolist()
        ids, margin = greedy(model, prompt, NEW)
        if min(margin) > 0.01 and len(set(ids)) > 20:  # no near-tie, no short loop: 64 equal tokens are a real test
            break
    else:
        raise SystemExit(f"{name}: no seed gave a run worth comparing")
    write_folder(HERE / "folders" / name, s, stored(model, s))
    check_folder(HERE / "folders" / name, s, model, prompt)
    if s.get("gguf"):
        write_gguf(HERE / f"{name}.gguf", name, s, model)
    out = Vectors()
    out.add("prompt", -1, prompt)
    out.add("greedy", -1, ids)
    watch = (NeoxWatch if s["arch"] == "neox" else LlamaWatch)(model, out)
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
        watch.close()
        double = model.double()(torch.tensor([prompt])).logits[0]
    if vocab > VOCAB:  # all logits would be megabytes: the last row, and a sample of each
        out.records.pop()
        out.add("head.last", -1, logits[-1])
        out.add("head.sample", -1, logits[:, ::SAMPLE])
    out.write(HERE / f"{name}.bin")
    print(f"{name}: seed {seed}, logits up to {logits.abs().max():.2f}, "
          f"fp32 - fp64 {(logits - double).abs().max():.1e}, least margin {min(margin):.3f}, {len(set(ids))} distinct tokens")


def make_torch():
    """The same tensors, split over two files of torch.save with their index."""
    source, folder = HERE / "folders" / "llama-gqa", HERE / "folders" / "llama-bin"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = load_file(source / "model.safetensors")
    names = sorted(tensors)
    where = {}
    for i, part in enumerate((names[:len(names) // 2], names[len(names) // 2:])):
        file = f"pytorch_model-{i + 1:05}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, folder / file, _use_new_zipfile_serialization=i == 0)
        where.update((name, file) for name in part)
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in MODELS.items():
        make(*each)
    make_torch()
