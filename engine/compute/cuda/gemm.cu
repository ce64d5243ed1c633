/* gemm.cu - PROJ for many rows: inputs become rows of 16-bit numbers (normalised on the way), quantised weights become f16
 * a slab at a time, cuBLASLt multiplies, and what follows a product is done where its results go: straight onto the
 * residual, or in one pass over them. */
#include "compute/cuda/lt.h"
#include "compute/cuda/proj.h"

enum { THREADS = 256, FEW = 4, SLAB = 64 << 20, PROBE_RUNS = 5, SEARCH_FROM = 16 };
static size_t up(size_t n) { return (n + 255) / 256 * 256; }
static enum dtype kind_of(enum dtype form) { return form == DTYPE_F32 || form == DTYPE_BF16 ? form : DTYPE_F16; }
static size_t bytes_of(enum dtype kind) { return kind == DTYPE_F32 ? 4 : 2; }
static bool plain(const struct dev_seg *s) { return !s->act && !s->gate && !s->rope && !s->kv.p; }

/* ---- kernels ---- */
struct feeding {
    struct dev_in in;
    struct dev_norm norm;
    void *to;
    int ld;
    enum dtype kind;
    const struct step *step;
};
__global__ void feed_kernel(const __grid_constant__ struct feeding f) {
    SMEM(float, red);
    if (STOPPED(f.step)) return;
    const float *x = f.in.x + (size_t)blockIdx.x * (size_t)f.in.ld;
    const size_t at = (size_t)blockIdx.x * (size_t)f.ld;
    float2 stats = make_float2(0, 0);
    if (f.in.norm >= 0) stats = row_stats(x, f.in.cols, &f.norm, red);
    for (int j = (int)threadIdx.x; j < f.ld; j += (int)blockDim.x) {
        const float v = j >= f.in.cols ? 0 : f.in.norm >= 0 ? normed(&f.norm, stats, x[j], j) : x[j];
        if (f.kind == DTYPE_F32) ((float *)f.to)[at + j] = v;
        if (f.kind == DTYPE_F16) ((uint16_t *)f.to)[at + j] = f32_to_f16(v);
        if (f.kind == DTYPE_BF16) ((uint16_t *)f.to)[at + j] = f32_to_bf16(v);
    }
}
__global__ void unpack_kernel(struct matrix m, int from, uint16_t *to, const struct step *s) {
    if (STOPPED(s)) return;
    const int r = from + (int)blockIdx.x;
    for (int c = (int)threadIdx.x; c < m.ld; c += (int)blockDim.x)
        to[(size_t)blockIdx.x * (size_t)m.ld + c] = c < m.cols ? f32_to_f16(weight_at(&m, r, c)) : 0;
}
__device__ static float total(const struct products *p, int rows, int i, int r) {
    float sum = 0;
    for (int k = 0; k < p->n; k++) sum += p->p[((size_t)k * (size_t)rows + (size_t)i) * (size_t)p->out + r];
    return sum;
}
__global__ void finish_kernel(const __grid_constant__ struct ending a) {
    const int seg = a.from + (int)blockIdx.z, i = (int)blockIdx.y;
    const struct dev_seg *s = &a.f.seg[seg];
    const int task = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (STOPPED(a.f.step) || task >= tasks_of(&a.f, s)) return;
    const int2 r = task_rows(&a.f, s, task);
    float x[2] = { 0, 0 }, y[2] = { 0, 0 };
    for (int t = 0; t < s->terms; t++) {
        x[t] = total(&a.of[seg][t], a.rows, i, r.x);
        if (r.y >= 0) y[t] = total(&a.of[seg][t], a.rows, i, r.y);
    }
    finish(&a.f, s, i, r, x, y);
}
__global__ void bias_kernel(float *y, int ld, const float *a, const float *b, int n, const struct step *s) {
    const int j = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (STOPPED(s) || j >= n) return;
    y[(size_t)blockIdx.y * (size_t)ld + j] += (a ? a[j] : 0) + (b ? b[j] : 0);
}

int cuda_proj_feed(const struct run *r, const struct dev_proj *f, int k, int rows, struct fed to, struct err *e) {
    struct feeding a = { f->in[k], {}, to.p, to.ld, to.kind, r->step };
    if (a.in.norm >= 0) a.norm = f->norm[a.in.norm];
    launch(feed_kernel, dim3((unsigned)rows), dim3(THREADS), THREADS / WARP * sizeof(float), r->stream, a);
    return cuda_launched(r->be, "a product's inputs", e);
}

