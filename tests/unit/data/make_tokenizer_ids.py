#!/usr/bin/env python3
"""make_tokenizer_ids.py DATA: writes tokenizer_ids.txt, tokenizer_tiny.txt and tokenizer_spm.txt beside it.

The ids are those of the packages tokenizers 0.23.3 and sentencepiece 0.2.3. tokenizer_ids.txt reads the real files under
DATA; tokenizer_tiny.txt brings small tokenizer.json texts of its own, each with a setting that the real files lack; tokenizer_spm.txt trains
small SentencePiece models.
"""
import io
import json
import pathlib
import sys

import sentencepiece
from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "", " ", "   \t ", "\n\n", "a\r\nb", "Hello, world!", " leading", "trailing ", "two  spaces   three", "I'm sure they'll say 'LL",
    "### 질문: 딥러닝이 뭐야?\n\n### 답변:", "대한민국 서울특별시 강남구 테헤란로 123번길", "뷁쀍 ㅋㅋㅋ ㅠㅠ ㄱㄴㄷ",
    "\u1103\u1175\u11b8\u1105\u1165\u1102\u1175\u11bc", "\u1112\u1161\u11ab cafe\u0301 Å \u212b ﬁ ｶﾞ", "서울ೱ에서 ೱೱ 부산ೱ",
    "日本語のテキスト。中文，没有空格", "Ελληνικά русский", "مرحبا שלום", "हिन्दी ไทย தமிழ்", "👨‍👩‍👧‍👦 🏳️‍🌈🇰🇷👍🏽", "𝔘𝔫𝔦 𐍈 𠀀", "50m² ½ ⅷ ٣٤ ①②",
    "007 0x1F 1234567 12:34", "def f(x):\n    return x ** 2  # c\n", "\x01\x02\x7f", "\u0085\u00a0\u2028\u180e\ufeff x", "▁ a▁b ▁▁", "<0x0A>",
    "<|endoftext|>", "a <|endoftext|> b<|endoftext|>", "<pad><eos><|sep|>", "<|acc|>서울<|tel|>", "<s>[INST] 안녕 [/INST] 네 </s><s>", "<unk>",
    " " * 24 + "x" + " " * 7, "a" * 60, "가나다라" * 8,
]


def quote(text):
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(named.get(c) or (c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}") for c in text)


def line(what, text, ids):
    return f"{what}\t{quote(text)}\t{' '.join(map(str, ids))}\n"


def both(tokenizer, texts, name):
    for mode in ("special", "plain"):
        tokenizer.encode_special_tokens = mode == "plain"
        for text in texts:
            yield line(f"{name} {mode}" if name else mode, text, tokenizer.encode(text, add_special_tokens=False).ids)


def real(data):
    yield "# file and mode (plain: control tokens in the text are characters), text, ids\n"
    for name, path in (("polyglot", "polyglot-ko-tokenizer/tokenizer.json"), ("neox", "gpt-neox-tokenizer/20B_tokenizer.json")):
        yield from both(Tokenizer.from_file(str(data / path)), TEXTS, name)
    sp = sentencepiece.SentencePieceProcessor(model_file=str(data / "llama2-tokenizer/tokenizer.model"))
    for text in TEXTS:
        yield line("llama plain", text, sp.encode(text))


def alphabet():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + other.index(b)) for b in range(256)]


MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello", "a b", "a a", "aa aa", "Ġ a", "1 2", "í ķ", "íķ ľ", "Ġ Ġ", "Ġ íķľ", "Ã ©"]
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def byte_level(pre=BYTES, normalizer=None, added=(), **model):
    tokens = alphabet() + [m.replace(" ", "") for m in MERGES]
    base = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "vocab": {t: i for i, t in enumerate(tokens)}, "merges": MERGES}
    tokens += [a["content"] for a in added if a["content"] not in tokens]
    return {"version": "1.0", "added_tokens": [token(tokens.index(a["content"]), **a) for a in added], "normalizer": normalizer,
            "pre_tokenizer": pre, "post_processor": None, "decoder": BYTES, "model": base | model}


def token(id, content, special=False, **flags):
    none = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": content, "special": special} | none | flags


def characters(normalizer, pre, decoder, bytes=True, **model):
    texts = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if bytes else [])
    texts += ["▁", "a", "b", "h", "e", "l", "o", "한", "국", ".", "ab", "▁a", "▁ab", "▁▁", "한국", "▁한국", "he", "ll", "hell", "hello", "▁hello"]
    merges = [["a", "b"], ["▁", "a"], ["▁a", "b"], ["▁", "ab"], ["▁", "▁"], ["한", "국"], ["▁", "한국"], ["h", "e"], ["l", "l"],
              ["he", "ll"], ["hell", "o"], ["▁", "hello"]]
    base = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": bytes, "vocab": {t: i for i, t in enumerate(texts)},
            "merges": merges}
    return {"version": "1.0", "added_tokens": [token(i, texts[i], special=True) for i in range(3)], "normalizer": normalizer,
            "pre_tokenizer": pre, "post_processor": None, "decoder": decoder, "model": base | model}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def split(kind, pattern, behavior, invert=False):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
