/* Beams: rows of one step that share the KV rows of their prompt and interleave the rows behind it, told apart by masks.
 * They must give what as many plain sequences give. */
#include "compute/kit.h"

enum { D = 32, VOCAB = 61, LAYERS = 2, TAIL = 6, POOL = 1024, LONG = 400 };
struct shape {
    int hd, rot, heads, kv_heads, beams, prefix;
};
struct model {
    struct program p;
    struct mat logits;
};
static struct weight table, w[LAYERS][4];
static struct mat lin(struct program *p, struct mat x, struct weight *of) {
    struct mat y = program_tmp(p, DIM_ROWS, p->rows, of->rows);
    op_linear(p, "lin", y, x, of, NULL, ACT_NONE);
    return y;
}
static void weights(const struct shape *s) {
    kit_seed = (uint64_t)(s->hd * 1000 + s->beams);
    kit_weight(&table, "table", VOCAB, D, DTYPE_F32, 1);
    for (int i = 0; i < LAYERS; i++)
        for (int k = 0; k < 4; k++) {
            const int cols = (k == 0 || k == 3 ? s->heads : s->kv_heads) * s->hd;
            kit_weight(&w[i][k], "w", k < 3 ? cols : D, k < 3 ? D : cols, DTYPE_F32, k < 3 ? 0.5 : 0.3);
        }
}
static void record(struct model *m, const struct shape *s, int rows, enum dtype kv, void *pool) {
    struct program *p = &m->p;
    program_init(p, kit_api, kit_be, rows, rows, POOL);
    p->kv = kv;
    struct mat x = program_tmp(p, DIM_ROWS, rows, D), last = program_tmp(p, DIM_PICKS, rows, D);
    op_embed(p, x, &table);
    for (p->layer = 0; p->layer < LAYERS; p->layer++) {
        struct weight *v = w[p->layer];
        struct mat q = lin(p, x, &v[0]), k = lin(p, x, &v[1]), y = program_tmp(p, DIM_ROWS, rows, s->heads * s->hd);
        struct mat kc = program_kv(p, k.cols, s->hd), vc = program_kv(p, k.cols, s->hd);
        op_rope(p, q, (struct rope){ s->hd, s->rot, 10000 });
        op_rope(p, k, (struct rope){ s->hd, s->rot, 10000 });
        op_kv_put(p, kc, k, true);
        op_kv_put(p, vc, lin(p, x, &v[2]), false);
        op_attn(p, y, q, kc, vc, (struct attn_of){ s->heads, s->kv_heads, s->hd, 1 });
        op_add(p, x, lin(p, y, &v[3]));
    }
    p->layer = -1;
    op_pick(p, last, x);
    m->logits = program_tmp(p, DIM_PICKS, rows, VOCAB);
    op_linear(p, "head", m->logits, last, &table, NULL, ACT_NONE);
    program_keep(p, m->logits);
    op_next(p, m->logits);
    program_fuse(p);
    kit_load((struct program *[]){ p }, 1);
    kit_link(p, pool);
}
/* Logits behind the last of n tokens of a plain sequence, which starts at KV row kv. */
static void plain(struct model *m, const int *id, int n, int kv, float *out) {
    for (int at = 0, some; at < n; at += some) {
        some = n - at < m->p.rows ? n - at : m->p.rows;
        struct step s = { .n = { 0 } };
        step_rows(&s, id + at, some, at, kv, at + some == n);
        kit_run(&m->p, &s);
    }
    if (out) memcpy(out, kit_mat(&m->p, m->logits), sizeof *out * VOCAB);
}
static void see(struct kv_mask *m, int row) { m->bits[(row - m->from) / 32] |= (uint32_t)1 << (row - m->from) % 32; }

