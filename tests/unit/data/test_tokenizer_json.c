/* tokenizer.json texts: settings that the real files lack, against the tokenizers package, and what is wrong in them. */
#include "ids_file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct tokenizer *open_json(const char *text, struct err *e) {
    struct tokenizer *t = NULL;
    const int rc = tokenizer_from_json(&t, text, strlen(text), "tokenizer.json", e);
    assert_true(rc ? !t && e->code == rc : t != NULL);
    return t;
}
/* The text with vocab for its "@". */
static char *filled(const char *text, const char *vocab) {
    struct buf b;
    buf_init(&b, 1 << 20);
    const char *at = strstr(text, ":@,");
    buf_add(&b, text, at ? (size_t)(at + 1 - text) : strlen(text));
    if (at) buf_printf(&b, "%s%s", vocab, at + 2);
    return buf_take(&b);
}
static void settings_give_the_reference_ids(void **state) {
    (void)state;
    size_t n;
    char *lines = read_whole("tests/unit/data/tokenizer_tiny.txt", &n), *at = lines;
    const char *vocab = NULL, *name = "";
    struct tokenizer *t = NULL;
    int files = 0, texts = 0, wrong = 0;
    assert_non_null(lines);
    for (struct ids_line l; next_line(&at, &l);) {
        if (!strcmp(l.what, "vocab")) {
            vocab = l.rest;
        } else if (!strcmp(l.what, "json")) {
            struct err e = { 0 };
            char *json = filled(l.rest, vocab);
            tokenizer_close(t);
            if (!(t = open_json(json, &e))) fail_msg("%s: %s", l.text, e.text);
            mem_free(json);
            name = l.text;
            files++;
        } else {
            wrong += !same_ids(t, name, &l, !strcmp(l.what, "special"));
            texts++;
        }
    }
    assert_int_equal(files, 35);
    assert_int_equal(texts, files * 2 * 16);
    assert_int_equal(wrong, 0);
    tokenizer_close(t);
    mem_free(lines);
}

#define BYTE_LEVEL                                                                                                     \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"}"
#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define ADDED(...) "{" MODEL "," BYTE_LEVEL ",\"added_tokens\":[" __VA_ARGS__ "]}"
#define VOCAB(vocab, merges)                                                                                           \
    "{" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]}}"
