/* generate.h - prompt to text: render, encode, reuse of the cached prefix, chunked prefill, decode. Worker thread. */
#ifndef JAEDA_RUN_GENERATE_H
#define JAEDA_RUN_GENERATE_H
#include "job.h"
#include "models.h"
#include "seat.h"

/* Runs a GENERATE job; emits TEXT and ends it with DONE, or returns a status with e filled. */
int generate(struct models *m, struct job *job, struct err *e);
/* Feeds ids[at, n) of one sequence (its first KV row: base) in pieces; only the last row's logits are taken, with the
 * sampling of job->step.sampling[0], so that afterwards the step block is the first decode step. A piece is as long as
 * the program takes when the job is alone, else as long as a turn: a long prompt freezes nobody's text. */
int prefill_piece(const struct seat *s, const struct job *job); /* how long that is now */
int prefill(struct seat *s, struct job *job, const struct ids *ids, size_t at, int base, struct err *e);

#endif
