/* %runs: what was generated and profiled, from the results database. */
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "kernel/results.h"
#include "magics.h"
#include "record.h"
#include "repeat.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(const json_t *run, const char *name) {
    const char *s = json_string_value(json_object_get(run, name));
    return s ? s : "";
}
static double number_of(const json_t *run, const char *name) { return json_number_value(json_object_get(run, name)); }
/* "2026-11-24T00:07:40.123Z" -> "2026-11-24 00:07:40" */
static void when(const json_t *run, char out[24]) {
    snprintf(out, 24, "%.19s", text_of(run, "at"));
    if (strlen(out) > 10) out[10] = ' ';
}

/* ---- the list ---- */
static void number_cell(struct table *t, const json_t *run, const char *name) {
    if (json_is_number(json_object_get(run, name))) {
        table_number(t, number_of(run, name));
    } else {
        table_cell(t, "–");
    }
}
static void run_cells(struct table *t, const json_t *run) {
    char at[24];
    const char *state = text_of(run, "state");
    const bool done = !strcmp(state, "finished"), dummy = number_of(run, "dummy") != 0;
    when(run, at);
    table_cell(t, "%.0f", number_of(run, "number"));
    table_cell(t, "%s", at);
    table_cell(t, "%s%s%s", text_of(run, "kind"), done ? "" : ", ", done ? "" : state);
    table_cell(t, "%s%s", text_of(run, "model"), dummy ? " (random weights)" : "");
    table_cell(t, "%s", text_of(run, "dtype"));
    number_cell(t, run, "tok_s");
    number_cell(t, run, "ttft_ms");
    table_cell(t, "%.0f→%.0f", number_of(run, "prompt_tokens"), number_of(run, "new_tokens"));
    table_cell(t, "%s", text_of(run, "notebook"));
}
static void run_table(struct doc *d, const json_t *runs) {
    static const char *const title[] = { "run",   "when (UTC)", "what",   "model",   "dtype",
                                         "tok/s", "TTFT ms",    "tokens", "notebook" };
    struct table t;
    size_t i;
    json_t *run;
    table_init(&t, NULL);
    for (int c = 0; c < 9; c++) table_column(&t, title[c], c == 0 || (c >= 5 && c <= 7) ? TABLE_RIGHT : TABLE_LEFT);
    t.max_rows = (int)json_array_size(runs) + 1;
    json_array_foreach(runs, i, run) run_cells(&t, run);
    doc_table(d, &t);
    table_fini(&t);
}
static void list_line(struct doc *d, const json_t *runs, long long total, const struct results_filter *f) {
    char path[4096], n[32], all[32];
    const size_t shown = json_array_size(runs);
    results_path(path, NULL);
    format_count(n, shown);
    format_count(all, (uint64_t)total);
    if (!shown) {
        doc_line(d, f->model || f->grep ? "no recorded run fits" : "no run is recorded yet");
    } else if ((long long)shown < total) {
        doc_line(d, "the last %s of %s runs; %%runs --all shows all, %%runs show N everything of one", n, all);
    } else {
        doc_line(d, "%s run%s; %%runs show N shows everything of one", n, shown == 1 ? "" : "s");
    }
    doc_line(d, "in %s", path);
}
static int list(struct call *c) {
    struct results_filter f = { .model = args_text(&c->args, "model"),
                                .grep = args_text(&c->args, "grep"),
                                .limit = args_flag(&c->args, "all") ? 0 : args_int(&c->args, "limit") };
    long long total = 0;
    struct buf note;
    struct doc d;
    buf_init(&note, 65536);
    doc_init(&d);
    f.model = interp_model(c->in, f.model);
    json_t *runs = results_list(&f, &total, &note, c->e);
    note_lines(&d, &note);
    if (runs && json_array_size(runs)) run_table(&d, runs);
    if (runs) list_line(&d, runs, total, &f);
    if (!runs && !note.n) {
        doc_fini(&d);
    } else {
        show_doc(c->o, &d, c->e);
    }
    buf_fini(&note);
    json_decref(runs);
    return runs ? 0 : c->e->code;
}

