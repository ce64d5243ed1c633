/* %generate %template: text from the loaded model. */
#include "generate.h"
#include "base/mem.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "magics.h"
#include "record.h"
#include <stdio.h>
#include <string.h>

enum { COUNTED = 64, DEFAULT_TOKENS = 128 }; /* COUNTED: so few tokens need no bar */

/* ---- what is asked ---- */
static int add_stops(struct run *r) {
    const struct args *a = &r->c->args;
    for (int i = 0; i < a->n; i++) {
        const bool text = !strcmp(a->v[i].option->name, "stop"), id = !strcmp(a->v[i].option->name, "stop-token-ids");
        if ((text && r->q.stops == STOPS) || (id && r->q.stop_ids == STOPS))
            return err_set(r->c->e, STATUS_INVALID, "--%s: at most %d of them", a->v[i].option->name, STOPS);
        if (text && !*a->v[i].text)
            return err_set(r->c->e, STATUS_INVALID, "--stop \"\": an empty text would stop at once");
        if (text) r->stop[r->q.stops++] = a->v[i].text;
        if (id) r->stop_id[r->q.stop_ids++] = (int)a->v[i].number;
    }
    r->q.stop = r->stop;
    r->q.stop_id = r->stop_id;
    return 0;
}
static bool typed(const struct args *a, const char *name) {
    const struct arg *v = args_last(a, name);
    return v && !v->from_set;
}
static bool any_given(const struct args *a, const char *const *name, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (args_given(a, name[i])) return true;
    return false;
}
/* Greedy unless a sampling option was given: HF would ignore a temperature without do_sample, which surprises people.
 * Beam search does not sample, here as there; the line under the text says so. */
static const char *const hints[] = { "temperature", "top-p", "top-k", "min-p", "typical-p" };
static struct engine_sampling sampling(const struct args *a) {
    bool sample = any_given(a, hints, sizeof hints / sizeof *hints);
    if (args_given(a, "do-sample")) sample = args_flag(a, "do-sample");
    if (args_int(a, "num-beams") > 1) sample = false;
    const float temperature = sample ? (float)args_number(a, "temperature") : 0;
    const bool on = temperature > 0;
    return (struct engine_sampling){ .temperature = temperature,
                                     .top_p = on ? (float)args_number(a, "top-p") : 1,
                                     .min_p = on ? (float)args_number(a, "min-p") : 0,
                                     .typical_p = on ? (float)args_number(a, "typical-p") : 1,
                                     .top_k = on ? args_int(a, "top-k") : 0,
                                     .repetition_penalty = (float)args_number(a, "repetition-penalty"),
                                     .seed = (uint64_t)args_number(a, "seed") };
}
static int beams(struct run *r) {
    const struct args *a = &r->c->args;
    const int n = args_int(a, "num-beams");
    static const char *const only[] = { "length-penalty", "early-stopping" };
    for (int i = 0; i < 2; i++)
        if (n < 2 && typed(a, only[i]))
            return err_set(r->c->e, STATUS_INVALID, "--%s belongs to beam search: add --num-beams 5", only[i]);
    if (n < 2) return 0;
    if (typed(a, "do-sample") && args_flag(a, "do-sample"))
        return err_set(r->c->e, STATUS_INVALID,
                       "--num-beams %d does not sample: leave --do-sample out, or use --num-beams 1", n);
    r->q.beams = (struct engine_beams){ n, (float)args_number(a, "length-penalty"), args_flag(a, "early-stopping") };
    r->stream = false;
    return 0;
}
/* Nothing was said of how to choose tokens: then as the model's authors do it, where that is known. */
static bool own_sampling(const struct args *a) {
    static const char *const others[] = { "do-sample", "num-beams", "repetition-penalty" };
    return !any_given(a, hints, sizeof hints / sizeof *hints) && !any_given(a, others, sizeof others / sizeof *others);
}
int run_ask(struct run *r, struct call *c) {
    const struct args *a = &c->args;
    *r = (struct run){ .c = c };
    r->stream = args_flag(a, "stream");
    r->q = (struct engine_req){ .kind = ENGINE_REQ_GENERATE,
                                .model = interp_model(c->in, args_text(a, "model")),
                                .template_name = args_text(a, "template"),
                                .sampling = sampling(a),
                                .own_sampling = own_sampling(a),
                                .max_new_tokens = args_int(a, "max-new-tokens"),
                                .min_new_tokens = args_int(a, "min-new-tokens"),
                                .ignore_eos = args_flag(a, "ignore-eos") };
    if (r->q.min_new_tokens > r->q.max_new_tokens)
        return err_set(c->e, STATUS_INVALID, "--min-new-tokens %d is more than --max-new-tokens %d",
                       r->q.min_new_tokens, r->q.max_new_tokens);
    if (r->q.own_sampling && !args_given(a, "max-new-tokens")) r->q.max_new_tokens = 0;
    progress_init(&r->progress, c->o);
    buf_init(&r->text, PROMPT_MAX);
    return beams(r) ? c->e->code : add_stops(r);
}
/* The text to go on from: the body, the words, --prompt or --file; exactly one of them. *owned: to be freed. NULL and no
 * error: none was given. */
