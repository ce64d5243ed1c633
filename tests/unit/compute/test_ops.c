/* Every op of the CPU backend against a double-precision reference, on every instruction set this machine has. */
#include "compute/kit.h"

static const char *isa;
static int threads;
/* One program with inputs in[0..n), run for `rows` live rows. The outputs are kept and lie apart, guards between. */
static struct program p;
static struct mat guard[16];
static int guards;
static void begin(int bucket, int kv_rows) {
    guards = 0;
    kit_forget(); /* what a failed test left behind */
    assert_true(kit_open(isa, threads));
    program_init(&p, kit_api, kit_be, bucket, bucket, kv_rows);
}
static struct mat kept(enum dim dim, int rows, int cols) {
    struct mat m = program_tmp(&p, dim, rows, cols);
    program_keep(&p, m);
    program_keep(&p, guard[guards++] = program_tmp(&p, DIM_FIXED, 1, 16)); /* used by no call */
    return m;
}
static void ready(void) {
    struct program *const all[] = { &p };
    kit_load(all, 1);
    kit_link(&p, NULL);
}
static void end(void) {
    while (guards) kit_guard(&p, guard[--guards], 0);
    kit_fini(&p, true);
    kit_close();
}

/* ---- LINEAR ---- */
static double act_of(enum act a, double x) {
    switch (a) {
    case ACT_SILU: return x / (1 + exp(-x));
    case ACT_GELU: return 0.5 * x * erfc(-x / sqrt(2));
    case ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case ACT_NONE: break;
    }
    return x;
}
/* What a quantised product sees of x on the CPU: int8 with one scale per 128 columns, or what is left of them. */
static double seen(const float *x, int c, int cols) {
    float top = 0;
    if (!kit_cpu()) return (double)x[c];
    for (int j = c / 128 * 128; j < c / 128 * 128 + 128 && j < cols; j++) top = fmaxf(top, fabsf(x[j]));
    return top > 0 ? (double)(top / 127.0f) * (double)nearbyintf(x[c] * (127.0f / top)) : 0;
}
/* Products of bf16 see it as bf16. */
static double rounded(float x) {
    int exponent;
    const double part = frexp((double)x, &exponent);
    return ldexp(nearbyint(ldexp(part, 8)), exponent - 8);
}
struct shape {
    int rows, live, in, out; /* bucket, live rows, columns, weight rows */
};
static void linear_case(enum dtype dt, enum dtype want, struct shape of, enum act a, bool bias) {
    const int rows = of.rows, live = of.live, in = of.in, out = of.out;
    static struct weight w, b;
    begin(rows, 16);
    kit_weight(&w, "w", out, in, dt, 1);
    kit_weight(&b, "b", out, 1, DTYPE_F32, 1);
    w.want = want;
    struct mat x = kept(DIM_ROWS, rows, in), y = kept(DIM_ROWS, rows, out);
    op_linear(&p, "test", y, x, &w, bias ? &b : NULL, a);
    ready();
    kit_input(&p, x, live);
    struct step s = kit_step(live, 0, 0);
    kit_run(&p, &s);
    const bool quant = want == DTYPE_NONE && kit_block(dt) > 1;
    const bool pairs = kit_cpu() && want == DTYPE_NONE && dt == DTYPE_BF16 && rows > 4 && !strcmp(isa, "avx512-bf16");
    for (int i = 0; i < live; i++)
        for (int r = 0; r < out; r++) {
            const float *xi = kit_mat(&p, x) + i * in;
            double same = bias ? kit_at(&b, r, 0) : 0, exact = same, size = fabs(same);
            for (int c = 0; c < in; c++) {
                const double v = kit_at(&w, r, c), q = quant ? seen(xi, c, in) : pairs ? rounded(xi[c]) : (double)xi[c];
                same += v * q;
                exact += v * (double)xi[c];
                size += fabs(v * q) + 0.02;
            }
            const double got = (double)kit_mat(&p, y)[i * out + r];
            const double near = 2e-6 + kit_loose(live, want == DTYPE_NONE ? dt : want);
            if (!(fabs(got - act_of(a, same)) <= near * size))
                fail_msg("%s, %s as %s, %d rows of %d, %d to %d, act %d: row %d, column %d is %g, not %g", isa,
                         dtype_info(dt)->name, want < 0 ? "stored" : dtype_info(want)->name, live, rows, in, out, a, i,
                         r, got, act_of(a, same));
            if (!(fabs(got - act_of(a, exact)) <= 0.005 * size + 1e-6)) fail_msg("far from the exact product");
        }
    kit_guard(&p, y, live);
    end();
}
static const struct shape shapes[] = { { 1, 1, 64, 16 },    { 1, 1, 32, 203 },  { 1, 1, 576, 80 },  { 2, 2, 64, 33 },
                                       { 4, 3, 96, 64 },    { 5, 5, 64, 48 },   { 16, 12, 32, 17 }, { 16, 13, 64, 64 },
                                       { 40, 37, 96, 203 }, { 80, 80, 64, 128 } };
