#include "base/mem.h"
#include "data/catalog.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "folder_build.h"
#include <cmocka.h>

#define MAIN "0123456789abcdef0123456789abcdef01234567"
#define OTHER "01ff456789abcdef0123456789abcdef01234567"
static const char gguf[] = "SmolLM2-135M-Instruct.Q4_1.gguf";

/* a/ and home/.cache/jaeda/models are model folders, home/.cache/huggingface/hub is the hub cache; b/ is nothing. */
static void put_hub(void) {
    folder_text("hub/models--EleutherAI--polyglot-ko-5.8b/blobs/c0ffee", "{}");
    folder_text("hub/models--EleutherAI--polyglot-ko-5.8b/blobs/beef", "weights");
    folder_text("hub/models--EleutherAI--polyglot-ko-5.8b/blobs/dead.incomplete", "wei");
    folder_text("hub/models--EleutherAI--polyglot-ko-5.8b/refs/main", MAIN);
    folder_text("hub/models--EleutherAI--polyglot-ko-5.8b/refs/refs/pr/1", OTHER "\n");
    folder_text("hub/models--EleutherAI--polyglot-ko-5.8b/refs/broken", "0123");
    folder_text("hub/models--EleutherAI--polyglot-ko-5.8b/refs/gone", "ffffffffffffffffffffffffffffffffffffffff");
    const char *const at = "hub/models--EleutherAI--polyglot-ko-5.8b/snapshots/";
    static const char *const commits[] = { MAIN, OTHER };
    for (int i = 0; i < 2; i++) {
        char name[200];
        snprintf(name, sizeof name, "%s%s/config.json", at, commits[i]);
        folder_link("../../blobs/c0ffee", name);
        snprintf(name, sizeof name, "%s%s/model.safetensors", at, commits[i]);
        folder_link("../../blobs/beef", name);
    }
    /* Real files in place of links; a repository that the catalogue does not know, and another with the same tail. */
    folder_text("hub/models--some--Little-Model/refs/main", MAIN);
    folder_text("hub/models--some--Little-Model/snapshots/" MAIN "/config.json", "{}");
    folder_text("hub/models--one--twin/refs/main", MAIN);
    folder_text("hub/models--one--twin/snapshots/" MAIN "/config.json", "{}");
    folder_text("hub/models--two--twin/refs/main", MAIN);
    folder_text("hub/models--two--twin/snapshots/" MAIN "/config.json", "{}");
    folder_text("hub/models--gpt2/refs/main", MAIN);
    folder_text("hub/models--gpt2/snapshots/" MAIN "/pytorch_model.bin", "torch");
    folder_text("hub/models--gpt2/snapshots/" MAIN "/config.json", "{}");
    /* Only the 8bit branch was fetched; a refused download; a tokenizer alone; a repository of GGUF files. */
    folder_text("hub/models--beomi--KoAlpaca-Polyglot-5.8B/refs/8bit", OTHER);
    folder_text("hub/models--beomi--KoAlpaca-Polyglot-5.8B/snapshots/" OTHER "/config.json", "{}");
    folder_text("hub/models--meta-llama--Llama-2-7b-chat-hf/refs/main", MAIN);
    folder_text("hub/models--EleutherAI--polyglot-ko-1.3b/refs/main", MAIN);
    folder_text("hub/models--EleutherAI--polyglot-ko-1.3b/snapshots/" MAIN "/tokenizer.json", "{}");
    folder_text("hub/models--q--Quants-GGUF/refs/main", MAIN);
    folder_text("hub/models--q--Quants-GGUF/snapshots/" MAIN "/quants.Q4_0.gguf", "four");
    folder_text("hub/models--q--Quants-GGUF/snapshots/" MAIN "/quants.Q8_0.gguf", "eight");
    folder_text("hub/models--one--twin/snapshots/abcd1"
                "6789abcdef0123456789abcdef012345670"
                "/config.json",
                "{}");
    folder_text("hub/models--one--twin/snapshots/abcd2"
                "6789abcdef0123456789abcdef012345670"
                "/config.json",
                "{}");
    folder_text("hub/datasets--some--data/refs/main", MAIN);
    folder_text("hub/models--..--..--etc/refs/main", MAIN);
    folder_text("hub/version.txt", "1");
}
static int set_up(void **state) {
    (void)state;
    if (folder_make("catalog")) return -1;
    folder_text("a/own.gguf", "four");
    folder_text("a/notes.txt", "four");
    folder_text("a/Upper.GGUF", "four");
    folder_text("a/both.gguf", "four");
    folder_text("a/folder.gguf/x", "");
    folder_text("a/tiny/config.json", "{}");
    folder_text("a/tiny/model-00001-of-00002.safetensors", "one");
    folder_text("a/tiny/model-00002-of-00002.safetensors", "more");
    folder_text("a/lab/Inner/config.json", "{}");
    folder_text("a/lab/Inner/model.safetensors", "1");
    folder_text("home/.cache/jaeda/models/both.gguf", "four");
    folder_text("b/elsewhere.gguf", "four");
    folder_text("b/model/config.json", "{}");
    put_hub();
    setenv("HOME", folder_at("home"), 1);
    setenv("JAEDA_MODELS", folder_at("a"), 1);
    setenv("HF_HUB_CACHE", folder_at("hub"), 1);
    unsetenv("HF_HOME");
    unsetenv("XDG_CACHE_HOME");
    return chdir(folder_at("b"));
}
static int tear_down(void **state) {
    (void)state;
    return chdir("/") || folder_remove("");
}

