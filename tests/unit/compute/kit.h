/* kit.h - for the tests of compute/ and model/: made-up checkpoints whose bytes are encoded and decoded here, sharing no
 * code with the engine, and programs made ready to run on memory filled with NaN. */
#ifndef JAEDA_TESTS_COMPUTE_KIT_H
#define JAEDA_TESTS_COMPUTE_KIT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "compute/cpu/cpu.h"
#include "compute/module.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kit_isas[] = { "scalar", "avx2", "avx512", "avx512-vnni", "avx512-bf16" };
enum { KIT_ISAS = 5, KIT_WEIGHTS = 512 };

/* ---- numbers ---- */
static uint64_t kit_seed = 1;
static inline double kit_random(void) { /* -1 .. 1 */
    kit_seed = kit_seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(kit_seed >> 33) / 1073741824.0 - 1.0;
}
static inline double kit_half(const unsigned char *p) {
    _Float16 h;
    memcpy(&h, p, 2);
    return (double)h;
}
static inline void kit_put_half(unsigned char *p, double v) {
    const _Float16 h = (_Float16)v;
    memcpy(p, &h, 2);
}

/* ---- a checkpoint ---- */
static struct kit_source {
    struct weight *w;
    unsigned char *bytes;
    void *block; /* to be freed; NULL: another's */
} kit_source[KIT_WEIGHTS];
static int kit_sources;

/* Numbers and bytes of a block, and where its f16 scale (and minimum) stand. */
struct kit_block {
    int numbers, bytes, scale, minimum;
};
static inline struct kit_block kit_block_of(enum dtype dt) {
    static const struct kit_block of[] = {
        [DTYPE_F32] = { 1, 4, -1, -1 },    [DTYPE_F16] = { 1, 2, -1, -1 },       [DTYPE_BF16] = { 1, 2, -1, -1 },
        [DTYPE_Q4_0] = { 32, 18, 0, -1 },  [DTYPE_Q4_1] = { 32, 20, 0, 2 },      [DTYPE_Q5_0] = { 32, 22, 0, -1 },
        [DTYPE_Q5_1] = { 32, 24, 0, 2 },   [DTYPE_Q8_0] = { 32, 34, 0, -1 },     [DTYPE_Q4_K] = { 256, 144, 0, 2 },
        [DTYPE_Q5_K] = { 256, 176, 0, 2 }, [DTYPE_Q6_K] = { 256, 210, 208, -1 },
    };
    return of[dt];
}
static inline size_t kit_block_bytes(enum dtype dt) { return (size_t)kit_block_of(dt).bytes; }
static inline int kit_block(enum dtype dt) { return kit_block_of(dt).numbers; }
static inline void kit_encode(unsigned char *p, enum dtype dt, double gain) { /* one block of random numbers */
    float f = (float)(gain * kit_random());
    switch (dt) {
    case DTYPE_F32: memcpy(p, &f, 4); return;
    case DTYPE_F16: kit_put_half(p, (double)f); return;
    case DTYPE_BF16: memcpy(p, (unsigned char *)&f + 2, 2); return;
    default: break;
    }
    const struct kit_block k = kit_block_of(dt);
    for (int i = 0; i < k.bytes; i++) p[i] = (unsigned char)(int)(kit_random() * 128 + 128);
    const double levels = dt == DTYPE_Q8_0 ? 127 : dt == DTYPE_Q5_0 || dt == DTYPE_Q5_1 ? 16 : 8;
    const double bytes = k.numbers == 32    ? 1
                         : dt == DTYPE_Q6_K ? 512
                         : dt == DTYPE_Q5_K ? 126
                                            : 63; /* scales and more */
    kit_put_half(p + k.scale, gain * (fabs(kit_random()) + 0.1) / levels / bytes);
    if (dt == DTYPE_Q8_0 && p[2] < 200) p[2] = 0x80; /* -128 is legal, if unusual */
    if (k.minimum >= 0) kit_put_half(p + k.minimum, (k.numbers == 32 ? -gain : gain / 63) * fabs(kit_random()));
}
/* The 6-bit scale (which 0) or minimum (1) of 32 columns in q4_k and q5_k: of the first four in the low bits of bytes of
 * their own, of the last four in nibbles, their upper bits above those of the first. */
