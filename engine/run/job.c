#include "job.h"
#include "base/mem.h"
#include <string.h>
#include <time.h>

double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Lays copies into one block; with p == NULL it only counts, so that one function describes both passes. */
struct packer {
    char *p;
    size_t n;
};
static void *lay(struct packer *k, const void *from, size_t bytes) {
    const size_t at = (k->n + 15) & ~(size_t)15;
    k->n = at + bytes;
    if (!k->p || !from) return NULL;
    return memcpy(k->p + at, from, bytes);
}
static const char *lay_text(struct packer *k, const char *s) { return s ? lay(k, s, strlen(s) + 1) : NULL; }
static const char *const *lay_texts(struct packer *k, const char *const *from, int n) {
    const char **list = lay(k, from, sizeof *list * (size_t)n);
    for (int i = 0; i < n; i++) {
        const char *s = lay_text(k, from[i]);
        if (list) list[i] = s;
    }
    return list;
}
static void lay_images(struct packer *k, const struct engine_req *q, struct engine_req *to) {
    struct engine_image *image = lay(k, q->image, sizeof *image * (size_t)q->images);
    for (int i = 0; i < q->images; i++) {
        const char *name = lay_text(k, q->image[i].name), *bytes = lay(k, q->image[i].bytes, q->image[i].n);
        if (image) image[i] = (struct engine_image){ name, bytes, q->image[i].n, q->image[i].message };
    }
    to->image = image;
}
static void lay_request(struct packer *k, const struct engine_req *q, struct engine_req *to) {
    *to = *q;
    to->model = lay_text(k, q->model);
    to->session = lay_text(k, q->session);
    to->revision = lay_text(k, q->revision);
    to->dtype = lay_text(k, q->dtype);
    to->kv_cache_dtype = lay_text(k, q->kv_cache_dtype);
    to->load_format = lay_text(k, q->load_format);
    to->template_name = lay_text(k, q->template_name);
    to->environment = lay_text(k, q->environment);
    to->vit = lay_text(k, q->vit);
    to->qformer = lay_text(k, q->qformer);
    to->projector = lay_text(k, q->projector);
    to->llm = lay_text(k, q->llm);
    to->vision_dtype = lay_text(k, q->vision_dtype);
    struct engine_message *m = lay(k, q->message, sizeof *m * (size_t)q->messages);
    for (int i = 0; i < q->messages; i++) {
        const char *role = lay_text(k, q->message[i].role);
        const char *text = lay(k, q->message[i].text, q->message[i].len);
        if (m) m[i] = (struct engine_message){ role, text, q->message[i].len };
    }
    to->message = m;
    lay_images(k, q, to);
    to->stop = lay_texts(k, q->stop, q->stops);
    to->stop_id = lay(k, q->stop_id, sizeof *q->stop_id * (size_t)q->stop_ids);
    to->fit.dtype = lay_texts(k, q->fit.dtype, q->fit.dtypes);
    to->fit.machine = lay_texts(k, q->fit.machine, q->fit.machines);
    to->fit.context = lay(k, q->fit.context, sizeof *q->fit.context * (size_t)q->fit.contexts);
    to->fit.batch = lay(k, q->fit.batch, sizeof *q->fit.batch * (size_t)q->fit.batches);
}
int request_check(const struct engine_req *q, struct err *e) {
    if ((unsigned)q->kind >= ENGINE_REQ_KINDS)
        return err_set(e, STATUS_INVALID, "unknown request kind %d", (int)q->kind);
    if (q->lane < 0 || q->lane >= ENGINE_LANES)
        return err_set(e, STATUS_INVALID, "lane %d: 0 to %d", q->lane, ENGINE_LANES - 1);
    for (int i = 0; i < q->stops; i++)
        if (!q->stop[i] || !*q->stop[i])
            return err_set(e, STATUS_INVALID, "a stop string is empty; leave it out instead");
    if (q->stops > ENGINE_STOPS || q->stop_ids > ENGINE_STOPS)
        return err_set(e, STATUS_INVALID, "%d stop strings or ids; at most %d",
                       q->stops > q->stop_ids ? q->stops : q->stop_ids, ENGINE_STOPS);
    if (q->images < 0 || q->images > ENGINE_IMAGES)
        return err_set(e, STATUS_INVALID, "%d pictures; at most %d", q->images, ENGINE_IMAGES);
    for (int i = 0; i < q->images; i++)
        if (q->image[i].message < 0 || (q->kind == ENGINE_REQ_GENERATE && q->image[i].message >= q->messages) ||
            (i && q->image[i].message < q->image[i - 1].message))
            return err_set(e, STATUS_INVALID, "picture %d belongs to no message of the conversation, in its order", i);
    for (int i = 0; i < q->fit.contexts + q->fit.batches; i++)
        if ((i < q->fit.contexts ? q->fit.context[i] : q->fit.batch[i - q->fit.contexts]) < 1)
            return err_set(e, STATUS_INVALID, "a context length or batch size below 1");
    const struct engine_sampling *s = &q->sampling;
    const struct engine_beams *b = &q->beams;
    if (b->num_beams < 0 || b->num_beams > ENGINE_BEAMS)
        return err_set(e, STATUS_INVALID, "--num-beams %d: 1 to %d", b->num_beams, ENGINE_BEAMS);
    if (b->num_beams > 1 && s->temperature > 0)
        return err_set(e, STATUS_INVALID, "beam search does not sample: leave out --num-beams or the sampling options");
    if (!(s->min_p >= 0 && s->min_p <= 1) || !(s->typical_p >= 0 && s->typical_p <= 1))
        return err_set(e, STATUS_INVALID, "sampling out of range: min_p %g, typical_p %g", (double)s->min_p,
                       (double)s->typical_p);
    if (!(s->temperature >= 0) || !(s->top_p >= 0 && s->top_p <= 1) || s->top_k < 0 || !(s->repetition_penalty >= 0))
        return err_set(e, STATUS_INVALID,
                       "sampling out of range: temperature %g, top_p %g, top_k %d, repetition_penalty %g",
                       (double)s->temperature, (double)s->top_p, s->top_k, (double)s->repetition_penalty);
    return STATUS_OK;
}
struct job *job_new(const struct engine_req *q) {
    struct job *job = mem_zero(1, sizeof *job);
    struct packer k = { NULL, 0 };
    struct engine_req unused;
    if (!job) return NULL;
    lay_request(&k, q, &unused);
    job->block = k.p = mem_alloc(k.n + 16);
    if (!job->block) return job_close(job), NULL;
    k.n = 0;
    lay_request(&k, q, &job->req);
    job->submitted_us = now_us();
    return job;
}
void job_close(struct job *job) {
    if (!job) return;
    mem_free(job->block);
    mem_free(job);
}
void job_cancel(struct job *job) {
    atomic_store(&job->cancel, true);
    step_cancel(&job->step);
}
bool job_cancelled(const struct job *job) { return atomic_load(&job->cancel); }

