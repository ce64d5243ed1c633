/* vec.h - vectors of the instruction set this file is compiled for (GCC vector extensions) and the few primitives that
 * the extensions do not reach. A panel of 16 rows is PARTS vectors of VL lanes. */
#ifndef JAEDA_COMPUTE_CPU_ISA_VEC_H
#define JAEDA_COMPUTE_CPU_ISA_VEC_H
#include "compute/cpu/cpu.h"
#include <math.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define JOINED(a, b) a##_##b
#define JOIN(a, b) JOINED(a, b)
#define NAMED(x) JOIN(x, ISA) /* the same function exists once for each instruction set */

#if defined(__AVX512F__)
enum { VL = 16 };
#elif defined(__AVX2__)
enum { VL = 8 };
#else
enum { VL = 4 };
#endif
enum { PARTS = PANEL / VL };
typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef float vf_any __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int32_t vi_any __attribute__((vector_size(VL * 4), aligned(1), may_alias));

INLINE vf load(const float *p) { return *(const vf_any *)p; }
INLINE void store(float *p, vf v) { *(vf_any *)p = v; }
INLINE vi load_bytes(const char *p) { return *(const vi_any *)(const void *)p; }
INLINE vf all(float x) { return x - (vf){ 0 }; }
INLINE vi all_int(int32_t x) { return x - (vi){ 0 }; }
INLINE vf pick(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }
INLINE vf to_float(vi v) { return __builtin_convertvector(v, vf); }

/* VL bytes as numbers. */
#if defined(__AVX512F__)
INLINE __m128i bytes(const char *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
INLINE vf ubytes(const char *p) { return to_float((vi)_mm512_cvtepu8_epi32(bytes(p))); }
INLINE vf sbytes(const char *p) { return to_float((vi)_mm512_cvtepi8_epi32(bytes(p))); }
#elif defined(__AVX2__)
INLINE __m128i bytes(const char *p) { return _mm_loadl_epi64((const __m128i *)(const void *)p); }
INLINE vf ubytes(const char *p) { return to_float((vi)_mm256_cvtepu8_epi32(bytes(p))); }
INLINE vf sbytes(const char *p) { return to_float((vi)_mm256_cvtepi8_epi32(bytes(p))); }
#else
INLINE vf ubytes(const char *p) {
    vi v;
    for (int i = 0; i < VL; i++) v[i] = (unsigned char)p[i];
    return to_float(v);
}
INLINE vf sbytes(const char *p) {
    vi v;
    for (int i = 0; i < VL; i++) v[i] = (signed char)p[i];
    return to_float(v);
}
#endif

/* Nearest integer, ties to even: no multiplication before it may be contracted into it, or results would differ between
 * instruction sets. */
#if defined(__AVX512F__)
INLINE vi to_int(vf v) { return (vi)_mm512_cvtps_epi32((__m512)v); }
#elif defined(__AVX2__)
INLINE vi to_int(vf v) { return (vi)_mm256_cvtps_epi32((__m256)v); }
#else /* compiled without contraction */
INLINE vi to_int(vf v) { return (vi)(v + 12582912.0f) - (vi)all(12582912.0f); }
#endif

#if defined(__AVX512F__)
INLINE vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE float sum_of(vf v) { return _mm512_reduce_add_ps((__m512)v); }
INLINE float max_of(vf v) { return _mm512_reduce_max_ps((__m512)v); }
INLINE vf halves(const char *p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
#else
INLINE vf vmax(vf a, vf b) { return pick(a > b, a, b); }
INLINE vf vmin(vf a, vf b) { return pick(a < b, a, b); }
INLINE float sum_of(vf v) {
    float s = 0;
    for (int i = 0; i < VL; i++) s += v[i];
    return s;
}
INLINE float max_of(vf v) {
    float m = v[0];
    for (int i = 1; i < VL; i++) m = v[i] > m ? v[i] : m;
    return m;
}
#if defined(__AVX2__)
INLINE vf halves(const char *p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
#else
INLINE vf halves(const char *p) {
    vf v;
    for (int i = 0; i < VL; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        v[i] = cpu_half(h);
    }
    return v;
}
#endif
#endif

/* To nearest even; NaN stays NaN. */
INLINE uint16_t to_bfloat(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return f == f ? (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16) : (uint16_t)(u >> 16 | 0x40);
}

#endif
