#include "hub.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernel/language/baton.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { LOG_MAX = 64 << 10 };

struct node {
    struct node *next;
    struct engine_event ev;
};
struct list {
    struct node *first, **end;
};
struct pending {
    struct hub *hub;
    struct pending *next;
    uint64_t job;
    struct list events;
    struct node last; /* for DONE or FAIL: it arrives also when memory is short */
    bool ended, short_of_memory, lost;
    struct err why;
    struct buf log;
    int fd;
};
enum state { CLOSED, OPENING, OPEN, LOST }; /* LOST: the listener is closing the handle */
struct hub {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum state state;
    struct engine *engine;
    pthread_t listener;
    bool joinable, stopping, news;
    int wake;  /* eventfd for the listener */
    int calls; /* threads inside engine_submit or engine_cancel: the handle stays */
    int submitting;
    struct list orphans; /* events that came before engine_submit returned their job's number */
    struct pending *pending;
    unsigned lanes; /* bit: taken */
    struct err why;
};

const char *hub_uri(void) {
    const char *uri = getenv("JAEDA_ENGINE");
    return uri && *uri ? uri : DEFAULT_ENGINE;
}
static void list_init(struct list *l) { *l = (struct list){ .end = &l->first }; }
static void list_add(struct list *l, struct node *n) {
    n->next = NULL;
    *l->end = n;
    l->end = &n->next;
}
static struct node *list_take(struct list *l) {
    struct node *n = l->first;
    if (n && !(l->first = n->next)) l->end = &l->first;
    return n;
}
static void list_fini(struct list *l, const struct node *kept) {
    for (struct node *n; (n = list_take(l));) {
        engine_event_fini(&n->ev);
        if (n != kept) mem_free(n);
    }
}
static void ring(int fd) {
    const uint64_t one = 1;
    if (write(fd, &one, sizeof one) < 0) log_at(LOG_DEBUG, "engine: eventfd: %s", strerror(errno));
}

int hub_open(struct hub **out, struct err *e) {
    struct hub *h = *out = mem_zero(1, sizeof *h);
    if (!h) return err_set(e, STATUS_NOMEM, "out of memory for the engine");
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    list_init(&h->orphans);
    h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return h->wake < 0 ? err_set(e, STATUS_IO, "eventfd: %s", strerror(errno)) : 0;
}
void hub_stop(struct hub *h) {
    if (!h) return;
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    while (h->state == OPENING) pthread_cond_wait(&h->changed, &h->lock);
    const bool join = h->joinable;
    h->joinable = false;
    pthread_mutex_unlock(&h->lock);
    ring(h->wake);
    if (join) pthread_join(h->listener, NULL);
}
void hub_close(struct hub *h) {
    if (!h) return;
    hub_stop(h);
    list_fini(&h->orphans, NULL);
    if (h->wake >= 0) close(h->wake);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->changed);
    mem_free(h);
}
bool hub_connected(struct hub *h) {
    pthread_mutex_lock(&h->lock);
    const bool open = h->state == OPEN;
    pthread_mutex_unlock(&h->lock);
    return open;
}
bool hub_news(struct hub *h, struct err *why) {
    pthread_mutex_lock(&h->lock);
    const bool news = h->news;
    if (news) *why = h->why;
    h->news = false;
    pthread_mutex_unlock(&h->lock);
    return news;
}

void hub_farewell(struct hub *h, int ms) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += ms / 1000;
    pthread_mutex_lock(&h->lock);
    for (int rc = 0; h->state != CLOSED && !rc;) rc = pthread_cond_timedwait(&h->changed, &h->lock, &end);
    h->news = false;
    pthread_mutex_unlock(&h->lock);
}

/* ---- lanes ---- */

int hub_lane(struct hub *h, bool beside, struct err *e) {
    if (!beside) return 0;
    int lane = 1;
    pthread_mutex_lock(&h->lock);
    while (lane < ENGINE_LANES && h->lanes & 1u << lane) lane++;
    if (lane < ENGINE_LANES) h->lanes |= 1u << lane;
    pthread_mutex_unlock(&h->lock);
    if (lane < ENGINE_LANES) return lane;
    err_set(e, STATUS_BUSY,
            "%d cells and background jobs use the engine beside the main one already: wait for one, or %%jobs stop N",
            ENGINE_LANES - 1);
    return -1;
}
void hub_lane_back(struct hub *h, int lane) {
    if (lane < 1) return;
    pthread_mutex_lock(&h->lock);
    h->lanes &= ~(1u << lane);
    pthread_mutex_unlock(&h->lock);
}

