/* gpu.h - what the driver tells of the cards, as tables and lines. */
#ifndef JAEDA_MAGICS_GPU_H
#define JAEDA_MAGICS_GPU_H
#include "engine/engine.h"
#include "kernel/present/table.h"

/* All of card number i. */
void gpu_table(struct doc *d, int i, const struct engine_gpu *g);
/* What a measurement depends on, in a line. */
void gpu_line(char out[640], const struct engine_gpu *g);
/* The card before and after the runs of a profile, what spoils them, and what a token costs in joules; nothing when the
 * CPU computed. */
void gpu_conditions(struct doc *d, const struct engine_profile *p);

#endif
