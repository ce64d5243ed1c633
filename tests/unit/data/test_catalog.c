#include "base/mem.h"
#include "data/catalog.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/jaeda-catalog-XXXXXX";
static const char file[] = "SmolLM2-135M-Instruct.Q4_1.gguf";

static const char *at(const char *name) {
    static char path[4][300];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", root, name);
    return p;
}
static void put(const char *name) {
    FILE *f = fopen(at(name), "w");
    assert_non_null(f);
    fputs("four", f);
    fclose(f);
}
/* a/ and home/.cache/jaeda/models are model folders; b/ is not. */
static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(root)) return -1;
    static const char *const folders[] = {
        "a", "b", "home", "home/.cache", "home/.cache/jaeda", "home/.cache/jaeda/models", "a/folder.gguf"
    };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (mkdir(at(folders[i]), 0700)) return -1;
    put("a/own.gguf");
    put("a/notes.txt");
    put("a/Upper.GGUF");
    put("a/both.gguf");
    put("home/.cache/jaeda/models/both.gguf");
    put("b/elsewhere.gguf");
    setenv("HOME", at("home"), 1);
    setenv("JAEDA_MODELS", at("a"), 1);
    unsetenv("XDG_CACHE_HOME");
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    static const char *const all[] = { "a/own.gguf",
                                       "a/notes.txt",
                                       "a/Upper.GGUF",
                                       "a/both.gguf",
                                       "a/folder.gguf",
                                       "b/elsewhere.gguf",
                                       "home/.cache/jaeda/models/both.gguf",
                                       "home/.cache/jaeda/models",
                                       "home/.cache/jaeda",
                                       "home/.cache",
                                       "home",
                                       "b",
                                       "a" };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) remove(at(all[i]));
    return rmdir(root);
}

