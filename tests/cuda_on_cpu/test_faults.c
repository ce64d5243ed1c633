/* A device in trouble, seen through the engine's door: every failure is one clear line, the engine lives on where it can, and
 * what was loaded stays usable. The device is emulated (JAEDA_BACKEND names its module); failures are injected there. */
#include "data/checkpoint.h"
#include "emu.h"
#include "run/listen.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TINY "tests/golden/tiny-tied.gguf"
enum {
    OUT_OF_MEMORY = 2,
    NO_DRIVER = 35,
    NO_DEVICE = 100,
    TAKEN = 46,
    NO_IMAGE = 209,
    ECC = 214,
    LAUNCH = 719,
    TIMEOUT = 702,
    NOT_READY = 802,
    MISMATCH = 803,
    UNKNOWN = 999,
    GiB = 1 << 30
};

static struct {
    void (*inject)(const char *, int, int);
    void (*memory)(size_t, size_t);
    void (*device)(int, int, int, int);
    void (*recover)(void);
    void (*reset_counts)(void);
    struct emu_counts (*count)(void);
} emu;
static int find(void **state) {
    (void)state;
    const char *path = getenv("JAEDA_BACKEND");
    void *so = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!so) return print_error("JAEDA_BACKEND must name the emulated device's module\n"), -1;
    *(void **)(void *)&emu.inject = dlsym(so, "emu_fail");
    *(void **)(void *)&emu.memory = dlsym(so, "emu_memory");
    *(void **)(void *)&emu.device = dlsym(so, "emu_device");
    *(void **)(void *)&emu.recover = dlsym(so, "emu_recover");
    *(void **)(void *)&emu.reset_counts = dlsym(so, "emu_reset_counts");
    *(void **)(void *)&emu.count = dlsym(so, "emu_count");
    return emu.inject && emu.memory && emu.device && emu.recover && emu.reset_counts && emu.count ? 0 : -1;
}
static int setup(void **state) {
    (void)state;
    struct err e = { 0 };
    emu.recover();
    emu.memory(0, 0);
    emu.device(1, 9, 0, 13000);
    if (engine_open(&g, "local:", &e)) print_error("%s\n", e.text);
    return e.code;
}
static int teardown(void **state) {
    (void)state;
    engine_close(g);
    emu.recover();
    emu.memory(0, 0);
    emu.device(1, 9, 0, 13000);
    return 0;
}
static struct heard *load(void) {
    return ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .dtype = "fp16" });
}
static void must_load(void) {
    const struct heard *h = load();
    if (h->fail.code) fail_msg("%s", h->fail.text);
}
static const struct engine_req SOME = { .max_new_tokens = 12, .ignore_eos = true };
static void must_say(const struct heard *h, int code, const char *part) {
    if (h->fail.code != code || !strstr(h->fail.text, part))
        fail_msg("%d: '%s', not '%s'", h->fail.code, h->fail.text, part);
    assert_null(strchr(h->fail.text, '\n'));
}
static void must_work(void) {
    const struct heard *h = generate("hello", SOME);
    if (h->fail.code) fail_msg("%s", h->fail.text);
    assert_int_equal(h->done.new_tokens, 12);
}

/* ---- opening ---- */
static void cannot_open(const char *part) {
    struct err e = { 0 };
    struct engine *none = NULL;
    engine_close(g);
    g = NULL;
    const int code = engine_open(&none, "local:", &e);
    if (!code) { /* the engine may say it with the first job */
        g = none;
        const struct heard *h = load();
        e = h->fail;
    }
    if (!e.code || !strstr(e.text, part)) fail_msg("'%s', not '%s'", e.text, part);
    assert_null(strchr(e.text, '\n'));
    emu.device(1, 9, 0, 13000);
    emu.recover();
    engine_close(g);
    e = (struct err){ 0 };
    assert_int_equal(engine_open(&g, "local:", &e), 0); /* and a later engine finds the device */
    must_load();
    must_work();
}
static void no_driver(void **state) {
    (void)state;
    emu.device(1, 9, 0, 0);
    cannot_open("no NVIDIA driver");
}
static void an_old_driver(void **state) {
    (void)state;
    emu.device(1, 9, 0, 11040);
    cannot_open("the driver knows CUDA 11.4, this build needs");
}
static void no_gpu(void **state) {
    (void)state;
    emu.device(0, 9, 0, 13000);
    cannot_open("no GPU");
}
static void an_old_gpu(void **state) {
    (void)state;
    emu.device(1, 7, 5, 13000);
    cannot_open("compute capability 7.5: 8.0");
}
static void no_code_for_this_gpu(void **state) {
    (void)state;
    emu.inject("kernel", 1, NO_IMAGE);
    cannot_open("no code for this GPU");
}

