/* rows.cu - ops whose tasks are rows of activations: one block a row. */
#include "compute/cuda/cuda.h"
#include "compute/cuda/unpack.h"

enum { THREADS = 256 };

/* ---- EMBED: vets the step block, notes each id beside its KV row ---- */
/* As the CPU's: row i has a next place, what it sees lies in the pool, no row before it writes what it writes, and what it
 * asks of a mask lies in the mask. All threads of the block take part. */
__device__ static bool fits(const struct step *s, int i, int kv_rows) {
    const struct step_row r = s->row[i];
    bool ok = r.pos >= 0 && r.pos != INT32_MAX && r.mask >= 0 && r.mask <= BEAMS_MAX && r.kv >= 0 && r.at >= 0 &&
              r.at < kv_rows - r.kv;
    for (int k = (int)threadIdx.x; k < i; k += (int)blockDim.x)
        ok = ok && (int64_t)s->row[k].kv + s->row[k].at != (int64_t)r.kv + r.at;
    if (ok && r.mask) {
        const struct kv_mask *m = &s->mask[r.mask - 1];
        ok = m->from >= 0 && r.at - m->from < 32 * MASK_WORDS;
    }
    return ok;
}
__global__ void vet_kernel(struct step *s, int ids, int kv_rows, int call) {
    const int i = (int)blockIdx.x;
    if (STOPPED(s)) return;
    if (threadIdx.x == 0 && (s->row[i].id < 0 || s->row[i].id >= ids)) stop_step(s, STOP_TOKEN, call);
    if (!fits(s, i, kv_rows)) stop_step(s, STOP_KV, call);
}
__global__ void embed_kernel(float *y, int *history, struct matrix table, const float *images, const struct step *s) {
    const int i = (int)blockIdx.x;
    if (STOPPED(s)) return;
    const struct step_row r = s->row[i];
    if (threadIdx.x == 0) history[r.kv + r.at] = r.id;
    for (int c = (int)threadIdx.x; c < table.cols; c += (int)blockDim.x)
        y[(size_t)i * (size_t)table.cols + c] = r.id < table.rows
                                                    ? weight_at(&table, r.id, c)
                                                    : images[(size_t)(r.id - table.rows) * (size_t)table.cols + c];
}
int cuda_embed(const struct run *r, const struct op_call *c, struct err *e) {
    const dim3 rows((unsigned)r->n[DIM_ROWS]);
    const struct matrix table = c->w[0]->packed->m;
    const struct mat *images = c->n > 2 ? &c->m[2] : NULL;
    launch(vet_kernel, rows, dim3(THREADS), 0, r->stream, r->step, table.rows + (images ? images->rows : 0),
           r->p->kv_rows, r->call);
    launch(embed_kernel, rows, dim3(THREADS), 0, r->stream, c->m[0].p, (int *)c->m[1].p, table,
           images ? (const float *)images->p : NULL, (const struct step *)r->step);
    return cuda_launched(r->be, "embed", e);
}

/* ---- ANGLES: in fp32 throughout, as the reference framework computes them ---- */
__global__ void angles_kernel(float *y, int rot, float theta, const struct step *s) {
    const int i = (int)blockIdx.x, half = rot / 2;
    if (STOPPED(s)) return;
    for (int j = (int)threadIdx.x; j < half; j += (int)blockDim.x) {
        const float inverse = 1.0f / powf(theta, (float)(2 * j) / (float)rot), a = (float)s->row[i].pos * inverse;
        y[i * rot + j] = cosf(a);
        y[i * rot + j + half] = sinf(a);
    }
}
int cuda_angles(const struct run *r, const struct op_call *c, struct err *e) {
    launch(angles_kernel, dim3((unsigned)r->n[DIM_ROWS]), dim3(128), 0, r->stream, c->m[0].p, c->u.rope.rot,
           c->u.rope.theta, (const struct step *)r->step);
    return cuda_launched(r->be, "angles", e);
}

