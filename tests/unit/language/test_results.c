/* What %load, %models, %fit, %generate and %profile ask of the engine and show of its answers. */
#include "language/cells.h"
#include <math.h>

static void load_ends_as_a_sentence(void **state) {
    (void)state;
    runs("%load small --dtype half -c 1024");
    assert_string_equal(fake.dtype, "fp16");
    assert_int_equal(fake.last.max_model_len, 1024);
    assert_int_equal(json_array_size(o.displays), 2);
    says(out_plain(&o, 0), "reading weights  ▕██████████          ▏ 51 %  47.7/93.5 MiB");
    assert_string_equal(
        out_plain(&o, 1),
        "small is ready: llama, 135 M parameters, weights q4_1, KV cache fp16, context of 4,096 tokens\n"
        "read small.gguf, GGUF: 93.8 MiB in 469 ms, 200 MiB/s (disk); ready after 500 ms\n"
        "memory: 275 MiB measured, 274 MiB predicted, at its peak 286 MiB: weights 93.5 MiB, KV cache 180\n"
        "MiB, work 1.00 MiB");
    assert_true(json_is_true(json_object_get(json_array_get(o.displays, 1), "update")));
    fake.fail = (struct err){ STATUS_NOMEM, "small needs 20 GiB, 4 GiB is free: nothing was read" };
    fails("%load small", STATUS_NOMEM, "nothing was read");
    says(out_plain(&o, -1), "not loaded: small needs 20 GiB"); /* the bar does not stay at 51 % */
    fake.fail.code = 0;
    fake_model.load_s = 0;
    runs("%load small");
    says(out_plain(&o, -1), "small is loaded already");
    fake_model.load_s = 0.5;
}
static void every_way_to_say_a_dtype(void **state) {
    (void)state;
    static const char *const way[][2] = { { "--dtype int8", "int8" },
                                          { "--dtype 8bit", "int8" },
                                          { "--dtype=q8_0", "int8" },
                                          { "--torch-dtype torch.bfloat16", "bf16" },
                                          { "--dtype Q4_0", "int4" },
                                          { "--dtype 4bit", "int4" },
                                          { "--quantization int8", "int8" },
                                          { "-q q4_0", "int4" },
                                          { "-q none", "auto" },
                                          { "--quantization none --dtype half", "fp16" },
                                          { "--load-in-8bit", "int8" },
                                          { "--load_in_4bit=true", "int4" },
                                          { "--load-in-4bit --no-load-in-4bit", "int4" },
                                          { "load_in_8bit=false", "auto" },
                                          { "--dtype int8 --load-in-8bit", "int8" },
                                          { "--dtype fp16 --dtype int8", "int8" },
                                          { "", "auto" } };
    for (size_t i = 0; i < sizeof way / sizeof *way; i++) {
        char code[100];
        snprintf(code, sizeof code, "%%load small %s", way[i][0]);
        runs(code);
        if (strcmp(fake.dtype, way[i][1])) fail_msg("%s: %s, not %s", code, fake.dtype, way[i][1]);
    }
    fails("%load small --dtype fp16 --load-in-8bit", STATUS_INVALID,
          "--dtype asks for fp16 and --load-in-8bit for int8: weights have one dtype");
    fails("%load small --load-in-8bit --load-in-4bit", STATUS_INVALID, "weights have one dtype");
    fails("%load small --dtype fp8", STATUS_INVALID, "auto, fp32, fp16, bf16, int8, int4, not \"fp8\"");
    fails("%load small -q awq", STATUS_INVALID, "none, int8, int4, not \"awq\"");
    fails("%load small --kv-cache-dtype fp8", STATUS_INVALID, "auto, fp32, fp16, int8, not \"fp8\"");
    runs("%set dtype=int4 kv-cache-dtype=fp32\n%load small");
    assert_string_equal(fake.dtype, "int4");
    assert_string_equal(fake.kv_dtype, "fp32");
    runs("%load small --load-in-8bit --kv-cache-dtype half");
    assert_string_equal(fake.dtype, "int8"); /* what is typed wins */
    assert_string_equal(fake.kv_dtype, "fp16");
    runs("%load small --dtype auto --revision v1.1");
    assert_string_equal(fake.dtype, "auto");
    assert_string_equal(fake.revision, "v1.1");
}
static void random_weights_are_named_everywhere(void **state) {
    (void)state;
    static const char *const way[] = { "--load-format dummy", "--no-weights", "load_format=dummy" };
    for (size_t i = 0; i < 3; i++) {
        char code[100];
        snprintf(code, sizeof code, "%%load small %s", way[i]);
        runs(code);
        assert_string_equal(fake.load_format, "dummy");
    }
    runs("%load small --load-format safetensors");
    assert_string_equal(fake.load_format, "auto");
    const char *want = "random weights (load format dummy)";
    snprintf(fake_model.format, sizeof fake_model.format, "dummy");
    runs("%load small --no-weights");
    says(out_plain(&o, -1), "filled with random numbers, no file read; ready after 500 ms");
    static const char *const code[] = { "%load small", "%ps", "%show" };
    for (size_t i = 0; i < 3; i++) {
        runs(code[i]);
        says(out_plain(&o, -1), want);
    }
    runs("%sysinfo");
    says(out_plain(&o, -1), "random weights");
    fake.absent = true;
    fails("%load small", STATUS_NOTFOUND, "fetch it");
    runs("%load small --load-format auto-or-dummy");
    says(out_plain(&o, -1), want);
    says(out_plain(&o, -1), "why: fetch it: hf");
    fake.absent = false;
    runs("%load small --load-format auto-or-dummy");
    assert_string_equal(fake.load_format, "auto");
    assert_null(strstr(out_plain(&o, -1), "why:"));
    snprintf(fake_model.format, sizeof fake_model.format, "GGUF");
    fake.done.dummy = true;
    static const char *const text[] = { "%generate a", "%generate a --quiet", "%chat a",
                                        "%chat --reset --no-stream a" };
    for (size_t i = 0; i < 4; i++) {
        runs(text[i]);
        says(out_plain(&o, -1), want);
    }
    assert_true(json_is_true(json_object_get(
        json_object_get(json_object_get(json_array_get(o.displays, 0), "metadata"), "jaeda"), "dummy")));
    fake.hang = true;
    stopped("%generate a", 30, "interrupted");
    says(out_plain(&o, -1), want);
}
static void beams_do_not_sample(void **state) {
    (void)state;
    const struct engine_beams *b = &fake.last.beams;
    fake.done.beams = (struct engine_beams){ 5, 2, true };
    fake.done.beam_score = -0.5312;
    fake.done.stop = ENGINE_STOP_EOS;
    snprintf(fake.done.stop_text, sizeof fake.done.stop_text, "<|endoftext|>");
    runs("%generate hi --num-beams 5 --temperature 0.2 --length-penalty 2 --early-stopping"); /* KULLM's own call */
    assert_true(b->num_beams == 5 && b->length_penalty == 2 && b->early_stopping);
    assert_true(fake.last.sampling.temperature == 0 && fake.last.sampling.top_k == 0);
    assert_string_equal(printed(), "안녕 world");
    assert_string_equal(
        out_plain(&o, 0),
        "21 prompt tokens (16 cached), 128 new · all after 2.89 s · TPOT 22.4 ms · 44.6 tok/s · 69.8 chars/s\n"
        "small · 5 beams, score -0.531 (no sampling) length_penalty=2 early_stopping · template: chatml ·\n"
        "stopped: end of text \"<|endoftext|>\"");
    runs("%generate hi --beam-width 3 --length-penalty -1");
    assert_true(b->num_beams == 3 && b->length_penalty == -1 && !b->early_stopping);
    runs("%generate hi");
    assert_int_equal(b->num_beams, 0);
    runs("%set do_sample=true num_beams=4 length_penalty=0\n%generate hi");
    assert_true(b->num_beams == 4 && b->length_penalty == 0 && fake.last.sampling.temperature == 0);
    fails("%generate hi --do-sample", STATUS_INVALID, "--num-beams 4 does not sample");
    runs("%generate hi --num-beams 1"); /* a default of %set is no slip */
    assert_true(b->num_beams == 0 && fake.last.sampling.temperature == 1);
    runs("%set --reset");
    fails("%generate hi --num-beams 0", STATUS_INVALID, "a whole number from 1 to 16");
    fails("%generate hi --beams 99", STATUS_INVALID, "--num-beams takes a whole number from 1 to 16");
    fails("%generate hi --num-beams 4 --do-sample", STATUS_INVALID, "--num-beams 4 does not sample");
    fails("%generate hi --length-penalty 2", STATUS_INVALID, "belongs to beam search: add --num-beams");
    fails("%generate hi --num-return-sequences 2", STATUS_INVALID, "not there yet");
}
static void an_input_goes_before_its_question(void **state) {
    (void)state;
    runs("%generate --template koalpaca --input \"재다: to measure\" 뜻이 뭐야?");
    assert_string_equal(fake.roles, "input user");
    assert_string_equal(fake.template_name, "koalpaca");
    assert_string_equal(fake.prompt, "뜻이 뭐야?");
    runs("%%generate --template kullm --input x --system s\n질문");
    assert_string_equal(fake.roles, "system input user");
    fails("%generate a --input x", STATUS_INVALID, "--input has no place in the template raw: use --template koalpaca");
    fails("%generate a --input x --template llama2", STATUS_INVALID, "in the template llama-2");
    fails("%chat a --input x --template chatml", STATUS_INVALID, "in the template chatml");
    fails("%chat a --input x", STATUS_INVALID, "in the template chatml"); /* the model's own */
    snprintf(fake_model.template_name, sizeof fake_model.template_name, "kullm");
    runs("%chat --input x first");
    assert_string_equal(fake.roles, "input user");
    runs("%chat second");
    assert_string_equal(fake.roles, "input user assistant user");
    fake.fail = (struct err){ STATUS_INVALID, "too long" };
    fails("%chat --input y third", STATUS_INVALID, "too long");
    fake.fail.code = 0;
    runs("%chat fourth"); /* neither the failed question nor what it was about is part of it */
    assert_string_equal(fake.roles, "input user assistant user assistant user");
    snprintf(fake_model.template_name, sizeof fake_model.template_name, "chatml");
}
static void fit_is_a_table(void **state) {
    (void)state;
    runs("%fit poly");
    const char *s = out_plain(&o, 0);
    narrow(s);
    assert_string_equal(fake.fit, "auto int8 int4|this g5.2xlarge h100|2048|1");
    says(s,
         "poly: llama, 135 M parameters, stored as q4_1, context of 2,048 tokens, KV cache 22.5 KiB a token;\non this");
    says(s, "this machine: 4.00 GiB free · g5.2xlarge: NVIDIA A10G, 10.0 GiB, 600 GB/s · h100:");
    says(s, "machine     dtype  weights GiB  KV GiB  work GiB  2,048 tok × 1  largest context  tok/s at most\n");
    says(s, "this        f16           12.0    2.00     0.250  OOM +10.2 GiB             none\n");
    says(s, "this        int4          3.00    2.00     0.250  OOM +1.25 GiB              768\n");
    says(s, "g5.2xlarge  int8          6.00    2.00     0.250  fits 8.25 GiB            2,048           69.8\n");
    says(s, "this machine: nothing in the table fits. What would: --dtype int4 -c 768; or --dtype int8 -c 2048 "
            "on\ng5.2xlarge\n");
    assert_null(strstr(s, "g5.2xlarge: nothing"));
    says(s, "assumed: one device (no tensor parallelism), KV cache fp16");
    json_t *data = json_object_get(json_array_get(o.displays, 0), "data");
    says(json_string_value(json_object_get(data, "text/html")), "<td style=\"text-align:right\">fits 8.25 GiB</td>");
    says(json_string_value(json_object_get(data, "text/markdown")), "| OOM +10.2 GiB |");
    runs("%fit poly --dtype fp16,8bit --machine this -c 128");
    assert_string_equal(fake.fit, "fp16 int8 int4|this|128|1");
    s = out_plain(&o, 0);
    assert_null(strstr(s, "\nthis        int4")); /* asked behind the user's back, shown as advice only */
    says(s, "What would: --dtype int4 -c 128\n");
    runs("%fit poly --machine h100 -c 1024,2048,4096,512 --batch-size 1,64 --dtype fp16");
    s = out_plain(&o, 0);
    narrow(s);
    assert_string_equal(fake.fit, "fp16 int8 int4|h100|1024 2048 512|1 64");
    says(s, "! small: 4,096 tokens are more than the 2,048 it was trained for\npoly: llama");
    says(s, "batch 64\nmachine  dtype      1,024 tok      2,048 tok        512 tok  largest context  tok/s at most");
    says(s, "h100     fp16   fits 76.2 GiB  OOM +60.2 GiB  fits 44.2 GiB            1,084    2,627–4,538");
    says(s, "fp16     2,048      1     12.0   2.00  0.250  14.2\n");
    runs("%fit poly --dtype auto,half --machine this");
    s = strstr(out_plain(&o, 0), "\nthis     "); /* as stored is fp16: one row */
    assert_non_null(s);
    assert_null(strstr(s + 1, "\nthis     "));
    runs("models = 'a,b'\n%fit $models c --machine this");
    says(out_plain(&o, 0), "a: llama");
    says(out_plain(&o, 0), "b: llama");
    says(out_plain(&o, 0), "c: llama");
    runs("%fit x --machine all --dtype int4 -b 200");
    says(out_plain(&o, 0),
         "this machine: nothing in the table fits. What would: a smaller batch, or a smaller model\n");
    runs("%fit x -c 9000");
    assert_string_equal(fake.fit, "auto int8 int4|this g5.2xlarge h100|9000|1"); /* the engine says no */
    fails("%fit", STATUS_INVALID, "needs MODEL...");
    fails("%fit ,", STATUS_INVALID, "needs MODEL...");
    fails("%fit x --dtype int8,int3", STATUS_INVALID, "int4, not \"int3\"");
    fails("%fit x --machine p4d", STATUS_INVALID, "g5.2xlarge");
    fails("%fit x -c 0", STATUS_INVALID, "a whole number from 1");
    fails("%fit x -c 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", STATUS_INVALID, "at most 16 values");
    fake.fail = (struct err){ STATUS_NOTFOUND, "no model nope" };
    fails("%fit nope", STATUS_NOTFOUND, "no model nope");
}
static void lists_and_facts(void **state) {
    (void)state;
    runs("%models");
    narrow(out_plain(&o, 0));
    says(out_plain(&o, 0), "small  loaded       135 M  GGUF    q4_1   93.8  chatml    Org/Small-135M\n");
    says(out_plain(&o, 0), "other       5.89 B    2,048  koalpaca  open    org/other-가나다\n");
    says(out_plain(&o, 0), "hf download org/other-가나다\n# locked: gated: accept its licence at https://example.org/"
                           "locked\nhf download meta/locked\n");
    runs("%ps");
    says(out_plain(&o, 0), "KV dtype");
    says(out_plain(&o, 0), "small  q4_1          93.5  fp16         180      1.00           275");
    runs("%show small");
    says(out_plain(&o, 0), "heads                 9 (3 of keys and values)");
    says(out_plain(&o, 0), "RoPE                  64 of 64 dimensions of a head, base 100,000");
    says(out_plain(&o, 0), "vocabulary rows       49,152");
    says(out_plain(&o, 0), "KV cache a token      22.5 KiB, fp16");
    says(out_plain(&o, 0), "an answer ends at     token 2");
    says(out_plain(&o, 0), "aliases               sm tiny-one");
    narrow(out_plain(&o, 0));
    runs("%gpu");
    says(out_plain(&o, 0), "no GPU");
    runs("%sysinfo");
    says(out_plain(&o, 0), "loaded model");
    says(out_plain(&o, 0), "300 GFLOP/s fp32, 600 bf16, 900 GOP/s int8, measured");
    runs("%unload --all");
    assert_string_equal(fake.model, "*");
    says(out_plain(&o, 0), "small is unloaded: 274 MiB given back");
    runs("%lsmagic");
    says(out_plain(&o, 0), "%generate %%generate");
    runs("%log");
    assert_true(o.text[0].n > 0);
    runs("%cd /\n%pwd\n%cd -");
    says(printed(), "/\n/\n");
    runs("%clear");
    assert_int_equal(o.cleared, 1);
}
static void profile(void **state) {
    (void)state;
    static const struct engine_profile_row row[] = {
        { ENGINE_PREFILL, -1, "embed", "embed", 1, 1, 1e6, 0 },
        { ENGINE_PREFILL, 0, "linear", "attn.q", 1, 40, 100e6, 2e9 },
        { ENGINE_PREFILL, 1, "linear", "attn.q", 1, 50, 100e6, 2e9 },
        { ENGINE_DECODE, 0, "linear", "mlp.down", 1, 2, 36e6, 4e6 },
        { ENGINE_DECODE, 1, "linear", "mlp.down", 1, 2, 36e6, 4e6 },
        { ENGINE_DECODE, -1, "linear", "head", 1, 1, 18e6, 2e6 },
    };
    fake.profile = (struct engine_profile){ .row = row,
                                            .rows = 6,
                                            .runs = 3,
                                            .warmups = 1,
                                            .batch_size = 1,
                                            .threads = 2,
                                            .prompt_tokens = 128,
                                            .decode_steps = 32,
                                            .context = 144,
                                            .wall_ms = { 95, 5.2 },
                                            .wall_sd_ms = { 1, 0.1 },
                                            .profiled_ms = { 96, 5.4 },
                                            .spans_ms = { 91, 5 },
                                            .stream_gbs = 20,
                                            .peak_gflops = 100,
                                            .peak_kind = "bf16",
                                            .dtype = "q4_1",
                                            .isa = "avx2",
                                            .model = "small" };
    runs("%profile -p 128 -n 32");
    const char *s = out_plain(&o, -1);
    assert_int_equal(fake.last.prompt_tokens, 128);
    says(s, "prefill: 128 tokens in 95.0 ± 1.00 ms, 1,347 tok/s");
    says(s, "attn.q      2  90.0       98.9   2.2       11.1     44.4       44.4");
    says(s, "decode: a token in 5.20 ± 0.100 ms, 192 tok/s, at 144 tokens of context");
    says(s, "sum of spans 5.00 ms = 96.2 % of the wall time unprofiled (5.20 ± 0.100 ms); 5.40 ms profiled");
    says(s, "Memory limits decode: 17.3 of 20.0 GB/s (86.5 %)");
    says(s, "· b1 · 3 runs");
    says(s, "100 GFLOP/s in bf16");
    assert_null(strstr(s, "random weights"));
    for (const char *line = s; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        assert_true(utf8_width(line, strcspn(line, "\n")) <= 100);
    runs("%profile --by layer --top 1");
    says(out_plain(&o, -1), "2 others");
    says(out_plain(&o, -1), "layer 1");
    runs("%%profile\nthis text");
    assert_string_equal(fake.prompt, "this text");
    fails("%%profile -p 5\nthis text", STATUS_INVALID, "one of the two");
    fails("%profile --by head", STATUS_INVALID, "op, layer");
    assert_null(strstr(out_plain(&o, -1), "data sheet"));
    fake.profile.gpu = true; /* 90 MB in 5.2 ms: 17.3 GB/s */
    snprintf(fake.profile.isa, sizeof fake.profile.isa, "NVIDIA A10G, sm_86");
    runs("%profile");
    says(out_plain(&o, -1), "data sheet (A10G, 600 GB/s, 70 TFLOP/s): prefill MBU 0.353 %, MFU 0.0602 %;");
    says(out_plain(&o, -1), "decode MBU 2.88 %");
    fake.profile.gpu = false;
    fake.profile.dummy = true;
    runs("%profile");
    says(out_plain(&o, -1), "! random weights (load format dummy): ");
}
static struct engine_gpu card[2] = { { .name = "NVIDIA A10G",
                                       .pci = "00:1e.0",
                                       .driver = "570.86",
                                       .cuda = "12.8",
                                       .memory_bytes = 24 * 1073741824.0,
                                       .used_bytes = 1073741824.0,
                                       .free_bytes = 23 * 1073741824.0,
                                       .busy_percent = 37,
                                       .memory_busy_percent = 12,
                                       .sm_mhz = 1410,
                                       .sm_max_mhz = 1710,
                                       .memory_mhz = 6250,
                                       .memory_max_mhz = 6251,
                                       .power_w = 61.4,
                                       .power_limit_w = 300,
                                       .celsius = 42,
                                       .energy_j = 12000,
                                       .throttle = "nothing",
                                       .ecc = "on",
                                       .processes = 9,
                                       .process = { { 7, true, "jaeda-engine", 536870912 },
                                                    { 8, false, "python3", NAN } } },
                                     { .name = "NVIDIA Odd", .processes = -1 } };
/* Whatever a card does not tell is said so, and is no zero. */
static void what_cards_tell(void **state) {
    (void)state;
    double *const absent[] = { &card[1].memory_bytes, &card[1].busy_percent,  &card[1].sm_mhz,
                               &card[1].sm_max_mhz,   &card[1].memory_mhz,    &card[1].memory_max_mhz,
                               &card[1].power_w,      &card[1].power_limit_w, &card[1].celsius,
                               &card[1].energy_j,     &card[1].ecc_errors };
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) *absent[i] = NAN;
    fake.card = card;
    fake.cards = 2;
    runs("%gpu");
    narrow(out_plain(&o, -1));
    says(out_plain(&o, -1), "1.00 GiB used, 23.0 GiB free of 24.0 GiB");
    says(out_plain(&o, -1), "61.4 of 300 W");
    says(out_plain(&o, -1), "1,410 of 1,710 MHz");
    says(out_plain(&o, -1), "on, 0 uncorrected errors since the driver was loaded");
    says(out_plain(&o, -1), "jaeda-engine (pid 7, the engine) 512 MiB, python3 (pid 8), ");
    says(out_plain(&o, -1), "GPU 1");
    says(out_plain(&o, -1), "power         not supported");
    says(out_plain(&o, -1), "processes     not supported");
    runs("%sysinfo");
    says(out_plain(&o, -1), "NVIDIA A10G, PCI 00:1e.0, driver 570.86, CUDA 12.8; memory: 1.00 GiB used");
    fake.cards = 0;
}
static void a_profile_says_what_the_card_went_through(void **state) {
    (void)state;
    fake.profile = (struct engine_profile){ .runs = 1, .batch_size = 1, .wall_ms = { 1, 1 }, .prompt_tokens = 100 };
    runs("%profile");
    assert_null(strstr(out_plain(&o, -1), "conditions"));
    fake.profile.gpu = true;
    runs("%profile");
    says(out_plain(&o, -1), "NVML) does not tell");
    fake.profile.before = fake.profile.after = card[0];
    fake.profile.before.processes = fake.profile.after.processes = 1; /* the engine's own */
    fake.profile.energy_j[0] = 25, fake.profile.energy_j[1] = 0.5;
    runs("%profile");
    says(out_plain(&o, -1), "conditions: NVIDIA A10G, PCI 00:1e.0, driver 570.86, CUDA 12.8");
    says(out_plain(&o, -1), "25.0 J a prefill (0.250 J a token), 0.500 J a token of decode");
    assert_null(strstr(out_plain(&o, -1), "! "));
    snprintf(fake.profile.after.throttle, sizeof fake.profile.after.throttle, "power brake");
    fake.profile.after.ecc_errors = 2;
    fake.profile.after.processes = 2;
    fake.profile.batch_size = 4; /* the same joules for four times the tokens */
    runs("%profile --batch-size 4");
    assert_int_equal(fake.last.batch_size, 4);
    says(out_plain(&o, -1), "25.0 J a prefill (0.0625 J a token), 0.125 J a token of decode");
    says(out_plain(&o, -1), "prefill: 4 × 100 tokens in 1.00 ms, 400,000 tok/s");
    says(out_plain(&o, -1), "decode: 4 × a token in 1.00 ms, 4,000 tok/s");
    says(out_plain(&o, -1), "launch gaps");
    fails("%profile --batch-size 65", STATUS_INVALID, "1 to 64");
    fails("%load small --max-sequences 65", STATUS_INVALID, "1 to 64");
    fake.profile.batch_size = 1;
    fake.profile.energy_j[1] = 0; /* the counter did not move: nothing is known */
    runs("%profile");
    says(out_plain(&o, -1), "(0.250 J a token), – J a token of decode");
    fake.profile.energy_j[1] = NAN;
    runs("%profile");
    says(out_plain(&o, -1), "! the card was held down by power brake");
    says(out_plain(&o, -1), "! 2 uncorrected memory errors");
    says(out_plain(&o, -1), "! others are on this card");
    says(out_plain(&o, -1), "this card does not count it");
}
int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(load_ends_as_a_sentence),
                                        T(every_way_to_say_a_dtype),
                                        T(random_weights_are_named_everywhere),
                                        T(beams_do_not_sample),
                                        T(an_input_goes_before_its_question),
                                        T(fit_is_a_table),
                                        T(lists_and_facts),
                                        T(profile),
                                        T(what_cards_tell),
                                        T(a_profile_says_what_the_card_went_through) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
