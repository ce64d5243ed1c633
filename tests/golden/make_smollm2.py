#!/usr/bin/env python3
"""make_smollm2.py MODEL.gguf: writes smollm2.bin, tokens.txt and templates.txt from SmolLM2-135M-Instruct.

The weights are dequantised by the gguf package, the arithmetic is transformers' LlamaForCausalLM in fp32, the tokenizer
is built with the tokenizers package from the vocabulary and merges of the file, the template is rendered by Jinja.
"""
import pathlib
import sys

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from reference import Vectors, from_pairs, greedy, hf_name, quote

HERE = pathlib.Path(__file__).parent
NEW, EVERY, TOP = 64, 16, 64
CONTROL = 3  # token type of control tokens

PROMPTS = [  # the last one is a conversation
    "The three primary colors are red, yellow and blue. When you mix red and yellow, you get",
    "대한민국의 수도는 서울이다. 서울에는 한강이 흐르고",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n    if n < 2:\n        return n\n",
    "1, 2, 4, 8, 16, 32, 64, 128, 256, ",
    [{"role": "user", "content": "Give me three tips for learning to cook."}],
]

TEXTS = [
    "", " ", "  ", "   \t  ", "\n", "\n\n\n", "\r\n", "a\r\nb\r\n", "\t\tx", " leading", "trailing ", "two  spaces   three",
    "Hello, world!", "I'm sure they'll say we've been; you'd better not, it's HE'LL'S.", "don’t “quote” — dash…",
    "CamelCase snake_case kebab-case UPPER", "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "0", "2024", "3.14159", "1,000,000 won", "x1y22z333", "no1 in 50m² ½ ⅷ ٣٤ 一二三 ①②",
    "007 0x1F 1e-9 12:34:56 2025-01-31",
    "딥러닝이 뭐야?", "### 질문: 딥러닝이 뭐야?\n\n### 답변:", "대한민국 서울특별시 강남구 테헤란로 123번길",
    "\u1103\u1175\u11b8\u1105\u1165\u1102\u1175\u11bc", "뷁쀍 ㅋㅋㅋ ㅠㅠ ㄱㄴㄷ", "한글English섞어쓰기123", "가\u200b나 \u3000 다",
    "日本語のテキストです。", "中文文本，没有空格。", "Ελληνικά и русский текст", "Ångström café naïve cafe\u0301",
    "مرحبا بالعالم hello שלום 123 עולם", "\u202eright to left\u202c", "हिन्दी ไทย தமிழ்",
    "👨‍👩‍👧‍👦 family", "🏳️‍🌈🇰🇷👍🏽", "😀😀😀", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠀀",
    "def f(x):\n    return x ** 2  # comment\n", "for (int i = 0; i < n; i++) {\n\tprintf(\"%d\\n\", i);\n}",
    "<html><body class=\"a\">&nbsp;</body></html>", "SELECT * FROM t WHERE a='b' -- c", "https://example.org/a?b=c&d=%20#e",
    "{\"key\": [1, 2.5, null], \"한\": \"글\"}", "a\\b\\\\c `d` ~e~ ^f^ |g|", "!!!???...,,,;;;:::", "---===+++***///",
    "\x00", "a\x00b", "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x1b[0m\x7f", "\x13\x14\x16\x1d",
    "\u0085\u00a0\u2028\u2029\ufeff\ufffd",
    "\U000fffff\U0010ffff\ue000", "<|im_start|>user\nhi<|im_end|>\n", "<|im_start|><|im_start|>", "x <|endoftext|> y",
    "<|im_start", "|im_end|>", "< |im_end|>", "<|IM_END|>", "<repo_name>a<file_sep>b",
    "<jupyter_code>print(1)<empty_output>",
    "Ġ Ċ ĉ", "a" * 300, " " * 130, "ab " * 60, "가나다라" * 24,
]

CONVERSATIONS = [
    [("user", "Hello!")],
    [("system", "You are terse."), ("user", "Why is the sky blue?")],
    [("user", "2 + 2?"), ("assistant", "4."), ("user", "And times 3?")],
    [("system", "당신은 친절한 도우미입니다."), ("user", "딥러닝이 뭐야?"), ("assistant", "기계 학습의 한 갈래입니다."),
     ("user", "예를 들어 줘.\n두 개만!")],
    [("user", "")],
    [("user", "  keep my spaces \n\n"), ("assistant", "\tand tabs\n"), ("user", "{{ 7 * 7 }} {% raw %} &amp; 👍🏽")],
]


