#include "base/log.h"
#include "link.h"
#include "run/worker.h"

static int local_open(void **self, const char *uri, struct err *e) {
    (void)uri;
    struct worker *w;
    const int rc = worker_open(&w, e);
    *self = w;
    return rc;
}
static void local_close(void *self) { worker_close(self); }
static int local_submit(void *self, const struct engine_req *q, uint64_t *job, struct err *e) {
    return worker_submit(self, q, job, e);
}
static int local_fd(const void *self) { return worker_fd(self); }
static int local_next(void *self, struct engine_event *ev) { return worker_next(self, ev); }
static void local_cancel(void *self, uint64_t job) { worker_cancel(self, job); }

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
