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
INLINE float sum_of(vf v) { return _mm512_reduce_add_ps((__m512)v); }
INLINE float max_of(vf v) { return _mm512_reduce_max_ps((__m512)v); }
INLINE vf halves(const char *p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
INLINE vf bfloats(const char *p) {
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16);
}
#else
INLINE vf vmax(vf a, vf b) { return pick(a > b, a, b); }
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
INLINE vf bfloats(const char *p) {
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16);
}
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
INLINE vf bfloats(const char *p) {
    vi v;
    for (int i = 0; i < VL; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        v[i] = (int32_t)((uint32_t)h << 16);
    }
    return (vf)v;
}
#endif
#endif

/* ---- dot products of 4 bytes in each lane; x: 4 int8 of one row. Exact on every instruction set. ----
 * Weights 0..15 need no care. For int8 weights the byte product instructions want one unsigned side: with VNNI it is
 * w + 128 and the sum starts at -128 * sum(x); without, |w| and x with w's sign, since 255 * 127 * 2 would saturate the
 * 16-bit sums of pairs (128 * 127 * 2 does not; x is never -128). */
#if defined(__AVX512VNNI__)
enum { BIASED = 1 };
INLINE vi dot_nibbles(vi s, vi w, int32_t x) {
    return (vi)_mm512_dpbusd_epi32((__m512i)s, (__m512i)w, _mm512_set1_epi32(x));
}
INLINE vi s8_first(vi w) { return w ^ (int32_t)0x80808080; }
INLINE vi dot_s8(vi s, vi first, vi w, int32_t x) {
    (void)w;
    return dot_nibbles(s, first, x);
}
#elif defined(__AVX512BW__)
enum { BIASED = 0 };
INLINE vi madd(vi s, __m512i u, __m512i x) {
    return s + (vi)_mm512_madd_epi16(_mm512_maddubs_epi16(u, x), _mm512_set1_epi16(1));
}
INLINE vi dot_nibbles(vi s, vi w, int32_t x) { return madd(s, (__m512i)w, _mm512_set1_epi32(x)); }
INLINE vi s8_first(vi w) { return (vi)_mm512_abs_epi8((__m512i)w); }
INLINE vi dot_s8(vi s, vi first, vi w, int32_t x) {
    const __m512i v = _mm512_set1_epi32(x);
    const __mmask64 minus = _mm512_movepi8_mask((__m512i)w);
    return madd(s, (__m512i)first, _mm512_mask_sub_epi8(v, minus, _mm512_setzero_si512(), v));
}
#elif defined(__AVX2__)
enum { BIASED = 0 };
INLINE vi madd(vi s, __m256i u, __m256i x) {
    return s + (vi)_mm256_madd_epi16(_mm256_maddubs_epi16(u, x), _mm256_set1_epi16(1));
}
INLINE vi dot_nibbles(vi s, vi w, int32_t x) { return madd(s, (__m256i)w, _mm256_set1_epi32(x)); }
INLINE vi s8_first(vi w) { return (vi)_mm256_abs_epi8((__m256i)w); }
INLINE vi dot_s8(vi s, vi first, vi w, int32_t x) {
    return madd(s, (__m256i)first, _mm256_sign_epi8(_mm256_set1_epi32(x), (__m256i)w));
}
#else
enum { BIASED = 0 };
typedef int16_t vs __attribute__((vector_size(VL * 4)));
INLINE vi dot_s8(vi s, vi first, vi w,
                 int32_t x) { /* products of even and of odd bytes; a pair's sum fits in 16 bits */
    const vs b = (vs)w, y = (vs)all_int(x), pairs = ((b << 8) >> 8) * ((y << 8) >> 8) + (b >> 8) * (y >> 8);
    (void)first;
    return s + (((vi)pairs << 16) >> 16) + ((vi)pairs >> 16);
}
INLINE vi s8_first(vi w) { return w; }
INLINE vi dot_nibbles(vi s, vi w, int32_t x) { return dot_s8(s, w, w, x); }
#endif

#endif
