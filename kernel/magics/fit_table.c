#include "fit_table.h"
#include "kernel/present/format.h"
#include <stdio.h>
#include <string.h>

enum { CELLS = 3, USEFUL = 128 }; /* contexts side by side: what 100 columns hold */
static const double GIB = 1024.0 * 1024 * 1024;

struct at { /* one combination */
    int machine, dtype, context, batch;
};
struct section {
    struct doc *d;
    const struct engine_fit *fit;
    const struct fit_lists *l;
};
static const struct engine_fit_row *row(const struct section *s, struct at a) {
    const struct fit_lists *l = s->l;
    return &s->fit->row[((a.machine * l->dtypes + a.dtype) * l->contexts + a.context) * l->batches + a.batch];
}
/* "f16" of a file is "fp16" of a user. */
static bool same_dtype(const char *a, const char *b) {
    if (*a == 'f' && *b == 'f') return !strcmp(a + 1 + (a[1] == 'p'), b + 1 + (b[1] == 'p'));
    return !strcmp(a, b);
}
/* Two names for one form ("auto", "fp16") stand for one row of the table: the first. */
static bool repeated(const struct section *s, int dtype) {
    const char *name = row(s, (struct at){ 0, dtype, 0, 0 })->dtype;
    for (int i = 0; i < dtype; i++)
        if (same_dtype(row(s, (struct at){ 0, i, 0, 0 })->dtype, name)) return true;
    return false;
}
static void gib_cell(struct table *t, uint64_t bytes) { table_number(t, (double)bytes / GIB); }
static void verdict(struct table *t, const struct section *s, const struct engine_fit_row *r) {
    const uint64_t memory = s->fit->machine[r->machine].memory_bytes;
    char n[32];
    format_number(n, (double)(r->fits || r->total_bytes < memory ? r->total_bytes : r->total_bytes - memory) / GIB);
    if (r->fits) {
        table_cell(t, "fits %s GiB", n);
    } else {
        table_cell(t, r->total_bytes > memory ? "OOM +%s GiB" : "OOM at %s GiB", n);
    }
}
static void context_cell(struct table *t, int context) {
    char n[32];
    format_count(n, (uint64_t)context);
    table_cell(t, "%s", context ? n : "none");
}
/* The ceiling of the contexts from..to that fit: one number, or "slowest–fastest". */
static void ceiling_cell(struct table *t, const struct section *s, struct at a, int to) {
    double low = 0, high = 0;
    bool any = false;
    for (; a.context < to; a.context++) {
        const struct engine_fit_row *r = row(s, a);
        if (!r->fits) continue;
        low = any && low < r->ceiling ? low : r->ceiling;
        high = any && high > r->ceiling ? high : r->ceiling;
        any = true;
    }
    char slow[32], fast[32];
    format_number(slow, low);
    format_number(fast, high);
    if (!any) {
        table_cell(t, "%s", "");
    } else if (!(high > 0)) {
        table_cell(t, "–");
    } else if (!strcmp(slow, fast)) {
        table_cell(t, "%s", slow);
    } else {
        table_cell(t, "%s–%s", slow, fast);
    }
}
static void machine_cells(struct table *t, const struct section *s, struct at a) {
    table_cell(t, "%s", s->fit->machine[a.machine].name);
    table_cell(t, "%s", row(s, a)->dtype);
}
static void tokens_title(char out[40], int context, int batch, bool with_batch) {
    char n[32], b[32];
    format_count(n, (uint64_t)context);
    format_count(b, (uint64_t)batch);
    snprintf(out, 40, with_batch ? "%.12s tok × %.10s" : "%.12s tok", n, b);
}
/* One context and one batch: the parts stand beside the verdict. */
static void single_table(const struct section *s) {
    struct table t;
    char title[40];
    table_init(&t, NULL);
    table_column(&t, "machine", TABLE_LEFT);
    table_column(&t, "dtype", TABLE_LEFT);
    table_column(&t, "weights GiB", TABLE_RIGHT);
    table_column(&t, "KV GiB", TABLE_RIGHT);
    table_column(&t, "work GiB", TABLE_RIGHT);
    tokens_title(title, s->l->context[0], s->l->batch[0], true);
    table_column(&t, title, TABLE_RIGHT);
    table_column(&t, "largest context", TABLE_RIGHT);
    table_column(&t, "tok/s at most", TABLE_RIGHT);
    t.max_rows = 200;
    for (int m = 0; m < s->fit->machines; m++)
        for (int i = 0; i < s->l->shown; i++) {
            const struct at a = { m, i, 0, 0 };
            const struct engine_fit_row *r = row(s, a);
            if (repeated(s, i)) continue;
            machine_cells(&t, s, a);
            gib_cell(&t, r->weight_bytes);
            gib_cell(&t, r->kv_bytes);
            gib_cell(&t, r->work_bytes);
            verdict(&t, s, r);
            context_cell(&t, r->max_context);
            ceiling_cell(&t, s, a, 1);
        }
    doc_table(s->d, &t);
    table_fini(&t);
}
/* Contexts from..to of one batch side by side. */
static void matrix_table(const struct section *s, int batch, int from, int to) {
    struct table t;
    char title[CELLS][40], caption[48], n[32];
    format_count(n, (uint64_t)s->l->batch[batch]);
    snprintf(caption, sizeof caption, "batch %s", n);
    table_init(&t, caption);
    table_column(&t, "machine", TABLE_LEFT);
    table_column(&t, "dtype", TABLE_LEFT);
    for (int c = from; c < to; c++) {
        tokens_title(title[c - from], s->l->context[c], 0, false);
        table_column(&t, title[c - from], TABLE_RIGHT);
    }
    table_column(&t, "largest context", TABLE_RIGHT);
    table_column(&t, "tok/s at most", TABLE_RIGHT);
    t.max_rows = 200;
    for (int m = 0; m < s->fit->machines; m++)
        for (int i = 0; i < s->l->shown; i++) {
            if (repeated(s, i)) continue;
            struct at a = { m, i, from, batch };
            machine_cells(&t, s, a);
            for (int c = from; c < to; c++) verdict(&t, s, row(s, (struct at){ m, i, c, batch }));
            context_cell(&t, row(s, a)->max_context);
            ceiling_cell(&t, s, a, to);
        }
    doc_table(s->d, &t);
    table_fini(&t);
}
static void parts_table(const struct section *s) {
    struct table t;
    char caption[80];
    snprintf(caption, sizeof caption, "memory in GiB (%s)", s->fit->machine[0].name);
    table_init(&t, caption);
    static const char *const title[] = { "dtype", "context", "batch", "weights", "KV", "work", "all" };
    for (int i = 0; i < 7; i++) table_column(&t, title[i], i ? TABLE_RIGHT : TABLE_LEFT);
    t.more = "ask for fewer combinations";
    for (int i = 0; i < s->l->shown; i++)
        for (int c = 0; c < s->l->contexts && !repeated(s, i); c++)
            for (int b = 0; b < s->l->batches; b++) {
                const struct engine_fit_row *r = row(s, (struct at){ 0, i, c, b });
                table_cell(&t, "%s", r->dtype);
                context_cell(&t, r->context);
                context_cell(&t, r->batch);
                gib_cell(&t, r->weight_bytes);
                gib_cell(&t, r->kv_bytes);
                gib_cell(&t, r->work_bytes);
                gib_cell(&t, r->total_bytes);
            }
    doc_table(s->d, &t);
    table_fini(&t);
}

