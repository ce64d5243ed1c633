#include "iopub.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "budget.h"
#include "spool.h"
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

enum kind { PLAIN, STREAM, UPDATE, CELL_BEGINS, CELL_ENDS };
struct item {
    struct item *next;
    uint64_t number;
    int64_t born_us;
    const char *type; /* a literal */
    enum kind kind;
    bool free_of_budget, to_stderr;
    char *parent, *display_id;
    size_t parent_n;
    struct buf content; /* JSON; of a STREAM the raw text */
};
struct iopub {
    void *xpub;
    struct sender *sender;
    pthread_t thread;
    int wake; /* eventfd: the queue changed in a way that the thread must see at once */
    pthread_mutex_t lock;
    pthread_cond_t moved; /* an item left, or someone wants the waiting ones to look up */
    struct item *head, *tail;
    size_t bytes;
    uint64_t last, sent, flush; /* numbers: newest posted, newest with ZeroMQ, send without delay up to here */
    atomic_bool closing;
    int64_t close_by_us;
    /* the thread's own */
    struct budget budget;
    struct frames out, in;
    struct spool *spool;
    struct buf
        running[IOPUB_CELLS]; /* headers of the cells whose busy has been sent and whose idle has not; n 0: free */
};

static void item_free(struct item *it) {
    if (!it) return;
    buf_fini(&it->content);
    mem_free(it->parent);
    mem_free(it->display_id);
    mem_free(it);
}
static size_t item_bytes(const struct item *it) { return sizeof *it + it->content.n + it->parent_n; }
static struct item *item_new(const char *type, const char *parent, size_t n) {
    struct item *it = mem_zero(1, sizeof *it);
    if (!it) return NULL;
    it->type = type;
    it->born_us = clock_us();
    it->free_of_budget = !strcmp(type, "status") || !strcmp(type, "execute_input") || !strcmp(type, "comm_open");
    buf_init(&it->content, (size_t)1 << 30);
    it->parent = n ? mem_copy(parent, n) : NULL;
    it->parent_n = n;
    if (!n || it->parent) return it;
    item_free(it);
    return NULL;
}
static void wake(struct iopub *io) {
    const uint64_t one = 1;
    if (write(io->wake, &one, sizeof one) < 0) log_at(LOG_DEBUG, "iopub: %s", strerror(errno));
}
/* Locked. Every item but a lone stream may leave at once, so the thread has to look. */
static void append(struct iopub *io, struct item *it) {
    it->number = ++io->last;
    if (io->tail)
        io->tail->next = it;
    else
        io->head = it;
    io->tail = it;
    io->bytes += item_bytes(it);
    wake(io);
}
/* Locked. Waits until less than limit bytes are queued; -1: stopped before. */
static int wait_room(struct iopub *io, size_t limit, const atomic_bool *stop) {
    while (io->bytes > limit && !io->closing) {
        if (stop && atomic_load(stop)) return -1;
        pthread_cond_wait(&io->moved, &io->lock);
    }
    return 0;
}
static struct item *built(const char *type, const char *parent, size_t n, json_t *content) {
    struct item *it = item_new(type, parent, n);
    const bool ok = it && !wire_dump(&it->content, content);
    json_decref(content);
    if (ok) return it;
    log_at(LOG_ERROR, "iopub: a message of type %s is lost: no memory, or text that is not UTF-8", type);
    item_free(it);
    return NULL;
}
static void post(struct iopub *io, struct item *it) {
    if (!it) return;
    pthread_mutex_lock(&io->lock);
    wait_room(io, IOPUB_HARD_BYTES, NULL);
    append(io, it);
    pthread_mutex_unlock(&io->lock);
}
void iopub_post(struct iopub *io, const char *type, const char *parent, size_t n, json_t *content) {
    post(io, built(type, parent, n, content));
}
void iopub_status(struct iopub *io, const char *parent, size_t n, const char *state, bool cell) {
    struct item *it = built("status", parent, n, json_pack("{s:s}", "execution_state", state));
    if (it && cell) it->kind = strcmp(state, "busy") ? CELL_ENDS : CELL_BEGINS;
    post(io, it);
}
/* Locked. Adds to the newest item when that is the same stream of the same cell and has room. */
static bool joins(struct iopub *io, const struct cell_output *o, bool to_stderr, const char *p, size_t n) {
    struct item *it = io->tail;
    if (!it || it->kind != STREAM || it->to_stderr != to_stderr || it->content.n + n > IOPUB_STREAM_BYTES) return false;
    if (it->parent_n != o->parent_n || memcmp(it->parent, o->parent, o->parent_n)) return false;
    if (buf_add(&it->content, p, n)) return false;
    io->bytes += n;
    it->number = ++io->last;
    if (it->content.n > IOPUB_STREAM_BYTES / 2) wake(io);
    return true;
}
static int stream_piece(const struct cell_output *o, bool to_stderr, const char *p, size_t n) {
    struct iopub *io = o->io;
    pthread_mutex_lock(&io->lock);
    int rc = wait_room(io, IOPUB_QUEUE_BYTES, o->stop);
    if (!rc && !joins(io, o, to_stderr, p, n)) {
        struct item *it = item_new("stream", o->parent, o->parent_n);
        if (it && !buf_add(&it->content, p, n)) {
            it->kind = STREAM;
            it->to_stderr = to_stderr;
            append(io, it);
        } else {
            item_free(it);
            log_at(LOG_ERROR, "iopub: %zu bytes of output are lost: no memory", n);
        }
    }
    pthread_mutex_unlock(&io->lock);
    return rc;
}
int iopub_stream(const struct cell_output *o, bool to_stderr, const char *utf8, size_t n) {
    while (n) {
        size_t piece = n < IOPUB_STREAM_BYTES ? n : IOPUB_STREAM_BYTES;
        if (piece < n) piece -= utf8_tail(utf8, piece);
        if (stream_piece(o, to_stderr, utf8, piece)) return -1;
        utf8 += piece;
        n -= piece;
    }
    return 0;
}
/* Locked. The queued update of this id that a newer one may replace; a display or a clear behind it forbids that. */
static struct item *queued_update(struct iopub *io, const char *display_id) {
    struct item *found = NULL;
    for (struct item *it = io->head; it; it = it->next) {
        const bool same = it->display_id && !strcmp(it->display_id, display_id);
        if (same && it->kind == UPDATE)
            found = it;
        else if (same || !strcmp(it->type, "clear_output"))
            found = NULL;
    }
    return found;
}
/* Locked. Puts what it holds in place of what old holds. */
static void replace(struct iopub *io, struct item *old, struct item *it) {
    const struct buf content = old->content;
    io->bytes += it->content.n - content.n;
    old->content = it->content;
    it->content = content;
    item_free(it);
}
int iopub_show(const struct cell_output *o, const char *type, const char *display_id, json_t *content) {
    struct iopub *io = o->io;
    struct item *it = built(type, o->parent, o->parent_n, content), *old = NULL;
    if (!it) return 0;
    it->kind = strcmp(type, "update_display_data") ? PLAIN : UPDATE;
    it->display_id = display_id ? mem_string(display_id) : NULL;
    pthread_mutex_lock(&io->lock);
    if (it->kind == UPDATE && it->display_id) old = queued_update(io, it->display_id);
    if (old) replace(io, old, it);
    /* What a cell shows is few and dear: when the cell is stopped it is still queued, and only the wait ends. */
    const int rc = old ? 0 : wait_room(io, IOPUB_QUEUE_BYTES, o->stop);
    if (rc) wait_room(io, IOPUB_HARD_BYTES, NULL);
    if (!old) append(io, it);
    pthread_mutex_unlock(&io->lock);
    return rc;
}
void iopub_flush(struct iopub *io) {
    pthread_mutex_lock(&io->lock);
    const uint64_t upto = io->last;
    if (io->flush < upto) io->flush = upto;
    wake(io);
    while (io->sent < upto && !io->closing) pthread_cond_wait(&io->moved, &io->lock);
    pthread_mutex_unlock(&io->lock);
}
void iopub_wake(struct iopub *io) {
    pthread_mutex_lock(&io->lock);
    pthread_cond_broadcast(&io->moved);
    pthread_mutex_unlock(&io->lock);
}