/* ---- the listener ---- */

static bool is_last(const struct engine_event *ev) { return ev->kind == ENGINE_EV_DONE || ev->kind == ENGINE_EV_FAIL; }
/* Into p's queue, in a node of its own or in the one that is kept for the last event; takes what ev owns. */
static void queue(struct pending *p, struct engine_event *ev) {
    struct node *n = p->ended ? NULL : is_last(ev) ? &p->last : mem_alloc(sizeof *n);
    if (!n) {
        p->short_of_memory = !p->ended; /* the job goes on to its end, which is a failure then */
        engine_event_fini(ev);
        return;
    }
    p->ended = n == &p->last;
    n->ev = *ev;
    list_add(&p->events, n);
    ring(p->fd);
}
static struct pending *find(const struct hub *h, uint64_t job) {
    struct pending *p = h->pending;
    while (p && p->job != job) p = p->next;
    return p;
}
/* <0: no memory to keep what would be lost. */
static int deliver(struct hub *h, struct engine_event *ev) {
    int rc = 0;
    pthread_mutex_lock(&h->lock);
    struct pending *p = find(h, ev->job);
    struct node *n = !p && h->submitting ? mem_alloc(sizeof *n) : NULL;
    if (p) {
        queue(p, ev);
    } else if (n) {
        n->ev = *ev;
        list_add(&h->orphans, n);
    } else {
        rc = h->submitting ? -1 : 0;
        engine_event_fini(ev);
    }
    pthread_mutex_unlock(&h->lock);
    return rc;
}
/* Until the connection is lost (false) or the hub stops. */
static bool listen_to(struct hub *h, struct engine *g) {
    for (;;) {
        struct pollfd at[] = { { engine_fd(g), POLLIN, 0 }, { h->wake, POLLIN, 0 } };
        struct engine_event ev;
        int rc;
        while ((rc = engine_next(g, &ev)) > 0)
            if (deliver(h, &ev)) return false;
        if (rc < 0) return false;
        if (poll(at, 2, -1) < 0 && errno != EINTR) return false;
        if (at[1].revents) return true;
    }
}
/* Everybody who waits learns why. */
static void tell_all(struct hub *h, const struct err *why, const struct buf *log) {
    h->why = *why;
    h->news = !h->pending && !h->calls && !h->stopping;
    for (struct pending *p = h->pending; p; p = p->next) {
        p->why = *why;
        buf_add(&p->log, buf_text(log), log->n);
        p->lost = true;
        ring(p->fd);
    }
}
static void *listener(void *arg) {
    struct hub *h = arg;
    struct engine *g = h->engine;
    struct err why = { 0 };
    struct buf log;
    buf_init(&log, LOG_MAX);
    if (listen_to(h, g))
        err_set(&why, STATUS_GONE, "the kernel left the engine");
    else
        engine_gone(g, &why, &log);
    err_set(&why, STATUS_GONE, "the connection to the engine is lost: the next cell opens another; %%load comes first");
    pthread_mutex_lock(&h->lock);
    log_at(h->stopping ? LOG_INFO : LOG_WARN, "engine: %s", why.text);
    h->state = LOST;
    tell_all(h, &why, &log);
    while (h->calls) pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
    engine_close(g);
    pthread_mutex_lock(&h->lock);
    list_fini(&h->orphans, NULL);
    h->engine = NULL;
    h->state = CLOSED;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    buf_fini(&log);
    return NULL;
}
/* Under the lock, which is let go for the time of engine_open: that may start a process. */
static int connect_engine(struct hub *h, struct err *e) {
    while (h->state == OPENING || h->state == LOST) pthread_cond_wait(&h->changed, &h->lock);
    if (h->stopping) return err_set(e, STATUS_CANCELLED, "the kernel is shutting down");
    if (h->state == OPEN) return 0;
    const bool join = h->joinable;
    h->state = OPENING;
    h->joinable = false;
    pthread_mutex_unlock(&h->lock);
    if (join) pthread_join(h->listener, NULL);
    struct engine *g = NULL;
    int rc = engine_open(&g, hub_uri(), e);
    pthread_mutex_lock(&h->lock);
    h->engine = g; /* the listener may run already: it waits for the lock before it changes these */
    h->state = rc ? CLOSED : OPEN;
    if (!rc && thread_quiet(&h->listener, listener, h)) {
        engine_close(g);
        h->engine = NULL;
        h->state = CLOSED;
        rc = err_set(e, STATUS_NOMEM, "no memory for a thread that listens to the engine");
    }
    h->joinable = !rc;
    pthread_cond_broadcast(&h->changed);
    return rc;
}

