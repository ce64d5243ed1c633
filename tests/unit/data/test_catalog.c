#include "base/mem.h"
#include "data/catalog.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

static void names_aliases_and_starts(void **state) {
    (void)state;
    static const struct {
        const char *typed, *name;
    } row[] = {
        { "smollm2-135m", "smollm2-135m" },
        { "SMOLLM2", "smollm2-135m" },
        { "smollm2-135m-instruct", "smollm2-135m" },
        { "HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m" },
        { "smol", "smollm2-135m" },
        { "huggingfacetb/smol", "smollm2-135m" },
        { "SmolLM2-135M-Instruct.Q4_1", "smollm2-135m" },
        { "EleutherAI/polyglot-ko-5.8b", "polyglot-ko-5.8b" },
        { "POLYGLOT-KO-12.8B", "polyglot-ko-12.8b" },
        { "beomi/KoAlpaca-Polyglot-12.8B", "koalpaca-polyglot-12.8b" },
        { "koalpaca-12.8b", "koalpaca-polyglot-12.8b" },
        { "kullm-12.8b", "kullm-polyglot-12.8b-v2" },
        { "nlpai-lab/kullm-polyglot-5.8b-v2", "kullm-polyglot-5.8b-v2" },
        { "Llama-2-7b-chat-hf", "llama-2-7b-chat" },
        { "llama-2-13b", "llama-2-13b-chat" },
        { "vicuna-7b-v1.5", "vicuna-7b-v1.5" },
        { "vicuna-13b-v0", "vicuna-13b-v0" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct err e = { 0 };
        const struct catalog_entry *entry = catalog_find(row[i].typed, &e);
        if (!entry) fail_msg("%s: %s", row[i].typed, e.text);
        assert_string_equal(entry->name, row[i].name);
    }
    assert_null(catalog_at(catalog_count()));
    assert_null(catalog_at(-1));
}
static const struct catalog_entry table[] = {
    { .name = "polyglot-1.3b", .aliases = "EleutherAI/polyglot-ko-1.3b", .file = "p1.gguf" },
    { .name = "polyglot-5.8b", .aliases = "", .repo = "EleutherAI/polyglot-ko-5.8b" },
    { .name = "kullm", .aliases = "", .file = "kullm.gguf" },
    { .name = "kullm-v2", .aliases = "", .file = "kullm2.gguf" },
};
static void near_misses_are_offered(void **state) {
    (void)state;
    static const struct {
        const char *name, *finds, *says;
    } row[] = {
        { "kullm", "kullm", NULL }, /* exact beats the longer one that starts so */
        { "kullm-", "kullm-v2", NULL },
        { "polyglot-ko-5", "polyglot-5.8b", NULL },
        { "poly", NULL, "'poly' may mean polyglot-1.3b, polyglot-5.8b; write more of it" },
        { "polyglot-5.9b", NULL, "did you mean polyglot-5.8b?" },
        { "kulm", NULL, "did you mean kullm?" },
        { "gpt-neo-x-twenty", NULL, "no model 'gpt-neo-x-twenty'; give the path" },
        { "a\x1b[2Jb\n", NULL, "no model 'a?[2Jb?'" },
        { "", NULL, "give a model's name" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct err e = { 0 };
        const struct catalog_entry *entry = catalog_find_in(table, 4, row[i].name, &e);
        if (row[i].finds) {
            assert_non_null(entry);
            assert_string_equal(entry->name, row[i].finds);
        } else if (entry || !strstr(e.text, row[i].says)) {
            fail_msg("'%s': '%s'", row[i].name, e.text);
        }
    }
}
/* Weights of the whole model as the papers count them: the published totals are the check on the shapes. */
static uint64_t params(const struct model_config *c) {
    const uint64_t h = (uint64_t)c->hidden, l = (uint64_t)c->layers, f = (uint64_t)c->ffn, v = (uint64_t)c->vocab;
    if (!strcmp(c->arch, "gptneox")) return l * (4 * h * h + 2 * h * f + 8 * h + f + h) + 2 * h + 2 * v * h;
    const uint64_t kv = (uint64_t)c->kv_heads * (uint64_t)c->head_dim;
    return l * (2 * h * h + 2 * h * kv + 3 * h * f + 2 * h) + h + (c->tied ? 1 : 2) * v * h;
}
static void shapes_give_the_published_totals(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint64_t params;
        int head_dim, rope_dims, vocab;
    } row[] = {
        { "polyglot-ko-1.3b", 1331810304, 128, 64, 30080 },
        { "polyglot-ko-3.8b", 3809974272, 128, 64, 30080 },
        { "polyglot-ko-5.8b", 5885059072, 256, 64, 30080 },
        { "polyglot-ko-12.8b", 12893603840, 128, 64, 30080 },
        { "koalpaca-polyglot-5.8b", 5885059072, 256, 64, 30080 },
        { "koalpaca-polyglot-12.8b", 12892815360, 128, 64, 30003 },
        { "kullm-polyglot-5.8b-v2", 5885059072, 256, 64, 30080 },
        { "kullm-polyglot-12.8b-v2", 12893603840, 128, 64, 30080 },
        { "llama-2-7b-chat", 6738415616, 128, 128, 32000 },
        { "llama-2-13b-chat", 13015864320, 128, 128, 32000 },
        { "vicuna-7b-v1.5", 6738415616, 128, 128, 32000 },
        { "smollm2-135m", 134515008, 64, 64, 49152 },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct err e = { 0 };
        const struct catalog_entry *entry = catalog_find(row[i].name, &e);
        if (!entry) fail_msg("%s", e.text);
        const struct model_config *c = &entry->config;
        if (params(c) != row[i].params) fail_msg("%s: %llu parameters", row[i].name, (unsigned long long)params(c));
        assert_int_equal(c->head_dim, row[i].head_dim);
        assert_int_equal(c->rope_dims, row[i].rope_dims);
        assert_int_equal(c->vocab, row[i].vocab);
    }
}
static void every_entry_is_whole(void **state) {
    (void)state;
    static const char *const templates[] = { "raw",       "koalpaca",        "kullm",
                                             "llama-2",   "vicuna",          "vicuna-v0",
                                             "chatml",    "minigpt4-llama2", "minigpt4-vicuna0",
                                             "minigpt-v2" };
    assert_true(catalog_count() >= 19);
    for (int i = 0; i < catalog_count(); i++) {
        const struct catalog_entry *c = catalog_at(i);
        bool known = false;
        for (size_t k = 0; k < sizeof templates / sizeof *templates; k++)
            known |= !strcmp(c->template_name, templates[k]);
        assert_true(known && c->aliases && c->about && c->get && strlen(c->get) < 200 && strlen(c->name) < 64);
        assert_true(!c->gated || strlen(c->gated) < 200);
        assert_true(c->config.layers > 0 && c->config.license[0]);
        assert_string_equal(c->config.name, c->name);
        struct err e = { 0 };
        assert_ptr_equal(catalog_find(c->name, &e), c);
        if (c->repo) assert_ptr_equal(catalog_find(c->repo, &e), c);
        const bool polyglot = strstr(c->name, "polyglot") != NULL;
        const bool ends_at_2 = polyglot || !strcmp(c->name, "minigpt-v2");
        assert_int_equal(c->stop_ids, ends_at_2 ? 1 : 0);
        if (ends_at_2) assert_int_equal(c->stop_id[0], 2);
        const bool alpaca = !strcmp(c->template_name, "koalpaca") || !strcmp(c->template_name, "kullm");
        if (alpaca) assert_string_equal(c->stop[0], "###");
        assert_true(!alpaca || !c->stop[1]);
    }
    struct err e = { 0 };
    assert_string_equal(catalog_find("polyglot-ko-5.8b", &e)->get,
                        "hf download EleutherAI/polyglot-ko-5.8b \"*.json\" \"*.safetensors\" \"tokenizer.model\"");
    assert_string_equal(catalog_find("vicuna-7b-v1.5", &e)->get, /* that repository has torch files only */
                        "hf download lmsys/vicuna-7b-v1.5 \"*.json\" \"*.bin\" \"tokenizer.model\"");
    assert_non_null(strstr(catalog_find("llama-2-7b-chat", &e)->gated, "meta-llama/Llama-2-7b-chat-hf"));
}
/* models.md 1.2 and 1.8 */
static void what_sees_has_parts(void **state) {
    (void)state;
    static const struct {
        const char *typed, *name, *vision, *llm, *projector, *template_name;
        bool qformer;
        double temperature;
        int most;
    } row[] = {
        { "MiniGPT-4", "minigpt4-7b", "llama2", "llama-2-7b-chat", "pretrained_minigpt4_llama2_7b.pth",
          "minigpt4-llama2", false, 1, 300 },
        { "minigpt4-vicuna-7b", "minigpt4-vicuna-7b", "vicuna-7b", "vicuna-7b-v0", "prerained_minigpt4_7b.pth",
          "minigpt4-vicuna0", true, 1, 300 },
        { "minigpt4-13b", "minigpt4-vicuna-13b", "vicuna-13b", "vicuna-13b-v0", "pretrained_minigpt4.pth",
          "minigpt4-vicuna0", true, 1, 300 },
        { "minigpt-v2", "minigpt-v2", "v2", "llama-2-7b-chat", "minigptv2_checkpoint.pth", "minigpt-v2", false, 0.6,
          500 },
    };
    int seeing = 0;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct err e = { 0 };
        const struct catalog_entry *c = catalog_find(row[i].typed, &e), *llm;
        if (!c) fail_msg("%s", e.text);
        assert_string_equal(c->name, row[i].name);
        assert_string_equal(c->vision, row[i].vision);
        assert_string_equal(c->llm, row[i].llm);
        assert_string_equal(c->vit, "eva_vit_g.pth");
        assert_string_equal(c->projector, row[i].projector);
        assert_string_equal(c->template_name, row[i].template_name);
        assert_true(!c->qformer == !row[i].qformer);
        if (c->qformer) assert_string_equal(c->qformer, "blip2_pretrained_flant5xxl.pth");
        assert_float_equal(c->sampling.temperature, row[i].temperature, 1e-6);
        assert_float_equal(c->sampling.top_p, 0.9, 1e-6);
        assert_float_equal(c->sampling.repetition_penalty, 1.05, 1e-6);
        assert_int_equal(c->sampling.top_k, 50);
        assert_int_equal(c->sampling.max_new_tokens, row[i].most);
        assert_non_null(llm = catalog_find(c->llm, &e));
        assert_null(llm->vision);
        assert_int_equal(params(&c->config), params(&llm->config));
        if (strcmp(c->name, "minigpt-v2") != 0) assert_string_equal(c->stop[0], "###");
    }
    for (int i = 0; i < catalog_count(); i++) seeing += catalog_at(i)->vision != NULL;
    assert_int_equal(seeing, 4);
}
static const char good[] =
    "{ \"models\": [ { \"name\": \"a\", \"template\": \"raw\", \"about\": \"A\", \"repo\": \"o/a\", \"stop\": [\"#\"],"
    " \"stop_ids\": [2], \"config\": { \"model_type\": \"llama\", \"num_hidden_layers\": 1, \"hidden_size\": 8,"
    " \"num_attention_heads\": 2, \"intermediate_size\": 16, \"vocab_size\": 9 } } ] }";
