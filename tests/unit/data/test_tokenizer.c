#include "base/mem.h"
#include "data/tokenizer.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "vocab_build.h"
#include <cmocka.h>

static struct tokenizer *open_plain(const char *pre) {
    const struct vocab v = plain_vocab(pre);
    struct gguf *g = vocab_gguf(&v);
    struct tokenizer *t;
    struct err e = { 0 };
    assert_non_null(g);
    if (tokenizer_from_gguf(&t, g, &e)) fail_msg("%s", e.text);
    gguf_close(g); /* the tokenizer owns what it needs */
    return t;
}
#define IDS(...) (const int[]){ __VA_ARGS__ }, sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int)
static void expect_ids(const struct tokenizer *t, const char *text, size_t n, bool special, const int *want,
                       size_t many) {
    struct ids ids = { 0 };
    struct err e = { 0 };
    if (tokenizer_encode(t, text, n, special, &ids, &e)) fail_msg("%s", e.text);
    assert_int_equal(ids.n, many);
    if (many) assert_memory_equal(ids.v, want, many * sizeof(int));
    ids_fini(&ids);
}
#define EXPECT(t, text, special, ...) expect_ids(t, text, sizeof text - 1, special, IDS(__VA_ARGS__))

static void merges_go_by_rank_then_from_the_left(void **state) {
    (void)state;
    struct tokenizer *t = open_plain("gpt-2");
    EXPECT(t, "hello", false, HELLO);
    EXPECT(t, "hello hello", false, HELLO, SP_HELLO);
    EXPECT(t, "hell", false, HELL);
    EXPECT(t, "lll", false, LL, 'l');
    EXPECT(t, "aab", false, 'a', AB); /* "a b" ranks before "a a" */
    EXPECT(t, "aaaaa", false, AAAA, 'a');
    EXPECT(t, "aaaaaaa", false, AAAA, AA, 'a');
    EXPECT(t, " a", false, SP_A);
    EXPECT(t, "  a", false, ' ', SP_A);
    EXPECT(t, "a b", false, 'a', ' ', 'b'); /* pieces do not merge over their border */
    EXPECT(t, "1212", false, N12, N12);
    expect_ids(t, "", 0, false, NULL, 0);
    tokenizer_close(t);
}
static void digits_stand_alone_in_smollm(void **state) {
    (void)state;
    struct tokenizer *t = open_plain("smollm");
    EXPECT(t, "12", false, '1', '2');
    EXPECT(t, " 1", false, ' ', '1');
    EXPECT(t, "a1a", false, 'a', '1', 'a');
    tokenizer_close(t);
}
static void control_tokens_only_where_asked(void **state) {
    (void)state;
    struct tokenizer *t = open_plain("gpt-2");
    EXPECT(t, "a<|im_end|>a", true, 'a', IM_END, 'a');
    EXPECT(t, "<|im_end|><|im_start|>", true, IM_END, IM_START);
    EXPECT(t, "<|im_<|im_end|>", true, '<', '|', 'i', 'm', '_', IM_END);
    EXPECT(t, "<|im_end|", true, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|');
    EXPECT(t, "<|im_end|>", false, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>');
    EXPECT(t, "a[user]a", false, 'a', USER, 'a');    /* user-defined ones always */
    EXPECT(t, "[user]s[user]", false, USER_S, USER); /* the longest */
    assert_true(tokenizer_is_control(t, IM_END));
    assert_false(tokenizer_is_control(t, USER));
    assert_false(tokenizer_is_control(t, 'a'));
    assert_false(tokenizer_is_control(t, -1));
    assert_false(tokenizer_is_control(t, PLAIN_N));
    tokenizer_close(t);
}
static void comes_back(const struct tokenizer *t, const char *in, size_t n) {
    char out[300];
    size_t made = 0;
    struct ids ids = { 0 };
    assert_int_equal(tokenizer_encode(t, in, n, true, &ids, NULL), 0);
    for (size_t i = 0; i < ids.n; i++) {
        size_t len;
        const char *p = tokenizer_bytes(t, ids.v[i], &len);
        assert_non_null(p);
        assert_true(made + len <= n);
        memcpy(out + made, p, len);
        made += len;
    }
    assert_int_equal(made, n);
    assert_memory_equal(in, out, n);
    ids_fini(&ids);
}
static void any_bytes_come_back(void **state) {
    (void)state;
    static const char *const pre[] = { "gpt-2", "smollm", "llama-bpe", "default" };
    static const char likely[] = "a h\xed\x95\x9c\xff\0\n1";
    srand(3);
    for (int round = 0; round < 400; round++) {
        struct tokenizer *t = open_plain(pre[round % 4]);
        char in[300];
        const size_t n = (size_t)rand() % sizeof in;
        for (size_t i = 0; i < n; i++) in[i] = (char)(round / 4 % 2 ? rand() : likely[(size_t)rand() % sizeof likely]);
        comes_back(t, in, n);
        tokenizer_close(t);
    }
}
static void ids_and_texts(void **state) {
    (void)state;
    struct tokenizer *t = open_plain("smollm");
    size_t n;
    assert_int_equal(tokenizer_vocab(t), PLAIN_N);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_int_equal(tokenizer_eos(t), IM_END);
    assert_int_equal(tokenizer_find(t, "<|im_end|>"), IM_END);
    assert_int_equal(tokenizer_find(t, " hello"), SP_HELLO);
    assert_int_equal(tokenizer_find(t, "\xed\x95\x9c"), HAN);
    assert_int_equal(tokenizer_find(t, "nothing"), -1);
    assert_memory_equal(tokenizer_bytes(t, SP_HELLO, &n), " hello", 6);
    assert_int_equal(n, 6);
    assert_memory_equal(tokenizer_bytes(t, UNK, &n), "<unk>", 5);
    assert_null(tokenizer_bytes(t, PLAIN_N, &n));
    assert_int_equal(n, 0);
    assert_null(tokenizer_bytes(t, -1, &n));
    tokenizer_close(t);
}
static void bos_where_the_file_or_the_family_asks(void **state) {
    (void)state;
    static const struct {
        const char *pre;
        int add, want;
    } row[] = { { "gpt-2", 1, IM_START },
                { "gpt-2", 0, -1 },
                { "gpt-2", -1, -1 },
                { "llama-bpe", -1, IM_START },
                { "llama-bpe", 0, -1 } };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct vocab v = plain_vocab(row[i].pre);
        v.add_bos = row[i].add;
        struct gguf *g = vocab_gguf(&v);
        struct tokenizer *t;
        assert_int_equal(tokenizer_from_gguf(&t, g, NULL), 0);
        assert_int_equal(tokenizer_bos(t), row[i].want);
        tokenizer_close(t);
        gguf_close(g);
    }
}
static void llama3_takes_whole_tokens_and_three_digits(void **state) {
    (void)state;
    struct tokenizer *t = open_plain("llama-bpe");
    EXPECT(t, "\xed\x95\x9c", false, HAN);         /* no merge makes it */
    EXPECT(t, "12121", false, N12, '1', '2', '1'); /* 121 and 21 are apart */
    tokenizer_close(t);
    t = open_plain("gpt-2");
    EXPECT(t, "\xed\x95\x9c", false, 0xed, 0x95, 0x9c);
    tokenizer_close(t);
}
/* A megabyte that is one piece: with a quadratic merge this test never ends. */
static void a_megabyte_of_one_letter(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    char *text = mem_alloc(N);
    struct tokenizer *t = open_plain("smollm");
    static const struct {
        char letter;
        size_t ids;
    } row[] = { { 'a', N / 4 }, { 'l', N / 2 }, { 'z', N }, { ' ', N }, { '1', N }, { '\n', N }, { '\xed', N } };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct ids ids = { 0 };
        struct err e = { 0 };
        memset(text, row[i].letter, N);
        if (tokenizer_encode(t, text, N, true, &ids, &e)) fail_msg("%s", e.text);
        assert_int_equal(ids.n, row[i].ids);
        ids_fini(&ids);
    }
    struct ids ids = { 0 };
    struct err e = { 0 };
    assert_int_equal(tokenizer_encode(t, text, (size_t)65 << 20, true, &ids, &e), STATUS_INVALID);
    assert_non_null(strstr(e.text, "too long"));
    tokenizer_close(t);
    mem_free(text);
}

