/* turn.h - who computes next. The device belongs to one job at a time; those that wait get it in the order in which they
 * asked, so that jobs take turns step by step. A long step that can be repeated gives way when somebody comes. */
#ifndef JAEDA_RUN_TURN_H
#define JAEDA_RUN_TURN_H
#include "compute/step.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { TURN_MS = 250 }; /* what one turn should not exceed while others wait */
struct turn {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    unsigned long last, now; /* tickets: the newest given out, the one that may compute */
    atomic_int jobs;         /* that run now, computing or between two turns */
    struct step *yields;     /* of the holder, when its step may be cancelled and run again; else NULL */
};
void turn_init(struct turn *t);
void turn_fini(struct turn *t);
/* Waits for its turn; returns how long, in microseconds. yields: see above; its cancelled step is to be run again with
 * fewer rows. Any thread; never while holding one. */
double turn_take(struct turn *t, struct step *yields);
void turn_give(struct turn *t);
/* Rows for the next piece of a prompt, when a piece of `rows` took ms: what fits into a turn, with a margin. */
int turn_rows(int rows, double ms);

#endif
