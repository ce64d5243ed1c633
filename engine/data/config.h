/* config.h - what a checkpoint says about its architecture, whatever the file format. Nothing here is hard-coded. */
#ifndef JAEDA_DATA_CONFIG_H
#define JAEDA_DATA_CONFIG_H
#include "gguf.h"

struct model_config {
    char arch[24], name[64], size_label[32], license[32];
    int layers, hidden, heads, kv_heads, head_dim, ffn, vocab, context;
    int rope_dims; /* rotated dimensions of each head */
    float rope_theta, norm_eps;
    bool tied; /* no output matrix of its own */
    bool
        rope_pairs; /* Q and K rows are stored for pairwise rotation (GGUF llama) and must be re-ordered to rotate-half */
};
/* Every number is range-checked (and consistent: heads divide, head_dim even, vocab equals the embedding's rows), so
 * that later arithmetic cannot overflow. An unsupported architecture is named together with the supported ones. */
int config_from_gguf(struct model_config *c, const struct gguf *g, struct err *e);

#endif
