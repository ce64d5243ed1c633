/* lt.cpp - large products on the emulated device: plain loops where cuBLASLt would be asked. */
#include "compute/cuda/lt.h"
#include "base/mem.h"
#include <vector>

struct lt {
    int unused;
};
int lt_open(struct lt **out, struct err *e) {
    if (emu::injected("cublasLtCreate")) return err_set(e, STATUS_NOTFOUND, "no cuBLASLt");
    *out = (struct lt *)mem_zero(1, sizeof **out);
    return *out ? STATUS_OK : err_set(e, STATUS_NOMEM, "no memory for large products");
}
void lt_close(struct lt *t) { mem_free(t); }
/* Rows of numbers as floats, without what lies between them. */
static std::vector<float> numbers(const void *p, int rows, int cols, int ld, enum dtype kind) {
    std::vector<float> out((size_t)rows * (size_t)cols);
    float *to = out.data();
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < cols; c++) {
            const size_t at = (size_t)i * (size_t)ld + (size_t)c;
            if (kind == DTYPE_F32)
                *to++ = ((const float *)p)[at];
            else
                *to++ =
                    kind == DTYPE_F16 ? f16_to_f32(((const uint16_t *)p)[at]) : bf16_to_f32(((const uint16_t *)p)[at]);
        }
    return out;
}
static double dot(const float *a, const float *b, int n) {
    double sum[4] = { 0 };
    for (int c = 0; c < n; c++) sum[c % 4] += (double)a[c] * (double)b[c];
    return sum[0] + sum[1] + sum[2] + sum[3];
}
static void multiply(const struct product &p) {
    const std::vector<float> x = numbers(p.x, p.rows, p.cols, p.x_ld, p.kind);
    const std::vector<float> w = numbers(p.w, p.out, p.cols, p.w_ld, p.kind);
    for (int r = 0; r < p.out; r++)
        for (int i = 0; i < p.rows; i++) {
            float *y = p.y + (size_t)i * (size_t)p.y_ld + r;
            *y = (p.add ? *y : 0) + (float)dot(&x[(size_t)i * (size_t)p.cols], &w[(size_t)r * (size_t)p.cols], p.cols);
        }
    memset(p.workspace, 0xff, LT_WORKSPACE / 1024); /* nobody may count on it */
}
int lt_multiply(struct lt *, const struct product *p, cudaStream_t stream, struct err *e) {
    const struct product copy = *p;
    if ((uintptr_t)p->x % 16 || (uintptr_t)p->w % 16 || (uintptr_t)p->y % LT_ALIGNMENT || p->x_ld % 8 || p->w_ld % 8)
        return err_set(e, STATUS_DEVICE, "a product is misaligned");
    emu::host_task(stream, [copy] { multiply(copy); });
    return STATUS_OK;
}
void lt_search(struct lt *, const struct product *, cudaStream_t) {} /* there is one way only */
