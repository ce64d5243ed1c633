/* NEXT: greedy and sampled choice, against what the reference framework's processors define. */
#include "compute/kit.h"

enum { MOST = 49157, KV = 64 };
static struct program p;
static struct mat logits;
static struct weight table;
static int vocab;

static void begin(const char *isa, int threads, int n, int picks) {
    vocab = n;
    kit_forget();
    assert_true(kit_open(isa, threads));
    kit_weight(&table, "embed", n, 2, DTYPE_F16, 1);
    program_init(&p, &backend_cpu, kit_be, 16, picks, KV);
    op_embed(&p, program_tmp(&p, DIM_ROWS, 16, 2), &table);
    logits = program_tmp(&p, DIM_PICKS, picks, n);
    program_keep(&p, logits);
    op_next(&p, logits);
    kit_load((struct program *[]){ &p }, 1);
    kit_link(&p, NULL);
    kit_seed = 99;
    kit_input(&p, logits, picks);
    for (int i = 0; i < picks * n; i++) program_at(&p, logits)[i] *= 4;
}
static void end(void) {
    kit_fini(&p, true);
    kit_close();
}
static int choose(const int *id, int n, struct sampling *s) { /* one step; s->rng moves on */
    struct step step = { .n = { 0 } };
    struct err e = { 0 };
    step_rows(&step, id, n, 0, 0, true);
    step.sampling[0] = *s;
    if (program_replay(&p, &step, NULL, &e)) fail_msg("%s", e.text);
    assert_int_equal(step.n[DIM_ROWS], 1);
    assert_int_equal(step.row[0].id, step.ring[0]);
    assert_int_equal(step.row[0].pos, n);
    *s = step.sampling[0];
    return step.ring[0];
}
static const int one[1] = { 0 };

static void test_greedy(void **state) {
    (void)state;
    for (int k = 0; k < KIT_ISAS; k++)
        for (int n = 3; n < 300; n = n * 2 + 1) {
            if (!kit_open(kit_isas[k], 1)) continue;
            kit_close();
            begin(kit_isas[k], 2, n, 1);
            float *l = program_at(&p, logits);
            struct sampling s = { 0 };
            int best = 0;
            for (int i = 0; i < n; i++) best = l[i] > l[best] ? i : best;
            assert_int_equal(choose(one, 1, &s), best);
            l[n - 1] = l[n / 2] = 100; /* a tie: the first wins */
            assert_int_equal(choose(one, 1, &s), n / 2);
            s.ban[s.banned++] = n / 2;
            assert_int_equal(choose(one, 1, &s), n - 1);
            s.ban[s.banned++] = n + 5; /* no such token */
            s.ban[s.banned++] = -1;
            assert_int_equal(choose(one, 1, &s), n - 1);
            l[0] = 100;
            assert_int_equal(choose(one, 1, &s), 0);
            l[0] = 0;
            s.temperature = 1;
            assert_int_equal(choose(one, 1, &s), n - 1);
            end();
        }
}
static void test_repetition_penalty(void **state) {
    (void)state;
    begin(NULL, 1, 40, 1);
    float *l = program_at(&p, logits);
    static const int seen[6] = { 7, 9, 7, 7, 30, 0 };
    for (int i = 0; i < 40; i++) l[i] = -50;
    l[7] = 10;
    l[5] = 6;
    struct sampling s = { .repetition_penalty = 1.5f };
    assert_int_equal(choose(seen, 6, &s), 7); /* 10 / 1.5 = 6.67: once, however often it was there */
    s.repetition_penalty = 2;
    assert_int_equal(choose(seen, 6, &s), 5);
    assert_int_equal(choose(one, 1, &s), 7); /* the sequence is what counts, not what the pool held before */
    l[7] = l[5] = -50;
    l[9] = -1; /* negative logits are multiplied */
    l[11] = -1.9f;
    assert_int_equal(choose(seen, 6, &s), 11);
    l[11] = -2.1f;
    assert_int_equal(choose(seen, 6, &s), 9);
    assert_true(l[9] == -1); /* the logits themselves stay as they are */
    end();
}

