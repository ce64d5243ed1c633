/* Each rule looks at call i, proves from the operands that nothing in between cares, and rewrites. No rule knows a model
 * or a backend: parallel-branch layers come out as 3 calls, Llama's as 5. */
#include "fuse.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

static int find(const struct op_call *c, int buf) {
    for (int k = 0; k < c->n; k++)
        if (c->m[k].buf == buf) return k;
    return -1;
}
static bool does(const struct op_call *c, int buf, int access) {
    for (int k = 0; k < c->n; k++)
        if (c->m[k].buf == buf && c->access[k] & access) return true;
    return false;
}
static bool conflict(const struct op_call *a, const struct op_call *b) {
    for (int k = 0; k < a->n; k++)
        if (does(b, a->m[k].buf, a->access[k] & WRITE ? READ | WRITE : WRITE)) return true;
    return false;
}
/* May call c cross every call strictly between i and j? */
static bool free_way(const struct program *p, const struct op_call *c, int i, int j) {
    while (++i < j)
        if (conflict(c, &p->call[i])) return false;
    return true;
}
static int producer(const struct program *p, int buf, int before) {
    while (--before >= 0 && !does(&p->call[before], buf, WRITE)) {
    }
    return before;
}
static bool only_reader(const struct program *p, int buf, int i) {
    for (int j = 0; j < p->n; j++)
        if (j != i && does(&p->call[j], buf, READ)) return false;
    return !p->area[buf].keep;
}
static struct proj *proj(struct op_call *c) { return c->op == OP_PROJ ? c->priv : NULL; }
static struct seg *seg_of(struct op_call *c, int buf) { /* the segment that writes buf */
    struct proj *f = proj(c);
    for (int k = 0; f && k < f->segs; k++)
        if (c->m[f->seg[k].out].buf == buf) return &f->seg[k];
    return NULL;
}
static int slot(struct op_call *c, struct mat m, int access) { /* operand index, added where new */
    const int k = find(c, m.buf);
    if (k >= 0) {
        c->access[k] |= (unsigned char)access;
        return k;
    }
    c->m[c->n] = m;
    c->access[c->n] = (unsigned char)access;
    return c->n++;
}
static void swap_operand(struct op_call *c, int k, struct mat m, int access) {
    c->m[k] = m;
    c->access[k] = (unsigned char)access;
}
static void cost(struct op_call *to, const struct op_call *from) {
    to->cost.weight_bytes += from->cost.weight_bytes;
    to->cost.row_flops += from->cost.row_flops;
}
static void drop(struct program *p, int i, bool with_priv) {
    if (with_priv) mem_free(p->call[i].priv);
    program_remove(p, i);
}
static void name(struct proj *f, struct op_call *c, const char *more) {
    const size_t n = strlen(f->label);
    snprintf(f->label + n, sizeof f->label - n, "%s%s", n ? "|" : "", more);
    c->label = f->label;
}

/* Lists (again) what the terms read. */
static void feeds(struct proj *f, fuse_kind *kind) {
    f->feeds = 0;
    for (int k = 0; k < f->segs; k++)
        for (int t = 0; t < f->seg[k].terms; t++) {
            struct term *e = &f->seg[k].t[t];
            const struct feed want = { e->x, e->norm, kind(e->w) };
            int i = 0;
            while (i < f->feeds &&
                   (f->feed[i].x != want.x || f->feed[i].norm != want.norm || f->feed[i].kind != want.kind))
                i++;
            if (i == f->feeds) f->feed[f->feeds++] = want;
            e->feed = i;
        }
}
struct proj fuse_linear(const struct op_call *c, fuse_kind *kind) {
    struct proj f = { .segs = 1 };
    f.seg[0] = (struct seg){ .t = { { .x = 1, .norm = -1, .w = c->w[0], .b = c->w[1] } }, .terms = 1, .act = c->u.act };
    feeds(&f, kind);
    return f;
}
typedef bool rule(struct program *p, int i, const struct fuse_rules *r);
static bool lift(struct program *p, int i, const struct fuse_rules *r) { /* LINEAR is PROJ with one segment */
    struct op_call *c = &p->call[i];
    struct proj *f = c->op == OP_LINEAR ? mem_alloc(sizeof *f) : NULL;
    if (!f) return false;
    *f = fuse_linear(c, r->kind);
    c->op = OP_PROJ;
    c->priv = f;
    name(f, c, c->label);
    return true;
}
/* NORM whose every reader is a PROJ that still finds the same x: each takes the norm into its prologue. Also where rows
 * are many: they are laid in blocks anyway, each once for all threads (256 rows of 4096: 1 % less than apart). */
