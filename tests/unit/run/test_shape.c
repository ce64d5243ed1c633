/* What can be said and done with a shape alone: %fit against the arithmetic of the models' cards, dummy weights. */
#include "run/listen.h"
#include <math.h>

#define FIT(name, ...) ask(&(struct engine_req){ .kind = ENGINE_REQ_FIT, .model = name, .fit = { __VA_ARGS__ } })
#define LIST(type, ...) (const type[]) __VA_ARGS__

static void near(double value, double expected, double share) {
    if (fabs(value - expected) > share * expected) fail_msg("%g is not within %g of %g", value, share, expected);
}
static struct heard *fine(struct heard *h) {
    if (h->fail.code) fail_msg("%s", h->fail.text);
    return h;
}
/* 5,885,059,072 parameters (the card's number), 458,752 bytes of fp16 keys and values a token, 5.762e9 weights read for
 * each; 50.0 tok/s at 1,024 tokens on 600 GB/s: worked out by hand in the model's facts, not by this code. */
static void polyglot_5_8b_is_what_its_card_says(void **state) {
    (void)state;
    const struct heard *h = fine(FIT("polyglot-ko-5.8b", .dtype = LIST(char *const, { "fp16", "int8", "int4" }),
                                     .dtypes = 3, .machine = LIST(char *const, { "g5.2xlarge" }), .machines = 1,
                                     .context = LIST(int, { 1024 }), .contexts = 1));
    assert_true(h->fit.model.params == 5885059072);
    assert_true(h->fit.model.kv_bytes_per_token >= 458752 && h->fit.model.kv_bytes_per_token < 458752 + 16);
    assert_int_equal(h->fit.rows, 3);
    assert_string_equal(h->fit.machine[0].device, "NVIDIA A10G");
    const double bits[] = { 16, 8.5, 4.5 }, ceiling[] = { 50.0, 91, 162 };
    for (int i = 0; i < 3; i++) {
        const struct engine_fit_row *r = &h->fit.row[i];
        near((double)r->weight_bytes, 5885059072 * bits[i] / 8, 0.005);
        near((double)r->kv_bytes, 458752.0 * 1024, 0.001);
        near(r->ceiling, ceiling[i], 0.02);
        assert_true(r->fits && r->max_context == 2048);
        assert_true(r->total_bytes == r->weight_bytes + r->kv_bytes + r->work_bytes);
    }
}
static void a_12_8b_in_fp16_does_not_fit_one_a10g(void **state) {
    (void)state;
    const struct heard *h =
        fine(FIT("kullm-polyglot-12.8b-v2", .dtype = LIST(char *const, { "fp16", "int8" }), .dtypes = 2,
                 .machine = LIST(char *const, { "g5.12xlarge", "a100-80gb" }), .machines = 2,
                 .context = LIST(int, { 512, 2048 }), .contexts = 2, .batch = LIST(int, { 1, 32 }), .batches = 2));
    assert_int_equal(h->fit.rows, 16);
    for (int i = 0; i < 16; i++) {
        const struct engine_fit_row *r = &h->fit.row[i];
        const bool a10g = r->machine == 0, fp16 = !strcmp(r->dtype, "fp16"), many = r->batch == 32;
        assert_int_equal(r->context, i / 2 % 2 ? 2048 : 512);
        if (a10g && fp16) assert_true(!r->fits && r->max_context == 0);
        if (a10g && !fp16 && !many) assert_true(r->fits && r->max_context == 2048);
        if (a10g && !fp16 && many)
            assert_true(!r->fits && r->max_context > 0 && r->max_context < 512); /* 13.7 GB + 32 x 0.8 MB */
        if (!a10g && !many) assert_true(r->fits);
    }
}
/* The largest context of this machine leaves room for what loading takes for a moment: the largest tensor twice, 64 MiB. */
static void what_fits_here_can_be_loaded(void **state) {
    (void)state;
    const struct heard *h =
        fine(FIT("polyglot-ko-1.3b", .dtype = LIST(char *const, { "fp16" }), .dtypes = 1,
                 .machine = LIST(char *const, { "this" }), .machines = 1, .context = LIST(int, { 1 }), .contexts = 1,
                 .batch = LIST(int, { 256 }), .batches = 1));
    const struct engine_fit_row *r = &h->fit.row[0];
    const uint64_t each = UINT64_C(196608) * 256, staging = UINT64_C(2) * 30080 * 2048 * 2 + (UINT64_C(64) << 20);
    const uint64_t memory = h->fit.machine[0].memory_bytes, fixed = r->weight_bytes + r->work_bytes + staging;
    assert_true(h->fit.model.kv_bytes_per_token >= 196608 && h->fit.model.kv_bytes_per_token < 196608 + 16);
    if (r->max_context == 0 || r->max_context == 2048) skip(); /* a machine of less than 4 or more than 100 GB */
    assert_true(fixed + (uint64_t)r->max_context * each <= memory);
    assert_true(fixed + (uint64_t)(r->max_context + 1) * (each + 65536) > memory);
}
static void defaults_cover_this_machine_and_the_named_ones(void **state) {
    (void)state;
    const struct heard *h = fine(FIT("llama-2-7b-chat", .dtypes = 0));
    assert_int_equal(h->fit.machines, 5);
    assert_string_equal(h->fit.machine[0].name, "this");
    assert_true(h->fit.machine[0].bandwidth_gbs > 0); /* measured on the way */
    assert_true(h->fit.model.params == 6738415616);
    assert_string_equal(h->fit.row[0].dtype, "fp16");
}
static void what_makes_no_sense_is_refused_by_name(void **state) {
    (void)state;
    const struct {
        struct heard h;
        const char *named;
    } bad[] = {
        { *FIT("polyglot-ko-5.9b", .dtypes = 0), "polyglot-ko-5.8b" },
        { *FIT("polyglot-ko-5.8b", .machine = LIST(char *const, { "g4dn" }), .machines = 1), "g5.2xlarge" },
        { *FIT("polyglot-ko-5.8b", .dtype = LIST(char *const, { "int3" }), .dtypes = 1), "int4" },
        { *FIT("polyglot-ko-5.8b", .context = LIST(int, { 4096 }), .contexts = 1), "2048" },
        { *FIT("polyglot-ko-5.8b", .batch = LIST(int, { 1000 }), .batches = 1), "256" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_true(bad[i].h.fail.code != 0);
        if (!strstr(bad[i].h.fail.text, bad[i].named)) fail_msg("%s", bad[i].h.fail.text);
    }
}
static struct heard *load_dummy(const char *dtype) {
    return fine(ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD,
                                          .model = "smollm2-135m",
                                          .load_format = "dummy",
                                          .dtype = dtype,
                                          .max_model_len = 512 }));
}
static void dummy_weights_say_so_on_every_result(void **state) {
    (void)state;
    struct heard *h = load_dummy("int8");
    assert_string_equal(h->model.format, "dummy");
    assert_string_equal(h->model.dtype, "int8");
    assert_true(h->model.params == 134515008); /* as the real one */
    near((double)h->model.weight_bytes, 134515008 * 8.5 / 8, 0.01);
    char first[sizeof h->text];
    h = fine(generate("abc", (struct engine_req){ .max_new_tokens = 8, .ignore_eos = true }));
    assert_true(h->done.dummy && h->done.new_tokens == 8);
    memcpy(first, h->text, sizeof first);
    h = load_dummy("int4"); /* replaces it */
    assert_string_equal(h->model.dtype, "int4");
    load_dummy("int8");
    h = fine(generate("abc", (struct engine_req){ .max_new_tokens = 8, .ignore_eos = true }));
    assert_string_equal(h->text, first); /* the same weights again */
    h = fine(
        ask(&(struct engine_req){ .kind = ENGINE_REQ_PROFILE, .prompt_tokens = 16, .max_new_tokens = 2, .runs = 1 }));
    assert_true(h->profile.dummy);
}
static void memory_is_what_was_predicted(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* their own books are part of the process */
#endif
    const struct heard *h = load_dummy("bf16");
    near((double)h->model.measured_bytes, (double)h->model.predicted_bytes, 0.05);
    assert_true(h->model.peak_bytes <= h->model.predicted_bytes + (UINT64_C(2) << 30));
}
/* The KV cache (378 MB here) is taken on a thread beside the weights: an interrupt ends both. */
static void a_cancelled_load_gives_all_back(void **state) {
    (void)state;
    const uint64_t before = ask(&(struct engine_req){ .kind = ENGINE_REQ_STATUS })->system.resident;
    const uint64_t job = submit(&(struct engine_req){ .kind = ENGINE_REQ_LOAD,
                                                      .model = "smollm2-135m",
                                                      .dtype = "fp32",
                                                      .load_format = "dummy",
                                                      .max_model_len = 8192 });
    static struct heard h;
    memset(&h, 0, sizeof h);
    for (struct engine_event ev; !h.ended; engine_event_fini(&ev)) {
        assert_true(next(&ev));
        note(&h, &ev);
        if (ev.kind == ENGINE_EV_PROGRESS) engine_cancel(g, job);
    }
    assert_int_equal(h.fail.code, STATUS_CANCELLED);
    const struct heard *now = ask(&(struct engine_req){ .kind = ENGINE_REQ_STATUS });
    assert_int_equal(now->models, 0);
    const uint64_t left = now->system.resident;
    load_dummy("int8");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const uint64_t own = UINT64_C(4) << 30; /* what a sanitizer keeps of freed memory */
#else
    const uint64_t own = UINT64_C(64) << 20;
#endif
    assert_true(left < before + own);
}
static int open_engine(void **state) {
    (void)state;
    struct err e = { 0 };
    return engine_open(&g, "local:", &e);
}
static int close_engine(void **state) {
    (void)state;
    engine_close(g);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(polyglot_5_8b_is_what_its_card_says, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(a_12_8b_in_fp16_does_not_fit_one_a10g, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(what_fits_here_can_be_loaded, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(defaults_cover_this_machine_and_the_named_ones, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_refused_by_name, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(dummy_weights_say_so_on_every_result, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(memory_is_what_was_predicted, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(a_cancelled_load_gives_all_back, open_engine, close_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
