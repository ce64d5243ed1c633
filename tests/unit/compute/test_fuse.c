/* What fuse may do and what it must not: programs made for one rule each, run fused and unfused on the same weights.
 * Each hazard breaks exactly one of a rule's conditions. */
#include "compute/kit.h"

enum { D = 64, HD = 16, ROWS = 7, KV = 32 };
static struct weight sq[8], gain[3], bias[3], table, wide[2], narrow;
static const struct rope rope = { HD, HD, 10000 }, rope8 = { HD, 8, 500 };
static struct mat out[3];
static int outs;

static void weights(void) {
    char name[16];
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "sq%d", i);
        kit_weight(&sq[i], name, D, D, i % 2 ? DTYPE_F32 : DTYPE_Q8_0, 0.3);
    }
    for (int i = 0; i < 3; i++) {
        kit_weight(&gain[i], "gain", D, 1, DTYPE_F32, 2);
        kit_weight(&bias[i], "bias", D, 1, DTYPE_F32, 0.2);
    }
    kit_weight(&wide[0], "wide0", 2 * D, D, DTYPE_F16, 0.3);
    kit_weight(&wide[1], "wide1", 2 * D, D, DTYPE_F16, 0.3);
    kit_weight(&narrow, "narrow", D, 2 * D, DTYPE_Q4_1, 0.3);
    kit_weight(&table, "table", 203, D, DTYPE_F32, 1);
}
static struct mat tmp(struct program *p) { return program_tmp(p, DIM_ROWS, ROWS, D); }
static struct mat lin(struct program *p, int w, struct mat x) {
    struct mat y = tmp(p);
    op_linear(p, "lin", y, x, &sq[w], NULL, ACT_NONE);
    return y;
}
static struct mat norm(struct program *p, int g, struct mat x) {
    struct mat y = tmp(p);
    const struct norm_of of = { &gain[g], &bias[g], g ? NORM_LAYER : NORM_RMS, 1e-5f };
    op_norm(p, "norm", y, x, &of);
    return y;
}
static struct mat start(struct program *p) {
    struct mat x = tmp(p);
    op_embed(p, x, &table);
    return x;
}
static struct mat result(struct program *p, struct mat m) {
    program_keep(p, m);
    return out[outs++] = m;
}

