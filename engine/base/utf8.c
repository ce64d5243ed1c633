#include "utf8.h"
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
