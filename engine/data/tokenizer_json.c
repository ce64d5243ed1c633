/* tokenizer_json.c - a tokenizer.json of the tokenizers library whose model is BPE. */
#include "tokenizer_json.h"
#include "base/mem.h"
#include <string.h>

enum { GAP = 64 }; /* ids for each token that there is, at most: a wrong id must not cost memory */
struct reader {
    struct tokenizer *t;
    const char *label;
    const json_t *model, *added;
    struct token *list;
    size_t n;
    struct strmap spelled; /* every token of the file, as it spells it */
    struct err *e;
};
static int wrong(const struct reader *r, const char *why) {
    return err_set(r->e, STATUS_FORMAT, "%s: %s; download it again", r->label, why);
}
json_t *tokenizer_json_parse(const char *text, size_t n, const char *label, struct err *e) {
    json_error_t why;
    json_t *j = json_loadb(text, n, JSON_ALLOW_NUL, &why);
    if (j && json_is_object(j)) return j;
    if (j) {
        json_decref(j);
        err_set(e, STATUS_FORMAT, "%s: its JSON is no object; download it again", label);
    } else if (json_error_code(&why) == json_error_out_of_memory) {
        err_set(e, STATUS_NOMEM, "%s: no memory to read it", label);
    } else {
        err_set(e, STATUS_FORMAT, "%s: is no valid JSON: line %d: %.120s; download it again", label, why.line,
                why.text);
    }
    return NULL;
}
const char *tokenizer_json_content(const json_t *j, const char *key) {
    const json_t *v = json_object_get(j, key);
    return json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
}

