#!/usr/bin/env python3
"""Writes a Hugging Face folder of a catalogued shape with random fp16 weights: what a load is timed on.

    tests/bench/make_folder.py polyglot-ko-1.3b FOLDER [--shards 3]

Only GPT-NeoX shapes. The text of such a model means nothing; its bytes are read and packed like those of a real one."""
import argparse
import json
import pathlib
import random
import struct

CATALOG = pathlib.Path(__file__).resolve().parents[2] / "engine/data/catalog.json"
BLOCK = 1 << 20  # numbers that are drawn; the weights repeat them from changing places


def shapes(c):
    h, f, v = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    yield "gpt_neox.embed_in.weight", [v, h]
    for i in range(c["num_hidden_layers"]):
        layer = f"gpt_neox.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}{norm}.weight", [h]
            yield f"{layer}{norm}.bias", [h]
        for name, rows, cols in (("attention.query_key_value", 3 * h, h), ("attention.dense", h, h),
                                 ("mlp.dense_h_to_4h", f, h), ("mlp.dense_4h_to_h", h, f)):
            yield f"{layer}{name}.weight", [rows, cols]
            yield f"{layer}{name}.bias", [rows]
    yield "gpt_neox.final_layer_norm.weight", [h]
    yield "gpt_neox.final_layer_norm.bias", [h]
    yield "embed_out.weight", [v, h]


def numbers(shape):
    n = 1
    for d in shape:
        n *= d
    return n


def write(path, tensors, matrix, ones):
    header, at = {}, 0
    for name, shape in tensors:
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at := at + 2 * numbers(shape)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            n = 2 * numbers(shape)
            block = ones if "norm" in name and name.endswith(".weight") else matrix
            start = 2 * random.randrange(BLOCK // 2)
            out.write(block[start:start + n])
            n -= min(n, len(block) - start)
            while n:
                out.write(block[:n])
                n -= min(n, len(block))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("model")
    args.add_argument("folder", type=pathlib.Path)
    args.add_argument("--shards", type=int, default=3)
    args = args.parse_args()
    entry = next(m for m in json.loads(CATALOG.read_text())["models"] if m["name"] == args.model)
    config = entry["config"]
    random.seed(1)
    matrix = struct.pack(f"<{BLOCK}e", *(random.gauss(0, config["hidden_size"] ** -0.5) for _ in range(BLOCK)))
    ones = struct.pack(f"<{BLOCK}e", *([1.0] * BLOCK))
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "config.json").write_text(json.dumps(config, indent=2))
    tensors = list(shapes(config))
    total = sum(2 * numbers(shape) for _, shape in tensors)
    parts, filled = [[]], 0
    for tensor in tensors:
        if filled > total * len(parts) / args.shards:
            parts.append([])
        parts[-1].append(tensor)
        filled += 2 * numbers(tensor[1])
    index = {}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        write(args.folder / file, part, matrix, ones)
        index |= {name: file for name, _ in part}
    (args.folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}))
    print(f"{args.folder}: {total / 1e9:.2f} GB in {len(parts)} shards")


if __name__ == "__main__":
    main()
