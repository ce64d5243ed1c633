/* cpu.h - private to the CPU backend: packed weights, the worker, the kernels of one instruction
 * set. */
#ifndef JAEDA_COMPUTE_CPU_CPU_H
#define JAEDA_COMPUTE_CPU_CPU_H
#include "compute/backend.h"
#include "compute/cpu/form.h"
#include "compute/cpu/pool.h"
#include "compute/fuse.h"
#include "compute/weight.h"

enum { CPU_OPS = OPS_ALL };
struct kernels;
struct worker {
    struct pool *pool;
    const struct kernels *k;
    const struct program *p;
    struct step *s;   /* outside tasks only s->stop may be read: NEXT writes the rest */
    int n[DIM_COUNT]; /* live rows, as the step began */
    int call, id;
    char *own, *shared; /* scratch: p->each and p->shared bytes */
};
typedef void cpu_op(struct worker *w, const struct op_call *c);
struct filling { /* one weight on its way into its panels */
    const struct weight *w;
    struct pool *pool;
    void (*panel)(const struct filling *f, int t);
    const char *source; /* its tensor; NULL: random numbers */
    size_t row_bytes;
    uint64_t seed;
    float mean, dev;
};
struct kernels { /* one per instruction set; the same source, compiled for each */
    const char *isa;
    int row_block;
    cpu_op *op[CPU_OPS];
    void (*fill_panel)(const struct filling *f, int t);
    void (*dummy_panel)(const struct filling *f, int t);
    float (*read)(const char *p, size_t bytes); /* streams through memory; a used result */
    /* In registers: fp32 multiply-adds; products of bytes, as quantised weights need them. */
    float (*multiply)(long rounds, double *flops);
    float (*multiply_bytes)(long rounds, double *ops);
    float (*multiply_pairs)(long rounds, double *flops); /* of bf16; NULL: there is no such instruction */
};
extern const struct kernels cpu_kernels_scalar, cpu_kernels_avx2, cpu_kernels_avx512, cpu_kernels_avx512_vnni,
    cpu_kernels_avx512_bf16;

/* ---- pack.c ---- */
size_t cpu_weight_bytes(const struct weight *w);
int cpu_place(struct backend *be, struct program *const *p, int n, struct slab **out, struct err *e);
int cpu_fill(struct backend *be, const struct weight *w, const void *source, struct err *e);
int cpu_dummy(struct backend *be, const struct weight *w, float mean, float dev, uint64_t seed, struct err *e);
void cpu_drop(struct backend *be, struct slab *s);
void cpu_drop_all(struct backend *be);
float cpu_half(uint16_t h);
uint16_t cpu_to_half(float f); /* to nearest even; too large becomes infinite */

/* ---- fuse.c ---- */
void cpu_fuse(struct program *p);
int cpu_kind(const struct weight *w); /* enum feed_kind */
/* Feeds of few rows are made by each worker for itself, which is cheaper than a barrier. */
enum { ALONE_ROWS = 4, ATTN_CHUNKS = 16 };
/* Rows of a block, and bytes of all blocks, when the bucket has so many rows. */
static inline int cpu_block(const struct kernels *k, int rows) { return rows == 1 ? 1 : rows <= 4 ? 4 : k->row_block; }
size_t cpu_feed_bytes(const struct feed *f, int cols, int rows, int block);
void cpu_scratch(const struct program *p, size_t *each, size_t *shared);

/* ---- cpu.c ---- */
struct pool *cpu_pool(struct backend *be);
const struct kernels *cpu_kernels(const struct backend *be);
struct slab **cpu_slabs(struct backend *be);
void *cpu_map(size_t bytes); /* zeroed, huge pages where there are any; NULL: no memory */
void cpu_unmap(void *p, size_t bytes);

/* ---- for the op bodies ---- */
static inline bool stopped(const struct worker *w) { return __atomic_load_n(&w->s->stop, __ATOMIC_RELAXED) != 0; }
/* The tasks of a phase; once the step has stopped they are only counted off. */
#define EACH_TASK(i, w, tasks) POOL_TASKS(i, (w)->pool, (w)->id, tasks) if (!stopped(w))
static inline void stop(struct worker *w, enum stop why) {
    int none = STOP_NONE;
    const int word = (int)why | w->call << 8;
    __atomic_compare_exchange_n(&w->s->stop, &none, word, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
static inline int live(const struct worker *w, const struct mat *m) {
    return m->dim == DIM_FIXED ? m->rows : w->n[m->dim];
}
static inline float *row(const struct mat *m, int i) { return m->p + (size_t)i * (size_t)m->ld; }
/* In the KV pool each head lies by itself, so that one reader streams. Values: KV rows of the head's columns. Keys: tiles
 * of 16 KV rows, columns outside, rows inside, so that scores of 16 keys need no sum across lanes. col: of all heads. */
static inline size_t number_bytes(const struct mat *m) { return m->dt == DTYPE_F16 ? 2 : 4; }
static inline char *value_at(const struct mat *m, int t, int col) {
    const size_t head = (size_t)m->ld * (size_t)m->rows, in = (size_t)t * (size_t)m->ld + (size_t)(col % m->ld);
    return (char *)m->p + ((size_t)(col / m->ld) * head + in) * number_bytes(m);
}
static inline char *key_at(const struct mat *m, int t, int col) {
    const size_t in = (size_t)(col % m->ld) * PANEL + (size_t)(t % PANEL);
    return value_at(m, t / PANEL * PANEL, col / m->ld * m->ld) + in * number_bytes(m);
}
static inline const float *vector_of(const struct weight *w) { return (const float *)(const void *)w->packed->p; }

#endif
