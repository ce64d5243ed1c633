/* utf8.h - UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. Pure. */
#ifndef JAEDA_BASE_UTF8_H
#define JAEDA_BASE_UTF8_H
#include "buf.h"
#include <stdint.h>

bool utf8_valid(const char *s, size_t n);
/* Decodes one code point at s (n > 0 bytes left): its length 1..4, or 0 for an invalid or incomplete sequence. */
int utf8_decode(const char *s, size_t n, uint32_t *cp);
int utf8_encode(uint32_t cp, char out[4]);                       /* bytes written, 0 for an invalid code point */
size_t utf8_count(const char *s, size_t n);                      /* code points; each invalid byte counts as one */
size_t utf8_offset(const char *s, size_t n, size_t code_points); /* byte offset of that code point, clamped to n */
/* Length of the incomplete but so far valid sequence at the end of s (0..3): the bytes to hold back. */
size_t utf8_tail(const char *s, size_t n);
/* Appends s to out with every invalid byte sequence replaced by U+FFFD (maximal subparts, as Unicode recommends);
 * returns the number of replacements. */
size_t utf8_repair(struct buf *out, const char *s, size_t n);
enum utf8_form { UTF8_NFC, UTF8_NFD, UTF8_NFKC, UTF8_NFKD };
/* Appends s to out in a normal form of Unicode; bytes that are no UTF-8 are copied as they are. Linear in n: a base with
 * more than about a thousand marks is normalised in parts. -1: no memory, or out is full. */
int utf8_normalize(struct buf *out, const char *s, size_t n, enum utf8_form form);
bool utf8_is_space(uint32_t cp); /* Unicode's White_Space */
bool utf8_is_word(uint32_t cp);  /* letters, marks, numbers that are digits or letters, connecting punctuation */
/* Terminal cells of the text (Hangul: 2 each), by utf8proc_charwidth. */
size_t utf8_width(const char *s, size_t n);

#endif
