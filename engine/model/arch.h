/* arch.h - what an architecture brings: its wiring, and a table of the tensors it is made of. Private to model/. */
#ifndef JAEDA_MODEL_ARCH_H
#define JAEDA_MODEL_ARCH_H
#include "data/config.h"
#include "model/nn.h"

struct layer {
    struct nn_norm ln1, ln2;
    struct nn_attn attn;
    struct nn_mlp mlp;
};
struct decoder {
    struct nn_ends ends;
    struct layer *layer;
    int n;
};

enum size { SIZE_ONE, SIZE_VOCAB, SIZE_HIDDEN, SIZE_Q, SIZE_KV, SIZE_FFN, SIZE_COUNT };
enum { BIND_LAYER = 1, BIND_OPTIONAL = 2, BIND_ROTATED = 4 }; /* ROTATED: rows of heads that RoPE turns */
struct bind {
    const char *gguf, *hf; /* names in the two kinds of checkpoint; of a layer: after "blk.N." and "model.layers.N." */
    size_t at;             /* of the struct weight, in struct decoder or (BIND_LAYER) struct layer */
    enum size rows, cols;
    int flags;
};
struct arch {
    const char *name;
    const struct bind *bind;
    int binds;
    void (*shape)(struct decoder *d, const struct model_config *c); /* all that is no weight */
    struct mat (*record)(struct decoder *d, struct program *p);     /* logits of the picked rows */
};
extern const struct arch arch_llama;

#endif
