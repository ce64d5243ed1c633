/* %load %unload: weights into memory and out of it again. */
#include "job.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/progress.h"
#include "kernel/present/table.h"
#include "magics.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const double MIB = 1024 * 1024;

static bool ends(const char *s, const char *end) {
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcasecmp(s + n - m, end);
}
/* What people load elsewhere under this name. */
static int not_a_model(const char *name, struct err *e) {
    static const char *const text[] = { ".py", ".ipynb", ".txt", ".md", ".json", ".sh", ".csv", ".yaml", ".yml" };
    static const char *const weights[] = { ".onnx", ".ggml", ".npz", ".h5" };
    if (strstr(name, "://"))
        return err_set(
            e, STATUS_INVALID,
            "%%load loads a model of this disk and fetches nothing: download %.80s first (%%models says how)", name);
    if (ends(name, "config.json") || ends(name, ".index.json"))
        return err_set(e, STATUS_INVALID, "%%load takes the folder that holds %.80s", name);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        if (ends(name, text[i]))
            return err_set(e, STATUS_INVALID, "%%load loads a model in this kernel. To read a file: !cat %.80s", name);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (ends(name, weights[i]))
            return err_set(e, STATUS_FORMAT, "%%load reads safetensors, torch and GGUF files, not %s: %.80s",
                           weights[i], name);
    return 0;
}

