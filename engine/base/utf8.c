#include "utf8.h"
#include "mem.h"
#include <utf8proc.h>

static int sequence_length(unsigned char c) {
    if (c < 0x80) return 1;
    if (c >= 0xc2 && c <= 0xdf) return 2;
    if ((c & 0xf0) == 0xe0) return 3;
    return c >= 0xf0 && c <= 0xf4 ? 4 : 0;
}
/* Is byte c allowed at place i (1..3) of a sequence that starts with lead? RFC 3629's table 3-7. */
static bool continues(unsigned char lead, int i, unsigned char c) {
    if ((c & 0xc0) != 0x80) return false;
    if (i > 1) return true;
    switch (lead) {
    case 0xe0: return c >= 0xa0;
    case 0xed: return c <= 0x9f;
    case 0xf0: return c >= 0x90;
    case 0xf4: return c <= 0x8f;
    default: return true;
    }
}
/* Bytes of the longest valid start of a sequence at s; *whole: it is a complete code point. */
static int prefix(const char *s, size_t n, bool *whole) {
    const unsigned char *u = (const unsigned char *)s;
    const int want = sequence_length(u[0]);
    int have = want > 0;
    while (have > 0 && have < want && (size_t)have < n && continues(u[0], have, u[have])) have++;
    *whole = want > 0 && have == want;
    return have;
}
int utf8_decode(const char *s, size_t n, uint32_t *cp) {
    bool whole = false;
    const int len = n ? prefix(s, n, &whole) : 0;
    if (!whole) return 0;
    static const unsigned char mask[5] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
    uint32_t c = (unsigned char)s[0] & mask[len];
    for (int i = 1; i < len; i++) c = c << 6 | ((unsigned char)s[i] & 0x3f);
    *cp = c;
    return len;
}
int utf8_encode(uint32_t cp, char out[4]) {
    if (cp >= 0xd800 && cp <= 0xdfff) return 0;
    return cp > 0x10ffff ? 0 : (int)utf8proc_encode_char((utf8proc_int32_t)cp, (utf8proc_uint8_t *)out);
}
bool utf8_valid(const char *s, size_t n) {
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        const int len = utf8_decode(s + i, n - i, &cp);
        if (!len) return false;
        i += (size_t)len;
    }
    return true;
}
size_t utf8_offset(const char *s, size_t n, size_t code_points) {
    uint32_t cp;
    size_t i = 0;
    for (; code_points && i < n; code_points--) {
        const int len = utf8_decode(s + i, n - i, &cp);
        i += len ? (size_t)len : 1;
    }
    return i;
}
size_t utf8_count(const char *s, size_t n) {
    uint32_t cp;
    size_t count = 0;
    for (size_t i = 0; i < n; count++) {
        const int len = utf8_decode(s + i, n - i, &cp);
        i += len ? (size_t)len : 1;
    }
    return count;
}
size_t utf8_tail(const char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const char *at = s + n - back;
        if (((unsigned char)*at & 0xc0) == 0x80) continue;
        bool whole;
        return prefix(at, back, &whole) == (int)back && !whole ? back : 0;
    }
    return 0;
}
size_t utf8_repair(struct buf *out, const char *s, size_t n) {
    size_t replaced = 0, good = 0, i = 0; /* good: start of the valid run not yet copied */
    while (i < n) {
        bool whole;
        const int len = prefix(s + i, n - i, &whole);
        if (!whole) {
            buf_add(out, s + good, i - good);
            buf_puts(out, "\xef\xbf\xbd");
            replaced++;
            good = i + (len ? (size_t)len : 1);
        }
        i += len ? (size_t)len : 1;
    }
    buf_add(out, s + good, n - good);
    return replaced;
}
bool utf8_is_space(uint32_t cp) {
    switch (cp) {
    case 0x20:
    case 0x85:
    case 0xa0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202f:
    case 0x205f:
    case 0x3000: return true;
    default: return (cp >= 9 && cp <= 13) || (cp >= 0x2000 && cp <= 0x200a);
    }
}
bool utf8_is_word(uint32_t cp) {
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return cp == 0x200c || cp == 0x200d;
    }
}

