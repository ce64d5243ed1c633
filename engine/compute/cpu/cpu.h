/* cpu.h - private to the CPU backend: packed weights, its one fused op, the worker, the kernels of one instruction
 * set. */
#ifndef JAEDA_COMPUTE_CPU_CPU_H
#define JAEDA_COMPUTE_CPU_CPU_H
#include "compute/backend.h"
#include "compute/cpu/pool.h"
#include "compute/program.h"

/* A matrix lies in panels of 16 rows; stride: bytes from panel to panel, so that weights packed side by side ([gate|up])
 * can still be read alone. Per panel, by form:
 *   f32, f16, bf16   for each column: 16 numbers
 *   q8_0             for each block of 32 columns: 16 f16 scales, then 8 cells of 16 rows x 4 columns
 *   q4_0             16 f16 scales, then 4 cells: low nibbles columns 8j..8j+3, high nibbles 8j+4..8j+7
 *   q4_1             16 f16 scales, 16 f16 minima, then the same 4 cells
 * A vector is plain f32, padded with zeros to a multiple of 16. */
struct packed {
    char *p;
    size_t stride;
    enum dtype form;
};
enum { PANEL = 16, QBLOCK = 32 };
/* What a step's rows become before a matrix product: blocks of R rows (R = 1, 4 or the instruction set's ROW_BLOCK),
 * columns outside, rows inside; as f32, or for quantised weights per 32 columns as 8 x R groups of 4 int8, then R
 * scales, R times scale * sum, R times -128 * sum (int32). */
enum { ROW_BLOCK_MAX = 12, QUANT_WORDS = 8 + 3 };

/* PROJ = up to two norms of x, then rows of several matrices, then what follows each row:
 *   sum of terms (or act(t0) * t1), bias, act, rope, to an activation, onto a residual or into the KV pool. */
enum { OP_PROJ = OP_COUNT, CPU_OPS };
enum { SEGS = 4, NORMS = 2, FEEDS = 6 };
struct term { /* x: operand index; norm: index, -1 = x as it is */
    int x, norm, feed;
    struct weight *w, *b;
};
struct seg {
    struct term t[2];
    int terms, out;
    enum act act;
    bool gate, rope, add, keys;
};
struct feed { /* one form of one input */
    int x, norm;
    bool quant;
};
struct proj {
    struct norm_of norm[NORMS];
    struct seg seg[SEGS];
    struct feed feed[FEEDS];
    int norms, segs, feeds, angles; /* angles: operand index, for rope */
    struct rope rope;
    char label[72];
};

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
struct kernels { /* one per instruction set; the same source, compiled for each */
    const char *isa;
    int row_block;
    cpu_op *op[CPU_OPS];
    float (*read)(const char *p, size_t bytes); /* streams through memory; a used result */
    /* In registers: fp32 multiply-adds; products of bytes, as quantised weights need them. */
    float (*multiply)(long rounds, double *flops);
    float (*multiply_bytes)(long rounds, double *ops);
};
extern const struct kernels cpu_kernels_scalar, cpu_kernels_avx2, cpu_kernels_avx512, cpu_kernels_avx512_vnni;

/* ---- pack.c ---- */
enum dtype cpu_form(const struct weight *w); /* what it is packed as; DTYPE_NONE: not supported */
bool cpu_form_quant(enum dtype form);
size_t cpu_weight_bytes(const struct weight *w);
int cpu_place(struct backend *be, struct program *const *p, int n, struct slab **out, struct err *e);
int cpu_fill(struct backend *be, const struct weight *w, const void *source, struct err *e);
void cpu_drop(struct backend *be, struct slab *s);
void cpu_drop_all(struct backend *be);
float cpu_half(uint16_t h);

/* ---- fuse.c ---- */
void cpu_fuse(struct program *p);
struct proj cpu_linear_as_proj(const struct op_call *c);
void cpu_feeds(struct proj *f); /* (again) lists what the terms read */
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
static inline float *value_at(const struct mat *m, int t, int col) {
    return m->p + (size_t)(col / m->ld) * (size_t)m->ld * (size_t)m->rows + (size_t)t * (size_t)m->ld + col % m->ld;
}
static inline float *key_at(const struct mat *m, int t, int col) {
    return value_at(m, t / PANEL * PANEL, col / m->ld * m->ld) + (size_t)(col % m->ld) * PANEL + (size_t)(t % PANEL);
}
static inline const float *vector_of(const struct weight *w) { return (const float *)(const void *)w->packed->p; }

#endif
