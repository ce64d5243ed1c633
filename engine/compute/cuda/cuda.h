/* cuda.h - private to the CUDA backend: the device, packed weights, one replay under way, one function for each op. */
#ifndef JAEDA_COMPUTE_CUDA_CUDA_H
#define JAEDA_COMPUTE_CUDA_CUDA_H
#include "compute/cuda/dev.h"
#include "compute/fuse.h"
#include "compute/weight.h"

/* ---- what kernels get, by value ---- */
/* A packed matrix: `rows` rows of `cols` columns, each row padded with zeros to `ld` columns and 16-byte aligned.
 *   F32, F16, BF16   p: numbers, row by row; ld a multiple of 64
 *   8 bits           p: a byte n for each column, ld a multiple of 64; 64 columns make a unit of 64 bytes in which byte
 *                    16 t + 8 g + j (t < 4, g < 2, j < 8) is column 32 g + 8 t + j; Q6_K: column 32 g + 4 t + j, or
 *                    32 g + 16 + 4 t + j - 4 for j >= 4, so that sixteen columns of one scale meet in one mma
 *   4 bits           p: ld a multiple of 128; 128 columns make a unit of 64 bytes whose 32-bit word 4 t + g (t, g < 4) holds
 *                    columns 32 g + 8 t + j, j < 8, at bits 4 (j / 2) + 16 (j % 2)
 * A number is scale * (n - zero) + minimum (quant.h). Scales lie apart, row by row: f16 for each 32 columns (Q8_0, Q4_0);
 * a float2 {scale, minimum} for each 32 (Q4_1, Q5_1, Q4_K, Q5_K); a float for each 16 (Q6_K). */
struct matrix {
    const char *p;
    const void *scale;
    int rows, cols, ld;
    enum dtype form;
};
/* One half of a layer's cache: for each head rows x head_dim numbers of dt (F32, F16, or Q8_0: int8, then behind all
 * heads' numbers one f16 scale for each head's row). */
struct cache {
    char *p;
    int rows, heads, head_dim;
    enum dtype dt;
};
struct dev_norm { /* b NULL: none */
    const float *g, *b;
    enum norm kind;
    float eps;
};
struct dev_in { /* rows x cols of f32, ld apart; norm: index, -1: as it is */
    const float *x;
    int ld, cols, norm;
};
struct dev_term {
    struct matrix w;
    const float *bias; /* NULL: none */
    int in;
};
struct dev_seg { /* see struct seg; out: an activation with ld columns, or kv.p: the cache */
    struct dev_term t[2];
    float *out;
    struct cache kv;
    int terms, ld;
    enum act act;
    bool gate, rope, add;
};
struct dev_proj {
    struct dev_norm norm[NORMS];
    struct dev_in in[FEEDS];
    struct dev_seg seg[SEGS];
    const float *angles; /* rows of rot numbers: cosines, then sines */
    const struct step *step;
    int norms, ins, segs, head_dim, rot;
};

/* ---- the device ---- */
struct lt; /* cuBLASLt, gemm.cu */
struct backend {
    int device, sms, arch, smem_max; /* arch: 86; smem_max: bytes a block may ask for */
    char isa[96], pci[24];
    cudaStream_t stream;
    struct slab *slabs;
    struct packer *packer;       /* pack.cu's staging; NULL until the first fill */
    struct lt *lt;               /* NULL: no cuBLASLt on this machine, PROJ does without */
    cudaEvent_t mark[MARKS_MAX]; /* made when first used */
    struct err lost;             /* the first fault that no later call gets over */
};
struct packed { /* a vector: m.p is f32, rows of them, padded to 64 bytes */
    struct matrix m;
};
/* One replay on its way into the stream (or into a graph). n: live rows of each kind, known to the host. */
struct run {
    struct backend *be;
    const struct program *p;
    struct step *step; /* on the device */
    int n[DIM_COUNT], call;
    cudaStream_t stream;
    char *scratch;           /* device memory: the program's shared scratch, of cuda_scratch()'s size */
    unsigned *counter;       /* COUNTERS of them, zero between any two kernels */
    struct landing *landing; /* pinned memory, NEXT's tokens for the host; device address */
};
enum { COUNTERS = 65536 };
/* What NEXT tells the host while later steps already run. `made` is written last, after a system-wide fence. */
struct landing {
    volatile int made, stop; /* as in struct step, after the last NEXT */
    volatile int id[RING];
    volatile uint64_t stamp_ns[RING];
};

