/* test_lora.c - LoRA matrices of a checkpoint added to weights, against torch (make_lora.py); what does not fit is named. */
#include "base/buf.h"
#include "base/mem.h"
#include "model/lora.h"
#include "vectors.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after setjmp.h and stdarg.h, which it needs */
#include "data/folder_build.h"
#include <cmocka.h>

static struct vectors v;
static const struct model_config tiny = { .arch = "llama",
                                          .layers = 2,
                                          .hidden = 48,
                                          .heads = 3,
                                          .kv_heads = 1,
                                          .head_dim = 16,
                                          .ffn = 32,
                                          .vocab = 20,
                                          .context = 64,
                                          .rope_dims = 16,
                                          .rope_theta = 10000,
                                          .norm_eps = 1e-5f,
                                          .act = CONFIG_SILU,
                                          .dtype = DTYPE_F16 };

static int set_up(void **state) {
    (void)state;
    struct err e = { 0 };
    if (vectors_open(&v, "tests/golden/lora.bin", &e)) return print_error("%s\n", e.text), -1;
    return folder_make("lora");
}
static int tear_down(void **state) {
    (void)state;
    vectors_close(&v);
    return folder_remove("");
}
static struct checkpoint *open_file(const char *path) {
    struct checkpoint *file;
    struct err e = { 0 };
    if (checkpoint_open(&file, path, &e)) fail_msg("%s", e.text);
    return file;
}
static const struct record *record(const char *name, const char *what) {
    char label[32];
    snprintf(label, sizeof label, "%s.%s", name, what);
    const struct record *r = vectors_find(&v, label, -1, 0);
    assert_non_null(r);
    return r;
}
static struct weight *weight_of(struct model *m, const char *name) {
    for (int i = 0; i < model_weights(m); i++)
        if (!strcmp(model_weight(m, i)->name, name)) return model_weight(m, i);
    fail_msg("no weight %s", name);
    return NULL;
}
static float *floats(const void *bytes, size_t n, enum dtype dt) {
    float *f = mem_alloc(n * sizeof *f);
    const uint16_t *h = bytes;
    const _Float16 *half = bytes;
    for (size_t i = 0; i < n; i++) {
        const uint32_t wide = dt == DTYPE_BF16 ? (uint32_t)h[i] << 16 : 0;
        memcpy(&f[i], dt == DTYPE_F32 ? (const char *)bytes + 4 * i : (const char *)&wide, 4);
        if (dt == DTYPE_F16) f[i] = (float)half[i];
    }
    return f;
}
/* The file's weight as that dtype; its numbers are exact in it. */
static void *stored(const struct record *r, enum dtype dt) {
    const size_t n = (size_t)r->rows * (size_t)r->cols;
    char *bytes = mem_alloc(4 * n);
    for (size_t i = 0; i < n; i++) {
        const _Float16 half = (_Float16)r->f[i];
        uint32_t bits;
        memcpy(&bits, &r->f[i], 4);
        const uint16_t top = (uint16_t)(bits >> 16);
        if (dt == DTYPE_F32) memcpy(bytes + 4 * i, &bits, 4);
        if (dt != DTYPE_F32) memcpy(bytes + 2 * i, dt == DTYPE_F16 ? (const void *)&half : (const void *)&top, 2);
    }
    return bytes;
}
static void merged_is(const struct lora *l, const struct weight *model_weight, const char *name, enum dtype dt) {
    const struct record *before = record(name, "before"), *want = record(name, dtype_info(dt)->name);
    const size_t n = (size_t)before->rows * (size_t)before->cols;
    struct weight w = *model_weight;
    struct err e = { 0 };
    w.dt = dt;
    w.bytes = dtype_bytes(dt, n);
    void *bytes = stored(before, dt);
    if (lora_merge(l, &w, bytes, &e)) fail_msg("%s", e.text);
    float *got = floats(bytes, n, dt);
    for (size_t i = 0; i < n; i++)
        if (got[i] != want->f[i])
            fail_msg("%s %s %zu: %.9g, not %.9g", name, dtype_info(dt)->name, i, (double)got[i], (double)want->f[i]);
    mem_free(got);
    mem_free(bytes);
}
static void both_spellings_merge_as_torch_does(void **state) {
    (void)state;
    static const char *const names[] = { "q0", "v0", "q1", "v1" };
    static const enum dtype dts[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
    struct checkpoint *file = open_file("tests/golden/lora/exact.pth");
    struct lora *l;
    struct model *m;
    struct err e = { 0 };
    if (lora_open(&l, file, &e) || model_open(&m, NULL, &tiny, DTYPE_NONE, &e) || lora_check(l, m, &e))
        fail_msg("%s", e.text);
    assert_int_equal(lora_pairs(l), 4);
    assert_int_equal(lora_rank(l), 4);
    int touched = 0;
    for (int i = 0; i < model_weights(m); i++) touched += lora_touches(l, model_weight(m, i));
    assert_int_equal(touched, 4);
    for (int i = 0; i < 12; i++) {
        char name[64];
        snprintf(name, sizeof name, "model.layers.%c.self_attn.%c_proj.weight", names[i % 4][1], names[i % 4][0]);
        merged_is(l, weight_of(m, name), names[i % 4], dts[i / 4]);
    }
    model_close(m);
    lora_close(l);
    checkpoint_close(file);
}
static void many_columns_and_an_odd_rank(void **state) {
    (void)state;
    struct checkpoint *file = open_file("tests/golden/lora/wide.pth");
    const struct record *before = record("wide", "before"), *want = record("wide", "f32");
    struct weight w = {
        .name = "model.layers.0.mlp.down_proj.weight", .rows = 3, .cols = 1100, .dt = DTYPE_F32, .bytes = 13200
    };
    struct lora *l;
    struct err e = { 0 };
    if (lora_open(&l, file, &e)) fail_msg("%s", e.text);
    float *bytes = stored(before, DTYPE_F32);
    if (lora_merge(l, &w, bytes, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < 3300; i++) assert_true(fabsf(bytes[i] - want->f[i]) < 1e-6f);
    assert_int_equal(lora_merge(l, &(struct weight){ .name = "model.layers.1.mlp.down_proj.weight" }, bytes, &e),
                     STATUS_INVALID);
    assert_non_null(strstr(e.text, "has no LoRA pair"));
    mem_free(bytes);
    lora_close(l);
    checkpoint_close(file);
}
/* A safetensors file of f32 tensors; data NULL: zeros. */
struct put {
    const char *name;
    int rows, cols;
    const float *data;
};
static struct checkpoint *put_file(const struct put *t, int n) {
    struct buf b, header;
    size_t at = 0;
    buf_init(&b, 64 << 20);
    buf_init(&header, 1 << 16);
    for (int i = 0; i < n; i++) {
        const size_t bytes = 4 * (size_t)t[i].rows * (size_t)t[i].cols;
        buf_printf(&header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}", i ? "," : "{",
                   t[i].name, t[i].rows, t[i].cols, at, at + bytes);
        at += bytes;
    }
    buf_puts(&header, "}");
    const uint64_t length = header.n;
    buf_add(&b, &length, 8);
    buf_add(&b, header.p, header.n);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < t[i].rows * t[i].cols; k++) {
            const float x = t[i].data ? t[i].data[k] : 0;
            buf_add(&b, &x, 4);
        }
    folder_bytes("made.safetensors", b.p, b.n);
    buf_fini(&b);
    buf_fini(&header);
    return open_file(folder_at("made.safetensors"));
}
enum { MANY = 40000 };
/* Rank 1, B = 1/16: what is added to nothing is A itself, so that only the rounding is left, here by the compiler. */
static void numbers_are_rounded_to_the_nearest(void **state) {
    (void)state;
    static float a[MANY];
    static uint16_t got[MANY];
    const float b = 1.0f / 16;
    uint32_t x = 1;
    for (int i = 0; i < MANY; i++) {
        x = x * 1664525u + 1013904223u;
        const uint32_t exponent = 127 - 27 + (x >> 8) % 45; /* 2^-27 .. 2^17: subnormal, normal, too large */
        const uint32_t kept = i % 2 ? 0x7fffff : 0x7ff000;  /* every other one is half-way between two, or on one */
        const uint32_t bits = (x & 0x80000000u) | exponent << 23 | (x * 40503u & kept);
        memcpy(&a[i], &bits, 4);
    }
    const struct put t[] = { { "h.lora_A.weight", 1, MANY, a }, { "h.lora_B.weight", 1, 1, &b } };
    struct checkpoint *file = put_file(t, 2);
    struct weight w = { .name = "h.weight", .rows = 1, .cols = MANY, .dt = DTYPE_F16, .bytes = 2 * MANY };
    struct lora *l;
    struct err e = { 0 };
    if (lora_open(&l, file, &e) || lora_merge(l, &w, got, &e)) fail_msg("%s", e.text);
    int infinite = 0, small = 0;
    for (int i = 0; i < MANY; i++) {
        const _Float16 want = (_Float16)a[i];
        uint16_t bits;
        memcpy(&bits, &want, 2);
        if (bits != got[i]) fail_msg("%.9g: %04x, not %04x", (double)a[i], got[i], bits);
        infinite += (bits & 0x7fff) == 0x7c00;
        small += (bits & 0x7c00) == 0;
    }
    assert_true(infinite > 100 && small > 1000);
    lora_close(l);
    checkpoint_close(file);
}
static void what_does_not_fit_is_named(void **state) {
    (void)state;
#define Q0 "base.model.layers.0.self_attn.q_proj"
    static const struct {
        struct put t[4];
        int n;
        const char *says;
    } row[] = {
        { { { Q0 ".lora_A.weight", 4, 48, NULL } }, 1, Q0 ".lora_A.weight: its pair, lora_B, is not in the file" },
        { { { Q0 ".lora_A.weight", 4, 48, NULL }, { Q0 ".lora_B.weight", 48, 5, NULL } }, 2, "they have no rank" },
        { { { Q0 ".lora_embedding_A", 4, 48, NULL } }, 1, "only lora_A and lora_B of linear layers" },
        { { { Q0 ".lora_A.weight", 4, 48, NULL }, { Q0 ".lora_A.default.weight", 4, 48, NULL } },
          2,
          "are the same matrix" },
        { { { Q0 ".lora_A.weight", 4, 32, NULL }, { Q0 ".lora_B.weight", 48, 4, NULL } },
          2,
          "model.layers.0.self_attn.q_proj.weight: its LoRA pair makes 48x32, the weight is 48x48" },
        { { { "x.layers.7.q_proj.lora_A.weight", 4, 48, NULL }, { "x.layers.7.q_proj.lora_B.weight", 48, 4, NULL } },
          2,
          "x.layers.7.q_proj.lora_A.weight changes no weight of this language model" },
        { { { Q0 ".lora_A.weight", 4, 48, NULL },
            { Q0 ".lora_B.weight", 48, 4, NULL },
            { "x." Q0 ".lora_A.weight", 4, 48, NULL },
            { "x." Q0 ".lora_B.weight", 48, 4, NULL } },
          4,
          "a second LoRA pair for model.layers.0.self_attn.q_proj.weight" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct checkpoint *file = put_file(row[i].t, row[i].n);
        struct lora *l;
        struct model *m;
        struct err e = { 0 };
        assert_int_equal(model_open(&m, NULL, &tiny, DTYPE_NONE, &e), 0);
        const int rc = lora_open(&l, file, &e) ? STATUS_FORMAT : lora_check(l, m, &e);
        if (rc != STATUS_FORMAT || !strstr(e.text, row[i].says)) fail_msg("%zu: '%s'", i, e.text);
        lora_close(l);
        model_close(m);
        checkpoint_close(file);
    }
}
static void a_quantised_weight_is_refused(void **state) {
    (void)state;
    struct checkpoint *file = open_file("tests/golden/lora/exact.pth");
    struct lora *l;
    struct model *m;
    struct err e = { 0 };
    struct model_config c = tiny;
    c.dtype = DTYPE_Q8_0;
    c.hidden = 64, c.heads = 4;
    assert_int_equal(lora_open(&l, file, &e), 0);
    assert_int_equal(model_open(&m, NULL, &c, DTYPE_NONE, &e), 0);
    struct weight *w = weight_of(m, "model.layers.0.self_attn.q_proj.weight");
    w->rows = w->cols = 48;
    assert_int_equal(lora_check(l, m, &e), STATUS_FORMAT);
    if (!strstr(e.text, "is quantised (q8_0)") || !strstr(e.text, "--dtype int4 quantises behind"))
        fail_msg("%s", e.text);
    model_close(m);
    lora_close(l);
    checkpoint_close(file);
    file = open_file("tests/golden/vision/proj_join.pth"); /* none */
    assert_int_equal(lora_open(&l, file, &e), 0);
    assert_null(l);
    assert_false(lora_touches(l, &(struct weight){ .name = "x.weight" }));
    assert_int_equal(lora_check(l, NULL, &e), 0);
    checkpoint_close(file);
}
static void every_failing_allocation_is_survived(void **state) {
    (void)state;
    struct checkpoint *file = open_file("tests/golden/lora/wide.pth");
    struct weight w = {
        .name = "model.layers.0.mlp.down_proj.weight", .rows = 3, .cols = 1100, .dt = DTYPE_F32, .bytes = 13200
    };
    static float bytes[3300];
    int rc = STATUS_NOMEM;
    for (long k = 1; rc && k < 20; k++) {
        struct lora *l;
        struct err e = { 0 };
        mem_fail_at(k);
        rc = lora_open(&l, file, &e);
        if (!rc) rc = lora_merge(l, &w, bytes, &e);
        mem_fail_at(0);
        assert_true(!rc || rc == STATUS_NOMEM);
        lora_close(l);
    }
    assert_int_equal(rc, 0);
    checkpoint_close(file);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_merge_as_torch_does), cmocka_unit_test(many_columns_and_an_odd_rank),
        cmocka_unit_test(numbers_are_rounded_to_the_nearest), cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(a_quantised_weight_is_refused),      cmocka_unit_test(every_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
