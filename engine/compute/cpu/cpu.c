/* cpu.c - the CPU backend's table: which instruction set, one walk over the program by all threads, memory. */
#include "cpu.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

struct backend {
    struct pool *pool;
    const struct kernels *k;
    struct slab *slabs;
};
struct pool *cpu_pool(struct backend *be) {
    return be->pool;
}
struct slab **cpu_slabs(struct backend *be) {
    return &be->slabs;
}
const struct kernels *cpu_kernels(const struct backend *be) { return be->k; }

/* ---- the instruction set ---- */
static bool runs(const struct kernels *k) {
#if defined(__x86_64__)
    unsigned a, b, c = 0, d;
    __builtin_cpu_init();
    __get_cpuid(1, &a, &b, &c, &d); /* clang 14 does not know F16C by name */
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (c & bit_F16C);
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    if (k == &cpu_kernels_avx512_bf16) return vnni && __builtin_cpu_supports("avx512bf16");
    if (k == &cpu_kernels_avx512_vnni) return vnni;
    if (k == &cpu_kernels_avx512) return avx512;
    if (k == &cpu_kernels_avx2) return avx2;
#endif
    return k == &cpu_kernels_scalar;
}
static const struct kernels *const known[] = {
#if defined(__x86_64__)
    &cpu_kernels_avx512_bf16, &cpu_kernels_avx512_vnni, &cpu_kernels_avx512, &cpu_kernels_avx2,
#endif
    &cpu_kernels_scalar,
};
/* The best this processor runs, or the one that JAEDA_ISA names. */
static const struct kernels *choose(struct err *e) {
    const char *forced = getenv("JAEDA_ISA");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const bool meant = !forced || !*forced || !strcmp(forced, known[i]->isa);
        if (meant && runs(known[i])) return known[i];
    }
    err_set(e, STATUS_INVALID, "JAEDA_ISA=%s: unknown, or not on this processor; scalar runs everywhere", forced);
    return NULL;
}

/* ---- replay: all threads walk the records together, one phase per call (PROJ: two when rows are many) ---- */
struct walk {
    struct backend *be;
    const struct program *p;
    struct step *s;
    int n[DIM_COUNT], from, to;
};
static void walk(void *arg, int id) {
    const struct walk j = *(const struct walk *)arg;
    const size_t each = j.p->each, behind = each * (size_t)(pool_threads(j.be->pool) - id);
    char *end = j.p->base[REGION_ARENA] + j.p->need[REGION_ARENA];
    struct worker w = { .pool = j.be->pool, .k = j.be->k, .p = j.p, .s = j.s, .call = j.from, .id = id };
    memcpy(w.n, j.n, sizeof w.n);
    w.own = end - behind;
    w.shared = end - each * (size_t)pool_threads(j.be->pool) - j.p->shared;
    for (; w.call < j.to; w.call++) {
        if (w.call > j.from) pool_next(w.pool, id);
        w.k->op[j.p->call[w.call].op](&w, &j.p->call[w.call]);
    }
}
static int replay(struct backend *be, const struct program *p, struct step *s, int from, int to, struct err *e) {
    (void)e;
    struct walk job = { .be = be, .p = p, .s = s, .from = from, .to = to };
    memcpy(job.n, s->n, sizeof job.n);
    job.n[DIM_KV] = 0;
    for (int i = 0; i < s->n[DIM_ROWS]; i++) /* EMBED has not vetted it yet */
        if (s->row[i].at >= job.n[DIM_KV] && s->row[i].at < p->kv_rows) job.n[DIM_KV] = s->row[i].at + 1;
    if (from < to) pool_run(be->pool, walk, &job);
    return STATUS_OK;
}

/* ---- memory ---- */
enum { PAGE_LEAST = 4096 };
void *cpu_map(size_t bytes) {
    void *p = mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes + 1, MADV_HUGEPAGE);
    return p;
}
void cpu_unmap(void *p, size_t bytes) {
    if (p) munmap(p, bytes + 1);
}
static void *map(struct backend *be, size_t bytes) {
    (void)be;
    volatile char *p = cpu_map(bytes);
    for (size_t at = 0; p && at < bytes; at += PAGE_LEAST)
        p[at] = 0; /* so that it is really there; the kernel zeroes */
    return (void *)p;
}
static void unmap(struct backend *be, void *p, size_t bytes) {
    (void)be;
    cpu_unmap(p, bytes);
}

/* ---- what the machine gives ---- */
static double time_us(struct backend *be) {
    struct timespec t;
    (void)be;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}
