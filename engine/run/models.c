#include "models.h"
#include "base/log.h"
#include "base/mem.h"
#include "compute/module.h"
#include "data/home.h"
#include "machine.h"
#include "seat.h"
#include "worker.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 100 }; /* how often one that waits for another's load looks whether it was cancelled */
static const double GIB = 1024.0 * 1024 * 1024;

static void wake(struct models *m) {
    const uint64_t one = 1;
    if (write(m->wake, &one, sizeof one) < 0) log_at(LOG_DEBUG, "models: the wake counter is full");
}
static void lock(struct models *m) { pthread_mutex_lock(&m->lock); }
static void unlock(struct models *m) { pthread_mutex_unlock(&m->lock); }

/* ---- the backend ---- */
/* JAEDA_BACKEND: cpu, cuda, or a module's path, each of which must do; otherwise a GPU where there is one. */
static int open_backend(struct models *m, struct err *e) {
    const char *asked = getenv("JAEDA_BACKEND");
    const bool any = !asked || !*asked || !strcmp(asked, "auto");
    struct err why = { 0 };
    m->api = any ? module_open("cuda", &why) : strcmp(asked, "cpu") != 0 ? module_open(asked, e) : NULL;
    m->be = m->api ? m->api->open(0, any ? &why : e) : NULL;
    if (m->be || e->code) return e->code;
    if (any) snprintf(m->no_gpu, sizeof m->no_gpu, "%s", why.text);
    if (any) log_at(LOG_INFO, "the CPU computes: %s", why.text);
    m->api = &backend_cpu;
    m->be = backend_cpu.open(0, e);
    return e->code;
}
uint64_t models_free(const struct models *m) {
    return m->api->memory ? m->api->memory(m->be).free : machine_memory().available;
}
/* Bytes taken: of the device by everybody, or of the machine by this process. */
static uint64_t models_used(const struct models *m) {
    if (!m->api->memory) return machine_resident();
    const struct device_memory d = m->api->memory(m->be);
    return d.total - d.free;
}
/* A fault that the device does not get over ends the engine, once its last words are sent; the next one starts anew. */
static void check_device(struct models *m) {
    const char *why = m->api->lost ? m->api->lost(m->be) : NULL;
    if (!why || m->quitting) return;
    log_at(LOG_ERROR, "the device is lost: %s", why);
    lock(m);
    m->quitting = true;
    snprintf(m->quitter, sizeof m->quitter, "left after a device fault");
    unlock(m);
    wake(m);
}

/* ---- life ---- */
int models_open(struct models *m, const struct about *about, struct err *e) {
    *m = (struct models){ .about = *about, .opened_us = now_us(), .idle_limit_s = IDLE_LIMIT_S };
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    turn_init(&m->turn);
    m->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!open_backend(m, e) && m->wake >= 0) return STATUS_OK;
    models_close(m);
    return err_set(e, STATUS_IO, "the engine cannot start: no descriptors left");
}
void models_close(struct models *m) {
    if (!m->opened_us) return;
    for (struct loaded *l = m->list, *next; l; l = next) {
        next = l->next;
        loaded_close(l);
        mem_free(l);
    }
    if (m->api) m->api->close(m->be);
    if (m->wake >= 0) close(m->wake);
    turn_fini(&m->turn);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    *m = (struct models){ 0 };
}
int models_wake_fd(const struct models *m) { return m->wake; }
void models_join(struct models *m) {
    lock(m);
    m->connections++;
    unlock(m);
}
void models_count(struct models *m, int jobs) {
    lock(m);
    m->jobs += jobs;
    unlock(m);
    wake(m);
}
void models_begin(struct models *m) {
    lock(m);
    while (m->changing) pthread_cond_wait(&m->changed, &m->lock);
    atomic_fetch_add(&m->turn.jobs, 1);
    unlock(m);
}
void models_end(struct models *m) {
    atomic_fetch_sub(&m->turn.jobs, 1);
    check_device(m);
}
int models_jobs(struct models *m) {
    lock(m);
    const int n = m->jobs;
    unlock(m);
    return n;
}
double models_idle_limit(struct models *m) {
    lock(m);
    const double s = m->idle_limit_s;
    unlock(m);
    return s;
}
bool models_quitting(struct models *m, char why[128]) {
    lock(m);
    const bool quitting = m->quitting;
    snprintf(why, 128, "%s", m->quitter);
    unlock(m);
    return quitting;
}

