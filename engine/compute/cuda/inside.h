/* inside.h - what kernels share: places in the cache, activations, masks, the stop word, how they are launched. Comes with cuda.h. */
#ifndef JAEDA_COMPUTE_CUDA_INSIDE_H
#define JAEDA_COMPUTE_CUDA_INSIDE_H
#include "compute/cuda/cuda.h"

__device__ static inline char *cache_at(const struct cache *k, int head, int row) {
    const size_t bytes = k->dt == DTYPE_F32 ? 4 : k->dt == DTYPE_F16 ? 2 : 1;
    return k->p + ((size_t)head * (size_t)k->rows + (size_t)row) * (size_t)k->head_dim * bytes;
}
__device__ static inline uint16_t *cache_scale(const struct cache *k, int head, int row) { /* Q8_0 */
    char *behind = k->p + (size_t)k->heads * (size_t)k->rows * (size_t)k->head_dim;
    return reinterpret_cast<uint16_t *>(behind) + (size_t)head * (size_t)k->rows + row;
}
__device__ static inline float act_of(enum act a, float x) {
    switch (a) {
    case ACT_SILU: return x / (1.0f + expf(-x));
    case ACT_GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case ACT_GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    default: return x;
    }
}
static inline struct cache cache_of(const struct mat *m) {
    return { (char *)m->p, m->rows, m->cols / m->ld, m->ld, m->dt };
}
/* step_sees() for kernels. */
__device__ static inline bool row_sees(const struct step *s, const struct step_row *r, int t) {
    if (!r->mask || t < s->mask[r->mask - 1].from) return true;
    const int bit = t - s->mask[r->mask - 1].from;
    return s->mask[r->mask - 1].bits[bit / 32] >> bit % 32 & 1;
}
#define STOPPED(step) ((step)->stop != 0)
__device__ static inline void stop_step(struct step *s, enum stop why, int call) {
    atomicCAS(&s->stop, 0, (int)why | call << 8);
}

/* Lets a kernel ask for as much shared memory as a block can have (always as much: a graph may hold launches of other sizes),
 * of a multiprocessor that gives all it can to it: the blocks that are to run side by side count on that. */
template <typename F> static inline int cuda_roomy(struct backend *be, F kernel, const char *what, struct err *e) {
    enum { ALL = 100 }; /* percent */
    if (cuda_check(be, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, be->smem_max), what,
                   e))
        return e->code;
    return cuda_check(be, cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, ALL), what, e);
}

#endif
