#include "tokenizer.h"
#include "base/mem.h"
#include "bpe.h"
#include "byte_text.h"
#include "pretok.h"
#include "strmap.h"
#include <stdlib.h>
#include <string.h>

/* GGUF's tokenizer.ggml.token_type; the others (unknown, unused, byte) are plain text that no merge makes. */
enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4 };
enum { TOKENS_MAX = 1 << 24, TEXT_MAX = 64 << 20 };

struct tokenizer {
    int n, bos, eos;
    char *blob;   /* the bytes of all tokens, one after another */
    uint32_t *at; /* n + 1 places in blob */
    unsigned char *type;
    struct strmap normal, named; /* bytes -> id of what merges make; text -> id of everything else */
    int byte[256];               /* id of each single byte, -1: the vocabulary lacks it */
    int *added;                  /* control and user-defined ids by first byte, the longest first */
    int first[257];              /* where each first byte begins in added */
    struct bpe bpe;
    struct pretok *pretok;
};

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

static size_t length(const struct tokenizer *t, int id) { return t->at[id + 1] - t->at[id]; }
static const char *bytes(const struct tokenizer *t, int id) { return t->blob + t->at[id]; }
static bool is_added(const struct tokenizer *t, int id) {
    return t->type[id] == CONTROL || t->type[id] == USER_DEFINED;
}