static inline int kit_six(const unsigned char *scales, int b, int which) {
    if (b < 4) return scales[4 * which + b] % 64;
    return (which ? scales[4 + b] / 16 : scales[4 + b] % 16) + scales[4 * which + b - 4] / 64 * 16;
}
/* Number j of a block of 256 (ggml's formats, written down from their description). */
static inline double kit_super(const unsigned char *p, enum dtype dt, int j) {
    const int b = j / 32, in = j % 32;
    if (dt == DTYPE_Q6_K) {
        const int half = j / 128, quarter = j / 32 % 4;
        const int low = p[64 * half + 32 * (quarter % 2) + in] >> (quarter < 2 ? 0 : 4) & 15;
        const int high = p[128 + 32 * half + in] >> 2 * quarter & 3;
        return kit_half(p + 208) * (double)(signed char)p[192 + j / 16] * (double)(low + 16 * high - 32);
    }
    const unsigned char *q = p + (dt == DTYPE_Q5_K ? 48 : 16);
    const int fifth = dt == DTYPE_Q5_K ? p[16 + in] >> b & 1 : 0;
    const int n = (b % 2 ? q[b / 2 * 32 + in] / 16 : q[b / 2 * 32 + in] % 16) + 16 * fifth;
    return kit_half(p) * kit_six(p + 4, b, 0) * n - kit_half(p + 2) * kit_six(p + 4, b, 1);
}
/* Number j of a block. */
static inline double kit_number(const unsigned char *p, enum dtype dt, int j) {
    const struct kit_block k = kit_block_of(dt);
    float f = 0;
    switch (dt) {
    case DTYPE_F32: memcpy(&f, p, 4); return (double)f;
    case DTYPE_F16: return kit_half(p);
    case DTYPE_BF16: memcpy((unsigned char *)&f + 2, p, 2); return (double)f;
    case DTYPE_Q8_0: return kit_half(p) * (double)(signed char)p[2 + j];
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
    case DTYPE_Q6_K: return kit_super(p, dt, j);
    default: break;
    }
    int n = p[k.bytes - 16 + j % 16] >> (j < 16 ? 0 : 4) & 15;
    if (dt == DTYPE_Q5_0 || dt == DTYPE_Q5_1) n += 16 * (p[k.bytes - 20 + j / 8] >> j % 8 & 1);
    if (k.minimum >= 0) return kit_half(p) * n + kit_half(p + 2);
    return kit_half(p) * (n - (dt == DTYPE_Q4_0 ? 8 : 16));
}
/* Element c of row r of the tensor as it lies in the file. */
static inline double kit_raw(const struct weight *w, const unsigned char *bytes, size_t r, int c) {
    const int block = kit_block(w->dt);
    const size_t row_bytes = (size_t)(w->cols / block) * kit_block_bytes(w->dt);
    return kit_number(bytes + r * row_bytes + (size_t)(c / block) * kit_block_bytes(w->dt), w->dt, c % block);
}
static inline const unsigned char *kit_bytes(const struct weight *w) {
    for (int i = 0; i < kit_sources; i++)
        if (kit_source[i].w == w) return kit_source[i].bytes;
    return NULL;
}
/* The number that row r, column c of the weight stands for, row map and pairwise order undone. */
static inline double kit_at(const struct weight *w, int r, int c) {
    if (w->pairs) {
        const int hd = w->pairs, in = r % hd, half = hd / 2;
        r = r - in + (in < half ? 2 * in : 2 * (in - half) + 1);
    }
    const size_t row = (size_t)w->first + (size_t)(r / w->run) * (size_t)w->step + (size_t)(r % w->run);
    const double v = kit_raw(w, kit_bytes(w), row, c);
    return w->want == DTYPE_F16 && w->cols > 1 ? (double)(_Float16)v : v;
}
static inline void kit_share(struct weight *w, const struct weight *tensor) { /* another view of the same tensor */
    kit_source[kit_sources++] = (struct kit_source){ w, (unsigned char *)(uintptr_t)kit_bytes(tensor), NULL };
}
static inline void kit_weight(struct weight *w, const char *name, int rows, int cols, enum dtype dt, double gain) {
    *w = (struct weight){ .rows = rows, .cols = cols, .run = rows, .dt = dt, .want = DTYPE_NONE };
    snprintf(w->name, sizeof w->name, "%s", name);
    const size_t n = (size_t)rows * (size_t)cols / (size_t)kit_block(dt), each = kit_block_bytes(dt);
    unsigned char *bytes = malloc(n * each + 1);
    w->bytes = n * each;
    for (size_t i = 0; i < n; i++) kit_encode(bytes + 1 + i * each, dt, gain); /* never aligned */
    kit_source[kit_sources++] = (struct kit_source){ w, bytes + 1, bytes };
}
static inline void kit_forget(void) {
    while (kit_sources) free(kit_source[--kit_sources].block);
}

