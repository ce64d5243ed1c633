#include "nn.h"

static struct weight *some(struct weight *w) { return w->rows ? w : NULL; }

struct mat nn_linear(struct program *p, const char *label, struct nn_linear *l, struct mat x, enum act a) {
    struct mat y = program_tmp(p, x.dim, x.rows, l->w.rows);
    op_linear(p, label, y, x, &l->w, some(&l->b), a);
    return y;
}
struct mat nn_norm(struct program *p, const char *label, struct nn_norm *n, struct mat x) {
    struct mat y = program_tmp(p, x.dim, x.rows, x.cols);
    const struct norm_of of = { &n->g, some(&n->b), n->kind, n->eps };
    op_norm(p, label, y, x, &of);
    return y;
}
struct mat nn_mlp(struct program *p, struct nn_mlp *m, struct mat x) {
    const bool gated = m->gate.w.rows > 0;
    struct mat h = nn_linear(p, "mlp.up", &m->up, x, gated ? ACT_NONE : m->act);
    if (gated) {
        struct mat g = nn_linear(p, "mlp.gate", &m->gate, x, ACT_NONE), u = h;
        h = program_tmp(p, x.dim, x.rows, g.cols);
        op_gate(p, h, g, u, m->act);
    }
    return nn_linear(p, "mlp.down", &m->down, h, ACT_NONE);
}
struct mat nn_attn(struct program *p, struct nn_attn *a, struct mat x, struct mat src, bool cached) {
    struct mat q = nn_linear(p, "attn.q", &a->q, x, ACT_NONE);
    struct mat k = nn_linear(p, "attn.k", &a->k, src, ACT_NONE);
    struct mat v = nn_linear(p, "attn.v", &a->v, src, ACT_NONE);
    if (a->rope.rot) {
        op_rope(p, q, a->rope);
        op_rope(p, k, a->rope);
    }
    if (cached) {
        struct mat kc = program_kv(p, k.cols, a->shape.head_dim), vc = program_kv(p, v.cols, a->shape.head_dim);
        op_kv_put(p, kc, k, true);
        op_kv_put(p, vc, v, false);
        k = kc;
        v = vc;
    }
    struct mat y = program_tmp(p, x.dim, x.rows, q.cols);
    op_attn(p, y, q, k, v, a->shape);
    return nn_linear(p, "attn.o", &a->o, y, ACT_NONE);
}
struct mat nn_embed(struct program *p, struct nn_ends *e) {
    struct mat x = program_tmp(p, DIM_ROWS, p->rows, e->embed.cols);
    op_embed(p, x, &e->embed);
    return x;
}
struct mat nn_logits(struct program *p, struct nn_ends *e, struct mat x) {
    p->layer = -1;
    struct mat last = program_tmp(p, DIM_PICKS, p->picks, x.cols);
    op_pick(p, last, x);
    last = nn_norm(p, "norm", &e->norm, last);
    struct weight *w = e->head.w.rows ? &e->head.w : &e->embed;
    struct mat y = program_tmp(p, DIM_PICKS, p->picks, w->rows);
    op_linear(p, "head", y, last, w, some(&e->head.b), ACT_NONE);
    program_keep(p, y);
    return y;
}
