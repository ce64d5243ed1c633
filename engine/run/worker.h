/* worker.h - one connection's side of the engine: its lanes (threads that run its jobs), its KV caches, its events. Both
 * transports put it behind engine.h; all workers of a process share one struct models. */
#ifndef JAEDA_RUN_WORKER_H
#define JAEDA_RUN_WORKER_H
#include "models.h"

struct worker;
/* m is borrowed and outlives the worker. name: whose connection it is, for %ps ("benchmark.ipynb"). */
int worker_open(struct worker **out, struct models *m, const char *name, struct err *e);
/* Cancels everything, waits until the running steps have ended (milliseconds; a load: until its reader gives up), gives
 * back the KV caches. Weights stay. */
void worker_close(struct worker *w);
/* Any thread. *id: its number when it was 0, else the caller's own (never used before on this worker). */
int worker_submit(struct worker *w, const struct engine_req *q, uint64_t *id, struct err *e);
int worker_fd(const struct worker *w); /* readable when worker_next has something */
int worker_next(struct worker *w, struct engine_event *ev);
void worker_cancel(struct worker *w, uint64_t id); /* any thread; id 0: every job */
const char *worker_name(const struct worker *w);

#endif
