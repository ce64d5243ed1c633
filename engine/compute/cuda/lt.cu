/* lt.cu - cuBLASLt, opened at run time: the module loads on a machine without it. Which algorithm is
 * fastest for a shape is measured once, or the library's first choice, and remembered. */
#include "base/mem.h"
#include "compute/cuda/lt.h"
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
#define LT_CALLS(X) \
    X(cublasLtCreate) X(cublasLtDestroy) X(cublasLtMatmul) X(cublasLtMatmulDescCreate) X(cublasLtMatmulDescDestroy) \
    X(cublasLtMatmulDescSetAttribute) X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy) \
    X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceDestroy) X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmulAlgoCheck)
/* clang-format on */
enum { SHAPES = 512, CANDIDATES = 8, TIMES = 3 };
struct shape { /* rows: the next power of two */
    int rows, out, cols, x_ld, w_ld, y_ld, kind, add;
};
struct known {
    struct shape shape;
    cublasLtMatmulAlgo_t algo;
};
struct lt {
    void *so;
    cublasLtHandle_t handle;
#define X(name) decltype(&::name) name;
    LT_CALLS(X)
#undef X
    struct known known[SHAPES];
    int n; /* of known, and on: the oldest goes */
};

static int failed(cublasStatus_t s, const char *what, struct err *e) {
    static const struct {
        int code;
        const char *text;
    } names[] = { { CUBLAS_STATUS_NOT_INITIALIZED, "not initialised: no memory left on the GPU?" },
                  { CUBLAS_STATUS_ALLOC_FAILED, "no memory left" },
                  { CUBLAS_STATUS_INVALID_VALUE, "a value is invalid" },
                  { CUBLAS_STATUS_ARCH_MISMATCH, "not for this GPU" },
                  { CUBLAS_STATUS_EXECUTION_FAILED, "a kernel failed" },
                  { CUBLAS_STATUS_NOT_SUPPORTED, "not supported" } };
    if (s == CUBLAS_STATUS_SUCCESS) return STATUS_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == s) return err_set(e, STATUS_DEVICE, "cuBLASLt, %s: %s", what, names[i].text);
    return err_set(e, STATUS_DEVICE, "cuBLASLt, %s: status %d", what, (int)s);
}
int lt_open(struct lt **out, struct err *e) {
    char name[32];
    snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    struct lt *t = *out = (struct lt *)mem_zero(1, sizeof *t);
    if (!t) return err_set(e, STATUS_NOMEM, "no memory for cuBLASLt");
    t->so = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!t->so)
        err_set(e, STATUS_NOTFOUND,
                "%s is not on this machine: prompts take the slow way; install the CUDA toolkit's "
                "libcublas",
                name);
