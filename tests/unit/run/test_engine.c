/* The engine through its one door: what every transport must do. JAEDA_TEST_ENGINE=ipc: through a
 * resident engine in a folder of its own; else "local:". */
#include "base/mem.h"
#include "data/vocab_build.h"
#include "run/listen.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TINY "tests/golden/tiny-tied.gguf"

static void keep(char to[1 << 12], const char *from) { memccpy(to, from, 0, 1 << 12); }

static struct heard *load(void) {
    struct heard *h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .dtype = "fp32" });
    if (h->fail.code) fail_msg("%s", h->fail.text);
    return h;
}

static void load_tells_sizes_before_and_after(void **state) {
    (void)state;
    struct heard *h = load();
    assert_int_equal(h->models, 1);
    assert_true(h->model.loaded);
    assert_true(h->model.params > 0 && h->model.weight_bytes > 0 && h->model.kv_bytes > 0);
    assert_true(h->model.predicted_bytes == h->model.weight_bytes + h->model.kv_bytes + h->model.arena_bytes);
    assert_true(h->model.kv_bytes_per_token * (uint64_t)h->model.max_model_len <= h->model.kv_bytes);
    h = load();
    assert_string_equal(h->model.notice, "already loaded");
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_STATUS });
    assert_int_equal(h->models, 1);
    assert_true(h->system.memory_total >= h->system.memory_available && h->system.threads > 0);
}
static void greedy_text_is_the_same_twice_and_is_counted(void **state) {
    (void)state;
    load();
    struct heard *h = generate("hello", (struct engine_req){ .max_new_tokens = 24, .ignore_eos = true });
    char first[1 << 12];
    keep(first, h->text);
    assert_int_equal(h->done.new_tokens, 24);
    assert_int_equal(h->done.stop, ENGINE_STOP_LENGTH);
    assert_true(h->done.greedy);
    assert_int_equal(h->done.chars, utf8_count(h->text, strlen(h->text)));
    assert_true(h->done.ttft_ms >= h->done.prefill_ms && h->done.total_ms >= h->done.ttft_ms + h->done.decode_ms);
    h = generate("hello", (struct engine_req){ .max_new_tokens = 24, .ignore_eos = true });
    assert_string_equal(h->text, first);
    assert_int_equal(h->done.cached_tokens, 0); /* nobody's session: timings must not profit from the last run */
}
static void a_seed_repeats_a_sampled_text(void **state) {
    (void)state;
    load();
    struct engine_req q = { .max_new_tokens = 32,
                            .ignore_eos = true,
                            .sampling = { .temperature = 2, .top_p = 1, .seed = 7 } };
    char first[1 << 12];
    keep(first, generate("hello", q)->text);
    assert_string_equal(generate("hello", q)->text, first);
    q.sampling.seed = 8;
    assert_string_not_equal(generate("hello", q)->text, first);
}
static void a_session_reuses_its_prefix(void **state) {
    (void)state;
    load();
    struct engine_req q = { .max_new_tokens = 8, .ignore_eos = true, .session = "s" };
    struct heard *h = generate("the quick brown fox jumps", q);
    assert_int_equal(h->done.cached_tokens, 0);
    h = generate("the quick brown fox jumps over the dog", q);
    const int reused = h->done.cached_tokens;
    char with[1 << 12];
    keep(with, h->text);
    assert_in_range(reused, 5, h->done.prompt_tokens - 1);
    h = generate("the quick brown fox jumps over the dog",
                 (struct engine_req){ .max_new_tokens = 8, .ignore_eos = true });
    assert_int_equal(h->done.cached_tokens, 0);
    assert_string_equal(h->text, with);
    generate("the quick brown fox jumps over the dog", q);
    ask(&(struct engine_req){ .kind = ENGINE_REQ_RESET, .session = "s" });
    assert_int_equal(generate("the quick brown fox jumps over the dog", q)->done.cached_tokens, 0);
}
static void stop_strings_ids_and_the_context_end_a_text(void **state) {
    (void)state;
    load();
    struct heard *h = generate("hello", (struct engine_req){ .max_new_tokens = 32, .ignore_eos = true });
    assert_true(h->done.chars >= 4);
    const size_t at = utf8_offset(h->text, strlen(h->text), 2), end = utf8_offset(h->text, strlen(h->text), 4);
    char stop[32] = "", before[1 << 12] = "";
    memcpy(stop, h->text + at, end - at);
    const char *const stops[] = { stop };
    memcpy(before, h->text, (size_t)(strstr(h->text, stop) - h->text));
    h = generate("hello", (struct engine_req){ .max_new_tokens = 32, .ignore_eos = true, .stop = stops, .stops = 1 });
    assert_int_equal(h->done.stop, ENGINE_STOP_STRING);
    assert_string_equal(h->done.stop_text, stop);
    assert_string_equal(h->text, before);
    h = generate("hello", (struct engine_req){ .max_new_tokens = 1 << 20, .ignore_eos = true });
    assert_int_equal(h->done.stop, ENGINE_STOP_CONTEXT);
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_STATUS });
    assert_true(h->model.max_model_len > 0);
}
static void long_empty_and_odd_prompts_get_a_clear_error(void **state) {
    (void)state;
    const int context = load()->model.max_model_len;
    char *longest = mem_alloc((size_t)context * 8);
    memset(longest, 'z', (size_t)context * 8 - 1);
    for (int i = 0; i < context * 8 - 1; i += 2) longest[i] = (char)('0' + i % 7);
    longest[context * 8 - 1] = 0;
    struct heard *h = generate(longest, (struct engine_req){ 0 });
    assert_int_equal(h->fail.code, STATUS_INVALID);
    assert_non_null(strstr(h->fail.text, "the context holds"));
    mem_free(longest);
    h = generate("", (struct engine_req){ 0 });
    assert_int_equal(h->fail.code, STATUS_INVALID);
    assert_non_null(strstr(h->fail.text, "empty"));
    const struct engine_message nul = { NULL, "a\0b\xff\xed", 5 };
    h = ask(&(struct engine_req){
        .kind = ENGINE_REQ_GENERATE, .message = &nul, .messages = 1, .max_new_tokens = 2, .ignore_eos = true });
    assert_int_equal(h->fail.code, 0);
    assert_int_equal(h->done.new_tokens, 2);
    const struct engine_message role = { "wizard", "x", 1 };
    h = ask(&(struct engine_req){
        .kind = ENGINE_REQ_GENERATE, .message = &role, .messages = 1, .template_name = "nonesuch" });
    assert_int_equal(h->fail.code, STATUS_INVALID);
}
static void beams_share_the_context_and_say_when_it_is_too_small(void **state) {
    (void)state;
    load();
    struct heard *h = generate("hello", (struct engine_req){ .max_new_tokens = 12, .beams = { 4, 1, false } });
    if (h->fail.code) fail_msg("%s", h->fail.text);
    assert_true(h->done.new_tokens > 0 && h->done.beam_score < 0 && h->done.beams.num_beams == 4);
    assert_true(h->text[0] != 0);
    h = generate("hello", (struct engine_req){ .max_new_tokens = 250, .beams = { 16, 1, false } });
    assert_int_equal(h->fail.code, STATUS_INVALID);
    assert_non_null(strstr(h->fail.text, "--max-new-tokens"));
}
static void a_cancel_keeps_what_was_written(void **state) {
    (void)state;
    load();
    const struct engine_message m = raw("hello");
    for (int after = 0; after < 6; after++) {
        struct engine_req q = {
            .kind = ENGINE_REQ_GENERATE, .message = &m, .messages = 1, .max_new_tokens = 1 << 20, .ignore_eos = true
        };
        const uint64_t job = submit(&q);
        struct heard h = { 0 };
        struct engine_event ev;
        if (!after) engine_cancel(g, job);
        for (int n = 0; !h.ended;) {
            assert_true(next(&ev));
            note(&h, &ev);
            if (ev.kind == ENGINE_EV_TEXT && ++n == after) engine_cancel(g, job);
            engine_event_fini(&ev);
        }
        assert_int_equal(h.fail.code, 0);
        assert_true(h.done.stop == ENGINE_STOP_CANCELLED ||
                    h.done.stop == ENGINE_STOP_CONTEXT); /* a tiny model is quick */
        assert_true(h.done.new_tokens >= after);
    }
    engine_cancel(g, 123456); /* unknown: ignored */
    assert_int_equal(generate("hello", (struct engine_req){ .max_new_tokens = 3, .ignore_eos = true })->done.new_tokens,
                     3);
}
static void status_does_not_wait_behind_a_job(void **state) {
    (void)state;
    load();
    const struct engine_message m = raw("hello");
    const struct engine_req q = {
        .kind = ENGINE_REQ_PROFILE, .message = &m, .messages = 1, .runs = 100, .max_new_tokens = 16
    };
    const uint64_t slow = submit(&q), quick = submit(&(struct engine_req){ .kind = ENGINE_REQ_STATUS });
    struct heard a = { 0 }, b = { 0 };
    struct engine_event ev;
    while (!a.ended || !b.ended) {
        assert_true(next(&ev));
        note(ev.job == slow ? &a : &b, &ev);
        assert_true(ev.job == slow || ev.job == quick);
        if (b.ended && !a.ended) engine_cancel(g, slow);
        if (a.ended) assert_true(b.ended);
        engine_event_fini(&ev);
    }
    assert_true(a.fail.code == STATUS_CANCELLED || a.events[ENGINE_EV_DONE]);
}
static void profile_adds_up(void **state) {
    (void)state;
    load();
    struct heard *h =
        ask(&(struct engine_req){ .kind = ENGINE_REQ_PROFILE, .prompt_tokens = 40, .max_new_tokens = 8, .runs = 4 });
    assert_int_equal(h->fail.code, 0);
    assert_int_equal(h->events[ENGINE_EV_PROFILE], 1);
    assert_int_equal(h->profile.prompt_tokens, 40);
    assert_int_equal(h->profile.context, 44);
    assert_true(h->profile.stream_gbs > 0.1 && h->profile.peak_gflops > 0.1);
    for (int k = 0; k < 2; k++) {
        assert_true(h->profile.wall_ms[k] > 0 && h->profile.wall_sd_ms[k] >= 0);
        assert_float_equal(h->row_ms[k], h->profile.spans_ms[k], 1e-6 + 1e-9 * h->row_ms[k]);
        assert_true(h->profile.spans_ms[k] <= h->profile.profiled_ms[k]);
    }
}
static void a_batch_decodes_side_by_side(void **state) {
    (void)state;
    load();
    struct engine_req q = {
        .kind = ENGINE_REQ_PROFILE, .prompt_tokens = 40, .max_new_tokens = 8, .runs = 2, .batch_size = 3
    };
    struct heard *h = ask(&q);
    if (h->fail.code) fail_msg("%s", h->fail.text);
    assert_int_equal(h->profile.batch_size, 3);
    assert_int_equal(h->done.new_tokens, 24);
    assert_int_equal(h->done.prompt_tokens, 120);
    assert_true(h->profile.wall_ms[ENGINE_DECODE] > 0);
    q.batch_size = 20; /* more than the cache of one sequence has room for */
    h = ask(&q);
    assert_int_equal(h->fail.code, STATUS_INVALID);
    assert_non_null(strstr(h->fail.text, "--max-sequences 20"));
    const uint64_t kv =
        ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .max_model_len = 64 })->model.kv_bytes;
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .max_model_len = 64, .max_sequences = 20 });
    assert_int_equal(h->model.max_sequences, 20);
    assert_int_equal(h->model.kv_bytes, 20 * kv);
    h = ask(&q);
    if (h->fail.code) fail_msg("%s", h->fail.text);
    assert_int_equal(h->done.new_tokens, 160);
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .max_sequences = 65 });
    assert_non_null(strstr(h->fail.text, "--max-sequences 65: 1 to 64"));
}
static void unload_gives_memory_back(void **state) {
    (void)state;
    load();
    struct heard *h = ask(&(struct engine_req){ .kind = ENGINE_REQ_UNLOAD });
    assert_int_equal(h->models, 1);
    assert_false(h->model.loaded);
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_UNLOAD });
    assert_int_equal(h->fail.code, STATUS_NOTFOUND);
    h = generate("hello", (struct engine_req){ 0 });
    assert_int_equal(h->fail.code, STATUS_NOTFOUND);
    assert_non_null(strstr(h->fail.text, "%load"));
}
static void what_cannot_be_loaded_is_named(void **state) {
    (void)state;
    struct heard *h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = "smolm2-135m" });
    assert_true(h->fail.code != 0);
    assert_non_null(strstr(h->fail.text, "smollm2-135m"));
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .dtype = "int3" });
    assert_int_equal(h->fail.code, STATUS_INVALID);
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .max_model_len = 1 << 30 });
    assert_int_equal(h->fail.code, STATUS_INVALID);
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = "CMakeLists.txt" });
    assert_int_equal(h->fail.code, STATUS_FORMAT);
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_SHOW, .model = TINY });
    assert_int_equal(h->models, 1);
    assert_true(!h->model.loaded && h->model.on_disk && h->model.layers > 0);
}
/* A llama of 80 layers and 260 GiB whose weights are a hole in the file: whoever reads them gets zeros, slowly. */
static void write_giant(char path[64]) {
    static const struct {
        const char *name;
        uint64_t cols, rows;
    } part[] = {
        { "attn_norm", 8192, 1 },    { "attn_q", 8192, 8192 },      { "attn_k", 8192, 1024 },
        { "attn_v", 8192, 1024 },    { "attn_output", 8192, 8192 }, { "ffn_norm", 8192, 1 },
        { "ffn_gate", 8192, 28672 }, { "ffn_up", 8192, 28672 },     { "ffn_down", 28672, 8192 },
    };
    struct buf b;
    uint64_t at = 0, tensors = 0;
    put_head(&b, 3);
    put_string(&b, "general.architecture", "llama");
    put_u32(&b, "llama.block_count", 80);
    put_u32(&b, "llama.context_length", 4096);
    put_u32(&b, "llama.embedding_length", 8192);
    put_u32(&b, "llama.feed_forward_length", 28672);
    put_u32(&b, "llama.attention.head_count", 64);
    put_u32(&b, "llama.attention.head_count_kv", 8);
    put_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_string(&b, "tokenizer.ggml.model", "gpt2");
    put_string(&b, "tokenizer.ggml.pre", "gpt-2");
    put_array(&b, "tokenizer.ggml.tokens", T_STRING, 257);
    for (int i = 0; i < 256; i++) put_byte_token(&b, i);
    put_text(&b, "aa");
    put_array(&b, "tokenizer.ggml.merges", T_STRING, 1);
    put_text(&b, "a a");
    put_tensor(&b, "token_embd.weight", 2, (const uint64_t[]){ 8192, 257 }, 0, at);
    at += 8192 * 257 * 4, tensors++;
    put_tensor(&b, "output_norm.weight", 1, (const uint64_t[]){ 8192 }, 0, at);
    at += 8192 * 4, tensors++;
    for (int layer = 0; layer < 80; layer++)
        for (size_t i = 0; i < sizeof part / sizeof *part; i++, tensors++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", layer, part[i].name);
            put_tensor(&b, name, part[i].rows > 1 ? 2 : 1, (const uint64_t[]){ part[i].cols, part[i].rows }, 0, at);
            at += part[i].cols * part[i].rows * 4;
        }
    put_counts(&b, tensors, 12);
    put_align(&b, 32);
    const char *dir = getenv("TMPDIR");
    snprintf(path, 64, "%s/jaeda-giant-XXXXXX", dir ? dir : P_tmpdir);
    const int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, b.p, b.n) == (ssize_t)b.n && !ftruncate(fd, (off_t)(b.n + at)));
    close(fd);
    buf_fini(&b);
}
static void a_model_larger_than_memory_is_refused_before_it_is_read(void **state) {
    (void)state;
    char path[64];
    write_giant(path);
    struct heard *h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = path });
    unlink(path);
    assert_true(h->fail.code == STATUS_NOMEM || h->fail.code == STATUS_DEVMEM); /* the machine's or the GPU's */
    assert_non_null(strstr(h->fail.text, "nothing was read"));
    assert_int_equal(h->events[ENGINE_EV_PROGRESS], 0);
}
static void requests_out_of_range_are_refused_at_the_door(void **state) {
    (void)state;
    const char *const stop[] = { "" };
    const struct engine_req bad[] = {
        { .kind = ENGINE_REQ_KINDS },
        { .kind = ENGINE_REQ_GENERATE, .stop = stop, .stops = 1 },
        { .kind = ENGINE_REQ_GENERATE, .sampling = { .temperature = -1 } },
        { .kind = ENGINE_REQ_GENERATE, .sampling = { .top_p = 1.5f } },
        { .kind = ENGINE_REQ_GENERATE, .sampling = { .top_k = -2 } },
        { .kind = ENGINE_REQ_GENERATE, .sampling = { .min_p = 2 } },
        { .kind = ENGINE_REQ_GENERATE, .sampling = { .typical_p = -1 } },
        { .kind = ENGINE_REQ_GENERATE, .beams = { .num_beams = ENGINE_BEAMS + 1 } },
        { .kind = ENGINE_REQ_GENERATE, .beams = { .num_beams = 4 }, .sampling = { .temperature = 1 } },
        { .kind = ENGINE_REQ_FIT, .fit = { .batch = (const int[]){ 0 }, .batches = 1 } },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = { 0 };
        uint64_t job = 0;
        assert_int_equal(engine_submit(g, &bad[i], &job, &e), STATUS_INVALID);
    }
    struct engine *none;
    struct err e = { 0 };
    assert_int_equal(engine_open(&none, "tcp://nowhere", &e), STATUS_INVALID);
    assert_null(none);
}
static void closing_with_work_under_way_frees_all(void **state) {
    (void)state;
    load();
    const struct engine_message m = raw("hello");
    const struct engine_req q = {
        .kind = ENGINE_REQ_GENERATE, .message = &m, .messages = 1, .max_new_tokens = 1 << 20, .ignore_eos = true
    };
    for (int i = 0; i < 3; i++) submit(&q);
} /* teardown closes: the leak checker of the sanitised run is the test */

