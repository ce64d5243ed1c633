#include "literal.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_MAX = 16 << 20, DEPTH_MAX = 64 };

struct reader {
    const char *s, *end;
    int depth;
    struct err *e;
};
/* What a value is written as, twice. */
struct forms {
    struct buf text, repr;
};
static int value(struct reader *r, enum literal_kind *kind, struct forms *f);

static int bad(struct reader *r, const char *what) { return err_set(r->e, STATUS_INVALID, "%s", what); }
static bool at(const struct reader *r, const char *word) {
    const size_t n = strlen(word);
    return (size_t)(r->end - r->s) >= n && !memcmp(r->s, word, n);
}
static bool word_char(char c) { return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80; }
static void skip(struct reader *r, bool lines) {
    for (; r->s < r->end; r->s++) {
        if (lines && *r->s == '#') {
            while (r->s < r->end && *r->s != '\n') r->s++;
            if (r->s == r->end) return;
        }
        if (*r->s == '\\' && r->end - r->s > 1 && r->s[1] == '\n') {
            r->s++;
        } else if (!(*r->s == ' ' || *r->s == '\t' || *r->s == '\r' || (lines && *r->s == '\n'))) {
            return;
        }
    }
}

static void repr_string(struct buf *out, const char *s, size_t n) {
    const char quote = memchr(s, '\'', n) && !memchr(s, '"', n) ? '"' : '\'';
    buf_add(out, &quote, 1);
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c == '\n' || c == '\t' || c == '\r') {
            buf_printf(out, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        } else if (c < 0x20 || c == 0x7f) {
            buf_printf(out, "\\x%02x", c);
        } else {
            if (c == '\\' || c == (unsigned char)quote) buf_puts(out, "\\");
            buf_add(out, s + i, 1);
        }
    }
    buf_add(out, &quote, 1);
}

