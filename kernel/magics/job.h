/* job.h - one request to the engine and the wait for its end. A thread that runs a cell; others run theirs meanwhile. */
#ifndef JAEDA_MAGICS_JOB_H
#define JAEDA_MAGICS_JOB_H
#include "engine/engine.h"
#include "kernel/out.h"

struct interp;
/* Called for each event of the job but FAIL. Not 0: the job is cancelled and that is the result. */
typedef int job_event(void *arg, const struct engine_event *ev, struct err *e);
/* Opens the engine when it is not, submits in the cell's own lane, hands events to on, and cancels when the user interrupts. Returns when the
 * job ended: 0 after DONE, the engine's failure, or what on returned. */
int job_run(struct interp *in, struct out *o, const struct engine_req *q, job_event *on, void *arg, struct err *e);

struct models { /* rows copied out of a MODELS event, and the SYSTEM event when one came */
    struct engine_model *row;
    int n;
    struct engine_system system; /* its cards are a copy, too */
    struct engine_gpu *card;
    bool has_system;
};
/* A request that answers with rows: STATUS, MODELS, SHOW, UNLOAD. models_fini it, also after an error. */
int models_ask(struct interp *in, struct out *o, const struct engine_req *q, struct models *m, struct err *e);
int models_keep(struct models *m, const struct engine_event *ev, struct err *e);
/* Of loaded models, the one that a request with this name goes to, NULL: the last loaded. NULL: there is none. */
const struct engine_model *models_find(const struct models *m, const char *name);
void models_fini(struct models *m);

#endif
