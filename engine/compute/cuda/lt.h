/* lt.h - large matrix products: the one place that knows cuBLASLt. The emulator brings plain bodies of the same names. */
#ifndef JAEDA_COMPUTE_CUDA_LT_H
#define JAEDA_COMPUTE_CUDA_LT_H
#include "compute/cuda/cuda.h"

enum { LT_WORKSPACE = 32 << 20, LT_ALIGNMENT = 16 };
/* y = x w^T (+ y): x rows x cols, w out x cols, both of one kind (F16, BF16, F32), y rows x out in f32; numbers are summed in
 * f32. Leading dimensions in numbers; x, w and y begin at multiples of LT_ALIGNMENT, rows of x and w too. workspace: LT_WORKSPACE bytes of device memory. */
struct product {
    const void *x, *w;
    float *y;
    int rows, out, cols, x_ld, w_ld, y_ld;
    enum dtype kind;
    bool add;
    void *workspace;
};
int lt_open(struct lt **out, struct err *e);
void lt_close(struct lt *t);
int lt_multiply(struct lt *t, const struct product *p, cudaStream_t stream, struct err *e);
/* Runs the library's candidates for such a product and remembers the fastest for all products of as many rows (within a
 * factor of two) from then on; y is spoilt. Not inside a capture. What fails here
 * fails again, with a word, when it is needed. */
void lt_search(struct lt *t, const struct product *p, cudaStream_t stream);

#endif
