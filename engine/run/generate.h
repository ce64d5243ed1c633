/* generate.h - prompt to text: render, encode, reuse of the cached prefix, chunked prefill, decode. Worker thread. */
#ifndef JAEDA_RUN_GENERATE_H
#define JAEDA_RUN_GENERATE_H
#include "job.h"
#include "load.h"
#include "models.h"

/* Runs a GENERATE job; emits TEXT and ends it with DONE, or returns a status with e filled. */
int generate(struct models *m, struct job *job, struct err *e);
/* Feeds ids[at, n) of one sequence (its first KV row: base) in chunks; only the last row's logits are taken, with the
 * sampling of job->step.sampling[0], so that afterwards the step block is the first decode step. */
int prefill(struct loaded *l, struct job *job, const struct ids *ids, size_t at, int base, struct err *e);

#endif
