#!/usr/bin/env python3
"""make_corpus.py: writes the seeds of corpus/*, small files that are right or wrong in one way.

What the fuzzers found since lies beside them under the name of its symptom; this script does not touch those.
"""
import io
import zipfile
import json
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


def safetensors(header, data=0):
    raw = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    return struct.pack("<Q", len(raw)) + raw + b"w" * data


def st(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


ST = {"__metadata__": {"format": "pt"}, "b": st("BF16", [3], 17, 23), "a": st("F32", [2, 2], 1, 17), "mask": st("BOOL", [1], 0, 1),
      "한": st("F16", [], 23, 25), "none": st("F16", [0, 7], 23, 23), "new": st("F4_NEW", [9], 25, 30)}
SAFETENSORS = {
    "whole": safetensors(ST, 30), "text": json.dumps(ST).encode(), "cut": safetensors(ST, 20), "longer": safetensors(ST, 31),
    "empty": b"", "no-tensors": safetensors({}), "huge-header": struct.pack("<Q", 2**64 - 1) + b"{}", "list": safetensors(b"[]"),
    "hole": safetensors({"a": st("F32", [1], 4, 8)}, 8), "overlap": safetensors({"a": st("F32", [2], 0, 8), "b": st("F32", [1], 4, 8)}, 8),
    "backwards": safetensors({"a": st("F32", [1], 4, 0)}, 4), "shape-overflow": safetensors({"a": st("F32", [2**62, 4], 0, 4)}, 4),
    "end-overflow": safetensors({"a": st("NEW", [1], 0, 2**63 - 1)}, 4), "negative": safetensors({"a": st("F32", [-1], 0, 4)}, 4),
    "twice": safetensors(b'{"a":1,"a":2}'), "deep": safetensors(b'{"a":' + b"[" * 3000), "five-dims": json.dumps({"a": st("I8", [2, 3, 1, 1, 2], 0, 12)}).encode(),
}
NEOX = {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
        "intermediate_size": 256, "vocab_size": 100, "max_position_embeddings": 32, "rotary_pct": 0.25, "rotary_emb_base": 10000,
        "layer_norm_eps": 1e-05, "hidden_act": "gelu", "torch_dtype": "float16", "eos_token_id": 0}
HF_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 32,
            "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu", "tie_word_embeddings": True, "eos_token_id": [2, 3]}
ENTRY = {"name": "a", "aliases": "b c/d", "repo": "o/a", "template": "raw", "about": "A", "stop": ["#"], "stop_ids": [2], "config": NEOX}
CONFIG = {
    "neox": NEOX, "llama": HF_LLAMA, "catalogue": {"models": [ENTRY, ENTRY | {"name": "e", "config": HF_LLAMA}]}, "eos": {"eos_token_id": [1, 99, -1]},
    "rope-parameters": NEOX | {"rope_parameters": {"rope_type": "default", "rope_theta": 5, "partial_rotary_factor": 0.5}},
    "rope-scaling": HF_LLAMA | {"rope_scaling": {"type": "linear", "factor": 2}}, "quantised": HF_LLAMA | {"quantization_config": {"quant_method": "awq"}},
    "window": HF_LLAMA | {"sliding_window": 8}, "experts": HF_LLAMA | {"num_local_experts": 8}, "mamba": {"architectures": ["MambaForCausalLM"]},
    "zero-heads": HF_LLAMA | {"num_key_value_heads": 0}, "large": HF_LLAMA | {"num_attention_heads": 4096, "head_dim": 4096},
    "nothing-rotates": NEOX | {"rotary_pct": 0}, "odd-head": NEOX | {"hidden_size": 60},
}
CONFIG = {name: json.dumps(o).encode() for name, o in CONFIG.items()} | {"empty": b"", "null": b"null", "twice": b'{"a":1,"a":1}', "not-utf8": b'{"\xff":1}'}

BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "▁": 3, "▁ab": 4, "<0xFF>": 5, "한": 6, "<unk>": 7, "Ġ": 8}, "merges": ["a b", ["▁", "ab"]],
       "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True}


def added(id, content, **flags):
    return {"id": id, "content": content} | flags


def tokenizer_json(text, model=BPE, **parts):
    return json.dumps({"model": model} | parts, ensure_ascii=False).encode() + b"\0" + text


def steps(kind, *parts):
    return {"type": "Sequence", kind: list(parts)}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True}
