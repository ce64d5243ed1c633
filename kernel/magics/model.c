/* %load %unload %models %ps %show: what is on the disk and what is in memory. */
#include "base/mem.h"
#include "job.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/progress.h"
#include "kernel/present/table.h"
#include "magics.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const double MIB = 1024 * 1024;

int show_doc(struct out *o, struct doc *d, struct err *e) {
    json_t *bundle = doc_bundle(d);
    doc_fini(d);
    if (!bundle) return err_set(e, STATUS_NOMEM, "out of memory for a table");
    out_display(o, bundle, NULL, NULL, false);
    return 0;
}
static bool ends(const char *s, const char *end) {
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcasecmp(s + n - m, end);
}
/* What people load elsewhere under this name. */
static int not_a_model(const char *name, struct err *e) {
    static const char *const text[] = { ".py", ".ipynb", ".txt", ".md", ".json", ".sh", ".csv", ".yaml", ".yml" };
    static const char *const weights[] = { ".safetensors", ".bin", ".pt", ".pth", ".onnx", ".ggml" };
    if (strstr(name, "://"))
        return err_set(e, STATUS_INVALID,
                       "%%load loads a model of this disk and fetches nothing: download %.80s first (!curl -LO ...)",
                       name);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        if (ends(name, text[i]))
            return err_set(e, STATUS_INVALID, "%%load loads a model in this kernel. To read a file: !cat %.80s", name);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (ends(name, weights[i]))
            return err_set(e, STATUS_FORMAT, "%%load reads GGUF files so far, not %s: %.80s", weights[i], name);
    return 0;
}
/* A line for completion and the list of names. */
static void remember(struct interp *in, const struct models *m) {
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

struct loading {
    struct progress progress;
    struct models models;
};
static int on_load(void *arg, const struct engine_event *ev, struct err *e) {
    struct loading *l = arg;
    if (ev->kind == ENGINE_EV_PROGRESS)
        progress_update(&l->progress, ev->u.progress.what, ev->u.progress.done, ev->u.progress.total,
                        ev->u.progress.unit);
    return models_keep(&l->models, ev, e);
}
static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
static void memory_line(struct doc *d, const struct engine_model *m) {
    char predicted[32], measured[32], weights[32], kv[32], work[32];
    format_bytes(predicted, (double)m->predicted_bytes);
    format_bytes(measured, (double)m->measured_bytes);
    format_bytes(weights, (double)m->weight_bytes);
    format_bytes(kv, (double)m->kv_bytes);
    format_bytes(work, (double)m->arena_bytes);
    doc_line(d, "memory: %s measured, %s predicted: weights %s, KV cache %s, work %s", measured, predicted, weights, kv,
             work);
}
static json_t *loaded_bundle(const struct engine_model *m) {
    char params[32], size[32], read[32], rate[32], total[32], len[32];
    format_params(params, m->params);
    format_bytes(size, (double)m->file_bytes);
    format_bytes(rate, m->read_mib_s * MIB);
    format_seconds(read, m->read_mib_s > 0 ? (double)m->file_bytes / MIB / m->read_mib_s : 0);
    format_seconds(total, m->load_s);
    format_count(len, (uint64_t)m->max_model_len);
    struct doc d;
    doc_init(&d);
    if (m->load_s > 0) {
        doc_line(&d, "%s is ready: %s, %s parameters, %s, context of %s tokens", m->name, m->arch, params, m->dtype,
                 len);
        doc_line(&d, "read %s: %s in %s, %s/s (%s); ready after %s", base_name(m->file), size, read, rate,
                 m->from_page_cache ? "page cache" : "disk", total);
    } else {
        doc_line(&d, "%s is loaded already: %s, %s parameters, %s, context of %s tokens", m->name, m->arch, params,
                 m->dtype, len);
    }
    memory_line(&d, m);
    if (m->notice[0] && m->load_s > 0) doc_line(&d, "note: %s", m->notice);
    json_t *bundle = doc_bundle(&d);
    doc_fini(&d);
    return bundle;
}
/* The bar must not stay at 62 % when the load ended another way. */
static void leave(struct progress *p, const struct err *e) {
    if (!progress_shown(p)) return;
    struct buf text;
    buf_init(&text, 1024);
    buf_printf(&text, e->code == STATUS_CANCELLED ? "load interrupted: nothing is kept" : "not loaded: %s", e->text);
    progress_end(p, doc_plain(buf_text(&text), text.n));
    buf_fini(&text);
}
int magic_load(struct call *c) {
    const char *name = interp_model(c->in, args_word(&c->args, 0));
    if (not_a_model(name, c->e)) return c->e->code;
    const struct engine_req q = { .kind = ENGINE_REQ_LOAD,
                                  .model = name,
                                  .dtype = args_text(&c->args, "dtype"),
                                  .max_model_len = args_int(&c->args, "max-model-len"),
                                  .threads = args_int(&c->args, "threads") };
    struct loading l = { 0 };
    progress_init(&l.progress, c->o);
    const int rc = job_run(c->in, c->o, &q, on_load, &l, c->e);
    if (rc) {
        leave(&l.progress, c->e);
    } else if (l.models.n) {
        remember(c->in, &l.models);
        progress_end(&l.progress, loaded_bundle(&l.models.row[0]));
    }
    models_fini(&l.models);
    return rc;
}

static int unload_request(struct call *c, struct models *m) {
    const bool all = args_flag(&c->args, "all");
    const char *name = interp_model(c->in, args_word(&c->args, 0));
    if (all && name) return err_set(c->e, STATUS_INVALID, "%%unload takes a model or --all, not both");
    return models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .model = all ? "*" : name }, m,
                      c->e);
}
int magic_unload(struct call *c) {
    struct models m = { 0 };
    const int rc = unload_request(c, &m);
    if (rc) {
        models_fini(&m);
        return rc;
    }
    remember(c->in, &m);
    struct doc d;
    doc_init(&d);
    for (int i = 0; i < m.n; i++) {
        char freed[32], measured[32];
        format_bytes(freed, (double)m.row[i].freed_bytes);
        format_bytes(measured, (double)m.row[i].measured_bytes);
        doc_line(&d, "%s is unloaded: %s given back (its load had taken %s)", m.row[i].name, freed, measured);
    }
    if (!m.n) doc_line(&d, "no model was loaded");
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}

