/* Several users of one engine: what they share, what each has for itself, and that nobody waits for long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "run/machine.h"
#include "run/seat.h"
#include "run/worker.h"
#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TINY "tests/golden/tiny-tied.gguf"
#define OTHER "tests/golden/llama-gqa.gguf"

static struct models m;
static struct worker *a, *b;
struct end {
    int texts, rows;
    struct engine_model model[8];
    struct engine_system system;
    struct engine_done done;
    struct err fail;
    bool ended;
    double at_us, first_us;
};
static void hear(struct end *h, struct engine_event *ev) {
    if (ev->kind == ENGINE_EV_TEXT && !h->texts++) h->first_us = now_us();
    for (int i = 0; ev->kind == ENGINE_EV_MODELS && i < ev->u.models.n && h->rows < 8; i++)
        h->model[h->rows++] = ev->u.models.row[i];
    if (ev->kind == ENGINE_EV_SYSTEM) h->system = ev->u.system;
    if (ev->kind == ENGINE_EV_DONE) h->done = ev->u.done;
    if (ev->kind == ENGINE_EV_FAIL) h->fail = ev->u.fail;
    if (ev->kind == ENGINE_EV_DONE || ev->kind == ENGINE_EV_FAIL) h->ended = true, h->at_us = now_us();
    engine_event_fini(ev);
}
static uint64_t submit(struct worker *w, const struct engine_req *q) {
    struct err e = { 0 };
    uint64_t id = 0;
    if (worker_submit(w, q, &id, &e)) fail_msg("%s", e.text);
    return id;
}
/* Until the job has ended; other jobs' events are dropped. */
static struct end wait_for(struct worker *w, uint64_t id) {
    struct end h = { 0 };
    struct engine_event ev;
    for (int i = 0; i < 600 && !h.ended; i++) {
        struct pollfd p = { worker_fd(w), POLLIN, 0 };
        poll(&p, 1, 100);
        while (!h.ended && worker_next(w, &ev) > 0) {
            if (ev.job == id)
                hear(&h, &ev);
            else
                engine_event_fini(&ev);
        }
    }
    assert_true(h.ended);
    return h;
}
static struct end ask(struct worker *w, struct engine_req q) { return wait_for(w, submit(w, &q)); }
static struct end load(struct worker *w, const char *name, const char *dtype) {
    struct end h = ask(w, (struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = name, .dtype = dtype });
    if (h.fail.code) fail_msg("%s", h.fail.text);
    return h;
}
static struct engine_req writing(const char *text, int n, int lane) {
    static struct engine_message message[4];
    static int at;
    struct engine_message *one = &message[at++ % 4];
    *one = (struct engine_message){ NULL, text, strlen(text) };
    return (struct engine_req){ .kind = ENGINE_REQ_GENERATE,
                                .message = one,
                                .messages = 1,
                                .max_new_tokens = n,
                                .ignore_eos = true,
                                .lane = lane };
}
static struct end status(struct worker *w) { return ask(w, (struct engine_req){ .kind = ENGINE_REQ_STATUS }); }