static const char *prompt(struct call *c, char **owned, size_t *n) {
    const char *option = args_text(&c->args, "prompt"), *file = args_text(&c->args, "file");
    const int given = (c->body != NULL) + (c->args.words.n > 0) + (option != NULL) + (file != NULL);
    *owned = NULL;
    if (given > 1) {
        err_set(c->e, STATUS_INVALID, "%%%s: the prompt is given twice (text, --prompt, --file or the cell's body)",
                c->magic->name);
        return NULL;
    }
    if (c->body) {
        *n = c->body_len;
        return c->body;
    }
    if (option) {
        *n = strlen(option);
        return option;
    }
    if (!given) return NULL;
    *owned = file ? file_read(file, PROMPT_MAX, n, c->e) : args_join(&c->args, 0);
    if (!*owned) err_set(c->e, STATUS_NOMEM, "out of memory for the prompt");
    if (*owned && !file) *n = strlen(*owned);
    return *owned;
}

/* ---- what comes ---- */
/* Where the front end shows widgets, many tokens have a bar with a Stop button above their text: it has to stand there
 * before the text does. */
static void count(struct run *r, int tokens) {
    if (!r->text.n)
        r->counted = (!r->most || r->most >= COUNTED) && r->q.beams.num_beams < 2 && progress_live(&r->progress);
    if (r->counted) progress_update(&r->progress, "generating", tokens, r->most, "tok");
}
static int on_event(void *arg, const struct engine_event *ev, struct err *e) {
    struct run *r = arg;
    switch (ev->kind) {
    case ENGINE_EV_TEXT:
        count(r, ev->u.text.tokens);
        buf_add(&r->text, ev->u.text.utf8, ev->u.text.len);
        if (r->text.failed) return err_set(e, STATUS_NOMEM, "out of memory for the text");
        if (r->stream) out_stream(r->c->o, OUT_STDOUT, ev->u.text.utf8, ev->u.text.len);
        return 0;
    case ENGINE_EV_PROGRESS: /* a short prompt needs no bar */
        if (ev->u.progress.seconds <= 1) return 0;
        r->waited = true;
        progress_update(&r->progress, ev->u.progress.what, ev->u.progress.done, ev->u.progress.total,
                        ev->u.progress.unit);
        return 0;
    case ENGINE_EV_DONE: r->done = ev->u.done; return 0;
    default: return sight_event(&r->sight, ev, e);
    }
}
static void how_chosen(const struct engine_done *d, struct buf *out) {
    const struct engine_sampling *s = &d->sampling;
    if (d->beams.num_beams > 1) {
        char score[32];
        format_number(score, d->beam_score);
        buf_printf(out, "%d beams, score %s (no sampling)", d->beams.num_beams, score);
        if (d->beams.length_penalty != 1) buf_printf(out, " length_penalty=%g", (double)d->beams.length_penalty);
        if (d->beams.early_stopping) buf_puts(out, " early_stopping");
    } else if (d->greedy) {
        buf_puts(out, "sampling: greedy");
    } else {
        buf_printf(out, "sampling: T=%g", (double)s->temperature);
        if (s->top_k) buf_printf(out, " top_k=%d", s->top_k);
        if (s->top_p < 1) buf_printf(out, " top_p=%g", (double)s->top_p);
        if (s->min_p > 0) buf_printf(out, " min_p=%g", (double)s->min_p);
        if (s->typical_p > 0 && s->typical_p < 1) buf_printf(out, " typical_p=%g", (double)s->typical_p);
    }
    if (s->repetition_penalty != 1 && s->repetition_penalty != 0)
        buf_printf(out, " repetition_penalty=%g", (double)s->repetition_penalty);
    if (!d->greedy && d->beams.num_beams < 2) buf_printf(out, " seed=%llu", (unsigned long long)s->seed);
}
static void why_stopped(const struct engine_done *d, struct buf *out) {
    buf_printf(out, "stopped: %s", engine_stop_text(d->stop));
    if (!d->stop_text[0] || d->stop < ENGINE_STOP_EOS) return;
    char quoted[160];
    size_t n = 0;
    for (const char *s = d->stop_text; *s && n + 3 < sizeof quoted; s++) {
        if (*s == '\n') quoted[n++] = '\\';
        quoted[n++] = *s == '\n' ? 'n' : *s;
    }
    quoted[n] = 0;
    buf_printf(out, " \"%s\"", quoted);
}
static double decode_rate(const struct engine_done *d) { return d->tpot_ms > 0 ? 1000 / d->tpot_ms : 0; }

