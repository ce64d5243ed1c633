/* qformer.c - Q-Former (Li et al. 2023, BLIP-2; Vision-CAIR/MiniGPT-4 minigpt4/models/Qformer.py), its query side: BERT's
 * layers, normalised behind each sum, with a look at the picture in every second one. `image` are the encoder's rows.
 *
 *   x = ln(queries)
 *   per layer:  x = ln(x + Wo softmax(q k^T / sqrt(head_dim)) v)               q, k, v of x
 *     even:     x = ln(x + Wo softmax(q k^T / sqrt(head_dim)) v)               q of x; k, v of image
 *               x = ln(x + W2 gelu(W1 x))                                      (every matrix has a bias; eps 1e-12) */
#include "vision_parts.h"

#define PREFIX "Qformer.bert."
#define LAYER PREFIX "encoder.layer.%d."
#define AT(field) offsetof(struct qformer_layer, field)
#define DENSE(name, field, rows, cols)                                                                                 \
    { name ".weight", AT(field.w), rows, cols, 0, 0, 0 }, { name ".bias", AT(field.b), rows, PART_ONE, 0, 0, 0 }
#define NORM(name, field)                                                                                              \
    { name ".weight", AT(field.g), PART_Q_HIDDEN, PART_ONE, 0, 0, 0 }, {                                               \
        name ".bias", AT(field.b), PART_Q_HIDDEN, PART_ONE, 0, 0, 0                                                    \
    }
static const struct part own[] = {
    { "embeddings.LayerNorm.weight", offsetof(struct qformer, ln.g), PART_Q_HIDDEN, PART_ONE, 0, 0, 0 },
    { "embeddings.LayerNorm.bias", offsetof(struct qformer, ln.b), PART_Q_HIDDEN, PART_ONE, 0, 0, 0 },
};
static const struct part each[] = {
    DENSE("attention.self.query", self.q, PART_Q_HIDDEN, PART_Q_HIDDEN),
    DENSE("attention.self.key", self.k, PART_Q_HIDDEN, PART_Q_HIDDEN),
    DENSE("attention.self.value", self.v, PART_Q_HIDDEN, PART_Q_HIDDEN),
    DENSE("attention.output.dense", self.o, PART_Q_HIDDEN, PART_Q_HIDDEN),
    NORM("attention.output.LayerNorm", ln_self),
    DENSE("intermediate_query.dense", mlp.up, PART_Q_FFN, PART_Q_HIDDEN),
    DENSE("output_query.dense", mlp.down, PART_Q_HIDDEN, PART_Q_FFN),
    NORM("output_query.LayerNorm", ln_mlp),
};
static const struct part look[] = {
    DENSE("crossattention.self.query", cross.q, PART_Q_HIDDEN, PART_Q_HIDDEN),
    DENSE("crossattention.self.key", cross.k, PART_Q_HIDDEN, PART_HIDDEN),
    DENSE("crossattention.self.value", cross.v, PART_Q_HIDDEN, PART_HIDDEN),
    DENSE("crossattention.output.dense", cross.o, PART_Q_HIDDEN, PART_Q_HIDDEN),
    NORM("crossattention.output.LayerNorm", ln_cross),
};
const struct parts qformer_parts = { PREFIX, own, sizeof own / sizeof *own };
const struct parts qformer_layer_parts = { LAYER, each, sizeof each / sizeof *each };
const struct parts qformer_cross_parts = { LAYER, look, sizeof look / sizeof *look };

static void norm(struct nn_norm *n) {
    n->kind = NORM_LAYER;
    n->eps = 1e-12f;
}
void qformer_shape(struct qformer *m, const struct vision_config *c) {
    norm(&m->ln);
    for (struct qformer_layer *l = m->layer; l < m->layer + m->n; l++) {
        norm(&l->ln_self), norm(&l->ln_cross), norm(&l->ln_mlp);
        l->self.shape = l->cross.shape = (struct attn_of){ c->q_heads, c->q_heads, c->q_hidden / c->q_heads, 1 };
        l->mlp.act = ACT_GELU;
    }
}
struct vision_io qformer_record(struct qformer *m, const struct vision_config *c, int pictures, struct program *p) {
    struct vision_io io = { .in = program_tmp(p, DIM_FIXED, pictures * vision_rows(c), c->hidden),
                            .table = program_tmp(p, DIM_FIXED, pictures * c->queries, c->q_hidden) };
    program_keep(p, io.in);
    program_keep(p, io.table);
    struct mat x = nn_norm(p, "ln", &m->ln, io.table);
    for (p->layer = 0; p->layer < m->n; p->layer++) {
        struct qformer_layer *l = &m->layer[p->layer];
        l->self.shape.blocks = l->cross.shape.blocks = pictures;
        op_add(p, x, nn_attn(p, &l->self, x, x, false));
        x = nn_norm(p, "ln.self", &l->ln_self, x);
        if (p->layer % 2 == 0) {
            op_add(p, x, nn_attn(p, &l->cross, x, io.in, false));
            x = nn_norm(p, "ln.cross", &l->ln_cross, x);
        }
        op_add(p, x, nn_mlp(p, &l->mlp, x));
        x = nn_norm(p, "ln.mlp", &l->ln_mlp, x);
    }
    p->layer = -1;
    io.out = x;
    program_keep(p, io.out);
    return io;
}
