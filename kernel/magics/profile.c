/* %profile: where the time of prefill and decode goes, and what limits it. */
#include "base/mem.h"
#include "gpu.h"
#include "job.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/progress.h"
#include "kernel/present/table.h"
#include "magics.h"
#include "profile_limit.h"
#include "record.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const phase_name[ENGINE_PHASES] = { "prefill", "decode", "the image path" };

struct profiling {
    struct progress progress;
    struct engine_profile p; /* rows are a copy */
    struct engine_profile_row *row;
};
static int on_event(void *arg, const struct engine_event *ev, struct err *e) {
    struct profiling *r = arg;
    if (ev->kind == ENGINE_EV_PROGRESS)
        progress_update(&r->progress, ev->u.progress.what, ev->u.progress.done, ev->u.progress.total,
                        ev->u.progress.unit);
    if (ev->kind != ENGINE_EV_PROFILE) return 0;
    const int n = ev->u.profile.rows;
    mem_free(r->row);
    r->row = mem_zero(n > 0 ? (size_t)n : 1, sizeof *r->row);
    if (!r->row) return err_set(e, STATUS_NOMEM, "out of memory for the profile's rows");
    if (n > 0) memcpy(r->row, ev->u.profile.row, (size_t)n * sizeof *r->row);
    r->p = ev->u.profile;
    r->p.row = r->row;
    return 0;
}

