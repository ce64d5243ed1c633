/* The table of magics. Everything that names a magic or an option reads it: add one here and it is dispatched, completed,
 * inspected, listed and explained. */
#include "magics.h"
#include <string.h>

/* Names and aliases are those of the tools that people come from: HF first, then vLLM, ollama and llama.cpp. */
#define DTYPES                                                                                                         \
    "auto fp32|float32|float|f32|torch.float32 fp16|float16|half|f16|torch.float16 bf16|bfloat16|torch.bfloat16 "      \
    "int8|8bit|q8_0|q8 int4|4bit|q4_0|q4"
#define CONTEXT_NAMES "ctx-size num-ctx n-ctx max-seq-len context context-length"
static const struct option sampling[] = {
    { "max-new-tokens", "n", "max-tokens num-predict predict n-predict output-len osl n-gen new-tokens decode-length",
      OPTION_INT, .settable = true, .arg = "N", .def = "128", .min = 1, .max = 1e6, .help = "most tokens to write" },
    { "min-new-tokens", NULL, "min-tokens", OPTION_INT, .settable = true, .arg = "N", .def = "0", .min = 0, .max = 1e6,
      .help = "no end of text before" },
    { "temperature", "t", "temp", OPTION_FLOAT, .settable = true, .arg = "T", .def = "1.0", .min = 0, .max = 100,
      .help = "of sampling; 0 is greedy" },
    { "top-p", NULL, NULL, OPTION_FLOAT, .settable = true, .arg = "P", .def = "1.0", .min = 0.0001, .max = 1,
      .help = "of sampling: the likeliest tokens that sum to P" },
    { "top-k", NULL, NULL, OPTION_INT, .settable = true, .arg = "K", .def = "50", .min = 0, .max = 1e6,
      .help = "of sampling: the K likeliest tokens; 0: all" },
    { "min-p", NULL, NULL, OPTION_FLOAT, .settable = true, .arg = "P", .def = "0", .min = 0, .max = 1,
      .help = "of sampling: tokens at least P times the likeliest" },
    { "typical-p", NULL, "typical", OPTION_FLOAT, .settable = true, .arg = "P", .def = "1.0", .min = 0.0001, .max = 1,
      .help = "of sampling: the most typical tokens that sum to P" },
    { "repetition-penalty", NULL, "repeat-penalty", OPTION_FLOAT, .settable = true, .arg = "X", .def = "1.0",
      .min = 0.01, .max = 100, .help = "above 1 makes tokens that were there less likely" },
    { "do-sample", NULL, "sample !greedy", OPTION_FLAG, .settable = true,
      .help = "sample; unsaid: when an option of sampling is given" },
    { "num-beams", NULL, "beam-width beams n-beams", OPTION_INT, .settable = true, .arg = "N", .def = "1", .min = 1,
      .max = 16, .help = "beam search without sampling; the text comes at its end" },
    { "length-penalty", NULL, NULL, OPTION_FLOAT, .settable = true, .arg = "X", .def = "1.0", .min = -10, .max = 10,
      .help = "of beam search: above 0 favours longer texts" },
    { "early-stopping", NULL, NULL, OPTION_FLAG, .settable = true,
      .help = "of beam search: end when N texts are finished" },
    { "seed", NULL, "random-seed", OPTION_INT, .settable = true, .arg = "N", .def = "42", .min = 0,
      .max = 9007199254740991.0, .help = "of sampling" },
    { "stop", "r", "stop-strings stop-sequence reverse-prompt", OPTION_TEXT, .list = true, .settable = true,
      .arg = "TEXT", .help = "end before this text" },
    { "stop-token-ids", NULL, "stop-ids", OPTION_INT, .list = true, .arg = "ID", .min = 0, .max = 1e7,
      .help = "end at this token" },
    { "ignore-eos", NULL, NULL, OPTION_FLAG, .settable = true, .help = "go on behind the end of text" },
    { "system", "s", "system-prompt", OPTION_TEXT, .settable = true, .arg = "TEXT",
      .help = "system message; none: the model's own" },
    { "template", NULL, "chat-template", OPTION_CHOICE, .settable = true, .arg = "NAME",
      .choices = "raw koalpaca kullm llama-2|llama2|llama_2 vicuna|vicuna-v1|vicuna_v1|vicuna-v1.1|vicuna_v1.1 "
                 "vicuna-v0|vicuna_v0 chatml minigpt4-llama2|minigpt4 minigpt4-vicuna0 minigpt-v2|minigpt_v2",
      .help = "of the prompt; none: raw, in %chat the model's own" },
    { "input", NULL, NULL, OPTION_TEXT, .arg = "TEXT", .help = "what it is about: 맥락 of koalpaca, 입력 of kullm" },
    { "model", "m", NULL, OPTION_TEXT, .settable = true, .arg = "MODEL",
      .help = "a loaded model; none: the last loaded" },
    { "stream", NULL, NULL, OPTION_FLAG, .settable = true, .def = "true",
      .help = "show the text at its end, not as it comes" },
    { "quiet", "q", NULL, OPTION_FLAG, .settable = true, .help = "no line of timings" },
    { "save", NULL, NULL, OPTION_NAME, .arg = "NAME", .help = "keep the text in this variable" },
    { "num-return-sequences", NULL, "n-sequences", OPTION_LATER, .arg = "N", .def = "1", .help = "one text a call" },
    { "image", NULL, "picture", OPTION_PATH, .list = true, .arg = "FILE",
      .help = "a picture it is about (path, URL); none: that of %image" },
    { "show", NULL, NULL, OPTION_CHOICE, .list = true, .settable = true, .arg = "WHAT,...",
      .choices = "input attention", .help = "of pictures: what the model sees; where it looked" },
    { 0 },
};
static const struct option record[] = {
    { "no-record", NULL, "no-log", OPTION_FLAG, .settable = true, .help = "keep this run out of %runs" },
    { 0 },
};
static const struct option runs[] = {
    { "limit", "n", "last", OPTION_INT, .arg = "N", .def = "20", .min = 1, .max = 1e6, .help = "the newest N" },
    { "model", "m", NULL, OPTION_TEXT, .arg = "PATTERN", .help = "of this model; * and ? stand for any" },
    { "grep", "g", "search", OPTION_TEXT, .arg = "PATTERN",
      .help = "those whose cell, text or notebook holds it; * and ? are any" },
    { "all", "a", NULL, OPTION_FLAG, .help = "every run" },
    { 0 },
};
static const struct option engine[] = {
    { "lines", "n", NULL, OPTION_INT, .arg = "N", .def = "40", .min = 1, .max = 10000, .help = "of log: how many" },
    { "load", NULL, NULL, OPTION_FLAG, .help = "of restart: load again what this notebook had loaded" },
    { 0 },
};
static const struct option jobs[] = {
    { "all", "a", NULL, OPTION_FLAG, .help = "with what earlier kernels left on the disk" },
    { 0 },
};
static const struct option generate[] = {
    { "background", "b", "bg", OPTION_FLAG, .help = "run it beside the cells to come; see %jobs, %attach" },
    { "prompt", "p", NULL, OPTION_TEXT, .arg = "TEXT", .help = "the prompt, as an option" },
    { "file", "f", NULL, OPTION_PATH, .arg = "FILE", .help = "the prompt is this file" },
    { 0 },
};
static const struct option chat[] = {
    { "reset", NULL, "clear new", OPTION_FLAG, .help = "forget the conversation first" },
    { 0 },
};
static const struct option parts[] = {
    { "vit", NULL, "image-encoder", OPTION_PATH, .arg = "FILE", .help = "of a MiniGPT-4: its image encoder" },
    { "qformer", NULL, "q-former", OPTION_PATH, .arg = "FILE", .help = "of a MiniGPT-4: its Q-Former" },
    { "projector", NULL, "mmproj", OPTION_PATH, .arg = "FILE", .help = "of a MiniGPT-4: its own checkpoint" },
    { "llm", NULL, "language-model", OPTION_PATH, .arg = "MODEL", .help = "of a MiniGPT-4: its language model" },
    { 0 },
};
static const struct option image[] = {
    { "width", NULL, "size", OPTION_INT, .arg = "N", .def = "512", .min = 16, .max = 4096,
      .help = "longest side as it is shown, in pixels" },
    { "clear", NULL, "forget reset", OPTION_FLAG, .help = "forget the picture" },
    { 0 },
};
static const struct option load[] = {
    { "dtype", NULL, "torch-dtype", OPTION_CHOICE, .settable = true, .arg = "D", .def = "auto", .choices = DTYPES,
      .help = "of the weights (auto: as stored)" },
    { "quantization", "q", "quantize", OPTION_CHOICE, .arg = "Q", .choices = "none int8|8bit|q8_0|q8 int4|4bit|q4_0|q4",
      .help = "the same as --dtype" },
    { "load-in-8bit", NULL, "8bit", OPTION_FLAG, .help = "the same as --dtype int8" },
    { "load-in-4bit", NULL, "4bit", OPTION_FLAG, .help = "the same as --dtype int4" },
    { "kv-cache-dtype", NULL, "kv-dtype cache-type", OPTION_CHOICE, .settable = true, .arg = "D", .def = "auto",
      .choices = "auto fp32|float32|float|f32 fp16|float16|half|f16 int8|q8_0|q8",
      .help = "of the KV cache (auto: fp16, or fp32 as weights; int8: GPUs)" },
    { "max-model-len", "c", CONTEXT_NAMES, OPTION_INT, .settable = true, .arg = "N", .min = 1, .max = 1e7,
      .help = "tokens of prompt and answer; none: what the model and memory allow" },
    { "max-sequences", NULL, "max-num-seqs parallel n-parallel", OPTION_INT, .settable = true, .arg = "N", .min = 1,
      .max = 64, .help = "the KV cache has room for so many at once; none: 1" },
    { "threads", NULL, "num-threads n-threads", OPTION_INT, .settable = true, .arg = "N", .min = 1, .max = 1024,
      .help = "for computing; none: one for each processor" },
    { "revision", NULL, NULL, OPTION_TEXT, .arg = "REV", .help = "branch, tag or commit in the hub cache; none: main" },
    { "load-format", NULL, NULL, OPTION_CHOICE, .arg = "F", .def = "auto",
      .choices = "auto|safetensors|gguf|pt dummy auto-or-dummy", .help = "dummy: random weights in the true shape" },
    { "vision-dtype", NULL, "vit-dtype", OPTION_CHOICE, .settable = true, .arg = "D", .def = "auto",
      .choices = "auto fp32|float32|float|f32 fp16|float16|half|f16 bf16|bfloat16 int8|8bit|q8_0|q8",
      .help = "of the image encoder (auto: fp16, or what is faster here)" },
    { "max-images", NULL, NULL, OPTION_INT, .settable = true, .arg = "N", .min = 1, .max = 16,
      .help = "pictures of one conversation to reserve for; none: 4" },
    { "evict", NULL, NULL, OPTION_FLAG, .settable = true,
      .help = "when memory is short, first unload what nobody uses" },
    { "no-weights", NULL, "dummy", OPTION_FLAG, .help = "the same as --load-format dummy" },
    { "tensor-parallel-size", "tp", "tp num-gpus gpus", OPTION_LATER, .arg = "N", .def = "1", .help = "one device" },
    { "gpu-memory-utilization", NULL, "mem-fraction-static", OPTION_LATER, .arg = "X",
      .help = "a load takes what it needs, no more" },
    { 0 },
};
static const struct option fit[] = {
    { "dtype", NULL, "torch-dtype", OPTION_CHOICE, .list = true, .arg = "D,...", .choices = DTYPES,
      .help = "unsaid: auto, int8 and int4" },
    { "max-model-len", "c", CONTEXT_NAMES, OPTION_INT, .list = true, .arg = "N,...", .min = 1, .max = 1e7,
      .help = "tokens of prompt and answer; unsaid: 2,048" },
    { "batch-size", "b", "batch concurrency", OPTION_INT, .list = true, .arg = "N,...", .min = 1, .max = 256,
      .help = "sequences at once; unsaid: 1" },
    { "machine", NULL, "machines instance", OPTION_CHOICE, .list = true, .arg = "NAME,...",
      .choices = "this|here|local g5.2xlarge g5.12xlarge a100-80gb|a100 h100 all", .help = "unsaid: all" },
    { "revision", NULL, NULL, OPTION_TEXT, .arg = "REV", .help = "branch, tag or commit in the hub cache; none: main" },
    { "tensor-parallel-size", "tp", "tp num-gpus gpus", OPTION_LATER, .arg = "N", .def = "1", .help = "one device" },
    { 0 },
};
static const struct option unload[] = { { "all", NULL, NULL, OPTION_FLAG, .help = "every loaded model" }, { 0 } };
static const struct option profile[] = {
    { "background", "b", "bg", OPTION_FLAG, .help = "run it beside the cells to come; see %jobs, %attach" },
    { "prompt-tokens", "p", "n-prompt input-len isl sequence-length prompt-length", OPTION_INT, .arg = "N",
      .def = "512", .min = 1, .max = 1e6, .help = "length of a made-up prompt" },
    { "max-new-tokens", "n", "output-len osl n-gen decode-length steps", OPTION_INT, .arg = "N", .def = "32", .min = 1,
      .max = 1e6, .help = "decode steps measured" },
    { "batch-size", NULL, "batch concurrency", OPTION_INT, .arg = "N", .def = "1", .min = 1, .max = 64,
      .help = "sequences that decode side by side" },
    { "stage", NULL, NULL, OPTION_CHOICE, .arg = "WHAT", .def = "all", .choices = "all vision|image",
      .help = "vision: nothing but the image path" },
    { "by", NULL, NULL, OPTION_CHOICE, .arg = "WHAT", .def = "op", .choices = "op layer",
      .help = "what a row stands for" },
    { "top", NULL, NULL, OPTION_INT, .arg = "N", .def = "12", .min = 1, .max = 1000,
      .help = "rows shown, the slowest; the others are summed up" },
    { "runs", "r", "repetitions iterations num-iters repeat epochs", OPTION_INT, .arg = "N", .def = "3", .min = 1,
      .max = 100, .help = "repetitions" },
    { "model", "m", NULL, OPTION_TEXT, .arg = "MODEL", .help = "a loaded model; none: the last loaded" },
    { 0 },
};
static const struct option log_options[] = {
    { "lines", "n", NULL, OPTION_INT, .arg = "N", .def = "40", .min = 1, .max = 10000, .help = "how many" }, { 0 }
};
static const struct option set[] = { { "reset", NULL, NULL, OPTION_FLAG, .help = "forget all defaults" }, { 0 } };
static const struct option env[] = {
    { "ask", NULL, NULL, OPTION_NAME, .arg = "NAME",
      .help = "read the value by a password prompt: it is nowhere in the notebook" },
    { "unset", "u", NULL, OPTION_NAME, .arg = "NAME", .help = "remove a variable" },
    { 0 },
};
static const struct option lsmagic[] = { { "json", NULL, NULL, OPTION_FLAG, .help = "as JSON" }, { 0 } };
static const struct option history[] = {
    { "numbers", "n", NULL, OPTION_FLAG, .help = "with the cells' numbers" },
    { "limit", "l", NULL, OPTION_INT, .arg = "N", .min = 1, .max = 100000,
      .help = "the last N, of earlier sessions too" },
    { "grep", "g", "search", OPTION_TEXT, .arg = "PATTERN",
      .help = "those that hold this text; * and ? stand for any" },
    { 0 },
};
static const struct option capture[] = {
    { "no-stdout", NULL, NULL, OPTION_FLAG, .help = "let the standard output through" },
    { "no-stderr", NULL, NULL, OPTION_FLAG, .help = "let the errors' stream through" },
    { "no-display", NULL, NULL, OPTION_FLAG, .help = "let tables and other displays through" },
    { 0 },
};
static const struct option bash[] = {
    { "out", NULL, NULL, OPTION_NAME, .arg = "NAME", .help = "put the standard output into this variable" },
    { "err", NULL, NULL, OPTION_NAME, .arg = "NAME", .help = "put the errors' stream into this variable" },
    { "raise-error", NULL, NULL, OPTION_FLAG, .def = "true", .help = "a script that fails is no error of the cell" },
    { 0 },
};
static const struct option writefile[] = { { "append", "a", NULL, OPTION_FLAG, .help = "add to the end of the file" },
                                           { 0 } };
