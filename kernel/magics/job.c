#include "job.h"
#include "base/mem.h"
#include "kernel/language/state.h"
#include <errno.h>
#include <poll.h>
#include <string.h>

struct wait {
    struct interp *in;
    struct out *o;
    uint64_t job;
    job_event *on;
    void *arg;
    bool ended, cancelled;
    int rc;
    struct err *e;
};
static void cancel(struct wait *w) {
    if (!w->cancelled) engine_cancel(w->in->engine, w->job);
    w->cancelled = true;
}
static void event(struct wait *w, const struct engine_event *ev) {
    if (ev->job != w->job) return; /* the rest of a job that was left */
    if (ev->kind == ENGINE_EV_FAIL) {
        w->ended = true;
        if (!w->rc) w->rc = err_set(w->e, ev->u.fail.code ? ev->u.fail.code : STATUS_GONE, "%s", ev->u.fail.text);
        return;
    }
    w->ended = ev->kind == ENGINE_EV_DONE;
    if (w->rc || !w->on) return;
    w->rc = w->on(w->arg, ev, w->e);
    if (w->rc && !w->ended) cancel(w);
}
/* Takes what is there; <0: the connection is gone. */
static int drain(struct wait *w) {
    struct engine_event ev;
    int rc;
    while (!w->ended && (rc = engine_next(w->in->engine, &ev)) != 0) {
        if (rc < 0) return rc;
        event(w, &ev);
        engine_event_fini(&ev);
    }
    return 0;
}
int job_run(struct interp *in, struct out *o, const struct engine_req *q, job_event *on, void *arg, struct err *e) {
    struct wait w = { .in = in, .o = o, .on = on, .arg = arg, .e = e };
    if (out_interrupted(o)) return err_set(e, STATUS_CANCELLED, "interrupted");
    if (!in->engine && engine_open(&in->engine, "local:", e)) return e->code;
    if (engine_submit(in->engine, q, &w.job, e)) return e->code;
    while (!drain(&w) && !w.ended) {
        struct pollfd p[2] = { { engine_fd(in->engine), POLLIN, 0 }, { out_interrupt_fd(o), POLLIN, 0 } };
        if (poll(p, w.cancelled ? 1 : 2, -1) < 0 && errno != EINTR) break;
        if (out_interrupted(o)) cancel(&w);
    }
    if (w.ended) return w.rc;
    engine_close(in->engine); /* the next cell opens another */
    in->engine = NULL;
    return err_set(e, STATUS_GONE, "the engine is gone: its models are unloaded. %%load starts it again");
}

int models_keep(struct models *m, const struct engine_event *ev, struct err *e) {
    if (ev->kind == ENGINE_EV_SYSTEM) {
        m->system = ev->u.system;
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
void models_fini(struct models *m) {
    mem_free(m->row);
    *m = (struct models){ 0 };
}
