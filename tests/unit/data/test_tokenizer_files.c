/* The real tokenizer files against the ids of other implementations. */
#include "ids_file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

enum { PATH = 512 };
static struct tokenizer *open_file(const char *path) {
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    const char *dot = strrchr(path, '.');
    size_t n;
    if (!strcmp(dot, ".gguf")) {
        struct gguf *g;
        if (gguf_open(&g, path, &e) || tokenizer_from_gguf(&t, g, &e)) fail_msg("%s", e.text);
        gguf_close(g);
        return t;
    }
    char *bytes = read_whole(path, &n);
    assert_non_null(bytes);
    const bool model = !strcmp(dot, ".model");
    if (model ? tokenizer_from_model(&t, bytes, n, path, &e) : tokenizer_from_json(&t, bytes, n, path, &e))
        fail_msg("%s", e.text);
    mem_free(bytes);
    return t;
}
static void compare_with_packages(const char *name, const char *file, int texts) {
    char path[PATH], *lines, *at;
    size_t n;
    int wrong = 0, seen = 0;
    NEED_DATA(file, path);
    struct tokenizer *t = open_file(path);
    assert_non_null(lines = at = read_whole("tests/unit/data/tokenizer_ids.txt", &n));
    for (struct ids_line l; next_line(&at, &l);) {
        const size_t len = strlen(name);
        if (strncmp(l.what, name, len) != 0) continue;
        wrong += !same_ids(t, file, &l, !strcmp(l.what + len, " special"));
        seen++;
    }
    assert_int_equal(seen, texts);
    assert_int_equal(wrong, 0);
    mem_free(lines);
    tokenizer_close(t);
}
static void polyglot_gives_the_reference_ids(void **state) {
    (void)state;
    compare_with_packages("polyglot", "polyglot-ko-tokenizer/tokenizer.json", 76);
}
static void neox_gives_the_reference_ids(void **state) {
    (void)state;
    compare_with_packages("neox", "gpt-neox-tokenizer/20B_tokenizer.json", 76);
}
static void llama_model_gives_the_reference_ids(void **state) {
    (void)state;
    compare_with_packages("llama", "llama2-tokenizer/tokenizer.model", 38);
}
static void llama_gguf_gives_the_reference_ids(void **state) {
    (void)state;
    compare_with_packages("llama", "gguf-vocab/ggml-vocab-llama-spm.gguf", 38);
}

/* llama.cpp's vectors: texts between separators, one line of ids each. Inputs and ids are read from its files. */
static void compare_with_vectors(const char *tokenizer, const char *vectors) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[PATH], file[PATH / 2];
    size_t n;
    int cases = 0, wrong = 0;
    NEED_DATA(tokenizer, path);
    struct tokenizer *t = open_file(path);
    snprintf(file, sizeof file, "%s.inp", vectors);
    NEED_DATA(file, path);
    char *in = read_whole(path, &n);
    snprintf(file, sizeof file, "%s.out", vectors);
    NEED_DATA(file, path);
    char *out = read_whole(path, &n), *line = out;
    for (const char *text = in, *stop; (stop = strstr(text, separator)); text = stop + sizeof separator - 1, cases++) {
        struct ids ids = { 0 };
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = 0;
        assert_int_equal(tokenizer_encode(t, text, (size_t)(stop - text), false, &ids, NULL), 0);
        const char *at = line;
        bool same = true;
        for (size_t i = 0; i < ids.n && same; i++) {
            char *next;
            same = ids.v[i] == strtol(at, &next, 10) && next != at;
            at = next;
        }
        if (!same || at[strspn(at, " ")]) wrong++, print_message("case %d of %s differs\n", cases, vectors);
        line = end + 1;
        ids_fini(&ids);
    }
    assert_int_equal(cases, 46);
    assert_int_equal(wrong, 0);
    mem_free(in);
    mem_free(out);
    tokenizer_close(t);
}
static void gpt2_gives_the_published_ids(void **state) {
    (void)state;
    compare_with_vectors("gguf-vocab/ggml-vocab-gpt-2.gguf", "gguf-vocab/ggml-vocab-gpt-2.gguf");
}
static void llama_gives_the_published_ids(void **state) {
    (void)state;
    compare_with_vectors("gguf-vocab/ggml-vocab-llama-spm.gguf", "gguf-vocab/ggml-vocab-llama-spm.gguf");
    compare_with_vectors("llama2-tokenizer/tokenizer.model", "gguf-vocab/ggml-vocab-llama-spm.gguf");
}

