/* vocab_build.h - a small byte-level vocabulary as a GGUF, for tests. Ids 0..255 are the bytes, then as listed. */
#ifndef JAEDA_TESTS_VOCAB_BUILD_H
#define JAEDA_TESTS_VOCAB_BUILD_H
#include "base/utf8.h"
#include "data/tokenizer.h"
#include "gguf_build.h"

struct vocab {
    const char *pre;          /* NULL: key left out */
    const char *const *token; /* after the bytes; NULL ends */
    const int *type;          /* of those */
    const char *const *merge; /* NULL ends */
    int bos, eos, add_bos;    /* -1: key left out */
};
enum { V_NORMAL = 1, V_UNKNOWN = 2, V_CONTROL = 3, V_USER = 4 };

/* GPT-2's alphabet, from its definition: printable Latin-1 as it is, the others counted up from U+0100. */
static inline void put_byte_token(struct buf *b, int byte) {
    uint32_t cp = 0x100;
    for (int i = 0; i <= byte; i++) {
        const bool printable = (i >= '!' && i <= '~') || (i >= 0xa1 && i <= 0xac) || i >= 0xae;
        if (i == byte && printable) cp = (uint32_t)byte;
        if (i < byte && !printable) cp++;
    }
    char s[5] = { 0 };
    s[utf8_encode(cp, s)] = 0;
    put_text(b, s);
}
static inline int vocab_count(const char *const *list) {
    int n = 0;
    while (list[n]) n++;
    return n;
}
static inline struct gguf *vocab_gguf(const struct vocab *v) {
    struct buf b;
    const int n = vocab_count(v->token);
    uint64_t kvs = 4;
    put_head(&b, 3);
    put_string(&b, "tokenizer.ggml.model", "gpt2");
    put_array(&b, "tokenizer.ggml.tokens", T_STRING, (uint64_t)(256 + n));
    for (int i = 0; i < 256; i++) put_byte_token(&b, i);
    for (int i = 0; i < n; i++) put_text(&b, v->token[i]);
    put_array(&b, "tokenizer.ggml.token_type", T_I32, (uint64_t)(256 + n));
    for (int i = 0; i < 256 + n; i++) put_le(&b, (uint64_t)(i < 256 ? V_NORMAL : v->type[i - 256]), 4);
    put_array(&b, "tokenizer.ggml.merges", T_STRING, (uint64_t)vocab_count(v->merge));
    for (int i = 0; v->merge[i]; i++) put_text(&b, v->merge[i]);
    if (v->pre) put_string(&b, "tokenizer.ggml.pre", v->pre), kvs++;
    if (v->bos >= 0) put_u32(&b, "tokenizer.ggml.bos_token_id", (uint32_t)v->bos), kvs++;
    if (v->eos >= 0) put_u32(&b, "tokenizer.ggml.eos_token_id", (uint32_t)v->eos), kvs++;
    if (v->add_bos >= 0) put_bool(&b, "tokenizer.ggml.add_bos_token", v->add_bos), kvs++;
    put_counts(&b, 0, kvs);
    struct gguf *g = NULL;
    gguf_parse(&g, b.p, b.n, b.n, NULL);
    buf_fini(&b);
    return g;
}

/* 256 <|im_start|>, 257 <|im_end|>, 258 [user], 259.. merges; every letter run merges in known ways. */
static const char *const plain_tokens[] = { "<|im_start|>",
                                            "<|im_end|>",
                                            "[user]",
                                            "[user]s",
                                            "aa",
                                            "aaaa",
                                            "ab",
                                            "\xc4\xa0"
                                            "a",
                                            "he",
                                            "ll",
                                            "hell",
                                            "hello",
                                            "\xc4\xa0hello",
                                            "12",
                                            "\xc3\xad\xc4\xb7\xc4\xbe",
                                            "<unk>",
                                            NULL };
static const int plain_types[] = { V_CONTROL, V_CONTROL, V_USER, V_USER, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, V_UNKNOWN };
static const char *const plain_merges[] = { "h e",
                                            "l l",
                                            "he ll",
                                            "hell o",
                                            "\xc4\xa0 hello",
                                            "a b",
                                            "a a",
                                            "aa aa",
                                            "\xc4\xa0 "
                                            "a",
                                            "1 2",
                                            NULL };
enum {
    IM_START = 256,
    IM_END,
    USER,
    USER_S,
    AA,
    AAAA,
    AB,
    SP_A,
    HE,
    LL,
    HELL,
    HELLO,
    SP_HELLO,
    N12,
    HAN,
    UNK,
    PLAIN_N
};
static inline struct vocab plain_vocab(const char *pre) {
    return (struct vocab){ pre, plain_tokens, plain_types, plain_merges, IM_START, IM_END, 0 };
}

#endif
