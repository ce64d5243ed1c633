/* eva_vit.c - EVA-CLIP ViT-g/14 (Fang et al. 2022; Vision-CAIR/MiniGPT-4 minigpt4/models/eva_vit.py), without its last
 * block and head: MiniGPT-4's image encoder.
 *
 *   x = [class; Wpatch patch] + position                     (patch: 14 x 14 pixels of 3 colours)
 *   per block:  h = ln(x; norm1)   q, k, v = Wqkv h + [bq; 0; bv]
 *               x += Wproj softmax(q k^T / sqrt(head_dim)) v + b   (every row sees those of its picture)
 *               x += W2 gelu(W1 ln(x; norm2) + b1) + b2
 *   out = ln(x; ln_vision)                                   (eps 1e-5; 1e-6 inside the blocks) */
#include "vision_parts.h"

static const struct part own[] = {
    { "patch_embed.proj.weight", offsetof(struct eva_vit, patch), PART_HIDDEN, PART_PATCH, 0, 0, 0 },
    { "ln_vision.weight", offsetof(struct eva_vit, ln.g), PART_HIDDEN, PART_ONE, 0, true, 1 },
    { "ln_vision.bias", offsetof(struct eva_vit, ln.b), PART_HIDDEN, PART_ONE, 0, true, 0 },
};
static const struct part each[] = {
    { "norm1.weight", IN_LAYER(ln1.g), PART_HIDDEN, PART_ONE, 0, 0, 0 },
    { "norm1.bias", IN_LAYER(ln1.b), PART_HIDDEN, PART_ONE, 0, 0, 0 },
    { "attn.qkv.weight", IN_LAYER(attn.q.w), PART_HIDDEN, PART_HIDDEN, 1, 0, 0 },
    { "attn.qkv.weight", IN_LAYER(attn.k.w), PART_HIDDEN, PART_HIDDEN, 2, 0, 0 },
    { "attn.qkv.weight", IN_LAYER(attn.v.w), PART_HIDDEN, PART_HIDDEN, 3, 0, 0 },
    { "attn.q_bias", IN_LAYER(attn.q.b), PART_HIDDEN, PART_ONE, 0, 0, 0 },
    { "attn.v_bias", IN_LAYER(attn.v.b), PART_HIDDEN, PART_ONE, 0, 0, 0 },
    { "attn.proj.weight", IN_LAYER(attn.o.w), PART_HIDDEN, PART_HIDDEN, 0, 0, 0 },
    { "attn.proj.bias", IN_LAYER(attn.o.b), PART_HIDDEN, PART_ONE, 0, 0, 0 },
    { "norm2.weight", IN_LAYER(ln2.g), PART_HIDDEN, PART_ONE, 0, 0, 0 },
    { "norm2.bias", IN_LAYER(ln2.b), PART_HIDDEN, PART_ONE, 0, 0, 0 },
    { "mlp.fc1.weight", IN_LAYER(mlp.up.w), PART_FFN, PART_HIDDEN, 0, 0, 0 },
    { "mlp.fc1.bias", IN_LAYER(mlp.up.b), PART_FFN, PART_ONE, 0, 0, 0 },
    { "mlp.fc2.weight", IN_LAYER(mlp.down.w), PART_HIDDEN, PART_FFN, 0, 0, 0 },
    { "mlp.fc2.bias", IN_LAYER(mlp.down.b), PART_HIDDEN, PART_ONE, 0, 0, 0 },
};
const struct parts eva_vit_parts = { "", own, sizeof own / sizeof *own };
const struct parts eva_vit_layer_parts = { "blocks.%d.", each, sizeof each / sizeof *each };

void eva_vit_shape(struct eva_vit *m, const struct vision_config *c) {
    m->ln.kind = NORM_LAYER;
    m->ln.eps = 1e-5f;
    for (struct layer *l = m->layer; l < m->layer + m->n; l++) {
        l->ln1.kind = l->ln2.kind = NORM_LAYER;
        l->ln1.eps = l->ln2.eps = 1e-6f;
        l->attn.shape = (struct attn_of){ c->heads, c->heads, c->hidden / c->heads, 1 };
        l->mlp.act = ACT_GELU;
    }
}
struct vision_io eva_vit_record(struct eva_vit *m, const struct vision_config *c, int pictures, struct program *p) {
    const int rows = pictures * vision_rows(c);
    struct vision_io io = { .in = program_tmp(p, DIM_FIXED, rows, m->patch.cols),
                            .table = program_tmp(p, DIM_FIXED, rows, c->hidden) };
    struct mat x = program_tmp(p, DIM_FIXED, rows, c->hidden);
    program_keep(p, io.in);
    program_keep(p, io.table);
    op_linear(p, "patch", x, io.in, &m->patch, NULL, ACT_NONE);
    op_add(p, x, io.table);
    for (p->layer = 0; p->layer < m->n; p->layer++) {
        struct layer *l = &m->layer[p->layer];
        l->attn.shape.blocks = pictures;
        struct mat h = nn_norm(p, "ln1", &l->ln1, x);
        op_add(p, x, nn_attn(p, &l->attn, h, h, false));
        op_add(p, x, nn_mlp(p, &l->mlp, nn_norm(p, "ln2", &l->ln2, x)));
    }
    p->layer = -1;
    io.out = nn_norm(p, "ln_vision", &m->ln, x);
    program_keep(p, io.out);
    return io;
}
