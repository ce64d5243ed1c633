#include "connection.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec.h"
#include "link.h"
#include "run/worker.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 1 << 16, OUT_HIGH = 1 << 20, HELLO_MS = 10000, LAST_MS = 1000 };
struct connection {
    struct house *house;
    pthread_t thread;
    int sock;
    struct worker *worker;
    struct buf in, out;
    struct hello peer;
    int jobs; /* of this connection, as in house.jobs */
    atomic_bool over;
};

void house_wake(struct house *h) {
    const uint64_t one = 1;
    while (write(h->wake, &one, sizeof one) < 0 && errno == EINTR) continue;
}
void house_unbind(struct house *h) {
    pthread_mutex_lock(&h->lock);
    if (h->bound) place_remove_socket(h->place, h->own);
    h->bound = false;
    pthread_mutex_unlock(&h->lock);
}

/* ---- bytes ---- */

/* As much as the socket takes. <0: the kernel is gone. */
static int flush(struct connection *c) {
    size_t sent = 0;
    while (sent < c->out.n) {
        const ssize_t n = send(c->sock, c->out.p + sent, c->out.n - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) return -1;
        sent += (size_t)n;
    }
    if (sent == c->out.n && c->out.cap > OUT_HIGH)
        buf_fini(&c->out);
    else
        buf_drop(&c->out, sent);
    return 0;
}
/* 1: more came, 0: nothing now, <0: the kernel is gone. */
static int receive(struct connection *c, struct err *e) {
    char chunk[CHUNK];
    const ssize_t n = recv(c->sock, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
    if (n <= 0) return -1;
    if (buf_add(&c->in, chunk, (size_t)n)) return err_set(e, STATUS_NOMEM, "no memory for a request");
    return 1;
}
static int say(struct connection *c, const struct engine_event *ev, struct err *e) {
    if (encode_event(&c->out, ev)) return err_set(e, STATUS_NOMEM, "no memory for an answer");
    if (ev->kind == ENGINE_EV_DONE || ev->kind == ENGINE_EV_FAIL) {
        c->jobs--;
        if (atomic_fetch_sub(&c->house->jobs, 1) == 1) house_wake(c->house);
    }
    return 0;
}

/* ---- frames ---- */

static int submit(struct connection *c, const char *body, size_t n, struct err *e) {
    struct engine_req q;
    struct engine_event failed = { .kind = ENGINE_EV_FAIL };
    void *block;
    if (decode_request(body, n, &failed.job, &q, &block, e)) return e->code;
    struct err *why = &failed.u.fail;
    c->jobs++;
    atomic_fetch_add(&c->house->jobs, 1);
    if (atomic_load(&c->house->retiring))
        err_set(why, STATUS_GONE,
                "a newer build of Jaeda took over this engine's place: restart the notebook's kernel");
    else
        worker_submit(c->worker, &q, &failed.job, why);
    mem_free(block);
    return why->code ? say(c, &failed, e) : 0;
}
static int handle(struct connection *c, enum frame_kind kind, const char *body, size_t n, struct err *e) {
    uint64_t job;
    switch (kind) {
    case FRAME_REQUEST: return submit(c, body, n, e);
    case FRAME_CANCEL:
        if (!decode_cancel(body, n, &job, e) && job) worker_cancel(c->worker, job);
        return e->code;
    default: return err_set(e, STATUS_FORMAT, "frame %d is not for an engine", (int)kind);
    }
}
static int handle_all(struct connection *c, struct err *e) {
    enum frame_kind kind;
    const char *body;
    size_t done = 0, n, whole;
    while (!e->code && frame_split(c->in.p + done, c->in.n - done, &kind, &body, &n, &whole, e) > 0) {
        done += whole;
        handle(c, kind, body, n, e);
    }
    buf_drop(&c->in, done);
    if (!c->in.n && c->in.cap > OUT_HIGH) buf_fini(&c->in);
    return e->code;
}

/* ---- hello ---- */

static int answer_hello(struct connection *c, const char *refusal) {
    struct hello h = { .pid = (int)getpid() };
    snprintf(h.build, sizeof h.build, "%s", engine_build());
    snprintf(h.refusal, sizeof h.refusal, "%.199s", refusal);
    return encode_hello(&c->out, &h) || flush(c) ? -1 : 0;
}
void connection_refuse(int sock, const char *why) {
    struct connection c = { .sock = sock };
    buf_init(&c.out, CHUNK);
    answer_hello(&c, why);
    buf_fini(&c.out);
    close(sock);
}
static int await_hello(struct connection *c, struct err *e) {
    enum frame_kind kind;
    const char *body;
    size_t n, whole;
    const double end = now_us() + HELLO_MS * 1e3;
    for (double left; (left = end - now_us()) > 0;) {
        struct pollfd at = { .fd = c->sock, .events = POLLIN };
        if (poll(&at, 1, (int)(left / 1e3) + 1) <= 0) continue;
        const int more = receive(c, e);
        if (more < 0) return e->code ? e->code : STATUS_GONE;
        const int rc = frame_split(buf_text(&c->in), c->in.n, &kind, &body, &n, &whole, e);
        if (rc < 0) return rc;
        if (!rc && c->in.n < CHUNK) continue;
        if (!rc || kind != FRAME_HELLO) return err_set(e, STATUS_FORMAT, "it did not say hello");
        const int bad = decode_hello(body, n, &c->peer, e);
        buf_drop(&c->in, whole);
        return bad;
    }
    return err_set(e, STATUS_IO, "it did not say hello in %d s", HELLO_MS / 1000);
}
static int welcome(struct connection *c, struct err *e) {
    if (await_hello(c, e)) return e->code ? e->code : STATUS_GONE;
    const int newer = build_compare(c->peer.build, engine_build());
    if (newer > 0) {
        log_at(LOG_INFO, "'%s' is of the newer build %s: nothing new begins here", c->peer.name, c->peer.build);
        house_unbind(c->house);
        atomic_store(&c->house->retiring, true);
        house_wake(c->house);
        return err_set(e, STATUS_GONE, "this engine is of an older build and leaves");
    }
    if (newer < 0)
        return err_set(e, STATUS_GONE,
                       "the engine is of a newer build than this kernel: restart the notebook's kernel");
    if (worker_open(&c->worker, &c->house->models, c->peer.name, e)) return e->code;
    if (answer_hello(c, "")) return STATUS_GONE;
    log_at(LOG_INFO, "'%s' (pid %d) is connected", c->peer.name, c->peer.pid);
    return 0;
}

/* ---- life ---- */

/* One round of waiting and carrying. <0: the kernel is gone, or e says what is wrong. */
static int carry(struct connection *c, bool listens, int wait_ms, struct err *e) {
    struct engine_event ev;
    const short events = (short)((listens ? POLLIN : 0) | (c->out.n ? POLLOUT : 0));
    struct pollfd at[2] = { { .fd = events ? c->sock : -1, .events = events },
                            { .fd = c->out.n < OUT_HIGH ? worker_fd(c->worker) : -1, .events = POLLIN } };
    if (poll(at, 2, wait_ms) <= 0) return 0;
    if (at[0].revents & ~POLLOUT && listens) {
        const int more = receive(c, e);
        if (more < 0 || (more && handle_all(c, e))) return -1;
    }
    while (at[1].revents && c->out.n < OUT_HIGH && worker_next(c->worker, &ev) > 0) {
        const int rc = say(c, &ev, e);
        engine_event_fini(&ev);
        if (rc) return -1;
    }
    return flush(c);
}
static void *serve(void *arg) {
    struct connection *c = arg;
    struct house *h = c->house;
    struct err e = { 0 }, late = { 0 };
    pthread_setname_np(pthread_self(), "link");
    if (!welcome(c, &e)) {
        while (!carry(c, true, -1, &e)) continue;
        worker_cancel(c->worker, 0);
        const double end = now_us() + LAST_MS * 1e3;
        while (atomic_load(&h->leaving) && (c->jobs || c->out.n) && now_us() < end && !carry(c, false, 50, &late))
            continue;
    } else if (e.code) {
        answer_hello(c, e.text);
    }
    shutdown(c->sock, SHUT_RDWR);
    if (e.code)
        log_at(LOG_WARN, "the connection of '%s' (pid %d) ends: %s", c->peer.name, c->peer.pid, e.text);
    else if (c->worker)
        log_at(LOG_INFO, "'%s' (pid %d) is gone", c->peer.name, c->peer.pid);
    worker_close(c->worker);
    atomic_fetch_sub(&h->jobs, c->jobs);
    atomic_store(&c->over, true);
    house_wake(h);
    return NULL;
}
int connection_open(struct connection **out, struct house *h, int sock, struct err *e) {
    sigset_t all, before;
    struct connection *c = mem_zero(1, sizeof *c);
    *out = NULL;
    if (c) {
        *c = (struct connection){ .house = h, .sock = sock };
        buf_init(&c->in, (size_t)FRAME_MAX + FRAME_HEAD);
        buf_init(&c->out, 2 * (size_t)FRAME_MAX);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
        const int rc = pthread_create(&c->thread, NULL, serve, c);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (!rc) return *out = c, 0;
    }
    mem_free(c);
    err_set(e, STATUS_NOMEM, "the engine has no memory or threads left for another notebook");
    connection_refuse(sock, e->text);
    return e->code;
}
bool connection_over(const struct connection *c) { return atomic_load(&c->over); }
void connection_end(struct connection *c) { shutdown(c->sock, SHUT_RD); }
void connection_close(struct connection *c) {
    pthread_join(c->thread, NULL);
    close(c->sock);
    buf_fini(&c->in);
    buf_fini(&c->out);
    mem_free(c);
}
