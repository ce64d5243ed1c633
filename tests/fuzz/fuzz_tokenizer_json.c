/* A tokenizer.json, and behind a NUL a text for it. What is read must encode without fault, give ids of its own and,
 * where control tokens do not count, none of those. */
#include "data/tokenizer_parts.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void check(const struct tokenizer *t, const char *text, size_t n, bool special) {
    struct ids ids = { 0 };
    struct err e = { 0 };
    const int rc = tokenizer_encode(t, text, n, special, &ids, &e);
    if (rc && !e.text[0]) __builtin_trap();
    for (size_t i = 0; i < ids.n; i++) {
        size_t len;
        if (!tokenizer_bytes(t, ids.v[i], &len)) __builtin_trap();
        if (!special && tokenizer_is_control(t, ids.v[i]) && ids.v[i] != t->unk) __builtin_trap();
    }
    ids_fini(&ids);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *json = (const char *)data, *nul = memchr(data, 0, size);
    const size_t n = nul ? (size_t)(nul - json) : size;
    struct tokenizer *t;
    struct err e = { 0 };
    if (size > 1 << 16) return 0;
    if (tokenizer_from_json(&t, json, n, "tokenizer.json", &e)) {
        if (t || !e.text[0]) __builtin_trap();
        return 0;
    }
    const char *text = nul ? nul + 1 : "ab 한국 a\xff<s> ab";
    const size_t len = nul ? size - n - 1 : strlen(text);
    check(t, text, len, false);
    check(t, text, len, true);
    tokenizer_close(t);
    return 0;
}
