#include "base/mem.h"
#include "base/utf8.h"
#include "cell.h"
#include "kernel/magics/hub.h"
#include "kernel/magics/photo.h"
#include "kernel/magics/shell.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "magic.h"
#include "state.h"
#include <string.h>

enum { DEPTH_MAX = 16, QUIET_MAX = 64 << 20 };
struct kept {
    struct kept *next;
    char text[];
};
_Thread_local struct context this_cell;

int interp_open(struct interp **out, const struct interp_host *host, struct err *e) {
    struct interp *in = mem_zero(1, sizeof *in);
    *out = in;
    if (!in) return err_set(e, STATUS_NOMEM, "out of memory for the cell language");
    if (host) in->host = *host;
    pthread_mutex_init(&in->lock, NULL);
    baton_init(&in->baton);
    return hub_open(&in->hub, e);
}
static void snapshot_free(struct snapshot *s) {
    if (!s) return;
    variables_fini(&s->vars);
    variables_fini(&s->aliases);
    variables_fini(&s->models);
    mem_free(s);
}
void interp_close(struct interp *in) {
    if (!in) return;
    hub_close(in->hub);
    variables_fini(&in->vars);
    variables_fini(&in->aliases);
    variables_fini(&in->defaults);
    variables_fini(&in->models);
    for (int i = 0; i < in->chat.n; i++) mem_free(in->chat.v[i].text);
    mem_free(in->chat.v);
    for (int i = 0; i < in->chat.pictures; i++) photo_drop(in->chat.picture[i].photo);
    photo_drop(in->chat.offered);
    photo_drop(in->photo);
    snapshot_free(in->snap);
    pthread_mutex_destroy(&in->lock);
    baton_fini(&in->baton);
    mem_free(in);
}

/* A snapshot that cannot be made leaves the old one: completion is then a little behind. */
static void publish(struct interp *in) {
    if (!in->changed) return;
    struct snapshot *s = mem_zero(1, sizeof *s);
    if (!s || variables_copy(&s->vars, &in->vars, NULL) || variables_copy(&s->aliases, &in->aliases, NULL) ||
        variables_copy(&s->models, &in->models, NULL)) {
        snapshot_free(s);
        return;
    }
    s->refs = 1;
    pthread_mutex_lock(&in->lock);
    struct snapshot *old = in->snap;
    in->snap = s;
    const bool last = old && --old->refs == 0;
    pthread_mutex_unlock(&in->lock);
    if (last) snapshot_free(old);
    in->changed = false;
}
struct snapshot *snapshot_take(struct interp *in) {
    pthread_mutex_lock(&in->lock);
    struct snapshot *s = in->snap;
    if (s) s->refs++;
    pthread_mutex_unlock(&in->lock);
    return s;
}
void snapshot_give(struct interp *in, struct snapshot *s) {
    if (!s) return;
    pthread_mutex_lock(&in->lock);
    const bool last = --s->refs == 0;
    pthread_mutex_unlock(&in->lock);
    if (last) snapshot_free(s);
}

int interp_set(struct interp *in, const char *name, const char *text, size_t n, struct err *e) {
    in->changed = true;
    return variables_set_text(&in->vars, name, text, n, e);
}
bool alias_is_command(const char *text) { return *text == '%' || *text == '!'; }
/* A copy, since the alias may be another one before the engine has answered. */
const char *interp_model(const struct interp *in, const char *name) {
    const struct literal *v = name ? variables_get(&in->aliases, name) : NULL;
    if (!v || alias_is_command(v->text)) return name;
    const size_t n = strlen(v->text) + 1;
    struct kept *copy = mem_alloc(sizeof *copy + n);
    if (!copy) return name; /* then no model of that name is found */
    memcpy(copy->text, v->text, n);
    copy->next = this_cell.kept;
    this_cell.kept = copy;
    return copy->text;
}

