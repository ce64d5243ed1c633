/* SentencePiece models: small trained ones against the sentencepiece package, hand-made ones for what is wrong. */
#include "gguf_build.h"
#include "ids_file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int nibble(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }
static size_t from_hex(char *text) {
    size_t n = 0;
    for (const char *p = text; *p && p[1]; p += 2) text[n++] = (char)(nibble(*p) * 16 + nibble(p[1]));
    return n;
}
static void trained_models_give_the_reference_ids(void **state) {
    (void)state;
    size_t n;
    char *lines = read_whole("tests/unit/data/tokenizer_spm.txt", &n), *at = lines;
    const char *name = "";
    struct tokenizer *t = NULL;
    int models = 0, texts = 0, wrong = 0;
    assert_non_null(lines);
    for (struct ids_line l; next_line(&at, &l);) {
        struct err e = { 0 };
        if (!strcmp(l.what, "model")) {
            tokenizer_close(t);
            name = l.text;
            if (tokenizer_from_model(&t, l.rest, from_hex(l.rest), name, &e)) fail_msg("%s: %s", name, e.text);
            models++;
        } else {
            wrong += !same_ids(t, name, &l, false);
            texts++;
        }
    }
    assert_int_equal(models, 7);
    assert_int_equal(texts, models * 23);
    assert_int_equal(wrong, 0);
    tokenizer_close(t);
    mem_free(lines);
}

