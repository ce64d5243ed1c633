/* linear.c - PROJ, and LINEAR as its simplest case: rows of a step times panels of 16 weight rows. */
#include "compute/cpu/isa/ops.h"
#include "compute/cpu/isa/tile.h"

/* A task is UNIT weight rows (few step rows, TALL matrices: more, since short tasks restart the stream) by a group of
 * blocks of step rows. Its results wait in SUMS floats. The weights of CHUNK columns stay in the first cache while the
 * blocks pass by. Groups of more than GROUP_ROWS are halved where threads would go without a task. */
enum { UNIT = 32, UNIT_TALL = 64, TALL = 4096, SUMS = 16384, CHUNK = 512, GROUP_ROWS = 64 };
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
static enum feed_kind kind_of(enum feed_kind kind, int R) { /* as this instruction set takes it */
    return kind == FEED_PAIRS && !(BF16_PAIRS && R == ROW_BLOCK) ? FEED_FLOAT : kind;
}
/* Floats of a block's first so many columns. */
static size_t block_floats(enum feed_kind kind, int cols, int R) {
    const size_t n = (size_t)cols, k = (size_t)R;
    return (kind == FEED_QUANT ? n / QBLOCK * QUANT_WORDS : kind == FEED_PAIRS ? (n + 1) / 2 : n) * k;
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
/* 32 columns of one row as int8, and their sums. */
static void quantise_block(float *feed, int R, int i, const float *x, float inverse, float scale) {
    int32_t word[QBLOCK / 4], sum[2] = { 0, 0 };
    for (int j = 0; j < QBLOCK; j += VL) {
        const vi n = to_int(load(x + j) * inverse);
        const vb q = __builtin_convertvector(n, vb);
        memcpy((char *)word + j, &q, VL);
        const vi bytes = (n << 24) >> 24; /* NaN makes any number */
        for (int l = 0; l < VL; l++) sum[j >= QBLOCK / 2] += bytes[l];
    }
    const int32_t sums[3] = { -8 * (sum[0] + sum[1]), -128 * (sum[0] + sum[1]), -8 * sum[0] };
    for (int j = 0; j < QBLOCK / 4; j++) memcpy(&feed[j * R + i], &word[j], 4);
    feed[8 * R + i] = scale;
    for (int j = 0; j < 3; j++) memcpy(&feed[(9 + j) * R + i], &sums[j], 4);
}
/* One row as int8 with a scale per FEED_GROUP columns, into lane i of a block of R rows. */
static void quantise(float *feed, int R, int i, const float *x, int cols) {
    for (int g = 0; g < cols; g += FEED_GROUP) {
        const int end = cols - g < FEED_GROUP ? cols : g + FEED_GROUP;
        vf most = { 0 }, bad = { 0 };
        for (int j = g; j < end; j += VL) {
            const vf v = load(x + j);
            most = vmax(pick(v < 0, -v, v), most);
            bad += v * 0.0f; /* NaN and infinity must come out as NaN, not vanish in a maximum */
        }
        const float top = max_of(most), inverse = top > 0 ? 127.0f / top : 0, scale = top / 127.0f + sum_of(bad);
        for (int j = g; j < end; j += QBLOCK, feed += (size_t)QUANT_WORDS * (size_t)R)
            quantise_block(feed, R, i, x + j, inverse, scale);
    }
}
static void pairs(float *feed, int R, int i, const float *x, int cols) {
    for (int j = 0; j < cols; j += 2) {
        const uint32_t two = (uint32_t)to_bfloat(x[j]) | (j + 1 < cols ? (uint32_t)to_bfloat(x[j + 1]) << 16 : 0);
        memcpy(&feed[j / 2 * R + i], &two, 4);
    }
}
static void make_block(const struct input *in, int b) {
    for (int k = 0; k < in->f->feeds; k++) {
        const struct feed *d = &in->f->feed[k];
        const struct mat *x = &in->c->m[d->x];
        const enum feed_kind kind = kind_of(d->kind, in->R);
        const size_t floats = block_floats(kind, x->cols, in->R);
        float *feed = in->at[k] + (size_t)b * floats;
        if (in->at[k] == row(x, 0)) continue; /* read as it is */
        if ((b + 1) * in->R > in->rows) memset(feed, 0, floats * sizeof *feed);
        for (int i = 0; i < in->R && b * in->R + i < in->rows; i++) {
            const float *from = row(x, b * in->R + i);
            if (d->norm >= 0) {
                NAMED(norm_row)(in->temp, from, x->cols, &in->f->norm[d->norm]);
                from = in->temp;
            }
            if (kind == FEED_QUANT)
                quantise(feed, in->R, i, from, x->cols);
            else if (kind == FEED_PAIRS)
                pairs(feed, in->R, i, from, x->cols);
            else
                for (int j = 0; j < x->cols; j++) feed[j * in->R + i] = from[j];
        }
    }
}

/* ---- a task: rows r0..r0 + n of one segment by blocks b0..b1 of step rows ---- */
struct part {
    const struct input *in;
    const struct seg *g;
    int r0, n, b0, b1, ld; /* n: whole panels; ld: columns of the sums */
    float *sums[2];
};
/* sums[i * ld + r] += the term's product, without its bias. */
static void product(const struct part *p, const struct term *e, float *sums) {
    const struct packed *pk = e->w->packed;
    const int R = p->in->R, V = R == 1 ? TILE_ONE : TILE, cols = e->w->cols, last = p->n / VL - 1;
    const int chunk = p->b1 - p->b0 > 1 ? CHUNK : cols;
    const enum feed_kind kind = kind_of(feed_kind(pk->form), R);
    const size_t block = block_floats(kind, cols, R);
    tile_fn *const tile = NAMED(tile_of)(pk->form, R);
    for (int k = 0; k < cols; k += chunk)
        for (int q = 0; q <= last; q += V) {
            struct tile t = { .cols = cols - k < chunk ? cols - k : chunk, .ld = p->ld };
            for (int v = 0; v < V; v++) {
                const int at = p->r0 / VL + (q + v <= last ? q + v : last);
                t.w[v] = pk->p + (size_t)(at / PARTS) * pk->stride + form_bytes(pk->form, k);
                t.part[v] = at % PARTS;
            }
            for (int b = p->b0; b < p->b1 && !stopped(p->in->w); b++) {
                t.x = p->in->at[e->feed] + (size_t)b * block + block_floats(kind, k, R);
                t.c = sums + (b - p->b0) * R * p->ld + q * VL;
                tile(&t);
            }
        }
}
static void add_bias(const struct part *p, const struct weight *b, float *v) {
    for (int j = 0; b && j < p->n; j += VL) store(v + j, load(v + j) + load(vector_of(b) + p->r0 + j));
}
/* Row i's results, to where the segment wants them. */
static void finish(const struct part *p, int i) {
    const struct seg *g = p->g;
    const struct input *in = p->in;
    const struct mat *out = &in->c->m[g->out];
    const size_t at = (size_t)(i - p->b0 * in->R) * (size_t)p->ld;
    float *v = p->sums[0] + at, *other = p->sums[g->gate] + at;
    add_bias(p, g->t[0].b, v);
    if (g->terms > 1) add_bias(p, g->t[1].b, other);
    for (int j = 0; j < p->n && (g->act || g->gate); j += VL) {
        const vf a = vact(g->act, load(v + j));
        store(v + j, g->gate ? a * load(other + j) : a);
    }
    const int n = p->n < out->cols - p->r0 ? p->n : out->cols - p->r0;
    if (g->rope) NAMED(rotate)(v, row(&in->c->m[in->f->angles], i), in->f->rope.rot);
    if (!g->add) {
        NAMED(put)(out, in->w->s, i, p->r0, v, n, g->keys);
        return;
    }
    float *y = row(out, i) + p->r0;
    for (int j = 0; j < n; j++) y[j] += v[j];
}
static void part(struct part *p) {
    const struct seg *g = p->g;
    const struct input *in = p->in;
    for (int side = 0; side <= g->gate; side++)
        memset(p->sums[side], 0, sizeof(float) * (size_t)((p->b1 - p->b0) * in->R * p->ld));
    for (int t = 0; t < g->terms; t++) product(p, &g->t[t], p->sums[g->gate ? t : 0]);
    for (int i = p->b0 * in->R; i < p->b1 * in->R && i < in->rows && !stopped(in->w); i++) finish(p, i);
}

/* ---- the tasks of a call ---- */
static int sums_ld(int u) { return (u + TILE * VL - 1) / (TILE * VL) * (TILE * VL); }
static int unit(const struct input *in, const struct seg *g) {
    if (g->rope) return in->f->rope.head_dim;
    return in->R > ALONE_ROWS || g->t[0].w->rows < TALL ? UNIT : UNIT_TALL;
}
struct tasks {
    int first[SEGS + 1]; /* unit of weight rows each segment begins with */
    int each, groups;    /* blocks in a group of step rows, groups */
};
static struct tasks tasks_of(const struct input *in) {
    struct tasks t = { .each = in->blocks };
    for (int k = 0; k < in->f->segs; k++) {
        const struct seg *g = &in->f->seg[k];
        const int u = unit(in, g), room = SUMS / (1 + g->gate) / (sums_ld(u) * in->R);
        t.first[k + 1] = t.first[k] + (g->t[0].w->rows + u - 1) / u;
        if (t.each > room) t.each = room;
    }
    const int units = t.first[in->f->segs], threads = pool_threads(in->w->pool);
    while (t.each * in->R > GROUP_ROWS && units * ((in->blocks + t.each - 1) / t.each) < 8 * threads)
        t.each = (t.each + 1) / 2;
    t.groups = t.each ? (in->blocks + t.each - 1) / t.each : 0;
    return t;
}
static void run(struct worker *w, const struct op_call *c, const struct proj *f) {
    const struct input in = inputs(w, c, f);
    if (!in.alone) {
        EACH_TASK(b, w, in.blocks) make_block(&in, b);
        pool_next(w->pool, w->id); /* every block is read by every thread */
    }
    const struct tasks all = tasks_of(&in);
    float sums[SUMS] __attribute__((aligned(64)));
    bool ready = !in.alone;
    EACH_TASK(t, w, all.first[f->segs] * all.groups) {
        for (int b = 0; !ready && b < in.blocks; b++) make_block(&in, b); /* within a task: the rows cannot change */
        ready = true;
        int k = 0;
        while (t / all.groups >= all.first[k + 1]) k++;
        const struct seg *g = &f->seg[k];
        const int u = unit(&in, g), b0 = t % all.groups * all.each, r0 = (t / all.groups - all.first[k]) * u;
        const int left = (g->t[0].w->rows + PANEL - 1) / PANEL * PANEL - r0;
        struct part p = { .in = &in, .g = g, .r0 = r0, .n = u < left ? u : left, .b0 = b0, .b1 = b0 + all.each };
        if (p.b1 > in.blocks) p.b1 = in.blocks;
        p.ld = sums_ld(u);
        p.sums[0] = sums;
        p.sums[1] = sums + SUMS / 2;
        part(&p);
    }
}
void NAMED(op_proj)(struct worker *w, const struct op_call *c) { run(w, c, c->priv); }
void NAMED(op_linear)(struct worker *w, const struct op_call *c) {
    const struct proj f = fuse_linear(c, cpu_kind);
    run(w, c, &f);
}
