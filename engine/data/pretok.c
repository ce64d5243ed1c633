#define PCRE2_CODE_UNIT_WIDTH 8
#include "pretok.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

/* White space as Unicode's White_Space property has it; PCRE2's \s adds U+180E, which the reference does not. */
#define SPACE "\\t-\\r \\x{85}\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
/* The GPT-2 splitter (Radford et al. 2019): contractions, letters, numbers, the rest, blanks. The last blank of a run
 * goes to the word that follows. */
#define GPT2                                                                                                           \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]" \
    "+"
#define LLAMA3                                                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|"     \
    "[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
enum { STAGES = 2 };
static const struct scheme {
    const char *names;           /* separated by blanks */
    const char *pattern[STAGES]; /* the second works within the pieces of the first */
    bool whole_first, adds_bos;
} schemes[] = {
    { "gpt-2 gpt2 default", { GPT2 }, false, false },
    { "smollm", { "\\p{N}", GPT2 }, false, false }, /* every digit alone, then GPT-2 */
    { "llama-bpe llama3 llama-v3", { LLAMA3 }, true, true },
};
struct pretok {
    const struct scheme *scheme;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *code[STAGES];
    int stages;
};

static void *take(PCRE2_SIZE n, void *unused) {
    (void)unused;
    return mem_alloc(n);
}
static void give(void *p, void *unused) {
    (void)unused;
    mem_free(p);
}
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
static int compile(struct pretok *p, struct err *e) {
    pcre2_compile_context *how = pcre2_compile_context_create(p->memory);
    if (!how) return err_set(e, STATUS_NOMEM, "no memory for the tokenizer's patterns");
    for (; p->stages < STAGES && p->scheme->pattern[p->stages]; p->stages++) {
        int code;
        PCRE2_SIZE at;
        PCRE2_SPTR pattern = (PCRE2_SPTR)p->scheme->pattern[p->stages];
        pcre2_code *made = pcre2_compile(pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, how);
        if (!made) break;
        p->code[p->stages] = made;
        pcre2_jit_compile(made, PCRE2_JIT_COMPLETE); /* where there is no JIT, the interpreter gives the same pieces */
    }
    pcre2_compile_context_free(how);
    if (p->stages < STAGES && p->scheme->pattern[p->stages])
        return err_set(e, STATUS_NOMEM, "no memory for the tokenizer's patterns");
    return 0;
}
int pretok_open(struct pretok **out, const char *name, size_t n, struct err *e) {
    *out = NULL;
    const struct scheme *scheme = NULL;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes && !scheme; i++)
        if (listed(schemes[i].names, name, n)) scheme = &schemes[i];
    if (!scheme) return unknown(name, n, e);
    struct pretok *p = mem_zero(1, sizeof *p);
    if (!p) return err_set(e, STATUS_NOMEM, "no memory for the tokenizer");
    p->scheme = scheme;
    p->memory = pcre2_general_context_create(take, give, NULL);
    p->limits = p->memory ? pcre2_match_context_create(p->memory) : NULL;
    int rc = p->limits ? compile(p, e) : err_set(e, STATUS_NOMEM, "no memory for the tokenizer");
    if (rc) {
        pretok_close(p);
        return rc;
    }
    pcre2_set_match_limit(p->limits, UINT32_MAX); /* no pattern branches twice over the same text */
    pcre2_set_heap_limit(p->limits, 64 << 10);    /* KiB */
    *out = p;
    return 0;
}
void pretok_close(struct pretok *p) {
    if (!p) return;
    for (int i = 0; i < STAGES; i++) pcre2_code_free(p->code[i]);
    pcre2_match_context_free(p->limits);
    pcre2_general_context_free(p->memory);
    mem_free(p);
}
bool pretok_whole_first(const struct pretok *p) { return p->scheme->whole_first; }
bool pretok_adds_bos(const struct pretok *p) { return p->scheme->adds_bos; }

struct split {
    const struct pretok *p;
    pcre2_match_data *match[STAGES];
    int (*piece)(void *, const char *, size_t);
    void *with;
    struct err *e;
};
/* Matches and what lies between them become pieces of the next stage. s is valid UTF-8. */
static int split_stage(struct split *t, int stage, const char *s, size_t n) {
    if (!n) return 0;
    if (stage >= STAGES || stage == t->p->stages) return t->piece(t->with, s, n);
    for (size_t at = 0; at < n;) {
        const int found =
            pcre2_match(t->p->code[stage], (PCRE2_SPTR)s, n, at, PCRE2_NO_UTF_CHECK, t->match[stage], t->p->limits);
        if (found == PCRE2_ERROR_NOMATCH) return split_stage(t, stage + 1, s + at, n - at);
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(t->match[stage]);
        if (found < 0 || place[1] <= place[0])
            return err_set(t->e, STATUS_NOMEM, "the text cannot be split (code %d); try a shorter one", found);
        int rc = split_stage(t, stage + 1, s + at, place[0] - at);
        if (!rc) rc = split_stage(t, stage + 1, s + place[0], place[1] - place[0]);
        if (rc) return rc;
        at = place[1];
    }
    return 0;
}
/* Bytes at the start of s that are all valid, or all invalid. */
static size_t run(const char *s, size_t n, bool *valid) {
    uint32_t cp;
    size_t i = 0;
    *valid = utf8_decode(s, n, &cp) > 0;
    while (i < n) {
        const int len = utf8_decode(s + i, n - i, &cp);
        if ((len > 0) != *valid) break;
        i += len ? (size_t)len : 1;
    }
    return i;
}
int pretok_split(const struct pretok *p, const char *text, size_t n, int (*piece)(void *, const char *, size_t),
                 void *with, struct err *e) {
    struct split t = { .p = p, .piece = piece, .with = with, .e = e };
    int rc = 0;
    if (!n) return 0;
    for (int i = 0; i < p->stages && !rc; i++)
        if (!(t.match[i] = pcre2_match_data_create(1, p->memory)))
            rc = err_set(e, STATUS_NOMEM, "no memory to split the text");
    for (size_t at = 0; at < n && !rc;) {
        bool valid;
        const size_t len = run(text + at, n - at, &valid);
        rc = valid ? split_stage(&t, 0, text + at, len) : piece(with, text + at, len);
        at += len;
    }
    for (int i = 0; i < STAGES; i++) pcre2_match_data_free(t.match[i]);
    return rc;
}
