/* models.h - the loaded models of one worker and what can be said about models without loading them. */
#ifndef JAEDA_RUN_MODELS_H
#define JAEDA_RUN_MODELS_H
#include "job.h"
#include "load.h"
#include <pthread.h>

/* list, used and probe belong to the worker thread; other threads read them under the lock, the worker writes under it. */
struct models {
    pthread_mutex_t lock;
    struct loaded *list; /* last loaded first */
    struct backend *be;
    struct peaks peaks; /* of this machine, the best of `probes` measurements */
    int probes;
};
int models_open(struct models *m, struct err *e); /* opens the backend: a thread pool that sleeps */
void models_close(struct models *m);              /* frees every model, then the backend; fine on a zeroed struct */
/* A loaded model by name or alias; NULL name: the last loaded. NULL, and an error that says how to load. */
struct loaded *models_find(struct models *m, const char *name, struct err *e);

/* Worker thread. Each ends the job with DONE, or returns a status with e filled. */
int models_load(struct models *m, struct job *job, struct err *e);
int models_unload(struct models *m, struct job *job, struct err *e); /* model "*": all */
int models_reset(struct models *m, struct job *job, struct err *e);
/* Any thread: answered from what is known and from file headers. */
int models_answer(struct models *m, struct job *job, struct err *e); /* STATUS, MODELS, SHOW */
/* Measures the machine again and keeps the best of all times: neighbours only make it slower. Worker thread. */
int models_probe(struct models *m, struct err *e);

#endif