NO_REGEX = BYTES | {"use_regex": False}
MARKS = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
BLANKS = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                                           {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
FLAGS = [{"content": "<end>", "special": True, "lstrip": True, "rstrip": True}, {"content": "he"}, {"content": "hel"},
         {"content": "한", "single_word": True}, {"content": "AB", "rstrip": True}, {"content": "BA", "lstrip": True},
         {"content": "cafe\u0301", "normalized": True}, {"content": "<e", "special": True}]


def tiny():
    meta = {"type": "Metaspace", "replacement": "▁"}
    yield "merges as pairs", byte_level(merges=[m.split(" ") for m in MERGES])
    yield "whole pieces first", byte_level(sequence(split("Regex", LLAMA3, "Isolated"), NO_REGEX), ignore_merges=True)
    yield "digits alone", byte_level(sequence({"type": "Digits", "individual_digits": True}, BYTES))
    yield "runs of digits", byte_level(sequence({"type": "Digits", "individual_digits": False}, BYTES))
    yield "a blank in front", byte_level(sequence(split("String", "국", "Isolated"), BYTES | {"add_prefix_space": True}))
    yield "no splitting", byte_level(NO_REGEX)
    for behavior in BEHAVIORS:
        yield f"regex {behavior}", byte_level(sequence(split("Regex", r"\s|[,.]|\d+", behavior), NO_REGEX))
        yield f"inverted {behavior}", byte_level(sequence(split("Regex", r"\s|[,.]|\d+", behavior, True), NO_REGEX))
        yield f"literal {behavior}", byte_level(sequence(split("String", "l", behavior), NO_REGEX))
    yield "empty matches", byte_level(sequence(split("Regex", r"(?=l)|o*", "Isolated"), NO_REGEX))
    yield "classes", byte_level(sequence(split("Regex", r"[\w]+|\S", "Isolated"), NO_REGEX))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form, byte_level(normalizer={"type": form}, added=FLAGS)
    yield "flags of added tokens", byte_level(added=FLAGS)
    yield "steps of a normalizer", byte_level(normalizer={"type": "Sequence", "normalizers": [
        {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " a"},
        {"type": "Prepend", "prepend": "h"}]})
    yield "llama", characters(MARKS, None, BLANKS)
    yield "llama without bytes", characters(MARKS, None, BLANKS, bytes=False)
    yield "unknown ones apart", characters(MARKS, None, BLANKS, bytes=False, fuse_unk=False)
    yield "metaspace first", characters(None, meta | {"prepend_scheme": "first", "split": False}, meta)
    yield "metaspace always", characters(None, meta | {"prepend_scheme": "always"}, meta)
    yield "metaspace never", characters(None, meta | {"prepend_scheme": "never"}, meta)


TINY_TEXTS = ["", " ", "hello hello", "  hello", "hello12 12121", "aaaaab ab", "a.b, c. .,", "한국 한 국한국", "hell'LL I'm\r\n\n  x", "▁a ▁▁ab",
              "x<end> hello <end>a<end", "hellhe AB  BA  ABBA", "cafe\u0301 café \u1112\u1161\u11ab ﬁ", "<s>ab</s> ab<unk>", "½ⅷ_²x", "👍 zz\ty"]


SPM_TEXTS = TINY_TEXTS + ["  two  spaces ", "a<end>b <end> c", "<a b>x<a b>", "▁▁ x", "뷁 모르는 글자 zzz", "\t\n", "ab한국abc"]


def trained(**settings):
    text = ["hello hello yellow", "한국 한국어 국어", "ab abc ab aab", "a b c. it's me, you and I", "대한민국 서울 한강"] * 4
    model = io.BytesIO()
    base = {"model_type": "bpe", "vocab_size": 70, "normalization_rule_name": "identity", "minloglevel": 2, "hard_vocab_limit": False}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text), model_writer=model, **(base | settings))
    return model.getvalue()


def spm():
    yield "as trained", {}
    yield "llama", {"byte_fallback": True, "vocab_size": 330, "remove_extra_whitespaces": False}
    yield "no prefix", {"byte_fallback": True, "vocab_size": 330, "add_dummy_prefix": False}
    yield "user-defined", {"user_defined_symbols": ["<end>", "he", "hel", "▁▁", "<a b>"], "control_symbols": ["<c>"]}
    yield "user-defined and blanks kept", {"user_defined_symbols": ["<end>", "▁▁"], "remove_extra_whitespaces": False}
    yield "pieces over blanks", {"split_by_whitespace": False, "vocab_size": 90}
    yield "other ids", {"unk_id": 3, "bos_id": 0, "eos_id": 2, "pad_id": 1}


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main():
    data = pathlib.Path(sys.argv[1])
    (HERE / "tokenizer_ids.txt").write_text("".join(real(data)))
    with open(HERE / "tokenizer_tiny.txt", "w") as out:
        out.write("# json: name, a tokenizer.json in which @ stands for that vocab; then mode, text, its ids\n")
        vocab = compact(byte_level()["model"]["vocab"])
        out.write(f"vocab\t\t{vocab}\n")
        for name, spec in tiny():
            text = compact(spec)
            out.write(f"json\t{name}\t{text.replace(vocab, '@')}\n")
            out.writelines(both(Tokenizer.from_str(text), TINY_TEXTS, ""))
    with open(HERE / "tokenizer_spm.txt", "w") as out:
        out.write("# model: name, a tokenizer.model in hexadecimal; then plain, text, its ids\n")
        for name, settings in spm():
            model = trained(**settings)
            out.write(f"model\t{name}\t{model.hex()}\n")
            reader = sentencepiece.SentencePieceProcessor(model_proto=model)
            out.writelines(line("plain", text, reader.encode(text)) for text in SPM_TEXTS)


main()
