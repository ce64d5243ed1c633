/* attention.cu - keys and values into the cache, and attention for any shape: a block takes one head of one row over a share
 * of its keys (flash decoding: online softmax, shares merged by the last block to arrive, always in the same order). How
 * many shares there are depends on the device and the step's rows, never on the context: one graph serves every context. */
#include "compute/cuda/attention.h"

enum { THREADS = 128, WARPS = THREADS / WARP, BATCH = 4, SHARE_LEAST = 64, SHARES_MOST = 32, DIMS = 8, SMS_MOST = 132 };

/* ---- KV_PUT: a warp a head of a row ---- */
__global__ void kv_put_kernel(struct cache k, const float *x, const struct step *s) {
    if (STOPPED(s)) return;
    const struct step_row *at = &s->row[blockIdx.x];
    const int t = at->kv + at->at;
    for (int h = warp_of(); h < k.heads; h += (int)blockDim.x / WARP) {
        const float *v = x + ((size_t)blockIdx.x * (size_t)k.heads + (size_t)h) * (size_t)k.head_dim;
        char *p = cache_at(&k, h, t);
        float most = 0;
        for (int d = lane_of(); d < k.head_dim; d += WARP) most = fmaxf(most, fabsf(v[d]));
        most = warp_max(most);
        const uint16_t scale = f32_to_f16(most / 127.0f);
        const float inverse = f16_to_f32(scale) > 0 ? 1.0f / f16_to_f32(scale) : 0;
        for (int d = lane_of(); d < k.head_dim; d += WARP) {
            if (k.dt == DTYPE_F32) ((float *)p)[d] = v[d];
            if (k.dt == DTYPE_F16) ((uint16_t *)p)[d] = f32_to_f16(v[d]);
            if (k.dt == DTYPE_Q8_0)
                ((signed char *)p)[d] = (signed char)rintf(fmaxf(fminf(v[d] * inverse, 127.0f), -127.0f));
        }
        if (k.dt == DTYPE_Q8_0 && lane_of() == 0) *cache_scale(&k, h, t) = scale;
    }
}
int cuda_kv_put(const struct run *r, const struct op_call *c, struct err *e) {
    launch(kv_put_kernel, dim3((unsigned)r->n[DIM_ROWS]), dim3(THREADS), 0, r->stream, cache_of(&c->m[0]),
           (const float *)c->m[1].p, (const struct step *)r->step);
    return cuda_launched(r->be, c->label, e);
}

