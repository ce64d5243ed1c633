#include "reader.h"
#include "base/mem.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Two reads in flight keep a disk's queue filled; on a machine of two cores more of them only take time from packing. */
enum { THREADS = 2, SLICE = 8 << 20, WINDOW_LEAST = 4 * SLICE, TELL_MS = 50 };

struct reader {
    const struct extent *x;
    int n;
    char *ring;
    size_t window;
    size_t *at;                /* of each extent in the ring */
    uint64_t *asked, *arrived; /* bytes of each extent */
    int placed, asking,
        next; /* extents that have room; the first not asked for as a whole; the next to be handed out */
    int held; /* the one in the caller's hands, -1: none */
    uint64_t done;
    double waited_ms;
    bool stop;
    struct err err;
    pthread_mutex_t lock;
    pthread_cond_t room, news; /* for the threads; for the caller */
    pthread_t thread[THREADS];
    int threads;
};

size_t reader_room(uint64_t largest) { return (size_t)(2 * largest > WINDOW_LEAST ? 2 * largest : WINDOW_LEAST); }
size_t reader_window(const struct extent *x, int n) {
    uint64_t most = 0;
    for (int i = 0; i < n; i++)
        if (x[i].bytes > most) most = x[i].bytes;
    return reader_room(most);
}
/* Gives the next extent a stretch of the ring; extents leave in the order in which they came. */
static bool place(struct reader *r) {
    if (r->placed == r->n) return false;
    const int oldest = r->held >= 0 ? r->held : r->next;
    const size_t need = (size_t)r->x[r->placed].bytes;
    size_t to = 0;
    if (oldest < r->placed) {
        const size_t tail = r->at[oldest], head = r->at[r->placed - 1] + (size_t)r->x[r->placed - 1].bytes;
        if (head > tail && need <= r->window - head)
            to = head;
        else if (head > tail && need >= tail)
            return false;
        else if (head <= tail && need >= tail - head)
            return false;
        else
            to = head > tail ? 0 : head;
    }
    r->at[r->placed++] = to;
    return true;
}
struct slice {
    int i;
    uint64_t from;
    size_t n;
};
/* Under the lock. false: nothing to read now. */
static bool take(struct reader *r, struct slice *s) {
    while (r->asking < r->n && r->asking < r->placed && r->asked[r->asking] == r->x[r->asking].bytes) r->asking++;
    if (r->asking == r->n || (r->asking == r->placed && !place(r))) return false;
    s->i = r->asking;
    s->from = r->asked[s->i];
    const uint64_t left = r->x[s->i].bytes - s->from;
    s->n = (size_t)(left < SLICE ? left : SLICE);
    r->asked[s->i] += s->n;
    return true;
}
static int read_slice(const struct extent *x, const struct slice *s, char *to, struct err *e) {
    for (size_t at = 0; at < s->n;) {
        const ssize_t got = pread(x->fd, to + at, s->n - at, (off_t)(x->offset + s->from + at));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_set(e, STATUS_IO, "%s: reading '%s': %s", x->path, x->name, strerror(errno));
        if (!got)
            return err_set(e, STATUS_FORMAT, "%s: the file ends inside '%s'; download it again", x->path, x->name);
        at += (size_t)got;
    }
    return STATUS_OK;
}
static void *work(void *arg) {
    struct reader *r = arg;
    pthread_setname_np(pthread_self(), "reader");
    pthread_mutex_lock(&r->lock);
    while (!r->stop && r->asking < r->n) {
        struct slice s;
        if (!take(r, &s)) {
            if (r->asking < r->n) pthread_cond_wait(&r->room, &r->lock);
            continue;
        }
        struct err e = { 0 };
        char *to = r->ring + r->at[s.i] + s.from;
        pthread_mutex_unlock(&r->lock);
        read_slice(&r->x[s.i], &s, to, &e);
        pthread_mutex_lock(&r->lock);
        if (e.code && !r->err.code) r->err = e;
        r->stop |= e.code != STATUS_OK;
        r->arrived[s.i] += s.n;
        r->done += s.n;
        if (r->stop || r->arrived[s.i] == r->x[s.i].bytes) pthread_cond_signal(&r->news);
    }
    pthread_cond_broadcast(&r->room);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}
/* Fewer faults on the ring's first round. What lies around its whole huge pages stays as it is. */
static void huge_pages(char *ring, size_t bytes) {
    const size_t huge = 2 << 20, skip = (huge - (uintptr_t)ring % huge) % huge;
    if (bytes > skip + huge) madvise(ring + skip, (bytes - skip) / huge * huge, MADV_HUGEPAGE);
}
int reader_open(struct reader **out, const struct extent *x, int n, char *ring, struct err *e) {
    *out = NULL;
    struct reader *r = mem_zero(1, sizeof *r);
    if (!r) return err_set(e, STATUS_NOMEM, "no memory to read weights");
    *r = (struct reader){ .x = x, .n = n, .ring = ring, .held = -1, .window = reader_window(x, n) };
    huge_pages(ring, r->window);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->room, NULL);
    pthread_cond_init(&r->news, NULL);
    r->at = mem_zero((size_t)n + 1, sizeof *r->at);
    r->asked = mem_zero((size_t)n + 1, sizeof *r->asked);
    r->arrived = mem_zero((size_t)n + 1, sizeof *r->arrived);
    if (!r->at || !r->asked || !r->arrived) err_set(e, STATUS_NOMEM, "no memory to read weights");
    while (!e->code && r->threads < THREADS && !pthread_create(&r->thread[r->threads], NULL, work, r)) r->threads++;
    if (!e->code && !r->threads) err_set(e, STATUS_NOMEM, "no thread to read weights with: %s", strerror(errno));
    if (e->code) return reader_close(r), e->code;
    *out = r;
    return STATUS_OK;
}
static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}
double reader_waited_ms(const struct reader *r) { return r->waited_ms; }
const void *reader_next(struct reader *r, bool (*tell)(void *arg, double done), void *arg, struct err *e) {
    const double asked = now_ms();
    pthread_mutex_lock(&r->lock);
    r->held = -1;
    pthread_cond_broadcast(&r->room);
    const int i = r->next;
    while (!r->err.code && !e->code && r->arrived[i] < r->x[i].bytes) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TELL_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&r->news, &r->lock, &until);
        const double done = (double)r->done;
        pthread_mutex_unlock(&r->lock);
        if (tell && tell(arg, done)) err_set(e, STATUS_CANCELLED, "interrupted");
        pthread_mutex_lock(&r->lock);
    }
    if (r->err.code) err_set(e, r->err.code, "%s", r->err.text);
    if (!e->code) r->held = r->next++;
    const void *p = e->code ? NULL : r->ring + r->at[i];
    r->waited_ms += now_ms() - asked;
    pthread_mutex_unlock(&r->lock);
    return p;
}
void reader_close(struct reader *r) {
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->room);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < r->threads; i++) pthread_join(r->thread[i], NULL);
    pthread_cond_destroy(&r->room);
    pthread_cond_destroy(&r->news);
    pthread_mutex_destroy(&r->lock);
    mem_free(r->at);
    mem_free(r->asked);
    mem_free(r->arrived);
    mem_free(r);
}
