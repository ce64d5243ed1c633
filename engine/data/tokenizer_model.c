/* tokenizer_model.c - a SentencePiece tokenizer.model (sentencepiece_model.proto) whose algorithm is BPE. */
#include "base/mem.h"
#include "spm.h"
#include <string.h>

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 }; /* wire types of protocol buffers */
enum { UNIGRAM = 1, BPE = 2 };
struct view {
    const unsigned char *p, *end;
};
struct field {
    uint64_t number, value;
    unsigned wire;
    struct view bytes; /* of BYTES */
};
static bool varint(struct view *v, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && v->p < v->end; shift += 7) {
        const unsigned char c = *v->p++;
        *out |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) return true;
    }
    return false;
}
static bool fixed(struct view *v, int bytes, uint64_t *out) {
    if (v->end - v->p < bytes) return false;
    *out = 0;
    for (int i = 0; i < bytes; i++) *out |= (uint64_t)v->p[i] << 8 * i;
    v->p += bytes;
    return true;
}
/* 1: f is the next field; 0: the end; -1: v is no message. */
static int next(struct view *v, struct field *f) {
    uint64_t key;
    bool good = false;
    if (v->p == v->end) return 0;
    if (!varint(v, &key) || !(key >> 3)) return -1;
    *f = (struct field){ .number = key >> 3, .wire = key & 7 };
    switch (f->wire) {
    case VARINT: good = varint(v, &f->value); break;
    case FIXED64: good = fixed(v, 8, &f->value); break;
    case FIXED32: good = fixed(v, 4, &f->value); break;
    case BYTES: good = varint(v, &f->value) && f->value <= (uint64_t)(v->end - v->p); break;
    default: break; /* groups are long out of use */
    }
    if (!good) return -1;
    f->bytes = (struct view){ v->p, v->p };
    if (f->wire == BYTES) f->bytes.end = v->p += f->value;
    return 1;
}

struct reader {
    struct tokenizer *t;
    const char *label;
    struct token *list;
    size_t n, cap;
    int64_t model_type, bos, eos;
    bool suffix, prefix, collapse, escape;
    size_t charsmap;
    struct err *e;
};
static int broken(const struct reader *r) {
    return err_set(r->e, STATUS_FORMAT, "%s: no SentencePiece model, or a damaged one; fetch it again", r->label);
}
static int grow(struct reader *r, size_t n) {
    if (n > TOKENS_MAX) return err_set(r->e, STATUS_FORMAT, "%s: more than %d tokens", r->label, TOKENS_MAX);
    if (n > r->cap) {
        const size_t cap = n > r->cap * 2 ? n : r->cap * 2;
        struct token *list = mem_grow(r->list, cap, sizeof *list);
        if (!list) return tokenizer_no_memory(r->e);
        memset(list + r->cap, 0, (cap - r->cap) * sizeof *list);
        r->list = list;
        r->cap = cap;
    }
    if (n > r->n) r->n = n;
    return 0;
}
static int read_piece(struct reader *r, struct view v) {
    struct token k = { .type = TOKEN_NORMAL };
    struct field f;
    int more;
    while ((more = next(&v, &f)) > 0) {
        const uint32_t bits = (uint32_t)f.value;
        if (f.number == 1 && f.wire == BYTES) {
            k.p = (const char *)f.bytes.p;
            k.n = (size_t)(f.bytes.end - f.bytes.p);
        } else if (f.number == 2 && f.wire == FIXED32) {
            memcpy(&k.score, &bits, sizeof k.score);
        } else if (f.number == 3 && f.wire == VARINT) {
            k.type = f.value >= TOKEN_NORMAL && f.value <= TOKEN_BYTE ? (unsigned char)f.value : TOKEN_UNUSED;
        }
    }
    if (more < 0) return broken(r);
    if (!k.n || !utf8_valid(k.p, k.n))
        return err_set(r->e, STATUS_FORMAT, "%s: piece %zu is empty or no UTF-8", r->label, r->n);
    k.merges = k.type == TOKEN_NORMAL;
    if (k.type == TOKEN_UNKNOWN && r->t->unk < 0) r->t->unk = (int)r->n;
    const int rc = grow(r, r->n + 1);
    if (!rc) r->list[r->n - 1] = k;
    return rc;
}
static int read_trainer(struct reader *r, struct view v) {
    struct field f;
    int more;
    while ((more = next(&v, &f)) > 0) {
        const int64_t value = f.wire == VARINT ? (int32_t)f.value : 0;
        if (f.number == 3) r->model_type = value;
        if (f.number == 24) r->suffix = value;
        if (f.number == 41) r->bos = value;
        if (f.number == 42) r->eos = value;
    }
    return more < 0 ? broken(r) : 0;
}
static int read_normalizer(struct reader *r, struct view v) {
    struct field f;
    int more;
    while ((more = next(&v, &f)) > 0) {
        if (f.number == 2 && f.wire == BYTES) r->charsmap = (size_t)(f.bytes.end - f.bytes.p);
        if (f.number == 3 && f.wire == VARINT) r->prefix = f.value;
        if (f.number == 4 && f.wire == VARINT) r->collapse = f.value;
        if (f.number == 5 && f.wire == VARINT) r->escape = f.value;
    }
    return more < 0 ? broken(r) : 0;
}
static int read_file(struct reader *r, struct view v) {
    struct field f;
    int more, rc = 0;
    while (!rc && (more = next(&v, &f)) != 0) {
        if (more < 0) return broken(r);
        if (f.wire != BYTES) continue;
        if (f.number == 1) rc = read_piece(r, f.bytes);
        if (f.number == 2) rc = read_trainer(r, f.bytes);
        if (f.number == 3) rc = read_normalizer(r, f.bytes);
    }
    return !rc && !r->n ? broken(r) : rc;
}
static int check(const struct reader *r) {
    const char *what = NULL;
    if (r->charsmap) what = "normalization by a charsmap";
    if (r->suffix) what = "white space as a suffix";
    if (r->model_type != BPE) what = r->model_type == UNIGRAM ? "a unigram model" : "a model of words or characters";
    return what ? err_set(r->e, STATUS_INVALID, "%s: %s is not supported; supported: BPE without normalization",
                          r->label, what)
                : 0;
}
/* Each plain stretch between control tokens gets the dummy prefix, as transformers 4.30 and llama.cpp have it. */
static int add_steps(const struct reader *r) {
    struct tokenizer *t = r->t;
    struct pattern *blank;
    int rc = normalizer_open(&t->normalizer, r->e);
    if (!rc && r->collapse) rc = normalizer_add_collapse(t->normalizer, r->e);
    if (!rc && r->prefix) rc = normalizer_add_prepend(t->normalizer, " ", 1, r->e);
    if (rc || !r->escape) return rc;
    rc = pattern_open(&blank, " ", 1, false, r->e);
    return rc ? rc : normalizer_add_replace(t->normalizer, blank, MARK_TEXT, MARK_BYTES, r->e);
}
static int add_extra(struct reader *r, const struct token_extra *x) {
    const unsigned char type = x->flags & ADDED_CONTROL ? TOKEN_CONTROL : TOKEN_USER;
    if (x->id < 0 || x->id >= TOKENS_MAX)
        return err_set(r->e, STATUS_FORMAT, "added token '%.40s' has no id below %d", x->p, TOKENS_MAX);
    const int rc = grow(r, (size_t)x->id + 1);
    if (rc) return rc;
    struct token *k = &r->list[x->id];
    if (k->p && (k->n != x->n || memcmp(k->p, x->p, x->n) != 0))
        return err_set(r->e, STATUS_FORMAT, "%s: added token '%.40s' has the id of another token, %d", r->label, x->p,
                       x->id);
    if (k->type == TOKEN_UNKNOWN) return 0;
    if (k->type == TOKEN_CONTROL) return 0;
    *k = (struct token){ x->p, x->n, type, k->merges && type == TOKEN_USER, k->score };
    return 0;
}
/* What the file itself defines is looked for after the normalizer, as SentencePiece does; control tokens, and what
 * other files add, before it. */