static int no_memory(struct err *e) { return err_set(e, STATUS_NOMEM, "no memory for the tokenizer"); }
static int wrong(const struct gguf *g, const char *why, struct err *e) {
    return err_set(e, STATUS_FORMAT, "%s: %s; convert the model again", gguf_path(g), why);
}
/* Tokens as bytes: normal ones are written in the byte alphabet, all others stand as they are. */
static int load_tokens(struct tokenizer *t, const struct gguf *g, struct err *e) {
    const size_t n = gguf_array_len(g, "tokenizer.ggml.tokens");
    size_t total = 0;
    struct gguf_string s;
    if (!n || n > TOKENS_MAX) return wrong(g, "tokenizer.ggml.tokens is missing or too long", e);
    for (size_t i = 0; i < n; i++) {
        if (!gguf_array_text(g, "tokenizer.ggml.tokens", i, &s))
            return wrong(g, "tokenizer.ggml.tokens holds no text", e);
        total += s.n;
    }
    t->n = (int)n;
    t->blob = mem_alloc(total);
    t->at = mem_zero(n + 1, sizeof *t->at);
    t->type = mem_alloc(n);
    if (!t->blob || !t->at || !t->type || strmap_init(&t->normal, n) || strmap_init(&t->named, n)) return no_memory(e);
    for (size_t i = 0; i < n; i++) {
        int64_t type = NORMAL;
        gguf_array_int(g, "tokenizer.ggml.token_type", i, &type);
        t->type[i] = type > 0 && type < 256 ? (unsigned char)type : NORMAL;
        gguf_array_text(g, "tokenizer.ggml.tokens", i, &s);
        char *to = t->blob + t->at[i];
        size_t len = t->type[i] == NORMAL ? byte_text_decode(s.p, s.n, to) : (size_t)-1;
        struct strmap *map = len == (size_t)-1 ? &t->named : &t->normal;
        if (len == (size_t)-1) memcpy(to, s.p, len = s.n);
        t->at[i + 1] = t->at[i] + (uint32_t)len;
        strmap_add(map, to, len, (int)i);
    }
    for (int b = 0; b < 256; b++) t->byte[b] = strmap_get(&t->normal, &(char){ (char)b }, 1);
    return 0;
}
/* "left right", both in the byte alphabet, which has no blank. text has room for the decoded bytes. */
static int add_merge(struct tokenizer *t, struct gguf_string s, int rank, char *text) {
    const char *blank = memchr(s.p, ' ', s.n);
    if (!blank) return -1;
    const size_t left_n = (size_t)(blank - s.p);
    const size_t left = byte_text_decode(s.p, left_n, text);
    if (left == (size_t)-1) return -1;
    const size_t right = byte_text_decode(blank + 1, s.n - left_n - 1, text + left);
    if (right == (size_t)-1) return -1;
    const int a = strmap_get(&t->normal, text, left), b = strmap_get(&t->normal, text + left, right),
              made = strmap_get(&t->normal, text, left + right);
    if (a < 0 || b < 0 || made < 0 || !left || !right) return -1;
    bpe_add(&t->bpe, a, b, rank, made);
    return 0;
}
static int load_merges(struct tokenizer *t, const struct gguf *g, struct err *e) {
    const size_t n = gguf_array_len(g, "tokenizer.ggml.merges");
    struct gguf_string s = { 0 };
    size_t longest = 0;
    if (n > TOKENS_MAX) return wrong(g, "tokenizer.ggml.merges is too long", e);
    for (size_t i = 0; i < n && gguf_array_text(g, "tokenizer.ggml.merges", i, &s); i++)
        if (s.n > longest) longest = s.n;
    if (!longest) return wrong(g, "tokenizer.ggml.merges is missing or empty", e);
    char *text = mem_alloc(longest);
    int rc = !text || bpe_init(&t->bpe, n) ? no_memory(e) : 0;
    for (size_t i = 0; i < n && !rc; i++) {
        gguf_array_text(g, "tokenizer.ggml.merges", i, &s);
        if (add_merge(t, s, (int)i, text))
            rc = err_set(e, STATUS_FORMAT,
                         "%s: merge %zu makes or needs a token that is not there; convert the model again",
                         gguf_path(g), i);
    }
    mem_free(text);
    return rc;
}
struct by_first {
    const char *p;
    size_t n;
    int id;
};
static int compare(const void *a, const void *b) {
    const struct by_first *x = a, *y = b;
    const int fx = (unsigned char)x->p[0], fy = (unsigned char)y->p[0];
    if (fx != fy) return fx - fy;
    if (x->n != y->n) return x->n > y->n ? -1 : 1;
    return x->id - y->id;
}
static int sort_added(struct tokenizer *t, struct err *e) {
    int n = 0;
    for (int i = 0; i < t->n; i++) n += is_added(t, i) && length(t, i) > 0;
    struct by_first *list = mem_alloc((size_t)n * sizeof *list);
    t->added = mem_alloc((size_t)n * sizeof *t->added);
    if (!list || !t->added) {
        mem_free(list);
        return no_memory(e);
    }
    for (int i = 0, k = 0; i < t->n; i++)
        if (is_added(t, i) && length(t, i) > 0) list[k++] = (struct by_first){ bytes(t, i), length(t, i), i };
    qsort(list, (size_t)n, sizeof *list, compare);
    for (int k = 0; k < n; k++) {
        t->added[k] = list[k].id;
        t->first[(unsigned char)list[k].p[0] + 1]++;
    }
    for (int b = 0; b < 256; b++) t->first[b + 1] += t->first[b];
    mem_free(list);
    return 0;
}
static int load_special_id(const struct tokenizer *t, const struct gguf *g, const char *key, int *out, struct err *e) {
    int64_t v = -1;
    gguf_int(g, key, &v);
    if (v >= t->n)
        return err_set(e, STATUS_FORMAT, "%s: %s lies outside the vocabulary; convert the model again", gguf_path(g),
                       key);
    *out = v < 0 ? -1 : (int)v;
    return 0;
}
static int load_scheme(struct tokenizer *t, const struct gguf *g, struct err *e) {
    struct gguf_string model, pre = { "default", 7 };
    if (!gguf_text(g, "tokenizer.ggml.model", &model))
        return wrong(g, "holds no tokenizer (tokenizer.ggml.model is missing)", e);
    if (model.n != 4 || memcmp(model.p, "gpt2", 4))
        return err_set(e, STATUS_INVALID, "%s: tokenizer '%.*s' is not supported; supported: gpt2 (byte-level BPE)",
                       gguf_path(g), (int)(model.n < 40 ? model.n : 40), model.p);
    gguf_text(g, "tokenizer.ggml.pre", &pre);
    return pretok_open(&t->pretok, pre.p, pre.n, e);
}
int tokenizer_from_gguf(struct tokenizer **out, const struct gguf *g, struct err *e) {
    *out = NULL;
    struct tokenizer *t = mem_zero(1, sizeof *t);
    if (!t) return no_memory(e);
    bool adds_bos;
    int rc = load_scheme(t, g, e);
    if (!rc) rc = load_tokens(t, g, e);
    if (!rc) rc = load_merges(t, g, e);
    if (!rc) rc = sort_added(t, e);
    if (!rc) rc = load_special_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, e);
    if (!rc) rc = load_special_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, e);
    if (rc) {
        tokenizer_close(t);
        return rc;
    }
    if (!gguf_bool(g, "tokenizer.ggml.add_bos_token", &adds_bos)) adds_bos = pretok_adds_bos(t->pretok);
    if (!adds_bos) t->bos = -1;
    *out = t;
    return 0;
}
void tokenizer_close(struct tokenizer *t) {
    if (!t) return;
    pretok_close(t->pretok);
    bpe_fini(&t->bpe);
    strmap_fini(&t->normal);
    strmap_fini(&t->named);
    mem_free(t->added);
    mem_free(t->type);
    mem_free(t->at);
    mem_free(t->blob);
    mem_free(t);
}

