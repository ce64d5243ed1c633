/* nearest.h - "did you mean": the names nearest to what was typed. Pure. */
#ifndef JAEDA_LANGUAGE_NEAREST_H
#define JAEDA_LANGUAGE_NEAREST_H
#include "base/buf.h"

enum { NEAREST_MAX = 3 };
struct nearest {
    const char *typed;
    struct {
        const char *name; /* borrowed from nearest_offer */
        int distance;
    } best[NEAREST_MAX];
    int n;
};
/* Edits (insert, drop, replace, swap neighbours) between two names without regard to case, - and _. */
int nearest_distance(const char *a, const char *b);
void nearest_init(struct nearest *w, const char *typed);
void nearest_offer(struct nearest *w, const char *name);
void nearest_offer_with(struct nearest *w, const char *name,
                        const char *aliases); /* near to an alias is near to name */
/* Appends " Did you mean %load, %log?" with mark before each name; nothing when no name is near. */
void nearest_text(const struct nearest *w, const char *mark, struct buf *out);

#endif
