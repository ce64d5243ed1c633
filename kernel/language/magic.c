#include "magic.h"
#include "base/mem.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "nearest.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static bool same(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((a[i] == '-' ? '_' : a[i]) != (b[i] == '-' ? '_' : b[i]) || !a[i]) return false;
    return !b[n];
}
const struct magic *magic_find(const char *name) {
    for (const struct magic *m = magic_table; m->name; m++) {
        if (same(m->name, name, strlen(m->name))) return m;
        for (const char *s = m->aliases; s && *s;) {
            const size_t n = strcspn(s, " ");
            if (same(s, name, n)) return m;
            s += n + strspn(s + n, " ");
        }
    }
    return NULL;
}
int magic_unknown(const char *name, bool cell, const struct variables *aliases, struct err *e) {
    const char *hint = magic_hint(name), *mark = cell ? "%%" : "%";
    if (hint) return err_set(e, STATUS_NOTFOUND, "%s%s: %s", mark, name, hint);
    struct nearest near;
    nearest_init(&near, name);
    for (const struct magic *m = magic_table; m->name; m++)
        if (m->flags & (cell ? MAGIC_CELL : MAGIC_LINE)) nearest_offer_with(&near, m->name, m->aliases);
    for (int i = 0; !cell && aliases && i < aliases->n; i++) nearest_offer(&near, aliases->v[i].name);
    struct buf text;
    buf_init(&text, 512);
    nearest_text(&near, mark, &text);
    err_set(e, STATUS_NOTFOUND, "no magic %s%.60s.%s  (%%lsmagic lists all)", mark, name, buf_text(&text));
    buf_fini(&text);
    return STATUS_NOTFOUND;
}

