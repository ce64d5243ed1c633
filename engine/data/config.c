#include "config.h"
#include "base/buf.h"
#include "base/utf8.h"
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* What differs between architectures in GGUF's metadata. */
static const struct arch {
    const char *name, *eps_key;
    bool rope_pairs;
} archs[] = {
    { "llama", "attention.layer_norm_rms_epsilon", true },
};
/* Numbers under "<arch>.": the bounds keep every product that later layers form (heads * head_dim, layers * context *
 * row bytes) far inside 64 bits. otherwise: value when the key is absent; NEEDED: it must be there. */
enum { NEEDED = -1 };
static const struct {
    const char *key;
    size_t at;
    int low, high, otherwise;
} numbers[] = {
#define FIELD(f) offsetof(struct model_config, f)
    { "block_count", FIELD(layers), 1, 4096, NEEDED },
    { "embedding_length", FIELD(hidden), 1, 1 << 17, NEEDED },
    { "feed_forward_length", FIELD(ffn), 1, 1 << 20, NEEDED },
    { "context_length", FIELD(context), 1, 1 << 24, NEEDED },
    { "attention.head_count", FIELD(heads), 1, 4096, NEEDED },
    { "attention.head_count_kv", FIELD(kv_heads), 1, 4096, 0 },
    { "attention.key_length", FIELD(head_dim), 2, 4096, 0 },
    { "rope.dimension_count", FIELD(rope_dims), 2, 4096, 0 },
#undef FIELD
};
/* Features that change the arithmetic and are not built: each is refused by name rather than computed wrongly. Numbers
 * that mean "off" are listed beside the key; text that means "off" is "none". */
static const struct {
    const char *key;
    double off;
} refused[] = {
    { "rope.scaling.type", 0 },        { "rope.scaling.factor", 1 }, { "rope.scaling.attn_factor", 1 },
    { "rope.scale_linear", 1 },        { "expert_count", 0 },        { "attention.clamp_kqv", 0 },
    { "attention.max_alibi_bias", 0 },
};
struct reader {
    const struct gguf *g;
    const struct arch *arch;
    struct err *e;
};

