/* worker.h - one thread that owns the device, the models and the conversations; a queue of requests in, events out.
 * Both transports put it behind engine.h. */
#ifndef JAEDA_RUN_WORKER_H
#define JAEDA_RUN_WORKER_H
#include "engine.h"

struct worker;
/* Starts the thread; the device is opened by the first request that needs it. */
int worker_open(struct worker **out, struct err *e);
void worker_close(struct worker *w); /* cancels everything, waits, frees */
int worker_submit(struct worker *w, const struct engine_req *q, uint64_t *id, struct err *e);
int worker_fd(const struct worker *w);
int worker_next(struct worker *w, struct engine_event *ev);
void worker_cancel(struct worker *w, uint64_t id); /* any thread */

#endif
