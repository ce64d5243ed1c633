/* test_tiny.c - tiny random Llamas against the reference framework (make_tiny.py): every activation of the unfused
 * program in execution order, the logits of every position, 64 greedy tokens; per instruction set, fused and not. */
#include "base/mem.h"
#include "rig.h"
#include "vectors.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* after setjmp.h and stdarg.h, which it needs */
#include <cmocka.h>

enum { PROMPT = 12, NEW = 64, VOCAB = 267 };
static const double TOLERANCE = 1e-4;
static const char *const isas[] = { "scalar", "avx2", "avx512", "avx512-vnni" };

struct dump { /* state of one watched replay */
    const struct vectors *v;
    struct {
        const char *label;
        int layer;
    } seen[512];
    int n, compared, wrong;
    double most;
};
static int times_seen(struct dump *d, const struct op_call *c) {
    int nth = 0;
    for (int i = 0; i < d->n; i++) nth += d->seen[i].layer == c->layer && !strcmp(d->seen[i].label, c->label);
    assert_true(d->n < 512);
    d->seen[d->n].label = c->label;
    d->seen[d->n++].layer = c->layer;
    return nth;
}
/* The first line printed is the first divergence: what comes after it mostly follows from it. */
static void compare(void *arg, const struct op_call *c, const struct mat *m, int rows) {
    struct dump *d = arg;
    if (c->op == OP_ANGLES || c->op == OP_PICK || c->op == OP_NEXT) return; /* nothing the reference has a name for */
    const int nth = times_seen(d, c);
    const struct record *r = vectors_find(d->v, c->label, c->layer, nth);
    if (!r || r->rows != rows || r->cols != m->cols) {
        print_message("  %s #%d, layer %d: the reference has no %d x %d of it\n", c->label, nth, c->layer, rows,
                      m->cols);
        d->wrong++;
        return;
    }
    double most = 0;
    for (int i = 0; i < rows; i++) {
        const double diff =
            max_diff(m->p + (size_t)i * (size_t)m->ld, r->f + (size_t)i * (size_t)r->cols, (size_t)r->cols);
        if (diff > most) most = diff;
    }
    d->compared++;
    if (most > d->most) d->most = most;
    if (most > TOLERANCE && d->wrong++ < 8)
        print_message("  %s%s #%d, layer %d: max abs diff %.3g\n", d->wrong == 1 ? "first divergence: " : "", c->label,
                      nth, c->layer, most);
}
static void check_activations(struct rig *r, const struct vectors *v, const int *prompt, float *logits) {
    struct dump d = { .v = v };
    struct watch w = { .dump = compare, .arg = &d };
    struct err e = { 0 };
    assert_int_equal(rig_wide(r, prompt, PROMPT, 0, &w, logits, &e), 0);
    print_message("  %d activations, max abs diff %.2g\n", d.compared, d.most);
    assert_int_equal(d.wrong, 0);
    int expected = 0; /* none may be left out: all that the file holds but prompt and greedy */
    for (int i = 0; i < v->n; i++) expected += v->record[i].f != NULL;
    assert_int_equal(d.compared, expected);
}
static void check_logits(const char *how, const float *got, const struct record *want, double tolerance) {
    const double diff = max_diff(got, want->f, (size_t)PROMPT * VOCAB);
    print_message("  %s: max abs diff of the logits %.2g\n", how, diff);
    assert_true(diff <= tolerance);
}
/* Whole, in two chunks, token by token: the same logits; then 64 tokens of its own. */
static void check_runs(struct rig *r, const struct vectors *v, float *logits, double tolerance) {
    const int *prompt = vectors_find(v, "prompt", -1, 0)->i, *greedy = vectors_find(v, "greedy", -1, 0)->i;
    const struct record *want = vectors_find(v, "head", -1, 0);
    struct err e = { 0 };
    int made[NEW];
    assert_int_equal(rig_wide(r, prompt, PROMPT, 0, NULL, logits, &e), 0);
    check_logits("whole", logits, want, tolerance);
    memset(logits, 0, sizeof *logits * PROMPT * VOCAB);
    assert_int_equal(rig_wide(r, prompt, 5, 0, NULL, logits, &e), 0);
    assert_int_equal(rig_wide(r, prompt + 5, PROMPT - 5, 5, NULL, logits + 5 * VOCAB, &e), 0);
    check_logits("chunked", logits, want, tolerance);
    for (int i = 0; i < PROMPT; i++) assert_int_equal(rig_one(r, prompt[i], i, logits + i * VOCAB, &e), 0);
    check_logits("token by token", logits, want, tolerance);
    assert_int_equal(rig_greedy(r, made, NEW, &e), 0);
    int same = 0;
    for (int i = 0; i < NEW; i++) same += made[i] == greedy[i];
    print_message("  greedy: %d of %d tokens equal\n", same, NEW);
    if (tolerance <= TOLERANCE) assert_memory_equal(made, greedy, sizeof made);
}
/* false: this machine has not that instruction set. */
static bool run(const char *name, struct rig_options o, double tolerance) {
    char gguf[64], bin[64];
    struct rig r;
    struct vectors v;
    struct err e = { 0 };
    snprintf(gguf, sizeof gguf, "tests/golden/tiny-%s.gguf", name);
    snprintf(bin, sizeof bin, "tests/golden/tiny-%s.bin", name);
    o.path = gguf;
    o.rows = PROMPT + 1; /* the last row of the bucket stays dead */
    float *logits = mem_zero(PROMPT * VOCAB, sizeof *logits);
    assert_non_null(logits);
    if (vectors_open(&v, bin, &e)) fail_msg("%s", e.text);
    const int failed = rig_open(&r, &o, &e);
    const bool there = r.be || !o.isa;
    if (failed && there) fail_msg("%s", e.text);
    if (there) {
        print_message("%s, %s, %s, %d threads%s\n", name, r.api->isa(r.be),
                      o.want == DTYPE_NONE ? "as stored" : dtype_info(o.want)->name, o.threads,
                      o.fuse ? ", fused" : "");
        if (!o.fuse && o.want == DTYPE_F32 && vectors_find(&v, "embed", -1, 0))
            check_activations(&r, &v, vectors_find(&v, "prompt", -1, 0)->i, logits);
        check_runs(&r, &v, logits, tolerance);
    }
    mem_free(logits);
    rig_close(&r);
    vectors_close(&v);
    return there;
}
static void every_isa(const char *name, enum dtype want, double tolerance) {
    int ran = 0;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        for (int fuse = 0; fuse < 2; fuse++)
            ran += run(name, (struct rig_options){ .want = want, .fuse = fuse, .isa = isas[i], .threads = 1 + fuse },
                       tolerance);
    assert_true(ran >= 2); /* the scalar one at least */
}
static void tied(void **state) {
    (void)state;
    every_isa("tied", DTYPE_F32, TOLERANCE);
}
static void untied(void **state) {
    (void)state;
    every_isa("untied", DTYPE_F32, TOLERANCE);
}
static void quant(void **state) {
    (void)state;
    every_isa("quant", DTYPE_F32, TOLERANCE);
}
/* F32 and F16 stay exact as stored. Quantised weights meet activations that are rounded to 8 bits, and fp16 rounds the
 * weights: their bounds are loose, some twice what was seen. */
static void as_stored(void **state) {
    (void)state;
    every_isa("tied", DTYPE_NONE, TOLERANCE);
    every_isa("untied", DTYPE_NONE, TOLERANCE);
    every_isa("quant", DTYPE_NONE, 0.5);
}
static void fp16(void **state) {
    (void)state;
    every_isa("tied", DTYPE_F16, 0.02);
    every_isa("quant", DTYPE_F16, 0.02);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tied),      cmocka_unit_test(untied), cmocka_unit_test(quant),
        cmocka_unit_test(as_stored), cmocka_unit_test(fp16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
