/* dot.h - sums of products of bytes, and whether there are such of bf16. */
#ifndef JAEDA_COMPUTE_CPU_ISA_DOT_H
#define JAEDA_COMPUTE_CPU_ISA_DOT_H
#include "compute/cpu/isa/vec.h"

#if defined(__AVX512BF16__)
enum { BF16_PAIRS = 1 }; /* products of pairs of bf16 */
#else
enum { BF16_PAIRS = 0 };
#endif

/* ---- dot products of 4 bytes in each lane; x: 4 int8 of one row. Exact on every instruction set. ----
 * Numbers 0..63 need no care. Int8 weights lie as n = w + 128, but the byte product instructions want one unsigned side:
 * with VNNI that is n, and the sum starts at -128 * sum(x); without, |w| and x with w's sign, since 255 * 127 * 2 would
 * saturate the 16-bit sums of pairs (128 * 127 * 2 does not; x is never -128). */
#if defined(__AVX512VNNI__)
enum { BIASED = 1 };
INLINE vi dot_nibbles(vi s, vi w, int32_t x) {
    return (vi)_mm512_dpbusd_epi32((__m512i)s, (__m512i)w, _mm512_set1_epi32(x));
}
INLINE vi s8_of(vi n) { return n; }
INLINE vi s8_first(vi w) { return w; }
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
INLINE vi s8_of(vi n) { return n ^ (int32_t)0x80808080; }
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
INLINE vi s8_of(vi n) { return n ^ (int32_t)0x80808080; }
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
INLINE vi s8_of(vi n) { return n ^ (int32_t)0x80808080; }
INLINE vi s8_first(vi w) { return w; }
INLINE vi dot_nibbles(vi s, vi w, int32_t x) { return dot_s8(s, w, w, x); }
#endif

#endif
