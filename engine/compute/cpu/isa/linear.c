/* linear.c - PROJ, and LINEAR as its simplest case: rows of a step times panels of 16 weight rows. */
#include "compute/cpu/isa/ops.h"

/* Tasks are UNIT weight rows (TALL matrices: more, since short ones restart the stream) by GROUP_ROWS step rows. */
enum { UNIT = 32, UNIT_TALL = 64, TALL = 4096, GROUP_ROWS = 64, AHEAD = 1536 };
typedef int8_t vb __attribute__((vector_size(VL)));

/* ---- feeds: rows of a step, normalised, quantised, laid in blocks ---- */
struct input { /* of one call, as one worker sees it */
    struct worker *w;
    const struct op_call *c;
    const struct proj *f;
    float *at[FEEDS], *temp; /* temp: one row of this worker */
    int rows, R, blocks;
    bool alone;
};
static size_t block_floats(const struct feed *f, int cols, int R) {
    return (f->quant ? (size_t)cols / QBLOCK * QUANT_WORDS : (size_t)cols) * (size_t)R;
}
static struct input inputs(struct worker *w, const struct op_call *c, const struct proj *f) {
    const struct mat *first = &c->m[f->feed[0].x];
    struct input in = { .w = w, .c = c, .f = f, .rows = live(w, first), .R = cpu_block(w->k, first->rows) };
    in.blocks = (in.rows + in.R - 1) / in.R;
    in.alone = first->rows <= ALONE_ROWS;
    char *p = in.alone ? w->own : w->shared;
    for (int k = 0; k < f->feeds; k++) {
        const struct mat *x = &c->m[f->feed[k].x];
        const size_t bytes = cpu_feed_bytes(&f->feed[k], x->cols, x->rows, in.R);
        in.at[k] = bytes ? (float *)(void *)p : row(x, 0);
        p += bytes;
    }
    in.temp = (float *)(void *)(in.alone ? p : w->own);
    return in;
}
/* One row as int8 with a scale per 32 columns, into lane i of a block of R rows. */
static void quantise(float *feed, int R, int i, const float *x, int cols) {
    for (int b = 0; b < cols / QBLOCK; b++, x += QBLOCK, feed += (size_t)QUANT_WORDS * (size_t)R) {
        vf most = { 0 }, bad = { 0 };
        for (int j = 0; j < QBLOCK; j += VL) {
            const vf v = load(x + j);
            most = vmax(pick(v < 0, -v, v), most);
            bad += v * 0.0f; /* NaN and infinity must come out as NaN, not vanish in a maximum */
        }
        const float top = max_of(most), inverse = top > 0 ? 127.0f / top : 0, scale = top / 127.0f + sum_of(bad);
        int32_t word[QBLOCK / 4], sum = 0;
        vi total = { 0 };
        for (int j = 0; j < QBLOCK; j += VL) {
            const vi n = to_int(load(x + j) * inverse);
            const vb q = __builtin_convertvector(n, vb);
            memcpy((char *)word + j, &q, VL);
            total += (n << 24) >> 24; /* as the byte: NaN makes any number */
        }
        for (int l = 0; l < VL; l++) sum += total[l];
        for (int j = 0; j < QBLOCK / 4; j++) memcpy(&feed[j * R + i], &word[j], 4);
        feed[8 * R + i] = scale;
        feed[9 * R + i] = scale * (float)sum;
        sum *= -128;
        memcpy(&feed[10 * R + i], &sum, 4);
    }
}
static void make_block(const struct input *in, int b) {
    for (int k = 0; k < in->f->feeds; k++) {
        const struct feed *d = &in->f->feed[k];
        const struct mat *x = &in->c->m[d->x];
        const size_t floats = block_floats(d, x->cols, in->R);
        float *feed = in->at[k] + (size_t)b * floats;
        if (in->at[k] == row(x, 0)) continue; /* read as it is */
        if ((b + 1) * in->R > in->rows) memset(feed, 0, floats * sizeof *feed);
        for (int i = 0; i < in->R && b * in->R + i < in->rows; i++) {
            const float *from = row(x, b * in->R + i);
            if (d->norm >= 0) {
                NAMED(norm_row)(in->temp, from, x->cols, &in->f->norm[d->norm]);
                from = in->temp;
            }
            if (d->quant) quantise(feed, in->R, i, from, x->cols);
            for (int j = 0; !d->quant && j < x->cols; j++) feed[j * in->R + i] = from[j];
        }
    }
}