/* "%gpu -x" with the alias gpu = "!nvidia-smi" -> "!nvidia-smi -x". */
static int run_alias(struct interp *in, struct out *o, const struct directive *d, const char *text, struct err *e) {
    struct buf code;
    buf_init(&code, 1 << 20);
    buf_printf(&code, "%s %s", text, d->rest);
    const int rc = code.failed ? err_set(e, STATUS_NOMEM, "out of memory for the alias %%%s", d->name)
                               : interp_run(in, o, buf_text(&code), code.n, e);
    buf_fini(&code);
    return rc;
}
static int run_magic(struct interp *in, struct out *o, const struct directive *d, struct err *e) {
    const struct magic *m = magic_find(d->name);
    const struct literal *alias = m || d->cell ? NULL : variables_get(&in->aliases, d->name);
    if (alias && alias_is_command(alias->text)) return run_alias(in, o, d, alias->text, e);
    if (!m) return magic_unknown(d->name, d->cell, &in->aliases, e);
    struct call c = { .in = in, .o = o, .magic = m, .typed = d->name, .rest = d->rest, .e = e };
    if (d->cell) c.body = d->body, c.body_len = d->body_len;
    return magic_run(&c, d->cell, &in->vars, &in->defaults);
}
static int run_quietly(struct interp *in, struct out *o, const struct directive *d, struct err *e) {
    struct capture hidden = { .keep = { true, true, true } };
    buf_init(&hidden.text[0], QUIET_MAX);
    buf_init(&hidden.text[1], QUIET_MAX);
    out_capture_begin(o, &hidden);
    const int rc = run_magic(in, o, d, e);
    out_capture_end(o, &hidden);
    buf_fini(&hidden.text[0]);
    buf_fini(&hidden.text[1]);
    json_decref(hidden.displays);
    return rc;
}
static int show_help(struct interp *in, struct out *o, const struct directive *d, struct err *e) {
    const struct magic *m = magic_find(d->name);
    const struct literal *alias = m ? NULL : variables_get(&in->aliases, d->name);
    if (!m && !alias) return magic_unknown(d->name, d->cell, &in->aliases, e);
    json_t *page = m ? magic_help(m) : doc_plain(alias->text, strlen(alias->text));
    if (!page) return err_set(e, STATUS_NOMEM, "out of memory for the help of %%%s", d->name);
    out_page(o, page);
    return 0;
}
static json_t *shown_value(const struct literal *v) {
    struct buf text;
    buf_init(&text, 64 << 20);
    format_redacted(&text, v->repr, strlen(v->repr));
    json_t *bundle = doc_plain(buf_text(&text), text.n);
    buf_fini(&text);
    return bundle;
}
static int show_value(struct interp *in, struct out *o, const struct directive *d, struct err *e) {
    const struct literal *v = variables_get(&in->vars, d->name);
    json_t *bundle = v ? shown_value(v) : NULL;
    if (!bundle) return err_set(e, STATUS_NOTFOUND, "no variable %s", d->name);
    out_result(o, bundle, NULL);
    return 0;
}
/* The text goes to the model as it is: the arguments of %%generate are empty. */
static int run_prompt(struct interp *in, struct out *o, const struct directive *d, struct err *e) {
    struct directive magic = *d;
    char name[] = "generate", rest[] = "";
    magic.name = name;
    magic.rest = rest;
    magic.cell = true;
    return run_magic(in, o, &magic, e);
}
static int run_directive(struct interp *in, struct out *o, struct directive *d, struct err *e) {
    if (out_interrupted(o)) return err_set(e, STATUS_CANCELLED, "interrupted before line %d", d->line);
    if (d->kind != DIRECTIVE_ASSIGN) publish(in);
    switch (d->kind) {
    case DIRECTIVE_MAGIC: return d->quiet ? run_quietly(in, o, d, e) : run_magic(in, o, d, e);
    case DIRECTIVE_HELP: return show_help(in, o, d, e);
    case DIRECTIVE_SHELL: return shell_line(in, o, d->rest, e);
    case DIRECTIVE_ASSIGN: in->changed = true; return variables_set(&in->vars, d->name, &d->value, e);
    case DIRECTIVE_SHOW: return show_value(in, o, d, e);
    case DIRECTIVE_PROMPT: return run_prompt(in, o, d, e);
    }
    return 0;
}
static bool known_variable(const void *vars, const char *name) { return variables_get(vars, name) != NULL; }