void job_step(struct job *job) {
    memset(job->step.n, 0, sizeof job->step.n);
    job->step.made = 0;
    __atomic_store_n(&job->step.stop, STOP_NONE, __ATOMIC_RELEASE);
}
void job_turn_take(struct job *job) { job->waited_us += turn_take(job->turn, NULL); }
void job_turn_give(struct job *job) { turn_give(job->turn); }
/* A cancelled step is cleared before the flag is read: job_cancel sets the flag first, so that one of the two shows. */
static int replay(struct job *job, struct program *p, struct watch *w, bool *yielded, struct err *e) {
    int idle = STOP_CANCEL;
    __atomic_compare_exchange_n(&job->step.stop, &idle, STOP_NONE, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    if (!job_cancelled(job)) {
        job->waited_us += turn_take(job->turn, yielded ? &job->step : NULL);
        const int rc = program_replay(p, &job->step, w, e);
        turn_give(job->turn);
        if (!rc) return STATUS_OK;
        if (rc != STATUS_CANCELLED) return rc;
        *e = (struct err){ 0 };
        if (yielded && !job_cancelled(job)) return *yielded = true, STATUS_OK;
    }
    return err_set(e, STATUS_CANCELLED, "interrupted");
}
int job_replay(struct job *job, struct program *p, struct watch *w, struct err *e) {
    return replay(job, p, w, NULL, e);
}
int job_replay_or_yield(struct job *job, struct program *p, bool *yielded, struct err *e) {
    *yielded = false;
    return replay(job, p, NULL, yielded, e);
}
int job_replay_in_turns(struct job *job, struct program *p, int calls, struct err *e) {
    int rc = STATUS_OK;
    if (p->api->memory) return job_replay(job, p, NULL, e);
    for (int from = 0; from < p->n && !rc; from += calls) {
        const int to = p->n - from < calls ? p->n : from + calls;
        if (job_cancelled(job)) return err_set(e, STATUS_CANCELLED, "interrupted");
        job_turn_take(job);
        rc = program_replay_part(p, &job->step, from, to, e);
        job_turn_give(job);
    }
    if (rc != STATUS_CANCELLED) return rc;
    *e = (struct err){ 0 };
    return err_set(e, STATUS_CANCELLED, "interrupted");
}
/* On a device the turn is needed only to launch: its steps run in the order in which they came, whoever waits for them. */
int job_decode(struct job *job, struct program *p, int most, struct err *e) {
    const bool ahead = p->api->launch != NULL, alone = atomic_load(&job->turn->jobs) < 2;
    const int want = !ahead || !alone ? 1 : most < AHEAD_MAX ? most : AHEAD_MAX;
    int idle = STOP_CANCEL, rc = STATUS_OK;
    __atomic_compare_exchange_n(&job->step.stop, &idle, STOP_NONE, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    if (!job_cancelled(job)) {
        const bool launches = p->flying < want;
        if (launches) job->waited_us += turn_take(job->turn, NULL);
        while (!rc && p->flying < want) rc = program_launch(p, &job->step, e);
        if (!rc && !ahead) rc = program_land(p, &job->step, e);
        if (launches) turn_give(job->turn);
        if (!rc && ahead) rc = program_land(p, &job->step, e);
        if (rc != STATUS_CANCELLED) return rc;
        *e = (struct err){ 0 };
    }
    program_recall(p, &job->step);
    return err_set(e, STATUS_CANCELLED, "interrupted");
}
void job_progress(struct job *job, const char *what, double done, double total, const char *unit, double seconds) {
    struct engine_event ev = { .kind = ENGINE_EV_PROGRESS };
    memccpy(ev.u.progress.what, what, 0, sizeof ev.u.progress.what - 1);
    memccpy(ev.u.progress.unit, unit, 0, sizeof ev.u.progress.unit - 1);
    ev.u.progress.done = done;
    ev.u.progress.total = total;
    ev.u.progress.seconds = seconds;
    job_emit(job, &ev);
}
void job_models(struct job *job, const struct engine_model *row, int n) {
    struct engine_event ev = { .kind = ENGINE_EV_MODELS };
    struct engine_model *copy = mem_zero((size_t)n, sizeof *copy);
    if (copy) memcpy(copy, row, sizeof *copy * (size_t)n);
    ev.u.models.row = ev.owned = copy;
    ev.u.models.n = copy ? n : 0;
    job_emit(job, &ev);
}
void job_done(struct job *job, const struct engine_done *done) {
    struct engine_event ev = { .kind = ENGINE_EV_DONE };
    ev.u.done = *done;
    job_emit(job, &ev);
}
void job_fail(struct job *job, const struct err *e) {
    struct engine_event ev = { .kind = ENGINE_EV_FAIL };
    ev.u.fail = *e;
    job_emit(job, &ev);
}
