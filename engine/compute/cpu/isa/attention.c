/* attention.c - softmax(q k^T / sqrt(d)) v with an online softmax: no scratch that grows with the context. */
#include "compute/cpu/isa/ops.h"

/* Queries that share one pass over the keys; keys per softmax step; keys that are worth a task of their own; floats from
 * query to query (no power of two, or a column of all of them would lie in few cache sets). */
enum { QUERIES = 12, KEYS = 64, CHUNK_KEYS = 192, APART = HEAD_DIM_MAX + PANEL };

/* Queries of one sequence that read one KV head. */
struct pass {
    const struct op_call *c;
    const struct step *s;
    const char *across; /* the KV head's keys, where they are not cached */
    int n, hd, col;     /* queries; columns: size, and where the KV head begins */
    int base, from, to,
        end[QUERIES]; /* KV rows: the sequence's first, the pass's; query i sees those below end[i] ... */
    const struct step_row *masked[QUERIES]; /* ... and of these, unless NULL, what its mask shows */
    uint64_t seen;                          /* of the KEYS rows at hand, those that any query sees */
    float *out[QUERIES], top[QUERIES], sum[QUERIES];
    float q[QUERIES][APART]; /* scaled by 1 / sqrt(d) */
    float y[QUERIES][APART];
    float p[QUERIES][KEYS];
};

/* ---- out[i][lane] += the sum over k < n of w[k][lane] * x[i][k], for so many vectors of lanes ---- */
struct weighted {
    const char *w;
    size_t row, vector; /* bytes from k to k + 1; from one vector of lanes to the next */
    const float *x;
    float *out;
    int ldx, ldo, n, vectors;
    ptrdiff_t ahead; /* from what is read to what the next product reads */
};
INLINE vf numbers(const bool half, const char *p) { return half ? halves(p) : load((const float *)(const void *)p); }
INLINE void add_row(const int R, const int C, const bool half, vf *a, const struct weighted *p, const char *w, int k) {
    vf v[16];
#pragma GCC unroll 16
    for (int c = 0; c < C; c++) {
        const char *at = w + (size_t)c * p->vector + (size_t)k * p->row;
        if (R > 1) __builtin_prefetch(at + p->ahead, 0, 2); /* for one query everything is read in a row: no need */
        v[c] = numbers(half, at);
    }
#pragma GCC unroll 12
    for (int i = 0; i < R; i++)
#pragma GCC unroll 16
        for (int c = 0; c < C; c++) a[i * C + c] += v[c] * p->x[i * p->ldx + k];
}
/* R queries by C vectors, U sums of each to hide latency. */
INLINE void block(const int R, const int C, const int U, const bool half, const struct weighted *p, int at) {
    vf a[24] = { 0 };
    const char *w = p->w + (size_t)at * p->vector;
    int k = 0;
    for (; k + U <= p->n; k += U)
#pragma GCC unroll 4
        for (int u = 0; u < U; u++) add_row(R, C, half, a + u * R * C, p, w, k + u);
    for (; k < p->n; k++) add_row(R, C, half, a, p, w, k);
#pragma GCC unroll 12
    for (int i = 0; i < R; i++)
#pragma GCC unroll 16
        for (int c = 0; c < C; c++) {
            float *out = p->out + i * p->ldo + (at + c) * VL;
            vf sum = load(out);
#pragma GCC unroll 4
            for (int u = 0; u < U; u++) sum += a[(u * R + i) * C + c];
            store(out, sum);
        }
}
INLINE void blocks(const int R, const int C, const bool half, const struct weighted *p) {
    int at = 0;
    for (; at + C <= p->vectors; at += C) block(R, C, 1, half, p, at);
    for (; at < p->vectors; at++) block(R, 1, 1, half, p, at);
}
/* One query: memory is the limit, and gives most when it is read in a row. */
INLINE void line(const bool half, const struct weighted *p) {
    const bool beside = p->vector == VL * (half ? 2 : 4);
    int at = 0;
    for (; VL == 16 && beside && at + 16 <= p->vectors; at += 16) block(1, 16, 1, half, p, at);
    for (; beside && at + 8 <= p->vectors; at += 8) block(1, 8, 1, half, p, at);
    for (; beside && at + 4 <= p->vectors; at += 4) block(1, 4, 1, half, p, at);
    for (; beside && at + 2 <= p->vectors; at += 2) block(1, 2, 4, half, p, at);
    for (; at < p->vectors; at++) block(1, 1, 4, half, p, at);
}
static void f32_1(const struct weighted *p) { line(false, p); }
static void f16_1(const struct weighted *p) { line(true, p); }
#define WEIGHTED(R, C)                                                                                                 \
    static void f32_##R(const struct weighted *p) { blocks(R, C, false, p); }                                          \
    static void f16_##R(const struct weighted *p) { blocks(R, C, true, p); }
