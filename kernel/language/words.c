#include "words.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cell.h"
#include "nearest.h"
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX_BYTES = 32 << 20 };

static bool is_blank(const char *s, size_t *n) {
    uint32_t cp = 0;
    const int len = utf8_decode(s, strnlen(s, 4), &cp);
    *n = len ? (size_t)len : 1;
    return *s == ' ' || *s == '\t' || *s == '\n' || *s == '\r' || (len && (cp == 0xa0 || cp == 0x3000));
}
static int unknown(const char *name, size_t n, const struct variables *vars, struct err *e) {
    char typed[64];
    size_t keep = n < sizeof typed ? n : sizeof typed - 1;
    keep -= utf8_tail(name, keep);
    memcpy(typed, name, keep);
    typed[keep] = 0;
    struct nearest near;
    nearest_init(&near, typed);
    for (int i = 0; vars && i < vars->n; i++) nearest_offer(&near, vars->v[i].name);
    struct buf hint;
    buf_init(&hint, 256);
    nearest_text(&near, "$", &hint);
    err_set(e, STATUS_INVALID, "no variable $%s.%s  (set it: %s = ...; $$ is a plain $)", typed, buf_text(&hint),
            typed);
    buf_fini(&hint);
    return STATUS_INVALID;
}
/* *s is "$": appends what it stands for (a full buffer shows in buf_take) and moves behind it. strict: an unknown name is an error. */
static int dollar(const char **s, const struct variables *vars, bool strict, struct buf *out, struct err *e) {
    const char *name = *s + 1;
    if (*name == '$') {
        *s += 2;
        buf_puts(out, "$");
        return 0;
    }
    const bool brace = *name == '{';
    name += brace;
    const size_t n = cell_name_length(name, strlen(name));
    if (!n || n > 255 || (brace && name[n] != '}')) {
        ++*s;
        buf_puts(out, "$");
        return 0;
    }
    char key[256];
    memcpy(key, name, n);
    key[n] = 0;
    const struct literal *v = variables_get(vars, key);
    const char *text = v ? v->text : strict ? getenv(key) : NULL;
    const char *end = name + n + brace;
    if (!text && strict) return unknown(name, n, vars, e);
    if (text) {
        buf_puts(out, text);
    } else {
        buf_add(out, *s, (size_t)(end - *s));
    }
    *s = end;
    return 0;
}
char *words_expand(const char *s, const struct variables *vars, bool strict, struct err *e) {
    struct buf out;
    buf_init(&out, WORDS_MAX_BYTES);
    int rc = 0;
    while (*s && !rc) {
        if (*s == '$') {
            rc = dollar(&s, vars, strict, &out, e);
        } else {
            const size_t n = strcspn(s, "$");
            buf_add(&out, s, n);
            s += n;
        }
    }
    char *text = rc ? NULL : buf_take(&out);
    if (!text) err_set(e, STATUS_NOMEM, "out of memory for a line");
    buf_fini(&out);
    return text;
}

/* *s stands on the opening quote. */
static int quoted(const char **s, const struct variables *vars, struct buf *out, struct err *e) {
    const char quote = *(*s)++;
    while (**s && **s != quote) {
        const char c = **s, next = (*s)[1];
        if (quote == '"' && c == '\\' && next) {
            static const char from[] = "ntr\"\\$", to[] = "\n\t\r\"\\$";
            const char *known = strchr(from, next);
            buf_add(out, known ? to + (known - from) : *s, known ? 1 : 2);
            *s += 2;
        } else if (quote == '"' && c == '$') {
            if (dollar(s, vars, true, out, e)) return -1;
        } else {
            buf_add(out, (*s)++, 1);
        }
    }
    if (**s != quote) return err_set(e, STATUS_INVALID, "a %c quote is not closed", quote);
    ++*s;
    return 0;
}
static int one_word(const char **s, const struct variables *vars, struct buf *out, struct err *e) {
    const char *start = *s;
    for (size_t n; **s && !is_blank(*s, &n);) {
        const char c = **s;
        const bool opens = *s == start || *start == '-' || (*s)[-1] == '=';
        if ((c == '"' || c == '\'') && opens) {
            if (quoted(s, vars, out, e)) return -1;
        } else if (c == '$') {
            if (dollar(s, vars, true, out, e)) return -1;
        } else if (c == '\\' && (*s)[1] && strchr(" \t\"'\\$", (*s)[1])) {
            buf_add(out, *s + 1, 1);
            *s += 2;
        } else {
            buf_add(out, *s, n);
            *s += n;
        }
    }
    return 0;
}
static int add(struct words *w, struct buf *text, bool is_quoted, struct err *e) {
    if (w->n == w->cap) {
        const int cap = w->cap ? w->cap * 2 : 16;
        struct word *v = mem_grow(w->v, (size_t)cap, sizeof *v);
        if (!v) return err_set(e, STATUS_NOMEM, "out of memory for a line");
        w->v = v;
        w->cap = cap;
    }
    char *p = buf_take(text);
    if (!p) return err_set(e, STATUS_NOMEM, "out of memory for a word");
    w->v[w->n++] = (struct word){ p, is_quoted };
    return 0;
}
int words_split(struct words *out, const char *s, const struct variables *vars, struct err *e) {
    *out = (struct words){ 0 };
    struct buf text;
    buf_init(&text, WORDS_MAX_BYTES);
    int rc = 0;
    for (size_t n; !rc;) {
        while (*s && is_blank(s, &n)) s += n;
        if (!*s) break;
        const bool is_quoted = *s == '"' || *s == '\'';
        rc = one_word(&s, vars, &text, e);
        if (!rc) rc = add(out, &text, is_quoted, e);
    }
    buf_fini(&text);
    if (rc) words_fini(out);
    return rc;
}
void words_fini(struct words *w) {
    for (int i = 0; i < w->n; i++) mem_free(w->v[i].text);
    mem_free(w->v);
    *w = (struct words){ 0 };
}
