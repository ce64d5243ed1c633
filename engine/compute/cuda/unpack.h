/* unpack.h - where a column lies within a packed row, and the number that stands there: for kernels that take any form. */
#ifndef JAEDA_COMPUTE_CUDA_UNPACK_H
#define JAEDA_COMPUTE_CUDA_UNPACK_H
#include "compute/cuda/cuda.h"

/* Byte of column c in its row (8 bits). */
__host__ __device__ static inline int byte_of(int c, bool q6) {
    const int g = c % 64 / 32, in = c % 32;
    const int t = q6 ? in % 16 / 4 : in / 8, j = q6 ? in % 4 + in / 16 * 4 : in % 8;
    return c / 64 * 64 + 16 * t + 8 * g + j;
}
/* First bit of column c in its row (4 bits), counted in bytes of 8. */
__host__ __device__ static inline int bit_of(int c) {
    const int g = c % 128 / 32, t = c % 32 / 8, j = c % 8;
    return (c / 128 * 64 + 4 * (4 * t + g)) * 8 + 4 * (j / 2) + 16 * (j % 2);
}
__host__ __device__ static inline size_t row_bytes(enum dtype form, int ld) {
    switch (form) {
    case DTYPE_F32: return (size_t)ld * 4;
    case DTYPE_F16:
    case DTYPE_BF16: return (size_t)ld * 2;
    case DTYPE_Q4_0:
    case DTYPE_Q4_1:
    case DTYPE_Q4_K: return (size_t)ld / 2;
    default: return (size_t)ld;
    }
}
__host__ __device__ static inline int unit_of(enum dtype form) { /* ld is a multiple of it */
    return form == DTYPE_Q4_0 || form == DTYPE_Q4_1 || form == DTYPE_Q4_K ? 128 : 64;
}
/* Bytes of the scales of one row. */
__host__ __device__ static inline size_t scale_bytes(enum dtype form, int ld) {
    switch (form) {
    case DTYPE_Q4_0:
    case DTYPE_Q8_0: return (size_t)ld / 32 * 2;
    case DTYPE_Q6_K: return (size_t)ld / 16 * 4;
    case DTYPE_F32:
    case DTYPE_F16:
    case DTYPE_BF16: return 0;
    default: return (size_t)ld / 32 * 8;
    }
}
__host__ __device__ static inline int zero_of(enum dtype form) {
    return form == DTYPE_Q8_0 ? 128 : form == DTYPE_Q6_K ? 32 : form == DTYPE_Q4_0 ? 8 : 0;
}
/* The scale (and minimum) of column c of row r. */
__device__ static inline float2 scale_at(const struct matrix *m, int r, int c) {
    const char *s = (const char *)m->scale + (size_t)r * scale_bytes(m->form, m->ld);
    switch (m->form) {
    case DTYPE_Q4_0:
    case DTYPE_Q8_0: return make_float2(f16_to_f32(((const uint16_t *)s)[c / 32]), 0);
    case DTYPE_Q6_K: return make_float2(((const float *)s)[c / 16], 0);
    default: return ((const float2 *)s)[c / 32];
    }
}
__device__ static inline float weight_at(const struct matrix *m, int r, int c) {
    const char *p = m->p + (size_t)r * row_bytes(m->form, m->ld);
    switch (m->form) {
    case DTYPE_F32: return ((const float *)p)[c];
    case DTYPE_F16: return f16_to_f32(((const uint16_t *)p)[c]);
    case DTYPE_BF16: return bf16_to_f32(((const uint16_t *)p)[c]);
    default: break;
    }
    const float2 s = scale_at(m, r, c);
    const int n = unit_of(m->form) == 128 ? ((const unsigned char *)p)[bit_of(c) / 8] >> bit_of(c) % 8 & 15
                                          : ((const unsigned char *)p)[byte_of(c, m->form == DTYPE_Q6_K)];
    return s.x * (float)(n - zero_of(m->form)) + s.y;
}

/* Pairs of packed numbers of 8 or 4 bits as f16, exactly: 1024 + n is an f16 whose low bits are n. */
__device__ static inline uint32_t bytes_as_half(uint32_t w, int pair, uint32_t offset) {
    return h2_sub(__byte_perm(w, 0x64646464u, pair ? 0x4342 : 0x4140), offset);
}
__device__ static inline uint32_t nibbles_as_half(uint32_t w, int pair, uint32_t offset) {
    return h2_sub((w >> 4 * pair & 0x000f000fu) | 0x64006400u, offset);
}
__device__ static inline uint32_t offset_of(enum dtype form) { /* 1024 + zero, twice */
    const uint32_t h = 0x6400u + (uint32_t)zero_of(form);
    return h | h << 16;
}
/* How tensor cores are fed from a form. */
enum number { HALF, BRAIN, BYTE, NIBBLE, SIX, KINDS };
__host__ __device__ static inline enum number number_of(enum dtype form) {
    return form == DTYPE_F16      ? HALF
           : form == DTYPE_BF16   ? BRAIN
           : form == DTYPE_Q6_K   ? SIX
           : unit_of(form) == 128 ? NIBBLE
                                  : BYTE;
}
__host__ __device__ static inline bool has_minima(enum dtype form) {
    return form == DTYPE_Q4_1 || form == DTYPE_Q4_K || form == DTYPE_Q5_1 || form == DTYPE_Q5_K;
}

#endif
