/* test_tiny.c - tiny random models against the reference framework (make_tiny.py, make_folders.py, make_types.py): every activation of
 * the unfused program in execution order, the logits of every position, 64 greedy tokens; per instruction set, fused and
 * not. GGUF files against the folders they were made from, and what rounding of the weights costs. */
#include "base/mem.h"
#include "rig.h"
#include "vectors.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after setjmp.h and stdarg.h, which it needs */
#include <cmocka.h>

enum { PROMPT = 12, NEW = 64, SAMPLE = 16 };
static const double TOLERANCE = 1e-4;
static const char *const isas[] = { "scalar", "avx2", "avx512", "avx512-vnni", "avx512-bf16" };

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
    if (!r && !strcmp(c->label, "head") && vectors_find(d->v, "head.sample", -1, 0)) return; /* check_logits() */
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
static void check_activations(struct rig *r, const struct vectors *v, float *logits) {
    struct dump d = { .v = v };
    struct watch w = { .dump = compare, .arg = &d };
    struct err e = { 0 };
    assert_int_equal(rig_wide(r, vectors_find(v, "prompt", -1, 0)->i, PROMPT, 0, &w, logits, &e), 0);
    print_message("  %d activations, max abs diff %.2g\n", d.compared, d.most);
    assert_int_equal(d.wrong, 0);
    int expected = 0; /* none may be left out: all that the file holds but prompt, greedy and samples */
    for (int i = 0; i < v->n; i++) expected += v->record[i].f != NULL && strncmp(v->record[i].label, "head.", 5) != 0;
    assert_int_equal(d.compared, expected);
}
static double logits_diff(const struct rig *r, const struct vectors *v, const float *got) {
    const struct record *all = vectors_find(v, "head", -1, 0), *last = vectors_find(v, "head.last", -1, 0),
                        *some = vectors_find(v, "head.sample", -1, 0);
    const size_t vocab = (size_t)r->config.vocab;
    assert_int_equal(vocab, (all ? all : last)->cols);
    if (all) return max_diff(got, all->f, PROMPT * vocab);
    double most = max_diff(got + (PROMPT - 1) * vocab, last->f, vocab);
    for (size_t i = 0; i < PROMPT; i++)
        for (size_t k = 0; k < (size_t)some->cols; k++)
            most = fmax(most, max_diff(&got[i * vocab + k * SAMPLE], &some->f[i * (size_t)some->cols + k], 1));
    return most;
}
static void check_logits(const char *how, double diff, double tolerance) {
    print_message("  %s: max abs diff of the logits %.2g\n", how, diff);
    assert_true(diff <= tolerance);
}
/* Whole, in two chunks, token by token: the same logits; then 64 tokens of its own. */
static void check_runs(struct rig *r, const struct vectors *v, float *logits, double tolerance) {
    const int *prompt = vectors_find(v, "prompt", -1, 0)->i, *greedy = vectors_find(v, "greedy", -1, 0)->i;
    const size_t vocab = (size_t)r->config.vocab;
    struct err e = { 0 };
    int made[NEW];
    assert_int_equal(rig_wide(r, prompt, PROMPT, 0, NULL, logits, &e), 0);
    check_logits("whole", logits_diff(r, v, logits), tolerance);
    memset(logits, 0, sizeof *logits * PROMPT * vocab);
    assert_int_equal(rig_wide(r, prompt, 5, 0, NULL, logits, &e), 0);
    assert_int_equal(rig_wide(r, prompt + 5, PROMPT - 5, 5, NULL, logits + 5 * vocab, &e), 0);
    check_logits("chunked", logits_diff(r, v, logits), tolerance);
    for (int i = 0; i < PROMPT; i++) assert_int_equal(rig_one(r, prompt[i], i, logits + (size_t)i * vocab, &e), 0);
    check_logits("token by token", logits_diff(r, v, logits), tolerance);
    const int n = !on_emulated() ? NEW : tolerance <= TOLERANCE ? NEW / 4 : 0; /* each takes its time there */
    if (n) assert_int_equal(rig_greedy(r, made, n, &e), 0);
    int same = 0;
    for (int i = 0; i < n; i++) same += made[i] == greedy[i];
    print_message("  greedy: %d of %d tokens equal\n", same, n);
    if (tolerance <= TOLERANCE) assert_int_equal(same, n);
}
/* A decode step's calls: NeoX's parallel branches come out as three a layer, layers of one branch after the other as five. */
static void check_calls(const struct rig *r) {
    int calls = 0;
    for (int i = 0; i < r->one.n; i++) calls += r->one.call[i].layer == 0;
    assert_int_equal(calls, r->config.parallel ? 3 : 5);
}
static void path_of(const char *name, bool folder, char *path, size_t n) {
    snprintf(path, n, folder ? "tests/golden/folders/%s" : "tests/golden/%s.gguf", name);
}
static bool is_folder(const char *name) {
    return strncmp(name, "tiny-", 5) != 0 && strncmp(name, "types-", 6) != 0 && !strchr(name, '.');
}
static float *logits_of(const struct rig *r) {
    float *p = mem_zero(PROMPT * (size_t)r->config.vocab, sizeof *p);
    assert_non_null(p);
    return p;
}
/* name: of a .bin; what stands before it in "gguf." + name is the other form of the same model. false: this machine has
 * not that instruction set. */