/* ---- the programs ---- */
static void norm_and_three(struct program *p) { /* qkv: 1 call */
    struct mat x = start(p), h = norm(p, 0, x);
    for (int i = 0; i < 3; i++) result(p, lin(p, i, h));
}
static void norm_read_by_an_add(struct program *p) {
    struct mat x = start(p), h = norm(p, 0, x);
    result(p, lin(p, 0, h));
    op_add(p, result(p, x), h);
}
static void norm_of_a_row_that_changes(struct program *p) {
    struct mat x = start(p), h = norm(p, 0, x), a = lin(p, 0, x);
    op_add(p, x, a);
    op_add(p, x, lin(p, 1, h));
    result(p, x);
}
static void norm_kept(struct program *p) { result(p, lin(p, 0, result(p, norm(p, 1, start(p))))); }
static void norm_in_place(struct program *p) {
    struct mat x = start(p);
    const struct norm_of of = { &gain[0], NULL, NORM_RMS, 1e-5f };
    op_norm(p, "norm", x, x, &of);
    result(p, lin(p, 0, x));
    result(p, x);
}
static void norm_whose_reader_overwrites_x(struct program *p) {
    struct mat x = start(p), h = norm(p, 0, x);
    op_linear(p, "lin", x, h, &sq[1], NULL, ACT_NONE);
    result(p, x);
}
static void three_norms_of_one_row(struct program *p) { /* a call has room for two */
    struct mat x = start(p);
    for (int i = 0; i < 3; i++) result(p, lin(p, i, norm(p, i, x)));
}
static void rope_and_a_reader_before(struct program *p) { /* someone saw q before it turned */
    struct mat x = start(p), q = lin(p, 0, x), y = tmp(p);
    op_gate(p, y, q, x, ACT_SILU);
    op_rope(p, q, rope);
    result(p, y);
    result(p, q);
}
static void two_ropes(struct program *p) { /* different angles: not one call */
    struct mat x = start(p), q = lin(p, 0, x), k = lin(p, 1, x);
    op_rope(p, q, rope);
    op_rope(p, k, rope8);
    result(p, q);
    result(p, k);
}
static void rope_twice(struct program *p) {
    struct mat q = lin(p, 0, start(p));
    op_rope(p, q, rope);
    op_rope(p, q, rope8);
    result(p, q);
}
static void rope_of_narrow_heads(struct program *p) { /* a head does not fill a panel */
    struct mat q = lin(p, 0, start(p));
    op_rope(p, q, (struct rope){ 8, 8, 10000 });
    result(p, q);
}
static void cached(struct program *p, struct mat x, struct mat k, bool also) {
    struct mat q = lin(p, 3, x), v = lin(p, 4, x), y = tmp(p);
    struct mat kc = program_kv(p, D, HD), vc = program_kv(p, D, HD);
    op_rope(p, k, rope);
    op_kv_put(p, kc, k, true);
    op_kv_put(p, vc, v, false);
    if (also) op_add(p, q, k);
    op_attn(p, y, q, kc, vc, (struct attn_of){ 4, 4, HD, 1 });
    result(p, y);
}
static void keys_go_straight_to_the_pool(struct program *p) {
    struct mat x = start(p);
    cached(p, x, lin(p, 0, x), false);
}
static void keys_are_read_again(struct program *p) {
    struct mat x = start(p);
    cached(p, x, lin(p, 0, x), true);
}
static void keys_are_kept(struct program *p) {
    struct mat x = start(p), k = result(p, lin(p, 0, x));
    cached(p, x, k, false);
}
static void merge_over_a_change(struct program *p) { /* the second reads another x */
    struct mat x = start(p), a = lin(p, 0, x);
    op_add(p, x, a);
    result(p, lin(p, 1, x));
    result(p, a);
}
static void merge_into_what_is_written(struct program *p) { /* b writes what a reads */
    struct mat x = start(p), a = lin(p, 0, x);
    op_linear(p, "lin", x, a, &sq[1], NULL, ACT_NONE);
    result(p, a);
    result(p, x);
}
static void one_buffer_written_twice(struct program *p) {
    struct mat x = start(p), a = lin(p, 0, x);
    op_linear(p, "lin", a, x, &sq[1], NULL, ACT_NONE);
    result(p, a);
}
static void pool_read_before_the_next_keys(struct program *p) {
    struct mat x = start(p), k = lin(p, 0, x), y = tmp(p), z = tmp(p);
    struct mat kc = program_kv(p, D, HD), vc = program_kv(p, D, HD);
    const struct attn_of four = { 4, 4, HD, 1 };
    op_kv_put(p, kc, x, true);
    op_kv_put(p, vc, x, false);
    op_attn(p, y, x, kc, vc, four);
    op_kv_put(p, kc, k, true);
    op_attn(p, z, x, kc, vc, four);
    result(p, y);
    result(p, z);
}
static void five_of_one_row(struct program *p) { /* more than a call takes */
    struct mat x = start(p), y = lin(p, 0, x);
    for (int i = 1; i < 6; i++) op_add(p, y, lin(p, i, x));
    result(p, y);
}
static void gated(struct program *p, bool gate_again, bool up_again, enum act a) {
    struct mat x = start(p), g = program_tmp(p, DIM_ROWS, ROWS, 2 * D), u = program_tmp(p, DIM_ROWS, ROWS, 2 * D);
    struct mat h = program_tmp(p, DIM_ROWS, ROWS, 2 * D), y = tmp(p);
    op_linear(p, "up", u, x, &wide[0], NULL, ACT_NONE);
    op_linear(p, "gate", g, x, &wide[1], NULL, a);
    op_gate(p, h, g, u, ACT_SILU);
    op_linear(p, "down", y, h, &narrow, NULL, ACT_NONE);
    op_add(p, x, y);
    result(p, x);
    if (gate_again) result(p, g);
    if (up_again) op_add(p, h, u), result(p, h);
}
static void gate_and_up(struct program *p) { gated(p, false, false, ACT_NONE); }
static void gate_is_kept(struct program *p) { gated(p, true, false, ACT_NONE); }
static void up_is_read_again(struct program *p) { gated(p, false, true, ACT_NONE); }
static void gate_has_an_activation(struct program *p) { gated(p, false, false, ACT_GELU); }
static void gate_by_itself(struct program *p) { /* act(g) * g */
    struct mat x = start(p), g = lin(p, 0, x), h = tmp(p);
    op_gate(p, h, g, g, ACT_SILU);
    result(p, h);
}
static void add_of_what_is_read_again(struct program *p) { /* found missing by a mutation once */
    struct mat x = start(p), a = lin(p, 0, lin(p, 1, x));
    op_add(p, x, a);
    op_add(p, x, lin(p, 2, a));
    op_add(p, x, a);
    result(p, x);
}
static void add_onto_its_own_input(struct program *p) { /* y = x + W x in place: rows still to be read change */
    struct mat x = start(p);
    op_add(p, x, lin(p, 0, x));
    result(p, x);
}
static void add_past_a_change_of_the_input(struct program *p) {
    struct mat x = start(p), h = norm(p, 0, x), a = lin(p, 1, h), y = lin(p, 2, x);
    op_add(p, h, y); /* h changes between a's product and its add */
    op_add(p, x, a);
    result(p, x);
    result(p, h);
}
static void parallel_branches(struct program *p) { /* x + attn(ln1 x) + mlp(ln2 x): two calls, one of them joined */
    struct mat x = start(p), a = lin(p, 0, norm(p, 0, x)), f = program_tmp(p, DIM_ROWS, ROWS, 2 * D), y = tmp(p);
    op_linear(p, "fc1", f, norm(p, 1, x), &wide[0], NULL, ACT_GELU);
    op_linear(p, "fc2", y, f, &narrow, &bias[0], ACT_NONE);
    struct mat b = tmp(p);
    op_linear(p, "dense", b, a, &sq[1], &bias[1], ACT_NONE);
    op_add(p, x, b);
    op_add(p, x, y);
    result(p, x);
}
static void join_with_an_activation(struct program *p) { /* act(a) + act(b) is not act(a + b) */
    struct mat x = start(p), a = lin(p, 0, x), d = lin(p, 3, x), b = tmp(p), c = tmp(p);
    op_linear(p, "b", b, a, &sq[1], NULL, ACT_SILU);
    op_linear(p, "c", c, d, &sq[2], NULL, ACT_NONE);
    op_add(p, x, b);
    op_add(p, x, c);
    result(p, x);
}
static void join_of_different_rows(struct program *p) {
    struct mat x = start(p), z = norm(p, 1, x), a = lin(p, 0, x), d = lin(p, 2, x), b = lin(p, 3, a), c = lin(p, 1, d);
    op_add(p, x, b);
    op_add(p, z, c);
    result(p, x);
    result(p, z);
}