/* ---- NORM ---- */
struct norm_args {
    float *y;
    const float *x;
    int cols;
    struct dev_norm n;
    const struct step *step;
};
__global__ void norm_kernel(struct norm_args a) {
    SMEM(float, red);
    if (STOPPED(a.step)) return;
    const float *x = a.x + (size_t)blockIdx.x * (size_t)a.cols;
    float *y = a.y + (size_t)blockIdx.x * (size_t)a.cols, mean = 0, square = 0;
    if (a.n.kind == NORM_LAYER) {
        for (int j = (int)threadIdx.x; j < a.cols; j += (int)blockDim.x) mean += x[j];
        mean = block_sum(mean, red) / (float)a.cols;
    }
    for (int j = (int)threadIdx.x; j < a.cols; j += (int)blockDim.x) square += (x[j] - mean) * (x[j] - mean);
    const float inverse = 1.0f / sqrtf(block_sum(square, red) / (float)a.cols + a.n.eps);
    for (int j = (int)threadIdx.x; j < a.cols; j += (int)blockDim.x)
        y[j] = (x[j] - mean) * inverse * a.n.g[j] + (a.n.b ? a.n.b[j] : 0);
}
static const float *vector_of(const struct weight *w) { return w ? (const float *)w->packed->m.p : NULL; }
int cuda_norm(const struct run *r, const struct op_call *c, struct err *e) {
    const struct norm_of *n = &c->u.norm;
    const int rows = c->m[0].dim == DIM_FIXED ? c->m[0].rows : r->n[c->m[0].dim];
    const struct norm_args a = {
        c->m[0].p, c->m[1].p, c->m[1].cols, { vector_of(n->g), vector_of(n->b), n->kind, n->eps }, r->step
    };
    launch(norm_kernel, dim3((unsigned)rows), dim3(THREADS), THREADS / WARP * sizeof(float), r->stream, a);
    return cuda_launched(r->be, c->label, e);
}

/* ---- ROPE, GATE, ADD, PICK ---- */
__global__ void rope_kernel(float *x, const float *angles, int cols, struct rope rope, const struct step *s) {
    const int half = rope.rot / 2, pairs = cols / rope.head_dim * half;
    if (STOPPED(s)) return;
    const float *t = angles + (size_t)blockIdx.x * (size_t)rope.rot;
    for (int k = (int)threadIdx.x; k < pairs; k += (int)blockDim.x) {
        const int j = k % half;
        float *v = x + (size_t)blockIdx.x * (size_t)cols + (size_t)(k / half) * (size_t)rope.head_dim + j;
        const float a = v[0], b = v[half], cs = t[j], sn = t[j + half];
        v[0] = a * cs - b * sn;
        v[half] = b * cs + a * sn;
    }
}
int cuda_rope(const struct run *r, const struct op_call *c, struct err *e) {
    launch(rope_kernel, dim3((unsigned)r->n[DIM_ROWS]), dim3(THREADS), 0, r->stream, c->m[0].p,
           (const float *)c->m[1].p, c->m[0].cols, c->u.rope, (const struct step *)r->step);
    return cuda_launched(r->be, "rope", e);
}
__global__ void gate_kernel(float *y, const float *g, const float *up, int cols, enum act act, const struct step *s) {
    if (STOPPED(s)) return;
    const size_t at = (size_t)blockIdx.x * (size_t)cols;
    for (int j = (int)threadIdx.x; j < cols; j += (int)blockDim.x) y[at + j] = act_of(act, g[at + j]) * up[at + j];
}
static dim3 rows_of(const struct run *r, const struct mat *m) {
    return dim3((unsigned)(m->dim == DIM_FIXED ? m->rows : r->n[m->dim]));
}
int cuda_gate(const struct run *r, const struct op_call *c, struct err *e) {
    launch(gate_kernel, rows_of(r, &c->m[0]), dim3(THREADS), 0, r->stream, c->m[0].p, (const float *)c->m[1].p,
           (const float *)c->m[2].p, c->m[0].cols, c->u.act, (const struct step *)r->step);
    return cuda_launched(r->be, "gate", e);
}
__global__ void add_kernel(float *y, const float *x, int cols, const struct step *s) {
    if (STOPPED(s)) return;
    const size_t at = (size_t)blockIdx.x * (size_t)cols;
    for (int j = (int)threadIdx.x; j < cols; j += (int)blockDim.x) y[at + j] += x[at + j];
}
int cuda_add(const struct run *r, const struct op_call *c, struct err *e) {
    launch(add_kernel, rows_of(r, &c->m[0]), dim3(THREADS), 0, r->stream, c->m[0].p, (const float *)c->m[1].p,
           c->m[0].cols, (const struct step *)r->step);
    return cuda_launched(r->be, "residual", e);
}
__global__ void pick_kernel(float *y, const float *x, int cols, const struct step *s) {
    if (STOPPED(s)) return;
    const float *from = x + (size_t)s->pick[blockIdx.x] * (size_t)cols;
    for (int j = (int)threadIdx.x; j < cols; j += (int)blockDim.x) y[(size_t)blockIdx.x * (size_t)cols + j] = from[j];
}
int cuda_pick(const struct run *r, const struct op_call *c, struct err *e) {
    launch(pick_kernel, rows_of(r, &c->m[0]), dim3(THREADS), 0, r->stream, c->m[0].p, (const float *)c->m[1].p,
           c->m[0].cols, (const struct step *)r->step);
    return cuda_launched(r->be, "pick", e);
}