/* ---- who holds what; all under the lock ---- */
struct loaded *models_named(const struct models *m, const char *name) {
    struct err ignored = { 0 };
    char path[sizeof m->list->info.file];
    const struct catalog_entry *entry = catalog_find(name, &ignored);
    if (!home_expand(name, strlen(name), path, sizeof path)) path[0] = 0;
    for (struct loaded *l = m->list; l; l = l->next)
        if (l->ready && (!strcasecmp(l->info.name, name) || !strcmp(l->info.file, path) ||
                         (entry && !strcasecmp(l->info.name, entry->name))))
            return l;
    return NULL;
}
static struct seat *seat_of(const struct loaded *l, const struct worker *w, int lane) {
    for (struct seat *s = l->seats; s; s = s->next)
        if (s->owner == w && (lane < 0 || s->lane == lane)) return s;
    return NULL;
}
void models_users(const struct loaded *l, const struct worker *w, struct engine_model *out) {
    size_t n = 0;
    out->users = 0;
    out->user[0] = 0;
    for (const struct seat *s = l->seats; s; s = s->next) {
        if (s->lane) continue;
        snprintf(out->user + n, sizeof out->user - n, "%s%s%s", out->users++ ? ", " : "", worker_name(s->owner),
                 s->owner == w ? " (you)" : "");
        n += strlen(out->user + n);
    }
}
/* The model meant by name among those that w holds; NULL name: the last it loaded. */
static struct loaded *held(const struct models *m, const struct worker *w, const char *name) {
    struct loaded *best = NULL;
    unsigned long newest = 0;
    struct loaded *named = name ? models_named(m, name) : NULL;
    for (struct loaded *l = m->list; l; l = l->next) {
        const struct seat *s = seat_of(l, w, 0);
        if (!s || !l->ready || s->order < newest) continue;
        if (name && l != named && strcasecmp(l->info.name, named ? named->info.name : name) != 0) continue;
        newest = s->order;
        best = l;
    }
    return best;
}
static void take_out(struct models *m, struct loaded *l) {
    for (struct loaded **at = &m->list; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            return;
        }
}
static void take_seat(struct seat *s) {
    for (struct seat **at = &s->l->seats; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            return;
        }
}
static void add_seat(struct models *m, struct seat *s) {
    s->order = ++m->order;
    s->next = s->l->seats;
    s->l->seats = s;
}
/* Not under the lock: frees weights that are in no list any more. */
static void drop(struct models *m, struct loaded *l) {
    const bool placed = l->slab != NULL; /* else nothing of it is the backend's */
    if (placed) turn_take(&m->turn, NULL);
    loaded_close(l);
    if (placed) turn_give(&m->turn);
    mem_free(l);
}
static void drop_seat(struct models *m, struct seat *s) {
    if (!s) return;
    turn_take(&m->turn, NULL);
    seat_close(s);
    turn_give(&m->turn);
    mem_free(s);
}
void models_leave(struct models *m, const struct worker *w) {
    struct seat *gone = NULL;
    lock(m);
    m->connections--;
    for (struct loaded *l = m->list; l; l = l->next)
        for (struct seat *s; (s = seat_of(l, w, -1));) {
            take_seat(s);
            l->used_us = now_us();
            s->next = gone;
            gone = s;
        }
    unlock(m);
    for (struct seat *next; gone; gone = next) {
        next = gone->next;
        drop_seat(m, gone);
    }
    wake(m);
}