/* ---- ATTN ---- */
struct share { /* of one head of one row: what one warp or block has found so far; each lane holds DIMS dimensions */
    float most, sum, v[DIMS];
};
__device__ static void merge(struct share *a, float most, float sum, const float *v) {
    const float top = fmaxf(a->most, most);
    const float x = a->most > -INFINITY ? expf(a->most - top) : 0, y = most > -INFINITY ? expf(most - top) : 0;
    a->most = top;
    a->sum = a->sum * x + sum * y;
    for (int d = 0; d < DIMS; d++) a->v[d] = a->v[d] * x + v[d] * y;
}
/* Dimensions d0.. of row t of one head; those from head_dim on are 0. */
__device__ static void load_row(float *y, const struct attn_side *k, const struct attn_args *a, int head, int t,
                                int d0) {
    const size_t at = (size_t)head * k->head_stride + (size_t)t * k->row_stride + (size_t)d0;
    const int n = a->head_dim - d0;
    if (a->wide && n >= DIMS && k->dt == DTYPE_F16) {
        const uint4 u = load16((const uint16_t *)k->p + at);
        const uint32_t w[4] = { u.x, u.y, u.z, u.w };
        for (int i = 0; i < 4; i++) {
            const float2 two = unpack_f16(w[i]);
            y[2 * i] = two.x;
            y[2 * i + 1] = two.y;
        }
        return;
    }
    const float scale = k->dt == DTYPE_Q8_0 ? f16_to_f32(k->scale[(size_t)head * (size_t)a->rows + (size_t)t]) : 1;
    if (a->wide && n >= DIMS && k->dt == DTYPE_Q8_0) {
        const uint2 u = *(const uint2 *)((const signed char *)k->p + at);
        for (int i = 0; i < DIMS; i++) y[i] = scale * (float)(signed char)((i < 4 ? u.x : u.y) >> 8 * (i % 4));
        return;
    }
#pragma unroll
    for (int i = 0; i < DIMS; i++) {
        y[i] = 0;
        if (i < n && k->dt == DTYPE_F32) y[i] = ((const float *)k->p)[at + i];
        if (i < n && k->dt == DTYPE_F16) y[i] = f16_to_f32(((const uint16_t *)k->p)[at + i]);
        if (i < n && k->dt == DTYPE_Q8_0) y[i] = scale * (float)((const signed char *)k->p)[at + i];
    }
}
/* BATCH keys from t on, `apart` rows apart, by the LANES lanes that share a key; what lies behind `to` counts nothing. */
template <int LANES>
__device__ static void some_keys(struct share *mine, const float *q, const struct attn_args *a, struct attn_at w, int t,
                                 int to) {
    float k[BATCH][DIMS], v[BATCH][DIMS], score[BATCH], top = mine->most;
    const int apart = WARPS * WARP / LANES, d0 = lane_of() % LANES * DIMS;
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
        const int row = t + i * apart < to ? t + i * apart : w.from;
        load_row(k[i], &a->k, a, w.kv_head, w.base + row, d0);
        load_row(v[i], &a->v, a, w.kv_head, w.base + row, d0);
    }
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
        float s = 0;
        for (int d = 0; d < DIMS; d++) s += q[d] * k[i][d];
        for (int m = LANES / 2; m > 0; m /= 2) s += __shfl_xor_sync(FULL, s, m);
        const bool seen = t + i * apart < to && (!a->causal || row_sees(a->step, &a->step->row[w.row], t + i * apart));
        score[i] = seen ? s : -INFINITY;
        top = fmaxf(top, score[i]);
    }
    if (top == -INFINITY) return;
    const float old = mine->most > -INFINITY ? expf(mine->most - top) : 0;
    mine->most = top;
    mine->sum *= old;
    for (int d = 0; d < DIMS; d++) mine->v[d] *= old;
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
        if (score[i] == -INFINITY) continue;
        const float p = expf(score[i] - top);
        mine->sum += p;
        for (int d = 0; d < DIMS; d++) mine->v[d] += p * v[i][d];
    }
}
/* The warp's lanes that hold the same dimensions, then the block's warps: afterwards warp 0's first lanes hold all. */
template <int LANES> __device__ static void gather(struct share *mine, float *room) {
    for (int m = LANES; m < WARP; m *= 2) {
        float v[DIMS];
        const float most = __shfl_xor_sync(FULL, mine->most, m), sum = __shfl_xor_sync(FULL, mine->sum, m);
        for (int d = 0; d < DIMS; d++) v[d] = __shfl_xor_sync(FULL, mine->v[d], m);
        merge(mine, most, sum, v);
    }
    float *at = room + (size_t)threadIdx.x * (DIMS + 2);
    if (lane_of() < LANES) {
        at[0] = mine->most;
        at[1] = mine->sum;
        for (int d = 0; d < DIMS; d++) at[2 + d] = mine->v[d];
    }
    __syncthreads(); /* every warp's share is in room */
    if (threadIdx.x >= LANES) return;
    for (int w = 1; w < WARPS; w++) {
        at = room + (size_t)(w * WARP + (int)threadIdx.x) * (DIMS + 2);
        merge(mine, at[0], at[1], at + 2);
    }
}
__device__ static void put_out(const struct attn_args *a, const struct attn_at *w, const struct share *all) {
    float *y = a->y + (size_t)w->row * (size_t)a->y_ld + (size_t)w->head * (size_t)a->head_dim;
    for (int i = 0, d = (int)threadIdx.x * DIMS; i < DIMS && d < a->head_dim; i++, d++)
        y[d] = all->sum > 0 ? all->v[i] / all->sum : 0;
}
/* Leaves this block's share in scratch; the last of `shares` blocks to come merges them in order. Only threads that hold
 * dimensions get here with a share; all threads of the block take part. */
