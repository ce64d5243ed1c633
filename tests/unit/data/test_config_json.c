#include "base/mem.h"
#include "data/config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* polyglot-ko-5.8b as it was first published: no use_parallel_residual, no attention_bias, old spellings. */
static const char polyglot[] =
    "{ \"_name_or_path\": \"x\", \"architectures\": [\"GPTNeoXForCausalLM\"], \"bos_token_id\": 0, \"eos_token_id\": 0,"
    " \"hidden_act\": \"gelu\", \"hidden_size\": 4096, \"initializer_range\": 0.02, \"intermediate_size\": 16384,"
    " \"layer_norm_eps\": 1e-05, \"max_position_embeddings\": 2048, \"model_type\": \"gpt_neox\","
    " \"num_attention_heads\": 16, \"num_hidden_layers\": 28, \"num_steps\": \"global_step320000\","
    " \"rotary_emb_base\": 10000, \"rotary_pct\": 0.25, \"tie_word_embeddings\": false, \"torch_dtype\": \"float16\","
    " \"transformers_version\": \"4.22.1\", \"use_cache\": true, \"vocab_size\": 30080 }";
static const char llama[] =
    "{ \"architectures\": [\"LlamaForCausalLM\"], \"bos_token_id\": 1, \"eos_token_id\": 2, \"hidden_act\": \"silu\","
    " \"hidden_size\": 576, \"intermediate_size\": 1536, \"max_position_embeddings\": 8192, \"model_type\": \"llama\","
    " \"num_attention_heads\": 9, \"num_hidden_layers\": 30, \"num_key_value_heads\": 3, \"pretraining_tp\": 1,"
    " \"rms_norm_eps\": 1e-05, \"rope_scaling\": null, \"rope_theta\": 100000, \"tie_word_embeddings\": true,"
    " \"torch_dtype\": \"bfloat16\", \"vocab_size\": 49152 }";

static int read_text(struct model_config *c, const char *text, struct err *e) {
    return config_from_json(c, text, strlen(text), "config.json", e);
}
/* The text with its first `from` replaced. */
static const char *changed(const char *text, const char *from, const char *to) {
    static char out[4096];
    const char *at = strstr(text, from);
    if (!at) fail_msg("no %s", from);
    snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}