/* ---- one run ---- */
static void fact(struct table *t, const char *name, const json_t *v) {
    char n[40];
    if (json_is_string(v)) {
        table_cell(t, "%s", name);
        table_cell(t, "%s", json_string_value(v));
    } else if (json_is_boolean(v)) {
        table_cell(t, "%s", name);
        table_cell(t, "%s", json_is_true(v) ? "yes" : "no");
    } else if (json_is_number(v)) {
        snprintf(n, sizeof n, json_is_integer(v) ? "%.0f" : "%.10g", json_number_value(v));
        table_cell(t, "%s", name);
        table_cell(t, "%s", n);
    }
}
/* A nested object's members as "wall_ms.prefill"; lists of texts and numbers joined; the rows of a profile have a table
 * of their own. */
static void facts(struct table *t, const char *before, const json_t *o) {
    const char *key;
    json_t *v, *item;
    size_t i;
    json_object_foreach((json_t *)o, key, v) {
        char name[96];
        snprintf(name, sizeof name, "%s%s%s", before, *before ? "." : "", key);
        if (json_is_object(v) && !*before) {
            facts(t, key, v);
        } else if (json_is_array(v)) {
            json_array_foreach(v, i, item) if (!json_is_object(item)) fact(t, name, item);
        } else {
            fact(t, name, v);
        }
    }
}
static void fact_table(struct doc *d, const char *title, const json_t *o) {
    struct table t;
    table_init(&t, NULL);
    table_column(&t, title, TABLE_LEFT);
    table_column(&t, "value", TABLE_LEFT);
    t.max_rows = 200;
    facts(&t, "", o);
    if (table_rows(&t)) doc_table(d, &t);
    table_fini(&t);
}
/* The short columns of a run, in an order to be read. */
static json_t *short_columns(const json_t *run) {
    static const char *const name[] = { "at",    "kind",     "state",    "error",         "notebook",
                                        "cell",  "model",    "repo",     "revision",      "format",
                                        "dtype", "kv_dtype", "template", "max_model_len", "tok_s" };
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) json_object_set(o, name[i], json_object_get(run, name[i]));
    return o;
}
static void row_table(struct doc *d, const json_t *rows) {
    static const char *const title[] = { "phase", "layer", "op", "label", "calls", "ms", "MB", "MFLOP" };
    struct table t;
    size_t i;
    json_t *r;
    if (!json_array_size(rows)) return;
    table_init(&t, "operations");
    for (int c = 0; c < 8; c++) table_column(&t, title[c], c == 1 || c > 3 ? TABLE_RIGHT : TABLE_LEFT);
    t.max_rows = (int)json_array_size(rows) + 1;
    json_array_foreach(rows, i, r) {
        table_cell(&t, "%s", text_of(r, "phase"));
        table_cell(&t, "%.0f", number_of(r, "layer"));
        table_cell(&t, "%s", text_of(r, "op"));
        table_cell(&t, "%s", text_of(r, "label"));
        table_number(&t, number_of(r, "calls"));
        table_number(&t, number_of(r, "ms"));
        table_number(&t, number_of(r, "bytes") * 1e-6);
        table_number(&t, number_of(r, "flops") * 1e-6);
    }
    doc_table(d, &t);
    table_fini(&t);
}
static void code_block(struct doc *d, const char *what, const json_t *v) {
    if (!json_string_length(v)) return;
    doc_line(d, "%s:", what);
    doc_code(d, json_string_value(v), json_string_length(v));
}
static void show_run(struct doc *d, const json_t *run) {
    struct buf again;
    size_t i;
    json_t *m, *columns = short_columns(run), *numbers = json_object_get(run, "numbers");
    char title[48];
    snprintf(title, sizeof title, "of run %.0f", number_of(run, "number"));
    fact_table(d, title, columns);
    json_decref(columns);
    if (*text_of(run, "file")) doc_line(d, "file: %s", text_of(run, "file"));
    if (number_of(run, "dummy") != 0) doc_line(d, "! %s", DUMMY_NOTICE);
    fact_table(d, "asked for", json_object_get(run, "options"));
    fact_table(d, "measured", numbers);
    row_table(d, json_object_get(numbers, "rows"));
    fact_table(d, "on", json_object_get(run, "system"));
    code_block(d, "the cell's magic", json_object_get(run, "code"));
    json_array_foreach(json_object_get(run, "messages"), i, m) code_block(
        d, json_is_string(json_object_get(m, "role")) ? text_of(m, "role") : "prompt", json_object_get(m, "text"));
    code_block(d, "what came", json_object_get(run, "text"));
    buf_init(&again, 64 << 20);
    repeat_text(run, &again);
    doc_line(d, "to repeat it:");
    doc_code(d, buf_text(&again), again.n);
    buf_fini(&again);
}
static int run_number(const char *word, long long *number, struct err *e) {
    char *end;
    errno = 0;
    *number = strtoll(word, &end, 10);
    if (*word && !*end && !errno && *number > 0) return 0;
    return err_set(e, STATUS_INVALID, "%%runs: \"%.40s\" is no number of a run; %%runs lists them", word);
}
static int show(struct call *c) {
    long long number = 0; /* the newest */
    const char *word = args_word(&c->args, 1);
    if (word && run_number(word, &number, c->e)) return c->e->code;
    if (args_word(&c->args, 2)) return err_set(c->e, STATUS_INVALID, "%%runs show takes one number");
    json_t *run = results_get(number, NULL, c->e);
    if (!run) return c->e->code;
    struct doc d;
    doc_init(&d);
    show_run(&d, run);
    json_decref(run);
    return show_doc(c->o, &d, c->e);
}