/* ---- tiles: acc[0..R) += VL rows of a panel times R rows of a block ---- */
typedef void tile_fn(vf *acc, const char *w, const float *x, int cols, int part);

INLINE void tile_f32(const int R, vf *acc, const char *w, const float *x, int cols, int part) {
    const float *from = (const float *)(const void *)w + part * VL;
    multiply_add(R, R == 1 ? 4 : 1, acc, (struct product){ from, PANEL, x, 1, R, cols });
}
INLINE void tile_16(const int R, const bool bf, vf *acc, const char *w, const float *x, int cols, int part) {
    vf a[2][ROW_BLOCK_MAX] = { 0 };
    w += part * VL * 2;
    for (int k = 0; k < cols; k++, w += 2 * PANEL, x += R) {
        const vf v = bf ? bfloats(w) : halves(w);
        if (R == 1) __builtin_prefetch(w + AHEAD);
        for (int i = 0; i < R; i++) a[R == 1 ? k & 1 : 0][i] += v * x[i];
    }
    for (int i = 0; i < R; i++) acc[i] += a[0][i] + a[1][i];
}
INLINE int32_t word(const float *x) {
    int32_t v;
    memcpy(&v, x, 4);
    return v;
}
INLINE void tile_q8(const int R, vf *acc, const char *w, const float *x, int cols, int part) {
    vf a[ROW_BLOCK_MAX];
    for (int i = 0; i < R; i++) a[i] = acc[i];
    for (int b = 0; b < cols / QBLOCK; b++, x += QUANT_WORDS * R, w += 34 * PANEL) {
        vi s[ROW_BLOCK_MAX];
        const char *cell = w + 2 * PANEL + part * VL * 4;
        for (int i = 0; i < R; i++) s[i] = BIASED ? all_int(word(&x[10 * R + i])) : (vi){ 0 };
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            const vi v = load_bytes(cell + 4 * PANEL * j), first = s8_first(v);
            if (R == 1) __builtin_prefetch(cell + 4 * PANEL * j + AHEAD);
            for (int i = 0; i < R; i++) s[i] = dot_s8(s[i], first, v, word(&x[j * R + i]));
        }
        const vf d = halves(w + part * VL * 2);
        for (int i = 0; i < R; i++) a[i] += to_float(s[i]) * (d * x[8 * R + i]);
    }
    for (int i = 0; i < R; i++) acc[i] = a[i];
}
INLINE void tile_q4(const int R, const bool minima, vf *acc, const char *w, const float *x, int cols, int part) {
    const int head = minima ? 4 * PANEL : 2 * PANEL;
    vf a[ROW_BLOCK_MAX];
    for (int i = 0; i < R; i++) a[i] = acc[i];
    for (int b = 0; b < cols / QBLOCK; b++, x += QUANT_WORDS * R, w += head + 16 * PANEL) {
        vi s[ROW_BLOCK_MAX];
        const char *cell = w + head + part * VL * 4;
        for (int i = 0; i < R; i++) s[i] = minima ? (vi){ 0 } : all_int(word(&x[10 * R + i])) >> 4; /* -8 * sum */
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const vi v = load_bytes(cell + 4 * PANEL * j), low = v & 0x0f0f0f0f, high = (v >> 4) & 0x0f0f0f0f;
            if (R == 1) __builtin_prefetch(cell + 4 * PANEL * j + AHEAD);
            for (int i = 0; i < R; i++) s[i] = dot_nibbles(s[i], low, word(&x[2 * j * R + i]));
            for (int i = 0; i < R; i++) s[i] = dot_nibbles(s[i], high, word(&x[(2 * j + 1) * R + i]));
        }
        const vf d = halves(w + part * VL * 2), m = minima ? halves(w + 2 * PANEL + part * VL * 2) : d;
        for (int i = 0; i < R; i++) {
            a[i] += to_float(s[i]) * (d * x[8 * R + i]);
            if (minima) a[i] += m * x[9 * R + i];
        }
    }
    for (int i = 0; i < R; i++) acc[i] = a[i];
}
/* X(name, body with R as its first argument, the rest) */
#define TILES(R)                                                                                                       \
    static void f32_##R(vf *a, const char *w, const float *x, int n, int part) { tile_f32(R, a, w, x, n, part); }      \
    static void f16_##R(vf *a, const char *w, const float *x, int n, int part) { tile_16(R, 0, a, w, x, n, part); }    \
    static void bf16_##R(vf *a, const char *w, const float *x, int n, int part) { tile_16(R, 1, a, w, x, n, part); }   \
    static void q8_0_##R(vf *a, const char *w, const float *x, int n, int part) { tile_q8(R, a, w, x, n, part); }      \
    static void q4_0_##R(vf *a, const char *w, const float *x, int n, int part) { tile_q4(R, 0, a, w, x, n, part); }   \
    static void q4_1_##R(vf *a, const char *w, const float *x, int n, int part) { tile_q4(R, 1, a, w, x, n, part); }   \
    static tile_fn *const tiles_##R[] = {                                                                              \
        [DTYPE_F32] = f32_##R,   [DTYPE_F16] = f16_##R,   [DTYPE_BF16] = bf16_##R,                                     \
        [DTYPE_Q8_0] = q8_0_##R, [DTYPE_Q4_0] = q4_0_##R, [DTYPE_Q4_1] = q4_1_##R,                                     \
    };
