#!/usr/bin/env python3
"""Writes beams.txt: what transformers' generate() finds by beam search with the models in folders/ (make_folders.py).

A line: model; num_beams, length_penalty, early_stopping, max_new_tokens, min_new_tokens, repetition_penalty; prompt;
its ids; the ids found (the end of text among them); their score; their text. Runs that a noise of 1e-4 on the logits
changes are left out: there the order of a sum would decide.
"""
import itertools
import pathlib

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList
from transformers.utils import logging

from reference import quote

HERE = pathlib.Path(__file__).parent
EOS, PAD = 2, 0
MODELS = ["neox-128", "neox-256", "neox-seq", "llama-gqa", "llama-tied"]
PROMPTS = ["the inner ring", "### 질문: 딥러닝이 뭐야?\n\n### 답변:", "on a", "1, 2, 4, 8, ", "서울",
           "hither and thither"]
CASES = [(5, penalty, early, new, 0, 1.0)
         for penalty, early, new in itertools.product((1.0, 0.6, 2.0), (False, True), (24, 64))]
CASES += [(3, 1.0, False, 24, 8, 1.2), (2, 1.0, False, 24, 0, 1.0), (5, 0.0, True, 24, 12, 1.0)]
EACH = 2  # prompts of a model


class Noise(LogitsProcessor):
    def __init__(self, size, seed):
        self.size, self.random = size, torch.Generator().manual_seed(seed)

    def __call__(self, ids, scores):
        return scores + self.size * torch.randn(scores.shape, generator=self.random)


@torch.no_grad()
def run(model, ids, case, noise=None):
    beams, penalty, early, new, least, repetition = case
    r = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
                       num_beams=beams, length_penalty=penalty, early_stopping=early, max_new_tokens=new,
                       min_new_tokens=least, repetition_penalty=repetition, eos_token_id=EOS, pad_token_id=PAD,
                       return_dict_in_generate=True, output_scores=True,
                       logits_processor=LogitsProcessorList([noise] if noise else []))
    found = r.sequences[0, len(ids):].tolist()
    if EOS in found:
        found = found[:found.index(EOS) + 1]
    return found, float(r.sequences_scores[0])


def main():
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    lines, ended, dropped = [], 0, 0
    for name in MODELS:
        folder = HERE / "folders" / name
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        for case in CASES:
            kept = 0
            for prompt in PROMPTS:
                ids = tokenizer.encode(prompt, add_special_tokens=False).ids
                found, score = run(model, ids, case)
                if any(run(model, ids, case, Noise(1e-4, seed))[0] != found for seed in range(2)):
                    dropped += 1
                    continue
                options = " ".join(f"{x:g}" if isinstance(x, float) else str(int(x)) for x in case)
                text = quote(tokenizer.decode(found, skip_special_tokens=True))
                lines.append("\t".join([name, options, quote(prompt), " ".join(map(str, ids)),
                                        " ".join(map(str, found)), f"{score:.7f}", text]))
                ended += found[-1] == EOS
                kept += 1
                if kept == EACH:
                    break
        print(name, len(lines), ended, dropped)
    head = "# make_beams.py: model, options, prompt, its ids, the ids found, their score, their text\n"
    (HERE / "beams.txt").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