/* ---- memory ---- */
static bool is_idle(const struct loaded *l) { return l->ready && !l->seats && !l->pins; }
static uint64_t idle_bytes(struct models *m) {
    uint64_t n = 0;
    lock(m);
    for (const struct loaded *l = m->list; l; l = l->next) n += is_idle(l) ? l->info.weight_bytes : 0;
    unlock(m);
    return n;
}
static bool evict_one(struct models *m) {
    struct loaded *oldest = NULL;
    lock(m);
    for (struct loaded *l = m->list; l; l = l->next)
        if (is_idle(l) && (!oldest || l->used_us < oldest->used_us)) oldest = l;
    if (oldest) take_out(m, oldest);
    unlock(m);
    if (!oldest) return false;
    log_at(LOG_INFO, "evicted %s to make room", oldest->info.name);
    drop(m, oldest);
    return true;
}
static void promise(struct models *m, uint64_t *mine, uint64_t bytes) {
    lock(m);
    m->promised += bytes - *mine;
    unlock(m);
    *mine = bytes;
}
static bool memory_error(const struct err *e) { return e->code == STATUS_NOMEM || e->code == STATUS_DEVMEM; }
/* Sizes a seat against what is free now and not promised to others, and promises it. fixed: what comes beside it. */
static int plan(struct models *m, struct job *job, struct seat *s, struct loaded *l, uint64_t fixed, uint64_t *mine,
                struct err *e) {
    const struct engine_req *q = &job->req;
    const struct seat *like = NULL;
    lock(m);
    if (q->kind != ENGINE_REQ_LOAD) like = seat_of(l, job->worker, 0);
    const struct seat_wish wish = { like                         ? like->info.max_model_len
                                    : q->kind == ENGINE_REQ_LOAD ? q->max_model_len
                                                                 : 0,
                                    like ? like->info.max_sequences : q->max_sequences,
                                    like ? like->info.max_images : q->max_images,
                                    like ? like->info.kv_dtype : q->kv_cache_dtype };
    unlock(m);
    do {
        *e = (struct err){ 0 };
        seat_close(s);
        const uint64_t available = models_free(m);
        lock(m);
        const struct seat_room room = { available > m->promised ? available - m->promised : 0, fixed };
        unlock(m);
        if (!seat_plan(s, l, &wish, &room, e)) {
            promise(m, mine, fixed + seat_bytes(s));
            return STATUS_OK;
        }
    } while (memory_error(e) && q->evict && evict_one(m));
    const uint64_t idle = idle_bytes(m);
    const size_t n = strlen(e->text);
    if (memory_error(e) && idle)
        snprintf(e->text + n, sizeof e->text - n, "; %%load --evict frees the %.2f GiB of models that nobody uses",
                 (double)idle / GIB);
    return e->code;
}
/* A seat beside weights that are there. NULL and e: not possible. */
static struct seat *new_seat(struct models *m, struct job *job, struct loaded *l, int lane, struct err *e) {
    uint64_t promised = 0;
    struct seat *s = mem_zero(1, sizeof *s);
    if (!s) {
        err_set(e, STATUS_NOMEM, "out of memory for the KV cache of %s", l->info.name);
        return NULL;
    }
    if (!plan(m, job, s, l, 0, &promised, e)) {
        const bool device =
            l->api->memory != NULL; /* else others write on while pages are touched, for a second at times */
        if (device) job_turn_take(job);
        seat_take(s, e);
        if (device) job_turn_give(job);
    }
    promise(m, &promised, 0);
    s->owner = job->worker;
    s->lane = lane;
    if (!e->code) return s;
    drop_seat(m, s);
    return NULL;
}

/* ---- work on a model ---- */
static void nothing_loaded(const struct models *m, const char *name, struct err *e) {
    const struct loaded *l = m->list;
    while (l && !l->ready) l = l->next;
    if (name)
        err_set(e, STATUS_NOTFOUND, "'%s' is not loaded; %%load it first (%%ps shows what is)", name);
    else if (l)
        err_set(e, STATUS_NOTFOUND, "no model is loaded in this notebook; %%load %s takes no time: it is resident",
                l->info.name);
    else
        err_set(e, STATUS_NOTFOUND,
                "no model is loaded; %%load smollm2-135m loads the default one, %%models lists all");
}
int models_sit(struct models *m, struct job *job, struct seat **out, struct err *e) {
    lock(m);
    struct loaded *l = held(m, job->worker, job->req.model);
    if (!l && job->req.model) l = models_named(m, job->req.model);
    struct seat *s = l ? seat_of(l, job->worker, job->req.lane) : NULL;
    if (s) s->busy = true;
    if (l && !s) l->pins++;
    if (!l) nothing_loaded(m, job->req.model, e);
    unlock(m);
    if (l && !s) {
        s = new_seat(m, job, l, job->req.lane, e);
        lock(m);
        l->pins--;
        if (s) add_seat(m, s), s->busy = true;
        unlock(m);
    }
    *out = s;
    return e->code;
}
void models_rise(struct models *m, struct job *job, struct seat *s) {
    lock(m);
    s->busy = false;
    s->l->used_us = now_us();
    const bool goes = job->req.lane != 0; /* a side job's cache lasts as long as the job */
    if (goes) take_seat(s);
    unlock(m);
    if (goes) drop_seat(m, s);
}