/* ---- groups: what a row of the table stands for ---- */
struct group {
    char label[72];
    double calls, ms, bytes, flops;
};
static void label_of(const struct engine_profile_row *r, bool by_layer, char out[72]) {
    if (!by_layer) {
        snprintf(out, 72, "%s", r->label);
    } else if (r->layer < 0) {
        snprintf(out, 72, "outside the layers");
    } else {
        snprintf(out, 72, "layer %d", r->layer);
    }
}
static int slower(const void *a, const void *b) {
    const double x = ((const struct group *)a)->ms, y = ((const struct group *)b)->ms;
    return x < y ? 1 : x > y ? -1 : 0;
}
/* Sums the rows of a phase into groups, the slowest first; at most p->rows of them. */
static int group_rows(const struct engine_profile *p, enum engine_phase phase, bool by_layer, struct group *g) {
    int n = 0;
    for (int i = 0; i < p->rows; i++) {
        const struct engine_profile_row *r = &p->row[i];
        char label[72];
        int at = 0;
        if (r->phase != phase) continue;
        label_of(r, by_layer, label);
        while (at < n && strcmp(g[at].label, label)) at++;
        if (at == n) {
            g[n] = (struct group){ .calls = 0 };
            snprintf(g[n++].label, sizeof label, "%s", label);
        }
        g[at].calls += r->calls;
        g[at].ms += r->ms;
        g[at].bytes += r->bytes;
        g[at].flops += r->flops;
    }
    qsort(g, (size_t)n, sizeof *g, slower);
    return n;
}
static void add_group(struct group *to, const struct group *g) {
    to->calls += g->calls;
    to->ms += g->ms;
    to->bytes += g->bytes;
    to->flops += g->flops;
}
static double peak_gflops(const struct engine_profile *p, enum engine_phase phase) {
    return phase == ENGINE_VISION ? p->vision_peak_gflops : p->peak_gflops;
}
/* Groups of one phase and how they are to be shown. */
struct section {
    const struct engine_profile *p;
    enum engine_phase phase;
    struct group *g;
    int n, top;
    bool by_layer;
};
static void group_cells(struct table *t, const struct group *g, const struct section *s, double all_ms) {
    const struct engine_profile *p = s->p;
    const double peak = peak_gflops(p, s->phase);
    const double per_s = g->ms > 0 ? 1e-6 / g->ms : 0, gbs = g->bytes * per_s, gflops = g->flops * per_s;
    table_cell(t, "%s", g->label);
    if (fabs(g->calls - round(g->calls)) < 1e-3) {
        table_cell(t, "%.0f", g->calls);
    } else {
        table_tenths(t, g->calls);
    }
    table_number(t, g->ms);
    table_tenths(t, all_ms > 0 ? g->ms / all_ms * 100 : 0);
    table_tenths(t, gbs);
    table_tenths(t, p->stream_gbs > 0 ? gbs / p->stream_gbs * 100 : NAN);
    table_tenths(t, gflops);
    table_tenths(t, peak > 0 ? gflops / peak * 100 : NAN);
}
static void phase_table(struct doc *d, const char *caption, const struct section *s) {
    struct table t;
    table_init(&t, caption);
    table_column(&t, s->by_layer ? "layer" : "op", TABLE_LEFT);
    static const char *const title[] = { "calls", "ms", "% of step", "GB/s", "% of peak", "GFLOP/s", "% of peak" };
    for (int i = 0; i < 7; i++) table_column(&t, title[i], TABLE_RIGHT);
    t.max_rows = s->top + 3;
    struct group rest = { .calls = 0 }, all = { .label = "all" };
    /* Of a GPU the calls were timed one by one, the step as it really runs: what is between them is the launches'. */
    struct group gaps = { .label = "launch gaps", .calls = NAN, .bytes = NAN, .flops = NAN };
    if (s->p->gpu) gaps.ms = fmax(s->p->wall_ms[s->phase] - s->p->spans_ms[s->phase], 0);
    const double step_ms = s->p->spans_ms[s->phase] + gaps.ms;
    const bool summed = s->n > s->top + 1; /* a single row is not worth a sum */
    for (int i = 0; i < s->n; i++) {
        if (i < s->top || !summed) {
            group_cells(&t, &s->g[i], s, step_ms);
        } else {
            add_group(&rest, &s->g[i]);
        }
        add_group(&all, &s->g[i]);
    }
    snprintf(rest.label, sizeof rest.label, "%d others", s->n - s->top);
    if (summed) group_cells(&t, &rest, s, step_ms);
    if (s->p->gpu) group_cells(&t, &gaps, s, step_ms);
    all.ms += gaps.ms;
    group_cells(&t, &all, s, step_ms);
    doc_table(d, &t);
    table_fini(&t);
}
/* "22.4 ± 0.2 ms": no more digits than the spread supports is the reader's business; both have three. */
static void spread(char out[80], double ms, double sd, int runs) {
    char mean[32], deviation[32];
    format_number(mean, ms);
    format_number(deviation, sd);
    snprintf(out, 80, runs > 1 ? "%s ± %s ms" : "%s%.0s ms", mean, deviation);
}
static void phase_caption(const struct engine_profile *p, enum engine_phase phase, const char *wall, char out[200]) {
    char rate[32];
    if (phase == ENGINE_VISION) {
        format_number(rate, p->wall_ms[phase] > 0 ? 1000 / p->wall_ms[phase] : 0);
        snprintf(out, 200, "image: a picture in %s, %s images/s, %d tokens", wall, rate, p->image_tokens);
        return;
    }
    const double tokens = p->batch_size * (phase == ENGINE_PREFILL ? p->prompt_tokens : 1);
    char batch[16] = "";
    if (p->batch_size > 1) snprintf(batch, sizeof batch, "%d × ", p->batch_size);
    format_number(rate, p->wall_ms[phase] > 0 ? tokens / p->wall_ms[phase] * 1000 : 0);
    if (phase == ENGINE_PREFILL) {
        snprintf(out, 200, "prefill: %s%d tokens in %s, %s tok/s", batch, p->prompt_tokens, wall, rate);
    } else {
        snprintf(out, 200, "decode: %sa token in %s, %s tok/s, at %d tokens of context", batch, wall, rate, p->context);
    }
}
static void phase_lines(struct doc *d, const struct section *s, const char *wall) {
    const struct engine_profile *p = s->p;
    const double wall_ms = p->wall_ms[s->phase], spans_ms = p->spans_ms[s->phase],
                 watched_ms = p->profiled_ms[s->phase];
    char spans[32], share[32], watched[32], resize[32], sentence[320];
    if (s->phase == ENGINE_VISION) {
        format_number(resize, p->image_resize_ms);
        doc_line(d, "before it comes the resize, of a picture of 1,920 x 1,080 in %s ms", resize);
    }
    format_number(spans, spans_ms);
    format_number(watched, watched_ms);
    format_percent(share, wall_ms > 0 ? spans_ms / wall_ms : 0);
    doc_line(d, "sum of spans %s ms = %s of the wall time unprofiled (%s); %s ms profiled", spans, share, wall,
             watched);
    if (watched_ms > 1.15 * wall_ms)
        doc_line(d,
                 "! the profiled runs were %.2f times slower than the unprofiled ones (a busy machine, or the cost of "
                 "looking): "
                 "trust the shares, not the milliseconds",
                 watched_ms / wall_ms);
    struct limit_facts f = { .phase = phase_name[s->phase],
                             .wall_ms = wall_ms,
                             .spans_ms = spans_ms,
                             .stream_gbs = p->stream_gbs,
                             .peak_gflops = peak_gflops(p, s->phase) };
    for (int i = 0; i < s->n; i++) f.bytes += s->g[i].bytes, f.flops += s->g[i].flops, f.calls += s->g[i].calls;
    if (s->n && !s->by_layer) f.slowest = s->g[0].label, f.slowest_ms = s->g[0].ms;
    limit_sentence(&f, sentence);
    doc_line(d, "%s", sentence);
}
static int phase_section(struct doc *d, struct call *c, const struct engine_profile *p, enum engine_phase phase) {
    struct section s = { .p = p,
                         .phase = phase,
                         .top = args_int(&c->args, "top"),
                         .by_layer = !strcmp(args_text(&c->args, "by"), "layer"),
                         .g = mem_zero(p->rows > 0 ? (size_t)p->rows : 1, sizeof *s.g) };
    if (!s.g) return err_set(c->e, STATUS_NOMEM, "out of memory for a table");
    s.n = group_rows(p, phase, s.by_layer, s.g);
    char wall[80], caption[200];
    spread(wall, p->wall_ms[phase], p->wall_sd_ms[phase], p->runs);
    phase_caption(p, phase, wall, caption);
    phase_table(d, caption, &s);
    phase_lines(d, &s, wall);
    mem_free(s.g);
    return 0;
}
/* In milliseconds: what the runs took together, and what they would have taken alone. */
static void waited_line(struct doc *d, const struct engine_profile *p) {
    struct buf line;
    buf_init(&line, 256);
    const double step_ms = p->wall_ms[ENGINE_PREFILL] + p->wall_ms[ENGINE_DECODE] * p->decode_steps +
                           (p->vision ? p->wall_ms[ENGINE_VISION] : 0);
    waited_text(p->waited_ms, step_ms * (p->runs + p->warmups) + p->waited_ms, &line);
    if (line.n)
        doc_line(d, "! %s while this was measured: the rates are too low, measure again alone",
                 buf_text(&line) + strlen(" · "));
    buf_fini(&line);
}
static bool measured(const struct engine_profile *p, enum engine_phase phase) {
    return phase == ENGINE_VISION ? p->vision : !p->vision_only;
}
/* NVIDIA's data sheets: GB/s, and TFLOP/s of dense fp16 and bf16 products. */
static const struct {
    const char *name;
    double gbs, tflops;
} sheets[] = {
    { "A10G", 600, 70 },
    { "A100-SXM4-80GB", 2039, 312 },
    { "A100 80GB PCIe", 1935, 312 },
    { "A100-SXM4-40GB", 1555, 312 },
    { "H100 80GB HBM3", 3350, 989 },
    { "H200", 4800, 989 },
};
/* Model bandwidth and model FLOP utilisation: what a step needs, by its wall time, of what the sheet promises. */
static void sheet_line(struct doc *d, const struct engine_profile *p) {
    double bytes[ENGINE_PHASES] = { 0 }, flops[ENGINE_PHASES] = { 0 };
    struct buf line;
    size_t i = 0;
    while (i < sizeof sheets / sizeof *sheets && !strstr(p->isa, sheets[i].name)) i++;
    if (!p->gpu || i == sizeof sheets / sizeof *sheets) return;
    for (int k = 0; k < p->rows; k++) {
        bytes[p->row[k].phase] += p->row[k].bytes;
        flops[p->row[k].phase] += p->row[k].flops;
    }
    buf_init(&line, 1024);
    buf_printf(&line, "data sheet (%s, %.0f GB/s, %.0f TFLOP/s): ", sheets[i].name, sheets[i].gbs, sheets[i].tflops);
    for (int k = 0; k < ENGINE_PHASES; k++) {
        const double ms = p->wall_ms[k];
        char mbu[32], mfu[32];
        if (!measured(p, (enum engine_phase)k)) continue;
        format_percent(mbu, ms > 0 ? bytes[k] / ms * 1e-6 / sheets[i].gbs : 0);
        format_percent(mfu, ms > 0 ? flops[k] / ms * 1e-9 / sheets[i].tflops : 0);
        buf_printf(&line, "%s%s MBU %s, MFU %s", line.p[line.n - 2] == ':' ? "" : "; ", phase_name[k], mbu, mfu);
    }
    doc_line(d, "%s", buf_text(&line));
    buf_fini(&line);
}
/* The last line: of what, on what, how often. */
static void conditions_line(struct doc *d, const struct engine_profile *p) {
    char stream[32], peak[32], vision[32], device[120];
    struct buf line;
    buf_init(&line, 4096);
    snprintf(device, sizeof device, p->gpu ? "GPU %s" : "CPU %s, %d thread%s", p->isa, p->threads,
             p->threads == 1 ? "" : "s");
    format_number(stream, p->stream_gbs);
    format_number(peak, p->peak_gflops);
    format_number(vision, p->vision_peak_gflops);
    buf_printf(&line, "%s %s · %s", p->model, p->dtype, device);
    if (!p->vision_only) buf_printf(&line, " · %d→%d tok · b%d", p->prompt_tokens, p->decode_steps, p->batch_size);
    if (p->vision) buf_printf(&line, " · image encoder %s", p->vision_dtype);
    buf_printf(&line, " · %d run%s after %d warm-up%s · peaks measured here: %s GB/s", p->runs, p->runs == 1 ? "" : "s",
               p->warmups, p->warmups == 1 ? "" : "s", stream);
    if (!p->vision_only) buf_printf(&line, ", %s GFLOP/s in %s", peak, p->peak_kind);
    if (p->vision && (p->vision_only || strcmp(p->peak_kind, p->vision_peak_kind) != 0))
        buf_printf(&line, ", %s GFLOP/s in %s", vision, p->vision_peak_kind);
    doc_line(d, "%s", buf_text(&line));
    buf_fini(&line);
}
static json_t *profile_bundle(struct call *c, const struct engine_profile *p) {
    struct doc d;
    doc_init(&d);
    json_t *bundle = NULL;
    static const enum engine_phase order[] = { ENGINE_VISION, ENGINE_PREFILL, ENGINE_DECODE };
    int rc = 0;
    for (int i = 0; i < ENGINE_PHASES && !rc; i++)
        if (measured(p, order[i])) rc = phase_section(&d, c, p, order[i]);
    if (!rc) {
        conditions_line(&d, p);
        sheet_line(&d, p);
        if (p->dummy) doc_line(&d, "! %s", DUMMY_NOTICE);
        waited_line(&d, p);
        gpu_conditions(&d, p);
        bundle = doc_bundle(&d);
        if (!bundle) err_set(c->e, STATUS_NOMEM, "out of memory for a table");
    }
    doc_fini(&d);
    return bundle;
}
int magic_profile(struct call *c) {
    int begun;
    if (in_background(c, &begun)) return begun;
    const struct engine_message body = { NULL, c->body, c->body_len };
    const bool vision = !strcmp(args_text(&c->args, "stage"), "vision");
    if (c->body && vision)
        return err_set(c->e, STATUS_INVALID, "%%%%profile --stage vision reads no prompt: %%profile --stage vision");
    if (c->body && args_given(&c->args, "prompt-tokens"))
        return err_set(c->e, STATUS_INVALID,
                       "%%%%profile takes the body as its prompt; --prompt-tokens makes one up: one of the two");
    const struct engine_req q = { .kind = ENGINE_REQ_PROFILE,
                                  .model = interp_model(c->in, args_text(&c->args, "model")),
                                  .message = &body,
                                  .messages = c->body != NULL,
                                  .prompt_tokens =
                                      args_given(&c->args, "prompt-tokens") ? args_int(&c->args, "prompt-tokens") : 0,
                                  .max_new_tokens = args_int(&c->args, "max-new-tokens"),
                                  .runs = args_int(&c->args, "runs"),
                                  .batch_size = args_int(&c->args, "batch-size"),
                                  .vision_only = vision };
    struct profiling r = { .row = NULL };
    struct record record;
    if (record_begin(&record, c, &q)) return c->e->code;
    progress_init(&r.progress, c->o);
    int rc = job_run(c->in, c->o, &q, on_event, &r, c->e);
    json_t *bundle = !rc && r.row ? profile_bundle(c, &r.p) : NULL;
    if (bundle) {
        progress_end(&r.progress, bundle);
        record_profile(&record, &r.p);
    } else {
        if (!rc) rc = err_set(c->e, STATUS_GONE, "the engine gave no profile");
        const char *text =
            rc == STATUS_CANCELLED ? "profile interrupted: nothing was measured to its end" : "profile failed";
        if (progress_shown(&r.progress)) progress_end(&r.progress, doc_plain(text, strlen(text)));
        rc = c->e->code;
    }
    record_end(&record, c, rc);
    mem_free(r.row);
    return rc;
}