enum { PROBE_CHUNK = 1 << 20, PROBE_MIB = 256, PROBE_RUNS = 8, PROBE_TASKS = 64 };
struct probe {
    struct backend *be;
    char *p;
    bool touch;
    float (*multiply)(long rounds, double *ops);
    float used[POOL_THREADS_MAX];
    double ops[POOL_THREADS_MAX];
};
static void probe_read(void *arg, int id) {
    struct probe *pr = arg;
    POOL_TASKS(t, pr->be->pool, id, PROBE_MIB) {
        char *chunk = pr->p + (size_t)t * PROBE_CHUNK;
        if (pr->touch)
            memset(chunk, 1, PROBE_CHUNK);
        else
            pr->used[id] += pr->be->k->read(chunk, PROBE_CHUNK);
    }
}
static void probe_multiply(void *arg, int id) {
    struct probe *pr = arg;
    POOL_TASKS(t, pr->be->pool, id, PROBE_TASKS) {
        double ops = 0;
        pr->used[id] += pr->multiply(20000, &ops);
        pr->ops[id] += ops;
    }
}
/* The best of a few runs, in seconds: what disturbs a run only makes it longer. */
static double best_of(struct probe *pr, void (*run)(void *, int)) {
    double best = 1e300;
    for (int i = 0; i < PROBE_RUNS; i++) {
        const double t0 = time_us(pr->be);
        pool_run(pr->be->pool, run, pr);
        const double t = (time_us(pr->be) - t0) * 1e-6;
        best = t < best ? t : best;
    }
    return best;
}
static double giga_ops(struct probe *pr, float (*multiply)(long, double *)) {
    double ops = 0;
    pr->multiply = multiply;
    memset(pr->ops, 0, sizeof pr->ops);
    const double seconds = best_of(pr, probe_multiply);
    for (int k = 0; k < POOL_THREADS_MAX; k++) ops += pr->ops[k];
    return ops / PROBE_RUNS / seconds * 1e-9;
}
static int probe(struct backend *be, struct peaks *out, struct err *e) {
    const size_t bytes = (size_t)PROBE_MIB * PROBE_CHUNK;
    struct probe *pr = mem_zero(1, sizeof *pr);
    if (pr) *pr = (struct probe){ .be = be, .p = cpu_map(bytes), .touch = true };
    if (!pr || !pr->p) {
        mem_free(pr);
        return err_set(e, STATUS_NOMEM, "no memory to measure the memory bandwidth: %d MiB", PROBE_MIB);
    }
    pool_run(be->pool, probe_read, pr);
    pr->touch = false;
    out->stream_gbs = (double)bytes / best_of(pr, probe_read) * 1e-9;
    out->fp32_gflops = giga_ops(pr, be->k->multiply);
    out->int8_gops = giga_ops(pr, be->k->multiply_bytes);
    out->bf16_gflops = be->k->multiply_pairs ? giga_ops(pr, be->k->multiply_pairs) : 0;
    out->fp16_gflops = 0;
    volatile float used = 0; /* so that nothing of the above may be left out */
    for (int k = 0; k < POOL_THREADS_MAX; k++) used = used + pr->used[k];
    cpu_unmap(pr->p, bytes);
    mem_free(pr);
    return 0;
}

static struct backend *be_open(int threads, struct err *e) {
    struct backend *be = mem_zero(1, sizeof *be);
    if (!be) {
        err_set(e, STATUS_NOMEM, "no memory for the CPU backend");
        return NULL;
    }
    be->k = choose(e);
    be->pool = be->k ? pool_open(threads, e) : NULL;
    if (be->pool) return be;
    mem_free(be);
    return NULL;
}
static void be_close(struct backend *be) {
    if (!be) return;
    pool_close(be->pool);
    cpu_drop_all(be);
    mem_free(be);
}
static const char *isa(const struct backend *be) { return be->k->isa; }
static int chunk(const struct backend *be) {
    (void)be;
    return 256;
}
static bool kv(enum dtype dt) { return dt == DTYPE_F32 || dt == DTYPE_F16; }
static int threads_of(const struct backend *be) { return pool_threads(be->pool); }

const struct backend_api backend_cpu = {
    .abi = BACKEND_ABI,
    .name = "cpu",
    .open = be_open,
    .close = be_close,
    .isa = isa,
    .threads = threads_of,
    .workers = threads_of,
    .chunk = chunk,
    .kv = kv,
    .alloc = map,
    .free = unmap,
    .weight_bytes = cpu_weight_bytes,
    .fuse = cpu_fuse,
    .scratch = cpu_scratch,
    .place = cpu_place,
    .fill = cpu_fill,
    .dummy = cpu_dummy,
    .drop = cpu_drop,
    .replay = replay,
    .time_us = time_us,
    .probe = probe,
};
