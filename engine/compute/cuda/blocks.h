/* blocks.h - numbers and blocks as files hold them, read by kernels (ggml's formats; see cpu/isa/fill.c for the same on the
 * CPU). */
#ifndef JAEDA_COMPUTE_CUDA_BLOCKS_H
#define JAEDA_COMPUTE_CUDA_BLOCKS_H
#include "compute/cuda/dev.h"
#include "compute/quant.h"

__device__ static inline float half_bytes(const unsigned char *p) { return f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }
/* Column c of a row of plain numbers, at any alignment. */
__device__ static inline float plain_at(const unsigned char *row, enum dtype dt, int c) {
    if (dt == DTYPE_F16) return half_bytes(row + 2 * (size_t)c);
    const unsigned char *p = row + (dt == DTYPE_F32 ? 4 : 2) * (size_t)c;
    if (dt == DTYPE_BF16) return __uint_as_float((uint32_t)p[0] << 16 | (uint32_t)p[1] << 24);
    return __uint_as_float(p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
}
struct block_number {
    int n; /* unsigned, as the packed form holds it: quant_form(block_form(dt)) */
    float scale, minimum;
};
/* The 6-bit scale (which 0) or minimum (1) of 32 columns in q4_k and q5_k, twelve bytes for eight of both. */
__device__ static inline int six_bits(const unsigned char *q, int b, int which) {
    if (b < 4) return q[4 * which + b] & 63;
    return (which ? q[4 + b] >> 4 : q[4 + b] & 15) | q[4 * which + b - 4] >> 6 << 4;
}
__device__ static inline struct block_number super_at(const unsigned char *p, enum dtype dt, int c) {
    const int b = c / 32, in = c % 32;
    if (dt == DTYPE_Q6_K) { /* in each half of the columns, two low nibbles, then the two above them */
        const int low = p[b / 4 * 64 + b % 2 * 32 + in] >> b % 4 / 2 * 4 & 15;
        const int high = p[128 + b / 4 * 32 + in] >> b % 4 * 2 & 3;
        return { low | high << 4, half_bytes(p + 208) * (float)(signed char)p[192 + c / 16], 0 };
    }
    int n = p[(dt == DTYPE_Q5_K ? 48 : 16) + b / 2 * 32 + in] >> b % 2 * 4 & 15;
    if (dt == DTYPE_Q5_K) n |= (p[16 + in] >> b & 1) << 4;
    return { n, half_bytes(p) * (float)six_bits(p + 4, b, 0), -half_bytes(p + 2) * (float)six_bits(p + 4, b, 1) };
}
/* Column c of a row of blocks: the same number as in the file, none rounded again. */
__device__ static inline struct block_number block_at(const unsigned char *row, enum dtype dt, int c) {
    if (dt == DTYPE_Q4_K) return super_at(row + (size_t)(c / 256) * 144, dt, c % 256);
    if (dt == DTYPE_Q5_K) return super_at(row + (size_t)(c / 256) * 176, dt, c % 256);
    if (dt == DTYPE_Q6_K) return super_at(row + (size_t)(c / 256) * 210, dt, c % 256);
    const int in = c % 32, shift = in < 16 ? 0 : 4;
    const size_t b = (size_t)(c / 32);
    const unsigned char *p;
    switch (dt) {
    case DTYPE_Q4_0: p = row + b * 18; return { p[2 + in % 16] >> shift & 15, half_bytes(p), 0 };
    case DTYPE_Q4_1: p = row + b * 20; return { p[4 + in % 16] >> shift & 15, half_bytes(p), half_bytes(p + 2) };
    case DTYPE_Q5_0: /* as q8_0, which holds the same numbers */
        p = row + b * 22;
        return { ((p[6 + in % 16] >> shift & 15) | (p[2 + in / 8] >> in % 8 & 1) << 4) + 128 - 16, half_bytes(p), 0 };
    case DTYPE_Q5_1:
        p = row + b * 24;
        return { (p[8 + in % 16] >> shift & 15) | (p[4 + in / 8] >> in % 8 & 1) << 4, half_bytes(p),
                 half_bytes(p + 2) };
    default: p = row + b * 34; return { p[2 + in] ^ 128, half_bytes(p), 0 };
    }
}

#endif
