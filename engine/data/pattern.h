/* pattern.h - what to look for in a text: a literal, or a regular expression as tokenizer.json files have them.
 * Immutable after opening; any thread may search, each with scratch of its own. */
#ifndef JAEDA_DATA_PATTERN_H
#define JAEDA_DATA_PATTERN_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pattern;
/* n bytes of UTF-8. Expressions are PCRE2's with Unicode properties; \s is Unicode's White_Space, as in the reference.
 * STATUS_FORMAT: no such expression, and why. */
int pattern_open(struct pattern **out, const char *text, size_t n, bool regex, struct err *e);
void pattern_close(struct pattern *p); /* NULL is fine */

/* Scratch of one caller: zero-initialise, reuse. The time that all its searches may take runs from the first one. */
struct pattern_work {
    void *memory, *match, *limits;
    size_t longest;
    int64_t until_ms;
};
void pattern_work_fini(struct pattern_work *w);
struct pattern_match {
    size_t from, to;
};
/* The first match at or after `at` in s (n bytes of valid UTF-8; what lies before `at` is seen by lookbehind). An empty
 * match at `at` itself does not count. 1: *m is set; 0: none; else a status: no memory, or an expression that takes
 * too long over this text. */
int pattern_find(const struct pattern *p, struct pattern_work *w, const char *s, size_t n, size_t at,
                 struct pattern_match *m, struct err *e);

#endif