/* A model as its protocol buffer. */
static void put_varint(struct buf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) buf_add(b, &(char){ (char)(v | 0x80) }, 1);
    buf_add(b, &(char){ (char)v }, 1);
}
static void put_int(struct buf *b, int field, uint64_t v) {
    put_varint(b, (uint64_t)field << 3);
    put_varint(b, v);
}
static void put_bytes(struct buf *b, int field, const char *p, size_t n) {
    put_varint(b, (uint64_t)field << 3 | 2);
    put_varint(b, n);
    buf_add(b, p, n);
}
static void put_piece(struct buf *b, const char *text, float score, int type) {
    struct buf m;
    buf_init(&m, 4096);
    put_bytes(&m, 1, text, strlen(text));
    put_varint(&m, 2 << 3 | 5);
    buf_add(&m, &score, 4);
    if (type != 1) put_int(&m, 3, (uint64_t)type);
    put_bytes(b, 1, m.p, m.n);
    buf_fini(&m);
}
static void put_spec(struct buf *b, int part, int field, uint64_t v) {
    struct buf m;
    buf_init(&m, 64);
    put_int(&m, field, v);
    put_bytes(b, part, m.p, m.n);
    buf_fini(&m);
}
enum { TRAINER = 2, NORMALIZER = 3, MODEL_TYPE = 3, PREFIX = 3, COLLAPSE = 4, ESCAPE = 5, SUFFIX = 24 };
/* <unk> <s> </s> ▁ a b ab ▁ab [X] */
static struct buf small_model(void) {
    struct buf b;
    buf_init(&b, 1 << 20);
    put_piece(&b, "<unk>", 0, 2);
    put_piece(&b, "<s>", 0, 3);
    put_piece(&b, "</s>", 0, 3);
    put_piece(&b, "\xe2\x96\x81", -10, 1);
    put_piece(&b, "a", -11, 1);
    put_piece(&b, "b", -12, 1);
    put_piece(&b, "ab", -1, 1);
    put_piece(&b,
              "\xe2\x96\x81"
              "ab",
              -2, 1);
    put_piece(&b, "[X]", 0, 4);
    put_spec(&b, TRAINER, MODEL_TYPE, 2);
    return b;
}
static struct tokenizer *open_model(const struct buf *b, struct err *e) {
    struct tokenizer *t = NULL;
    const int rc = tokenizer_from_model(&t, b->p, b->n, "tokenizer.model", e);
    assert_true(rc ? !t && e->code == rc : t != NULL);
    return t;
}
static void expect(const struct tokenizer *t, const char *text, bool special, const char *want) {
    char got[200] = "";
    size_t at = 0;
    struct ids ids = { 0 };
    struct err e = { 0 };
    if (tokenizer_encode(t, text, strlen(text), special, &ids, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < ids.n; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%d", i ? " " : "", ids.v[i]);
    assert_string_equal(got, want);
    ids_fini(&ids);
}
static void pieces_and_steps(void **state) {
    (void)state;
    struct err e = { 0 };
    struct buf b = small_model();
    size_t n;
    struct tokenizer *t = open_model(&b, &e);
    if (!t) fail_msg("%s", e.text);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    expect(t, "", false, "");
    expect(t, "ab", false, "7");
    expect(t, "  ab   ab ", false, "7 7");         /* blanks are collapsed unless the file says otherwise */
    expect(t, "ab[X]ab", false, "7 8 6");          /* no prefix behind a user-defined piece */
    expect(t, "ab<s>ab</s>ab", true, "7 1 7 2 7"); /* one behind each control token */
    expect(t, "xyz ab", false, "3 0 7");           /* one unknown for a run */
    expect(t, "</s>", false, "3 0");               /* what a person types stays characters */
    assert_memory_equal(tokenizer_bytes(t, 7, &n), " ab", 3);
    assert_int_equal(n, 3);
    assert_true(tokenizer_is_control(t, 2));
    assert_int_equal(tokenizer_find(t, "</s>"), 2);
    tokenizer_close(t);
    put_spec(&b, NORMALIZER, COLLAPSE, 0);
    assert_non_null(t = open_model(&b, &e));
    expect(t, " ab ", false, "3 7 3");
    tokenizer_close(t);
    put_spec(&b, NORMALIZER, PREFIX, 0);
    assert_non_null(t = open_model(&b, &e));
    expect(t, "ab ab", false, "6 7");
    tokenizer_close(t);
    put_spec(&b, NORMALIZER, ESCAPE, 0);
    assert_non_null(t = open_model(&b, &e));
    expect(t, "ab ab", false, "6 0 6");
    tokenizer_close(t);
    buf_fini(&b);
}
static void what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        const char *what, *says;
        int code;
    } row[] = { { "nothing", "no SentencePiece model", STATUS_FORMAT },
                { "text", "no SentencePiece model", STATUS_FORMAT },
                { "unigram", "a unigram model is not supported", STATUS_INVALID },
                { "words", "a model of words or characters is not supported", STATUS_INVALID },
                { "suffix", "white space as a suffix is not supported", STATUS_INVALID },
                { "charsmap", "normalization by a charsmap is not supported", STATUS_INVALID },
                { "latin", "piece 9 is empty or no UTF-8", STATUS_FORMAT },
                { "empty", "piece 9 is empty", STATUS_FORMAT },
                { "nan", "the score of token 9 is not a number", STATUS_FORMAT },
                { "long", "token 9 has 600 bytes", STATUS_FORMAT } };
    char long_piece[601] = "";
    memset(long_piece, 'a', 600);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *what = row[i].what;
        struct err e = { 0 };
        struct buf b = small_model();
        if (!strcmp(what, "nothing")) buf_reset(&b);
        if (!strcmp(what, "text")) buf_reset(&b), buf_puts(&b, "version https://example");
        if (!strcmp(what, "unigram")) put_spec(&b, TRAINER, MODEL_TYPE, 1);
        if (!strcmp(what, "words")) put_spec(&b, TRAINER, MODEL_TYPE, 3);
        if (!strcmp(what, "suffix")) put_spec(&b, TRAINER, SUFFIX, 1);
        if (!strcmp(what, "charsmap")) put_bytes(&b, NORMALIZER, "\x12\x02xx", 4);
        if (!strcmp(what, "latin")) put_piece(&b, "\xe9", 0, 1);
        if (!strcmp(what, "empty")) put_piece(&b, "", 0, 1);
        if (!strcmp(what, "nan")) put_piece(&b, "c", (float)strtod("nan", NULL), 1);
        if (!strcmp(what, "long")) put_piece(&b, long_piece, 0, 1);
        assert_null(open_model(&b, &e));
        if (e.code != row[i].code || !strstr(e.text, row[i].says)) fail_msg("%s: %d %s", what, e.code, e.text);
        buf_fini(&b);
    }
}
/* Cut anywhere, the reader stops inside: with a sanitizer, a byte too far ends the test. */
static void truncated_and_altered_models(void **state) {
    (void)state;
    struct buf b = small_model();
    srand(5);
    for (size_t n = 0; n < b.n + 400; n++) {
        const size_t len = n < b.n ? n : b.n;
        struct tokenizer *t;
        char *copy = mem_alloc(len);
        if (len) memcpy(copy, b.p, len);
        if (n >= b.n) copy[(size_t)rand() % len] = (char)rand();
        if (!tokenizer_from_model(&t, copy, len, "x", NULL)) {
            struct ids ids = { 0 };
            tokenizer_encode(t, "ab [X] c</s>", 12, true, &ids, NULL);
            ids_fini(&ids);
        }
        tokenizer_close(t);
        mem_free(copy);
    }
    buf_fini(&b);
}
static void every_failing_allocation_is_survived(void **state) {
    (void)state;
    struct buf b = small_model();
    struct tokenizer *t = NULL;
    int rc = -1;
    for (long at = 1; rc; at++) {
        struct err e = { 0 };
        mem_fail_at(at);
        rc = tokenizer_from_model(&t, b.p, b.n, "x", &e);
        mem_fail_at(0);
        assert_true(rc == 0 || (rc == STATUS_NOMEM && !t && e.text[0]));
        assert_true(at < 300 && (rc || at > 8));
    }
    rc = -1;
    for (long at = 1; rc; at++) {
        struct err e = { 0 };
        struct ids ids = { 0 };
        mem_fail_at(at);
        rc = tokenizer_encode(t, "ab  ab[X]</s> ab\xff", 17, true, &ids, &e);
        mem_fail_at(0);
        assert_true(rc == 0 || (rc == STATUS_NOMEM && e.text[0]));
        assert_true(at < 100 && (rc || at > 3));
        ids_fini(&ids);
    }
    tokenizer_close(t);
    buf_fini(&b);
}
/* With a quadratic merge this test never ends. */
static void a_megabyte_of_one_letter(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    struct buf b = small_model();
    struct err e = { 0 };
    struct tokenizer *t = open_model(&b, &e);
    char *text = mem_alloc(N);
    static const char letters[] = "a \xe2z";
    for (int i = 0; i < 4; i++) {
        struct ids ids = { 0 };
        memset(text, letters[i], N);
        if (tokenizer_encode(t, text, N, true, &ids, &e)) fail_msg("%s", e.text);
        assert_true(ids.n <= N + 1);
        ids_fini(&ids);
    }
    mem_free(text);
    tokenizer_close(t);
    buf_fini(&b);
}

