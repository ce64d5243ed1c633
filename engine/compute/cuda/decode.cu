/* decode.cu - PROJ for up to 4 rows: reading the weights is all the time there is. A block takes tiles of 16 result rows, its
 * warps share the columns. Each lane reads 16 bytes of row g and of row g + 8 of the tile, straight from the packed rows:
 * which columns meet in one mma is free as long as weights and inputs agree, and the layouts of cuda.h are made so that lane t
 * always holds columns 8t..8t+7 of a group of 32. Numbers of 4 and 8 bits become f16 exactly, a group's products are
 * multiplied by its scale in fp32. Of the 8 columns of an mma a row of the step takes two, x = high + low part, so that
 * inputs keep 22 bits (bf16: 16); where shared memory is short, one. */
#include "compute/cuda/proj.h"

enum { THREADS = 256, WARPS = THREADS / WARP, ROWS = 4, TILE = 16, UNITS = 4, PAD = 32, GROUP = 32 };

struct staged { /* one input: `columns` rows of `stride` 16-bit numbers; sums of each group, or NULL */
    uint16_t *x;
    float *sums;
    int stride, columns, groups;
    bool both;
};
struct few_args {
    struct dev_proj f;
    int rows, first[SEGS + 1]; /* of each segment's tiles */
    int at[FEEDS], sums_at[FEEDS], padded[FEEDS],
        red_at; /* in shared memory: 16-bit numbers; floats; columns; floats */
    bool bf16[FEEDS], both;
};

/* ---- inputs into shared memory ---- */
__device__ static struct staged staged_of(const struct few_args *a, int k, char *room) {
    const int padded = a->padded[k];
    float *sums = a->sums_at[k] < 0 ? NULL : (float *)room + a->sums_at[k];
    return {
        (uint16_t *)room + a->at[k], sums, padded + PAD, a->both ? 2 * a->rows : a->rows, padded / GROUP, a->both
    };
}
__device__ static void stage(const struct few_args *a, int k, const struct staged *to, float *red) {
    const struct dev_in *in = &a->f.in[k];
    const struct dev_norm *n = in->norm >= 0 ? &a->f.norm[in->norm] : NULL;
    const bool bf16 = a->bf16[k];
    for (int i = 0; i < a->rows; i++) {
        const float *x = in->x + (size_t)i * (size_t)in->ld;
        float2 stats = make_float2(0, 0);
        if (n) stats = row_stats(x, in->cols, n, red);
        uint16_t *high = to->x + (size_t)(to->both ? 2 * i : i) * (size_t)to->stride, *low = high + to->stride;
        for (int j = (int)threadIdx.x; j < a->padded[k]; j += THREADS) {
            const float v = j >= in->cols ? 0 : n ? normed(n, stats, x[j], j) : x[j];
            high[j] = bf16 ? f32_to_bf16(v) : f32_to_f16(v);
            if (!to->both) continue;
            const float rest = v - (bf16 ? bf16_to_f32(high[j]) : f16_to_f32(high[j]));
            low[j] = bf16 ? f32_to_bf16(rest) : f32_to_f16(rest);
        }
    }
}
__device__ static void add_groups(const struct few_args *a, const struct staged *x) {
    for (int k = (int)threadIdx.x; k < a->rows * x->groups; k += THREADS) {
        const int i = k / x->groups, from = k % x->groups * GROUP;
        const uint16_t *high = x->x + (size_t)(x->both ? 2 * i : i) * (size_t)x->stride + from;
        float sum = 0;
        for (int j = 0; j < GROUP; j++) sum += f16_to_f32(high[j]) + (x->both ? f16_to_f32(high[x->stride + j]) : 0);
        x->sums[k] = sum;
    }
}
/* Eight (or two times four, 16 apart) inputs of this lane's column of the mma. */
__device__ static uint4 inputs(const struct staged *x, int column) {
    const int g = lane_of() / 4;
    if (g >= x->columns) return make_uint4(0, 0, 0, 0);
    return *(const uint4 *)(x->x + (size_t)g * (size_t)x->stride + column);
}
__device__ static uint4 inputs_apart(const struct staged *x, int column) {
    const int g = lane_of() / 4;
    if (g >= x->columns) return make_uint4(0, 0, 0, 0);
    const uint16_t *p = x->x + (size_t)g * (size_t)x->stride + column;
    const uint2 a = *(const uint2 *)p, b = *(const uint2 *)(p + 16);
    return make_uint4(a.x, a.y, b.x, b.y);
}

