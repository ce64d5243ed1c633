#include "worker.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/home.h"
#include "eyes.h"
#include "fit.h"
#include "generate.h"
#include "profile.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { ANSWERS = ENGINE_LANES, THREADS = ENGINE_LANES + 1 }; /* a lane of its own for what is answered at once */
struct node {
    struct engine_event ev;
    struct node *next;
};
struct lane {
    struct worker *w;
    pthread_t thread;
    bool started;
    struct job *todo, **todo_end, *current;
};
struct worker {
    struct models *models;
    char name[96];
    pthread_mutex_t lock; /* the queues and the current jobs */
    pthread_cond_t wake;
    struct lane lane[THREADS]; /* a thread begins with its first job */
    struct node *events, **events_end;
    uint64_t last_id;
    int fd;
    bool stop;
};
const char *worker_name(const struct worker *w) { return w->name; }

/* ---- events ---- */
static void push(struct worker *w, struct node *node) {
    pthread_mutex_lock(&w->lock);
    *w->events_end = node;
    w->events_end = &node->next;
    pthread_mutex_unlock(&w->lock);
    const uint64_t one = 1;
    while (write(w->fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}
void job_emit(struct job *job, struct engine_event *ev) {
    const bool last = ev->kind == ENGINE_EV_DONE || ev->kind == ENGINE_EV_FAIL;
    struct node *node = last ? job->last : mem_zero(1, sizeof *node);
    if (last) job->last = NULL;
    if (!node) {
        mem_free(ev->owned);
        job->lost = true;
        return;
    }
    node->ev = *ev;
    node->ev.job = job->id;
    if (ev->kind == ENGINE_EV_DONE && job->lost) {
        node->ev.kind = ENGINE_EV_FAIL;
        node->ev.u.fail = (struct err){ 0 };
        err_set(&node->ev.u.fail, STATUS_NOMEM,
                "out of memory: a part of the answer was lost; free some memory and run the cell again");
    }
    push(job->worker, node);
}
int worker_next(struct worker *w, struct engine_event *ev) {
    pthread_mutex_lock(&w->lock);
    struct node *node = w->events;
    if (node && !(w->events = node->next)) w->events_end = &w->events;
    uint64_t drained;
    if (!w->events && read(w->fd, &drained, sizeof drained) < 0) {
    } /* empty already: nothing to drain */
    pthread_mutex_unlock(&w->lock);
    if (!node) return 0;
    *ev = node->ev;
    mem_free(node);
    return 1;
}

/* ---- jobs ---- */
static int run(struct models *m, struct job *job, struct err *e) {
    switch (job->req.kind) {
    case ENGINE_REQ_LOAD: return models_load(m, job, e);
    case ENGINE_REQ_UNLOAD: return models_unload(m, job, e);
    case ENGINE_REQ_RESET: return models_reset(m, job, e);
    case ENGINE_REQ_GENERATE: return generate(m, job, e);
    case ENGINE_REQ_PROFILE: return profile(m, job, e);
    case ENGINE_REQ_FIT: return fit(m, job, e);
    case ENGINE_REQ_LOOK: return look(job, e);
    default: return models_answer(m, job, e);
    }
}
static void finish(struct lane *lane, struct job *job) {
    struct err e = { 0 };
    struct models *m = lane->w->models;
    const bool computes = lane != &lane->w->lane[ANSWERS];
    home_use(job->req.environment);
    if (computes) models_begin(m);
    if (job_cancelled(job) && job->req.kind != ENGINE_REQ_GENERATE)
        err_set(&e, STATUS_CANCELLED, "interrupted");
    else
        run(m, job, &e);
    if (computes) models_end(m);
    if (computes) models_count(m, -1);
    home_use(NULL);
    if (e.code) job_fail(job, &e);
}
static struct job *take(struct lane *lane) {
    struct worker *w = lane->w;
    pthread_mutex_lock(&w->lock);
    while (!lane->todo && !w->stop) pthread_cond_wait(&w->wake, &w->lock);
    struct job *job = lane->current = w->stop ? NULL : lane->todo;
    if (job && !(lane->todo = job->next)) lane->todo_end = &lane->todo;
    pthread_mutex_unlock(&w->lock);
    return job;
}
static void *loop(void *arg) {
    struct lane *lane = arg;
    char name[16];
    snprintf(name, sizeof name, "engine-%d", (int)(lane - lane->w->lane));
    pthread_setname_np(pthread_self(), name);
    for (struct job *job; (job = take(lane));) {
        finish(lane, job);
        pthread_mutex_lock(&lane->w->lock);
        lane->current = NULL;
        pthread_mutex_unlock(&lane->w->lock);
        job_close(job);
    }
    return NULL;
}
/* Under the lock. Signals are the main thread's. */
static bool started(struct lane *lane) {
    sigset_t all, before;
    if (lane->started) return true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    lane->started = !pthread_create(&lane->thread, NULL, loop, lane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return lane->started;
}
static bool at_once(enum engine_req_kind kind) {
    return kind == ENGINE_REQ_STATUS || kind == ENGINE_REQ_MODELS || kind == ENGINE_REQ_SHOW ||
           kind == ENGINE_REQ_ENGINE;
}
int worker_submit(struct worker *w, const struct engine_req *q, uint64_t *id, struct err *e) {
    if (request_check(q, e)) return e->code;
    struct job *job = job_new(q);
    struct node *last = mem_zero(1, sizeof *last);
    struct lane *lane = &w->lane[at_once(q->kind) ? ANSWERS : q->lane];
    if (!job || !last) {
        job_close(job);
        mem_free(last);
        return err_set(e, STATUS_NOMEM, "out of memory for the request");
    }
    job->worker = w;
    job->turn = &w->models->turn;
    job->last = last;
    if (!at_once(q->kind)) models_count(w->models, 1);
    pthread_mutex_lock(&w->lock);
    const bool runs = started(lane);
    if (runs) {
        *id = job->id = *id ? *id : ++w->last_id;
        *lane->todo_end = job;
        lane->todo_end = &job->next;
        pthread_cond_broadcast(&w->wake);
    }
    pthread_mutex_unlock(&w->lock);
    if (runs) return STATUS_OK;
    if (!at_once(q->kind)) models_count(w->models, -1);
    mem_free(last);
    job_close(job);
    return err_set(e, STATUS_NOMEM, "the engine has no thread left for this job: end others, or %%engine restart");
}
void worker_cancel(struct worker *w, uint64_t id) {
    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < THREADS; i++) {
        struct lane *lane = &w->lane[i];
        if (lane->current && (!id || lane->current->id == id)) job_cancel(lane->current);
        for (struct job *job = lane->todo; job; job = job->next)
            if (!id || job->id == id) job_cancel(job);
    }
    pthread_mutex_unlock(&w->lock);
}
int worker_fd(const struct worker *w) { return w->fd; }

/* ---- life ---- */
int worker_open(struct worker **out, struct models *m, const char *name, struct err *e) {
    *out = NULL;
    struct worker *w = mem_zero(1, sizeof *w);
    if (!w) return err_set(e, STATUS_NOMEM, "out of memory for the engine");
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->fd < 0) {
        mem_free(w);
        return err_set(e, STATUS_IO, "the engine has no descriptor left: %s", strerror(errno));
    }
    w->models = m;
    snprintf(w->name, sizeof w->name, "%s", name);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    w->events_end = &w->events;
    for (int i = 0; i < THREADS; i++) w->lane[i] = (struct lane){ .w = w, .todo_end = &w->lane[i].todo };
    models_join(m);
    *out = w;
    return STATUS_OK;
}
void worker_close(struct worker *w) {
    if (!w) return;
    worker_cancel(w, 0);
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->lock);
    for (int i = 0; i < THREADS; i++) {
        struct lane *lane = &w->lane[i];
        if (lane->started) pthread_join(lane->thread, NULL);
        for (struct job *job = lane->todo, *next; job; job = next) {
            next = job->next;
            if (i != ANSWERS) models_count(w->models, -1);
            mem_free(job->last);
            job_close(job);
        }
    }
    for (struct engine_event ev; worker_next(w, &ev) > 0;) engine_event_fini(&ev);
    models_leave(w->models, w);
    close(w->fd);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}
