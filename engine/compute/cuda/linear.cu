/* linear.cu - PROJ: which way a product goes, and the plain way that takes every form and shape in exact fp32. */
#include "compute/cuda/proj.h"
#include <string.h>

enum { THREADS = 256, WARPS = THREADS / WARP };

static const float *vector_of(const struct weight *w) { return w ? (const float *)w->packed->m.p : NULL; }
static void segment(struct dev_seg *to, const struct op_call *c, const struct seg *s) {
    const struct mat *out = &c->m[s->out];
    to->terms = s->terms;
    to->act = s->act;
    to->gate = s->gate;
    to->rope = s->rope;
    to->add = s->add;
    to->out = out->p;
    to->ld = out->ld;
    if (out->dim == DIM_KV) to->kv = cache_of(out);
    for (int t = 0; t < s->terms; t++) to->t[t] = { s->t[t].w->packed->m, vector_of(s->t[t].b), s->t[t].feed };
}
static int kind(const struct weight *) { return 0; }
struct proj proj_of(const struct op_call *c) {
    return c->op == OP_PROJ ? *(const struct proj *)c->priv : fuse_linear(c, kind);
}
void cuda_proj_of(struct dev_proj *to, const struct run *r, const struct op_call *c) {
    const struct proj f = proj_of(c);
    memset(to, 0, sizeof *to);
    for (int i = 0; i < f.norms; i++) {
        const struct norm_of *n = &f.norm[i];
        to->norm[i] = { vector_of(n->g), vector_of(n->b), n->kind, n->eps };
    }
    for (int i = 0; i < f.feeds; i++) {
        const struct mat *x = &c->m[f.feed[i].x];
        to->in[i] = { x->p, x->ld, x->cols, f.feed[i].norm };
    }
    for (int i = 0; i < f.segs; i++) {
        segment(&to->seg[i], c, &f.seg[i]);
        if (!f.seg[i].rope) continue;
        to->angles = c->m[f.angles].p;
        to->head_dim = f.rope.head_dim;
        to->rot = f.rope.rot;
    }
    to->step = r->step;
    to->norms = f.norms;
    to->ins = f.feeds;
    to->segs = f.segs;
}

/* ---- the plain way: one warp a task, one grid row a row of the step ---- */
__device__ static float dot(const struct dev_term *t, int r, const float *x, const struct dev_norm *n, float2 stats) {
    float sum = 0;
    for (int c = lane_of(); c < t->w.cols; c += WARP)
        sum += weight_at(&t->w, r, c) * (n ? normed(n, stats, x[c], c) : x[c]);
    return warp_sum(sum);
}
__global__ void any_kernel(const __grid_constant__ struct dev_proj f, int seg) {
    SMEM(float, red);
    const struct dev_seg *s = &f.seg[seg];
    const int i = (int)blockIdx.y, task = (int)blockIdx.x * WARPS + warp_of(), tasks = tasks_of(&f, s);
    if (STOPPED(f.step)) return;
    float2 stats[2];
    for (int t = 0; t < s->terms; t++) {
        const struct dev_in *in = &f.in[s->t[t].in];
        if (in->norm >= 0) stats[t] = row_stats(in->x + (size_t)i * (size_t)in->ld, in->cols, &f.norm[in->norm], red);
    }
    if (task >= tasks) return;
    const int2 r = task_rows(&f, s, task);
    float v[2][2];
    for (int t = 0; t < s->terms; t++) {
        const struct dev_in *in = &f.in[s->t[t].in];
        const struct dev_norm *n = in->norm >= 0 ? &f.norm[in->norm] : NULL;
        const float *x = in->x + (size_t)i * (size_t)in->ld;
        v[0][t] = dot(&s->t[t], r.x, x, n, stats[t]);
        v[1][t] = r.y < 0 ? 0 : dot(&s->t[t], r.y, x, n, stats[t]);
    }
    if (lane_of() == 0) finish(&f, s, i, r, v[0], v[1]);
}
bool cuda_proj_any(const struct run *r, const struct dev_proj *f, int rows, struct err *e) {
    for (int k = 0; k < f->segs && !e->code; k++) {
        const dim3 grid((unsigned)((tasks_of(f, &f->seg[k]) + WARPS - 1) / WARPS), (unsigned)rows);
        launch(any_kernel, grid, dim3(THREADS), WARPS * sizeof(float), r->stream, *f, k);
        cuda_launched(r->be, "a product", e);
    }
    return true;
}

/* ---- which way ---- */
int cuda_proj(const struct run *r, const struct op_call *c, struct err *e) {
    struct dev_proj f;
    cuda_proj_of(&f, r, c);
    const struct proj p = proj_of(c);
    const struct mat *x = &c->m[p.feed[0].x];
    const int rows = x->dim == DIM_FIXED ? x->rows : r->n[x->dim];
    if (cuda_proj_few(r, &f, rows, e) || e->code) return e->code;
    if (cuda_proj_batch(r, &f, rows, e) || e->code) return e->code;
    if (cuda_proj_many(r, &f, rows, e) || e->code) return e->code;
    cuda_proj_any(r, &f, rows, e);
    return e->code;
}
size_t cuda_proj_scratch(const struct backend *be, const struct op_call *c) {
    const size_t batch = cuda_proj_batch_scratch(c), many = cuda_proj_many_scratch(be, c);
    return batch > many ? batch : many;
}