static int check_vector(const struct tokenizer *t, const json_t *v, int bos) {
    const json_t *want = json_object_get(v, "ids"), *text = json_object_get(v, "text");
    struct ids ids = { 0 };
    struct err e = { 0 };
    if (bos >= 0) ids_add(&ids, bos);
    if (tokenizer_encode(t, json_string_value(text), json_string_length(text), true, &ids, &e)) fail_msg("%s", e.text);
    bool same = ids.n == json_array_size(want);
    for (size_t i = 0; i < ids.n && same; i++) same = ids.v[i] == json_integer_value(json_array_get(want, i));
    if (!same) print_message("differs: '%s'\n", json_string_value(text));
    ids_fini(&ids);
    return !same;
}
/* The prompts of MiniGPT-4, cut where the picture goes: only the first stretch has BOS, and the "<s>" that the text
 * itself holds is the token, with a dummy prefix behind it. */
static int check_prompts(const struct tokenizer *t, const json_t *prompts) {
    size_t i, k;
    json_t *prompt, *segment;
    int wrong = 0;
    json_array_foreach(prompts, i, prompt) json_array_foreach(json_object_get(prompt, "segments"), k, segment) wrong +=
        check_vector(t, segment, k ? -1 : tokenizer_bos(t));
    return wrong;
}
static void published_prompts_give_the_derived_ids(void **state) {
    (void)state;
    static const struct {
        const char *key, *file;
    } row[] = { { "minigpt4", "llama2-tokenizer/tokenizer.model" },
                { "minigpt4", "gguf-vocab/ggml-vocab-llama-spm.gguf" },
                { "llama2", "llama2-tokenizer/tokenizer.model" },
                { "polyglot", "polyglot-ko-tokenizer/tokenizer.json" },
                { "gpt_neox", "gpt-neox-tokenizer/20B_tokenizer.json" } };
    char path[PATH];
    size_t k;
    int wrong = 0;
    NEED_DATA("derived/tokenizer_vectors.json", path);
    json_t *all = json_load_file(path, 0, NULL), *v;
    assert_non_null(all);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const json_t *list = json_object_get(all, row[i].key);
        NEED_DATA(row[i].file, path);
        struct tokenizer *t = open_file(path);
        assert_true(json_array_size(list) > 3);
        if (!strcmp(row[i].key, "minigpt4")) {
            wrong += check_prompts(t, list);
        } else {
            json_array_foreach(list, k, v) wrong += check_vector(t, v, -1);
        }
        tokenizer_close(t);
    }
    json_decref(all);
    assert_int_equal(wrong, 0);
}

