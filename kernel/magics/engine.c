/* %engine: the process that holds models and computes: where it is, what it does, when it leaves. */
#include "hub.h"
#include "job.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "magics.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAREWELL_MS = 5000 };

static bool resident(void) { return strncmp(hub_uri(), "local:", 6) != 0; }

void waited_text(double waited_ms, double total_ms, struct buf *out) {
    char text[32];
    if (!(waited_ms >= 0.01 * total_ms) || waited_ms <= 0) return;
    format_seconds(text, waited_ms * 1e-3);
    buf_printf(out, " · waited %s for other jobs", text);
}

/* ---- durations ---- */
/* "1h30m", "90s", "2d", "0", "never" -> seconds, < 0: never. */
static int duration(const char *text, double *s, struct err *e) {
    static const struct {
        char unit;
        double s;
    } unit[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };
    const char *at = text;
    bool good = *text;
    *s = 0;
    if (!strcmp(text, "never")) return *s = -1, 0;
    if (!strcmp(text, "0")) return 0;
    while (*at && good) {
        const size_t n = strspn(at, "0123456789");
        size_t i = 0;
        while (i < 4 && unit[i].unit != at[n]) i++;
        good = n && i < 4;
        if (good) *s += strtod(at, NULL) * unit[i].s, at += n + 1;
    }
    if (good && *s <= 365 * 86400.0) return 0;
    return err_set(e, STATUS_INVALID, "%%engine idle takes a time such as 30m, 90s or 1h30m, 0 or never, not \"%.40s\"",
                   text);
}
static void limit_text(double s, char out[96]) {
    char time[32];
    format_seconds(time, s);
    const size_t n = strlen(time);
    if (n > 4 && !strcmp(time + n - 4, " 0 s")) time[n - 4] = 0; /* "10 min" */
    if (s < 0) {
        snprintf(out, 96, "never leaves by itself");
    } else {
        snprintf(out, 96, s > 0 ? "leaves %s after the last connection ends" : "leaves when the last connection ends",
                 time);
    }
}

/* ---- status ---- */
void engine_where(const struct engine_system *s, char out[64]) {
    snprintf(out, 64, "%s", strcmp(s->transport, "ipc") ? "in this kernel (local:)" : "resident (ipc:)");
}
void engine_line(struct doc *d, const struct engine_system *s) {
    char where[64], limit[96], used[32], available[32], total[32];
    format_bytes(used, (double)s->resident);
    format_bytes(available, (double)s->memory_available);
    format_bytes(total, (double)s->memory_total);
    engine_where(s, where);
    limit_text(s->idle_limit_s, limit);
    if (strcmp(s->transport, "ipc") != 0) {
        doc_line(d, "engine: %s; this process holds %s; %s of %s are free", where, used, available, total);
    } else {
        doc_line(d, "engine: %s, process %d, holds %s; %s of %s are free; %d connection%s; %s", where, s->pid, used,
                 available, total, s->connections, s->connections == 1 ? "" : "s", limit);
    }
}
static void fact(struct table *t, const char *name, const char *value) {
    if (!*value) return;
    table_cell(t, "%s", name);
    table_cell(t, "%s", value);
}
static void count(struct table *t, const char *name, double v) {
    char text[32];
    snprintf(text, sizeof text, "%.0f", v);
    fact(t, name, text);
}
static void facts(struct table *t, const struct engine_system *s) {
    char text[96];
    engine_where(s, text);
    fact(t, "engine", text);
    if (s->pid) count(t, "process", s->pid);
    fact(t, "version", s->version);
    fact(t, "build", s->build);
    if (strcmp(s->build, engine_build()) != 0) fact(t, "build of this kernel", engine_build());
    format_seconds(text, s->uptime_s);
    fact(t, "up for", s->uptime_s > 0 ? text : "");
    if (resident()) count(t, "connections", s->connections);
    snprintf(text, sizeof text, "%d running, %d waiting", s->jobs_running, s->jobs_waiting);
    fact(t, "jobs", text);
    format_bytes(text, (double)s->resident);
    fact(t, "memory", text);
    limit_text(s->idle_limit_s, text);
    fact(t, "idle", resident() ? text : "it ends with this kernel");
}
static int ask(struct call *c, struct models *m) {
    const int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_STATUS }, m, c->e);
    if (rc) models_fini(m);
    return rc;
}
static int status(struct call *c) {
    struct models m;
    const int rc = ask(c, &m);
    if (rc) return rc;
    struct table t;
    table_init(&t, NULL);
    table_column(&t, "of the engine", TABLE_LEFT);
    table_column(&t, "value", TABLE_LEFT);
    facts(&t, &m.system);
    for (int i = 0; i < m.n; i++) fact(&t, "model", m.row[i].name);
    struct doc d;
    doc_init(&d);
    doc_table(&d, &t);
    table_fini(&t);
    if (m.system.place[0]) doc_line(&d, "socket: %s", m.system.place);
    if (m.system.log[0]) doc_line(&d, "log: %s (%%engine log shows its end)", m.system.log);
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}

