#define PCRE2_CODE_UNIT_WIDTH 8
#include "pattern.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <pcre2.h>
#include <string.h>
#include <time.h>

enum { LONGEST = 16 << 10, PATIENCE_MS = 5000, BYTES_A_MS = 500 };
struct pattern {
    char *literal; /* NULL: an expression */
    size_t n;
    pcre2_general_context *memory;
    pcre2_code *code;
};

static void *take(PCRE2_SIZE n, void *unused) {
    (void)unused;
    return mem_alloc(n);
}
static void give(void *p, void *unused) {
    (void)unused;
    mem_free(p);
}
static int no_memory(struct err *e) { return err_set(e, STATUS_NOMEM, "no memory for the tokenizer's patterns"); }

/* PCRE2's \s adds U+180E and its \w lacks marks; the reference has Unicode's sets, and outside of brackets Latin-1's other digits. */
static const struct {
    char letter;
    const char *set, *more; /* more: only outside of brackets */
} classes[] = {
    { 's', "\\t-\\r \\x{85}\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}", "" },
    { 'w', "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}", "\\xb2\\xb3\\xb9\\xbc-\\xbe" },
};
/* Writes what \letter means; false: it means the same to PCRE2. A negated class within a bracket stays as it is. */
static bool add_class(struct buf *b, char letter, bool in_bracket) {
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        const bool negated = letter == classes[i].letter - 'a' + 'A';
        if ((letter != classes[i].letter && !negated) || (negated && in_bracket)) continue;
        if (in_bracket) {
            buf_puts(b, classes[i].set);
        } else {
            buf_printf(b, "[%s%s%s]", negated ? "^" : "", classes[i].set, classes[i].more);
        }
        return true;
    }
    return false;
}
static void translate(struct buf *b, const char *p, size_t n) {
    bool in_bracket = false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\\' && i + 1 < n) {
            if (!add_class(b, p[i + 1], in_bracket)) buf_add(b, p + i, 2);
            i++;
            continue;
        }
        /* A bracket that opens within one is a name, [:alpha:], or the plain character. */
        if (p[i] == '[' && !in_bracket) {
            in_bracket = true;
            const size_t skip = i + 1 < n && p[i + 1] == '^';
            buf_add(b, p + i, 1 + skip);
            i += skip;
            if (i + 1 < n && p[i + 1] == ']') buf_add(b, p + ++i, 1); /* first of all: the plain character */
            continue;
        }
        if (p[i] == ']') in_bracket = false;
        buf_add(b, p + i, 1);
    }
}
static int compile(struct pattern *p, const struct buf *text, struct err *e) {
    pcre2_compile_context *how = pcre2_compile_context_create(p->memory);
    int code = 0;
    PCRE2_SIZE at = 0;
    if (!how) return no_memory(e);
    /* Anchored: every start is tried here, so that each call has little to do and the limits bound all of it. */
    p->code =
        pcre2_compile((PCRE2_SPTR)buf_text(text), text->n, PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, how);
    pcre2_compile_context_free(how);
    if (p->code) {
        pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* where there is no JIT, the interpreter finds the same */
        return 0;
    }
    if (code == PCRE2_ERROR_HEAP_FAILED) return no_memory(e);
    PCRE2_UCHAR why[120] = "";
    pcre2_get_error_message(code, why, sizeof why);
    return err_set(e, STATUS_FORMAT, "regular expression '%.60s': %s", buf_text(text), (const char *)why);
}
static int open_regex(struct pattern *p, const char *text, size_t n, struct err *e) {
    struct buf b;
    p->memory = pcre2_general_context_create(take, give, NULL);
    if (!p->memory) return no_memory(e);
    buf_init(&b, LONGEST * 16);
    translate(&b, text, n);
    const int rc = b.failed ? no_memory(e) : compile(p, &b, e);
    buf_fini(&b);
    return rc;
}
int pattern_open(struct pattern **out, const char *text, size_t n, bool regex, struct err *e) {
    *out = NULL;
    if (n > LONGEST) return err_set(e, STATUS_FORMAT, "a pattern of %zu bytes is too long (%d)", n, LONGEST);
    if (!utf8_valid(text, n)) return err_set(e, STATUS_FORMAT, "a pattern is no UTF-8");
    struct pattern *p = mem_zero(1, sizeof *p);
    if (!p) return no_memory(e);
    int rc = 0;
    if (regex) {
        rc = open_regex(p, text, n, e);
    } else if (!(p->literal = mem_copy(text, n))) {
        rc = no_memory(e);
    }
    p->n = n;
    if (rc) pattern_close(p), p = NULL;
    *out = p;
    return rc;
}
void pattern_close(struct pattern *p) {
    if (!p) return;
    pcre2_code_free(p->code);
    pcre2_general_context_free(p->memory);
    mem_free(p->literal);
    mem_free(p);
}

