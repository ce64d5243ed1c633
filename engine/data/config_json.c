/* The configuration that a config.json holds, in the spellings of transformers from 2022 on. */
#include "config_read.h"
#include "json_text.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What differs between architectures, and the defaults of their configuration classes. */
static const struct arch {
    const char *name, *model_type, *class_name, *other_class, *eps_key, *act;
    double eps, rope_part;
    bool attn_bias, mlp_bias, neox;
} archs[] = {
    { "gptneox", "gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXForCausalLM", "layer_norm_eps", "gelu", 1e-5, 0.25, true,
      true, true },
    { "llama", "llama", "LlamaForCausalLM", "LLaMAForCausalLM", "rms_norm_eps", "silu", 1e-6, 1.0, false, false,
      false },
};
enum { ARCHS = sizeof archs / sizeof *archs };
static const struct {
    const char *name;
    enum config_act act;
} acts[] = {
    { "silu", CONFIG_SILU },
    { "swish", CONFIG_SILU },
    { "gelu", CONFIG_GELU },
    { "gelu_python", CONFIG_GELU },
    { "gelu_new", CONFIG_GELU_TANH },
    { "gelu_fast", CONFIG_GELU_TANH },
    { "gelu_pytorch_tanh", CONFIG_GELU_TANH },
};
/* Numbers that change the arithmetic and are not built; off: the value that changes nothing. */
static const struct {
    const char *key;
    double off;
} refused[] = {
    { "logits_scaling", 1 },         { "logit_scale", 1 },          { "embedding_multiplier", 1 },
    { "residual_multiplier", 1 },    { "attention_multiplier", 0 }, { "final_logit_softcapping", 0 },
    { "attn_logit_softcapping", 0 }, { "num_local_experts", 0 },    { "num_experts", 0 },
};

