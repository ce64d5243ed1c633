#include "models.h"
#include "base/log.h"
#include "base/mem.h"
#include "machine.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

int models_open(struct models *m, struct err *e) {
    *m = (struct models){ 0 };
    pthread_mutex_init(&m->lock, NULL);
    m->be = backend_cpu.open(0, e);
    return m->be ? STATUS_OK : e->code;
}
void models_close(struct models *m) {
    for (struct loaded *l = m->list, *next; l; l = next) {
        next = l->next;
        loaded_close(l);
        mem_free(l);
    }
    backend_cpu.close(m->be);
    pthread_mutex_destroy(&m->lock);
}
/* Does this loaded model answer to the name: its own, the catalogue's, or its path? */
static bool answers(const struct loaded *l, const char *name) {
    struct err ignored = { 0 };
    const struct catalog_entry *entry = catalog_find(name, &ignored);
    return !strcasecmp(l->info.name, name) || !strcmp(l->info.file, name) ||
           (entry && !strcasecmp(l->info.name, entry->name));
}
struct loaded *models_find(struct models *m, const char *name, struct err *e) {
    for (struct loaded *l = m->list; l; l = l->next)
        if (!name || answers(l, name)) return l;
    if (!name)
        err_set(e, STATUS_NOTFOUND,
                "no model is loaded; %%load smollm2-135m loads the default one, %%models lists all");
    else
        err_set(e, STATUS_NOTFOUND, "'%s' is not loaded; %%load it first (%%ps shows what is)", name);
    return NULL;
}
/* Another number of threads means another pool, which no packed weights may lie in. */
static int use_threads(struct models *m, int threads, struct err *e) {
    if (!threads || backend_cpu.threads(m->be) == threads) return STATUS_OK;
    if (m->list)
        return err_set(e, STATUS_INVALID, "--threads %d: %d threads serve the loaded models; %%unload --all first",
                       threads, backend_cpu.threads(m->be));
    struct backend *fresh = backend_cpu.open(threads, e), *old = m->be;
    if (!fresh) return e->code;
    pthread_mutex_lock(&m->lock);
    m->be = fresh;
    m->peaks = (struct peaks){ 0 }; /* were measured with the old pool */
    m->probes = 0;
    pthread_mutex_unlock(&m->lock);
    backend_cpu.close(old);
    return STATUS_OK;
}
static void take_out(struct models *m, struct loaded *l) {
    pthread_mutex_lock(&m->lock);
    for (struct loaded **at = &m->list; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            break;
        }
    pthread_mutex_unlock(&m->lock);
}
struct progress {
    struct job *job;
    double started_us, shown_us;
};
static bool show_progress(void *arg, double done, double total) {
    struct progress *p = arg;
    const double now = now_us();
    if (now - p->shown_us > 100e3) {
        p->shown_us = now;
        job_progress(p->job, "reading weights", done, total, "B", (now - p->started_us) * 1e-6);
    }
    return job_cancelled(p->job);
}
/* The same file, formats and length asked for again? */
static bool same(const struct loaded *l, const struct loaded *fresh, const struct engine_req *q) {
    return !strcmp(l->info.file, fresh->info.file) && !strcmp(l->info.dtype, fresh->info.dtype) &&
           !strcmp(l->info.kv_dtype, fresh->info.kv_dtype) && !strcmp(l->info.format, fresh->info.format) &&
           (!q->max_model_len || l->info.max_model_len == q->max_model_len);
}
static void unload(struct models *m, struct loaded *l, struct engine_model *gone) {
    const uint64_t before = machine_resident();
    take_out(m, l);
    *gone = l->info;
    loaded_close(l);
    mem_free(l);
    const uint64_t after = machine_resident();
    gone->loaded = false;
    gone->freed_bytes = before > after ? before - after : 0;
}
static int load(struct models *m, struct job *job, struct loaded *l, struct err *e) {
    struct progress p = { job, now_us(), 0 };
    const struct engine_req *q = &job->req;
    const struct load_options o = { q->model,       q->revision,      q->dtype,      q->kv_cache_dtype,
                                    q->load_format, q->max_model_len, show_progress, &p };
    if (!q->model) return err_set(e, STATUS_INVALID, "%%load needs a model: a name of %%models or a path");
    if (use_threads(m, job->req.threads, e) || loaded_open(l, &backend_cpu, m->be, &o, e)) return e->code;
    struct err none = { 0 };
    struct loaded *old = models_find(m, l->info.name, &none);
    if (old && same(old, l, q)) {
        struct engine_model info = old->info;
        info.load_s = 0;
        snprintf(info.notice, sizeof info.notice, "already loaded");
        job_models(job, &info, 1);
        return loaded_close(l), STATUS_OK;
    }
    struct engine_model gone;
    if (old) unload(m, old, &gone); /* one name, one model: the former dtype or length leaves */
    if (loaded_fill(l, &o, e)) return e->code;
    l->info.load_s = (now_us() - p.started_us) * 1e-6;
    if (old) snprintf(l->info.notice, sizeof l->info.notice, "replaced the %s copy that was loaded", gone.dtype);
    pthread_mutex_lock(&m->lock);
    l->next = m->list;
    m->list = l;
    pthread_mutex_unlock(&m->lock);
    job_models(job, &l->info, 1);
    return STATUS_OK;
}
int models_load(struct models *m, struct job *job, struct err *e) {
    struct loaded *l = mem_zero(1, sizeof *l);
    if (!l) return err_set(e, STATUS_NOMEM, "out of memory");
    if (load(m, job, l, e)) loaded_close(l);
    if (!l->info.loaded) mem_free(l);
    if (!e->code) job_done(job, &(struct engine_done){ 0 });
    return e->code;
}
int models_unload(struct models *m, struct job *job, struct err *e) {
    const bool all = job->req.model && !strcmp(job->req.model, "*");
    struct loaded *l = all && !m->list ? NULL : models_find(m, all ? NULL : job->req.model, e);
    for (; l; l = all ? m->list : NULL) {
        struct engine_model gone;
        unload(m, l, &gone);
        job_models(job, &gone, 1);
    }
    if (!e->code) job_done(job, &(struct engine_done){ 0 });
    return e->code;
}
int models_reset(struct models *m, struct job *job, struct err *e) {
    (void)e;
    for (struct loaded *l = m->list; l; l = l->next)
        for (int i = 0; i < SEQUENCES; i++)
            if (job->req.session && !strcmp(l->seq[i].owner, job->req.session)) l->seq[i].tokens.n = 0;
    job_done(job, &(struct engine_done){ 0 });
    return STATUS_OK;
}