static void names_aliases_and_starts(void **state) {
    (void)state;
    static const char *const names[] = { "smollm2-135m",
                                         "SMOLLM2",
                                         "smollm2-135m-instruct",
                                         "HuggingFaceTB/SmolLM2-135M-Instruct",
                                         "smol",
                                         "huggingfacetb/smol",
                                         "SmolLM2-135M-Instruct.Q4_1" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct err e = { 0 };
        const struct catalog_entry *entry = catalog_find(names[i], &e);
        if (!entry) fail_msg("%s: %s", names[i], e.text);
        assert_string_equal(entry->name, "smollm2-135m");
        assert_string_equal(entry->file, file);
    }
    assert_int_equal(catalog_count(), 1);
    assert_null(catalog_at(1));
    assert_null(catalog_at(-1));
}
static const struct catalog_entry table[] = {
    { .name = "polyglot-1.3b", .aliases = "EleutherAI/polyglot-ko-1.3b", .file = "p1.gguf" },
    { .name = "polyglot-5.8b", .aliases = "EleutherAI/polyglot-ko-5.8b", .file = "p5.gguf" },
    { .name = "kullm", .aliases = NULL, .file = "kullm.gguf" },
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
static void folders_in_order(void **state) {
    (void)state;
    char folder[CATALOG_FOLDERS][CATALOG_PATH];
    assert_int_equal(catalog_folders(folder), 2);
    assert_string_equal(folder[0], at("a"));
    assert_string_equal(folder[1], at("home/.cache/jaeda/models"));
    setenv("XDG_CACHE_HOME", at("b"), 1);
    setenv("JAEDA_MODELS", "::~/x::/y:", 1);
    assert_int_equal(catalog_folders(folder), 3);
    assert_string_equal(folder[0], at("home/x"));
    assert_string_equal(folder[1], "/y");
    assert_string_equal(folder[2], at("b/jaeda/models"));
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("JAEDA_MODELS", "a:b:c:d:e:f:g:h:i:j:k", 1);
    assert_int_equal(catalog_folders(folder), CATALOG_FOLDERS);
    assert_string_equal(folder[CATALOG_FOLDERS - 1], at("home/.cache/jaeda/models"));
    unsetenv("XDG_CACHE_HOME");
    setenv("JAEDA_MODELS", at("a"), 1);
}
static void files_are_listed_once_by_name(void **state) {
    (void)state;
    static const char *const want[] = { "both", "own", "Upper" };
    struct catalog_file *list;
    struct err e = { 0 };
    assert_int_equal(catalog_files(&list, &e), 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(list[i].name, want[i]);
        assert_null(list[i].entry);
        assert_int_equal(list[i].bytes, 4);
        assert_non_null(strstr(list[i].path, "/a/")); /* the first folder wins */
    }
    mem_free(list);
    put("a/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert_int_equal(catalog_files(&list, &e), 4);
    assert_string_equal(list[2].name, "smollm2-135m");
    assert_ptr_equal(list[2].entry, catalog_at(0));
    mem_free(list);
    unlink(at("a/SmolLM2-135M-Instruct.Q4_1.gguf"));
    int n = -1;
    for (long k = 1; n < 0; k++) {
        mem_fail_at(k);
        n = catalog_files(&list, &e);
        mem_fail_at(0);
        assert_true(k < 20 && (n == STATUS_NOMEM || n == 3));
        mem_free(list);
    }
    setenv("JAEDA_MODELS", "/nowhere", 1);
    setenv("HOME", "/nowhere", 1);
    assert_int_equal(catalog_files(&list, &e), 0);
    mem_free(list);
    setenv("HOME", at("home"), 1);
    setenv("JAEDA_MODELS", at("a"), 1);
}
static void resolve_to(const char *name, const char *want, bool catalogued) {
    char path[CATALOG_PATH];
    const struct catalog_entry *entry;
    struct err e = { 0 };
    if (catalog_resolve(name, path, &entry, &e)) fail_msg("%s: %s", name, e.text);
    assert_string_equal(path, want);
    assert_int_equal(entry != NULL, catalogued);
}
static void resolve_fails(const char *name, int code, const char *says) {
    char path[CATALOG_PATH];
    const struct catalog_entry *entry;
    struct err e = { 0 };
    const int rc = catalog_resolve(name, path, &entry, &e);
    if (rc != code || !strstr(e.text, says)) fail_msg("%s: rc %d, '%s'", name, rc, e.text);
    assert_null(entry);
}
static void names_and_paths_resolve(void **state) {
    (void)state;
    resolve_to("own", at("a/own.gguf"), false);
    resolve_to("OWN", at("a/own.gguf"), false);
    resolve_to("own.gguf", at("a/own.gguf"), false);
    resolve_to("upper", at("a/Upper.GGUF"), false);
    resolve_to(at("b/elsewhere.gguf"), at("b/elsewhere.gguf"), false);
    resolve_to("~/.cache/jaeda/models/both.gguf", at("home/.cache/jaeda/models/both.gguf"), false);
    resolve_fails("smollm2", STATUS_NOTFOUND,
                  "smollm2-135m is not on this disk (looked for SmolLM2-135M-Instruct.Q4_1.gguf in");
    resolve_fails("smollm2", STATUS_NOTFOUND, "get it with: ./notebooks/run --get-model");
    put("a/SmolLM2-135M-Instruct.Q4_1.gguf");
    resolve_to("smollm2", at("a/SmolLM2-135M-Instruct.Q4_1.gguf"), true);
    resolve_to("smol", at("a/SmolLM2-135M-Instruct.Q4_1.gguf"), true);
    resolve_to("SmolLM2-135M-Instruct.Q4_1.gguf", at("a/SmolLM2-135M-Instruct.Q4_1.gguf"), true);
    resolve_to(at("a/SmolLM2-135M-Instruct.Q4_1.gguf"), at("a/SmolLM2-135M-Instruct.Q4_1.gguf"), true);
    unlink(at("a/SmolLM2-135M-Instruct.Q4_1.gguf"));
}
static void what_does_not_resolve_says_why(void **state) {
    (void)state;
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    resolve_fails("", STATUS_INVALID, "give a model's name");
    resolve_fails(longest, STATUS_INVALID, "too long");
    resolve_fails(at("a/absent.gguf"), STATUS_NOTFOUND, "No such file");
    resolve_fails("./absent", STATUS_NOTFOUND, "No such file");
    resolve_fails(at("a"), STATUS_INVALID, "no regular file");
    resolve_fails("ownn", STATUS_NOTFOUND, "did you mean own?");
    resolve_fails("smolllm2", STATUS_NOTFOUND, "did you mean smollm2?");
    resolve_fails("absent.gguf", STATUS_NOTFOUND, "no model 'absent'");
    resolve_fails("100%s", STATUS_NOTFOUND, "no model '100%s'");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_aliases_and_starts), cmocka_unit_test(near_misses_are_offered),
        cmocka_unit_test(folders_in_order),         cmocka_unit_test(files_are_listed_once_by_name),
        cmocka_unit_test(names_and_paths_resolve),  cmocka_unit_test(what_does_not_resolve_says_why),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