/* ---- requests ---- */

static void leave_call(struct hub *h) {
    h->calls--;
    pthread_cond_broadcast(&h->changed);
}
/* The number is known: what came for it meanwhile is its own. */
static void adopt(struct hub *h, struct pending *p, uint64_t job) {
    struct list all = h->orphans;
    if (all.first) {
        list_init(&h->orphans);
        for (struct node *n; (n = list_take(&all));)
            if (n->ev.job != job) {
                list_add(&h->orphans, n);
            } else {
                queue(p, &n->ev);
                mem_free(n);
            }
    }
    p->job = job;
    p->next = h->pending;
    h->pending = p;
    if (h->state == LOST) { /* the others have been told already */
        p->why = h->why;
        p->lost = true;
        ring(p->fd);
    }
}
static int submit(struct hub *h, const struct engine_req *q, struct pending *p, struct err *e) {
    uint64_t job = 0;
    pthread_mutex_lock(&h->lock);
    int rc = connect_engine(h, e);
    struct engine *g = h->engine;
    if (!rc) h->calls++, h->submitting++;
    pthread_mutex_unlock(&h->lock);
    if (rc) return rc;
    struct err failed = { 0 };
    rc = engine_submit(g, q, &job, &failed);
    if (rc == STATUS_GONE) engine_gone(g, e, NULL);
    if (rc) err_set(e, rc, "%s", failed.text);
    pthread_mutex_lock(&h->lock);
    if (!rc) adopt(h, p, job);
    if (!--h->submitting) list_fini(&h->orphans, NULL);
    leave_call(h);
    pthread_mutex_unlock(&h->lock);
    return rc;
}
static void pending_free(struct pending *p) {
    list_fini(&p->events, &p->last);
    buf_fini(&p->log);
    if (p->fd >= 0) close(p->fd);
    mem_free(p);
}
int hub_submit(struct hub *h, const struct engine_req *q, struct pending **out, struct err *e) {
    struct pending *p = *out = mem_zero(1, sizeof *p);
    if (!p) return err_set(e, STATUS_NOMEM, "out of memory for a request to the engine");
    p->hub = h;
    list_init(&p->events);
    buf_init(&p->log, LOG_MAX);
    p->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int rc = p->fd < 0 ? err_set(e, STATUS_IO, "eventfd: %s", strerror(errno)) : submit(h, q, p, e);
    if (!rc) return 0;
    pending_free(p);
    *out = NULL;
    return rc;
}
int pending_fd(const struct pending *p) { return p->fd; }
int pending_next(struct pending *p, struct engine_event *ev) {
    uint64_t count;
    pthread_mutex_lock(&p->hub->lock);
    struct node *n = list_take(&p->events);
    if (!n && read(p->fd, &count, sizeof count) < 0 && errno != EAGAIN)
        log_at(LOG_DEBUG, "engine: eventfd: %s", strerror(errno));
    const bool lost = !n && p->lost, nomem = p->short_of_memory;
    pthread_mutex_unlock(&p->hub->lock);
    if (!n) return lost ? -1 : 0;
    *ev = n->ev;
    if (n != &p->last) {
        mem_free(n);
    } else if (nomem) {
        engine_event_fini(ev);
        *ev = (struct engine_event){ .kind = ENGINE_EV_FAIL, .job = p->job };
        err_set(&ev->u.fail, STATUS_NOMEM, "out of memory for what the engine sent");
    }
    return 1;
}
const char *pending_gone(struct pending *p, struct err *e) {
    err_set(e, p->why.code, "%s", p->why.text);
    return buf_text(&p->log);
}
void pending_cancel(struct pending *p) {
    struct hub *h = p->hub;
    pthread_mutex_lock(&h->lock);
    struct engine *g = p->lost ? NULL : h->engine;
    h->calls += g != NULL;
    pthread_mutex_unlock(&h->lock);
    if (!g) return;
    engine_cancel(g, p->job);
    pthread_mutex_lock(&h->lock);
    leave_call(h);
    pthread_mutex_unlock(&h->lock);
}
void pending_close(struct pending *p) {
    if (!p) return;
    pthread_mutex_lock(&p->hub->lock);
    struct pending **at = &p->hub->pending;
    while (*at && *at != p) at = &(*at)->next;
    if (*at) *at = p->next;
    pthread_mutex_unlock(&p->hub->lock);
    pending_free(p);
}
