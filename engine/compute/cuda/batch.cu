/* batch.cu - PROJ for 5 to 64 rows (and for fewer, where decode.cu has no room for their inputs): each weight is read once, as
 * it is packed; quantised ones become f16 in registers, on their way into tensor cores. A block takes 256 rows of a matrix
 * over a share of its columns; weights, their scales and the inputs that go with them pass through shared memory in stages of
 * one unit (64 bytes of each row), so that inputs are read once for 256 rows. Shares of a product are summed, in order, by the
 * kernel that finishes it. */
#include "compute/cuda/proj.h"

enum {
    WARPS = 8,
    THREADS = WARPS * WARP,
    HIGH = 2,                 /* tiles of 16 rows that a warp takes */
    TALL = WARPS * HIGH * 16, /* rows of a block */
    UNIT = 64,                /* bytes */
    GROUP = 32,               /* columns of one scale */
    PLAIN = 16,               /* rows up to which 16-bit weights come here too; cuBLAS reads them once as well */
    MOST = 64,                /* rows */
    STAGES_MOST = 4,
    STEP = 128,   /* shares are multiples of so many columns */
    AROUND = 512, /* what beginning and ending a share costs, in columns */
    PARTS = 2 * SEGS,
    SHARES_MOST = 16,
    PARTIAL_BYTES = 32 << 20 /* for shares of products, unless whole ones take more */
};
struct job { /* one matrix */
    struct matrix w;
    const uint16_t *x;
    float *out;                           /* shares x rows x w.rows */
    int x_ld, first, shares, each, units; /* its first block; units of a share, of all */
};
struct batch_args {
    const struct step *step;
    struct job job[PARTS];
    int jobs, rows, stages;
};
template <int NUMBER>
constexpr int width_of = NUMBER == NIBBLE  ? 128
                         : NUMBER <= BRAIN ? 32
                                           : 64; /* columns of a unit */

/* ---- one stage of shared memory: weights, inputs, scales ---- */
template <int N>
constexpr int blocks_of = N == 8 ? 1 : 2; /* of a multiprocessor: 64 sums, or half as many, are a thread's */
template <int NUMBER, int N> constexpr int input_bytes = N * 8 * width_of<NUMBER> * 2;
template <int NUMBER, int N> __host__ __device__ static inline int stage_bytes(int scale) {
    return TALL * UNIT + input_bytes<NUMBER, N> + TALL * scale;
}
/* Where chunk c (8 numbers) of row i of the inputs lies: two rows that are read together lie in different banks. */
template <int NUMBER> __device__ static inline int spot(int i, int c) {
    constexpr int chunks = width_of<NUMBER> / 8;
    return (i * chunks + (chunks > 4 ? c ^ (i & 1) * 4 : c)) * 16;
}
__host__ __device__ static inline int unit_scales(enum dtype form) { /* bytes of a row's scales that go with a unit */
    return (int)(scale_bytes(form, unit_of(form)));
}
template <int NUMBER, int N> __device__ static void fetch(char *to, const struct job *j, int row0, int unit, int rows) {
    constexpr int chunks = width_of<NUMBER> / 8;
    const int me = anew((int)threadIdx.x), last = j->w.rows - 1 - row0, scale = unit_scales(j->w.form);
    const size_t bytes = row_bytes(j->w.form, j->w.ld), scales = scale_bytes(j->w.form, j->w.ld);
    const char *w = j->w.p + (size_t)row0 * bytes + (size_t)unit * UNIT;
#pragma unroll 1
    for (int i = me; i < TALL * 4; i += THREADS)
        cp_async<16>(to + i * 16, w + (size_t)(i / 4 < last ? i / 4 : last) * bytes + i % 4 * 16);
    to += TALL * UNIT;
#pragma unroll 1
    for (int i = me; i < rows * chunks; i += THREADS)
        cp_async<16>(to + spot<NUMBER>(i / chunks, i % chunks),
                     j->x + (size_t)(i / chunks) * (size_t)j->x_ld + unit * width_of<NUMBER> + i % chunks * 8);
    if (NUMBER <= BRAIN) return;
    const char *s = (const char *)j->w.scale + (size_t)(row0 + (me < last ? me : last)) * scales + (size_t)unit * scale;
    to += input_bytes<NUMBER, N> + me * scale; /* as many threads as rows */
    if (scale == 4) cp_async<4>(to, s);
    if (scale == 8) cp_async<8>(to, s);
    for (int k = 0; k < scale / 16; k++) cp_async<16>(to + 16 * k, s + 16 * k);
}
__device__ static void wait_for_all_but(int groups) {
    switch (groups) {
    case 0: cp_async_wait<0>(); break;
    case 1: cp_async_wait<1>(); break;
    default: cp_async_wait<STAGES_MOST - 2>(); break;
    }
}

