/* replay.h - programs on the device: what each needs beside its memory, and the ways to run it. See struct backend_api. */
#ifndef JAEDA_COMPUTE_CUDA_REPLAY_H
#define JAEDA_COMPUTE_CUDA_REPLAY_H
#include "compute/cuda/cuda.h"

void replay_fuse(struct program *p);
void replay_scratch(const struct program *p, size_t *each, size_t *shared);
int replay_link(struct backend *be, struct program *p, struct err *e);
void replay_unlink(struct backend *be, struct program *p);
int replay_run(struct backend *be, const struct program *p, struct step *s, int from, int to, struct err *e);
int replay_launch(struct backend *be, const struct program *p, const struct step *s, bool first, struct err *e);
int replay_land(struct backend *be, const struct program *p, struct step *s, struct err *e);
int replay_mark(struct backend *be, int i, struct err *e);
int replay_marks(struct backend *be, double *us, int n, struct err *e);

#endif
