/* lt.cpp - large products on the emulated device: plain loops where cuBLASLt would be asked. */
#include "compute/cuda/lt.h"
#include "base/mem.h"

struct lt {
    int unused;
};
int lt_open(struct lt **out, struct err *e) {
    if (emu::injected("cublasLtCreate")) return err_set(e, STATUS_NOTFOUND, "no cuBLASLt");
    *out = (struct lt *)mem_zero(1, sizeof **out);
    return *out ? STATUS_OK : err_set(e, STATUS_NOMEM, "no memory for large products");
}
void lt_close(struct lt *t) { mem_free(t); }
static float number(const void *p, size_t i, enum dtype kind) {
    if (kind == DTYPE_F32) return ((const float *)p)[i];
    const uint16_t h = ((const uint16_t *)p)[i];
    return kind == DTYPE_F16 ? f16_to_f32(h) : bf16_to_f32(h);
}
static void multiply(const struct product &p) {
    for (int i = 0; i < p.rows; i++)
        for (int r = 0; r < p.out; r++) {
            double sum = 0;
            for (int c = 0; c < p.cols; c++)
                sum += (double)number(p.x, (size_t)i * (size_t)p.x_ld + (size_t)c, p.kind) *
                       (double)number(p.w, (size_t)r * (size_t)p.w_ld + (size_t)c, p.kind);
            float *y = p.y + (size_t)i * (size_t)p.y_ld + r;
            *y = (p.add ? *y : 0) + (float)sum;
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