static bool run(const char *name, struct rig_options o, double tolerance) {
    if (on_emulated() && !strcmp(name, "neox-30003") && (o.want != DTYPE_F32 || o.kv == DTYPE_F16))
        return true; /* 30,080 rows in one form are enough for it; real devices have the time */
    char path[96], bin[96];
    struct rig r;
    struct vectors v;
    struct err e = { 0 };
    const char *base = strchr(name, '.') ? strchr(name, '.') + 1 : name;
    path_of(base, is_folder(name), path, sizeof path);
    snprintf(bin, sizeof bin, "tests/golden/%s.bin", base);
    o.path = path;
    o.rows = PROMPT + 1; /* the last row of the bucket stays dead */
    if (vectors_open(&v, bin, &e)) fail_msg("%s", e.text);
    const int failed = rig_open(&r, &o, &e);
    const bool there = r.be || !o.isa;
    if (failed && there) fail_msg("%s", e.text);
    if (there) {
        float *logits = logits_of(&r);
        print_message("%s, %s, %s, %d threads%s\n", name, r.api->isa(r.be),
                      o.want == DTYPE_NONE ? "as stored" : dtype_info(o.want)->name, o.threads,
                      o.fuse ? ", fused" : "");
        if (!o.fuse && o.want == DTYPE_F32 && o.kv != DTYPE_F16 && vectors_find(&v, "embed", -1, 0))
            check_activations(&r, &v, logits);
        if (o.fuse) check_calls(&r);
        check_runs(&r, &v, logits, tolerance);
        mem_free(logits);
    }
    rig_close(&r);
    vectors_close(&v);
    return there;
}
/* A device has one instruction set; it multiplies rows of a prompt in 16 bits unless weights have 32. */
static void every_isa(const char *name, enum dtype want, double tolerance) {
    int ran = 0;
    if (on_device() && want != DTYPE_F32) tolerance = fmax(tolerance, 0.05);
    for (size_t i = 0; i < (on_device() ? 1 : sizeof isas / sizeof *isas); i++)
        for (int fuse = 0; fuse < 2; fuse++)
            ran += run(name, (struct rig_options){ .want = want, .fuse = fuse, .isa = isas[i], .threads = 1 + fuse },
                       tolerance);
    assert_true(ran >= 2); /* the scalar one at least */
}
/* Rows that the host brings give what the tokens give whose embeddings they hold: logits bit for bit, wherever they stand. */
static void brought(const char *name, const char *embedding, bool fuse) {
    enum { FIRST = 3, ROWS = 5 };
    char path[96], bin[96];
    struct rig r;
    struct vectors v;
    struct err e = { 0 };
    int ids[PROMPT];
    path_of(name, true, path, sizeof path);
    snprintf(bin, sizeof bin, "tests/golden/%s.bin", name);
    if (vectors_open(&v, bin, &e)) fail_msg("%s", e.text);
    if (rig_open(
            &r,
            &(struct rig_options){
                .path = path, .want = DTYPE_F32, .fuse = fuse, .threads = 2, .rows = PROMPT + 1, .image_rows = ROWS },
            &e))
        fail_msg("%s", e.text);
    const struct tensor *t = checkpoint_tensor(r.file, embedding);
    const size_t cols = (size_t)r.config.hidden, vocab = (size_t)r.config.vocab;
    float *want = logits_of(&r), *got = logits_of(&r), *rows = mem_zero(ROWS * cols, sizeof *rows);
    memcpy(ids, vectors_find(&v, "prompt", -1, 0)->i, sizeof ids);
    assert_int_equal(rig_wide(&r, ids, PROMPT, 0, NULL, want, &e), 0);
    assert_int_equal(t->dt, DTYPE_BF16);
    for (int i = 0; i < ROWS; i++) { /* the last first: places and rows are told apart */
        uint16_t raw[1024];
        assert_true(cols <= 1024);
        const off_t at = (off_t)(t->offset + (uint64_t)ids[FIRST + i] * cols * 2);
        assert_int_equal(pread(checkpoint_file(r.file, t->file)->fd, raw, cols * 2, at), cols * 2);
        for (size_t k = 0; k < cols; k++) {
            const uint32_t wide = (uint32_t)raw[k] << 16;
            memcpy(&rows[(size_t)(ROWS - 1 - i) * cols + k], &wide, 4);
        }
        ids[FIRST + i] = r.config.vocab + ROWS - 1 - i;
    }
    assert_int_equal(program_put(&r.wide, r.wide.images, rows, ROWS * cols, &e), 0);
    assert_int_equal(rig_wide(&r, ids, PROMPT, 0, NULL, got, &e), 0);
    assert_memory_equal(got, want, PROMPT * vocab * sizeof *got);
    for (int i = 0; i < PROMPT; i++) /* the other program finds them too */
        assert_int_equal(rig_one(&r, ids[i], i, got + (size_t)i * vocab, &e), 0);
    assert_true(max_diff(got, want, PROMPT * vocab) <= TOLERANCE);
    ids[0] = r.config.vocab + ROWS;
    assert_int_equal(rig_wide(&r, ids, PROMPT, 0, NULL, got, &e), STATUS_INVALID);
    assert_non_null(strstr(e.text, "a token id lies outside the vocabulary"));
    mem_free(want), mem_free(got), mem_free(rows);
    rig_close(&r);
    vectors_close(&v);
}
static void rows_of_a_picture(void **state) {
    (void)state;
    for (int fuse = 0; fuse < 2; fuse++) {
        brought("llama-gqa", "model.embed_tokens.weight", fuse);
        brought("neox-256", "gpt_neox.embed_in.weight", fuse);
    }
}
static const char *const exact[] = { "tiny-tied",  "tiny-untied", "tiny-quant", "neox-128",    "neox-256",  "neox-seq",
                                     "neox-30003", "llama-gqa",   "llama-tied", "types-llama", "types-neox" };
