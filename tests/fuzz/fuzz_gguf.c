/* Any bytes as a GGUF file: its header, everything its values are read through, its configuration, its tokenizer. */
#include "data/config.h"
#include "data/tokenizer.h"
#include <string.h>

static const char *const keys[] = { "general.architecture",  "general.alignment",         "tokenizer.ggml.tokens",
                                    "tokenizer.ggml.merges", "tokenizer.ggml.token_type", "k" };

static void read_values(const struct gguf *g) {
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        struct gguf_string s;
        int64_t i;
        double d;
        bool b;
        gguf_int(g, keys[k], &i);
        gguf_number(g, keys[k], &d);
        gguf_bool(g, keys[k], &b);
        if (gguf_text(g, keys[k], &s) && s.n && !memchr(s.p, s.p[s.n - 1], s.n)) __builtin_trap();
        const size_t n = gguf_array_len(g, keys[k]);
        for (size_t at = 0; at < n && at < 1000; at++) {
            gguf_array_int(g, keys[k], at, &i);
            if (gguf_array_text(g, keys[k], at, &s) && s.n && !memchr(s.p, s.p[s.n - 1], s.n)) __builtin_trap();
        }
    }
}
/* What the parser promises about tensors that it lets through. */
static void check_tensors(const struct gguf *g) {
    for (int i = 0; i < gguf_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (t->offset > gguf_file_bytes(g) || t->bytes > gguf_file_bytes(g) - t->offset) __builtin_trap();
        if (gguf_tensor_find(g, t->name) != t || t->dims < 1 || t->dims > 4) __builtin_trap();
    }
}
static void check_config(const struct gguf *g) {
    struct model_config c;
    struct err e = { 0 };
    if (config_from_gguf(&c, g, &e)) {
        if (!e.text[0]) __builtin_trap();
        return;
    }
    if (c.heads % c.kv_heads || c.head_dim % 2 || c.rope_dims > c.head_dim || c.vocab < 1) __builtin_trap();
}
static void try_tokenizer(const struct gguf *g) {
    static const char text[] = "a hello <|im_end|> 12\xed\x95\x9c\xff\n\n";
    struct tokenizer *t;
    struct ids ids = { 0 };
    if (tokenizer_from_gguf(&t, g, NULL)) return;
    tokenizer_encode(t, text, sizeof text, true, &ids, NULL);
    for (size_t i = 0; i < ids.n; i++) {
        size_t n;
        if (!tokenizer_bytes(t, ids.v[i], &n)) __builtin_trap();
    }
    ids_fini(&ids);
    tokenizer_close(t);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Once as the whole file, once as the start of a huge one, so that tensors without their bytes pass too. */
    static const uint64_t more[] = { 0, (uint64_t)1 << 50 };
    for (int i = 0; i < 2; i++) {
        struct gguf *g;
        struct err e = { 0 };
        if (gguf_parse(&g, data, size, size + more[i], &e)) {
            if (g || !e.code || !e.text[0]) __builtin_trap();
            continue;
        }
        read_values(g);
        check_tensors(g);
        check_config(g);
        try_tokenizer(g);
        gguf_close(g);
    }
    return 0;
}