static void timings(const struct run *r, struct doc *doc) {
    const struct engine_done *d = &r->done;
    char ttft[32], tpot[32], rate[32], chars[32], prompts[32], made[32], cached[32];
    format_count(prompts, (uint64_t)d->prompt_tokens);
    format_count(made, (uint64_t)d->new_tokens);
    format_count(cached, (uint64_t)d->cached_tokens);
    format_seconds(ttft, d->ttft_ms * 1e-3);
    format_seconds(tpot, d->tpot_ms * 1e-3);
    format_number(rate, decode_rate(d));
    format_number(chars, d->new_tokens ? decode_rate(d) * (double)d->chars / d->new_tokens : 0);
    const bool many = d->tpot_ms > 0;
    struct buf line;
    buf_init(&line, 1024);
    buf_printf(&line, "%s prompt tokens%s%s%s, %s new", prompts, d->cached_tokens ? " (" : "",
               d->cached_tokens ? cached : "", d->cached_tokens ? " cached)" : "", made);
    if (d->beams.num_beams > 1) { /* nothing is shown before the end: there is no first token to wait for */
        format_seconds(ttft, d->total_ms * 1e-3);
        buf_printf(&line, " · all after %s · TPOT %s", ttft, many ? tpot : "–");
    } else {
        buf_printf(&line, " · TTFT %s · TPOT %s", ttft, many ? tpot : "–");
    }
    if (many) buf_printf(&line, " · %s tok/s · %s chars/s", rate, chars);
    doc_line(doc, "%s", buf_text(&line));
    sight_timings(&r->sight, d, doc);
    buf_reset(&line);
    buf_printf(&line, "%s · ", d->model);
    how_chosen(d, &line);
    if (d->template_name[0]) buf_printf(&line, " · template: %s", d->template_name);
    buf_puts(&line, " · ");
    why_stopped(d, &line);
    waited_text(d->waited_ms, d->total_ms, &line);
    if (d->utf8_replacements)
        buf_printf(&line, " · %llu broken character%s replaced", (unsigned long long)d->utf8_replacements,
                   d->utf8_replacements == 1 ? "" : "s");
    doc_line(doc, "%s", buf_text(&line));
    buf_fini(&line);
}
/* The same numbers for programs that read the notebook. */
static json_t *numbers(const struct engine_done *d) {
    json_t *o = json_pack("{s:s, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:I, s:b, s:b, s:i, s:f, s:s}", "model", d->model,
                          "prompt_tokens", d->prompt_tokens, "cached_tokens", d->cached_tokens, "new_tokens",
                          d->new_tokens, "ttft_ms", d->ttft_ms, "prefill_ms", d->prefill_ms, "decode_ms", d->decode_ms,
                          "tpot_ms", d->tpot_ms, "chars", (json_int_t)d->chars, "greedy", (int)d->greedy, "dummy",
                          (int)d->dummy, "num_beams", d->beams.num_beams > 1 ? d->beams.num_beams : 1, "beam_score",
                          d->beam_score, "stop", engine_stop_text(d->stop));
    if (d->images) json_object_update_new(o, sight_numbers(d));
    return json_pack("{s:o}", "jaeda", o);
}
/* What stands below the text of any run, however it ended. */
static void show_doc_of(struct run *r, struct doc *d) {
    if (*r->sight.unseen) doc_line(d, "! %s", r->sight.unseen);
    if (r->done.dummy) doc_line(d, "! %s", DUMMY_NOTICE);
    json_t *bundle = doc_bundle(d);
    if (bundle && d->plain.n) {
        out_display(r->c->o, bundle, numbers(&r->done), NULL, false);
    } else {
        json_decref(bundle);
    }
    doc_fini(d);
}
static void show_end(struct run *r) {
    struct doc d;
    doc_init(&d);
    if (!args_flag(&r->c->args, "quiet")) timings(r, &d);
    show_doc_of(r, &d);
}
static int interrupted(struct run *r) {
    char rate[32], of[32] = "", text[160];
    struct doc d;
    format_number(rate, decode_rate(&r->done));
    if (r->most) snprintf(of, sizeof of, " of %d", r->most);
    snprintf(text, sizeof text,
             r->done.tpot_ms > 0 ? "interrupted after %d%s tokens (decode %s tok/s so far)"
                                 : "interrupted after %d%s tokens%.0s",
             r->done.new_tokens, of, rate);
    doc_init(&d);
    doc_line(&d, "%s", text);
    show_doc_of(r, &d);
    return err_set(r->c->e, STATUS_CANCELLED, "%s", text);
}
static int run_and_show(struct run *r) {
    struct call *c = r->c;
    const int rc = job_run(c->in, c->o, &r->q, on_event, r, c->e);
    if (progress_shown(&r->progress)) {
        char text[64], took[32];
        const bool beam = r->q.beams.num_beams > 1;
        format_seconds(took, (beam ? r->done.total_ms : r->done.prefill_ms) * 1e-3);
        snprintf(text, sizeof text, rc ? "%s ended early%.0s" : "%s took %s", beam ? "beam search" : "prefill", took);
        progress_end(&r->progress, r->waited ? doc_plain(text, strlen(text)) : json_object()); /* {}: it vanishes */
    }
    if (!r->stream && r->text.n) out_stream(c->o, OUT_STDOUT, buf_text(&r->text), r->text.n);
    if (rc) return rc;
    const char *name = args_text(&c->args, "save");
    if (name && interp_set(c->in, name, buf_text(&r->text), r->text.n, c->e)) return c->e->code;
    if (r->done.stop == ENGINE_STOP_CANCELLED) return interrupted(r);
    const int shown = sight_end(&r->sight, c, &r->text);
    show_end(r);
    return shown;
}
/* How many tokens may come. Without --max-new-tokens the authors of a model that sees say it. */
static int most(const struct run *r, const struct models *loaded) {
    const struct engine_model *m = models_find(loaded, r->q.model);
    if (r->q.max_new_tokens) return r->q.max_new_tokens;
    return r->q.images || (m && m->image_tokens > 0) ? 0 : DEFAULT_TOKENS;
}
int run_go(struct run *r) {
    struct record record;
    if (record_begin(&record, r->c, &r->q)) return r->c->e->code;
    r->most = most(r, &record.facts);
    record_pictures(&record, &r->sight, r->q.messages - 1);
    const int rc = run_and_show(r);
    record_text(&record, &r->done, &r->text);
    record_end(&record, r->c, rc);
    return rc;
}
void run_fini(struct run *r) {
    sight_fini(&r->sight);
    buf_fini(&r->text);
}