/* ---- programs, ready to run ---- */
static const struct backend_api *kit_api =
    &backend_cpu; /* or what JAEDA_TEST_BACKEND names: "cuda", or a module's path */
static struct backend *kit_be;
static struct slab *kit_slab[64];
static int kit_slabs;
/* A device's memory and the host's copy of it, which is what tests read and write. */
static struct kit_twin {
    char *device, *host;
    size_t bytes;
} kit_twin[64];
static int kit_twins;

static inline bool kit_cpu(void) { return kit_api == &backend_cpu; }
static inline void kit_choose(void) {
    struct err e = { 0 };
    const char *name = getenv("JAEDA_TEST_BACKEND");
    if (!name || !*name || !strcmp(name, "cpu") || !kit_cpu()) return;
    if (!(kit_api = module_open(name, &e))) fail_msg("%s", e.text);
}
/* false: this machine does not run that instruction set (a device stands in for "avx2"). isa NULL: the best. */
static inline bool kit_open(const char *isa, int threads) {
    struct err e = { 0 };
    bool one = false; /* of the instruction sets */
    kit_choose();
#if defined(__SANITIZE_THREAD__) /* threads meet in the same places on every instruction set: one of them is enough */
    one = true;
#endif
    if (isa && (one || !kit_cpu()) && strcmp(isa, "avx2") != 0) return false;
    if (isa && kit_cpu())
        setenv("JAEDA_ISA", isa, 1);
    else
        unsetenv("JAEDA_ISA");
    kit_be = kit_api->open(threads, &e);
    unsetenv("JAEDA_ISA");
    if (!kit_be && !kit_cpu()) fail_msg("%s", e.text);
    if (isa && kit_be && kit_cpu()) assert_string_equal(kit_api->isa(kit_be), isa);
    return kit_be != NULL;
}
static inline void kit_close(void) {
    while (kit_slabs) kit_api->drop(kit_be, kit_slab[--kit_slabs]);
    kit_api->close(kit_be);
    kit_be = NULL;
    kit_forget();
}
/* Plans, places and fills what has no place yet. */
static inline void kit_load(struct program *const *p, int n) {
    struct err e = { 0 };
    for (int i = 0; i < n; i++)
        if (program_plan(p[i], &e)) fail_msg("%s", e.text);
    if (kit_api->place(kit_be, p, n, &kit_slab[kit_slabs++], &e)) fail_msg("%s", e.text);
    for (int i = 0; i < kit_sources; i++)
        if (kit_source[i].w->packed && kit_api->fill(kit_be, kit_source[i].w, kit_source[i].bytes, &e))
            fail_msg("%s", e.text);
}
static inline void *kit_memory(size_t bytes) { /* NaN all over, 64-aligned, and a guard that ASan watches */
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes ? bytes : 64)) fail_msg("no memory");
    memset(p, 0xff, bytes);
    return p;
}
static inline char *kit_take(size_t bytes) { /* for the device; NaN too */
    char *host = kit_memory(bytes);
    if (kit_cpu()) return host;
    struct kit_twin *t = &kit_twin[kit_twins++];
    *t = (struct kit_twin){ kit_api->alloc(kit_be, bytes ? bytes : 64), host, bytes };
    if (!t->device) fail_msg("no device memory");
    return t->device;
}
static inline struct kit_twin *kit_twin_of(const char *device) {
    for (int i = 0; i < kit_twins; i++)
        if (kit_twin[i].device == device) return &kit_twin[i];
    return NULL;
}
static inline char *kit_host(const char *device) { /* of one region's beginning */
    struct kit_twin *t = kit_twin_of(device);
    return t ? t->host : (char *)(uintptr_t)device;
}
static inline void kit_free(char *device) {
    struct kit_twin *t = kit_twin_of(device);
    if (t) {
        kit_api->free(kit_be, t->device, t->bytes);
        free(t->host);
        *t = kit_twin[--kit_twins];
    } else
        free(device);
}
/* Where tests find a kept mat: the host's copy. */
static inline float *kit_mat(const struct program *p, struct mat m) {
    return (float *)(void *)(kit_host(p->base[p->area[m.buf].where]) + p->area[m.buf].off);
}
static inline char *kit_kv(const struct program *p) { return kit_host(p->base[REGION_KV]); }
/* kv: of another program's base[REGION_KV], or NULL: its own. */
static inline void kit_link(struct program *p, void *kv) {
    struct err e = { 0 };
    char *arena = kit_take(p->need[REGION_ARENA]);
    if (program_link(p, arena, kv ? kv : kit_take(p->need[REGION_KV]), &e)) fail_msg("%s", e.text);
}
static inline void kit_fini(struct program *p, bool kv_too) {
    char *arena = p->base[REGION_ARENA], *kv = p->base[REGION_KV];
    program_fini(p);
    kit_free(arena);
    if (kv_too) kit_free(kv);
}
static inline void kit_copy(const struct program *p, bool there) {
    struct err e = { 0 };
    for (int i = 0; i < REGION_COUNT; i++) {
        struct kit_twin *t = kit_twin_of(p->base[i]);
        if (!t) continue;
        if (there ? kit_api->put(kit_be, t->device, t->host, t->bytes, &e)
                  : kit_api->get(kit_be, t->host, t->device, t->bytes, &e))
            fail_msg("%s", e.text);
    }
}
static inline int kit_replay(struct program *p, struct step *s, struct watch *w, struct err *e) {
    kit_copy(p, true);
    const int rc = program_replay(p, s, w, e);
    kit_copy(p, false);
    return rc;
}
static inline void kit_run(struct program *p, struct step *s) {
    struct err e = { 0 };
    if (kit_replay(p, s, NULL, &e)) fail_msg("%s", e.text);
}
/* n random rows of a kept mat. */
static inline void kit_input(const struct program *p, struct mat m, int rows) {
    float *x = kit_mat(p, m);
    for (int i = 0; i < rows * m.cols; i++) x[i] = (float)kit_random();
}
static inline bool kit_untouched(const float *p, size_t n) { /* still the NaN that kit_memory wrote */
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &p[i], 4);
        if (u != 0xffffffff) return false;
    }
    return true;
}
/* Rows after the live ones, and what follows the matrix up to the next buffer, must be as they were. */
static inline void kit_guard(const struct program *p, struct mat m, int live) {
    const size_t used = (size_t)live * (size_t)m.cols, all = p->area[m.buf].bytes / sizeof(float);
    assert_true(kit_untouched(kit_mat(p, m) + used, all - used));
}
static inline double kit_diff(const float *a, const float *b, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst)) worst = d;
    }
    return worst;
}
/* Rounds of a test that repeats itself: the emulated device takes a tenth of them. */
static inline int kit_times(int n) {
    const char *name = getenv("JAEDA_TEST_BACKEND");
    return name && strstr(name, "-emu") && n > 10 ? n / 10 : n;
}
/* How far off, relative to the size of its terms, a product of so many rows may be beside what the CPU's may: a device sees
 * more than a few rows as 16-bit numbers (and quantised weights as f16), fewer rows of bf16 as two of them. */
static inline double kit_loose(int rows, enum dtype form) {
    if (kit_cpu() || form == DTYPE_F32) return 0;
    if (rows <= 4) return form == DTYPE_BF16 ? 8e-6 : 0;
    return form == DTYPE_BF16 ? 8e-3 : 1e-3;
}
/* A step of n rows of one sequence from position pos on, all with token 0, the last of them picked. */
static inline struct step kit_step(int n, int pos, int kv) {
    struct step s = { .n = { 0 } };
    int id[ROWS_MAX] = { 0 };
    step_rows(&s, id, n, pos, kv, true);
    return s;
}

#endif
