/* config.h - what a checkpoint says about its architecture, whatever the file format. Nothing here is hard-coded. */
#ifndef JAEDA_DATA_CONFIG_H
#define JAEDA_DATA_CONFIG_H
#include "gguf.h"

enum config_act { CONFIG_SILU, CONFIG_GELU, CONFIG_GELU_TANH }; /* GELU: by erf */
enum { CONFIG_EOS = 8 };
struct model_config {
    char arch[24], name[64], size_label[32], license[32]; /* arch: GGUF's names, "llama", "gptneox" */
    int layers, hidden, heads, kv_heads, head_dim, ffn, vocab, context;
    int rope_dims; /* rotated dimensions of each head */
    float rope_theta, norm_eps;
    enum config_act act;
    enum dtype dtype;         /* of the weights by the config (torch_dtype); DTYPE_NONE: it does not say */
    bool tied;                /* no output matrix of its own */
    bool parallel;            /* GPT-NeoX: x + attn(ln1 x) + mlp(ln2 x); else one after the other */
    bool attn_bias, mlp_bias; /* the matrices of attention, of the MLP, come with biases */
    bool qkv_by_head; /* GPT-NeoX in HF files: rows of one matrix as [heads][q k v][head_dim]; else [q k v][heads] */
    bool rope_pairs;  /* Q and K rows are stored for pairwise rotation (GGUF llama) and must become rotate-half */
    int eos[CONFIG_EOS], eos_n; /* what config and generation_config say; may be wrong (spec of the Polyglot family) */
};
/* Every number is range-checked (and consistent: heads divide, head_dim even, vocab equals the embedding's rows), so
 * that later arithmetic cannot overflow. An unsupported architecture is named together with the supported ones. */
int config_from_gguf(struct model_config *c, const struct gguf *g, struct err *e);
/* From the text of a config.json (GPTNeoXForCausalLM, LlamaForCausalLM; old and new spellings) and, or NULL, of a
 * generation_config.json. label names the file in errors. */
int config_from_json(struct model_config *c, const char *text, size_t n, const char *label, struct err *e);
int config_add_generation(struct model_config *c, const char *text, size_t n, const char *label, struct err *e);

#endif