/* Every step each beam goes on from some beam of the step before. One row of each step's place stays empty (NaN). */
static void beams_case(const char *isa, int threads, struct shape of, enum dtype kv) {
    const int n = of.beams, P = of.prefix, base = 5;
    static int path[BEAMS_MAX][LONG], next[BEAMS_MAX][LONG];
    static float want[BEAMS_MAX][VOCAB];
    struct model pre, one;
    kit_forget();
    if (!kit_open(isa, threads)) return;
    weights(&of);
    void *pool = NULL;
    record(&pre, &of, 64, kv, NULL);
    pool = pre.p.base[REGION_KV];
    record(&one, &of, n, kv, pool);
    for (int t = 0; t < P; t++) path[0][t] = t * 7 % VOCAB;
    for (int b = 1; b < n; b++) memcpy(path[b], path[0], sizeof path[b]);
    plain(&pre, path[0], P, base, NULL);
    struct step s = { .n = { 0 } };
    struct kv_mask before[BEAMS_MAX];
    for (int b = 0; b < n; b++) s.mask[b].from = P;
    for (int j = 0; j < TAIL; j++) {
        memcpy(before, s.mask, sizeof before);
        memcpy(next, path, sizeof next);
        s.n[DIM_ROWS] = s.n[DIM_PICKS] = n;
        for (int b = 0; b < n; b++) {
            const int from = (int)(fabs(kit_random()) * n) % n, at = P + j * (n + 1) + b;
            memcpy(path[b], next[from], sizeof path[b]);
            path[b][P + j] = (17 * j + 5 * b + 3) % VOCAB;
            s.mask[b] = before[from];
            see(&s.mask[b], at);
            s.row[b] = (struct step_row){ path[b][P + j], P + j, base, at, b + 1 };
            s.pick[b] = b;
            s.sampling[b].candidates = 1;
        }
        kit_run(&one.p, &s);
    }
    assert_int_equal(s.row[n - 1].id, path[n - 1][P + TAIL - 1]); /* candidates: the step was not moved on */
    memcpy(want, kit_mat(&one.p, one.logits), sizeof(float) * (size_t)(n * VOCAB));
    double size = 0, off = 0;
    for (int b = 0; b < n; b++) {
        float got[VOCAB];
        plain(&pre, path[b], P + TAIL, base, got);
        for (int v = 0; v < VOCAB; v++) size = fmax(size, fabs((double)got[v]));
        off = fmax(off, kit_diff(got, want[b], VOCAB));
    }
    if (!(size > 0.5) || !(off < (kv == DTYPE_F16 ? 1e-3 : 5e-6) * size))
        fail_msg("%s, %d beams after %d, head_dim %d, %s: off by %g of %g", isa, n, P, of.hd, dtype_info(kv)->name, off,
                 size);
    kit_fini(&one.p, false);
    kit_fini(&pre.p, true);
    kit_close();
}
static void test_beams_equal_plain_sequences(void **state) {
    (void)state;
    static const struct shape shapes[] = {
        { 64, 64, 9, 3, 5, 37 },   { 64, 64, 4, 4, 3, 300 }, /* few rows, many keys: in chunks */
        { 80, 20, 2, 2, 5, 100 },  { 80, 20, 2, 2, 4, 230 }, { 128, 64, 2, 2, 5, 64 },
        { 128, 64, 2, 1, 2, 256 }, { 256, 64, 2, 2, 5, 70 }, { 256, 64, 2, 2, 4, 210 },
        { 256, 64, 1, 1, 1, 200 }, { 64, 32, 2, 1, 16, 90 }, { 24, 8, 2, 1, 3, 200 },
    };
    for (int k = 0; k < KIT_ISAS; k++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i += kit_times(20) == 20 ? 1 : 3) {
            beams_case(kit_isas[k], 1 + (int)i % 3, shapes[i], DTYPE_F32);
            beams_case(kit_isas[k], 1 + (int)i % 3, shapes[i], DTYPE_F16);
        }
}

