/* ops.h - what the kernels of one instruction set share: functions on vectors, and each other's names. */
#ifndef JAEDA_COMPUTE_CPU_ISA_OPS_H
#define JAEDA_COMPUTE_CPU_ISA_OPS_H
#include "compute/cpu/isa/vec.h"

/* VL numbers as fp16, to nearest even. */
#if defined(__AVX512F__)
INLINE void store_halves(char *p, vf v) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__)
INLINE void store_halves(char *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#else
INLINE void store_halves(char *p, vf v) {
    for (int i = 0; i < VL; i++) {
        const uint16_t h = cpu_to_half(v[i]);
        memcpy(p + 2 * i, &h, 2);
    }
}
#endif
/* e^x within 2 ulp; 0 below -87.3, clamped at e^88. Taylor around the nearest multiple of ln 2. */
INLINE vf vexp(vf x) {
    const vf magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to the nearest integer */
    const vi tiny = x < -87.3f;
    x = pick(x > 88.0f, all(88.0f), pick(tiny, all(-87.3f), x));
    const vf m = x * 1.44269504f + magic, n = m - magic;
    const vf r = x - n * 0.693145751953125f - n * 1.42860682e-6f;
    vf y = r * (1 / 5040.0f) + 1 / 720.0f;
    y = y * r + 1 / 120.0f;
    y = y * r + 1 / 24.0f;
    y = y * r + 1 / 6.0f;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    const vi scale = (((vi)m - (vi)magic) + 127) << 23;
    return pick(tiny, (vf){ 0 }, y * (vf)scale);
}
INLINE vf vact(enum act a, vf x) {
    switch (a) {
    case ACT_SILU: return x / (1.0f + vexp(-x));
    case ACT_GELU: { /* half of erfc(|x| / sqrt(2)): Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7 */
        const vf z = pick(x < 0, -x, x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * z);
        vf half = t * 0.5307027145f - 0.7265760135f;
        half = half * t + 0.7107068705f;
        half = half * t - 0.142248368f;
        half = half * t + 0.127414796f;
        half *= t * vexp(-z * z);
        return x * pick(x > 0, 1.0f - half, half);
    }
    case ACT_GELU_TANH: return x / (1.0f + vexp(-1.59576912f * (x + 0.044715f * x * x * x))); /* 2 sqrt(2 / pi) */
    case ACT_NONE: break;
    }
    return x;
}
/* linear.c, attention.c, rows.c, sample.c, fill.c */
cpu_op NAMED(op_linear), NAMED(op_proj), NAMED(op_attn), NAMED(op_embed), NAMED(op_angles), NAMED(op_norm),
    NAMED(op_rope), NAMED(op_kv_put), NAMED(op_gate), NAMED(op_add), NAMED(op_pick), NAMED(op_next);
void NAMED(fill_panel)(const struct filling *f, int t);
void NAMED(dummy_panel)(const struct filling *f, int t);
void NAMED(unpack_row)(float *y, const struct weight *w, int r); /* one row of a packed matrix */
void NAMED(norm_row)(float *y, const float *x, int n, const struct norm_of *f);
void NAMED(rotate)(float *x, const float *angles, int rot); /* one head, rotate-half; angles: cosines, then sines */
void NAMED(put)(const struct mat *out, const struct step *s, int i, int col, const float *v, int n, bool keys);
#endif