/* ---- what would fit ---- */
static const char *machine_name(const struct section *s, int machine) {
    const char *name = s->fit->machine[machine].name;
    return strcmp(name, "this") ? name : "this machine";
}
/* The first row of a machine that fits, with dtypes from..to; NULL: none. */
static const struct engine_fit_row *first_fit(const struct section *s, int machine, int from, int to) {
    for (int i = from; i < to; i++)
        for (int b = 0; b < s->l->batches; b++)
            for (int c = s->l->contexts - 1; c >= 0; c--) {
                const struct engine_fit_row *r = row(s, (struct at){ machine, i, c, b });
                if (r->fits) return r;
            }
    return NULL;
}
/* The row of a machine with the largest context that fits; one of fewer tokens than USEFUL helps nobody. */
static const struct engine_fit_row *longest(const struct section *s, int machine) {
    const struct engine_fit_row *best = NULL;
    for (int i = 0; i < s->l->dtypes; i++)
        for (int b = 0; b < s->l->batches; b++) {
            const struct engine_fit_row *r = row(s, (struct at){ machine, i, 0, b });
            if (r->max_context > (best ? best->max_context : USEFUL - 1)) best = r;
        }
    return best;
}
static void settings(struct buf *out, const struct engine_fit_row *r, int context) {
    buf_printf(out, "--dtype %s -c %d", r->dtype, context);
    if (r->batch > 1) buf_printf(out, " -b %d", r->batch);
}
static void advice(const struct section *s, int machine) {
    const struct fit_lists *l = s->l;
    const struct engine_fit_row *smaller = first_fit(s, machine, l->shown, l->dtypes), *shorter = longest(s, machine);
    struct buf line;
    buf_init(&line, 4096);
    buf_printf(&line, "%s: nothing in the table fits. What would:", machine_name(s, machine));
    const size_t before = line.n;
    if (smaller) {
        buf_puts(&line, " ");
        settings(&line, smaller, smaller->context);
    } else if (shorter) {
        buf_puts(&line, " ");
        settings(&line, shorter, shorter->max_context);
    }
    for (int m = 0; m < s->fit->machines; m++) {
        const int to = smaller || shorter ? l->shown : l->dtypes; /* elsewhere as asked, or at all */
        const struct engine_fit_row *r = m == machine ? NULL : first_fit(s, m, 0, to);
        if (!r) continue;
        buf_puts(&line, line.n > before ? "; or " : " ");
        settings(&line, r, r->context);
        buf_printf(&line, " on %s", machine_name(s, m));
        break;
    }
    int batch = l->batch[0];
    for (int b = 1; b < l->batches; b++) batch = l->batch[b] < batch ? l->batch[b] : batch;
    if (line.n == before) buf_printf(&line, " a smaller %s", batch > 1 ? "batch, or a smaller model" : "model");
    doc_line(s->d, "%s", buf_text(&line));
    buf_fini(&line);
}