/* ---- numbers ---- */
/* The scale (x) and minimum (y) of the k-th group of a unit, each twice as f16; s: the row's scales of this unit. */
template <int NUMBER> __device__ static uint2 scales_of(const char *s, enum dtype form, int k) {
    if (form == DTYPE_Q4_0 || form == DTYPE_Q8_0) return make_uint2(0x10001u * ((const uint16_t *)s)[k], 0);
    const float scale = NUMBER == SIX ? ((const float *)s)[k] : ((const float2 *)s)[k].x;
    const float least = NUMBER == SIX ? 0 : ((const float2 *)s)[k].y;
    return make_uint2(pack_f16(scale, scale), pack_f16(least, least));
}
/* Eight numbers of a row, those that a lane holds of group k, as four pairs: the first ones of u. */
template <int NUMBER>
__device__ static void numbers(uint32_t out[4], uint4 u, const char *scale, const struct matrix *m, int k) {
    const uint32_t w[4] = { u.x, u.y, u.z, u.w };
    if (NUMBER <= BRAIN) {
        for (int i = 0; i < 4; i++) out[i] = w[i];
        return;
    }
    const uint32_t offset = offset_of(m->form);
    const uint2 s[2] = { scales_of<NUMBER>(scale, m->form, NUMBER == SIX ? 2 * k : k),
                         NUMBER == SIX ? scales_of<NUMBER>(scale, m->form, 2 * k + 1) : make_uint2(0, 0) };
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t n = NUMBER == NIBBLE ? nibbles_as_half(w[0], i, offset) : bytes_as_half(w[i / 2], i % 2, offset);
        const uint2 by = NUMBER == SIX ? s[i / 2] : s[0];
        out[i] = NUMBER == SIX ? h2_mul(n, by.x) : h2_fma(n, by.x, by.y);
    }
}
/* Without the numbers of its first group. */
template <int NUMBER> __device__ static uint4 behind(uint4 u) {
    return NUMBER == NIBBLE ? make_uint4(u.y, u.z, u.w, 0) : make_uint4(u.z, u.w, 0, 0);
}
/* Eight inputs of row i, of the columns that a lane's numbers of group k have. */
template <int NUMBER> __device__ static uint4 inputs(const char *x, int i, int k) {
    const int t = lane_of() % 4;
    if (NUMBER != SIX) return *(const uint4 *)(x + spot<NUMBER>(i, 4 * k + t));
    const uint2 a = *(const uint2 *)(x + spot<NUMBER>(i, 4 * k + t / 2) + t % 2 * 8);
    const uint2 b = *(const uint2 *)(x + spot<NUMBER>(i, 4 * k + 2 + t / 2) + t % 2 * 8);
    return make_uint4(a.x, a.y, b.x, b.y);
}
template <int NUMBER> __device__ static void multiply(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    if (NUMBER == BRAIN)
        mma_bf16(c, a, b);
    else
        mma_f16(c, a, b);
}
/* A warp's 32 rows of a stage with all of its inputs. */
template <int NUMBER, int N>
__device__ static void add_stage(float (*acc)[N][4], const char *stage, const struct job *j) {
    constexpr int groups = width_of<NUMBER> / GROUP;
    const int g = lane_of() / 4, t = lane_of() % 4, row = warp_of() * HIGH * 16 + g, scale = unit_scales(j->w.form);
    const char *x = stage + TALL * UNIT, *scales = x + input_bytes<NUMBER, N>;
    uint4 u[HIGH][2];
#pragma unroll
    for (int h = 0; h < 2 * HIGH; h++) u[h / 2][h % 2] = *(const uint4 *)(stage + (row + 8 * h) * UNIT + 16 * t);
#pragma unroll 1
    for (int k = 0; k < groups; k++) { /* not unrolled: sums and numbers fill the registers */
        uint32_t a[HIGH][2][4];        /* of the two mma of a group */
#pragma unroll
        for (int h = 0; h < 2 * HIGH; h++) {
            uint32_t pair[4];
            numbers<NUMBER>(pair, u[h / 2][h % 2], scales + (row + 8 * h) * scale, &j->w, k);
#pragma unroll
            for (int i = 0; i < 4; i++) a[h / 2][i / 2][i % 2 * 2 + h % 2] = pair[i];
            u[h / 2][h % 2] = behind<NUMBER>(u[h / 2][h % 2]);
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
            const uint4 v = inputs<NUMBER>(x, 8 * n + g, k);
            const uint32_t b[2][2] = { { v.x, v.y }, { v.z, v.w } };
#pragma unroll
            for (int h = 0; h < HIGH; h++) {
                multiply<NUMBER>(acc[h][n], a[h][0], b[0]);
                multiply<NUMBER>(acc[h][n], a[h][1], b[1]);
            }
        }
    }
}
template <int NUMBER, int N>
__global__ void __launch_bounds__(THREADS, blocks_of<N>) batch_kernel(const __grid_constant__ struct batch_args a) {
    SMEM(char, room);
    int i = (int)blockIdx.x, k = a.jobs - 1;
    if (STOPPED(a.step)) return;
    while (i < a.job[k].first) k--;
    const struct job *j = &a.job[k];
    i -= j->first;
    const int row0 = i / j->shares * TALL, share = i % j->shares, from = share * j->each,
              units = j->units - from < j->each ? j->units - from : j->each,
              bytes = stage_bytes<NUMBER, N>(unit_scales(j->w.form));
    float acc[HIGH][N][4] = {};
    for (int s = 0; s < a.stages - 1; s++) {
        if (s < units) fetch<NUMBER, N>(room + s * bytes, j, row0, from + s, a.rows);
        cp_async_commit();
    }
    for (int s = 0, at = 0, next = a.stages - 1; s < units; s++) {
        wait_for_all_but(a.stages - 2);
        __syncthreads(); /* this stage is there; nobody reads the one before it any more */
        if (s + a.stages - 1 < units) fetch<NUMBER, N>(room + next * bytes, j, row0, from + s + a.stages - 1, a.rows);
        cp_async_commit();
        add_stage<NUMBER, N>(acc, room + at * bytes, j);
        at = at + 1 == a.stages ? 0 : at + 1;
        next = next + 1 == a.stages ? 0 : next + 1;
    }
    const int row = row0 + warp_of() * HIGH * 16 + lane_of() / 4, column = 2 * (lane_of() % 4);
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int h = 0; h < 4 * HIGH; h++) {
            const int r = row + h / 2 * 8, y = 8 * n + column + h % 2;
            if (r < j->w.rows && y < a.rows)
                j->out[((size_t)share * (size_t)a.rows + (size_t)y) * (size_t)j->w.rows + r] = acc[h / 4][n][h % 4];
        }
}