static void test_linear(void **state) {
    (void)state;
    static const enum dtype dts[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_1 };
    for (size_t d = 0; d < sizeof dts / sizeof *dts; d++)
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
            linear_case(dts[d], DTYPE_NONE, shapes[k], (enum act)(k % 3), k % 2);
}
static void test_linear_wanted_as(void **state) {
    (void)state;
    static const enum dtype dts[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_1 };
    for (size_t d = 0; d < sizeof dts / sizeof *dts; d++) {
        linear_case(dts[d], DTYPE_F32, (struct shape){ 13, 13, 64, 40 }, ACT_NONE, true);
        linear_case(dts[d], DTYPE_F16, (struct shape){ 13, 13, 64, 40 }, ACT_NONE, true);
        linear_case(dts[d], DTYPE_F16, (struct shape){ 1, 1, 64, 40 }, ACT_NONE, false);
    }
}
static void test_linear_odd_columns(void **state) { /* only floats: a quantised block has 32 */
    (void)state;
    for (int in = 2; in < 8; in++)
        for (int rows = 1; rows < 20; rows += 6) {
            linear_case(DTYPE_F32, DTYPE_NONE, (struct shape){ rows, rows, in, 19 }, ACT_NONE, false);
            linear_case(DTYPE_F16, DTYPE_NONE, (struct shape){ rows, rows, in, 19 }, ACT_NONE, false);
        }
}
static void test_linear_whole_bucket(void **state) {
    (void)state;
    linear_case(DTYPE_Q4_1, DTYPE_NONE, (struct shape){ 256, 256, 64, 203 }, ACT_SILU, false);
    linear_case(DTYPE_Q8_0, DTYPE_NONE, (struct shape){ 256, 199, 64, 48 }, ACT_NONE, false);
}
static void test_nan_in_a_row_reaches_its_results_only(void **state) {
    (void)state;
    static struct weight w;
    begin(3, 16);
    kit_weight(&w, "w", 40, 64, DTYPE_Q4_1, 1);
    struct mat x = kept(DIM_ROWS, 3, 64), y = kept(DIM_ROWS, 3, 40);
    op_linear(&p, "test", y, x, &w, NULL, ACT_NONE);
    ready();
    kit_input(&p, x, 3);
    kit_mat(&p, x)[64 + 40] = NAN;
    struct step s = kit_step(3, 0, 0);
    kit_run(&p, &s);
    for (int r = 0; r < 3 * 40; r++) assert_int_equal(isnan(kit_mat(&p, y)[r]), r / 40 == 1);
    end();
}

