/* record.h - a generation or profile on its way into the results database. The thread that runs the cell. */
#ifndef JAEDA_MAGICS_RECORD_H
#define JAEDA_MAGICS_RECORD_H
#include "job.h"
#include "kernel/language/magic.h"

struct record {
    json_t *run;         /* by the names of results.c's columns; NULL: nothing is to be recorded */
    struct models facts; /* the loaded models and the machine, as they were before the run */
    bool any;            /* something came that would be lost */
};
/* Notes what is asked (q as it will be submitted, c's --no-record) and on what. Asks the engine for its status: the error,
 * when there is one, is that the engine is gone or the cell was interrupted. record_end it when 0. */
int record_begin(struct record *r, struct call *c, const struct engine_req *q);
struct sight;
/* Where the pictures of that message, the last one, were read from. */
void record_pictures(struct record *r, const struct sight *s, int message);
void record_text(struct record *r, const struct engine_done *d, const struct buf *text);
void record_profile(struct record *r, const struct engine_profile *p);
/* rc: what the run ended in (c->e says why). Writes the record unless nothing came of the run. A failure is one line of
 * output and never an error. */
void record_end(struct record *r, struct call *c, int rc);
struct doc;
/* What results_add and the others appended to a note. */
void note_lines(struct doc *d, const struct buf *note);

#endif
