/* The configuration that a GGUF's metadata holds (ggml docs/gguf.md). */
#include "base/utf8.h"
#include "config_read.h"
#include "json_text.h"
#include <stdio.h>
#include <string.h>

/* What differs between architectures in GGUF's metadata. bias: tensors whose presence says that attention, that the MLP
 * has biases. */
static const struct arch {
    const char *name, *prefix, *eps_key, *attn_bias, *mlp_bias;
    enum config_act act;
    bool rope_pairs, parallel;
} archs[] = {
    { "llama", "llama.", "attention.layer_norm_rms_epsilon", "blk.0.attn_q.bias", "blk.0.ffn_up.bias", CONFIG_SILU,
      true, false },
    { "gptneox", "gptneox.", "attention.layer_norm_epsilon", "blk.0.attn_qkv.bias", "blk.0.ffn_up.bias", CONFIG_GELU,
      false, true },
};
/* Features that change the arithmetic and are not built: each is refused by name rather than computed wrongly. Numbers
 * that mean "off" are listed beside the key; text that means "off" is "none". */
static const struct {
    const char *key;
    double off;
} refused[] = {
    { "rope.scaling.type", 0 },        { "rope.scaling.factor", 1 }, { "rope.scaling.attn_factor", 1 },
    { "rope.scale_linear", 1 },        { "expert_count", 0 },        { "attention.clamp_kqv", 0 },
    { "attention.max_alibi_bias", 0 }, { "logit_scale", 1 },
};

static void copy_text(const struct gguf *g, const char *key, char *out, size_t room) {
    struct gguf_string s;
    out[0] = 0;
    if (!gguf_text(g, key, &s) || !utf8_valid(s.p, s.n)) return;
    size_t n = s.n < room - 1 ? s.n : room - 1;
    n -= n < s.n ? utf8_tail(s.p, n) : 0;
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)s.p[i] < ' ' ? ' ' : s.p[i];
    out[n] = 0;
}
static const char *full(const struct config_reader *r, const char *key, char out[96]) {
    snprintf(out, 96, "%s%s", r->prefix, key);
    return out;
}
static int find_arch(struct model_config *c, struct config_reader *r, const struct arch **arch) {
    copy_text(r->gguf, "general.architecture", c->arch, sizeof c->arch);
    if (!c->arch[0]) return config_wrong(r, "general.architecture", "is missing or no text");
    char known[120] = "";
    size_t n = 0;
    *arch = NULL;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        if (!strcmp(c->arch, archs[i].name)) *arch = &archs[i];
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", archs[i].name);
    }
    if (!*arch)
        return err_set(r->e, STATUS_INVALID, "%s: architecture '%s' is not supported; supported: %s",
                       json_text_label(r->file), c->arch, known);
    r->prefix = (*arch)->prefix;
    return 0;
}
static int refuse_unbuilt(const struct config_reader *r) {
    char key[96], shown[40] = "";
    for (size_t i = 0; i < sizeof refused / sizeof *refused && !shown[0]; i++) {
        struct gguf_string s;
        double v;
        full(r, refused[i].key, key);
        if (gguf_text(r->gguf, key, &s) && s.n && (s.n != 4 || memcmp(s.p, "none", 4)))
            snprintf(shown, sizeof shown, "%.*s", (int)(s.n < 32 ? s.n : 32), s.p);
        if (gguf_number(r->gguf, key, &v) && v != refused[i].off && v != 0) snprintf(shown, sizeof shown, "%g", v);
    }
    if (shown[0])
        return err_set(r->e, STATUS_INVALID, "%s: %s (%s) is not supported yet; load another model",
                       json_text_label(r->file), key, shown);
    if (gguf_tensor_find(r->gguf, "rope_freqs.weight"))
        return err_set(r->e, STATUS_INVALID,
                       "%s: scaled rotary frequencies (tensor 'rope_freqs.weight') are not supported yet; "
                       "load another model",
                       json_text_label(r->file));
    return 0;
}
static int check_vocab(struct model_config *c, const struct config_reader *r) {
    const struct gguf_tensor *t = gguf_tensor_find(r->gguf, "token_embd.weight");
    if (!t)
        return err_set(r->e, STATUS_FORMAT, "%s: has no tensor 'token_embd.weight' (%d tensors); give a whole model",
                       json_text_label(r->file), gguf_tensors(r->gguf));
    if (t->dims != 2 || t->dim[0] != (uint64_t)c->hidden)
        return config_wrong(r, "embedding_length", "differs from the columns of tensor 'token_embd.weight'");
    if (t->dim[1] > 1 << 24) return config_wrong(r, "vocab_size", "would be above 16,777,216 ('token_embd.weight')");
    if (c->vocab && t->dim[1] != (uint64_t)c->vocab)
        return config_wrong(r, "vocab_size", "differs from the rows of 'token_embd.weight'");
    c->vocab = (int)t->dim[1];
    if (gguf_array_len(r->gguf, "tokenizer.ggml.tokens") > (size_t)c->vocab)
        return err_set(r->e, STATUS_FORMAT,
                       "%s: tokenizer.ggml.tokens is longer than 'token_embd.weight' has rows; convert the model again",
                       json_text_label(r->file));
    c->tied = !gguf_tensor_find(r->gguf, "output.weight");
    return 0;
}
static int read_rest(struct model_config *c, const struct config_reader *r, const struct arch *arch) {
    char key[96];
    int64_t v;
    if (gguf_int(r->gguf, full(r, "attention.value_length", key), &v) && v != c->head_dim)
        return config_wrong(r, "attention.value_length", "differs from the key length");
    if (gguf_int(r->gguf, full(r, "attention.sliding_window", key), &v)) config_window(c, v);
    c->act = arch->act;
    c->rope_pairs = arch->rope_pairs;
    c->parallel = arch->parallel;
    if (arch->parallel) gguf_bool(r->gguf, full(r, "use_parallel_residual", key), &c->parallel);
    c->attn_bias = gguf_tensor_find(r->gguf, arch->attn_bias) != NULL;
    c->mlp_bias = gguf_tensor_find(r->gguf, arch->mlp_bias) != NULL;
    if (gguf_int(r->gguf, "tokenizer.ggml.eos_token_id", &v) && v >= 0 && v < c->vocab) c->eos[c->eos_n++] = (int)v;
    const int rc = config_read_float(r, "rope.freq_base", 10000.0, CONFIG_THETA, &c->rope_theta);
    return rc ? rc : config_read_float(r, arch->eps_key, 1e-5, CONFIG_EPS, &c->norm_eps);
}
int config_from_gguf(struct model_config *c, const struct gguf *g, struct err *e) {
    struct config_reader r = { CONFIG_GGUF, gguf_path(g), "", "convert the model again", g, NULL, e };
    const struct arch *arch;
    *c = (struct model_config){ .dtype = DTYPE_NONE };
    copy_text(g, "general.name", c->name, sizeof c->name);
    copy_text(g, "general.size_label", c->size_label, sizeof c->size_label);
    copy_text(g, "general.license", c->license, sizeof c->license);
    int rc = find_arch(c, &r, &arch);
    if (!rc) rc = config_read_numbers(c, &r);
    if (!rc) rc = refuse_unbuilt(&r);
    if (!rc) rc = config_derive(c, &r);
    if (!rc) rc = check_vocab(c, &r);
    if (!rc) rc = read_rest(c, &r, arch);
    return rc;
}
