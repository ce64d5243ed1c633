#include "pool.h"
#include "base/mem.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Work is a row of phases, each a number of tasks. A phase ends when its tasks are done, not when every thread has come:
 * on a busy machine a descheduled thread delays only the task it holds, and a late one finds the phase gone and moves on.
 * A waiting thread spins first (phases are microseconds long), then yields at every look; between jobs it sleeps, since
 * a notebook mostly idles. */
enum { SPIN = 2000, IDLE_SPIN = 20000 };

struct job {
    void (*f)(void *arg, int id); /* NULL: quit */
    void *arg;
    uint32_t phase; /* its first */
};
struct seat { /* of one thread, touched by no other */
    uint32_t phase;
    int tasks; /* of the phase it is in; -1: not asked yet */
    char apart[56];
};
struct pool {
    int threads, spin;
    pthread_t tid[POOL_THREADS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job job;
    bool open; /* the job may still be joined */
    atomic_uint jobs;
    unsigned long phases;
    char apart[64];              /* what many threads write and what many read: on cache lines of their own */
    atomic_uint_fast64_t ticket; /* phase << 32 | next task */
    char apart_too[64];
    atomic_int done, inside; /* finished tasks of the phase; helpers that have joined the job */
    char at_last[64];
    struct seat seat[POOL_THREADS_MAX];
};
struct start {
    struct pool *pool;
    int id;
};

/* ---- how many ---- */
/* Processors that the quota in one cgroup directory allows; a large number when there is none. */
static int quota(const char *dir) {
    char path[4200], text[64] = "";
    double limit = -1, period = 100000;
    const char *const v1[2] = { "cpu.cfs_quota_us", "cpu.cfs_period_us" };
    snprintf(path, sizeof path, "%s/cpu.max", dir);
    FILE *f = fopen(path, "r");
    if (f) {
        if (!fgets(text, sizeof text, f) || sscanf(text, "%lf %lf", &limit, &period) != 2) limit = -1; /* "max" */
        fclose(f);
    }
    for (int i = 0; !f && i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, v1[i]);
        FILE *g = fopen(path, "r");
        if (!g) return POOL_THREADS_MAX;
        if (fscanf(g, "%lf", i ? &period : &limit) != 1) limit = -1;
        fclose(g);
    }
    if (limit <= 0 || period <= 0 || limit / period > POOL_THREADS_MAX) return POOL_THREADS_MAX;
    const int n = (int)(limit / period + 0.999);
    return n > 0 ? n : 1;
}
/* A quota of any ancestor counts too. */
static int quota_upwards(const char *root, const char *group) {
    char dir[4096];
    int least = quota(root);
    snprintf(dir, sizeof dir, "%s%s", root, group);
    for (char *slash; strlen(dir) > strlen(root) && (slash = strrchr(dir, '/')); *slash = 0) {
        const int n = quota(dir);
        if (n < least) least = n;
    }
    return least;
}
int pool_processors(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    char line[2048];
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f && fgets(line, sizeof line, f)) { /* "0::/path" in version 2, "4:cpu,cpuacct:/path" in version 1 */
        line[strcspn(line, "\n")] = 0;
        const char *group = strchr(line, '/');
        const bool v2 = !strncmp(line, "0::", 3);
        if (!group || (!v2 && !strstr(line, ":cpu"))) continue;
        const int q = quota_upwards(v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu", group);
        if (q < n) n = q;
    }
    if (f) fclose(f);
    return n > 0 ? n : 1;
}