#if defined(__AVX512F__) /* 32 registers; else 16 */
WEIGHTED(4, 4)
WEIGHTED(6, 4)
WEIGHTED(8, 2)
WEIGHTED(12, 2)
#else
WEIGHTED(4, 2)
WEIGHTED(6, 2)
WEIGHTED(8, 1)
WEIGHTED(12, 1)
#endif
/* Queries that n are rounded up to; what lies between is calculated for nothing. */
static int rounded(int n) { return n == 1 ? 1 : n <= 4 ? 4 : n <= 6 ? 6 : n <= 8 ? 8 : QUERIES; }
static void weighted(int n, bool half, const struct weighted *p) {
    static void (*const f[2][QUERIES / 2 + 1])(const struct weighted *) = {
        { f32_1, 0, f32_4, f32_6, f32_8, 0, f32_12 }, { f16_1, 0, f16_4, f16_6, f16_8, 0, f16_12 }
    };
    f[half][rounded(n) / 2](p);
}

/* ---- one pass ---- */
/* p[i][j] = score of query i and KV row t0 + j. */
static void scores(struct pass *a, int t0) {
    const struct mat *k = &a->c->m[2];
    const int left = a->to - t0 < KEYS ? a->to - t0 : KEYS, tiles = (left + PANEL - 1) / PANEL;
    const bool cached = k->dim == DIM_KV, together = PARTS == 1; /* tiles follow each other as vectors do */
    const size_t row_bytes = PANEL * number_bytes(k);
    const ptrdiff_t values = cached ? value_at(&a->c->m[3], t0, a->col) - key_at(k, t0, a->col) : 0;
    for (int i = 0; i < rounded(a->n); i++) memset(a->p[i], 0, sizeof a->p[i]);
    for (int t = 0; t < tiles; t += together ? tiles : 1) {
        const char *w = cached ? key_at(k, t0 + t * PANEL, a->col)
                               : a->across + (size_t)(t0 / PANEL + t) * (size_t)a->hd * row_bytes;
        struct weighted p = { w,     row_bytes, row_bytes / PARTS, a->q[0], &a->p[0][t * PANEL], APART, KEYS, a->hd,
                              PARTS, values };
        if (together) {
            p.vector = row_bytes * (size_t)a->hd;
            p.vectors = tiles;
        }
        weighted(a->n, k->dt == DTYPE_F16, &p);
    }
}
/* -inf where a query must not look. */
static void hide(struct pass *a, int t0) {
    a->seen = 0;
    for (int i = 0; i < a->n; i++) {
        const int end = (a->end[i] < a->to ? a->end[i] : a->to) - t0, lo = a->from > t0 ? a->from - t0 : 0;
        const int hi = end < KEYS ? end : KEYS;
        uint64_t bits = hi > lo ? ~(uint64_t)0 >> (KEYS - (hi - lo)) << lo : 0;
        for (int j = lo; a->masked[i] && j < hi; j++)
            if (!step_sees(a->s, a->masked[i], t0 + j - a->base)) bits &= ~((uint64_t)1 << j);
        a->seen |= bits;
        for (int j = 0; ~bits && j < KEYS; j++)
            if (!(bits >> j & 1)) a->p[i][j] = -INFINITY;
    }
}
/* Scores become weights relative to the largest score so far; what was summed before is scaled to match. */
static void soften(struct pass *a, int i) {
    float *p = a->p[i];
    vf most = load(p), total = { 0 };
    for (int j = VL; j < KEYS; j += VL) most = vmax(load(p + j), most);
    const float m = max_of(most), top = m > a->top[i] ? m : a->top[i];
    if (m == -INFINITY) {
        memset(p, 0, sizeof a->p[i]);
        return;
    }
    if (top != a->top[i]) {
        const float keep = expf(a->top[i] - top);
        for (int d = 0; d < a->hd; d++) a->y[i][d] *= keep;
        a->sum[i] *= keep;
        a->top[i] = top;
    }
    for (int j = 0; j < KEYS; j += VL) {
        const vf v = vexp(load(p + j) - top);
        store(p + j, v);
        total += v;
    }
    a->sum[i] += sum_of(total);
}
/* y += p v over the rows t .. t + n - 1, which lie at p[.][j] on. */
static void mix(struct pass *a, int j, int t, int n) {
    const struct mat *v = &a->c->m[3];
    const bool half = v->dt == DTYPE_F16;
    const size_t bytes = number_bytes(v), next = (size_t)v->ld * bytes;
    const char *from = v->dim == DIM_KV ? value_at(v, t, a->col) : (const char *)(row(v, t) + a->col);
    /* Numbers from the head's first of row t to the end of the buffer: up to there the last vector of a head may reach beyond
     * its columns, into lanes of y that nobody reads. */
    const size_t ld = (size_t)v->ld,
                 first = v->dim == DIM_KV ? (size_t)(a->col / v->ld) * ld * (size_t)v->rows : (size_t)a->col;
    const size_t room =
        (size_t)v->cols / (v->dim == DIM_KV ? ld : (size_t)v->cols) * ld * (size_t)v->rows - first - (size_t)t * ld;
    const bool beyond = (size_t)(n - 1) * ld + (size_t)((a->hd + VL - 1) / VL * VL) <= room;
    const int whole = beyond ? (a->hd + VL - 1) / VL : a->hd / VL, rest = beyond ? 0 : a->hd % VL;
    const ptrdiff_t keys =
        v->dim == DIM_KV ? key_at(&a->c->m[2], t - j + KEYS, a->col) - value_at(v, t - j, a->col) : 0;
    struct weighted p = { from, next, VL * bytes, &a->p[0][j], a->y[0], KEYS, APART, n, whole, keys };
    weighted(a->n, half, &p);
    if (!rest) return;
    float tail[KEYS * VL] = { 0 }; /* the columns after this head may lie outside the buffer */
    for (int r = 0; r < n; r++)
        for (int d = 0; d < rest; d++) {
            const char *at = from + (size_t)r * next + (size_t)(whole * VL + d) * bytes;
            uint16_t h;
            memcpy(half ? (void *)&h : (void *)&tail[r * VL + d], at, bytes);
            if (half) tail[r * VL + d] = cpu_half(h);
        }
    p = (struct weighted){ (char *)tail, sizeof(vf), 0, &a->p[0][j], a->y[0] + whole * VL, KEYS, APART, n, 1, 0 };
    weighted(a->n, false, &p);
}
static void attend(struct pass *a) {
    for (int t = a->from / PANEL * PANEL; t < a->to; t += KEYS) {
        scores(a, t);
        hide(a, t);
        for (int i = 0; i < a->n; i++) soften(a, i);
        for (int j = 0, n; j < KEYS; j += n) { /* what nobody sees is not read: anything may lie there */
            const uint64_t bits = a->seen >> j, from = bits & 1 ? ~bits : bits;
            n = from ? __builtin_ctzll(from) : KEYS;
            if (n > KEYS - j) n = KEYS - j;
            if (bits & 1) mix(a, j, t + j, n);
        }
    }
}
/* Queries of a block, where nothing is cached. */
static int block_rows(const struct worker *w, const struct op_call *c) {
    const int n = live(w, &c->m[1]) / attn_blocks(&c->u.attn);
    return n ? n : 1;
}
/* Keys of one KV head that are not cached lie as in the cache for their pass: tiles of PANEL rows, columns outside. */
static size_t across_bytes(int rows, int hd) {
    return (size_t)(rows + PANEL - 1) / PANEL * PANEL * (size_t)hd * sizeof(float);
}
static void lay_across(const struct worker *w, const struct op_call *c, int head, int tile) {
    const struct mat *k = &c->m[2];
    const int hd = c->u.attn.head_dim, rows = live(w, k), left = rows - tile * PANEL, n = left < PANEL ? left : PANEL;
    float *to = (float *)(void *)(w->shared + across_bytes(rows, hd) * (size_t)head) + tile * PANEL * hd;
    if (n < PANEL) memset(to, 0, sizeof *to * PANEL * (size_t)hd);
    for (int j = 0; j < n; j++) {
        const float *from = row(k, tile * PANEL + j) + head * hd;
        for (int d = 0; d < hd; d++) to[d * PANEL + j] = from[d];
    }
}
/* Heads h0 .. h0 + heads - 1 (of one KV head) of rows i0 .. i1 - 1 (of one sequence or block), over all they see. */
static void queries(struct pass *a, const struct worker *w, int i0, int i1, int h0, int heads) {
    const struct attn_of *s = &a->c->u.attn;
    const bool cached = a->c->m[2].dim == DIM_KV;
    const float scale = 1 / sqrtf((float)s->head_dim);
    a->s = w->s;
    a->hd = s->head_dim;
    a->n = (i1 - i0) * heads;
    a->col = h0 / (s->heads / s->kv_heads) * s->head_dim;
    const int all = live(w, &a->c->m[2]), keys = all / attn_blocks(s); /* of a block, where nothing is cached */
    a->across = cached ? NULL : w->shared + across_bytes(all, a->hd) * (size_t)(a->col / a->hd);
    a->base = a->from = cached ? w->s->row[i0].kv : i0 / block_rows(w, a->c) * keys;
    a->to = 0;
    for (int i = 0; i < rounded(a->n); i++) {
        const bool real = i < a->n;
        const int r = i0 + i / heads, col = (h0 + i % heads) * a->hd;
        for (int d = 0; d < a->hd; d++) a->q[i][d] = real ? row(&a->c->m[1], r)[col + d] * scale : 0;
        memset(a->y[i], 0, sizeof(float) * (size_t)((a->hd + PANEL - 1) / PANEL * PANEL));
        a->top[i] = -INFINITY;
        a->sum[i] = 0;
        if (!real) continue;
        const struct step_row *at = &w->s->row[r];
        a->out[i] = row(&a->c->m[0], r) + col;
        a->end[i] = a->from + (cached ? at->at + 1 : keys);
        a->masked[i] = cached && at->mask ? at : NULL;
        if (a->end[i] > a->to) a->to = a->end[i];
    }
}
/* The first row from i on that is of another sequence (or block), or `most`. */
static int sequence_end(const struct worker *w, const struct op_call *c, int i, int most) {
    int j = i + 1;
    if (c->m[2].dim != DIM_KV) {
        j = (i / block_rows(w, c) + 1) * block_rows(w, c);
        return j < most ? j : most;
    }
    while (j < most && w->s->row[j].kv == w->s->row[i].kv) j++;
    return j;
}
static void whole(struct worker *w, const struct op_call *c) {
    const struct attn_of *s = &c->u.attn;
    const int rows = live(w, &c->m[1]), group = s->heads / s->kv_heads;
    int heads = group < QUERIES ? group : QUERIES, many = QUERIES / heads;             /* of one task: heads, rows */
    if ((rows + many - 1) / many * s->kv_heads < 4 * pool_threads(w->pool)) heads = 1; /* few tasks: finer ones */
    const int parts = (group + heads - 1) / heads, blocks = (rows + many - 1) / many;
    struct pass a;
    a.c = c;
    EACH_TASK(t, w, blocks * s->kv_heads * parts) {
        const int part = t % (s->kv_heads * parts), h0 = part / parts * group + part % parts * heads;
        const int left = (part / parts + 1) * group - h0, n = heads < left ? heads : left;
        const int i0 = t / (s->kv_heads * parts) * many, i1 = i0 + many < rows ? i0 + many : rows;
        for (int i = i0, j; i < i1; i = j) {
            j = sequence_end(w, c, i, i1);
            queries(&a, w, i, j, h0, n);
            attend(&a);
            for (int k = 0; k < a.n; k++)
                for (int d = 0; d < a.hd; d++) a.out[k][d] = a.y[k][d] / a.sum[k];
        }
    }
}