struct encoder {
    const struct tokenizer *t;
    struct bpe_work work;
    struct ids start, *out;
    struct err *e;
};
static int encode_piece(void *with, const char *p, size_t n) {
    struct encoder *c = with;
    const struct tokenizer *t = c->t;
    const int whole = pretok_whole_first(t->pretok) ? strmap_get(&t->normal, p, n) : -1;
    c->start.n = 0;
    int rc = whole >= 0 ? ids_add(&c->start, whole) : 0;
    /* Like the reference, a byte that the vocabulary lacks vanishes. */
    for (size_t i = 0; i < n && whole < 0 && !rc; i++) {
        const int id = t->byte[(unsigned char)p[i]];
        if (id >= 0) rc = ids_add(&c->start, id);
    }
    if (!rc) rc = bpe_merge(&t->bpe, &c->work, c->start.v, c->start.n, c->out);
    return rc ? err_set(c->e, STATUS_NOMEM, "no memory to tokenise the text") : 0;
}
/* The added token that starts at p: the longest. -1: none. */
static int added_at(const struct tokenizer *t, const char *p, size_t n, bool special) {
    const int byte = (unsigned char)*p;
    for (int k = t->first[byte]; k < t->first[byte + 1]; k++) {
        const int id = t->added[k];
        if (t->type[id] == CONTROL && !special) continue;
        const size_t len = length(t, id);
        if (len <= n && !memcmp(p, bytes(t, id), len)) return id;
    }
    return -1;
}
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool special, struct ids *out,
                     struct err *e) {
    if (n > TEXT_MAX) return err_set(e, STATUS_INVALID, "a text of %zu bytes is too long to tokenise (64 MiB)", n);
    struct encoder c = { .t = t, .out = out, .e = e };
    size_t plain = 0; /* start of the plain text not yet encoded */
    int rc = 0;
    for (size_t i = 0; i < n && !rc;) {
        const int id = added_at(t, text + i, n - i, special);
        if (id < 0) {
            i++;
            continue;
        }
        rc = pretok_split(t->pretok, text + plain, i - plain, encode_piece, &c, e);
        if (!rc && ids_add(out, id)) rc = err_set(e, STATUS_NOMEM, "no memory to tokenise the text");
        plain = i += length(t, id);
    }
    if (!rc) rc = pretok_split(t->pretok, text + plain, n - plain, encode_piece, &c, e);
    ids_fini(&c.start);
    bpe_work_fini(&c.work);
    return rc;
}
const char *tokenizer_bytes(const struct tokenizer *t, int id, size_t *n) {
    const bool there = id >= 0 && id < t->n;
    *n = there ? length(t, id) : 0;
    return there ? bytes(t, id) : NULL;
}
bool tokenizer_is_control(const struct tokenizer *t, int id) { return id >= 0 && id < t->n && t->type[id] == CONTROL; }
int tokenizer_find(const struct tokenizer *t, const char *text) {
    const int id = strmap_get(&t->named, text, strlen(text));
    return id >= 0 ? id : strmap_get(&t->normal, text, strlen(text));
}
int tokenizer_vocab(const struct tokenizer *t) { return t->n; }
int tokenizer_bos(const struct tokenizer *t) { return t->bos; }
int tokenizer_eos(const struct tokenizer *t) { return t->eos; }
