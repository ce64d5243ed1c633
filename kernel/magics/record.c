#include "record.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "kernel/language/state.h"
#include "kernel/present/secret.h"
#include "kernel/present/table.h"
#include "kernel/results.h"
#include "magics.h"
#include "sight.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { TEXT_MAX = 256 << 20 };

/* ---- values ---- */
static json_t *text_value(const char *s, size_t n) {
    struct buf b;
    buf_init(&b, TEXT_MAX);
    utf8_repair(&b, s, n);
    json_t *v = b.failed ? NULL : json_stringn(buf_text(&b), b.n);
    buf_fini(&b);
    return v ? v : json_null();
}
static void put(json_t *o, const char *name, json_t *v) { json_object_set_new(o, name, v ? v : json_null()); }
static void put_text(json_t *o, const char *name, const char *s) {
    put(o, name, s && *s ? text_value(s, strlen(s)) : NULL);
}
static void put_number(json_t *o, const char *name, double v) { put(o, name, isfinite(v) ? json_real(v) : NULL); }
static void put_count(json_t *o, const char *name, uint64_t v) { put(o, name, json_integer((json_int_t)v)); }
/* 0.7f is kept as 0.7: the shortest decimal that gives the same float again. */
static void put_float(json_t *o, const char *name, float v) {
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    put_number(o, name, strtod(text, NULL));
}

/* ---- what is asked ---- */
static json_t *sampling(const struct engine_sampling *s, json_t *o) {
    put_float(o, "temperature", s->temperature);
    put_float(o, "top_p", s->top_p);
    put_float(o, "min_p", s->min_p);
    put_float(o, "typical_p", s->typical_p);
    put_float(o, "repetition_penalty", s->repetition_penalty);
    put_count(o, "top_k", (uint64_t)s->top_k);
    put_count(o, "seed", s->seed);
    return o;
}
static json_t *options(const struct engine_req *q) {
    json_t *o = json_object(), *stop = json_array(), *ids = json_array();
    put_count(o, "max_new_tokens", (uint64_t)q->max_new_tokens);
    if (q->kind == ENGINE_REQ_PROFILE) {
        put_count(o, "prompt_tokens", (uint64_t)q->prompt_tokens);
        put_count(o, "runs", (uint64_t)q->runs);
        put_count(o, "batch_size", (uint64_t)q->batch_size);
        if (q->vision_only) put_text(o, "stage", "vision");
    } else {
        put_count(o, "min_new_tokens", (uint64_t)q->min_new_tokens);
        put(o, "ignore_eos", json_boolean(q->ignore_eos));
        if (q->own_sampling) put(o, "own_sampling", json_true());
        sampling(&q->sampling, o);
        put_count(o, "num_beams", q->beams.num_beams > 1 ? (uint64_t)q->beams.num_beams : 1);
        put_float(o, "length_penalty", q->beams.length_penalty);
        put(o, "early_stopping", json_boolean(q->beams.early_stopping));
        put_text(o, "session", q->session);
    }
    for (int i = 0; i < q->stops; i++) json_array_append_new(stop, text_value(q->stop[i], strlen(q->stop[i])));
    for (int i = 0; i < q->stop_ids; i++) json_array_append_new(ids, json_integer(q->stop_id[i]));
    put(o, "stop", stop);
    put(o, "stop_token_ids", ids);
    return o;
}
static json_t *messages(const struct engine_req *q) {
    json_t *list = json_array();
    for (int i = 0; i < q->messages; i++) {
        json_t *m = json_object();
        put_text(m, "role", q->message[i].role);
        put(m, "text", text_value(q->message[i].text, q->message[i].len));
        json_array_append_new(list, m);
    }
    return list;
}
static json_t *code(const struct call *c) {
    struct buf b;
    buf_init(&b, TEXT_MAX);
    buf_printf(&b, "%s%s%s%s", c->body ? "%%" : "%", c->typed, *c->rest ? " " : "", c->rest);
    if (c->body) buf_puts(&b, "\n"), buf_add(&b, c->body, c->body_len);
    json_t *v = text_value(buf_text(&b), b.n);
    buf_fini(&b);
    return v;
}
static json_t *now(void) {
    struct timespec t;
    struct tm tm;
    char day[32] = "", text[48];
    clock_gettime(CLOCK_REALTIME, &t);
    if (gmtime_r(&t.tv_sec, &tm)) strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof text, "%s.%03ldZ", day, t.tv_nsec / 1000000);
    return json_string(text);
}
static void know_secrets(const struct interp *in) {
    secret_environment();
    for (int i = 0; i < in->vars.n; i++) secret_named(in->vars.v[i].name, in->vars.v[i].value.text);
}
/* How a MiniGPT-4 was put together here, for the line that loads it again. */
static void put_parts(json_t *o, const struct last_load *l, const struct engine_req *q) {
    if (q->model && strcasecmp(q->model, l->model) != 0) return;
    if (*l->vit) put_text(o, "vit", l->vit);
    if (*l->qformer) put_text(o, "qformer", l->qformer);
    if (*l->projector) put_text(o, "projector", l->projector);
    if (*l->llm) put_text(o, "llm", l->llm);
    if (*l->vision_dtype && strcmp(l->vision_dtype, "auto") != 0) put_text(o, "vision_dtype", l->vision_dtype);
    if (l->max_images) put_count(o, "max_images", (uint64_t)l->max_images);
}
int record_begin(struct record *r, struct call *c, const struct engine_req *q) {
    *r = (struct record){ 0 };
    if (args_flag(&c->args, "no-record")) return 0;
    struct err why = { 0 };
    const int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_STATUS }, &r->facts, &why);
    if (rc == STATUS_GONE || rc == STATUS_CANCELLED) {
        models_fini(&r->facts);
        return err_set(c->e, rc, "%s", why.text);
    }
    know_secrets(c->in);
    r->run = json_object();
    put(r->run, "at", now());
    put_text(r->run, "kind", c->magic->name);
    put_text(r->run, "notebook", getenv("JPY_SESSION_NAME"));
    put_count(r->run, "cell", (uint64_t)out_execution_count(c->o));
    put(r->run, "code", code(c));
    put_text(r->run, "model", q->model);
    put_text(r->run, "template", q->template_name);
    put(r->run, "messages", messages(q));
    put(r->run, "options", options(q));
    put_parts(json_object_get(r->run, "options"), &c->in->last, q);
    return 0;
}