#define X(call)                                                                                                        \
    if (!e->code && !(t->call = (decltype(t->call))dlsym(t->so, #call)))                                               \
        err_set(e, STATUS_NOTFOUND, "%s lacks " #call, name);
    LT_CALLS(X)
#undef X
    if (!e->code) failed(t->cublasLtCreate(&t->handle), "opening it", e);
    if (!e->code) return STATUS_OK;
    lt_close(t);
    *out = NULL;
    return e->code;
}
void lt_close(struct lt *t) {
    if (!t) return;
    if (t->handle) t->cublasLtDestroy(t->handle);
    mem_free(t); /* the library stays open: its threads may outlive any user */
}

struct call { /* what one product needs of the library's objects */
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t w, x, y;
};
static void finish(struct lt *t, struct call *c) {
    if (c->y) t->cublasLtMatrixLayoutDestroy(c->y);
    if (c->x) t->cublasLtMatrixLayoutDestroy(c->x);
    if (c->w) t->cublasLtMatrixLayoutDestroy(c->w);
    if (c->desc) t->cublasLtMatmulDescDestroy(c->desc);
}
/* Rows are the library's columns: y^T = w x^T, all lying as they are. */
static int describe(struct lt *t, struct call *c, const struct product *p, struct err *e) {
    const cudaDataType_t kind = p->kind == DTYPE_F16 ? CUDA_R_16F : p->kind == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const cublasOperation_t turned = CUBLAS_OP_T;
    const uint64_t cols = (uint64_t)p->cols, out = (uint64_t)p->out, rows = (uint64_t)p->rows;
    if (failed(t->cublasLtMatmulDescCreate(&c->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product", e) ||
        failed(t->cublasLtMatmulDescSetAttribute(c->desc, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned),
               "a product", e) ||
        failed(t->cublasLtMatrixLayoutCreate(&c->w, kind, cols, out, p->w_ld), "weights", e) ||
        failed(t->cublasLtMatrixLayoutCreate(&c->x, kind, cols, rows, p->x_ld), "inputs", e))
        return e->code;
    return failed(t->cublasLtMatrixLayoutCreate(&c->y, CUDA_R_32F, out, rows, p->y_ld), "results", e);
}
static struct shape shape_of(const struct product *p) {
    int rows = 1;
    while (rows < p->rows) rows *= 2;
    return { rows, p->out, p->cols, p->x_ld, p->w_ld, p->y_ld, p->kind, p->add };
}
static struct known *recall(struct lt *t, const struct shape *s) {
    for (int i = 0; i < SHAPES && i < t->n; i++)
        if (!memcmp(&t->known[i].shape, s, sizeof *s)) return &t->known[i];
    return NULL;
}
static const cublasLtMatmulAlgo_t *remember(struct lt *t, const struct shape *s, const cublasLtMatmulAlgo_t *algo) {
    struct known *k = recall(t, s);
    if (!k) k = &t->known[t->n++ % SHAPES];
    k->shape = *s;
    k->algo = *algo;
    return &k->algo;
}
/* How many of `most` candidates the library has, best guess first. */
static int candidates(struct lt *t, const struct call *c, const struct product *p, cublasLtMatmulHeuristicResult_t *out,
                      int most, struct err *e) {
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                                    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                                    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                                                    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES };
    const size_t bytes = LT_WORKSPACE;
    const uint32_t alignment = LT_ALIGNMENT; /* else 256 is taken for granted */
    cublasLtMatmulPreference_t preference = NULL;
    int n = 0;
    if (!failed(t->cublasLtMatmulPreferenceCreate(&preference), "an algorithm", e) &&
        !failed(t->cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                                        sizeof bytes),
                "an algorithm", e)) {
        for (int i = 0; i < 4 && !e->code; i++)
            failed(t->cublasLtMatmulPreferenceSetAttribute(preference, aligned[i], &alignment, sizeof alignment),
                   "an algorithm", e);
    }
    if (!e->code)
        failed(t->cublasLtMatmulAlgoGetHeuristic(t->handle, c->desc, c->w, c->x, c->y, c->y, preference, most, out, &n),
               "an algorithm", e);
    if (preference) t->cublasLtMatmulPreferenceDestroy(preference);
    if (!e->code && !n) err_set(e, STATUS_DEVICE, "cuBLASLt has no algorithm for %dx%dx%d", p->rows, p->out, p->cols);
    return e->code ? 0 : n;
}
/* What was found for as many rows may not do for this number of them. */
static const cublasLtMatmulAlgo_t *algorithm(struct lt *t, const struct call *c, const struct product *p,
                                             struct err *e) {
    const struct shape s = shape_of(p);
    const struct known *k = recall(t, &s);
    cublasLtMatmulHeuristicResult_t found;
    if (k && !t->cublasLtMatmulAlgoCheck(t->handle, c->desc, c->w, c->x, c->y, c->y, &k->algo, &found) &&
        found.workspaceSize <= LT_WORKSPACE)
        return &k->algo;
    return candidates(t, c, p, &found, 1, e) ? remember(t, &s, &found.algo) : NULL;
}
static int multiply(struct lt *t, const struct call *c, const struct product *p, const cublasLtMatmulAlgo_t *algo,
                    cudaStream_t stream, struct err *e) {
    const float one = 1, beta = p->add ? 1 : 0;
    return failed(t->cublasLtMatmul(t->handle, c->desc, &one, p->w, c->w, p->x, c->x, &beta, p->y, c->y, p->y, c->y,
                                    algo, p->workspace, LT_WORKSPACE, stream),
                  "a product", e);
}
int lt_multiply(struct lt *t, const struct product *p, cudaStream_t stream, struct err *e) {
    struct call c = {};
    const cublasLtMatmulAlgo_t *algo = describe(t, &c, p, e) ? NULL : algorithm(t, &c, p, e);
    if (algo) multiply(t, &c, p, algo, stream, e);
    finish(t, &c);
    return e->code;
}

/* ---- search ---- */
/* The shortest of some runs, in ms; INFINITY: it does not run. */
static float time_of(struct lt *t, const struct call *c, const struct product *p, const cublasLtMatmulAlgo_t *algo,
                     cudaStream_t stream, const cudaEvent_t at[2]) {
    float best = INFINITY;
    for (int i = 0; i <= TIMES; i++) { /* the first one loads the kernel */
        struct err e = {};
        float ms = 0;
        if (cudaEventRecord(at[0], stream) || multiply(t, c, p, algo, stream, &e) || cudaEventRecord(at[1], stream) ||
            cudaEventSynchronize(at[1]) || cudaEventElapsedTime(&ms, at[0], at[1]))
            return INFINITY;
        if (i && ms < best) best = ms;
    }
    return best;
}
void lt_search(struct lt *t, const struct product *p, cudaStream_t stream) {
    const struct shape s = shape_of(p);
    struct call c = {};
    struct err e = {};
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    cudaEvent_t at[2] = { NULL, NULL };
    if (recall(t, &s)) return;
    const int n = describe(t, &c, p, &e) ? 0 : candidates(t, &c, p, found, CANDIDATES, &e);
    int best = 0;
    float least = INFINITY;
    if (n > 1 && !cudaEventCreate(&at[0]) && !cudaEventCreate(&at[1]))
        for (int i = 0; i < n; i++) {
            const float ms = time_of(t, &c, p, &found[i].algo, stream, at);
            if (ms < least) best = i;
            if (ms < least) least = ms;
        }
    if (n) remember(t, &s, &found[best].algo);
    for (int i = 0; i < 2; i++)
        if (at[i]) cudaEventDestroy(at[i]);
    cudaGetLastError(); /* an algorithm that does not run is no error of the next launch's */
    finish(t, &c);
}
