/* Any bytes as a cell, as arguments of a magic and under the cursor: nothing crashes, every piece lies inside the text,
 * a prompt is the whole text, and a text that parsed once parses the same again. */
#include "../unit/language/fake_engine.h" /* the table of magics names what runs them; nothing runs here */
#include "../unit/language/fake_out.h"

#include "base/mem.h"
#include "kernel/language/cell.h"
#include "kernel/language/options.h"
#include "kernel/language/place.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void require(bool ok) {
    if (!ok) abort();
}
static bool known(const void *arg, const char *name) {
    (void)arg;
    return name[0] == 'v';
}
/* The arguments of a line, read by the grammar of the magic it names. */
static void read_arguments(const struct directive *d, const struct variables *vars) {
    const struct magic *m = magic_find(d->name);
    if (!m) return;
    struct words w;
    struct args a;
    struct err e = { 0 };
    const struct grammar g = { m->name, m->usage, m->options, m->flags & MAGIC_TEXT ? WORDS_ARE_TEXT : 0 };
    if (words_split(&w, d->rest, vars, &e)) {
        require(e.code && e.text[0]);
        return;
    }
    if (!args_read(&a, &g, &w, NULL, &e)) {
        for (int i = 0; i < a.words.n; i++) require(a.words.v[i].text != NULL);
        args_fini(&a);
    } else {
        require(e.code && e.text[0]);
    }
}
static void check(const struct cell *c, const char *code, size_t n) {
    struct variables vars = { 0 };
    for (int i = 0; i < c->n; i++) {
        struct directive *d = &c->v[i];
        require(d->line >= 1);
        if (d->body) require(d->body >= code && d->body + d->body_len == code + n);
        if (d->kind == DIRECTIVE_PROMPT) require(c->n == 1 && d->body == code);
        if (d->kind == DIRECTIVE_MAGIC) read_arguments(d, &vars);
        if (d->kind == DIRECTIVE_ASSIGN) {
            struct literal again; /* what was printed reads back as the same */
            size_t used;
            const bool special = strstr(d->value.repr, "nan") || strstr(d->value.repr, "inf");
            if (!special && !literal_parse(&again, d->value.repr, strlen(d->value.repr), &used, NULL)) {
                require(!strcmp(again.repr, d->value.repr));
                literal_fini(&again);
            }
            variables_set(&vars, d->name, &d->value, NULL);
        }
        if (d->kind == DIRECTIVE_SHELL) mem_free(words_expand(d->rest, &vars, false, NULL));
    }
    variables_fini(&vars);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char *code = malloc(n ? n : 1); /* exactly n bytes: a read behind them is seen */
    if (!code) return 0;
    memcpy(code, data, n);
    struct cell c;
    struct err e = { 0 };
    const int rc = cell_parse(&c, code, n, known, NULL, &e);
    require(!rc == !e.code);
    if (!rc) check(&c, code, n);
    cell_fini(&c);
    cell_is_complete(code, n);
    for (size_t cursor = 0; cursor <= n && cursor < 200; cursor++) {
        const struct place p = place_find(code, n, cursor);
        size_t value = 0;
        require(p.line <= p.line_end && p.line_end <= n);
        if (p.kind != PLACE_NONE) require(p.word <= p.word_end && p.word_end <= n && p.word <= cursor);
        if (place_option(&p, code, &value)) require(value <= n);
    }
    free(code);
    return 0;
}
