/* engine.c - engine.h over whichever transport the uri names. */
#include "engine.h"
#include "base/mem.h"
#include "data/home.h"
#include "link.h"
#include "run/job.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct engine {
    const struct link_ops *ops;
    void *self;
};
static const struct link_ops *const links[] = { &link_local, &link_ipc };

static const struct link_ops *link_of(const char *uri, struct err *e) {
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (!strncmp(uri, links[i]->scheme, strlen(links[i]->scheme))) return links[i];
    err_set(e, STATUS_INVALID, "unknown engine '%s': \"ipc:\" is the resident one, \"local:\" runs in the kernel", uri);
    return NULL;
}
int engine_open(struct engine **out, const char *uri, struct err *e) {
    *out = NULL;
    const struct link_ops *ops = link_of(uri, e);
    if (!ops) return e->code;
    struct engine *g = mem_zero(1, sizeof *g);
    if (!g) return err_set(e, STATUS_NOMEM, "out of memory for the engine");
    g->ops = ops;
    if (ops->open(&g->self, uri, e)) return mem_free(g), e->code;
    *out = g;
    return STATUS_OK;
}
int engine_log(const char *uri, int lines, struct buf *out, struct err *e) {
    const struct link_ops *ops = link_of(uri, e);
    return ops ? ops->log(uri, lines, out, e) : e->code;
}
void engine_close(struct engine *g) {
    if (!g) return;
    g->ops->close(g->self);
    mem_free(g);
}
/* Lines for engine_req.environment: what this process says now, since %env and %cd change it. */
static void surroundings(struct buf *out) {
    char cwd[4096];
    for (int i = 0; home_variables[i]; i++) {
        const char *value = strcmp(home_variables[i], "PWD") ? getenv(home_variables[i]) : getcwd(cwd, sizeof cwd);
        if (value && !strchr(value, '\n')) buf_printf(out, "%s=%s\n", home_variables[i], value);
    }
}
int engine_submit(struct engine *g, const struct engine_req *q, uint64_t *job, struct err *e) {
    if (request_check(q, e)) return e->code;
    struct engine_req sent = *q;
    struct buf here;
    buf_init(&here, 1 << 16);
    if (!q->environment) {
        surroundings(&here);
        sent.environment = buf_text(&here);
    }
    const int rc = here.failed ? err_set(e, STATUS_NOMEM, "out of memory for the request")
                               : g->ops->submit(g->self, &sent, job, e);
    buf_fini(&here);
    return rc;
}
int engine_fd(const struct engine *g) { return g->ops->fd(g->self); }
int engine_next(struct engine *g, struct engine_event *ev) { return g->ops->next(g->self, ev); }
void engine_cancel(struct engine *g, uint64_t job) { g->ops->cancel(g->self, job); }
void engine_gone(const struct engine *g, struct err *e, struct buf *log) { g->ops->gone(g->self, e, log); }
void engine_event_fini(struct engine_event *ev) {
    mem_free(ev->owned);
    ev->owned = NULL;
}
const char *engine_stop_text(enum engine_stop s) {
    static const char *const text[] = {
        [ENGINE_STOP_NONE] = "",
        [ENGINE_STOP_EOS] = "end of text",
        [ENGINE_STOP_LENGTH] = "max_new_tokens",
        [ENGINE_STOP_CONTEXT] = "context full",
        [ENGINE_STOP_STRING] = "stop string",
        [ENGINE_STOP_ID] = "stop id",
        [ENGINE_STOP_CANCELLED] = "interrupted",
    };
    return (size_t)s < sizeof text / sizeof *text ? text[s] : "";
}
const char *engine_version(void) { return JAEDA_VERSION; }
/* A build's name is its version, when its sources were built, and what they were. */
int build_compare(const char *a, const char *b) {
    const char *made_a = strchr(a, ' '), *made_b = strchr(b, ' ');
    return made_a && made_b ? strcmp(made_a, made_b) : strcmp(a, b);
}
