/* link.c - what the way to the engine costs, and how soon an interrupt ends a job: "local:" and "ipc:DIR" by turns in one
 * run. Usage: jaeda-bench-link MODEL DIR [ROUNDS]; jaeda-engine lies beside it or in JAEDA_ENGINE_PROGRAM. */
#include "engine.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINKS = 2, ASKS = 1000, TOKENS = 64, LONG = 1400, MOST = 4096 };
static const char *const names[LINKS] = { "local:", "ipc:" };
struct samples {
    double v[MOST];
    int n;
};

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}
static int rising(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double at(struct samples *s, double share) {
    qsort(s->v, (size_t)s->n, sizeof *s->v, rising);
    return s->n ? s->v[(int)(share * (s->n - 1) + 0.5)] : 0;
}
static void add(struct samples *s, double v) {
    if (s->n < MOST) s->v[s->n++] = v;
}
static void show(const char *what, struct samples s[LINKS], const char *unit) {
    for (int i = 0; i < LINKS; i++)
        printf("%-34s %-7s p50 %9.3f  p99 %9.3f  max %9.3f %s  n %d\n", what, names[i], at(&s[i], 0.5), at(&s[i], 0.99),
               at(&s[i], 1), unit, s[i].n);
}
static struct engine_message message;
static struct engine_req writing(const char *text, int n) {
    message = (struct engine_message){ NULL, text, strlen(text) };
    return (struct engine_req){
        .kind = ENGINE_REQ_GENERATE, .message = &message, .messages = 1, .max_new_tokens = n, .ignore_eos = true
    };
}
/* Runs one job to its end. texts: when each piece of text came. cancel_at: after so many pieces (0: after_ms). */
struct run {
    int cancel_at;
    double after_ms, cancelled_ms, ended_ms;
    struct samples *gaps;
    struct engine_done done;
    int failed;
};
static void finish(struct engine *g, const struct engine_req *q, struct run *r) {
    struct err e = { 0 };
    uint64_t job;
    double last = 0;
    int texts = 0;
    const double begun = now_ms();
    r->failed = engine_submit(g, q, &job, &e);
    for (bool ended = r->failed; !ended;) {
        struct engine_event ev;
        const double due = r->after_ms > 0 && !r->cancelled_ms ? begun + r->after_ms - now_ms() : 1000;
        struct pollfd p = { engine_fd(g), POLLIN, 0 };
        if (due <= 0 || (r->cancel_at && texts >= r->cancel_at && !r->cancelled_ms)) {
            r->cancelled_ms = now_ms();
            engine_cancel(g, job);
        }
        const int got = engine_next(g, &ev);
        if (got < 0) break;
        if (!got) {
            poll(&p, 1, due < 1 ? 1 : (int)due);
            continue;
        }
        const double t = now_ms();
        if (ev.kind == ENGINE_EV_TEXT) {
            if (last > 0 && r->gaps) add(r->gaps, t - last);
            last = t;
            texts++;
        }
        ended = ev.kind == ENGINE_EV_DONE || ev.kind == ENGINE_EV_FAIL;
        if (ev.kind == ENGINE_EV_FAIL) fprintf(stderr, "%s\n", ev.u.fail.text), r->failed = 1;
        if (ev.kind == ENGINE_EV_DONE) r->done = ev.u.done;
        if (ended) r->ended_ms = t;
        engine_event_fini(&ev);
    }
    if (e.code) fprintf(stderr, "%s\n", e.text);
}
/* A request that does nothing: there and back. */
static void round_trips(struct engine *g[LINKS]) {
    static struct samples s[LINKS];
    const struct engine_req q = { .kind = ENGINE_REQ_RESET, .session = "none" };
    for (int i = 0; i < 2 * ASKS; i++) {
        struct run r = { 0 };
        const double t = now_ms();
        finish(g[i % LINKS], &q, &r);
        if (i >= 100) add(&s[i % LINKS], (r.ended_ms - t) * 1e3);
    }
    show("request and answer", s, "us");
}
static void tokens(struct engine *g[LINKS], int rounds) {
    static struct samples gap[LINKS], tpot[LINKS];
    for (int i = 0; i < 2 * rounds; i++) {
        const struct engine_req q = writing("The capital of South Korea is", TOKENS);
        struct run r = { .gaps = &gap[i % LINKS] };
        finish(g[i % LINKS], &q, &r);
        add(&tpot[i % LINKS], r.done.tpot_ms);
    }
    show("TPOT by the engine's clock", tpot, "ms");
    show("between two pieces of text", gap, "ms");
}
static void interrupts(struct engine *g[LINKS], int rounds) {
    static struct samples decode[LINKS], prefill[LINKS];
    static char text[LONG * 2 + 1];
    for (int i = 0; i < LONG; i++) memcpy(text + 2 * i, i % 7 ? "a " : "7 ", 3);
    for (int i = 0; i < 2 * rounds; i++) {
        struct engine_req q = writing("The capital of South Korea is", 512);
        struct run r = { .cancel_at = 3 + i % 11 };
        finish(g[i % LINKS], &q, &r);
        add(&decode[i % LINKS], r.ended_ms - r.cancelled_ms);
        q = writing(text, 4);
        struct run p = { .after_ms = 5 + i * 7 % 60 };
        finish(g[i % LINKS], &q, &p);
        if (p.cancelled_ms && !p.done.new_tokens) add(&prefill[i % LINKS], p.ended_ms - p.cancelled_ms);
    }
    show("interrupt of decode to its end", decode, "ms");
    show("interrupt of prefill to its end", prefill, "ms");
}
/* One writes while another reads long prompts: how long does its text stand still? */
static void freezes(const char *uri, const char *model) {
    static struct samples alone, beside;
    static char text[LONG * 2 + 1];
    struct engine *g[2] = { NULL, NULL };
    struct err e = { 0 };
    for (int i = 0; i < LONG; i++) memcpy(text + 2 * i, i % 5 ? "b " : "3 ", 3);
    for (int i = 0; i < 2; i++) {
        const struct engine_req load = { .kind = ENGINE_REQ_LOAD, .model = model };
        struct run r = { 0 };
        if (engine_open(&g[i], uri, &e)) fprintf(stderr, "%s\n", e.text);
        if (g[i]) finish(g[i], &load, &r);
    }
    if (!g[0] || !g[1]) return;
    struct engine_req q = writing("Once upon a time", 200);
    struct run first = { .gaps = &alone }, second = { .gaps = &beside };
    finish(g[0], &q, &first);
    const struct engine_message longest = { NULL, text, strlen(text) };
    uint64_t job;
    engine_submit(
        g[1],
        &(struct engine_req){ .kind = ENGINE_REQ_GENERATE, .message = &longest, .messages = 1, .max_new_tokens = 1 },
        &job, &e);
    q = writing("Once upon a time", 200);
    finish(g[0], &q, &second);
    printf("%-34s %-7s p50 %9.3f  p99 %9.3f  max %9.3f ms  n %d\n", "text alone", uri, at(&alone, 0.5),
           at(&alone, 0.99), at(&alone, 1), alone.n);
    printf("%-34s %-7s p50 %9.3f  p99 %9.3f  max %9.3f ms  n %d  waited %.0f ms\n", "text beside a long prompt", uri,
           at(&beside, 0.5), at(&beside, 0.99), at(&beside, 1), beside.n, second.done.waited_ms);
    for (int i = 0; i < 2; i++) engine_close(g[i]);
}
int main(int argc, char **argv) {
    if (argc < 3) return fputs("usage: jaeda-bench-link MODEL DIR [ROUNDS]\n", stderr), 2;
    const int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 20;
    char ipc[4096];
    snprintf(ipc, sizeof ipc, "ipc:%s", argv[2]);
    const char *const uri[LINKS] = { "local:", ipc };
    struct engine *g[LINKS];
    for (int i = 0; i < LINKS; i++) {
        struct err e = { 0 };
        struct run r = { 0 };
        const struct engine_req load = { .kind = ENGINE_REQ_LOAD, .model = argv[1] };
        if (engine_open(&g[i], uri[i], &e)) return fprintf(stderr, "%s\n", e.text), 1;
        finish(g[i], &load, &r);
        if (r.failed) return 1;
    }
    round_trips(g);
    tokens(g, rounds);
    interrupts(g, rounds);
    engine_close(g[0]);
    freezes(ipc, argv[1]);
    struct run quit = { 0 };
    const struct engine_req end = { .kind = ENGINE_REQ_ENGINE, .quit = true };
    finish(g[1], &end, &quit);
    engine_close(g[1]);
    return 0;
}
