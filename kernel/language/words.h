/* words.h - the arguments of a magic -> words, quoted as a shell would, with $variables put in. Pure.
 * A quote opens at the start of a word, behind the = of --option=value and name=value, and anywhere in a word that starts
 * with "-"; elsewhere it is a letter (What's). "..." takes \n \t \" \\ and $name; '...' takes nothing. Outside quotes a
 * backslash makes a blank, a quote, a $ or a backslash literal. A value put in is never split or read again.
 * $name, ${name}: a variable, else a variable of the environment; $$: a $; "$5" and a lone $ stay. */
#ifndef JAEDA_LANGUAGE_WORDS_H
#define JAEDA_LANGUAGE_WORDS_H
#include "base/err.h"
#include "variables.h"
#include <stdbool.h>

struct word {
    char *text;
    bool quoted; /* starts with a quote: never an option */
};
struct words {
    struct word *v;
    int n, cap;
};
int words_split(struct words *out, const char *s, const struct variables *vars, struct err *e);
void words_fini(struct words *w);
/* Puts variables into text as it is, without splitting. Unknown names: left alone, or an error when strict. NULL and e on
 * an error; else the caller's (mem_free). */
char *words_expand(const char *s, const struct variables *vars, bool strict, struct err *e);

#endif