enum { PART = 2048 }; /* bytes normalised at once: utf8proc sorts marks in quadratic time */
/* Does it stay as it is, whatever stands before it and unless a mark follows? The common letters, not all of them. */
static bool settled(uint32_t cp, enum utf8_form form) {
    if (cp < 0x80) return true;
    if (form != UTF8_NFC) return false;
    return cp < 0x300 || (cp >= 0xac00 && cp <= 0xd7a3) || (cp >= 0x4e00 && cp <= 0x9fff) ||
           (cp >= 0x3041 && cp <= 0x3096);
}
/* May it combine with what stands before it? */
static bool leans(uint32_t cp, enum utf8_form form) {
    if (cp < 0x300) return false;
    if ((cp >= 0x1160 && cp <= 0x11ff) || (cp >= 0xd7b0 && cp <= 0xd7ff)) return true;
    if (form >= UTF8_NFKC && ((cp >= 0x3131 && cp <= 0x318e) || (cp >= 0xff9e && cp <= 0xffdc))) return true;
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
}
/* One code point at s and those that may combine with it: their bytes. */
static size_t cluster(const char *s, size_t n, enum utf8_form form, uint32_t *first) {
    uint32_t cp;
    size_t i = (size_t)utf8_decode(s, n, first);
    for (int len; i && i < n && i < PART && (len = utf8_decode(s + i, n - i, &cp)) && leans(cp, form);)
        i += (size_t)len;
    return i;
}
static int normalize_part(struct buf *out, const char *s, size_t n, enum utf8_form form) {
    const int option = UTF8PROC_STABLE | (form & 1 ? UTF8PROC_DECOMPOSE : UTF8PROC_COMPOSE) |
                       (form >= UTF8_NFKC ? UTF8PROC_COMPAT : 0);
    const utf8proc_uint8_t *u = (const utf8proc_uint8_t *)s;
    const utf8proc_ssize_t room = utf8proc_decompose(u, (utf8proc_ssize_t)n, NULL, 0, (utf8proc_option_t)option);
    utf8proc_int32_t *cp = room > 0 ? mem_alloc(((size_t)room + 1) * sizeof *cp) : NULL;
    if (!cp) return -1;
    utf8proc_ssize_t made = utf8proc_decompose(u, (utf8proc_ssize_t)n, cp, room, (utf8proc_option_t)option);
    if (made >= 0) made = utf8proc_reencode(cp, made, (utf8proc_option_t)option);
    const int rc = made >= 0 ? buf_add(out, cp, (size_t)made) : -1;
    mem_free(cp);
    return rc;
}
int utf8_normalize(struct buf *out, const char *s, size_t n, enum utf8_form form) {
    size_t kept = 0; /* start of what is copied as it stands */
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        const size_t len = cluster(s + i, n - i, form, &cp);
        const bool alone = len <= 1 || (len <= 4 && utf8_count(s + i, len) == 1);
        if (len && !(alone && settled(cp, form))) {
            buf_add(out, s + kept, i - kept);
            if (normalize_part(out, s + i, len, form)) return -1;
            kept = i + len;
        }
        i += len ? len : 1;
    }
    return buf_add(out, s + kept, n - kept);
}
size_t utf8_width(const char *s, size_t n) {
    uint32_t cp;
    size_t width = 0;
    for (size_t i = 0; i < n;) {
        const int len = utf8_decode(s + i, n - i, &cp);
        const int cells = len ? utf8proc_charwidth((utf8proc_int32_t)cp) : 1;
        width += cells > 0 ? (size_t)cells : 0;
        i += len ? (size_t)len : 1;
    }
    return width;
}
