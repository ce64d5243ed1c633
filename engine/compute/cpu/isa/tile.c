/* tile.c - products of packed weights with rows of a step, one loop for numbers and one for quantised blocks, made for
 * each form and number of rows. */
#include "compute/cpu/isa/tile.h"

enum { GROUP_BLOCKS = FEED_GROUP / QBLOCK };

INLINE int32_t word(const float *x) {
    int32_t v;
    memcpy(&v, x, 4);
    return v;
}
/* Column u, a constant where this is fast, from the four that begin at w. */
INLINE vf weight_at(const enum dtype form, const char *w, int part, int u) {
    if (form == DTYPE_F32) return load((const float *)(const void *)w + u * PANEL + part * VL);
    if (form == DTYPE_F16) return halves(w + 2 * (u * PANEL + part * VL));
    const vi cell = load_bytes(w + 4 * (u / 2 * PANEL + part * VL));
    return (vf)(u % 2 ? cell & (int32_t)0xffff0000 : cell << 16);
}
/* One row: several sums, since each waits for the one before. */
INLINE void tile_float(const int R, const int V, const enum dtype form, const struct tile *t) {
    enum { STEP = 4 };
    const size_t step = form_bytes(form, STEP);
    vf a[STEP][TILE][ROW_BLOCK_MAX] = { 0 };
    const float *x = t->x;
    size_t at = 0; /* of column k in a panel */
    int k = 0;
    for (; k + STEP <= t->cols; k += STEP, at += step)
#pragma GCC unroll 4
        for (int u = 0; u < STEP; u++) {
            vf w[TILE];
            for (int v = 0; v < V; v++) w[v] = weight_at(form, t->w[v] + at, t->part[v], u);
            if (R == 1 && u % 2 == 0) __builtin_prefetch(t->w[0] + at + step / STEP * (size_t)u + AHEAD);
#pragma GCC unroll 8
            for (int i = 0; i < R; i++)
                for (int v = 0; v < V; v++) a[R == 1 ? u : 0][v][i] += w[v] * x[(k + u) * R + i];
        }
    for (int u = 0; k + u < t->cols; u++)
        for (int v = 0; v < V; v++) {
            const vf w = weight_at(form, t->w[v] + at, t->part[v], u);
            for (int i = 0; i < R; i++) a[0][v][i] += w * x[(k + u) * R + i];
        }
    for (int i = 0; i < R; i++)
        for (int v = 0; v < V; v++) {
            float *c = t->c + i * t->ld + v * VL;
            vf sum = a[0][v][i];
            for (int u = 1; R == 1 && u < STEP; u++) sum += a[u][v][i];
            store(c, load(c) + sum);
        }
}
#if defined(__AVX512BF16__)
INLINE void tile_pairs(const int R, const struct tile *t) {
    vf a[TILE][ROW_BLOCK_MAX] = { 0 };
    const float *x = t->x;
    for (int k = 0; k < t->cols; k += 2, x += R) {
        __m512bh w[TILE];
        for (int v = 0; v < TILE; v++) w[v] = (__m512bh)load_bytes(t->w[v] + 4 * PANEL * (k / 2));
#pragma GCC unroll 8
        for (int i = 0; i < R; i++) {
            const __m512bh pair = (__m512bh)_mm512_set1_epi32(word(&x[i]));
            for (int v = 0; v < TILE; v++) a[v][i] = (vf)_mm512_dpbf16_ps((__m512)a[v][i], w[v], pair);
        }
    }
    for (int i = 0; i < R; i++)
        for (int v = 0; v < TILE; v++) {
            float *c = t->c + i * t->ld + v * VL;
            store(c, load(c) + a[v][i]);
        }
}
#endif

