/* Which bytes of which tensor a model's weights are, and what is said when a checkpoint does not fit its configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* before cmocka.h, which needs them */
#include "base/buf.h"
#include "base/mem.h"
#include "data/catalog.h"
#include "data/folder_build.h"
#include "model/model.h"
#include <cmocka.h>

enum { HIDDEN = 32, HEADS = 2, HD = 16, FFN = 48, VOCAB = 211, LAYERS = 2 };
static const struct model_config neox = { .arch = "gptneox",
                                          .layers = LAYERS,
                                          .hidden = HIDDEN,
                                          .heads = HEADS,
                                          .kv_heads = HEADS,
                                          .head_dim = HD,
                                          .ffn = FFN,
                                          .vocab = VOCAB,
                                          .context = 64,
                                          .rope_dims = 4,
                                          .rope_theta = 10000,
                                          .norm_eps = 1e-5f,
                                          .act = CONFIG_GELU,
                                          .dtype = DTYPE_F16,
                                          .parallel = true,
                                          .attn_bias = true,
                                          .mlp_bias = true,
                                          .qkv_by_head = true };
static struct model_config llama(bool tied, bool attn_bias, bool mlp_bias) {
    struct model_config c = neox;
    snprintf(c.arch, sizeof c.arch, "llama");
    c.kv_heads = 1;
    c.rope_dims = HD;
    c.act = CONFIG_SILU;
    c.parallel = c.qkv_by_head = false;
    c.tied = tied;
    c.attn_bias = attn_bias;
    c.mlp_bias = mlp_bias;
    return c;
}
static struct model *imagined(const struct model_config *c) {
    struct model *m;
    struct err e = { 0 };
    if (model_open(&m, NULL, c, DTYPE_NONE, &e)) fail_msg("%s", e.text);
    return m;
}
static struct weight *find(struct model *m, const char *name, int nth) {
    for (int i = 0; i < model_weights(m); i++)
        if (!strcmp(model_weight(m, i)->name, name) && !nth--) return model_weight(m, i);
    fail_msg("no weight %s", name);
    return NULL;
}

/* A safetensors file with what the configuration asks for, but: */
struct change {
    const char *skip, *odd, *other, *dtype; /* left out; one row too many; another dtype of `other` */
    const char *extra, *extra_dtype;        /* one tensor more */
};
static void put(struct buf *head, const char *name, const char *dtype, int rows, int cols, uint64_t *at) {
    char text[300], shape[32];
    const uint64_t bytes = (uint64_t)rows * (uint64_t)cols * (strcmp(dtype, "BOOL") ? 2 : 1);
    snprintf(shape, sizeof shape, cols == 1 ? "%d" : "%d,%d", rows, cols);
    snprintf(text, sizeof text, "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
             head->n ? ',' : '{', name, dtype, shape, (unsigned long long)*at, (unsigned long long)(*at + bytes));
    buf_puts(head, text);
    *at += bytes;
}
static const char *write_file(const struct model_config *c, const struct change *how) {
    struct model *m = imagined(c);
    struct buf head;
    uint64_t at = 0;
    buf_init(&head, 1 << 20);
    for (int i = 0; i < model_weights(m); i++) {
        const struct weight *w = model_weight(m, i);
        bool again = false;
        for (int k = 0; k < i; k++) again |= !strcmp(model_weight(m, k)->name, w->name);
        if (again || (how->skip && !strcmp(how->skip, w->name))) continue;
        const int rows = (int)(w->bytes / 2) / w->cols + (how->odd && !strcmp(how->odd, w->name));
        put(&head, w->name, how->other && !strcmp(how->other, w->name) ? how->dtype : "F16", rows, w->cols, &at);
    }
    if (how->extra) put(&head, how->extra, how->extra_dtype ? how->extra_dtype : "F16", VOCAB, HIDDEN, &at);
    buf_puts(&head, "}");
    char size[8];
    for (int i = 0; i < 8; i++) size[i] = (char)(head.n >> (8 * i));
    FILE *f = fopen(folder_at("m.safetensors"), "wb");
    assert_non_null(f);
    assert_true(fwrite(size, 1, 8, f) == 8 && fwrite(head.p, 1, head.n, f) == head.n);
    assert_int_equal(fflush(f) || ftruncate(fileno(f), (off_t)(8 + head.n + at)), 0);
    fclose(f);
    buf_fini(&head);
    model_close(m);
    return folder_at("m.safetensors");
}
static int open_file(struct checkpoint **file, struct model **m, const struct model_config *c, struct change how,
                     struct err *e) {
    *m = NULL;
    if (checkpoint_open(file, write_file(c, &how), e)) fail_msg("%s", e->text);
    return model_open(m, *file, c, DTYPE_NONE, e);
}
static void close_file(struct checkpoint *file, struct model *m) {
    model_close(m);
    checkpoint_close(file);
}
static void binds(struct model_config c, struct change how) {
    struct checkpoint *file;
    struct model *m;
    struct err e = { 0 };
    if (open_file(&file, &m, &c, how, &e)) fail_msg("%s", e.text);
    close_file(file, m);
}
static void says(struct model_config c, struct change how, const char *name, const char *why) {
    struct checkpoint *file;
    struct model *m;
    struct err e = { 0 };
    assert_int_equal(open_file(&file, &m, &c, how, &e), STATUS_FORMAT);
    assert_null(m);
    if (strncmp(e.text, name, strlen(name)) != 0 || !strstr(e.text, why))
        fail_msg("'%s' does not name '%s' or say '%s'", e.text, name, why);
    close_file(file, m);
}