static const char *default_text(const struct option *o) {
    if (o->type == OPTION_FLAG) return ""; /* its spelling says it */
    return o->def ? o->def : "";
}
static void option_spelling(const struct option *o, struct buf *out) {
    for (const char *s = o->shorts; s && *s;) {
        const size_t n = strcspn(s, " ");
        buf_printf(out, "-%.*s, ", (int)n, s);
        s += n + strspn(s + n, " ");
    }
    const bool on = o->type == OPTION_FLAG && o->def && !strcmp(o->def, "true");
    buf_printf(out, "--%s%s%s%s", on ? "no-" : "", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
}
static void choices_of(const struct option *o, struct buf *out) {
    char name[40];
    for (int i = 0; o->type == OPTION_CHOICE && option_choice(o->choices, i, name); i++)
        buf_printf(out, "%s%s", i ? ", " : "", name);
}
static void option_meaning(const struct option *o, struct buf *out) {
    buf_puts(out, o->help);
    if ((o->type == OPTION_INT || o->type == OPTION_FLOAT) && o->max < 1e5)
        buf_printf(out, " (%g to %g)", o->min, o->max);
    if (o->list && !(o->arg && strstr(o->arg, "..."))) buf_puts(out, "; repeatable");
}
enum { MEANING = 66 }; /* columns that the other cells leave of 100 */
/* Rows of their own for choices; what one does not hold goes on in the next. */
static void choice_rows(struct table *t, const char *s) {
    while (*s) {
        size_t n = strlen(s);
        if (n > MEANING)
            for (n = MEANING; s[n - 1] != ' ' && n > 1;) n--;
        table_cell(t, "%s", ""), table_cell(t, "%s", "");
        table_cell(t, "%.*s", (int)(s[n - 1] == ' ' ? n - 1 : n), s);
        s += n;
    }
}
static void option_row(struct table *t, const struct option *o) {
    struct buf b, choices;
    buf_init(&b, 1024);
    buf_init(&choices, 1024);
    option_spelling(o, &b);
    choices_of(o, &choices);
    table_cell(t, "%s", buf_text(&b));
    table_cell(t, "%s", default_text(o));
    buf_reset(&b);
    option_meaning(o, &b);
    const bool apart = b.n + choices.n > MEANING;
    table_cell(t, "%s%s%s", buf_text(&b), apart || !choices.n ? "" : ": ", apart ? "" : buf_text(&choices));
    if (apart) choice_rows(t, buf_text(&choices));
    buf_fini(&b);
    buf_fini(&choices);
}
static void option_table(struct table *t) {
    table_init(t, NULL);
    table_column(t, "option", TABLE_LEFT);
    table_column(t, "default", TABLE_LEFT);
    table_column(t, "meaning", TABLE_LEFT);
    t->max_rows = 100;
}
static void usage_line(const struct magic *m, struct buf *out) {
    const bool options = m->options && *m->options && (*m->options)->name;
    const char *args = m->usage ? m->usage : "";
    if (m->flags & MAGIC_LINE)
        buf_printf(out, "%%%s%s%s%s", m->name, *args ? " " : "", args, options ? " [options]" : "");
    if (!(m->flags & MAGIC_CELL)) return;
    if (m->flags & MAGIC_LINE) buf_puts(out, "\n");
    const bool text = m->flags & MAGIC_TEXT;
    buf_printf(out, "%%%%%s%s%s%s\n%s", m->name, *args && !text ? " " : "", text ? "" : args,
               options ? " [options]" : "", "body ...");
}
json_t *magic_help(const struct magic *m) {
    struct doc d;
    doc_init(&d);
    struct buf b;
    buf_init(&b, 16384);
    usage_line(m, &b);
    doc_code(&d, buf_text(&b), b.n);
    doc_line(&d, "%s", m->summary);
    buf_fini(&b);
    if (m->options && *m->options && (*m->options)->name) {
        struct table t;
        option_table(&t);
        for (option_groups g = m->options; *g; g++)
            for (const struct option *o = *g; o->name; o++)
                if (o->type != OPTION_LATER) option_row(&t, o);
        doc_table(&d, &t);
        table_fini(&t);
    }
    if (m->help) doc_code(&d, m->help, strlen(m->help));
    if (m->aliases && *m->aliases) doc_line(&d, "also: %s", m->aliases);
    json_t *bundle = doc_bundle(&d);
    doc_fini(&d);
    return bundle;
}
json_t *magic_option_help(const struct magic *m, const struct option *o) {
    struct doc d;
    doc_init(&d);
    struct buf b;
    buf_init(&b, 2048);
    buf_printf(&b, "%%%s ", m->name);
    option_spelling(o, &b);
    doc_code(&d, buf_text(&b), b.n);
    buf_reset(&b);
    option_meaning(o, &b);
    if (o->type == OPTION_CHOICE) buf_puts(&b, ": ");
    choices_of(o, &b);
    doc_line(&d, "%s", buf_text(&b));
    if (*default_text(o)) doc_line(&d, "default: %s", default_text(o));
    if (o->aliases) doc_line(&d, "also: %s", o->aliases);
    buf_fini(&b);
    json_t *bundle = doc_bundle(&d);
    doc_fini(&d);
    return bundle;
}

static bool wants_help(const struct words *w) {
    for (int i = 0; i < w->n && strcmp(w->v[i].text, "--"); i++)
        if (!w->v[i].quoted && (!strcmp(w->v[i].text, "--help") || !strcmp(w->v[i].text, "-h"))) return true;
    return false;
}
static int wrong_kind(const struct call *c, bool cell) {
    const char *name = c->magic->name;
    if (cell)
        return err_set(c->e, STATUS_INVALID, "%%%%%s does not exist, but the line magic %%%s does. Did you mean that?",
                       name, name);
    return err_set(c->e, STATUS_INVALID, "%%%s is a cell magic: write %%%%%s and its text on the lines below", name,
                   name);
}
static int no_body(const struct call *c) {
    const char *name = c->magic->name;
    if (!(c->magic->flags & MAGIC_LINE))
        return err_set(c->e, STATUS_INVALID, "%%%%%s needs text on the lines below it", name);
    return err_set(c->e, STATUS_INVALID, "%%%%%s needs text on the lines below it. Did you mean the line magic %%%s?",
                   name, name);
}
static bool all_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", s[i]) || !s[i]) return false;
    return true;
}
int magic_run(struct call *c, bool cell, const struct variables *vars, const struct variables *defaults) {
    const struct magic *m = c->magic;
    struct words w = { 0 };
    struct buf shown;
    buf_init(&shown, 80);
    buf_printf(&shown, "%s%s", cell ? "%%" : "%", m->name);
    int rc = m->flags & MAGIC_RAW ? 0 : words_split(&w, c->rest, vars, c->e);
    const bool help = m->flags & MAGIC_RAW ? !strcmp(c->rest, "--help") || !strcmp(c->rest, "-h") : wants_help(&w);
    if (!rc && help) {
        json_t *page = magic_help(m);
        if (page) out_display(c->o, page, NULL, NULL, false);
    } else if (!rc && !(m->flags & (cell ? MAGIC_CELL : MAGIC_LINE))) {
        rc = wrong_kind(c, cell);
    } else if (!rc && cell && all_blank(c->body, c->body_len)) {
        rc = no_body(c);
    } else if (!rc) {
        const char *usage = m->flags & MAGIC_TEXT && cell ? "" : m->usage;
        const unsigned flags =
            (m->flags & MAGIC_TEXT ? WORDS_ARE_TEXT : 0) | (m->flags & MAGIC_EQUALS ? WORDS_HOLD_EQUALS : 0);
        const struct grammar g = { buf_text(&shown), usage, m->options, flags };
        if (!(m->flags & MAGIC_RAW)) rc = args_read(&c->args, &g, &w, defaults, c->e);
        if (!rc) rc = m->run(c);
        args_fini(&c->args);
    }
    words_fini(&w);
    buf_fini(&shown);
    return rc;
}
