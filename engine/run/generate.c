#include "generate.h"
#include "base/mem.h"
#include "generation.h"
#include <stdio.h>
#include <string.h>

enum { DEFAULT_NEW = 128 };

/* ---- the prompt ---- */
static int encode(struct generation *r, struct ids *ids, struct err *e) {
    const struct engine_req *q = &r->job->req;
    struct rendered text = { 0 };
    const char *name = q->template_name ? q->template_name : r->l->info.template_name;
    if (q->messages == 1 && !q->message[0].role) name = "raw";
    snprintf(r->done.template_name, sizeof r->done.template_name, "%s", name);
    struct template_message *m = mem_zero((size_t)q->messages, sizeof *m);
    if (!m) return err_set(e, STATUS_NOMEM, "out of memory for the prompt");
    for (int i = 0; i < q->messages; i++)
        m[i] = (struct template_message){ .role = q->message[i].role, .text = q->message[i].text, .len = q->message[i].len };
    if (!template_render(name, r->l->system.n ? buf_text(&r->l->system) : NULL, m, q->messages, &text, e))
        template_encode(r->l->tok, &text, ids, e);
    mem_free(m);
    rendered_fini(&text);
    if (!e->code && !ids->n) err_set(e, STATUS_INVALID, "the prompt is empty: there is nothing to continue");
    const int limit = r->seat->info.max_model_len;
    if (!e->code && ids->n >= (size_t)limit)
        err_set(e, STATUS_INVALID,
                "the prompt has %zu tokens, the context holds %d (one is needed for the answer): shorten it%s", ids->n,
                limit, limit < r->l->info.context ? ", or %load with a larger --max-model-len" : "");
    return e->code;
}
/* How many leading tokens of ids lie in the KV cache already. The last one is always fed: its logits are wanted. */
static size_t cached(const struct sequence *seq, const struct ids *ids) {
    size_t n = 0;
    while (n < seq->tokens.n && n + 1 < ids->n && seq->tokens.v[n] == ids->v[n]) n++;
    return n;
}
static bool alone(const struct job *job) { return atomic_load(&job->turn->jobs) < 2; }
int prefill_piece(const struct seat *seat, const struct job *job) {
    const int chunk = seat_chunk(seat->l), piece = atomic_load(&seat->l->piece);
    return alone(job) || piece > chunk ? chunk : piece;
}
int prefill(struct seat *seat, struct job *job, const struct ids *ids, size_t at, int base, struct err *e) {
    const double t0 = now_us();
    const size_t from = at;
    while (at < ids->n) {
        const size_t most = (size_t)prefill_piece(seat, job);
        const size_t n = ids->n - at < most ? ids->n - at : most;
        const double t1 = now_us(), waited = job->waited_us;
        bool yielded = false;
        job_step(job);
        step_rows(&job->step, ids->v + at, (int)n, (int)at, base, at + n == ids->n);
        struct program *p = &seat->program[n == 1 ? PROGRAM_DECODE : PROGRAM_PREFILL];
        if ((int)most == seat_chunk(seat->l) && n > 1 ? job_replay_or_yield(job, p, &yielded, e)
                                                      : job_replay(job, p, NULL, e))
            return e->code;
        if (yielded) continue;
        const double ms = (now_us() - t1 - (job->waited_us - waited)) * 1e-3;
        if (n > 1) atomic_store(&seat->l->piece, turn_rows((int)n, ms));
        at += n;
        if (ids->n - from > (size_t)seat_chunk(seat->l))
            job_progress(job, "prefill", (double)(at - from), (double)(ids->n - from), "tok", (now_us() - t0) * 1e-6);
    }
    return STATUS_OK;
}
int generation_prompt(struct generation *r, struct err *e) {
    struct ids ids = { 0 };
    if (encode(r, &ids, e)) return ids_fini(&ids), e->code;
    const size_t reuse = r->seq->owner[0] ? cached(r->seq, &ids) : 0;
    r->done.prompt_tokens = (int)ids.n;
    r->done.cached_tokens = (int)reuse;
    r->seq->tokens.n = reuse;
    const double t0 = now_us();
    if (!prefill(r->seat, r->job, &ids, reuse, r->seq->base, e)) {
        ids_fini(&r->seq->tokens);
        r->seq->tokens = ids; /* they are in the cache now */
        ids = (struct ids){ 0 };
    }
    r->done.prefill_ms = (now_us() - t0) * 1e-3;
    ids_fini(&ids);
    return e->code;
}