/* Three weights over one tensor, the rows of each head apart, and heads stored pairwise: maps, undone by fill alone. */
static void test_rows_of_a_shared_tensor(void **state) {
    (void)state;
    const int heads = 3, hd = 8, in = 64;
    static const enum dtype dts[] = { DTYPE_F32, DTYPE_F16, DTYPE_Q4_1, DTYPE_Q8_0 };
    for (int d = 0; d < 4; d++) {
        static struct weight all, part[3];
        struct mat y[3];
        begin(5, 16);
        kit_weight(&all, "qkv", 3 * heads * hd, in, dts[d], 1);
        kit_source[kit_sources - 1].w = &part[0]; /* the whole is no weight */
        struct mat x = kept(DIM_ROWS, 5, in);
        for (int k = 0; k < 3; k++) {
            part[k] = all;
            part[k].rows = heads * hd;
            part[k].first = k * hd;
            part[k].run = hd;
            part[k].step = 3 * hd;
            part[k].pairs = k < 2 ? hd : 0;
            if (k) kit_share(&part[k], &part[0]);
            op_linear(&p, "part", y[k] = kept(DIM_ROWS, 5, heads * hd), x, &part[k], NULL, ACT_NONE);
        }
        ready();
        for (int r = 0; r < in;
             r += kit_times(20) == 20 ? 1 : 7) { /* unit rows: the results are the weights themselves */
            memset(kit_mat(&p, x), 0, sizeof(float) * (size_t)(5 * in));
            for (int i = 0; i < 5; i++) kit_mat(&p, x)[i * in + (r + i) % in] = 1;
            struct step s = kit_step(5, 0, 0);
            kit_run(&p, &s);
            for (int k = 0; k < 3; k++)
                for (int j = 0; j < 5 * heads * hd; j++) {
                    const int row = j % (heads * hd), i = j / (heads * hd);
                    const int from = row % hd, file = k < 2 ? from % (hd / 2) * 2 + from / (hd / 2) : from;
                    const size_t at = (size_t)(row / hd * 3 * hd + k * hd + file);
                    const double want = kit_raw(&all, kit_bytes(&part[0]), at, (r + i) % in);
                    assert_true(fabs(want - (double)kit_mat(&p, y[k])[j]) < 1e-6 + kit_loose(5, all.dt));
                }
        }
        end();
    }
}
static void test_a_tensor_that_is_too_short_is_not_read(void **state) {
    (void)state;
    static struct weight w;
    struct err e = { 0 };
    begin(1, 16);
    kit_weight(&w, "short.weight", 40, 64, DTYPE_Q4_1, 1);
    op_linear(&p, "test", kept(DIM_ROWS, 1, 40), kept(DIM_ROWS, 1, 64), &w, NULL, ACT_NONE);
    assert_int_equal(kit_api->fill(kit_be, &w, kit_bytes(&w), &e), STATUS_INVALID); /* not placed yet */
    ready();
    w.bytes--;
    e = (struct err){ 0 };
    assert_int_equal(kit_api->fill(kit_be, &w, kit_bytes(&w), &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "short.weight"));
    end();
}
static void test_every_half(void **state) {
    (void)state;
    for (int i = 0; i < 65536; i++) {
        const unsigned char p2[2] = { (unsigned char)i, (unsigned char)(i >> 8) };
        const double want = kit_half(p2);
        const float got = cpu_half((uint16_t)i);
        assert_true(isnan(want) ? isnan(got) : want == (double)got && !signbit(want) == !signbit(got));
    }
    static const float odd[] = { 0,        -0.0f,  65504,   65519,   65520,     1e9f,           6e-8f,
                                 2.9e-8f,  3e-8f,  8.9e-8f, 6.1e-5f, 6.103e-5f, 1.00048828125f, 1.0014648f,
                                 INFINITY, -70000, NAN,     0.33333f };
    static struct weight t;
    begin(1, 40);
    kit_weight(&t, "embed", 2, 18, DTYPE_F32, 1);
    t.want = DTYPE_F16;
    memcpy(kit_source[kit_sources - 1].bytes, odd, sizeof odd);
    struct mat x = kept(DIM_ROWS, 1, 18);
    op_embed(&p, x, &t);
    ready();
    struct step s = kit_step(1, 0, 0);
    kit_run(&p, &s);
    for (int i = 0; i < 18; i++) {
        const float want = (float)(_Float16)odd[i], got = kit_mat(&p, x)[i];
        assert_true(isnan(want) ? isnan(got) : want == got && !signbit(want) == !signbit(got));
    }
    end();
}
static void test_a_step_that_does_not_fit_is_refused(void **state) {
    (void)state;
    static struct weight w;
    begin(4, 16);
    kit_weight(&w, "w", 40, 64, DTYPE_F32, 1);
    struct mat x = kept(DIM_ROWS, 4, 64), y = kept(DIM_ROWS, 4, 40);
    op_linear(&p, "test", y, x, &w, NULL, ACT_NONE);
    ready();
    static const struct {
        int rows, picks, pick[2];
    } bad[] = { { 5, 1, { 0 } },  { -1, 0, { 0 } },   { 2, 5, { 0 } },   { 2, 1, { 2 } },
                { 2, 1, { -1 } }, { 2, 2, { 1, 1 } }, { 3, 2, { 1, 0 } } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct step s = { .n = { 0, bad[i].rows, bad[i].picks, 0 }, .pick = { bad[i].pick[0], bad[i].pick[1] } };
        struct err e = { 0 };
        assert_int_equal(kit_replay(&p, &s, NULL, &e), STATUS_INVALID);
        kit_guard(&p, y, 0);
    }
    end();
}