/* ---- %generate ---- */
static void add_message(struct run *r, const char *role, const char *text, size_t n) {
    r->plain[r->q.messages++] = (struct engine_message){ role, text, n };
}
int check_input(struct call *c, const char *template) {
    if (!args_given(&c->args, "input") || !template || !strcmp(template, "koalpaca") || !strcmp(template, "kullm"))
        return 0;
    return err_set(c->e, STATUS_INVALID,
                   "--input has no place in the template %s: use --template koalpaca (맥락) or kullm (입력)", template);
}
/* Byte for byte, as transformers' generate() and vLLM take a prompt; a template is asked for, or %chat is. A picture has its
 * place in a template: with one it is the model's own. */
static int compose(struct run *r, const char *text, size_t n) {
    const struct args *a = &r->c->args;
    const char *system = args_text(a, "system"), *input = args_text(a, "input"), *template = r->q.template_name;
    const bool raw = template ? !strcmp(template, "raw") : !r->sight.n;
    if (raw && system && !args_last(a, "system")->from_set)
        return err_set(r->c->e, STATUS_INVALID, "--system needs a chat template: add --template chatml, or use %%chat");
    if (check_input(r->c, raw ? "raw" : template)) return r->c->e->code;
    if (!raw && system) add_message(r, "system", system, strlen(system));
    if (!raw && input) add_message(r, "input", input, strlen(input));
    add_message(r, raw ? NULL : "user", text, n);
    for (int i = 0; i < r->sight.n; i++) r->sight.image[i].message = r->q.messages - 1;
    r->q.message = r->plain;
    return 0;
}
int magic_generate(struct call *c) {
    int begun;
    if (in_background(c, &begun)) return begun;
    struct run r = { 0 };
    char *owned;
    size_t n = 0;
    const char *text = prompt(c, &owned, &n);
    if (!text)
        return err_set(c->e, STATUS_INVALID,
                       "%%generate needs a prompt: %%generate TEXT, --file FILE, or a %%%%generate cell");
    int rc = run_ask(&r, c);
    if (!rc) rc = sight_take(&r.sight, c, &r.q, NULL);
    if (!rc) rc = compose(&r, text, n);
    if (!rc) rc = sight_ask(&r.sight, c, &r.q, 0);
    if (!rc) rc = run_go(&r);
    run_fini(&r);
    mem_free(owned);
    return rc;
}

