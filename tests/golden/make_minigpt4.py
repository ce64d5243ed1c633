#!/usr/bin/env python3
"""Writes minigpt4/ and minigpt4.bin: three tiny MiniGPT-4 in the layout of the published ones, two pictures, and what a reference put
together from Pillow, BLIP-2's classes and LlamaForCausalLM makes of the whole path.

minigpt4/llama2   four neighbouring patches joined, 4 rows a picture
minigpt4/vicuna   a Q-Former, 5 rows a picture
minigpt4/v2       twice the grid (positions stretched), 16 rows, LoRA pairs of rank 4 in the projector's file
minigpt4/llm      the language model of all three, and its tokenizer; it and eva_vit_g.pth are links in the folders

Records of minigpt4.bin, each with the folder's name first: "ids" as template_encode gives them, -n for picture n; "encode" (ln_vision's
result with the class token, picture 1), "query" (Q-Former), "rows" (what the language model reads of picture 1), "logits" at the last
position, "greedy" 16 tokens by argmax, "margin" how far each was above the second; "look" where the encoder's class token looked in its
last block (patches, of sum 1), "share" what the answer's tokens gave each row of picture 1 in the last layer, "gaze" that laid over the
patches. llama2.two.*: two pictures, and a question after an
answer.

Every weight is a small integer times a power of two: exact in fp16 and bf16, and it compresses well.
"""
import io
import json
import os
import pathlib
import shutil
from collections import OrderedDict

import numpy as np
import PIL
import sentencepiece
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from make_vision import qformer, qformer_state, vit, vit_state
from reference import Vectors

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "minigpt4"
TINY = dict(hidden=176, layers=2, heads=2, ffn=64, image=56, grid=4, queries=5, q_hidden=64, q_layers=2, q_heads=1, q_ffn=32, out=64)
LAYERS, FFN, VOCAB, NEW, RANK, ALPHA = 2, 96, 384, 16, 4, 16
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ANNOUNCED = ("Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I provide it to you. "
             "Please answer my questions.")
QUESTION, HERE_IT_IS = "Describe this image in detail.", "<Img><ImageHere></Img>"
PROMPTS = {
    "llama2": f"{ANNOUNCED}<s>[INST] {HERE_IT_IS} {QUESTION} [/INST] ",
    "llama2.two": f"{ANNOUNCED}<s>[INST] {HERE_IT_IS}{HERE_IT_IS} What differs? [/INST] The colours.<s>[INST] Which? [/INST] ",
    "vicuna": f"{ANNOUNCED}###Human: {HERE_IT_IS} {QUESTION}###Assistant: ",
    "v2": f"<s>[INST] {HERE_IT_IS} [vqa] {QUESTION} [/INST]",
}


def few_levels(shape, std):
    """Normal numbers rounded to multiples -7..7 of a power of two, of about that deviation."""
    scale = 2.0**round(np.log2(std / 2.5))
    return torch.clamp(torch.round(torch.randn(shape) * std / scale), -7, 7) * scale


def stirred(state):
    """The same names with numbers that keep activations near one."""
    out = OrderedDict()
    for name, t in state.items():
        gain = name.endswith("weight") and any(k in name for k in ("norm", "Norm", "ln_"))
        vector = t.ndim == 1 or name in ("cls_token", "pos_embed", "query_tokens")
        out[name] = few_levels(t.shape, 0.25 if vector else 1.1 / t[0].numel()**0.5) + (1 if gain else 0)
    return out


def pictures():
    """A gradient with shapes as JPEG, other shapes as PNG with alpha."""
    y, x = np.mgrid[0:60, 0:80]
    a = Image.fromarray(np.stack([x * 3, y * 4, 255 - x * 2 - y], -1).astype(np.uint8))
    draw = ImageDraw.Draw(a)
    draw.ellipse((10, 8, 40, 38), fill=(220, 30, 40))
    draw.rectangle((48, 20, 72, 52), fill=(30, 60, 200))
    draw.line((0, 59, 79, 30), fill=(250, 240, 60), width=3)
    b = Image.new("RGBA", (45, 70), (20, 110, 60, 255))
    draw = ImageDraw.Draw(b)
    draw.polygon(((22, 4), (42, 60), (3, 50)), fill=(240, 200, 210, 128))
    draw.ellipse((15, 30, 30, 45), fill=(0, 0, 0, 255))
    a.save(FOLDER / "shapes.jpg", quality=92)
    b.save(FOLDER / "shapes.png")
    return [(FOLDER / "shapes.jpg").read_bytes(), (FOLDER / "shapes.png").read_bytes()]


def pixels(data, side):
    """blip_processors.py: RGB, resized without regard to its shape, normalised. Pillow 13 resizes otherwise than those before it."""
    assert int(PIL.__version__.split(".")[0]) < 13
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((side, side), Image.BICUBIC)
    t = torch.tensor(np.array(image)).permute(2, 0, 1).float() / 255
    return ((t - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])[None]


