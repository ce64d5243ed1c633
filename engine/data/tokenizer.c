#include "base/mem.h"
#include "tokenizer_parts.h"
#include <string.h>

enum { TEXT_MAX = 64 << 20 };

void ids_fini(struct ids *ids) {
    mem_free(ids->v);
    *ids = (struct ids){ 0 };
}
int ids_add(struct ids *ids, int id) {
    if (ids->n == ids->cap) {
        const size_t cap = ids->cap ? ids->cap * 2 : 64;
        int *v = mem_grow(ids->v, cap, sizeof *v);
        if (!v) return -1;
        ids->v = v;
        ids->cap = cap;
    }
    ids->v[ids->n++] = id;
    return 0;
}
void tokenizer_close(struct tokenizer *t) {
    if (!t) return;
    pretok_close(t->pretok);
    normalizer_close(t->normalizer);
    bpe_fini(&t->bpe);
    strmap_fini(&t->normal);
    strmap_fini(&t->named);
    added_fini(&t->raw);
    added_fini(&t->normalized);
    mem_free(t->chat_template);
    mem_free(t->type);
    mem_free(t->at);
    mem_free(t->spelling);
    mem_free(t->blob);
    mem_free(t);
}

struct encoder {
    const struct tokenizer *t;
    struct normalizer_work normal;
    struct pretok_work cut;
    struct bpe_work merge;
    struct ids start, *out; /* start: the symbols of one piece before merging */
    bool special;
    struct err *e;
};
static int no_memory(struct err *e) { return err_set(e, STATUS_NOMEM, "no memory to tokenise the text"); }

/* A byte that the vocabulary lacks, or every byte of such a character, stands for unk, or vanishes. */
static int add_unknown(struct encoder *c) {
    const struct tokenizer *t = c->t;
    if (t->unk < 0) return 0;
    if (t->fuse_unk && c->start.n && c->start.v[c->start.n - 1] == t->unk) return 0;
    return ids_add(&c->start, t->unk);
}
static int add_character(struct encoder *c, const char *p, size_t n) {
    const struct tokenizer *t = c->t;
    const int id = strmap_get(&t->normal, p, n);
    if (id >= 0) return ids_add(&c->start, id);
    for (size_t i = 0; i < n; i++)
        if (t->byte[(unsigned char)p[i]] < 0) return add_unknown(c);
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) rc = ids_add(&c->start, t->byte[(unsigned char)p[i]]);
    return rc;
}
static int add_byte(struct encoder *c, char byte) {
    const int id = c->t->byte[(unsigned char)byte];
    return id >= 0 ? ids_add(&c->start, id) : add_unknown(c);
}
static bool mark_at(const char *p, size_t n) { return n >= MARK_BYTES && !memcmp(p, MARK_TEXT, MARK_BYTES); }

static int merge_now(struct encoder *c) {
    const int rc = bpe_merge(&c->t->bpe, &c->merge, c->start.v, c->start.n, c->out);
    c->start.n = 0;
    return rc;
}
static int encode_characters(struct encoder *c, const char *p, size_t n) {
    uint32_t cp;
    bool was_mark = true;
    int rc = 0;
    for (size_t i = 0; i < n && !rc;) {
        const int len = utf8_decode(p + i, n - i, &cp);
        const bool mark = mark_at(p + i, n - i);
        if (mark && !was_mark && c->t->cuts_marks) rc = merge_now(c);
        if (!rc) rc = len ? add_character(c, p + i, (size_t)len) : add_byte(c, p[i]);
        was_mark = mark;
        i += len ? (size_t)len : 1;
    }
    return rc ? rc : merge_now(c);
}
static int encode_piece(struct encoder *c, const char *p, size_t n) {
    const struct tokenizer *t = c->t;
    const int whole = t->whole_first ? strmap_get(&t->normal, p, n) : -1;
    int rc = 0;
    c->start.n = 0;
    if (whole >= 0) {
        rc = ids_add(c->out, whole);
    } else if (!t->bytewise) {
        rc = encode_characters(c, p, n);
    } else {
        for (size_t i = 0; i < n && !rc; i++) rc = add_byte(c, p[i]);
        if (!rc) rc = merge_now(c);
    }
    return rc ? no_memory(c->e) : 0;
}
static int encode_plain(struct encoder *c, const char *p, size_t n, bool start) {
    const struct tokenizer *t = c->t;
    if (!n) return 0;
    if (!t->pretok) return encode_piece(c, p, n);
    int rc = pretok_cut(t->pretok, &c->cut, p, n, start, c->e);
    for (size_t i = 0; i < c->cut.n && !rc; i++)
        rc = encode_piece(c, c->cut.text + c->cut.piece[i].at, c->cut.piece[i].n);
    return rc;
}