template <int LANES>
__device__ static void hand_in(const struct attn_args *a, const struct attn_at *w, struct share *mine, int shares) {
    SMEM(float, room);
    const size_t each = (size_t)LANES * (DIMS + 2), place = (size_t)w->row * (size_t)a->heads + (size_t)w->head;
    float *first = a->scratch + place * SHARES_MOST * each;
    if (threadIdx.x < LANES) {
        float *at = first + (size_t)blockIdx.x * each + (size_t)threadIdx.x * (DIMS + 2);
        at[0] = mine->most;
        at[1] = mine->sum;
        for (int d = 0; d < DIMS; d++) at[2 + d] = mine->v[d];
    }
    __threadfence(); /* before the block is counted */
    __syncthreads(); /* the whole share is written */
    if (threadIdx.x == 0) room[0] = (float)atomicAdd(&a->counter[place], 1u);
    __syncthreads(); /* everybody knows who is last */
    if ((int)room[0] != shares - 1) return;
    __threadfence(); /* what the others wrote before they counted */
    if (threadIdx.x == 0) a->counter[place] = 0;
    if (threadIdx.x >= LANES) return;
    *mine = { -INFINITY, 0, {} };
    for (int i = 0; i < shares; i++) {
        const volatile float *at = first + (size_t)i * each + (size_t)threadIdx.x * (DIMS + 2);
        float v[DIMS];
        for (int d = 0; d < DIMS; d++) v[d] = at[2 + d];
        merge(mine, at[0], at[1], v);
    }
    put_out(a, w, mine);
}
template <int LANES> __device__ static void one_query(const struct attn_args *a, int row) {
    SMEM(float, room);
    struct attn_at w = { row, (int)blockIdx.y, (int)blockIdx.y / (a->heads / a->kv_heads), 0, 0 };
    int len = a->rows;
    if (!a->causal) w.base = row / a->block * a->rows;
    if (a->causal) {
        w.base = a->step->row[row].kv;
        len = a->step->row[row].at + 1;
    }
    int per = (len + (int)gridDim.x - 1) / (int)gridDim.x;
    per = per < SHARE_LEAST ? SHARE_LEAST : (per + SHARE_LEAST - 1) / SHARE_LEAST * SHARE_LEAST;
    const int shares = (len + per - 1) / per;
    w.from = (int)blockIdx.x * per;
    if (w.from >= len) return;
    const int to = w.from + per < len ? w.from + per : len, d0 = lane_of() % LANES * DIMS, keys = WARP / LANES;
    const float *x = a->q + (size_t)row * (size_t)a->q_ld + (size_t)w.head * (size_t)a->head_dim;
    float q[DIMS];
    for (int d = 0; d < DIMS; d++) q[d] = d0 + d < a->head_dim ? x[d0 + d] * a->scale : 0;
    struct share mine = { -INFINITY, 0, {} };
    for (int t = w.from; t < to; t += BATCH * WARPS * keys)
        some_keys<LANES>(&mine, q, a, w, t + warp_of() * keys + lane_of() / LANES, to);
    gather<LANES>(&mine, room);
    if (shares > 1)
        hand_in<LANES>(a, &w, &mine, shares);
    else if (threadIdx.x < LANES)
        put_out(a, &w, &mine);
}
template <int LANES>
__global__ void __launch_bounds__(THREADS) attn_kernel(const __grid_constant__ struct attn_args a) {
    if (STOPPED(a.step)) return;
    if (a.per == ATTN_TILE && attn_is_plain_tile(a.step, (int)blockIdx.z, a.n)) return; /* flash.cu has it */
    for (int i = (int)blockIdx.z * a.per; i < a.n && i < ((int)blockIdx.z + 1) * a.per; i++) {
        one_query<LANES>(&a, i);
        __syncthreads(); /* the next one uses the same room */
    }
}

/* ---- keys and values that are not cached, as f16, a head by itself: what flash.cu reads ---- */
__global__ void halve_kernel(uint16_t *to, const float *x, int ld, int head_dim, const struct step *s) {
    if (STOPPED(s)) return;
    const size_t row = blockIdx.x, rows = gridDim.x;
    for (int c = (int)threadIdx.x; c < ld; c += (int)blockDim.x)
        to[((size_t)(c / head_dim) * rows + row) * (size_t)head_dim + c % head_dim] =
            f32_to_f16(x[row * (size_t)ld + c]);
}
static struct attn_side halved(const struct run *r, const struct mat *m, int rows, int head_dim, uint16_t *to) {
    launch(halve_kernel, dim3((unsigned)rows), dim3(THREADS), 0, r->stream, to, (const float *)m->p, m->ld, head_dim,
           (const struct step *)r->step);
    return { (const char *)to, NULL, (size_t)rows * (size_t)head_dim, (size_t)head_dim, DTYPE_F16 };
}
static size_t halved_bytes(const struct mat *m) { return (size_t)m->rows * (size_t)m->cols * sizeof(uint16_t); }

