/* beams.c - beam search as transformers' generate(num_beams=k, do_sample=False) does it, so that scores and texts can be
 * compared. All beams are rows of one step. They share the KV rows of the prompt; behind it, token t of beam b lies at row
 * prompt + t * k + b, and a mask says which of those rows are a beam's own ancestors: no key is ever copied. */
#include "base/mem.h"
#include "generation.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct beam {
    int *id, n, parent; /* tokens chosen so far; which beam it went on from in the last step */
    float score;        /* running: sum of log-probabilities; finished: that / length ^ length_penalty */
};
struct option { /* one token behind one beam */
    int beam, id;
    float score;
    bool ends;
};
struct search {
    struct generation *g;
    int k, most, prompt; /* beams, tokens of an answer, rows of the prompt */
    int wanted, offered; /* options asked of each beam; looked at in all: transformers keeps max(2, 1 + eos) * k */
    struct beam running[BEAMS_MAX], next[BEAMS_MAX], done[BEAMS_MAX]; /* done: best first */
    int made, finished, live; /* tokens of each running beam; entries of done, of running */
    bool hopeless;            /* no running beam can still beat the worst of k finished ones */
    int *block;
    struct kv_mask mask[BEAMS_MAX];
    struct option option[BEAMS_MAX * CANDIDATES_MAX];
};