/* ---- numbers ---- */
/* Two mma of one group of 32 columns; words u of row g and w of row g + 8. */
template <int NUMBER>
__device__ static void group(float c[4], const uint32_t *u, const uint32_t *w, uint4 x, uint32_t offset) {
    uint32_t a[2][4];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++) {
            if (NUMBER == BYTE || NUMBER == SIX) {
                a[i][2 * k] = bytes_as_half(u[i], k, offset);
                a[i][2 * k + 1] = bytes_as_half(w[i], k, offset);
            } else {
                a[i][2 * k] = nibbles_as_half(u[0], 2 * i + k, offset);
                a[i][2 * k + 1] = nibbles_as_half(w[0], 2 * i + k, offset);
            }
        }
    const uint32_t b[2][2] = { { x.x, x.y }, { x.z, x.w } };
    mma_f16(c, a[0], b[0]);
    mma_f16(c + (NUMBER == SIX ? 4 : 0), a[1], b[1]);
}
/* acc += scale * products + minimum * sum of inputs, of row g (c[0], c[1]) and row g + 8. */
__device__ static void scaled(float acc[4], const float *c, float2 s0, float2 s1, const struct staged *x, int which) {
    for (int i = 0; i < 2; i++) {
        acc[i] += s0.x * c[i];
        acc[i + 2] += s1.x * c[i + 2];
    }
    if (!x->sums) return;
    const int t = lane_of() % 4;
    for (int i = 0; i < (x->both ? 1 : 2); i++) { /* the low part's products have it in common with the high part's */
        const int row = x->both ? t : 2 * t + i;
        if (row >= x->columns / (x->both ? 2 : 1)) continue;
        const float sum = x->sums[row * x->groups + which];
        acc[i] += s0.y * sum;
        acc[i + 2] += s1.y * sum;
    }
}
struct spot {
    int unit, row0, row1;
};
/* One unit of 64 bytes a row: 32, 64 or 128 columns. */
template <int NUMBER>
__device__ static void unit(float acc[4], const struct matrix *m, const struct staged *x, uint4 u, uint4 w,
                            struct spot at) {
    const int t = lane_of() % 4, groups = NUMBER == NIBBLE ? 4 : NUMBER <= BRAIN ? 1 : 2;
    const uint32_t a[4] = { u.x, u.y, u.z, u.w }, b[4] = { w.x, w.y, w.z, w.w };
    if (NUMBER <= BRAIN) {
        const uint4 v = inputs(x, at.unit * GROUP + 8 * t);
        const uint32_t a0[4] = { a[0], b[0], a[1], b[1] }, a1[4] = { a[2], b[2], a[3], b[3] }, b0[2] = { v.x, v.y },
                       b1[2] = { v.z, v.w };
        if (NUMBER == HALF) {
            mma_f16(acc, a0, b0);
            mma_f16(acc, a1, b1);
        } else {
            mma_bf16(acc, a0, b0);
            mma_bf16(acc, a1, b1);
        }
        return;
    }
    const uint32_t offset = offset_of(m->form);
#pragma unroll
    for (int g = 0; g < groups; g++) {
        float c[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
        const int which = at.unit * groups + g, word = NUMBER == NIBBLE ? g : 2 * g;
        const uint4 v = NUMBER == SIX ? inputs_apart(x, which * GROUP + 4 * t) : inputs(x, which * GROUP + 8 * t);
        group<NUMBER>(c, a + word, b + word, v, offset);
        scaled(acc, c, scale_at(m, at.row0, which * GROUP), scale_at(m, at.row1, which * GROUP), x, which);
        if (NUMBER == SIX)
            scaled(acc, c + 4, scale_at(m, at.row0, which * GROUP + 16), scale_at(m, at.row1, which * GROUP + 16), x,
                   which);
    }
}
/* Products of rows row0 (of lane's g) and row1 with every column of the mma, over this warp's share of the columns. */
template <int NUMBER>
__device__ static void tile_dot(float acc[4], const struct matrix *m, const struct staged *x, int row0, int row1) {
    const int width = NUMBER == NIBBLE ? 128 : NUMBER <= BRAIN ? 32 : 64, units = m->ld / width, t = lane_of() % 4;
    const size_t bytes = row_bytes(m->form, m->ld);
    const char *p = m->p + (size_t)row0 * bytes + 16 * t, *q = m->p + (size_t)row1 * bytes + 16 * t;
    for (int first = warp_of() * UNITS; first < units; first += WARPS * UNITS) {
        uint4 u[UNITS], w[UNITS];
#pragma unroll
        for (int k = 0; k < UNITS; k++) { /* all of them on their way before the first is used */
            u[k] = w[k] = make_uint4(0, 0, 0, 0);
            if (first + k < units) {
                u[k] = load16_stream(p + (size_t)(first + k) * 64);
                w[k] = load16_stream(q + (size_t)(first + k) * 64);
            }
        }
#pragma unroll
        for (int k = 0; k < UNITS; k++)
            if (first + k < units) unit<NUMBER>(acc, m, x, u[k], w[k], { first + k, row0, row1 });
    }
}
__device__ static void any_tile(float acc[4], const struct matrix *m, const struct staged *x, int row0, int row1) {
    switch (number_of(m->form)) {
    case HALF: tile_dot<HALF>(acc, m, x, row0, row1); break;
    case BRAIN: tile_dot<BRAIN>(acc, m, x, row0, row1); break;
    case SIX: tile_dot<SIX>(acc, m, x, row0, row1); break;
    case NIBBLE: tile_dot<NIBBLE>(acc, m, x, row0, row1); break;
    default: tile_dot<BYTE>(acc, m, x, row0, row1); break;
    }
}

/* ---- tiles ---- */
/* Row i of a tile: where heads turn, rows i and i + 8 are partners as long as there are dimensions that do. */
__device__ static int tile_row(const struct dev_proj *f, const struct dev_seg *s, int tile, int i) {
    if (!s->rope) return tile * TILE + i;
    const int each = f->head_dim / TILE, head = tile / each * f->head_dim, j = tile % each;
    if (j >= f->rot / TILE) return head + j * TILE + i;
    return head + j * (TILE / 2) + i % 8 + i / 8 * (f->rot / 2);
}
__device__ static bool turns(const struct dev_proj *f, const struct dev_seg *s, int tile) {
    return s->rope && tile % (f->head_dim / TILE) < f->rot / TILE;
}
/* The warps' shares of a tile become results; red: `each` numbers a row, a tile a warp, for each term. */
__device__ static void put_tile(const struct dev_proj *f, const struct dev_seg *s, int tile, const float *red,
                                int2 rows_each) {
    const int g = (int)threadIdx.x % 8, i = (int)threadIdx.x / 8, each = rows_each.y;
    if (i >= rows_each.x) return;
    float v[2][2] = { { 0, 0 }, { 0, 0 } }; /* [row g, row g + 8][term] */
    for (int t = 0; t < s->terms; t++)
        for (int w = 0; w < WARPS; w++)
            for (int k = 0; k < 2; k++) v[k][t] += red[((t * WARPS + w) * TILE + g + 8 * k) * each + i];
    const int r0 = tile_row(f, s, tile, g), r1 = tile_row(f, s, tile, g + 8);
    if (turns(f, s, tile)) {
        finish(f, s, i, make_int2(r0, r1), v[0], v[1]);
        return;
    }
    if (r0 < s->t[0].w.rows) finish(f, s, i, make_int2(r0, -1), v[0], v[0]);
    if (r1 < s->t[0].w.rows) finish(f, s, i, make_int2(r1, -1), v[1], v[1]);
}
__device__ static void sum_tile(const struct few_args *a, const struct dev_seg *s, int tile, char *room, float *red) {
    const int g = lane_of() / 4, t = lane_of() % 4, last = s->t[0].w.rows - 1;
    const int r0 = tile_row(&a->f, s, tile, g), r1 = tile_row(&a->f, s, tile, g + 8);
    for (int k = 0; k < s->terms; k++) {
        float acc[4] = { 0, 0, 0, 0 };
        const struct staged x = staged_of(a, s->t[k].in, room);
        any_tile(acc, &s->t[k].w, &x, r0 < last ? r0 : last, r1 < last ? r1 : last);
        float *at = red + (k * WARPS + warp_of()) * TILE * ROWS;
        for (int h = 0; h < 2; h++) { /* rows g and g + 8 */
            float *to = at + (g + 8 * h) * ROWS;
            if (a->both) {
                to[t] = acc[2 * h] + acc[2 * h + 1];
            } else if (t < ROWS / 2) {
                to[2 * t] = acc[2 * h];
                to[2 * t + 1] = acc[2 * h + 1];
            }
        }
    }
}
/* What each lane will read first is asked for before the inputs are staged: memory would idle meanwhile. */
__device__ static void ask_ahead(const struct few_args *a) {
    int seg = 0;
    while ((int)blockIdx.x >= a->first[seg + 1]) seg++;
    const struct dev_seg *s = &a->f.seg[seg];
    const struct matrix *m = &s->t[0].w;
    const size_t bytes = row_bytes(m->form, m->ld);
    for (int h = 0; h < 2; h++) {
        const int row = tile_row(&a->f, s, (int)blockIdx.x - a->first[seg], lane_of() / 4 + 8 * h);
        const size_t from = (size_t)warp_of() * UNITS * 64 + (size_t)(lane_of() % 4) * 16;
        for (size_t at = from; row < m->rows && at < from + UNITS * 64 && at < bytes; at += 64)
            ask_for(m->p + (size_t)row * bytes + at);
    }
}
__global__ void __launch_bounds__(THREADS, 2) few_kernel(const __grid_constant__ struct few_args a) {
    SMEM(char, room);
    enum { RED = 2 * WARPS * TILE * ROWS };
    float *red = (float *)room + a.red_at;
    if (STOPPED(a.f.step)) return;
    ask_ahead(&a);
    for (int k = 0; k < a.f.ins; k++) {
        const struct staged x = staged_of(&a, k, room);
        stage(&a, k, &x, red);
    }
    __syncthreads(); /* inputs are staged */
    for (int k = 0; k < a.f.ins; k++) {
        const struct staged x = staged_of(&a, k, room);
        if (x.sums) add_groups(&a, &x);
    }
    __syncthreads(); /* sums are there, red is free */
    int parity = 0;
    for (int tile = (int)blockIdx.x, seg = 0; tile < a.first[a.f.segs]; tile += (int)gridDim.x, parity = !parity) {
        while (tile >= a.first[seg + 1]) seg++;
        const struct dev_seg *s = &a.f.seg[seg];
        sum_tile(&a, s, tile - a.first[seg], room, red + parity * RED);
        __syncthreads(); /* every warp's sums are there; two tiles on, the first half of red has been read */
        put_tile(&a.f, s, tile - a.first[seg], red + parity * RED, make_int2(a.rows, ROWS));
    }
}

/* ---- launch ---- */
static bool takes(const struct dev_proj *f, const struct dev_seg *s) {
    for (int t = 0; t < s->terms; t++)
        if (s->t[t].w.form == DTYPE_F32) return false;
    return !s->rope || (f->head_dim % TILE == 0 && f->rot % TILE == 0);
}
/* Where everything lies in shared memory; returns its bytes. 0: the weights over one input do not agree on a kind. */
static size_t lay_out(struct few_args *a) {
    bool used[FEEDS] = { false }, sums[FEEDS] = { false };
    for (int k = 0; k < a->f.segs; k++)
        for (int t = 0; t < a->f.seg[k].terms; t++) {
            const struct dev_term *term = &a->f.seg[k].t[t];
            const bool bf16 = term->w.form == DTYPE_BF16;
            if (used[term->in] && bf16 != a->bf16[term->in]) return 0;
            used[term->in] = true;
            a->bf16[term->in] = bf16;
            sums[term->in] = sums[term->in] || has_minima(term->w.form);
        }
    size_t halves = 0;
    for (int k = 0; k < a->f.ins; k++) {
        a->padded[k] = (a->f.in[k].cols + 127) / 128 * 128;
        a->at[k] = (int)halves;
        halves += (size_t)(a->both ? 2 * a->rows : a->rows) * (size_t)(a->padded[k] + PAD);
    }
    size_t floats = halves / 2;
    for (int k = 0; k < a->f.ins; k++) {
        a->sums_at[k] = sums[k] ? (int)floats : -1;
        floats += sums[k] ? (size_t)a->rows * (size_t)(a->padded[k] / GROUP) : 0;
    }
    a->red_at = (int)floats;
    return (floats + 4 * WARPS * TILE * ROWS) * sizeof(float);
}
bool cuda_proj_few(const struct run *r, const struct dev_proj *f, int rows, struct err *e) {
    struct few_args a = {};
    int blocks = 1;
    a.f = *f;
    a.rows = rows;
    if (rows > ROWS) return false;
    for (int k = 0; k < f->segs; k++) {
        if (!takes(f, &f->seg[k])) return false;
        a.first[k + 1] = a.first[k] + (f->seg[k].t[0].w.rows + TILE - 1) / TILE;
    }
    a.both = true;
    size_t bytes = lay_out(&a);
    if (bytes > (size_t)r->be->smem_max) {
        a.both = false;
        bytes = lay_out(&a);
    }
    if (!bytes || bytes > (size_t)r->be->smem_max) return false;
    if (cuda_roomy(r->be, few_kernel, "a product", e) ||
        cuda_check(r->be, cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, few_kernel, THREADS, bytes),
                   "a product", e))
        return true;
    blocks = (blocks < 1 ? 1 : blocks) * r->be->sms;
    if (blocks > a.first[f->segs]) blocks = a.first[f->segs];
    launch(few_kernel, dim3((unsigned)blocks), dim3(THREADS), bytes, r->stream, a);
    cuda_launched(r->be, "a product", e);
    return true;
}