void pattern_work_fini(struct pattern_work *w) {
    pcre2_match_data_free(w->match);
    pcre2_match_context_free(w->limits);
    pcre2_general_context_free(w->memory);
    *w = (struct pattern_work){ 0 };
}
static int64_t now_ms(void) {
    struct timespec t = { 0 };
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
static int prepare(struct pattern_work *w, size_t n, struct err *e) {
    if (!w->memory) w->memory = pcre2_general_context_create(take, give, NULL);
    if (w->memory && !w->limits) w->limits = pcre2_match_context_create(w->memory);
    if (w->memory && !w->match) w->match = pcre2_match_data_create(1, w->memory);
    if (!w->limits || !w->match) return no_memory(e);
    /* An honest expression goes over the rest of the text a few times in one match at the very most. */
    pcre2_set_match_limit(w->limits, 100000 + 8 * (uint32_t)(n < UINT32_MAX / 16 ? n : UINT32_MAX / 16));
    pcre2_set_heap_limit(w->limits, 256 << 10); /* KiB */
    if (!w->until_ms) w->until_ms = now_ms() + PATIENCE_MS;
    w->until_ms += (int64_t)((n - w->longest) / BYTES_A_MS);
    w->longest = n;
    return 0;
}
static int match_at(const struct pattern *p, struct pattern_work *w, const char *s, size_t n, size_t at) {
    const uint32_t option = PCRE2_NO_UTF_CHECK;
    int found = pcre2_match(p->code, (PCRE2_SPTR)s, n, at, option, w->match, w->limits);
    /* The JIT's stack is small; the interpreter's is on the heap. */
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(p->code, (PCRE2_SPTR)s, n, at, option | PCRE2_NO_JIT, w->match, w->limits);
    return found;
}
static int find_literal(const struct pattern *p, const char *s, size_t n, size_t at, struct pattern_match *m) {
    const char *found = p->n ? memmem(s + at, n - at, p->literal, p->n) : NULL;
    if (!found) return 0;
    m->from = (size_t)(found - s);
    m->to = m->from + p->n;
    return 1;
}
int pattern_find(const struct pattern *p, struct pattern_work *w, const char *s, size_t n, size_t at,
                 struct pattern_match *m, struct err *e) {
    uint32_t cp;
    if (p->literal) return find_literal(p, s, n, at, m);
    if (!w->limits || n > w->longest) {
        const int rc = prepare(w, n, e);
        if (rc) return rc;
    }
    for (size_t i = at; i <= n;) {
        const int found = match_at(p, w, s, n, i);
        if (found == PCRE2_ERROR_NOMEMORY) return no_memory(e);
        if ((found < 0 && found != PCRE2_ERROR_NOMATCH) || now_ms() > w->until_ms)
            return err_set(e, STATUS_INVALID,
                           "the tokenizer's pattern takes too long over this text (code %d); try a "
                           "shorter one",
                           found);
        if (found >= 0) {
            const PCRE2_SIZE *place = pcre2_get_ovector_pointer(w->match);
            *m = (struct pattern_match){ place[0], place[1] };
            if (place[1] > place[0] || (place[1] == place[0] && place[0] > at)) return 1;
        }
        const int len = i < n ? utf8_decode(s + i, n - i, &cp) : 0;
        i += len ? (size_t)len : 1;
    }
    return 0;
}