/* NULL: absent or null. */
static const json_t *lookup(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return v && !json_is_null(v) ? v : NULL;
}
/* A text for an error, with whatever the file holds made printable. */
static const char *shown(const json_t *v, char out[64]) {
    const char *s = json_is_string(v) ? json_string_value(v) : "no text";
    size_t n = 0;
    for (; s[n] && n < 63; n++) out[n] = s[n] >= ' ' && s[n] < 127 ? s[n] : '?';
    out[n] = 0;
    return out;
}
static int unsupported(const struct config_reader *r, const char *key, const json_t *v) {
    char text[64];
    return err_set(r->e, STATUS_INVALID,
                   "%s: %s '%s' is not supported; supported: GPTNeoXForCausalLM (gpt_neox), "
                   "LlamaForCausalLM (llama)",
                   json_text_label(r->file), key, shown(v, text));
}
static const struct arch *by_class(const json_t *name) {
    const char *s = json_is_string(name) ? json_string_value(name) : "";
    for (int i = 0; i < ARCHS; i++)
        if (!strcmp(s, archs[i].class_name) || !strcmp(s, archs[i].other_class)) return &archs[i];
    return NULL;
}
static const struct arch *by_type(const json_t *name) {
    for (int i = 0; i < ARCHS; i++)
        if (json_is_string(name) && !strcmp(json_string_value(name), archs[i].model_type)) return &archs[i];
    return NULL;
}
static int find_arch(const struct config_reader *r, const struct arch **arch) {
    const json_t *list = lookup(r->json, "architectures"), *type = lookup(r->json, "model_type");
    const json_t *first = json_is_string(list) ? list : json_array_get(list, 0);
    *arch = NULL;
    for (size_t i = 0; i < json_array_size(list) && !*arch; i++) *arch = by_class(json_array_get(list, i));
    if (first == list) *arch = by_class(first);
    if (first && !*arch) return unsupported(r, "architecture", first);
    const struct arch *typed = by_type(type);
    if (type && !typed) return unsupported(r, "model_type", type);
    if (*arch && typed && *arch != typed) return config_wrong(r, "model_type", "contradicts architectures");
    if (typed) *arch = typed;
    return *arch ? 0 : config_wrong(r, "model_type", "and architectures are missing: what model is this?");
}
static int read_bool(const struct config_reader *r, const char *key, bool otherwise, bool *out) {
    const json_t *v = lookup(r->json, key);
    *out = otherwise;
    if (!v) return 0;
    if (!json_is_boolean(v)) return config_wrong(r, key, "is neither true nor false");
    *out = json_is_true(v);
    return 0;
}
static int read_act(struct model_config *c, const struct config_reader *r, const struct arch *arch) {
    const json_t *v = lookup(r->json, "hidden_act");
    const char *name = v ? json_string_value(v) : arch->act;
    char text[64];
    for (size_t i = 0; name && i < sizeof acts / sizeof *acts; i++) {
        if (strcmp(name, acts[i].name)) continue;
        c->act = acts[i].act;
        return 0;
    }
    return err_set(
        r->e, STATUS_INVALID,
        "%s: hidden_act '%s' is not supported; supported: silu, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh",
        json_text_label(r->file), shown(v, text));
}
/* rope_scaling, and rope_parameters of later files: null or "default" changes nothing. */
static int refuse_scaled_rope(const struct config_reader *r, const char *key) {
    const json_t *o = lookup(r->json, key);
    if (!o) return 0;
    const char *inner;
    json_t *v;
    json_object_foreach((json_t *)o, inner, v) if (json_is_object(v)) return config_wrong(
        r, key, "differs between layers, which is not supported");
    const json_t *type = lookup(o, "rope_type");
    if (!type) type = lookup(o, "type");
    const bool plain =
        json_is_object(o) && (!type || (json_is_string(type) && !strcmp(json_string_value(type), "default")));
    if (plain && !(lookup(o, "factor") && json_number_value(lookup(o, "factor")) != 1)) return 0;
    char text[64];
    return err_set(r->e, STATUS_INVALID, "%s: %s (%s) is not supported yet; load another model",
                   json_text_label(r->file), key, type ? shown(type, text) : "of no known type");
}
static int refuse_unbuilt(const struct config_reader *r) {
    const json_t *q = lookup(r->json, "quantization_config");
    char text[64];
    if (q) {
        const json_t *method = lookup(q, "quant_method");
        return err_set(
            r->e, STATUS_INVALID,
            "%s: weights quantised by %s are not read; get the model's fp16 files (quantise with --dtype int8 "
            "or int4 when loading) or a GGUF",
            json_text_label(r->file), method ? shown(method, text) : "bitsandbytes (quantization_config)");
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *v = lookup(r->json, refused[i].key);
        if (v && (!json_is_number(v) || (json_number_value(v) != refused[i].off && json_number_value(v) != 0)))
            return err_set(r->e, STATUS_INVALID, "%s: %s is not supported yet; load another model",
                           json_text_label(r->file), refused[i].key);
    }
    const int rc = refuse_scaled_rope(r, "rope_scaling");
    return rc ? rc : refuse_scaled_rope(r, "rope_parameters");
}
/* The first of the spellings (rope_parameters.key, key, old) that the file has. */
static int read_rope(const struct config_reader *r, const char *key, const char *old, double otherwise,
                     const double range[2], float *out) {
    struct config_reader inner = *r;
    const json_t *o = lookup(r->json, "rope_parameters");
    if (o && lookup(o, key)) inner.json = o;
    return config_read_float(&inner, lookup(inner.json, key) ? key : old, otherwise, range, out);
}
static int read_rotary(struct model_config *c, const struct config_reader *r, const struct arch *arch) {
    static const double part_range[2] = { 0.0, 1.0 };
    float part;
    int rc = read_rope(r, "rope_theta", "rotary_emb_base", 10000.0, CONFIG_THETA, &c->rope_theta);
    if (!rc) rc = read_rope(r, "partial_rotary_factor", "rotary_pct", arch->rope_part, part_range, &part);
    if (rc) return rc;
    /* transformers truncates; the nudge takes back what 0.3f lost of 0.3. */
    c->rope_dims = (int)((double)c->head_dim * (double)part + 1e-4);
    if (c->rope_dims < 2) return config_wrong(r, "partial_rotary_factor", "rotates nothing, which is not supported");
    return 0;
}
static int add_eos(struct model_config *c, const struct config_reader *r) {
    const json_t *v = lookup(r->json, "eos_token_id");
    const size_t n = json_is_array(v) ? json_array_size(v) : v ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(id)) return config_wrong(r, "eos_token_id", "is no whole number");
        const json_int_t x = json_integer_value(id);
        bool known = x < 0 || x >= c->vocab; /* -1 is some files' "none" */
        for (int k = 0; k < c->eos_n; k++) known |= c->eos[k] == x;
        if (!known && c->eos_n < CONFIG_EOS) c->eos[c->eos_n++] = (int)x;
    }
    return 0;
}
static int read_switches(struct model_config *c, const struct config_reader *r, const struct arch *arch) {
    bool windowed;
    int rc = read_bool(r, "tie_word_embeddings", false, &c->tied);
    if (!rc) rc = read_bool(r, "use_parallel_residual", true, &c->parallel);
    if (!rc) rc = read_bool(r, "attention_bias", arch->attn_bias, &c->attn_bias);
    if (!rc) rc = read_bool(r, "mlp_bias", arch->mlp_bias, &c->mlp_bias);
    if (!rc) rc = read_bool(r, "use_sliding_window", true, &windowed);
    if (rc) return rc;
    const json_t *window = lookup(r->json, "sliding_window");
    if (windowed && json_is_integer(window)) config_window(c, json_integer_value(window));
    c->parallel = arch->neox && c->parallel;
    c->mlp_bias = arch->neox || c->mlp_bias;
    c->qkv_by_head = arch->neox;
    return 0;
}
static void read_dtype(struct model_config *c, const struct config_reader *r) {
    const json_t *v = lookup(r->json, "dtype");
    if (!v) v = lookup(r->json, "torch_dtype");
    const char *name = json_is_string(v) ? json_string_value(v) : "";
    if (!strncmp(name, "torch.", 6)) name += 6;
    const struct dtype_info *info = dtype_info(dtype_parse(name));
    c->dtype = info && info->block == 1 ? info->dt : DTYPE_NONE;
}
int config_from_object(struct model_config *c, const json_t *o, const char *label, struct err *e) {
    struct config_reader r = { CONFIG_JSON, label, "", "correct it or download it again", NULL, o, e };
    const struct arch *arch;
    *c = (struct model_config){ .dtype = DTYPE_NONE };
    int rc = find_arch(&r, &arch);
    if (!rc) rc = refuse_unbuilt(&r);
    if (!rc) rc = config_read_numbers(c, &r);
    if (rc) return rc;
    snprintf(c->arch, sizeof c->arch, "%s", arch->name);
    if (arch->neox) c->kv_heads = c->heads;
    rc = config_derive(c, &r);
    if (!rc) rc = read_rotary(c, &r, arch);
    if (!rc) rc = config_derive(c, &r);
    if (!rc) rc = config_read_float(&r, arch->eps_key, arch->eps, CONFIG_EPS, &c->norm_eps);
    if (!rc) rc = read_act(c, &r, arch);
    if (!rc) rc = read_switches(c, &r, arch);
    if (!rc) rc = add_eos(c, &r);
    if (!rc) read_dtype(c, &r);
    return rc;
}
int config_from_json(struct model_config *c, const char *text, size_t n, const char *label, struct err *e) {
    json_t *o;
    int rc = json_text_parse(&o, text, n, label, e);
    if (!rc) rc = config_from_object(c, o, label, e);
    json_decref(o);
    return rc;
}
int config_add_generation(struct model_config *c, const char *text, size_t n, const char *label, struct err *e) {
    json_t *o;
    int rc = json_text_parse(&o, text, n, label, e);
    const struct config_reader r = { CONFIG_JSON, label, "", "correct it or download it again", NULL, o, e };
    if (!rc) rc = add_eos(c, &r);
    json_decref(o);
    return rc;
}
