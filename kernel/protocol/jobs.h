/* jobs.h - cells that run long or in the background: what they showed is kept and can be shown again, in another cell, on
 * another page, after a restart. Any thread. */
#ifndef JAEDA_KERNEL_PROTOCOL_JOBS_H
#define JAEDA_KERNEL_PROTOCOL_JOBS_H
#include "cell.h"
#include "kernel/interp.h"

enum { JOBS_BACKGROUND = 7, JOBS_KEPT = 32 };
struct jobs;
/* dir NULL: $XDG_DATA_HOME or ~/.local/share, jaeda/jobs. */
int jobs_open(struct jobs **out, const char *dir, struct err *e);
void jobs_bind(struct jobs *j, struct interp *in, struct iopub *io); /* borrowed; before the first cell */
bool jobs_stop(struct jobs *j, int ms); /* ends those in the background; false: one runs still, nothing may be freed */
void jobs_close(struct jobs *j);        /* after jobs_stop has given true; NULL is fine */

/* A foreground cell begins and ends; o->tape is set where what it shows is to be kept. NULL: it is not. */
struct work;
struct work *jobs_begin(struct jobs *j, struct out *o, const char *code, size_t n);
void jobs_end(struct jobs *j, struct work *k, struct out *o, const struct err *e);

/* What interp_host offers of it. */
const struct job_host *jobs_host(struct jobs *j);

#endif