/* What the sums start with: zero of the form, taken off every number. */
INLINE vi offset(const struct quant_form q, const int R, const float *x, int i, int half) {
    const float *sums = x + 8 * R + i;
    if (q.sub == 16) {
        const vi first = all_int(word(&sums[3 * R]));
        return (half ? all_int(word(&sums[R])) - first : first) << 2; /* zero is 32 */
    }
    if (q.zero == 8) return all_int(word(&sums[R]));
    return q.zero == 128 && BIASED ? all_int(word(&sums[2 * R])) : (vi){ 0 };
}
/* s[v][i] += the products of cell j. */
INLINE void cell(const struct quant_form q, const int R, const int V, vi (*s)[ROW_BLOCK_MAX], const char *const *at,
                 const float *x, int j) {
    vi w[TILE], first[TILE];
    const int words = q.bits == 4 ? 2 : 1;
    for (int v = 0; v < V; v++) {
        w[v] = load_bytes(at[v] + 4 * PANEL * j);
        if (R <= 4) __builtin_prefetch(at[v] + 4 * PANEL * j + AHEAD);
    }
#pragma GCC unroll 2
    for (int k = 0; k < words; k++) {
        for (int v = 0; v < V; v++) {
            first[v] = q.bits == 4 ? (k ? w[v] >> 4 : w[v]) & 0x0f0f0f0f : w[v];
            if (q.zero == 128) first[v] = s8_first(w[v] = s8_of(w[v]));
        }
#pragma GCC unroll 8
        for (int i = 0; i < R; i++)
            for (int v = 0; v < V; v++)
                s[v][i] = q.zero == 128 ? dot_s8(s[v][i], first[v], w[v], word(&x[(words * j + k) * R + i]))
                                        : dot_nibbles(s[v][i], first[v], word(&x[(words * j + k) * R + i]));
    }
}
INLINE void tile_quant(const int R, const int V, const struct quant_form q, const struct tile *t) {
    const int head = quant_head(q), subs = QBLOCK / q.sub, cells = q.bits / subs;
    const float *x = t->x;
    vf a[TILE][ROW_BLOCK_MAX] = { 0 };
    const char *w[TILE], *at[TILE],
        *top[TILE] = { t->w[0] }; /* top: scales of 256 columns, read anew, since registers are scarce */
    for (int v = 0; v < V; v++) w[v] = top[v] = t->w[v];
    for (int b = 0; b < t->cols / QBLOCK; b++, x += QUANT_WORDS * R) {
        for (int v = 0; v < V; v++) {
            if (q.super && b % SUPER_BLOCKS == 0) {
                top[v] = w[v] + t->part[v] * VL * 2;
                w[v] += quant_super_head(q);
            }
            at[v] = w[v] + head + t->part[v] * VL * 4;
        }
#pragma GCC unroll 2
        for (int h = 0; h < subs; h++) {
            vi s[TILE][ROW_BLOCK_MAX];
#pragma GCC unroll 8
            for (int i = 0; i < R; i++)
                for (int v = 0; v < V; v++) s[v][i] = offset(q, R, x, i, h);
#pragma GCC unroll 8
            for (int j = 0; j < cells; j++) cell(q, R, V, s, at, x, h * cells + j);
            for (int v = 0; v < V; v++) {
                const char *from = w[v] + (q.super ? 1 : 2) * (h * PANEL + t->part[v] * VL);
                const vf scale = q.super ? halves(top[v]) * (q.minima ? ubytes(from) : sbytes(from)) : halves(from);
#pragma GCC unroll 8
                for (int i = 0; i < R; i++) a[v][i] += to_float(s[v][i]) * scale;
            }
        }
        for (int v = 0; v < V && q.minima; v++) {
            const char *from = w[v] + head / 2 + (q.super ? 1 : 2) * t->part[v] * VL;
            const vf least = (q.super ? halves(top[v] + 2 * PANEL) * ubytes(from) : halves(from)) * -0.125f;
            for (int i = 0; i < R; i++) a[v][i] += to_float(all_int(word(&x[9 * R + i]))) * least;
        }
        for (int v = 0; v < V; v++) w[v] += quant_block(q);
        if (b % GROUP_BLOCKS < GROUP_BLOCKS - 1 && b + 1 < t->cols / QBLOCK) continue;
#pragma GCC unroll 8
        for (int i = 0; i < R; i++)
            for (int v = 0; v < V; v++) {
                float *c = t->c + i * t->ld + v * VL;
                store(c, load(c) + a[v][i] * x[8 * R + i]);
                a[v][i] = (vf){ 0 };
            }
    }
}

#define FLOAT_TILE(R, V, form)                                                                                         \
    static void form##_##R(const struct tile *t) { tile_float(R, V, DTYPE_##form, t); }
#define QUANT_TILE(R, V, form)                                                                                         \
    static void form##_##R(const struct tile *t) { tile_quant(R, V, quant_form(DTYPE_##form), t); }
#define TILES(R, V)                                                                                                    \
    FLOAT_TILE(R, V, F32)                                                                                              \
    FLOAT_TILE(R, V, F16)                                                                                              \
    FLOAT_TILE(R, V, BF16)                                                                                             \
    QUANT_TILE(R, V, Q4_0)                                                                                             \
    QUANT_TILE(R, V, Q4_1)                                                                                             \
    QUANT_TILE(R, V, Q5_1)                                                                                             \
    QUANT_TILE(R, V, Q8_0)                                                                                             \
    QUANT_TILE(R, V, Q4_K)                                                                                             \
    QUANT_TILE(R, V, Q5_K)                                                                                             \
    QUANT_TILE(R, V, Q6_K)                                                                                             \
    static tile_fn *const tiles_##R[] = {                                                                              \
        [DTYPE_F32] = F32_##R,   [DTYPE_F16] = F16_##R,   [DTYPE_BF16] = BF16_##R, [DTYPE_Q4_0] = Q4_0_##R,            \
        [DTYPE_Q4_1] = Q4_1_##R, [DTYPE_Q5_1] = Q5_1_##R, [DTYPE_Q8_0] = Q8_0_##R, [DTYPE_Q4_K] = Q4_K_##R,            \
        [DTYPE_Q5_K] = Q5_K_##R, [DTYPE_Q6_K] = Q6_K_##R,                                                              \
    };
TILES(1, TILE_ONE)
TILES(4, TILE)
#if defined(__AVX512F__)
TILES(8, TILE)
#define TILES_MOST tiles_8
#else
#define TILES_MOST tiles_4
#endif
#if defined(__AVX512BF16__)
static void pairs(const struct tile *t) { tile_pairs(ROW_BLOCK, t); }
#endif
tile_fn *NAMED(tile_of)(enum dtype form, int R) {
#if defined(__AVX512BF16__)
    if (form == DTYPE_BF16 && R == ROW_BLOCK) return pairs;
#endif
    return (R == 1 ? tiles_1 : R == 4 ? tiles_4 : TILES_MOST)[form];
}