/* ---- launch ---- */
static struct attn_side side_of(const struct mat *m, const struct attn_of *s) {
    if (m->dim != DIM_KV) return { (const char *)m->p, NULL, (size_t)s->head_dim, (size_t)m->ld, DTYPE_F32 };
    const struct cache k = cache_of(m);
    const uint16_t *scale = (const uint16_t *)(k.p + (size_t)k.heads * (size_t)k.rows * (size_t)k.head_dim);
    return { k.p, scale, (size_t)k.rows * (size_t)k.head_dim, (size_t)k.head_dim, k.dt };
}
static int shares_of(const struct backend *be, int rows, int heads) {
    const int n = (2 * be->sms + rows * heads - 1) / (rows * heads);
    return n < 1 ? 1 : n > SHARES_MOST ? SHARES_MOST : n;
}
size_t cuda_attn_scratch(const struct backend *be, const struct op_call *c) {
    const size_t places = (size_t)(2 * (be ? be->sms : SMS_MOST)), all = (size_t)c->m[1].rows * (size_t)c->u.attn.heads;
    const size_t shared = all < places ? all : places; /* more of them have one share each */
    const size_t bytes = shared * SHARES_MOST * (WARP * (DIMS + 2)) * sizeof(float);
    const size_t halves = c->m[2].dim == DIM_KV ? 0 : halved_bytes(&c->m[2]) + halved_bytes(&c->m[3]);
    return bytes > halves ? bytes : halves;
}
int cuda_attn(const struct run *r, const struct op_call *c, struct err *e) {
    const struct mat *q = &c->m[1], *k = &c->m[2];
    const struct attn_of *s = &c->u.attn;
    struct attn_args a = {};
    a.y = c->m[0].p;
    a.q = q->p;
    a.k = side_of(k, s);
    a.v = side_of(&c->m[3], s);
    a.y_ld = c->m[0].ld;
    a.q_ld = q->ld;
    a.heads = s->heads;
    a.kv_heads = s->kv_heads;
    a.head_dim = s->head_dim;
    a.causal = k->dim == DIM_KV;
    const int keys = a.causal || k->dim == DIM_FIXED ? k->rows : r->n[k->dim];
    a.n = q->dim == DIM_FIXED ? q->rows : r->n[q->dim];
    a.rows = a.causal ? keys : keys / attn_blocks(s);
    a.block = a.n / attn_blocks(s);
    a.wide = s->head_dim % DIMS == 0;
    a.scale = 1.0f / sqrtf((float)s->head_dim);
    a.step = r->step;
    a.scratch = (float *)r->scratch;
    a.counter = r->counter;
    if (!a.causal && r->p->kv == DTYPE_F16 && cuda_attn_has_tiles(a.head_dim)) {
        a.k = halved(r, k, keys, a.head_dim, (uint16_t *)r->scratch);
        a.v = halved(r, &c->m[3], keys, a.head_dim, (uint16_t *)(r->scratch + halved_bytes(k)));
        if (cuda_launched(r->be, c->label, e) || cuda_attn_tiles(r, &a, e)) return e->code;
        a.k = side_of(k, s), a.v = side_of(&c->m[3], s);
    }
    a.per = a.causal && a.n > ATTN_TILE && cuda_attn_tiles(r, &a, e) ? ATTN_TILE : 1;
    if (e->code) return e->code;
    const int lanes = s->head_dim <= 64 ? 8 : s->head_dim <= 128 ? 16 : 32, shares = shares_of(r->be, a.n, a.heads);
    const dim3 grid((unsigned)shares, (unsigned)a.heads, (unsigned)((a.n + a.per - 1) / a.per));
    const size_t room = THREADS * (DIMS + 2) * sizeof(float);
    if (lanes == 8) launch(attn_kernel<8>, grid, dim3(THREADS), room, r->stream, a);
    if (lanes == 16) launch(attn_kernel<16>, grid, dim3(THREADS), room, r->stream, a);
    if (lanes == 32) launch(attn_kernel<32>, grid, dim3(THREADS), room, r->stream, a);
    return cuda_launched(r->be, c->label, e);
}