/* ---- %template ---- */
static const char none_set[] = "raw for prompts and %generate, the model's own for %chat";
static int show_template(struct call *c) {
    struct models m;
    const int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_STATUS }, &m, c->e);
    if (rc) return models_fini(&m), rc;
    const struct literal *set = variables_get(&c->in->defaults, "template");
    struct doc d;
    doc_init(&d);
    doc_line(&d, "template: %s", set ? set->text : none_set);
    for (int i = 0; i < m.n; i++) doc_line(&d, "%s: its own is %s", m.row[i].name, m.row[i].template_name);
    if (!m.n) doc_line(&d, "no model is loaded");
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}
int magic_template(struct call *c) {
    const char *name = args_word(&c->args, 0);
    if (!name) return show_template(c);
    const struct option *o = option_find(magic_find("generate")->options, "template");
    double number;
    struct err why = { 0 };
    char *checked = strcmp(name, "default") ? option_check(o, name, &number, &why) : NULL;
    if (why.code) return err_set(c->e, why.code, "%%template: %s (or default)", why.text);
    if (!checked) variables_drop(&c->in->defaults, "template");
    const int rc = checked ? variables_set_text(&c->in->defaults, "template", checked, strlen(checked), c->e) : 0;
    if (!rc) out_printf(c->o, "template: %s\n", checked ? checked : none_set);
    mem_free(checked);
    return rc;
}
