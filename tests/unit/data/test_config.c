#include "data/config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "gguf_build.h"
#include <cmocka.h>

/* A right Llama header whose keys can be changed one at a time. */
struct entry {
    const char *key;
    char kind; /* 'u' number, 'f' float, 's' text, 'a' array; 0: left out */
    double v;
    const char *text;
};
enum { BASE = 11 };
static const struct entry base[BASE] = {
    { "general.architecture", 's', 0, "llama" },
    { "general.name", 's', 0, "Tiny\n\xed\x95\x9c" },
    { "llama.block_count", 'u', 3, NULL },
    { "llama.embedding_length", 'u', 96, NULL },
    { "llama.feed_forward_length", 'u', 256, NULL },
    { "llama.context_length", 'u', 128, NULL },
    { "llama.attention.head_count", 'u', 6, NULL },
    { "llama.attention.head_count_kv", 'u', 2, NULL },
    { "llama.attention.layer_norm_rms_epsilon", 'f', 1e-6, NULL },
    { "llama.rope.freq_base", 'f', 100000, NULL },
    { "llama.vocab_size", 'u', 50, NULL },
};
static void put_entry(struct buf *b, const struct entry *x, uint64_t *kvs) {
    *kvs += x->kind != 0;
    if (x->kind == 'u') put_u32(b, x->key, (uint32_t)x->v);
    if (x->kind == 'f') put_f32(b, x->key, (float)x->v);
    if (x->kind == 'b') put_bool(b, x->key, x->v != 0);
    if (x->kind == 's') put_string(b, x->key, x->text);
    if (x->kind == 'a') put_array(b, x->key, T_U32, 1), put_le(b, 1, 4);
}
/* A GPT-NeoX header of the same numbers. */
static const struct entry neox[BASE] = {
    { "general.architecture", 's', 0, "gptneox" },
    { "general.name", 's', 0, "Neox" },
    { "gptneox.block_count", 'u', 3, NULL },
    { "gptneox.embedding_length", 'u', 96, NULL },
    { "gptneox.feed_forward_length", 'u', 384, NULL },
    { "gptneox.context_length", 'u', 128, NULL },
    { "gptneox.attention.head_count", 'u', 6, NULL },
    { "gptneox.rope.dimension_count", 'u', 4, NULL },
    { "gptneox.attention.layer_norm_epsilon", 'f', 1e-5, NULL },
    { "gptneox.use_parallel_residual", 'b', 0, NULL },
    { "tokenizer.ggml.eos_token_id", 'u', 2, NULL },
};
/* The base with `change` in place of (or beside) its keys, and the tensors listed. */
static int read_from(const struct entry *from, struct model_config *c, const struct entry *change,
                     const char *const *tensor, struct err *e) {
    struct buf b;
    uint64_t kvs = 0, tensors = 0;
    put_head(&b, 3);
    bool known = false;
    for (int i = 0; i < BASE; i++) {
        const bool same = change && !strcmp(change->key, from[i].key);
        known |= same;
        put_entry(&b, same ? change : &from[i], &kvs);
    }
    if (change && !known) put_entry(&b, change, &kvs);
    for (; tensor[tensors]; tensors++)
        put_tensor(&b, tensor[tensors], 2, (const uint64_t[]){ 96, 50 }, 0, tensors * 96 * 50 * 4);
    put_counts(&b, tensors, kvs);
    struct gguf *g;
    const int rc = gguf_parse(&g, b.p, b.n, b.n + 100 + tensors * 96 * 50 * 4, e);
    assert_int_equal(rc, 0);
    const int got = config_from_gguf(c, g, e);
    gguf_close(g);
    buf_fini(&b);
    return got;
}
static int read_config(struct model_config *c, const struct entry *change, const char *const *tensor, struct err *e) {
    return read_from(base, c, change, tensor, e);
}
static const char *const embedding[] = { "token_embd.weight", NULL };

