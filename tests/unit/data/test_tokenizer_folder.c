/* A model's folder: which files count, and what the small ones say about BOS, EOS, added tokens and the template. */
#include "ids_file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#define JSON                                                                                                           \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]},\"added_tokens\":["       \
    "{\"id\":3,\"content\":\"<s>\",\"special\":true},{\"id\":4,\"content\":\"</s>\",\"special\":true}]}"
/* <unk> <s> </s> a b ab, BPE, as a protocol buffer */
static const char model[] = "\x0a\x09\x0a\x05<unk>\x18\x02"
                            "\x0a\x07\x0a\x03<s>\x18\x03"
                            "\x0a\x08\x0a\x04</s>\x18\x03"
                            "\x0a\x03\x0a\x01"
                            "a\x0a\x03\x0a\x01"
                            "b\x0a\x04\x0a\x02"
                            "ab\x12\x02\x18\x02\x1a\x02\x18\x00";
enum { FILES = 5 };
struct file {
    const char *name, *text;
    size_t n;
};
static char folder[] = "/tmp/jaeda-tokenizer-XXXXXX";
static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}
static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}
static void path_of(const char *name, char *path, size_t n) { snprintf(path, n, "%s/%s", folder, name); }
static int open_with(const struct file *file, struct tokenizer **t, struct err *e) {
    char path[200];
    for (int i = 0; i < FILES && file[i].name; i++) {
        path_of(file[i].name, path, sizeof path);
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        fwrite(file[i].text, 1, file[i].n ? file[i].n : strlen(file[i].text), f);
        fclose(f);
    }
    const int rc = tokenizer_from_folder(t, folder, e);
    for (int i = 0; i < FILES && file[i].name; i++) {
        path_of(file[i].name, path, sizeof path);
        remove(path);
    }
    return rc;
}
#define MODEL_FILE                                                                                                     \
    { "tokenizer.model", model, sizeof model - 1 }
#define JSON_FILE                                                                                                      \
    { "tokenizer.json", JSON, 0 }
#define CONFIG(text)                                                                                                   \
    { "tokenizer_config.json", text, 0 }
