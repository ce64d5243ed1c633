/* The cell language: whole cells against a scripted engine. */
#include "language/cells.h"

#include "base/mem.h"
#include "kernel/language/magic.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char folder[64];

static void the_table_is_sound(void **state) {
    (void)state;
    for (const struct magic *m = magic_table; m->name; m++) {
        assert_ptr_equal(magic_find(m->name), m); /* no two of a name or alias */
        assert_true(m->flags & (MAGIC_LINE | MAGIC_CELL));
        assert_non_null(m->summary);
        assert_non_null(m->run);
        assert_null(magic_hint(m->name));
        for (option_groups g = m->options; g && *g; g++)
            for (const struct option *p = *g; p->name; p++) {
                double number;
                struct err e = { 0 };
                if (option_find(m->options, p->name) != p) fail_msg("%%%s: two options --%s", m->name, p->name);
                char *text = p->def ? option_check(p, p->def, &number, &e) : NULL;
                if (e.code) fail_msg("%%%s --%s: its default: %s", m->name, p->name, e.text);
                free(text);
            }
    }
    for (const struct magic *m = magic_table; m->name; m++) { /* every one explains itself */
        char code[80];
        snprintf(code, sizeof code, "%%%s?", m->name);
        runs(code);
        const char *page = json_string_value(json_object_get(o.page, "text/plain"));
        says(page, m->summary);
        if (strstr(page, "…")) fail_msg("%s: a text of its help is too long for 100 columns: %s", code, page);
    }
}
static void variables(void **state) {
    (void)state;
    runs("# Parameters\nmodel = \"small\"\nruns = [1, 2]");
    runs("model");
    assert_string_equal(json_string_value(json_object_get(o.result, "text/plain")), "'small'");
    runs("x = 3\nx");
    assert_string_equal(json_string_value(json_object_get(o.result, "text/plain")), "3");
    runs("%load $model");
    assert_string_equal(fake.model, "small");
    runs("!echo $model $runs '$$model'");
    assert_string_equal(printed(), "small 1,2 $model\n");
    struct err e = { 0 };
    json_t *value = interp_expression(in, "$model", &e);
    assert_string_equal(json_string_value(json_object_get(value, "text/plain")), "'small'");
    json_decref(value);
    assert_null(interp_expression(in, "nothing", &e));
    assert_int_equal(e.code, STATUS_NOTFOUND);
    fails("%load $modle", STATUS_INVALID, "Did you mean $model?");
}
static void unknown_names(void **state) {
    (void)state;
    fails("%laod x", STATUS_NOTFOUND, "no magic %laod. Did you mean %load");
    fails("%load_ext autoreload", STATUS_NOTFOUND, "Did you mean %load MODEL?");
    fails("%bench", STATUS_NOTFOUND, "not there yet");
    fails("%%load\nx", STATUS_INVALID, "line magic %load does");
    fails("%bash", STATUS_INVALID, "write %%bash");
    fails("%%generate\n \n", STATUS_INVALID, "needs text");
    fails("%load", STATUS_INVALID, "has loaded no model yet");
    fails("%load train.py", STATUS_INVALID, "!cat train.py");
    fails("%load https://x.org/a.gguf", STATUS_INVALID, "fetches nothing");
    fails("%load model.onnx", STATUS_FORMAT, "safetensors, torch and GGUF");
    fails("%load x/config.json", STATUS_INVALID, "the folder that holds");
    fails("%generate --max-token 5 hi", STATUS_INVALID,
          "unknown option --max-token for %generate. Did you mean --max-new-tokens?  (%generate? for all)");
    fails("%ps\nhello", STATUS_INVALID, "line 2");
    fails("%load a \"b\\nc\"", STATUS_INVALID, "so \"b c\" is too much"); /* one line all the same */
    fails("%lo\xff", STATUS_NOTFOUND, "%lo\xef\xbf\xbd");
    assert_int_equal(fake.requests, 0); /* nothing of a broken cell runs */
}
static void prompts_go_verbatim(void **state) {
    (void)state;
    runs("### 질문: 딥러닝이 뭐야?\n\n### 답변:");
    assert_string_equal(fake.prompt, "### 질문: 딥러닝이 뭐야?\n\n### 답변:");
    assert_string_equal(fake.roles, "raw");
    assert_string_equal(printed(), "안녕 world");
    assert_string_equal(
        out_plain(&o, 0),
        "21 prompt tokens (16 cached), 128 new · TTFT 48.0 ms · TPOT 22.4 ms · 44.6 tok/s · 69.8 chars/s\n"
        "small · sampling: greedy · template: chatml · stopped: max_new_tokens");
    assert_int_equal(fake.last.sampling.temperature, 0);
    runs("%%generate --template chatml -n 3\n  $x {y}\n");
    assert_string_equal(fake.prompt, "  $x {y}\n");
    assert_string_equal(fake.roles, "user");
    assert_int_equal(fake.last.max_new_tokens, 3);
    runs("%generate hello \"two  words\" --no-stream --save answer --quiet");
    assert_string_equal(fake.prompt, "hello two  words");
    assert_int_equal(json_array_size(o.displays), 0);
    runs("answer");
    assert_string_equal(json_string_value(json_object_get(o.result, "text/plain")), "'안녕 world'");
    fails("%generate", STATUS_INVALID, "needs a prompt");
    fails("%generate a --prompt b", STATUS_INVALID, "given twice");
    fails("%generate a --system s", STATUS_INVALID, "--system needs a chat template");
    fails("%generate a --system s --template raw", STATUS_INVALID, "--system needs a chat template");
}
static void sampling_is_what_was_asked(void **state) {
    (void)state;
    const struct engine_sampling *s = &fake.last.sampling;
    runs("%generate hi -t 0.7 --seed 7");
    assert_true(s->temperature == 0.7f && s->top_k == 50 && s->top_p == 1 && s->seed == 7);
    runs("%generate hi --top-p 0.9");
    assert_true(s->temperature == 1 && s->top_p == 0.9f);
    runs("%generate hi --greedy -t 0.7");
    assert_true(s->temperature == 0);
    runs("%generate hi -t 0");
    assert_true(s->temperature == 0);
    runs("%generate hi --do-sample");
    assert_true(s->temperature == 1 && s->seed == 42);
    runs("%generate hi --stop \"\\n\\n\" --stop-token-ids 2");
    assert_int_equal(fake.last.stops, 1);
    assert_string_equal(fake.stop, "\n\n");
    runs("%set temperature=0.5 max_new_tokens=7\n%generate hi");
    assert_true(s->temperature == 0.5f && fake.last.max_new_tokens == 7);
    runs("%generate hi --temperature 0 -n 9");
    assert_true(s->temperature == 0 && fake.last.max_new_tokens == 9);
    runs("%set");
    says(out_plain(&o, 0), "temperature");
    runs("%set temperature=default\n%generate hi");
    assert_true(s->temperature == 0);
    fails("%set temprature=1", STATUS_INVALID, "Did you mean temperature?");
    fails("%set temperature=hot", STATUS_INVALID, "a number from 0 to 100");
    runs("%template chatml\n%generate hi");
    assert_string_equal(fake.roles, "user");
    runs("%template default\n%generate hi");
    assert_string_equal(fake.roles, "raw");
    fails("%template alpaca", STATUS_INVALID, "raw, koalpaca, kullm, llama-2, vicuna, vicuna-v0, chatml");
    runs("%generate hi --min-p 0.05 --typical-p 0.9");
    assert_true(s->temperature == 1 && s->min_p == 0.05f && s->typical_p == 0.9f);
    runs("%generate hi --min-p 0.05 --greedy");
    assert_true(s->temperature == 0 && s->min_p == 0 && s->typical_p == 1);
    fails("%generate hi --min-p 2", STATUS_INVALID, "a number from 0 to 1");
    fake.done.greedy = false;
    fake.done.sampling = (struct engine_sampling){ 0.7f, 1, 0.05f, 0.9f, 1, 50, 42 };
    runs("%generate hi --min-p 0.05");
    says(out_plain(&o, 0), "sampling: T=0.7 top_k=50 min_p=0.05 typical_p=0.9 seed=42");
    fails("%generate hi --min-new-tokens 10 -n 5", STATUS_INVALID, "more than");
}
static void chat_sends_the_whole_conversation(void **state) {
    (void)state;
    runs("%chat --system Kurz. Hello");
    assert_string_equal(fake.roles, "system user");
    assert_string_equal(fake.session, "chat");
    runs("%%chat\nsecond\n");
    assert_string_equal(fake.roles, "system user assistant user");
    fake.fail = (struct err){ STATUS_INVALID, "the prompt has 9,000 tokens" };
    fails("%chat third", STATUS_INVALID, "9,000");
    fake.fail.code = 0;
    runs("%chat"); /* the failed question is not part of it */
    assert_null(strstr(out_plain(&o, 0), "third"));
    says(out_plain(&o, 0), "안녕 world");
    runs("%chat --reset again");
    assert_string_equal(fake.roles, "user");
    runs("%chat --system Neu. hi");
    assert_string_equal(fake.roles, "system user");
}
static atomic_bool done_asking;
static void *keep_asking(void *arg) {
    (void)arg;
    while (!done_asking) {
        json_decref(interp_complete(in, "%generate $v", 12, 12));
        json_decref(interp_inspect(in, "%generate $v1", 13, 12, 1));
    }
    return NULL;
}
static void questions_while_cells_run(void **state) {
    (void)state;
    pthread_t t;
    done_asking = false;
    pthread_create(&t, NULL, keep_asking, NULL);
    for (int i = 0; i < 200; i++) {
        char code[64];
        snprintf(code, sizeof code, "v%d = 'x'\n%%alias a%d small\n%%models", i, i);
        runs(code);
    }
    done_asking = true;
    pthread_join(t, NULL);
}
/* Whatever allocation fails: an error or a result, and the next cell works. */
static void cells_survive_without_memory(void **state) {
    (void)state;
    static const char *const code[] = { "x = [1, 'a']\n%load small --dtype fp16 $x;",
                                        "%chat --reset --system a b",
                                        "%%generate -n 3 --save y\nhello",
                                        "%models",
                                        "%show",
                                        "%profile",
                                        "%fit a,b -c 8,9",
                                        "%generate --template kullm --input x --num-beams 2 y",
                                        "%set temperature=1\n%set",
                                        "%alias q %ps\n%q\n%alias",
                                        "%%capture z\n%ps",
                                        "%lsmagic",
                                        "%env A=b",
                                        "%load?",
                                        "%laod",
                                        "%generate --max-token 3",
                                        "!true",
                                        "%%bash\ntrue",
                                        "%time %ps" };
    for (size_t i = 0; i < sizeof code / sizeof *code; i++)
        for (long n = 1, made = 1; n <= made + 1 && n < 400; n++) {
            struct err e = { 0 };
            fresh();
            mem_fail_at(0);
            mem_fail_at(n);
            const int rc = interp_execute(in, &o, code[i], strlen(code[i]), &e);
            made = mem_fail_at(0);
            if (made < n) break; /* nothing failed any more */
            made = n;
            if (rc) assert_true(e.code && e.text[0]);
        }
    runs("%ps");
}
static void an_interrupt_keeps_what_was_written(void **state) {
    (void)state;
    fake.hang = true;
    fake.done.new_tokens = 61;
    assert_true(stopped("hello", 50, "interrupted after 61 of 128 tokens") < 2);
    assert_int_equal(fake.cancelled, 1);
    assert_string_equal(printed(), "안녕 world");
    assert_string_equal(out_plain(&o, -1), "interrupted after 61 of 128 tokens (decode 44.6 tok/s so far)");
    stopped("%load small", 50, "interrupted");
    says(out_plain(&o, -1), "load interrupted");
    fake.hang = false;
    runs("%ps"); /* and the next cell works */
}
static void a_lost_engine_is_opened_again(void **state) {
    (void)state;
    fake.lost = true;
    fails("%ps", STATUS_GONE, "its models are unloaded. %load");
    fake.lost = false;
    runs("%ps");
    assert_int_equal(fake.opened, 2);
}
static void shell_commands(void **state) {
    (void)state;
    runs("!printf 'a\\n'; echo b >&2; printf c; exit 3");
    assert_string_equal(printed(), "a\nb\nc");
    runs("_exit_code");
    assert_string_equal(json_string_value(json_object_get(o.result, "text/plain")), "3");
    runs("!cat");
    assert_string_equal(printed(), ""); /* stdin is empty */
    runs("%%bash\nx=5\necho $x; echo e >&2");
    assert_string_equal(printed(), "5\n");
    assert_string_equal(buf_text(&o.text[1]), "e\n");
    fails("%%bash\necho a\nexit 3", STATUS_SHELL, "status 3");
    assert_string_equal(printed(), "a\n");
    fails("%%bash\nkill -9 $$", STATUS_SHELL, "signal 9");
    runs("%%bash --no-raise-error --out text\necho kept\nexit 3");
    runs("text");
    assert_string_equal(json_string_value(json_object_get(o.result, "text/plain")), "'kept\\n'");
    fails("!sleep 100 &", STATUS_INVALID, "background");
    runs("!seq 200000");
    assert_int_equal(o.text[0].n, 1288895); /* every line */
    runs("!(sleep 60 & echo $!)");          /* what is left running ends with the cell */
    const pid_t left = (pid_t)strtol(printed(), NULL, 10);
    for (int i = 0; i < 100 && !kill(left, 0); i++) nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)left);
    FILE *f = fopen(path, "r");
    if (f && fgets(line, sizeof line, f) && !strstr(line, ") Z")) fail_msg("still there: %s", line);
    if (f) fclose(f);
}
static void shell_commands_stop(void **state) {
    (void)state;
    assert_true(stopped("!sleep 30", 100, "interrupted") < 1.5);
    assert_true(stopped("%%bash\nsleep 30\n", 100, "interrupted") < 1.5);
    assert_true(stopped("!trap '' INT TERM; while :; do sleep 0.05; done", 100, "interrupted") <
                3.8); /* deaf: killed */
    assert_true(stopped("!yes", 100, "interrupted") < 1.5);
}
static void time_and_capture(void **state) {
    (void)state;
    runs("%time !echo hi");
    says(printed(), "hi\nCPU times: user ");
    says(printed(), "Wall time: ");
    runs("%%time\nx = 5\n%ps\n!echo two");
    says(printed(), "two\nCPU times");
    runs("%%capture text\n!echo one\n%ps\n!echo two");
    assert_string_equal(printed(), "");
    assert_int_equal(json_array_size(o.displays), 0);
    runs("text");
    says(json_string_value(json_object_get(o.result, "text/plain")), "'one\\ntwo\\nmodel ");
    runs("%%capture --no-stdout text\n!echo through");
    assert_string_equal(printed(), "through\n");
    fails("%%capture text\n!echo kept\n%nothing", STATUS_NOTFOUND, "%nothing");
    runs("!echo $text");
    says(printed(), "kept");
    runs("%ps;");
    assert_int_equal(json_array_size(o.displays), 0);
}
static char *content(const char *path) {
    static char text[256];
    FILE *f = fopen(path, "r");
    const size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    return text;
}
static int entries(const char *path) {
    char command[200], line[32];
    snprintf(command, sizeof command, "ls -A %s | wc -l", path);
    FILE *f = popen(command, "r");
    const int n = f && fgets(line, sizeof line, f) ? (int)strtol(line, NULL, 10) : -1;
    if (f) pclose(f);
    return n;
}
static void files_are_written_whole_or_not_at_all(void **state) {
    (void)state;
    char code[200], path[100];
    snprintf(path, sizeof path, "%s/a b.txt", folder);
    snprintf(code, sizeof code, "%%%%writefile \"%s\"\n첫 줄\n$x", path);
    runs(code);
    assert_string_equal(content(path), "첫 줄\n$x");
    says(printed(), "Wrote ");
    snprintf(code, sizeof code, "%%%%writefile -a '%s'\n more", path);
    runs(code);
    assert_string_equal(content(path), "첫 줄\n$x more");
    struct rlimit old, small = { 4096, 4096 }; /* stands for a disk that is full */
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    char big[9000];
    snprintf(big, sizeof big, "%%%%writefile '%s'\n%08000d", path, 1);
    setrlimit(RLIMIT_FSIZE, &small);
    fails(big, STATUS_IO, "the file is as it was");
    snprintf(big, sizeof big, "%%%%writefile -a '%s'\n%08000d", path, 1);
    fails(big, STATUS_IO, "the file is as it was");
    setrlimit(RLIMIT_FSIZE, &old);
    assert_string_equal(content(path), "첫 줄\n$x more");
    assert_int_equal(entries(folder), 1); /* no temporary file is left */
    fails("%%writefile /nowhere/at/all\nx", STATUS_IO, "No such file");
    fails("%%writefile /dev/full\nx", STATUS_IO, "No space left");
    fails("%%writefile /tmp\nx", STATUS_IO, "folder");
}
static void environment(void **state) {
    (void)state;
    runs("%env JAEDA_TEST=a b=c");
    assert_string_equal(printed(), "env: JAEDA_TEST=a b=c\n");
    runs("%env JAEDA_TEST");
    assert_string_equal(printed(), "a b=c\n");
    runs("%env JAEDA_TEST 7");
    assert_string_equal(getenv("JAEDA_TEST"), "7");
    o.input = NULL;
    fails("%env --ask JAEDA_TOKEN", STATUS_IO, "no stdin");
    fresh();
    o.input = "hf_secretsecret";
    struct err e = { 0 };
    assert_int_equal(interp_execute(in, &o, "%env --ask JAEDA_TOKEN", 22, &e), 0);
    assert_true(o.password);
    assert_string_equal(printed(), "env: JAEDA_TOKEN=<hidden>\n");
    assert_string_equal(getenv("JAEDA_TOKEN"), "hf_secretsecret");
    runs("%env");
    says(printed(), "JAEDA_TOKEN=<hidden>\n");
    assert_null(strstr(printed(), "hf_secretsecret"));
    runs("%env JAEDA_TOKEN");
    assert_string_equal(printed(), "<hidden>\n");
    fails("%env JAEDA_NOT_THERE", STATUS_NOTFOUND, "no JAEDA_NOT_THERE");
    runs("%env --unset JAEDA_TOKEN");
    assert_null(getenv("JAEDA_TOKEN"));
    runs("t = 'hf_0123456789abcdef'\nt");
    assert_string_equal(json_string_value(json_object_get(o.result, "text/plain")), "'hf_<hidden>'");
}
static void aliases(void **state) {
    (void)state;
    runs("%alias tiny small\n%load tiny");
    assert_string_equal(fake.model, "small");
    runs("%alias g %generate -n 3\n%g hello");
    assert_int_equal(fake.last.max_new_tokens, 3);
    runs("%alias say !echo\n%say a b");
    assert_string_equal(printed(), "a b\n");
    runs("%alias loop %loop");
    fails("%loop", STATUS_INVALID, "nest deeper");
    fails("%alias ll ls -l", STATUS_INVALID, "%alias ll !ls -l");
    fails("%alias load %ps", STATUS_INVALID, "magic already");
    runs("%alias -d say");
    fails("%say a", STATUS_NOTFOUND, "no magic %say");
}
static bool completes(const char *code, const char *match) {
    const size_t n = strcspn(code, "^"); /* ^ marks the cursor */
    char text[400];
    snprintf(text, sizeof text, "%.*s%s", (int)n, code, code[n] ? code + n + 1 : "");
    json_t *reply = interp_complete(in, text, strlen(text), n), *m;
    size_t i;
    bool found = false;
    assert_int_equal(json_array_size(json_object_get(reply, "matches")),
                     json_array_size(json_object_get(reply, "types")));
    json_array_foreach(json_object_get(reply, "matches"), i, m) {
        const size_t start = (size_t)json_integer_value(json_object_get(reply, "cursor_start"));
        char whole[800];
        snprintf(whole, sizeof whole, "%.*s%s", (int)start, text, json_string_value(m));
        found |= !strcmp(whole, match);
    }
    json_decref(reply);
    return found;
}
static void completion(void **state) {
    (void)state;
    runs("model = 'x'\n모델 = 'y'\n%models\n%alias tiny small\n%alias g %ps");
    assert_true(completes("%lo^", "%load"));
    assert_true(completes("%gen^", "%%generate"));
    assert_true(completes("%%b^", "%%bash"));
    assert_false(completes("%%lo^", "%%load"));
    assert_true(completes("%g^", "%g"));
    assert_true(completes("x = 1\n%lo^\n%ps", "x = 1\n%load"));
    assert_true(completes("%generate --max^", "%generate --max-new-tokens"));
    assert_true(completes("%generate --max_n^ hi", "%generate --max-new-tokens"));
    assert_true(completes("%generate --no^", "%generate --no-stream"));
    assert_true(completes("%load small --dtype f^", "%load small --dtype fp32"));
    assert_true(completes("%load small --dtype=^", "%load small --dtype=auto"));
    assert_true(completes("%load SM^", "%load small"));
    assert_true(completes("%load t^", "%load tiny"));
    assert_true(completes("%load ^", "%load smollm2-135m"));
    assert_true(completes("%generate -m sm^", "%generate -m small"));
    assert_true(completes("%set temp^", "%set temperature="));
    assert_true(completes("%set dtype=f^", "%set dtype=fp16"));
    assert_true(completes("%load small --kv^", "%load small --kv-cache-dtype"));
    assert_true(completes("%load small --load-format d^", "%load small --load-format dummy"));
    assert_true(completes("%load small --dtype int^", "%load small --dtype int4"));
    assert_true(completes("%fit s^", "%fit small"));
    assert_true(completes("%fit a,s^", "%fit a,small"));
    assert_true(completes("%fit small --machine g5.1^", "%fit small --machine g5.12xlarge"));
    assert_true(completes("%fit small --dtype int8,i^", "%fit small --dtype int8,int4"));
    assert_true(completes("%generate --template k^", "%generate --template kullm"));
    assert_true(completes("%generate --inp^", "%generate --input"));
    assert_true(completes("%generate --num-b^", "%generate --num-beams"));
    assert_true(completes("%template ch^", "%template chatml"));
    assert_true(completes("%generate $mo^", "%generate $model"));
    assert_true(completes("%generate <${모^", "%generate <${모델}"));
    assert_true(completes("%time %lo^", "%time %load"));
    assert_true(completes("!cat /et^", "!cat /etc/"));
    assert_true(completes("%cd /et^", "%cd /etc/"));
    assert_true(completes("mo^", "model"));
    assert_true(completes("%%bash\ncat /et^", "%%bash\ncat /etc/"));
    assert_true(completes("%%time\n%lo^", "%%time\n%load"));
    assert_false(completes("%%generate\n%lo^", "%%generate\n%load")); /* a body is prose */
    assert_false(completes("Hello\n%lo^", "Hello\n%load"));
    assert_true(completes("x^", "x") == false);
    json_t *reply = interp_complete(in, "", 0, 0);
    assert_int_equal(json_array_size(json_object_get(reply, "matches")), 0);
    json_decref(reply);
}
static void inspects(const char *code, int level, const char *want) {
    const size_t n = strcspn(code, "^");
    char text[400];
    snprintf(text, sizeof text, "%.*s%s", (int)n, code, code[n] ? code + n + 1 : "");
    json_t *bundle = interp_inspect(in, text, strlen(text), n, level);
    if (!want) {
        assert_null(bundle);
        return;
    }
    says(json_string_value(json_object_get(bundle, "text/plain")), want);
    assert_non_null(json_object_get(bundle, "text/markdown"));
    json_decref(bundle);
}
static void inspection(void **state) {
    (void)state;
    runs("model = 'x'\n%models");
    inspects("%lo^ad small", 0, "loads a model");
    inspects("%load small --dty^pe fp16", 0, "--dtype D");
    inspects("%load small --dtype fp^16", 0, "--dtype D");
    inspects("%generate --no-str^eam", 0, "--no-stream");
    inspects("%load small --no-wei^ghts", 0, "--load-format dummy");
    inspects("%fit small --mach^ine this", 0, "g5.12xlarge, a100-80gb, h100, all");
    inspects("%generate --beam-wid^th 3", 0, "--num-beams N");
    inspects("%load sm^all", 0, "small: loaded, 135 M, q4_1");
    inspects("%generate $mo^del", 0, "model: str = 'x'");
    inspects("mo^del", 1, "stands for: x");
    inspects("%time %lo^ad x", 0, "loads a model");
    inspects("%nothing^", 0, NULL);
    inspects("What is a mo^del?", 0, NULL);
    inspects("", 0, NULL);
}
static void history(void **state) {
    (void)state;
    fails("%history", STATUS_NOTFOUND, "no history");
    fails("%history 3-1", STATUS_INVALID, "2-6");
}
static void line_of_history(void *arg, int session, int n, void (*line)(void *, int, int, const char *), void *to) {
    (void)session;
    *(int *)arg = n;
    line(to, 7, 1, "%load small");
    line(to, 7, 2, "%env T=hf_0123456789abcdef");
    line(to, 7, 3, "안녕?\nzwei");
}
static void history_lines(void **state) {
    (void)state;
    int asked = -1;
    const struct interp_host host = { &asked, line_of_history, NULL };
    struct err e = { 0 };
    interp_close(in);
    interp_open(&in, &host, &e);
    runs("%history -n 2-3");
    assert_string_equal(printed(), "   2: %env T=hf_<hidden>\n   3: 안녕?\nzwei\n");
    assert_int_equal(asked, 0);
    runs("%history -l 20 -g load");
    assert_string_equal(printed(), "%load small\n");
    assert_int_equal(asked, 20);
    runs("%history -n -l 20 -g load");
    assert_string_equal(printed(), "   7/1: %load small\n");
}
int main(void) {
    snprintf(folder, sizeof folder, "/tmp/jaeda-test-XXXXXX");
    if (!mkdtemp(folder)) return 1;
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(the_table_is_sound),
                                        T(variables),
                                        T(unknown_names),
                                        T(prompts_go_verbatim),
                                        T(sampling_is_what_was_asked),
                                        T(chat_sends_the_whole_conversation),
                                        T(an_interrupt_keeps_what_was_written),
                                        T(a_lost_engine_is_opened_again),
                                        T(questions_while_cells_run),
                                        T(cells_survive_without_memory),
                                        T(shell_commands),
                                        T(shell_commands_stop),
                                        T(time_and_capture),
                                        T(files_are_written_whole_or_not_at_all),
                                        T(environment),
                                        T(aliases),
                                        T(completion),
                                        T(inspection),
                                        T(history),
                                        T(history_lines) };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) ? 1 : rc;
}
