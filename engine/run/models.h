/* models.h - what the users of one engine share: the device, the weights that are resident and who holds them. */
#ifndef JAEDA_RUN_MODELS_H
#define JAEDA_RUN_MODELS_H
#include "job.h"
#include "load.h"
#include <pthread.h>

struct about { /* texts for engine_system; they outlive the models. place and log: "" when there is none */
    const char *transport, *place, *log;
};
/* The device itself is used in turns (turn.h); everything else here is read and written under the lock. */
struct models {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a load has ended, or `changing` */
    struct about about;
    struct loaded *list; /* with those that are still being read */
    const struct backend_api *api;
    struct backend *be;
    char no_gpu[320]; /* why the CPU computes although nobody asked for it; "": a GPU does, or the CPU was asked for */
    struct turn turn;
    struct peaks peaks;            /* of this machine, the best of `probes` measurements */
    int probes, connections, jobs; /* jobs: running or waiting, of all workers */
    uint64_t promised;             /* bytes that loads under way will still take */
    unsigned long order;
    double opened_us, idle_limit_s;
    bool quitting, changing; /* changing: the device is opened anew, no job may begin */
    char quitter[128];       /* why: "was stopped by %engine in bench.ipynb" */
    int wake;                /* eventfd */
};
enum { IDLE_LIMIT_S = 600 };
int models_open(struct models *m, const struct about *about, struct err *e); /* opens the backend: threads that sleep */
void models_close(
    struct models *m); /* no worker is left; frees every model, then the backend; fine on a zeroed struct */
/* For whoever keeps the process. Any thread. */
int models_jobs(struct models *m);
double models_idle_limit(struct models *m);            /* seconds without a connection; < 0: never */
bool models_quitting(struct models *m, char why[128]); /* the engine is to end; why: "" if not */
int models_wake_fd(const struct models *m);            /* readable when one of these changed; the reader drains it */

/* Of the job's owner: a seat on the model that it names (NULL: the last it loaded), in the job's lane, made when there is
 * none; nobody else gets it until models_rise, after which job is not looked at again by others. */
int models_sit(struct models *m, struct job *job, struct seat **out, struct err *e);
void models_rise(struct models *m, struct job *job, struct seat *s);
/* A worker comes; it leaves when its jobs have ended, and its seats are given back. */
void models_join(struct models *m);
void models_leave(struct models *m, const struct worker *w);
void models_count(struct models *m, int jobs); /* so many more wait or run; any thread */
void models_begin(struct models *m);           /* a job begins to run, and ends */
void models_end(struct models *m);
/* Who holds it, "a.ipynb (you), b.ipynb", into out->users and ->user. Under the lock. */
void models_users(const struct loaded *l, const struct worker *w, struct engine_model *out);
/* A loaded model that answers to this name (its own, the catalogue's, its path). Under the lock. */
struct loaded *models_named(const struct models *m, const char *name);

/* Each ends the job with DONE, or returns a status with e filled. The job's thread. */
int models_load(struct models *m, struct job *job, struct err *e);
int models_unload(struct models *m, struct job *job,
                  struct err *e); /* model "*": all that the owner holds, and idle ones */
int models_reset(struct models *m, struct job *job, struct err *e);
int models_answer(struct models *m, struct job *job, struct err *e); /* STATUS, MODELS, SHOW, ENGINE: never waits */
/* Measures the machine again and keeps the best of all times: neighbours only make it slower. */
int models_probe(struct models *m, struct job *job, struct err *e);
struct peaks models_peaks(struct models *m);
int models_probes(struct models *m);
/* Bytes that the device, or the machine where the CPU computes, can still give; of whose. */
uint64_t models_free(const struct models *m);

#endif