/* ---- load ---- */
/* Another number of threads means another pool, which no packed weights may lie in. */
static int use_threads(struct models *m, struct job *job, struct err *e) {
    const int threads = job->req.threads;
    lock(m);
    const bool same = !threads || m->api->threads(m->be) == threads;
    const bool used = m->list || atomic_load(&job->turn->jobs) > 1;
    m->changing = !same && !used && m->api == &backend_cpu;
    unlock(m);
    if (same) return STATUS_OK;
    if (m->api != &backend_cpu)
        return err_set(e, STATUS_INVALID, "--threads %d: %s computes, not the CPU", threads, m->api->isa(m->be));
    if (used)
        return err_set(e, STATUS_INVALID, "--threads %d: %d threads serve the loaded models; %%unload --all first",
                       threads, m->api->threads(m->be));
    struct backend *fresh = backend_cpu.open(threads, e), *old = fresh ? m->be : NULL;
    lock(m);
    if (fresh) {
        m->be = fresh;
        m->peaks = (struct peaks){ 0 }; /* were measured with the old pool */
        m->probes = 0;
    }
    m->changing = false;
    pthread_cond_broadcast(&m->changed);
    unlock(m);
    backend_cpu.close(old);
    return e->code;
}
struct loading {
    struct models *m;
    struct job *job;
    double started_us, shown_us;
    uint64_t need, promised;
};
static bool show_progress(void *arg, double done, double total) {
    struct loading *p = arg;
    const double now = now_us();
    if (now - p->shown_us > 100e3) {
        p->shown_us = now;
        job_progress(p->job, "reading weights", done, total, "B", (now - p->started_us) * 1e-6);
        promise(p->m, &p->promised, (uint64_t)((double)p->need * (total > done ? 1 - done / total : 0)));
    }
    return job_cancelled(p->job);
}
static void turn_of_load(void *arg) { job_turn_take(((struct loading *)arg)->job); }
static void end_of_turn(void *arg) { job_turn_give(((struct loading *)arg)->job); }

/* Under the lock: the same weights in the list, waited for when they are being read by another; NULL: none, then fresh
 * stands there now and is ours to fill. */
static struct loaded *find_or_begin(struct models *m, struct job *job, struct loaded *fresh, struct err *e) {
    for (;;) {
        struct loaded *l = m->list;
        while (l && !loaded_same(l, fresh)) l = l->next;
        if (!l) {
            fresh->next = m->list;
            m->list = fresh;
            return NULL;
        }
        if (l->ready) {
            l->pins++;
            return l;
        }
        if (job_cancelled(job)) return err_set(e, STATUS_CANCELLED, "interrupted"), l;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += LOOK_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) until.tv_sec++, until.tv_nsec -= 1000000000L;
        unlock(m);
        job_progress(job, "another notebook loads it", 0, 0, "B", 0);
        lock(m);
        pthread_cond_timedwait(&m->changed, &m->lock, &until);
    }
}
/* Gives back the owner's seat on l (which the caller has pinned; no longer) and the weights when nobody else holds them.
 * gone: what it was; false: it is at work. */
