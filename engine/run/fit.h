/* fit.h - would it fit, and how fast could it be: from shapes alone, before a byte of weights is read. */
#ifndef JAEDA_RUN_FIT_H
#define JAEDA_RUN_FIT_H
#include "job.h"
#include "models.h"

/* Runs a FIT job; emits FIT and ends it with DONE, or returns a status with e filled. Worker thread: the first one measures
 * this machine's bandwidth. */
int fit(struct models *m, struct job *job, struct err *e);

#endif
