#include "profile.h"
#include "base/mem.h"
#include "eyes.h"
#include "generate.h"
#include "nvml.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { RUNS = 3, WARMUPS = 1, PROMPT = 512, STEPS = 32, RUNS_MAX = 100 };
struct prof {
    struct loaded *l;
    struct seat *seat;
    struct job *job;
    struct sequence *seq;
    struct ids ids;
    int runs, steps, batch;
    struct span *span; /* of one watched step */
    struct engine_profile_row *row;
    int first[ENGINE_PHASES], rows; /* where a phase's rows begin */
    struct engine_profile out;
    double sum[ENGINE_PHASES], sum2[ENGINE_PHASES], energy_j[ENGINE_PHASES];
    struct image picture; /* of the image path's size; made up */
    float *rows_out;      /* of the language model */
    const char *pci;      /* of the card that computes; "": none */
};

/* A prompt of fixed length whose tokens spread over the vocabulary: Knuth's multiplicative hash of the position. */
static int synthetic(struct prof *p, int n) {
    const unsigned vocab = (unsigned)tokenizer_vocab(p->l->tok);
    for (unsigned i = 0; i < (unsigned)n; i++) {
        unsigned id = (i + 1) * 2654435761u % vocab;
        while (tokenizer_is_control(p->l->tok, (int)id)) id = (id + 1) % vocab;
        if (ids_add(&p->ids, (int)id)) return -1;
    }
    return 0;
}
static int prompt(struct prof *p, struct err *e) {
    const struct engine_req *q = &p->job->req;
    const int limit = p->seat->info.max_model_len;
    p->steps = q->max_new_tokens ? q->max_new_tokens : STEPS;
    if (q->messages) {
        if (tokenizer_encode(p->l->tok, q->message[0].text, q->message[0].len, false, &p->ids, e)) return e->code;
    } else if (synthetic(p, q->prompt_tokens ? q->prompt_tokens : limit > PROMPT + p->steps ? PROMPT : limit / 2))
        return err_set(e, STATUS_NOMEM, "out of memory for the prompt");
    if (!p->ids.n) return err_set(e, STATUS_INVALID, "the prompt is empty");
    if (p->ids.n + (size_t)p->steps > (size_t)limit)
        return err_set(e, STATUS_INVALID, "%zu prompt tokens and %d new ones: the context holds %d", p->ids.n, p->steps,
                       limit);
    return STATUS_OK;
}
/* ---- a batch: sequences of the same prompt, one behind the other in the KV pool ---- */
static int base_of(const struct prof *p, int i) { return p->seq->base + i * ((int)p->ids.n + p->steps); }
static struct program *decoding(const struct prof *p) {
    return &p->seat->program[p->batch > 1 ? PROGRAM_BEAMS : PROGRAM_DECODE];
}
static int room_for_batch(const struct prof *p, struct err *e) {
    const struct engine_model *info = &p->seat->info;
    const int each = (int)p->ids.n + p->steps, most = info->max_sequences > BEAMS_MAX ? info->max_sequences : BEAMS_MAX;
    const int rows = info->max_sequences * info->max_model_len, fit = rows / each < most ? rows / each : most;
    if (p->batch <= fit) return STATUS_OK;
    return err_set(e, STATUS_INVALID,
                   "--batch-size %d: the KV cache holds %d sequences of %d tokens; %%load with --max-sequences %d",
                   p->batch, fit, each, p->batch);
}
/* The step after every prompt has been read: each sequence goes on from the token that its prompt ended in. */
static void gather(struct prof *p, const int *token) {
    struct step *s = &p->job->step;
    if (p->batch == 1) return;
    job_step(p->job);
    for (int i = 0; i < p->batch; i++) {
        s->sampling[i] = (struct sampling){ 0 };
        step_rows(s, &token[i], 1, (int)p->ids.n, base_of(p, i), true);
    }
}
static int last(const struct step *s) { return s->ring[(s->made + RING - 1) % RING]; }

