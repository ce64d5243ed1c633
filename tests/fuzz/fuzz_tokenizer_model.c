/* A SentencePiece tokenizer.model; its own bytes are the text for it as well. */
#include "data/tokenizer.h"
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tokenizer *t;
    struct err e = { 0 };
    if (size > 1 << 16) return 0;
    if (tokenizer_from_model(&t, data, size, "tokenizer.model", &e)) {
        if (t || !e.text[0]) __builtin_trap();
        return 0;
    }
    for (int special = 0; special < 2; special++) {
        struct ids ids = { 0 };
        if (tokenizer_encode(t, (const char *)data, size, special, &ids, NULL)) __builtin_trap();
        for (size_t i = 0; i < ids.n; i++) {
            size_t len;
            if (!tokenizer_bytes(t, ids.v[i], &len)) __builtin_trap();
            if (!special && tokenizer_is_control(t, ids.v[i])) __builtin_trap();
        }
        ids_fini(&ids);
    }
    tokenizer_close(t);
    return 0;
}