static int add_texts(struct reader *r, size_t own, const struct token_extra *extra, int extras) {
    int rc = 0;
    for (int i = 0; i < extras && !rc; i++) {
        const unsigned control = r->list[extra[i].id].type == TOKEN_CONTROL ? ADDED_CONTROL : 0;
        rc = tokenizer_add_text(r->t, extra[i].p, extra[i].n, extra[i].id, extra[i].flags | control, false, r->e);
    }
    for (size_t i = 0; i < own && !rc; i++) {
        const struct token *k = &r->list[i];
        const bool control = k->type == TOKEN_CONTROL || k->type == TOKEN_UNKNOWN;
        if (control || k->type == TOKEN_USER)
            rc = tokenizer_add_text(r->t, k->p, k->n, (int)i, control ? ADDED_CONTROL : 0, !control, r->e);
    }
    return rc;
}
static int control_id(const struct reader *r, int64_t id) {
    return id >= 0 && (size_t)id < r->n && r->list[id].type == TOKEN_CONTROL ? (int)id : -1;
}
static int load(struct reader *r, struct view file, const struct token_extra *extra, int extras) {
    struct tokenizer *t = r->t;
    int rc = read_file(r, file);
    const size_t own = r->n;
    if (!rc) rc = check(r);
    for (int i = 0; i < extras && !rc; i++) rc = add_extra(r, &extra[i]);
    if (rc) return rc;
    t->marks = r->escape;
    t->fuse_unk = true;
    t->bos = control_id(r, r->bos);
    t->eos = control_id(r, r->eos);
    rc = tokenizer_set_tokens(t, r->list, r->n, r->label, r->e);
    if (!rc) rc = spm_add_merges(t, r->list, r->n, r->label, r->e);
    if (!rc) rc = add_steps(r);
    return rc ? rc : add_texts(r, own, extra, extras);
}
int tokenizer_read_model(struct tokenizer **out, const void *bytes, size_t n, const struct token_extra *extra,
                         int extras, const char *label, struct err *e) {
    *out = NULL;
    struct reader r = {
        .label = label, .e = e, .t = mem_zero(1, sizeof *r.t), .model_type = UNIGRAM, .bos = 1, .eos = 2
    };
    r.prefix = r.collapse = r.escape = true;
    if (!r.t) return tokenizer_no_memory(e);
    r.t->unk = -1;
    const int rc = load(&r, (struct view){ bytes, (const unsigned char *)bytes + n }, extra, extras);
    mem_free(r.list);
    if (rc) {
        tokenizer_close(r.t);
        return rc;
    }
    tokenizer_seal(r.t);
    *out = r.t;
    return 0;
}
int tokenizer_from_model(struct tokenizer **out, const void *bytes, size_t n, const char *label, struct err *e) {
    return tokenizer_read_model(out, bytes, n, NULL, 0, label, e);
}