static void weights_are_there_once_and_know_their_users(void **state) {
    (void)state;
    load(a, TINY, "fp32");
    struct end h = load(b, TINY, "fp32");
    assert_string_equal(h.model[0].notice, "already loaded");
    assert_int_equal(h.model[0].users, 2);
    h = status(b);
    assert_int_equal(h.rows, 1);
    assert_int_equal(h.model[0].users, 2);
    assert_string_equal(h.model[0].user, "b.ipynb (you), a.ipynb");
    assert_int_equal(h.system.connections, 2);
    load(b, TINY, "int8"); /* another form is another copy, and b's first one leaves */
    h = status(b);
    assert_int_equal(h.rows, 2);
    assert_string_equal(h.model[0].dtype, "int8");
    assert_int_equal(h.model[0].users, 1);
    assert_string_equal(h.model[1].user, "a.ipynb");
}
/* A KV cache is taken without the turn: whoever writes does not stand still for another's pages. */
static void a_second_seat_waits_for_nobody_who_computes(void **state) {
    (void)state;
    load(a, TINY, "fp32");
    if (m.api->memory) skip(); /* a device serves one thread at a time */
    turn_take(&m.turn, NULL);
    load(b, TINY, "fp32");
    turn_give(&m.turn);
    assert_int_equal(status(b).model[0].users, 2);
}
static void each_user_has_its_own_length_and_conversation(void **state) {
    (void)state;
    load(a, TINY, "fp32");
    struct end h =
        ask(b, (struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .dtype = "fp32", .max_model_len = 64 });
    assert_int_equal(h.model[0].max_model_len, 64);
    assert_true(status(a).model[0].max_model_len > 64);
    struct engine_req q = writing("the quick brown fox jumps", 4, 0);
    q.session = "chat";
    assert_int_equal(ask(a, q).done.cached_tokens, 0);
    assert_int_equal(ask(b, q).done.cached_tokens, 0); /* the same name, another notebook */
    assert_true(ask(a, q).done.cached_tokens > 0);
    h = ask(b, writing("one two three four five six seven eight nine ten eleven twelve", 1000, 0));
    assert_true(h.fail.code == STATUS_INVALID || h.done.stop == ENGINE_STOP_CONTEXT);
}
static void a_lease_ends_and_weights_stay(void **state) {
    (void)state;
    load(a, TINY, "fp32");
    const struct engine_req q = writing("hello", 1 << 20, 0);
    submit(a, &q);
    worker_close(a);
    struct end h = status(b);
    assert_int_equal(h.rows, 1);
    assert_int_equal(h.model[0].users, 0);
    assert_true(h.model[0].idle_s >= 0 && h.model[0].idle_s < 60);
    assert_int_equal(h.system.jobs_running, 0);
    h = ask(b, writing("hello", 3, 0)); /* nothing of its own: the error says what is resident */
    assert_int_equal(h.fail.code, STATUS_NOTFOUND);
    assert_non_null(strstr(h.fail.text, "resident"));
    assert_string_equal(load(b, TINY, "fp32").model[0].notice, "already loaded");
    assert_int_equal(ask(b, writing("hello", 3, 0)).done.new_tokens, 3);
    struct err e = { 0 };
    assert_int_equal(worker_open(&a, &m, "a.ipynb", &e), 0);
}
static void unload_frees_what_nobody_else_holds(void **state) {
    (void)state;
    load(a, TINY, "fp32");
    load(b, TINY, "fp32");
    struct end h = ask(a, (struct engine_req){ .kind = ENGINE_REQ_UNLOAD });
    assert_int_equal(h.model[0].users, 1);
    assert_true(h.model[0].loaded && h.model[0].resident_before > 0 && h.model[0].resident_after > 0);
    assert_int_equal(status(a).rows, 1);
    h = ask(b, (struct engine_req){ .kind = ENGINE_REQ_UNLOAD });
    assert_false(h.model[0].loaded);
    assert_int_equal(status(a).rows, 0);
    load(a, TINY, "fp32");
    load(a, OTHER, "fp32");
    ask(b, (struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .model = "*" }); /* what a holds is not b's to take */
    assert_int_equal(status(a).rows, 2);
    ask(a, (struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .model = "*" });
    assert_int_equal(status(a).rows, 0);
}
static void two_notebooks_write_at_the_same_time(void **state) {
    (void)state;
    load(a, TINY, "fp32");
    load(b, TINY, "fp32");
    const struct engine_req q = writing("hello", 200, 0);
    const uint64_t one = submit(a, &q), two = submit(b, &q);
    struct end x = wait_for(a, one), y = wait_for(b, two);
    assert_int_equal(x.done.new_tokens, 200);
    assert_int_equal(y.done.new_tokens, 200);
    assert_true(x.done.waited_ms + y.done.waited_ms > 0);
}
static void a_lane_does_not_wait_for_another(void **state) {
    (void)state;
    load(a, TINY, "fp32");
    const struct engine_req slow = {
        .kind = ENGINE_REQ_PROFILE, .prompt_tokens = 40, .max_new_tokens = 200, .runs = 100
    };
    const struct engine_req quick = writing("hello", 8, 3);
    const uint64_t first = submit(a, &slow);
    for (int i = 0; i < 10000 && status(a).model[0].idle_s > 0; i++) usleep(1000); /* until it runs */
    const uint64_t again = submit(a, &slow), second = submit(a, &quick);
    assert_int_equal(wait_for(a, second).done.new_tokens, 8);
    assert_int_equal(status(a).model[0].sessions, 1); /* the side job's cache went with it */
    struct end h = ask(a, (struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .lane = 1 });
    assert_int_equal(h.fail.code, STATUS_BUSY);
    worker_cancel(a, first);
    worker_cancel(a, again);
    wait_for(a, first);
    wait_for(a, again);
}
static void ask_both_to_load(struct end *x, struct end *y) {
    const struct engine_req q = { .kind = ENGINE_REQ_LOAD, .model = TINY, .dtype = "fp32" };
    const uint64_t one = submit(a, &q), two = submit(b, &q);
    *x = wait_for(a, one);
    *y = wait_for(b, two);
}
static void loaded_by_two_at_once_it_is_read_once(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct end x, y;
        ask_both_to_load(&x, &y);
        assert_int_equal(x.fail.code | y.fail.code, 0);
        assert_true(!strcmp(x.model[0].notice, "already loaded") != !strcmp(y.model[0].notice, "already loaded"));
        assert_int_equal(status(a).rows, 1);
        ask(a, (struct engine_req){ .kind = ENGINE_REQ_UNLOAD });
        ask(b, (struct engine_req){ .kind = ENGINE_REQ_UNLOAD });
        assert_int_equal(status(a).rows, 0);
    }
}
/* As if other loads had been promised far more than there is: a machine's free memory moves while a test looks. */
static void promise_everything(void) {
    pthread_mutex_lock(&m.lock);
    m.promised = 2 * machine_memory().total;
    pthread_mutex_unlock(&m.lock);
}
static void too_much_is_answered_with_numbers_and_idle_ones_leave_when_asked(void **state) {
    (void)state;
    load(a, TINY, "fp32");
    worker_close(a);
    struct err e = { 0 };
    assert_int_equal(worker_open(&a, &m, "a.ipynb", &e), 0);
    promise_everything();
    struct engine_req q = { .kind = ENGINE_REQ_LOAD, .model = OTHER, .dtype = "fp32" };
    struct end h = ask(a, q);
    assert_int_equal(h.fail.code, STATUS_NOMEM);
    assert_non_null(strstr(h.fail.text, "GiB is free"));
    assert_non_null(strstr(h.fail.text, "--evict"));
    assert_int_equal(status(a).rows, 1); /* not asked for: it stays */
    q.evict = true;
    h = ask(a, q);
    assert_int_equal(h.fail.code, STATUS_NOMEM); /* even that is too little, but the idle one had to go */
    assert_int_equal(status(a).rows, 0);
    pthread_mutex_lock(&m.lock);
    m.promised = 0;
    pthread_mutex_unlock(&m.lock);
    load(a, OTHER, "fp32");
    assert_int_equal(m.promised, 0); /* what a load was promised is given back */
}
static void an_environment_comes_with_its_request(void **state) {
    (void)state;
    struct end h = ask(a, (struct engine_req){ .kind = ENGINE_REQ_LOAD,
                                               .model = "tiny-tied.gguf",
                                               .dtype = "fp32",
                                               .environment = "HOME=/nonexistent\nPWD=/nonexistent\n" });
    assert_int_equal(h.fail.code, STATUS_NOTFOUND);
    char here[4096], lines[4200];
    assert_non_null(realpath("tests/golden", here));
    snprintf(lines, sizeof lines, "HOME=/nonexistent\nPWD=%s\n", here);
    h = ask(a, (struct engine_req){
                   .kind = ENGINE_REQ_LOAD, .model = "./tiny-tied.gguf", .dtype = "fp32", .environment = lines });
    if (h.fail.code) fail_msg("%s", h.fail.text);
    assert_true(h.model[0].file[0] == '/');
}
static void the_engine_is_told_to_end(void **state) {
    (void)state;
    char why[128];
    assert_false(models_quitting(&m, why));
    struct end h = ask(b, (struct engine_req){ .kind = ENGINE_REQ_ENGINE, .set_idle = true, .idle_s = 90 });
    assert_float_equal(h.system.idle_limit_s, 90, 0);
    assert_float_equal(models_idle_limit(&m), 90, 0);
    ask(b, (struct engine_req){ .kind = ENGINE_REQ_ENGINE, .quit = true });
    assert_true(models_quitting(&m, why));
    assert_string_equal(why, "was stopped by %engine in b.ipynb");
}
/* Every allocation of a load and of a generation fails once: the job ends with an error, the next one works. */
static void no_failing_allocation_leaves_a_job_without_an_end(void **state) {
    (void)state;
    load(b, TINY, "fp32");
    bool ended = false;
    for (long n = 1; n < 100000 && !ended; n += n < 60 ? 1 : 37) {
        struct err e = { 0 };
        uint64_t id = 0;
        const struct engine_req one = { .kind = ENGINE_REQ_LOAD, .model = OTHER, .dtype = "fp32" };
        const struct engine_req two = writing("hello", 4, 0);
        mem_fail_at(n);
        struct end h = { .fail = { STATUS_NOMEM, "" } };
        if (!worker_submit(a, &one, &id, &e)) h = wait_for(a, id);
        id = 0;
        if (!h.fail.code && !worker_submit(a, &two, &id, &e)) {
            h = wait_for(a, id);
            ended = !h.fail.code;
        }
        mem_fail_at(0);
        ask(a, (struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .model = "*" });
        assert_int_equal(status(a).rows, 1); /* b's */
        assert_int_equal(m.promised, 0);
    }
    assert_true(ended);
}