int interp_run(struct interp *in, struct out *o, const char *code, size_t n, struct err *e) {
    if (this_cell.depth == DEPTH_MAX)
        return err_set(e, STATUS_INVALID, "cells nest deeper than %d (an alias that names itself?)", DEPTH_MAX);
    this_cell.depth++;
    struct cell cell;
    int rc = cell_parse(&cell, code, n, known_variable, &in->vars, e);
    for (int i = 0; i < cell.n && !rc; i++) rc = run_directive(in, o, &cell.v[i], e);
    cell_fini(&cell);
    this_cell.depth--;
    return rc;
}
/* What was typed may stand in an error: it is one line of whole UTF-8 all the same. */
static void one_line(struct err *e) {
    struct buf text;
    buf_init(&text, 4096);
    utf8_repair(&text, e->text, strlen(e->text));
    const int code = e->code;
    if (!text.failed) {
        *e = (struct err){ 0 };
        err_set(e, code, "%s", buf_text(&text));
    }
    for (char *s = e->text; *s; s++)
        if ((unsigned char)*s < ' ') *s = ' ';
    buf_fini(&text);
}
/* ---- turns ---- */
static void enter(struct interp *in, unsigned long ticket) {
    baton_enter(&in->baton, ticket);
    this_cell = (struct context){ .in = in, .lane = -1 };
}
static void leave(void) {
    struct interp *in = this_cell.in;
    for (struct kept *k; (k = this_cell.kept);) {
        this_cell.kept = k->next;
        mem_free(k);
    }
    hub_lane_back(in->hub, this_cell.lane);
    this_cell = (struct context){ 0 };
    baton_leave(&in->baton);
}
void interp_pause(void) {
    if (this_cell.in && !this_cell.pauses++) baton_leave(&this_cell.in->baton);
}
void interp_resume(void) {
    if (this_cell.in && !--this_cell.pauses) baton_enter(&this_cell.in->baton, baton_draw(&this_cell.in->baton));
}
int interp_execute_at(struct interp *in, unsigned long ticket, struct out *o, const struct text *code, struct err *e) {
    enter(in, ticket);
    const int rc = interp_run(in, o, code->p, code->n, e);
    publish(in);
    if (rc) err_set(e, rc, "the cell failed");
    if (rc && e) one_line(e);
    leave();
    return rc;
}
int interp_execute(struct interp *in, struct out *o, const char *code, size_t n, struct err *e) {
    return interp_execute_at(in, baton_draw(&in->baton), o, &(struct text){ code, n }, e);
}
bool interp_beside(struct interp *in, const char *code, size_t n) {
    (void)in;
    struct cell cell;
    const bool one = !cell_parse(&cell, code, n, NULL, NULL, NULL) && cell.n == 1;
    const bool attach =
        one && cell.v[0].kind == DIRECTIVE_MAGIC && !cell.v[0].cell && !strcmp(cell.v[0].name, "attach");
    cell_fini(&cell);
    return attach;
}
json_t *interp_expression(struct interp *in, const char *code, struct err *e) {
    const size_t len = strlen(code);
    const size_t dollar = *code == '$', n = cell_name_length(code + dollar, len - dollar);
    enter(in, baton_draw(&in->baton));
    const struct literal *v = n && n + dollar == len ? variables_get(&in->vars, code + dollar) : NULL;
    json_t *bundle = v ? shown_value(v) : NULL;
    if (!v) err_set(e, STATUS_NOTFOUND, "no variable %.80s (an expression here is the name of a variable)", code);
    if (v && !bundle) err_set(e, STATUS_NOMEM, "out of memory for %.80s", code);
    leave();
    return bundle;
}
const char *interp_is_complete(const char *code, size_t n, char indent[16]) {
    indent[0] = 0;
    return cell_is_complete(code, n);
}