/* ---- few rows, many keys: the keys are dealt out in chunks, and what the chunks found is put together ---- */
static float *found(const struct worker *w, const struct attn_of *s, int row_head, int chunk) {
    return (float *)(void *)w->shared + ((size_t)row_head * ATTN_CHUNKS + (size_t)chunk) * (size_t)(s->head_dim + 2);
}
/* One chunk for one KV head and all rows of row i's sequence; nothing to do unless row i is the first of them. */
static void chunk_of_keys(struct worker *w, struct pass *a, int i, int kv_head, int chunk, int size) {
    const struct attn_of *s = &a->c->u.attn;
    const int group = s->heads / s->kv_heads, end = kv_head * group + group;
    if (i && w->s->row[i].kv == w->s->row[i - 1].kv) return;
    const int i1 = sequence_end(w, a->c, i, live(w, &a->c->m[1])), heads = QUERIES / (i1 - i);
    for (int h = end - group; h < end; h += heads) {
        const int n = end - h < heads ? end - h : heads;
        queries(a, w, i, i1, h, n);
        a->from += chunk * size;
        if (a->from + size < a->to) a->to = a->from + size;
        attend(a);
        for (int k = 0; k < a->n; k++) {
            float *f = found(w, s, (i + k / n) * s->heads + h + k % n, chunk);
            memcpy(f, a->y[k], sizeof *f * (size_t)a->hd);
            f[a->hd] = a->top[k];
            f[a->hd + 1] = a->sum[k];
        }
    }
}
static void put_together(struct worker *w, const struct op_call *c, int t, int chunks) {
    const struct attn_of *s = &c->u.attn;
    const int hd = s->head_dim;
    float *y = row(&c->m[0], t / s->heads) + t % s->heads * hd, top = -INFINITY, sum = 0;
    memset(y, 0, sizeof *y * (size_t)hd);
    for (int k = 0; k < chunks; k++) top = fmaxf(top, found(w, s, t, k)[hd]);
    for (int k = 0; k < chunks; k++) {
        const float *f = found(w, s, t, k), weight = expf(f[hd] - top);
        for (int d = 0; d < hd; d++) y[d] += weight * f[d];
        sum += weight * f[hd + 1];
    }
    for (int d = 0; d < hd; d++) y[d] /= sum;
}
void NAMED(op_attn)(struct worker *w, const struct op_call *c) {
    const struct attn_of *s = &c->u.attn;
    const int rows = live(w, &c->m[1]), most = w->n[DIM_KV];
    if (c->m[2].dim != DIM_KV) {
        const int tiles = (live(w, &c->m[2]) + PANEL - 1) / PANEL;
        EACH_TASK(t, w, s->kv_heads * tiles) lay_across(w, c, t / tiles, t % tiles);
        pool_next(w->pool, w->id);
        whole(w, c);
        return;
    }
    if (c->m[1].rows > ALONE_ROWS || most <= CHUNK_KEYS) {
        whole(w, c);
        return;
    }
    int size = (most + ATTN_CHUNKS - 1) / ATTN_CHUNKS;
    size = size < CHUNK_KEYS ? CHUNK_KEYS : (size + KEYS - 1) / KEYS * KEYS;
    const int chunks = (most + size - 1) / size;
    struct pass a;
    a.c = c;
    EACH_TASK(t, w, rows * s->kv_heads * chunks) {
        chunk_of_keys(w, &a, t / chunks / s->kv_heads, t / chunks % s->kv_heads, t % chunks, size);
    }
    pool_next(w->pool, w->id);
    EACH_TASK(t, w, rows * s->heads) put_together(w, c, t, chunks);
}