int cuda_proj_end(const struct run *r, struct ending *a, int from, int n, struct err *e) {
    int most = 0;
    for (int k = from; k < from + n; k++)
        if (tasks_of(&a->f, &a->f.seg[k]) > most) most = tasks_of(&a->f, &a->f.seg[k]);
    const dim3 grid((unsigned)((most + THREADS - 1) / THREADS), (unsigned)a->rows, (unsigned)n);
    a->from = from;
    launch(finish_kernel, grid, dim3(THREADS), 0, r->stream, *a);
    return cuda_launched(r->be, "a product's end", e);
}

/* ---- one PROJ ---- */
struct many { /* pieces of scratch */
    const struct run *r;
    const struct dev_proj *f;
    int rows;
    char *feed[2], *slab, *product[2], *workspace;
    int fed[2];  /* which input lies in feed[i], of which kind and length; -1: none */
    bool search; /* nothing is computed: the fastest way for each product is looked for */
};
static int feed(struct many *m, int slot, int in, const struct matrix *w, struct err *e) {
    const enum dtype kind = kind_of(w->form);
    const int what = (in * 64 + (int)kind) * 65536 + w->ld / 64; /* forms are padded differently */
    if (m->fed[slot] == what || m->search) return STATUS_OK;
    m->fed[slot] = what;
    return cuda_proj_feed(m->r, m->f, in, m->rows, { m->feed[slot], w->ld, kind }, e);
}
/* y = (y +) the fed rows times one matrix. */
static int multiply(struct many *m, int slot, const struct matrix *w, float *y, int y_ld, bool add, struct err *e) {
    const enum dtype kind = kind_of(w->form);
    const bool packed = kind == DTYPE_F16 && w->form != DTYPE_F16;
    const int fit = (int)(SLAB / ((size_t)w->ld * 2)) / 64 * 64; /* so that each slab's results begin aligned */
    const int each = !packed ? w->rows : fit ? fit : 64;
    struct product p = { m->feed[slot], w->p, y, m->rows, 0, w->ld, w->ld, w->ld, y_ld, kind, add, m->workspace };
    for (int from = 0; from < w->rows && !e->code; from += each) {
        p.out = w->rows - from < each ? w->rows - from : each;
        p.y = y + from;
        if (packed) p.w = m->slab;
        if (m->search) {
            lt_search(m->r->be->lt, &p, m->r->stream);
            continue;
        }
        if (packed)
            launch(unpack_kernel, dim3((unsigned)p.out), dim3(THREADS), 0, m->r->stream, *w, from, (uint16_t *)m->slab,
                   (const struct step *)m->r->step);
        if (!cuda_launched(m->r->be, "weights as f16", e)) lt_multiply(m->r->be->lt, &p, m->r->stream, e);
    }
    return e->code;
}
/* Nothing follows but biases and the residual: results go where they belong at once. */
static int straight(struct many *m, const struct dev_seg *s, struct err *e) {
    const dim3 grid((unsigned)((s->t[0].w.rows + THREADS - 1) / THREADS), (unsigned)m->rows);
    for (int t = 0; t < s->terms; t++)
        if (feed(m, t, s->t[t].in, &s->t[t].w, e) || multiply(m, t, &s->t[t].w, s->out, s->ld, s->add || t, e))
            return e->code;
    const float *a = s->t[0].bias, *b = s->terms == 2 ? s->t[1].bias : NULL;
    if ((!a && !b) || m->search) return STATUS_OK;
    launch(bias_kernel, grid, dim3(THREADS), 0, m->r->stream, s->out, s->ld, a, b, s->t[0].w.rows,
           (const struct step *)m->r->step);
    return cuda_launched(m->r->be, "biases", e);
}
static int in_two_passes(struct many *m, int seg, struct err *e) {
    const struct dev_seg *s = &m->f->seg[seg];
    struct ending a = { *m->f, {}, m->rows, 0 };
    for (int t = 0; t < s->terms; t++) {
        const int into = s->gate ? t : 0;
        a.of[seg][into] = { (const float *)m->product[into], s->t[t].w.rows, 1 };
        if (feed(m, t, s->t[t].in, &s->t[t].w, e) ||
            multiply(m, t, &s->t[t].w, (float *)m->product[into], s->t[t].w.rows, t && !s->gate, e))
            return e->code;
    }
    return m->search ? STATUS_OK : cuda_proj_end(m->r, &a, seg, 1, e);
}

