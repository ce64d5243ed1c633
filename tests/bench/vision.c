/* jaeda-bench-vision [--backend cpu|MODULE] [--dtype D] [--runs N] [--image PX] [--layers N] [--batch N]: MiniGPT-4's image encoder in
 * its true shape with random weights, as lines of JSON: how long a batch of pictures takes, then where that goes. */
#include "model/vision.h"
#include "base/mem.h"
#include "compute/module.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bench {
    const struct backend_api *api;
    struct backend *be;
    struct vision *v;
    struct program p;
    struct vision_io io;
    struct slab *slab;
    void *arena;
    struct step *step;
};
struct options {
    const char *module;
    struct vision_config c;
    enum dtype want;
    long runs, batch;
};
static int set_up(struct bench *b, const struct options *o, struct err *e) {
    struct program *all[1] = { &b->p };
    b->api = o->module ? module_open(o->module, e) : &backend_cpu;
    b->be = b->api ? b->api->open(0, e) : NULL;
    b->step = mem_zero(1, sizeof *b->step);
    if (!b->be || !b->step || vision_open(&b->v, NULL, 0, &o->c, o->want, e)) return e->code;
    program_init(&b->p, b->api, b->be, 1, 1, 1);
    b->io = vision_record_many(b->v, VISION_ENCODE, (int)o->batch, &b->p);
    program_fuse(&b->p);
    if (program_plan(&b->p, e) || b->api->place(b->be, all, 1, &b->slab, e)) return e->code;
    for (int i = 0; i < vision_weights(b->v); i++) {
        const struct weight *w = vision_weight(b->v, i);
        const bool gain = w->cols == 1 && strstr(w->name, "norm") && !strstr(w->name, "bias");
        if (!w->packed) continue; /* of another stage */
        if (b->api->dummy(b->be, w, gain ? 1 : 0, w->cols == 1 ? 0.02f : 1 / sqrtf((float)w->cols), (uint64_t)i, e))
            return e->code;
    }
    b->arena = b->api->alloc(b->be, b->p.need[REGION_ARENA]);
    if (!b->arena) return err_set(e, STATUS_NOMEM, "no memory");
    return program_link(&b->p, b->arena, NULL, e);
}
static int measure(struct bench *b, const struct options *o, struct err *e) {
    struct peaks peak;
    struct span *span = mem_zero((size_t)b->p.n, sizeof *span);
    double flops = 0, by[2][64] = { { 0 } };
    const char *label[64];
    int labels = 0;
    if (!span || b->api->probe(b->be, &peak, e)) return e->code;
    printf("{\"what\": \"vision\", \"isa\": \"%s\", \"threads\": %d, \"batch\": %ld, \"ms\": [", b->api->isa(b->be),
           b->api->threads(b->be), o->batch);
    for (long i = -1; i < o->runs; i++) { /* the first warms up */
        const double t0 = b->api->time_us(b->be);
        if (program_replay(&b->p, b->step, NULL, e)) return e->code;
        const double ms = (b->api->time_us(b->be) - t0) * 1e-3;
        if (i >= 0) printf("%s%.3f", i ? ", " : "", ms);
    }
    struct watch w = { .span = span, .cap = b->p.n };
    if (program_replay(&b->p, b->step, &w, e)) return e->code;
    for (int i = 0; i < w.n; i++) {
        int k = 0;
        while (k < labels && strcmp(label[k], span[i].call->label) != 0) k++;
        if (k == 64) break;
        if (k == labels) label[labels++] = span[i].call->label;
        by[0][k] += span[i].us * 1e-3;
        by[1][k] += span[i].flops;
        flops += span[i].flops;
    }
    printf("], \"gflop\": %.1f, \"fp32_tflops\": %.3f, \"fp16_tflops\": %.3f, \"bf16_tflops\": %.3f}\n", flops * 1e-9,
           peak.fp32_gflops * 1e-3, peak.fp16_gflops * 1e-3, peak.bf16_gflops * 1e-3);
    for (int k = 0; k < labels; k++)
        printf("{\"what\": \"op\", \"label\": \"%s\", \"ms\": %.3f, \"gflops\": %.1f}\n", label[k], by[0][k],
               by[1][k] / by[0][k] * 1e-6);
    mem_free(span);
    return STATUS_OK;
}
int main(int argc, char **argv) {
    struct options o = { NULL, vision_config(VISION_LLAMA2), DTYPE_NONE, 5, 1 };
    struct bench b = { 0 };
    struct err e = { 0 };
    for (int i = 1; i + 1 < argc; i += 2) {
        const long n = strtol(argv[i + 1], NULL, 10);
        if (!strcmp(argv[i], "--backend") && strcmp(argv[i + 1], "cpu") != 0) o.module = argv[i + 1];
        if (!strcmp(argv[i], "--dtype")) o.want = dtype_parse(argv[i + 1]);
        if (!strcmp(argv[i], "--runs") && n > 0) o.runs = n;
        if (!strcmp(argv[i], "--batch") && n > 0) o.batch = n;
        if (!strcmp(argv[i], "--image")) o.c.image = (int)n;
        if (!strcmp(argv[i], "--layers")) o.c.layers = (int)n;
    }
    if (set_up(&b, &o, &e) || measure(&b, &o, &e)) return fprintf(stderr, "jaeda-bench-vision: %s\n", e.text), 1;
    const size_t bytes = b.p.need[REGION_ARENA];
    program_fini(&b.p);
    b.api->free(b.be, b.arena, bytes);
    b.api->drop(b.be, b.slab);
    vision_close(b.v);
    b.api->close(b.be);
    mem_free(b.step);
    return 0;
}
