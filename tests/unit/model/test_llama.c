/* What record, fuse, plan, place and replay promise, on tiny Llamas. */
#include "base/mem.h"
#include "model/tiny.h"
#include <pthread.h>

static const struct tiny_spec plain = { .layers = DTYPE_F32, .ends = DTYPE_F32, .want = DTYPE_NONE };
static const struct tiny_spec tied = { .tied = true, .layers = DTYPE_F16, .ends = DTYPE_F32, .want = DTYPE_NONE };
static const struct tiny_spec quant = { .tied = true, .layers = DTYPE_Q4_1, .ends = DTYPE_Q8_0, .want = DTYPE_NONE };
static const struct tiny_spec wanted = { .tied = true, .layers = DTYPE_Q4_1, .ends = DTYPE_Q8_0, .want = DTYPE_F32 };
static const struct tiny_spec *const specs[] = { &plain, &tied, &quant, &wanted };
enum { SPECS = 4 };

static struct tiny t;
struct built {
    struct program p;
    struct mat logits;
};
static void setup(const struct tiny_spec *s, const char *isa, int threads) {
    struct err e = { 0 };
    kit_forget();
    assert_true(kit_open(isa, threads));
    if (tiny_open(&t, s, &e)) fail_msg("%s", e.text);
}
static void teardown(void) {
    while (kit_slabs) kit_api->drop(kit_be, kit_slab[--kit_slabs]);
    kit_api->close(kit_be);
    tiny_close(&t);
}
static void build(struct built *b, int rows, int picks, bool fused, bool next) {
    program_init(&b->p, kit_api, kit_be, rows, picks, KV);
    b->logits = model_record(t.model, &b->p);
    if (next) op_next(&b->p, b->logits);
    if (fused) program_fuse(&b->p);
}
static void load(struct built *const *b, int n) {
    struct program *p[8];
    for (int i = 0; i < n; i++) p[i] = &b[i]->p;
    kit_load(p, n);
}
static const float *logits(const struct built *b) { return kit_mat(&b->p, b->logits); }
static struct step tokens(const int *id, int n, int pos, int kv) {
    struct step s = { .n = { 0 } };
    step_rows(&s, id, n, pos, kv, true);
    return s;
}