static void join_with_a_reader_between(struct program *p) { /* someone saw the sum of one branch */
    struct mat x = start(p), a = lin(p, 0, x), d = lin(p, 2, x), b = lin(p, 3, a), c = lin(p, 1, d), y = tmp(p);
    op_add(p, x, b);
    op_gate(p, y, x, x, ACT_SILU);
    op_add(p, x, c);
    result(p, x);
    result(p, y);
}

/* ---- fused and unfused ---- */
static const struct {
    const char *name;
    void (*record)(struct program *p);
    int calls; /* after fusing */
} cases[] = {
#define CASE(f, calls)                                                                                                 \
    { #f, f, calls }
    CASE(norm_and_three, 2),
    CASE(norm_read_by_an_add, 4),
    CASE(norm_of_a_row_that_changes, 5),
    CASE(norm_kept, 3),
    CASE(norm_in_place, 3),
    CASE(norm_whose_reader_overwrites_x, 3),
    CASE(three_norms_of_one_row, 3),
    CASE(rope_and_a_reader_before, 5),
    CASE(two_ropes, 5),
    CASE(rope_twice, 5),
    CASE(rope_of_narrow_heads, 4),
    CASE(keys_go_straight_to_the_pool, 4),
    CASE(keys_are_read_again, 6),
    CASE(keys_are_kept, 5),
    CASE(merge_over_a_change, 4),
    CASE(merge_into_what_is_written, 3),
    CASE(one_buffer_written_twice, 3),
    CASE(pool_read_before_the_next_keys, 7),
    CASE(five_of_one_row, 8),
    CASE(gate_and_up, 3),
    CASE(gate_is_kept, 4),
    CASE(up_is_read_again, 5),
    CASE(gate_has_an_activation, 4),
    CASE(gate_by_itself, 3),
    CASE(add_of_what_is_read_again, 6),
    CASE(add_onto_its_own_input, 3),
    CASE(add_past_a_change_of_the_input, 5),
    CASE(parallel_branches, 3),
    CASE(join_with_an_activation, 4),
    CASE(join_of_different_rows, 5),
    CASE(join_with_a_reader_between, 5),
};
static void run(const char *name, void (*record)(struct program *p), int calls, bool fused,
                float got[3][ROWS * 2 * D]) {
    struct program p;
    static const int id[ROWS] = { 5, 17, 202, 0, 99, 41, 8 };
    program_init(&p, kit_api, kit_be, ROWS, 1, KV);
    outs = 0;
    record(&p);
    if (p.err.code) fail_msg("%s: %s", name, p.err.text);
    if (fused) program_fuse(&p);
    if (fused && p.n != calls) {
        for (int i = 0; i < p.n; i++) print_message("  %s %s\n", op_name(p.call[i].op), p.call[i].label);
        fail_msg("%s: %d calls, not %d", name, p.n, calls);
    }
    kit_load((struct program *[]){ &p }, 1);
    kit_link(&p, NULL);
    struct step s = { .n = { 0 } };
    step_rows(&s, id, ROWS, 0, 0, false);
    kit_run(&p, &s);
    for (int i = 0; i < outs; i++) memcpy(got[i], kit_mat(&p, out[i]), sizeof(float) * (size_t)(ROWS * out[i].cols));
    kit_fini(&p, true);
}
static void test_fused_equals_unfused(void **state) {
    (void)state;
    static float a[3][ROWS * 2 * D], b[3][ROWS * 2 * D];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kit_forget();
        kit_seed = i + 1;
        assert_true(kit_open(NULL, 2));
        weights();
        run(cases[i].name, cases[i].record, cases[i].calls, true, a);
        run(cases[i].name, cases[i].record, 0, false, b);
        for (int k = 0; k < outs; k++) {
            double size = 0;
            for (int j = 0; j < ROWS * out[k].cols; j++) size = fmax(size, fabs((double)b[k][j]));
            const double off = kit_diff(a[k], b[k], (size_t)(ROWS * out[k].cols));
            if (!(size > 0.01) || !(off < 2e-3 * size))
                fail_msg("%s: result %d is off by %g of %g", cases[i].name, k, off, size);
        }
        kit_close();
    }
}