/* ---- unprofiled: what the user waits for ---- */
static double own_us(const struct prof *p) { return now_us() - p->job->waited_us; }
static int wall(struct prof *p, bool counts, struct err *e) {
    double from[2], to[2], j[3]; /* times without what others computed meanwhile; the counter is read outside of them */
    p->job->step.sampling[0] = (struct sampling){ 0 };
    j[0] = nvml_energy_j(p->pci);
    from[0] = own_us(p);
    int token[BATCH_MAX];
    for (int i = 0; i < p->batch; i++) {
        if (prefill(p->seat, p->job, &p->ids, 0, base_of(p, i), e)) return e->code;
        token[i] = last(&p->job->step);
    }
    to[0] = own_us(p);
    gather(p, token);
    j[1] = nvml_energy_j(p->pci);
    from[1] = own_us(p);
    for (int i = 0; i < p->steps; i++) /* as generating does: on a device, steps are launched ahead */
        if (job_decode(p->job, decoding(p), p->steps - i, e)) return e->code;
    to[1] = own_us(p);
    j[2] = nvml_energy_j(p->pci);
    for (int k = 0; k < 2 && counts; k++) {
        const int steps = k == ENGINE_DECODE ? p->steps : 1;
        const double ms = (to[k] - from[k]) * 1e-3 / steps;
        p->sum[k] += ms;
        p->sum2[k] += ms * ms;
        p->energy_j[k] += (j[k + 1] - j[k]) / steps;
    }
    return STATUS_OK;
}
/* ---- watched: each call between two marks ---- */
static void add_spans(struct engine_profile_row *row, const struct watch *w, double share) {
    for (int i = 0; i < w->n; i++) {
        row[i].calls += share;
        row[i].ms += w->span[i].us * 1e-3 * share;
        row[i].bytes += w->span[i].bytes * share;
        row[i].flops += w->span[i].flops * share;
    }
}
static int watched(struct prof *p, enum engine_phase phase, struct program *prog, double share, struct err *e) {
    struct watch w = { .span = p->span, .cap = prog->n };
    const double t0 = own_us(p);
    if (job_replay(p->job, prog, &w, e)) return e->code;
    p->out.profiled_ms[phase] += (own_us(p) - t0) * 1e-3 * share;
    add_spans(&p->row[p->first[phase]], &w, share);
    return STATUS_OK;
}
static int watched_prompt(struct prof *p, int base, struct err *e) {
    for (size_t at = 0, n; at < p->ids.n; at += n) {
        const size_t most = (size_t)prefill_piece(p->seat, p->job);
        n = p->ids.n - at < most ? p->ids.n - at : most;
        job_step(p->job);
        step_rows(&p->job->step, p->ids.v + at, (int)n, (int)at, base, at + n == p->ids.n);
        if (watched(p, ENGINE_PREFILL, &p->seat->program[PROGRAM_PREFILL], 1.0 / p->runs, e)) return e->code;
    }
    return STATUS_OK;
}
static int watched_run(struct prof *p, struct err *e) {
    int token[BATCH_MAX];
    for (int i = 0; i < p->batch; i++) {
        if (watched_prompt(p, base_of(p, i), e)) return e->code;
        token[i] = last(&p->job->step);
    }
    gather(p, token);
    for (int i = 0; i < p->steps; i++)
        if (watched(p, ENGINE_DECODE, decoding(p), 1.0 / p->runs / p->steps, e)) return e->code;
    return STATUS_OK;
}
/* ---- the image path ---- */
enum { FILE_W = 1920, FILE_H = 1080 };
/* Any pixels: what is computed does not depend on them. A large one is made and resized, for the time that this takes. */
static int make_picture(struct prof *p, struct err *e) {
    const struct vision_config *c = &p->l->eyes->config;
    struct image large = { mem_alloc(3 * FILE_W * FILE_H), FILE_W, FILE_H };
    p->rows_out = mem_alloc((size_t)vision_tokens(c) * (size_t)c->out * sizeof *p->rows_out);
    if (!large.rgb || !p->rows_out) {
        image_fini(&large);
        return err_set(e, STATUS_NOMEM, "out of memory for a picture");
    }
    for (unsigned i = 0; i < 3 * FILE_W * FILE_H; i++) large.rgb[i] = (unsigned char)(i * 2654435761u >> 24);
    const double t0 = now_us();
    image_resize(&p->picture, &large, c->image, c->image, e);
    p->out.image_resize_ms = (now_us() - t0) * 1e-3;
    image_fini(&large);
    return e->code;
}
static int see(struct prof *p, bool counts, struct err *e) {
    struct eyes_times t = { 0 };
    const double from = nvml_energy_j(p->pci);
    if (eyes_run(p->l->eyes, p->job, &p->picture, NULL, p->rows_out, &t, e)) return e->code;
    const double ms = t.encode_ms + t.merge_ms + t.project_ms;
    if (!counts) return STATUS_OK;
    p->sum[ENGINE_VISION] += ms;
    p->sum2[ENGINE_VISION] += ms * ms;
    p->energy_j[ENGINE_VISION] += nvml_energy_j(p->pci) - from;
    return STATUS_OK;
}
static int see_watched(struct prof *p, struct err *e) {
    const struct eyes *s = p->l->eyes;
    struct watch w[VISION_STAGES];
    struct eyes_times t = { 0 };
    for (int i = 0, at = 0; i < VISION_STAGES; at += s->program[i++].n)
        w[i] = (struct watch){ .span = p->span + at, .cap = s->program[i].n };
    if (eyes_run(p->l->eyes, p->job, &p->picture, w, p->rows_out, &t, e)) return e->code;
    p->out.profiled_ms[ENGINE_VISION] += (t.encode_ms + t.merge_ms + t.project_ms) / p->runs;
    for (int i = 0, at = p->first[ENGINE_VISION]; i < VISION_STAGES; at += s->program[i++].n)
        add_spans(&p->row[at], &w[i], 1.0 / p->runs);
    return STATUS_OK;
}
static void name_rows(struct prof *p, enum engine_phase phase, const struct program *prog) {
    for (int i = 0; i < prog->n; i++) {
        struct engine_profile_row *r = &p->row[p->rows++];
        r->phase = phase;
        r->layer = prog->call[i].layer;
        snprintf(r->label, sizeof r->label, "%s", prog->call[i].label);
        snprintf(r->op, sizeof r->op, "%s", op_name(prog->call[i].op));
    }
}
static int measure(struct prof *p, struct err *e) {
    nvml_card(p->pci, &p->out.before);
    for (int i = 0; i < WARMUPS + p->runs; i++) { /* in turn: both kinds meet the same neighbours and clocks */
        job_progress(p->job, i < WARMUPS ? "warming up" : "measuring", i, WARMUPS + p->runs, "run", 0);
        const bool counts = i >= WARMUPS;
        if (p->l->eyes && (see(p, counts, e) || (counts && see_watched(p, e)))) return e->code;
        if (p->out.vision_only) continue;
        if (wall(p, counts, e) || (counts && watched_run(p, e))) return e->code;
    }
    nvml_card(p->pci, &p->out.after);
    return STATUS_OK;
}
/* Of the arithmetic that weights of this dtype need, whose name goes into kind. */
static double peak_of(const struct peaks *peaks, const char *dtype, char kind[8]) {
    const struct dtype_info *dt = dtype_info(dtype_parse(dtype));
    const bool bf16 = dt && dt->dt == DTYPE_BF16 && peaks->bf16_gflops > 0;
    const bool fp16 = dt && !bf16 && dt->dt != DTYPE_F32 && peaks->fp16_gflops > 0; /* a GPU unpacks to fp16 */
    const bool int8 = dt && !fp16 && dt->block > 1;
    snprintf(kind, 8, "%s", fp16 ? "fp16" : int8 ? "int8" : bf16 ? "bf16" : "fp32");
    return fp16 ? peaks->fp16_gflops : int8 ? peaks->int8_gops : bf16 ? peaks->bf16_gflops : peaks->fp32_gflops;
}
static void finish(struct prof *p, struct models *m) {
    struct engine_profile *o = &p->out;
    const struct peaks peaks = models_peaks(m);
    for (int k = 0; k < ENGINE_PHASES; k++) {
        const double mean = p->sum[k] / p->runs, var = p->sum2[k] / p->runs - mean * mean;
        o->wall_ms[k] = mean;
        o->wall_sd_ms[k] = p->runs > 1 && var > 0 ? sqrt(var * p->runs / (p->runs - 1)) : 0;
        o->energy_j[k] = p->energy_j[k] / p->runs;
    }
    for (int i = 0; i < p->rows; i++) o->spans_ms[p->row[i].phase] += p->row[i].ms;
    o->row = p->row;
    o->rows = p->rows;
    o->gpu = p->l->api->memory != NULL;
    o->runs = p->runs;
    o->batch_size = p->batch;
    o->warmups = WARMUPS;
    o->threads = p->l->api->threads(p->l->be);
    o->prompt_tokens = (int)p->ids.n;
    o->decode_steps = p->steps;
    o->context = (int)p->ids.n + p->steps / 2;
    o->waited_ms = p->job->waited_us * 1e-3;
    o->dummy = p->l->source.dummy;
    o->stream_gbs = peaks.stream_gbs;
    o->peak_gflops = peak_of(&peaks, p->l->info.dtype, o->peak_kind);
    o->vision = p->l->eyes != NULL;
    o->image_tokens = p->l->info.image_tokens;
    if (o->vision) o->vision_peak_gflops = peak_of(&peaks, p->l->info.vision_dtype, o->vision_peak_kind);
    snprintf(o->vision_dtype, sizeof o->vision_dtype, "%s", p->l->info.vision_dtype);
    snprintf(o->dtype, sizeof o->dtype, "%s", p->l->info.dtype);
    snprintf(o->isa, sizeof o->isa, "%s", p->l->api->isa(p->l->be));
    snprintf(o->model, sizeof o->model, "%s", p->l->info.name);
    struct engine_event ev = { .kind = ENGINE_EV_PROFILE, .owned = p->row };
    ev.u.profile = *o;
    p->row = NULL;
    job_emit(p->job, &ev);
}
static int run(struct prof *p, struct models *m, struct err *e) {
    p->seq = seat_sequence(p->seat, NULL);
    const struct program *seen = p->l->eyes ? p->l->eyes->program : NULL;
    int calls = decoding(p)->n + p->seat->program[PROGRAM_PREFILL].n;
    for (int i = 0; seen && i < VISION_STAGES; i++) calls += seen[i].n;
    p->span = mem_zero((size_t)calls, sizeof *p->span);
    p->row = mem_zero((size_t)calls, sizeof *p->row);
    if (!p->span || !p->row) return err_set(e, STATUS_NOMEM, "out of memory for the profile");
    for (int i = 0; seen && i < VISION_STAGES; i++) name_rows(p, ENGINE_VISION, &seen[i]);
    p->first[ENGINE_PREFILL] = p->rows;
    if (!p->out.vision_only) name_rows(p, ENGINE_PREFILL, &p->seat->program[PROGRAM_PREFILL]);
    p->first[ENGINE_DECODE] = p->rows;
    if (!p->out.vision_only) name_rows(p, ENGINE_DECODE, decoding(p));
    job_progress(p->job, "measuring the machine", 0, 0, "run", 0);
    if (!models_probe(m, p->job, e) && (!seen || !make_picture(p, e)) && !prompt(p, e) && !room_for_batch(p, e) &&
        !measure(p, e))
        finish(p, m);
    return e->code;
}
int profile(struct models *m, struct job *job, struct err *e) {
    const struct engine_req *q = &job->req;
    struct prof p = { .job = job, .runs = q->runs ? q->runs : RUNS, .batch = q->batch_size ? q->batch_size : 1 };
    if (p.batch < 1 || p.batch > BATCH_MAX)
        return err_set(e, STATUS_INVALID, "--batch-size %d: 1 to %d", p.batch, BATCH_MAX);
    if (p.runs < 1 || p.runs > RUNS_MAX) return err_set(e, STATUS_INVALID, "--runs %d: 1 to %d", p.runs, RUNS_MAX);
    if (models_sit(m, job, &p.seat, e)) return e->code;
    p.l = p.seat->l;
    p.out.vision_only = q->vision_only;
    if (q->vision_only && !p.l->eyes)
        err_set(e, STATUS_INVALID, "%s reads text alone: it has no image path to measure", p.l->info.name);
    p.pci = p.l->api->pci ? p.l->api->pci(p.l->be) : "";
    const int rc = e->code ? e->code : run(&p, m, e);
    models_rise(m, job, p.seat);
    if (!rc)
        job_done(job,
                 &(struct engine_done){ .new_tokens = p.steps * p.batch, .prompt_tokens = (int)p.ids.n * p.batch });
    ids_fini(&p.ids);
    image_fini(&p.picture);
    mem_free(p.rows_out);
    mem_free(p.span);
    mem_free(p.row);
    return e->code;
}
