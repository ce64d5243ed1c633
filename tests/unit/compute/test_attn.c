/* Attention of prompts: tiles of 64 queries that a device may take at once, beside rows that it may not, over a cache whose
 * other rows are NaN; against sums in double. */
#include "kit.h"

enum { POOL = 400 };
struct part { /* of a step: n rows of one sequence from position at on; masked: every third of the keys is hidden */
    int n, at, kv;
    bool masked;
};
static struct program p;
static struct mat q, k, v, y;
static int heads, kv_heads, hd;
static float held[2][POOL][512]; /* keys and values as the cache holds them */

static void set_up(int rows, enum dtype kv) {
    const int kd = kv_heads * hd;
    assert_true(kit_open(NULL, 2));
    program_init(&p, kit_api, kit_be, rows, rows, POOL);
    p.kv = kv;
    struct mat *const all[] = { &q, &k, &v, &y };
    for (int i = 0; i < 4; i++) {
        *all[i] = program_tmp(&p, DIM_ROWS, rows, i % 3 ? kd : heads * hd);
        program_keep(&p, *all[i]);
    }
    const struct mat kc = program_kv(&p, kd, hd), vc = program_kv(&p, kd, hd);
    op_kv_put(&p, kc, k, true);
    op_kv_put(&p, vc, v, false);
    op_attn(&p, y, q, kc, vc, (struct attn_of){ heads, kv_heads, hd, 1 });
    struct program *const one[] = { &p };
    kit_load(one, 1);
    kit_link(&p, NULL);
}
static int fill(struct step *s, const struct part *part, int parts) {
    const int id[ROWS_MAX] = { 0 };
    memset(s, 0, sizeof *s);
    for (int i = 0, from = 0; i < parts; from += part[i++].n) {
        step_rows(s, id, part[i].n, part[i].at, part[i].kv, false);
        for (int r = from; part[i].masked && r < from + part[i].n; r++) s->row[r].mask = 1;
    }
    for (int w = 0; w < MASK_WORDS; w++) s->mask[0].bits[w] = 0xb6db6db6u; /* bits 0, 3, 6 ... of every word are 0 */
    s->mask[0].from = 5;
    return s->n[DIM_ROWS];
}
static bool sees(const struct part *part, int t) { return !part->masked || t < 5 || (t - 5) % 32 % 3; }
/* A head's numbers as a cache gives them back; int8: one f16 scale, 127 steps each way. */
static void hold(const float *x, float *to, enum dtype kv) {
    float most = 0;
    for (int d = 0; d < hd; d++) most = fmaxf(most, fabsf(x[d]));
    const float scale = (float)(_Float16)(most / 127);
    for (int d = 0; d < hd; d++)
        to[d] = kv == DTYPE_F16    ? (float)(_Float16)x[d]
                : kv == DTYPE_Q8_0 ? scale * fminf(fmaxf(rintf(x[d] / scale), -127), 127)
                                   : x[d];
}
static void run(struct step *s, enum dtype kv) {
    const int kd = kv_heads * hd, n = s->n[DIM_ROWS];
    kit_input(&p, q, n);
    kit_input(&p, k, n);
    kit_input(&p, v, n);
    for (int i = 0; i < n; i++)
        for (int h = 0; h < 2 * kv_heads; h++)
            hold(kit_mat(&p, h < kv_heads ? k : v) + i * kd + h % kv_heads * hd,
                 held[h / kv_heads][s->row[i].kv + s->row[i].at] + h % kv_heads * hd, kv);
    kit_run(&p, s);
}
static double worst_of(const struct part *part, int row, int r, int h) {
    const int kh = h / (heads / kv_heads) * hd;
    const float *x = kit_mat(&p, q) + (row * heads + h) * hd, *got = kit_mat(&p, y) + (row * heads + h) * hd;
    double want[256] = { 0 }, sum = 0, worst = 0;
    for (int t = 0; t <= part->at + r; t++) {
        double dot = 0;
        for (int d = 0; d < hd; d++) dot += (double)x[d] * (double)held[0][part->kv + t][kh + d];
        const double w = sees(part, t) ? exp(dot / sqrt(hd)) : 0;
        sum += w;
        for (int d = 0; d < hd; d++) want[d] += w * (double)held[1][part->kv + t][kh + d];
    }
    for (int d = 0; d < hd; d++) {
        const double off = fabs(want[d] / sum - (double)got[d]);
        if (!(off <= worst)) worst = off;
    }
    return worst;
}
/* What stands before the parts is put first, in steps of no more than `bucket` rows. */
static void attention_of(const struct part *part, int parts, enum dtype kv) {
    static struct step s;
    int rows = 0;
    for (int i = 0; i < parts; i++) rows += part[i].n;
    set_up(rows, kv);
    for (int i = 0; i < parts; i++)
        for (int at = 0; at < part[i].at;) {
            const int left = part[i].at - at, n = left < rows ? left : rows;
            fill(&s, &(struct part){ n, at, part[i].kv, false }, 1);
            run(&s, kv);
            at += n;
        }
    fill(&s, part, parts);
    run(&s, kv);
    /* A device rounds queries and weights of whole tiles to f16: half an ulp of numbers below 1, each way. */
    const double most = !kit_cpu() && kv == DTYPE_F16 && rows > 64 ? 5e-4 : kv == DTYPE_Q8_0 ? 2e-4 : 3e-6;
    for (int i = 0, row = 0; i < parts; i++)
        for (int r = 0; r < part[i].n; r++, row++)
            for (int h = 0; h < heads; h++) {
                const double worst = worst_of(&part[i], row, r, h);
                if (!(worst < most))
                    fail_msg("head_dim %d, %d/%d heads, row %d of part %d (%d after %d), head %d: off by %g", hd, heads,
                             kv_heads, r, i, part[i].n, part[i].at, h, worst);
            }
    kit_guard(&p, y, rows);
    kit_fini(&p, true);
    kit_close();
}
static void shape(int dim, int all, int kv) {
    hd = dim;
    heads = all;
    kv_heads = kv;
}
static const int dims[] = { 64, 88, 128, 256, 80 }; /* the last has no tiles of its own */