static void a_llama_is_read(void **state) {
    (void)state;
    static const char *const both[] = { "token_embd.weight", "output.weight", NULL };
    struct model_config c;
    struct err e = { 0 };
    assert_int_equal(read_config(&c, NULL, embedding, &e), 0);
    assert_string_equal(c.arch, "llama");
    assert_string_equal(c.name, "Tiny \xed\x95\x9c");
    assert_string_equal(c.license, "");
    const int got[] = { c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn, c.vocab, c.context, c.rope_dims };
    static const int want[] = { 3, 96, 6, 2, 16, 256, 50, 128, 16 };
    assert_memory_equal(got, want, sizeof want);
    assert_true(c.rope_theta == 100000.0f && c.norm_eps == 1e-6f);
    assert_true(c.tied && c.rope_pairs && c.act == CONFIG_SILU && c.dtype == DTYPE_NONE);
    assert_false(c.parallel || c.attn_bias || c.mlp_bias || c.qkv_by_head);
    assert_int_equal(c.eos_n, 0);
    assert_int_equal(read_config(&c, NULL, both, &e), 0);
    assert_false(c.tied);
}
static void a_gpt_neox_is_read(void **state) {
    (void)state;
    static const char *const all[] = { "token_embd.weight", "output.weight", "blk.0.attn_qkv.bias", "blk.0.ffn_up.bias",
                                       NULL };
    struct model_config c;
    struct err e = { 0 };
    if (read_from(neox, &c, NULL, all, &e)) fail_msg("%s", e.text);
    assert_string_equal(c.arch, "gptneox");
    const int got[] = { c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn, c.vocab, c.context, c.rope_dims };
    static const int want[] = { 3, 96, 6, 6, 16, 384, 50, 128, 4 };
    assert_memory_equal(got, want, sizeof want);
    assert_true(c.act == CONFIG_GELU && c.attn_bias && c.mlp_bias && c.norm_eps == 1e-5f);
    assert_false(c.parallel || c.qkv_by_head || c.rope_pairs || c.tied);
    assert_int_equal(c.eos_n, 1);
    assert_int_equal(c.eos[0], 2);
    assert_int_equal(read_from(neox, &c, &(struct entry){ .key = "gptneox.use_parallel_residual" }, embedding, &e), 0);
    assert_true(c.parallel && c.tied);
    assert_false(c.attn_bias || c.mlp_bias);
}
static void absent_keys_have_defaults(void **state) {
    (void)state;
    struct model_config c;
    struct err e = { 0 };
    assert_int_equal(read_config(&c, &(struct entry){ .key = "llama.attention.head_count_kv" }, embedding, &e), 0);
    assert_int_equal(c.kv_heads, 6);
    assert_int_equal(read_config(&c, &(struct entry){ .key = "llama.rope.freq_base" }, embedding, &e), 0);
    assert_true(c.rope_theta == 10000.0f);
    assert_int_equal(read_config(&c, &(struct entry){ "llama.attention.key_length", 'u', 32, NULL }, embedding, &e), 0);
    assert_int_equal(c.head_dim, 32);
    assert_int_equal(c.rope_dims, 32);
    assert_int_equal(read_config(&c, &(struct entry){ "llama.rope.dimension_count", 'u', 8, NULL }, embedding, &e), 0);
    assert_int_equal(c.rope_dims, 8);
    assert_int_equal(read_config(&c, &(struct entry){ "llama.attention.sliding_window", 'u', 64, NULL }, embedding, &e),
                     0);
    assert_int_equal(c.context, 64);
    assert_int_equal(read_config(&c, &(struct entry){ "llama.rope.scaling.type", 's', 0, "none" }, embedding, &e), 0);
    assert_int_equal(read_config(&c, &(struct entry){ "llama.rope.scaling.factor", 'f', 1, NULL }, embedding, &e), 0);
    assert_int_equal(read_config(&c, &(struct entry){ "llama.expert_count", 'u', 0, NULL }, embedding, &e), 0);
    assert_int_equal(e.code, 0);
}
static const struct {
    struct entry change;
    int code;
    const char *says;
} wrong[] = {
    { { "general.architecture", 's', 0, "mamba" },
      STATUS_INVALID,
      "'mamba' is not supported; supported: llama, gptneox" },
    { { .key = "general.architecture" }, STATUS_FORMAT, "general.architecture is missing" },
    { { .key = "llama.block_count" }, STATUS_FORMAT, "llama.block_count is missing" },
    { { "llama.block_count", 'u', 0, NULL }, STATUS_FORMAT, "block_count is 0 (1 to 4096" },
    { { "llama.block_count", 'u', 4294967295.0, NULL }, STATUS_FORMAT, "block_count is 4294967295" },
    { { "llama.block_count", 'f', 3, NULL }, STATUS_FORMAT, "no whole number" },
    { { "llama.attention.head_count_kv", 'a', 0, NULL }, STATUS_FORMAT, "differs between layers" },
    { { "llama.embedding_length", 'u', 95, NULL }, STATUS_FORMAT, "no multiple of the number of heads" },
    { { "llama.embedding_length", 'u', 192, NULL }, STATUS_FORMAT, "differs from the columns of tensor" },
    { { "llama.attention.head_count", 'u', 32, NULL }, STATUS_FORMAT, "odd" },
    { { "llama.attention.head_count", 'u', 3, NULL }, STATUS_FORMAT, "no multiple of the number of KV heads" },
    { { "llama.attention.head_count_kv", 'u', 0, NULL }, STATUS_FORMAT, "head_count_kv is 0" },
    { { "llama.attention.key_length", 'u', 15, NULL }, STATUS_FORMAT, "odd" },
    { { "llama.attention.value_length", 'u', 8, NULL }, STATUS_FORMAT, "differs from the key length" },
    { { "llama.rope.dimension_count", 'u', 18, NULL }, STATUS_FORMAT, "more than a head has" },
    { { "llama.rope.freq_base", 'f', -1, NULL }, STATUS_FORMAT, "freq_base is out of range" },
    { { "llama.attention.layer_norm_rms_epsilon", 'f', 0.0 / 0.0, NULL }, STATUS_FORMAT, "epsilon is out of range" },
    { { "llama.vocab_size", 'u', 51, NULL }, STATUS_FORMAT, "vocab_size differs" },
    { { "llama.rope.scaling.type", 's', 0, "yarn" }, STATUS_INVALID, "llama.rope.scaling.type (yarn)" },
    { { "llama.rope.scaling.factor", 'f', 8, NULL }, STATUS_INVALID, "llama.rope.scaling.factor (8)" },
    { { "llama.expert_count", 'u', 8, NULL }, STATUS_INVALID, "llama.expert_count (8)" },
};
static void each_wrong_key_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct model_config c;
        struct err e = { 0 };
        const int rc = read_config(&c, &wrong[i].change, embedding, &e);
        if (rc != wrong[i].code || !strstr(e.text, wrong[i].says))
            fail_msg("row %zu (%s): rc %d, error '%s'", i, wrong[i].change.key, rc, e.text);
    }
}
static void tensors_are_checked(void **state) {
    (void)state;
    static const char *const none[] = { NULL }, *const scaled[] = { "token_embd.weight", "rope_freqs.weight", NULL };
    struct model_config c;
    struct err e = { 0 };
    assert_int_equal(read_config(&c, NULL, none, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "no tensor 'token_embd.weight'"));
    e.code = 0;
    assert_int_equal(read_config(&c, NULL, scaled, &e), STATUS_INVALID);
    assert_non_null(strstr(e.text, "rope_freqs.weight"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_llama_is_read),           cmocka_unit_test(a_gpt_neox_is_read),
        cmocka_unit_test(absent_keys_have_defaults), cmocka_unit_test(each_wrong_key_is_named),
        cmocka_unit_test(tensors_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