/* ---- shares ---- */
static int width(enum dtype form) { /* columns of a unit */
    return number_of(form) == NIBBLE ? 128 : number_of(form) <= BRAIN ? 32 : 64;
}
struct sizes {
    long blocks, floats; /* of shares, for one row of the step */
    int longest;
};
static struct sizes sizes_of(const struct batch_args *a, int columns) {
    struct sizes s = { 0, 0, 0 };
    for (int k = 0; k < a->jobs; k++) {
        const struct matrix *w = &a->job[k].w;
        const long shares = (w->ld + columns - 1) / columns;
        s.blocks += (w->rows + TALL - 1) / TALL * shares;
        s.floats += w->rows * shares;
        if (w->ld > s.longest) s.longest = w->ld;
    }
    return s;
}
/* Into shares of as many columns as let all blocks end soonest; resident: blocks that the device runs at once. */
static int share_out(struct batch_args *a, int resident) {
    const int longest = sizes_of(a, 1 << 30).longest;
    long least = 0;
    int best = (longest + STEP - 1) / STEP * STEP;
    for (int c = best; c >= STEP && c * SHARES_MOST >= longest; c -= STEP) {
        const struct sizes s = sizes_of(a, c);
        const long time = (s.blocks + resident - 1) / resident * (c + AROUND);
        if (least && s.floats * a->rows * (long)sizeof(float) > PARTIAL_BYTES) break;
        if (!least || time < least) best = c;
        if (!least || time < least) least = time;
    }
    int blocks = 0;
    for (int k = 0; k < a->jobs; k++) {
        struct job *j = &a->job[k];
        j->units = j->w.ld / width(j->w.form);
        j->each = best / width(j->w.form);
        j->shares = (j->units + j->each - 1) / j->each;
        j->first = blocks;
        blocks += (j->w.rows + TALL - 1) / TALL * j->shares;
    }
    return blocks;
}

