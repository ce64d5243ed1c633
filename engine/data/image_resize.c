#include "base/mem.h"
#include "image.h"
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

enum { BITS = 22 }; /* Pillow's: 32 - 8 bits of a pixel - 2 for overshoot */
/* For each place of the result: the first source place, how many, and their weights in fixed point. */
struct taps {
    int *first, *n;
    int32_t *weight;
    int size; /* weights of each place */
};
static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}
static void one(struct taps *t, int i, double scale, int in, double *w) {
    const double stretch = scale < 1 ? 1 : scale, support = 2 * stretch, center = (i + 0.5) * scale;
    int from = (int)(center - support + 0.5), to = (int)(center + support + 0.5);
    double sum = 0;
    from = from < 0 ? 0 : from;
    to = to > in ? in : to;
    for (int k = 0; k < to - from; k++) {
        w[k] = bicubic((k + from - center + 0.5) * (1.0 / stretch));
        sum += w[k];
    }
    t->first[i] = from;
    t->n[i] = to - from;
    for (int k = 0; k < to - from; k++) {
        const double v = (sum != 0 ? w[k] / sum : w[k]) * (1 << BITS);
        t->weight[(size_t)i * (size_t)t->size + (size_t)k] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
}
static void taps_fini(struct taps *t) {
    mem_free(t->first);
    mem_free(t->n);
    mem_free(t->weight);
}
static bool taps_init(struct taps *t, int in, int out) {
    const double scale = (double)in / out, support = 2 * (scale < 1 ? 1 : scale);
    *t = (struct taps){ .size = (int)ceil(support) * 2 + 1 };
    t->first = mem_zero((size_t)out, sizeof *t->first);
    t->n = mem_zero((size_t)out, sizeof *t->n);
    t->weight = mem_zero((size_t)out * (size_t)t->size, sizeof *t->weight);
    double *w = mem_zero((size_t)t->size, sizeof *w);
    const bool ok = t->first && t->n && t->weight && w;
    for (int i = 0; ok && i < out; i++) one(t, i, scale, in, w);
    mem_free(w);
    return ok;
}
static unsigned char clip(int32_t v) {
    v >>= BITS;
    return (unsigned char)(v < 0 ? 0 : v > 255 ? 255 : v);
}
static void across(const struct taps *t, unsigned char *to, const unsigned char *from, int width) {
    for (int x = 0; x < width; x++) {
        const int32_t *w = t->weight + (size_t)x * (size_t)t->size;
        const unsigned char *p = from + 3 * (size_t)t->first[x];
        int32_t sum[3] = { 1 << (BITS - 1), 1 << (BITS - 1), 1 << (BITS - 1) };
        for (int k = 0; k < t->n[x]; k++)
            for (int c = 0; c < 3; c++) sum[c] += p[3 * k + c] * w[k];
        for (int c = 0; c < 3; c++) to[3 * x + c] = clip(sum[c]);
    }
}
static void down(const struct taps *t, int y, unsigned char *to, const unsigned char *from, size_t row, int32_t *sum) {
    const int32_t *w = t->weight + (size_t)y * (size_t)t->size;
    for (size_t i = 0; i < row; i++) sum[i] = 1 << (BITS - 1);
    for (int k = 0; k < t->n[y]; k++) {
        const unsigned char *p = from + (size_t)(t->first[y] + k) * row;
        for (size_t i = 0; i < row; i++) sum[i] += p[i] * w[k];
    }
    for (size_t i = 0; i < row; i++) to[i] = clip(sum[i]);
}
int image_resize(struct image *out, const struct image *in, int width, int height, struct err *e) {
    *out = (struct image){ 0 };
    if (width < 1 || height < 1 || width > IMAGE_PIXELS_MAX / height)
        return err_set(e, STATUS_INVALID, "a picture cannot be resized to %d x %d pixels", width, height);
    const size_t row = 3 * (size_t)width, rows = (size_t)in->height;
    struct taps h = { 0 }, v = { 0 };
    unsigned char *between = mem_alloc(row * rows);
    int32_t *sum = mem_alloc(row * sizeof *sum);
    *out = (struct image){ mem_alloc(row * (size_t)height), width, height };
    const bool ok = between && sum && out->rgb && taps_init(&h, in->width, width) && taps_init(&v, in->height, height);
    for (size_t y = 0; ok && y < rows; y++) across(&h, between + y * row, in->rgb + 3 * y * (size_t)in->width, width);
    for (int y = 0; ok && y < height; y++) down(&v, y, out->rgb + (size_t)y * row, between, row, sum);
    taps_fini(&h);
    taps_fini(&v);
    mem_free(between);
    mem_free(sum);
    if (ok) return STATUS_OK;
    image_fini(out);
    return err_set(e, STATUS_NOMEM, "no memory to resize a picture to %d x %d pixels", width, height);
}