/* ---- waiting ---- */
static void relax(int spun, int limit) {
    if (spun >= limit) {
        sched_yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
static uint32_t phase_of(uint_fast64_t ticket) { return (uint32_t)(ticket >> 32); }
int pool_take(struct pool *p, int id, int tasks) {
    struct seat *seat = &p->seat[id];
    seat->tasks = tasks;
    uint_fast64_t t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    do
        if (phase_of(t) != seat->phase || (int)(uint32_t)t >= tasks) return -1;
    while (!atomic_compare_exchange_weak_explicit(&p->ticket, &t, t + 1, memory_order_acquire, memory_order_acquire));
    return (int)(uint32_t)t;
}
void pool_done(struct pool *p, int id) {
    const struct seat *seat = &p->seat[id];
    if (atomic_fetch_add_explicit(&p->done, 1, memory_order_acq_rel) + 1 < seat->tasks) return;
    p->phases++; /* only the thread with the last task comes here */
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store_explicit(&p->ticket, (uint_fast64_t)(seat->phase + 1) << 32, memory_order_release);
}
void pool_next(struct pool *p, int id) {
    struct seat *seat = &p->seat[id];
    uint_fast64_t t = (uint_fast64_t)seat->phase << 32;
    if (seat->tasks == 0) atomic_compare_exchange_strong(&p->ticket, &t, t + ((uint_fast64_t)1 << 32));
    for (int spun = 0; phase_of(atomic_load_explicit(&p->ticket, memory_order_acquire)) == seat->phase;)
        relax(spun += spun < p->spin, p->spin);
    seat->phase++;
    seat->tasks = -1;
}

/* ---- jobs ---- */
static void post(struct pool *p, void (*f)(void *, int), void *arg) {
    pthread_mutex_lock(&p->lock);
    p->job = (struct job){ f, arg, p->seat[0].phase };
    p->open = true;
    atomic_fetch_add(&p->jobs, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}
/* Nobody joins any more; those inside leave soon: every phase is over. */
static void finish(struct pool *p) {
    pthread_mutex_lock(&p->lock);
    p->open = false;
    pthread_mutex_unlock(&p->lock);
    for (int spun = 0; atomic_load(&p->inside);) relax(spun += spun < p->spin, p->spin);
}
static void *helper(void *arg) {
    const struct start st = *(struct start *)arg;
    struct pool *p = st.pool;
    mem_free(arg);
    for (unsigned seen = 0;;) {
        for (int i = 0; i < IDLE_SPIN && atomic_load(&p->jobs) == seen; i++) relax(i, p->spin < SPIN ? 0 : IDLE_SPIN);
        pthread_mutex_lock(&p->lock);
        while (atomic_load(&p->jobs) == seen) pthread_cond_wait(&p->wake, &p->lock);
        seen = atomic_load(&p->jobs);
        const struct job job = p->job;
        const bool join = p->open && job.f;
        if (join) atomic_fetch_add(&p->inside, 1);
        pthread_mutex_unlock(&p->lock);
        if (!job.f) return NULL;
        if (!join) continue;
        p->seat[st.id].phase = job.phase;
        job.f(job.arg, st.id);
        atomic_fetch_sub(&p->inside, 1);
    }
}
void pool_run(struct pool *p, void (*f)(void *arg, int id), void *arg) {
    if (p->threads > 1) post(p, f, arg);
    f(arg, 0);
    pool_next(p, 0);
    if (p->threads > 1) finish(p);
}
static bool start(struct pool *p, int id) {
    struct start *st = mem_alloc(sizeof *st);
    if (!st) return false;
    *st = (struct start){ p, id };
    if (!pthread_create(&p->tid[id], NULL, helper, st)) return true;
    mem_free(st);
    return false;
}
struct pool *pool_open(int threads, struct err *e) {
    const int processors = pool_processors();
    if (threads < 0 || threads > POOL_THREADS_MAX) {
        err_set(e, STATUS_INVALID, "threads %d: 0 (all %d processors) to %d", threads, processors, POOL_THREADS_MAX);
        return NULL;
    }
    struct pool *p = mem_zero(1, sizeof *p);
    if (!p) {
        err_set(e, STATUS_NOMEM, "no memory for the thread pool");
        return NULL;
    }
    const int wanted = threads ? threads : processors;
    p->spin = wanted <= processors ? SPIN : 16;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    sigset_t all, before; /* signals belong to the process' main thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int n = 1;
    while (n < wanted && start(p, n)) n++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    p->threads = n; /* the helpers read it only after the first job was posted */
    return p;
}
void pool_close(struct pool *p) {
    if (!p) return;
    post(p, NULL, NULL);
    for (int i = 1; i < p->threads; i++) pthread_join(p->tid[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    mem_free(p);
}
int pool_threads(const struct pool *p) { return p->threads; }
unsigned long pool_phases(const struct pool *p) { return p->phases; }