def llm():
    config = LlamaConfig(vocab_size=VOCAB, hidden_size=TINY["out"], intermediate_size=FFN, num_hidden_layers=LAYERS, num_attention_heads=4,
                         num_key_value_heads=4, max_position_embeddings=1024, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0,
                         tie_word_embeddings=False, attn_implementation="eager",
                         rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    model = LlamaForCausalLM(config).eval()
    for name, p in model.named_parameters():
        std = 0.25 if p.ndim == 1 else 1.0 if "embed_tokens" in name else 1.6 / p.shape[1]**0.5
        p.copy_(few_levels(p.shape, std) + (1 if p.ndim == 1 else 0))
        if "lm_head" in name:
            p[:3] /= 64  # no end of text, so that there are 16 tokens
    return model


def write_llm(model, sp):
    folder = FOLDER / "llm"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
         "hidden_size": TINY["out"], "intermediate_size": FFN, "max_position_embeddings": 1024, "num_attention_heads": 4,
         "num_hidden_layers": LAYERS, "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "float16",
         "vocab_size": VOCAB}, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
         "tokenizer_class": "LlamaTokenizer"}, indent=2) + "\n")
    (folder / "tokenizer.model").write_bytes(sp.serialized_model_proto())
    state = {n: p.half().contiguous() for n, p in model.named_parameters()}
    assert all(torch.equal(state[n].float(), p) for n, p in model.named_parameters())
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def tokenizer():
    text = " ".join(PROMPTS.values()).replace("<s>", " ") + " a red circle and a blue rectangle on a gradient, a yellow line"
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split(".")), model_writer=model, model_type="bpe", vocab_size=VOCAB, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=1.0, hard_vocab_limit=True,
        minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def ids_of(sp, prompt):
    """minigpt_base.py get_context_emb with the slow LlamaTokenizer of transformers 4.30: BOS first, control tokens taken out of the
    text, every plain piece by itself."""
    out, control = [1], {"<s>": 1, "</s>": 2}
    for i, segment in enumerate(prompt.split("<ImageHere>")):
        if i:
            out.append(-i)
        for name in control:
            segment = segment.replace(name, f"\0{name}\0")
        for piece in filter(None, segment.split("\0")):
            out += [control[piece]] if piece in control else sp.encode(piece)
    return out


def projector(cols):
    return OrderedDict([("llama_proj.weight", few_levels((TINY["out"], cols), 1.0 / cols**0.5)),
                        ("llama_proj.bias", few_levels((TINY["out"],), 0.1))])


def save_projector(folder, name, state):
    """As runner_base.py saves it; the moments of the bias stand for the optimiser's."""
    adam = {"state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(TINY["out"]), "exp_avg_sq": torch.zeros(TINY["out"])}},
            "param_groups": [{"lr": 1e-5, "params": [0]}]}
    torch.save({"model": state, "optimizer": adam, "config": {"run": {"seed": 42}}, "scaler": {"scale": 65536.0}, "epoch": 3}, FOLDER / folder / name)


def lora():
    state = OrderedDict()
    for i in range(LAYERS):
        for part in "qv":
            module = f"llama_model.base_model.model.model.layers.{i}.self_attn.{part}_proj"
            state[f"{module}.lora_A.weight"] = torch.randint(-1, 2, (RANK, TINY["out"])) / 8.0
            state[f"{module}.lora_B.weight"] = torch.randint(-3, 4, (TINY["out"], RANK)) / 64.0
    return state


def merge(model, state):
    for i in range(LAYERS):
        for part in "qv":
            module = f"llama_model.base_model.model.model.layers.{i}.self_attn.{part}_proj"
            w = getattr(model.model.layers[i].self_attn, f"{part}_proj").weight
            w += (ALPHA / RANK) * (state[f"{module}.lora_B.weight"] @ state[f"{module}.lora_A.weight"])
            assert torch.equal(w.half().float(), w)  # so that it does not matter in which dtype it is kept


def looks(model, kind, **inputs):
    model.set_attn_implementation("eager")
    return getattr(model(output_attentions=True, **inputs), kind)


def look_of_class(model, x):
    a = looks(model, "attentions", pixel_values=x)[-1][0].mean(0)[0, 1:]
    return a / a.sum()


def look_of_answer(out, name, model, ids, x, greedy, tokens, patches):
    """patches(share): the shares of a picture's rows laid over its patches."""
    y = torch.cat([x, model.model.embed_tokens(torch.tensor([greedy[:-1]]))], 1)  # the last token was not read
    a = looks(model, "attentions", inputs_embeds=y)[-1][0].mean(0)[x.shape[1]:].mean(0)
    first = ids.index(-1)
    share = a[first:first + tokens]
    out.add(f"{name}.share", -1, share)
    heat = patches(share)
    out.add(f"{name}.gaze", -1, heat / heat.sum())