void record_pictures(struct record *r, const struct sight *s, int message) {
    json_t *list = json_array();
    for (int i = 0; i < s->n; i++)
        if (s->image[i].message == message)
            json_array_append_new(list, text_value(s->photo[i]->source, strlen(s->photo[i]->source)));
    if (r->run && json_array_size(list)) json_object_set(json_object_get(r->run, "options"), "image", list);
    json_decref(list);
}
/* ---- what came ---- */
void record_text(struct record *r, const struct engine_done *d, const struct buf *text) {
    if (!r->run) return;
    json_t *o = json_object();
    put_text(o, "stop", engine_stop_text(d->stop));
    put_text(o, "stop_text", d->stop_text);
    put_count(o, "prompt_tokens", (uint64_t)d->prompt_tokens);
    put_count(o, "cached_tokens", (uint64_t)d->cached_tokens);
    put_count(o, "new_tokens", (uint64_t)d->new_tokens);
    put_count(o, "context_used", (uint64_t)d->context_used);
    put_count(o, "chars", d->chars);
    put_count(o, "utf8_replacements", d->utf8_replacements);
    put_number(o, "ttft_ms", d->ttft_ms);
    put_number(o, "prefill_ms", d->prefill_ms);
    put_number(o, "decode_ms", d->decode_ms);
    put_number(o, "tpot_ms", d->tpot_ms);
    put_number(o, "total_ms", d->total_ms);
    put_number(o, "waited_ms", d->waited_ms);
    put(o, "greedy", json_boolean(d->greedy));
    put(o, "dummy", json_boolean(d->dummy));
    put(o, "sampling", sampling(&d->sampling, json_object()));
    put_number(o, "beam_score", d->beam_score);
    put_text(o, "model", d->model);
    put_text(o, "template", d->template_name);
    if (d->images) json_object_update_new(o, sight_numbers(d));
    put(r->run, "numbers", o);
    put(r->run, "text", text_value(buf_text(text), text->n));
    put_count(r->run, "prompt_tokens", (uint64_t)d->prompt_tokens);
    put_count(r->run, "new_tokens", (uint64_t)d->new_tokens);
    put_number(r->run, "ttft_ms", d->ttft_ms);
    put_number(r->run, "tpot_ms", d->tpot_ms);
    put_number(r->run, "tok_s", d->tpot_ms > 0 ? 1000 / d->tpot_ms : NAN);
    put_number(r->run, "waited_ms", d->waited_ms);
    put(r->run, "dummy", json_boolean(d->dummy));
    if (d->model[0]) put_text(r->run, "model", d->model);
    if (d->template_name[0]) put_text(r->run, "template", d->template_name);
    r->any = text->n || d->model[0];
}
static const char *const phase_name[ENGINE_PHASES] = { "prefill", "decode", "image" };
/* A number of each phase that was measured. */
static json_t *phases(const struct engine_profile *p, const double v[ENGINE_PHASES]) {
    json_t *o = json_object();
    for (int i = 0; i < ENGINE_PHASES; i++)
        if (i == ENGINE_VISION ? p->vision : !p->vision_only) put_number(o, phase_name[i], v[i]);
    return o;
}
static json_t *profile_rows(const struct engine_profile *p) {
    json_t *list = json_array();
    for (int i = 0; i < p->rows; i++) {
        const struct engine_profile_row *row = &p->row[i];
        json_t *o = json_object();
        put_text(o, "phase", phase_name[row->phase]);
        put(o, "layer", json_integer(row->layer));
        put_text(o, "op", row->op);
        put_text(o, "label", row->label);
        put_number(o, "calls", row->calls);
        put_number(o, "ms", row->ms);
        put_number(o, "bytes", row->bytes);
        put_number(o, "flops", row->flops);
        json_array_append_new(list, o);
    }
    return list;
}
/* The prefill stands for the time to the first token. */
static json_t *card(const struct engine_gpu *g) {
    json_t *o = json_object();
    put_text(o, "name", g->name);
    put_text(o, "pci", g->pci);
    put_text(o, "driver", g->driver);
    put_text(o, "cuda", g->cuda);
    put_number(o, "memory_bytes", g->memory_bytes);
    put_number(o, "used_bytes", g->used_bytes);
    put_number(o, "sm_mhz", g->sm_mhz);
    put_number(o, "memory_mhz", g->memory_mhz);
    put_number(o, "power_w", g->power_w);
    put_number(o, "power_limit_w", g->power_limit_w);
    put_number(o, "celsius", g->celsius);
    put_text(o, "throttle", g->throttle);
    put_text(o, "ecc", g->ecc);
    put_number(o, "ecc_errors", g->ecc_errors);
    put_number(o, "processes", g->processes < 0 ? NAN : g->processes);
    return o;
}
void record_profile(struct record *r, const struct engine_profile *p) {
    if (!r->run) return;
    const double tpot_ms = p->wall_ms[ENGINE_DECODE];
    json_t *o = json_object();
    put_count(o, "runs", (uint64_t)p->runs);
    put_count(o, "warmups", (uint64_t)p->warmups);
    put_count(o, "threads", (uint64_t)p->threads);
    put_count(o, "batch_size", (uint64_t)p->batch_size);
    put_count(o, "prompt_tokens", (uint64_t)p->prompt_tokens);
    put_count(o, "decode_steps", (uint64_t)p->decode_steps);
    put_count(o, "context", (uint64_t)p->context);
    put(o, "wall_ms", phases(p, p->wall_ms));
    put(o, "wall_sd_ms", phases(p, p->wall_sd_ms));
    put(o, "profiled_ms", phases(p, p->profiled_ms));
    put(o, "spans_ms", phases(p, p->spans_ms));
    put_number(o, "waited_ms", p->waited_ms);
    put_number(o, "stream_gbs", p->stream_gbs);
    put_number(o, "peak_gflops", p->peak_gflops);
    put_text(o, "peak_kind", p->peak_kind);
    if (p->vision) {
        put_number(o, "vision_peak_gflops", p->vision_peak_gflops);
        put_text(o, "vision_peak_kind", p->vision_peak_kind);
        put_text(o, "vision_dtype", p->vision_dtype);
        put_count(o, "image_tokens", (uint64_t)p->image_tokens);
        put_number(o, "image_resize_ms", p->image_resize_ms);
    }
    put(o, "dummy", json_boolean(p->dummy));
    put_text(o, "dtype", p->dtype);
    put_text(o, "isa", p->isa);
    put_text(o, "model", p->model);
    put(o, "rows", profile_rows(p));
    if (p->gpu) put(o, "energy_j", phases(p, p->energy_j));
    if (*p->before.pci) put(o, "gpu_before", card(&p->before));
    if (*p->after.pci) put(o, "gpu_after", card(&p->after));
    put(r->run, "numbers", o);
    put_text(r->run, "model", p->model);
    if (!p->vision_only) {
        put_count(r->run, "prompt_tokens", (uint64_t)p->prompt_tokens);
        put_count(r->run, "new_tokens", (uint64_t)p->decode_steps);
        put_number(r->run, "ttft_ms", p->wall_ms[ENGINE_PREFILL]);
        put_number(r->run, "tpot_ms", tpot_ms);
        put_number(r->run, "tok_s", tpot_ms > 0 ? p->batch_size * 1000 / tpot_ms : NAN);
    }
    put_number(r->run, "waited_ms", p->waited_ms);
    put(r->run, "dummy", json_boolean(p->dummy));
    r->any = true;
}