/* ---- the weights' dtype: four ways to say it ---- */
static const char *dtype_of(const struct arg *a) {
    const char *name = a->option->name;
    if (!strcmp(name, "dtype") || !strcmp(name, "quantization"))
        return strcmp(a->text, "auto") && strcmp(a->text, "none") ? a->text : NULL;
    if (!a->number) return NULL;
    return !strcmp(name, "load-in-8bit") ? "int8" : !strcmp(name, "load-in-4bit") ? "int4" : NULL;
}
/* What was typed wins over a default of %set; two that contradict each other are an error. NULL and e then. */
static const char *asked_dtype(const struct args *a, struct err *e) {
    const char *set = "auto";
    const struct arg *typed = NULL;
    for (int i = 0; i < a->n; i++) {
        const struct arg *v = &a->v[i];
        const char *dtype = dtype_of(v);
        if (!strcmp(v->option->name, "dtype") && !dtype) set = "auto"; /* --dtype auto undoes the default */
        if (!dtype) continue;
        if (v->from_set) {
            set = dtype;
        } else if (typed && typed->option != v->option && strcmp(dtype_of(typed), dtype)) {
            err_set(e, STATUS_INVALID, "%%load: --%s asks for %s and --%s for %s: weights have one dtype",
                    typed->option->name, dtype_of(typed), v->option->name, dtype);
            return NULL;
        } else {
            typed = v;
        }
    }
    return typed ? dtype_of(typed) : set;
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
    return slash && slash[1] ? slash + 1 : path;
}
void memory_line(struct doc *d, const struct engine_model *m) {
    char predicted[32], measured[32], peak[32], weights[32], kv[32], work[32];
    format_bytes(predicted, (double)m->predicted_bytes);
    format_bytes(measured, (double)m->measured_bytes);
    format_bytes(peak, (double)m->peak_bytes);
    format_bytes(weights, (double)m->weight_bytes);
    format_bytes(kv, (double)m->kv_bytes);
    format_bytes(work, (double)m->arena_bytes);
    doc_line(d, "memory: %s measured, %s predicted%s%s: weights %s, KV cache %s, work %s", measured, predicted,
             m->peak_bytes ? ", at its peak " : "", m->peak_bytes ? peak : "", weights, kv, work);
}
void sees_line(struct doc *d, const struct engine_model *m) {
    char weights[32], work[32], tokens[32];
    if (m->image_tokens < 1) return;
    format_bytes(weights, (double)m->vision_bytes);
    format_bytes(work, (double)m->vision_work_bytes);
    format_count(tokens, (uint64_t)m->image_tokens);
    doc_line(d, "%s sees: %s%s%s, %s tokens a picture%s%s%s%s", m->name, m->vision, *m->vision_dtype ? ", " : "",
             m->vision_dtype, tokens, m->vision_bytes ? "; of the memory: weights " : "",
             m->vision_bytes ? weights : "", m->vision_work_bytes ? ", work " : "", m->vision_work_bytes ? work : "");
    if (m->loaded && m->max_images)
        doc_line(d, "a conversation holds up to %d picture%s: %%image FILE, or --image FILE", m->max_images,
                 m->max_images == 1 ? "" : "s");
}
static void read_line(struct doc *d, const struct engine_model *m) {
    char size[32], read[32], rate[32], total[32];
    format_bytes(size, (double)m->file_bytes);
    format_bytes(rate, m->read_mib_s * MIB);
    format_seconds(read, m->read_mib_s > 0 ? (double)m->file_bytes / MIB / m->read_mib_s : 0);
    format_seconds(total, m->load_s);
    if (!strcmp(m->format, "dummy")) {
        doc_line(d, "filled with random numbers, no file read; ready after %s", total);
    } else {
        doc_line(d, "read %s%s%s: %s in %s, %s/s (%s); ready after %s", base_name(m->file), m->format[0] ? ", " : "",
                 m->format, size, read, rate, m->from_page_cache ? "page cache" : "disk", total);
    }
    if (m->copy_ms > 0) { /* a device of its own memory */
        format_seconds(read, m->disk_ms * 1e-3);
        format_seconds(size, m->copy_ms * 1e-3);
        format_seconds(rate, m->pack_ms * 1e-3);
        doc_line(d, "side by side: waiting for the file %s, copying to the GPU %s, packing there %s", read, size, rate);
    }
}
/* missing: why the weights could not be had, when random ones stand in for them; took_s: the whole request. */
static json_t *loaded_bundle(const struct engine_model *m, const struct err *missing, double took_s) {
    char params[32], len[32], found[32];
    const bool now = m->load_s > 0;
    format_seconds(found, took_s);
    format_params(params, m->params);
    format_count(len, (uint64_t)m->max_model_len);
    struct doc d;
    doc_init(&d);
    doc_line(&d, "%s is %s%s: %s, %s parameters, weights %s, KV cache %s, context of %s tokens", m->name,
             now ? "ready" : "loaded already, ready after ", now ? "" : found, m->arch, params, m->dtype, m->kv_dtype,
             len);
    if (now) read_line(&d, m);
    if (m->users > 1) doc_line(&d, "shared by %s: one copy of the weights, a KV cache each", m->user);
    memory_line(&d, m);
    sees_line(&d, m);
    if (!strcmp(m->format, "dummy")) doc_line(&d, "! %s", DUMMY_NOTICE);
    if (missing->code) doc_line(&d, "why: %s", missing->text);
    if (m->notice[0] && now) doc_line(&d, "note: %s", m->notice);
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
static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static const char *given(const char *text) { return *text ? text : NULL; }

static int load(struct call *c, const struct last_load *w, bool evict) {
    const bool either = !strcmp(w->load_format, "auto-or-dummy");
    struct engine_req q = { .kind = ENGINE_REQ_LOAD,
                            .model = w->model,
                            .revision = given(w->revision),
                            .dtype = w->dtype,
                            .kv_cache_dtype = w->kv_cache_dtype,
                            .load_format = either ? "auto" : w->load_format,
                            .max_model_len = w->max_model_len,
                            .max_sequences = w->max_sequences,
                            .threads = w->threads,
                            .vit = given(w->vit),
                            .qformer = given(w->qformer),
                            .projector = given(w->projector),
                            .llm = given(w->llm),
                            .vision_dtype = given(w->vision_dtype),
                            .max_images = w->max_images,
                            .evict = evict };
    struct loading l = { 0 };
    struct err missing = { 0 };
    const double start = seconds();
    progress_init(&l.progress, c->o);
    int rc = job_run(c->in, c->o, &q, on_load, &l, &missing);
    if (rc == STATUS_NOTFOUND && either) { /* what would get it stays in the result */
        q.load_format = "dummy";
        rc = job_run(c->in, c->o, &q, on_load, &l, c->e);
    } else if (rc) {
        err_set(c->e, rc, "%s", missing.text);
    }
    if (rc) {
        leave(&l.progress, c->e);
    } else if (l.models.n) {
        c->in->last = *w;
        models_remember(c->in, &l.models);
        progress_end(&l.progress, loaded_bundle(&l.models.row[0], &missing, seconds() - start));
    }
    models_fini(&l.models);
    return rc;
}
int load_last(struct call *c, bool evict) {
    const struct last_load w = c->in->last;
    if (w.model[0]) return load(c, &w, evict);
    return err_set(c->e, STATUS_INVALID,
                   "this notebook has loaded no model yet: %%load MODEL  (%%models lists them; %s is the default one)",
                   DEFAULT_MODEL);
}
void load_again(const struct interp *in, struct err *e) {
    const struct err was = *e;
    const char *model = in->last.model;
    if (!*model || strstr(was.text, "%load loads")) return;
    *e = (struct err){ 0 };
    err_set(e, was.code, "%.*s; %%load loads %.60s again", (int)(sizeof was.text - 100), was.text, model);
}

/* ---- %load ---- */
static bool typed(const struct args *a, const char *name) {
    const struct arg *v = args_last(a, name);
    return v && !v->from_set;
}
/* Is this a file, or a folder with a checkpoint? Another folder may bear a model's name by chance. */
static bool is_path(const char *name) {
    char config[PATH_MAX];
    struct stat st;
    snprintf(config, sizeof config, "%.4000s/config.json", name);
    return *name == '.' || (!stat(name, &st) && S_ISREG(st.st_mode)) || !access(config, F_OK);
}
/* A path is remembered from the root: %cd may come in between. Links stay: the hub's cache is made of them. */
static int name_it(char out[1024], const char *name, struct err *e) {
    char cwd[PATH_MAX];
    const bool relative = *name != '/' && is_path(name) && getcwd(cwd, sizeof cwd);
    const int n = snprintf(out, 1024, "%s%s%s", relative ? cwd : "", relative ? "/" : "", name);
    if (n < 1024) return 0;
    return err_set(e, STATUS_INVALID, "%%load: this path is longer than 1023 bytes");
}
/* Of a MiniGPT-4: a path, or a model's name. */
static int part(char out[1024], const struct args *a, const char *option, bool again, struct err *e) {
    char full[4096];
    const char *name = args_text(a, option);
    if (again && !typed(a, option)) return 0;
    *out = 0;
    return name && (file_expand(name, full, e) || name_it(out, full, e)) ? e->code : 0;
}
/* Again: what was typed now changes what is remembered, a default of %set does not. */
static int wanted(struct call *c, bool again, struct last_load *w) {
    const struct args *a = &c->args;
    const char *revision = args_text(a, "revision"), *dtype = asked_dtype(a, c->e);
    const bool dummy = args_flag(a, "no-weights");
    if (!dtype) return c->e->code;
    *w = again ? c->in->last : (struct last_load){ 0 };
    if (!again || typed(a, "revision")) snprintf(w->revision, sizeof w->revision, "%s", revision ? revision : "");
    if (!again || typed(a, "dtype") || typed(a, "quantization") || typed(a, "load-in-8bit") || typed(a, "load-in-4bit"))
        snprintf(w->dtype, sizeof w->dtype, "%s", dtype);
    if (!again || typed(a, "kv-cache-dtype"))
        snprintf(w->kv_cache_dtype, sizeof w->kv_cache_dtype, "%s", args_text(a, "kv-cache-dtype"));
    if (!again || typed(a, "load-format") || typed(a, "no-weights"))
        snprintf(w->load_format, sizeof w->load_format, "%s", dummy ? "dummy" : args_text(a, "load-format"));
    if (!again || typed(a, "max-model-len")) w->max_model_len = args_int(a, "max-model-len");
    if (!again || typed(a, "max-sequences")) w->max_sequences = args_int(a, "max-sequences");
    if (!again || typed(a, "threads")) w->threads = args_int(a, "threads");
    if (!again || typed(a, "max-images")) w->max_images = args_int(a, "max-images");
    if (!again || typed(a, "vision-dtype"))
        snprintf(w->vision_dtype, sizeof w->vision_dtype, "%s", args_text(a, "vision-dtype"));
    return part(w->vit, a, "vit", again, c->e) || part(w->qformer, a, "qformer", again, c->e) ||
                   part(w->projector, a, "projector", again, c->e) || part(w->llm, a, "llm", again, c->e)
               ? c->e->code
               : 0;
}
int magic_load(struct call *c) {
    const char *name = interp_model(c->in, args_word(&c->args, 0));
    struct last_load w;
    if (!name && !c->in->last.model[0]) return load_last(c, false);
    if (name && not_a_model(name, c->e)) return c->e->code;
    if (wanted(c, !name, &w)) return c->e->code;
    if (name && name_it(w.model, name, c->e)) return c->e->code;
    return load(c, &w, args_flag(&c->args, "evict"));
}

static int unload_request(struct call *c, struct models *m) {
    const bool all = args_flag(&c->args, "all");
    const char *name = interp_model(c->in, args_word(&c->args, 0));
    if (all && name) return err_set(c->e, STATUS_INVALID, "%%unload takes a model or --all, not both");
    return models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .model = all ? "*" : name }, m,
                      c->e);
}
static void unloaded_lines(struct doc *d, const struct engine_model *m) {
    char freed[32], measured[32], before[32], after[32];
    format_bytes(freed, (double)m->freed_bytes);
    format_bytes(measured, (double)m->measured_bytes);
    format_bytes(before, (double)m->resident_before);
    format_bytes(after, (double)m->resident_after);
    if (m->users > 0) {
        doc_line(d, "%s: your KV cache is given back (%s); its weights stay, they are used by %s", m->name, freed,
                 m->user);
    } else {
        doc_line(d, "%s is unloaded: %s given back; its load had taken %s", m->name, freed, measured);
    }
    if (m->resident_before) doc_line(d, "resident memory of the engine: %s before, %s after", before, after);
}
int magic_unload(struct call *c) {
    struct models m = { 0 };
    const int rc = unload_request(c, &m);
    if (rc) {
        models_fini(&m);
        return rc;
    }
    models_remember(c->in, &m);
    struct doc d;
    doc_init(&d);
    for (int i = 0; i < m.n; i++) {
        unloaded_lines(&d, &m.row[i]);
    }
    if (!m.n) doc_line(&d, "no model was loaded");
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}
