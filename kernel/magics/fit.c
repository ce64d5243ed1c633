/* %fit: what a model needs, and where it fits, before anything is read. */
#include "base/mem.h"
#include "fit_table.h"
#include "job.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "magics.h"
#include <stdio.h>
#include <string.h>

static bool has(const char *const *list, int n, const char *text) {
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i], text)) return true;
    return false;
}
static int too_many(struct err *e, const char *name) {
    return err_set(e, STATUS_INVALID, "%%fit: --%s takes at most %d values", name, FIT_LIST);
}
static int add_text(const char **list, int *n, const char *text, const char *name, struct err *e) {
    if (has(list, *n, text)) return 0;
    if (*n == FIT_LIST) return too_many(e, name);
    list[(*n)++] = text;
    return 0;
}
static int add_number(int *list, int *n, int v, const char *name, struct err *e) {
    for (int i = 0; i < *n; i++)
        if (list[i] == v) return 0;
    if (*n == FIT_LIST) return too_many(e, name);
    list[(*n)++] = v;
    return 0;
}
static int add_machines(struct fit_lists *l, struct err *e) {
    if (add_text(l->machine, &l->machines, "this", "machine", e)) return e->code;
    for (int i = 0; i < FIT_LIST && engine_machine(i, &l->known[i]); i++)
        if (add_text(l->machine, &l->machines, l->known[i].name, "machine", e)) return e->code;
    return 0;
}
/* What was asked; then int8 and int4 behind it, which are not shown but say what would fit. */
static int read_lists(struct fit_lists *l, const struct args *a, struct err *e) {
    int rc = 0;
    for (int i = 0; i < a->n && !rc; i++) {
        const struct arg *v = &a->v[i];
        const char *name = v->option->name;
        if (!strcmp(name, "dtype")) rc = add_text(l->dtype, &l->dtypes, v->text, name, e);
        if (!strcmp(name, "max-model-len")) rc = add_number(l->context, &l->contexts, (int)v->number, name, e);
        if (!strcmp(name, "batch-size")) rc = add_number(l->batch, &l->batches, (int)v->number, name, e);
        if (strcmp(name, "machine")) continue;
        rc = strcmp(v->text, "all") ? add_text(l->machine, &l->machines, v->text, name, e) : add_machines(l, e);
    }
    if (!rc && !l->machines) rc = add_machines(l, e);
    if (!rc && !l->dtypes) rc = add_text(l->dtype, &l->dtypes, "auto", "dtype", e);
    l->shown = args_given(a, "dtype") ? l->dtypes : 3;
    if (!rc) rc = add_text(l->dtype, &l->dtypes, "int8", "dtype", e);
    if (!rc) rc = add_text(l->dtype, &l->dtypes, "int4", "dtype", e);
    if (!l->contexts) l->context[l->contexts++] = 2048;
    if (!l->batches) l->batch[l->batches++] = 1;
    return rc;
}

