/* tokenizer_vocab.c - the table of tokens, from what a file spells. */
#include "base/mem.h"
#include "byte_text.h"
#include "tokenizer_parts.h"
#include <string.h>

int tokenizer_no_memory(struct err *e) { return err_set(e, STATUS_NOMEM, "no memory for the tokenizer"); }

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
/* "<0xEA>"; -1: it is not of that form. */
static int byte_token(const char *p, size_t n) {
    if (n != 6 || memcmp(p, "<0x", 3) || p[5] != '>') return -1;
    const int high = hex(p[3]), low = hex(p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}
static size_t with_blanks(const char *p, size_t n, char *to) {
    size_t made = 0;
    for (size_t i = 0; i < n;) {
        const bool mark = n - i >= MARK_BYTES && !memcmp(p + i, MARK_TEXT, MARK_BYTES);
        to[made++] = mark ? ' ' : p[i];
        i += mark ? MARK_BYTES : 1;
    }
    return made;
}
/* The bytes that a token stands for; *named: merges do not make them. */
static size_t decode(const struct tokenizer *t, const struct token *k, char *to, bool *named) {
    size_t len = (size_t)-1;
    *named = !k->merges;
    if (t->bytewise && k->merges) {
        len = byte_text_decode(k->p, k->n, to);
        *named = len == (size_t)-1;
    } else if (k->type == TOKEN_BYTE && byte_token(k->p, k->n) >= 0) {
        *to = (char)byte_token(k->p, k->n);
        len = 1;
    } else if (t->marks && k->type != TOKEN_CONTROL && k->type != TOKEN_UNKNOWN) {
        len = with_blanks(k->p, k->n, to);
    }
    if (len == (size_t)-1 && k->n) memcpy(to, k->p, len = k->n);
    return len == (size_t)-1 ? 0 : len;
}
static int reserve(struct tokenizer *t, size_t n, size_t there, size_t total, struct err *e) {
    t->n = (int)n;
    t->blob = mem_alloc(total);
    t->spelling = t->bytewise ? NULL : mem_alloc(total);
    t->at = mem_zero(n + 1, sizeof *t->at);
    t->type = mem_zero(n, 1);
    const bool short_of = !t->blob || (!t->bytewise && !t->spelling) || !t->at || !t->type;
    return short_of || strmap_init(&t->normal, there) || strmap_init(&t->named, there) ? tokenizer_no_memory(e) : 0;
}
int tokenizer_set_tokens(struct tokenizer *t, const struct token *list, size_t n, const char *label, struct err *e) {
    size_t total = 0, spelled = 0, there = 0;
    if (!n || n > TOKENS_MAX)
        return err_set(e, STATUS_FORMAT, "%s: %zu tokens; a vocabulary has 1 to %d", label, n, TOKENS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (list[i].n > TOKEN_BYTES_MAX)
            return err_set(e, STATUS_FORMAT, "%s: token %zu has %zu bytes (at most %d)", label, i, list[i].n,
                           TOKEN_BYTES_MAX);
        total += list[i].n;
        there += list[i].type != TOKEN_GAP;
    }
    if (total > UINT32_MAX / 2) return err_set(e, STATUS_FORMAT, "%s: the vocabulary is longer than 2 GiB", label);
    const int rc = reserve(t, n, there, total, e);
    if (rc) return rc;
    for (int b = 0; b < 256; b++) t->byte[b] = -1;
    for (size_t i = 0; i < n; i++) {
        bool named;
        char *to = t->blob + t->at[i];
        const size_t len = decode(t, &list[i], to, &named);
        const char *key = to;
        t->type[i] = list[i].type;
        t->at[i + 1] = t->at[i] + (uint32_t)len;
        if (t->spelling) {
            key = t->spelling + spelled;
            if (list[i].n) memcpy(t->spelling + spelled, list[i].p, list[i].n);
            spelled += list[i].n;
        }
        if (list[i].type == TOKEN_GAP) continue;
        strmap_add(named ? &t->named : &t->normal, key, t->spelling ? list[i].n : len, (int)i);
        const bool single = len == 1 && (t->bytewise ? !named : list[i].type == TOKEN_BYTE);
        int *byte = single ? &t->byte[(unsigned char)*to] : NULL;
        if (byte && *byte < 0) *byte = (int)i;
    }
    return 0;
}
int tokenizer_add_text(struct tokenizer *t, const char *p, size_t n, int id, unsigned flags, bool normalized,
                       struct err *e) {
    return added_add(normalized ? &t->normalized : &t->raw, p, n, id, flags) ? tokenizer_no_memory(e) : 0;
}
static bool is_mark(const char *p, size_t n) { return n >= MARK_BYTES && !memcmp(p, MARK_TEXT, MARK_BYTES); }

/* Text of characters mostly comes as one long piece. Where no merge joins something with a "▁" behind it, each word can
 * be merged on its own, which changes no id and keeps the work small. */
static bool cuts_marks(const struct tokenizer *t) {
    if (t->bytewise || strmap_get(&t->normal, MARK_TEXT, MARK_BYTES) < 0) return false;
    for (size_t i = 0; i <= t->bpe.mask; i++) {
        const uint64_t pair = t->bpe.slot[i].pair;
        if (pair == UINT64_MAX) continue;
        size_t left_n, right_n;
        const char *left = tokenizer_bytes(t, (int)(pair >> 32), &left_n),
                   *right = tokenizer_bytes(t, (int)(pair & INT32_MAX), &right_n);
        if (!left_n || !right_n) return false;
        const bool left_ends = t->marks ? left[left_n - 1] == ' '
                                        : left_n >= MARK_BYTES && is_mark(left + left_n - MARK_BYTES, MARK_BYTES);
        if ((t->marks ? *right == ' ' : is_mark(right, right_n)) && !left_ends) return false;
    }
    return true;
}
void tokenizer_seal(struct tokenizer *t) {
    added_sort(&t->raw);
    added_sort(&t->normalized);
    t->cuts_marks = cuts_marks(t);
}

int tokenizer_from_bytes(struct tokenizer **out, int vocab, struct err *e) {
    static const char dot[] = "\xc2\xb7";
    char byte[256];
    *out = NULL;
    if (vocab < 1 || vocab > TOKENS_MAX)
        return err_set(e, STATUS_INVALID, "a vocabulary of %d tokens is not supported (1 to %d)", vocab, TOKENS_MAX);
    struct tokenizer *t = mem_zero(1, sizeof *t);
    struct token *list = mem_zero((size_t)vocab, sizeof *list);
    int rc = t && list ? 0 : tokenizer_no_memory(e);
    for (int i = 0; i < vocab && !rc; i++) {
        if (i < 256) byte[i] = (char)i;
        list[i] = i < 256 ? (struct token){ &byte[i], 1, TOKEN_NORMAL, false, 0 }
                          : (struct token){ dot, 2, TOKEN_UNUSED, false, 0 };
    }
    if (!rc) {
        t->bytewise = t->bare = true;
        t->bos = t->eos = t->unk = -1;
        rc = tokenizer_set_tokens(t, list, (size_t)vocab, "vocabulary", e);
    }
    if (!rc && bpe_init(&t->bpe, 0)) rc = tokenizer_no_memory(e);
    for (int i = 0; i < 256 && i < vocab && !rc; i++) t->byte[i] = i;
    mem_free(list);
    if (rc) tokenizer_close(t), t = NULL;
    *out = t;
    return rc;
}
