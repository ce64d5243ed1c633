#include "rig.h"
#include "base/mem.h"
#include "compute/module.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after setjmp.h and stdarg.h, which it needs */
#include <cmocka.h>

/* Bytes of made-up numbers: biases and matrices around 0, gains of norms around 1. A block of them, over and over. */
enum { BLOCK = 1000003 };
static void make_up(char *bytes, const struct weight *w, int seed) {
    static float block[BLOCK];
    const size_t n = strlen(w->name), each = w->dt == DTYPE_F32 ? 4 : 2, all = (size_t)w->bytes / each;
    const bool gain = w->cols == 1 && !(n > 4 && !strcmp(w->name + n - 4, "bias"));
    uint64_t x = (uint64_t)seed * 2 + 1;
    for (size_t i = 0; i < BLOCK && i < all; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        block[i] = (gain ? 1.0f : 0.0f) + 0.04f * ((float)(x >> 40) / 8388608.0f - 1.0f);
    }
    for (size_t i = 0; i < all; i++) {
        const float v = block[i % BLOCK];
        const _Float16 half = (_Float16)v;
        const char *from = w->dt == DTYPE_F32    ? (const char *)&v
                           : w->dt == DTYPE_BF16 ? (const char *)&v + 2
                                                 : (const char *)&half;
        memcpy(bytes + i * each, from, each);
    }
}
/* Weights over the same tensor follow each other: its bytes are read once. */
static int read_weights(struct rig *r, struct err *e) {
    const struct weight *last = NULL;
    char *bytes = NULL;
    for (int i = 0; i < model_weights(r->model) && !e->code; i++) {
        struct weight *w = model_weight(r->model, i);
        if (!last || !r->file || last->file != w->file || last->offset != w->offset) {
            mem_free(bytes);
            bytes = mem_alloc((size_t)w->bytes);
            const int fd = r->file ? checkpoint_file(r->file, w->file)->fd : -1;
            if (bytes && !r->file)
                make_up(bytes, w, i);
            else if (!bytes || pread(fd, bytes, (size_t)w->bytes, (off_t)w->offset) != (ssize_t)w->bytes)
                err_set(e, STATUS_IO, "%s: cannot be read", w->name);
        }
        if (!e->code) r->api->fill(r->be, w, bytes, e);
        last = w;
    }
    mem_free(bytes);
    return e->code;
}
static size_t larger(size_t a, size_t b) { return a > b ? a : b; }
static int record(struct rig *r, const struct rig_options *o, struct err *e) {
    program_init(&r->one, r->api, r->be, 1, 1, r->config.context);
    program_init(&r->wide, r->api, r->be, o->rows, o->rows, r->config.context);
    r->one.image_rows = r->wide.image_rows = o->image_rows;
    r->one.kv = r->wide.kv = o->kv == DTYPE_F16 ? DTYPE_F16 : DTYPE_F32;
    r->one_logits = model_record(r->model, &r->one);
    op_next(&r->one, r->one_logits);
    r->wide_logits = model_record(r->model, &r->wide);
    if (o->fuse) program_fuse(&r->one), program_fuse(&r->wide);
    if (program_plan(&r->one, e) || program_plan(&r->wide, e)) return e->code;
    r->arena_bytes = larger(r->one.need[REGION_ARENA], r->wide.need[REGION_ARENA]);
    r->kv_bytes = larger(r->one.need[REGION_KV], r->wide.need[REGION_KV]);
    return 0;
}
bool on_device(void) {
    const char *name = getenv("JAEDA_TEST_BACKEND");
    return name && *name && strcmp(name, "cpu") != 0;
}
bool on_emulated(void) { return on_device() && strstr(getenv("JAEDA_TEST_BACKEND"), "-emu"); }
const struct backend_api *tested_backend(struct err *e) {
    return on_device() ? module_open(getenv("JAEDA_TEST_BACKEND"), e) : &backend_cpu;
}
int rig_open(struct rig *r, const struct rig_options *o, struct err *e) {
    *r = (struct rig){ .api = tested_backend(e) };
    if (!r->api) return e->code;
    struct program *const programs[2] = { &r->one, &r->wide };
    char *before = getenv("JAEDA_ISA") ? mem_string(getenv("JAEDA_ISA")) : NULL;
    if (o->isa) setenv("JAEDA_ISA", o->isa, 1);
    r->be = r->api->open(o->threads, e);
    unsetenv("JAEDA_ISA");
    if (before) setenv("JAEDA_ISA", before, 1);
    mem_free(before);
    if (o->made_up) r->config = *o->made_up;
    if (!r->be ||
        (!o->made_up && (checkpoint_open(&r->file, o->path, e) || checkpoint_config(r->file, &r->config, e))) ||
        model_open(&r->model, r->file, &r->config, o->want, e) || record(r, o, e) ||
        r->api->place(r->be, programs, 2, &r->slab, e) || read_weights(r, e))
        return e->code;
    r->arena = r->api->alloc(r->be, r->arena_bytes);
    r->kv = r->api->alloc(r->be, r->kv_bytes);
    r->step = mem_zero(1, sizeof *r->step);
    if (!r->arena || !r->kv || !r->step) return err_set(e, STATUS_NOMEM, "no memory");
    return program_link(&r->one, r->arena, r->kv, e) ? e->code : program_link(&r->wide, r->arena, r->kv, e);
}
void rig_close(struct rig *r) {
    mem_free(r->step);
    program_fini(&r->one);
    program_fini(&r->wide);
    if (r->arena) r->api->free(r->be, r->arena, r->arena_bytes);
    if (r->kv) r->api->free(r->be, r->kv, r->kv_bytes);
    if (r->slab) r->api->drop(r->be, r->slab);
    model_close(r->model);
    checkpoint_close(r->file);
    r->api->close(r->be);
}
int rig_wide(struct rig *r, const int *id, int n, int pos, struct watch *w, float *out, struct err *e) {
    memset(r->step, 0, sizeof *r->step);
    for (int i = 0; i < n; i++) step_rows(r->step, id + i, 1, pos + i, 0, true);
    if (program_replay(&r->wide, r->step, w, e)) return e->code;
    return program_get(&r->wide, r->wide_logits, out, (size_t)n * (size_t)r->config.vocab, e);
}
int rig_one(struct rig *r, int id, int pos, float *out, struct err *e) {
    memset(r->step, 0, sizeof *r->step);
    step_rows(r->step, &id, 1, pos, 0, true);
    if (program_replay(&r->one, r->step, NULL, e)) return e->code;
    return out ? program_get(&r->one, r->one_logits, out, (size_t)r->config.vocab, e) : 0;
}
int rig_greedy(struct rig *r, int *out, int n, struct err *e) {
    while (r->step->made < n)
        if (program_replay(&r->one, r->step, NULL, e)) return e->code;
    for (int i = 0; i < n; i++) out[i] = r->step->ring[i % RING];
    return 0;
}
bool default_model(char path[CATALOG_PATH]) {
    const struct catalog_entry *entry;
    struct err e = { 0 };
    if (!catalog_resolve("smollm2-135m", NULL, path, &entry, &e)) return true;
    fprintf(stderr, "%s\n", e.text);
    const char *skip = getenv("JAEDA_ALLOW_SKIP");
    if (!skip || strcmp(skip, "1") != 0) fail_msg("the default model is not on this disk");
    return false;
}
double max_diff(const float *a, const float *b, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= most)) most = isnan(d) ? INFINITY : d;
    }
    return most;
}
