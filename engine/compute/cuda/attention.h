/* attention.h - what the two attention kernels share. */
#ifndef JAEDA_COMPUTE_CUDA_ATTENTION_H
#define JAEDA_COMPUTE_CUDA_ATTENTION_H
#include "compute/cuda/cuda.h"

enum { ATTN_TILE = 64 }; /* queries of a tile in flash.cu */
struct attn_side {       /* keys or values; strides in numbers */
    const char *p;
    const uint16_t *scale; /* Q8_0 */
    size_t head_stride, row_stride;
    enum dtype dt;
};
struct attn_args {
    float *y, *scratch;
    const float *q;
    struct attn_side k, v;
    int y_ld, q_ld, heads, kv_heads, head_dim;
    int rows, n;       /* of keys: a cache's, or where nothing is cached those that a query sees; of queries */
    int block;         /* queries that see the same keys where nothing is cached; else all */
    int per;           /* queries of a block of the general kernel: 1, or ATTN_TILE where flash.cu takes what it can */
    bool causal, wide; /* wide: 16-byte loads */
    float scale;
    const struct step *step;
    unsigned *counter;
};
struct attn_at { /* which head of which row; its first key's row in the pool; this share's first key */
    int row, head, kv_head, base, from;
};
/* Does a tile of queries go on through one sequence, without masks? Every lane of a warp asks at once. */
__device__ static inline bool attn_is_plain_tile(const struct step *s, int tile, int n) {
    const int from = tile * ATTN_TILE, to = from + ATTN_TILE < n ? from + ATTN_TILE : n;
    const struct step_row *a = &s->row[from];
    bool plain = true;
    for (int i = from + lane_of(); i < to; i += WARP) {
        const struct step_row *r = &s->row[i];
        plain = plain && !r->mask && r->kv == a->kv && r->at == a->at + i - from;
    }
    return __all_sync(FULL, plain);
}
/* flash.cu: launches the tiles of queries that are plain, and leaves the others alone; false: it cannot take this shape at
 * all. Where nothing is cached every tile is plain, and keys and values have been copied as f16, a head by itself. */
bool cuda_attn_tiles(const struct run *r, const struct attn_args *a, struct err *e);
bool cuda_attn_has_tiles(int head_dim);

#endif
