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
    const struct backend_api *api;
    struct backend *be;
    struct vectors v;
    struct step *step;
};

static int open_bench(struct bench *b, const char *dtype, const char *path, struct err *e) {
    const struct load_options o = { .name = { .name = path }, .dtype = dtype, .max_model_len = MODEL_LEN };
    *b = (struct bench){ .step = mem_zero(1, sizeof *b->step) };
    if (vectors_open(&b->v, "tests/golden/smollm2.bin", e)) return e->code;
    if (!(b->api = tested_backend(e)) || !(b->be = b->api->open(0, e)) || loaded_open(&b->model, b->api, b->be, &o, e))
        return e->code;
    const struct seat_room plenty = { UINT64_MAX, 0 };
    if (loaded_bind(&b->model, &o, e) ||
        seat_plan(&b->seat, &b->model, &(struct seat_wish){ .tokens = MODEL_LEN }, &plenty, e))
        return e->code;
    return loaded_fill(&b->model, &b->seat, &o, NULL, e);
}
static void close_bench(struct bench *b) {
    seat_close(&b->seat);
    loaded_close(&b->model);
    b->api->close(b->be);
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
/* What the last call of the prefill program chose from: mem_free it. */
static float *logits(const struct bench *b) {
    const struct program *p = &b->seat.program[PROGRAM_PREFILL];
    const struct op_call *next = &p->call[p->n - 1];
    struct err e = { 0 };
    const size_t n = (size_t)next->m[0].cols;
    assert_int_equal(next->op, OP_NEXT);
    float *out = mem_zero(n, sizeof *out);
    assert_non_null(out);
    if (program_get(p, next->m[0], out, n, &e)) fail_msg("%s", e.text);
    return out;
}
static double logits_diff(const struct bench *b, int prompt) {
    float *got = logits(b);
    const struct record *full = vectors_find(&b->v, "logits", prompt, 0);
    const struct record *sample = vectors_find(&b->v, "logits.sample", prompt, 0);
    const struct record *top = vectors_find(&b->v, "top.logits", prompt, 0);
    const int *id = ints(b, "top.ids", prompt, NULL);
    double most = full ? max_diff(got, full->f, (size_t)full->cols) : 0;
    assert_true(full || (sample && top));
    for (int i = 0; !full && i < sample->cols; i++) most = fmax(most, max_diff(&got[i * EVERY], &sample->f[i], 1));
    for (int i = 0; !full && i < top->cols; i++) most = fmax(most, max_diff(&got[id[i]], &top->f[i], 1));
    mem_free(got);
    return most;
}
static int prompts(void) { return on_emulated() ? 1 : PROMPTS; }
static int tokens(void) { return on_emulated() ? 2 : NEW; }
/* Tokens equal to the reference's. fed: each step is given the reference's token, else its own. */
static int equal_tokens(struct bench *b, int prompt, bool fed) {
    const int *want = ints(b, "greedy", prompt, NULL);
    int same = 0;
    feed_prompt(b, prompt);
    for (int i = 0; i < tokens(); i++) {
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
    print_message("%s, %s\n", dtype ? dtype : "as stored", b.api->isa(b.be));
    for (int i = 0; i < prompts(); i++) {
        feed_prompt(&b, i);
        const double diff = logits_diff(&b, i);
        const int own = equal_tokens(&b, i, false), taught = own == tokens() ? own : equal_tokens(&b, i, true);
        print_message(
            "  prompt %d: max abs diff of the logits %.2g; greedy tokens equal: %d of %d running freely, %d fed\n", i,
            diff, own, tokens(), taught);
        most = fmax(most, diff), alone += own, fed += taught;
    }
    const double all = prompts() * tokens();
    print_message("  logits within %.2g; greedy tokens equal: %.1f %% running freely, %.1f %% fed\n", most,
                  100 * alone / all, 100 * fed / all);
    close_bench(&b);
    assert_true(most <= bounds.logits);
    assert_true(alone / all >= bounds.free_share);
    assert_true(fed / all >= bounds.fed_share);
}
static void fp32(void **state) {
    (void)state;
    if (on_emulated()) skip(); /* as stored says as much there, in a minute */
    compare("fp32",
            (struct bounds){ 5e-4, 0.95, 0.99 }); /* the promise is 2e-3; 1e-4 was seen on each instruction set */
}
/* Quantised weights meet activations that are rounded to 8 bits: near-ties fall the other way, and a free run parts
 * there for good. Fed with the reference's tokens it must still agree on most. A device keeps activations in 16 bits or
 * more: 0.019 was seen on the emulated one. */
static void as_stored(void **state) {
    (void)state;
    compare(NULL, on_device() ? (struct bounds){ 0.2, 0.5, 0.97 } : (struct bounds){ 3.0, 0.2, 0.85 });
}
int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(fp32), cmocka_unit_test(as_stored) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