static void test_logits_are_the_oracles(void **state) {
    (void)state;
    for (int k = 0; k < SPECS; k++) {
        struct built b;
        double want[VOCAB], worst = 0, size = 0;
        setup(specs[k], NULL, 2);
        build(&b, 16, 1, true, false);
        load((struct built *[]){ &b }, 1);
        kit_link(&b.p, NULL);
        struct step s = tokens(tiny_text, TEXT, 0, 0);
        kit_run(&b.p, &s);
        tiny_oracle(&t, tiny_text, TEXT, want);
        for (int i = 0; i < VOCAB; i++) {
            worst = fmax(worst, fabs(want[i] - (double)logits(&b)[i]));
            size = fmax(size, fabs(want[i]));
        }
        assert_true(size > 0.5);
        if (worst > (specs[k] == &quant ? 0.05 * size : (2e-5 + kit_loose(16, DTYPE_BF16)) * size))
            fail_msg("model %d: off by %g of %g", k, worst, size);
        kit_fini(&b.p, true);
        teardown();
    }
}
static double total(const struct watch *w, bool flops) {
    double s = 0;
    for (int i = 0; i < w->n; i++) s += flops ? w->span[i].flops : w->span[i].bytes;
    return s;
}
static void test_fused_equals_unfused(void **state) {
    (void)state;
    static const int buckets[] = { 1, 4, 16 };
    for (int k = 0; k < SPECS * 3; k++) {
        struct built one, two;
        static struct span sa[256], sb[256];
        struct watch a = { .span = sa, .cap = 256 }, b = { .span = sb, .cap = 256 };
        setup(specs[k / 3], NULL, 2);
        const int n = buckets[k % 3] < TEXT ? buckets[k % 3] : TEXT;
        build(&one, buckets[k % 3], 1, true, false);
        build(&two, buckets[k % 3], 1, false, false);
        load((struct built *[]){ &one, &two }, 2);
        assert_int_equal(one.p.n, 2 + 5 * LAYERS + 2); /* embed, angles; five a layer; pick, head with its norm */
        kit_link(&one.p, NULL);
        kit_link(&two.p, NULL);
        struct step s = tokens(tiny_text, n, 0, 0), s2 = s;
        struct err e = { 0 };
        assert_int_equal(kit_replay(&one.p, &s, &a, &e), 0);
        assert_int_equal(kit_replay(&two.p, &s2, &b, &e), 0);
        assert_true(kit_diff(logits(&one), logits(&two), VOCAB) < 1e-5);
        assert_true(fabs(total(&a, true) - total(&b, true)) < 1);
        assert_true(total(&a, false) < total(&b, false));
        assert_int_equal(one.p.need[REGION_KV], two.p.need[REGION_KV]);
        kit_fini(&one.p, true);
        kit_fini(&two.p, true);
        teardown();
    }
}
static void test_prefill_equals_decode(void **state) {
    (void)state;
    for (int k = 0; k < SPECS; k++) {
        struct built pre, one;
        setup(specs[k], NULL, 3);
        build(&pre, 16, 1, true, false);
        build(&one, 1, 1, true, false);
        load((struct built *[]){ &one, &pre }, 2);
        kit_link(&pre.p, NULL);
        kit_link(&one.p, NULL);
        struct step s = tokens(tiny_text, TEXT, 0, 3);
        for (int i = TEXT; i < 16; i++) s.row[i] = (struct step_row){ 1 << 30, -7, -7, -7, 99 }; /* padding is poison */
        kit_run(&pre.p, &s);
        for (int i = 0; i < TEXT; i++) {
            s = tokens(tiny_text + i, 1, i, 3);
            kit_run(&one.p, &s);
        }
        assert_true(kit_diff(logits(&pre), logits(&one), VOCAB) < 1e-5 + 10 * kit_loose(16, DTYPE_BF16));
        const float *a = (const float *)(const void *)kit_kv(&pre.p), *b = (const float *)(const void *)kit_kv(&one.p);
        for (size_t i = 0; i < pre.p.need[REGION_KV] / sizeof *a; i++) { /* the same places written, none by padding */
            assert_int_equal(kit_untouched(a + i, 1), kit_untouched(b + i, 1));
            assert_true(kit_untouched(a + i, 1) || fabs((double)(a[i] - b[i])) < 1e-5 + 10 * kit_loose(16, DTYPE_BF16));
        }
        kit_fini(&pre.p, true);
        kit_fini(&one.p, true);
        teardown();
    }
}
static void test_chunks_equal_the_whole(void **state) {
    (void)state;
    struct built pre;
    float whole[VOCAB];
    setup(&quant, NULL, 2);
    build(&pre, 16, 1, true, false);
    load((struct built *[]){ &pre }, 1);
    kit_link(&pre.p, NULL);
    struct step s = tokens(tiny_text, 16, 0, 0);
    kit_run(&pre.p, &s);
    memcpy(whole, logits(&pre), sizeof whole);
    for (int first = 1; first < 16; first += 4) {
        s = (struct step){ .n = { 0 } };
        step_rows(&s, tiny_text, first, 0, 32, false); /* no picks: nothing is chosen yet */
        kit_run(&pre.p, &s);
        s = tokens(tiny_text + first, 16 - first, first, 32);
        kit_run(&pre.p, &s);
        assert_true(kit_diff(whole, logits(&pre), VOCAB) < 1e-5 + 10 * kit_loose(16, DTYPE_BF16));
    }
    kit_fini(&pre.p, true);
    teardown();
}
static void test_planned_memory_is_used_memory(void **state) {
    (void)state;
    kit_choose();
    if (!kit_cpu()) return; /* a device's scratch is sized for its largest way of each call, not all used by each */
    for (int k = 0; k < SPECS; k++)
        for (int rows = 1; rows < 20; rows += 6) {
            struct built b;
            setup(specs[k], NULL, 1);
            build(&b, rows, 1, true, false);
            load((struct built *[]){ &b }, 1);
            const size_t arena = b.p.need[REGION_ARENA];
            kit_link(&b.p, NULL);
            int id[20] = { 0 };
            struct step s = tokens(id, rows, 0, 0);
            kit_run(&b.p, &s); /* ASan watches the end */
            size_t top = arena;
            while (top && kit_untouched((const float *)(const void *)(kit_host(b.p.base[REGION_ARENA]) + top - 4), 1))
                top -= 4;
            assert_int_equal((top + 63) & ~(size_t)63, arena);
            kit_fini(&b.p, true);
            teardown();
        }
}
static void test_weights_are_placed_once(void **state) {
    (void)state;
    struct built b[3];
    struct slab *again;
    struct err e = { 0 };
    setup(&quant, NULL, 2);
    build(&b[0], 1, 1, true, true);
    build(&b[1], 16, 1, true, true);
    build(&b[2], 16, 1, false, true);
    load((struct built *[]){ &b[0], &b[1], &b[2] }, 3);
    const char *place[64];
    assert_int_equal(model_weights(t.model), 2 + 9 * LAYERS);
    assert_int_equal(model_params(t.model), VOCAB * HIDDEN + HIDDEN +
                                                LAYERS * (2 * HIDDEN + 2 * HIDDEN * HEADS * HD +
                                                          2 * HIDDEN * KV_HEADS * HD + 3 * HIDDEN * FFN));
    for (int i = 0; i < model_weights(t.model); i++) {
        assert_non_null(model_weight(t.model, i)->packed);
        assert_true(!i || model_weight(t.model, i)->offset > model_weight(t.model, i - 1)->offset);
        place[i] = model_weight(t.model, i)->packed->p;
    }
    struct program *p[] = { &b[1].p };
    assert_int_equal(kit_api->place(kit_be, p, 1, &again, &e), 0);
    for (int i = 0; i < model_weights(t.model); i++) assert_ptr_equal(place[i], model_weight(t.model, i)->packed->p);
    kit_api->drop(kit_be, again);
    assert_non_null(model_weight(t.model, 0)->packed);
    for (int i = 0; i < 3; i++) program_fini(&b[i].p);
    kit_api->drop(kit_be, kit_slab[--kit_slabs]);
    for (int i = 0; i < model_weights(t.model); i++) assert_null(model_weight(t.model, i)->packed);
    teardown();
}
static void test_instruction_sets_agree(void **state) {
    (void)state;
    for (int k = 0; k < SPECS; k++) {
        float first[2][VOCAB];
        for (int i = 0, n = 0; i < KIT_ISAS; i++) {
            struct built pre, one;
            struct err e = { 0 };
            if (!kit_open(kit_isas[i], 1)) continue;
            kit_api->close(kit_be);
            setup(specs[k], kit_isas[i], 1 + i % 2);
            build(&pre, 16, 1, true, false);
            build(&one, 1, 1, true, false);
            load((struct built *[]){ &one, &pre }, 2);
            kit_link(&pre.p, NULL);
            kit_link(&one.p, pre.p.base[REGION_KV]);
            struct step s = tokens(tiny_text, TEXT, 0, 0);
            assert_int_equal(kit_replay(&pre.p, &s, NULL, &e), 0);
            s = tokens(tiny_text, 1, TEXT, 0);
            kit_run(&one.p, &s);
            if (!n++) {
                memcpy(first[0], logits(&pre), sizeof first[0]);
                memcpy(first[1], logits(&one), sizeof first[1]);
            }
            /* Sums of floats differ in order; a quantised activation may then round the other way now and then. */
            const double most = specs[k] == &quant ? 5e-3 : 2e-5;
            assert_true(kit_diff(first[0], logits(&pre), VOCAB) < most);
            assert_true(kit_diff(first[1], logits(&one), VOCAB) < most);
            kit_fini(&pre.p, true);
            kit_fini(&one.p, false);
            teardown();
        }
    }
}
/* Two sequences of different lengths: each alone, and as two rows of one step. */
static void test_batched_equals_alone(void **state) {
    (void)state;
    for (int k = 0; k < SPECS; k++) {
        struct built pre, one, two;
        float alone[2][VOCAB];
        const int len[2] = { 3, 11 };
        setup(specs[k], NULL, 2);
        build(&pre, 16, 1, true, false);
        build(&one, 1, 1, true, false);
        build(&two, 2, 2, true, false);
        load((struct built *[]){ &one, &two, &pre }, 3);
        kit_link(&pre.p, NULL);
        kit_link(&one.p, pre.p.base[REGION_KV]);
        kit_link(&two.p, pre.p.base[REGION_KV]);
        struct step both = { .n = { 0 } };
        for (int i = 0; i < 2; i++) {
            struct step s = tokens(tiny_text + 11 - len[i], len[i], 0, 30 * i);
            kit_run(&pre.p, &s);
            s = tokens(tiny_text + 11, 1, len[i], 30 * i);
            kit_run(&one.p, &s);
            memcpy(alone[i], logits(&one), sizeof alone[i]);
            step_rows(&both, tiny_text + 11, 1, len[i], 30 * i, true);
        }
        kit_run(&two.p, &both);
        assert_true(kit_diff(alone[0], logits(&two), 2 * VOCAB) < 1e-5);
        kit_fini(&pre.p, true);
        kit_fini(&one.p, false);
        kit_fini(&two.p, false);
        teardown();
    }
}
/* After prefill the step block is the next decode step; the host only replays. */
static void test_running_ahead_equals_host_driven(void **state) {
    (void)state;
    struct built pre, one;
    int host[8];
    struct err e = { 0 };
    setup(&quant, NULL, 2);
    build(&pre, 16, 1, true, true);
    build(&one, 1, 1, true, true);
    load((struct built *[]){ &one, &pre }, 2);
    kit_link(&pre.p, NULL);
    kit_link(&one.p, pre.p.base[REGION_KV]);
    struct step ahead = tokens(tiny_text, TEXT, 0, 0), s = ahead;
    kit_run(&pre.p, &ahead);
    for (int i = 1; i < 8; i++) kit_run(&one.p, &ahead);
    for (int i = 0; i < 8; i++) {
        kit_run(i ? &one.p : &pre.p, &s);
        host[i] = s.ring[0];
        int best = 0;
        for (int j = 1; j < VOCAB; j++) best = logits(i ? &one : &pre)[j] > logits(i ? &one : &pre)[best] ? j : best;
        assert_int_equal(host[i], best);
        s = tokens(&host[i], 1, TEXT + i, 0);
    }
    assert_memory_equal(host, ahead.ring, sizeof host);
    assert_int_equal(ahead.row[0].pos, TEXT + 7);
    assert_int_equal(ahead.made, 8);
    for (int i = 0; i < KV && !kit_replay(&one.p, &ahead, NULL, &e); i++) {
    }
    assert_non_null(strstr(e.text, "KV cache is full"));
    assert_int_equal(ahead.row[0].pos, KV);
    e = (struct err){ 0 };
    s = tokens(tiny_text, 1, 0, 0);
    step_cancel(&s);
    assert_int_equal(kit_replay(&one.p, &s, NULL, &e), STATUS_CANCELLED);
    assert_int_equal(s.made, 0);
    kit_fini(&pre.p, true);
    kit_fini(&one.p, false);
    teardown();
}
static void *cancel_soon(void *step) {
    const struct timespec ms = { 0, 200000 };
    nanosleep(&ms, NULL);
    step_cancel(step);
    return NULL;
}
static void test_cancel_in_the_middle_leaves_everything_usable(void **state) {
    (void)state;
    struct built pre;
    float before[VOCAB];
    int cut = 0;
    setup(&plain, NULL, 2);
    build(&pre, 16, 1, true, true);
    load((struct built *[]){ &pre }, 1);
    kit_link(&pre.p, NULL);
    struct step s = tokens(tiny_text, 16, 0, 0);
    kit_run(&pre.p, &s);
    memcpy(before, logits(&pre), sizeof before);
    for (int i = 0; i < 10; i++) {
        struct err e = { 0 };
        pthread_t id;
        s = tokens(tiny_text, 16, 0, 0);
        assert_int_equal(pthread_create(&id, NULL, cancel_soon, &s), 0);
        int rc = 0;
        while (!rc) {
            memcpy(s.n, (int[DIM_COUNT]){ 0, 16, 1, 0 }, sizeof s.n);
            for (int k = 0; k < 16; k++) s.row[k] = (struct step_row){ tiny_text[k], k, 0, k, 0 };
            s.pick[0] = 15;
            rc = kit_replay(&pre.p, &s, NULL, &e);
        }
        assert_int_equal(rc, STATUS_CANCELLED);
        pthread_join(id, NULL);
        cut++;
    }
    assert_int_equal(cut, 10);
    s = tokens(tiny_text, 16, 0, 0);
    kit_run(&pre.p, &s);
    assert_true(kit_diff(before, logits(&pre), VOCAB) == 0);
    kit_fini(&pre.p, true);
    teardown();
}
static void test_costs_are_those_of_the_step(void **state) {
    (void)state;
    struct built b;
    static struct span v[64];
    setup(&plain, NULL, 1);
    build(&b, 1, 1, true, false);
    load((struct built *[]){ &b }, 1);
    kit_link(&b.p, NULL);
    for (int pos = 0; pos < 40; pos += 13) {
        struct watch w = { .span = v, .cap = 64 };
        struct err e = { 0 };
        struct step s = tokens(tiny_text, 1, pos, 0);
        for (size_t i = 0; i < b.p.need[REGION_KV]; i++) kit_kv(&b.p)[i] = 0;
        assert_int_equal(kit_replay(&b.p, &s, &w, &e), 0);
        assert_string_equal(v[2].call->label, "attn.q|attn.k|attn.v");
        assert_string_equal(v[3].call->label, "attn.mix");
        const double kvd = KV_HEADS * HD, weights = 4.0 * HIDDEN * (HIDDEN + 2 * kvd + 1);
        assert_true(v[2].bytes == weights + 4.0 * (HIDDEN + HD + HIDDEN + 2 * kvd)); /* x, angles, q, k, v */
        assert_true(v[3].flops == 4.0 * HIDDEN * (pos + 1));
        assert_true(v[3].bytes == 4.0 * (2 * HIDDEN + 2 * kvd * (pos + 1)));
    }
    kit_fini(&b.p, true);
    build(&b, 16, 2, true, false); /* two sequences: each one's cache is read once */
    load((struct built *[]){ &b }, 1);
    kit_link(&b.p, NULL);
    struct watch w = { .span = v, .cap = 64 };
    struct err e = { 0 };
    struct step s = tokens(tiny_text, 5, 0, 0);
    step_rows(&s, tiny_text, 7, 0, 20, true);
    assert_int_equal(kit_replay(&b.p, &s, &w, &e), 0);
    const double kvd = KV_HEADS * HD, weights = 4.0 * HIDDEN * (HIDDEN + 2 * kvd + 1);
    assert_true(v[2].bytes == weights + 12 * 4.0 * (HIDDEN + HD + HIDDEN + 2 * kvd));
    assert_true(v[3].bytes == 12 * 4.0 * (2 * HIDDEN + 2 * kvd));
    assert_true(v[3].flops == 4.0 * HIDDEN * (15 + 28));
    kit_fini(&b.p, true);
    teardown();
}
struct dumped {
    const char *label;
    int layer, times;
    float v[HIDDEN];
};
static void dump(void *arg, const struct op_call *c, const struct mat *m, int rows) {
    struct dumped *d = arg;
    if (rows != 1 || c->layer != d->layer || strcmp(c->label, d->label)) return;
    memcpy(d->v, m->p, sizeof d->v);
    d->times++;
}
static void test_dumps_agree(void **state) {
    (void)state;
    struct dumped d[2] = { { "attn.mix", 2, 0, { 0 } }, { "attn.mix", 2, 0, { 1 } } };
    for (int k = 0; k < 2; k++) {
        struct built b;
        struct err e = { 0 };
        struct watch w = { .dump = dump, .arg = &d[k] };
        setup(&tied, NULL, 2);
        build(&b, 1, 1, k, false);
        load((struct built *[]){ &b }, 1);
        kit_link(&b.p, NULL);
        struct step s = tokens(tiny_text, 1, 0, 0);
        assert_int_equal(kit_replay(&b.p, &s, &w, &e), 0);
        assert_int_equal(d[k].times, 1);
        kit_fini(&b.p, true);
        teardown();
    }
    assert_true(kit_diff(d[0].v, d[1].v, HIDDEN) < 1e-5);
}
static void test_what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        struct tiny_spec s;
        const char *says[2];
    } bad[] = {
        { { .layers = DTYPE_F32, .ends = DTYPE_F32, .want = DTYPE_NONE, .odd = "blk.1.attn_output.weight" },
          { "blk.1.attn_output.weight", "64x96 in the file, 64x64" } },
        { { .layers = DTYPE_F32, .ends = DTYPE_F32, .want = DTYPE_NONE, .odd = "output_norm.weight" },
          { "output_norm.weight", "1x96" } },
        { { .layers = DTYPE_F32, .ends = DTYPE_F32, .want = DTYPE_NONE, .skip = "blk.2.ffn_up.weight" },
          { "blk.2.ffn_up.weight", "not in the file" } },
        { { .layers = DTYPE_F32, .ends = DTYPE_F32, .want = DTYPE_NONE, .extra = "blk.0.attn_q.bias" },
          { "blk.0.attn_q.bias", "not part of" } },
        { { .layers = DTYPE_F32, .ends = DTYPE_F32, .want = DTYPE_Q6_K }, { "f32, f16, bf16", "" } },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = { 0 };
        kit_forget();
        assert_int_not_equal(tiny_open(&t, &bad[i].s, &e), 0);
        assert_null(t.model);
        for (int k = 0; k < 2; k++)
            if (!strstr(e.text, bad[i].says[k])) fail_msg("'%s' does not say '%s'", e.text, bad[i].says[k]);
        tiny_close(&t);
    }
    struct err e = { 0 };
    struct model *m;
    const struct model_config c = { .arch = "mamba" };
    assert_int_equal(model_open(&m, NULL, &c, DTYPE_NONE, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "'mamba' is not supported; llama, gptneox are"));
    assert_true(model_supported("llama") && model_supported("gptneox") && !model_supported("mamba"));
    model_close(NULL);
}
static void test_an_unsupported_format_is_named_before_anything_is_read(void **state) {
    (void)state;
    struct built b;
    struct err e = { 0 };
    setup(&plain, NULL, 1);
    struct weight *w = model_weight(t.model, 4);
    w->dt = DTYPE_Q3_K;
    build(&b, 1, 1, true, false);
    assert_int_equal(program_plan(&b.p, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, w->name));
    assert_non_null(strstr(e.text, "q3_k"));
    program_fini(&b.p);
    teardown();
}
static void test_weights_that_are_no_numbers_end_the_step(void **state) {
    (void)state;
    static const char *const names[] = { "blk.1.ffn_up.weight", "output.weight", "output_norm.weight" };
    for (int k = 0; k < 6; k++) {
        struct built b;
        struct err e = { 0 };
        setup(&plain, NULL, 2);
        const float bad = k % 2 ? (float)INFINITY : (float)NAN;
        memcpy((void *)(uintptr_t)kit_bytes(tiny_find(&t, names[k / 2], 0)), &bad, sizeof bad);
        build(&b, 16, 1, true, true);
        load((struct built *[]){ &b }, 1);
        kit_link(&b.p, NULL);
        struct step s = tokens(tiny_text, TEXT, 0, 0);
        assert_int_equal(kit_replay(&b.p, &s, NULL, &e), STATUS_FORMAT);
        if (!strstr(e.text, "not finite")) fail_msg("%s", e.text);
        assert_int_equal(s.made, 0);
        kit_fini(&b.p, true);
        teardown();
    }
}
/* Every allocation fails once: an error each time, nothing lost (ASan watches), and then it works. */
static void test_no_memory_anywhere(void **state) {
    (void)state;
    struct err e = { 0 };
    kit_forget();
    assert_int_equal(tiny_open(&t, &quant, &e), 0);
    bool done = false;
    for (long n = 1; !done; n++) {
        struct program p = { 0 };
        struct slab *slab = NULL;
        struct model *m = NULL;
        e = (struct err){ 0 };
        mem_fail_at(n);
        struct backend *be = kit_api->open(1, &e);
        int rc = be ? model_open(&m, t.file, &t.config, DTYPE_NONE, &e) : e.code;
        if (!rc) {
            program_init(&p, kit_api, be, 16, 1, KV);
            op_next(&p, model_record(m, &p));
            program_fuse(&p); /* without memory it only fuses less */
            rc = program_plan(&p, &e);
        }
        struct program *const all[] = { &p };
        if (!rc) rc = kit_api->place(be, all, 1, &slab, &e);
        for (int i = 0; !rc && i < model_weights(m); i++)
            rc = kit_api->fill(be, model_weight(m, i), kit_source[i].bytes, &e);
        const long made = mem_fail_at(0);
        assert_int_equal(rc, e.code);
        if (rc) assert_int_equal(rc, STATUS_NOMEM);
        done = made < n;
        assert_true(!done || !rc);
        kit_api->drop(be, slab);
        program_fini(&p);
        model_close(m);
        kit_api->close(be);
    }
    tiny_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_the_oracles),
        cmocka_unit_test(test_fused_equals_unfused),
        cmocka_unit_test(test_prefill_equals_decode),
        cmocka_unit_test(test_chunks_equal_the_whole),
        cmocka_unit_test(test_planned_memory_is_used_memory),
        cmocka_unit_test(test_weights_are_placed_once),
        cmocka_unit_test(test_instruction_sets_agree),
        cmocka_unit_test(test_batched_equals_alone),
        cmocka_unit_test(test_running_ahead_equals_host_driven),
        cmocka_unit_test(test_cancel_in_the_middle_leaves_everything_usable),
        cmocka_unit_test(test_costs_are_those_of_the_step),
        cmocka_unit_test(test_dumps_agree),
        cmocka_unit_test(test_what_is_wrong_is_named),
        cmocka_unit_test(test_an_unsupported_format_is_named_before_anything_is_read),
        cmocka_unit_test(test_weights_that_are_no_numbers_end_the_step),
        cmocka_unit_test(test_no_memory_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
