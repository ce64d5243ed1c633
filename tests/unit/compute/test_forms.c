/* What becomes of each number format on its way into packed memory, on every instruction set this machine has: the same
 * numbers (the file's formats are written down a second time in kit.h), or those of a coarser format within its bounds. */
#include "compute/kit.h"

enum { ROWS = 43, MOST = 768 };
static const enum dtype floats[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };
static const enum dtype blocks[] = { DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1,
                                     DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K };
enum { FLOATS = 3, BLOCKS = 8 };
static const char *isa;
static int threads;
static float stored[ROWS * MOST]; /* what a weight holds, read back row by row */

static const char *name_of(enum dtype dt) { return dt < 0 ? "stored" : dtype_info((int)dt)->name; }
static double to_bf16(double v) { /* to nearest even; normal numbers */
    int exponent;
    const double part = frexp(v, &exponent);
    return ldexp(nearbyint(ldexp(part, 8)), exponent - 8);
}

/* ---- a weight, read back and multiplied ---- */
static struct program p;
static struct mat numbers, x, y;
static void begin(struct weight *w, int bucket) {
    struct program *const all[] = { &p };
    assert_true(kit_open(isa, threads));
    program_init(&p, kit_api, kit_be, bucket, bucket, 64);
    program_keep(&p, numbers = program_tmp(&p, DIM_ROWS, bucket, w->cols));
    program_keep(&p, x = program_tmp(&p, DIM_ROWS, bucket, w->cols));
    program_keep(&p, y = program_tmp(&p, DIM_ROWS, bucket, w->rows));
    op_embed(&p, numbers, w);
    op_linear(&p, "test", y, x, w, NULL, ACT_NONE);
    kit_load(all, 1);
    kit_link(&p, NULL);
}
static void end(void) {
    kit_fini(&p, true);
    kit_close();
}
static void read_back(const struct weight *w) {
    const size_t cols = (size_t)w->cols;
    for (int r = 0; r < w->rows; r += p.rows) {
        int id[ROWS_MAX], n = 0;
        struct step s = { .n = { 0 } };
        for (; n < p.rows && r + n < w->rows; n++) id[n] = r + n;
        step_rows(&s, id, n, 0, 0, true);
        kit_input(&p, x, p.rows);
        kit_run(&p, &s);
        memcpy(stored + (size_t)r * cols, kit_mat(&p, numbers), (size_t)n * cols * sizeof *stored);
    }
}
/* int8 with a scale per 128 columns, as rows meet quantised weights; bf16 where pairs of them are multiplied. */
static double seen(const struct weight *w, enum dtype form, const float *v, int c) {
    if (!kit_cpu()) return (double)v[c];
    float top = 0;
    if (form == DTYPE_BF16 && p.rows > 4 && !strcmp(isa, "avx512-bf16")) return to_bf16((double)v[c]);
    if (kit_block(form) == 1) return (double)v[c];
    for (int j = c / 128 * 128; j < c / 128 * 128 + 128 && j < w->cols; j++) top = fmaxf(top, fabsf(v[j]));
    return top > 0 ? (double)(top / 127.0f) * (double)nearbyintf(v[c] * (127.0f / top)) : 0;
}
static void check_products(const struct weight *w) {
    const enum dtype form = weight_form(w);
    struct step s = kit_step(p.rows, 0, 0);
    kit_run(&p, &s);
    for (int i = 0; i < p.rows; i++)
        for (int r = 0; r < w->rows; r++) {
            double want = 0, size = 1e-3;
            for (int c = 0; c < w->cols; c++) {
                const double part = (double)stored[r * w->cols + c] * seen(w, form, kit_mat(&p, x) + i * w->cols, c);
                want += part;
                size += fabs(part);
            }
            const double got = (double)kit_mat(&p, y)[i * w->rows + r];
            if (!(fabs(got - want) <= (3e-6 + kit_loose(p.rows, form)) * size))
                fail_msg("%s: %s as %s, %d rows: row %d, column %d is %g, not %g", isa, name_of(w->dt),
                         name_of(w->want), p.rows, i, r, got, want);
        }
}
/* Every number as the file has it, but for one rounding to what was wanted. */
static void exact_case(enum dtype dt, enum dtype want, int cols, int rows, int pairs) {
    static struct weight w;
    kit_forget();
    kit_weight(&w, "w", ROWS, cols, dt, 1);
    w.want = want;
    if (pairs) w.rows = ROWS / pairs * pairs;
    w.pairs = pairs;
    begin(&w, rows);
    read_back(&w);
    for (int r = 0; r < w.rows; r++)
        for (int c = 0; c < cols; c++) {
            double v = kit_at(&w, r, c);
            if (want == DTYPE_BF16 && kit_block(dt) == 1) v = to_bf16(v);
            if (!(fabs(v - (double)stored[r * cols + c]) <= 3e-7 * fabs(v) + 1e-7 + (want == DTYPE_F16 ? 6e-4 : 0)))
                fail_msg("%s: %s as %s: row %d, column %d is %g, not %g", isa, name_of(dt), name_of(want), r, c,
                         (double)stored[r * cols + c], v);
        }
    check_products(&w);
    end();
}
static void test_numbers_of_each_format(void **state) {
    (void)state;
    static const int rows[] = { 1, 3, 13 }, odd[] = { 32, 96, 160, 512 }, wide[] = { 256, 512, 768, 256 };
    for (int k = 0; k < 4; k++) {
        for (int d = 0; d < FLOATS; d++)
            for (int to = 0; to < FLOATS; to++) exact_case(floats[d], floats[to], odd[k] + k % 2, rows[k % 3], 0);
        for (int d = 0; d < BLOCKS; d++)
            exact_case(blocks[d], DTYPE_NONE, kit_block(blocks[d]) == 32 ? odd[k] : wide[k], rows[k % 3],
                       k == 2 ? 8 : 0);
    }
}
static void test_what_is_quantised_is_never_quantised_again(void **state) {
    (void)state;
    static const enum dtype want[] = { DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0 };
    for (int d = 0; d < BLOCKS; d++)
        for (int k = 0; k < 3; k++) {
            struct weight w = { .rows = 5, .cols = 512, .run = 5, .dt = blocks[d], .want = want[k] };
            assert_int_equal(weight_form(&w), blocks[d] == DTYPE_Q5_0 ? DTYPE_Q8_0 : blocks[d]);
            if (k == d % 3) exact_case(blocks[d], want[k], 256, 5, 0);
        }
}
static void test_blocks_become_plain_numbers(void **state) {
    (void)state;
    for (int d = 0; d < BLOCKS; d++) {
        exact_case(blocks[d], DTYPE_F32, 512, 5, 0);
        exact_case(blocks[d], DTYPE_F16, kit_block(blocks[d]) == 32 ? 288 : 256, 1, 0);
    }
}
/* kit.h against the gguf package 0.19 (gguf.quants.dequantize) on made-up blocks: a weighted sum of all numbers. */
static void test_the_formats_are_those_of_ggml(void **state) {
    (void)state;
    static const double sum[BLOCKS] = { -2.625, 63.5, 7.5, 164.375, 179.3125, 11402.25, 28599.375, -11831.375 };
    for (int d = 0; d < BLOCKS; d++) {
        const struct kit_block k = kit_block_of(blocks[d]);
        unsigned char b[256];
        uint32_t dice = 12345;
        for (int i = 0; i < k.bytes; i++) {
            dice = dice * 1103515245u + 12345u;
            b[i] = (unsigned char)(dice >> 16);
        }
        kit_put_half(b + k.scale, 0.0625);
        if (k.minimum >= 0) kit_put_half(b + k.minimum, k.numbers == 32 ? -0.125 : 0.125);
        double got = 0;
        for (int j = 0; j < k.numbers; j++) got += kit_number(b, blocks[d], j) * (j * j % 11 + 1);
        assert_true(fabs(got - sum[d]) < 1e-9);
    }
}