/* ---- launch ---- */
struct batch {
    const struct run *r;
    const struct dev_proj *f;
    struct ending end;
    const uint16_t *x[FEEDS];
    char *free; /* of scratch */
    int rows;
};
static size_t up(size_t n) { return (n + 255) / 256 * 256; }
static int padded(int cols) { return (cols + 127) / 128 * 128; }
static size_t feed_bytes(int cols) { return up((size_t)MOST * (size_t)padded(cols) * sizeof(uint16_t)); }
/* The op's matrices of this kind, with room for their products. */
static void jobs_of(struct batch_args *a, const struct batch *b, enum number number) {
    for (int i = 0; i < b->f->segs; i++)
        for (int t = 0; t < b->f->seg[i].terms; t++) {
            const struct dev_term *term = &b->f->seg[i].t[t];
            if (number_of(term->w.form) != number) continue;
            struct job *j = &a->job[a->jobs++];
            j->w = term->w;
            j->x = b->x[term->in];
            j->x_ld = padded(b->f->in[term->in].cols);
        }
}
static void hand_out(struct batch_args *a, struct batch *b, enum number number) {
    const struct job *j = a->job;
    for (int i = 0; i < b->f->segs; i++)
        for (int t = 0; t < b->f->seg[i].terms; t++)
            if (number_of(b->f->seg[i].t[t].w.form) == number) {
                b->end.of[i][t] = { j->out, j->w.rows, j->shares };
                j++;
            }
}
template <int NUMBER, int N> static bool start(struct batch *b, struct err *e) {
    struct batch_args a = {};
    int blocks = 1, scale = 0;
    a.step = b->r->step;
    a.rows = b->rows;
    jobs_of(&a, b, (enum number)NUMBER);
    for (int k = 0; k < a.jobs; k++)
        if (unit_scales(a.job[k].w.form) > scale) scale = unit_scales(a.job[k].w.form);
    const int most = b->r->be->smem_max, stage = stage_bytes<NUMBER, N>(scale), half = (most - 1024) / 2;
    a.stages = blocks_of<N> == 2 && half / stage >= 2 ? half / stage : most / stage;
    if (a.stages > STAGES_MOST) a.stages = STAGES_MOST;
    if (a.stages < 2) return false;
    void (*kernel)(struct batch_args) = batch_kernel<NUMBER, N>;
    const size_t bytes = (size_t)a.stages * (size_t)stage;
    if (cuda_roomy(b->r->be, kernel, "a product", e) ||
        cuda_check(b->r->be, cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, THREADS, bytes),
                   "a product", e))
        return true;
    blocks = share_out(&a, (blocks < 1 ? 1 : blocks) * b->r->be->sms);
    for (int k = 0; k < a.jobs; k++) {
        struct job *j = &a.job[k];
        j->out = (float *)b->free;
        b->free += up((size_t)j->shares * (size_t)a.rows * (size_t)j->w.rows * sizeof(float));
    }
    hand_out(&a, b, (enum number)NUMBER);
    launch(kernel, dim3((unsigned)blocks), dim3(THREADS), bytes, b->r->stream, a);
    cuda_launched(b->r->be, "a product", e);
    return true;
}
template <int NUMBER> static bool start_any(struct batch *b, struct err *e) {
    if (b->rows <= 16) return start<NUMBER, 2>(b, e);
    return b->rows <= 32 ? start<NUMBER, 4>(b, e) : start<NUMBER, 8>(b, e);
}
static bool start_kind(struct batch *b, enum number number, struct err *e) {
    switch (number) {
    case HALF: return start<HALF, 2>(b, e);
    case BRAIN: return start<BRAIN, 2>(b, e);
    case BYTE: return start_any<BYTE>(b, e);
    case NIBBLE: return start_any<NIBBLE>(b, e);
    default: return start_any<SIX>(b, e);
    }
}
bool cuda_proj_batch_takes(const struct op_call *c, int rows) {
    const struct proj f = proj_of(c);
    enum dtype kind[FEEDS] = {};
    if (rows > MOST) return false;
    for (int i = 0; i < f.segs; i++)
        for (int t = 0; t < f.seg[i].terms; t++) {
            const struct term *term = &f.seg[i].t[t];
            const enum dtype form = weight_form(term->w), want = form == DTYPE_BF16 ? form : DTYPE_F16;
            const bool wide = form == DTYPE_F16 || form == DTYPE_BF16;
            if (form == DTYPE_F32 || (wide && rows > PLAIN) || (kind[term->feed] && kind[term->feed] != want))
                return false;
            kind[term->feed] = want;
        }
    return true;
}
size_t cuda_proj_batch_scratch(const struct op_call *c) {
    const struct proj f = proj_of(c);
    const int bucket = c->m[f.feed[0].x].rows, rows = bucket < MOST ? bucket : MOST;
    size_t feeds = 0, whole = 0, ends = 0;
    for (int i = 0; i < f.feeds; i++) feeds += feed_bytes(c->m[f.feed[i].x].cols);
    for (int i = 0; i < f.segs; i++)
        for (int t = 0; t < f.seg[i].terms; t++) {
            whole += (size_t)rows * (size_t)f.seg[i].t[t].w->rows * sizeof(float);
            ends += up(1);
        }
    const size_t parts = SHARES_MOST * whole, most = whole + KINDS * (size_t)PARTIAL_BYTES;
    return feeds + (parts < most ? parts : most) + ends;
}
bool cuda_proj_batch(const struct run *r, const struct dev_proj *f, int rows, struct err *e) {
    const struct op_call *c = &r->p->call[r->call];
    bool there[KINDS] = {}, bf16[FEEDS] = {};
    struct batch b = {};
    if (!cuda_proj_batch_takes(c, rows)) return false;
    b.r = r;
    b.f = f;
    b.rows = rows;
    b.end.f = *f;
    b.end.rows = rows;
    b.free = r->scratch;
    for (int i = 0; i < f->segs; i++)
        for (int t = 0; t < f->seg[i].terms; t++) {
            const struct dev_term *term = &f->seg[i].t[t];
            there[number_of(term->w.form)] = true;
            bf16[term->in] = term->w.form == DTYPE_BF16;
        }
    for (int k = 0; k < f->ins && !e->code; k++) {
        b.x[k] = (const uint16_t *)b.free;
        cuda_proj_feed(r, f, k, rows, { b.free, padded(f->in[k].cols), bf16[k] ? DTYPE_BF16 : DTYPE_F16 }, e);
        b.free += feed_bytes(f->in[k].cols);
    }
    for (int n = 0; n < KINDS && !e->code; n++)
        if (there[n] && !start_kind(&b, (enum number)n, e)) return false;
    if (!e->code) cuda_proj_end(r, &b.end, 0, f->segs, e);
    return true;
}
