#include "base/utf8.h"
#include "cell.h"
#include "kernel/interp.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "place.h"
#include "state.h"
#include <stdio.h>
#include <string.h>

enum { SHORT = 400 };

static json_t *about_variable(const struct snapshot *s, const char *name, int level) {
    const struct literal *v = s ? variables_get(&s->vars, name) : NULL;
    if (!v) return NULL;
    struct buf text, clean;
    buf_init(&text, 64 << 20);
    buf_init(&clean, 128 << 20);
    const size_t n = strlen(v->repr);
    const bool cut = level == 0 && n > SHORT;
    buf_printf(&text, "%s: %s = %.*s%s", name, literal_type(v), (int)(cut ? SHORT : n), v->repr, cut ? " …" : "");
    if (level > 0)
        buf_printf(&text, "\n%zu characters; $%s on a magic line stands for: %s", utf8_count(v->text, strlen(v->text)),
                   name, v->text);
    format_redacted(&clean, buf_text(&text), text.n);
    struct doc d;
    doc_init(&d);
    doc_code(&d, buf_text(&clean), clean.n);
    json_t *bundle = doc_bundle(&d);
    doc_fini(&d);
    buf_fini(&text);
    buf_fini(&clean);
    return bundle;
}
static json_t *about_model(const struct snapshot *s, const char *name) {
    const struct literal *v = s ? variables_get(&s->models, name) : NULL;
    if (!v) return NULL;
    struct doc d;
    doc_init(&d);
    doc_line(&d, "%s: %s  (%%show %s tells more)", name, v->text, name);
    json_t *bundle = doc_bundle(&d);
    doc_fini(&d);
    return bundle;
}
static json_t *about_option(const struct place *p, const char *code) {
    char name[64];
    const char *word = code + p->word;
    const char *eq = memchr(word, '=', p->word_end - p->word);
    const size_t len = eq ? (size_t)(eq - word) : p->word_end - p->word;
    size_t value = 0;
    const struct option *o = NULL;
    if (len < sizeof name && len > 2 && !memcmp(word, "--", 2)) {
        const bool no = len > 5 && !memcmp(word, "--no-", 5);
        snprintf(name, sizeof name, "%.*s", (int)(len - 2), word + 2);
        o = option_find(p->magic->options, name);
        if (!o && no) o = option_find(p->magic->options, name + 3);
    }
    if (!o) o = place_option(p, code, &value);
    return o ? magic_option_help(p->magic, o) : NULL;
}
static json_t *about(const struct place *p, const char *code, size_t cursor, const struct snapshot *s, int level) {
    char name[256];
    size_t at = cursor < p->word_end ? cursor : p->word_end; /* a $name around the cursor, else the whole word */
    while (at > p->word && code[at - 1] != '$') at--;
    const bool dollar = at > p->word;
    if (!dollar) at = p->word;
    at += dollar && at < p->word_end && code[at] == '{';
    size_t len = cell_name_length(code + at, p->word_end - at);
    if (!dollar) len = p->word_end - p->word;
    snprintf(name, sizeof name, "%.*s", (int)(len < 250 ? len : 250), code + at);
    if (p->kind == PLACE_BARE || dollar) return about_variable(s, name, level);
    if (p->kind == PLACE_SHELL || !p->magic) return NULL;
    json_t *found = p->kind == PLACE_ARGS ? about_option(p, code) : NULL;
    if (!found && p->kind == PLACE_ARGS) found = about_model(s, name);
    return found ? found : magic_help(p->magic);
}
json_t *interp_inspect(struct interp *in, const char *code, size_t n, size_t cursor, int level) {
    if (cursor > n) cursor = n;
    const struct place p = place_find(code, n, cursor);
    if (p.kind == PLACE_NONE) return NULL;
    struct snapshot *s = snapshot_take(in);
    json_t *bundle = about(&p, code, cursor, s, level);
    snapshot_give(in, s);
    return bundle;
}