/* ---- quantised now ---- */
struct error {
    double most, square, plain; /* largest, in steps of 1 / levels of its group; mean squares: ours, plain rounding's */
};
static struct error error_of(const struct weight *w, double levels) {
    struct error e = { 0, 0, 0 };
    for (int r = 0; r < w->rows; r++)
        for (int c = 0; c < w->cols; c += 32) {
            double top = 0;
            for (int j = c; j < c + 32; j++) top = fmax(top, fabs(kit_at(w, r, j)));
            for (int j = c; j < c + 32; j++) {
                const double v = kit_at(w, r, j), off = fabs(v - (double)stored[r * w->cols + j]), step = top / levels;
                const double plain = step > 0 ? nearbyint(v / step) * step - v : 0;
                if (top > 0) e.most = fmax(e.most, off / step);
                e.square += off * off;
                e.plain += plain * plain;
            }
        }
    return e;
}
static void test_quantising_keeps_its_bounds(void **state) {
    (void)state;
    static struct weight w;
    for (int d = 0; d < FLOATS; d++)
        for (int four = 0; four < 2; four++) {
            kit_forget();
            kit_weight(&w, "w", ROWS, 320, floats[d], 0.1);
            w.want = four ? DTYPE_Q4_0 : DTYPE_Q8_0;
            begin(&w, four ? 9 : 1);
            read_back(&w);
            const struct error e = error_of(&w, four ? 7 : 127);
            if (!(e.most < (four ? 1.2 : 0.51) && e.square < e.plain * (four ? 0.9 : 1.01)))
                fail_msg("%s: %s to %s: %.3f steps, mean square %.3f of plain rounding", isa, name_of(floats[d]),
                         name_of(w.want), e.most, e.square / e.plain);
            check_products(&w);
            end();
        }
}
/* Numbers that the coarser format holds come out as they went in; a group of zeros is zeros; what is no number stays
 * within its row. */