static const struct option clear[] = { { "wait", "w", NULL, OPTION_FLAG, .help = "until the next output comes" },
                                       { 0 } };

#define GROUPS(...)                                                                                                    \
    (const struct option *const[]) { __VA_ARGS__, NULL }
#define BOTH (MAGIC_LINE | MAGIC_CELL)
/* clang-format off */
const struct magic magic_table[] = {
    { "load", "", "[MODEL]", MAGIC_LINE, GROUPS(load, parts), magic_load, "loads a model: a name of %models, a repository, or a path; none: the last one again",
      "%load smollm2-135m\n%load EleutherAI/polyglot-ko-5.8b --dtype int4 -c 2048\n%load ~/models/my.gguf\n%load polyglot-ko-5.8b --dtype int4 --load-format dummy\n%load minigpt4-7b --vit eva_vit_g.pth --projector pretrained_minigpt4_llama2_7b.pth --llm llama-2-7b-chat" },
    { "fit", "", "MODEL...", MAGIC_LINE, GROUPS(fit, parts), magic_fit, "says what a model needs and where it fits, before anything is read",
      "%fit polyglot-ko-5.8b\n%fit koalpaca-polyglot-12.8b,llama-2-13b-chat --dtype fp16,int4 -c 1024,2048 -b 1,8 --machine this,h100" },
    { "unload", "stop rm_model", "[MODEL]", MAGIC_LINE, GROUPS(unload), magic_unload, "gives a model's memory back; none: the last loaded", NULL },
    { "models", "list ls", "", MAGIC_LINE, NULL, magic_models, "lists the models on this disk and how to get others", NULL },
    { "ps", "", "", MAGIC_LINE, NULL, magic_ps, "lists the loaded models and their memory", NULL },
    { "show", "info", "[MODEL]", MAGIC_LINE, NULL, magic_show, "tells what is known of a model; none: the last loaded", NULL },
    { "generate", "prompt ask", "[TEXT...]", BOTH | MAGIC_TEXT, GROUPS(generate, sampling, record), magic_generate,
      "streams text from the loaded model; the body of %%generate is the prompt",
      "%generate 대한민국의 수도는 -n 32\n%generate \"two\\nlines\" --temperature 0.7 --seed 1\n%generate --template koalpaca --input \"재다: to measure, to weigh\" 재다가 무슨 뜻이야?\n%generate --template kullm --num-beams 5 -n 64 딥러닝이 뭐야?\n%generate --image photo.jpg --show input,attention 이 그림을 설명해 주세요.\n\n%%generate -n 64 --template chatml\nWhat is the capital of Korea?" },
    { "chat", "", "[TEXT...]", BOTH | MAGIC_TEXT, GROUPS(chat, sampling, record), magic_chat,
      "goes on with the conversation; without text it shows it", "%chat What is KV cache?\n%chat --image photo.jpg 무엇이 보여?\n%chat --reset --system \"Answer in Korean.\" Hello" },
    { "image", "picture img", "[FILE]", MAGIC_LINE, GROUPS(image), magic_image,
      "shows a picture and remembers it for prompts to come; alone: the one that is remembered",
      "%image photo.jpg\n%image https://example.org/cat.png --width 800\n%image --clear\n%generate --image a.jpg --image b.jpg 두 그림은 무엇이 달라?" },
    { "template", "", "[NAME]", MAGIC_LINE, NULL, magic_template, "shows or sets the prompt template for the cells to come: raw, koalpaca, kullm, ..., default", NULL },
    { "profile", "", "", BOTH, GROUPS(profile, record), magic_profile,
      "says where the time of prefill and decode goes, and what limits it", "%profile -p 128 -n 32 --by layer --top 5\n%profile --stage vision --runs 10" },
    { "runs", "results", "[show|delete|path] [NUMBER...]", MAGIC_LINE, GROUPS(runs), magic_runs,
      "lists what was generated and profiled; show N: all of one, and what repeats it",
      "%runs --limit 5 --model 'polyglot*'\n%runs --grep lighthouse\n%runs show 41\n%runs delete 39 40\n%runs path" },
    { "engine", "", "[status|stop|restart|log|idle] [LIMIT]", MAGIC_LINE, GROUPS(engine), magic_engine,
      "tells about the engine; stops, restarts it, shows its log, sets when it leaves",
      "%engine\n%engine idle 30m\n%engine idle never\n%engine log -n 100\n%engine restart --load" },
    { "gpu", "nvidia_smi", "", MAGIC_LINE, NULL, magic_gpu, "tells of the GPUs (memory, clocks, power, processes) and of what computes here", NULL },
    { "sysinfo", "", "", MAGIC_LINE, NULL, magic_sysinfo, "lists what a measurement depends on: machine, system, versions, models", NULL },
    { "set", "config", "[NAME=VALUE...]", MAGIC_LINE | MAGIC_EQUALS, GROUPS(set), magic_set, "shows or sets defaults of options for the cells to come",
      "%set temperature=0.7 max_new_tokens=64\n%set temperature=default" },
    { "env", "set_env", "[NAME] [VALUE...]", MAGIC_LINE | MAGIC_EQUALS, GROUPS(env), magic_env, "shows or sets environment variables; secrets stay hidden",
      "%env HF_HOME=/data/hf\n%env --ask HF_TOKEN" },
    { "alias", "", "[NAME] [WHAT...]", MAGIC_LINE | MAGIC_RAW, NULL, magic_alias, "another name for a model, a magic line or a !command; -d NAME removes it",
      "%alias small smollm2-135m\n%alias g %generate -n 32\n%alias top !nvidia-smi" },
    { "lsmagic", "magics", "", MAGIC_LINE, GROUPS(lsmagic), magic_lsmagic, "lists the magics", NULL },
    { "history", "hist", "[FROM-TO]", MAGIC_LINE, GROUPS(history), magic_history, "shows earlier inputs", "%history -n 2-5\n%history -l 20 -g profile" },
    { "bg", "background", "LINE", BOTH | MAGIC_RAW, NULL, magic_bg, "runs a line (or the cell) in the background: this cell is free at once", "%bg %profile -p 512 --runs 20\n%jobs\n%attach" },
    { "jobs", "", "[list|stop|show] [JOB]", MAGIC_LINE, GROUPS(jobs), magic_jobs, "lists jobs: what runs in the background, and cells that ran long; stops or shows one", "%jobs\n%jobs stop 3\n%jobs --all" },
    { "attach", "", "[JOB]", MAGIC_LINE, NULL, magic_attach, "shows what a job has shown, and what it goes on to show; none: the one that runs", NULL },
    { "time", "", "LINE", BOTH | MAGIC_RAW, NULL, magic_time, "runs a line (or the cell) and says how long it took", "%time %load smollm2-135m" },
    { "capture", "", "[NAME]", MAGIC_CELL, GROUPS(capture), magic_capture, "runs the cell and keeps what it shows; its text goes into a variable", NULL },
    { "bash", "sh shell script", "", MAGIC_CELL, GROUPS(bash), magic_bash, "runs the cell with bash; %%sh: with sh", NULL },
    { "writefile", "file", "FILE", MAGIC_CELL, GROUPS(writefile), magic_writefile, "writes the cell into a file, whole or not at all", NULL },
    { "cd", "", "[DIR]", MAGIC_LINE, NULL, magic_cd, "changes the working directory; -: the one before", NULL },
    { "pwd", "", "", MAGIC_LINE, NULL, magic_pwd, "shows the working directory", NULL },
    { "clear", "cls", "", MAGIC_LINE, GROUPS(clear), magic_clear, "clears what this cell has shown so far", NULL },
    { "log", "", "", MAGIC_LINE, GROUPS(log_options), magic_log, "shows the last lines of the kernel's log", NULL },
    { 0 },
};
/* clang-format on */