/* ---- the thread ---- */

enum { MOST_PARTS = 16 };
/* What io->out holds as messages that need no further copy. -1: there is no room to keep them. */
static int make_parts(struct iopub *io, zmq_msg_t *part, bool anyhow) {
    const struct frames *f = &io->out;
    if (f->n > MOST_PARTS) return -1;
    struct letter *l = spool_letter(io->spool, f->bytes.n, f->n, anyhow);
    if (!l) return -1;
    memcpy(letter_bytes(l), f->bytes.p, f->bytes.n);
    bool failed = false;
    for (int i = 0; i < f->n; i++) {
        const size_t at = i ? f->end[i - 1] : 0;
        zmq_msg_init(&part[i]);
        if (!failed && !zmq_msg_init_data(&part[i], letter_bytes(l) + at, f->end[i] - at, letter_drop, l)) continue;
        failed = true;
        letter_drop(NULL, l);
    }
    for (int i = 0; failed && i < f->n; i++) zmq_msg_close(&part[i]);
    return failed ? -1 : 0;
}
static int send_parts(void *xpub, zmq_msg_t *part, int n) {
    for (int i = 0; i < n; i++) {
        int rc;
        do rc = zmq_msg_send(&part[i], xpub, ZMQ_DONTWAIT | (i < n - 1 ? ZMQ_SNDMORE : 0));
        while (rc < 0 && errno == EINTR);
        if (rc < 0 && !i) return -1; /* only the first can fail: whole messages are counted */
    }
    return 0;
}
static void send_lossy(struct iopub *io, zmq_msg_t *part) {
    int on = 0;
    zmq_setsockopt(io->xpub, ZMQ_XPUB_NODROP, &on, sizeof on);
    send_parts(io->xpub, part, io->out.n);
    on = 1;
    zmq_setsockopt(io->xpub, ZMQ_XPUB_NODROP, &on, sizeof on);
}
/* No message is dropped. ZeroMQ and the spool keep what a subscriber leaves unread, and the others do not notice. When
 * they can keep no more, all wait as long as somebody reads. Nobody does: those that do not are cut off, and lose what
 * was kept for them. */