static void test_quantising_what_fits_and_what_is_no_number(void **state) {
    (void)state;
    static struct weight w;
    for (int four = 0; four < 2; four++) {
        kit_forget();
        kit_weight(&w, "w", 20, 64, DTYPE_F32, 1);
        float *v = (float *)malloc(20 * 64 * sizeof *v);
        for (int i = 0; i < 20 * 64; i++) v[i] = (float)(i * 7 % (four ? 16 : 255) - (four ? 8 : 127)) * 0.03125f;
        for (int i = 0; i < 32; i++) v[3 * 64 + i] = 0;
        for (int r = 0; r < 20 && !four; r++) v[r * 64] = v[r * 64 + 32] = -127 * 0.03125f;
        for (int r = 0; r < 20 && four; r++) v[r * 64] = v[r * 64 + 32] = -8 * 0.03125f;
        v[3 * 64] = 0;
        v[5 * 64 + 3] = NAN;
        v[6 * 64 + 40] = -INFINITY;
        memcpy(kit_source[kit_sources - 1].bytes, v, 20 * 64 * sizeof *v);
        w.want = four ? DTYPE_Q4_0 : DTYPE_Q8_0;
        begin(&w, 5);
        read_back(&w);
        for (int i = 0; i < 20 * 64; i++) {
            const int group = i / 32;
            if (group == 10 || group == 13)
                assert_false(isfinite(stored[i]));
            else if (fabsf(stored[i] - v[i]) > 1e-6f)
                fail_msg("%s: %s: number %d is %g, not %g", isa, name_of(w.want), i, (double)stored[i], (double)v[i]);
        }
        free(v);
        end();
    }
}
static void test_columns_that_make_no_groups_keep_their_form(void **state) {
    (void)state;
    static const enum dtype want[] = { DTYPE_Q8_0, DTYPE_Q4_0 };
    for (int d = 0; d < FLOATS; d++)
        for (int k = 0; k < 2; k++) {
            struct weight w = { .rows = 33, .cols = 75, .run = 33, .dt = floats[d], .want = want[k] }, own = w;
            own.want = DTYPE_NONE;
            assert_int_equal(weight_form(&w), floats[d]);
            assert_int_equal(kit_api->weight_bytes(&w), kit_api->weight_bytes(&own));
            if (k == d % 2) exact_case(floats[d], want[k], 75, 6, 0);
        }
    for (int d = 0; d < BLOCKS; d++) {
        const struct weight w = {
            .rows = 33, .cols = kit_block(blocks[d]) + 16, .run = 33, .dt = blocks[d], .want = -1
        };
        assert_int_equal(kit_api->weight_bytes(&w), 0);
    }
    const struct weight vector = { .rows = 256, .cols = 1, .run = 256, .dt = DTYPE_Q8_0, .want = -1 };
    assert_int_equal(kit_api->weight_bytes(&vector), 0);
}
static void test_bytes_are_known_before(void **state) { /* of 33 rows, which lie as 48, and 512 columns */
    (void)state;
    if (!kit_cpu()) return; /* the CPU's own layout */
    static const struct {
        enum dtype dt, want;
        size_t bytes;
    } of[] = {
        { DTYPE_F32, DTYPE_NONE, 48 * 512 * 4 },
        { DTYPE_F16, DTYPE_F32, 48 * 512 * 4 },
        { DTYPE_F16, DTYPE_NONE, 48 * 512 * 2 },
        { DTYPE_F32, DTYPE_BF16, 48 * 512 * 2 },
        { DTYPE_F16, DTYPE_Q8_0, 48 * 512 / 32 * 34 },
        { DTYPE_BF16, DTYPE_Q4_0, 48 * 512 / 32 * 18 },
        { DTYPE_Q4_0, DTYPE_NONE, 48 * 512 / 32 * 18 },
        { DTYPE_Q4_1, DTYPE_Q4_0, 48 * 512 / 32 * 20 },
        { DTYPE_Q5_0, DTYPE_NONE, 48 * 512 / 32 * 34 },
        { DTYPE_Q5_1, DTYPE_NONE, 48 * 512 / 32 * 36 },
        { DTYPE_Q8_0, DTYPE_NONE, 48 * 512 / 32 * 34 },
        { DTYPE_Q4_K, DTYPE_NONE, 48 * 2 * (4 + 8 * (2 + 16)) },
        { DTYPE_Q5_K, DTYPE_BF16, 48 * 2 * (4 + 8 * (2 + 32)) },
        { DTYPE_Q6_K, DTYPE_NONE, 48 * 2 * (2 + 8 * (2 + 32)) },
        { DTYPE_Q6_K, DTYPE_F16, 48 * 512 * 2 },
        { DTYPE_Q2_K, DTYPE_NONE, 0 },
        { DTYPE_F16, DTYPE_Q4_K, 0 },
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct weight w = { .rows = 33, .cols = 512, .run = 33, .dt = of[i].dt, .want = of[i].want };
        assert_int_equal(kit_api->weight_bytes(&w), of[i].bytes);
    }
    struct weight odd = { .rows = 16, .cols = 7, .run = 16, .dt = DTYPE_BF16, .want = DTYPE_NONE };
    assert_int_equal(kit_api->weight_bytes(&odd), 16 * 8 * 2);
}

