/* arch.h - what an architecture brings: its wiring, and a table of the tensors it is made of. Private to model/. */
#ifndef JAEDA_MODEL_ARCH_H
#define JAEDA_MODEL_ARCH_H
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
    bool parallel; /* attention and MLP read the same x */
};

enum size { SIZE_ONE, SIZE_VOCAB, SIZE_HIDDEN, SIZE_Q, SIZE_KV, SIZE_FFN, SIZE_COUNT };
/* A row of the table is for each layer, or once; Q, K, V: that third of the rows of one tensor; ROTATED: rows of heads
 * that RoPE turns; ATTN_BIAS, MLP_BIAS: there when the configuration says so; HEAD: there unless it is tied. */
enum {
    BIND_LAYER = 1,
    BIND_Q = 2,
    BIND_K = 4,
    BIND_V = 8,
    BIND_ROTATED = 16,
    BIND_ATTN_BIAS = 32,
    BIND_MLP_BIAS = 64,
    BIND_HEAD = 128
};
struct bind {
    const char *gguf, *hf; /* names in the two kinds of checkpoint; of a layer: what follows its prefix */
    size_t at;             /* of the struct weight, in struct decoder or (BIND_LAYER) struct layer */
    enum size rows, cols;
    int flags;
};
struct arch {
    const char *name, *hf_layer; /* GGUF's name; prefix of a layer's tensors in HF files, for printf with its number */
    enum norm norm;
    const struct bind *bind;
    int binds;
    struct mat (*record)(struct decoder *d, struct program *p); /* logits of the picked rows */
};
extern const struct arch arch_llama, arch_neox;
#define IN_LAYER(field) offsetof(struct layer, field)
#define IN_MODEL(field) offsetof(struct decoder, field)

#endif
