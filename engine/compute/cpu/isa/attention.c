/* attention.c - softmax(q k^T / sqrt(d)) v with an online softmax: no scratch that grows with the context. */
#include "compute/cpu/isa/ops.h"

/* Queries that share one pass over the keys; keys per softmax step; keys that are worth a task of their own. */
enum { QUERIES = 12, KEYS = 64, CHUNK_KEYS = 192 };

/* Queries of one sequence that read one KV head. */
struct pass {
    const struct op_call *c;
    int n, R, hd, col;          /* queries, rounded up; columns: size, and where the KV head begins */
    int from, to, end[QUERIES]; /* KV rows of the pass; query i sees those below end[i] */
    float *out[QUERIES], top[QUERIES], sum[QUERIES];
    float q[QUERIES][HEAD_DIM_MAX]; /* scaled by 1 / sqrt(d) */
    float y[QUERIES][HEAD_DIM_MAX];
    float p[QUERIES][KEYS];
};

/* out[i * ldo + lane] += the product, for 16 lanes. */
INLINE void product_of(const int R, float *out, const int ldo, struct product p) {
    for (int part = 0; part < PARTS; part++, out += VL, p.w += VL) {
        vf acc[QUERIES];
        for (int i = 0; i < R; i++) acc[i] = load(out + i * ldo);
        multiply_add(R, R == 1 ? 4 : 1, acc, p);
        for (int i = 0; i < R; i++) store(out + i * ldo, acc[i]);
    }
}
INLINE void product(int R, float *out, const int ldo, const struct product p) {
    if (R == 1)
        product_of(1, out, ldo, p);
    else if (R == 4)
        product_of(4, out, ldo, p);
    else
        product_of(QUERIES, out, ldo, p);
}