static int by_score(const void *a, const void *b) {
    const struct option *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->beam != y->beam ? x->beam - y->beam : x->id < y->id ? -1 : x->id > y->id;
}
/* Does this token complete a stop string? Only the end of the text matters: it held none before. */
static bool completes(const struct search *s, const struct beam *b, int id) {
    enum { TAIL = 24, BYTES = 2048 };
    char text[BYTES];
    size_t n = 0;
    for (int i = b->n > TAIL ? b->n - TAIL : 0; s->g->stops && i <= b->n; i++) {
        size_t len = 0;
        const char *p = tokenizer_bytes(s->g->l->tok, i < b->n ? b->id[i] : id, &len);
        if (!p || n + len > BYTES) continue;
        memcpy(text + n, p, len);
        n += len;
    }
    for (int i = 0; i < s->g->stops; i++)
        if (n && memmem(text, n, s->g->stop[i], strlen(s->g->stop[i]))) return true;
    return false;
}
/* All options of the step, best first; how many of them count. */
static int gather(struct search *s) {
    const struct step *step = &s->g->job->step;
    int n = 0;
    for (int b = 0; b < s->live; b++)
        for (int i = 0; i < s->wanted; i++) {
            const struct candidate *c = &step->candidate[b][i];
            if (c->id >= 0) s->option[n++] = (struct option){ b, c->id, s->running[b].score + c->logp, false };
        }
    qsort(s->option, (size_t)n, sizeof *s->option, by_score);
    if (n > s->offered) n = s->offered;
    for (int i = 0; i < n; i++) {
        struct option *o = &s->option[i];
        o->ends = s->made + 1 >= s->most || generation_ends(s->g, o->id) || completes(s, &s->running[o->beam], o->id);
    }
    return n;
}
static void grow(const struct search *s, struct beam *to, const struct option *o, float score) {
    const struct beam *from = &s->running[o->beam];
    memcpy(to->id, from->id, sizeof *to->id * (size_t)from->n);
    to->id[from->n] = o->id;
    to->n = from->n + 1;
    to->parent = o->beam;
    to->score = score;
}
/* A text that ended enters the k best. */
static void finish(struct search *s, const struct option *o, float length_penalty) {
    const float score = o->score / powf((float)(s->made + 1), length_penalty);
    if (s->finished == s->k && score <= s->done[s->k - 1].score) return;
    if (s->finished < s->k) s->finished++;
    struct beam spare = s->done[s->finished - 1];
    int at = s->finished - 1;
    for (; at > 0 && s->done[at - 1].score < score; at--) s->done[at] = s->done[at - 1];
    s->done[at] = spare;
    grow(s, &s->done[at], o, score);
}
/* One round: which beams go on, which texts are finished. true: it is over. */
static bool choose(struct search *s) {
    const struct engine_beams *how = &s->g->job->req.beams;
    const int n = gather(s);
    int live = 0, ends = 0;
    for (int i = 0; i < n; i++) ends += s->option[i].ends;
    for (int i = 0; i < n && live < s->k; i++)
        if (!s->option[i].ends) grow(s, &s->next[live++], &s->option[i], s->option[i].score);
    const bool full = s->finished == s->k && how->early_stopping;
    for (int i = 0; i < s->k && i < n; i++)
        if (s->option[i].ends && !full && !s->hopeless) finish(s, &s->option[i], how->length_penalty);
    struct beam former[BEAMS_MAX];
    memcpy(former, s->running, sizeof former);
    memcpy(s->running, s->next, sizeof s->next);
    memcpy(s->next, former, sizeof former);
    s->live = live;
    s->made++;
    if (!live || ends == n) return true;
    const float best = s->running[0].score / powf((float)s->made, how->length_penalty);
    s->hopeless |= s->finished == s->k && best <= s->done[s->k - 1].score;
    return s->hopeless || (s->finished == s->k && how->early_stopping);
}
static void ask(const struct search *s, struct sampling *to, int made) {
    *to = generation_sampling(s->g);
    to->candidates = s->wanted;
    to->banned = generation_banned(s->g, made, to->ban);
}
/* The last token of every running beam, as one step. */
static int advance(struct search *s, struct err *e) {
    struct job *job = s->g->job;
    struct step *step = &job->step;
    const int t = s->made - 1;
    struct kv_mask before[BEAMS_MAX];
    memcpy(before, s->mask, sizeof before);
    job_step(job);
    for (int b = 0; b < s->live; b++) {
        const int bit = t * s->k + b;
        if (t > 0) s->mask[b] = before[s->running[b].parent];
        s->mask[b].bits[bit / 32] |= 1u << bit % 32;
        step->mask[b] = s->mask[b];
        step->row[b] = (struct step_row){
            .id = s->running[b].id[t], .pos = s->prompt + t, .kv = s->g->seq->base, .at = s->prompt + bit, .mask = b + 1
        };
        step->pick[b] = b;
        ask(s, &step->sampling[b], s->made);
    }
    step->n[DIM_ROWS] = step->n[DIM_PICKS] = s->live;
    return job_replay(job, &s->g->seat->program[PROGRAM_BEAMS], NULL, e);
}
static int rounds(struct search *s, struct err *e) {
    struct generation *g = s->g;
    const double t0 = now_us();
    while (!choose(s)) {
        job_progress(g->job, "beam search", s->made, s->most, "tok", (now_us() - t0) * 1e-6);
        if (advance(s, e)) return e->code;
    }
    return STATUS_OK;
}
/* Rows and mask bits for k beams of this length; else the length that would fit is named. */
static int room(struct search *s, struct err *e) {
    const struct engine_model *info = &s->g->seat->info;
    const int left = info->max_model_len - s->prompt, bits = 32 * MASK_WORDS;
    const int by_rows = left / s->k + 1, by_bits = bits / s->k + 1, by_context = left;
    int fits = by_rows < by_bits ? by_rows : by_bits;
    if (by_context < fits) fits = by_context;
    if (s->most <= fits) return STATUS_OK;
    return err_set(e, STATUS_INVALID,
                   "%d beams of %d tokens behind a prompt of %d need more than the %d KV rows of %s: "
                   "--max-new-tokens %d fits, or fewer beams%s",
                   s->k, s->most, s->prompt, info->max_model_len, info->name, fits,
                   info->max_model_len < info->context ? ", or %load with a larger --max-model-len" : "");
}
static int open_search(struct search *s, struct err *e) {
    const struct engine_req *q = &s->g->job->req;
    s->k = q->beams.num_beams;
    s->most = s->g->most;
    const int eos = s->g->l->eos_n;
    s->offered = (eos > 1 ? 1 + eos : 2) * s->k;
    s->wanted = 2 * s->k + eos < CANDIDATES_MAX ? 2 * s->k + eos : CANDIDATES_MAX;
    if (s->wanted > s->g->l->info.vocab) s->wanted = s->g->l->info.vocab;
    const size_t each = (size_t)s->most + 1;
    s->block = mem_zero(3 * (size_t)s->k * each, sizeof *s->block);
    if (!s->block) return err_set(e, STATUS_NOMEM, "out of memory for %d beams", s->k);
    for (int b = 0; b < s->k; b++) {
        s->running[b].id = s->block + (size_t)(3 * b) * each;
        s->next[b].id = s->block + (size_t)(3 * b + 1) * each;
        s->done[b].id = s->block + (size_t)(3 * b + 2) * each;
    }
    return STATUS_OK;
}
/* Shows the text that won, or what there is of it. */
static void tell(struct search *s) {
    struct generation *g = s->g;
    const struct beam *won = s->finished ? &s->done[0] : &s->running[0];
    if (!won->n) return;
    const int last = won->id[won->n - 1];
    g->last_us = now_us();
    g->done.new_tokens = won->n;
    g->done.beam_score = (double)won->score;
    g->done.stop = ENGINE_STOP_LENGTH;
    for (int i = 0; i < won->n; i++) {
        if (generation_ends(g, won->id[i])) break;
        if (!generation_show(g, won->id[i])) continue;
        const char *which = g->stop[g->text.matched];
        g->done.stop = generation_ended(g, ENGINE_STOP_STRING, which, strlen(which));
        return;
    }
    if (!generation_ends(g, last)) return;
    size_t n = 0;
    const char *bytes = tokenizer_bytes(g->l->tok, last, &n);
    g->done.stop = generation_ended(g, ENGINE_STOP_EOS, bytes ? bytes : "", n);
}
int beam_search(struct generation *g, struct err *e) {
    struct search *s = mem_zero(1, sizeof *s);
    if (!s) return err_set(e, STATUS_NOMEM, "out of memory for beam search");
    s->g = g;
    if (!open_search(s, e)) {
        ask(s, &g->job->step.sampling[0], 0);
        s->live = 1;
        if (!generation_prompt(g, e)) {
            s->prompt = (int)g->seq->tokens.n;
            g->first_us = now_us();
            for (int b = 0; b < s->k; b++) s->mask[b].from = s->prompt;
            if (!room(s, e)) rounds(s, e);
        }
        if (!e->code || e->code == STATUS_CANCELLED) tell(s);
    }
    mem_free(s->block);
    mem_free(s);
    return e->code;
}
