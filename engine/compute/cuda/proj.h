/* proj.h - what the kernels for PROJ share: which rows of a segment go together, and what becomes of a result. */
#ifndef JAEDA_COMPUTE_CUDA_PROJ_H
#define JAEDA_COMPUTE_CUDA_PROJ_H
#include "compute/cuda/unpack.h"

struct proj proj_of(const struct op_call *c); /* linear.cu: of OP_PROJ and OP_LINEAR */
/* gemm.cu: input k, normalised where it is to be, as rows of `ld` numbers of a kind (F32, F16, BF16), zeros behind the last. */
struct fed {
    void *p;
    int ld;
    enum dtype kind;
};
int cuda_proj_feed(const struct run *r, const struct dev_proj *f, int k, int rows, struct fed to, struct err *e);
/* What is left of a PROJ when the products of its terms are there, each in n shares that follow each other, of `rows` (of the step) x
 * `out` numbers. p NULL: it is part of another one. Segments [from, from + n). */
struct products {
    const float *p;
    int out, n;
};
struct ending {
    struct dev_proj f;
    struct products of[SEGS][2];
    int rows, from;
};
int cuda_proj_end(const struct run *r, struct ending *a, int from, int n, struct err *e); /* gemm.cu */
/* batch.cu: known before weights are placed. */
bool cuda_proj_batch_takes(const struct op_call *c, int rows);
/* A task of a segment is one result row, or (rope) two that turn together: y -1: alone. */
__host__ __device__ static inline int tasks_of(const struct dev_proj *f, const struct dev_seg *s) {
    return s->rope ? s->t[0].w.rows / f->head_dim * (f->head_dim - f->rot / 2) : s->t[0].w.rows;
}
__device__ static inline int2 task_rows(const struct dev_proj *f, const struct dev_seg *s, int task) {
    if (!s->rope) return make_int2(task, -1);
    const int half = f->rot / 2, each = f->head_dim - half, head = task / each * f->head_dim, in = task % each;
    return in < half ? make_int2(head + in, head + in + half) : make_int2(head + in + half, -1);
}
/* Result v of row r for step row i, biases and activation done, into its place. */
__device__ static inline void put_result(const struct dev_proj *f, const struct dev_seg *s, int i, int r, float v) {
    if (!s->kv.p) {
        float *y = s->out + (size_t)i * (size_t)s->ld + r;
        *y = s->add ? *y + v : v;
        return;
    }
    const struct step_row *at = &f->step->row[i];
    char *p = cache_at(&s->kv, r / s->kv.head_dim, at->kv + at->at);
    if (s->kv.dt == DTYPE_F32)
        ((float *)p)[r % s->kv.head_dim] = v;
    else
        ((uint16_t *)p)[r % s->kv.head_dim] = f32_to_f16(v);
}
/* Products v[term] of row r become one number. */
__device__ static inline float result_of(const struct dev_seg *s, int r, const float *v) {
    float b[2] = { 0, 0 };
    for (int t = 0; t < s->terms; t++) b[t] = s->t[t].bias ? s->t[t].bias[r] : 0;
    if (s->gate) return act_of(s->act, v[0] + b[0]) * (v[1] + b[1]);
    return act_of(s->act, s->terms == 2 ? v[0] + v[1] + b[0] + b[1] : v[0] + b[0]);
}
/* Rows r.x and r.y (-1: none) of step row i, from the products of each. */
__device__ static inline void finish(const struct dev_proj *f, const struct dev_seg *s, int i, int2 r, const float *x,
                                     const float *y) {
    const float a = result_of(s, r.x, x);
    if (r.y < 0) {
        put_result(f, s, i, r.x, a);
        return;
    }
    const int j = r.x % f->head_dim;
    const float *turn = f->angles + (size_t)i * (size_t)f->rot;
    const float b = result_of(s, r.y, y), cs = turn[j], sn = turn[j + f->rot / 2];
    put_result(f, s, i, r.x, a * cs - b * sn);
    put_result(f, s, i, r.y, b * cs + a * sn);
}
/* Mean (0 for RMS) and 1 / deviation of one row, by all threads of the block. */
__device__ static inline float2 row_stats(const float *x, int cols, const struct dev_norm *n, float *red) {
    float mean = 0, square = 0;
    if (n->kind == NORM_LAYER) {
        for (int j = (int)threadIdx.x; j < cols; j += (int)blockDim.x) mean += x[j];
        mean = block_sum(mean, red) / (float)cols;
    }
    for (int j = (int)threadIdx.x; j < cols; j += (int)blockDim.x) square += (x[j] - mean) * (x[j] - mean);
    return make_float2(mean, 1.0f / sqrtf(block_sum(square, red) / (float)cols + n->eps));
}
__device__ static inline float normed(const struct dev_norm *n, float2 stats, float v, int j) {
    return (v - stats.x) * stats.y * n->g[j] + (n->b ? n->b[j] : 0);
}

#endif
