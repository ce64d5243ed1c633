/* Products of up to 64 rows, which a device may compute without unpacking its weights first: every form of weights, matrices
 * taller than a block, columns that are no whole units, shares of many columns, and what follows a product; against sums in
 * double. */
#include "kit.h"

static struct program p;
struct shape {
    int rows, live, in, out;
};
static void product_of(enum dtype dt, enum dtype want, struct shape of) {
    static struct weight w, b;
    kit_forget();
    assert_true(kit_open(NULL, 2));
    program_init(&p, kit_api, kit_be, of.rows, 1, 16);
    kit_weight(&w, "w", of.out, of.in, dt, 1);
    kit_weight(&b, "b", of.out, 1, DTYPE_F32, 1);
    w.want = want;
    struct mat x = program_tmp(&p, DIM_ROWS, of.rows, of.in), y = program_tmp(&p, DIM_ROWS, of.rows, of.out);
    program_keep(&p, x);
    program_keep(&p, y);
    op_linear(&p, "test", y, x, &w, &b, ACT_SILU);
    kit_load((struct program *[]){ &p }, 1);
    kit_link(&p, NULL);
    kit_input(&p, x, of.live);
    struct step s = kit_step(of.live, 0, 0);
    kit_run(&p, &s);
    /* What quantising to 8 bits, or a device's 16-bit inputs and weights, may lose of the terms' sizes. */
    const double most = kit_block(weight_form(&w)) > 1 && want == DTYPE_NONE ? 4e-3 : dt == DTYPE_BF16 ? 8e-3 : 1e-3;
    const float *in = kit_mat(&p, x), *out = kit_mat(&p, y);
    static double row[1 << 14];
    for (int r = 0; r < of.out; r++) {
        for (int c = 0; c < of.in; c++) row[c] = kit_at(&w, r, c);
        for (int i = 0; i < of.live; i++) {
            double sum = kit_at(&b, r, 0), size = fabs(sum) + 1e-3;
            for (int c = 0; c < of.in; c++) {
                sum += row[c] * (double)in[i * of.in + c];
                size += fabs(row[c] * (double)in[i * of.in + c]);
            }
            const double want_it = sum / (1 + exp(-sum)), got = (double)out[i * of.out + r];
            if (!(fabs(got - want_it) <= most * size))
                fail_msg("%s, %d rows of %d, %d to %d: row %d, column %d is %g, not %g of %g", dtype_info(dt)->name,
                         of.live, of.rows, of.in, of.out, i, r, got, want_it, size);
        }
    }
    kit_guard(&p, y, of.live);
    kit_fini(&p, true);
    kit_close();
}
static void every_form(void **state) {
    (void)state;
    static const enum dtype blocks[] = { DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1,
                                         DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K };
    for (int d = 0; d < 8; d++) {
        const bool small = kit_block(blocks[d]) == 32;
        product_of(blocks[d], DTYPE_NONE, (struct shape){ 16, 5, small ? 96 : 256, 19 });
        product_of(blocks[d], DTYPE_NONE, (struct shape){ 40, 17, small ? 160 : 512, 270 });
        product_of(blocks[d], DTYPE_NONE, (struct shape){ 64, 61, small ? 352 : 768, 35 });
    }
    product_of(DTYPE_F16, DTYPE_NONE, (struct shape){ 16, 13, 75, 300 });
    product_of(DTYPE_BF16, DTYPE_NONE, (struct shape){ 64, 9, 200, 33 });
}
static void shares_of_many_columns(void **state) {
    (void)state;
    product_of(DTYPE_Q4_0, DTYPE_NONE, (struct shape){ 64, 64, 4096, 24 });
    product_of(DTYPE_Q8_0, DTYPE_NONE, (struct shape){ 32, 20, 2080, 24 });
    product_of(DTYPE_F16, DTYPE_NONE, (struct shape){ 8, 8, 1500, 24 });
}

static void few_rows_of_more_columns_than_shared_memory_holds(void **state) {
    (void)state;
    product_of(DTYPE_Q8_0, DTYPE_NONE, (struct shape){ 4, 3, 1 << 14, 20 });
    product_of(DTYPE_F16, DTYPE_NONE, (struct shape){ 4, 4, 1 << 14, 5 });
}