/* ---- what may be drawn, and how often ---- */
static double weight_of[MOST];
static int order[MOST];
static int by_weight(const void *a, const void *b) {
    const double x = weight_of[*(const int *)a], y = weight_of[*(const int *)b];
    return x > y ? -1 : x < y ? 1 : *(const int *)a - *(const int *)b;
}
/* Temperature, top-k (the k-th logit is the bar), softmax, top-p (mass before it below p), softmax again. */
static void expect(const struct sampling *s) {
    const float *l = program_at(&p, logits);
    double sum = 0, before = 0, kept = 0;
    int top = 0;
    for (int i = 0; i < vocab; i++) top = l[i] > l[top] ? i : top;
    for (int i = 0; i < vocab; i++) {
        weight_of[i] = exp((double)(l[i] - l[top]) / (double)s->temperature);
        order[i] = i;
    }
    qsort(order, (size_t)vocab, sizeof *order, by_weight);
    const double bar = s->top_k > 0 && s->top_k < vocab ? weight_of[order[s->top_k - 1]] : 0;
    for (int i = 0; i < vocab; i++) {
        if (weight_of[i] < bar) weight_of[i] = 0;
        sum += weight_of[i];
    }
    for (int i = 0; i < vocab; i++) {
        const double w = weight_of[order[i]];
        if (s->top_p > 0 && s->top_p < 1 && i > 0 && before >= (double)s->top_p * sum) weight_of[order[i]] = 0;
        before += w;
        kept += weight_of[order[i]];
    }
    for (int i = 0; i < vocab; i++) weight_of[i] /= kept;
}
static void draws(struct sampling s, int n) {
    static int count[MOST];
    double chi = 0;
    int cells = 0;
    expect(&s);
    memset(count, 0, sizeof count);
    for (int i = 0; i < n; i++) count[choose(one, 1, &s)]++;
    double rest = 0;
    int rest_count = 0;
    for (int i = 0; i < vocab; i++) {
        if (count[i] && weight_of[i] == 0) fail_msg("%d was drawn, but may not be", i);
        if (weight_of[i] * n < 8) { /* too rare for a cell of its own */
            rest += weight_of[i];
            rest_count += count[i];
            continue;
        }
        chi += (count[i] - weight_of[i] * n) * (count[i] - weight_of[i] * n) / (weight_of[i] * n);
        cells++;
    }
    if (rest * n >= 8) {
        chi += (rest_count - rest * n) * (rest_count - rest * n) / (rest * n);
        cells++;
    }
    if (chi > cells + 6 * sqrt(2.0 * cells)) fail_msg("chi-square %g over %d cells", chi, cells);
}
static void test_draws_follow_the_distribution(void **state) {
    (void)state;
    begin(NULL, 1, 50, 1);
    program_at(&p, logits)[20] = program_at(&p, logits)[21]; /* a tie */
    draws((struct sampling){ .temperature = 1, .rng = 1 }, 20000);
    draws((struct sampling){ .temperature = 0.5f, .rng = 2 }, 20000);
    draws((struct sampling){ .temperature = 3, .rng = 3 }, 20000);
    draws((struct sampling){ .temperature = 1, .top_k = 1, .rng = 4 }, 1000);
    draws((struct sampling){ .temperature = 2, .top_k = 7, .rng = 5 }, 20000);
    draws((struct sampling){ .temperature = 2, .top_k = 50, .rng = 5 }, 20000);
    draws((struct sampling){ .temperature = 2, .top_p = 0.8f, .rng = 6 }, 20000);
    draws((struct sampling){ .temperature = 1, .top_p = 1e-9f, .rng = 7 }, 1000); /* at least one stays */
    draws((struct sampling){ .temperature = 3, .top_k = 20, .top_p = 0.7f, .rng = 8 }, 20000);
    for (int i = 0; i < 50; i++) program_at(&p, logits)[i] = i == 30 ? 0 : -5; /* a tail far below that still weighs */
    draws((struct sampling){ .temperature = 1, .top_p = 0.95f, .rng = 9 }, 20000);
    draws((struct sampling){ .temperature = 1, .top_k = 40, .rng = 9 }, 20000);
    for (int i = 0; i < 50; i++) program_at(&p, logits)[i] = (float)i / 10 - 40;
    draws((struct sampling){ .temperature = 0.1f, .rng = 10 }, 20000);
    draws((struct sampling){ .temperature = 0.1f, .top_p = 0.7f, .rng = 10 }, 20000);
    end();
}
static void test_ties_with_the_kth_stay(void **state) {
    (void)state;
    begin(NULL, 1, 50, 1);
    for (int i = 0; i < 50; i++) program_at(&p, logits)[i] = i < 10 ? 2 : i < 20 ? 1 : -1;
    draws((struct sampling){ .temperature = 1, .top_k = 12, .rng = 1 }, 20000);
    end();
}
static void test_a_large_vocabulary(void **state) {
    (void)state;
    begin(NULL, 1, MOST, 1);
    draws((struct sampling){ .temperature = 0.7f, .top_p = 0.9f, .rng = 11 }, 400);
    draws((struct sampling){ .temperature = 0.7f, .top_k = 40, .rng = 12 }, 2000);
    for (int i = 0; i < MOST; i++) program_at(&p, logits)[i] *= 0.001f; /* nearly flat: everything has to be sorted */
    draws((struct sampling){ .temperature = 1, .top_p = 0.5f, .rng = 13 }, 20);
    for (int i = 0; i < MOST; i++) program_at(&p, logits)[i] *= 40000; /* and one that leaves a handful */
    draws((struct sampling){ .temperature = 1, .top_p = 0.95f, .rng = 14 }, 200);
    end();
}
static void test_a_seed_gives_the_same_tokens_everywhere(void **state) {
    (void)state;
    int first[64], n = 0;
    for (int k = 0; k < KIT_ISAS; k++) {
        if (!kit_open(kit_isas[k], 1)) continue;
        kit_close();
        begin(kit_isas[k], 1 + k % 3, 203, 1);
        struct sampling s = { .temperature = 1, .top_p = 0.95f, .rng = 1234 },
                        other = { .temperature = 1, .rng = 1235 };
        int same = 0;
        for (int i = 0; i < 64; i++) {
            const int id = choose(one, 1, &s);
            if (!n) first[i] = id;
            assert_int_equal(id, first[i]);
            same += id == choose(one, 1, &other);
        }
        assert_true(same < 32);
        n++;
        end();
    }
}
static void test_each_pick_has_its_own_sampling(void **state) {
    (void)state;
    begin(NULL, 2, 203, 3);
    float *l = program_at(&p, logits), saved[3][203];
    memcpy(saved, l, sizeof saved);
    struct sampling s[3] = { { .temperature = 1, .rng = 5 },
                             { .banned = 1, .ban = { 0 } },
                             { .temperature = 2, .top_k = 9, .rng = 6 } };
    struct step step = { .n = { 0 } };
    static const int id[3] = { 1, 2, 3 };
    for (int i = 0; i < 3; i++) step_rows(&step, id, i + 1, 0, 20 * i, true);
    memcpy(step.sampling, s, sizeof s);
    kit_run(&p, &step);
    assert_int_equal(step.n[DIM_ROWS], 3);
    assert_int_equal(step.made, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(step.row[i].kv, 20 * i);
        assert_int_equal(step.row[i].pos, i + 1);
        assert_int_equal(step.pick[i], i);
        memcpy(l, saved[i], sizeof saved[i]);
        assert_int_equal(step.row[i].id, choose(one, 1, &s[i]));
        assert_true(step.sampling[i].rng == s[i].rng);
    }
    end();
}
static void test_the_ring_wraps(void **state) {
    (void)state;
    begin(NULL, 1, 40, 1);
    struct step s = kit_step(1, 0, 0);
    for (int i = 0; i < RING + 10; i++) {
        s.row[0].pos = 0;
        memset(program_at(&p, logits), 0, sizeof(float) * 40);
        program_at(&p, logits)[i % 40] = 1;
        kit_run(&p, &s);
        assert_int_equal(s.ring[i % RING], i % 40);
    }
    assert_int_equal(s.made, RING + 10);
    end();
}
static void test_no_choice_is_an_error(void **state) {
    (void)state;
    static const float odd[] = { NAN, INFINITY, -INFINITY };
    for (int at = 0; at < 7; at++)
        for (int k = 0; k < 3; k++) {
            begin(NULL, 1, 7, 1);
            struct step s = kit_step(1, 0, 0);
            struct err e = { 0 };
            program_at(&p, logits)[at] = odd[k];
            assert_int_equal(program_replay(&p, &s, NULL, &e), STATUS_INVALID);
            assert_non_null(strstr(e.text, "not finite"));
            assert_int_equal(s.made, 0);
            end();
        }
    begin(NULL, 1, 7, 1);
    struct step s = kit_step(1, 0, 0);
    struct err e = { 0 };
    s.sampling[0] = (struct sampling){ .banned = 7, .ban = { 0, 1, 2, 3, 4, 5, 6 } };
    assert_int_not_equal(program_replay(&p, &s, NULL, &e), 0);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_repetition_penalty),
        cmocka_unit_test(test_draws_follow_the_distribution),
        cmocka_unit_test(test_ties_with_the_kth_stay),
        cmocka_unit_test(test_a_large_vocabulary),
        cmocka_unit_test(test_a_seed_gives_the_same_tokens_everywhere),
        cmocka_unit_test(test_each_pick_has_its_own_sampling),
        cmocka_unit_test(test_the_ring_wraps),
        cmocka_unit_test(test_no_choice_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