static void fp32(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) every_isa(exact[i], DTYPE_F32, TOLERANCE);
}
static void gguf_forms(void **state) {
    (void)state;
    static const char *const names[] = { "gguf.neox-128", "gguf.neox-seq", "gguf.llama-gqa", "gguf.llama-tied" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) every_isa(names[i], DTYPE_F32, TOLERANCE);
}
/* F32 and F16 stay exact as stored. Quantised weights meet activations that are rounded to 8 bits, bf16 ones activations
 * that are rounded to bf16 where the processor multiplies such: their bounds are loose, some twice what was seen. */
static void as_stored(void **state) {
    (void)state;
    every_isa("tiny-tied", DTYPE_NONE, TOLERANCE);
    every_isa("tiny-untied", DTYPE_NONE, TOLERANCE);
    every_isa("tiny-quant", DTYPE_NONE, 0.5);
    every_isa("neox-128", DTYPE_NONE, TOLERANCE);
    every_isa("neox-seq", DTYPE_NONE, TOLERANCE);
    every_isa("neox-30003", DTYPE_NONE, TOLERANCE);
    every_isa("llama-tied", DTYPE_NONE, TOLERANCE);
    every_isa("neox-256", DTYPE_NONE, 0.15);
    every_isa("llama-gqa", DTYPE_NONE, 0.15);
    every_isa("types-llama", DTYPE_NONE, 0.7);
    every_isa("types-neox", DTYPE_NONE, 0.5);
    every_isa("types-q8", DTYPE_NONE, 0.5);
}
static void rounded(void **state) {
    (void)state;
    every_isa("tiny-tied", DTYPE_F16, 0.02);
    every_isa("tiny-quant", DTYPE_F16, 0.02);
    every_isa("llama-tied", DTYPE_Q8_0, TOLERANCE); /* 48 and 80 columns make no groups of 32: all is kept */
    every_isa("neox-256", DTYPE_F16, TOLERANCE);    /* its weights are exact in either */
    static const struct {
        enum dtype want;
        double bound;
    } to[] = { { DTYPE_BF16, 0.15 }, { DTYPE_Q8_0, 0.8 }, { DTYPE_Q4_0, 3 } };
    static const char *const names[] = { "neox-128", "neox-256", "neox-seq", "neox-30003", "llama-gqa" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < sizeof to / sizeof *to; k++) every_isa(names[i], to[k].want, to[k].bound);
}
static float *whole(struct rig *r, const char *path, enum dtype want, const int *prompt) {
    const struct rig_options o = { .path = path, .want = want, .fuse = true, .threads = 2, .rows = PROMPT };
    struct err e = { 0 };
    if (rig_open(r, &o, &e)) fail_msg("%s: %s", path, e.text);
    float *p = logits_of(r);
    if (rig_wide(r, prompt, PROMPT, 0, NULL, p, &e)) fail_msg("%s: %s", path, e.text);
    return p;
}
/* The same numbers packed from other orders of rows. */
static void gguf_equals_folder(void **state) {
    (void)state;
    static const char *const names[] = { "neox-128", "neox-seq", "llama-gqa", "llama-tied" };
    static const enum dtype wants[] = { DTYPE_NONE, DTYPE_F32, DTYPE_BF16 };
    for (size_t i = 0; i < sizeof names / sizeof *names * 3; i++) {
        char path[2][96], bin[96];
        struct rig r[2];
        struct vectors v;
        struct err e = { 0 };
        snprintf(bin, sizeof bin, "tests/golden/%s.bin", names[i / 3]);
        if (vectors_open(&v, bin, &e)) fail_msg("%s", e.text);
        float *p[2];
        for (int k = 0; k < 2; k++) {
            path_of(names[i / 3], k, path[k], sizeof path[k]);
            p[k] = whole(&r[k], path[k], wants[i % 3], vectors_find(&v, "prompt", -1, 0)->i);
        }
        const double diff = max_diff(p[0], p[1], PROMPT * (size_t)r[0].config.vocab);
        print_message("%s: GGUF and folder differ by %.2g\n", names[i / 3], diff);
        assert_true(diff <= 1e-6);
        for (int k = 0; k < 2; k++) {
            mem_free(p[k]);
            rig_close(&r[k]);
        }
        vectors_close(&v);
    }
}
static void kv_of_16_bits(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        for (int fuse = 0; fuse < 2; fuse++)
            run(exact[i], (struct rig_options){ .want = DTYPE_F32, .kv = DTYPE_F16, .fuse = fuse, .threads = 2 }, 0.02);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_picture), cmocka_unit_test(fp32),    cmocka_unit_test(gguf_forms),
        cmocka_unit_test(as_stored),         cmocka_unit_test(rounded), cmocka_unit_test(gguf_equals_folder),
        cmocka_unit_test(kv_of_16_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