static const char *full(const struct reader *r, const char *key, char out[96]) {
    snprintf(out, 96, "%s.%s", r->arch->name, key);
    return out;
}
static void copy_text(const struct gguf *g, const char *key, char *out, size_t room) {
    struct gguf_string s;
    out[0] = 0;
    if (!gguf_text(g, key, &s) || !utf8_valid(s.p, s.n)) return;
    size_t n = s.n < room - 1 ? s.n : room - 1;
    n -= n < s.n ? utf8_tail(s.p, n) : 0;
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)s.p[i] < ' ' ? ' ' : s.p[i];
    out[n] = 0;
}
static int wrong(const struct reader *r, const char *key, const char *why) {
    return err_set(r->e, STATUS_FORMAT, "%s: %s %s; convert the model again", gguf_path(r->g), key, why);
}
static int find_arch(struct model_config *c, struct reader *r) {
    copy_text(r->g, "general.architecture", c->arch, sizeof c->arch);
    if (!c->arch[0]) return wrong(r, "general.architecture", "is missing or no text");
    char known[120] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        if (!strcmp(c->arch, archs[i].name)) r->arch = &archs[i];
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", archs[i].name);
    }
    if (r->arch) return 0;
    return err_set(r->e, STATUS_INVALID, "%s: architecture '%s' is not supported; supported: %s", gguf_path(r->g),
                   c->arch, known);
}
static int read_numbers(struct model_config *c, const struct reader *r) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char key[96], why[80];
        int64_t v = numbers[i].otherwise;
        double any;
        int *field = (int *)((char *)c + numbers[i].at);
        const bool there = gguf_int(r->g, full(r, numbers[i].key, key), &v);
        if (!there && gguf_number(r->g, key, &any)) return wrong(r, key, "is no whole number");
        if (!there && gguf_array_len(r->g, key)) return wrong(r, key, "differs between layers, which is not supported");
        if (!there && v == NEEDED) return wrong(r, key, "is missing");
        if (there && (v < numbers[i].low || v > numbers[i].high)) {
            snprintf(why, sizeof why, "is %" PRId64 " (%d to %d is allowed)", v, numbers[i].low, numbers[i].high);
            return wrong(r, key, why);
        }
        *field = (int)v;
    }
    return 0;
}
static int read_float(const struct reader *r, const char *name, float otherwise, double low, double high, float *out) {
    char key[96];
    double v = (double)otherwise;
    gguf_number(r->g, full(r, name, key), &v);
    if (!(v >= low && v <= high)) return wrong(r, key, "is out of range");
    *out = (float)v;
    return 0;
}
static int refuse_unbuilt(const struct reader *r) {
    char key[96], shown[40] = "";
    for (size_t i = 0; i < sizeof refused / sizeof *refused && !shown[0]; i++) {
        struct gguf_string s;
        double v;
        full(r, refused[i].key, key);
        if (gguf_text(r->g, key, &s) && s.n && (s.n != 4 || memcmp(s.p, "none", 4)))
            snprintf(shown, sizeof shown, "%.*s", (int)(s.n < 32 ? s.n : 32), s.p);
        if (gguf_number(r->g, key, &v) && v != refused[i].off && v != 0) snprintf(shown, sizeof shown, "%g", v);
    }
    if (shown[0])
        return err_set(r->e, STATUS_INVALID, "%s: %s (%s) is not supported yet; load another model", gguf_path(r->g),
                       key, shown);
    if (gguf_tensor_find(r->g, "rope_freqs.weight"))
        return err_set(r->e, STATUS_INVALID,
                       "%s: scaled rotary frequencies (tensor 'rope_freqs.weight') are not supported yet; "
                       "load another model",
                       gguf_path(r->g));
    return 0;
}
static int derive(struct model_config *c, const struct reader *r) {
    char key[96];
    int64_t v;
    if (!c->kv_heads) c->kv_heads = c->heads;
    if (c->heads % c->kv_heads) return wrong(r, "attention.head_count", "is no multiple of head_count_kv");
    if (!c->head_dim && c->hidden % c->heads) return wrong(r, "embedding_length", "is no multiple of the head count");
    if (!c->head_dim) c->head_dim = c->hidden / c->heads;
    if (c->head_dim % 2 || c->head_dim > 4096) return wrong(r, "the head size", "is odd or above 4096");
    if (gguf_int(r->g, full(r, "attention.value_length", key), &v) && v != c->head_dim)
        return wrong(r, key, "differs from the key length");
    if (!c->rope_dims) c->rope_dims = c->head_dim;
    if (c->rope_dims % 2 || c->rope_dims > c->head_dim)
        return wrong(r, "rope.dimension_count", "is odd or above the head size");
    /* Up to its length a sliding window sees what full attention sees, so the shorter context is exact. */
    if (gguf_int(r->g, full(r, "attention.sliding_window", key), &v) && v > 0 && v < c->context) c->context = (int)v;
    return 0;
}
static int check_vocab(struct model_config *c, const struct reader *r) {
    char key[96];
    int64_t v;
    const struct gguf_tensor *t = gguf_tensor_find(r->g, "token_embd.weight");
    if (!t)
        return err_set(r->e, STATUS_FORMAT, "%s: has no tensor 'token_embd.weight' (%d tensors); give a whole model",
                       gguf_path(r->g), gguf_tensors(r->g));
    if (t->dims != 2 || t->dim[0] != (uint64_t)c->hidden)
        return wrong(r, "tensor 'token_embd.weight'", "does not have embedding_length columns");
    if (t->dim[1] > 1 << 24) return wrong(r, "tensor 'token_embd.weight'", "has more than 16,777,216 rows");
    c->vocab = (int)t->dim[1];
    if (gguf_int(r->g, full(r, "vocab_size", key), &v) && v != c->vocab)
        return wrong(r, key, "differs from the rows of 'token_embd.weight'");
    if (gguf_array_len(r->g, "tokenizer.ggml.tokens") > (size_t)c->vocab)
        return wrong(r, "tokenizer.ggml.tokens", "is longer than 'token_embd.weight' has rows");
    c->tied = !gguf_tensor_find(r->g, "output.weight");
    return 0;
}
int config_from_gguf(struct model_config *c, const struct gguf *g, struct err *e) {
    struct reader r = { .g = g, .e = e };
    *c = (struct model_config){ 0 };
    copy_text(g, "general.name", c->name, sizeof c->name);
    copy_text(g, "general.size_label", c->size_label, sizeof c->size_label);
    copy_text(g, "general.license", c->license, sizeof c->license);
    int rc = find_arch(c, &r);
    if (!rc) rc = read_numbers(c, &r);
    if (!rc) rc = refuse_unbuilt(&r);
    if (!rc) rc = derive(c, &r);
    if (!rc) rc = check_vocab(c, &r);
    if (!rc) rc = read_float(&r, "rope.freq_base", 10000.0f, 1.0, 1e12, &c->rope_theta);
    if (!rc) rc = read_float(&r, r.arch->eps_key, 1e-5f, 1e-12, 0.1, &c->norm_eps);
    if (!rc) c->rope_pairs = r.arch->rope_pairs;
    return rc;
}
