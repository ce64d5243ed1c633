/* profile.h - where the time of a prefill and of a decode step goes, call by call. Worker thread. */
#ifndef JAEDA_RUN_PROFILE_H
#define JAEDA_RUN_PROFILE_H
#include "job.h"
#include "models.h"

/* Runs a PROFILE job: warm-up, unprofiled runs for the true wall time, then runs watched call by call; emits PROFILE and
 * ends with DONE. Greedy, end-of-text ignored, no prefix reused, so that the work is fixed. */
int profile(struct models *m, struct job *job, struct err *e);

#endif
