/* %models %ps %show: what is on the disk and what is in memory. */
#include "base/utf8.h"
#include "fit_table.h"
#include "job.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "magics.h"
#include <stdio.h>
#include <string.h>

static const double MIB = 1024 * 1024;

int show_doc(struct out *o, struct doc *d, struct err *e) {
    json_t *bundle = doc_bundle(d);
    doc_fini(d);
    if (!bundle) return err_set(e, STATUS_NOMEM, "out of memory for a table");
    out_display(o, bundle, NULL, NULL, false);
    return 0;
}
/* A line for completion and the list of names. */
void models_remember(struct interp *in, const struct models *m) {
    for (int i = 0; i < m->n; i++) {
        const struct engine_model *r = &m->row[i];
        char params[32], about[160];
        format_params(params, r->params);
        snprintf(about, sizeof about, "%s%s%s%s",
                 r->loaded    ? "loaded"
                 : r->on_disk ? "on disk"
                              : "not on disk",
                 r->params ? ", " : "", r->params ? params : "", r->dtype[0] ? ", " : "");
        const size_t n = strlen(about);
        snprintf(about + n, sizeof about - n, "%s", r->dtype);
        variables_set_text(&in->models, r->name, about, strlen(about), NULL);
        in->changed = true;
    }
}

static bool here(const struct engine_model *m) { return m->loaded || m->on_disk || !m->get[0]; }
/* The name that people know a model by elsewhere: its repository, else its first alias. */
static void other_name(struct table *t, const struct engine_model *m) {
    table_cell(t, "%.*s", (int)(m->repo[0] ? strlen(m->repo) : strcspn(m->aliases, " ")),
               m->repo[0] ? m->repo : m->aliases);
}
static void columns(struct table *t, const char *const *title, int n, unsigned right) {
    for (int i = 0; i < n; i++) table_column(t, title[i], right >> i & 1 ? TABLE_RIGHT : TABLE_LEFT);
    t->max_rows = 200;
}
static void params_cell(struct table *t, const struct engine_model *m) {
    char params[32];
    format_params(params, m->params);
    table_cell(t, "%s", m->params ? params : m->size_label);
}
static void models_here(struct doc *d, const struct models *m) {
    static const char *const title[] = { "model", "state", "parameters", "format", "dtype", "MiB", "template", "also" };
    struct table t;
    table_init(&t, "loaded, or on this disk");
    columns(&t, title, 8, 1 << 2 | 1 << 5);
    for (int i = 0; i < m->n; i++) {
        const struct engine_model *r = &m->row[i];
        if (!here(r)) continue;
        table_cell(&t, "%s", r->name);
        table_cell(&t, "%s", r->loaded ? "loaded" : r->arch[0] ? "on disk" : "unusable");
        params_cell(&t, r);
        table_cell(&t, "%s", r->format);
        table_cell(&t, "%s", r->dtype);
        if (r->file_bytes) {
            table_number(&t, (double)r->file_bytes / MIB);
        } else {
            table_cell(&t, "%s", "");
        }
        table_cell(&t, "%s", r->template_name);
        other_name(&t, r);
    }
    if (table_rows(&t)) doc_table(d, &t);
    if (!table_rows(&t)) doc_line(d, "no model is on this disk");
    table_fini(&t);
}
/* "# name: text" in lines of at most TEXT_COLUMNS. */
static void comment(struct buf *out, const char *name, const char *text) {
    size_t column = strlen(name) + 3;
    buf_printf(out, "# %s:", name);
    for (const char *s = text; *s; s += strspn(s, " ")) {
        const size_t n = strcspn(s, " "), width = utf8_width(s, n);
        if (column + 1 + width > TEXT_COLUMNS) buf_puts(out, "\n#"), column = 1;
        buf_puts(out, " ");
        buf_add(out, s, n);
        column += 1 + width;
        s += n;
    }
    buf_puts(out, "\n");
}
/* What is not here: the table, then the commands as a cell would run them. */
static void models_elsewhere(struct doc *d, const struct models *m) {
    static const char *const title[] = { "model", "parameters", "context", "template", "access", "repository" };
    struct table t;
    struct buf get;
    table_init(&t, "known, not on this disk");
    columns(&t, title, 6, 1 << 1 | 1 << 2);
    buf_init(&get, 1 << 20);
    for (int i = 0; i < m->n; i++) {
        const struct engine_model *r = &m->row[i];
        char n[32];
        if (here(r)) continue;
        format_count(n, (uint64_t)r->context);
        table_cell(&t, "%s", r->name);
        params_cell(&t, r);
        table_cell(&t, "%s", r->context ? n : "");
        table_cell(&t, "%s", r->template_name);
        table_cell(&t, "%s", !r->gated[0] ? "open" : strncmp(r->gated, "gated", 5) ? "by hand" : "gated");
        other_name(&t, r);
        if (r->gated[0]) comment(&get, r->name, r->gated);
        buf_printf(&get, "%s\n", r->get);
    }
    if (table_rows(&t)) {
        doc_table(d, &t);
        doc_line(d, "to get one, in a terminal (in a cell with a ! in front):");
        doc_code(d, buf_text(&get), get.n);
        doc_line(d,
                 "without a download: %%fit MODEL says where it fits, %%load MODEL --load-format dummy how fast it is");
    }
    buf_fini(&get);
    table_fini(&t);
}
/* "with pictures (%image, --image): minigpt4-7b, minigpt-v2" */
static void seeing_line(struct doc *d, const struct models *m) {
    struct buf names;
    buf_init(&names, 65536);
    for (int i = 0; i < m->n; i++)
        if (m->row[i].image_tokens > 0) buf_printf(&names, "%s%s", names.n ? ", " : "", m->row[i].name);
    if (names.n) doc_line(d, "of all these, models that see pictures (%%image, --image): %s", buf_text(&names));
    buf_fini(&names);
}
int magic_models(struct call *c) {
    struct models m;
    const int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_MODELS }, &m, c->e);
    if (rc) return models_fini(&m), rc;
    models_remember(c->in, &m);
    struct doc d;
    doc_init(&d);
    models_here(&d, &m);
    for (int i = 0; i < m.n; i++)
        if (!m.row[i].arch[0] && m.row[i].notice[0]) doc_line(&d, "%s: %s", m.row[i].name, m.row[i].notice);
    models_elsewhere(&d, &m);
    seeing_line(&d, &m);
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}
/* Who holds a model's weights, and for how long nobody has asked anything of it. */
static void user_line(struct doc *d, const struct engine_model *m) {
    char idle[32];
    format_seconds(idle, m->idle_s);
    if (m->users) {
        doc_line(d, "%s is used by %s; %s%s", m->name, m->user, m->idle_s > 0 ? "idle for " : "at work",
                 m->idle_s > 0 ? idle : "");
    } else if (m->idle_s > 0) {
        doc_line(d, "%s is used by nobody, idle for %s; %%load --evict may unload it", m->name, idle);
    }
}
int magic_ps(struct call *c) {
    struct models m;
    const int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_STATUS }, &m, c->e);
    if (rc) return models_fini(&m), rc;
    struct doc d;
    doc_init(&d);
    struct table t;
    table_init(&t, NULL);
    static const char *const title[] = { "model",  "dtype",    "weights MiB",  "KV dtype",
                                         "KV MiB", "work MiB", "measured MiB", "context tokens" };
    columns(&t, title, 8, 1 << 2 | 0xf << 4);
    for (int i = 0; i < m.n; i++) {
        const struct engine_model *r = &m.row[i];
        char n[32];
        table_cell(&t, "%s", r->name);
        table_cell(&t, "%s", r->dtype);
        table_number(&t, (double)r->weight_bytes / MIB);
        table_cell(&t, "%s", r->kv_dtype);
        table_number(&t, (double)r->kv_bytes / MIB);
        table_number(&t, (double)r->arena_bytes / MIB);
        table_number(&t, (double)r->measured_bytes / MIB);
        format_count(n, (uint64_t)r->max_model_len);
        table_cell(&t, "%s", n);
    }
    if (m.n) doc_table(&d, &t);
    table_fini(&t);
    for (int i = 0; i < m.n; i++)
        if (!strcmp(m.row[i].format, "dummy")) doc_line(&d, "! %s: %s", m.row[i].name, DUMMY_NOTICE);
    for (int i = 0; i < m.n; i++) sees_line(&d, &m.row[i]);
    for (int i = 0; i < m.n; i++) user_line(&d, &m.row[i]);
    if (!m.n) doc_line(&d, "no model is loaded; %%load %s loads the default one", DEFAULT_MODEL);
    if (m.has_system) engine_line(&d, &m.system);
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}

