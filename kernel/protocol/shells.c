#include "shells.h"
#include "base/log.h"
#include "base/mem.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

struct shells {
    struct executor_parts parts;
    int waiting;
    size_t waiting_bytes;
    /* Guards the links of the list, which only the io thread changes, and only until the end. */
    pthread_mutex_t lock;
    struct shell *first;
    bool ending;
};

/* ---- one shell ---- */

static void shell_free(struct shells *s, struct shell *h) {
    executor_close(h->executor);
    for (struct job *j; (j = shells_take(s, h));) job_free(j);
    job_free(h->finished);
    mem_free(h);
}
static int new_id(char id[40], struct err *e) {
    unsigned char r[16];
    if (getrandom(r, sizeof r, 0) != sizeof r) return err_set(e, STATUS_IO, "no random numbers for the subshell's id");
    r[6] = (r[6] & 0x0f) | 0x40; /* RFC 9562, version 4 */
    r[8] = (r[8] & 0x3f) | 0x80;
    for (int i = 0, at = 0; i < 16; i++)
        at += snprintf(id + at, 40 - (size_t)at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", r[i]);
    return 0;
}
static struct shell *shell_new(struct shells *s, enum shell_kind kind, struct err *e) {
    struct shell *h = mem_zero(1, sizeof *h), **end = &s->first;
    if (!h) err_set(e, STATUS_NOMEM, "no memory for a shell");
    if (!h || (kind == SHELL_SUB && new_id(h->id, e))) goto failed;
    h->kind = kind;
    s->parts.main = kind == SHELL_MAIN;
    if (executor_open(&h->executor, &s->parts, e)) goto failed;
    pthread_mutex_lock(&s->lock);
    while (*end) end = &(*end)->next;
    if (!s->ending) *end = h;
    const bool ending = s->ending;
    pthread_mutex_unlock(&s->lock);
    if (!ending) return h;
    err_set(e, STATUS_GONE, "the kernel is shutting down");
    executor_end(h->executor);
    executor_close(h->executor);
failed:
    mem_free(h);
    return NULL;
}
static int count(const struct shells *s, enum shell_kind kind) {
    int n = 0;
    for (const struct shell *h = s->first; h; h = h->next) n += h->kind == kind;
    return n;
}

/* ---- which ---- */

int shells_fd(const struct shells *s) { return s->parts.ready; }
void shells_heard(struct shells *s) {
    uint64_t times;
    if (read(s->parts.ready, &times, sizeof times) < 0 && errno != EAGAIN)
        log_at(LOG_DEBUG, "shells: %s", strerror(errno));
}
struct shell *shells_main(const struct shells *s) {
    return s->first;
}
struct shell *shells_busy(const struct shells *s) {
    struct shell *h = s->first;
    while (h && !h->running) h = h->next;
    return h;
}
struct shell *shells_find(const struct shells *s, const char *id, struct err *e) {
    struct shell *h = s->first;
    if (!id) return h;
    while (h && (h->kind != SHELL_SUB || h->leaving || strcmp(h->id, id))) h = h->next;
    if (!h) err_set(e, STATUS_NOTFOUND, "there is no subshell %.60s: it was deleted, or the kernel was restarted", id);
    return h;
}
struct shell *shells_hidden(struct shells *s) {
    struct err e = { 0 };
    for (struct shell *h = s->first; h; h = h->next)
        if (h->kind == SHELL_HIDDEN && !h->running && !h->first) return h;
    return count(s, SHELL_HIDDEN) < SHELLS_HIDDEN ? shell_new(s, SHELL_HIDDEN, &e) : NULL;
}
struct shell *shells_create(struct shells *s, struct err *e) {
    /* One that was deleted and whose cell does not end counts: its thread is still there. */
    if (count(s, SHELL_SUB) < SHELLS_SUB) return shell_new(s, SHELL_SUB, e);
    err_set(e, STATUS_BUSY, "there are %d subshells: delete one first", SHELLS_SUB);
    return NULL;
}
int shells_delete(struct shells *s, const char *id, struct err *e) {
    struct shell *h = shells_find(s, id, e);
    if (!h) return e->code;
    h->leaving = true;
    executor_end(h->executor);
    return 0;
}
json_t *shells_list(const struct shells *s) {
    json_t *ids = json_array();
    for (const struct shell *h = s->first; ids && h; h = h->next)
        if (h->kind == SHELL_SUB && !h->leaving) json_array_append_new(ids, json_string(h->id));
    return ids;
}
/* Unlinks the first that has come to rest. Not after the end has begun: from then on the list stands still. */
static struct shell *take_rested(struct shells *s) {
    struct shell *found = NULL;
    pthread_mutex_lock(&s->lock);
    for (struct shell **at = &s->first; *at && !found && !s->ending; at = &(*at)->next) {
        struct shell *h = *at;
        if (!h->leaving || h->running || h->first || !executor_ended(h->executor, 0)) continue;
        found = h;
        *at = h->next;
        if (!*at) break;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}
void shells_reap(struct shells *s) {
    for (struct shell *h; (h = take_rested(s));) shell_free(s, h);
}

/* ---- who waits ---- */

int shells_room(const struct shells *s, size_t bytes, struct err *e) {
    if (s->waiting < SHELLS_WAITING && s->waiting_bytes + bytes <= SHELLS_WAITING_BYTES) return 0;
    return err_set(e, STATUS_BUSY, "%d cells wait already: run this one later", s->waiting);
}
void shells_queue(struct shells *s, struct shell *to, struct job *j) {
    if (to->last)
        to->last->next = j;
    else
        to->first = j;
    to->last = j;
    s->waiting++;
    s->waiting_bytes += j->request.msg.frames.bytes.n;
}
struct job *shells_take(struct shells *s, struct shell *from) {
    struct job *j = from->first;
    if (!j) return NULL;
    from->first = j->next;
    if (!from->first) from->last = NULL;
    j->next = NULL;
    s->waiting--;
    s->waiting_bytes -= j->request.msg.frames.bytes.n;
    return j;
}
bool shells_arm(struct shells *s, struct shell *h) {
    pthread_mutex_lock(&s->lock);
    const bool may = !s->ending && !h->leaving;
    if (may) executor_expect(h->executor);
    pthread_mutex_unlock(&s->lock);
    return may;
}

/* ---- all ---- */

void shells_interrupt(struct shells *s) {
    pthread_mutex_lock(&s->lock);
    for (struct shell *h = s->first; h; h = h->next) executor_interrupt(h->executor);
    pthread_mutex_unlock(&s->lock);
}
void shells_end(struct shells *s) {
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_mutex_unlock(&s->lock);
    shells_interrupt(s);
}
bool shells_stop(struct shells *s, int ms) {
    const int64_t until = clock_us() + ms * 1000LL;
    bool ended = true;
    shells_end(s);
    for (struct shell *h = s->first; h; h = h->next) executor_end(h->executor);
    for (struct shell *h = s->first; h; h = h->next) {
        const int64_t left = until - clock_us();
        ended &= executor_ended(h->executor, left > 0 ? (int)(left / 1000) : 0);
    }
    return ended;
}
void shells_close(struct shells *s) {
    if (!s) return;
    for (struct shell *h = s->first, *next; h; h = next) {
        next = h->next;
        shell_free(s, h);
    }
    if (s->parts.ready >= 0) close(s->parts.ready);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}
int shells_open(struct shells **out, const struct executor_parts *parts, struct err *e) {
    struct shells *s = mem_zero(1, sizeof *s);
    *out = NULL;
    if (!s) return err_set(e, STATUS_NOMEM, "no memory for the shells");
    s->parts = *parts;
    pthread_mutex_init(&s->lock, NULL);
    s->parts.ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->parts.ready < 0) err_set(e, STATUS_IO, "eventfd: %s", strerror(errno));
    if (s->parts.ready >= 0 && shell_new(s, SHELL_MAIN, e)) {
        *out = s;
        return 0;
    }
    shells_close(s);
    return e->code;
}
