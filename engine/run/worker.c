#include "worker.h"
#include "base/log.h"
#include "base/mem.h"
#include "fit.h"
#include "generate.h"
#include "models.h"
#include "profile.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct node {
    struct engine_event ev;
    struct node *next;
};
struct worker {
    pthread_t thread;
    pthread_mutex_t lock; /* the two queues and the current job */
    pthread_cond_t wake;
    struct job *todo, **todo_end, *current;
    struct node *events, **events_end;
    uint64_t last_id;
    int fd;
    bool stop, started;
    struct models models;
};

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
static int run(struct worker *w, struct job *job, struct err *e) {
    switch (job->req.kind) {
    case ENGINE_REQ_LOAD: return models_load(&w->models, job, e);
    case ENGINE_REQ_UNLOAD: return models_unload(&w->models, job, e);
    case ENGINE_REQ_RESET: return models_reset(&w->models, job, e);
    case ENGINE_REQ_GENERATE: return generate(&w->models, job, e);
    case ENGINE_REQ_PROFILE: return profile(&w->models, job, e);
    case ENGINE_REQ_FIT: return fit(&w->models, job, e);
    default: return models_answer(&w->models, job, e);
    }
}
static void finish(struct worker *w, struct job *job) {
    struct err e = { 0 };
    if (job_cancelled(job) && job->req.kind != ENGINE_REQ_GENERATE)
        err_set(&e, STATUS_CANCELLED, "interrupted");
    else
        run(w, job, &e);
    if (e.code) job_fail(job, &e);
}
static struct job *take(struct worker *w) {
    pthread_mutex_lock(&w->lock);
    while (!w->todo && !w->stop) pthread_cond_wait(&w->wake, &w->lock);
    struct job *job = w->current = w->stop ? NULL : w->todo;
    if (job && !(w->todo = job->next)) w->todo_end = &w->todo;
    pthread_mutex_unlock(&w->lock);
    return job;
}
static void *loop(void *arg) {
    struct worker *w = arg;
    pthread_setname_np(pthread_self(), "engine");
    for (struct job *job; (job = take(w));) {
        finish(w, job);
        pthread_mutex_lock(&w->lock);
        w->current = NULL;
        pthread_mutex_unlock(&w->lock);
        job_close(job);
    }
    return NULL;
}
static bool metadata(enum engine_req_kind kind) {
    return kind == ENGINE_REQ_STATUS || kind == ENGINE_REQ_MODELS || kind == ENGINE_REQ_SHOW;
}
static int check(const struct engine_req *q, struct err *e) {
    if ((unsigned)q->kind >= ENGINE_REQ_KINDS)
        return err_set(e, STATUS_INVALID, "unknown request kind %d", (int)q->kind);
    for (int i = 0; i < q->stops; i++)
        if (!q->stop[i] || !*q->stop[i])
            return err_set(e, STATUS_INVALID, "a stop string is empty; leave it out instead");
    if (q->stops > ENGINE_STOPS || q->stop_ids > ENGINE_STOPS)
        return err_set(e, STATUS_INVALID, "%d stop strings or ids; at most %d",
                       q->stops > q->stop_ids ? q->stops : q->stop_ids, ENGINE_STOPS);
    for (int i = 0; i < q->fit.contexts + q->fit.batches; i++)
        if ((i < q->fit.contexts ? q->fit.context[i] : q->fit.batch[i - q->fit.contexts]) < 1)
            return err_set(e, STATUS_INVALID, "a context length or batch size below 1");
    const struct engine_sampling *s = &q->sampling;
    const struct engine_beams *b = &q->beams;
    if (b->num_beams < 0 || b->num_beams > ENGINE_BEAMS)
        return err_set(e, STATUS_INVALID, "--num-beams %d: 1 to %d", b->num_beams, ENGINE_BEAMS);
    if (b->num_beams > 1 && s->temperature > 0)
        return err_set(e, STATUS_INVALID, "beam search does not sample: leave out --num-beams or the sampling options");
    if (!(s->min_p >= 0 && s->min_p <= 1) || !(s->typical_p >= 0 && s->typical_p <= 1))
        return err_set(e, STATUS_INVALID, "sampling out of range: min_p %g, typical_p %g", (double)s->min_p,
                       (double)s->typical_p);
    if (!(s->temperature >= 0) || !(s->top_p >= 0 && s->top_p <= 1) || s->top_k < 0 || !(s->repetition_penalty >= 0))
        return err_set(e, STATUS_INVALID,
                       "sampling out of range: temperature %g, top_p %g, top_k %d, repetition_penalty %g",
                       (double)s->temperature, (double)s->top_p, s->top_k, (double)s->repetition_penalty);
    return STATUS_OK;
}
int worker_submit(struct worker *w, const struct engine_req *q, uint64_t *id, struct err *e) {
    if (check(q, e)) return e->code;
    struct job *job = job_new(q);
    struct node *last = mem_zero(1, sizeof *last);
    if (!job || !last) {
        job_close(job);
        mem_free(last);
        return err_set(e, STATUS_NOMEM, "out of memory for the request");
    }
    job->worker = w;
    job->last = last;
    pthread_mutex_lock(&w->lock);
    *id = job->id = ++w->last_id;
    if (!metadata(q->kind)) {
        *w->todo_end = job;
        w->todo_end = &job->next;
        pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->lock);
    if (metadata(q->kind)) { /* never waits behind a job: answered on the caller's thread */
        finish(w, job);
        job_close(job);
    }
    return STATUS_OK;
}
void worker_cancel(struct worker *w, uint64_t id) {
    pthread_mutex_lock(&w->lock);
    if (w->current && w->current->id == id) job_cancel(w->current);
    for (struct job *job = w->todo; job; job = job->next)
        if (job->id == id) job_cancel(job);
    pthread_mutex_unlock(&w->lock);
}
int worker_fd(const struct worker *w) { return w->fd; }

/* ---- life ---- */
int worker_open(struct worker **out, struct err *e) {
    *out = NULL;
    struct worker *w = mem_zero(1, sizeof *w);
    if (!w) return err_set(e, STATUS_NOMEM, "out of memory for the engine");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    w->todo_end = &w->todo;
    w->events_end = &w->events;
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's; the engine's threads inherit this */
    if (!models_open(&w->models, e)) w->started = w->fd >= 0 && !pthread_create(&w->thread, NULL, loop, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (w->started) return *out = w, STATUS_OK;
    err_set(e, STATUS_IO, "the engine's thread cannot be started: %s", strerror(errno));
    worker_close(w);
    return e->code;
}
void worker_close(struct worker *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    if (w->current) job_cancel(w->current);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    if (w->started) pthread_join(w->thread, NULL);
    for (struct job *job = w->todo, *next; job; job = next) {
        next = job->next;
        mem_free(job->last);
        job_close(job);
    }
    for (struct engine_event ev; worker_next(w, &ev) > 0;) engine_event_fini(&ev);
    models_close(&w->models);
    if (w->fd >= 0) close(w->fd);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}