static void fact(struct table *t, const char *name, const char *value) {
    if (!*value) return;
    table_cell(t, "%s", name);
    table_cell(t, "%s", value);
}
static void count(struct table *t, const char *name, uint64_t v) {
    char n[32];
    format_count(n, v);
    fact(t, name, v ? n : "");
}
static void size(struct table *t, const char *name, uint64_t v) {
    char n[32];
    format_bytes(n, (double)v);
    fact(t, name, v ? n : "");
}
static void shape_facts(struct table *t, const struct engine_model *m) {
    char text[96], theta[32];
    count(t, "layers", (uint64_t)m->layers);
    count(t, "hidden", (uint64_t)m->hidden);
    snprintf(text, sizeof text, m->kv_heads && m->kv_heads != m->heads ? "%d (%d of keys and values)" : "%d", m->heads,
             m->kv_heads);
    fact(t, "heads", m->heads ? text : "");
    count(t, "head width", (uint64_t)m->head_dim);
    format_count(theta, (uint64_t)m->rope_theta);
    snprintf(text, sizeof text, "%d of %d dimensions of a head, base %s", m->rope_dims, m->head_dim, theta);
    fact(t, "RoPE", m->rope_dims ? text : "");
    count(t, "feed-forward", (uint64_t)m->ffn);
    count(t, "vocabulary rows", (uint64_t)m->vocab);
    count(t, "context of the model", (uint64_t)m->context);
    if (m->loaded) count(t, "context reserved", (uint64_t)m->max_model_len);
    if (m->loaded && m->max_sequences > 1) count(t, "sequences reserved", (uint64_t)m->max_sequences);
    format_bytes(theta, m->kv_bytes_per_token ? (double)m->kv_bytes_per_token : fit_kv_bytes(m));
    snprintf(text, sizeof text, "%s, %s", theta, m->kv_dtype[0] ? m->kv_dtype : "fp16");
    fact(t, "KV cache a token", m->layers ? text : "");
}
static void show_facts(struct table *t, const struct engine_model *m) {
    fact(t, "repository", m->repo);
    fact(t, "aliases", m->aliases);
    fact(t, "format", m->format);
    size(t, "file size", m->file_bytes);
    fact(t, "architecture", m->arch);
    count(t, "parameters", m->params);
    fact(t, "size label", m->size_label);
    fact(t, m->loaded ? "weights in memory" : "weights as stored", m->dtype);
    shape_facts(t, m);
    fact(t, "sees through", m->vision);
    fact(t, "image encoder in memory", m->loaded ? m->vision_dtype : "");
    count(t, "tokens a picture", (uint64_t)m->image_tokens);
    fact(t, "template", m->template_name);
    fact(t, "an answer ends at", m->stops);
    fact(t, "licence", m->license);
    fact(t, "state", m->loaded ? "loaded" : m->on_disk ? "on disk" : "not on disk");
}
/* What must not be cut to a column: paths and commands. */
static void show_lines(struct doc *d, const struct engine_model *m) {
    if (m->file[0]) doc_line(d, "file: %s", m->file);
    if (m->vit[0]) doc_line(d, "image encoder: %s", m->vit);
    if (m->qformer[0]) doc_line(d, "Q-Former: %s", m->qformer);
    if (m->projector[0]) doc_line(d, "projection: %s", m->projector);
    if (m->loaded) memory_line(d, m), sees_line(d, m);
    if (!strcmp(m->format, "dummy")) doc_line(d, "! %s", DUMMY_NOTICE);
    if (m->notice[0]) doc_line(d, "note: %s", m->notice);
    if (m->on_disk || !m->get[0]) return;
    if (m->gated[0]) doc_line(d, "before getting it: %s", m->gated);
    doc_line(d, "to get it:");
    doc_code(d, m->get, strlen(m->get));
}
int magic_show(struct call *c) {
    struct models m;
    const struct engine_req q = { .kind = ENGINE_REQ_SHOW, .model = interp_model(c->in, args_word(&c->args, 0)) };
    int rc = models_ask(c->in, c->o, &q, &m, c->e);
    if (!rc && !m.n) rc = err_set(c->e, STATUS_NOTFOUND, "no such model; %%models lists them");
    if (rc) return models_fini(&m), rc;
    models_remember(c->in, &m);
    struct table t;
    table_init(&t, m.row[0].name);
    table_column(&t, "of the model", TABLE_LEFT);
    table_column(&t, "value", TABLE_LEFT);
    t.max_rows = 100;
    show_facts(&t, &m.row[0]);
    struct doc d;
    doc_init(&d);
    doc_table(&d, &t);
    show_lines(&d, &m.row[0]);
    table_fini(&t);
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}