/* ---- rows from anywhere, and matrices side by side ---- */
/* Three weights of one tensor, the rows of each head apart, two of them pairwise; gate and up lie in one grouping. */
static void maps_case(enum dtype dt, enum dtype want, int rows) {
    enum { HEADS = 3, HD = 8, IN = 256 };
    static struct weight w[3];
    struct program *const all[] = { &p };
    struct mat part[3], out;
    kit_forget();
    assert_true(kit_open(isa, threads));
    program_init(&p, kit_api, kit_be, rows, rows, 64);
    program_keep(&p, x = program_tmp(&p, DIM_ROWS, rows, IN));
    kit_weight(&w[0], "qkv", 3 * HEADS * HD, IN, dt, 0.3);
    for (int k = 0; k < 3; k++) {
        const struct weight tensor = w[0];
        w[k] = tensor;
        w[k].rows = HEADS * HD;
        w[k].first = k * HD;
        w[k].run = HD;
        w[k].step = 3 * HD;
        w[k].pairs = k < 2 ? HD : 0;
        w[k].want = want;
        if (k) kit_share(&w[k], &w[0]);
        op_linear(&p, "part", part[k] = program_tmp(&p, DIM_ROWS, rows, HEADS * HD), x, &w[k], NULL, ACT_NONE);
    }
    program_keep(&p, part[2]);
    program_keep(&p, out = program_tmp(&p, DIM_ROWS, rows, HEADS * HD));
    op_gate(&p, out, part[0], part[1], ACT_NONE);
    program_fuse(&p);
    kit_load(all, 1);
    if (w[0].packed->stride == w[2].packed->stride) fail_msg("gate and up do not lie side by side");
    kit_link(&p, NULL);
    kit_input(&p, x, rows);
    struct step s = kit_step(rows, 0, 0);
    kit_run(&p, &s);
    for (int i = 0; i < rows; i++)
        for (int r = 0; r < HEADS * HD; r++) {
            double v[3] = { 0 }, size = 0.1;
            for (int k = 0; k < 3; k++)
                for (int c = 0; c < IN; c++) {
                    v[k] += kit_at(&w[k], r, c) * (double)kit_mat(&p, x)[i * IN + c];
                    size += 0.01 * fabs(kit_at(&w[k], r, c));
                }
            const double gate = (double)kit_mat(&p, out)[i * HEADS * HD + r];
            const double third = (double)kit_mat(&p, part[2])[i * HEADS * HD + r];
            if (fabs(gate - v[0] * v[1]) > size * (1 + fabs(v[0]) + fabs(v[1])) || fabs(third - v[2]) > size)
                fail_msg("%s: %s as %s: row %d, column %d: %g and %g, not %g and %g", isa, name_of(dt), name_of(want),
                         i, r, gate, third, v[0] * v[1], v[2]);
        }
    end();
}
static void test_rows_from_anywhere(void **state) {
    (void)state;
    for (int d = 0; d < BLOCKS; d++) maps_case(blocks[d], DTYPE_NONE, d % 2 ? 1 : 11);
    for (int d = 0; d < FLOATS; d++) {
        maps_case(floats[d], DTYPE_NONE, 7);
        maps_case(floats[d], DTYPE_Q8_0, 2);
        maps_case(floats[d], DTYPE_BF16, 9);
    }
}

