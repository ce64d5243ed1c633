/* The CPU backend's threads: every task of every phase exactly once, whatever the number of threads and their luck. */
#include "compute/kit.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum { PHASES = 40, TASKS = 23 };
struct work {
    struct pool *pool;
    atomic_int done[PHASES][TASKS];
    int value[PHASES]; /* written in a task of one phase, read in the next */
    int wrong;
    bool slow; /* one task sleeps, and threads come late */
};
static int tasks_of(int phase) { return phase % 5 == 3 ? 0 : phase % 7 == 6 ? 1 : TASKS; }
static void pause_us(long us) {
    const struct timespec t = { 0, us * 1000 };
    nanosleep(&t, NULL);
}
static void check_before(struct work *w, int phase) { /* all of it happened */
    for (int ph = phase - 1; ph >= 0 && ph > phase - 3; ph--)
        for (int k = 0; k < tasks_of(ph); k++)
            if (atomic_load_explicit(&w->done[ph][k], memory_order_relaxed) != 1) w->wrong++;
}
static void phases(void *arg, int id) {
    struct work *w = arg;
    if (w->slow && id) pause_us(300 * id);
    for (int ph = 0; ph < PHASES; ph++) {
        if (ph) pool_next(w->pool, id);
        POOL_TASKS(t, w->pool, id, tasks_of(ph)) {
            if (w->slow && t == 0 && ph % 9 == 0) pause_us(500);
            check_before(w, ph);
            if (t == 0) w->value[ph] = ph + 1;
            if (t == 0 && ph && tasks_of(ph - 1) && w->value[ph - 1] != ph) w->wrong++;
            atomic_fetch_add_explicit(&w->done[ph][t], 1, memory_order_relaxed);
        }
    }
}
static void run(int threads, bool slow, int times) {
    struct err e = { 0 };
    static struct work w;
    w.pool = pool_open(threads, &e);
    assert_non_null(w.pool);
    assert_int_equal(pool_threads(w.pool), threads);
    for (int i = 0; i < times; i++) {
        memset(w.done, 0, sizeof w.done);
        memset(w.value, 0, sizeof w.value);
        w.wrong = 0;
        w.slow = slow;
        pool_run(w.pool, phases, &w);
        assert_int_equal(w.wrong, 0);
        for (int ph = 0; ph < PHASES; ph++)
            for (int t = 0; t < TASKS; t++) assert_int_equal(w.done[ph][t], t < tasks_of(ph));
    }
    pool_close(w.pool);
}
static void test_every_task_once(void **state) {
    (void)state;
    run(1, false, 5);
    run(2, false, 300);
    run(3, false, 50);
    run(16, false, 20); /* far more threads than processors */
}
static void test_slow_and_late_threads(void **state) {
    (void)state;
    run(2, true, 20);
    run(4, true, 10);
}
static void test_helpers_sleep_between_jobs(void **state) {
    (void)state;
    struct err e = { 0 };
    struct timespec a, b;
    static struct work w;
    struct pool *p = w.pool = pool_open(3, &e);
    pool_run(p, phases, &w);
    double used_ms = 1e9;
    for (int i = 0; i < 20 && used_ms >= 50; i++) { /* at last: on a busy machine they give up spinning late */
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        pause_us(200000);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        used_ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6;
    }
    assert_true(used_ms < 50);
    pool_close(p);
}
static void test_processors(void **state) {
    (void)state;
    struct err e = { 0 };
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_in_range(pool_processors(), 1, CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &before)) CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(pool_processors(), 1); /* the affinity mask counts */
    struct pool *p = pool_open(0, &e);
    assert_int_equal(pool_threads(p), 1);
    pool_close(p);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_null(pool_open(-1, &e));
    assert_int_equal(e.code, STATUS_INVALID);
    e = (struct err){ 0 };
    assert_null(pool_open(POOL_THREADS_MAX + 1, &e));
    pool_close(NULL);
}
static void test_an_unknown_instruction_set_is_an_error(void **state) {
    (void)state;
    struct err e = { 0 };
    setenv("JAEDA_ISA", "mmx", 1);
    assert_null(kit_api->open(1, &e));
    unsetenv("JAEDA_ISA");
    assert_int_equal(e.code, STATUS_INVALID);
    assert_non_null(strstr(e.text, "JAEDA_ISA=mmx"));
    kit_api->close(NULL);
    assert_true(kit_open(NULL, 1)); /* the refusal left nothing behind */
    kit_close();
}
static void test_probe_finds_believable_numbers(void **state) {
    (void)state;
    struct err e = { 0 };
    struct peaks p;
    assert_true(kit_open(NULL, 2));
    assert_int_equal(kit_api->probe(kit_be, &p, &e), 0);
    assert_true(p.stream_gbs > 0.2 &&
                p.stream_gbs < 2000); /* a probe whose loads were optimised away reads terabytes */
    assert_true(p.fp32_gflops > 0.2 && p.fp32_gflops < 20000);
    assert_true(p.int8_gops > 0.2 && p.int8_gops < 80000);
    kit_close();
}