/* ---- turns ---- */
static void *come(void *arg) {
    turn_take(arg, NULL);
    turn_give(arg);
    return NULL;
}
static void a_long_step_gives_way(void **state) {
    (void)state;
    struct turn t;
    static struct step step;
    pthread_t thread;
    turn_init(&t);
    turn_take(&t, &step);
    assert_int_equal(step.stop, STOP_NONE);
    assert_int_equal(pthread_create(&thread, NULL, come, &t), 0);
    for (int i = 0; i < 5000 && !__atomic_load_n(&step.stop, __ATOMIC_ACQUIRE); i++) poll(NULL, 0, 1);
    assert_int_equal(step.stop, STOP_CANCEL);
    turn_give(&t);
    pthread_join(thread, NULL);
    turn_fini(&t);
}
static void a_piece_of_prompt_fits_into_a_turn(void **state) {
    (void)state;
    assert_int_equal(turn_rows(256, 2560), 12); /* 10 ms a row: half a turn, since pieces vary */
    assert_int_equal(turn_rows(12, 120), 12);
    assert_int_equal(turn_rows(8, 1600), 1);
    assert_int_equal(turn_rows(1, 100000), 1);
    assert_int_equal(turn_rows(256, 10), ROWS_MAX);
    assert_int_equal(turn_rows(256, 0), ROWS_MAX);
}

