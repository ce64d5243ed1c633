#include "base/log.h"
#include "base/mem.h"
#include "link.h"
#include "run/worker.h"

struct local {
    struct models models;
    struct worker *worker;
};
static int local_open(void **self, const char *uri, struct err *e) {
    static const struct about about = { "local", "", "" };
    struct local *l = mem_zero(1, sizeof *l);
    *self = l;
    (void)uri;
    if (!l) return err_set(e, STATUS_NOMEM, "out of memory for the engine");
    if (!models_open(&l->models, &about, e) && !worker_open(&l->worker, &l->models, "this notebook", e))
        return STATUS_OK;
    models_close(&l->models);
    mem_free(l);
    *self = NULL;
    return e->code;
}
static void local_close(void *self) {
    struct local *l = self;
    worker_close(l->worker);
    models_close(&l->models);
    mem_free(l);
}
static int local_submit(void *self, const struct engine_req *q, uint64_t *job, struct err *e) {
    *job = 0;
    return worker_submit(((struct local *)self)->worker, q, job, e);
}
static int local_fd(const void *self) { return worker_fd(((const struct local *)self)->worker); }
static int local_next(void *self, struct engine_event *ev) { return worker_next(((struct local *)self)->worker, ev); }
static void local_cancel(void *self, uint64_t job) { worker_cancel(((struct local *)self)->worker, job); }

static void local_gone(const void *self, struct err *e, struct buf *log) {
    (void)self;
    err_set(e, STATUS_GONE, "the engine's thread is gone: restart the kernel");
    if (log) log_tail(log, 10);
}
static int local_log(const char *uri, int lines, struct buf *out, struct err *e) {
    (void)uri;
    log_tail(out, lines);
    return out->failed ? err_set(e, STATUS_NOMEM, "no memory for the log") : 0;
}

const struct link_ops link_local = { "local:",   local_open,   local_close, local_submit, local_fd,
                                     local_next, local_cancel, local_gone,  local_log };