static void good(struct model_config *c, const char *text) {
    struct err e = { 0 };
    if (read_text(c, text, &e)) fail_msg("%s", e.text);
}
static void a_gpt_neox_is_read(void **state) {
    (void)state;
    struct model_config c;
    good(&c, polyglot);
    assert_string_equal(c.arch, "gptneox");
    const int got[] = { c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn, c.vocab, c.context, c.rope_dims };
    static const int want[] = { 28, 4096, 16, 16, 256, 16384, 30080, 2048, 64 };
    assert_memory_equal(got, want, sizeof want);
    assert_true(c.parallel && c.attn_bias && c.mlp_bias && c.qkv_by_head && c.act == CONFIG_GELU);
    assert_false(c.tied || c.rope_pairs);
    assert_true(c.rope_theta == 10000.0f && c.norm_eps == 1e-5f && c.dtype == DTYPE_F16);
    assert_int_equal(c.eos_n, 1);
    assert_int_equal(c.eos[0], 0);
}
static void a_llama_is_read(void **state) {
    (void)state;
    struct model_config c;
    good(&c, llama);
    assert_string_equal(c.arch, "llama");
    const int got[] = { c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn, c.vocab, c.context, c.rope_dims };
    static const int want[] = { 30, 576, 9, 3, 64, 1536, 49152, 8192, 64 };
    assert_memory_equal(got, want, sizeof want);
    assert_true(c.tied && c.act == CONFIG_SILU && c.dtype == DTYPE_BF16 && c.rope_theta == 100000.0f);
    assert_false(c.parallel || c.attn_bias || c.mlp_bias || c.qkv_by_head || c.rope_pairs);
    assert_int_equal(c.eos[0], 2);
}
static void spellings_old_and_new(void **state) {
    (void)state;
    static const struct {
        const char *to; /* in place of rotary_pct and rotary_emb_base */
        int dims;
        float theta;
    } row[] = {
        { "\"rotary_pct\": 0.5, \"rotary_emb_base\": 20000", 128, 20000 },
        { "\"partial_rotary_factor\": 0.5, \"rope_theta\": 30000.0", 128, 30000 },
        { "\"rope_parameters\": { \"rope_type\": \"default\", \"rope_theta\": 5, \"partial_rotary_factor\": 0.125 }",
          32, 5 },
        { "\"rope_parameters\": { \"rope_theta\": 7 }, \"rotary_pct\": 1.0", 256, 7 },
        { "\"rotary_pct\": 0.3", 76, 10000 }, /* int(76.8) */
        { "\"rope_scaling\": { \"type\": \"default\" }", 64, 10000 },
        { "\"x\": 0", 64, 10000 }, /* the class' defaults */
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct model_config c;
        good(&c, changed(polyglot, "\"rotary_emb_base\": 10000, \"rotary_pct\": 0.25", row[i].to));
        assert_int_equal(c.rope_dims, row[i].dims);
        assert_true(c.rope_theta == row[i].theta);
    }
    static const struct {
        const char *name;
        enum config_act act;
    } acts[] = { { "gelu", CONFIG_GELU }, { "gelu_new", CONFIG_GELU_TANH }, { "gelu_fast", CONFIG_GELU_TANH },
                 { "silu", CONFIG_SILU }, { "swish", CONFIG_SILU },         { "gelu_pytorch_tanh", CONFIG_GELU_TANH } };
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        struct model_config c;
        char act[60];
        snprintf(act, sizeof act, "\"hidden_act\": \"%s\"", acts[i].name);
        good(&c, changed(polyglot, "\"hidden_act\": \"gelu\"", act));
        assert_int_equal(c.act, acts[i].act);
    }
}
static void small_differences(void **state) {
    (void)state;
    struct model_config c;
    good(&c, changed(polyglot, "\"use_cache\": true", "\"use_parallel_residual\": false, \"attention_bias\": false"));
    assert_false(c.parallel || c.attn_bias);
    assert_true(c.mlp_bias);
    good(&c, changed(polyglot, "[\"GPTNeoXForCausalLM\"]", "null"));
    assert_string_equal(c.arch, "gptneox");
    good(&c, changed(polyglot, "\"model_type\": \"gpt_neox\",", ""));
    good(&c, changed(llama, "LlamaForCausalLM", "LLaMAForCausalLM"));
    good(&c, changed(llama, "\"num_key_value_heads\": 3,", ""));
    assert_int_equal(c.kv_heads, 9);
    good(&c, changed(llama, "\"num_key_value_heads\": 3", "\"num_key_value_heads\": null, \"head_dim\": 32"));
    assert_int_equal(c.kv_heads, 9);
    assert_int_equal(c.head_dim, 32);
    assert_int_equal(c.rope_dims, 32);
    good(&c, changed(llama, "\"rms_norm_eps\": 1e-05,", ""));
    assert_true(c.norm_eps == 1e-6f);
    good(&c, changed(llama, "\"pretraining_tp\": 1", "\"attention_bias\": true, \"mlp_bias\": true"));
    assert_true(c.attn_bias && c.mlp_bias);
    good(&c, changed(llama, "\"pretraining_tp\": 1", "\"sliding_window\": 4096"));
    assert_int_equal(c.context, 4096);
    good(&c, changed(llama, "\"pretraining_tp\": 1", "\"sliding_window\": 4096, \"use_sliding_window\": false"));
    assert_int_equal(c.context, 8192);
    good(&c, changed(llama, "\"torch_dtype\": \"bfloat16\"", "\"dtype\": \"float32\""));
    assert_int_equal(c.dtype, DTYPE_F32);
    good(&c, changed(llama, "\"torch_dtype\": \"bfloat16\"", "\"torch_dtype\": \"int8\""));
    assert_int_equal(c.dtype, DTYPE_NONE);
    good(&c, changed(llama, "\"torch_dtype\": \"bfloat16\"", "\"torch_dtype\": 7"));
    assert_int_equal(c.dtype, DTYPE_NONE);
}
static void ends_of_text_are_gathered(void **state) {
    (void)state;
    struct model_config c;
    struct err e = { 0 };
    good(&c, changed(llama, "\"eos_token_id\": 2", "\"eos_token_id\": [2, 0, 2, 49152, -1]"));
    assert_int_equal(c.eos_n, 2); /* 49152 is no id of this model */
    static const char more[] = "{ \"eos_token_id\": [0, 7] }",
                      none[] = "{ \"max_length\": 20, \"eos_token_id\": null }";
    assert_int_equal(config_add_generation(&c, more, sizeof more - 1, "generation_config.json", &e), 0);
    assert_int_equal(config_add_generation(&c, none, sizeof none - 1, "generation_config.json", &e), 0);
    static const int want[] = { 2, 0, 7 };
    assert_int_equal(c.eos_n, 3);
    assert_memory_equal(c.eos, want, sizeof want);
    static const char many[] = "{ \"eos_token_id\": [10, 11, 12, 13, 14, 15, 16, 17] }",
                      bad[] = "{ \"eos_token_id\": 1.5 }";
    assert_int_equal(config_add_generation(&c, many, sizeof many - 1, "generation_config.json", &e), 0);
    assert_int_equal(c.eos_n, CONFIG_EOS);
    assert_int_equal(config_add_generation(&c, bad, sizeof bad - 1, "generation_config.json", &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "generation_config.json: eos_token_id is no whole number"));
}
static const struct {
    const char *base, *from, *to;
    int code;
    const char *says;
} wrong[] = {
    { polyglot, "GPTNeoXForCausalLM", "GPTNeoXForSequenceClassification", STATUS_INVALID,
      "'GPTNeoXForSequenceClassification' is not supported; supported: GPTNeoXForCausalLM" },
    { llama, "LlamaForCausalLM", "Evil\\u0007\\u001b[2J", STATUS_INVALID, "'Evil??[2J' is not supported" },
    { llama, "\"model_type\": \"llama\"", "\"model_type\": \"mistral\"", STATUS_INVALID, "model_type 'mistral'" },
    { llama, "\"model_type\": \"llama\"", "\"model_type\": \"gpt_neox\"", STATUS_FORMAT, "contradicts architectures" },
    { llama, "\"architectures\": [\"LlamaForCausalLM\"]", "\"model_type_\": 1", 0, "" },
    { llama, "\"hidden_size\": 576", "\"hidden_size\": 576.0", STATUS_FORMAT, "hidden_size is no whole number" },
    { llama, "\"hidden_size\": 576", "\"hidden_size\": \"576\"", STATUS_FORMAT, "hidden_size is no whole number" },
    { llama, "\"hidden_size\": 576", "\"hidden_size\": 577", STATUS_FORMAT,
      "hidden_size is no multiple of the number of heads" },
    { llama, "\"hidden_size\": 576", "\"hidden_size\": null", STATUS_FORMAT, "hidden_size is missing" },
    { llama, "\"hidden_size\": 576", "\"hidden_size\": -576", STATUS_FORMAT, "hidden_size is -576 (1 to" },
    { llama, "\"hidden_size\": 576", "\"hidden_size\": 9223372036854775807", STATUS_FORMAT,
      "(1 to 131072 is allowed)" },
    { llama, "\"hidden_size\": 576", "\"hidden_size\": 18446744073709551617", STATUS_FORMAT, "is no valid JSON" },
    { llama, "\"hidden_size\": 576", "\"hidden_size\": 576, \"hidden_size\": 64", STATUS_FORMAT, "is no valid JSON" },
    { llama, "\"hidden_size\": 576", "\"hidden_size\": NaN", STATUS_FORMAT, "is no valid JSON" },
    { llama, "\"num_hidden_layers\": 30", "\"num_hidden_layers\": 0", STATUS_FORMAT, "num_hidden_layers is 0" },
    { llama, "\"num_key_value_heads\": 3", "\"num_key_value_heads\": 4", STATUS_FORMAT,
      "no multiple of the number of KV heads" },
    { llama, "\"pretraining_tp\": 1", "\"head_dim\": 15", STATUS_FORMAT, "odd or above 4096" },
    { llama, "\"vocab_size\": 49152", "\"vocab_size\": 0", STATUS_FORMAT, "vocab_size is 0" },
    { llama, "\"rope_theta\": 100000", "\"rope_theta\": 0", STATUS_FORMAT, "rope_theta is out of range" },
    { llama, "\"rope_theta\": 100000", "\"rope_theta\": \"1\"", STATUS_FORMAT, "rope_theta is no number" },
    { llama, "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0.5", STATUS_FORMAT, "rms_norm_eps is out of range" },
    { llama, "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}", STATUS_INVALID,
      "rope_scaling (linear) is not supported yet" },
    { llama, "\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"llama3\"}", STATUS_INVALID,
      "rope_scaling (llama3)" },
    { llama, "\"rope_scaling\": null", "\"rope_scaling\": {\"factor\": 4.0}", STATUS_INVALID,
      "rope_scaling (of no known type)" },
    { llama, "\"rope_scaling\": null", "\"rope_scaling\": 4", STATUS_INVALID, "rope_scaling" },
    { llama, "\"rope_scaling\": null", "\"rope_parameters\": {\"rope_type\": \"yarn\"}", STATUS_INVALID,
      "rope_parameters (yarn)" },
    { llama, "\"rope_scaling\": null", "\"rope_parameters\": {\"full_attention\": {}}", STATUS_FORMAT,
      "differs between layers" },
    { llama, "\"rope_scaling\": null", "\"quantization_config\": {\"quant_method\": \"gptq\"}", STATUS_INVALID,
      "weights quantised by gptq are not read" },
    { llama, "\"rope_scaling\": null", "\"quantization_config\": {\"load_in_8bit\": true}", STATUS_INVALID,
      "quantised by bitsandbytes" },
    { llama, "\"rope_scaling\": null", "\"num_local_experts\": 8", STATUS_INVALID,
      "num_local_experts is not supported" },
    { llama, "\"rope_scaling\": null", "\"logits_scaling\": 8", STATUS_INVALID, "logits_scaling is not supported" },
    { llama, "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"", STATUS_INVALID,
      "hidden_act 'relu' is not supported" },
    { llama, "\"hidden_act\": \"silu\"", "\"hidden_act\": [1]", STATUS_INVALID, "hidden_act 'no text'" },
    { llama, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", STATUS_FORMAT, "neither true nor false" },
    { llama, "\"eos_token_id\": 2", "\"eos_token_id\": \"2\"", STATUS_FORMAT, "eos_token_id is no whole number" },
    { polyglot, "\"rotary_pct\": 0.25", "\"rotary_pct\": 1.5", STATUS_FORMAT, "rotary_pct is out of range" },
    { polyglot, "\"rotary_pct\": 0.25", "\"rotary_pct\": 0", STATUS_FORMAT, "rotates nothing" },
    { polyglot, "\"rotary_pct\": 0.25", "\"rotary_pct\": 0.01953125", STATUS_FORMAT, "odd number of dimensions" },
    { polyglot, "{ \"_name", "[ \"_name", STATUS_FORMAT, "is no valid JSON" },
};
static void each_wrong_key_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct model_config c;
        struct err e = { 0 };
        const int rc = read_text(&c, changed(wrong[i].base, wrong[i].from, wrong[i].to), &e);
        if (rc != wrong[i].code || !strstr(e.text, wrong[i].says) || (rc && !strstr(e.text, "config.json")))
            fail_msg("row %zu (%s): rc %d, '%s'", i, wrong[i].to, rc, e.text);
    }
    static const char *const texts[] = { "", "{}", "[]", "null", "{", "\xff", "{\"model_type\": 1}" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct model_config c;
        struct err e = { 0 };
        const int rc = read_text(&c, texts[i], &e);
        if (!rc || !e.text[0]) fail_msg("'%s' was taken", texts[i]);
    }
    char deep[20001];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    memcpy(deep, "{\"a\":", 5);
    struct model_config c;
    struct err e = { 0 };
    assert_int_equal(read_text(&c, deep, &e), STATUS_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpt_neox_is_read),        cmocka_unit_test(a_llama_is_read),
        cmocka_unit_test(spellings_old_and_new),     cmocka_unit_test(small_differences),
        cmocka_unit_test(ends_of_text_are_gathered), cmocka_unit_test(each_wrong_key_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