/* ---- removing ---- */
static int remove_runs(struct call *c) {
    const int n = c->args.words.n;
    const bool all = args_flag(&c->args, "all");
    if (all == (n > 1))
        return err_set(c->e, STATUS_INVALID, "%%runs delete takes the numbers of runs, or --all: one of the two");
    long long number, removed, sum = 0;
    for (int i = 1; i < n; i++)
        if (run_number(args_word(&c->args, i), &number, c->e)) return c->e->code;
    for (int i = all ? 0 : 1; i < n; i++) {
        number = 0;
        if (!all) run_number(args_word(&c->args, i), &number, c->e);
        if (results_delete(number, &removed, c->e)) return c->e->code;
        if (!removed && !all) out_printf(c->o, "there is no run %lld\n", number);
        sum += removed;
    }
    char path[4096];
    results_path(path, NULL);
    out_printf(c->o, "%lld run%s removed from %s\n", sum, sum == 1 ? "" : "s", path);
    return 0;
}
static int path(struct call *c) {
    char name[4096], kind[96];
    if (results_path(name, c->e)) return c->e->code;
    results_kind(kind);
    out_printf(c->o, "%s\n(%s)\n", name, kind);
    return 0;
}
int magic_runs(struct call *c) {
    const char *verb = args_word(&c->args, 0);
    long long number;
    struct err none = { 0 };
    if (!verb || !strcmp(verb, "list")) return list(c);
    if (!strcmp(verb, "show")) return show(c);
    if (!strcmp(verb, "delete")) return remove_runs(c);
    if (!strcmp(verb, "path")) return path(c);
    if (!run_number(verb, &number, &none))
        return err_set(c->e, STATUS_INVALID, "%%runs show %lld shows that run", number);
    return err_set(c->e, STATUS_INVALID, "%%runs knows show, delete and path, not \"%.40s\"  (%%runs? for help)", verb);
}