/* ---- scratch ---- */
struct sizes {
    size_t feed[2], slab, product[2];
};
static void most(size_t *to, size_t n) {
    if (n > *to) *to = n;
}
static struct sizes sizes_of(const struct op_call *c) {
    struct sizes s = { { 0, 0 }, 0, { 0, 0 } };
    const struct proj f = proj_of(c);
    for (int i = 0; i < f.segs; i++)
        for (int t = 0; t < f.seg[i].terms; t++) {
            const struct weight *w = f.seg[i].t[t].w;
            const enum dtype form = weight_form(w), kind = kind_of(form);
            const size_t ld = ((size_t)w->cols + 127) / 128 * 128, rows = (size_t)c->m[f.seg[i].t[t].x].rows;
            most(&s.feed[t], rows * ld * bytes_of(kind));
            if (kind == DTYPE_F16 && form != DTYPE_F16) most(&s.slab, SLAB + 64 * ld * 2);
            most(&s.product[t], rows * (size_t)w->rows * sizeof(float));
        }
    return s;
}
size_t cuda_proj_many_scratch(const struct backend *, const struct op_call *c) {
    const struct proj f = proj_of(c);
    const int rows = c->m[f.feed[0].x].rows;
    if (rows <= FEW || cuda_proj_batch_takes(c, rows)) return 0;
    const struct sizes s = sizes_of(c);
    return up(s.feed[0]) + up(s.feed[1]) + up(s.slab) + up(s.product[0]) + up(s.product[1]) + LT_WORKSPACE;
}
static bool many(const struct run *r, const struct dev_proj *f, int rows, bool search, struct err *e) {
    const struct op_call *c = &r->p->call[r->call];
    if (!r->be->lt || !cuda_proj_many_scratch(r->be, c)) return false;
    const struct sizes s = sizes_of(c);
    struct many m = { r, f, rows, {}, NULL, {}, NULL, { -1, -1 }, search };
    m.feed[0] = r->scratch;
    m.feed[1] = m.feed[0] + up(s.feed[0]);
    m.slab = m.feed[1] + up(s.feed[1]);
    m.product[0] = m.slab + up(s.slab);
    m.product[1] = m.product[0] + up(s.product[0]);
    m.workspace = m.product[1] + up(s.product[1]);
    for (int i = 0; i < f->segs && !e->code; i++)
        if (plain(&f->seg[i]))
            straight(&m, &f->seg[i], e);
        else
            in_two_passes(&m, i, e);
    return true;
}
bool cuda_proj_many(const struct run *r, const struct dev_proj *f, int rows, struct err *e) {
    return many(r, f, rows, false, e);
}
int cuda_proj_search(const struct run *r, const struct op_call *c, struct err *e) {
    struct dev_proj f;
    cuda_proj_of(&f, r, c);
    const struct mat *x = &c->m[proj_of(c).feed[0].x];
    const int most = x->rows;
    for (int rows = x->dim == DIM_FIXED ? most : SEARCH_FROM; rows < 2 * most && !e->code; rows *= 2)
        if (!cuda_proj_batch_takes(c, rows < most ? rows : most)) many(r, &f, rows < most ? rows : most, true, e);
    return e->code;
}
int cuda_lt_open(struct backend *be, struct err *e) { return lt_open(&be->lt, e); }
void cuda_lt_close(struct backend *be) { lt_close(be->lt); }

/* ---- the rate of a large product ---- */
int cuda_peak_gemm(struct backend *be, enum dtype dt, double *tflops, struct err *e) {
    const int n = be->sms * 64 / 256 * 256 < 256 ? 256 : be->sms * 64 / 256 * 256; /* some whole waves of tiles */
    const size_t bytes = (size_t)n * (size_t)n * bytes_of(dt), results = (size_t)n * (size_t)n * sizeof(float);
    char *p = NULL;
    cudaEvent_t at[2] = { NULL, NULL };
    if (cuda_check(be, cudaMalloc((void **)&p, 2 * bytes + results + LT_WORKSPACE), "measuring", e) ||
        cuda_check(be, cudaMemsetAsync(p, 0x2c, 2 * bytes, be->stream), "measuring", e)) /* small numbers, not zeros */
        return cudaFree(p), e->code;
    const struct product q = { p,  p + bytes, (float *)(p + 2 * bytes), n, n, n, n, n, n,
                               dt, false,     p + 2 * bytes + results };
    for (int i = 0; i < 2; i++) cuda_check(be, cudaEventCreate(&at[i]), "measuring", e);
    for (int i = 0; i < PROBE_RUNS && !e->code; i++) {
        float ms = 0;
        if (cuda_check(be, cudaEventRecord(at[0], be->stream), "measuring", e) ||
            lt_multiply(be->lt, &q, be->stream, e) ||
            cuda_check(be, cudaEventRecord(at[1], be->stream), "measuring", e) ||
            cuda_check(be, cudaEventSynchronize(at[1]), "measuring", e) ||
            cuda_check(be, cudaEventElapsedTime(&ms, at[0], at[1]), "measuring", e))
            break;
        const double rate = 2e-9 * (double)n * (double)n * (double)n / (double)ms;
        if (rate > *tflops) *tflops = rate;
    }
    for (int i = 0; i < 2; i++)
        if (at[i]) cudaEventDestroy(at[i]);
    cudaStreamSynchronize(be->stream);
    cudaFree(p);
    return e->code;
}