static void folders_in_order(void **state) {
    (void)state;
    char folder[CATALOG_FOLDERS][CATALOG_PATH];
    assert_int_equal(catalog_folders(folder), 2);
    assert_string_equal(folder[0], folder_at("a"));
    assert_string_equal(folder[1], folder_at("home/.cache/jaeda/models"));
    setenv("XDG_CACHE_HOME", folder_at("b"), 1);
    setenv("JAEDA_MODELS", "::~/x::/y:", 1);
    assert_int_equal(catalog_folders(folder), 3);
    assert_string_equal(folder[0], folder_at("home/x"));
    assert_string_equal(folder[1], "/y");
    assert_string_equal(folder[2], folder_at("b/jaeda/models"));
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("JAEDA_MODELS", "a:b:c:d:e:f:g:h:i:j:k", 1);
    assert_int_equal(catalog_folders(folder), CATALOG_FOLDERS);
    assert_string_equal(folder[CATALOG_FOLDERS - 1], folder_at("home/.cache/jaeda/models"));
    unsetenv("XDG_CACHE_HOME");
    setenv("JAEDA_MODELS", folder_at("a"), 1);
}
static void everything_is_listed_once_by_name(void **state) {
    (void)state;
    static const struct {
        const char *name, *path;
        uint64_t bytes;
        bool known;
    } want[] = {
        { "both", "/a/both.gguf", 4, false },
        { "gpt2", "/hub/models--gpt2/snapshots/" MAIN, 5, false },
        { "lab/Inner", "/a/lab/Inner", 1, false },
        { "one/twin", "/snapshots/" MAIN, 0, false },
        { "own", "/a/own.gguf", 4, false },
        { "polyglot-ko-5.8b", "/snapshots/" MAIN, 7, true },
        { "quants.Q4_0", "/quants.Q4_0.gguf", 4, false },
        { "quants.Q8_0", "/quants.Q8_0.gguf", 5, false },
        { "some/Little-Model", "/snapshots/" MAIN, 0, false },
        { "tiny", "/a/tiny", 7, false },
        { "two/twin", "/snapshots/" MAIN, 0, false },
        { "Upper", "/a/Upper.GGUF", 4, false },
    };
    struct catalog_file *list;
    struct err e = { 0 };
    const int n = catalog_files(&list, &e);
    for (int i = 0; i < n && i < (int)(sizeof want / sizeof *want); i++) {
        assert_string_equal(list[i].name, want[i].name);
        if (!strstr(list[i].path, want[i].path)) fail_msg("%s: %s", list[i].name, list[i].path);
        assert_int_equal(list[i].bytes, want[i].bytes);
        assert_int_equal(list[i].entry != NULL, want[i].known);
    }
    assert_int_equal(n, sizeof want / sizeof *want);
    mem_free(list);
    int got = -1;
    for (long k = 1; got < 0; k++) {
        mem_fail_at(k);
        got = catalog_files(&list, &e);
        mem_fail_at(0);
        assert_true(k < 200 && (got == STATUS_NOMEM || got == n));
        mem_free(list);
    }
    setenv("JAEDA_MODELS", "/nowhere", 1);
    setenv("HOME", "/nowhere", 1);
    setenv("HF_HUB_CACHE", "/nowhere", 1);
    assert_int_equal(catalog_files(&list, &e), 0);
    mem_free(list);
    setenv("HOME", folder_at("home"), 1);
    setenv("JAEDA_MODELS", folder_at("a"), 1);
    setenv("HF_HUB_CACHE", folder_at("hub"), 1);
}
static void resolve_to(const char *name, const char *revision, const char *want, const char *known) {
    char path[CATALOG_PATH];
    const struct catalog_entry *entry;
    struct err e = { 0 };
    if (catalog_resolve(name, revision, path, &entry, &e)) fail_msg("%s: %s", name, e.text);
    assert_string_equal(path, want);
    if (known && !entry) fail_msg("%s: not known", name);
    if (!known && entry) fail_msg("%s: known as %s", name, entry->name);
    if (known) assert_string_equal(entry->name, known);
}
static void resolve_fails(const char *name, const char *revision, int code, const char *says, const char *known) {
    char path[CATALOG_PATH];
    const struct catalog_entry *entry;
    struct err e = { 0 };
    const int rc = catalog_resolve(name, revision, path, &entry, &e);
    if (rc != code || !strstr(e.text, says)) fail_msg("%s: rc %d, '%s'", name, rc, e.text);
    assert_true(strlen(e.text) < sizeof e.text - 1); /* nothing was cut off */
    if (!known != !entry) fail_msg("%s: entry %s", name, entry ? entry->name : "none");
}
static void names_and_paths_resolve(void **state) {
    (void)state;
    resolve_to("own", NULL, folder_at("a/own.gguf"), NULL);
    resolve_to("OWN", NULL, folder_at("a/own.gguf"), NULL);
    resolve_to("own.gguf", NULL, folder_at("a/own.gguf"), NULL);
    resolve_to("upper", NULL, folder_at("a/Upper.GGUF"), NULL);
    resolve_to("ow", NULL, folder_at("a/own.gguf"), NULL);
    resolve_to("tiny", NULL, folder_at("a/tiny"), NULL);
    resolve_to("lab/inner", NULL, folder_at("a/lab/Inner"), NULL);
    resolve_to("Inner", NULL, folder_at("a/lab/Inner"), NULL);
    resolve_to("elsewhere.gguf", NULL, "elsewhere.gguf", NULL);
    resolve_to("model", NULL, "model", NULL); /* a folder with a config, from where the kernel runs */
    resolve_to(folder_at("b/elsewhere.gguf"), NULL, folder_at("b/elsewhere.gguf"), NULL);
    resolve_to(folder_at("a/tiny"), NULL, folder_at("a/tiny"), NULL);
    resolve_to("~/.cache/jaeda/models/both.gguf", NULL, folder_at("home/.cache/jaeda/models/both.gguf"), NULL);
    char name[100];
    snprintf(name, sizeof name, "a/%s", gguf);
    resolve_fails("smollm2", NULL, STATUS_NOTFOUND, "smollm2-135m is not on this disk", "smollm2-135m");
    resolve_fails("smollm2", NULL, STATUS_NOTFOUND, "get it with: ./notebooks/run --get-model", "smollm2-135m");
    folder_text(name, "four");
    resolve_to("smollm2", NULL, folder_at(name), "smollm2-135m");
    resolve_to("smol", NULL, folder_at(name), "smollm2-135m");
    resolve_to(gguf, NULL, folder_at(name), "smollm2-135m");
    resolve_to(folder_at(name), NULL, folder_at(name), "smollm2-135m");
    unlink(folder_at(name));
    folder_text("a/polyglot-ko-12.8b/config.json", "{}");
    resolve_to("EleutherAI/polyglot-ko-12.8b", NULL, folder_at("a/polyglot-ko-12.8b"), "polyglot-ko-12.8b");
    resolve_to(folder_at("a/polyglot-ko-12.8b"), NULL, folder_at("a/polyglot-ko-12.8b"), "polyglot-ko-12.8b");
    folder_remove("a/polyglot-ko-12.8b");
}
static void the_hub_cache_resolves(void **state) {
    (void)state;
    const char *here = folder_at("hub/models--EleutherAI--polyglot-ko-5.8b/snapshots/" MAIN);
    const char *other = folder_at("hub/models--EleutherAI--polyglot-ko-5.8b/snapshots/" OTHER);
    static const char *const names[] = { "polyglot-ko-5.8b", "EleutherAI/polyglot-ko-5.8b", "POLYGLOT-KO-5.8B",
                                         "eleutherai/Polyglot-Ko-5.8B", "polyglot-5.8b" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) resolve_to(names[i], NULL, here, "polyglot-ko-5.8b");
    resolve_to("polyglot-5.8b", "main", here, "polyglot-ko-5.8b");
    resolve_to("polyglot-5.8b", "refs/pr/1", other, "polyglot-ko-5.8b");
    resolve_to("polyglot-5.8b", OTHER, other, "polyglot-ko-5.8b");
    resolve_to("polyglot-5.8b", "01ff", other, "polyglot-ko-5.8b");
    resolve_to(here, NULL, here, "polyglot-ko-5.8b");
    const char *repo = folder_at("hub/models--EleutherAI--polyglot-ko-5.8b");
    resolve_to(repo, NULL, here, "polyglot-ko-5.8b");
    resolve_to(repo, "refs/pr/1", other, "polyglot-ko-5.8b");
    const char *little = folder_at("hub/models--some--Little-Model/snapshots/" MAIN);
    resolve_to("some/Little-Model", NULL, little, NULL);
    resolve_to("little-model", NULL, little, NULL);
    resolve_to("litt", NULL, little, NULL);
    resolve_to("one/twin", NULL, folder_at("hub/models--one--twin/snapshots/" MAIN), NULL);
    resolve_to("gpt2", NULL, folder_at("hub/models--gpt2/snapshots/" MAIN), NULL);
    resolve_to("quants.q8_0", NULL, folder_at("hub/models--q--Quants-GGUF/snapshots/" MAIN "/quants.Q8_0.gguf"), NULL);
    resolve_fails("twin", NULL, STATUS_INVALID, "'twin' may mean one/twin, two/twin; write more of it", NULL);
    resolve_fails("quants", NULL, STATUS_INVALID, "may mean quants.Q4_0, quants.Q8_0", NULL);
    unsetenv("HF_HUB_CACHE");
    resolve_fails("little-model", NULL, STATUS_NOTFOUND, "no model 'little-model'", NULL);
    setenv("HF_HOME", "~/.cache/hf", 1);
    folder_text("home/.cache/hf/hub/models--x--y/refs/main", MAIN);
    folder_text("home/.cache/hf/hub/models--x--y/snapshots/" MAIN "/config.json", "{}");
    resolve_to("x/y", NULL, folder_at("home/.cache/hf/hub/models--x--y/snapshots/" MAIN), NULL);
    unsetenv("HF_HOME");
    folder_text("home/.cache/huggingface/hub/models--x--z/refs/main", MAIN);
    folder_text("home/.cache/huggingface/hub/models--x--z/snapshots/" MAIN "/config.json", "{}");
    resolve_to("z", NULL, folder_at("home/.cache/huggingface/hub/models--x--z/snapshots/" MAIN), NULL);
    setenv("HF_HUB_CACHE", folder_at("hub"), 1);
}
static void what_is_not_here_says_how_to_get_it(void **state) {
    (void)state;
    const char *koalpaca = "koalpaca-polyglot-12.8b", *llama = "llama-2-7b-chat";
    resolve_fails("koalpaca-12.8b", NULL, STATUS_NOTFOUND,
                  "koalpaca-polyglot-12.8b is not on this disk; get it with: hf download beomi/KoAlpaca-Polyglot-12.8B "
                  "\"*.json\" \"*.safetensors\" \"tokenizer.model\" (hf comes with: pip install",
                  koalpaca);
    resolve_fails("koalpaca-12.8b", "v1.1", STATUS_NOTFOUND,
                  "hf download beomi/KoAlpaca-Polyglot-12.8B \"*.json\" \"*.safetensors\" \"tokenizer.model\" "
                  "--revision v1.1 (hf",
                  koalpaca);
    resolve_fails("llama-2-7b-chat", NULL, STATUS_NOTFOUND,
                  "accept the licence at https://huggingface.co/meta-llama/Llama-2-7b-chat-hf", llama);
    resolve_fails("Llama-2-7b-chat-hf", NULL, STATUS_NOTFOUND, "%env --ask HF_TOKEN", llama);
    resolve_fails("Llama-2-7b-chat-hf", NULL, STATUS_NOTFOUND,
                  "; then: hf download meta-llama/Llama-2-7b-chat-hf \"*.json\"", llama);
    for (int i = 0; i < catalog_count(); i++) { /* each says its command, whole */
        const struct catalog_entry *c = catalog_at(i);
        if (strcmp(c->name, "polyglot-ko-5.8b") && strcmp(c->name, "koalpaca-polyglot-5.8b"))
            resolve_fails(c->name, NULL, STATUS_NOTFOUND, c->get, c->name);
    }
    resolve_fails("polyglot-ko-1.3b", NULL, STATUS_NOTFOUND, "hf download EleutherAI/polyglot-ko-1.3b", "polyglot");
    resolve_fails("some/other-model", NULL, STATUS_NOTFOUND,
                  "some/other-model is not on this disk; get it with: hf download some/other-model \"*.json\"", NULL);
    resolve_fails("koalpaca-5.8b", NULL, STATUS_NOTFOUND,
                  "beomi/KoAlpaca-Polyglot-5.8B: revision 'main' is not in the hub cache (commits there: 01ff456789)",
                  "koalpaca-polyglot-5.8b");
    resolve_to("koalpaca-5.8b", "8bit", folder_at("hub/models--beomi--KoAlpaca-Polyglot-5.8B/snapshots/" OTHER),
               "koalpaca-polyglot-5.8b");
    static const char *const absent[] = { "v2", "broken", "gone", "ffff", "refs", "refs/pr" };
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        resolve_fails("polyglot-ko-5.8b", absent[i], STATUS_NOTFOUND, "is not in the hub cache", "polyglot-ko-5.8b");
    resolve_fails("polyglot-ko-5.8b", "01", STATUS_NOTFOUND, "\"tokenizer.model\" --revision 01", "polyglot-ko-5.8b");
    resolve_fails("one/twin", "abcd", STATUS_INVALID, "one/twin: revision 'abcd' may mean abcd", NULL);
    resolve_to("one/twin", "abcd2",
               folder_at("hub/models--one--twin/snapshots/abcd26789abcdef0123456789abcdef012345670"), NULL);
    static const char *const bad[] = { "../../x", "a;rm -rf", "", "-rf", "x\n", "a//b", "/etc", "$(x)" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        resolve_fails("polyglot-ko-5.8b", bad[i], STATUS_INVALID, "a branch, a tag or a commit", NULL);
    resolve_fails(folder_at("a/tiny"), "main", STATUS_INVALID, "is a path; a revision is of a repository", NULL);
    resolve_fails("own", "main", STATUS_NOTFOUND, "no model 'own'", NULL); /* revisions are the hub cache's alone */
}
static void what_does_not_resolve_says_why(void **state) {
    (void)state;
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    resolve_fails("", NULL, STATUS_INVALID, "give a model's name", NULL);
    resolve_fails(longest, NULL, STATUS_INVALID, "too long", NULL);
    longest[400] = 0;
    resolve_fails(longest, NULL, STATUS_NOTFOUND, "no model 'xxxx", NULL);
    resolve_fails(folder_at("a/absent.gguf"), NULL, STATUS_NOTFOUND, "No such file", NULL);
    resolve_fails("./absent", NULL, STATUS_NOTFOUND, "No such file", NULL);
    resolve_fails("../../../../absent/etc", NULL, STATUS_NOTFOUND, "No such file", NULL);
    resolve_fails("x/../../a", NULL, STATUS_NOTFOUND, "no model 'x/../../a'", NULL);
    resolve_fails("a..b/c", NULL, STATUS_NOTFOUND, "no model 'a..b/c'", NULL);
    resolve_fails("a/b; rm -rf ~", NULL, STATUS_NOTFOUND, "no model 'a/b; rm -rf ~'", NULL);
    resolve_fails("a\tb\x1b[0m", NULL, STATUS_NOTFOUND, "no model 'a?b?[0m'", NULL);
    resolve_fails("models--..--..--etc", NULL, STATUS_NOTFOUND, "no model", NULL);
    resolve_fails("ownn", NULL, STATUS_NOTFOUND, "did you mean own?", NULL);
    resolve_fails("smolllm2", NULL, STATUS_NOTFOUND, "did you mean smollm2?", NULL);
    resolve_fails("absent.gguf", NULL, STATUS_NOTFOUND, "no model 'absent'", NULL);
    resolve_fails("100%s", NULL, STATUS_NOTFOUND, "no model '100%s'", NULL);
    resolve_fails("polyglot-ko", NULL, STATUS_INVALID, "may mean polyglot-ko-5.8b, polyglot-ko-1.3b", NULL);
}
static void memory_may_end_at_any_point(void **state) {
    (void)state;
    static const char *const names[] = { "polyglot-ko-5.8b", "little-model", "twin", "absent", "own" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[CATALOG_PATH];
        const struct catalog_entry *entry;
        const int right = catalog_resolve(names[i], NULL, path, &entry, NULL);
        int rc = 0;
        long k = 1;
        do {
            struct err e = { 0 };
            mem_fail_at(k);
            rc = catalog_resolve(names[i], NULL, path, &entry, &e);
            if (mem_fail_at(0) < k) break;
            assert_true(rc == STATUS_NOMEM || rc == right);
        } while (++k < 100);
        assert_true(k > 1 && k < 100 && rc == right);
    }
}
static void the_one_with_weights_wins(void **state) {
    (void)state;
    folder_text("a/some/Little-Model/config.json", "{}");
    folder_text("a/some/Little-Model/model.safetensors", "w");
    resolve_to("little-model", NULL, folder_at("a/some/Little-Model"), NULL);
    folder_remove("a/some");
    folder_text("a/polyglot-ko-5.8b/config.json", "{}"); /* a config alone, before the hub cache's whole model */
    resolve_to("polyglot-ko-5.8b", NULL, folder_at("hub/models--EleutherAI--polyglot-ko-5.8b/snapshots/" MAIN),
               "polyglot-ko-5.8b");
    folder_remove("a/polyglot-ko-5.8b");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_in_order),
        cmocka_unit_test(everything_is_listed_once_by_name),
        cmocka_unit_test(names_and_paths_resolve),
        cmocka_unit_test(the_hub_cache_resolves),
        cmocka_unit_test(what_is_not_here_says_how_to_get_it),
        cmocka_unit_test(what_does_not_resolve_says_why),
        cmocka_unit_test(memory_may_end_at_any_point),
        cmocka_unit_test(the_one_with_weights_wins),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
