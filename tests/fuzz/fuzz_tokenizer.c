/* Any bytes as text: the first byte chooses the family and whether control tokens are read. The tokens must give the
 * bytes back, and nothing that a message holds may become a control token. */
#include "../unit/data/vocab_build.h"
#include "data/template.h"
#include <stdlib.h>

static struct tokenizer *families[3];

static void open_families(void) {
    static const char *const pre[] = { "gpt-2", "smollm", "llama-bpe" };
    for (int i = 0; i < 3; i++) {
        struct vocab v = plain_vocab(pre[i]);
        struct gguf *g = vocab_gguf(&v);
        if (!g || tokenizer_from_gguf(&families[i], g, NULL)) __builtin_trap();
        gguf_close(g);
    }
}
static void check_bytes(const struct tokenizer *t, const struct ids *ids, const char *text, size_t n) {
    size_t at = 0;
    for (size_t i = 0; i < ids->n; i++) {
        size_t len;
        const char *p = tokenizer_bytes(t, ids->v[i], &len);
        if (!p || len > n - at || memcmp(p, text + at, len)) __builtin_trap();
        at += len;
    }
    if (at != n) __builtin_trap();
}
static void check_template(const struct tokenizer *t, const char *text, size_t n) {
    const struct template_message m[] = { { "user", text, n / 2, 0 }, { "assistant", text + n / 2, n - n / 2, 0 } };
    struct rendered r = { 0 };
    struct ids ids = { 0 };
    if (template_render("chatml", NULL, m, 2, &r, NULL) || template_encode(t, &r, &ids, NULL)) __builtin_trap();
    int controls = 0;
    for (size_t i = 0; i < ids.n; i++) controls += tokenizer_is_control(t, ids.v[i]);
    if (controls != 5) __builtin_trap();
    check_bytes(t, &ids, r.text.p, r.text.n);
    ids_fini(&ids);
    rendered_fini(&r);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!families[0]) open_families();
    if (!size || size > 1 << 18) return 0;
    const struct tokenizer *t = families[data[0] / 2 % 3];
    const char *text = (const char *)data + 1;
    struct ids ids = { 0 };
    if (tokenizer_encode(t, text, size - 1, data[0] % 2, &ids, NULL)) __builtin_trap();
    check_bytes(t, &ids, text, size - 1);
    for (size_t i = 0; i < ids.n && data[0] % 2 == 0; i++)
        if (tokenizer_is_control(t, ids.v[i])) __builtin_trap();
    ids_fini(&ids);
    check_template(t, text, size - 1);
    return 0;
}