/* ---- the answer ---- */
static void show(struct generation *r) {
    if (!r->out.n) return;
    struct engine_event ev = { .kind = ENGINE_EV_TEXT };
    ev.u.text.len = r->out.n;
    ev.u.text.tokens = r->done.new_tokens;
    ev.u.text.utf8 = ev.owned = mem_copy(r->out.p, r->out.n);
    if (!ev.owned) ev.u.text.len = 0, r->job->lost = true;
    job_emit(r->job, &ev);
}
bool generation_show(struct generation *r, int id) {
    size_t n = 0;
    const char *bytes = tokenizer_bytes(r->l->tok, id, &n);
    if (!bytes || tokenizer_is_control(r->l->tok, id)) return false;
    const bool stop = text_feed(&r->text, bytes, n, &r->out);
    show(r);
    return stop;
}
enum engine_stop generation_ended(struct generation *r, enum engine_stop why, const char *text, size_t n) {
    snprintf(r->done.stop_text, sizeof r->done.stop_text, "%.*s", (int)n, text);
    return why;
}
/* One token: counted, shown, and a reason to stop or NONE. */
static enum engine_stop take(struct generation *r, int id) {
    const struct engine_req *q = &r->job->req;
    size_t n = 0;
    const char *bytes = tokenizer_bytes(r->l->tok, id, &n);
    r->last_us = now_us();
    if (!r->done.new_tokens++) r->first_us = r->last_us;
    if (generation_ends(r, id)) {
        bool asked = false;
        for (int i = 0; i < q->stop_ids; i++) asked |= q->stop_id[i] == id;
        return generation_ended(r, asked ? ENGINE_STOP_ID : ENGINE_STOP_EOS, bytes ? bytes : "", n);
    }
    if (generation_show(r, id)) {
        const char *which = r->stop[r->text.matched];
        return generation_ended(r, ENGINE_STOP_STRING, which, strlen(which));
    }
    if (r->done.new_tokens >= (q->max_new_tokens ? q->max_new_tokens : DEFAULT_NEW)) return ENGINE_STOP_LENGTH;
    return (int)r->seq->tokens.n + 1 >= r->seat->info.max_model_len ? ENGINE_STOP_CONTEXT : ENGINE_STOP_NONE;
}
int generation_banned(const struct generation *r, int made, int ban[BANNED_MAX]) {
    if (made >= r->job->req.min_new_tokens) return 0;
    for (int i = 0; i < r->l->eos_n; i++) ban[i] = r->l->eos[i];
    return r->l->eos_n;
}
struct sampling generation_sampling(const struct generation *r) {
    const struct engine_sampling *s = &r->job->req.sampling;
    const int ids = tokenizer_vocab(r->l->tok), rows = r->l->info.vocab;
    return (struct sampling){ .temperature = s->temperature,
                              .top_p = s->top_p,
                              .min_p = s->min_p,
                              .typical_p = s->typical_p,
                              .repetition_penalty = s->repetition_penalty,
                              .top_k = s->top_k,
                              .limit = ids < rows ? ids : 0, /* rows behind the last token were never trained */
                              .rng = s->seed };
}
static int last_token(const struct step *s) { return s->ring[(s->made - 1) % RING]; }
/* How many more steps could be of use, whatever they will say. */
static int left(const struct generation *r) {
    const int most = r->job->req.max_new_tokens ? r->job->req.max_new_tokens : DEFAULT_NEW;
    const int tokens = most - r->done.new_tokens, rows = r->seat->info.max_model_len - (int)r->seq->tokens.n;
    return tokens < rows ? tokens : rows;
}
static int decode(struct generation *r, struct err *e) {
    struct sampling *s = &r->job->step.sampling[0];
    struct program *p = &r->seat->program[PROGRAM_DECODE];
    *s = generation_sampling(r);
    s->banned = generation_banned(r, 0, s->ban);
    s->ban_for = s->banned ? r->job->req.min_new_tokens : 0;
    if (generation_prompt(r, e)) return e->code;
    for (;;) {
        const int id = last_token(&r->job->step);
        r->done.stop = take(r, id);
        if (r->done.stop) break;
        if (ids_add(&r->seq->tokens, id)) {
            err_set(e, STATUS_NOMEM, "out of memory for the conversation");
            break;
        }
        if (job_decode(r->job, p, left(r), e)) {
            r->seq->tokens.n--; /* its keys may be half written */
            break;
        }
    }
    program_recall(p, &r->job->step); /* what ran ahead of the end is forgotten */
    return e->code;
}
static void account(struct generation *r) {
    struct engine_done *d = &r->done;
    d->ttft_ms = d->new_tokens ? (r->first_us - r->job->submitted_us) * 1e-3 : 0;
    d->decode_ms = d->new_tokens ? (r->last_us - r->first_us) * 1e-3 : 0;
    d->tpot_ms = d->new_tokens > 1 ? d->decode_ms / (d->new_tokens - 1) : 0;
    d->total_ms = (now_us() - r->job->submitted_us) * 1e-3;
    d->waited_ms = r->job->waited_us * 1e-3;
    d->chars = r->text.chars;
    d->utf8_replacements = r->text.replaced;
    d->context_used = (int)r->seq->tokens.n;
    d->dummy = r->l->source.dummy;
    snprintf(d->model, sizeof d->model, "%s", r->l->info.name);
}
static void use_stop(struct generation *r, const char *stop) {
    if (!stop || r->stops == TEXT_STOPS) return;
    for (int i = 0; i < r->stops; i++)
        if (!strcmp(r->stop[i], stop)) return;
    r->stop[r->stops++] = stop;
}
/* The user's stop strings always hold; those of the model and of the template are part of what --ignore-eos ignores. */
static void stop_strings(struct generation *r) {
    const struct engine_req *q = &r->job->req;
    const struct catalog_entry *entry = r->l->source.entry;
    const bool raw = q->messages == 1 && !q->message[0].role;
    for (int i = 0; i < q->stops; i++) use_stop(r, q->stop[i]);
    if (q->ignore_eos) return;
    for (int i = 0; entry && entry->stop[i]; i++) use_stop(r, entry->stop[i]);
    if (!raw) use_stop(r, template_stop(q->template_name ? q->template_name : r->l->info.template_name));
}
static int run(struct generation *r, struct err *e) {
    const struct engine_req *q = &r->job->req;
    struct engine_sampling *s = &r->done.sampling;
    *s = q->sampling;
    if (s->top_p == 0) s->top_p = 1;
    if (s->typical_p == 0) s->typical_p = 1;
    if (s->repetition_penalty == 0) s->repetition_penalty = 1;
    r->done.beams = q->beams;
    r->done.greedy = s->temperature == 0;
    if (q->beams.num_beams > 1 ? beam_search(r, e) : decode(r, e)) {
        if (e->code != STATUS_CANCELLED) return e->code;
        r->done.stop = ENGINE_STOP_CANCELLED; /* what was written so far is a result too */
        *e = (struct err){ 0 };
    }
    if (r->done.stop != ENGINE_STOP_STRING) {
        text_flush(&r->text, &r->out);
        show(r);
    }
    if (r->text.held.failed || r->out.failed) return err_set(e, STATUS_NOMEM, "out of memory for the text");
    account(r);
    return STATUS_OK;
}
int generate(struct models *m, struct job *job, struct err *e) {
    struct generation r = { .job = job };
    if (models_sit(m, job, &r.seat, e)) return e->code;
    r.l = r.seat->l;
    r.seq = seat_sequence(r.seat, job->req.session);
    stop_strings(&r);
    text_init(&r.text, r.stop, r.stops);
    buf_init(&r.out, 1 << 20);
    const int rc = run(&r, e);
    text_fini(&r.text);
    buf_fini(&r.out);
    models_rise(m, job, r.seat);
    if (!rc) job_done(job, &r.done);
    return e->code;
}
