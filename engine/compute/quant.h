/* quant.h - what the quantised forms of weights mean, however a backend lays them down. */
#ifndef JAEDA_COMPUTE_QUANT_H
#define JAEDA_COMPUTE_QUANT_H
#include "base/dtype.h"
#include <stdbool.h>

enum { QBLOCK = 32, SUPER = 256, SUPER_BLOCKS = SUPER / QBLOCK };

/* A number is scale * (n - zero) + minimum, n unsigned, scale and minimum the same for sub columns. Plain scales and
 * minima are f16. With super they are bytes, times an f16 scale and minimum of 256 columns; minima are stored negated
 * there. q5_0 becomes q8_0, which holds the same numbers. */
struct quant_form {
    int bits, zero, sub;
    bool minima, super;
};
static inline struct quant_form quant_form(enum dtype form) { /* bits 0: not quantised */
    struct quant_form q = { 0, 0, 32, false, false };
    switch (form) {
    case DTYPE_Q4_0: q.bits = 4, q.zero = 8; break;
    case DTYPE_Q4_1: q.bits = 4, q.minima = true; break;
    case DTYPE_Q5_1: q.bits = 8, q.minima = true; break;
    case DTYPE_Q8_0: q.bits = 8, q.zero = 128; break;
    case DTYPE_Q4_K: q.bits = 4, q.minima = q.super = true; break;
    case DTYPE_Q5_K: q.bits = 8, q.minima = q.super = true; break;
    case DTYPE_Q6_K: q.bits = 8, q.zero = 32, q.sub = 16, q.super = true; break;
    default: q.sub = 0; break;
    }
    return q;
}
/* What a file's blocks are packed as; DTYPE_NONE: they are not. */
static inline enum dtype block_form(enum dtype dt) {
    return dt == DTYPE_Q5_0 ? DTYPE_Q8_0 : quant_form(dt).bits ? dt : DTYPE_NONE;
}

#endif
