/* nn.h - the blocks every transformer here is built from. Each records its ops and returns its result; a result lives
 * until its last reader. */
#ifndef JAEDA_MODEL_NN_H
#define JAEDA_MODEL_NN_H
#include "compute/program.h"

struct nn_linear {
    struct weight w, b; /* b.rows == 0: no bias */
};
struct nn_norm {
    struct weight g, b;
    enum norm kind;
    float eps;
};
struct nn_mlp {
    struct nn_linear up, gate, down; /* gate.w.rows == 0: plain */
    enum act act;
};
struct nn_attn {
    struct nn_linear q, k, v, o;
    struct attn_of shape;
    struct rope rope;
};
struct nn_ends {
    struct weight embed;
    struct nn_norm norm;
    struct nn_linear head; /* head.w.rows == 0: tied to embed */
};

struct mat nn_linear(struct program *p, const char *label, struct nn_linear *l, struct mat x, enum act a);
struct mat nn_norm(struct program *p, const char *label, struct nn_norm *n, struct mat x);
struct mat nn_mlp(struct program *p, struct nn_mlp *m, struct mat x);
/* Queries from x, keys and values from src (x itself, or encoder output). cached: through the KV pool, causal. */
struct mat nn_attn(struct program *p, struct nn_attn *a, struct mat x, struct mat src, bool cached);
struct mat nn_embed(struct program *p, struct nn_ends *e);
struct mat nn_logits(struct program *p, struct nn_ends *e, struct mat x); /* of the picked rows; kept */

#endif