/* ---- what else follows the row's place rather than its position ---- */
static const struct shape small = { 16, 16, 2, 2, 3, 20 };
static void begin(struct model *m, int rows) {
    kit_forget();
    assert_true(kit_open(NULL, 2));
    weights(&small);
    record(m, &small, rows, DTYPE_F32, NULL);
}
static void end(struct model *m) {
    kit_fini(&m->p, true);
    kit_close();
}
static void test_a_plain_row_moves_on_in_place_and_position(void **state) {
    (void)state;
    struct model m;
    begin(&m, 8);
    struct step s = kit_step(8, 0, 3);
    kit_run(&m.p, &s);
    assert_int_equal(s.row[0].pos, 8);
    assert_int_equal(s.row[0].at, 8);
    s.row[0].at = 12;                                /* four rows of the pool were left out */
    for (int t = 8; t < 12; t++) see(&s.mask[1], t); /* unused: mask 0 */
    memset(kit_kv(&m.p), 0, m.p.need[REGION_KV]);
    kit_run(&m.p, &s);
    assert_int_equal(s.row[0].pos, 9);
    assert_int_equal(s.row[0].at, 13);
    end(&m);
}
static void test_costs_follow_the_place(void **state) {
    (void)state;
    struct model m;
    struct span span[64];
    begin(&m, 2);
    for (int at = 7; at < 200; at += 96) {
        struct watch watch = { .span = span, .cap = 64 };
        struct step s = kit_step(1, 3, 0);
        struct err e = { 0 };
        s.row[0].at = at;
        memset(kit_kv(&m.p), 0, m.p.need[REGION_KV]);
        assert_int_equal(kit_replay(&m.p, &s, &watch, &e), 0);
        for (int i = 0; i < watch.n; i++)
            if (span[i].call->op == OP_ATTN) {
                assert_true(span[i].flops == 4.0 * 32 * (at + 1));
                assert_true(span[i].bytes == 4.0 * (2 * 32 + 2 * 32 * (at + 1)));
            }
    }
    end(&m);
}
static void test_the_penalty_sees_what_the_mask_shows(void **state) {
    (void)state;
    struct model m;
    begin(&m, 4);
    static const int id[4] = { 1, 2, 3, 4 };
    struct step s = { .n = { 0 } };
    step_rows(&s, id, 4, 0, 0, false);
    kit_run(&m.p, &s);
    for (int hidden = 0; hidden < 4; hidden++) {
        struct step t = { .n = { 0 } };
        static const int five[1] = { 5 };
        step_rows(&t, five, 1, 4, 0, true);
        t.row[0].mask = 2;
        t.row[0].at = 6; /* two rows further than its position */
        t.mask[1].from = 1;
        for (int r = 1; r <= 6; r++)
            if (r != hidden && r != 4 && r != 5) see(&t.mask[1], r);
        t.sampling[0] = (struct sampling){ .candidates = CANDIDATES_MAX, .limit = 30, .repetition_penalty = 1e6f };
        kit_run(&m.p, &t);
        for (int c = 0; c < 30; c++) { /* all there are; what was seen has a million times its log-probability */
            const int token = t.candidate[0][c].id;
            const bool seen = token >= 1 && token <= 5 && (!hidden || token != hidden + 1);
            assert_int_equal(t.candidate[0][c].logp < -1000, seen);
        }
        assert_int_equal(t.candidate[0][30].id, -1);
    }
    end(&m);
}
static void test_a_mask_has_an_end(void **state) {
    (void)state;
    struct program p;
    struct err e = { 0 };
    kit_forget();
    assert_true(kit_open(NULL, 1));
    weights(&small);
    program_init(&p, kit_api, kit_be, 1, 1, 9000);
    op_embed(&p, program_tmp(&p, DIM_ROWS, 1, D), &table);
    kit_load((struct program *[]){ &p }, 1);
    kit_link(&p, NULL);
    for (int from = 0; from < 20; from++) { /* bit 32 * MASK_WORDS - 1 is the last */
        struct step s = kit_step(1, 32 * MASK_WORDS + 9, 0);
        s.row[0].mask = BEAMS_MAX;
        s.mask[BEAMS_MAX - 1].from = from;
        assert_int_equal(kit_replay(&p, &s, NULL, &e), from < 10 ? STATUS_INVALID : 0);
        e = (struct err){ 0 };
    }
    kit_fini(&p, true);
    kit_close();
}
/* Whatever stands in a step block, nothing outside the program's memory is touched (ASan looks) and replay comes back. */
static void test_hostile_steps(void **state) {
    (void)state;
    static const int odd[] = { 0,   1,   2,    15,   16,   17,   31, 60,        61,
                               191, 192, 1023, 1024, 8191, 8192, -1, INT32_MAX, INT32_MIN };
    const int odds = sizeof odd / sizeof *odd;
    struct model m;
    int ran = 0;
    begin(&m, 4);
    memset(kit_kv(&m.p), 0, m.p.need[REGION_KV]);
    for (int i = 0; i < kit_times(4000); i++) {
        struct step s = { .n = { 0 } };
        struct err e = { 0 };
        int *const n = s.n;
        n[DIM_ROWS] = 1 + i % 4;
        for (int r = 0; r < n[DIM_ROWS]; r++) {
            int *const field[] = { &s.row[r].id,
                                   &s.row[r].pos,
                                   &s.row[r].kv,
                                   &s.row[r].at,
                                   &s.row[r].mask,
                                   &s.sampling[r].limit,
                                   &s.sampling[r].candidates,
                                   &s.sampling[r].top_k };
            for (int f = 0; f < 8; f++) *field[f] = (int)(fabs(kit_random()) * 8);
            for (int f = 0; f < 8; f++)
                if (kit_random() > 0.8) *field[f] = odd[(int)(fabs(kit_random()) * odds) % odds];
            s.pick[n[DIM_PICKS]++] = r;
        }
        for (int k = 0; k < BEAMS_MAX; k++) {
            s.mask[k].from = kit_random() > 0.8 ? odd[(int)(fabs(kit_random()) * odds) % odds] : 0;
            for (int b = 0; b < MASK_WORDS; b++) s.mask[k].bits[b] = kit_random() > 0 ? 0x55555555 : 0xffffffff;
        }
        ran += !kit_replay(&m.p, &s, NULL, &e);
    }
    assert_in_range(ran, kit_times(100), kit_times(3900)); /* some did, some did not */
    end(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beams_equal_plain_sequences),
        cmocka_unit_test(test_a_plain_row_moves_on_in_place_and_position),
        cmocka_unit_test(test_costs_follow_the_place),
        cmocka_unit_test(test_the_penalty_sees_what_the_mask_shows),
        cmocka_unit_test(test_a_mask_has_an_end),
        cmocka_unit_test(test_hostile_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