/* What a machine may say before any work: each has its own words. */
static void a_machine_that_is_not_set_up(void **state) {
    (void)state;
    emu.inject("cudaGetDeviceCount", 1, NOT_READY);
    cannot_open("nvidia-fabricmanager");
    emu.inject("cudaGetDeviceCount", 1, MISMATCH);
    cannot_open("restart the machine");
    emu.inject("cudaStreamCreateWithFlags", 1, TAKEN);
    cannot_open("taken exclusively by another process");
    emu.inject("cudaGetDeviceCount", 1, ECC);
    cannot_open("ECC");
}

static void without_cublas_prompts_are_slow_and_right(void **state) {
    (void)state;
    enum { TEXT = sizeof(((struct heard *)0)->text) };
    static char text[2][TEXT];
    for (int i = 0; i < 2; i++) {
        must_load();
        const struct heard *h = generate("hello hello hello hello hello hello hello hello", SOME);
        if (h->fail.code) fail_msg("%s", h->fail.text);
        memcpy(text[i], h->text, TEXT);
        h = ask(&(struct engine_req){ .kind = ENGINE_REQ_STATUS });
        assert_true(!strstr(h->system.isa, "no cuBLAS") == !i);
        engine_close(g);
        struct err e = { 0 };
        emu.inject("cublasLtCreate", 1, UNKNOWN);
        assert_int_equal(engine_open(&g, "local:", &e), 0);
    }
    assert_string_equal(text[0], text[1]);
}

/* ---- memory ---- */
static void memory_too_small_is_said_before_reading(void **state) {
    (void)state;
    emu.memory(1 << 16, GiB);
    const struct heard *h = load();
    must_say(h, STATUS_DEVMEM, "nothing was read");
    assert_int_equal(h->events[ENGINE_EV_PROGRESS], 0);
    emu.memory(0, 0);
    must_load();
    must_work();
}
static void memory_taken_between_plan_and_load(void **state) {
    (void)state;
    emu.inject("cudaMalloc", 1,
               OUT_OF_MEMORY); /* the plan fitted: the first thing that a load takes is for the weights */
    must_say(load(), STATUS_DEVMEM, "another process may have taken it meanwhile");
    must_load();
    must_work();
}
/* Each allocation of a load fails once, as when another process takes the memory meanwhile. */
static void out_of_memory_at_any_point_of_a_load(void **state) {
    (void)state;
    static const char *const call[] = { "cudaMalloc",
                                        "cudaHostAlloc",
                                        "cudaGraphInstantiate",
                                        "cudaStreamCreateWithFlags",
                                        "cudaEventCreateWithFlags",
                                        "cudaMemcpyAsync" };
    int failed = 0;
    for (size_t c = 0; c < sizeof call / sizeof *call; c++)
        for (int after = 1; after < 200; after = after < 12 ? after + 1 : after * 3 / 2) {
            emu.inject(call[c], after, OUT_OF_MEMORY);
            const struct heard *h = load();
            emu.recover();
            emu.inject(call[c], 1 << 30, 0);
            if (h->fail.code) {
                failed++;
                if (h->fail.code != STATUS_DEVMEM && h->fail.code != STATUS_NOMEM)
                    fail_msg("%s %d: %d '%s'", call[c], after, h->fail.code, h->fail.text);
                must_load();
            }
            must_work();
            assert_int_equal(ask(&(struct engine_req){ .kind = ENGINE_REQ_UNLOAD })->fail.code, 0);
        }
    assert_in_range(failed, 8, 100000);
}

