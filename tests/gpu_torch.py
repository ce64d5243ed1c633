"""What tests/gpu asks of transformers, in a process of its own: one JSON object a line, {"skip": why} where it cannot.

  gpu_torch.py reference FOLDER DEVICE SHAPE DTYPE  a seeded checkpoint, its logits and greedy tokens
  gpu_torch.py decode DEVICE MODEL DTYPE            times of decode steps, eager and compiled with a static cache
"""
import json
import pathlib
import sys
import time

try:
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, StaticCache
except ImportError as e:
    print(json.dumps({"skip": f"{e}"}))
    sys.exit()

DTYPE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PROMPT, STEPS, ROWS, CONTEXT = 130, 12, 8, 512
SHAPES = {  # hidden, layers, heads, KV heads, ffn, vocabulary
    "neox-wide": (4096, 2, 16, 16, 16384, 30080), "llama-wide": (4096, 2, 32, 32, 11008, 32000),
    "neox-tiny": (128, 2, 2, 2, 256, 300), "llama-tiny": (128, 2, 2, 1, 192, 300),
    "polyglot-ko-5.8b": (4096, 28, 16, 16, 16384, 30080), "tiny": (64, 1, 1, 1, 128, 300),
}


def say(**what):
    print(json.dumps(what), flush=True)


def make(name, dtype, device, kind):
    hidden, layers, heads, kv, ffn, vocab = SHAPES[name]
    common = dict(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=ffn,
                  vocab_size=vocab, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0,
                  tie_word_embeddings=False)
    if kind == "llama":
        config, cls = LlamaConfig(num_key_value_heads=kv, rms_norm_eps=1e-6, **common), LlamaForCausalLM
    else:
        rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}
        config, cls = GPTNeoXConfig(use_parallel_residual=True, rope_parameters=rope, **common), GPTNeoXForCausalLM
    torch.manual_seed(3)
    torch.set_default_dtype(DTYPE[dtype])
    with torch.device(device):
        model = cls(config).eval()
    torch.set_default_dtype(torch.float32)
    return model


def token(i):
    return (37 * i + 11) % 251


@torch.no_grad()
def reference(folder, device, name, dtype):
    folder = pathlib.Path(folder)
    model = make(name, dtype, device, name.split("-")[0])
    model.save_pretrained(folder / "model")
    ids = torch.tensor([[token(i) for i in range(PROMPT + STEPS)]], device=device)
    rows = model(ids).logits[0, PROMPT - ROWS:].float().cpu().contiguous()
    (folder / "logits").write_bytes(rows.numpy().tobytes())
    text = ids[:, :PROMPT]
    for _ in range(STEPS):
        text = torch.cat([text, model(text).logits[:, -1:].argmax(-1)], 1)
    say(name=name, dtype=dtype, folder=str(folder / "model"), logits=str(folder / "logits"), prompt=PROMPT, steps=STEPS,
        greedy=text[0, PROMPT:].tolist(), device=device)


def clock(device):
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def decode(device, name, dtype):
    tiny = name == "tiny"
    context, steps, runs = (16, 2, 1) if tiny else (64, 64, 3)  # on average as many tokens as tests/gpu asks of ours
    model = make(name, dtype, device, "neox")
    for how in ("transformers eager", "transformers compiled, static cache"):
        for batch in (1, 2 if tiny else 16):
            forward, cache = model.forward, None
            try:
                if "compiled" in how:  # anew for each batch: of the second it would make code for any size
                    torch._dynamo.reset()
                    forward = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True, dynamic=False)
                    cache = StaticCache(config=model.config, max_cache_len=context + 8 + runs * steps)
                ids = torch.full((batch, context), 7, device=device)
                made = model(ids, past_key_values=cache, use_cache=True)
                cache, at = made.past_key_values, context
                times = []
                for r in range(runs + 1):
                    t0 = clock(device)
                    for _ in range(steps if r else 8):
                        now = made.logits[:, -1:].argmax(-1).clone()
                        made = forward(now, past_key_values=cache, use_cache=True,
                                       position_ids=torch.full((batch, 1), at, device=device))
                        at += 1
                    if r:
                        times.append((clock(device) - t0) * 1e6 / steps)
                say(how=how, batch=batch, step_us=times)
            except Exception as e:  # whatever another library raises is a line of the report
                say(how=how, skip=f"batch {batch}: {type(e).__name__}: {str(e).splitlines()[0][:200]}")


if __name__ == "__main__":
    {"reference": reference, "decode": decode}[sys.argv[1]](*sys.argv[2:])