SAMPLE = "ab  ab 한 a\u0308 12,3 <e>ab<s> x".encode() + b"\xff\xed"
TOKENIZER_JSON = {
    "plain": tokenizer_json(SAMPLE), "byte-level": tokenizer_json(SAMPLE, pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL),
    "added": tokenizer_json(SAMPLE, added_tokens=[added(9, "<e>", special=True, lstrip=True, rstrip=True), added(2, "ab", special=True, single_word=True),
                                                  added(11, "a\u0308", normalized=True)], normalizer={"type": "NFC"}),
    "normalizers": tokenizer_json(SAMPLE, normalizer=steps("normalizers", {"type": "NFKD"}, {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": "\\s+|x*"}, "content": "▁"}, {"type": "Prepend", "prepend": "▁"})),
    "splits": tokenizer_json(SAMPLE, pre_tokenizer=steps("pretokenizers", {"type": "Digits", "individual_digits": True},
        *({"type": "Split", "pattern": {"Regex": "[\\w]|\\S,?"}, "behavior": b, "invert": b == "Removed"} for b in
          ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")), {"type": "Split", "pattern": {"String": "b"}, "behavior": "Isolated"})),
    "metaspace": tokenizer_json(SAMPLE, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}, decoder={"type": "Metaspace", "replacement": "▁"}),
    "bos": tokenizer_json(b"ab", post_processor=steps("processors", {"type": "ByteLevel"}, {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "a"}}], "special_tokens": {"a": {"ids": [0]}}})),
    "explodes": tokenizer_json(b"x" * 40 + b"q", pre_tokenizer={"type": "Split", "pattern": {"Regex": "(x+x+)+y|(x*)*z"}, "behavior": "Isolated"}),
    "far-id": tokenizer_json(b"", BPE | {"vocab": {"a": 4194303}, "merges": []}), "twice": tokenizer_json(b"", BPE | {"vocab": {"a": 1, "b": 1}}),
    "unigram": tokenizer_json(b"", {"type": "Unigram"}), "cut": tokenizer_json(SAMPLE)[:60], "no-json": b"\xff", "empty": b"",
    "nested": b'{"normalizer":' + b'{"type":"Sequence","normalizers":[' * 40,
}


def field(number, raw):
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def varint(v):
    return bytes([v]) if v < 128 else bytes([v & 127 | 128]) + varint(v >> 7)


def piece(text, score=0.0, kind=1):
    return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind))


PIECES = b"".join([piece("<unk>", kind=2), piece("<s>", kind=3), piece("</s>", kind=3), piece("[X]", kind=4), piece("<0xFF>", kind=6), piece("pad", kind=5)]
                  + [piece(t, -float(i)) for i, t in enumerate(["▁ab", "ab", "▁", "a", "b", "▁▁", "한", "한국", "국"])])
BPE_SPEC = field(2, b"\x18\x02")
TOKENIZER_MODEL = {
    "bpe": PIECES + BPE_SPEC, "kept-blanks": PIECES + BPE_SPEC + field(3, b"\x20\x00"), "no-prefix": PIECES + BPE_SPEC + field(3, b"\x18\x00\x28\x00"),
    "unigram": PIECES, "charsmap": PIECES + BPE_SPEC + field(3, field(2, b"xx")), "cut": (PIECES + BPE_SPEC)[:-3], "empty": b"",
    "nan": PIECES + piece("x", float("nan")) + BPE_SPEC, "latin": PIECES + field(1, field(1, b"\xe9")) + BPE_SPEC, "no-pieces": BPE_SPEC,
    "long-length": b"\x0a" + b"\xff" * 9 + b"\x01", "group": PIECES + b"\x0b" + BPE_SPEC, "field-0": b"\x02\x00", "text": b"version https://",
}


def chars(s):
    return struct.pack("<H", len(s.encode())) + s.encode()


def maybe(s):
    """A text that may be missing: its length + 1, or 0."""
    return struct.pack("<I", 0) if s is None else struct.pack("<I", len(s.encode()) + 1) + s.encode()


def items(*raw):
    return struct.pack("<I", len(raw)) + b"".join(raw)


def frame(kind, body, n=None):
    return struct.pack("<II", len(body) if n is None else n, kind) + body


HELLO_FRAME, REQUEST, CANCEL, EVENT = range(4)
PROGRESS, TEXT, PROFILE, MODELS, SYSTEM, FIT, DONE, FAIL = range(8)
SETTINGS = struct.pack("<fffffiQ", 0.7, 0.9, 0, 1, 1.1, 40, 7) + struct.pack("<if?", 4, 1, True)
INT = struct.Struct("<i").pack


def request(kind, messages=(), stops=(), ids=(), fit=((), (), (), ()), model="tiny", extra=b""):
    q = struct.pack("<Qii", 9, kind, 1) + b"".join(map(maybe, (model, "chat", None, "int8", None, None)))
    q += struct.pack("<i", 512) + maybe("HOME=/x") + struct.pack("<i???d?", 2, True, False, False, 600.0, True)
    q += items(*(maybe(role) + maybe(said) for role, said in messages)) + maybe(None) + SETTINGS
    q += items(*map(maybe, stops)) + items(*map(INT, ids)) + struct.pack("<ii?ii", 64, 0, True, 0, 3)
    return frame(REQUEST, q + b"".join(items(*(maybe(x) if isinstance(x, str) else INT(x) for x in a)) for a in fit) + extra)


def event(kind, body=b"", job=9):
    return frame(EVENT, struct.pack("<IQ", kind, job) + body)


TEXT_EVENT = event(TEXT, maybe("한\0글"))
DONE_EVENT = event(DONE, struct.pack("<i", 3) + chars("###") + struct.pack("<4i2Q6d2?", *range(12), True, False) + SETTINGS
                   + struct.pack("<d", 1.5) + chars("tiny") + chars("raw"))
