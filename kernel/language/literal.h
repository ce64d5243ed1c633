/* literal.h - Python literals: the values of notebook variables. Pure.
 * int (any length, _ and 0x/0o/0b), float, str ('', "", triple, r'', adjacent ones join; all escapes but \N{}),
 * True, False, None, [..], (..), {k: v}, float('nan'), float('inf'). Inside brackets lines may break and hold # comments. */
#ifndef JAEDA_LANGUAGE_LITERAL_H
#define JAEDA_LANGUAGE_LITERAL_H
#include "base/err.h"
#include <stddef.h>

enum literal_kind {
    LITERAL_NONE,
    LITERAL_BOOL,
    LITERAL_INT,
    LITERAL_FLOAT,
    LITERAL_STR,
    LITERAL_LIST,
    LITERAL_TUPLE,
    LITERAL_DICT
};
struct literal {
    enum literal_kind kind;
    char *text; /* what $name stands for: a string's characters, a number's digits, a list's items joined by commas */
    char *repr; /* as Python would print it */
};
/* Parses one literal at s[0..n); *used: bytes taken, also of a broken one. Error: what is wrong,
 * without the place. */
int literal_parse(struct literal *out, const char *s, size_t n, size_t *used, struct err *e);
/* A str of this text. */
int literal_string(struct literal *out, const char *text, size_t n, struct err *e);
void literal_fini(struct literal *v);
const char *literal_type(const struct literal *v); /* "int", "str", ... */

#endif
