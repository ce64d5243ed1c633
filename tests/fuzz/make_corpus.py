#!/usr/bin/env python3
"""make_corpus.py: writes the seeds of corpus/gguf and corpus/tokenizer, small files that are right or wrong in one way.

What the fuzzers found since lies beside them under the name of its symptom; this script does not touch those.
"""
import pathlib
import struct

HERE = pathlib.Path(__file__).parent / "corpus"
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}


def text(s):
    raw = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        elem, items = v
        return struct.pack("<IQ", elem, len(items)) + b"".join(value(elem, i) for i in items)
    return struct.pack(PACK[kind], v)


def kv(key, kind, v):
    return text(key) + struct.pack("<I", kind) + value(kind, v)


def tensor(name, dims, kind, offset):
    return text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, offset)


def gguf(kvs, tensors=(), data=b"", version=3, align=32, counts=None):
    n_tensors, n_kvs = counts or (len(tensors), len(kvs))
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_kvs) + b"".join(kvs) + b"".join(tensors)
    return head + b"\0" * (-len(head) % align) + data


def byte_alphabet():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + other.index(b)) for b in range(256)]


LLAMA = [kv("general.architecture", STRING, "llama"), kv("general.name", STRING, "tiny"), kv("llama.block_count", U32, 1),
         kv("llama.embedding_length", U32, 32), kv("llama.feed_forward_length", U32, 64), kv("llama.context_length", U32, 16),
         kv("llama.attention.head_count", U32, 2), kv("llama.attention.head_count_kv", U32, 1),
         kv("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), kv("llama.rope.freq_base", F32, 10000)]
EMBED = tensor("token_embd.weight", [32, 4], 0, 0)
VOCAB = [kv("tokenizer.ggml.model", STRING, "gpt2"), kv("tokenizer.ggml.pre", STRING, "smollm"),
         kv("tokenizer.ggml.tokens", ARRAY, (STRING, ["a", "h", "ah", "<|im_end|>"])),
         kv("tokenizer.ggml.token_type", ARRAY, (I32, [1, 1, 1, 3])), kv("tokenizer.ggml.merges", ARRAY, (STRING, ["a h"])),
         kv("tokenizer.ggml.eos_token_id", U32, 3)]
SCALARS = [kv(f"k{k}", k, v) for k, v in ((U8, 255), (I8, -1), (U16, 65535), (I16, -1), (U32, 7), (I32, -7), (F32, 1.5),
                                          (BOOL, 1), (STRING, "한"), (U64, 2**64 - 1), (I64, -2**63), (F64, 2.5))]
whole = gguf(LLAMA + VOCAB, [EMBED], b"w" * 512)
GGUF = {
    "empty": b"", "magic-only": b"GGUF", "no-keys": gguf([]), "version-2": gguf(SCALARS, version=2), "scalars": gguf(SCALARS),
    "llama": whole, "cut-in-tensor": whole[:-100], "cut-in-header": whole[:300], "vocab-only": gguf(VOCAB),
    "bytes-vocab": gguf([kv("tokenizer.ggml.model", STRING, "gpt2"), kv("tokenizer.ggml.tokens", ARRAY, (STRING, byte_alphabet() + ["he"])),
                         kv("tokenizer.ggml.merges", ARRAY, (STRING, ["h e"]))]),
    "nested": gguf([kv("k", ARRAY, (ARRAY, [(U8, [1, 2]), (STRING, ["x"]), (ARRAY, [(U8, [1])])]))]),
    "many-tensors": gguf([], counts=(2**60, 0)), "many-keys": gguf([], counts=(0, 2**63)),
    "long-string": gguf([text("k") + struct.pack("<IQ", STRING, 2**63)]),
    "long-array": gguf([text("k") + struct.pack("<IIQ", ARRAY, F64, 2**61 + 2)], counts=(0, 1)),
    "long-texts": gguf([text("k") + struct.pack("<IIQ", ARRAY, STRING, 2**40)], counts=(0, 1)),
    "same-key": gguf([kv("k", U8, 1), kv("k", U8, 2)]),
    "same-tensor": gguf([], [tensor("t", [4], 0, 0), tensor("t", [4], 0, 32)], b"w" * 64),
    "overlap": gguf([], [tensor("a", [16], 0, 32), tensor("b", [4, 4], 0, 0)], b"w" * 64 + b"w" * 32),
    "dims-overflow": gguf([], [tensor("t", [2**63, 2], 0, 0)], b"w" * 64),
    "zero-dim": gguf([], [tensor("t", [4, 0], 0, 0)], b"w" * 64),
    "part-block": gguf([], [tensor("t", [33, 32], 3, 0)], b"w" * 2000),
    "unknown-dtype": gguf([], [tensor("t", [4], 1234, 0)], b"w" * 64),
    "align-8": gguf([kv("general.alignment", U32, 8)], [tensor("t", [2], 0, 8)], b"w" * 16, align=8),
    "align-0": gguf([kv("general.alignment", U32, 0)], [tensor("t", [2], 0, 0)], b"w" * 16),
    "offset-wraps": gguf([], [tensor("t", [4], 0, 2**64 - 32)], b"w" * 64),
    "heads-zero": gguf([k if b"head_count_kv" not in k else kv("llama.attention.head_count_kv", U32, 0) for k in LLAMA], [EMBED], b"w" * 512),
}
WORDS = ["hello hello", "12 345 6", "it's I'LL we've", "a  b   c\n\n\td \r\n", "한국어 딥러닝이 뭐야?", "🦙 👨‍👩‍👧", "<|im_end|>", "[user]s[user]",
         "<|im_<|im_start|>|>", "aaaaaaaaaaaaaaab", "\x00\x01\x7f", "\u0085\u180e\u2028\u3000 x", ""]
TOKENIZER = {f"text-{i:02}-{mode}": bytes([mode]) + w.encode() for i, w in enumerate(WORDS) for mode in (0, 3)}
TOKENIZER |= {"broken-utf8": b"\x03a\xed\x95 \xff\xc0\xafb \xf0\x9f", "surrogate": b"\x05\xed\xa0\x80x", "llama-digits": b"\x051234567 \n x"}

for folder, files in (("gguf", GGUF), ("tokenizer", TOKENIZER)):
    (HERE / folder).mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (HERE / folder / name).write_bytes(raw)
    print(f"{folder}: {len(files)} seeds")