static bool leave(struct models *m, struct loaded *l, const struct worker *w, struct engine_model *gone) {
    lock(m);
    l->pins--;
    for (struct seat *s = l->seats; s; s = s->next)
        if (s->owner == w && (s->busy || s->lane)) {
            unlock(m);
            return false;
        }
    struct seat *s = seat_of(l, w, 0);
    if (s) take_seat(s);
    *gone = s ? s->info : l->info;
    models_users(l, w, gone);
    l->used_us = now_us();
    const bool last = is_idle(l);
    if (last) take_out(m, l);
    unlock(m);
    drop_seat(m, s);
    if (last) drop(m, l);
    return true;
}
/* One name, one model in a notebook: its former dtype leaves before the new one comes. */
static int leave_former(struct loading *p, const struct loaded *l, char former[16], struct err *e) {
    struct engine_model gone;
    lock(p->m);
    struct loaded *old = p->m->list;
    while (old && (old == l || !seat_of(old, p->job->worker, 0) || strcasecmp(old->info.name, l->info.name) != 0))
        old = old->next;
    if (old) old->pins++;
    unlock(p->m);
    if (!old) return STATUS_OK;
    if (!leave(p->m, old, p->job->worker, &gone))
        return err_set(e, STATUS_BUSY, "%s is at work in this notebook (%%jobs shows where): wait, or stop that job",
                       l->info.name);
    snprintf(former, 16, "%s", gone.dtype);
    return STATUS_OK;
}
static bool fits_request(const struct seat *s, const struct engine_req *q) {
    const char *kv = q->kv_cache_dtype;
    const enum dtype dt = kv && strcasecmp(kv, "auto") != 0 ? dtype_parse(kv) : dtype_parse(s->info.kv_dtype);
    return (!q->max_model_len || s->info.max_model_len == q->max_model_len) &&
           (!q->max_sequences || s->info.max_sequences == q->max_sequences) &&
           (!q->max_images || s->info.max_images == q->max_images) && dt == dtype_parse(s->info.kv_dtype);
}
static void tell_loaded(struct loading *p, struct seat *s, bool there, const char *notice) {
    struct models *m = p->m;
    lock(m);
    struct engine_model info = s->info;
    models_users(s->l, p->job->worker, &info);
    unlock(m);
    info.load_s = there ? 0 : (now_us() - p->started_us) * 1e-6;
    if (notice) snprintf(info.notice, sizeof info.notice, "%s", notice);
    job_models(p->job, &info, 1);
}
/* The weights are there (and pinned): only a seat is needed, if that. */
static int load_seat(struct loading *p, struct loaded *l, struct err *e) {
    struct models *m = p->m;
    char former[16] = "";
    int rc = leave_former(p, l, former, e);
    lock(m);
    struct seat *s = rc ? NULL : seat_of(l, p->job->worker, 0);
    if (s && s->busy)
        rc = err_set(e, STATUS_BUSY, "%s is at work in this notebook: wait, or stop that job", l->info.name);
    const bool keep = s && fits_request(s, &p->job->req);
    if (s && !keep && !rc) take_seat(s);
    if (keep && !rc) s->order = ++m->order;
    unlock(m);
    if (!rc && !keep) {
        drop_seat(m, s);
        s = new_seat(m, p->job, l, 0, e);
        lock(m);
        if (s) add_seat(m, s);
        unlock(m);
    }
    if (s && !rc) tell_loaded(p, s, true, "already loaded");
    lock(m);
    l->pins--;
    unlock(m);
    return e->code;
}
static int load_weights(struct loading *p, struct loaded *l, const struct load_options *o, struct err *e) {
    char former[16] = "", notice[80] = "";
    struct seat *s = mem_zero(1, sizeof *s);
    if (!s) return err_set(e, STATUS_NOMEM, "out of memory");
    const struct load_turn turn = { turn_of_load, end_of_turn, p };
    struct sizes size;
    struct program probe[PROGRAMS] = { 0 };
    const struct program like = { .api = l->api, .be = l->be, .kv_rows = 1, .kv = DTYPE_F16 };
    if (!leave_former(p, l, former, e) && !loaded_bind(l, o, e) &&
        !sizes_of(&size, probe, l->model, &like, BEAMS_MAX, e) &&
        !plan(p->m, p->job, s, l, size.weight_bytes + eyes_bytes(l->eyes) + loaded_staging(l), &p->promised, e)) {
        p->need = p->promised;
        loaded_fill(l, s, o, &turn, e);
    }
    for (int i = 0; i < PROGRAMS; i++) program_fini(&probe[i]);
    promise(p->m, &p->promised, 0);
    if (e->code) return drop_seat(p->m, s), e->code;
    s->owner = p->job->worker;
    const struct engine_model filled = l->info;
    s->info.measured_bytes = filled.measured_bytes;
    s->info.peak_bytes = filled.peak_bytes;
    s->info.file_bytes = filled.file_bytes;
    s->info.read_mib_s = filled.read_mib_s;
    s->info.disk_ms = filled.disk_ms;
    s->info.copy_ms = filled.copy_ms;
    s->info.pack_ms = filled.pack_ms;
    s->info.from_page_cache = filled.from_page_cache;
    s->info.loaded = true;
    if (former[0]) snprintf(notice, sizeof notice, "replaced the %s copy that was loaded", former);
    lock(p->m);
    l->ready = true;
    l->used_us = now_us();
    add_seat(p->m, s);
    unlock(p->m);
    tell_loaded(p, s, false, notice[0] ? notice : NULL);
    return STATUS_OK;
}
int models_load(struct models *m, struct job *job, struct err *e) {
    const struct engine_req *q = &job->req;
    struct loading p = { m, job, now_us(), 0, 0, 0 };
    const struct load_options o = { .name = source_name(q),
                                    .dtype = q->dtype,
                                    .kv_cache_dtype = q->kv_cache_dtype,
                                    .load_format = q->load_format,
                                    .vision_dtype = q->vision_dtype,
                                    .max_model_len = q->max_model_len,
                                    .progress = show_progress,
                                    .arg = &p };
    if (!q->model) return err_set(e, STATUS_INVALID, "%%load needs a model: a name of %%models or a path");
    struct loaded *fresh = mem_zero(1, sizeof *fresh);
    if (!fresh) return err_set(e, STATUS_NOMEM, "out of memory");
    struct loaded *there = fresh;
    if (!use_threads(m, job, e) && !loaded_open(fresh, m->api, m->be, &o, e)) {
        lock(m);
        there = find_or_begin(m, job, fresh, e);
        unlock(m);
    }
    if (!there && load_weights(&p, fresh, &o, e)) {
        lock(m);
        take_out(m, fresh);
        unlock(m);
    }
    pthread_cond_broadcast(&m->changed);
    if (there || e->code) drop(m, fresh);
    if (there && !e->code) load_seat(&p, there, e);
    if (!e->code) job_done(job, &(struct engine_done){ 0 });
    return e->code;
}