static void append_bytes(const struct tokenizer *t, const struct ids *ids, struct buf *out) {
    for (size_t i = 0; i < ids->n; i++) {
        size_t n;
        const char *p = tokenizer_bytes(t, ids->v[i], &n);
        assert_non_null(p);
        buf_add(out, p, n);
    }
}
/* Encoded and decoded: what was given, but for a blank in front where front says so. */
static void comes_back(const struct tokenizer *t, const char *text, size_t n, bool front) {
    struct ids ids = { 0 };
    struct buf b;
    struct err e = { 0 };
    buf_init(&b, 1 << 20);
    if (tokenizer_encode(t, text, n, false, &ids, &e)) fail_msg("%s", e.text);
    append_bytes(t, &ids, &b);
    if (front && n) {
        assert_true(b.n > 0 && b.p[0] == ' ');
        buf_drop(&b, 1);
    }
    assert_int_equal(b.n, n);
    if (n) assert_memory_equal(b.p, text, n);
    buf_fini(&b);
    ids_fini(&ids);
}
static size_t random_text(char *out, int round) {
    static const struct {
        uint32_t from, to;
    } script[] = { { 0xac00, 0xd7a3 }, { 0x1100, 0x11ff }, { 0x20, 0x7e }, { 0x1f300, 0x1f64f }, { 0x12000, 0x12399 },
                   { 0x900, 0x97f },   { 0x300, 0x36f },   { 0, 0x1f },    { 0x10330, 0x1034a }, { 0x3040, 0x30ff } };
    enum { SCRIPTS = sizeof script / sizeof *script };
    size_t n = 0;
    for (int i = rand() % 60; i > 0; i--) {
        const int k = round % 3 ? rand() % SCRIPTS : 0;
        const uint32_t cp = script[k].from + (uint32_t)rand() % (script[k].to - script[k].from + 1);
        if (round % 5 == 4 && rand() % 4 == 0) {
            out[n++] = (char)rand(); /* mostly no UTF-8 */
        } else {
            n += (size_t)utf8_encode(cp, out + n);
        }
    }
    return n;
}
static void any_text_comes_back(void **state) {
    (void)state;
    static const struct {
        const char *file;
        bool front;
    } row[] = { { "polyglot-ko-tokenizer/tokenizer.json", false },
                { "llama2-tokenizer/tokenizer.model", true },
                { "gguf-vocab/ggml-vocab-llama-spm.gguf", true },
                { "gguf-vocab/ggml-vocab-gpt-2.gguf", false } };
    char path[PATH], text[400];
    srand(7);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        NEED_DATA(row[i].file, path);
        struct tokenizer *t = open_file(path);
        for (int round = 0; round < 3000; round++) comes_back(t, text, random_text(text, round), row[i].front);
        tokenizer_close(t);
    }
}
/* NFC first: decomposed Hangul comes back composed, what is no UTF-8 as it was. */
static void neox_composes(void **state) {
    (void)state;
    static const char text[] = "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab\x92\xe1\x84\x92 e\xcc\x81";
    static const char want[] = "\xed\x95\x9c\x92\xe1\x84\x92 \xc3\xa9";
    char path[PATH];
    struct ids ids = { 0 };
    struct buf b;
    NEED_DATA("gpt-neox-tokenizer/20B_tokenizer.json", path);
    struct tokenizer *t = open_file(path);
    buf_init(&b, 1000);
    assert_int_equal(tokenizer_encode(t, text, sizeof text - 1, false, &ids, NULL), 0);
    append_bytes(t, &ids, &b);
    assert_string_equal(buf_text(&b), want);
    buf_fini(&b);
    ids_fini(&ids);
    tokenizer_close(t);
}
static void facts_of_the_files(void **state) {
    (void)state;
    char path[PATH];
    size_t n;
    struct tokenizer *t;
    struct err e = { 0 };
    NEED_DATA("polyglot-ko-tokenizer", path);
    if (tokenizer_from_folder(&t, path, &e)) fail_msg("%s", e.text);
    assert_int_equal(tokenizer_vocab(t), 30003);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_int_equal(tokenizer_eos(t), 1);
    assert_int_equal(tokenizer_find(t, "<|endoftext|>"), 2);
    assert_int_equal(tokenizer_find(t, "<|rrn|>"), 30002);
    assert_true(tokenizer_is_control(t, 2) && tokenizer_is_control(t, 30000));
    assert_false(tokenizer_is_control(t, 6));
    assert_string_equal(tokenizer_chat_template(t, &n), "");
    assert_null(tokenizer_bytes(t, 30003, &n));
    tokenizer_close(t);

    NEED_DATA("llama2-tokenizer", path);
    if (tokenizer_from_folder(&t, path, &e)) fail_msg("%s", e.text);
    assert_int_equal(tokenizer_vocab(t), 32000);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_memory_equal(tokenizer_bytes(t, 518, &n), " [", 2);
    assert_int_equal(n, 2);
    assert_memory_equal(tokenizer_bytes(t, 3 + 0xea, &n), "\xea", 1); /* <0xEA> */
    assert_int_equal(n, 1);
    assert_memory_equal(tokenizer_bytes(t, 29871, &n), " ", 1);
    tokenizer_close(t);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(polyglot_gives_the_reference_ids),
        cmocka_unit_test(neox_gives_the_reference_ids),
        cmocka_unit_test(llama_model_gives_the_reference_ids),
        cmocka_unit_test(llama_gguf_gives_the_reference_ids),
        cmocka_unit_test(gpt2_gives_the_published_ids),
        cmocka_unit_test(llama_gives_the_published_ids),
        cmocka_unit_test(published_prompts_give_the_derived_ids),
        cmocka_unit_test(any_text_comes_back),
        cmocka_unit_test(neox_composes),
        cmocka_unit_test(facts_of_the_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
