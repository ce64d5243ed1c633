/* %jobs %attach %bg: what runs beside the cells, and what long cells have shown. */
#include "base/mem.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "magics.h"
#include <stdio.h>
#include <string.h>

enum { LISTED = 128, CODE_MAX = 64 << 20 };

static const struct job_host *host(struct call *c) {
    if (!c->in->host.jobs) err_set(c->e, STATUS_INVALID, "%%%s: this kernel keeps no jobs", c->magic->name);
    return c->in->host.jobs;
}
static int start(struct call *c, const struct buf *code) {
    const struct job_host *h = host(c);
    int number = 0;
    struct doc d;
    if (!h) return c->e->code;
    if (code->failed) return err_set(c->e, STATUS_NOMEM, "out of memory for the job");
    if (h->start(h->arg, buf_text(code), code->n, &number, c->e)) return c->e->code;
    doc_init(&d);
    doc_line(&d, "job %d runs in the background: %%attach %d shows it, %%jobs lists all, %%jobs stop %d ends it",
             number, number, number);
    return show_doc(c->o, &d, c->e);
}
int magic_bg(struct call *c) {
    struct buf code;
    buf_init(&code, CODE_MAX);
    buf_puts(&code, c->rest);
    if (c->body) buf_printf(&code, "%s", *c->rest ? "\n" : "");
    if (c->body) buf_add(&code, c->body, c->body_len);
    const size_t blank = strspn(buf_text(&code), " \t\n");
    const int rc = blank == code.n && !code.failed
                       ? err_set(c->e, STATUS_INVALID, "%%bg needs a line to run: %%bg %%profile --runs 20")
                       : start(c, &code);
    buf_fini(&code);
    return rc;
}
bool in_background(struct call *c, int *rc) {
    if (!args_flag(&c->args, "background") || out_background(c->o)) return false;
    struct buf code;
    buf_init(&code, CODE_MAX);
    buf_printf(&code, "%s%s %s", c->body ? "%%" : "%", c->typed, c->rest);
    if (c->body) buf_puts(&code, "\n");
    if (c->body) buf_add(&code, c->body, c->body_len);
    *rc = start(c, &code);
    buf_fini(&code);
    return true;
}
static int list(struct call *c, const struct job_host *h) {
    static const char *const title[] = { "job", "state", "started (UTC)", "took", "what" };
    struct job_info *row = mem_zero(LISTED, sizeof *row);
    if (!row) return err_set(c->e, STATUS_NOMEM, "out of memory");
    const int n = h->list(h->arg, row, LISTED, args_flag(&c->args, "all"));
    struct doc d;
    struct table t;
    doc_init(&d);
    table_init(&t, NULL);
    t.max_rows = LISTED;
    for (int i = 0; i < 5; i++) table_column(&t, title[i], i == 3 ? TABLE_RIGHT : TABLE_LEFT);
    for (int i = 0; i < n; i++) {
        char took[32];
        format_seconds(took, row[i].seconds);
        table_cell(&t, "%s", row[i].name);
        table_cell(&t, "%s", row[i].state);
        table_cell(&t, "%.10s %.8s", row[i].started, strlen(row[i].started) > 11 ? row[i].started + 11 : "");
        table_cell(&t, "%s", row[i].state[0] == 'l' ? "" : took);
        table_cell(&t, "%s", row[i].what);
    }
    if (n) doc_table(&d, &t);
    if (!n) doc_line(&d, "no jobs: %%bg starts one, and cells that run longer than half a second are jobs too");
    table_fini(&t);
    mem_free(row);
    return show_doc(c->o, &d, c->e);
}
int magic_jobs(struct call *c) {
    const struct job_host *h = host(c);
    const char *what = args_word(&c->args, 0), *name = args_word(&c->args, 1);
    if (!h) return c->e->code;
    if (!what || !strcmp(what, "list")) return list(c, h);
    const bool stop = !strcmp(what, "stop") || !strcmp(what, "kill") || !strcmp(what, "cancel");
    if (!stop && strcmp(what, "show") != 0)
        return err_set(c->e, STATUS_INVALID, "%%jobs %.40s: list, stop N or show N", what);
    if (!stop) return h->attach(h->arg, c->o, name, c->e);
    if (!name) return err_set(c->e, STATUS_INVALID, "%%jobs stop needs a job's number: %%jobs lists them");
    if (h->stop(h->arg, name, c->e)) return c->e->code;
    struct doc d;
    doc_init(&d);
    doc_line(&d, "job %s is asked to end; %%attach %s shows what it has shown", name, name);
    return show_doc(c->o, &d, c->e);
}
int magic_attach(struct call *c) {
    const struct job_host *h = host(c);
    return h ? h->attach(h->arg, c->o, args_word(&c->args, 0), c->e) : c->e->code;
}
