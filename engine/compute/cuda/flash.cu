/* flash.cu - attention of prompts: a block takes one head of 64 queries that go on through one sequence, and walks over the
 * keys they see with tensor cores and an online softmax (Dao 2023, FlashAttention-2); scores live in registers only.
 * Queries, and the probabilities that weigh the values, are seen as f16 numbers, as keys and values are stored. */
#include "compute/cuda/attention.h"

enum { WARPS = ATTN_TILE / 16, THREADS = WARPS * WARP, CHUNK = 8 }; /* CHUNK: numbers in 16 bytes */
#define LOG2E 1.44269504f
template <int HD> constexpr int padded = (HD + 31) / 32 * 32; /* a head's numbers as tiles hold them */
template <int HD> constexpr int keys_of = HD > 128 ? 32 : 64; /* of a tile: what registers and 99 KiB hold */

/* Where a chunk of a row lies in a tile of shared memory: permuted, so that eight rows of a column of chunks lie in
 * different banks. */
template <int HD> __device__ static inline int spot(int row, int chunk) {
    constexpr int D = padded<HD>;
    return row * D + (D % 64 ? chunk ^ (row >> 1 & 3) : chunk ^ (row & 7)) * CHUNK;
}
/* A tile of keys or values; `left` of them are there to read, zeros behind them. The copies are under way afterwards. */
template <int HD>
__device__ static void fetch(uint16_t *to, const struct attn_side *k, int kv_head, int row, int left) {
    const uint16_t *from = (const uint16_t *)k->p + (size_t)kv_head * k->head_stride + (size_t)row * k->row_stride;
    constexpr int chunks = HD / CHUNK;
    for (int i = (int)threadIdx.x; i < keys_of<HD> * chunks; i += THREADS) {
        const int r = i / chunks, c = i % chunks;
        uint16_t *at = to + spot<HD>(r, c);
        if (r < left)
            cp_async<16>(at, from + (size_t)r * k->row_stride + c * CHUNK);
        else
            *(uint4 *)at = make_uint4(0, 0, 0, 0);
    }
    cp_async_commit();
}
/* The tile's queries, times what makes exp2 of a score a weight. Columns from head_dim on are 0, in keys and values too. */
template <int HD>
__device__ static void begin(uint16_t *q, uint16_t *kv, const struct attn_args *a, int head, int from, int count) {
    constexpr int chunks = padded<HD> / CHUNK, real = HD / CHUNK;
    for (int i = (int)threadIdx.x; i < ATTN_TILE * chunks; i += THREADS) {
        const int r = i / chunks, c = i % chunks;
        const float *x = a->q + (size_t)(from + r) * (size_t)a->q_ld + head * HD + c * CHUNK;
        uint32_t w[CHUNK / 2] = {};
        for (int j = 0; j < CHUNK / 2 && r < count && c < real; j++)
            w[j] = pack_f16(x[2 * j] * a->scale * LOG2E, x[2 * j + 1] * a->scale * LOG2E);
        *(uint4 *)(q + spot<HD>(r, c)) = make_uint4(w[0], w[1], w[2], w[3]);
    }
    for (int r = (int)threadIdx.x; r < 2 * keys_of<HD>; r += THREADS)
        for (int c = real; c < chunks; c++) *(uint4 *)(kv + spot<HD>(r, c)) = make_uint4(0, 0, 0, 0);
}
/* s = q k^T: a warp's 16 queries by KEYS keys, in mma's fragments. */
template <int HD> __device__ static void score(float (*s)[4], const uint16_t *q, const uint16_t *k) {
    constexpr int D = padded<HD>, KEYS = keys_of<HD>;
    const int i = lane_of() / 8, j = lane_of() % 8;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
        for (int c = 0; c < 4; c++) s[n][c] = 0;
#pragma unroll 4
    for (int d = 0; d < D / 16; d++) { /* no further: 256 numbers of a head leave no registers for it */
        uint32_t x[4];
        ldmatrix_x4(x, q + spot<HD>(16 * warp_of() + i % 2 * 8 + j, 2 * d + i / 2));
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
            uint32_t y[4];
            ldmatrix_x4(y, k + spot<HD>(16 * n + i / 2 * 8 + j, 2 * d + i % 2));
            mma_f16(s[2 * n], x, y);
            mma_f16(s[2 * n + 1], x, y + 2);
        }
    }
}
/* o += p v; p: weights of KEYS keys, as score() leaves its fragments. */
template <int HD> __device__ static void weigh(float (*o)[4], const float (*p)[4], const uint16_t *v) {
    constexpr int D = padded<HD>, KEYS = keys_of<HD>;
    const int i = lane_of() / 8, j = lane_of() % 8;
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) {
        const float *a = p[2 * n], *b = p[2 * n + 1];
        const uint32_t x[4] = { pack_f16(a[0], a[1]), pack_f16(a[2], a[3]), pack_f16(b[0], b[1]),
                                pack_f16(b[2], b[3]) };
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            uint32_t y[4];
            ldmatrix_x4_trans(y, v + spot<HD>(16 * n + i % 2 * 8 + j, 2 * d + i / 2));
            mma_f16(o[2 * d], x, y);
            mma_f16(o[2 * d + 1], x, y + 2);
        }
    }
}
/* Two rows of a warp's 16 are a lane's: row lane / 4, then that + 8. */
struct rows_of {
    float most[2], sum[2]; /* sum: of this lane's columns only */
    int last[2];           /* key that it sees, from the tile's first */
};
/* Scores become weights; what was added up before shrinks to the new maximum. Every row sees a key of the first tile. */
template <int HD> __device__ static void soften(struct rows_of *w, float (*s)[4], float (*o)[4]) {
    constexpr int D = padded<HD>, KEYS = keys_of<HD>;
    const int col = 2 * (lane_of() % 4);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = w->most[r];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                if (8 * n + col + c > w->last[r]) s[n][2 * r + c] = -INFINITY;
                top = fmaxf(top, s[n][2 * r + c]);
            }
        top = fmaxf(top, __shfl_xor_sync(FULL, top, 1));
        top = fmaxf(top, __shfl_xor_sync(FULL, top, 2));
        const float old = exp2f(w->most[r] - top);
        w->most[r] = top;
        w->sum[r] *= old;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) w->sum[r] += s[n][2 * r + c] = exp2f(s[n][2 * r + c] - top);
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) o[n][2 * r + c] *= old;
        w->last[r] -= KEYS;
    }
}
struct tile { /* queries, and the KV rows that they see: from base on; `last`: the last one that the first query sees */
    int from, count, base, keys, last;
};
__host__ __device__ static inline int tiles_of(const struct attn_args *a) { /* of a block of queries */
    return (a->block + ATTN_TILE - 1) / ATTN_TILE;
}
__device__ static struct tile tile_of(const struct attn_args *a, int i) {
    const int b = i / tiles_of(a), from = b * a->block + i % tiles_of(a) * ATTN_TILE, left = (b + 1) * a->block - from,
              count = left < ATTN_TILE ? left : ATTN_TILE;
    if (!a->causal) return { from, count, b * a->rows, a->rows, a->rows - 1 };
    const struct step_row *first = &a->step->row[from];
    return { from, count, first->kv, first->at + count, first->at };
}
/* Shared memory: a tile of queries, one of keys, one of values. */
template <int HD> __global__ void __launch_bounds__(THREADS) flash_kernel(const __grid_constant__ struct attn_args a) {
    constexpr int D = padded<HD>, KEYS = keys_of<HD>;
    SMEM(uint16_t, q);
    uint16_t *k = q + ATTN_TILE * D, *v = k + KEYS * D;
    if (STOPPED(a.step)) return;
    const int tile = (int)(gridDim.x - 1 - blockIdx.x), head = (int)blockIdx.y; /* long ones first */
    if (a.causal && !attn_is_plain_tile(a.step, tile, a.n)) return;
    const struct tile of = tile_of(&a, tile);
    const int from = of.from, count = of.count, base = of.base, keys = of.keys, kv_head = head / (a.heads / a.kv_heads),
              row = 16 * warp_of() + lane_of() / 4, more = a.causal ? 1 : 0;
    struct rows_of w = { { -INFINITY, -INFINITY }, { 0, 0 }, { of.last + more * row, of.last + more * (row + 8) } };
    float s[KEYS / 8][4], o[D / 8][4] = {};
    begin<HD>(q, k, &a, head, from, count);
    fetch<HD>(k, &a.k, kv_head, base, keys);
    for (int t = 0; t < keys; t += KEYS) {
        fetch<HD>(v, &a.v, kv_head, base + t, keys - t);
        cp_async_wait<1>();
        __syncthreads(); /* keys (and queries) are there */
        score<HD>(s, q, k);
        __syncthreads(); /* nobody reads these keys any more */
        fetch<HD>(k, &a.k, kv_head, base + t + KEYS, keys - t - KEYS);
        soften<HD>(&w, s, o);
        cp_async_wait<1>();
        __syncthreads(); /* values are there */
        weigh<HD>(o, s, v);
        __syncthreads(); /* nobody reads these values any more */
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = w.sum[r] + __shfl_xor_sync(FULL, w.sum[r], 1);
        sum += __shfl_xor_sync(FULL, sum, 2);
        float *y = a.y + (size_t)(from + row + 8 * r) * (size_t)a.y_ld + head * HD;
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int c = 0, col = 8 * n + 2 * (lane_of() % 4); c < 2 && row + 8 * r < count && col < HD; c++)
                y[col + c] = o[n][2 * r + c] / sum;
    }
}

/* ---- launch ---- */
template <int HD> static bool start(const struct run *r, const struct attn_args *a, struct err *e) {
    const size_t bytes = (ATTN_TILE + 2 * keys_of<HD>)*padded<HD> * sizeof(uint16_t);
    const dim3 grid((unsigned)(a->n / a->block * tiles_of(a)), (unsigned)a->heads);
    void (*kernel)(struct attn_args) = flash_kernel<HD>;
    if (bytes > (size_t)r->be->smem_max) return false;
    if (!cuda_roomy(r->be, kernel, "attention", e)) launch(kernel, grid, dim3(THREADS), bytes, r->stream, *a);
    return true;
}
bool cuda_attn_has_tiles(int head_dim) {
    return head_dim == 64 || head_dim == 88 || head_dim == 128 || head_dim == 256;
}
bool cuda_attn_tiles(const struct run *r, const struct attn_args *a, struct err *e) {
    if (a->k.dt != DTYPE_F16 || a->v.dt != DTYPE_F16) return false;
    switch (a->head_dim) {
    case 64: return start<64>(r, a, e);
    case 88: return start<88>(r, a, e);
    case 128: return start<128>(r, a, e);
    case 256: return start<256>(r, a, e);
    default: return false;
    }
}