static void model_row(struct table *t, const struct engine_model *m) {
    char params[32];
    format_params(params, m->params);
    table_cell(t, "%s", m->name);
    table_cell(t, "%s", m->loaded ? "loaded" : m->on_disk ? "on disk" : m->get[0] ? "not here" : "unusable");
    table_cell(t, "%s", m->arch);
    table_cell(t, "%s", m->params ? params : "");
    table_cell(t, "%s", m->dtype);
    if (m->file_bytes) {
        table_number(t, (double)m->file_bytes / MIB);
    } else {
        table_cell(t, "%s", "");
    }
    if (m->context) {
        char n[32];
        format_count(n, (uint64_t)m->context);
        table_cell(t, "%s", n);
    } else {
        table_cell(t, "%s", "");
    }
}
int magic_models(struct call *c) {
    struct models m;
    const int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_MODELS }, &m, c->e);
    if (rc) return models_fini(&m), rc;
    remember(c->in, &m);
    struct table t;
    table_init(&t, NULL);
    static const char *const title[] = {
        "model", "state", "arch", "parameters", "dtype", "file MiB", "context tokens"
    };
    for (int i = 0; i < 7; i++) table_column(&t, title[i], i == 3 || i > 4 ? TABLE_RIGHT : TABLE_LEFT);
    t.max_rows = 200;
    for (int i = 0; i < m.n; i++) model_row(&t, &m.row[i]);
    struct doc d;
    doc_init(&d);
    doc_table(&d, &t);
    table_fini(&t);
    for (int i = 0; i < m.n; i++) {
        if (!m.row[i].on_disk && !m.row[i].loaded && m.row[i].get[0]) {
            doc_line(&d, "to get %s:", m.row[i].name);
            doc_code(&d, m.row[i].get, strlen(m.row[i].get));
        }
        if (!m.row[i].arch[0] && m.row[i].notice[0]) doc_line(&d, "%s: %s", m.row[i].name, m.row[i].notice);
    }
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}
int magic_ps(struct call *c) {
    struct models m;
    const int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_STATUS }, &m, c->e);
    if (rc) return models_fini(&m), rc;
    struct doc d;
    doc_init(&d);
    struct table t;
    table_init(&t, NULL);
    static const char *const title[] = { "model",    "dtype",        "weights MiB",   "KV cache MiB",
                                         "work MiB", "measured MiB", "context tokens" };
    for (int i = 0; i < 7; i++) table_column(&t, title[i], i > 1 ? TABLE_RIGHT : TABLE_LEFT);
    for (int i = 0; i < m.n; i++) {
        const struct engine_model *r = &m.row[i];
        const uint64_t size[] = { r->weight_bytes, r->kv_bytes, r->arena_bytes, r->measured_bytes };
        char n[32];
        table_cell(&t, "%s", r->name);
        table_cell(&t, "%s", r->dtype);
        for (int k = 0; k < 4; k++) table_number(&t, (double)size[k] / MIB);
        format_count(n, (uint64_t)r->max_model_len);
        table_cell(&t, "%s", n);
    }
    if (m.n) doc_table(&d, &t);
    table_fini(&t);
    if (!m.n) doc_line(&d, "no model is loaded; %%load %s loads the default one", DEFAULT_MODEL);
    char used[32], available[32], total[32];
    format_bytes(used, (double)m.system.resident);
    format_bytes(available, (double)m.system.memory_available);
    format_bytes(total, (double)m.system.memory_total);
    if (m.has_system) doc_line(&d, "this process holds %s; %s of %s are free", used, available, total);
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
static void show_facts(struct table *t, const struct engine_model *m) {
    char text[64];
    fact(t, "file", m->file);
    size(t, "file size", m->file_bytes);
    fact(t, "architecture", m->arch);
    count(t, "parameters", m->params);
    fact(t, "size label", m->size_label);
    fact(t, m->loaded ? "weights in memory" : "weights as stored", m->dtype);
    count(t, "layers", (uint64_t)m->layers);
    count(t, "hidden", (uint64_t)m->hidden);
    snprintf(text, sizeof text, m->kv_heads && m->kv_heads != m->heads ? "%d (%d of keys and values)" : "%d", m->heads,
             m->kv_heads);
    fact(t, "heads", m->heads ? text : "");
    count(t, "head width", (uint64_t)m->head_dim);
    count(t, "feed-forward", (uint64_t)m->ffn);
    count(t, "vocabulary", (uint64_t)m->vocab);
    count(t, "context of the model", (uint64_t)m->context);
    if (m->loaded) count(t, "context reserved", (uint64_t)m->max_model_len);
    size(t, "KV cache a token", m->kv_bytes_per_token);
    fact(t, "template", m->template_name);
    fact(t, "licence", m->license);
    fact(t, "state", m->loaded ? "loaded" : m->on_disk ? "on disk" : "not on disk");
    fact(t, "to get it", m->on_disk ? "" : m->get);
    fact(t, "note", m->notice);
}
int magic_show(struct call *c) {
    struct models m;
    const struct engine_req q = { .kind = ENGINE_REQ_SHOW, .model = interp_model(c->in, args_word(&c->args, 0)) };
    int rc = models_ask(c->in, c->o, &q, &m, c->e);
    if (!rc && !m.n) rc = err_set(c->e, STATUS_NOTFOUND, "no such model; %%models lists them");
    if (rc) return models_fini(&m), rc;
    remember(c->in, &m);
    struct table t;
    table_init(&t, m.row[0].name);
    table_column(&t, "of the model", TABLE_LEFT);
    table_column(&t, "value", TABLE_LEFT);
    t.max_rows = 100;
    show_facts(&t, &m.row[0]);
    struct doc d;
    doc_init(&d);
    doc_table(&d, &t);
    if (m.row[0].loaded) memory_line(&d, &m.row[0]);
    table_fini(&t);
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}