/* ---- what follows: three matrices of three forms over one input, one of which turns and is cached; a gate; a residual ---- */
enum { LIVE = 37, D = 64, HEADS = 2, HD = 32, ROT = 16, KV = 48, FFN = 96 };
static struct weight q, k, v, gate, up, down;
static struct mat x, turned, kept_v, sum;
static void record(void) {
    struct mat key = program_tmp(&p, DIM_ROWS, LIVE, D), mixed = program_tmp(&p, DIM_ROWS, LIVE, D);
    struct mat g = program_tmp(&p, DIM_ROWS, LIVE, FFN), u = program_tmp(&p, DIM_ROWS, LIVE, FFN);
    struct mat h = program_tmp(&p, DIM_ROWS, LIVE, FFN), d = program_tmp(&p, DIM_ROWS, LIVE, D);
    struct mat keys = program_kv(&p, D, HD), values = program_kv(&p, D, HD);
    op_linear(&p, "q", turned, x, &q, NULL, ACT_NONE);
    op_linear(&p, "k", key, x, &k, NULL, ACT_NONE);
    op_linear(&p, "v", kept_v, x, &v, NULL, ACT_NONE);
    op_rope(&p, turned, (struct rope){ HD, ROT, 10000 });
    op_rope(&p, key, (struct rope){ HD, ROT, 10000 });
    op_kv_put(&p, keys, key, true);
    op_kv_put(&p, values, kept_v, false);
    op_attn(&p, mixed, turned, keys, values, (struct attn_of){ HEADS, HEADS, HD, 1 });
    op_add(&p, sum, mixed);
    op_linear(&p, "gate", g, x, &gate, NULL, ACT_NONE);
    op_linear(&p, "up", u, x, &up, NULL, ACT_NONE);
    op_gate(&p, h, g, u, ACT_SILU);
    op_linear(&p, "down", d, h, &down, NULL, ACT_NONE);
    op_add(&p, sum, d);
}
static void run(bool fused, float *out) {
    program_init(&p, kit_api, kit_be, LIVE, 1, KV);
    struct mat *const all[] = { &x, &turned, &kept_v, &sum };
    for (int i = 0; i < 4; i++) program_keep(&p, *all[i] = program_tmp(&p, DIM_ROWS, LIVE, D));
    record();
    if (fused) program_fuse(&p);
    kit_load((struct program *[]){ &p }, 1);
    kit_link(&p, NULL);
    kit_seed = 77;
    kit_input(&p, x, LIVE);
    kit_input(&p, sum, LIVE);
    struct step s = kit_step(LIVE, 0, 0);
    kit_run(&p, &s);
    for (int i = 1; i < 4; i++) memcpy(out + (i - 1) * LIVE * D, kit_mat(&p, *all[i]), sizeof *out * LIVE * D);
    kit_fini(&p, true);
}
static void what_follows_a_product(void **state) {
    (void)state;
    static float a[3 * LIVE * D], b[3 * LIVE * D];
    kit_forget();
    assert_true(kit_open(NULL, 2));
    kit_weight(&q, "q", D, D, DTYPE_Q8_0, 0.5);
    kit_weight(&k, "k", D, D, DTYPE_Q4_0, 0.5);
    kit_weight(&v, "v", D, D, DTYPE_Q4_1, 0.5);
    kit_weight(&gate, "gate", FFN, D, DTYPE_Q8_0, 0.5);
    kit_weight(&up, "up", FFN, D, DTYPE_Q8_0, 0.5);
    kit_weight(&down, "down", D, FFN, DTYPE_Q5_1, 0.5);
    run(true, a);
    run(false, b);
    const double off = kit_diff(a, b, 3 * LIVE * D);
    double size = 0;
    for (int i = 0; i < 3 * LIVE * D; i++) size = fmax(size, fabs((double)b[i]));
    if (!(size > 0.5) || !(off < 2e-2 * size)) fail_msg("off by %g of %g", off, size);
    kit_close();
}
int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_form), cmocka_unit_test(shares_of_many_columns),
                                        cmocka_unit_test(few_rows_of_more_columns_than_shared_memory_holds),
                                        cmocka_unit_test(what_follows_a_product) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