const char *magic_hint(const char *name) {
    static const char *const hint[][2] = {
        { "load_ext", "no extensions here, everything is built in. Did you mean %load MODEL?" },
        { "reload_ext", "no extensions here, everything is built in. Did you mean %load MODEL?" },
        { "autoreload", "nothing to reload here: cells hold magics, not Python" },
        { "matplotlib", "not needed: results draw themselves. Tables come from %profile, %ps, %models" },
        { "pip", "no Python here. In a shell: !pip ..." },
        { "conda", "no Python here. In a shell: !conda ..." },
        { "run",
          "runs Python files elsewhere. In a shell: !python3 FILE; a prompt from a file: %generate --file FILE" },
        { "timeit", "for one run %time LINE; repeated measurements with spread: %profile" },
        { "prun", "%profile says where a model's time goes" },
        { "python", "no Python here. In a shell: !python3 -c '...'" },
        { "python3", "no Python here. In a shell: !python3 -c '...'" },
        { "ai", "%generate and %chat talk to the loaded model" },
        { "sql", "not here" },
        { "who", "a variable's name in a cell shows its value; completion after $ lists all" },
        { "whos", "a variable's name in a cell shows its value; completion after $ lists all" },
        { "seed", "%set seed=N sets it for the cells to come" },
        { "unalias", "%alias -d NAME" },
        { "bench", "not there yet; %profile measures prefill and decode with their spread" },
        { "sweep", "not there yet; %profile measures one setting at a time" },
        { "compare", "not there yet" },
        { "pull", "not there yet; %models says how to get a model" },
        { "download", "not there yet; %models says how to get a model" },
        { "plot", "not there yet" },
        { "export", "not there yet" },
        { "price", "not there yet" },
        { "cost", "not there yet" },
        { "assert", "not there yet" },
    };
    for (size_t i = 0; i < sizeof hint / sizeof *hint; i++)
        if (!strcmp(hint[i][0], name)) return hint[i][1];
    return NULL;
}
