/* shape.h - a catalogued model at its true shape with made-up weights: what the figures of this folder are taken on. */
#ifndef JAEDA_TESTS_BENCH_SHAPE_H
#define JAEDA_TESTS_BENCH_SHAPE_H
#include "compute/program.h"
#include "model/model.h"
#include <string.h>
#include <time.h>

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
/* Placed weights become random numbers around 0 (gains of norms: 1); *bytes: how many they are, packed. */
static inline int made_up(const struct backend_api *api, struct backend *be, struct model *m, double *bytes,
                          struct err *e) {
    *bytes = 0;
    for (int i = 0; i < model_weights(m); i++) {
        const struct weight *w = model_weight(m, i);
        const size_t n = strlen(w->name);
        const bool gain = w->cols == 1 && !(n > 4 && !strcmp(w->name + n - 4, "bias"));
        if (api->dummy(be, w, gain ? 1 : 0, gain ? 0 : 0.02f, (uint64_t)i, e)) return e->code;
        *bytes += (double)api->weight_bytes(w);
    }
    return 0;
}
/* Bytes that a step reads of weights, scales and cache, and its operations, two a multiply-add; added to what is there. */
static inline void costs(const struct program *p, const struct step *s, double *bytes, double *flops) {
    for (int i = 0; i < p->n; i++) {
        double one = 0, two = 0;
        program_cost(&p->call[i], s, &one, &two);
        *bytes += one;
        *flops += two;
    }
}

#endif
