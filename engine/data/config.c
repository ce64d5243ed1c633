#include "config.h"
#include "config_read.h"
#include "json_text.h"
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* The bounds keep every product that later layers form (heads * head_dim, layers * context * row bytes) far inside 64
 * bits. otherwise: value when the key is absent; NEEDED: it must be there. */
enum { NEEDED = -1 };
static const struct {
    size_t at;
    int low, high, otherwise[CONFIG_SOURCES];
    const char *key[CONFIG_SOURCES]; /* NULL: the source has no such number */
} numbers[] = {
#define FIELD(f) offsetof(struct model_config, f)
    { FIELD(layers), 1, 4096, { NEEDED, NEEDED }, { "block_count", "num_hidden_layers" } },
    { FIELD(hidden), 1, 1 << 17, { NEEDED, NEEDED }, { "embedding_length", "hidden_size" } },
    { FIELD(ffn), 1, 1 << 20, { NEEDED, NEEDED }, { "feed_forward_length", "intermediate_size" } },
    { FIELD(context), 1, 1 << 24, { NEEDED, 2048 }, { "context_length", "max_position_embeddings" } },
    { FIELD(heads), 1, 4096, { NEEDED, NEEDED }, { "attention.head_count", "num_attention_heads" } },
    { FIELD(kv_heads), 1, 4096, { 0, 0 }, { "attention.head_count_kv", "num_key_value_heads" } },
    { FIELD(head_dim), 2, 4096, { 0, 0 }, { "attention.key_length", "head_dim" } },
    { FIELD(rope_dims), 2, 4096, { 0, 0 }, { "rope.dimension_count", NULL } },
    { FIELD(vocab), 1, 1 << 24, { 0, NEEDED }, { "vocab_size", "vocab_size" } },
#undef FIELD
};
const double CONFIG_THETA[2] = { 1.0, 1e12 }, CONFIG_EPS[2] = { 1e-12, 0.1 };

int config_wrong(const struct config_reader *r, const char *key, const char *why) {
    return err_set(r->e, STATUS_FORMAT, "%s: %s%s %s; %s", json_text_label(r->file), r->prefix, key, why, r->way_out);
}
/* A whole number: 1 found, 0 absent, else an error. */
static int read_int(const struct config_reader *r, const char *key, int64_t *v) {
    if (r->source == CONFIG_JSON) {
        const json_t *x = json_object_get(r->json, key);
        if (!x || json_is_null(x)) return 0;
        if (!json_is_integer(x)) return config_wrong(r, key, "is no whole number");
        *v = json_integer_value(x);
        return 1;
    }
    char full[96];
    double any;
    snprintf(full, sizeof full, "%s%s", r->prefix, key);
    if (gguf_int(r->gguf, full, v)) return 1;
    if (gguf_number(r->gguf, full, &any)) return config_wrong(r, key, "is no whole number");
    if (gguf_array_len(r->gguf, full)) return config_wrong(r, key, "differs between layers, which is not supported");
    return 0;
}
int config_read_numbers(struct model_config *c, const struct config_reader *r) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const char *key = numbers[i].key[r->source];
        int64_t v = numbers[i].otherwise[r->source];
        const int there = key ? read_int(r, key, &v) : 0;
        if (there < 0) return there;
        if (!there && v == NEEDED) return config_wrong(r, key, "is missing");
        if (there && (v < numbers[i].low || v > numbers[i].high)) {
            char why[80];
            snprintf(why, sizeof why, "is %" PRId64 " (%d to %d is allowed)", v, numbers[i].low, numbers[i].high);
            return config_wrong(r, key, why);
        }
        *(int *)((char *)c + numbers[i].at) = (int)v;
    }
    return 0;
}
int config_read_float(const struct config_reader *r, const char *key, double otherwise, const double range[2],
                      float *out) {
    double v = otherwise;
    char full[96];
    const json_t *x = r->source == CONFIG_JSON ? json_object_get(r->json, key) : NULL;
    if (x && !json_is_null(x) && !json_is_number(x)) return config_wrong(r, key, "is no number");
    if (x && json_is_number(x)) v = json_number_value(x);
    if (r->source == CONFIG_GGUF) {
        snprintf(full, sizeof full, "%s%s", r->prefix, key);
        gguf_number(r->gguf, full, &v);
    }
    if (!(v >= range[0] && v <= range[1])) return config_wrong(r, key, "is out of range");
    *out = (float)v;
    return 0;
}
void config_window(struct model_config *c, int64_t window) {
    if (window > 0 && window < c->context) c->context = (int)window;
}
int config_derive(struct model_config *c, const struct config_reader *r) {
    const bool json = r->source == CONFIG_JSON;
    const char *heads = json ? "num_attention_heads" : "attention.head_count";
    if (!c->kv_heads) c->kv_heads = c->heads;
    if (c->heads % c->kv_heads) return config_wrong(r, heads, "is no multiple of the number of KV heads");
    if (!c->head_dim && c->hidden % c->heads)
        return config_wrong(r, json ? "hidden_size" : "embedding_length", "is no multiple of the number of heads");
    if (!c->head_dim) c->head_dim = c->hidden / c->heads;
    if (c->head_dim % 2 || c->head_dim < 2 || c->head_dim > 4096)
        return config_wrong(r, heads, "makes heads of a size that is odd or above 4096");
    if (!c->rope_dims) c->rope_dims = c->head_dim;
    if (c->rope_dims % 2 || c->rope_dims > c->head_dim)
        return config_wrong(r, json ? "partial_rotary_factor" : "rope.dimension_count",
                            "rotates an odd number of dimensions or more than a head has");
    return 0;
}
