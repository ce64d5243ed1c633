/* job.h - one request on its way through the worker: its copy, its cancel flag, its events. */
#ifndef JAEDA_RUN_JOB_H
#define JAEDA_RUN_JOB_H
#include "compute/program.h"
#include "engine.h"
#include "turn.h"
#include <stdatomic.h>

struct worker;
struct node;
struct job {
    uint64_t id;
    struct engine_req req; /* everything it points to lies in block */
    void *block;
    double submitted_us;
    atomic_bool cancel;
    struct step step; /* the running step block, so that a cancel reaches the middle of a layer */
    struct worker *worker;
    struct turn *turn;
    double waited_us;  /* for its turn, so far */
    struct node *last; /* the queue's place for DONE or FAIL, reserved at the start: a job always ends */
    bool lost;         /* an event found no memory */
    struct job *next;
};
/* A copy of q that owns all it points to; NULL: no memory. */
struct job *job_new(const struct engine_req *q);
void job_close(struct job *job);
/* Any thread. The flag first, then the step block: a step that is set up afterwards sees the flag (job_replay). */
void job_cancel(struct job *job);
bool job_cancelled(const struct job *job);
/* An empty step block; the sampling of its picks stays. */
void job_step(struct job *job);
/* Runs one step of p with job->step, in its turn. 0; or a status with e filled (STATUS_CANCELLED: by job_cancel). */
int job_replay(struct job *job, struct program *p, struct watch *w, struct err *e);
/* The same for a step that may give way to other jobs: *yielded: it was broken off and is to be run again, shorter. */
int job_replay_or_yield(struct job *job, struct program *p, bool *yielded, struct err *e);
/* The same in turns of so many calls, where the CPU computes: others need not wait for all of it. No watch, no NEXT. */
int job_replay_in_turns(struct job *job, struct program *p, int calls, struct err *e);
/* Decoding: makes sure that up to `most` (>= 1) steps of p fly, as many as the device and other jobs allow, and waits for the
 * oldest. 0, or as job_replay; afterwards nothing flies when it failed, else program_recall forgets the rest. */
int job_decode(struct job *job, struct program *p, int most, struct err *e);
/* Around everything else that uses the device. */
void job_turn_take(struct job *job);
void job_turn_give(struct job *job);
/* What is wrong with a request, found without an engine; both ends of a link ask. */
int request_check(const struct engine_req *q, struct err *e);
double now_us(void);

/* Hands an event to the front (worker.c): takes ev->owned (allocated by mem_*) and fills ev->job. Never fails: without
 * memory for the queue the event is dropped and the job ends as failed. */
void job_emit(struct job *job, struct engine_event *ev);
void job_progress(struct job *job, const char *what, double done, double total, const char *unit, double seconds);
void job_models(struct job *job, const struct engine_model *row, int n); /* copies */
void job_done(struct job *job, const struct engine_done *done);
void job_fail(struct job *job, const struct err *e);

#endif
