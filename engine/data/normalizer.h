/* normalizer.h - what happens to text before it is cut into pieces: a list of steps. Immutable once built; any thread
 * may use it, each with scratch of its own. */
#ifndef JAEDA_DATA_NORMALIZER_H
#define JAEDA_DATA_NORMALIZER_H
#include "base/utf8.h"
#include "pattern.h"

struct normalizer;
int normalizer_open(struct normalizer **out, struct err *e); /* no steps: text stays as it is */
void normalizer_close(struct normalizer *z);                 /* NULL is fine */
int normalizer_add_form(struct normalizer *z, enum utf8_form form, struct err *e);
int normalizer_add_prepend(struct normalizer *z, const char *p, size_t n,
                           struct err *e); /* before text that is not empty */
/* Every match becomes the n bytes of p. The pattern belongs to z from here on, also when this fails. */
int normalizer_add_replace(struct normalizer *z, struct pattern *pattern, const char *p, size_t n, struct err *e);
int normalizer_add_strip(struct normalizer *z, bool left, bool right, struct err *e); /* white space */
int normalizer_add_collapse(struct normalizer *z, struct err *e); /* runs of blanks become one; none at the edges */
bool normalizer_empty(const struct normalizer *z);

struct normalizer_work { /* zero-initialise, reuse */
    struct buf made[2];
    struct pattern_work search;
};
void normalizer_work_fini(struct normalizer_work *w);
/* *out (*out_n bytes): text after all steps; it lies in w, or is text itself. */
int normalizer_run(const struct normalizer *z, struct normalizer_work *w, const char *text, size_t n, const char **out,
                   size_t *out_n, struct err *e);

#endif