/* ---- unload, reset ---- */
static int unload(struct models *m, struct job *job, struct loaded *l, struct err *e) {
    struct engine_model gone;
    const uint64_t before = models_used(m);
    if (!leave(m, l, job->worker, &gone))
        return err_set(e, STATUS_BUSY, "a job of this notebook uses %s (%%jobs shows it): wait, or stop it first",
                       l->info.name);
    const uint64_t after = models_used(m);
    gone.loaded = gone.users > 0;
    gone.resident_before = before;
    gone.resident_after = after;
    gone.freed_bytes = before > after ? before - after : 0;
    job_models(job, &gone, 1);
    return STATUS_OK;
}
/* The next one to give back, pinned: by name; the last loaded; or any that is held or idle. */
static struct loaded *to_unload(struct models *m, struct job *job, bool all) {
    const char *name = all ? NULL : job->req.model;
    lock(m);
    struct loaded *l = held(m, job->worker, name);
    if (!l && name) l = models_named(m, name);
    for (struct loaded *i = m->list; !l && all && i; i = i->next)
        if (is_idle(i)) l = i;
    if (l) l->pins++;
    unlock(m);
    return l;
}
int models_unload(struct models *m, struct job *job, struct err *e) {
    const bool all = job->req.model && !strcmp(job->req.model, "*");
    struct loaded *l = to_unload(m, job, all);
    if (!l && !all) {
        lock(m);
        nothing_loaded(m, job->req.model, e);
        unlock(m);
    }
    for (; l && !e->code; l = all && !e->code ? to_unload(m, job, all) : NULL) unload(m, job, l, e);
    if (!e->code) job_done(job, &(struct engine_done){ 0 });
    return e->code;
}
int models_reset(struct models *m, struct job *job, struct err *e) {
    (void)e;
    lock(m);
    for (struct loaded *l = m->list; l; l = l->next) {
        struct seat *s = seat_of(l, job->worker, job->req.lane);
        for (int i = 0; s && i < SEQUENCES; i++)
            if (job->req.session && !strcmp(s->seq[i].owner, job->req.session)) s->seq[i].tokens.n = 0;
    }
    unlock(m);
    job_done(job, &(struct engine_done){ 0 });
    return STATUS_OK;
}

/* ---- the machine ---- */
static double more(double a, double b) { return a > b ? a : b; }
int models_probe(struct models *m, struct job *job, struct err *e) {
    struct peaks now;
    job_turn_take(job);
    const int rc = m->api->probe(m->be, &now, e);
    job_turn_give(job);
    if (rc) return rc;
    lock(m);
    m->peaks = (struct peaks){ more(now.stream_gbs, m->peaks.stream_gbs), more(now.fp32_gflops, m->peaks.fp32_gflops),
                               more(now.int8_gops, m->peaks.int8_gops), more(now.bf16_gflops, m->peaks.bf16_gflops),
                               more(now.fp16_gflops, m->peaks.fp16_gflops) };
    m->probes++;
    unlock(m);
    return STATUS_OK;
}
struct peaks models_peaks(struct models *m) {
    lock(m);
    const struct peaks p = m->peaks;
    unlock(m);
    return p;
}
int models_probes(struct models *m) {
    lock(m);
    const int n = m->probes;
    unlock(m);
    return n;
}