double fit_kv_bytes(const struct engine_model *m) { return 2.0 * 2 * m->layers * m->kv_heads * m->head_dim; }
/* What pictures cost: a part of the weights, and of the context. */
static void sight_line(const struct section *s) {
    const struct engine_model *m = &s->fit->model;
    char low[32], high[32], tokens[32], both[72];
    uint64_t least = 0, most = 0;
    if (m->image_tokens < 1) return;
    for (int i = 0; i < s->l->shown; i++) {
        const uint64_t bytes = row(s, (struct at){ 0, i, 0, 0 })->vision_bytes;
        least = i && least < bytes ? least : bytes;
        most = most > bytes ? most : bytes;
    }
    format_bytes(low, (double)least);
    format_bytes(high, (double)most);
    format_count(tokens, (uint64_t)m->image_tokens);
    snprintf(both, sizeof both, strcmp(low, high) ? "%s to %s" : "%s%.0s", low, high);
    doc_line(s->d, "the image path (%s) has %s of the weights; a picture takes %s tokens of the context", m->vision,
             both, tokens);
}
static void heading(const struct section *s) {
    const struct engine_model *m = &s->fit->model;
    char params[32], context[32], kv[32];
    format_params(params, m->params);
    format_count(context, (uint64_t)m->context);
    format_bytes(kv, fit_kv_bytes(m));
    doc_line(s->d, "%s: %s, %s parameters%s%s, context of %s tokens, KV cache %s a token; %s", m->name, m->arch, params,
             m->dtype[0] ? ", stored as " : "", m->dtype, context, kv,
             m->on_disk ? "on this disk" : "not on this disk");
    struct buf line;
    buf_init(&line, 8192);
    for (int i = 0; i < s->fit->machines; i++) {
        const struct engine_machine *k = &s->fit->machine[i];
        const bool here = !strcmp(k->name, "this");
        char memory[32], rate[32];
        format_bytes(memory, (double)k->memory_bytes);
        format_number(rate, k->bandwidth_gbs);
        buf_printf(&line, "%s%s: %s%s%s%s", i ? " · " : "", machine_name(s, i), here ? "" : k->device, here ? "" : ", ",
                   memory, here ? " free" : "");
        if (k->bandwidth_gbs > 0) buf_printf(&line, ", %s GB/s%s", rate, here ? " measured" : "");
    }
    doc_line(s->d, "%s", buf_text(&line));
    buf_fini(&line);
    sight_line(s);
}
void fit_section(struct doc *d, const struct engine_fit *fit, const struct fit_lists *l) {
    const struct section s = { d, fit, l };
    if (!fit->rows) return;
    heading(&s);
    if (l->contexts * l->batches == 1) single_table(&s);
    for (int b = 0; l->contexts * l->batches > 1 && b < l->batches; b++)
        for (int c = 0; c < l->contexts; c += CELLS)
            matrix_table(&s, b, c, c + CELLS < l->contexts ? c + CELLS : l->contexts);
    if (l->contexts * l->batches > 1) parts_table(&s);
    for (int m = 0; m < fit->machines; m++)
        if (!first_fit(&s, m, 0, l->shown)) advice(&s, m);
}
