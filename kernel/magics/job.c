#include "job.h"
#include "base/mem.h"
#include "hub.h"
#include "kernel/language/state.h"
#include "magics.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct wait {
    struct interp *in;
    struct out *o;
    struct pending *job;
    job_event *on;
    void *arg;
    bool ended, cancelled;
    int rc;
    struct err *e;
};
static void cancel(struct wait *w) {
    if (!w->cancelled) pending_cancel(w->job);
    w->cancelled = true;
}
static void event(struct wait *w, const struct engine_event *ev) {
    if (ev->kind == ENGINE_EV_FAIL) {
        w->ended = true;
        if (!w->rc) w->rc = err_set(w->e, ev->u.fail.code ? ev->u.fail.code : STATUS_GONE, "%s", ev->u.fail.text);
        return;
    }
    w->ended = ev->kind == ENGINE_EV_DONE;
    if (w->rc || !w->on) return;
    interp_resume();
    w->rc = w->on(w->arg, ev, w->e);
    interp_pause();
    if (w->rc && !w->ended) cancel(w);
}
/* Takes what is there; <0: the connection is gone. */
static int drain(struct wait *w) {
    struct engine_event ev;
    int rc;
    while (!w->ended && (rc = pending_next(w->job, &ev)) != 0) {
        if (rc < 0) return rc;
        event(w, &ev);
        engine_event_fini(&ev);
    }
    return 0;
}
/* The engine died under the job: its last words stand in the cell. */
static int gone(struct wait *w) {
    struct err why = { 0 };
    const char *log = pending_gone(w->job, &why);
    if (*log) {
        static const char head[] = "the engine's last lines:\n";
        out_stream(w->o, OUT_STDERR, head, sizeof head - 1);
        out_stream(w->o, OUT_STDERR, log, strlen(log));
    }
    return w->rc ? w->rc : err_set(w->e, why.code, "%s", why.text);
}
static int follow(struct wait *w) {
    int rc = 0;
    while (!(rc = drain(w)) && !w->ended) {
        struct pollfd p[2] = { { pending_fd(w->job), POLLIN, 0 }, { out_interrupt_fd(w->o), POLLIN, 0 } };
        if (poll(p, w->cancelled ? 1 : 2, -1) < 0 && errno != EINTR) cancel(w);
        if (out_interrupted(w->o)) cancel(w);
    }
    return rc ? gone(w) : w->rc;
}
/* Which requests run in a lane; the others are answered at once. */
static bool needs_lane(enum engine_req_kind kind) {
    return kind == ENGINE_REQ_LOAD || kind == ENGINE_REQ_UNLOAD || kind == ENGINE_REQ_GENERATE ||
           kind == ENGINE_REQ_PROFILE || kind == ENGINE_REQ_RESET || kind == ENGINE_REQ_FIT || kind == ENGINE_REQ_LOOK;
}
/* The engine ended while nobody looked: the cell that meets the new one says so. */
static void tell_news(struct wait *w) {
    struct err why;
    char line[sizeof why.text + 64];
    if (!hub_news(w->in->hub, &why)) return;
    const int n = snprintf(line, sizeof line, "the engine was lost before this cell: %s\n", why.text);
    out_stream(w->o, OUT_STDERR, line, (size_t)n);
}
int job_run(struct interp *in, struct out *o, const struct engine_req *q, job_event *on, void *arg, struct err *e) {
    struct wait w = { .in = in, .o = o, .on = on, .arg = arg, .e = e };
    struct engine_req mine = *q;
    if (out_interrupted(o)) return err_set(e, STATUS_CANCELLED, "interrupted");
    if (needs_lane(q->kind) && this_cell.lane < 0) this_cell.lane = hub_lane(in->hub, out_beside(o), e);
    if (needs_lane(q->kind) && (mine.lane = this_cell.lane) < 0) return e->code;
    interp_pause();
    int rc = hub_submit(in->hub, &mine, &w.job, e);
    tell_news(&w);
    if (!rc) rc = follow(&w);
    pending_close(w.job);
    interp_resume();
    if (rc == STATUS_GONE) load_again(in, e);
    return rc;
}

int models_keep(struct models *m, const struct engine_event *ev, struct err *e) {
    if (ev->kind == ENGINE_EV_SYSTEM) {
        const int cards = ev->u.system.cards;
        struct engine_gpu *card = cards > 0 ? mem_grow(m->card, (size_t)cards, sizeof *card) : m->card;
        if (cards > 0 && !card) return err_set(e, STATUS_NOMEM, "out of memory for a list of GPUs");
        if (cards > 0) memcpy(card, ev->u.system.card, (size_t)cards * sizeof *card);
        m->system = ev->u.system;
        m->system.card = m->card = card;
        m->has_system = true;
    }
    if (ev->kind != ENGINE_EV_MODELS) return 0;
    const int n = ev->u.models.n;
    struct engine_model *row = n > 0 ? mem_grow(m->row, (size_t)(m->n + n), sizeof *row) : m->row;
    if (n > 0 && !row) return err_set(e, STATUS_NOMEM, "out of memory for a list of models");
    if (n > 0) memcpy(row + m->n, ev->u.models.row, (size_t)n * sizeof *row);
    m->row = row;
    m->n += n;
    return 0;
}
static int keep(void *arg, const struct engine_event *ev, struct err *e) { return models_keep(arg, ev, e); }

int models_ask(struct interp *in, struct out *o, const struct engine_req *q, struct models *m, struct err *e) {
    *m = (struct models){ 0 };
    return job_run(in, o, q, keep, m, e);
}
const struct engine_model *models_find(const struct models *m, const char *name) {
    for (int i = 0; i < m->n; i++) /* the last loaded comes first */
        if (!name || !strcasecmp(name, m->row[i].name)) return &m->row[i];
    return NULL;
}
void models_fini(struct models *m) {
    mem_free(m->row);
    mem_free(m->card);
    *m = (struct models){ 0 };
}
