/* fake_engine.h - engine.h for tests of what stands above it: a script of canned answers, no model. */
#ifndef JAEDA_TEST_FAKE_ENGINE_H
#define JAEDA_TEST_FAKE_ENGINE_H
#include "engine/engine.h"
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { FAKE_EVENTS = 32 };
struct engine {
    struct engine_event queue[FAKE_EVENTS];
    int head, tail, fd;
    uint64_t job;
};
/* What the test asks of the fake, and what the fake saw. */
static struct fake {
    struct engine *g;
    struct engine_req last;
    char model[128], template_name[32], prompt[4096], roles[200], session[32], stop[64], dtype[16];
    int opened, requests;
    atomic_int cancelled;
    struct err fail; /* the next job ends in this */
    bool lost, hang; /* the connection breaks; the next job answers only when cancelled */
    struct engine_profile profile;
    struct engine_done done;
} fake;

static void fake_push(struct engine *g, struct engine_event ev) {
    ev.job = g->job;
    g->queue[g->tail++ % FAKE_EVENTS] = ev;
    if (write(g->fd, &(uint64_t){ 1 }, 8) != 8) fake.lost = true;
}
static void fake_text(struct engine *g, const char *text) {
    fake_push(g, (struct engine_event){ .kind = ENGINE_EV_TEXT, .u.text = { text, strlen(text) } });
}
int engine_open(struct engine **out, const char *uri, struct err *e) {
    (void)uri, (void)e;
    static struct engine one;
    one = (struct engine){ .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    fake.g = *out = &one;
    fake.opened++;
    return 0;
}
void engine_close(struct engine *g) {
    if (g) close(g->fd);
}
static struct engine_model fake_model = { .name = "small",
                                          .file = "/models/small.gguf",
                                          .arch = "llama",
                                          .dtype = "q4_1",
                                          .template_name = "chatml",
                                          .on_disk = true,
                                          .layers = 30,
                                          .hidden = 576,
                                          .heads = 9,
                                          .kv_heads = 3,
                                          .context = 8192,
                                          .max_model_len = 4096,
                                          .params = 134515008,
                                          .file_bytes = 98304000,
                                          .weight_bytes = 98000000,
                                          .kv_bytes = 188743680,
                                          .arena_bytes = 1048576,
                                          .predicted_bytes = 287792256,
                                          .measured_bytes = 288000000,
                                          .freed_bytes = 287000000,
                                          .load_s = 0.5,
                                          .read_mib_s = 200 };
static void fake_answer(struct engine *g, const struct engine_req *q) {
    static struct engine_model rows[2];
    rows[0] = fake_model;
    rows[0].loaded = q->kind != ENGINE_REQ_UNLOAD;
    rows[1] = (struct engine_model){ .name = "other", .get = "curl -LO https://example.org/other.gguf" };
    if (q->kind == ENGINE_REQ_LOAD)
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_PROGRESS,
                                            .u.progress = { "reading weights", 5e7, 9.8e7, "B", 0.2 } });
    if (q->kind != ENGINE_REQ_GENERATE && q->kind != ENGINE_REQ_PROFILE && q->kind != ENGINE_REQ_RESET)
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_MODELS,
                                            .u.models = { rows, q->kind == ENGINE_REQ_MODELS ? 2 : 1 } });
    if (q->kind == ENGINE_REQ_STATUS) {
        const struct engine_system s = { .cpu = "A Processor",
                                         .isa = "avx2",
                                         .gpu = "no GPU",
                                         .backend = "cpu",
                                         .version = "1",
                                         .threads = 2,
                                         .processors = 4,
                                         .memory_total = 8ull << 30,
                                         .memory_available = 4ull << 30,
                                         .resident = 1ull << 28 };
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_SYSTEM, .u.system = s });
    }
    if (q->kind == ENGINE_REQ_PROFILE)
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_PROFILE, .u.profile = fake.profile });
    if (q->kind == ENGINE_REQ_GENERATE) fake_text(g, "안녕"), fake_text(g, " world");
    if (fake.fail.code) {
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_FAIL, .u.fail = fake.fail });
    } else if (!fake.hang) {
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_DONE, .u.done = fake.done });
    }
}
int engine_submit(struct engine *g, const struct engine_req *q, uint64_t *job, struct err *e) {
    (void)e;
    fake.last = *q;
    fake.requests++;
    snprintf(fake.model, sizeof fake.model, "%s", q->model ? q->model : "(last)");
    snprintf(fake.template_name, sizeof fake.template_name, "%s", q->template_name ? q->template_name : "(own)");
    snprintf(fake.session, sizeof fake.session, "%s", q->session ? q->session : "(none)");
    snprintf(fake.dtype, sizeof fake.dtype, "%s", q->dtype ? q->dtype : "");
    snprintf(fake.stop, sizeof fake.stop, "%s", q->stops ? q->stop[0] : "");
    fake.roles[0] = 0;
    for (int i = 0; i < q->messages; i++) {
        const size_t n = strlen(fake.roles);
        snprintf(fake.roles + n, sizeof fake.roles - n, "%s%s", i ? " " : "",
                 q->message[i].role ? q->message[i].role : "raw");
        snprintf(fake.prompt, sizeof fake.prompt, "%.*s", (int)q->message[i].len, q->message[i].text);
    }
    *job = ++g->job;
    fake_answer(g, q);
    return 0;
}
int engine_fd(const struct engine *g) { return g->fd; }
int engine_next(struct engine *g, struct engine_event *ev) {
    uint64_t n;
    if (fake.lost) return -1;
    if (g->head == g->tail) return read(g->fd, &n, 8) == 8 ? 0 : 0;
    *ev = g->queue[g->head++ % FAKE_EVENTS];
    return 1;
}
void engine_event_fini(struct engine_event *ev) { (void)ev; }
void engine_cancel(struct engine *g, uint64_t job) {
    (void)job;
    fake.cancelled++;
    struct engine_done done = fake.done;
    done.stop = ENGINE_STOP_CANCELLED;
    if (fake.last.kind == ENGINE_REQ_GENERATE)
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_DONE, .u.done = done });
    else
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_FAIL, .u.fail = { STATUS_CANCELLED, "interrupted" } });
}
const char *engine_stop_text(enum engine_stop s) {
    return s == ENGINE_STOP_EOS ? "end of text" : s == ENGINE_STOP_CANCELLED ? "cancelled" : "max_new_tokens";
}
const char *engine_version(void) { return "fake"; }

#endif