#define PRE(step) "{" MODEL ",\"pre_tokenizer\":" step "}"
#define NORMAL(step) "{" MODEL ",\"normalizer\":" step "}"
static const struct bad {
    const char *json;
    int code;
    const char *says;
} bad[] = {
    { "", STATUS_FORMAT, "is no valid JSON: line 1" },
    { "{\"model\":", STATUS_FORMAT, "is no valid JSON" },
    { "{} x", STATUS_FORMAT, "is no valid JSON" },
    { "[]", STATUS_FORMAT, "is no object" },
    { "{\"a\":\"\xff\"}", STATUS_FORMAT, "is no valid JSON" },
    { "{}", STATUS_INVALID, "model type '' is not supported; supported: BPE" },
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", STATUS_INVALID, "model type 'Unigram' is not supported" },
    { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", STATUS_INVALID, "'WordPiece'" },
    { "{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", STATUS_FORMAT, "has no vocab" },
    { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", STATUS_FORMAT, "has no merges" },
    { "{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", STATUS_FORMAT, "has no vocab" },
    { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
      STATUS_INVALID, "end_of_word_suffix is not supported" },
    { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", STATUS_INVALID, "dropout" },
    { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}}", STATUS_FORMAT,
      "unk_token" },
    { VOCAB("", ""), STATUS_FORMAT, "the vocabulary is empty" },
    { VOCAB("\"a\":-1", ""), STATUS_FORMAT, "token 'a' has no id below" },
    { VOCAB("\"a\":1.5", ""), STATUS_FORMAT, "token 'a' has no id below" },
    { VOCAB("\"a\":\"0\"", ""), STATUS_FORMAT, "token 'a' has no id below" },
    { VOCAB("\"a\":4194304", ""), STATUS_FORMAT, "token 'a' has no id below 4194304" },
    { VOCAB("\"a\":9223372036854775807", ""), STATUS_FORMAT, "token 'a' has no id below" },
    { VOCAB("\"a\":3,\"b\":3", ""), STATUS_FORMAT, "tokens 'a' and 'b' both have id 3" },
    { VOCAB("\"a\":0,\"b\":1", "\"a b\""), STATUS_FORMAT, "merge 0 makes or needs a token that is not there" },
    { VOCAB("\"a\":0,\"aa\":1", "\"a a\",\"a x\""), STATUS_FORMAT, "merge 1 makes or needs" },
    { VOCAB("\"a\":0,\"aa\":1", "\"aa\""), STATUS_FORMAT, "merge 0 is no pair" },
    { VOCAB("\"a\":0,\"aa\":1", "\"a a a\""), STATUS_FORMAT, "merge 0 is no pair" },
    { VOCAB("\"a\":0,\"aa\":1", "[\"a\"]"), STATUS_FORMAT, "merge 0 is no pair" },
    { VOCAB("\"a\":0,\"aa\":1", "[\"a\",1]"), STATUS_FORMAT, "merge 0 is no pair" },
    { VOCAB("\"a\":0,\"aa\":1", "[\"\",\"a\"]"), STATUS_FORMAT, "merge 0 makes or needs" },
    { VOCAB("\"a\":0", "7"), STATUS_FORMAT, "merge 0 is no pair" },
    { ADDED("{\"id\":2,\"content\":\"x\"}"), STATUS_FORMAT, "tokens 'ab' and 'x' both have id 2" },
    { ADDED("{\"id\":3,\"content\":\"x\"},{\"id\":3,\"content\":\"y\"}"), STATUS_FORMAT, "'x' and 'y' both have id 3" },
    { ADDED("{\"id\":3}"), STATUS_FORMAT, "added token 0 has no content" },
    { ADDED("{\"content\":\"x\"}"), STATUS_FORMAT, "added token 0 has no content, or no id" },
    { ADDED("7"), STATUS_FORMAT, "added token 0" },
    { PRE("{\"type\":\"BertPreTokenizer\"}"), STATUS_INVALID, "pre_tokenizer 'BertPreTokenizer' is not supported" },
    { PRE("7"), STATUS_INVALID, "pre_tokenizer '' is not supported" },
    { PRE("{\"type\":\"Sequence\"}"), STATUS_FORMAT, "holds no list of steps" },
    { PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}"), STATUS_FORMAT,
      "'Digits' after ByteLevel" },
    { PRE("{\"type\":\"Split\",\"behavior\":\"Removed\"}"), STATUS_FORMAT, "'Split' has no pattern" },
    { PRE("{\"type\":\"Split\",\"behavior\":\"Odd\",\"pattern\":{\"String\":\"x\"}}"), STATUS_FORMAT,
      "unknown behavior" },
    { PRE("{\"type\":\"Split\",\"behavior\":\"Removed\",\"pattern\":{\"Regex\":\"(\"}}"), STATUS_FORMAT,
      "regular expression '('" },
    { PRE("{\"type\":\"Metaspace\",\"replacement\":\"\"}"), STATUS_FORMAT, "has no replacement" },
    { PRE("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"odd\"}"), STATUS_FORMAT,
      "prepend_scheme" },
    { NORMAL("{\"type\":\"Precompiled\"}"), STATUS_INVALID, "normalizer 'Precompiled' is not supported" },
    { NORMAL("{\"type\":\"Prepend\"}"), STATUS_FORMAT, "'Prepend' has no text" },
    { NORMAL("{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{}}"), STATUS_FORMAT, "has no pattern" },
    { "{" MODEL ",\"decoder\":{\"type\":\"WordPiece\"}}", STATUS_INVALID, "decoder 'WordPiece' is not supported" },
    { "{" MODEL ",\"post_processor\":{\"type\":\"BertProcessing\"}}", STATUS_INVALID,
      "post_processor 'BertProcessing'" },
    { "{" MODEL
      ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}]}}",
      STATUS_FORMAT, "begins with a token that is not there" },
};
static void what_is_wrong_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = { 0 };
        struct tokenizer *t = open_json(bad[i].json, &e);
        if (t || e.code != bad[i].code || !strstr(e.text, bad[i].says))
            fail_msg("%s\n  gave: %d %s\n  want: %s", bad[i].json, e.code, e.text, bad[i].says);
    }
}
static void deep_nesting_is_refused(void **state) {
    (void)state;
    struct buf b;
    struct err e = { 0 };
    buf_init(&b, 1 << 20);
    buf_puts(&b, "{" MODEL ",\"normalizer\":");
    for (int i = 0; i < 500; i++) buf_puts(&b, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 500; i++) buf_puts(&b, "]}");
    buf_puts(&b, "}");
    assert_null(open_json(buf_text(&b), &e));
    assert_non_null(strstr(e.text, "nested too deeply"));
    buf_fini(&b);
}
static void ids_may_have_gaps(void **state) {
    (void)state;
    struct err e = { 0 };
    struct ids ids = { 0 };
    size_t n;
    struct tokenizer *t = open_json(ADDED("{\"id\":9,\"content\":\"<x>\",\"special\":true}"), &e);
    if (!t) fail_msg("%s", e.text);
    assert_int_equal(tokenizer_vocab(t), 10);
    assert_null(tokenizer_bytes(t, 5, &n));
    assert_int_equal(n, 0);
    assert_int_equal(tokenizer_encode(t, "ab<x>b", 6, true, &ids, &e), 0);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.v[1], 9);
    assert_int_equal(tokenizer_find(t, ""), -1);
    ids_fini(&ids);
    tokenizer_close(t);
}
/* "ab" is marked as a control token: a person who types it gets the letters. */
static void plain_text_makes_no_control_token(void **state) {
    (void)state;
    struct err e = { 0 };
    struct ids ids = { 0 };
    struct tokenizer *t = open_json(ADDED("{\"id\":2,\"content\":\"ab\",\"special\":true}"), &e);
    if (!t) fail_msg("%s", e.text);
    assert_int_equal(tokenizer_encode(t, "ab", 2, false, &ids, &e), 0);
    assert_int_equal(ids.n, 2);
    assert_int_equal(tokenizer_encode(t, "ab", 2, true, &ids, &e), 0);
    assert_int_equal(ids.v[2], 2);
    ids_fini(&ids);
    tokenizer_close(t);
}
#define FIRST(id)                                                                                                      \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"b\"}},{\"Sequence\":{\"id\":\"A\"}}],"   \
    "\"special_tokens\":{\"b\":{\"id\":\"b\",\"ids\":[" id "]}}}"