static bool word_before(const char *p, size_t n) {
    uint32_t cp;
    size_t back = n > 0;
    while (back < n && back < 4 && ((unsigned char)p[n - back] & 0xc0) == 0x80) back++;
    return back && utf8_decode(p + n - back, back, &cp) == (int)back && utf8_is_word(cp);
}
static bool word_after(const char *p, size_t n) {
    uint32_t cp;
    return n && utf8_decode(p, n, &cp) && utf8_is_word(cp);
}
static size_t spaces_before(const char *p, size_t n) {
    uint32_t cp;
    size_t taken = 0;
    while (n > taken) {
        const size_t left = n - taken;
        size_t back = 1;
        while (back < left && back < 4 && ((unsigned char)p[left - back] & 0xc0) == 0x80) back++;
        if (utf8_decode(p + left - back, back, &cp) != (int)back || !utf8_is_space(cp)) break;
        taken += back;
    }
    return taken;
}
static size_t spaces_after(const char *p, size_t n) {
    uint32_t cp;
    size_t taken = 0;
    for (int len; taken < n && (len = utf8_decode(p + taken, n - taken, &cp)) && utf8_is_space(cp);)
        taken += (size_t)len;
    return taken;
}
/* The next token of `set` in p at or after `at`, but for those that do not count here, which are passed over whole as
 * in the reference. from..to: what it takes, not before `taken`. */
static const struct added_token *next_added(const struct encoder *c, const struct added *set, const char *p, size_t n,
                                            size_t *at, size_t taken, struct pattern_match *m) {
    while (*at < n) {
        const struct added_token *k = added_find(set, p + *at, n - *at);
        if (!k) {
            ++*at;
            continue;
        }
        const size_t from = *at, to = from + k->n;
        *at = to;
        if ((k->flags & ADDED_CONTROL) && !c->special) continue;
        if ((k->flags & ADDED_WORD) && (word_before(p, from) || word_after(p + to, n - to))) continue;
        m->from = k->flags & ADDED_LSTRIP ? from - spaces_before(p, from) : from;
        m->to = k->flags & ADDED_RSTRIP ? to + spaces_after(p + to, n - to) : to;
        if (m->from < taken) m->from = taken;
        if (*at < m->to) *at = m->to;
        return k;
    }
    return NULL;
}
static int encode_text(struct encoder *c, const struct added *set, const char *p, size_t n, bool start,
                       int (*plain)(struct encoder *, const char *, size_t, bool)) {
    const struct added_token *k;
    struct pattern_match m;
    size_t at = 0, done = 0; /* done: end of what has been encoded */
    int rc = 0;
    while (!rc && set->n && (k = next_added(c, set, p, n, &at, done, &m))) {
        rc = plain(c, p + done, m.from - done, start && !done);
        if (!rc && ids_add(c->out, k->id)) rc = no_memory(c->e);
        done = m.to;
    }
    return rc ? rc : plain(c, p + done, n - done, start && !done);
}
static int encode_normalized(struct encoder *c, const char *p, size_t n, bool start) {
    int rc = 0;
    if (n && c->t->normalizer) rc = normalizer_run(c->t->normalizer, &c->normal, p, n, &p, &n, c->e);
    return rc ? rc : encode_text(c, &c->t->normalized, p, n, start, encode_plain);
}
int tokenizer_encode_part(const struct tokenizer *t, const char *text, size_t n, bool special, bool start,
                          struct ids *out, struct err *e) {
    if (n > TEXT_MAX) return err_set(e, STATUS_INVALID, "a text of %zu bytes is too long to tokenise (64 MiB)", n);
    struct encoder c = { .t = t, .out = out, .special = special, .e = e };
    const int rc = encode_text(&c, &t->raw, text, n, start, encode_normalized);
    normalizer_work_fini(&c.normal);
    pretok_work_fini(&c.cut);
    bpe_work_fini(&c.merge);
    ids_fini(&c.start);
    return rc;
}
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool special, struct ids *out,
                     struct err *e) {
    return tokenizer_encode_part(t, text, n, special, true, out, e);
}

const char *tokenizer_bytes(const struct tokenizer *t, int id, size_t *n) {
    const bool there = id >= 0 && id < t->n && t->type[id] != TOKEN_GAP;
    *n = there ? t->at[id + 1] - t->at[id] : 0;
    return there ? t->blob + t->at[id] : NULL;
}
bool tokenizer_is_control(const struct tokenizer *t, int id) {
    return id >= 0 && id < t->n && t->type[id] == TOKEN_CONTROL;
}
int tokenizer_find(const struct tokenizer *t, const char *text) {
    const int id = strmap_get(&t->named, text, strlen(text));
    return id >= 0 ? id : strmap_get(&t->normal, text, strlen(text));
}
bool tokenizer_is_bare(const struct tokenizer *t) { return t->bare; }
int tokenizer_vocab(const struct tokenizer *t) { return t->n; }
int tokenizer_bos(const struct tokenizer *t) { return t->bos; }
int tokenizer_eos(const struct tokenizer *t) { return t->eos; }
const char *tokenizer_chat_template(const struct tokenizer *t, size_t *n) {
    *n = t->chat_template ? t->chat_template_n : 0;
    return t->chat_template ? t->chat_template : "";
}