/* ---- answers ---- */
static int copy_loaded(struct models *m, struct engine_model *row, int cap) {
    int n = 0;
    pthread_mutex_lock(&m->lock);
    for (struct loaded *l = m->list; l && n < cap; l = l->next) row[n++] = l->info;
    pthread_mutex_unlock(&m->lock);
    return n;
}
static void tell_system(struct models *m, struct job *job) {
    struct engine_event ev = { .kind = ENGINE_EV_SYSTEM };
    struct engine_system *s = &ev.u.system;
    const struct machine_memory memory = machine_memory();
    machine_cpu(s->cpu, sizeof s->cpu);
    machine_gpu(s->gpu, sizeof s->gpu);
    snprintf(s->backend, sizeof s->backend, "%s", backend_cpu.name);
    snprintf(s->version, sizeof s->version, "%s", engine_version());
    s->processors = machine_processors();
    s->memory_total = memory.total;
    s->memory_available = memory.available;
    s->resident = machine_resident();
    pthread_mutex_lock(&m->lock);
    snprintf(s->isa, sizeof s->isa, "%s", backend_cpu.isa(m->be));
    s->threads = backend_cpu.threads(m->be);
    s->stream_gbs = m->peaks.stream_gbs;
    s->fp32_gflops = m->peaks.fp32_gflops;
    s->int8_gops = m->peaks.int8_gops;
    s->bf16_gflops = m->peaks.bf16_gflops;
    pthread_mutex_unlock(&m->lock);
    job_emit(job, &ev);
}
enum { ROWS_SHOWN = 256 };
/* What headers say of a model, all its tensors checked. */
static int describe(struct engine_model *info, const char *name, const char *revision, struct err *e) {
    struct source s;
    struct model *model = NULL;
    *info = (struct engine_model){ 0 };
    if (!source_open(&s, name, revision, NEED_SHAPE, e) && !model_open(&model, s.file, &s.config, DTYPE_NONE, e))
        source_describe(&s, NULL, info);
    model_close(model);
    source_close(&s);
    return e->code;
}
/* Loaded ones first, then every file of the model folders, then the catalogue's entries that are not on this disk. */
static int list_all(struct models *m, struct engine_model *row, struct err *e) {
    int n = copy_loaded(m, row, ROWS_SHOWN);
    struct catalog_file *file = NULL;
    const int loaded = n, files = catalog_files(&file, e);
    for (int i = 0; i < files && n < ROWS_SHOWN; i++) {
        struct err broken = { 0 };
        bool known = false;
        for (int k = 0; k < loaded; k++) known |= !strcmp(row[k].file, file[i].path);
        if (known) continue;
        if (describe(&row[n], file[i].path, NULL, &broken)) { /* what cannot be loaded is listed with the reason */
            snprintf(row[n].file, sizeof row[n].file, "%s", file[i].path);
            snprintf(row[n].notice, sizeof row[n].notice, "%.*s", (int)sizeof row[n].notice - 1, broken.text);
            row[n].file_bytes = file[i].bytes;
        }
        snprintf(row[n++].name, sizeof row->name, "%s", file[i].name);
    }
    for (int i = 0; i < catalog_count() && n < ROWS_SHOWN; i++) {
        const struct catalog_entry *c = catalog_at(i);
        bool known = false;
        for (int k = 0; k < n; k++) known |= !strcasecmp(row[k].name, c->name);
        if (known) continue;
        source_describe_entry(c, &row[n++]);
    }
    mem_free(file);
    return n;
}
static int show_one(struct models *m, const struct engine_req *q, struct engine_model *row, struct err *e) {
    const char *name = q->model;
    struct err none = { 0 };
    pthread_mutex_lock(&m->lock);
    const struct loaded *l = models_find(m, name, &none);
    if (l) row[0] = l->info;
    pthread_mutex_unlock(&m->lock);
    if (l) return 1;
    if (!name) return err_set(e, STATUS_INVALID, "which model? %%models lists them"), 0;
    return describe(row, name, q->revision, e) ? 0 : 1;
}
int models_answer(struct models *m, struct job *job, struct err *e) {
    struct engine_model *row = mem_zero(ROWS_SHOWN, sizeof *row);
    if (!row) return err_set(e, STATUS_NOMEM, "out of memory");
    const enum engine_req_kind kind = job->req.kind;
    const int n = kind == ENGINE_REQ_STATUS   ? copy_loaded(m, row, ROWS_SHOWN)
                  : kind == ENGINE_REQ_MODELS ? list_all(m, row, e)
                                              : show_one(m, &job->req, row, e);
    if (!e->code) job_models(job, row, n);
    if (!e->code && kind == ENGINE_REQ_STATUS) tell_system(m, job);
    if (!e->code) job_done(job, &(struct engine_done){ 0 });
    mem_free(row);
    return e->code;
}
static double more(double a, double b) { return a > b ? a : b; }
int models_probe(struct models *m, struct err *e) {
    struct peaks now;
    if (backend_cpu.probe(m->be, &now, e)) return e->code;
    pthread_mutex_lock(&m->lock);
    m->peaks = (struct peaks){ more(now.stream_gbs, m->peaks.stream_gbs), more(now.fp32_gflops, m->peaks.fp32_gflops),
                               more(now.int8_gops, m->peaks.int8_gops), more(now.bf16_gflops, m->peaks.bf16_gflops) };
    m->probes++;
    pthread_mutex_unlock(&m->lock);
    return STATUS_OK;
}