def escape_messages(messages):
    return "".join(f"{role}\t{quote(text)}\n" for role, text in messages)


def reference_tokenizer(field, control):
    """control: control tokens written in the text become their ids, as the published tokenizer does it."""
    tokens, types = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ")) for m in field("tokenizer.ggml.merges")]
    t = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(tokens)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    if control:
        t.add_special_tokens([AddedToken(s, special=True, normalized=False)
                              for s, kind in zip(tokens, types) if kind == CONTROL])
    return t


def load(reader, field):
    heads, kv = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=field("llama.vocab_size"), hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=field("llama.block_count"),
        num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"), tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        attn_implementation="eager")
    model = LlamaForCausalLM(config).eval()
    state = {}
    for t in reader.tensors:
        w = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        w = from_pairs(w, heads) if "attn_q" in t.name else from_pairs(w, kv) if "attn_k" in t.name else w
        state[hf_name(t.name)] = torch.from_numpy(w.copy())
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


def write_logits(model, prompts):
    out = Vectors()
    for i, ids in enumerate(prompts):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        chosen, margin = greedy(model, ids, NEW)
        top = torch.topk(logits, TOP)
        out.add("prompt", i, ids)
        out.add("logits" if i == 0 else "logits.sample", i, logits if i == 0 else logits[::EVERY])
        out.add("top.ids", i, top.indices.int())
        out.add("top.logits", i, top.values)
        out.add("greedy", i, chosen)
        out.add("margin", i, np.array(margin))
        print(f"prompt {i}: {len(ids)} tokens, logits up to {logits.abs().max():.2f}, least margin {min(margin):.4f}")
    out.write(HERE / "smollm2.bin")
    double = model.double()
    for i, ids in enumerate(prompts):  # how far fp32 itself is from exact arithmetic
        r = [r for r in out.records if r.startswith(b"top.logits") and r[24] == i][0]
        with torch.no_grad():
            exact = torch.topk(double(torch.tensor([ids])).logits[0, -1], TOP).values.numpy()
        print(f"prompt {i}: top logits, fp32 - fp64 up to {np.abs(np.frombuffer(r[40:], '<f4') - exact).max():.1e}")


def write_tokens(plain, control):
    with open(HERE / "tokens.txt", "w", encoding="utf-8", newline="\n") as f:
        f.write("# mode, text (\\n \\r \\t \\\\ \\uXXXX), ids; plain: control tokens in the text are characters\n")
        for mode, t in (("plain", plain), ("special", control)):
            for text in TEXTS:
                if mode == "plain" or "<" in text:
                    ids = " ".join(map(str, t.encode(text, add_special_tokens=False).ids))
                    f.write(f"{mode}\t{quote(text)}\t{ids}\n")


def write_templates(fast):
    with open(HERE / "templates.txt", "w", encoding="utf-8", newline="\n") as f:
        f.write("# conversations as role, text; '=': what the model's own Jinja template makes of it; ids: its ids\n")
        for conversation in CONVERSATIONS:
            messages = [{"role": role, "content": text} for role, text in conversation]
            text = fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = fast.encode(text, add_special_tokens=False)
            f.write(escape_messages(conversation) + f"=\t{quote(text)}\nids\t{' '.join(map(str, ids))}\n")


def main():
    torch.set_num_threads(2)
    reader = gguf.GGUFReader(sys.argv[1])

    def field(key):
        return reader.fields[key].contents()

    plain, control = reference_tokenizer(field, False), reference_tokenizer(field, True)
    fast = PreTrainedTokenizerFast(tokenizer_object=control, chat_template=field("tokenizer.chat_template"))
    write_tokens(plain, control)
    write_templates(fast)
    texts = [p if isinstance(p, str) else fast.apply_chat_template(p, tokenize=False, add_generation_prompt=True)
             for p in PROMPTS]
    prompts = [fast.encode(t, add_special_tokens=False) for t in texts]
    write_logits(load(reader, field), prompts)


if __name__ == "__main__":
    main()
