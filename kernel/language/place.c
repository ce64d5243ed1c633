#include "place.h"
#include <stdio.h>
#include <string.h>

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
static size_t skip(const char *code, size_t at, size_t end) {
    while (at < end && is_blank(code[at])) at++;
    return at;
}
static size_t word_end(const char *code, size_t at, size_t end) {
    while (at < end && !is_blank(code[at])) at++;
    return at;
}
/* Does the cell's first line make it a prompt, or is the line at `line` in the body of a cell magic? Then what stands
 * there is prose, unless the body holds lines of this language (%%time, %%capture) or of a shell. */
static enum place_kind around(const char *code, size_t line) {
    for (size_t at = 0; at < line;) {
        const char *nl = memchr(code + at, '\n', line - at);
        const size_t end = nl ? (size_t)(nl - code) : line, s = skip(code, at, end);
        if (end - s > 2 && code[s] == '%' && code[s + 1] == '%') {
            char name[64];
            const size_t stop = word_end(code, s, end);
            snprintf(name, sizeof name, "%.*s", (int)(stop - s - 2 < 60 ? stop - s - 2 : 60), code + s + 2);
            const struct magic *m = magic_find(name);
            if (m && (!strcmp(m->name, "time") || !strcmp(m->name, "capture"))) return PLACE_ARGS;
            return m && !strcmp(m->name, "bash") ? PLACE_SHELL : PLACE_NONE;
        }
        const bool nothing = s == end || (code[s] == '#' && (s + 1 == end || is_blank(code[s + 1])));
        const bool command = s < end && strchr("%!?", code[s]) && code[s];
        if (!nothing && !command && !memchr(code + s, '=', end - s)) return PLACE_NONE;
        if (!nothing) return PLACE_ARGS;
        at = end + 1;
    }
    return PLACE_ARGS;
}
static void word_at(struct place *p, const char *code, size_t from, size_t cursor) {
    p->word = cursor;
    while (p->word > from && !is_blank(code[p->word - 1])) p->word--;
    p->word_end = word_end(code, cursor, p->line_end);
}
static void magic_at(struct place *p, const char *code, size_t cursor) {
    size_t s = p->line;
    while (s < p->line_end && code[s] == '?') s++;
    size_t name = s;
    while (name < p->line_end && code[name] == '%' && name - s < 2) name++;
    p->cell = name - s == 2;
    size_t end = word_end(code, name, p->line_end);
    const size_t full = end;
    while (end > name && code[end - 1] == '?') end--;
    snprintf(p->name, sizeof p->name, "%.*s", (int)(end - name < 60 ? end - name : 60), code + name);
    if (cursor <= full) {
        p->kind = PLACE_MAGIC;
        p->word = s < cursor ? s : cursor; /* the cursor may stand in front of the ? */
        p->word_end = full;
        p->magic = magic_find(p->name);
        return;
    }
    p->kind = PLACE_ARGS;
    p->magic = magic_find(p->name);
    p->args = skip(code, full, p->line_end);
    word_at(p, code, full, cursor);
}
struct place place_find(const char *code, size_t n, size_t cursor) {
    if (cursor > n) cursor = n;
    size_t line = cursor;
    while (line > 0 && code[line - 1] != '\n') line--;
    const char *nl = memchr(code + cursor, '\n', n - cursor);
    struct place p = { .line = line, .line_end = nl ? (size_t)(nl - code) : n };
    const enum place_kind in = around(code, line);
    p.line = skip(code, line, p.line_end);
    if (in == PLACE_NONE || cursor < p.line) return p;
    /* %time runs the line behind it: look at that one */
    for (size_t sub; p.line_end - p.line > 6 && !memcmp(code + p.line, "%time ", 6); p.line = sub) {
        sub = skip(code, p.line + 6, p.line_end);
        if (cursor < sub) break;
    }
    const char first = p.line < p.line_end ? code[p.line] : 0;
    if (in == PLACE_SHELL || first == '!') {
        p.kind = PLACE_SHELL;
        p.args = p.line + (first == '!');
        word_at(&p, code, p.args < cursor ? p.args : cursor, cursor);
    } else if (first == '%' || (first == '?' && p.line + 1 < p.line_end && code[p.line + 1] == '%')) {
        magic_at(&p, code, cursor);
    } else if (first && word_end(code, p.line, p.line_end) >= cursor) {
        p.kind = PLACE_BARE;
        word_at(&p, code, p.line, cursor);
    }
    return p;
}

static const struct option *named(const struct magic *m, const char *word, size_t n) {
    char name[64];
    if (n < 2 || n >= sizeof name || word[0] != '-') return NULL;
    snprintf(name, sizeof name, "%.*s", (int)n, word);
    if (name[1] == '-') return option_find(m->options, name + 2);
    for (option_groups g = m->options; g && *g; g++)
        for (const struct option *o = *g; o->name; o++)
            if (o->shorts && !strcmp(o->shorts, name + 1)) return o;
    return NULL;
}
const struct option *place_option(const struct place *p, const char *code, size_t *value) {
    if (p->kind != PLACE_ARGS || !p->magic || !p->magic->options) return NULL;
    const char *word = code + p->word, *eq = memchr(word, '=', p->word_end - p->word);
    if (eq) {
        char name[64];
        const size_t dashes = *word == '-' ? 2 : 0, n = (size_t)(eq - word);
        if (n < dashes || n - dashes >= sizeof name) return NULL;
        snprintf(name, sizeof name, "%.*s", (int)(n - dashes), word + dashes);
        *value = p->word + n + 1;
        return option_find(p->magic->options, name);
    }
    size_t end = p->word;
    while (end > p->args && is_blank(code[end - 1])) end--;
    size_t start = end;
    while (start > p->args && !is_blank(code[start - 1])) start--;
    const struct option *o = named(p->magic, code + start, end - start);
    *value = p->word;
    return o && o->type != OPTION_FLAG ? o : NULL;
}
