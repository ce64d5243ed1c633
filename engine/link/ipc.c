/* ipc.c - engine.h through the socket of the resident engine, which is started when nobody listens. */
#include "base/log.h"
#include "base/mem.h"
#include "codec.h"
#include "link.h"
#include "place.h"
#include "run/job.h"
#include "spawn.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 10000, ENDED_MS = 5000, STEP_MS = 20, CHUNK = 1 << 16, LOG_LINES = 8 };
struct ipc {
    struct place place;
    int sock, pid;
    pthread_mutex_t lock;   /* the sending side: out, jobs, why */
    struct buf out, cancel; /* cancel's memory is there from the start: it must never fail for want of it */
    uint64_t jobs;
    struct err why; /* this side gave up; else the engine did */
    struct buf in;  /* of next's thread: the frame that is being read */
};

/* ---- bytes ---- */

/* Everything, waiting for room at most WAIT_MS at a time. The engine reads always, whatever it has to say itself. */
static int send_all(int sock, const struct buf *b, struct err *e) {
    for (size_t sent = 0; sent < b->n;) {
        const ssize_t n = send(sock, b->p + sent, b->n - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        if (n >= 0 || errno == EINTR) continue;
        struct pollfd at = { .fd = sock, .events = POLLOUT };
        if (errno != EAGAIN) return err_set(e, STATUS_GONE, "the engine is gone");
        if (!poll(&at, 1, WAIT_MS)) return err_set(e, STATUS_GONE, "the engine took nothing for %d s", WAIT_MS / 1000);
    }
    return 0;
}
/* Reads one frame into b, never more: what the socket still holds keeps it readable. 1: it is whole, 0: not yet, <0: the
 * connection ended, or e says what is wrong. */
static int read_frame(int sock, struct buf *b, enum frame_kind *kind, struct err *e) {
    char chunk[CHUNK];
    for (;;) {
        const char *body;
        size_t n, whole = 0, want = FRAME_HEAD;
        const int rc = frame_split(buf_text(b), b->n, kind, &body, &n, &whole, e);
        if (rc) return rc;
        if (b->n >= FRAME_HEAD) {
            const unsigned char *h = (const unsigned char *)b->p;
            want += (size_t)h[0] | (size_t)h[1] << 8 | (size_t)h[2] << 16 | (size_t)h[3] << 24;
        }
        want -= b->n;
        const ssize_t got = recv(sock, chunk, want < CHUNK ? want : CHUNK, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return 0;
        if (got <= 0) return STATUS_GONE;
        if (buf_add(b, chunk, (size_t)got)) return err_set(e, STATUS_NOMEM, "no memory for what the engine answers");
    }
}

/* ---- hello ---- */

static void name_self(char out[96]) {
    const char *notebook = getenv("JPY_SESSION_NAME"), *slash = notebook ? strrchr(notebook, '/') : NULL;
    if (notebook && *notebook)
        snprintf(out, 96, "%s", slash ? slash + 1 : notebook);
    else
        snprintf(out, 96, "pid %d", (int)getpid());
}
static int read_hello(int sock, struct hello *its, struct err *e) {
    struct buf in;
    enum frame_kind kind;
    int rc = 0;
    buf_init(&in, CHUNK);
    for (const double end = now_us() + WAIT_MS * 1e3; !rc && now_us() < end;) {
        struct pollfd at = { .fd = sock, .events = POLLIN };
        if (poll(&at, 1, WAIT_MS) > 0) rc = read_frame(sock, &in, &kind, e);
    }
    if (!rc) err_set(e, STATUS_GONE, "the engine does not answer");
    if (rc == 1 && kind != FRAME_HELLO) err_set(e, STATUS_FORMAT, "what listens there is no engine");
    if (rc == 1 && !e->code) decode_hello(in.p + FRAME_HEAD, in.n - FRAME_HEAD, its, e);
    buf_fini(&in);
    if (!e->code && rc < 0) return STATUS_NOTFOUND; /* it left as we came */
    return e->code;
}
/* 0; STATUS_NOTFOUND: no engine of this build is there (any more); else e says why it cannot be used. */
static int greet(struct ipc *c, int sock, struct err *e) {
    struct hello mine = { .pid = (int)getpid() }, its;
    struct err ignored = { 0 };
    const uid_t peer = place_peer(sock);
    if (peer != geteuid())
        return err_set(e, STATUS_IO, "the engine in %.160s belongs to uid %d: it is not used", c->place.dir, (int)peer);
    snprintf(mine.build, sizeof mine.build, "%s", engine_build());
    name_self(mine.name);
    buf_reset(&c->out);
    if (encode_hello(&c->out, &mine)) return err_set(e, STATUS_NOMEM, "no memory to reach the engine");
    send_all(sock, &c->out, &ignored); /* one that refuses us does not read this */
    const int rc = read_hello(sock, &its, e);
    if (rc) return rc;
    if (build_compare(mine.build, its.build) > 0) return STATUS_NOTFOUND;
    if (its.refusal[0]) return err_set(e, STATUS_BUSY, "%s", its.refusal);
    c->pid = its.pid;
    return 0;
}
static int try_connect(struct ipc *c, struct err *e) {
    struct err why = { 0 };
    const int sock = place_connect(&c->place, &why);
    int rc = sock < 0 ? sock : greet(c, sock, &why);
    if (!rc) return c->sock = sock, 0;
    if (sock >= 0) close(sock);
    return rc == STATUS_NOTFOUND ? rc : err_set(e, rc, "%s", why.text);
}
/* Whoever holds the lock looks again, starts one, and looks once more. */
static int connect_or_start(struct ipc *c, struct err *e) {
    char said[200] = "";
    int rc = try_connect(c, e);
    if (rc != STATUS_NOTFOUND) return rc;
    const int lock = place_lock(&c->place, WAIT_MS, e);
    if (lock < 0) return lock;
    rc = try_connect(c, e);
    if (rc == STATUS_NOTFOUND) {
        rc = spawn_engine(&c->place, lock, said, e);
        if (!rc) rc = try_connect(c, e);
        if (rc == STATUS_NOTFOUND)
            err_set(e, STATUS_GONE, "the engine ended as it started: %s", *said ? said : "it said nothing");
    }
    close(lock);
    return e->code;
}

/* ---- link_ops ---- */

static void ipc_close(void *self) {
    struct ipc *c = self;
    if (c->sock >= 0) close(c->sock);
    place_close(&c->place);
    buf_fini(&c->in);
    buf_fini(&c->out);
    buf_fini(&c->cancel);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}
static int ipc_open(void **self, const char *uri, struct err *e) {
    struct ipc *c = mem_zero(1, sizeof *c);
    if (!c) return err_set(e, STATUS_NOMEM, "no memory to reach the engine");
    c->sock = c->place.fd = -1;
    pthread_mutex_init(&c->lock, NULL);
    buf_init(&c->in, (size_t)FRAME_MAX + FRAME_HEAD);
    buf_init(&c->out, (size_t)FRAME_MAX + FRAME_HEAD);
    buf_init(&c->cancel, CHUNK);
    if (encode_cancel(&c->cancel, 1)) err_set(e, STATUS_NOMEM, "no memory to reach the engine");
    if (e->code || place_open(&c->place, uri + strlen(link_ipc.scheme), true, e) || connect_or_start(c, e))
        return ipc_close(c), e->code;
    *self = c;
    return 0;
}
/* Under the lock. What was sent by half cannot be mended: the connection ends, and next sees that. */
static int deliver(struct ipc *c, const struct buf *b, struct err *e) {
    struct err why = { 0 };
    if (!send_all(c->sock, b, &why)) return 0;
    err_set(&c->why, why.code, "%s", why.text);
    shutdown(c->sock, SHUT_RDWR);
    return err_set(e, STATUS_GONE, "%s", why.text);
}
static int ipc_submit(void *self, const struct engine_req *q, uint64_t *job, struct err *e) {
    struct ipc *c = self;
    pthread_mutex_lock(&c->lock);
    buf_reset(&c->out);
    if (encode_request(&c->out, c->jobs + 1, q))
        err_set(e, STATUS_NOMEM, "the request is larger than %d MB, or there is no memory for it", FRAME_MAX >> 20);
    else if (!deliver(c, &c->out, e))
        *job = ++c->jobs;
    if (c->out.cap > CHUNK) buf_fini(&c->out);
    pthread_mutex_unlock(&c->lock);
    return e->code;
}
static void ipc_cancel(void *self, uint64_t job) {
    struct ipc *c = self;
    struct err ignored = { 0 };
    pthread_mutex_lock(&c->lock);
    buf_reset(&c->cancel);
    if (!encode_cancel(&c->cancel, job)) deliver(c, &c->cancel, &ignored);
    pthread_mutex_unlock(&c->lock);
}
static int ipc_fd(const void *self) { return ((const struct ipc *)self)->sock; }
static int ipc_next(void *self, struct engine_event *ev) {
    struct ipc *c = self;
    struct err e = { 0 };
    enum frame_kind kind;
    int rc = read_frame(c->sock, &c->in, &kind, &e);
    if (!rc) return 0;
    if (rc == 1 && kind != FRAME_EVENT) err_set(&e, STATUS_FORMAT, "the engine sent frame %d", (int)kind);
    if (rc == 1 && !e.code) decode_event(c->in.p + FRAME_HEAD, c->in.n - FRAME_HEAD, ev, &e);
    if (rc == 1 && !e.code) {
        if (c->in.cap > CHUNK)
            buf_fini(&c->in);
        else
            buf_reset(&c->in);
        return 1;
    }
    pthread_mutex_lock(&c->lock);
    if (e.code) err_set(&c->why, e.code, "%s", e.text);
    pthread_mutex_unlock(&c->lock);
    shutdown(c->sock, SHUT_RDWR);
    return STATUS_GONE;
}
/* What the guardian wrote about this engine's process, which it does right after the connection broke. */
static bool how_ended(const struct ipc *c, char what[256]) {
    for (int left = ENDED_MS; !place_how_ended(&c->place, c->pid, what); left -= STEP_MS) {
        if (left <= 0) return false;
        poll(NULL, 0, STEP_MS);
    }
    return true;
}
static void ipc_gone(const void *self, struct err *e, struct buf *log) {
    struct ipc *c = (struct ipc *)self; /* for its lock */
    char what[256];
    pthread_mutex_lock(&c->lock);
    const struct err why = c->why;
    pthread_mutex_unlock(&c->lock);
    if (how_ended(c, what))
        err_set(e, STATUS_GONE, "the engine (pid %d) %s. The next cell starts a new one; %%load the model again",
                c->pid, what);
    else if (!kill(c->pid, 0))
        err_set(e, STATUS_GONE, "the connection to the engine (pid %d) broke%s%s; run the cell again", c->pid,
                why.code ? ": " : "", why.text);
    else
        err_set(e, STATUS_GONE, "the engine (pid %d) ended and nothing says how. The next cell starts a new one",
                c->pid);
    if (log) place_log(&c->place, LOG_LINES, log);
}
static int ipc_log(const char *uri, int lines, struct buf *out, struct err *e) {
    struct place p;
    if (place_open(&p, uri + strlen(link_ipc.scheme), false, e)) return e->code;
    place_log(&p, lines, out);
    place_close(&p);
    return out->failed ? err_set(e, STATUS_NOMEM, "no memory for the log") : 0;
}

const struct link_ops link_ipc = { "ipc:",   ipc_open,   ipc_close, ipc_submit, ipc_fd,
                                   ipc_next, ipc_cancel, ipc_gone,  ipc_log };