static void send_patiently(struct iopub *io) {
    zmq_msg_t part[MOST_PARTS];
    int64_t since = clock_us();
    uint64_t gone = spool_gone(io->spool);
    bool made = false, cut = false;
    for (;; zmq_poll(NULL, 0, 5)) {
        if (!made) made = !make_parts(io, part, cut);
        if (made && !send_parts(io->xpub, part, io->out.n)) return;
        const int patience = atomic_load(&io->closing) ? IOPUB_PATIENCE_MS / 60 : IOPUB_PATIENCE_MS;
        const int64_t now = clock_us();
        if (gone != spool_gone(io->spool)) since = now;
        gone = spool_gone(io->spool);
        if (now - since < (cut ? IOPUB_PATIENCE_MS / 60 : patience) * 1000LL) continue;
        if (cut) break;
        cut = true;
        since = now;
        log_at(LOG_WARN, "iopub: %d subscribers are cut off: they have read nothing for %d s, and no more can be kept",
               channel_cut(io->xpub), patience / 1000);
    }
    if (made) send_lossy(io, part);
    for (int i = 0; made && i < io->out.n; i++) zmq_msg_close(&part[i]);
    if (!made) log_at(LOG_ERROR, "iopub: a message is lost: no memory");
}
static void send_now(struct iopub *io, struct outgoing *m) {
    if (sender_write(io->sender, &io->out, m, NULL))
        log_at(LOG_ERROR, "iopub: a %s is lost: no memory", m->type);
    else
        send_patiently(io);
}
static void welcome(struct iopub *io, const char *topic, size_t n) {
    struct buf content, name;
    if (!utf8_valid(topic, n)) return;
    buf_init(&content, 1 << 20);
    buf_init(&name, 1 << 20);
    json_t *c = json_pack("{s:s%}", "subscription", topic, n);
    if (c && !wire_dump(&content, c) && !buf_add(&name, topic, n)) {
        struct outgoing m = {
            .topic = buf_text(&name), .type = "iopub_welcome", .content = content.p, .content_n = content.n
        };
        send_now(io, &m);
    }
    json_decref(c);
    for (int i = 0; i < IOPUB_CELLS; i++) { /* a front end that was reloaded learns that the kernel works */
        static const char busy[] = "{\"execution_state\":\"busy\"}";
        struct outgoing m = { .topic = "status",
                              .parent = io->running[i].p,
                              .parent_n = io->running[i].n,
                              .type = "status",
                              .content = busy,
                              .content_n = sizeof busy - 1 };
        if (m.parent_n) send_now(io, &m);
    }
    buf_fini(&content);
    buf_fini(&name);
}
static void read_subscriptions(struct iopub *io) {
    int fd;
    size_t n;
    while (channel_recv(io->xpub, &io->in, &fd) > 0) {
        const char *p = frames_at(&io->in, 0, &n);
        if (!io->in.failed && io->in.n == 1 && n && p[0] == 1) welcome(io, p + 1, n - 1);
    }
}
static void note_cell(struct iopub *io, const struct item *it) {
    const size_t n = it->kind == CELL_ENDS ? it->parent_n : 0; /* a beginning takes a free place */
    for (int i = 0; i < IOPUB_CELLS; i++) {
        struct buf *b = &io->running[i];
        if (b->n != n || (n && memcmp(b->p, it->parent, n))) continue;
        buf_reset(b);
        if (!n) buf_add(b, it->parent, it->parent_n);
        return;
    }
}
static void send_item(struct iopub *io, struct item *it) {
    struct buf stream;
    struct outgoing m = { .topic = it->type,
                          .type = it->type,
                          .parent = it->parent,
                          .parent_n = it->parent_n,
                          .content = it->content.p,
                          .content_n = it->content.n };
    buf_init(&stream, (size_t)1 << 20);
    if (it->kind == STREAM) {
        const char *name = it->to_stderr ? "stderr" : "stdout";
        json_t *c = json_pack("{s:s, s:s%}", "name", name, "text", buf_text(&it->content), it->content.n);
        if (!c || wire_dump(&stream, c))
            log_at(LOG_ERROR, "iopub: %zu bytes of output are lost: no memory", it->content.n);
        json_decref(c);
        m.topic = it->to_stderr ? "stream.stderr" : "stream.stdout";
        m.content = stream.p;
        m.content_n = stream.n;
    }
    if (!strcmp(it->type, "comm_open")) m.metadata = "{\"version\":\"2.1.0\"}"; /* of the widgets' protocol */
    if (m.content && !stream.failed) send_now(io, &m);
    if (it->kind >= CELL_BEGINS) note_cell(io, it);
    if (!it->free_of_budget) budget_spend(&io->budget, it->kind == STREAM ? io->out.bytes.n : 0);
    buf_fini(&stream);
}
/* Locked. Milliseconds until the first item may leave, -1: there is none. */
static int due_ms(struct iopub *io) {
    const struct item *it = io->head;
    if (!it) return -1;
    const int64_t now = clock_us();
    int64_t wait = it->free_of_budget ? 0 : budget_wait_us(&io->budget, now);
    const bool gathering = it->kind == STREAM && !it->next && it->number > io->flush && !io->closing &&
                           it->content.n <= IOPUB_STREAM_BYTES / 2;
    const int64_t age = now - it->born_us;
    if (gathering && IOPUB_COALESCE_MS * 1000 - age > wait) wait = IOPUB_COALESCE_MS * 1000 - age;
    return wait > 0 ? (int)((wait + 999) / 1000) : 0;
}
/* Locked. */
static struct item *pop(struct iopub *io) {
    struct item *it = io->head;
    io->head = it->next;
    if (!io->head) io->tail = NULL;
    io->bytes -= item_bytes(it);
    return it;
}
static void pause_ms(struct iopub *io, int ms) {
    zmq_pollitem_t at[2] = { { .socket = io->xpub, .events = ZMQ_POLLIN }, { .fd = io->wake, .events = ZMQ_POLLIN } };
    uint64_t count;
    if (zmq_poll(at, 2, ms) > 0 && at[1].revents && read(io->wake, &count, sizeof count) < 0) return;
}
static void *publish(void *arg) {
    struct iopub *io = arg;
    for (;;) {
        read_subscriptions(io);
        pthread_mutex_lock(&io->lock);
        const int ms = due_ms(io);
        const bool end = io->closing && (ms < 0 || clock_us() > io->close_by_us);
        struct item *it = !end && ms == 0 ? pop(io) : NULL;
        pthread_mutex_unlock(&io->lock);
        if (end) break;
        if (!it) {
            pause_ms(io, ms);
            continue;
        }
        send_item(io, it);
        pthread_mutex_lock(&io->lock);
        io->sent = it->number;
        pthread_cond_broadcast(&io->moved);
        pthread_mutex_unlock(&io->lock);
        item_free(it);
    }
    return NULL;
}
static void iopub_free(struct iopub *io) {
    while (io->head) item_free(pop(io));
    if (io->wake >= 0) close(io->wake);
    if (io->xpub) zmq_close(io->xpub);
    pthread_mutex_destroy(&io->lock);
    pthread_cond_destroy(&io->moved);
    frames_fini(&io->out);
    frames_fini(&io->in);
    spool_close(io->spool);
    for (int i = 0; i < IOPUB_CELLS; i++) buf_fini(&io->running[i]);
    mem_free(io);
}
int iopub_open(struct iopub **out, void *xpub, struct sender *sender, struct err *e) {
    *out = NULL;
    struct iopub *io = mem_zero(1, sizeof *io);
    if (!io) {
        zmq_close(xpub);
        return err_set(e, STATUS_NOMEM, "no memory for iopub");
    }
    io->xpub = xpub;
    io->sender = sender;
    io->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->moved, NULL);
    frames_init(&io->out, SIZE_MAX / 2);
    frames_init(&io->in, 65536);
    for (int i = 0; i < IOPUB_CELLS; i++) buf_init(&io->running[i], WIRE_MAX_MESSAGE);
    budget_init(&io->budget, clock_us());
    int rc = io->wake < 0 ? err_set(e, STATUS_IO, "eventfd: %s", strerror(errno)) : 0;
    if (!rc) rc = spool_open(&io->spool, e);
    if (!rc) rc = thread_start(&io->thread, "iopub", false, publish, io, e);
    if (!rc)
        *out = io;
    else
        iopub_free(io);
    return rc;
}
void iopub_stop(struct iopub *io) {
    if (!io->xpub) return;
    pthread_mutex_lock(&io->lock);
    io->close_by_us = clock_us() + 1000000;
    atomic_store(&io->closing, true);
    pthread_cond_broadcast(&io->moved);
    pthread_mutex_unlock(&io->lock);
    wake(io);
    pthread_join(io->thread, NULL);
    zmq_close(io->xpub);
    io->xpub = NULL;
}
void iopub_close(struct iopub *io) {
    if (!io) return;
    iopub_stop(io);
    iopub_free(io);
}
