/* neox.c - GPT-NeoX (Black et al. 2022): Polyglot-Ko, KoAlpaca-Polyglot, KULLM-Polyglot, Pythia.
 *
 *   x = embed[id]                                             (every matrix but embed and Whead has a bias)
 *   per layer:  a = Wo softmax(q k^T / sqrt(head_dim)) v      (causal; q, k, v = Wqkv ln(x; ln1); the first rope_dims
 *                                                              dimensions of each head of q, k rotated: rotate-half)
 *     parallel:    x = x + a + Wdown gelu(Wup ln(x; ln2))     (both norms read the same x)
 *     sequential:  x = x + a,  x = x + Wdown gelu(Wup ln(x; ln2))
 *   logits = Whead ln(x; norm)
 *
 * Wqkv is one tensor: in Hugging Face files its rows are [heads][q k v][head_dim], in GGUF files [q k v][heads][head_dim].
 * Three weights read it, each by its own row map. */
#include "arch.h"

#define ATTN_BIAS (BIND_LAYER | BIND_ATTN_BIAS)
#define QKV(end, field) "attn_qkv." end, "attention.query_key_value." end, IN_LAYER(attn.field)
static const struct bind names[] = {
    { "token_embd.weight", "gpt_neox.embed_in.weight", IN_MODEL(ends.embed), SIZE_VOCAB, SIZE_HIDDEN, 0 },
    { "attn_norm.weight", "input_layernorm.weight", IN_LAYER(ln1.g), SIZE_HIDDEN, SIZE_ONE, BIND_LAYER },
    { "attn_norm.bias", "input_layernorm.bias", IN_LAYER(ln1.b), SIZE_HIDDEN, SIZE_ONE, BIND_LAYER },
    { QKV("weight", q.w), SIZE_Q, SIZE_HIDDEN, BIND_LAYER | BIND_Q },
    { QKV("weight", k.w), SIZE_Q, SIZE_HIDDEN, BIND_LAYER | BIND_K },
    { QKV("weight", v.w), SIZE_Q, SIZE_HIDDEN, BIND_LAYER | BIND_V },
    { QKV("bias", q.b), SIZE_Q, SIZE_ONE, ATTN_BIAS | BIND_Q },
    { QKV("bias", k.b), SIZE_Q, SIZE_ONE, ATTN_BIAS | BIND_K },
    { QKV("bias", v.b), SIZE_Q, SIZE_ONE, ATTN_BIAS | BIND_V },
    { "attn_output.weight", "attention.dense.weight", IN_LAYER(attn.o.w), SIZE_HIDDEN, SIZE_Q, BIND_LAYER },
    { "attn_output.bias", "attention.dense.bias", IN_LAYER(attn.o.b), SIZE_HIDDEN, SIZE_ONE, ATTN_BIAS },
    { "ffn_norm.weight", "post_attention_layernorm.weight", IN_LAYER(ln2.g), SIZE_HIDDEN, SIZE_ONE, BIND_LAYER },
    { "ffn_norm.bias", "post_attention_layernorm.bias", IN_LAYER(ln2.b), SIZE_HIDDEN, SIZE_ONE, BIND_LAYER },
    { "ffn_up.weight", "mlp.dense_h_to_4h.weight", IN_LAYER(mlp.up.w), SIZE_FFN, SIZE_HIDDEN, BIND_LAYER },
    { "ffn_up.bias", "mlp.dense_h_to_4h.bias", IN_LAYER(mlp.up.b), SIZE_FFN, SIZE_ONE, BIND_LAYER },
    { "ffn_down.weight", "mlp.dense_4h_to_h.weight", IN_LAYER(mlp.down.w), SIZE_HIDDEN, SIZE_FFN, BIND_LAYER },
    { "ffn_down.bias", "mlp.dense_4h_to_h.bias", IN_LAYER(mlp.down.b), SIZE_HIDDEN, SIZE_ONE, BIND_LAYER },
    { "output_norm.weight", "gpt_neox.final_layer_norm.weight", IN_MODEL(ends.norm.g), SIZE_HIDDEN, SIZE_ONE, 0 },
    { "output_norm.bias", "gpt_neox.final_layer_norm.bias", IN_MODEL(ends.norm.b), SIZE_HIDDEN, SIZE_ONE, 0 },
    { "output.weight", "embed_out.weight", IN_MODEL(ends.head.w), SIZE_VOCAB, SIZE_HIDDEN, BIND_HEAD },
};

static struct mat record(struct decoder *d, struct program *p) {
    struct mat x = nn_embed(p, &d->ends);
    for (p->layer = 0; p->layer < d->n; p->layer++) {
        struct layer *l = &d->layer[p->layer];
        struct mat h = nn_norm(p, "ln1", &l->ln1, x), a = nn_attn(p, &l->attn, h, h, true);
        if (!d->parallel) op_add(p, x, a);
        struct mat f = nn_mlp(p, &l->mlp, nn_norm(p, "ln2", &l->ln2, x));
        if (d->parallel) op_add(p, x, a);
        op_add(p, x, f);
    }
    return nn_logits(p, &d->ends, x);
}
const struct arch arch_neox = {
    "gptneox", "gpt_neox.layers.%d.", NORM_LAYER, names, sizeof names / sizeof *names, record,
};
