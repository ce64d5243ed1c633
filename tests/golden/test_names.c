/* test_names.c - every name that the catalogue knows, loaded as people have the files: a hub cache in which tiny models
 * stand in for the true ones. Checked: where the name leads, template, stop rules, binding, and that it writes. */
#include "base/mem.h"
#include "data/catalog.h"
#include "data/template.h"
#include "model/model.h"
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
/* after setjmp.h and stdarg.h, which it needs */
#include "data/folder_build.h"
#include "run/listen.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
enum { NAME = 160 };
static char here[512];

/* One of each kind of folder: a single file, shards with an index, an odd vocabulary, tied, untied. */
static const char *stand_in(const struct catalog_entry *m) {
    if (!strcmp(m->config.arch, "llama")) return m->config.tied ? "llama-tied" : "llama-gqa";
    return m->config.vocab == 30003 ? "neox-30003" : m->config.layers > 30 ? "neox-seq" : "neox-128";
}
static const char *const files[] = { "config.json",
                                     "generation_config.json",
                                     "tokenizer.json",
                                     "tokenizer_config.json",
                                     "model.safetensors",
                                     "model.safetensors.index.json",
                                     "model-00001-of-00002.safetensors",
                                     "model-00002-of-00002.safetensors" };
enum { FILES = sizeof files / sizeof *files };
static bool source(const struct catalog_entry *m, int i, char from[1024]) {
    snprintf(from, 1024, "%s/tests/golden/folders/%s/%s", here, stand_in(m), files[i]);
    return !access(from, R_OK);
}
/* models--ORG--NAME: blobs, snapshots that link to them, refs. */
static void put_snapshot(const struct catalog_entry *m) {
    char repo[NAME], at[400], from[1024], blob[64];
    const char *slash = strchr(m->repo, '/');
    snprintf(repo, sizeof repo, "models--%.*s--%s", (int)(slash - m->repo), m->repo, slash + 1);
    for (int i = 0; i < FILES; i++) {
        if (!source(m, i, from)) continue;
        snprintf(at, sizeof at, "hub/%s/blobs/%040d", repo, i);
        folder_link(from, at);
        snprintf(blob, sizeof blob, "../../blobs/%040d", i);
        snprintf(at, sizeof at, "hub/%s/snapshots/" COMMIT "/%s", repo, files[i]);
        folder_link(blob, at);
    }
    snprintf(at, sizeof at, "hub/%s/refs/main", repo);
    folder_text(at, COMMIT);
    snprintf(at, sizeof at, "hub/%s/refs/v1", repo);
    folder_text(at, COMMIT "\n");
}
/* What sees is no single folder: its parts have tests of their own (test_catalog_parts.c). */
static const struct catalog_entry *reads(int i) {
    const struct catalog_entry *m = catalog_at(i);
    return m->vision ? NULL : m;
}
/* What no repository holds is made by its user, in a model folder of that name. */
static void put_folder(const struct catalog_entry *m) {
    char at[400], from[1024];
    for (int i = 0; i < FILES; i++) {
        snprintf(at, sizeof at, "own/%.100s/%s", m->name, files[i]);
        if (source(m, i, from)) folder_link(from, at);
    }
}
static int set_up(void **state) {
    (void)state;
    if (!getcwd(here, sizeof here) || folder_make("names")) return -1;
    for (int i = 0; i < catalog_count(); i++)
        if (reads(i)) (catalog_at(i)->repo ? put_snapshot : put_folder)(catalog_at(i));
    setenv("HF_HUB_CACHE", folder_at("hub"), 1);
    setenv("JAEDA_MODELS", folder_at("own"), 1);
    setenv("XDG_CACHE_HOME", folder_at("none"), 1);
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    return folder_remove("");
}
static void leads_to(const char *name, const char *revision, const struct catalog_entry *m) {
    char path[CATALOG_PATH];
    const struct catalog_entry *entry = NULL;
    struct err e = { 0 };
    if (catalog_resolve(name, revision, path, &entry, &e)) fail_msg("%s: %s", name, e.text);
    assert_ptr_equal(entry, m);
    assert_non_null(strstr(path, m->repo ? strchr(m->repo, '/') + 1 : m->name));
    assert_true(!m->repo == !strstr(path, "/snapshots/" COMMIT));
}
static void repository_leads_to(const struct catalog_entry *m) {
    char upper[NAME];
    leads_to(m->name, "main", m);
    leads_to(m->name, "v1", m);
    leads_to(m->name, COMMIT, m);
    leads_to(m->repo, NULL, m);
    leads_to(strchr(m->repo, '/') + 1, NULL, m);
    size_t n = 0;
    for (; m->repo[n] && n < NAME - 1; n++) upper[n] = (char)toupper((unsigned char)m->repo[n]);
    upper[n] = 0;
    leads_to(upper, NULL, m);
}
static void every_name_leads_to_its_files(void **state) {
    (void)state;
    assert_true(catalog_count() >= 13);
    for (int i = 0; i < catalog_count(); i++) {
        const struct catalog_entry *m = reads(i);
        char alias[NAME];
        if (!m) continue;
        leads_to(m->name, NULL, m);
        if (m->repo) repository_leads_to(m);
        for (const char *p = m->aliases; *p; p += strspn(p, " ")) {
            const size_t n = strcspn(p, " ");
            snprintf(alias, sizeof alias, "%.*s", (int)n, p);
            leads_to(alias, NULL, m);
            p += n;
        }
    }
}
static bool has_stop(const struct catalog_entry *m, const char *text) {
    for (int i = 0; m->stop[i]; i++)
        if (!strcmp(m->stop[i], text)) return true;
    return false;
}
static bool has_id(const struct catalog_entry *m, int id) {
    for (int i = 0; i < m->stop_ids; i++)
        if (m->stop_id[i] == id) return true;
    return false;
}
static bool template_known(const char *name) {
    for (int i = 0; template_name(i); i++)
        if (!strcmp(template_name(i), name)) return true;
    return false;
}
/* The Polyglot family ends at id 2 whatever its files say; its chat models write ### when they go on to the next turn. */
static void templates_and_stop_rules_are_the_models(void **state) {
    (void)state;
    static const struct {
        const char *begins, *template_name;
        bool id, text;
    } rule[] = { { "polyglot", "raw", true, false },
                 { "koalpaca", "koalpaca", true, true },
                 { "kullm", "kullm", true, true },
                 { "llama-2", "llama-2", false, false },
                 { "vicuna-7b-v1", "vicuna", false, false } };
    for (size_t k = 0; k < sizeof rule / sizeof *rule; k++) {
        int found = 0;
        for (int i = 0; i < catalog_count(); i++) {
            const struct catalog_entry *m = catalog_at(i);
            assert_true(template_known(m->template_name));
            if (strncasecmp(m->name, rule[k].begins, strlen(rule[k].begins)) != 0) continue;
            found++;
            assert_string_equal(m->template_name, rule[k].template_name);
            assert_true(!rule[k].id || has_id(m, 2));
            assert_true(!rule[k].text || has_stop(m, "###"));
        }
        assert_true(found > 0);
    }
}
static void every_folder_binds(void **state) {
    (void)state;
    for (int i = 0; i < catalog_count(); i++) {
        const struct catalog_entry *m = reads(i), *entry;
        char path[CATALOG_PATH];
        struct checkpoint *file = NULL;
        struct model_config c;
        struct model *model = NULL;
        struct err e = { 0 };
        if (!m) continue;
        if (catalog_resolve(m->name, NULL, path, &entry, &e) || checkpoint_open(&file, path, &e) ||
            checkpoint_config(file, &c, &e) || model_open(&model, file, &c, DTYPE_NONE, &e))
            fail_msg("%s: %s", m->name, e.text);
        assert_string_equal(c.arch, m->config.arch);
        assert_int_equal(checkpoint_files(file), !strcmp(stand_in(m), "neox-seq") ? 2 : 1);
        model_close(model);
        checkpoint_close(file);
    }
}
static void every_name_loads_and_writes(void **state) {
    (void)state;
    struct err e = { 0 };
    if (engine_open(&g, "local:", &e)) fail_msg("%s", e.text);
    for (int i = 0; i < catalog_count(); i++) {
        const struct catalog_entry *m = reads(i);
        if (!m) continue;
        struct heard *h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = m->name });
        if (h->fail.code) fail_msg("%s: %s", m->name, h->fail.text);
        assert_string_equal(h->model.name, m->name);
        assert_string_equal(h->model.template_name, m->template_name);
        assert_string_equal(h->model.repo, m->repo ? m->repo : "");
        h = generate("on a", (struct engine_req){ .model = m->name, .max_new_tokens = 4, .ignore_eos = true });
        if (h->fail.code) fail_msg("%s: %s", m->name, h->fail.text);
        assert_true(h->done.new_tokens > 0 && !h->done.dummy);
        ask(&(struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .model = m->name });
    }
    engine_close(g);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_leads_to_its_files),
        cmocka_unit_test(templates_and_stop_rules_are_the_models),
        cmocka_unit_test(every_folder_binds),
        cmocka_unit_test(every_name_loads_and_writes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