/* digits hexadecimal digits after \x, \u, \U; a surrogate pair is joined. */
static int hex(struct reader *r, int digits, uint32_t *cp) {
    *cp = 0;
    for (int i = 0; i < digits; i++, r->s++) {
        if (r->s == r->end || !isxdigit((unsigned char)*r->s))
            return bad(r, "a \\x, \\u or \\U escape has too few digits");
        const char c = (char)tolower((unsigned char)*r->s);
        *cp = *cp << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return 0;
}
static int unicode(struct reader *r, int digits, struct buf *out) {
    uint32_t cp, low = 0;
    if (hex(r, digits, &cp)) return r->e->code;
    if (cp >= 0xd800 && cp < 0xdc00 && at(r, "\\u")) {
        const char *back = r->s;
        r->s += 2;
        if (hex(r, 4, &low)) return r->e->code;
        if (low >= 0xdc00 && low < 0xe000) {
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
        } else {
            r->s = back;
        }
    }
    char bytes[4];
    int n = utf8_encode(cp, bytes);
    if (!n) n = utf8_encode(0xfffd, bytes); /* a lone surrogate, or above U+10FFFF */
    if (!cp) return bad(r, "a string here cannot hold a NUL");
    buf_add(out, bytes, (size_t)n);
    return 0;
}
static int escape(struct reader *r, struct buf *out) {
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    if (++r->s == r->end) return bad(r, "the string is not closed");
    const char c = *r->s++;
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        buf_add(out, to + (known - from), 1);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        return unicode(r, c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
    } else if (c >= '0' && c <= '7') {
        int v = c - '0';
        for (int i = 0; i < 2 && r->s < r->end && *r->s >= '0' && *r->s <= '7'; i++) v = v * 8 + (*r->s++ - '0');
        char bytes[4];
        if (!v) return bad(r, "a string here cannot hold a NUL");
        buf_add(out, bytes, (size_t)utf8_encode((uint32_t)v, bytes));
    } else if (c == '\r' && r->s < r->end && *r->s == '\n') {
        r->s++;
    } else if (c == 'N') {
        return bad(r, "\\N{name} is not read here; write the character itself");
    } else if (c != '\n') { /* Python keeps the backslash of an escape that it does not know */
        buf_puts(out, "\\");
        buf_add(out, &c, 1);
    }
    return 0;
}
static int string_part(struct reader *r, struct buf *out) {
    const bool raw = *r->s == 'r' || *r->s == 'R';
    r->s += raw;
    char close[4] = { *r->s, *r->s, *r->s, 0 };
    if (at(r, close)) {
        r->s += 3;
    } else {
        close[1] = 0;
        r->s++;
    }
    while (r->s < r->end && !at(r, close)) {
        if (!*r->s) return bad(r, "a string here cannot hold a NUL");
        if (*r->s == '\n' && !close[1]) break;
        if (*r->s == '\\' && !raw) {
            if (escape(r, out)) return r->e->code;
            continue;
        }
        if (raw && *r->s == '\\' && r->end - r->s > 1) buf_add(out, r->s++, 1);
        buf_add(out, r->s++, 1);
    }
    if (!at(r, close)) return bad(r, "the string is not closed");
    r->s += strlen(close);
    return 0;
}
static bool string_here(const struct reader *r) {
    if (r->s == r->end) return false;
    const bool raw = *r->s == 'r' || *r->s == 'R';
    return r->end - r->s > raw && (r->s[raw] == '"' || r->s[raw] == '\'');
}
static int string(struct reader *r, struct forms *f) {
    struct buf s;
    buf_init(&s, VALUE_MAX);
    int rc = 0;
    do {
        rc = string_part(r, &s);
        const char *back = r->s;
        skip(r, r->depth > 1); /* 1: the value itself, not inside a bracket */
        if (!string_here(r)) {
            r->s = back;
            break;
        }
    } while (!rc);
    if (!rc && s.failed) rc = err_set(r->e, STATUS_NOMEM, "out of memory: a string of more than 16 MiB");
    if (!rc) {
        buf_add(&f->text, buf_text(&s), s.n);
        repr_string(&f->repr, buf_text(&s), s.n);
    }
    buf_fini(&s);
    return rc;
}

/* As Python's repr: the fewest digits that read back the same, an exponent only outside 1e-4 .. 1e16. */
static void put_float(struct forms *f, double v) {
    char text[64];
    int digits = 0;
    do snprintf(text, sizeof text, "%.*e", digits, v);
    while (strtod(text, NULL) != v && ++digits < 17);
    const char *e = strchr(text, 'e');
    const int exponent = e ? (int)strtol(e + 1, NULL, 10) : 0;
    const int decimals = digits - exponent;
    if (exponent >= -4 && exponent < 16) snprintf(text, sizeof text, "%.*f", decimals < 1 ? 1 : decimals, v);
    buf_puts(&f->text, text);
    buf_puts(&f->repr, text);
}
static int number(struct reader *r, enum literal_kind *kind, struct forms *f) {
    char digits[512];
    size_t n = 0;
    bool real = false;
    if (*r->s == '-' || *r->s == '+') {
        if (*r->s == '-') digits[n++] = '-';
        r->s++;
    }
    const bool based = at(r, "0x") || at(r, "0X") || at(r, "0o") || at(r, "0O") || at(r, "0b") || at(r, "0B");
    for (; r->s < r->end &&
           (word_char(*r->s) || *r->s == '.' || ((*r->s == '-' || *r->s == '+') && real && strchr("eE", r->s[-1])));
         r->s++) {
        if (*r->s == '_') continue;
        if (!based && strchr(".eE", *r->s)) real = true;
        if (n + 1 == sizeof digits) return bad(r, "a number of more than 500 digits");
        digits[n++] = *r->s;
    }
    digits[n] = 0;
    char *end = digits;
    if (real) {
        const double v = strtod(digits, &end);
        if (*end || end == digits) return bad(r, "not a number");
        put_float(f, v);
        *kind = LITERAL_FLOAT;
        return 0;
    }
    const char *d = digits + (digits[0] == '-');
    if (based) {
        const int base = tolower((unsigned char)d[1]) == 'x' ? 16 : tolower((unsigned char)d[1]) == 'o' ? 8 : 2;
        const unsigned long long v = strtoull(d + 2, &end, base);
        if (*end || end == d + 2 || v == ULLONG_MAX) return bad(r, "not a number");
        snprintf(digits + (d - digits), 32, "%llu", v);
    } else if (!*d || strspn(d, "0123456789") != strlen(d)) {
        return bad(r, "not a number");
    }
    while (*d == '0' && d[1]) d++;
    buf_printf(&f->text, "%s%s", digits[0] == '-' && strcmp(d, "0") ? "-" : "", d);
    buf_printf(&f->repr, "%s%s", digits[0] == '-' && strcmp(d, "0") ? "-" : "", d);
    *kind = LITERAL_INT;
    return 0;
}

/* float('nan'), float("-inf"), float(3): what papermill writes where Python has no literal. */
static int float_call(struct reader *r, struct forms *f) {
    r->s += strlen("float(");
    struct forms inner;
    buf_init(&inner.text, 64);
    buf_init(&inner.repr, 64);
    enum literal_kind kind = LITERAL_NONE;
    int rc = value(r, &kind, &inner);
    char *end = NULL;
    const double v = rc ? 0 : strtod(buf_text(&inner.text), &end);
    if (!rc &&
        (kind > LITERAL_STR || kind < LITERAL_INT || !end || *end || end == buf_text(&inner.text) || !at(r, ")")))
        rc = bad(r, "float(...) takes a number, 'nan' or 'inf'");
    buf_fini(&inner.text);
    buf_fini(&inner.repr);
    if (rc) return rc;
    r->s++;
    if (isfinite(v)) {
        put_float(f, v);
    } else {
        buf_puts(&f->text, isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
        buf_puts(&f->repr, isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
    }
    return 0;
}

static int item(struct reader *r, enum literal_kind *kind, struct forms *f, bool dict) {
    if (value(r, kind, f)) return r->e->code;
    skip(r, true);
    if (!dict) return 0;
    if (*kind == LITERAL_LIST || *kind == LITERAL_DICT) return bad(r, "a dict's key cannot be a list or a dict");
    if (!at(r, ":")) return bad(r, "a dict's item is key: value");
    r->s++;
    buf_puts(&f->repr, ": ");
    skip(r, true);
    return value(r, kind, f);
}
/* A dict's text is its repr: joined items of a dict mean nothing. */
static int items(struct reader *r, enum literal_kind *kind, struct forms *f) {
    const char open = *r->s++, close = open == '[' ? ']' : open == '(' ? ')' : '}';
    const size_t text_start = f->text.n, repr_start = f->repr.n;
    enum literal_kind inner = LITERAL_NONE;
    int n = 0;
    bool comma = true;
    *kind = open == '[' ? LITERAL_LIST : open == '(' ? LITERAL_TUPLE : LITERAL_DICT;
    buf_add(&f->repr, &open, 1);
    for (;; n++) {
        skip(r, true);
        if (r->s == r->end) return bad(r, "a bracket is not closed");
        if (*r->s == close) break;
        if (!comma) return bad(r, "a comma is missing between two items");
        if (n) buf_puts(&f->text, ","), buf_puts(&f->repr, ", ");
        if (item(r, &inner, f, open == '{')) return r->e->code;
        skip(r, true);
        comma = at(r, ",");
        r->s += comma;
    }
    r->s++;
    if (open == '(' && n == 1 && !comma) { /* (3) is 3 */
        *kind = inner;
        if (!f->repr.failed) memmove(f->repr.p + repr_start, f->repr.p + repr_start + 1, f->repr.n - repr_start);
        if (!f->repr.failed) f->repr.n--;
        return 0;
    }
    if (open == '(' && n == 1) buf_puts(&f->repr, ",");
    buf_add(&f->repr, &close, 1);
    if (open == '{' && !f->text.failed) {
        f->text.n = text_start;
        buf_add(&f->text, buf_text(&f->repr) + repr_start, f->repr.n - repr_start);
    }
    return 0;
}
static int word(struct reader *r, enum literal_kind *kind, struct forms *f) {
    static const struct {
        const char *name;
        enum literal_kind kind;
    } known[] = { { "True", LITERAL_BOOL }, { "False", LITERAL_BOOL }, { "None", LITERAL_NONE } };
    for (size_t i = 0; i < 3; i++) {
        const size_t n = strlen(known[i].name);
        if (!at(r, known[i].name) || (r->s + n < r->end && word_char(r->s[n]))) continue;
        r->s += n;
        *kind = known[i].kind;
        buf_puts(&f->text, known[i].name);
        buf_puts(&f->repr, known[i].name);
        return 0;
    }
    return bad(r, "a value is a Python literal: a number, a 'string', True, False, None, a list, a tuple or a dict");
}
static int value(struct reader *r, enum literal_kind *kind, struct forms *f) {
    skip(r, r->depth > 0);
    if (r->s == r->end) return bad(r, "the value is missing");
    if (r->depth == DEPTH_MAX) return bad(r, "brackets nest deeper than 64");
    r->depth++;
    int rc;
    const bool sign = (*r->s == '-' || *r->s == '+') && r->end - r->s > 1;
    if (strchr("[({", *r->s) && *r->s) {
        rc = items(r, kind, f);
    } else if (string_here(r)) {
        *kind = LITERAL_STR;
        rc = string(r, f);
    } else if (at(r, "float(")) {
        *kind = LITERAL_FLOAT;
        rc = float_call(r, f);
    } else if (isdigit((unsigned char)r->s[sign]) ||
               (r->end - r->s > sign + 1 && r->s[sign] == '.' && isdigit((unsigned char)r->s[sign + 1]))) {
        rc = number(r, kind, f);
    } else {
        rc = word(r, kind, f);
    }
    r->depth--;
    return rc;
}

int literal_parse(struct literal *out, const char *s, size_t n, size_t *used, struct err *e) {
    struct err own = { 0 };
    struct reader r = { .s = s, .end = s + n, .e = &own };
    struct forms f;
    *out = (struct literal){ 0 };
    buf_init(&f.text, VALUE_MAX);
    buf_init(&f.repr, VALUE_MAX);
    int rc = value(&r, &out->kind, &f);
    *used = (size_t)(r.s - s);
    if (!rc) {
        out->text = buf_take(&f.text);
        out->repr = buf_take(&f.repr);
        if (!out->text || !out->repr) rc = err_set(&own, STATUS_NOMEM, "out of memory for a value");
    }
    if (rc) literal_fini(out);
    buf_fini(&f.text);
    buf_fini(&f.repr);
    return rc ? err_set(e, own.code, "%s", own.text) : 0;
}
int literal_string(struct literal *out, const char *text, size_t n, struct err *e) {
    struct buf repr;
    buf_init(&repr, 4 * n + 64);
    repr_string(&repr, text, n);
    *out = (struct literal){ .kind = LITERAL_STR, .text = mem_copy(text, n), .repr = buf_take(&repr) };
    buf_fini(&repr);
    if (out->text && out->repr) return 0;
    literal_fini(out);
    return err_set(e, STATUS_NOMEM, "out of memory for a value of %zu bytes", n);
}
void literal_fini(struct literal *v) {
    mem_free(v->text);
    mem_free(v->repr);
    *v = (struct literal){ 0 };
}
const char *literal_type(const struct literal *v) {
    static const char *const name[] = { "NoneType", "bool", "int", "float", "str", "list", "tuple", "dict" };
    return name[v->kind];
}
