#include "jobs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "executor.h"
#include "tape.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 40, NAME = 48 };
static const char PATIENT[] = "running"; /* the state of one that has not ended */

struct work {
    struct jobs *all;
    struct work *next;
    int number;   /* 0: a cell in the foreground that has not run long enough to be called a job */
    int watchers; /* cells that are attached */
    bool background, over;
    char what[96], state[16], started[32];
    int64_t began_us, ended_us;
    struct tape *tape;
    /* of a background one */
    pthread_t thread;
    struct interrupt interrupt;
    char *code;
    size_t n;
    int count;
    bool joined;
};
struct jobs {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct work *first; /* the newest first */
    int last, running;  /* the last number; running: in the background */
    int files;
    bool stopping;
    char dir[768], prefix[64];
    struct interp *interp;
    struct iopub *iopub;
    struct job_host host;
};

/* ---- life ---- */
static void work_free(struct work *w) {
    if (w->background && !w->joined) pthread_join(w->thread, NULL);
    interrupt_fini(&w->interrupt);
    tape_close(w->tape);
    mem_free(w->code);
    mem_free(w);
}
static void name_of(const struct work *w, char out[NAME]) { snprintf(out, NAME, "%d", w->number); }

static struct work *work_new(struct jobs *j, const char *code, size_t n, bool background) {
    struct work *w = mem_zero(1, sizeof *w);
    if (!w) return NULL;
    while (n && (*code == '\n' || *code == ' ')) code++, n--;
    const char *line = memchr(code, '\n', n);
    size_t len = line ? (size_t)(line - code) : n;
    if (len > sizeof w->what - 4) len = sizeof w->what - 4;
    struct buf whole;
    buf_init(&whole, 4 * sizeof w->what);
    utf8_repair(&whole, code, len - utf8_tail(code, len));
    snprintf(w->what, sizeof w->what, "%.*s%s", (int)sizeof w->what - 4, buf_text(&whole), len < n ? "…" : "");
    buf_fini(&whole);
    w->all = j;
    w->background = background;
    w->interrupt.fd = -1;
    w->began_us = clock_us();
    date_now(w->started);
    snprintf(w->state, sizeof w->state, "%s", PATIENT);
    return w;
}
static bool is_long(const struct work *w) {
    return (w->over ? w->ended_us : clock_us()) - w->began_us >= TAPE_PATIENCE_MS * 1000;
}
/* Locked. */
static void give_number(struct work *w) {
    if (!w->number) w->number = ++w->all->last;
}
/* Gives it a tape and a place in the list; old ones that nobody watches go. */
static int enlist(struct jobs *j, struct work *w, bool at_once) {
    const char *notebook = getenv("JPY_SESSION_NAME");
    char file[96];
    json_t *head = json_pack("{s:s, s:s, s:s, s:b}", "what", w->what, "started", w->started, "notebook",
                             notebook ? notebook : "", "background", (int)w->background);
    pthread_mutex_lock(&j->lock);
    if (w->background) give_number(w);
    snprintf(file, sizeof file, "%s-%04d", j->prefix, ++j->files);
    pthread_mutex_unlock(&j->lock);
    w->tape = head ? tape_open(j->dir[0] ? j->dir : NULL, file, head, at_once) : NULL;
    json_decref(head);
    if (!w->tape) return -1;
    pthread_mutex_lock(&j->lock);
    w->next = j->first;
    j->first = w;
    int kept = 0;
    for (struct work **at = &j->first; *at;) {
        struct work *old = *at;
        if (++kept > JOBS_KEPT && old->over && !old->watchers) {
            *at = old->next;
            work_free(old);
        } else
            at = &old->next;
    }
    pthread_mutex_unlock(&j->lock);
    return 0;
}
static void finish(struct work *w, const struct err *e) {
    struct jobs *j = w->all;
    const char *state = !e->code ? "done" : e->code == STATUS_CANCELLED ? "interrupted" : "failed";
    if (e->code) {
        json_t *error = error_output(e);
        tape_add(w->tape, "error", error);
        json_decref(error);
    }
    tape_end(w->tape, state);
    pthread_mutex_lock(&j->lock);
    snprintf(w->state, sizeof w->state, "%s", state);
    w->ended_us = clock_us();
    w->over = true;
    if (w->background) j->running--;
    pthread_cond_broadcast(&j->ended);
    pthread_mutex_unlock(&j->lock);
}

