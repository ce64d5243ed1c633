/* The parts of a MiniGPT-4 in the layouts that people have. The files are empty: nothing reads them here. */
#include "data/catalog.h"
#include "folder_build.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MAIN "0123456789abcdef0123456789abcdef01234567"
#define LLAMA "hub/models--meta-llama--Llama-2-7b-chat-hf"
static int set_up(void **state) {
    (void)state;
    if (folder_make("parts")) return -1;
    setenv("HOME", folder_at("home"), 1);
    setenv("HF_HUB_CACHE", folder_at("hub"), 1);
    setenv("JAEDA_MODELS", folder_at("models"), 1);
    setenv("XDG_CACHE_HOME", folder_at("cache"), 1);
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    return folder_remove("");
}
static void put(const char *folder, const char *const *names) {
    char at[300];
    for (; *names; names++) {
        snprintf(at, sizeof at, "%s/%s", folder, *names);
        folder_text(at, "{}");
    }
}
#define PUT(folder, ...) put(folder, (const char *const[]){ __VA_ARGS__, NULL })
static void put_llama(void) {
    PUT(LLAMA "/snapshots/" MAIN, "config.json", "model.safetensors");
    folder_text(LLAMA "/refs/main", MAIN);
}
static void is_at(const char *got, const char *want) { assert_string_equal(got, want ? folder_at(want) : ""); }
struct want {
    const char *entry, *llm_entry, *llm, *vit, *qformer, *projector; /* names below the root; NULL: none, "" */
};
static void leads_to(const char *name, const struct catalog_given *given, bool all, struct want want) {
    struct catalog_parts p;
    struct err e = { 0 };
    if (catalog_parts(name, NULL, given, all, &p, &e) != 1) fail_msg("%s: '%s'", name, e.text);
    assert_string_equal(p.entry ? p.entry->name : "none", want.entry ? want.entry : "none");
    assert_string_equal(p.llm_entry ? p.llm_entry->name : "none", want.llm_entry ? want.llm_entry : "none");
    is_at(p.llm, want.llm);
    is_at(p.vit, want.vit);
    is_at(p.qformer, want.qformer);
    is_at(p.projector, want.projector);
}
static void fails(const char *name, const struct catalog_given *given, const char *says) {
    struct catalog_parts p;
    struct err e = { 0 };
    assert_true(catalog_parts(name, NULL, given, true, &p, &e) < 0);
    if (!strstr(e.text, says)) fail_msg("%s: '%s'", name, e.text);
    assert_true(strlen(e.text) < sizeof e.text - 1); /* whole */
}
static void a_folder_with_everything(void **state) {
    (void)state;
    PUT("a/mine", "eva_vit_g.pth", "pretrained_minigpt4_llama2_7b.pth", "llm/config.json", "notes.txt");
    const struct want sub = { "minigpt4-7b",          NULL, "a/mine/llm",
                              "a/mine/eva_vit_g.pth", NULL, "a/mine/pretrained_minigpt4_llama2_7b.pth" };
    leads_to(folder_at("a/mine"), NULL, true, sub);
    char slash[300];
    snprintf(slash, sizeof slash, "%s/", folder_at("a/mine"));
    leads_to(slash, NULL, true, sub);
    /* the language model in the folder itself, and a Q-Former */
    PUT("a/all", "eva_vit_g.pth", "blip2_pretrained_flant5xxl.pth", "prerained_minigpt4_7b.pth", "config.json",
        "pytorch_model.bin");
    leads_to(folder_at("a/all"), NULL, true,
             (struct want){ "minigpt4-vicuna-7b", NULL, "a/all", "a/all/eva_vit_g.pth",
                            "a/all/blip2_pretrained_flant5xxl.pth", "a/all/prerained_minigpt4_7b.pth" });
    /* of several sub-folders the one with the catalogue's name; its Q-Former is nobody's */
    PUT("a/two", "eva_vit_g.pth", "blip2_pretrained_flant5xxl.pth", "minigptv2_checkpoint.pth", "x/config.json",
        "llama-2-7b-chat/config.json");
    leads_to(folder_at("a/two"), NULL, true,
             (struct want){ "minigpt-v2", "llama-2-7b-chat", "a/two/llama-2-7b-chat", "a/two/eva_vit_g.pth", NULL,
                            "a/two/minigptv2_checkpoint.pth" });
    PUT("a/many", "eva_vit_g.pth", "pretrained_minigpt4_llama2_7b.pth", "x/config.json", "y/config.json");
    fails(folder_at("a/many"), NULL, "holds 2 language models; say which with --llm PATH");
    leads_to(folder_at("a/many"), &(struct catalog_given){ .llm = folder_at("a/many/y") }, true,
             (struct want){ "minigpt4-7b", NULL, "a/many/y", "a/many/eva_vit_g.pth", NULL,
                            "a/many/pretrained_minigpt4_llama2_7b.pth" });
}
static void files_by_what_they_look_like(void **state) {
    (void)state;
    PUT("b/own", "eva_vit_g.safetensors", "my_MiniGPT4_stage2.pt", "llm/config.json", "minigpt4.md");
    leads_to(
        folder_at("b/own"), NULL, true,
        (struct want){ NULL, NULL, "b/own/llm", "b/own/eva_vit_g.safetensors", NULL, "b/own/my_MiniGPT4_stage2.pt" });
    PUT("b/asks", "eva_vit_g.pth", "minigpt4.bin", "blip2_own.pth", "llm/config.json");
    leads_to(folder_at("b/asks"), NULL, true,
             (struct want){ NULL, NULL, "b/asks/llm", "b/asks/eva_vit_g.pth", "b/asks/blip2_own.pth",
                            "b/asks/minigpt4.bin" });
    PUT("b/two", "eva_vit_g.pth", "minigpt4-a.pth", "minigpt4-b.pth", "llm/config.json");
    fails(folder_at("b/two"), NULL, "its projector is not to be found; give its file: --projector PATH");
    PUT("b/alone", "eva_vit_g.pth", "minigpt4-a.pth");
    fails(folder_at("b/alone"), NULL, "no language model in or below it; say which with --llm NAME");
    leads_to(folder_at("b/alone"), NULL, false,
             (struct want){ .vit = "b/alone/eva_vit_g.pth", .projector = "b/alone/minigpt4-a.pth" });
}
static void names_of_the_catalogue(void **state) {
    (void)state;
    leads_to("minigpt4-7b", NULL, false, (struct want){ .entry = "minigpt4-7b", .llm_entry = "llama-2-7b-chat" });
    struct catalog_parts p;
    assert_int_equal(catalog_parts("minigpt4-7b", NULL, &(struct catalog_given){ .llm = "absent" }, false, &p, NULL),
                     STATUS_NOTFOUND);
    fails("minigpt4-7b", NULL, "minigpt4-7b: no image encoder (eva_vit_g.pth); --vit PATH, or in /tmp/");
    fails("minigpt4-7b", NULL,
          "models: curl -LO "
          "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/eva_vit_g.pth");
    PUT("models", "eva_vit_g.pth", "some_minigpt4.pth"); /* whose it is, its name does not say */
    fails("minigpt4-7b", NULL,
          "minigpt4-7b: no projector (pretrained_minigpt4_llama2_7b.pth); --projector PATH, or in ");
    fails("minigpt4-7b", NULL, ": gdown 11nAPjEok8eAGGEG1N2vXo3kBLCg0WgUk -O pretrained_minigpt4_llama2_7b.pth");
    fails("minigpt4-vicuna-13b", NULL,
          "minigpt4-vicuna-13b: no Q-Former (blip2_pretrained_flant5xxl.pth); --qformer PATH, or in ");
    fails("minigpt4-vicuna-13b", NULL, "BLIP2/blip2_pretrained_flant5xxl.pth");
    PUT("models", "pretrained_minigpt4_llama2_7b.pth");
    fails("MiniGPT4", NULL, "language model (--llm): llama-2-7b-chat is not on this disk; gated: accept the licence");
    put_llama();
    const struct want whole = { "minigpt4-7b",
                                "llama-2-7b-chat",
                                LLAMA "/snapshots/" MAIN,
                                "models/eva_vit_g.pth",
                                NULL,
                                "models/pretrained_minigpt4_llama2_7b.pth" };
    leads_to("minigpt4-7b", NULL, true, whole);
    leads_to("minigpt4-ll", NULL, true, whole); /* the start of an alias */
    /* a folder of that name, or of an alias, in a model folder */
    PUT("models/MiniGPTv2", "x.pth");
    PUT("models/minigptv2", "minigptv2_checkpoint.pth", "llm/config.json");
    leads_to("minigpt-v2", NULL, true,
             (struct want){ "minigpt-v2", NULL, "models/minigptv2/llm", "models/eva_vit_g.pth", NULL,
                            "models/minigptv2/minigptv2_checkpoint.pth" });
    PUT("models/minigpt4-vicuna-7b", "blip2_pretrained_flant5xxl.pth", "my-minigpt4.safetensors", "config.json");
    leads_to("minigpt4-vicuna-7b", NULL, true,
             (struct want){ "minigpt4-vicuna-7b", NULL, "models/minigpt4-vicuna-7b", "models/eva_vit_g.pth",
                            "models/minigpt4-vicuna-7b/blip2_pretrained_flant5xxl.pth",
                            "models/minigpt4-vicuna-7b/my-minigpt4.safetensors" });
}
static void parts_that_are_named(void **state) {
    (void)state;
    put_llama();
    PUT("c", "vit.safetensors", "pretrained_minigpt4_llama2_7b.pth", "other.pt", "tiny/config.json");
    PUT("home", "vit.pth");
    char projector[512], vit[512];
    snprintf(projector, sizeof projector, "%s", folder_at("c/pretrained_minigpt4_llama2_7b.pth"));
    snprintf(vit, sizeof vit, "%s", folder_at("c/vit.safetensors"));
    leads_to("llama-2-7b-chat", &(struct catalog_given){ .vit = vit, .projector = projector }, true,
             (struct want){ "minigpt4-7b", "llama-2-7b-chat", LLAMA "/snapshots/" MAIN, "c/vit.safetensors", NULL,
                            "c/pretrained_minigpt4_llama2_7b.pth" });
    leads_to(folder_at("c/tiny"), &(struct catalog_given){ .vit = "~/vit.pth", .projector = folder_at("c/other.pt") },
             true, (struct want){ NULL, NULL, "c/tiny", "home/vit.pth", NULL, "c/other.pt" });
    leads_to("minigpt4-7b", &(struct catalog_given){ .vit = vit, .projector = projector, .llm = folder_at("c/tiny") },
             true,
             (struct want){ "minigpt4-7b", NULL, "c/tiny", "c/vit.safetensors", NULL,
                            "c/pretrained_minigpt4_llama2_7b.pth" });
    /* the projector beside the image encoder */
    PUT("d", "vit.pth", "pretrained_minigpt4_llama2_7b.pth");
    leads_to("llama-2-7b-chat", &(struct catalog_given){ .vit = folder_at("d/vit.pth") }, true,
             (struct want){ "minigpt4-7b", "llama-2-7b-chat", LLAMA "/snapshots/" MAIN, "d/vit.pth", NULL,
                            "d/pretrained_minigpt4_llama2_7b.pth" });
    fails("minigpt4-7b", &(struct catalog_given){ .vit = "/absent/vit.pth" },
          "--vit '/absent/vit.pth': No such file or directory");
    fails("minigpt4-7b", &(struct catalog_given){ .projector = folder_at("c") },
          "is no file; give the checkpoint's path");
    fails("llama-2-7b-chat", &(struct catalog_given){ .vit = vit, .llm = "x" },
          "which language model, 'llama-2-7b-chat' or --llm 'x'? name one of them");
    fails("absent-model", &(struct catalog_given){ .vit = vit, .projector = projector },
          "language model (--llm): no model 'absent-model'");
}
static void other_models_are_none(void **state) {
    (void)state;
    PUT("e/llama", "config.json", "model.safetensors", "pytorch_model.bin", "minigpt4.txt", "eva_vit_g.md");
    const char *const names[] = { "",       folder_at("e/llama"), "llama-2-7b-chat", "smollm2",
                                  "absent", "./absent",           "minigpt4-v",      folder_at("e/absent.gguf") };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct catalog_parts p;
        struct err e = { 0 };
        assert_int_equal(catalog_parts(names[i], NULL, NULL, true, &p, &e), 0);
        assert_int_equal(e.code, 0);
        assert_null(p.entry);
    }
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_folder_with_everything, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_by_what_they_look_like, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_of_the_catalogue, set_up, tear_down),
        cmocka_unit_test_setup_teardown(parts_that_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_models_are_none, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