static void other_catalogues_can_be_read(void **state) {
    (void)state;
    struct catalog_entry *list;
    struct err e = { 0 };
    assert_int_equal(catalog_parse(&list, good, sizeof good - 1, &e), 1);
    assert_string_equal(list[0].stop[0], "#");
    assert_int_equal(list[0].config.head_dim, 4);
    assert_string_equal(list[0].aliases, "");
    assert_null(list[0].gated);
    mem_free(list);
    static const struct {
        const char *from, *to, *says;
    } row[] = {
        { "\"name\": \"a\", ", "", "name is missing" },
        { "\"template\": \"raw\", ", "", "'a': template or about is missing" },
        { "\"repo\": \"o/a\", ", "", "'a': get or repo is missing" },
        { "[\"#\"]", "\"#\"", "'a': stop is no list" },
        { "[\"#\"]", "[\"\"]", "'a': stop holds something" },
        { "[2]", "[9]", "'a': stop_ids holds something that is no token id" },
        { "[2]", "[1,1,1,1,1]", "'a': stop_ids is no list of at most 4" },
        { "\"hidden_size\": 8", "\"hidden_size\": 9", "a: hidden_size is no multiple" },
        { "\"models\"", "\"model\"", "'models' is no list" },
        { "\"about\": \"A\"", "\"about\": 1", "'a': about is no text" },
        { "} ] }", "} ]", "is no valid JSON" },
        { "\"repo\"", "\"vision\": 1, \"repo\"", "'a': vision is no object" },
        { "\"repo\"", "\"vision\": { \"vit\": \"x\" }, \"repo\"", "'a': variant, llm, vit or projector is missing" },
        { "\"repo\"", "\"sampling\": [], \"repo\"", "'a': sampling is no object" },
        { "\"repo\"", "\"sampling\": { \"top_p\": \"1\" }, \"repo\"", "'a': top_p is no number" },
        { "\"repo\"", "\"sampling\": { \"top_k\": 0.5 }, \"repo\"", "'a': top_k or max_new_tokens is no whole" },
        { "\"repo\"", "\"sampling\": { \"top_k\": -1 }, \"repo\"", "'a': top_k or max_new_tokens is below 0" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[1000];
        const char *at = strstr(good, row[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, row[i].to, at + strlen(row[i].from));
        struct err why = { 0 };
        const int rc = catalog_parse(&list, text, strlen(text), &why);
        if (rc != STATUS_FORMAT || !strstr(why.text, row[i].says)) fail_msg("row %zu: rc %d, '%s'", i, rc, why.text);
        assert_null(list);
    }
    mem_fail_at(1);
    assert_int_equal(catalog_parse(&list, good, sizeof good - 1, &e), STATUS_NOMEM);
    mem_fail_at(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_aliases_and_starts),
        cmocka_unit_test(near_misses_are_offered),
        cmocka_unit_test(shapes_give_the_published_totals),
        cmocka_unit_test(every_entry_is_whole),
        cmocka_unit_test(what_sees_has_parts),
        cmocka_unit_test(other_catalogues_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