/* ---- NORM, GATE, ADD, PICK ---- */
static void norm_case(enum norm kind, int cols, int rows, bool bias) {
    static struct weight g, b;
    begin(rows, 16);
    kit_weight(&g, "g", cols, 1, DTYPE_F32, 2);
    kit_weight(&b, "b", cols, 1, DTYPE_F16, 1);
    struct mat x = kept(DIM_ROWS, rows, cols), y = kept(DIM_ROWS, rows, cols);
    const struct norm_of of = { &g, bias ? &b : NULL, kind, 1e-5f };
    op_norm(&p, "test", y, x, &of);
    ready();
    kit_input(&p, x, rows);
    struct step s = kit_step(rows, 0, 0);
    kit_run(&p, &s);
    for (int i = 0; i < rows; i++) {
        const float *v = kit_mat(&p, x) + i * cols;
        double mean = 0, square = 0;
        for (int j = 0; j < cols && kind == NORM_LAYER; j++) mean += (double)v[j] / cols;
        for (int j = 0; j < cols; j++) square += ((double)v[j] - mean) * ((double)v[j] - mean) / cols;
        for (int j = 0; j < cols; j++) {
            const double want = ((double)v[j] - mean) / sqrt(square + (double)1e-5f) * kit_at(&g, j, 0);
            assert_true(fabs(want + (bias ? kit_at(&b, j, 0) : 0) - (double)kit_mat(&p, y)[i * cols + j]) < 2e-5);
        }
    }
    kit_guard(&p, y, rows);
    end();
}
static void test_norm(void **state) {
    (void)state;
    static const int cols[] = { 16, 64, 203, 576 };
    for (int k = 0; k < 4; k++)
        for (int rows = 1; rows < 8; rows += 3) {
            norm_case(NORM_RMS, cols[k], rows, false);
            norm_case(NORM_LAYER, cols[k], rows, true);
        }
}
static void test_rows(void **state) {
    (void)state;
    for (int cols = 5; cols < 100; cols += 47) {
        begin(7, 16);
        struct mat a = kept(DIM_ROWS, 7, cols), b = kept(DIM_ROWS, 7, cols), y = kept(DIM_ROWS, 7, cols);
        struct mat z = kept(DIM_ROWS, 7, cols), last = kept(DIM_PICKS, 7, cols);
        op_gate(&p, y, a, b, ACT_SILU);
        op_gate(&p, z, a, b, ACT_GELU);
        op_add(&p, z, b);
        op_pick(&p, last, a);
        ready();
        kit_input(&p, a, 5);
        kit_input(&p, b, 5);
        kit_mat(&p, a)[0] = -200; /* e^200 overflows fp32 */
        kit_mat(&p, a)[1] = 200;
        struct step s = kit_step(5, 0, 0);
        s.pick[0] = 2;
        s.pick[1] = 4;
        s.n[DIM_PICKS] = 2;
        kit_run(&p, &s);
        const float *va = kit_mat(&p, a), *vb = kit_mat(&p, b);
        for (int i = 0; i < 5 * cols; i++) {
            const double up = (double)vb[i];
            assert_true(fabs(act_of(ACT_SILU, (double)va[i]) * up - (double)kit_mat(&p, y)[i]) <
                        1e-6 + 3e-7 * fabs((double)va[i]));
            assert_true(fabs(act_of(ACT_GELU, (double)va[i]) * up + up - (double)kit_mat(&p, z)[i]) <
                        2e-6 + 3e-7 * fabs((double)va[i]));
        }
        assert_memory_equal(kit_mat(&p, last), va + 2 * cols, sizeof(float) * (size_t)cols);
        assert_memory_equal(kit_mat(&p, last) + cols, va + 4 * cols, sizeof(float) * (size_t)cols);
        kit_guard(&p, y, 5);
        kit_guard(&p, z, 5);
        kit_guard(&p, last, 2);
        end();
    }
}