/* p[i][j] = score of query i and KV row t0 + j; -inf where it must not look. */
static void scores(struct pass *a, int t0) {
    const struct mat *k = &a->c->m[2];
    float across[HEAD_DIM_MAX * PANEL];
    for (int i = 0; i < a->R; i++) memset(a->p[i], 0, sizeof a->p[i]);
    for (int t = t0; t < t0 + KEYS && t < a->to; t += PANEL) {
        const float *tile = across;
        if (k->dim == DIM_KV)
            tile = key_at(k, t, a->col);
        else
            for (int j = 0; j < PANEL; j++)
                for (int d = 0; d < a->hd; d++) across[d * PANEL + j] = t + j < a->to ? row(k, t + j)[a->col + d] : 0;
        product(a->R, &a->p[0][t - t0], KEYS, (struct product){ tile, PANEL, a->q[0], HEAD_DIM_MAX, 1, a->hd });
    }
    for (int i = 0; i < a->n; i++) {
        const int lo = a->from - t0, hi = (a->end[i] < a->to ? a->end[i] : a->to) - t0;
        if (lo <= 0 && hi >= KEYS) continue;
        for (int j = 0; j < KEYS; j++)
            if (j < lo || j >= hi) a->p[i][j] = -INFINITY;
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
static void mix(struct pass *a, int t0) { /* y += p v */
    const struct mat *v = &a->c->m[3];
    const int lo = t0 > a->from ? t0 : a->from, hi = t0 + KEYS < a->to ? t0 + KEYS : a->to;
    const float *from = v->dim == DIM_KV ? value_at(v, lo, a->col) : row(v, lo) + a->col;
    for (int d = 0; d < a->hd; d += PANEL) {
        float tail[KEYS * PANEL];
        const bool inside = d + PANEL <= a->hd; /* else the columns after this head may lie outside the buffer */
        for (int t = lo; !inside && t < hi; t++)
            for (int j = 0; j < PANEL; j++)
                tail[(t - lo) * PANEL + j] = d + j < a->hd ? from[(t - lo) * v->ld + d + j] : 0;
        const struct product p = {
            inside ? from + d : tail, inside ? (size_t)v->ld : PANEL, &a->p[0][lo - t0], KEYS, 1, hi - lo
        };
        product(a->R, &a->y[0][d], HEAD_DIM_MAX, p);
    }
}
static void attend(struct pass *a) {
    for (int t = a->from / PANEL * PANEL; t < a->to; t += KEYS) {
        scores(a, t);
        for (int i = 0; i < a->n; i++) soften(a, i);
        mix(a, t);
    }
}
/* Heads h0 .. h0 + heads - 1 (of one KV head) of rows i0 .. i1 - 1 (of one sequence), over all they see. */
static void queries(struct pass *a, const struct worker *w, int i0, int i1, int h0, int heads) {
    const struct attn_of *s = &a->c->u.attn;
    const bool cached = a->c->m[2].dim == DIM_KV;
    const float scale = 1 / sqrtf((float)s->head_dim);
    a->hd = s->head_dim;
    a->n = (i1 - i0) * heads;
    a->R = a->n == 1 ? 1 : a->n <= 4 ? 4 : QUERIES;
    a->col = h0 / (s->heads / s->kv_heads) * s->head_dim;
    a->from = cached ? w->s->row[i0].kv : 0;
    a->to = 0;
    for (int i = 0; i < a->R; i++) {
        const bool real = i < a->n;
        const int r = i0 + i / heads, col = (h0 + i % heads) * a->hd;
        for (int d = 0; d < a->hd; d++) a->q[i][d] = real ? row(&a->c->m[1], r)[col + d] * scale : 0;
        memset(a->y[i], 0, sizeof(float) * (size_t)((a->hd + PANEL - 1) / PANEL * PANEL));
        a->top[i] = -INFINITY;
        a->sum[i] = 0;
        if (!real) continue;
        a->out[i] = row(&a->c->m[0], r) + col;
        a->end[i] = a->from + (cached ? w->s->row[r].pos + 1 : live(w, &a->c->m[2]));
        if (a->end[i] > a->to) a->to = a->end[i];
    }
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
        for (int i = i0, j; i < i1; i = j) { /* rows of one sequence at a time */
            for (j = i + 1; j < i1 && (c->m[2].dim != DIM_KV || w->s->row[j].kv == w->s->row[i].kv);) j++;
            queries(&a, w, i, j, h0, n);
            attend(&a);
            for (int k = 0; k < a.n; k++)
                for (int d = 0; d < a.hd; d++) a.out[k][d] = a.y[k][d] / a.sum[k];
        }
    }
}

/* ---- few rows, many keys: the keys are dealt out in chunks, and what the chunks found is put together ---- */
static float *found(const struct worker *w, const struct attn_of *s, int row_head, int chunk) {
    return (float *)(void *)w->shared + (size_t)(row_head * ATTN_CHUNKS + chunk) * (size_t)(s->head_dim + 2);
}
static void chunk_of_keys(struct worker *w, const struct attn_of *s, struct pass *a, int t, int size) {
    const int group = s->heads / s->kv_heads, chunk = t % ATTN_CHUNKS, i = t / ATTN_CHUNKS / s->kv_heads;
    const int first = t / ATTN_CHUNKS % s->kv_heads * group;
    for (int h = first; h < first + group; h += QUERIES) {
        const int n = first + group - h < QUERIES ? first + group - h : QUERIES;
        queries(a, w, i, i + 1, h, n);
        a->from += chunk * size;
        if (a->from + size < a->to) a->to = a->from + size;
        attend(a);
        for (int k = 0; k < n; k++) {
            float *f = found(w, s, i * s->heads + h + k, chunk);
            memcpy(f, a->y[k], sizeof *f * (size_t)a->hd);
            f[a->hd] = a->top[k];
            f[a->hd + 1] = a->sum[k];
        }
    }
}
static void together(struct worker *w, const struct op_call *c, int t, int chunks) {
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
    if (c->m[2].dim != DIM_KV || c->m[1].rows > ALONE_ROWS || most <= CHUNK_KEYS) {
        whole(w, c);
        return;
    }
    int size = (most + ATTN_CHUNKS - 1) / ATTN_CHUNKS;
    size = size < CHUNK_KEYS ? CHUNK_KEYS : (size + KEYS - 1) / KEYS * KEYS;
    const int chunks = (most + size - 1) / size;
    struct pass a;
    a.c = c;
    EACH_TASK(t, w, rows * s->kv_heads * chunks) {
        chunk_of_keys(w, s, &a, t / chunks * ATTN_CHUNKS + t % chunks, size);
    }
    pool_next(w->pool, w->id);
    EACH_TASK(t, w, rows * s->heads) together(w, c, t, chunks);
}