/* The same pieces as a GGUF has them; scores -1: left out. */
static struct gguf *small_gguf(bool scores, int prefix) {
    static const char *const text[] = { "<unk>",
                                        "<s>",
                                        "</s>",
                                        "\xe2\x96\x81",
                                        "a",
                                        "b",
                                        "ab",
                                        "\xe2\x96\x81"
                                        "ab",
                                        "[X]",
                                        "<0xC3>" };
    static const int type[] = { 2, 3, 3, 1, 1, 1, 1, 1, 4, 6 };
    static const float score[] = { 0, 0, 0, -10, -11, -12, -1, -2, 0, 0 };
    enum { N = 10 };
    struct buf b;
    uint64_t kvs = 5;
    put_head(&b, 3);
    put_string(&b, "tokenizer.ggml.model", "llama");
    put_array(&b, "tokenizer.ggml.tokens", T_STRING, N);
    for (int i = 0; i < N; i++) put_text(&b, text[i]);
    put_array(&b, "tokenizer.ggml.token_type", T_I32, N);
    for (int i = 0; i < N; i++) put_le(&b, (uint64_t)type[i], 4);
    put_u32(&b, "tokenizer.ggml.bos_token_id", 1);
    put_string(&b, "tokenizer.chat_template", "{{ x }}");
    if (scores) {
        put_array(&b, "tokenizer.ggml.scores", T_F32, N);
        for (int i = 0; i < N; i++) buf_add(&b, &score[i], 4);
        kvs++;
    }
    if (prefix >= 0) put_bool(&b, "tokenizer.ggml.add_space_prefix", prefix), kvs++;
    put_counts(&b, 0, kvs);
    struct gguf *g = NULL;
    assert_int_equal(gguf_parse(&g, b.p, b.n, b.n, NULL), 0);
    buf_fini(&b);
    return g;
}
static void the_same_from_a_gguf(void **state) {
    (void)state;
    struct err e = { 0 };
    struct gguf *g = small_gguf(true, -1);
    struct tokenizer *t;
    size_t n;
    if (tokenizer_from_gguf(&t, g, &e)) fail_msg("%s", e.text);
    gguf_close(g);
    assert_int_equal(tokenizer_bos(t), 1); /* these models want it, unless the file says no */
    assert_int_equal(tokenizer_eos(t), -1);
    assert_string_equal(tokenizer_chat_template(t, &n), "{{ x }}");
    assert_int_equal(n, 7);
    expect(t, "ab ab", false, "7 7");
    expect(t, " ab", false, "3 7");
    expect(t, "ab[X]ab", false, "7 8 7"); /* as llama.cpp: a prefix behind every token found in the text */
    expect(t, "ab</s>ab", true, "7 2 7");
    expect(t, "\xc3", false, "3 9");
    tokenizer_close(t);
    g = small_gguf(true, 0);
    assert_int_equal(tokenizer_from_gguf(&t, g, &e), 0);
    expect(t, "ab ab", false, "6 7");
    tokenizer_close(t);
    gguf_close(g);
    g = small_gguf(false, 0);
    assert_int_equal(tokenizer_from_gguf(&t, g, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "tokenizer.ggml.scores does not have one number for each token"));
    gguf_close(g);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trained_models_give_the_reference_ids),
        cmocka_unit_test(pieces_and_steps),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(truncated_and_altered_models),
        cmocka_unit_test(every_failing_allocation_is_survived),
        cmocka_unit_test(a_megabyte_of_one_letter),
        cmocka_unit_test(the_same_from_a_gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