static int check_model(const struct reader *r) {
    static const char *const affixes[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    const json_t *type = json_object_get(r->model, "type");
    const bool bpe = json_is_string(type) ? !strcmp(json_string_value(type), "BPE")
                                          : json_is_array(json_object_get(r->model, "merges"));
    if (!bpe)
        return err_set(r->e, STATUS_INVALID, "%s: model type '%.40s' is not supported; supported: BPE", r->label,
                       tokenizer_json_text(r->model, "type"));
    for (int i = 0; i < 2; i++)
        if (*tokenizer_json_text(r->model, affixes[i]))
            return err_set(r->e, STATUS_INVALID, "%s: a model with %s is not supported", r->label, affixes[i]);
    if (json_number_value(json_object_get(r->model, "dropout")) > 0)
        return err_set(r->e, STATUS_INVALID, "%s: a model with dropout is not supported", r->label);
    if (!json_is_object(json_object_get(r->model, "vocab"))) return wrong(r, "the model has no vocab");
    return json_is_array(json_object_get(r->model, "merges")) ? 0 : wrong(r, "the model has no merges");
}
/* The id in a JSON number, or -1. */
static json_int_t id_of(const json_t *j) {
    const json_int_t id = json_is_integer(j) ? json_integer_value(j) : -1;
    return id >= 0 && id < TOKENS_MAX ? id : -1;
}
static int count(struct reader *r) {
    json_t *vocab = json_object_get(r->model, "vocab"), *v;
    const char *key;
    size_t i;
    json_object_foreach(vocab, key, v) {
        const json_int_t id = id_of(v);
        if (id < 0)
            return err_set(r->e, STATUS_FORMAT, "%s: token '%.40s' has no id below %d", r->label, key, TOKENS_MAX);
        if ((size_t)id >= r->n) r->n = (size_t)id + 1;
    }
    json_array_foreach(r->added, i, v) {
        const json_int_t id = id_of(json_object_get(v, "id"));
        if (id < 0 || !json_is_string(json_object_get(v, "content")))
            return err_set(r->e, STATUS_FORMAT, "%s: added token %zu has no content, or no id below %d", r->label, i,
                           TOKENS_MAX);
        if ((size_t)id >= r->n) r->n = (size_t)id + 1;
    }
    if (!r->n) return wrong(r, "the vocabulary is empty");
    const size_t tokens = json_object_size(vocab) + json_array_size(r->added);
    return r->n / GAP > tokens + 1024 ? wrong(r, "nearly all of its token ids are missing") : 0;
}
static int place(struct reader *r, const char *p, size_t n, size_t id, struct token k) {
    if (r->list[id].p)
        return err_set(r->e, STATUS_FORMAT, "%s: tokens '%.40s' and '%.40s' both have id %zu", r->label, r->list[id].p,
                       p, id);
    k.p = p;
    k.n = n;
    r->list[id] = k;
    strmap_add(&r->spelled, p, n, (int)id);
    return 0;
}
static int load_vocab(struct reader *r) {
    json_t *vocab = json_object_get(r->model, "vocab");
    const bool bytes = json_is_true(json_object_get(r->model, "byte_fallback"));
    const size_t tokens = json_object_size(vocab) + json_array_size(r->added);
    int rc = count(r);
    if (rc) return rc;
    r->list = mem_zero(r->n, sizeof *r->list);
    if (!r->list || strmap_init(&r->spelled, tokens)) return tokenizer_no_memory(r->e);
    for (void *i = json_object_iter(vocab); i && !rc; i = json_object_iter_next(vocab, i)) {
        const char *p = json_object_iter_key(i);
        const size_t n = strlen(p);
        const bool byte = bytes && n == 6 && !memcmp(p, "<0x", 3) && p[5] == '>';
        const struct token k = { .type = byte ? TOKEN_BYTE : TOKEN_NORMAL, .merges = !byte };
        rc = place(r, p, n, (size_t)json_integer_value(json_object_iter_value(i)), k);
    }
    return rc;
}
/* An added token that the vocabulary has keeps its id there, as in the reference. */
static int load_added(struct reader *r) {
    size_t i;
    json_t *v;
    json_array_foreach(r->added, i, v) {
        const json_t *text = json_object_get(v, "content");
        const bool control = json_is_true(json_object_get(v, "special"));
        const unsigned char type = control ? TOKEN_CONTROL : TOKEN_USER;
        const int id = strmap_get(&r->spelled, json_string_value(text), json_string_length(text));
        if (id >= 0) {
            if (r->list[id].type != TOKEN_CONTROL) r->list[id].type = type;
            if (control) r->list[id].merges = false;
            continue;
        }
        const int rc = place(r, json_string_value(text), json_string_length(text),
                             (size_t)json_integer_value(json_object_get(v, "id")), (struct token){ .type = type });
        if (rc) return rc;
    }
    return 0;
}
static int add_searched(struct reader *r) {
    static const struct {
        const char *key;
        unsigned flag;
    } flags[] = { { "lstrip", ADDED_LSTRIP }, { "rstrip", ADDED_RSTRIP }, { "single_word", ADDED_WORD } };
    struct normalizer_work w = { 0 };
    size_t i;
    json_t *v;
    int rc = 0;
    json_array_foreach(r->added, i, v) {
        const json_t *text = json_object_get(v, "content");
        const char *p = json_string_value(text);
        size_t n = json_string_length(text);
        const int id = strmap_get(&r->spelled, p, n);
        const bool normalized = json_is_true(json_object_get(v, "normalized"));
        unsigned flag =
            r->list[id].type == TOKEN_CONTROL ? ADDED_CONTROL : 0; /* listed twice: special once is always */
        for (int k = 0; k < 3; k++) flag |= json_is_true(json_object_get(v, flags[k].key)) ? flags[k].flag : 0;
        if (normalized && r->t->normalizer) rc = normalizer_run(r->t->normalizer, &w, p, n, &p, &n, r->e);
        if (!rc) rc = tokenizer_add_text(r->t, p, n, id, flag, normalized, r->e);
        if (rc) break;
    }
    normalizer_work_fini(&w);
    return rc;
}
/* "left right", or ["left", "right"]. false: it is neither. */
static bool merge_parts(const json_t *j, struct token *left, struct token *right) {
    if (json_is_array(j) && json_array_size(j) == 2) {
        const json_t *a = json_array_get(j, 0), *b = json_array_get(j, 1);
        *left = (struct token){ .p = json_string_value(a), .n = json_string_length(a) };
        *right = (struct token){ .p = json_string_value(b), .n = json_string_length(b) };
        return left->p && right->p;
    }
    const char *p = json_string_value(j), *blank = p ? memchr(p, ' ', json_string_length(j)) : NULL;
    if (!blank) return false;
    const char *end = p + json_string_length(j);
    *left = (struct token){ .p = p, .n = (size_t)(blank - p) };
    *right = (struct token){ .p = blank + 1, .n = (size_t)(end - blank - 1) };
    return !memchr(right->p, ' ', right->n);
}
static int add_merge(struct reader *r, const json_t *j, int rank, struct buf *made) {
    struct token left, right;
    if (!merge_parts(j, &left, &right))
        return err_set(r->e, STATUS_FORMAT, "%s: merge %d is no pair of tokens", r->label, rank);
    buf_reset(made);
    buf_add(made, left.p, left.n);
    if (buf_add(made, right.p, right.n)) return tokenizer_no_memory(r->e);
    const int a = strmap_get(&r->spelled, left.p, left.n), b = strmap_get(&r->spelled, right.p, right.n),
              id = strmap_get(&r->spelled, buf_text(made), made->n);
    if (a < 0 || b < 0 || id < 0 || !left.n || !right.n)
        return err_set(r->e, STATUS_FORMAT, "%s: merge %d makes or needs a token that is not there", r->label, rank);
    if (r->list[id].type != TOKEN_CONTROL) bpe_add(&r->t->bpe, a, b, rank, id); /* plain text never makes those */
    return 0;
}
static int load_merges(struct reader *r) {
    const json_t *merges = json_object_get(r->model, "merges");
    const size_t n = json_array_size(merges);
    struct buf made;
    if (n > TOKENS_MAX) return wrong(r, "it has too many merges");
    if (bpe_init(&r->t->bpe, n)) return tokenizer_no_memory(r->e);
    buf_init(&made, 4 * TOKEN_BYTES_MAX);
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) rc = add_merge(r, json_array_get(merges, i), (int)i, &made);
    buf_fini(&made);
    return rc;
}
static int load_unk(struct reader *r) {
    const json_t *unk = json_object_get(r->model, "unk_token");
    r->t->unk = -1;
    r->t->fuse_unk = json_is_true(json_object_get(r->model, "fuse_unk"));
    r->t->whole_first = json_is_true(json_object_get(r->model, "ignore_merges"));
    if (!json_is_string(unk)) return 0;
    r->t->unk = strmap_get(&r->spelled, json_string_value(unk), json_string_length(unk));
    return r->t->unk >= 0 ? 0 : wrong(r, "its unk_token is not in the vocabulary");
}
/* BOS, where the file puts it first: the special token with which a template for one text begins. */
static int load_post(struct reader *r, const json_t *post, int depth) {
    static const char *const without[] = { "", "ByteLevel" };
    const char *type = tokenizer_json_text(post, "type");
    size_t i;
    json_t *step;
    int rc = 0;
    for (int k = 0; k < 2; k++)
        if (!strcmp(type, without[k])) return 0;
    if (!strcmp(type, "Sequence") && depth < 4) {
        json_array_foreach(json_object_get(post, "processors"), i, step) if (!rc) rc = load_post(r, step, depth + 1);
        return rc;
    }
    if (strcmp(type, "TemplateProcessing") != 0)
        return err_set(r->e, STATUS_INVALID,
                       "%s: post_processor '%.40s' is not supported; supported: ByteLevel, "
                       "TemplateProcessing, Sequence",
                       r->label, type);
    const json_t *first = json_object_get(json_array_get(json_object_get(post, "single"), 0), "SpecialToken");
    const json_t *known = json_object_get(json_object_get(post, "special_tokens"), tokenizer_json_text(first, "id"));
    if (!first) return 0;
    const json_int_t id = id_of(json_array_get(json_object_get(known, "ids"), 0));
    if (id < 0 || id >= r->t->n) return wrong(r, "its post_processor begins with a token that is not there");
    r->t->bos = (int)id;
    return 0;
}
static int load(struct reader *r, const json_t *root) {
    struct tokenizer *t = r->t;
    r->model = json_object_get(root, "model");
    r->added = json_object_get(root, "added_tokens");
    t->bos = t->eos = -1;
    int rc = check_model(r);
    if (!rc) rc = tokenizer_json_pretok(t, json_object_get(root, "pre_tokenizer"), r->label, r->e);
    if (!rc) rc = tokenizer_json_decoder(t, json_object_get(root, "decoder"), r->label, r->e);
    if (!rc) rc = tokenizer_json_normalizer(t, json_object_get(root, "normalizer"), r->label, r->e);
    if (!rc) rc = load_vocab(r);
    if (!rc) rc = load_added(r);
    if (!rc) rc = tokenizer_set_tokens(t, r->list, r->n, r->label, r->e);
    if (!rc) rc = load_merges(r);
    if (!rc) rc = load_unk(r);
    if (!rc) rc = add_searched(r);
    return rc ? rc : load_post(r, json_object_get(root, "post_processor"), 0);
}
int tokenizer_from_json(struct tokenizer **out, const char *text, size_t n, const char *label, struct err *e) {
    *out = NULL;
    json_t *root = tokenizer_json_parse(text, n, label, e);
    if (!root) return e ? e->code : STATUS_FORMAT;
    struct reader r = { .label = label, .e = e, .t = mem_zero(1, sizeof *r.t) };
    const int rc = r.t ? load(&r, root) : tokenizer_no_memory(e);
    mem_free(r.list);
    strmap_fini(&r.spelled);
    json_decref(root);
    if (rc) {
        tokenizer_close(r.t);
        return rc;
    }
    tokenizer_seal(r.t);
    *out = r.t;
    return 0;
}