/* ---- random numbers in the shape of weights ---- */
static const struct form {
    enum dtype dt, want;
} forms[] = { { DTYPE_F32, DTYPE_NONE },  { DTYPE_F16, DTYPE_NONE },  { DTYPE_F16, DTYPE_BF16 },
              { DTYPE_F16, DTYPE_Q8_0 },  { DTYPE_F16, DTYPE_Q4_0 },  { DTYPE_Q4_1, DTYPE_NONE },
              { DTYPE_Q5_0, DTYPE_NONE }, { DTYPE_Q5_1, DTYPE_NONE }, { DTYPE_Q4_K, DTYPE_NONE },
              { DTYPE_Q5_K, DTYPE_NONE }, { DTYPE_Q6_K, DTYPE_NONE } };
static void dummy(struct weight *w, struct form of, uint64_t seed, int with) {
    struct err e = { 0 };
    threads = with;
    kit_forget();
    kit_weight(w, "w", ROWS, MOST, of.dt, 1);
    w->want = of.want;
    begin(w, 8);
    assert_int_equal(kit_api->dummy(kit_be, w, 0, 0.02f, seed, &e), 0);
    read_back(w);
    end();
}
static void test_dummies(void **state) {
    (void)state;
    static struct weight w;
    static float before[ROWS * MOST];
    const int n = ROWS * MOST, had = threads;
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f += kit_times(20) == 20 ? 1 : 3) {
        double mean = 0, square = 0;
        dummy(&w, forms[f], 7, 1);
        memcpy(before, stored, sizeof before);
        if (kit_cpu()) dummy(&w, forms[f], 7, 3);
        assert_memory_equal(before, stored, sizeof before); /* of how many threads does not matter */
        for (int i = 0; i < n; i++) mean += (double)stored[i] / n;
        for (int i = 0; i < n; i++) square += ((double)stored[i] - mean) * ((double)stored[i] - mean) / n;
        if (!(fabs(mean) < 0.02 * 0.05 && fabs(sqrt(square) / 0.02 - 1) < 0.1))
            fail_msg("%s: %s as %s: mean %g, deviation %g", isa, name_of(forms[f].dt), name_of(forms[f].want), mean,
                     sqrt(square));
        dummy(&w, forms[f], 8, 2);
        int same = 0;
        for (int i = 0; i < n; i++) same += before[i] == stored[i];
        assert_true(same < n / 4);
    }
    threads = had;
}
static void test_dummy_vectors(void **state) {
    (void)state;
    static struct weight w, g;
    struct err e = { 0 };
    struct program *const all[] = { &p };
    assert_true(kit_open(isa, threads));
    kit_forget();
    kit_weight(&w, "w", 16, 500, DTYPE_F16, 1);
    kit_weight(&g, "g", 500, 1, DTYPE_F16, 1);
    program_init(&p, kit_api, kit_be, 1, 1, 16);
    struct mat a = program_tmp(&p, DIM_ROWS, 1, 500), b = program_tmp(&p, DIM_ROWS, 1, 500);
    const struct norm_of of = { &g, NULL, NORM_RMS, 1e-5f };
    assert_int_equal(kit_api->dummy(kit_be, &g, 1, 0.1f, 3, &e), STATUS_INVALID); /* has no place yet */
    op_embed(&p, a, &w);
    op_norm(&p, "norm", b, a, &of);
    kit_load(all, 1);
    assert_int_equal(kit_api->dummy(kit_be, &g, 1, 0.1f, 3, &e), 0);
    if (!kit_cpu()) { /* its vectors lie on the device: NORM shows them elsewhere */
        program_fini(&p);
        kit_close();
        return;
    }
    const float *v = (const float *)(const void *)g.packed->p;
    double mean = 0, square = 0;
    for (int i = 0; i < 500; i++) mean += (double)v[i] / 500;
    for (int i = 0; i < 500; i++) square += ((double)v[i] - mean) * ((double)v[i] - mean) / 500;
    assert_true(fabs(mean - 1) < 0.02 && fabs(sqrt(square) - 0.1) < 0.015);
    assert_int_equal(kit_api->dummy(kit_be, &g, 1, 0, 3, &e), 0);
    for (int i = 0; i < 500; i++) assert_true(v[i] == 1);
    program_fini(&p);
    kit_close();
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_formats_are_those_of_ggml),
        cmocka_unit_test(test_numbers_of_each_format),
        cmocka_unit_test(test_what_is_quantised_is_never_quantised_again),
        cmocka_unit_test(test_blocks_become_plain_numbers),
        cmocka_unit_test(test_quantising_keeps_its_bounds),
        cmocka_unit_test(test_quantising_what_fits_and_what_is_no_number),
        cmocka_unit_test(test_columns_that_make_no_groups_keep_their_form),
        cmocka_unit_test(test_bytes_are_known_before),
        cmocka_unit_test(test_rows_from_anywhere),
        cmocka_unit_test(test_dummies),
        cmocka_unit_test(test_dummy_vectors),
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