/* ---- idle ---- */
static int only_resident(struct call *c, const char *what) {
    if (resident()) return 0;
    return err_set(c->e, STATUS_INVALID, "the engine runs in this kernel (local:) and ends with it: %s", what);
}
static int idle(struct call *c) {
    const char *text = args_word(&c->args, 1);
    struct engine_req q = { .kind = ENGINE_REQ_STATUS };
    if (only_resident(c, "there is no idle limit")) return c->e->code;
    if (text) {
        q = (struct engine_req){ .kind = ENGINE_REQ_ENGINE, .set_idle = true };
        if (duration(text, &q.idle_s, c->e)) return c->e->code;
    }
    struct models m;
    char limit[96];
    const int rc = models_ask(c->in, c->o, &q, &m, c->e);
    if (!rc) {
        limit_text(m.system.idle_limit_s, limit);
        out_printf(c->o, "the engine %s\n", limit);
    }
    models_fini(&m);
    return rc;
}

/* ---- log ---- */
static int show_log(struct call *c) {
    struct buf lines, clean;
    buf_init(&lines, 4 << 20);
    buf_init(&clean, 8 << 20);
    if (!resident())
        out_printf(c->o, "the engine runs in this kernel (local:) and writes into its log, which %%log shows\n");
    const int rc = resident() ? engine_log(hub_uri(), args_int(&c->args, "lines"), &lines, c->e) : 0;
    format_redacted(&clean, buf_text(&lines), lines.n);
    if (!rc && resident() && !clean.n) buf_puts(&clean, "the engine's log is empty\n");
    if (clean.n) out_stream(c->o, OUT_STDOUT, buf_text(&clean), clean.n);
    buf_fini(&lines);
    buf_fini(&clean);
    return rc;
}

/* ---- stop, restart ---- */
static void stopped_lines(struct call *c, const struct models *m) {
    const struct engine_system *s = &m->system;
    const int jobs = s->jobs_running + s->jobs_waiting, others = s->connections - 1;
    char held[32];
    struct doc d;
    struct err none = { 0 };
    format_bytes(held, (double)s->resident);
    doc_init(&d);
    doc_line(&d, "the engine (process %d) is stopped: %s given back", s->pid, held);
    for (int i = 0; i < m->n; i++) {
        const struct engine_model *r = &m->row[i];
        doc_line(&d, "%s is unloaded; it was used by %s", r->name, r->user[0] ? r->user : "nobody");
    }
    if (jobs)
        doc_line(&d, "%d job%s of %s ended with it", jobs, jobs == 1 ? "" : "s", others > 0 ? "notebooks" : "yours");
    show_doc(c->o, &d, &none);
}
static int stop(struct call *c) {
    struct models m, last;
    if (only_resident(c, "%unload --all gives its memory back, a restart of the kernel ends it")) return c->e->code;
    if (ask(c, &m)) return c->e->code;
    struct err why = { 0 };
    int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_ENGINE, .quit = true }, &last, &why);
    models_fini(&last);
    if (rc == STATUS_GONE) rc = 0; /* it left before its answer did */
    if (!rc) {
        interp_pause();
        hub_farewell(c->in->hub, FAREWELL_MS);
        interp_resume();
        stopped_lines(c, &m);
    }
    models_fini(&m);
    return rc ? err_set(c->e, rc, "%s", why.text) : 0;
}
static int restart(struct call *c) {
    if (stop(c)) return c->e->code;
    if (args_flag(&c->args, "load")) return load_last(c, false);
    struct models m;
    if (ask(c, &m)) return c->e->code; /* the first request starts it */
    out_printf(c->o, "the engine runs again: process %d%s%s\n", m.system.pid,
               c->in->last.model[0] ? "; %load alone loads again " : "", c->in->last.model);
    models_fini(&m);
    return 0;
}
int magic_engine(struct call *c) {
    static const struct {
        const char *verb;
        int (*run)(struct call *c);
    } verbs[] = {
        { "status", status }, { "idle", idle }, { "log", show_log }, { "stop", stop }, { "restart", restart }
    };
    const char *verb = args_word(&c->args, 0);
    if (args_word(&c->args, 1) && strcmp(verb, "idle") != 0)
        return err_set(c->e, STATUS_INVALID, "%%engine %.20s takes no \"%.40s\"  (%%engine? for help)", verb,
                       args_word(&c->args, 1));
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!verb || !strcmp(verb, verbs[i].verb)) return verbs[i].run(c);
    return err_set(c->e, STATUS_INVALID, "%%engine knows status, stop, restart, log and idle, not \"%.40s\"", verb);
}