/* ---- faults in the middle ---- */
static void start_anew(void) { /* an engine that has lost its device ends */
    engine_close(g);
    emu.recover();
    struct err e = { 0 };
    assert_int_equal(engine_open(&g, "local:", &e), 0);
    must_load();
    must_work();
}
/* While a token is made, while a prompt is read, while a model is loaded. */
static void lost(int code, const char *part) {
    static const int after[] = { 40, 3 };
    for (int i = 0; i < 2; i++) {
        must_load();
        must_work();
        emu.inject("kernel", after[i], code);
        must_say(generate("hello", (struct engine_req){ .max_new_tokens = 200, .ignore_eos = true }), STATUS_DEVICE,
                 part);
        must_say(generate("hello", SOME), STATUS_DEVICE, part); /* it stays so, and is said again */
        start_anew();
    }
    ask(&(struct engine_req){ .kind = ENGINE_REQ_UNLOAD });
    emu.inject("kernel", 5, code);
    must_say(load(), STATUS_DEVICE, part);
    start_anew();
}
static void a_kernel_that_faults(void **state) {
    (void)state;
    lost(LAUNCH, "cudaError 719");
}
static void a_kernel_that_times_out(void **state) {
    (void)state;
    lost(TIMEOUT, "time limit");
}
static void memory_that_fails(void **state) {
    (void)state;
    lost(ECC, "ECC");
}
static void a_card_that_disappears(void **state) {
    (void)state;
    lost(UNKNOWN, "no longer answers");
}
/* Any one call fails with an error that passes: one clear line at most, and the model still works. */
static void any_call_may_fail_once(void **state) {
    (void)state;
    static const char *const call[] = {
        "cudaMemcpyAsync", "cudaGraphLaunch", "cudaStreamSynchronize", "cudaStreamBeginCapture", "cudaStreamEndCapture",
        "cudaEventRecord", "launch"
    };
    must_load();
    for (size_t c = 0; c < sizeof call / sizeof *call; c++)
        for (int after = 1; after <= 40; after = after * 2 + 1) {
            emu.inject(call[c], after, OUT_OF_MEMORY);
            const struct heard *h = generate("hello", SOME);
            if (h->fail.code) assert_true(*h->fail.text && !strchr(h->fail.text, '\n'));
            emu.inject(call[c], 1 << 30, 0);
            emu.recover();
            must_work();
        }
}

/* A copy of a checkpoint with one number that is not finite. */
static void damage(char path[64], const char *tensor, float none) {
    struct checkpoint *c = NULL;
    struct err e = { 0 };
    assert_int_equal(checkpoint_open(&c, TINY, &e), 0);
    const struct tensor *t = checkpoint_tensor(c, tensor);
    assert_non_null(t);
    assert_int_equal(t->dt, DTYPE_F32);
    char block[4096];
    const int to = mkstemps(path, 5), from = checkpoint_file(c, t->file)->fd;
    assert_true(to >= 0);
    ssize_t n;
    for (off_t at = 0; (n = pread(from, block, sizeof block, at)) > 0; at += n)
        assert_int_equal(pwrite(to, block, (size_t)n, at), n);
    assert_int_equal(pwrite(to, &none, sizeof none, (off_t)t->offset), sizeof none);
    close(to);
    checkpoint_close(c);
}
static void damaged(float none) {
    char path[64] = "/var/tmp/jaeda-nan-XXXXXX.gguf";
    damage(path, "blk.1.ffn_norm.weight", none);
    const struct heard *h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = path, .dtype = "fp16" });
    if (h->fail.code) fail_msg("%s", h->fail.text);
    unlink(path);
    h = generate("hello", SOME);
    must_say(h, STATUS_FORMAT, "not finite");
    must_say(h, STATUS_FORMAT, "layer 1)");
    assert_string_equal(h->text, ""); /* nothing was sampled from it */
    ask(&(struct engine_req){ .kind = ENGINE_REQ_UNLOAD });
    must_load();
    must_work();
}
static void a_number_that_is_not_finite_is_said_with_layer_and_op(void **state) {
    (void)state;
    damaged(NAN);
    damaged(INFINITY);
}

/* ---- the token loop ---- */
static struct emu_counts cost_of(int tokens) {
    generate("hello", (struct engine_req){ .max_new_tokens = tokens, .ignore_eos = true });
    emu.reset_counts();
    const struct heard *h = generate("hello", (struct engine_req){ .max_new_tokens = tokens, .ignore_eos = true });
    assert_int_equal(h->done.new_tokens, tokens);
    return emu.count();
}
static void a_token_costs_one_graph_and_nothing_else(void **state) {
    (void)state;
    must_load();
    const struct emu_counts few = cost_of(8), many = cost_of(40);
    assert_in_range(many.graphs - few.graphs, 30, 34); /* some run ahead and are not used */
    assert_int_equal(many.syncs, few.syncs);
    assert_int_equal(many.copies, few.copies);
    assert_int_equal(many.mallocs, 0);
    assert_int_equal(many.host_allocs, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(no_driver),
        T(an_old_driver),
        T(no_gpu),
        T(an_old_gpu),
        T(no_code_for_this_gpu),
        T(a_machine_that_is_not_set_up),
        T(without_cublas_prompts_are_slow_and_right),
        T(memory_too_small_is_said_before_reading),
        T(memory_taken_between_plan_and_load),
        T(out_of_memory_at_any_point_of_a_load),
        T(a_kernel_that_faults),
        T(a_kernel_that_times_out),
        T(memory_that_fails),
        T(a_card_that_disappears),
        T(any_call_may_fail_once),
        T(a_number_that_is_not_finite_is_said_with_layer_and_op),
        T(a_token_costs_one_graph_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, find, NULL);
}