static char uri[64] = "local:", folder[48];
static int house(void **state) {
    (void)state;
    const char *how = getenv("JAEDA_TEST_ENGINE");
    if (!how || strcmp(how, "ipc") != 0) return 0;
    snprintf(folder, sizeof folder, "%s/jaeda-test-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) return -1;
    snprintf(uri, sizeof uri, "ipc:%s", folder);
    return 0;
}
/* The engine ends when asked, and takes its socket along. */
static int leave(void **state) {
    (void)state;
    struct err e = { 0 };
    struct engine_event ev;
    if (!*folder || engine_open(&g, uri, &e)) return e.code;
    submit(&(struct engine_req){ .kind = ENGINE_REQ_ENGINE, .quit = true });
    for (int i = 0, rc = 0; i < 100 && rc >= 0; i++) {
        struct pollfd p = { .fd = engine_fd(g), .events = POLLIN };
        poll(&p, 1, 100);
        while ((rc = engine_next(g, &ev)) > 0) engine_event_fini(&ev);
    }
    engine_gone(g, &e, NULL);
    engine_close(g);
    char file[64];
    static const char *const left[] = { "log", "lock", "ended" };
    for (int i = 0; i < 3; i++) {
        snprintf(file, sizeof file, "%s/%s", folder, left[i]);
        unlink(file);
    }
    return e.code == STATUS_GONE && strstr(e.text, "was stopped by") && !rmdir(folder) ? 0 : -1;
}
static int setup(void **state) {
    (void)state;
    struct err e = { 0 };
    if (engine_open(&g, uri, &e)) print_error("%s\n", e.text);
    return e.code;
}
static int teardown(void **state) {
    (void)state;
    engine_close(g);
    return 0;
}
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(load_tells_sizes_before_and_after),
        T(greedy_text_is_the_same_twice_and_is_counted),
        T(a_seed_repeats_a_sampled_text),
        T(a_session_reuses_its_prefix),
        T(stop_strings_ids_and_the_context_end_a_text),
        T(long_empty_and_odd_prompts_get_a_clear_error),
        T(beams_share_the_context_and_say_when_it_is_too_small),
        T(a_cancel_keeps_what_was_written),
        T(status_does_not_wait_behind_a_job),
        T(profile_adds_up),
        T(a_batch_decodes_side_by_side),
        T(unload_gives_memory_back),
        T(what_cannot_be_loaded_is_named),
        T(a_model_larger_than_memory_is_refused_before_it_is_read),
        T(requests_out_of_range_are_refused_at_the_door),
        T(closing_with_work_under_way_frees_all),
    };
    return cmocka_run_group_tests(tests, house, leave);
}
