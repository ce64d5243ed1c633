/* tokenizer_gguf.c - the tokenizer.ggml.* keys of a GGUF. */
#include "base/mem.h"
#include "byte_text.h"
#include "spm.h"
#include <string.h>

static int wrong(const struct gguf *g, const char *why, struct err *e) {
    return err_set(e, STATUS_FORMAT, "%s: %s; convert the model again", gguf_path(g), why);
}
static bool is(struct gguf_string s, const char *text) { return s.n == strlen(text) && !memcmp(s.p, text, s.n); }

/* Where the file gives no types: "<0x0A>" and the like are bytes, control tokens are not known. */
static int load_tokens(struct tokenizer *t, const struct gguf *g, struct token **out, struct err *e) {
    const size_t n = gguf_array_len(g, "tokenizer.ggml.tokens");
    struct gguf_string s;
    if (!n || n > TOKENS_MAX) return wrong(g, "tokenizer.ggml.tokens is missing or too long", e);
    struct token *list = *out = mem_zero(n, sizeof *list);
    if (!list) return tokenizer_no_memory(e);
    const bool scored = gguf_array_len(g, "tokenizer.ggml.scores") == n;
    for (size_t i = 0; i < n; i++) {
        int64_t type = TOKEN_NORMAL;
        double score = 0;
        if (!gguf_array_text(g, "tokenizer.ggml.tokens", i, &s))
            return wrong(g, "tokenizer.ggml.tokens holds no text", e);
        gguf_array_int(g, "tokenizer.ggml.token_type", i, &type);
        if (type < TOKEN_NORMAL || type > TOKEN_BYTE) type = TOKEN_NORMAL;
        if (scored) gguf_array_number(g, "tokenizer.ggml.scores", i, &score);
        list[i] = (struct token){ s.p, s.n, (unsigned char)type, type == TOKEN_NORMAL, (float)score };
    }
    return tokenizer_set_tokens(t, list, n, gguf_path(g), e);
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
    int rc = !text || bpe_init(&t->bpe, n) ? tokenizer_no_memory(e) : 0;
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
static int load_added(struct tokenizer *t, const struct token *list, struct err *e) {
    int rc = 0;
    for (int i = 0; i < t->n && !rc; i++) {
        const bool control = list[i].type == TOKEN_CONTROL || (list[i].type == TOKEN_UNKNOWN && !t->bytewise);
        if (!control && list[i].type != TOKEN_USER) continue;
        rc = tokenizer_add_text(t, list[i].p, list[i].n, i, control ? ADDED_CONTROL : 0, false, e);
    }
    return rc;
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
/* Byte-level BPE. */
static int load_gpt2(struct tokenizer *t, const struct gguf *g, bool *adds_bos, struct token **list, struct err *e) {
    struct gguf_string pre = { "default", 7 };
    gguf_text(g, "tokenizer.ggml.pre", &pre);
    t->bytewise = true;
    t->unk = -1;
    int rc = pretok_named(&t->pretok, pre.p, pre.n, e);
    if (!rc) rc = load_tokens(t, g, list, e);
    if (rc) return rc;
    t->whole_first = pretok_whole_first(t->pretok);
    *adds_bos = pretok_adds_bos(t->pretok);
    return load_merges(t, g, e);
}
/* SentencePiece: a "▁" goes before every stretch of plain text, and blanks are written so. */
static int add_marks(struct tokenizer *t, const struct gguf *g, struct err *e) {
    bool prefix = true, collapse = false;
    struct pattern *blank = NULL;
    gguf_bool(g, "tokenizer.ggml.add_space_prefix", &prefix);
    gguf_bool(g, "tokenizer.ggml.remove_extra_whitespaces", &collapse);
    int rc = normalizer_open(&t->normalizer, e);
    if (!rc && collapse) rc = normalizer_add_collapse(t->normalizer, e);
    if (!rc && prefix) rc = normalizer_add_prepend(t->normalizer, " ", 1, e);
    if (!rc) rc = pattern_open(&blank, " ", 1, false, e);
    return rc ? rc : normalizer_add_replace(t->normalizer, blank, MARK_TEXT, MARK_BYTES, e);
}
static int load_llama(struct tokenizer *t, const struct gguf *g, bool *adds_bos, struct token **list, struct err *e) {
    int64_t unk = -1;
    t->marks = t->fuse_unk = *adds_bos = true;
    int rc = load_tokens(t, g, list, e);
    if (rc) return rc;
    if (gguf_array_len(g, "tokenizer.ggml.scores") != (size_t)t->n)
        return wrong(g, "tokenizer.ggml.scores does not have one number for each token", e);
    gguf_int(g, "tokenizer.ggml.unknown_token_id", &unk);
    t->unk = unk >= 0 && unk < t->n ? (int)unk : -1;
    rc = add_marks(t, g, e);
    return rc ? rc : spm_add_merges(t, *list, (size_t)t->n, gguf_path(g), e);
}
static int load(struct tokenizer *t, const struct gguf *g, struct token **list, struct err *e) {
    struct gguf_string model, jinja;
    bool adds_bos = false;
    int rc = 0;
    if (!gguf_text(g, "tokenizer.ggml.model", &model))
        return wrong(g, "holds no tokenizer (tokenizer.ggml.model is missing)", e);
    if (is(model, "gpt2")) {
        rc = load_gpt2(t, g, &adds_bos, list, e);
    } else if (is(model, "llama")) {
        rc = load_llama(t, g, &adds_bos, list, e);
    } else {
        rc = err_set(e, STATUS_INVALID,
                     "%s: tokenizer '%.*s' is not supported; supported: gpt2 (byte-level BPE), llama (SentencePiece)",
                     gguf_path(g), (int)(model.n < 40 ? model.n : 40), model.p);
    }
    if (!rc) rc = load_added(t, *list, e);
    if (!rc) rc = load_special_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, e);
    if (!rc) rc = load_special_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, e);
    if (rc) return rc;
    gguf_bool(g, "tokenizer.ggml.add_bos_token", &adds_bos);
    if (!adds_bos) t->bos = -1;
    if (!gguf_text(g, "tokenizer.chat_template", &jinja)) return 0;
    t->chat_template_n = jinja.n;
    t->chat_template = mem_copy(jinja.p, jinja.n);
    return t->chat_template ? 0 : tokenizer_no_memory(e);
}
int tokenizer_from_gguf(struct tokenizer **out, const struct gguf *g, struct err *e) {
    *out = NULL;
    struct tokenizer *t = mem_zero(1, sizeof *t);
    struct token *list = NULL;
    if (!t) return tokenizer_no_memory(e);
    const int rc = load(t, g, &list, e);
    mem_free(list);
    if (rc) {
        tokenizer_close(t);
        return rc;
    }
    tokenizer_seal(t);
    *out = t;
    return 0;
}