static void test_gelu_over_the_whole_range(void **state) {
    (void)state;
    enum { COLS = 1 << 12, ROWS = 40 };
    static const float odd[] = { 0,  -0.0f, 1e-30f, -1e-30f, 13,    -13,    13.2f, -13.2f,
                                 88, -88,   1e4f,   -1e4f,   1e20f, -1e20f, 3e38f, -3e38f };
    begin(ROWS, 16);
    struct mat x = kept(DIM_ROWS, ROWS, COLS), up = kept(DIM_ROWS, ROWS, COLS);
    struct mat y = kept(DIM_ROWS, ROWS, COLS), z = kept(DIM_ROWS, ROWS, COLS);
    op_gate(&p, y, x, up, ACT_GELU);
    op_gate(&p, z, x, up, ACT_GELU_TANH);
    ready();
    float *v = kit_mat(&p, x);
    for (int i = 0; i < ROWS * COLS; i++) {
        v[i] = 16.0f * (float)i / (ROWS * COLS / 2) - 16 + 1e-4f * (float)kit_random();
        kit_mat(&p, up)[i] = 1;
    }
    memcpy(v, odd, sizeof odd);
    struct step s = kit_step(ROWS, 0, 0);
    kit_run(&p, &s);
    for (int i = 0; i < ROWS * COLS; i++) { /* x times an error function that is right to 1e-6 */
        const double at = (double)v[i], got = (double)kit_mat(&p, y)[i], tanh_form = (double)kit_mat(&p, z)[i];
        if (!(fabs(got - act_of(ACT_GELU, at)) <= 5e-7 * fabs(at)) ||
            (fabs(at) < 16 && !(fabs(got - act_of(ACT_GELU, at)) <= 1e-6)))
            fail_msg("%s: gelu(%g) is %.9g, not %.9g", isa, at, got, act_of(ACT_GELU, at));
        if (!(fabs(tanh_form - act_of(ACT_GELU_TANH, at)) <= 1e-6 + 3e-7 * fabs(at)))
            fail_msg("%s: gelu_tanh(%g) is %.9g, not %.9g", isa, at, tanh_form, act_of(ACT_GELU_TANH, at));
    }
    end();
}

