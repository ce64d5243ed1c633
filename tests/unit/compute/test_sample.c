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
    program_init(&p, kit_api, kit_be, 16, picks, KV);
    op_embed(&p, program_tmp(&p, DIM_ROWS, 16, 2), &table);
    logits = program_tmp(&p, DIM_PICKS, picks, n);
    program_keep(&p, logits);
    op_next(&p, logits);
    kit_load((struct program *[]){ &p }, 1);
    kit_link(&p, NULL);
    kit_seed = 99;
    kit_input(&p, logits, picks);
    for (int i = 0; i < picks * n; i++) kit_mat(&p, logits)[i] *= 4;
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
    if (kit_replay(&p, &step, NULL, &e)) fail_msg("%s", e.text);
    assert_int_equal(step.n[DIM_ROWS], 1);
    assert_int_equal(step.row[0].id, step.ring[0]);
    assert_int_equal(step.row[0].pos, n);
    assert_int_equal(step.row[0].at, n);
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
            float *l = kit_mat(&p, logits);
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
    float *l = kit_mat(&p, logits);
    static const int seen[6] = { 7, 9, 7, 7, 30, 0 };
    for (int i = 0; i < 40; i++) l[i] = -50;
    l[7] = 10;
    l[5] = 6;
    struct sampling s = { .repetition_penalty = 1.5f };
    assert_int_equal(choose(seen, 6, &s), 7); /* 10 / 1.5 = 6.67: once, however often it was there */
    s.repetition_penalty = 2;
    assert_int_equal(choose(seen, 6, &s), 5);
    assert_int_equal(choose(one, 1, &s), 7); /* the sequence is what counts, not what the pool held before */
    s.penal_from = 4;                        /* 7 stands in row 0, which always counts */
    assert_int_equal(choose(seen, 6, &s), 5);
    l[9] = 11;
    assert_int_equal(choose(seen, 6, &s), 9); /* its row lies before */
    s.penal_from = 1;
    assert_int_equal(choose(seen, 6, &s), 5);
    s.penal_from = 0;
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
static double shift_of[MOST];
static int by_shift(const void *a, const void *b) {
    const double x = shift_of[*(const int *)a], y = shift_of[*(const int *)b];
    return x < y ? -1 : x > y ? 1 : *(const int *)a - *(const int *)b;
}
static double normalise(void) {
    double sum = 0;
    for (int i = 0; i < vocab; i++) sum += weight_of[i];
    for (int i = 0; i < vocab; i++) weight_of[i] /= sum;
    return sum;
}
/* min-p: at least p times the largest; typical-p: those whose surprise is nearest to the entropy. */
static void expect_min_and_typical(const struct sampling *s) {
    double most = 0, entropy = 0, before = 0;
    int last = 0;
    for (int i = 0; i < vocab; i++) most = fmax(most, weight_of[i]);
    for (int i = 0; i < vocab; i++)
        if (weight_of[i] < (double)s->min_p * most) weight_of[i] = 0;
    normalise();
    if (!(s->typical_p > 0 && s->typical_p < 1)) return;
    for (int i = 0; i < vocab; i++) entropy -= weight_of[i] > 0 ? weight_of[i] * log(weight_of[i]) : 0;
    for (int i = 0; i < vocab; i++) {
        shift_of[i] = weight_of[i] > 0 ? fabs(-log(weight_of[i]) - entropy) : INFINITY;
        order[i] = i;
    }
    qsort(order, (size_t)vocab, sizeof *order, by_shift);
    while (last < vocab - 1 && (before += weight_of[order[last]]) < (double)s->typical_p) last++;
    for (int i = last + 1; i < vocab; i++)
        if (shift_of[order[i]] > shift_of[order[last]]) weight_of[order[i]] = 0;
    normalise();
}
/* Temperature, top-k (the k-th logit is the bar), softmax, top-p (mass before it below p), softmax again. */
static void expect(const struct sampling *s) {
    const float *l = kit_mat(&p, logits);
    double sum = 0, before = 0;
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
    }
    normalise();
    expect_min_and_typical(s);
}
/* Draws and compares with weight_of; count: how often each was drawn. */
static void compare(const int *id, int ids, struct sampling s, int n, int *count) {
    double chi = 0;
    int cells = 0;
    memset(count, 0, sizeof *count * MOST);
    for (int i = 0; i < n; i++) count[choose(id, ids, &s)]++;
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
static int drawn[MOST];
static void draws(struct sampling s, int n) {
    expect(&s);
    compare(one, 1, s, kit_times(n), drawn);
}
static void test_draws_follow_the_distribution(void **state) {
    (void)state;
    begin(NULL, 1, 50, 1);
    kit_mat(&p, logits)[20] = kit_mat(&p, logits)[21]; /* a tie */
    draws((struct sampling){ .temperature = 1, .rng = 1 }, 20000);
    draws((struct sampling){ .temperature = 0.5f, .rng = 2 }, 20000);
    draws((struct sampling){ .temperature = 3, .rng = 3 }, 20000);
    draws((struct sampling){ .temperature = 1, .top_k = 1, .rng = 4 }, 1000);
    draws((struct sampling){ .temperature = 2, .top_k = 7, .rng = 5 }, 20000);
    draws((struct sampling){ .temperature = 2, .top_k = 50, .rng = 5 }, 20000);
    draws((struct sampling){ .temperature = 2, .top_p = 0.8f, .rng = 6 }, 20000);
    draws((struct sampling){ .temperature = 1, .top_p = 1e-9f, .rng = 7 }, 1000); /* at least one stays */
    draws((struct sampling){ .temperature = 3, .top_k = 20, .top_p = 0.7f, .rng = 8 }, 20000);
    draws((struct sampling){ .temperature = 2, .min_p = 0.1f, .rng = 8 }, 20000);
    draws((struct sampling){ .temperature = 3, .typical_p = 0.6f, .rng = 8 }, 20000);
    draws(
        (struct sampling){ .temperature = 3, .top_k = 30, .top_p = 0.9f, .min_p = 0.05f, .typical_p = 0.7f, .rng = 8 },
        20000);
    for (int i = 0; i < 50; i++) kit_mat(&p, logits)[i] = i == 30 ? 0 : -5; /* a tail far below that still weighs */
    draws((struct sampling){ .temperature = 1, .top_p = 0.95f, .rng = 9 }, 20000);
    draws((struct sampling){ .temperature = 1, .top_k = 40, .rng = 9 }, 20000);
    for (int i = 0; i < 50; i++) kit_mat(&p, logits)[i] = (float)i / 10 - 40;
    draws((struct sampling){ .temperature = 0.1f, .rng = 10 }, 20000);
    draws((struct sampling){ .temperature = 0.1f, .top_p = 0.7f, .rng = 10 }, 20000);
    end();
}
/* The sets that the reference framework leaves (its LogitsProcessor classes, run in this order over the same logits:
 * RepetitionPenalty, SuppressTokens, Temperature, TopK, TopP, MinP, Typical), bit i: token i may be drawn. */
static const int said[5] = { 3, 5, 5, 40, 7 };
static float reference_logit(int i) { return (float)((i * 7919 + 13) % 1009) / 64.0f - 8; }
static void test_filters_agree_with_the_reference(void **state) {
    (void)state;
    static const struct {
        struct sampling s;
        uint64_t may;
    } cases[] = {
        { { .temperature = 4, .top_k = 9 }, 0x810408304082 },
        { { .temperature = 4, .top_p = 0.7f }, 0x830c1830c186 },
        { { .temperature = 6, .min_p = 0.1f }, 0xbf7dfbffdfbe },
        { { .temperature = 6, .min_p = 0.45f }, 0x830c1870c186 },
        { { .temperature = 4, .typical_p = 0.2f }, 0x20810208104 },
        { { .temperature = 4, .typical_p = 0.6f }, 0x860c3861c306 },
        { { .temperature = 8, .typical_p = 0.9f }, 0x9f7cfbf7cfbe },
        { { .temperature = 2, .typical_p = 0.3f }, 0x800408204002 },
        { { .temperature = 6, .top_k = 20, .typical_p = 0.5f }, 0x82041820c102 },
        { { .temperature = 6, .top_p = 0.8f, .min_p = 0.2f }, 0x8f1c38f1c78e },
        { { .temperature = 6, .top_p = 0.9f, .min_p = 0.15f, .typical_p = 0.7f }, 0x871c3861c30e },
        { { .temperature = 5, .top_k = 30, .top_p = 0.95f, .min_p = 0.05f, .typical_p = 0.8f }, 0x870c1870c386 },
        { { .temperature = 5, .typical_p = 0.5f, .limit = 30 }, 0x3061c306 },
        { { .temperature = 5, .top_k = 10, .limit = 20, .repetition_penalty = 1.5f }, 0x1c78e },
        { { .temperature = 5, .min_p = 0.3f, .repetition_penalty = 2, .limit = 41, .banned = 2, .ban = { 11, 22 } },
          0x10c3830c386 },
        { { .temperature = 0.5f, .typical_p = 0.1f }, 0x80 },
        { { .temperature = 5, .limit = 1 }, 1 },
        { { .temperature = 5, .min_p = 2 }, 1 << 20 }, /* at least one stays */
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k += kit_times(20) == 20 ? 1 : 2) {
        const struct sampling *s = &cases[k].s;
        begin(k < KIT_ISAS && kit_open(kit_isas[k], 1) ? (kit_close(), kit_isas[k]) : NULL, 1, 48, 1);
        for (int i = 0; i < 48; i++) {
            float v = kit_mat(&p, logits)[i] = reference_logit(i);
            for (int t = 0; t < 5 && s->repetition_penalty > 0; t++)
                if (said[t] == i && t != 2) v = v < 0 ? v * s->repetition_penalty : v / s->repetition_penalty;
            weight_of[i] = cases[k].may >> i & 1 ? exp((double)(v / s->temperature)) : 0;
        }
        normalise();
        compare(said, 5, *s, 6000, drawn);
        for (int i = 0; i < 48; i++)
            if (!drawn[i] != !(cases[k].may >> i & 1)) fail_msg("case %zu: token %d", k, i);
        end();
    }
}
/* Beam search in the reference framework: log-softmax over all rows, penalty on the log-probabilities, bans, topk. */
static const struct {
    struct sampling s;
    struct candidate want[10];
} listed[] = {
    { { .candidates = 6, .temperature = 9, .top_k = 1 },
      { { 20, -1.307056f },
        { 7, -1.760181f },
        { 40, -1.822681f },
        { 27, -2.275806f },
        { 14, -2.728931f },
        { 47, -2.791431f } } },
    { { .candidates = 10, .repetition_penalty = 1.3f },
      { { 20, -1.307056f },
        { 27, -2.275806f },
        { 7, -2.288235f },
        { 40, -2.369485f },
        { 14, -2.728931f },
        { 47, -2.791431f },
        { 1, -3.182056f },
        { 34, -3.244556f },
        { 21, -3.697681f },
        { 8, -4.150805f } } },
    { { .candidates = 10, .repetition_penalty = 0.5f, .limit = 41 },
      { { 7, -0.8800904f },
        { 40, -0.9113404f },
        { 20, -1.307056f },
        { 27, -2.275806f },
        { 14, -2.728931f },
        { 1, -3.182056f },
        { 34, -3.244556f },
        { 21, -3.697681f },
        { 3, -3.981653f },
        { 8, -4.150805f } } },
    { { .candidates = 8, .repetition_penalty = 3, .limit = 30, .banned = 2, .ban = { 11, 22 } },
      { { 20, -1.307056f },
        { 27, -2.275806f },
        { 14, -2.728931f },
        { 1, -3.182056f },
        { 21, -3.697681f },
        { 8, -4.150805f },
        { 28, -4.66643f },
        { 15, -5.119555f } } },
    { { .candidates = 3, .limit = 2 }, { { 1, -3.182056f }, { 0, -16.557056f }, { -1, -INFINITY } } },
};
static void test_candidates_agree_with_the_reference(void **state) {
    (void)state;
    for (int isa = 0; isa < KIT_ISAS; isa++)
        for (size_t k = 0; k < sizeof listed / sizeof *listed; k++) {
            if (!kit_open(kit_isas[isa], 1)) continue;
            kit_close();
            begin(kit_isas[isa], 1 + isa % 2, 48, 3);
            struct step s = { .n = { 0 } };
            for (int b = 0; b < 3; b++) step_rows(&s, said, 5, 0, 20 * b, true);
            for (int i = 0; i < 3 * 48; i++) kit_mat(&p, logits)[i] = reference_logit(i % 48);
            for (int b = 0; b < 3; b++) s.sampling[b] = listed[k].s;
            const struct step before = s;
            kit_run(&p, &s);
            for (int b = 0; b < 3; b++)
                for (int i = 0; i < listed[k].s.candidates; i++) {
                    const struct candidate *got = &s.candidate[b][i], *want = &listed[k].want[i];
                    assert_int_equal(got->id, want->id);
                    assert_true(got->logp == want->logp || fabsf(got->logp - want->logp) < 3e-6f);
                }
            memset(s.candidate, 0, sizeof s.candidate);
            assert_memory_equal(&s, &before, sizeof s); /* nothing was chosen, nothing moved on */
            end();
        }
}
static void test_candidates_of_many_beams(void **state) { /* all of them, with ties: the lower id first */
    (void)state;
    begin(NULL, 2, 30003, BEAMS_MAX);
    float *l = kit_mat(&p, logits);
    struct step s = { .n = { 0 } };
    for (int b = 0; b < BEAMS_MAX; b++) {
        step_rows(&s, one, 1, 0, 4 * b, true);
        s.sampling[b] = (struct sampling){ .candidates = CANDIDATES_MAX, .limit = 30000 };
        for (int i = 0; i < vocab; i++) l[b * vocab + i] = floorf(l[b * vocab + i] * (float)(b + 1)) / 8;
    }
    kit_run(&p, &s);
    for (int b = 0; b < BEAMS_MAX; b++) {
        const float *v = l + (size_t)b * (size_t)vocab;
        double sum = 0;
        for (int i = 0; i < vocab; i++) sum += exp((double)v[i]);
        for (int n = 0, before = -1; n < CANDIDATES_MAX; n++) {
            int best = -1;
            for (int i = 0; i < 30000; i++) { /* the next one, by value and then by id */
                const bool after = before < 0 || v[i] < v[before] || (v[i] == v[before] && i > before);
                if (after && (best < 0 || v[i] > v[best])) best = i;
            }
            assert_int_equal(s.candidate[b][n].id, best);
            assert_true(fabs((double)s.candidate[b][n].logp - ((double)v[best] - log(sum))) < 1e-5);
            before = best;
        }
    }
    struct err e = { 0 };
    s.sampling[3].candidates = CANDIDATES_MAX + 1;
    assert_int_equal(kit_replay(&p, &s, NULL, &e), STATUS_INVALID);
    assert_non_null(strstr(e.text, "pick 3 asks for 33 candidates"));
    end();
    begin(NULL, 1, 30, 16);
    s = kit_step(1, 0, 0);
    s.sampling[0].candidates = 2;
    kit_mat(&p, logits)[17] = NAN;
    e = (struct err){ 0 };
    assert_int_equal(kit_replay(&p, &s, NULL, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "not finite"));
    end();
}
static void test_ties_with_the_kth_stay(void **state) {
    (void)state;
    begin(NULL, 1, 50, 1);
    for (int i = 0; i < 50; i++) kit_mat(&p, logits)[i] = i < 10 ? 2 : i < 20 ? 1 : -1;
    draws((struct sampling){ .temperature = 1, .top_k = 12, .rng = 1 }, 20000);
    end();
}
static void test_a_large_vocabulary(void **state) {
    (void)state;
    begin(NULL, 1, MOST, 1);
    draws((struct sampling){ .temperature = 0.7f, .top_p = 0.9f, .rng = 11 }, 400);
    draws((struct sampling){ .temperature = 0.7f, .top_k = 40, .rng = 12 }, 500);
    draws((struct sampling){ .temperature = 0.7f, .min_p = 0.2f, .rng = 12 }, 200);
    draws((struct sampling){ .temperature = 0.7f, .typical_p = 0.1f, .rng = 12 }, 100);
    for (int i = 0; i < MOST; i++) kit_mat(&p, logits)[i] *= 0.001f; /* nearly flat: everything has to be sorted */
    draws((struct sampling){ .temperature = 1, .top_p = 0.5f, .rng = 13 }, 20);
    for (int i = 0; i < MOST; i++) kit_mat(&p, logits)[i] *= 40000; /* and one that leaves a handful */
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
    float *l = kit_mat(&p, logits), saved[3][203];
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
        s.row[0].pos = s.row[0].at = 0;
        memset(kit_mat(&p, logits), 0, sizeof(float) * 40);
        kit_mat(&p, logits)[i % 40] = 1;
        kit_run(&p, &s);
        assert_int_equal(s.ring[i % RING], i % 40);
    }
    assert_int_equal(s.made, RING + 10);
    end();
}
/* One sequence of three has no finite logits: none moves on, and the op that made them is named. */
static void test_one_bad_row_of_a_batch(void **state) {
    (void)state;
    enum { PICKS = 3, BAD = 1, N = 40 };
    kit_forget();
    assert_true(kit_open(NULL, 1));
    kit_weight(&table, "embed", N, 2, DTYPE_F16, 1);
    program_init(&p, kit_api, kit_be, PICKS, PICKS, KV);
    op_embed(&p, program_tmp(&p, DIM_ROWS, PICKS, 2), &table);
    struct mat y = program_tmp(&p, DIM_PICKS, PICKS, N), x = program_tmp(&p, DIM_PICKS, PICKS, N);
    program_keep(&p, y);
    program_keep(&p, x);
    p.layer = 7;
    op_add(&p, y, x);
    p.layer = -1;
    op_next(&p, y);
    kit_load((struct program *[]){ &p }, 1);
    kit_link(&p, NULL);
    kit_input(&p, y, PICKS);
    kit_input(&p, x, PICKS);
    kit_mat(&p, x)[BAD * N + 5] = NAN;
    struct step s = { .n = { 0 } };
    struct err e = { 0 };
    for (int i = 0; i < PICKS; i++) step_rows(&s, one, 1, 4, i * 8, true);
    assert_int_equal(kit_replay(&p, &s, NULL, &e), STATUS_FORMAT);
    if (!strstr(e.text, "not finite") || !strstr(e.text, "comes from 'residual', layer 7)")) fail_msg("%s", e.text);
    assert_int_equal(s.made, 0);
    for (int i = 0; i < PICKS; i++) assert_true(s.row[i].pos == 4 && s.row[i].at == 4 && s.row[i].kv == i * 8);
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
            kit_mat(&p, logits)[at] = odd[k];
            assert_int_equal(kit_replay(&p, &s, NULL, &e), STATUS_FORMAT);
            assert_non_null(strstr(e.text, "not finite"));
            assert_int_equal(s.made, 0);
            end();
        }
    begin(NULL, 1, 7, 1);
    struct step s = kit_step(1, 0, 0);
    struct err e = { 0 };
    s.sampling[0] = (struct sampling){ .banned = 7, .ban = { 0, 1, 2, 3, 4, 5, 6 } };
    assert_int_not_equal(kit_replay(&p, &s, NULL, &e), 0);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_repetition_penalty),
        cmocka_unit_test(test_draws_follow_the_distribution),
        cmocka_unit_test(test_filters_agree_with_the_reference),
        cmocka_unit_test(test_candidates_agree_with_the_reference),
        cmocka_unit_test(test_candidates_of_many_beams),
        cmocka_unit_test(test_ties_with_the_kth_stay),
        cmocka_unit_test(test_a_large_vocabulary),
        cmocka_unit_test(test_a_seed_gives_the_same_tokens_everywhere),
        cmocka_unit_test(test_one_bad_row_of_a_batch),
        cmocka_unit_test(test_each_pick_has_its_own_sampling),
        cmocka_unit_test(test_the_ring_wraps),
        cmocka_unit_test(test_no_choice_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