CODEC = {
    "hello": frame(HELLO_FRAME, chars("0.1.0-abc") + chars("a.ipynb") + INT(77) + chars("")),
    "generate": request(2, [("system", "하나"), ("user", "둘"), (None, None)], ["###", "끝"], [2, -1]),
    "fit": request(8, fit=(["int8", "auto"], ["this"], [512, 2048], [1, 4])), "plain": request(5, model=None), "cancel": frame(CANCEL, struct.pack("<Q", 9)),
    "stream": TEXT_EVENT + event(TEXT, maybe("")) + event(PROGRESS, chars("prefill") + struct.pack("<dd", 3, 9) + chars("tok") + struct.pack("<d", 1)) + DONE_EVENT,
    "fail": event(FAIL, INT(-9) + chars("killed by signal 9")), "fail-unknown": event(FAIL, INT(-99) + chars("x")), "no-models": event(MODELS, items()),
    "models-huge": event(MODELS, struct.pack("<I", 2**32 - 1)),
    "kind-99": request(99), "event-99": event(99),
    "longer": request(2, extra=b"x"), "cut": DONE_EVENT[:60] + b"\0" * 4, "frame-4": frame(4, b"x"), "frame-long": frame(EVENT, b"x", 2**32 - 1), "half": TEXT_EVENT[:-1],
    "zero-in-name": request(2, model="a\0b"), "name-too-long": frame(HELLO_FRAME, chars("x" * 48) + chars("") + INT(1) + chars("")), "http": b"GET / HTTP/1.1\r\n\r\n", "empty": b"",
    "fit-none": request(8, fit=(["int8"], [], [], [])), "stop-missing": request(2, stops=[None]),
}



def torch_tensor(storage, key, shape, strides):
    """The opcodes of one tensor as torch.save writes it."""
    def ints(values):
        return b"(" + b"".join(b"K" + bytes([v]) for v in values) + b"t"

    def word(text):
        return b"X" + struct.pack("<I", len(text)) + text.encode()
    return (b"ctorch._utils\n_rebuild_tensor_v2\n((" + word("storage") + b"ctorch\n" + storage + b"\n" + word(key) + word("cpu")
            + b"K\x06tQK\0" + ints(shape) + ints(strides) + b"\x89ccollections\nOrderedDict\n)RtR")


def torch_zip(pickled, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as z:
        for name, raw in (("a/data.pkl", pickled), ("a/byteorder", b"little"), ("a/data/0", bytes(24))):
            z.writestr(zipfile.ZipInfo(name), raw, compression)
    return out.getvalue()


WORD = b"X\x01\0\0\0w"
STATE = b"\x80\x02}q\0" + WORD + torch_tensor(b"FloatStorage", "0", (2, 3), (3, 1)) + b"s."
NESTED = b"\x80\x02}(X\x05\0\0\0model}(" + WORD + torch_tensor(b"HalfStorage", "0", (6,), (1,)) + b"uX\x05\0\0\0epochK\x03u."
LEGACY = (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}." + STATE + b"\x80\x02]X\x01\0\0\0" + b"0a."
          + struct.pack("<Q", 6) + bytes(24))
TORCH = {
    "state": torch_zip(STATE), "nested": torch_zip(NESTED), "legacy": LEGACY, "pickle": STATE, "compressed": torch_zip(STATE, zipfile.ZIP_DEFLATED),
    "system": torch_zip(b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR."), "memo": b"\x80\x02}r\xff\xff\xff\xff.", "itself": b"\x80\x02]q\0h\0a.", "empty": b"",
    "cut": torch_zip(STATE)[:-30], "legacy-cut": LEGACY[:-9],
}



def picture(kind, mode="RGB", **options):
    """Made with Pillow, which this script alone needs."""
    from PIL import Image
    out = io.BytesIO()
    Image.linear_gradient("L").resize((21, 13)).convert(mode).save(out, format=kind, **options)
    return out.getvalue()


TURNED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
IMAGE = {
    "baseline.jpg": picture("JPEG", exif=TURNED), "progressive.jpg": picture("JPEG", progressive=True), "cmyk.jpg": picture("JPEG", "CMYK"),
    "rgb.png": picture("PNG", exif=TURNED), "grey.png": picture("PNG", "L"), "palette.png": picture("PNG", "P"), "alpha.png": picture("PNG", "LA"),
    "lossy.webp": picture("WEBP", exif=TURNED), "lossless.webp": picture("WEBP", lossless=True), "alpha.webp": picture("WEBP", "RGBA"),
    "cut.jpg": picture("JPEG")[:-40], "cut.png": picture("PNG")[:-40], "cut.webp": picture("WEBP")[:-20],
}

for folder, files in (("gguf", GGUF), ("tokenizer", TOKENIZER), ("safetensors", SAFETENSORS), ("torch", TORCH), ("image", IMAGE), ("config", CONFIG),
                      ("tokenizer_json", TOKENIZER_JSON), ("tokenizer_model", TOKENIZER_MODEL), ("codec", CODEC)):
    (HERE / folder).mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (HERE / folder / name).write_bytes(raw)
    print(f"{folder}: {len(files)} seeds")