static void wrong_vocabularies_are_named(void **state) {
    (void)state;
    static const char *const bad_merges[][2] = { { "zz a" },  { "a z" },           { "ab" }, { " a" }, { "a " },
                                                 { "a b c" }, { "\xe2\x82\xac a" } };
    struct tokenizer *t;
    for (size_t i = 0; i < sizeof bad_merges / sizeof *bad_merges; i++) {
        struct vocab v = plain_vocab("gpt-2");
        struct err e = { 0 };
        v.merge = bad_merges[i];
        struct gguf *g = vocab_gguf(&v);
        assert_int_equal(tokenizer_from_gguf(&t, g, &e), STATUS_FORMAT);
        assert_null(t);
        assert_non_null(strstr(e.text, "merge 0 makes or needs a token that is not there"));
        gguf_close(g);
    }
    static const struct {
        const char *pre;
        int eos, code;
        const char *says;
    } row[] = {
        { "qwen35", IM_END, STATUS_INVALID, "tokenizer.ggml.pre 'qwen35' is not supported; supported: gpt-2" },
        { "", IM_END, STATUS_INVALID, "tokenizer.ggml.pre ''" },
        { "gpt-2", PLAIN_N, STATUS_FORMAT, "eos_token_id lies outside the vocabulary" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct vocab v = plain_vocab(row[i].pre);
        struct err e = { 0 };
        v.eos = row[i].eos;
        struct gguf *g = vocab_gguf(&v);
        assert_int_equal(tokenizer_from_gguf(&t, g, &e), row[i].code);
        assert_non_null(strstr(e.text, row[i].says));
        gguf_close(g);
    }
}
static void a_file_without_a_tokenizer_says_so(void **state) {
    (void)state;
    static const char *const texts[][2] = { { "tokenizer.ggml.model", "bert" },
                                            { "other", "x" },
                                            { "tokenizer.ggml.model", "gpt2" } },
                             *const says[] = { "tokenizer 'bert' is not supported", "holds no tokenizer",
                                               "tokens is missing" };
    for (int i = 0; i < 3; i++) {
        struct buf b;
        struct gguf *g;
        struct tokenizer *t;
        struct err e = { 0 };
        put_head(&b, 3);
        put_string(&b, texts[i][0], texts[i][1]);
        put_counts(&b, 0, 1);
        assert_int_equal(gguf_parse(&g, b.p, b.n, b.n, NULL), 0);
        assert_true(tokenizer_from_gguf(&t, g, &e) < 0);
        assert_non_null(strstr(e.text, says[i]));
        gguf_close(g);
        buf_fini(&b);
    }
}
static void every_failing_allocation_is_survived(void **state) {
    (void)state;
    const struct vocab v = plain_vocab("smollm");
    struct gguf *g = vocab_gguf(&v);
    struct tokenizer *t = NULL;
    int rc = -1;
    for (long at = 1; rc; at++) {
        struct err e = { 0 };
        mem_fail_at(at);
        rc = tokenizer_from_gguf(&t, g, &e);
        mem_fail_at(0);
        assert_true(rc == 0 || (rc == STATUS_NOMEM && !t));
        assert_true(at < 200 && (rc || at > 8));
    }
    gguf_close(g);
    rc = -1;
    for (long at = 1; rc; at++) {
        struct err e = { 0 };
        struct ids ids = { 0 };
        mem_fail_at(at);
        rc = tokenizer_encode(t, "hello a 12 [user]<|im_end|> hello\xff hello", 41, true, &ids, &e);
        mem_fail_at(0);
        assert_true(rc == 0 || (rc == STATUS_NOMEM && e.text[0]));
        assert_true(at < 100 && (rc || at > 3));
        ids_fini(&ids);
    }
    tokenizer_close(t);
}

struct many {
    const struct tokenizer *t;
    int wrong;
};
static void *encode_often(void *arg) {
    struct many *m = arg;
    for (int i = 0; i < 200; i++) {
        struct ids ids = { 0 };
        const int rc = tokenizer_encode(m->t, "hello hello 12 aaaa", 19, false, &ids, NULL);
        m->wrong += rc || ids.n != 7 || ids.v[0] != HELLO || ids.v[6] != AAAA;
        ids_fini(&ids);
    }
    return NULL;
}
static void any_thread_may_encode(void **state) {
    (void)state;
    struct tokenizer *t = open_plain("smollm");
    pthread_t thread[4];
    struct many many[4];
    for (int i = 0; i < 4; i++) {
        many[i] = (struct many){ t, 0 };
        assert_int_equal(pthread_create(&thread[i], NULL, encode_often, &many[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(many[i].wrong, 0);
    }
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_go_by_rank_then_from_the_left),
        cmocka_unit_test(digits_stand_alone_in_smollm),
        cmocka_unit_test(control_tokens_only_where_asked),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(ids_and_texts),
        cmocka_unit_test(bos_where_the_file_or_the_family_asks),
        cmocka_unit_test(llama3_takes_whole_tokens_and_three_digits),
        cmocka_unit_test(a_megabyte_of_one_letter),
        cmocka_unit_test(wrong_vocabularies_are_named),
        cmocka_unit_test(a_file_without_a_tokenizer_says_so),
        cmocka_unit_test(every_failing_allocation_is_survived),
        cmocka_unit_test(any_thread_may_encode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