static void test_published_parameter_counts(void **state) {
    (void)state;
    static const struct { /* sums of the published tensors' shapes */
        const char *name;
        uint64_t params;
    } known[] = { { "polyglot-ko-1.3b", 1331810304 },  { "polyglot-ko-3.8b", 3809974272 },
                  { "polyglot-ko-5.8b", 5885059072 },  { "polyglot-ko-12.8b", 12893603840 },
                  { "koalpaca-5.8b", 5885059072 },     { "koalpaca-12.8b", 12892815360 },
                  { "kullm-12.8b-v2", 12893603840 },   { "llama-2-7b-chat", 6738415616 },
                  { "llama-2-13b-chat", 13015864320 }, { "smollm2-135m", 134515008 } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct err e = { 0 };
        const struct catalog_entry *entry = catalog_find(known[i].name, &e);
        if (!entry) fail_msg("%s", e.text);
        struct model *m = imagined(&entry->config);
        if (model_params(m) != known[i].params)
            fail_msg("%s: %llu parameters", known[i].name, (unsigned long long)model_params(m));
        model_close(m);
    }
}
static void test_weights_without_a_file(void **state) {
    (void)state;
    const struct model_config both[] = { neox, llama(false, true, true) };
    for (int k = 0; k < 2; k++) {
        struct model *m = imagined(&both[k]);
        int biases = 0;
        for (int i = 0; i < model_weights(m); i++) {
            const struct weight *w = model_weight(m, i);
            const size_t n = strlen(w->name);
            const bool bias = n > 5 && !strcmp(w->name + n - 5, ".bias");
            assert_true(bias || (n > 7 && !strcmp(w->name + n - 7, ".weight")));
            assert_true(!bias || w->cols == 1);
            assert_int_equal(w->dt, DTYPE_F16);
            assert_int_equal(w->file, 0);
            assert_true(w->offset == 0 && w->bytes % ((uint64_t)w->cols * 2) == 0 && !w->packed);
            biases += bias;
        }
        assert_int_equal(biases, k ? 7 * LAYERS : 8 * LAYERS + 1); /* q k v counted one by one */
        model_close(m);
    }
    struct model_config c = neox;
    c.dtype = DTYPE_NONE;
    struct model *m = imagined(&c);
    assert_int_equal(model_weight(m, 0)->dt, DTYPE_F16);
    model_close(m);
}
/* Rows of [heads][q k v][head_dim] in HF files, of [q k v][heads][head_dim] in GGUF files. */
static void test_rows_of_q_k_and_v(void **state) {
    (void)state;
    static const char *const names[] = { "gpt_neox.layers.1.attention.query_key_value.weight",
                                         "gpt_neox.layers.1.attention.query_key_value.bias" };
    for (int k = 0; k < 4; k++) {
        struct model_config c = neox;
        c.qkv_by_head = k % 2;
        struct model *m = imagined(&c);
        for (int part = 0; part < 3; part++) {
            const struct weight *w = find(m, names[k / 2], part);
            assert_int_equal(w->rows, HIDDEN);
            assert_int_equal(w->cols, k / 2 ? 1 : HIDDEN);
            assert_int_equal(w->bytes, 3 * HIDDEN * w->cols * 2);
            for (int r = 0; r < w->rows; r++) {
                const int at = w->first + r / w->run * w->step + r % w->run, head = r / HD;
                assert_int_equal(at, k % 2 ? (head * 3 + part) * HD + r % HD : part * HIDDEN + r);
            }
        }
        model_close(m);
    }
}
static void test_weights_come_in_file_order(void **state) {
    (void)state;
    struct checkpoint *file;
    struct model *m;
    struct err e = { 0 };
    if (open_file(&file, &m, &neox, (struct change){ 0 }, &e)) fail_msg("%s", e.text);
    int shared = 0;
    for (int i = 0; i < model_weights(m); i++) {
        const struct weight *w = model_weight(m, i), *last = i ? model_weight(m, i - 1) : NULL;
        const struct tensor *t = checkpoint_tensor(file, w->name);
        assert_true(t && t->offset == w->offset && t->bytes == w->bytes && t->file == w->file);
        if (!last) continue;
        assert_true(last->offset <= w->offset);
        assert_true(last->offset != w->offset || last->first < w->first);
        shared += last->offset == w->offset;
    }
    assert_int_equal(shared, 2 * 2 * LAYERS);
    close_file(file, m);
}
static void test_what_old_files_hold_besides_is_ignored(void **state) {
    (void)state;
    static const char *const junk[] = { "gpt_neox.layers.0.attention.bias", "gpt_neox.layers.1.attention.masked_bias",
                                        "gpt_neox.layers.0.attention.rotary_emb.inv_freq" };
    for (int i = 0; i < 3; i++) binds(neox, (struct change){ .extra = junk[i], .extra_dtype = i ? NULL : "BOOL" });
    const char *freq = "model.layers.0.self_attn.rotary_emb.inv_freq";
    binds(llama(false, false, false), (struct change){ .extra = freq });
    binds(llama(true, false, false), (struct change){ .extra = "lm_head.weight" }); /* tied, stored once more */
    binds(llama(false, true, false), (struct change){ 0 });
    binds(llama(true, false, true), (struct change){ 0 });
    struct model_config c = neox;
    c.attn_bias = false;
    binds(c, (struct change){ 0 });
    c = neox;
    c.vocab = 30003;
    binds(c, (struct change){ 0 });
}
static void test_what_does_not_fit_is_named(void **state) {
    (void)state;
    const struct model_config flat = llama(false, false, false);
    const char *const qkv = "gpt_neox.layers.1.attention.query_key_value.weight";
    says(neox, (struct change){ .other = qkv, .dtype = "BOOL" }, qkv, "has dtype BOOL");
    says(neox, (struct change){ .odd = qkv }, qkv, "97x32 in the file, 96x32");
    says(neox, (struct change){ .odd = qkv }, qkv, ".safetensors): weights and configuration do not belong together");
    says(neox, (struct change){ .skip = qkv }, qkv, "not in the file");
    says(neox, (struct change){ .odd = "gpt_neox.layers.0.attention.query_key_value.bias" },
         "gpt_neox.layers.0.attention.query_key_value.bias", "1x97 in the file, 1x96");
    says(neox, (struct change){ .skip = "gpt_neox.final_layer_norm.bias" }, "gpt_neox.final_layer_norm.bias",
         "not in the file");
    says(neox, (struct change){ .skip = "embed_out.weight" }, "embed_out.weight", "not in the file");
    says(neox, (struct change){ .odd = "gpt_neox.embed_in.weight" }, "gpt_neox.embed_in.weight", "212x32");
    says(neox, (struct change){ .extra = "gpt_neox.layers.2.input_layernorm.bias" },
         "gpt_neox.layers.2.input_layernorm.bias", "not part of");
    says(flat, (struct change){ .extra = "model.layers.0.self_attn.q_proj.bias" },
         "model.layers.0.self_attn.q_proj.bias", "not part of");
    says(flat, (struct change){ .skip = "lm_head.weight" }, "lm_head.weight", "not in the file");
    says(flat, (struct change){ .odd = "model.layers.1.mlp.down_proj.weight" }, "model.layers.1.mlp.down_proj.weight",
         "33x48 in the file, 32x48");
    says(llama(false, true, false), (struct change){ .skip = "model.layers.1.self_attn.o_proj.bias" },
         "model.layers.1.self_attn.o_proj.bias", "not in the file");
    struct model_config c = neox;
    struct model *m;
    struct err e = { 0 };
    c.kv_heads = 1;
    assert_int_equal(model_open(&m, NULL, &c, DTYPE_NONE, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "1 KV heads for 2 heads"));
}
/* Every allocation fails once: an error each time, nothing lost (ASan watches), and then it works. */
static void test_no_memory(void **state) {
    (void)state;
    const char *path = write_file(&neox, &(struct change){ 0 });
    for (long n = 1, made = n; made >= n; n++) {
        struct checkpoint *file = NULL;
        struct model *m = NULL;
        struct err e = { 0 };
        mem_fail_at(n);
        int rc = checkpoint_open(&file, path, &e);
        if (!rc) rc = model_open(&m, file, &neox, DTYPE_NONE, &e);
        made = mem_fail_at(0);
        assert_int_equal(rc, made >= n ? STATUS_NOMEM : 0);
        close_file(file, m);
    }
}
static int set_up(void **state) {
    (void)state;
    return folder_make("binding");
}
static int tear_down(void **state) {
    (void)state;
    return folder_remove("");
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_parameter_counts),
        cmocka_unit_test(test_weights_without_a_file),
        cmocka_unit_test(test_rows_of_q_k_and_v),
        cmocka_unit_test(test_weights_come_in_file_order),
        cmocka_unit_test(test_what_old_files_hold_besides_is_ignored),
        cmocka_unit_test(test_what_does_not_fit_is_named),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