struct fitting {
    struct fit_lists asked, lists; /* by the user; of the model in turn */
    struct doc d;
    int models;                /* shown so far */
    bool measured, unmeasured; /* a table has this machine, with its bandwidth or without */
};
static int on_fit(void *arg, const struct engine_event *ev, struct err *e) {
    struct fitting *f = arg;
    if (ev->kind != ENGINE_EV_FIT) return 0;
    const struct engine_fit *fit = &ev->u.fit;
    const struct fit_lists *l = &f->lists;
    if (fit->rows != fit->machines * l->dtypes * l->contexts * l->batches)
        return err_set(e, STATUS_GONE, "the engine answered %%fit with %d rows, not those that were asked", fit->rows);
    fit_section(&f->d, fit, l);
    for (int i = 0; i < fit->machines; i++)
        if (!strcmp(fit->machine[i].name, "this"))
            *(fit->machine[i].bandwidth_gbs > 0 ? &f->measured : &f->unmeasured) = true;
    f->models++;
    return 0;
}
/* Contexts that this model was not trained for leave its list; when that is all of them, the engine says so. */
static int trim(struct fitting *f, struct call *c, const struct engine_req *q, struct err *e) {
    struct models m;
    struct fit_lists *l = &f->lists;
    char most[32], beyond[32];
    *l = f->asked;
    l->contexts = 0;
    int rc = models_ask(c->in, c->o, q, &m, e);
    const int context = !rc && m.n ? m.row[0].context : 0;
    if (!rc) models_remember(c->in, &m);
    for (int i = 0; i < f->asked.contexts; i++)
        if (f->asked.context[i] <= context) l->context[l->contexts++] = f->asked.context[i];
    format_count(most, (uint64_t)context);
    if (!l->contexts && context > 0 && !args_given(&c->args, "max-model-len")) /* nobody asked for the usual 2,048 */
        l->context[l->contexts++] = context;
    if (!l->contexts) *l = f->asked;
    for (int i = 0; i < f->asked.contexts && l->contexts < f->asked.contexts; i++) {
        if (f->asked.context[i] <= context) continue;
        format_count(beyond, (uint64_t)f->asked.context[i]);
        doc_line(&f->d, "! %s: %s tokens are more than the %s it was trained for", m.row[0].name, beyond, most);
    }
    models_fini(&m);
    return rc;
}
static int fit_one(struct fitting *f, struct call *c, const char *name, struct err *e) {
    const struct fit_lists *l = &f->lists;
    const struct engine_req show = { .kind = ENGINE_REQ_SHOW,
                                     .model = interp_model(c->in, name),
                                     .revision = args_text(&c->args, "revision") };
    if (trim(f, c, &show, e)) return e->code;
    const struct engine_req q = { .kind = ENGINE_REQ_FIT,
                                  .model = show.model,
                                  .revision = show.revision,
                                  .vit = args_text(&c->args, "vit"),
                                  .qformer = args_text(&c->args, "qformer"),
                                  .projector = args_text(&c->args, "projector"),
                                  .llm = interp_model(c->in, args_text(&c->args, "llm")),
                                  .fit = { .dtype = l->dtype,
                                           .machine = l->machine,
                                           .context = l->context,
                                           .batch = l->batch,
                                           .dtypes = l->dtypes,
                                           .machines = l->machines,
                                           .contexts = l->contexts,
                                           .batches = l->batches } };
    return job_run(c->in, c->o, &q, on_fit, f, e);
}
/* Every model of "a,b c"; what cannot be fitted does not hide the others. The first failure is the cell's. */
static int fit_all(struct fitting *f, struct call *c) {
    struct err first = { 0 };
    for (int i = 0; i < c->args.words.n; i++) {
        for (const char *s = c->args.words.v[i].text;; s++) {
            const size_t n = strcspn(s, ",");
            struct err e = { 0 };
            char *name = mem_copy(s, n);
            if (!name) return err_set(c->e, STATUS_NOMEM, "out of memory for %%fit");
            if (n) fit_one(f, c, name, &e);
            mem_free(name);
            if (e.code && !first.code) first = e;
            if (e.code == STATUS_CANCELLED) return err_set(c->e, e.code, "%s", e.text);
            s += n;
            if (!*s) break;
        }
    }
    if (!first.code && !f->models) return err_set(c->e, STATUS_INVALID, "%%fit needs MODEL...  (%%fit? for help)");
    return first.code ? err_set(c->e, first.code, "%s", first.text) : 0;
}
int magic_fit(struct call *c) {
    struct fitting f = { .models = 0 };
    if (read_lists(&f.asked, &c->args, c->e)) return c->e->code;
    doc_init(&f.d);
    const int rc = fit_all(&f, c);
    if (!f.models) return doc_fini(&f.d), rc;
    doc_line(&f.d,
             "assumed: one device (no tensor parallelism), KV cache fp16 (fp32 with fp32 weights), all sequences at "
             "full length; the ceiling is reading weights and KV cache once a token at the nominal bandwidth%s. No "
             "weights were read.",
             f.unmeasured ? " (–: unknown, this machine's until %profile measures it)"
             : f.measured ? ", of this machine the measured one"
                          : "");
    struct err shown = { 0 };
    if (show_doc(c->o, &f.d, &shown) && !rc) return err_set(c->e, shown.code, "%s", shown.text);
    return rc;
}
