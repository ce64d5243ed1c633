#include "pretok.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <stdio.h>
#include <string.h>

/* The GPT-2 splitter (Radford et al. 2019): contractions, letters, numbers, the rest, blanks. The last blank of a run
 * goes to the word that follows. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3                                                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"           \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
enum { NAMED_STAGES = 2, STAGES = 32, MARK = 16 };
static const struct scheme {
    const char *names;                 /* separated by blanks */
    const char *pattern[NAMED_STAGES]; /* the second works within the pieces of the first */
    bool whole_first, adds_bos;
} schemes[] = {
    { "gpt-2 gpt2 default olmo", { GPT2 }, false, false },
    { "smollm", { "\\p{N}", GPT2 }, false, false }, /* every digit alone, then GPT-2 */
    { "llama-bpe llama3 llama-v3", { LLAMA3 }, true, true },
};
struct stage {
    enum { SPLIT, BLANK, REMARK } kind;
    struct pattern *pattern;
    enum pretok_behavior behavior;
    bool invert;
    enum pretok_prefix prefix;
    char mark[MARK];
    size_t mark_n;
};
struct pretok {
    struct stage stage[STAGES];
    int stages;
    bool whole_first, adds_bos;
};

static bool listed(const char *names, const char *name, size_t n) {
    for (const char *at = names; *at; at += strspn(at, " ")) {
        const size_t len = strcspn(at, " ");
        if (len == n && !memcmp(at, name, n)) return true;
        at += len;
    }
    return false;
}
static int unknown(const char *name, size_t n, struct err *e) {
    char known[120] = "";
    size_t at = 0;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", schemes[i].names);
    return err_set(e, STATUS_INVALID, "tokenizer.ggml.pre '%.*s' is not supported; supported: %s",
                   (int)(n < 40 ? n : 40), name, known);
}
int pretok_open(struct pretok **out, struct err *e) {
    *out = mem_zero(1, sizeof **out);
    return *out ? 0 : err_set(e, STATUS_NOMEM, "no memory for the tokenizer");
}
void pretok_close(struct pretok *p) {
    if (!p) return;
    for (int i = 0; i < p->stages; i++) pattern_close(p->stage[i].pattern);
    mem_free(p);
}
static int add_stage(struct pretok *p, const struct stage *s, struct err *e) {
    if (p->stages == STAGES) {
        pattern_close(s->pattern);
        return err_set(e, STATUS_INVALID, "a pre_tokenizer of more than %d steps is not supported", STAGES);
    }
    p->stage[p->stages++] = *s;
    return 0;
}
int pretok_add_split(struct pretok *p, struct pattern *pattern, enum pretok_behavior behavior, bool invert,
                     struct err *e) {
    return add_stage(p, &(struct stage){ .pattern = pattern, .behavior = behavior, .invert = invert }, e);
}
static int add_isolated(struct pretok *p, const char *regex, struct err *e) {
    struct pattern *pattern;
    const int rc = pattern_open(&pattern, regex, strlen(regex), true, e);
    return rc ? rc : pretok_add_split(p, pattern, PRETOK_ISOLATED, false, e);
}
int pretok_add_gpt2(struct pretok *p, struct err *e) { return add_isolated(p, GPT2, e); }
int pretok_add_blank(struct pretok *p, struct err *e) { return add_stage(p, &(struct stage){ .kind = BLANK }, e); }
int pretok_add_mark(struct pretok *p, const char *mark, size_t n, enum pretok_prefix prefix, struct err *e) {
    struct stage s = { .kind = REMARK, .prefix = prefix, .mark_n = n };
    if (!n || n >= MARK) return err_set(e, STATUS_INVALID, "a Metaspace replacement of %zu bytes is not supported", n);
    memcpy(s.mark, mark, n);
    return add_stage(p, &s, e);
}
int pretok_named(struct pretok **out, const char *name, size_t n, struct err *e) {
    const struct scheme *scheme = NULL;
    *out = NULL;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes && !scheme; i++)
        if (listed(schemes[i].names, name, n)) scheme = &schemes[i];
    if (!scheme) return unknown(name, n, e);
    struct pretok *p;
    int rc = pretok_open(&p, e);
    if (rc) return rc;
    for (int i = 0; i < NAMED_STAGES && scheme->pattern[i] && !rc; i++) rc = add_isolated(p, scheme->pattern[i], e);
    p->whole_first = scheme->whole_first;
    p->adds_bos = scheme->adds_bos;
    if (rc) pretok_close(p), p = NULL;
    *out = p;
    return rc;
}
bool pretok_whole_first(const struct pretok *p) { return p->whole_first; }
bool pretok_adds_bos(const struct pretok *p) { return p->adds_bos; }

void pretok_work_fini(struct pretok_work *w) {
    for (int i = 0; i < 2; i++) {
        mem_free(w->list[i].v);
        buf_fini(&w->made[i]);
    }
    pattern_work_fini(&w->search);
    *w = (struct pretok_work){ 0 };
}
static int no_memory(struct err *e) { return err_set(e, STATUS_NOMEM, "no memory to split the text"); }

