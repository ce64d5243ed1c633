/* What is answered at once, from what is known and from file headers: STATUS, MODELS, SHOW, ENGINE. */
#include "base/mem.h"
#include "machine.h"
#include "models.h"
#include "nvml.h"
#include "seat.h"
#include "worker.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { ROWS_SHOWN = 256, CARDS_SHOWN = 16 };

/* Under the lock. Its owner's seat counts before the bare weights. */
static void describe_loaded(const struct loaded *l, const struct worker *w, struct engine_model *row) {
    bool runs = false;
    int sessions = 0;
    const struct seat *own = NULL;
    for (const struct seat *s = l->seats; s; s = s->next) {
        runs |= s->busy;
        sessions++;
        if (s->owner == w && s->lane == 0) own = s;
    }
    *row = own ? own->info : l->info;
    models_users(l, w, row);
    row->sessions = sessions;
    row->loaded = true;
    row->notice[0] = 0;
    row->idle_s = runs ? 0 : (now_us() - l->used_us) * 1e-6;
}
static unsigned long order_of(const struct loaded *l, const struct worker *w) {
    for (const struct seat *s = l->seats; s; s = s->next)
        if (s->owner == w && s->lane == 0) return s->order;
    return 0;
}
/* Those that the asker holds first, its last loaded before all. */
static int copy_loaded(struct models *m, const struct worker *w, struct engine_model *row) {
    unsigned long order[ROWS_SHOWN];
    int n = 0;
    pthread_mutex_lock(&m->lock);
    for (const struct loaded *l = m->list; l && n < ROWS_SHOWN; l = l->next) {
        if (!l->ready) continue;
        const unsigned long mine = order_of(l, w);
        int at = n++;
        for (; at > 0 && order[at - 1] < mine; at--) {
            row[at] = row[at - 1];
            order[at] = order[at - 1];
        }
        describe_loaded(l, w, &row[at]);
        order[at] = mine;
    }
    pthread_mutex_unlock(&m->lock);
    return n;
}
/* Their sentence, why they do not compute if they could, and when asked what each tells. */
static void tell_gpus(const struct models *m, const struct job *job, struct engine_event *ev) {
    struct engine_system *s = &ev->u.system;
    const int known = machine_gpu(s->gpu, sizeof s->gpu);
    const size_t n = strlen(s->gpu);
    if (known && m->no_gpu[0]) snprintf(s->gpu + n, sizeof s->gpu - n, "; the CPU computes: %s", m->no_gpu);
    struct engine_gpu *card = known && job->req.gpus ? mem_zero(CARDS_SHOWN, sizeof *card) : NULL;
    if (card) s->cards = nvml_cards(card, CARDS_SHOWN);
    s->card = ev->owned = card;
}
static void tell_system(struct models *m, struct job *job) {
    struct engine_event ev = { .kind = ENGINE_EV_SYSTEM };
    struct engine_system *s = &ev.u.system;
    const struct machine_memory memory = machine_memory();
    machine_cpu(s->cpu, sizeof s->cpu);
    tell_gpus(m, job, &ev);
    snprintf(s->backend, sizeof s->backend, "%s", m->api->name);
    snprintf(s->version, sizeof s->version, "%s", engine_version());
    snprintf(s->build, sizeof s->build, "%s", engine_build());
    snprintf(s->transport, sizeof s->transport, "%s", m->about.transport);
    snprintf(s->place, sizeof s->place, "%s", m->about.place);
    snprintf(s->log, sizeof s->log, "%s", m->about.log);
    s->pid = (int)getpid();
    s->processors = machine_processors();
    s->memory_total = memory.total;
    s->memory_available = memory.available;
    s->resident = machine_resident();
    pthread_mutex_lock(&m->lock);
    snprintf(s->isa, sizeof s->isa, "%s", m->api->isa(m->be));
    s->threads = m->api->threads(m->be);
    s->stream_gbs = m->peaks.stream_gbs;
    s->fp32_gflops = m->peaks.fp32_gflops;
    s->int8_gops = m->peaks.int8_gops;
    s->bf16_gflops = m->peaks.bf16_gflops;
    s->connections = m->connections;
    s->jobs_running = atomic_load(&m->turn.jobs);
    s->jobs_waiting = m->jobs > s->jobs_running ? m->jobs - s->jobs_running : 0;
    s->uptime_s = (now_us() - m->opened_us) * 1e-6;
    s->idle_limit_s = m->idle_limit_s;
    pthread_mutex_unlock(&m->lock);
    job_emit(job, &ev);
}
/* What headers say of a model, all its tensors checked. */
static int describe(struct engine_model *info, const struct source_name *name, struct err *e) {
    struct source s;
    struct model *model = NULL;
    *info = (struct engine_model){ 0 };
    if (!source_open(&s, name, NEED_SHAPE, e) && !model_open(&model, s.file, &s.config, DTYPE_NONE, e))
        source_describe(&s, NULL, info);
    model_close(model);
    source_close(&s);
    return e->code;
}
/* Loaded ones first, then every file of the model folders, then the catalogue's entries that are not on this disk. */
static int list_all(struct models *m, const struct worker *w, struct engine_model *row, struct err *e) {
    int n = copy_loaded(m, w, row);
    struct catalog_file *file = NULL;
    const int loaded = n, files = catalog_files(&file, e);
    for (int i = 0; i < files && n < ROWS_SHOWN; i++) {
        struct err broken = { 0 };
        bool known = false;
        for (int k = 0; k < loaded; k++) known |= !strcmp(row[k].file, file[i].path);
        if (known) continue;
        if (describe(&row[n], &(struct source_name){ .name = file[i].path },
                     &broken)) { /* what cannot be loaded is listed with the reason */
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
        struct err broken = { 0 };
        struct catalog_parts there; /* what sees lies in several files: none of them is its own */
        const bool whole = c->vision && catalog_parts(c->name, NULL, NULL, true, &there, &broken) == 1;
        if (!whole || describe(&row[n], &(struct source_name){ .name = c->name }, &broken))
            source_describe_entry(c, &row[n]);
        n++;
    }
    mem_free(file);
    return n;
}
/* Without a name the last that the asker loaded. */
static int show_one(struct models *m, const struct job *job, struct engine_model *row, struct err *e) {
    const char *name = job->req.model;
    pthread_mutex_lock(&m->lock);
    const struct loaded *l = name ? models_named(m, name) : NULL;
    for (const struct loaded *i = m->list; !name && i; i = i->next)
        if (order_of(i, job->worker) > (l ? order_of(l, job->worker) : 0)) l = i;
    if (l) describe_loaded(l, job->worker, row);
    pthread_mutex_unlock(&m->lock);
    if (l) return 1;
    if (!name) return err_set(e, STATUS_INVALID, "which model? %%models lists them"), 0;
    const struct source_name asked = source_name(&job->req);
    return describe(row, &asked, e) ? 0 : 1;
}
static int change(struct models *m, const struct job *job, struct err *e) {
    const struct engine_req *q = &job->req;
    const uint64_t one = 1;
    if (q->set_idle && !strcmp(m->about.transport, "local"))
        return err_set(e, STATUS_INVALID, "this engine lives in the kernel and ends with it: it has no idle limit");
    pthread_mutex_lock(&m->lock);
    if (q->set_idle) m->idle_limit_s = q->idle_s;
    if (q->quit && !m->quitting)
        snprintf(m->quitter, sizeof m->quitter, "was stopped by %%engine in %.95s", worker_name(job->worker));
    m->quitting |= q->quit;
    pthread_mutex_unlock(&m->lock);
    return write(m->wake, &one, sizeof one) < 0 ? STATUS_OK : STATUS_OK; /* a full counter wakes as well */
}
int models_answer(struct models *m, struct job *job, struct err *e) {
    struct engine_model *row = mem_zero(ROWS_SHOWN, sizeof *row);
    if (!row) return err_set(e, STATUS_NOMEM, "out of memory");
    int n = 0;
    switch (job->req.kind) {
    case ENGINE_REQ_STATUS: n = copy_loaded(m, job->worker, row); break;
    case ENGINE_REQ_MODELS: n = list_all(m, job->worker, row, e); break;
    case ENGINE_REQ_SHOW: n = show_one(m, job, row, e); break;
    default: change(m, job, e);
    }
    const bool engine = job->req.kind == ENGINE_REQ_ENGINE;
    if (!e->code && !engine) job_models(job, row, n);
    if (!e->code && (engine || job->req.kind == ENGINE_REQ_STATUS)) tell_system(m, job);
    if (!e->code) job_done(job, &(struct engine_done){ 0 });
    mem_free(row);
    return e->code;
}
