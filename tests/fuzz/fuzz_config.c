/* Any text as config.json, as generation_config.json, and as a catalogue. */
#include "base/mem.h"
#include "data/catalog.h"
#include <string.h>

/* What every layer above relies on. */
static void check(const struct model_config *c) {
    if (c->layers < 1 || c->hidden < 1 || c->ffn < 1 || c->vocab < 1 || c->context < 1) __builtin_trap();
    if (c->heads < 1 || c->kv_heads < 1 || c->heads % c->kv_heads || c->head_dim < 2 || c->head_dim % 2)
        __builtin_trap();
    if (c->rope_dims < 2 || c->rope_dims % 2 || c->rope_dims > c->head_dim) __builtin_trap();
    if (!(c->rope_theta >= 1) || !(c->norm_eps > 0) || c->eos_n < 0 || c->eos_n > CONFIG_EOS) __builtin_trap();
    if ((int64_t)c->heads * c->head_dim > 1 << 24) __builtin_trap();
    for (int i = 0; i < c->eos_n; i++)
        if (c->eos[i] < 0 || c->eos[i] >= c->vocab) __builtin_trap();
    if (!strlen(c->arch)) __builtin_trap();
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct model_config c;
    struct err e = { 0 }, other = { 0 };
    if (config_from_json(&c, (const char *)data, size, "fuzz", &e)) {
        if (!e.code || !e.text[0]) __builtin_trap();
        c = (struct model_config){ .vocab = 100 };
    } else {
        check(&c);
    }
    if (config_add_generation(&c, (const char *)data, size, "fuzz", &other) && !other.text[0]) __builtin_trap();
    struct catalog_entry *list;
    const int n = catalog_parse(&list, (const char *)data, size, NULL);
    if ((n < 0) != !list) __builtin_trap();
    for (int i = 0; i < n; i++) {
        check(&list[i].config);
        if (!list[i].name || !list[i].aliases || !list[i].get || !list[i].about) __builtin_trap();
        catalog_find_in(list, n, list[i].name, NULL);
    }
    mem_free(list);
    return 0;
}