static void a_prompt(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        shape(dims[i], 2, 1);
        attention_of(&(struct part){ 65, 0, 3, false }, 1, DTYPE_F16);
        attention_of(&(struct part){ 130, 0, 0, false }, 1, DTYPE_F16);
    }
}
static void a_prompt_that_goes_on(void **state) { /* from the middle of a tile of keys, up to the pool's end */
    (void)state;
    for (int i = 0; i < 5; i++) {
        shape(dims[i], 2, 2);
        attention_of(&(struct part){ 70, 63, POOL - 133, false }, 1, DTYPE_F16);
        attention_of(&(struct part){ 128, 33, 16, false }, 1, DTYPE_F16);
    }
}
static void prompts_of_a_batch(void **state) { /* tiles of one sequence, of two, and with masks */
    (void)state;
    const struct part part[] = {
        { 70, 0, 0, false }, { 3, 20, 80, false }, { 75, 10, 110, true }, { 66, 5, 200, false }
    };
    for (int i = 0; i < 5; i++) {
        shape(dims[i], 4, 2);
        attention_of(part, 4, DTYPE_F16);
    }
}
static void other_caches_take_the_general_way(void **state) {
    (void)state;
    shape(64, 2, 1);
    attention_of(&(struct part){ 130, 7, 0, false }, 1, DTYPE_F32);
}
static void a_cache_of_int8(void **state) { /* where there is one; a number between two steps may fall either way */
    (void)state;
    if (!kit_api->kv(DTYPE_Q8_0)) return;
    for (int i = 0; i < 5; i++) {
        shape(dims[i], 4, 2);
        attention_of(&(struct part){ 3, 100, 17, false }, 1, DTYPE_Q8_0);
    }
    shape(16, 3, 1); /* more scales than blocks of 32 */
    attention_of(&(struct part){ 70, 40, POOL - 110, false }, 1, DTYPE_Q8_0);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt),           cmocka_unit_test(a_prompt_that_goes_on),
        cmocka_unit_test(prompts_of_a_batch), cmocka_unit_test(other_caches_take_the_general_way),
        cmocka_unit_test(a_cache_of_int8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
