/* test_smollm2.c - the default model, loaded as a session loads it, against the reference framework's run of the same
 * dequantised weights in fp32 (make_smollm2.py): five prompts, the logits of the first token, 64 greedy tokens. */
#include "base/mem.h"
#include "rig.h"
#include "run/seat.h"
#include "vectors.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* after setjmp.h and stdarg.h, which it needs */
#include <cmocka.h>

enum { PROMPTS = 5, NEW = 64, EVERY = 16, MODEL_LEN = 512 };
struct bounds { /* of the logits; of the share of equal tokens, running freely and fed with the reference's */
    double logits, free_share, fed_share;
};
struct bench {
    struct loaded model;
    struct seat seat;
    struct backend *be;
    struct vectors v;
    struct step *step;
};

static int open_bench(struct bench *b, const char *dtype, const char *path, struct err *e) {
    const struct load_options o = { .name = { .name = path }, .dtype = dtype, .max_model_len = MODEL_LEN };
    *b = (struct bench){ .step = mem_zero(1, sizeof *b->step) };
    if (vectors_open(&b->v, "tests/golden/smollm2.bin", e)) return e->code;
    b->be = backend_cpu.open(0, e);
    if (!b->be || loaded_open(&b->model, &backend_cpu, b->be, &o, e)) return e->code;
    const struct seat_room plenty = { UINT64_MAX, 0 };
    if (loaded_bind(&b->model, &o, e) ||
        seat_plan(&b->seat, &b->model, &(struct seat_wish){ .tokens = MODEL_LEN }, &plenty, e))
        return e->code;
    return loaded_fill(&b->model, &b->seat, &o, NULL, e);
}
static void close_bench(struct bench *b) {
    seat_close(&b->seat);
    loaded_close(&b->model);
    backend_cpu.close(b->be);
    vectors_close(&b->v);
    mem_free(b->step);
}
static const int *ints(const struct bench *b, const char *label, int prompt, int *n) {
    const struct record *r = vectors_find(&b->v, label, prompt, 0);
    assert_non_null(r);
    if (n) *n = r->cols;
    return r->i;
}
static void replay(struct bench *b, struct program *p) {
    struct err e = { 0 };
    if (program_replay(p, b->step, NULL, &e)) fail_msg("%s", e.text);
}
static void feed_prompt(struct bench *b, int prompt) {
    int n;
    const int *id = ints(b, "prompt", prompt, &n);
    memset(b->step, 0, sizeof *b->step);
    step_rows(b->step, id, n, 0, b->seat.seq[0].base, true);
    replay(b, &b->seat.program[PROGRAM_PREFILL]);
}
/* What the last call of the prefill program chose from. */
static const float *logits(const struct bench *b) {
    const struct program *p = &b->seat.program[PROGRAM_PREFILL];
    const struct op_call *next = &p->call[p->n - 1];
    assert_int_equal(next->op, OP_NEXT);
    return program_at(p, next->m[0]);
}
static double logits_diff(const struct bench *b, int prompt) {
    const float *got = logits(b);
    const struct record *full = vectors_find(&b->v, "logits", prompt, 0);
    const struct record *sample = vectors_find(&b->v, "logits.sample", prompt, 0);
    const struct record *top = vectors_find(&b->v, "top.logits", prompt, 0);
    const int *id = ints(b, "top.ids", prompt, NULL);
    if (full) return max_diff(got, full->f, (size_t)full->cols);
    assert_non_null(sample);
    assert_non_null(top);
    double most = 0;
    for (int i = 0; i < sample->cols; i++) most = fmax(most, max_diff(&got[i * EVERY], &sample->f[i], 1));
    for (int i = 0; i < top->cols; i++) most = fmax(most, max_diff(&got[id[i]], &top->f[i], 1));
    return most;
}
/* Tokens equal to the reference's. fed: each step is given the reference's token, else its own. */
static int equal_tokens(struct bench *b, int prompt, bool fed) {
    const int *want = ints(b, "greedy", prompt, NULL);
    int same = 0;
    feed_prompt(b, prompt);
    for (int i = 0; i < NEW; i++) {
        if (i) replay(b, &b->seat.program[PROGRAM_DECODE]);
        same += b->step->ring[i % RING] == want[i];
        if (fed) b->step->row[0].id = want[i];
    }
    return same;
}
static void compare(const char *dtype, struct bounds bounds) {
    char path[CATALOG_PATH];
    struct bench b;
    struct err e = { 0 };
    double most = 0;
    int alone = 0, fed = 0;
    if (!default_model(path)) skip();
    if (open_bench(&b, dtype, path, &e)) fail_msg("%s", e.text);
    print_message("%s, %s\n", dtype ? dtype : "as stored", backend_cpu.isa(b.be));
    for (int i = 0; i < PROMPTS; i++) {
        feed_prompt(&b, i);
        const double diff = logits_diff(&b, i);
        const int own = equal_tokens(&b, i, false), taught = own == NEW ? own : equal_tokens(&b, i, true);
        print_message(
            "  prompt %d: max abs diff of the logits %.2g; greedy tokens equal: %d of %d running freely, %d fed\n", i,
            diff, own, NEW, taught);
        most = fmax(most, diff), alone += own, fed += taught;
    }
    const double all = PROMPTS * NEW;
    print_message("  logits within %.2g; greedy tokens equal: %.1f %% running freely, %.1f %% fed\n", most,
                  100 * alone / all, 100 * fed / all);
    close_bench(&b);
    assert_true(most <= bounds.logits);
    assert_true(alone / all >= bounds.free_share);
    assert_true(fed / all >= bounds.fed_share);
}
static void fp32(void **state) {
    (void)state;
    compare("fp32",
            (struct bounds){ 5e-4, 0.95, 0.99 }); /* the promise is 2e-3; 1e-4 was seen on each instruction set */
}
/* Quantised weights meet activations that are rounded to 8 bits: near-ties fall the other way, and a free run parts
 * there for good. Fed with the reference's tokens it must still agree on most. */
static void as_stored(void **state) {
    (void)state;
    compare(NULL, (struct bounds){ 3.0, 0.2, 0.85 });
}
int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(fp32), cmocka_unit_test(as_stored) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