/* ---- whole layers, of every kind of weight: GPT-NeoX with parallel and sequential residual, Llama ---- */
enum wiring { PARALLEL, SEQUENTIAL, LLAMA, WIRINGS };
static const struct wired {
    int hd, rot, heads, kv_heads, rows, live;
    enum dtype kv;
} wirings[] = {
    { 16, 16, 4, 4, 1, 1, DTYPE_F32 },   { 64, 16, 2, 2, 3, 3, DTYPE_F32 },     { 80, 20, 2, 1, 4, 2, DTYPE_F16 },
    { 128, 64, 2, 2, 7, 6, DTYPE_F32 },  { 256, 64, 1, 1, 1, 1, DTYPE_F16 },    { 256, 64, 2, 2, 16, 13, DTYPE_F32 },
    { 32, 32, 4, 2, 64, 64, DTYPE_F16 }, { 64, 64, 4, 2, 256, 201, DTYPE_F32 },
};
enum { LAYERS = 2, FFN = 96 };
static const int calls_a_layer[WIRINGS] = { 3, 5, 5 };
static struct weight mat_of[LAYERS][7], vec_of[LAYERS][10]; /* q k v o up gate down; their biases, gains and biases */
static void layer_weights(const struct wired *s, enum wiring wiring, bool quantised) {
    static const enum dtype dts[LAYERS][7] = {
        { DTYPE_Q8_0, DTYPE_F16, DTYPE_F32, DTYPE_Q4_1, DTYPE_Q8_0, DTYPE_BF16, DTYPE_F32 },
        { DTYPE_F32, DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_Q4_0, DTYPE_Q4_0, DTYPE_Q8_0 },
    };
    const int q = s->heads * s->hd, kv = (wiring == LLAMA ? s->kv_heads : s->heads) * s->hd;
    const int rows[7] = { q, kv, kv, D, FFN, FFN, D }, cols[7] = { D, D, D, q, D, D, FFN };
    kit_weight(&table, "table", 203, D, DTYPE_F32, 1);
    for (int i = 0; i < LAYERS; i++) {
        for (int k = 0; k < 7; k++) {
            const enum dtype plain = k % 2 ? DTYPE_F16 : DTYPE_F32;
            kit_weight(&mat_of[i][k], "matrix", rows[k], cols[k], quantised ? dts[i][k] : plain, 0.3);
            kit_weight(&vec_of[i][k], "bias", rows[k], 1, DTYPE_F32, 0.3);
        }
        for (int k = 7; k < 10; k++) kit_weight(&vec_of[i][k], "gain", D, 1, DTYPE_F32, 2);
    }
}
static struct mat project(struct program *p, int i, int k, struct mat x, enum act a, bool biased) {
    struct mat y = program_tmp(p, DIM_ROWS, x.rows, mat_of[i][k].rows);
    op_linear(p, "matrix", y, x, &mat_of[i][k], biased ? &vec_of[i][k] : NULL, a);
    return y;
}
static struct mat attend(struct program *p, int i, struct mat x, const struct wired *s, bool biased) {
    struct mat q = project(p, i, 0, x, ACT_NONE, biased), k = project(p, i, 1, x, ACT_NONE, biased);
    struct mat v = project(p, i, 2, x, ACT_NONE, biased), y = program_tmp(p, DIM_ROWS, x.rows, q.cols);
    struct mat kc = program_kv(p, k.cols, s->hd), vc = program_kv(p, v.cols, s->hd);
    op_rope(p, q, (struct rope){ s->hd, s->rot, 10000 });
    op_rope(p, k, (struct rope){ s->hd, s->rot, 10000 });
    op_kv_put(p, kc, k, true);
    op_kv_put(p, vc, v, false);
    op_attn(p, y, q, kc, vc, (struct attn_of){ s->heads, k.cols / s->hd, s->hd, 1 });
    return project(p, i, 3, y, ACT_NONE, biased);
}
static struct mat normed(struct program *p, int i, struct mat x, int k, bool layer_norm) {
    struct mat y = program_tmp(p, DIM_ROWS, x.rows, D);
    const struct norm_of of = { &vec_of[i][k], layer_norm ? &vec_of[i][9] : NULL, layer_norm ? NORM_LAYER : NORM_RMS,
                                1e-5f };
    op_norm(p, "norm", y, x, &of);
    return y;
}
static struct mat feed_forward(struct program *p, int i, struct mat x, bool gated, enum act a) {
    struct mat h = project(p, i, 4, x, gated ? ACT_NONE : a, !gated);
    if (gated) {
        struct mat g = project(p, i, 5, x, ACT_NONE, false), y = program_tmp(p, DIM_ROWS, x.rows, FFN);
        op_gate(p, y, g, h, a);
        h = y;
    }
    return project(p, i, 6, h, ACT_NONE, !gated);
}
static struct mat record_layers(struct program *p, const struct wired *s, enum wiring wiring) {
    struct mat x = program_tmp(p, DIM_ROWS, s->rows, D);
    const bool llama = wiring == LLAMA;
    op_embed(p, x, &table);
    for (p->layer = 0; p->layer < LAYERS; p->layer++) {
        const int i = p->layer;
        struct mat a = attend(p, i, normed(p, i, x, 7, !llama), s, !llama);
        if (wiring != PARALLEL) op_add(p, x, a);
        struct mat f = feed_forward(p, i, normed(p, i, x, 8, !llama), llama,
                                    llama ? ACT_SILU
                                    : i   ? ACT_GELU_TANH
                                          : ACT_GELU);
        if (wiring == PARALLEL) op_add(p, x, a);
        op_add(p, x, f);
    }
    p->layer = -1;
    program_keep(p, x);
    return x;
}
enum { MANY = 256 };
static void run_layers(const struct wired *s, enum wiring wiring, bool fused, float *got) {
    struct program p;
    int id[MANY];
    for (int i = 0; i < MANY; i++) id[i] = i * 31 % 203;
    program_init(&p, kit_api, kit_be, s->rows, 1, MANY + 40);
    p.kv = s->kv;
    struct mat x = record_layers(&p, s, wiring);
    if (fused) program_fuse(&p);
    if (p.err.code) fail_msg("%s", p.err.text);
    if (fused && p.n != 2 + LAYERS * calls_a_layer[wiring]) { /* embed, angles */
        for (int i = 0; i < p.n; i++) print_message("  %s %s\n", op_name(p.call[i].op), p.call[i].label);
        fail_msg("wiring %d, head_dim %d, %d rows: %d calls", wiring, s->hd, s->rows, p.n);
    }
    kit_load((struct program *[]){ &p }, 1);
    kit_link(&p, NULL);
    for (int pos = 0; pos < 2 * s->live; pos += s->live) { /* the second step sees what the first one cached */
        struct step step = { .n = { 0 } };
        step_rows(&step, id + pos % 7, s->live, pos > 40 ? 40 : pos, 0, false);
        kit_run(&p, &step);
    }
    memcpy(got, kit_mat(&p, x), sizeof *got * (size_t)(s->live * D));
    kit_fini(&p, true);
}
/* Sums in another order may round an activation to another int8: one step of 127 shows. Floats agree closely. */
static void layers_case(const struct wired *s, enum wiring wiring, bool quantised) {
    static float a[MANY * D], b[MANY * D];
    kit_forget();
    kit_seed = (uint64_t)(s->hd + s->rows);
    assert_true(kit_open(NULL, 1 + s->rows % 3));
    layer_weights(s, wiring, quantised);
    run_layers(s, wiring, true, a);
    run_layers(s, wiring, false, b);
    double size = 0, off = kit_diff(a, b, (size_t)(s->live * D));
    for (int j = 0; j < s->live * D; j++) size = fmax(size, fabs((double)b[j]));
    if (!(size > 0.1) || !(off < (quantised ? 2e-2 : s->kv == DTYPE_F16 || !kit_cpu() ? 1e-3 : 1e-5) * size))
        fail_msg("wiring %d, head_dim %d, %d rows: off by %g of %g", wiring, s->hd, s->rows, off, size);
    kit_close();
}
static void test_layers_fuse_to_few_calls_with_the_same_results(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof wirings / sizeof *wirings; k++)
        for (int wiring = 0; wiring < 2 * WIRINGS; wiring += kit_times(20) == 20 ? 1 : 3)
            layers_case(&wirings[k], (enum wiring)(wiring / 2), wiring % 2);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_fused_equals_unfused),
                                        cmocka_unit_test(test_layers_fuse_to_few_calls_with_the_same_results) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