static int add(struct pretok_list *l, size_t from, size_t to, struct err *e) {
    if (from == to) return 0;
    if (l->n == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : 64;
        struct pretok_piece *v = mem_grow(l->v, cap, sizeof *v);
        if (!v) return no_memory(e);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = (struct pretok_piece){ (uint32_t)from, (uint32_t)(to - from) };
    return 0;
}
/* The pieces of one piece, as matches and what lies between them arrive in turn. */
struct joiner {
    const struct stage *stage;
    struct pretok_list *out;
    struct err *e;
    size_t from, to; /* the piece that is still open */
    bool open, was;  /* was: the one before was a match */
};
static int flush(struct joiner *j) {
    j->open = false;
    return add(j->out, j->from, j->to, j->e);
}
static int join(struct joiner *j, size_t from, size_t to, bool matched) {
    const bool match = matched != j->stage->invert, was = j->was;
    bool joins = false;
    j->was = match;
    switch (j->stage->behavior) {
    case PRETOK_REMOVED:
        if (match) return 0;
        break;
    case PRETOK_ISOLATED: break;
    case PRETOK_WITH_PREVIOUS: joins = match && !was; break;
    case PRETOK_WITH_NEXT: joins = was && !match; break;
    case PRETOK_CONTIGUOUS: joins = match == was; break;
    }
    int rc = 0;
    if (j->open && joins) {
        j->to = to;
        return 0;
    }
    if (j->open) rc = flush(j);
    j->from = from;
    j->to = to;
    j->open = true;
    return rc;
}
static int split(struct pretok_work *w, const struct stage *s, struct pretok_piece piece, struct pretok_list *out,
                 struct err *e) {
    struct joiner j = { .stage = s, .out = out, .e = e };
    const char *text = w->text + piece.at;
    struct pattern_match m = { 0, 0 };
    size_t last = 0;
    int rc = 0, found = 0;
    while (!rc && last <= piece.n && (found = pattern_find(s->pattern, &w->search, text, piece.n, last, &m, e)) > 0) {
        if (m.from > last) rc = join(&j, piece.at + last, piece.at + m.from, false);
        if (!rc) rc = join(&j, piece.at + m.from, piece.at + m.to, true);
        last = m.to;
    }
    if (found < 0) return found;
    if (!rc && last < piece.n) rc = join(&j, piece.at + last, piece.at + piece.n, false);
    if (!rc && j.open) rc = flush(&j);
    return rc;
}
/* The piece with its blanks written as the stage's mark, or a blank before it, at the end of made. */
static void rewrite(struct buf *made, const struct stage *s, const char *p, size_t n, bool first) {
    if (s->kind == BLANK) {
        if (*p != ' ') buf_puts(made, " ");
        buf_add(made, p, n);
        return;
    }
    const bool begins = *p == ' ' || (n >= s->mark_n && !memcmp(p, s->mark, s->mark_n));
    if (!begins && (s->prefix == PRETOK_ALWAYS || (s->prefix == PRETOK_FIRST && first)))
        buf_add(made, s->mark, s->mark_n);
    for (const char *end = p + n; p < end;) {
        const char *blank = memchr(p, ' ', (size_t)(end - p));
        buf_add(made, p, (size_t)((blank ? blank : end) - p));
        if (blank) buf_add(made, s->mark, s->mark_n);
        p = blank ? blank + 1 : end;
    }
}
static bool is_text(const struct pretok_work *w, struct pretok_piece piece) {
    uint32_t cp;
    return utf8_decode(w->text + piece.at, piece.n, &cp) > 0;
}
static int run_stage(struct pretok_work *w, const struct stage *s, const struct pretok_list *in,
                     struct pretok_list *out, bool first, struct err *e) {
    struct buf *made = &w->made[w->text == w->made[0].p];
    int rc = 0;
    buf_reset(made);
    made->max = UINT32_MAX;
    for (size_t i = 0; i < in->n && !rc; i++) {
        const struct pretok_piece piece = in->v[i];
        const bool text = is_text(w, piece);
        if (s->kind == SPLIT) {
            rc = text ? split(w, s, piece, out, e) : add(out, piece.at, piece.at + piece.n, e);
            continue;
        }
        const size_t at = made->n;
        if (text) {
            rewrite(made, s, w->text + piece.at, piece.n, first && !i);
        } else {
            buf_add(made, w->text + piece.at, piece.n);
        }
        rc = made->failed ? no_memory(e) : add(out, at, made->n, e);
    }
    if (s->kind != SPLIT) w->text = buf_text(made);
    return rc;
}
/* Bytes at the start of s that are all valid, or all invalid. */
static size_t run(const char *s, size_t n) {
    uint32_t cp;
    size_t i = 0;
    const bool valid = utf8_decode(s, n, &cp) > 0;
    while (i < n) {
        const int len = utf8_decode(s + i, n - i, &cp);
        if ((len > 0) != valid) break;
        i += len ? (size_t)len : 1;
    }
    return i;
}
int pretok_cut(const struct pretok *p, struct pretok_work *w, const char *text, size_t n, bool first, struct err *e) {
    int rc = 0, now = 0;
    w->text = text;
    w->list[0].n = 0;
    for (size_t at = 0, len; at < n && !rc; at += len) {
        len = run(text + at, n - at);
        rc = add(&w->list[0], at, at + len, e);
    }
    for (int i = 0; i < p->stages && !rc; i++, now = !now) {
        w->list[!now].n = 0;
        rc = run_stage(w, &p->stage[i], &w->list[now], &w->list[!now], first, e);
    }
    w->piece = w->list[now].v;
    w->n = w->list[now].n;
    return rc;
}