def answer(out, name, model, sp, rows, patches=None):
    """rows: a list, of each picture."""
    ids = ids_of(sp, PROMPTS[name])
    embed = model.model.embed_tokens
    x = torch.cat([rows[-i - 1] if i < 0 else embed(torch.tensor([i])) for i in ids])[None]
    result = model(inputs_embeds=x, use_cache=True)
    logits, cache = result.logits[0, -1], result.past_key_values
    greedy, margin, first = [], [], logits
    for _ in range(NEW):
        top = torch.topk(logits, 2)
        greedy.append(int(top.indices[0]))
        margin.append(float(top.values[0] - top.values[1]))
        result = model(input_ids=torch.tensor([[greedy[-1]]]), past_key_values=cache, use_cache=True)
        logits, cache = result.logits[0, -1], result.past_key_values
    out.add(f"{name}.ids", -1, np.array(ids))
    out.add(f"{name}.logits", -1, first)
    out.add(f"{name}.greedy", -1, np.array(greedy))
    out.add(f"{name}.margin", -1, np.array(margin))
    if patches:
        look_of_answer(out, name, model, ids, x, greedy, len(rows[0]), patches)
    assert "##" not in sp.decode(greedy)  # at which an answer would end
    print(f"{name}: {len(ids)} ids, |logits| {first.abs().max():.2f}, margin {min(margin):.4f}, {greedy}")
    return first


@torch.no_grad()
def main():
    torch.manual_seed(21)
    torch.set_num_threads(2)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    out, c, sp, files = Vectors(), TINY, tokenizer(), pictures()
    assert sp.encode("Q\u00e9")[-2:] == [3 + 0xc3, 3 + 0xa9] and sp.vocab_size() == VOCAB
    model = llm()
    write_llm(model, sp)
    vit_w = stirred(vit_state(c))
    q_w = stirred(qformer_state(c))
    junk = {"norm.weight": torch.ones(c["hidden"]), "head.weight": torch.ones(3, c["hidden"])}  # as the real file has
    torch.save(OrderedDict((k, v.half()) for k, v in (vit_w | junk).items()), FOLDER / "eva_vit_g.pth")
    for folder in ("llama2", "vicuna", "v2"):
        (FOLDER / folder).mkdir()
        os.symlink("../llm", FOLDER / folder / "llm")
        os.symlink("../eva_vit_g.pth", FOLDER / folder / "eva_vit_g.pth")
    torch.save({"model": q_w}, FOLDER / "vicuna" / "blip2_pretrained_flant5xxl.pth")
    joined, asked, wide = projector(4 * c["hidden"]), projector(c["q_hidden"]), projector(4 * c["hidden"])
    pairs = lora()
    save_projector("llama2", "pretrained_minigpt4_llama2_7b.pth", joined)
    save_projector("vicuna", "prerained_minigpt4_7b.pth", asked)
    save_projector("v2", "minigptv2_checkpoint.pth", wide | pairs)

    def project(x, p):
        return torch.nn.functional.linear(x, p["llama_proj.weight"], p["llama_proj.bias"])

    def join(x, p):
        return project(x[1:].reshape(-1, 4 * c["hidden"]), p)

    eye = vit(c, vit_w)
    seen = [eye(pixels(f, c["image"])).last_hidden_state[0] for f in files]
    rows = [join(x, joined) for x in seen]
    out.add("llama2.encode", -1, seen[0])
    out.add("llama2.rows", -1, rows[0])
    out.add("llama2.look", -1, look_of_class(eye, pixels(files[0], c["image"])))

    def spread(share):
        return share.repeat_interleave(4)

    one, other = answer(out, "llama2", model, sp, rows, spread), answer(Vectors(), "llama2", model, sp, rows[1:])
    print(f"the picture changes the logits by {(one - other).abs().max():.3f}")
    answer(out, "llama2.two", model, sp, rows)

    x = vit(c, vit_w, (q_w["ln_vision.weight"], q_w["ln_vision.bias"]))(pixels(files[0], c["image"])).last_hidden_state
    y = qformer(c, q_w)(query_embeds=q_w["query_tokens"], encoder_hidden_states=x).last_hidden_state[0]
    out.add("vicuna.encode", -1, x[0])
    out.add("vicuna.query", -1, y)
    out.add("vicuna.rows", -1, project(y, asked))
    cross = looks(qformer(c, q_w), "cross_attentions", query_embeds=q_w["query_tokens"], encoder_hidden_states=x)
    cross = [a for a in cross if a is not None and a.shape[-1] == x.shape[1]][-1][0].mean(0)[:, 1:]
    answer(out, "vicuna", model, sp, [project(y, asked)], lambda share: share @ cross)

    twice = c | {"image": 2 * c["image"]}
    x = vit(twice, vit_w)(pixels(files[0], twice["image"])).last_hidden_state[0]
    out.add("v2.encode", -1, x)
    out.add("v2.rows", -1, join(x, wide))
    out.add("v2.look", -1, look_of_class(vit(twice, vit_w), pixels(files[0], twice["image"])))
    before = answer(Vectors(), "v2", model, sp, [join(x, wide)])
    merge(model, pairs)
    after = answer(out, "v2", model, sp, [join(x, wide)], spread)
    print(f"LoRA changes the logits by {(before - after).abs().max():.3f}")
    out.write(HERE / "minigpt4.bin")


if __name__ == "__main__":
    main()
