/* table.c - what the backend sees of the kernels of one instruction set; the machine's ceilings, for probe. */
#include "compute/cpu/isa/ops.h"
#include "compute/cpu/isa/tile.h"

static float stream(const char *p, size_t bytes) {
    vi s[4] = { 0 };
    for (size_t i = 0; i + 4 * sizeof(vi) <= bytes; i += 4 * sizeof(vi)) {
        __builtin_prefetch(p + i + AHEAD);
        for (int k = 0; k < 4; k++) s[k] ^= load_bytes(p + i + (size_t)k * sizeof(vi));
    }
    return sum_of(to_float(s[0] ^ s[1] ^ s[2] ^ s[3]));
}
static float multiply(long rounds, double *flops) {
    enum { CHAINS = 10 };
    vf a[CHAINS];
    for (int i = 0; i < CHAINS; i++) a[i] = all((float)i);
    const vf x = all(0.999f), y = all(0.001f);
    for (long r = 0; r < rounds; r++) /* each round needs the one before: without -ffast-math none can be left out */
        for (int i = 0; i < CHAINS; i++) a[i] = a[i] * x + y;
    *flops = 2.0 * VL * CHAINS * (double)rounds;
    for (int i = 1; i < CHAINS; i++) a[0] += a[i];
    return sum_of(a[0]);
}
/* Four products of bytes a lane and instruction, as quantised weights are multiplied. */
static float multiply_bytes(long rounds, double *ops) {
    enum { CHAINS = 10 };
    vi s[CHAINS], w[CHAINS];
    volatile int32_t x = 0x01020304; /* read anew each round: no product may be kept for the next */
    for (int i = 0; i < CHAINS; i++) {
        s[i] = all_int(0);
        w[i] = all_int(0x01010101 * (i + 1));
    }
    for (long r = 0; r < rounds; r++) {
        const int32_t v = x;
        for (int i = 0; i < CHAINS; i++) s[i] = dot_nibbles(s[i], w[i], v);
    }
    *ops = 8.0 * VL * CHAINS * (double)rounds;
    for (int i = 1; i < CHAINS; i++) s[0] ^= s[i];
    return sum_of(to_float(s[0]));
}
#if defined(__AVX512BF16__)
static float multiply_bf16(long rounds, double *flops) {
    enum { CHAINS = 16 };
    vf a[CHAINS];
    __m512bh w[CHAINS];
    volatile int32_t x = 0x3f803f80; /* read anew each round, as above */
    for (int i = 0; i < CHAINS; i++) {
        a[i] = all((float)i);
        w[i] = (__m512bh)all_int(0x3c003c00 + i);
    }
    for (long r = 0; r < rounds; r++) {
        const __m512bh v = (__m512bh)all_int(x);
        for (int i = 0; i < CHAINS; i++) a[i] = (vf)_mm512_dpbf16_ps((__m512)a[i], w[i % 4], v);
    }
    *flops = 4.0 * VL * CHAINS * (double)rounds;
    for (int i = 1; i < CHAINS; i++) a[0] += a[i];
    return sum_of(a[0]);
}
#else
#define multiply_bf16 NULL
#endif
const struct kernels NAMED(cpu_kernels) = {
    .isa = ISA_TEXT,
    .row_block = ROW_BLOCK,
    .op = { [OP_EMBED] = NAMED(op_embed),
            [OP_ANGLES] = NAMED(op_angles),
            [OP_LINEAR] = NAMED(op_linear),
            [OP_NORM] = NAMED(op_norm),
            [OP_ROPE] = NAMED(op_rope),
            [OP_KV_PUT] = NAMED(op_kv_put),
            [OP_ATTN] = NAMED(op_attn),
            [OP_GATE] = NAMED(op_gate),
            [OP_ADD] = NAMED(op_add),
            [OP_PICK] = NAMED(op_pick),
            [OP_NEXT] = NAMED(op_next),
            [OP_PROJ] = NAMED(op_proj) },
    .fill_panel = NAMED(fill_panel),
    .dummy_panel = NAMED(dummy_panel),
    .read = stream,
    .multiply = multiply,
    .multiply_bytes = multiply_bytes,
    .multiply_pairs = multiply_bf16,
};