/* ---- cells in the foreground ---- */
struct work *jobs_begin(struct jobs *j, struct out *o, const char *code, size_t n) {
    struct work *w = !j || o->silent || interp_beside(j->interp, code, n) ? NULL : work_new(j, code, n, false);
    if (w && enlist(j, w, false)) {
        work_free(w);
        w = NULL;
    }
    if (w) o->tape = w->tape;
    return w;
}
/* One that ended at once is not worth a number, unless somebody watches it. */
void jobs_end(struct jobs *j, struct work *w, struct out *o, const struct err *e) {
    if (!w) return;
    o->tape = NULL;
    finish(w, e);
    pthread_mutex_lock(&j->lock);
    const bool goes = !w->number && !is_long(w) && !w->watchers;
    if (!goes) give_number(w);
    for (struct work **at = &j->first; goes && *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    pthread_mutex_unlock(&j->lock);
    if (goes) work_free(w);
}

/* ---- in the background ---- */
static void *run(void *arg) {
    struct work *w = arg;
    struct err e = { 0 };
    struct out o = { .to = { .io = w->all->iopub, .stop = &w->interrupt.on },
                     .interrupt = &w->interrupt,
                     .silent = true,
                     .beside = true,
                     .background = true,
                     .count = w->count,
                     .tape = w->tape };
    pthread_setname_np(pthread_self(), "background");
    int rc = out_begin(&o) ? err_set(&e, STATUS_NOMEM, "no memory to run the job") : 0;
    if (!rc) rc = interp_execute(w->all->interp, &o, w->code, w->n, &e);
    if (rc) err_set(&e, rc, "the job failed");
    out_settle(&o);
    finish(w, &e);
    out_fini(&o);
    return NULL;
}
static int room(struct jobs *j, struct err *e) {
    pthread_mutex_lock(&j->lock);
    const bool full = j->running >= JOBS_BACKGROUND, stopping = j->stopping;
    if (!full && !stopping) j->running++;
    pthread_mutex_unlock(&j->lock);
    if (full)
        return err_set(e, STATUS_BUSY, "%d jobs run in the background already: wait for one, or %%jobs stop N",
                       JOBS_BACKGROUND);
    return stopping ? err_set(e, STATUS_BUSY, "the kernel is leaving") : 0;
}
static int start(void *arg, const char *code, size_t n, int *number, struct err *e) {
    struct jobs *j = arg;
    if (room(j, e)) return e->code;
    struct work *w = work_new(j, code, n, true);
    if (w) w->code = mem_copy(code, n), w->n = n;
    bool ok = w && w->code && !interrupt_init(&w->interrupt, e);
    if (ok && (ok = !enlist(j, w, true))) {
        *number = w->number;
        pthread_mutex_lock(&j->lock); /* the list is looked at by stop: its thread is set before that */
        ok = !thread_start(&w->thread, "background", true, run, w, e);
        if (!ok) w->joined = w->over = true;
        if (!ok) snprintf(w->state, sizeof w->state, "failed");
        pthread_mutex_unlock(&j->lock);
    } else if (w) {
        w->background = false;
        work_free(w);
    }
    if (ok) return STATUS_OK;
    pthread_mutex_lock(&j->lock);
    j->running--;
    pthread_mutex_unlock(&j->lock);
    return err_set(e, STATUS_NOMEM, "no memory for a job in the background");
}

/* ---- looking ---- */
static void describe(const struct work *w, struct job_info *out) {
    *out = (struct job_info){ .seconds = (double)((w->over ? w->ended_us : clock_us()) - w->began_us) * 1e-6 };
    name_of(w, out->name);
    snprintf(out->what, sizeof out->what, "%s", w->what);
    snprintf(out->state, sizeof out->state, "%s", w->state);
    snprintf(out->started, sizeof out->started, "%s", w->started);
}
static const char *member(const json_t *o, const char *name) {
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}
/* One that an earlier kernel left on the disk; without an end it was lost with that kernel. */
static void describe_file(const char *name, const json_t *lines, struct job_info *out) {
    const json_t *head = json_array_get(lines, 0), *end = json_array_get(lines, json_array_size(lines) - 1);
    const char *state = member(end, "end");
    *out = (struct job_info){ .seconds = json_number_value(json_object_get(end, "seconds")) };
    snprintf(out->name, sizeof out->name, "%s", name);
    snprintf(out->what, sizeof out->what, "%s", member(head, "what"));
    snprintf(out->started, sizeof out->started, "%s", member(head, "started"));
    snprintf(out->notebook, sizeof out->notebook, "%s", member(head, "notebook"));
    snprintf(out->state, sizeof out->state, "%s", *state ? state : "lost");
}
static bool own(const struct jobs *j, const char *file) { return !strncmp(file, j->prefix, strlen(j->prefix)); }
static int list(void *arg, struct job_info *out, int cap, bool all) {
    struct jobs *j = arg;
    int n = 0, own_n = 0;
    json_t *files = all && j->dir[0] ? tape_files(j->dir) : NULL;
    for (size_t i = json_array_size(files); i-- > 0 && n < cap;) {
        struct err ignored = { 0 };
        const char *name = json_string_value(json_array_get(files, i));
        json_t *lines = own(j, name) ? NULL : tape_load(j->dir, name, &ignored);
        if (json_array_size(lines)) describe_file(name, lines, &out[n++]);
        json_decref(lines);
    }
    json_decref(files);
    pthread_mutex_lock(&j->lock);
    for (struct work *w = j->first; w; w = w->next) own_n += w->number || is_long(w);
    if (own_n > cap - n) own_n = cap - n;
    int at = n += own_n;
    for (struct work *w = j->first; w && own_n; w = w->next) {
        if (!w->number && !is_long(w)) continue;
        give_number(w);
        describe(w, &out[--at]);
        own_n--;
    }
    pthread_mutex_unlock(&j->lock);
    return n;
}
/* Locked. name NULL: the newest that runs, else the newest that has ended. but: the asking cell's own. */
static struct work *find(struct jobs *j, const char *name, const struct tape *but) {
    struct work *ended = NULL;
    char own_name[NAME];
    for (struct work *w = j->first; w; w = w->next) {
        name_of(w, own_name);
        if (name && !w->number) continue;
        if (name ? strcmp(own_name, name) != 0 : w->tape == but) continue;
        if (name || !w->over) return w;
        if (!ended) ended = w;
    }
    return ended;
}
static int stop(void *arg, const char *name, struct err *e) {
    struct jobs *j = arg;
    pthread_mutex_lock(&j->lock);
    struct work *w = find(j, name, NULL);
    if (!w)
        err_set(e, STATUS_NOTFOUND, "no job %.40s; %%jobs lists them", name);
    else if (w->over)
        err_set(e, STATUS_INVALID, "job %.40s has ended already (%s)", name, w->state);
    else if (!w->background)
        err_set(e, STATUS_INVALID, "job %.40s is a cell that runs: interrupt it", name);
    else
        interrupt_raise(&w->interrupt);
    pthread_mutex_unlock(&j->lock);
    return e->code;
}

/* ---- showing again ---- */
static void replay(struct out *o, const json_t *record) {
    const char *type = member(record, "type");
    const json_t *c = json_object_get(record, "content"), *text = json_object_get(c, "text");
    json_t *data = json_object_get(c, "data"), *metadata = json_object_get(c, "metadata");
    const char *id = json_string_value(json_object_get(json_object_get(c, "transient"), "display_id"));
    if (!strcmp(type, "stream") && json_is_string(text))
        out_stream(o, strcmp(member(c, "name"), "stderr") ? OUT_STDOUT : OUT_STDERR, json_string_value(text),
                   json_string_length(text));
    else if (!strcmp(type, "error")) {
        const char *why = member(c, "evalue");
        out_stream(o, OUT_STDERR, why, strlen(why));
        out_stream(o, OUT_STDERR, "\n", 1);
    } else if (json_is_object(data))
        out_display(o, json_incref(data), json_incref(metadata), id, !strcmp(type, "update_display_data"));
}
static void tell(struct out *o, const struct job_info *i, uint64_t lost) {
    char text[400];
    if (lost) {
        snprintf(text, sizeof text, "[%llu earlier pieces of output are no longer kept]\n", (unsigned long long)lost);
        out_stream(o, OUT_STDERR, text, strlen(text));
    }
    if (!strcmp(i->state, PATIENT)) return;
    snprintf(text, sizeof text, "job %s %s after %.1f s: %s", i->name,
             !strcmp(i->state, "done")     ? "was done"
             : !strcmp(i->state, "lost")   ? "ended with its kernel"
             : !strcmp(i->state, "failed") ? "failed"
                                           : "was interrupted",
             i->seconds, i->what);
    out_display(o, json_pack("{s:s}", "text/plain", text), NULL, NULL, false);
}
/* Shows what comes until the job ends or the watching cell is interrupted. */
static bool follow(struct work *w, struct out *o) {
    uint64_t at = 0, lost = 0, told = 0;
    for (bool over = false;;) {
        json_t *record = tape_next(w->tape, &at, &lost);
        if (lost > told) tell(o, &(struct job_info){ .state = "running" }, lost - told), told = lost;
        if (record) {
            replay(o, record);
            json_decref(record);
        } else if (over) {
            return true;
        } else {
            struct pollfd p = { out_interrupt_fd(o), POLLIN, 0 };
            interp_pause();
            poll(&p, 1, LOOK_MS);
            interp_resume();
            pthread_mutex_lock(&w->all->lock);
            over = w->over;
            pthread_mutex_unlock(&w->all->lock);
        }
        if (out_interrupted(o)) return false;
    }
}
static int from_disk(struct jobs *j, struct out *o, const char *name, struct err *e) {
    json_t *files = !name && j->dir[0] ? tape_files(j->dir) : NULL, *record;
    const char *notebook = getenv("JPY_SESSION_NAME");
    char chosen[128] = "";
    json_t *lines = NULL;
    if (name) snprintf(chosen, sizeof chosen, "%s", name);
    for (size_t i = 0; i < json_array_size(files) && !chosen[0]; i++) { /* this notebook's newest */
        struct err ignored = { 0 };
        const char *file = json_string_value(json_array_get(files, i));
        lines = tape_load(j->dir, file, &ignored);
        if (!notebook || !strcmp(member(json_array_get(lines, 0), "notebook"), notebook))
            snprintf(chosen, sizeof chosen, "%s", file);
        json_decref(lines);
    }
    json_decref(files);
    if (!chosen[0]) return err_set(e, STATUS_NOTFOUND, "no job to show: %%bg starts one, long cells are jobs too");
    lines = j->dir[0] ? tape_load(j->dir, chosen, e) : NULL;
    if (!lines) return err_set(e, STATUS_NOTFOUND, "no job %.60s; %%jobs lists them", chosen);
    struct job_info info;
    describe_file(chosen, lines, &info);
    size_t i;
    json_array_foreach(lines, i, record) if (!out_interrupted(o)) replay(o, record);
    tell(o, &info, 0);
    json_decref(lines);
    return STATUS_OK;
}
static int attach(void *arg, struct out *o, const char *name, struct err *e) {
    struct jobs *j = arg;
    struct job_info info;
    pthread_mutex_lock(&j->lock);
    struct work *w = find(j, name, o->tape);
    if (w) w->watchers++, give_number(w);
    pthread_mutex_unlock(&j->lock);
    if (!w) return from_disk(j, o, name, e);
    const bool whole = follow(w, o);
    pthread_mutex_lock(&j->lock);
    describe(w, &info);
    w->watchers--;
    pthread_mutex_unlock(&j->lock);
    if (!whole)
        return err_set(e, STATUS_CANCELLED, "no longer attached; job %s goes on (%%jobs stop %s ends it)", info.name,
                       info.name);
    tell(o, &info, 0);
    return STATUS_OK;
}
const struct job_host *jobs_host(struct jobs *j) { return &j->host; }

int jobs_open(struct jobs **out, const char *dir, struct err *e) {
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    struct jobs *j = *out = mem_zero(1, sizeof *j);
    if (!j) return err_set(e, STATUS_NOMEM, "no memory for jobs");
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->ended, NULL);
    int n = 0;
    if (dir)
        n = snprintf(j->dir, sizeof j->dir, "%s", dir);
    else if (data && data[0] == '/')
        n = snprintf(j->dir, sizeof j->dir, "%s/jaeda/jobs", data);
    else if (home && home[0] == '/')
        n = snprintf(j->dir, sizeof j->dir, "%s/.local/share/jaeda/jobs", home);
    if (n >= (int)sizeof j->dir) j->dir[0] = 0;
    const time_t now = time(NULL);
    struct tm tm;
    char stamp[32] = "";
    if (gmtime_r(&now, &tm)) strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", &tm);
    snprintf(j->prefix, sizeof j->prefix, "%s-%d", stamp, (int)getpid());
    j->host = (struct job_host){ j, list, start, stop, attach };
    return STATUS_OK;
}
void jobs_bind(struct jobs *j, struct interp *in, struct iopub *io) {
    j->interp = in;
    j->iopub = io;
}
bool jobs_stop(struct jobs *j, int ms) {
    if (!j) return true;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    pthread_mutex_lock(&j->lock);
    j->stopping = true;
    for (struct work *w = j->first; w; w = w->next)
        if (w->background && !w->over) interrupt_raise(&w->interrupt);
    for (int rc = 0; j->running > 0 && !rc;) rc = pthread_cond_timedwait(&j->ended, &j->lock, &until);
    const bool ended = j->running == 0;
    pthread_mutex_unlock(&j->lock);
    return ended;
}
void jobs_close(struct jobs *j) {
    if (!j) return;
    for (struct work *w = j->first, *next; w; w = next) {
        next = w->next;
        work_free(w);
    }
    pthread_cond_destroy(&j->ended);
    pthread_mutex_destroy(&j->lock);
    mem_free(j);
}