TILES(1)
TILES(4)
#if defined(__AVX512F__)
enum { ROW_BLOCK = 12 }; /* 12 sums and 12 integer sums of 32 registers */
TILES(12)
#define TILES_MOST tiles_12
#else
enum { ROW_BLOCK = 4 };
#define TILES_MOST tiles_4
#endif

/* ---- a panel of one segment for one block, into out[i * unit + lane] ---- */
static void panel(const struct input *in, const struct seg *g, int r, int b, float *out, int ld) {
    vf acc[2][PARTS][ROW_BLOCK_MAX];
    for (int side = 0; side <= g->gate; side++)
        for (int part = 0; part < PARTS; part++) memset(acc[side][part], 0, sizeof(vf) * (size_t)in->R);
    tile_fn *const *tiles = in->R == 1 ? tiles_1 : in->R == 4 ? tiles_4 : TILES_MOST;
    for (int t = 0; t < g->terms; t++) {
        const struct term *e = &g->t[t];
        const struct packed *pk = e->w->packed;
        const char *p = pk->p + (size_t)(r / PANEL) * pk->stride;
        const struct feed d = { .quant = cpu_form_quant(pk->form) };
        const float *x = in->at[e->feed] + (size_t)b * block_floats(&d, e->w->cols, in->R);
        vf(*a)[ROW_BLOCK_MAX] = acc[g->gate ? t : 0];
        for (int part = 0; part < PARTS; part++) {
            tiles[pk->form](a[part], p, x, e->w->cols, part);
            const vf bias = e->b ? load(vector_of(e->b) + r + part * VL) : (vf){ 0 };
            for (int i = 0; e->b && i < in->R; i++) a[part][i] += bias;
        }
    }
    for (int i = 0; i < in->R && b * in->R + i < in->rows; i++)
        for (int part = 0; part < PARTS; part++) {
            vf v = vact(g->act, acc[0][part][i]);
            if (g->gate) v *= acc[1][part][i];
            store(out + i * ld + part * VL, v);
        }
}
/* Row i's n results from column r0 on, to where the segment wants them. */
static void finish(const struct input *in, const struct seg *g, int r0, int i, float *v, int n) {
    const struct mat *out = &in->c->m[g->out];
    if (n > out->cols - r0) n = out->cols - r0;
    if (g->rope) NAMED(rotate)(v, row(&in->c->m[in->f->angles], i), in->f->rope.rot);
    if (!g->add) {
        NAMED(put)(out, in->w->s, i, r0, v, n, g->keys);
        return;
    }
    float *y = row(out, i) + r0;
    for (int j = 0; j < n; j++) y[j] += v[j];
}
static int unit(const struct proj *f, const struct seg *g) {
    return g->rope ? f->rope.head_dim : g->t[0].w->rows < TALL ? UNIT : UNIT_TALL;
}
static void run(struct worker *w, const struct op_call *c, const struct proj *f) {
    const struct input in = inputs(w, c, f);
    if (!in.alone) {
        EACH_TASK(b, w, in.blocks) make_block(&in, b);
        pool_next(w->pool, w->id); /* every block is read by every thread */
    }
    int first[SEGS + 1] = { 0 };
    for (int k = 0; k < f->segs; k++)
        first[k + 1] = first[k] + (f->seg[k].t[0].w->rows + unit(f, &f->seg[k]) - 1) / unit(f, &f->seg[k]);
    const int each = (GROUP_ROWS + in.R - 1) / in.R, groups = (in.blocks + each - 1) / each;
    float buffer[ROW_BLOCK_MAX * HEAD_DIM_MAX] __attribute__((aligned(64)));
    bool ready = !in.alone;
    EACH_TASK(t, w, first[f->segs] * groups) {
        for (int b = 0; !ready && b < in.blocks; b++) make_block(&in, b); /* within a task: the rows cannot change */
        ready = true;
        int k = 0;
        while (t / groups >= first[k + 1]) k++;
        const struct seg *g = &f->seg[k];
        const int u = unit(f, g), r0 = (t / groups - first[k]) * u, b0 = t % groups * each;
        for (int b = b0; b < b0 + each && b < in.blocks; b++) {
            for (int r = 0; r < u && r0 + r < g->t[0].w->rows; r += PANEL) panel(&in, g, r0 + r, b, buffer + r, u);
            for (int i = 0; i < in.R && b * in.R + i < in.rows; i++)
                finish(&in, g, r0, b * in.R + i, buffer + i * u, u);
        }
    }
}
void NAMED(op_proj)(struct worker *w, const struct op_call *c) { run(w, c, c->priv); }
void NAMED(op_linear)(struct worker *w, const struct op_call *c) {
    const struct proj f = cpu_linear_as_proj(c);
    run(w, c, &f);
}