/* ---- EMBED, ROPE ---- */
static void test_embed(void **state) {
    (void)state;
    static const enum dtype dts[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_1 };
    static const int id[] = { 0, 202, 16, 15, 7, 202 };
    for (int d = 0; d < 6; d++) {
        static struct weight t;
        begin(8, 40);
        kit_weight(&t, "embed", 203, 96, dts[d], 1);
        struct mat x = kept(DIM_ROWS, 8, 96);
        op_embed(&p, x, &t);
        ready();
        struct step s = { .n = { 0 } };
        step_rows(&s, id, 6, 3, 20, true);
        kit_run(&p, &s);
        for (int i = 0; i < 6 * 96; i++)
            assert_true(fabs(kit_at(&t, id[i / 96], i % 96) - (double)kit_mat(&p, x)[i]) < 1e-6);
        kit_guard(&p, x, 6);
        const int *history = (const int *)(const void *)kit_mat(&p, p.history);
        assert_memory_equal(history + 23, id, sizeof id);
        assert_true(kit_untouched((const float *)(const void *)history, 23));
        assert_true(kit_untouched((const float *)(const void *)history + 29, 48 - 29));
        end();
    }
}
static void test_bad_rows_stop_the_step(void **state) {
    (void)state;
    static struct weight t;
    static const struct {
        struct step_row row;
        int from; /* of its mask */
        const char *says;
    } bad[] = { { { 203, 0, 0, 0, 0 }, 0, "vocabulary" },
                { { -1, 0, 0, 0, 0 }, 0, "vocabulary" },
                { { 0, 40, 0, 40, 0 }, 0, "KV cache is full" },
                { { 0, -1, 0, 0, 0 }, 0, "KV cache" },
                { { 0, 0, 0, -1, 0 }, 0, "KV cache" },
                { { 0, 0, 0, INT32_MIN, 0 }, 0, "KV cache" },
                { { 0, 0, 0, 40, 0 }, 0, "KV cache" },        /* pos alone says nothing about the place */
                { { 0, INT32_MAX, 0, 0, 0 }, 0, "KV cache" }, /* there is no next one */
                { { 0, 0, 0, 15, 0 }, 0, "KV cache" },        /* row 0 writes there */
                { { 0, 20, 20, 20, 0 }, 0, "KV cache" },
                { { 0, 0, -1, 0, 0 }, 0, "KV cache" },
                { { 0, 0, INT32_MIN, 0, 0 }, 0, "KV cache" },
                { { 0, INT32_MAX, INT32_MAX, INT32_MAX, 0 }, 0, "KV cache" },
                { { 0, 0, 0, 0, -1 }, 0, "KV cache" },
                { { 0, 0, 0, 0, BEAMS_MAX + 1 }, 0, "KV cache" },
                { { 0, 0, 0, 0, INT32_MAX }, 0, "KV cache" },
                { { 0, 0, 0, 20, BEAMS_MAX }, -1, "KV cache" },
                { { 0, 0, 0, 20, BEAMS_MAX }, INT32_MIN, "KV cache" } };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        begin(4, 40);
        kit_weight(&t, "embed", 203, 32, DTYPE_F32, 1);
        struct mat x = kept(DIM_ROWS, 4, 32), y = kept(DIM_ROWS, 4, 32);
        op_embed(&p, x, &t);
        op_gate(&p, y, x, x, ACT_NONE);
        ready();
        struct step s = kit_step(4, 15, 0);
        s.row[1] = bad[k].row;
        s.mask[BEAMS_MAX - 1].from = bad[k].from;
        struct err e = { 0 };
        assert_int_equal(kit_replay(&p, &s, NULL, &e), STATUS_INVALID);
        assert_non_null(strstr(e.text, bad[k].says));
        kit_guard(&p, y, 0); /* nothing after it ran */
        end();
    }
}
static void rope_case(int hd, int rot, float theta) {
    const int heads = 3, rows = 5, pos = 11;
    begin(rows, 64);
    struct mat x = kept(DIM_ROWS, rows, heads * hd);
    op_rope(&p, x, (struct rope){ hd, rot, theta });
    ready();
    kit_input(&p, x, rows);
    float before[5 * 3 * 256];
    memcpy(before, kit_mat(&p, x), sizeof(float) * (size_t)(rows * heads * hd));
    struct step s = kit_step(rows, pos, 0);
    kit_run(&p, &s);
    for (int i = 0; i < rows * heads; i++)
        for (int j = 0; j < hd; j++) {
            const float *v = before + i * hd;
            const int half = rot / 2, f = j % (half ? half : 1);
            const double angle = (pos + i / heads) * pow((double)theta, -2.0 * f / rot);
            double want = (double)v[j];
            if (j < half)
                want = (double)v[j] * cos(angle) - (double)v[j + half] * sin(angle);
            else if (j < rot)
                want = (double)v[j] * cos(angle) + (double)v[j - half] * sin(angle);
            assert_true(fabs(want - (double)kit_mat(&p, x)[i * hd + j]) < 5e-6);
        }
    end();
}
static void test_rope(void **state) {
    (void)state;
    rope_case(64, 64, 10000);
    rope_case(16, 16, 100000);
    rope_case(80, 32, 10000);
    rope_case(128, 64, 10000);
    rope_case(6, 2, 10000);
    rope_case(256, 64, 10000);
}