static int setup(void **state) {
    (void)state;
    struct err e = { 0 };
    static const struct about about = { "ipc", "", "" };
    if (models_open(&m, &about, &e) || worker_open(&a, &m, "a.ipynb", &e) || worker_open(&b, &m, "b.ipynb", &e))
        return -1;
    return 0;
}
static int teardown(void **state) {
    (void)state;
    worker_close(a);
    worker_close(b);
    const bool settled = !m.promised && !models_jobs(&m) && !m.connections; /* nothing stays promised or counted */
    models_close(&m);
    return settled ? 0 : -1;
}
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(weights_are_there_once_and_know_their_users),
        T(a_second_seat_waits_for_nobody_who_computes),
        T(each_user_has_its_own_length_and_conversation),
        T(a_lease_ends_and_weights_stay),
        T(unload_frees_what_nobody_else_holds),
        T(two_notebooks_write_at_the_same_time),
        T(a_lane_does_not_wait_for_another),
        T(loaded_by_two_at_once_it_is_read_once),
        T(too_much_is_answered_with_numbers_and_idle_ones_leave_when_asked),
        T(an_environment_comes_with_its_request),
        T(the_engine_is_told_to_end),
        T(no_failing_allocation_leaves_a_job_without_an_end),
        cmocka_unit_test(a_long_step_gives_way),
        cmocka_unit_test(a_piece_of_prompt_fits_into_a_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
