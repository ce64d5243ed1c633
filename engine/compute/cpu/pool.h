/* pool.h - the CPU backend's threads: they run one function together, as phases of numbered tasks. */
#ifndef JAEDA_COMPUTE_CPU_POOL_H
#define JAEDA_COMPUTE_CPU_POOL_H
#include "base/err.h"

struct pool;
enum { POOL_THREADS_MAX = 256 };

/* Processors this process may use: the least of its affinity mask and the CPU quotas of its cgroups, at least 1. */
int pool_processors(void);
/* threads 0: pool_processors(). The caller's thread is one of them. Fewer than asked for when threads cannot start. */
struct pool *pool_open(int threads, struct err *e);
void pool_close(struct pool *p); /* NULL is fine */
int pool_threads(const struct pool *p);
/* Runs f(arg, id) on every thread that comes in time, the caller's as id 0, until all phases of f are over. f is a row
 * of phases: POOL_TASKS loops with pool_next() between them; every call of f must see the same phases and numbers of
 * tasks. A late f finds phases gone: outside its tasks it must not read what a later phase writes. */
void pool_run(struct pool *p, void (*f)(void *arg, int id), void *arg);
#define POOL_TASKS(i, p, id, tasks) for (int i; (i = pool_take(p, id, tasks)) >= 0; pool_done(p, id))
int pool_take(struct pool *p, int id, int tasks); /* the next task of the phase, or -1 */
void pool_done(struct pool *p, int id);           /* the task just taken is done */
void pool_next(struct pool *p, int id);           /* waits until the phase is over */
unsigned long pool_phases(const struct pool *p);  /* since pool_open; for tests */

#endif
