#include "generate.h"
#include "base/mem.h"
#include "generation.h"
#include <stdio.h>
#include <string.h>

enum { DEFAULT_NEW = 128 };

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
    if (r->done.new_tokens >= r->most) return ENGINE_STOP_LENGTH;
    return (int)r->seq->tokens.n + 1 >= r->seat->info.max_model_len ? ENGINE_STOP_CONTEXT : ENGINE_STOP_NONE;
}
int generation_banned(const struct generation *r, int made, int ban[BANNED_MAX]) {
    if (made >= r->job->req.min_new_tokens) return 0;
    for (int i = 0; i < r->l->eos_n; i++) ban[i] = r->l->eos[i];
    return r->l->eos_n;
}
struct sampling generation_sampling(const struct generation *r) {
    const struct engine_sampling *s = &r->done.sampling;
    const int ids = tokenizer_vocab(r->l->tok), rows = r->l->info.vocab;
    return (struct sampling){ .temperature = s->temperature,
                              .top_p = s->top_p,
                              .min_p = s->min_p,
                              .typical_p = s->typical_p,
                              .repetition_penalty = s->repetition_penalty,
                              .top_k = s->top_k,
                              .penal_from = r->penal_from,
                              .limit = ids < rows ? ids : 0, /* rows behind the last token were never trained */
                              .rng = s->seed };
}
static int last_token(const struct step *s) { return s->ring[(s->made - 1) % RING]; }
/* How many more steps could be of use, whatever they will say. */
static int left(const struct generation *r) {
    const int tokens = r->most - r->done.new_tokens, rows = r->seat->info.max_model_len - (int)r->seq->tokens.n;
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
/* What the request says, or the model's authors where it leaves that to them. */
static void choose_sampling(struct generation *r) {
    const struct engine_req *q = &r->job->req;
    const struct catalog_sampling *own = q->own_sampling ? r->l->source.sampling : NULL;
    struct engine_sampling *s = &r->done.sampling;
    *s = q->sampling;
    r->most = q->max_new_tokens ? q->max_new_tokens : own && own->max_new_tokens ? own->max_new_tokens : DEFAULT_NEW;
    if (own && q->beams.num_beams < 2)
        *s = (struct engine_sampling){ .temperature = own->temperature,
                                       .top_p = own->top_p,
                                       .top_k = own->top_k,
                                       .repetition_penalty = own->repetition_penalty,
                                       .seed = q->sampling.seed };
    if (s->top_p == 0) s->top_p = 1;
    if (s->typical_p == 0) s->typical_p = 1;
    if (s->repetition_penalty == 0) s->repetition_penalty = 1;
}
static int run(struct generation *r, struct err *e) {
    const struct engine_req *q = &r->job->req;
    choose_sampling(r);
    r->done.beams = q->beams;
    r->done.greedy = r->done.sampling.temperature == 0;
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
    return r->done.stop == ENGINE_STOP_CANCELLED ? STATUS_OK : generation_views(r, e);
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