static void the_small_files_count(void **state) {
    (void)state;
    static const struct {
        struct file file[FILES];
        int vocab, bos, eos;
        const char *jinja;
    } row[] = {
        { { JSON_FILE }, 5, -1, -1, "" },
        { { JSON_FILE, MODEL_FILE }, 5, -1, -1, "" }, /* tokenizer.json first */
        { { JSON_FILE, CONFIG("{\"eos_token\":\"</s>\",\"bos_token\":\"<s>\"}") }, 5, -1, 4, "" },
        { { JSON_FILE,
            CONFIG(
                "{\"eos_token\":{\"content\":\"</s>\"},\"bos_token\":{\"content\":\"<s>\"},\"add_bos_token\":true}") },
          5,
          3,
          4,
          "" },
        { { JSON_FILE, CONFIG("{\"eos_token\":\"</s>>\",\"bos_token\":7,\"add_bos_token\":true}") }, 5, -1, -1, "" },
        { { JSON_FILE, CONFIG("{}"), { "special_tokens_map.json", "{\"eos_token\":\"</s>\"}", 0 } }, 5, -1, 4, "" },
        { { JSON_FILE, CONFIG("{\"chat_template\":\"{{ t }}\"}") }, 5, -1, -1, "{{ t }}" },
        { { JSON_FILE, CONFIG("{\"chat_template\":[{\"name\":\"tool\",\"template\":\"x\"},{\"name\":\"default\","
                              "\"template\":\"y\"}]}") },
          5,
          -1,
          -1,
          "y" },
        { { JSON_FILE, CONFIG("{\"chat_template\":\"old\"}"), { "chat_template.jinja", "new", 0 } }, 5, -1, -1, "new" },
        { { MODEL_FILE }, 6, 1, 2, "" },
        { { MODEL_FILE, CONFIG("{\"add_bos_token\":false}") }, 6, -1, 2, "" },
        { { MODEL_FILE, { "added_tokens.json", "{\"<pad>\":7}", 0 } }, 8, 1, 2, "" },
        { { MODEL_FILE, CONFIG("{\"added_tokens_decoder\":{\"1\":{\"content\":\"<s>\",\"special\":true},\"6\":{"
                               "\"content\":\"<m>\",\"special\":true}},"
                               "\"eos_token\":\"<m>\"}") },
          7,
          1,
          6,
          "" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct tokenizer *t;
        struct err e = { 0 };
        size_t n;
        if (open_with(row[i].file, &t, &e)) fail_msg("row %zu: %s", i, e.text);
        assert_int_equal(tokenizer_vocab(t), row[i].vocab);
        assert_int_equal(tokenizer_bos(t), row[i].bos);
        assert_int_equal(tokenizer_eos(t), row[i].eos);
        assert_string_equal(tokenizer_chat_template(t, &n), row[i].jinja);
        assert_int_equal(n, strlen(row[i].jinja));
        tokenizer_close(t);
    }
}
static void added_tokens_are_found_in_the_text(void **state) {
    (void)state;
    static const struct file file[FILES] = { MODEL_FILE,
                                             { "added_tokens.json", "{\"<pad>\":6,\"[word]\":7}", 0 },
                                             { "special_tokens_map.json",
                                               "{\"pad_token\":\"<pad>\",\"additional_special_tokens\":[]}", 0 } };
    static const int want[] = { 5, 7, 6, 5 };
    struct tokenizer *t;
    struct ids ids = { 0 };
    struct err e = { 0 };
    if (open_with(file, &t, &e)) fail_msg("%s", e.text);
    assert_true(tokenizer_is_control(t, 6));
    assert_false(tokenizer_is_control(t, 7));
    assert_int_equal(tokenizer_encode(t, "ab[word]<pad>ab", 15, true, &ids, &e), 0);
    size_t seen = 0; /* the "▁" of the prefix is unknown to this model */
    for (size_t i = 0; i < ids.n; i++)
        if (ids.v[i] != 0) assert_int_equal(ids.v[i], want[seen++]);
    assert_int_equal(seen, 4);
    ids_fini(&ids);
    tokenizer_close(t);
}
static void what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        struct file file[FILES];
        int code;
        const char *says;
    } row[] = {
        { { CONFIG("{}") }, STATUS_NOTFOUND, "holds no tokenizer.json and no tokenizer.model" },
        { { JSON_FILE, CONFIG("{") }, STATUS_FORMAT, "/tokenizer_config.json: is no valid JSON" },
        { { { "tokenizer.json", "{", 0 } }, STATUS_FORMAT, "/tokenizer.json: is no valid JSON" },
        { { { "tokenizer.model", "{", 0 } }, STATUS_FORMAT, "tokenizer.model: no SentencePiece model" },
        { { JSON_FILE, { "special_tokens_map.json", "[]", 0 } },
          STATUS_FORMAT,
          "special_tokens_map.json: its JSON is no object" },
        { { MODEL_FILE, { "added_tokens.json", "{\"x\":-1}", 0 } },
          STATUS_FORMAT,
          "added_tokens.json: token 'x' has no id" },
        { { MODEL_FILE, { "added_tokens.json", "{\"x\":2}", 0 } },
          STATUS_FORMAT,
          "added token 'x' has the id of another token, 2" },
        { { MODEL_FILE, CONFIG("{\"added_tokens_decoder\":{\"99999999999\":{\"content\":\"x\"}}}") },
          STATUS_FORMAT,
          "has no id or no content" },
        { { MODEL_FILE, CONFIG("{\"added_tokens_decoder\":{\"7\":7}}") }, STATUS_FORMAT, "has no id or no content" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct tokenizer *t;
        struct err e = { 0 };
        assert_int_equal(open_with(row[i].file, &t, &e), row[i].code);
        assert_null(t);
        if (!strstr(e.text, row[i].says)) fail_msg("%s\n%s", e.text, row[i].says);
    }
    struct tokenizer *t;
    assert_int_equal(tokenizer_from_folder(&t, "/nowhere", NULL), STATUS_NOTFOUND);
}
static void every_failing_allocation_is_survived(void **state) {
    (void)state;
    static const struct file file[FILES] = { MODEL_FILE,
                                             { "added_tokens.json", "{\"<pad>\":7}", 0 },
                                             CONFIG("{\"chat_template\":\"x\"}") };
    int rc = -1;
    for (long at = 1; rc; at++) {
        struct tokenizer *t;
        struct err e = { 0 };
        mem_fail_at(at);
        rc = open_with(file, &t, &e);
        mem_fail_at(0);
        assert_true(rc == 0 || (rc == STATUS_NOMEM && !t));
        assert_true(at < 300 && (rc || at > 8));
        tokenizer_close(t);
    }
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_small_files_count),
        cmocka_unit_test(added_tokens_are_found_in_the_text),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(every_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