/* Puts one op into the stream; each kernel returns at once when step->stop is set. They never wait, allocate or look at
 * device memory from the host (they may run inside a capture). 0, or e is filled. */
typedef int cuda_op(const struct run *r, const struct op_call *c, struct err *e);
cuda_op cuda_embed, cuda_angles, cuda_norm, cuda_rope, cuda_gate, cuda_add, cuda_pick; /* rows.cu */
cuda_op cuda_next;                                                                     /* sample.cu */
cuda_op cuda_kv_put, cuda_attn;                                                        /* attention.cu, flash.cu */
cuda_op cuda_proj; /* linear.cu: PROJ and LINEAR; chooses among the ways below */
/* Each takes what it can: true when it has (or e is filled), false: not this shape. rows: live rows of the step. */
bool cuda_proj_few(const struct run *r, const struct dev_proj *f, int rows,
                   struct err *e); /* decode.cu: up to 4 rows */
/* batch.cu: up to 16, of quantised weights up to 64 */
bool cuda_proj_batch(const struct run *r, const struct dev_proj *f, int rows, struct err *e);
bool cuda_proj_many(const struct run *r, const struct dev_proj *f, int rows, struct err *e); /* gemm.cu: cuBLASLt */
/* Before the first run: the fastest library calls for this op, at 16, 32 ... rows; spoils activations. */
int cuda_proj_search(const struct run *r, const struct op_call *c, struct err *e); /* gemm.cu */
bool cuda_proj_any(const struct run *r, const struct dev_proj *f, int rows,
                   struct err *e);                                                   /* linear.cu: all, in exact f32 */
void cuda_proj_of(struct dev_proj *f, const struct run *r, const struct op_call *c); /* linear.cu */

/* Scratch bytes that one call needs of r->scratch; be: the device. */
size_t cuda_proj_scratch(const struct backend *be, const struct op_call *c);
size_t cuda_proj_batch_scratch(const struct op_call *c);                          /* batch.cu */
size_t cuda_proj_many_scratch(const struct backend *be, const struct op_call *c); /* gemm.cu */
size_t cuda_attn_scratch(const struct backend *be, const struct op_call *c);
size_t cuda_next_scratch(const struct backend *be, const struct op_call *c);

/* ---- pack.cu, gemm.cu ---- */
size_t cuda_weight_bytes(const struct weight *w);
int cuda_place(struct backend *be, struct program *const *p, int n, struct slab **out, struct err *e);
int cuda_fill(struct backend *be, const struct weight *w, const void *source, struct err *e);
int cuda_dummy(struct backend *be, const struct weight *w, float mean, float dev, uint64_t seed, struct err *e);
void cuda_fill_ms(struct backend *be, double *copy, double *pack);
void cuda_drop(struct backend *be, struct slab *s);
void cuda_pack_close(struct backend *be);            /* drops every slab, frees the staging */
int cuda_lt_open(struct backend *be, struct err *e); /* fails softly: be->lt stays NULL and e says why */
void cuda_lt_close(struct backend *be);
int cuda_peak_gemm(struct backend *be, enum dtype dt, double *tflops,
                   struct err *e); /* F32, F16, BF16: rate of a large product */

/* ---- device.cu ---- */
/* What a failed call means, in one line; a fault that no later call gets over is noted in be->lost. 0 when code is 0. */
int cuda_check(struct backend *be, cudaError_t code, const char *what, struct err *e);
static inline int cuda_launched(struct backend *be, const char *what, struct err *e) {
    return cuda_check(be, cudaGetLastError(), what, e);
}

/* Lets a kernel ask for as much shared memory as a block can have. Always as much: a graph may hold launches of other sizes. */
template <typename F> static inline int cuda_roomy(struct backend *be, F kernel, const char *what, struct err *e) {
    return cuda_check(be, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, be->smem_max), what,
                      e);
}

#include "compute/cuda/inside.h"
#endif