/* ---- on what ---- */
static void put_system(json_t *run, const struct engine_system *s) {
    json_t *o = json_object();
    put_text(o, "jaeda", JAEDA_VERSION);
    put_text(o, "engine", s->version);
    put_text(o, "build", s->build);
    put_text(o, "transport", s->transport);
    put_text(o, "cpu", s->cpu);
    put_text(o, "isa", s->isa);
    put_text(o, "gpu", s->gpu);
    put_text(o, "backend", s->backend);
    put_count(o, "threads", (uint64_t)s->threads);
    put_count(o, "processors", (uint64_t)s->processors);
    put_count(o, "memory_total", s->memory_total);
    put_count(o, "memory_available", s->memory_available);
    put_count(o, "resident", s->resident);
    put_number(o, "stream_gbs", s->stream_gbs);
    put_number(o, "fp32_gflops", s->fp32_gflops);
    put_number(o, "int8_gops", s->int8_gops);
    put_number(o, "bf16_gflops", s->bf16_gflops);
    put_count(o, "connections", (uint64_t)s->connections);
    put(run, "system", o);
}
/* ".../snapshots/REVISION/...": how the hub's cache names what it holds. */
static void put_revision(json_t *run, const char *file) {
    char text[128];
    const char *at = strstr(file, "/snapshots/");
    if (!at) return;
    at += strlen("/snapshots/");
    snprintf(text, sizeof text, "%.*s", (int)(strcspn(at, "/") < 127 ? strcspn(at, "/") : 127), at);
    put_text(run, "revision", text);
}
static void put_model(json_t *run, const struct models *m) {
    const char *name = json_string_value(json_object_get(run, "model"));
    const struct engine_model *row = models_find(m, name);
    if (!row) return;
    put_text(run, "model", row->name);
    put_text(run, "file", row->file);
    put_text(run, "repo", row->repo);
    put_revision(run, row->file);
    put_text(run, "format", row->format);
    put_text(run, "dtype", row->dtype);
    put_text(run, "kv_dtype", row->kv_dtype);
    put_count(run, "max_model_len", (uint64_t)row->max_model_len);
}
void note_lines(struct doc *d, const struct buf *note) {
    for (size_t at = 0, n; at < note->n; at += n + 1) {
        n = strcspn(note->p + at, "\n");
        doc_line(d, "! %.*s", (int)n, note->p + at);
    }
}
static void warn(struct call *c, const struct buf *note, const struct err *why) {
    struct doc d;
    struct err none = { 0 };
    doc_init(&d);
    note_lines(&d, note);
    if (why->code) doc_line(&d, "! not recorded: %s", why->text);
    show_doc(c->o, &d, &none);
}
void record_end(struct record *r, struct call *c, int rc) {
    if (r->run && (r->any || !rc)) {
        struct buf note;
        struct err why = { 0 };
        long long number;
        buf_init(&note, 65536);
        put_text(r->run, "state", !rc ? "finished" : rc == STATUS_CANCELLED ? "interrupted" : "failed");
        if (rc) put_text(r->run, "error", c->e->text);
        put_model(r->run, &r->facts);
        if (r->facts.has_system) put_system(r->run, &r->facts.system);
        interp_pause(); /* a disk may be slow */
        results_add(r->run, &number, &note, &why);
        interp_resume();
        if (note.n || why.code) warn(c, &note, &why);
        buf_fini(&note);
    }
    json_decref(r->run);
    models_fini(&r->facts);
    r->run = NULL;
}