static void bos_is_what_the_post_processor_puts_first(void **state) {
    (void)state;
    static const struct {
        const char *json;
        int bos;
    } row[] = {
        { "{" MODEL ",\"post_processor\":" FIRST("1") "}", 1 },
        { "{" MODEL
          ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"}," FIRST("2") "]}}",
          2 },
        { "{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{}}]}}", -1 },
        { "{" MODEL ",\"post_processor\":{\"type\":\"ByteLevel\"}}", -1 },
        { "{" MODEL "}", -1 }
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct err e = { 0 };
        struct tokenizer *t = open_json(row[i].json, &e);
        if (!t) fail_msg("%s", e.text);
        assert_int_equal(tokenizer_bos(t), row[i].bos);
        assert_int_equal(tokenizer_eos(t), -1);
        tokenizer_close(t);
    }
}
static void a_regex_that_explodes_is_stopped(void **state) {
    (void)state;
    static const char *const regex[] = { "(x+x+)+y|(z|zz)*q", "(x*)*q", "(?:x?){60}x{60}q|((x+)+)+q", "(?=(x+)+$)q" };
    char json[600], text[6001];
    for (size_t i = 0; i < sizeof regex / sizeof *regex; i++) {
        struct err e = { 0 };
        struct ids ids = { 0 };
        snprintf(json, sizeof json,
                 PRE("{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"%s\"}}"), regex[i]);
        struct tokenizer *t = open_json(json, &e);
        if (!t) fail_msg("%s", e.text);
        memset(text, 'x', sizeof text);
        memcpy(text + sizeof text - 3, "yq", 3);
        memcpy(text, "yq", 2);
        const int rc = tokenizer_encode(t, text, sizeof text - 4, false, &ids, &e);
        assert_true(rc == 0 || (rc == STATUS_INVALID && strstr(e.text, "takes too long")));
        ids_fini(&ids);
        tokenizer_close(t);
    }
}
static void every_failing_allocation_is_survived(void **state) {
    (void)state;
    static const char json[] =
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{"
        "\"Regex\":\"c+\"},\"content\":\"b\"},{\"type\":\"Prepend\",\"prepend\":\"a\"}]},\"pre_tokenizer\":{\"type\":"
        "\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"Metaspace\",\"replacement\":\"_\"},{\"type\":\"Split\",\"pattern\":{\"Regex\":"
        "\"\\\\d\"},"
        "\"behavior\":\"Removed\"}]}," MODEL
        ",\"added_tokens\":[{\"id\":3,\"content\":\"<e\xcc\x81>\",\"normalized\":true}]}";
    struct tokenizer *t = NULL;
    int rc = -1;
    for (long at = 1; rc; at++) {
        struct err e = { 0 };
        mem_fail_at(at);
        rc = tokenizer_from_json(&t, json, sizeof json - 1, "x", &e);
        mem_fail_at(0);
        assert_true(rc == 0 || (rc == STATUS_NOMEM && !t && e.text[0]));
        assert_true(at < 500 && (rc || at > 8));
    }
    rc = -1;
    for (long at = 1; rc; at++) {
        struct err e = { 0 };
        struct ids ids = { 0 };
        mem_fail_at(at);
        rc = tokenizer_encode(t, "ab e\xcc\x81 <e\xcc\x81> c1\xff z", 18, false, &ids, &e);
        mem_fail_at(0);
        assert_true(rc == 0 || (rc == STATUS_NOMEM && e.text[0]));
        assert_true(at < 200 && (rc || at > 3));
        ids_fini(&ids);
    }
    tokenizer_close(t);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_give_the_reference_ids),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(ids_may_have_gaps),
        cmocka_unit_test(plain_text_makes_no_control_token),
        cmocka_unit_test(bos_is_what_the_post_processor_puts_first),
        cmocka_unit_test(a_regex_that_explodes_is_stopped),
        cmocka_unit_test(every_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