static bool norm_in(struct program *p, int i, const struct fuse_rules *r) {
    (void)r;
    const struct op_call c = p->call[i];
    if (c.op != OP_NORM || p->area[c.m[0].buf].keep) return false;
    bool changed = false, paid = false;
    for (int j = i + 1; j < p->n; j++) {
        const bool reader = find(&p->call[j], c.m[0].buf) >= 0;
        if (reader && (changed || !proj(&p->call[j]) || does(&p->call[j], c.m[0].buf, WRITE))) return false;
        if (reader && find(&p->call[j], c.m[1].buf) >= 0) return false; /* it would read what it writes */
        changed |= does(&p->call[j], c.m[1].buf, WRITE);
    }
    for (int j = i + 1; j < p->n; j++) {
        struct op_call *u = &p->call[j];
        const int k = find(u, c.m[0].buf);
        if (k < 0) continue;
        struct proj *f = proj(u);
        f->norm[0] = c.u.norm;
        f->norms = 1;
        f->seg[0].t[0].norm = 0;
        swap_operand(u, k, c.m[1], READ);
        if (!paid) cost(u, &c);
        paid = true;
    }
    drop(p, i, false);
    return true;
}
static bool rope_in(struct program *p, int i, const struct fuse_rules *r) {
    const struct op_call c = p->call[i];
    const int j = c.op == OP_ROPE ? producer(p, c.m[0].buf, i) : -1;
    struct op_call *a = j >= 0 ? &p->call[j] : NULL;
    struct seg *g = a ? seg_of(a, c.m[0].buf) : NULL;
    if (!g || g->rope || g->gate || c.u.rope.head_dim % r->head_multiple || a->n == OPERANDS || !free_way(p, &c, j, i))
        return false;
    proj(a)->rope = c.u.rope;
    proj(a)->angles = slot(a, c.m[1], READ);
    g->rope = true;
    cost(a, &c);
    drop(p, i, false);
    return true;
}
static bool kv_in(struct program *p, int i, const struct fuse_rules *r) { /* PROJ writes straight into the pool */
    const struct op_call c = p->call[i];
    const int j = c.op == OP_KV_PUT && only_reader(p, c.m[1].buf, i) ? producer(p, c.m[1].buf, i) : -1;
    struct seg *g = j >= 0 ? seg_of(&p->call[j], c.m[1].buf) : NULL;
    if (!g || g->add || !r->kv || !free_way(p, &c, j, i)) return false;
    swap_operand(&p->call[j], g->out, c.m[0], WRITE);
    g->keys = c.u.keys;
    drop(p, i, false);
    return true;
}
static bool same_rope(const struct proj *f, const struct proj *g) {
    for (int k = 0; k < f->segs; k++)
        if (f->seg[k].rope && g->seg[0].rope)
            return f->rope.head_dim == g->rope.head_dim && f->rope.rot == g->rope.rot && f->rope.theta == g->rope.theta;
    return true;
}
/* A later PROJ of the same layer over the same x moves up and joins: q, k, v; gate, up; a parallel branch's first matrix. */
static bool merge(struct program *p, int i, const struct fuse_rules *r) {
    (void)r;
    struct op_call *a = &p->call[i];
    struct proj *f = proj(a), *g;
    for (int j = i + 1; f && j < p->n && p->call[j].layer == a->layer; j++) {
        struct op_call *b = &p->call[j];
        if (!(g = proj(b)) || g->segs != 1 || g->seg[0].add || f->segs == SEGS || a->n + 3 > OPERANDS) continue;
        if (b->m[g->seg[0].t[0].x].buf != a->m[f->seg[0].t[0].x].buf || conflict(a, b) || !free_way(p, b, i, j))
            continue;
        struct seg s = g->seg[0];
        int n = 0;
        while (g->norms && n < f->norms && memcmp(&f->norm[n], &g->norm[0], sizeof f->norm[n])) n++;
        if (n == NORMS || !same_rope(f, g)) continue;
        if (g->norms) s.t[0].norm = n;
        if (g->norms && n == f->norms) f->norm[f->norms++] = g->norm[0];
        s.t[0].x = slot(a, b->m[s.t[0].x], READ);
        s.out = slot(a, b->m[s.out], WRITE);
        if (s.rope) {
            f->rope = g->rope;
            f->angles = slot(a, b->m[g->angles], READ);
        }
        f->seg[f->segs++] = s;
        cost(a, b);
        name(f, a, b->label);
        drop(p, j, true);
        return true;
    }
    return false;
}
static bool gate_in(struct program *p, int i, const struct fuse_rules *r) {
    (void)r; /* act(gate) * up inside the PROJ that makes both */
    const struct op_call c = p->call[i];
    const int j = c.op == OP_GATE ? producer(p, c.m[1].buf, i) : -1;
    struct op_call *a = j >= 0 ? &p->call[j] : NULL;
    struct seg *g = a ? seg_of(a, c.m[1].buf) : NULL, *u = a ? seg_of(a, c.m[2].buf) : NULL;
    if (!g || !u || g == u || g->act || u->act || g->rope || u->rope || g->gate || u->gate) return false;
    if (!only_reader(p, c.m[1].buf, i) || !only_reader(p, c.m[2].buf, i) || !free_way(p, &c, j, i)) return false;
    struct proj *f = proj(a);
    swap_operand(a, g->out, c.m[0], WRITE);
    const int gone = u->out, last = --a->n;
    a->m[gone] = a->m[last];
    a->access[gone] = a->access[last];
    g->t[1] = u->t[0];
    g->terms = 2;
    g->gate = true;
    g->act = c.u.act;
    *u = f->seg[--f->segs]; /* the last segment takes the free place */
    for (int k = 0; k < f->segs; k++) {
        struct seg *s = &f->seg[k];
        if (s->out == last) s->out = gone;
        for (int t = 0; t < s->terms; t++)
            if (s->t[t].x == last) s->t[t].x = gone;
    }
    if (f->angles == last) f->angles = gone;
    cost(a, &c);
    drop(p, i, false);
    return true;
}
static bool add_in(struct program *p, int i, const struct fuse_rules *r) {
    (void)r; /* PROJ moves down to its residual add */
    const struct op_call c = p->call[i];
    const int j = c.op == OP_ADD && only_reader(p, c.m[1].buf, i) ? producer(p, c.m[1].buf, i) : -1;
    struct proj *f = j >= 0 ? proj(&p->call[j]) : NULL;
    if (!f || f->segs != 1 || f->seg[0].gate || f->seg[0].rope || find(&p->call[j], c.m[0].buf) >= 0 ||
        !free_way(p, &p->call[j], j, i))
        return false;
    struct op_call a = p->call[j];
    swap_operand(&a, f->seg[0].out, c.m[0], READ | WRITE);
    f->seg[0].add = true;
    cost(&a, &c);
    p->call[i] = a;
    drop(p, j, false);
    return true;
}
/* Two PROJs onto the same residual become one over the concatenated input: [dense | fc2]. */
static bool join(struct program *p, int i, const struct fuse_rules *r) {
    (void)r;
    struct op_call *a = &p->call[i], *b = a + 1;
    struct proj *f = proj(a), *g = i + 1 < p->n ? proj(b) : NULL;
    if (!f || !g || f->segs != 1 || g->segs != 1 || a->n == OPERANDS) return false;
    struct seg *s = &f->seg[0], *t = &g->seg[0];
    if (!s->add || !t->add || s->act || t->act || s->terms != 1 || t->terms != 1 || f->norms || g->norms) return false;
    if (a->m[s->out].buf != b->m[t->out].buf || b->m[t->t[0].x].buf == a->m[s->out].buf) return false;
    s->t[1] = t->t[0];
    s->t[1].x = slot(a, b->m[t->t[0].x], READ);
    s->terms = 2;
    cost(a, b);
    name(f, a, b->label);
    drop(p, i + 1, true);
    return true;
}
void fuse_program(struct program *p, const struct fuse_rules *r) {
    static rule *const all[] = { lift, norm_in, rope_in, kv_in, merge, gate_in, add_in, join };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        for (int i = 0; i < p->n;)
            if (!all[k](p, i, r)) i++;
    for (int i = 0; i < p->n; i++)
        if (proj(&p->call[i])) feeds(proj(&p->call[i]), r->kind);
}