/* ---- the machine's ceilings, for probe ---- */
static float stream(const char *p, size_t bytes) {
    vi s[4] = { 0 };
    for (size_t i = 0; i + 4 * sizeof(vi) <= bytes; i += 4 * sizeof(vi)) {
        __builtin_prefetch(p + i + AHEAD);
        for (int k = 0; k < 4; k++) s[k] ^= load_bytes(p + i + (size_t)k * sizeof(vi));
    }
    return sum_of(to_float(s[0] ^ s[1] ^ s[2] ^ s[3]));
}
static float multiply(long rounds, double *flops) {
    enum { CHAINS = 10 };
    vf a[CHAINS];
    for (int i = 0; i < CHAINS; i++) a[i] = all((float)i);
    const vf x = all(0.999f), y = all(0.001f);
    for (long r = 0; r < rounds; r++) /* each round needs the one before: without -ffast-math none can be left out */
        for (int i = 0; i < CHAINS; i++) a[i] = a[i] * x + y;
    *flops = 2.0 * VL * CHAINS * (double)rounds;
    for (int i = 1; i < CHAINS; i++) a[0] += a[i];
    return sum_of(a[0]);
}
/* Four products of bytes a lane and instruction, as quantised weights are multiplied. */
static float multiply_bytes(long rounds, double *ops) {
    enum { CHAINS = 10 };
    vi s[CHAINS], w[CHAINS];
    volatile int32_t x = 0x01020304; /* read anew each round: no product may be kept for the next */
    for (int i = 0; i < CHAINS; i++) {
        s[i] = all_int(0);
        w[i] = all_int(0x01010101 * (i + 1));
    }
    for (long r = 0; r < rounds; r++) {
        const int32_t v = x;
        for (int i = 0; i < CHAINS; i++) s[i] = dot_nibbles(s[i], w[i], v);
    }
    *ops = 8.0 * VL * CHAINS * (double)rounds;
    for (int i = 1; i < CHAINS; i++) s[0] ^= s[i];
    return sum_of(to_float(s[0]));
}
const struct kernels NAMED(cpu_kernels) = {
    .isa = ISA_TEXT,
    .row_block = ROW_BLOCK,
    .op = { [OP_EMBED] = NAMED(op_embed),
            [OP_ANGLES] = NAMED(op_angles),
            [OP_LINEAR] = NAMED(op_linear),
            [OP_NORM] = NAMED(op_norm),
            [OP_ROPE] = NAMED(op_rope),
            [OP_KV_PUT] = NAMED(op_kv_put),
            [OP_ATTN] = NAMED(op_attn),
            [OP_GATE] = NAMED(op_gate),
            [OP_ADD] = NAMED(op_add),
            [OP_PICK] = NAMED(op_pick),
            [OP_NEXT] = NAMED(op_next),
            [OP_PROJ] = NAMED(op_proj) },
    .read = stream,
    .multiply = multiply,
    .multiply_bytes = multiply_bytes,
};
