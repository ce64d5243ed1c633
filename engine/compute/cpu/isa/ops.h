/* ops.h - what the kernels of one instruction set share: functions on vectors, the inner loop of f32 products, and each
 * other's names. */
#ifndef JAEDA_COMPUTE_CPU_ISA_OPS_H
#define JAEDA_COMPUTE_CPU_ISA_OPS_H
#include "compute/cpu/isa/vec.h"

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
    case ACT_GELU: {
        vf y;
        for (int i = 0; i < VL; i++) y[i] = erff(x[i] * 0.70710678f);
        return 0.5f * x * (1.0f + y);
    }
    case ACT_NONE: break;
    }
    return x;
}
/* The sum over k < n of w[k * ws + lane] * x[i * xi + k * xk]; strides in floats. */
struct product {
    const float *w;
    size_t ws;
    const float *x;
    int xi, xk, n;
};
/* acc[i] += the product: the one inner loop of f32 matrices and attention. R, U, xi and xk are constants where this is
 * inlined; U > 1 keeps U sums of each row to hide latency. */
INLINE void multiply_add(const int R, const int U, vf *acc, const struct product p) {
    vf a[16] = { 0 };
    int k = 0;
    for (; k + U <= p.n; k += U)
        for (int u = 0; u < U; u++) {
            const vf v = load(p.w + (size_t)(k + u) * p.ws);
            for (int i = 0; i < R; i++) a[i * U + u] += v * p.x[i * p.xi + (k + u) * p.xk];
        }
    for (; k < p.n; k++)
        for (int i = 0; i < R; i++) a[i * U] += load(p.w + (size_t)k * p.ws) * p.x[i * p.xi + k * p.xk];
    for (int i = 0; i < R; i++)
        for (int u = 0; u < U; u++) acc[i] += a[i * U + u];
}

/* linear.c, attention.c, rows.c, sample.c */
cpu_op NAMED(op_linear), NAMED(op_proj), NAMED(op_attn), NAMED(op_embed), NAMED(op_angles), NAMED(op_norm),
    NAMED(op_rope), NAMED(op_kv_put), NAMED(op_gate), NAMED(op_add), NAMED(op_pick), NAMED(op_next);
void NAMED(norm_row)(float *y, const float *x, int n, const struct norm_of *f);
void NAMED(rotate)(float *x, const float *angles, int rot); /* one head, rotate-half; angles: cosines, then sines */
void NAMED(put)(const struct mat *out, const struct step *s, int i, int col, const float *v, int n, bool keys);
#endif
