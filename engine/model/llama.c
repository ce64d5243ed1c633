/* llama.c - Llama (Touvron et al. 2023) and what shares its wiring: SmolLM2, TinyLlama, Vicuna, Llama 2 and 3 without
 * scaled RoPE.
 *
 *   x = embed[id]
 *   per layer:  h = rms(x; ln1)   q, k, v = Wq h, Wk h, Wv h   q, k rotated by position (rotate-half)
 *               x += Wo softmax(q k^T / sqrt(head_dim)) v      (causal; each KV head serves heads / kv_heads queries)
 *               h = rms(x; ln2)   x += Wdown (silu(Wgate h) * Wup h)
 *   logits = Whead rms(x; norm)                                (Whead = embed when they are tied)
 *
 * Hugging Face files store Q and K for rotate-half, GGUF files for pairwise rotation. */
#include "arch.h"

#define ATTN_BIAS (BIND_LAYER | BIND_ATTN_BIAS)
#define MLP_BIAS (BIND_LAYER | BIND_MLP_BIAS)
static const struct bind names[] = {
    { "token_embd.weight", "model.embed_tokens.weight", IN_MODEL(ends.embed), SIZE_VOCAB, SIZE_HIDDEN, 0 },
    { "attn_norm.weight", "input_layernorm.weight", IN_LAYER(ln1.g), SIZE_HIDDEN, SIZE_ONE, BIND_LAYER },
    { "attn_q.weight", "self_attn.q_proj.weight", IN_LAYER(attn.q.w), SIZE_Q, SIZE_HIDDEN, BIND_LAYER | BIND_ROTATED },
    { "attn_q.bias", "self_attn.q_proj.bias", IN_LAYER(attn.q.b), SIZE_Q, SIZE_ONE, ATTN_BIAS | BIND_ROTATED },
    { "attn_k.weight", "self_attn.k_proj.weight", IN_LAYER(attn.k.w), SIZE_KV, SIZE_HIDDEN, BIND_LAYER | BIND_ROTATED },
    { "attn_k.bias", "self_attn.k_proj.bias", IN_LAYER(attn.k.b), SIZE_KV, SIZE_ONE, ATTN_BIAS | BIND_ROTATED },
    { "attn_v.weight", "self_attn.v_proj.weight", IN_LAYER(attn.v.w), SIZE_KV, SIZE_HIDDEN, BIND_LAYER },
    { "attn_v.bias", "self_attn.v_proj.bias", IN_LAYER(attn.v.b), SIZE_KV, SIZE_ONE, ATTN_BIAS },
    { "attn_output.weight", "self_attn.o_proj.weight", IN_LAYER(attn.o.w), SIZE_HIDDEN, SIZE_Q, BIND_LAYER },
    { "attn_output.bias", "self_attn.o_proj.bias", IN_LAYER(attn.o.b), SIZE_HIDDEN, SIZE_ONE, ATTN_BIAS },
    { "ffn_norm.weight", "post_attention_layernorm.weight", IN_LAYER(ln2.g), SIZE_HIDDEN, SIZE_ONE, BIND_LAYER },
    { "ffn_gate.weight", "mlp.gate_proj.weight", IN_LAYER(mlp.gate.w), SIZE_FFN, SIZE_HIDDEN, BIND_LAYER },
    { "ffn_gate.bias", "mlp.gate_proj.bias", IN_LAYER(mlp.gate.b), SIZE_FFN, SIZE_ONE, MLP_BIAS },
    { "ffn_up.weight", "mlp.up_proj.weight", IN_LAYER(mlp.up.w), SIZE_FFN, SIZE_HIDDEN, BIND_LAYER },
    { "ffn_up.bias", "mlp.up_proj.bias", IN_LAYER(mlp.up.b), SIZE_FFN, SIZE_ONE, MLP_BIAS },
    { "ffn_down.weight", "mlp.down_proj.weight", IN_LAYER(mlp.down.w), SIZE_HIDDEN, SIZE_FFN, BIND_LAYER },
    { "ffn_down.bias", "mlp.down_proj.bias", IN_LAYER(mlp.down.b), SIZE_HIDDEN, SIZE_ONE, MLP_BIAS },
    { "output_norm.weight", "model.norm.weight", IN_MODEL(ends.norm.g), SIZE_HIDDEN, SIZE_ONE, 0 },
    { "output.weight", "lm_head.weight", IN_MODEL(ends.head.w), SIZE_VOCAB, SIZE_HIDDEN, BIND_HEAD },
};

static struct mat record(struct decoder *d, struct program *p) {
    struct mat x = nn_embed(p, &d->ends);
    for (p->layer = 0; p->layer < d->n; p->layer++) {
        struct layer *l = &d->layer[p->layer];
        struct mat h = nn_norm(p, "ln1", &l->ln1, x);
        op_add(p, x, nn_attn(p, &l->attn, h, h, true));
        op_add(p, x, nn_mlp(p, &l->mlp, nn_norm(p, "ln2", &l->ln2, x)));
    }
    return nn_logits(p, &d->ends, x);
}
const struct arch arch_llama = {
    "llama", "model.layers.%d.", NORM_RMS, names, sizeof names / sizeof *names, record,
};