/* A prefill of the largest bucket with the widest rows and the longest context of the catalogue, seconds long: the stop
 * word ends it in the middle of a call. 200 ms is the aim (8 were measured); sanitizers on a busy machine need more. */
enum { WIDE = 16384 + 4096, NARROW = 512, HEADS = 16, HEAD = 256, LONG = 2048, CALLS = 100, MANY = 256 };
struct prefill {
    struct program p;
    struct step s;
    int code;
};
static void *prefill(void *arg) {
    struct prefill *f = arg;
    struct err e = { 0 };
    f->code = kit_replay(&f->p, &f->s, NULL, &e);
    return NULL;
}
static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}
static void cancel_after(bool attention, long us) {
    static struct prefill f;
    static struct weight w;
    pthread_t thread;
    f = (struct prefill){ .code = 0 };
    assert_true(kit_open(NULL, 2));
    program_init(&f.p, kit_api, kit_be, MANY, 1, LONG);
    kit_weight(&w, "w", NARROW, WIDE, DTYPE_Q4_0, 1);
    struct mat x = program_tmp(&f.p, DIM_ROWS, MANY, attention ? HEADS * HEAD : WIDE);
    struct mat y = program_tmp(&f.p, DIM_ROWS, MANY, attention ? HEADS * HEAD : NARROW);
    struct mat k = program_kv(&f.p, HEADS * HEAD, HEAD), v = program_kv(&f.p, HEADS * HEAD, HEAD);
    for (int i = 0; i < CALLS && attention; i++) op_attn(&f.p, y, x, k, v, (struct attn_of){ HEADS, HEADS, HEAD, 1 });
    for (int i = 0; i < CALLS && !attention; i++) op_linear(&f.p, "wide", y, x, &w, NULL, ACT_GELU);
    kit_load((struct program *[]){ &f.p }, 1);
    kit_link(&f.p, NULL);
    f.s = kit_step(MANY, LONG - MANY, 0);
    assert_int_equal(pthread_create(&thread, NULL, prefill, &f), 0);
    pause_us(us);
    const double t0 = now_ms();
    step_cancel(&f.s);
    pthread_join(thread, NULL);
    const double waited = now_ms() - t0;
    assert_int_equal(f.code, STATUS_CANCELLED);
    if (waited > 1000) fail_msg("%s: stopped after %.0f ms", attention ? "attention" : "linear", waited);
    print_message("%s: stopped after %.1f ms\n", attention ? "attention" : "linear", waited);
    kit_fini(&f.p, true);
    kit_close();
}
static void test_an_interrupt_ends_a_long_prefill_soon(void **state) {
    (void)state;
    cancel_after(false, 60000);
    cancel_after(true, 60000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_task_once),
        cmocka_unit_test(test_slow_and_late_threads),
        cmocka_unit_test(test_helpers_sleep_between_jobs),
        cmocka_unit_test(test_processors),
        cmocka_unit_test(test_an_unknown_instruction_set_is_an_error),
        cmocka_unit_test(test_probe_finds_believable_numbers),
        cmocka_unit_test(test_an_interrupt_ends_a_long_prefill_soon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