/* ---- ATTN through the KV pool: two sequences, one of them far from an even place ---- */
static float as_stored(float v, enum dtype kv) { return kv == DTYPE_F16 ? (float)(_Float16)v : v; }
static void attention_of(int hd, int heads, int kv_heads, int before, int rows, enum dtype kv) {
    /* The second sequence starts off a tile and ends with the pool. */
    const int len = before + rows, kv_rows = (2 * len + 3 + 15) / 16 * 16, base[2] = { 0, kv_rows - len },
              qd = heads * hd, kd = kv_heads * hd, total = 2 * rows;
    begin(total, kv_rows);
    p.kv = kv;
    struct mat q = kept(DIM_ROWS, total, qd), k = kept(DIM_ROWS, total, kd), v = kept(DIM_ROWS, total, kd);
    struct mat y = kept(DIM_ROWS, total, qd), kc = program_kv(&p, kd, hd), vc = program_kv(&p, kd, hd);
    op_kv_put(&p, kc, k, true);
    op_kv_put(&p, vc, v, false);
    op_attn(&p, y, q, kc, vc, (struct attn_of){ heads, kv_heads, hd, 1 });
    ready();
    assert_true(p.need[REGION_KV] == 2 * (size_t)(kv_rows * kd) * (kv == DTYPE_F16 ? 2 : 4));
    const size_t all = (size_t)(before + rows) * (size_t)kd;
    float *hk[2], *hv[2];
    for (int i = 0; i < 2; i++) {
        hk[i] = malloc(all * sizeof(float));
        hv[i] = malloc(all * sizeof(float));
    }
    for (int from = 0; from < before + rows;) { /* in chunks, the last of them is the one that is looked at */
        const int n = from < before ? (before - from < rows ? before - from : rows) : rows;
        struct step s = { .n = { 0 } };
        int id[ROWS_MAX] = { 0 };
        for (int i = 0; i < 2; i++) step_rows(&s, id, n, from, base[i], true);
        kit_input(&p, q, 2 * n);
        kit_input(&p, k, 2 * n);
        kit_input(&p, v, 2 * n);
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < n * kd; j++) {
                hk[i][from * kd + j] = as_stored(kit_mat(&p, k)[i * n * kd + j], kv);
                hv[i][from * kd + j] = as_stored(kit_mat(&p, v)[i * n * kd + j], kv);
            }
        }
        kit_run(&p, &s);
        from += n;
    }
    for (int i = 0; i < total * heads; i++) {
        const int r = i / heads, h = i % heads, kh = h / (heads / kv_heads) * hd, seq = r / rows,
                  sees = before + r % rows + 1;
        const float *qv = kit_mat(&p, q) + r * qd + h * hd, *got = kit_mat(&p, y) + r * qd + h * hd;
        double w[1024], sum = 0;
        for (int t = 0; t < sees; t++) {
            double dot = 0;
            for (int d = 0; d < hd; d++) dot += (double)qv[d] * (double)hk[seq][t * kd + kh + d];
            sum += w[t] = exp(dot / sqrt(hd));
        }
        for (int d = 0; d < hd; d++) {
            double want = 0;
            for (int t = 0; t < sees; t++) want += w[t] / sum * (double)hv[seq][t * kd + kh + d];
            if (!(fabs(want - (double)got[d]) < 3e-6))
                fail_msg("%s: head_dim %d, %d/%d heads, row %d of %d after %d, head %d: %g, not %g", isa, hd, heads,
                         kv_heads, r, rows, before, h, (double)got[d], want);
        }
    }
    kit_guard(&p, y, total);
    for (int i = 0; i < 4; i++) free(i < 2 ? hk[i] : hv[i - 2]);
    end();
}
static void attention_case(int hd, int heads, int kv_heads, int before, int rows) {
    attention_of(hd, heads, kv_heads, before, rows, DTYPE_F32);
    attention_of(hd, heads, kv_heads, before, rows, DTYPE_F16);
}
static void test_attention(void **state) {
    (void)state;
    attention_case(64, 9, 3, 0, 1); /* a KV length of 1 */
    attention_case(64, 9, 3, 100, 1);
    attention_case(64, 9, 3, 64, 5);
    attention_case(16, 4, 4, 3, 17);
    attention_case(128, 2, 1, 30, 3);
    attention_case(80, 5, 1, 20, 13);
    attention_case(88, 2, 2, 70, 2); /* no multiple of 16 columns */
    attention_case(10, 3, 1, 90, 11);
    attention_case(16, 32, 1, 5, 2);  /* more heads on one KV head than a pass takes */
    attention_case(64, 9, 3, 576, 1); /* long contexts of few rows are dealt out in chunks of keys */
    attention_case(16, 32, 1, 190, 2);
    attention_case(24, 4, 2, 900, 1);
    attention_case(256, 2, 2, 250, 1); /* Polyglot-Ko 5.8b */
    attention_case(256, 2, 2, 40, 14);
    attention_case(80, 4, 4, 210, 2);
    attention_case(128, 6, 6, 33, 7);
}
/* Nothing is cached: every row of a block of queries sees every row of its block of keys. */
static void plain_attention(int q_rows, int k_rows, int blocks, int hd, int heads, int kv_heads, enum dtype kv) {
    const int qd = heads * hd, kd = kv_heads * hd, nq = blocks * q_rows, nk = blocks * k_rows;
    begin(4, 16);
    p.kv = kv;
    struct mat q = kept(DIM_FIXED, nq, qd), k = kept(DIM_FIXED, nk, kd), v = kept(DIM_FIXED, nk, kd);
    struct mat y = kept(DIM_FIXED, nq, qd);
    op_attn(&p, y, q, k, v, (struct attn_of){ heads, kv_heads, hd, blocks });
    ready();
    kit_input(&p, q, nq);
    kit_input(&p, k, nk);
    kit_input(&p, v, nk);
    struct step s = { .n = { 0 } };
    double bytes, flops;
    program_cost(&p.call[0], &s, &bytes, &flops);
    assert_true(flops == 4.0 * nq * k_rows * qd);
    kit_run(&p, &s);
    /* A device may round queries, keys, values and weights to f16 then: half an ulp of numbers below 1, each way. */
    const double most = kv == DTYPE_F16 && !kit_cpu() ? 1e-3 : 3e-6;
    for (int i = 0; i < nq * heads; i++) {
        const int r = i / heads, h = i % heads, kh = h / (heads / kv_heads) * hd, first = r / q_rows * k_rows;
        double w[128], sum = 0;
        for (int t = 0; t < k_rows; t++) {
            double dot = 0;
            for (int d = 0; d < hd; d++)
                dot += (double)kit_mat(&p, q)[r * qd + h * hd + d] * (double)kit_mat(&p, k)[(first + t) * kd + kh + d];
            sum += w[t] = exp(dot / sqrt(hd));
        }
        for (int d = 0; d < hd; d++) {
            double want = 0;
            for (int t = 0; t < k_rows; t++) want += w[t] / sum * (double)kit_mat(&p, v)[(first + t) * kd + kh + d];
            const double got = (double)kit_mat(&p, y)[r * qd + h * hd + d];
            if (!(fabs(want - got) < most))
                fail_msg("%s: head_dim %d, %d blocks of %d by %d, row %d, head %d: %g, not %g", isa, hd, blocks, q_rows,
                         k_rows, r, h, got, want);
        }
    }
    kit_guard(&p, y, nq);
    end();
}
static void test_attention_over_plain_matrices(void **state) { /* an encoder's */
    (void)state;
    plain_attention(21, 21, 1, 24, 2, 2, DTYPE_F32);
    plain_attention(21, 21, 3, 24, 2, 2, DTYPE_F32);
    plain_attention(5, 37, 4, 64, 4, 2, DTYPE_F32); /* queries of their own, as a Q-Former's */
    plain_attention(1, 65, 3, 88, 1, 1, DTYPE_F32);
    plain_attention(70, 70, 2, 88, 2, 2, DTYPE_F16); /* more than a tile */
    plain_attention(64, 128, 2, 64, 2, 1, DTYPE_F16);
    plain_attention(3, 33, 3, 128, 2, 2, DTYPE_F16);
    plain_attention(20, 17, 2, 256, 1, 1, DTYPE_F16);
    plain_attention(9, 9, 2, 80, 1, 1, DTYPE_F16);
}
static void test_blocks_that_do_not_divide_the_rows_are_refused(void **state) {
    (void)state;
    begin(4, 16);
    struct mat q = kept(DIM_FIXED, 6, 16), k = kept(DIM_FIXED, 7, 16);
    op_attn(&p, kept(DIM_FIXED, 6, 16), q, k, k, (struct attn_of){ 1, 1, 16, 3 });
    assert_int_equal(p.err.code, STATUS_FORMAT);
    program_fini(&p);
    kit_close();
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_linear_wanted_as),
        cmocka_unit_test(test_linear_odd_columns),
        cmocka_unit_test(test_linear_whole_bucket),
        cmocka_unit_test(test_nan_in_a_row_reaches_its_results_only),
        cmocka_unit_test(test_rows_of_a_shared_tensor),
        cmocka_unit_test(test_a_tensor_that_is_too_short_is_not_read),
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_a_step_that_does_not_fit_is_refused),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_gelu_over_the_whole_range),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_bad_rows_stop_the_step),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_over_plain_matrices),
        cmocka_unit_test(test_blocks_that_do_not_divide_the_rows_are_refused),
    };
    int failed = 0;
    for (int i = 0; i < KIT_ISAS; i++) {
        isa = kit_isas[i];
        threads = 1 + i % 3;
        if (!kit_open(isa, 1)) {
            print_message("%s: not on this processor\n", isa);
            continue;
        }
        kit_close();
        failed += cmocka_run_group_tests_name(isa, tests, NULL, NULL);
    }
    return failed;
}
