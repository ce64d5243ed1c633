/* The shape of an image path read off its tensors, and what is said where they make none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* before cmocka.h, which needs them */
#include "base/buf.h"
#include "data/folder_build.h"
#include "data/safetensors_build.h"
#include "model/vision.h"
#include <cmocka.h>

enum { MOST = 60 };
struct made {
    const char *name;
    int dim[4], dims;
};
struct list {
    struct made t[MOST];
    char name[MOST][80];
    int n;
};
static void put(struct list *l, const char *name, int dims, int a, int b, int c, int d) {
    assert_true(l->n < MOST);
    snprintf(l->name[l->n], sizeof l->name[0], "%s", name);
    l->t[l->n] = (struct made){ l->name[l->n], { a, b, c, d }, dims };
    l->n++;
}
static struct made *at(struct list *l, const char *name) {
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->t[i].name, name)) return &l->t[i];
    fail_msg("no %s", name);
    return NULL;
}
static void encoder(struct list *l, int blocks) {
    char name[80];
    *l = (struct list){ .n = 0 };
    put(l, "pos_embed", 3, 1, 17, 176, 1);
    put(l, "patch_embed.proj.weight", 4, 176, 3, 2, 2);
    put(l, "blocks.0.mlp.fc1.weight", 2, 64, 176, 1, 1);
    for (int i = 0; i < blocks; i++) {
        snprintf(name, sizeof name, "blocks.%d.attn.qkv.weight", i);
        put(l, name, 2, 528, 176, 1, 1);
    }
    put(l, "blocks.77.norm1.weight", 1, 176, 1, 1, 1); /* as the real file has extras */
}
static void qformer(struct list *l) {
    put(l, "query_tokens", 3, 1, 5, 128, 1);
    put(l, "Qformer.bert.encoder.layer.0.intermediate_query.dense.weight", 2, 72, 128, 1, 1);
    put(l, "Qformer.bert.encoder.layer.0.attention.self.query.weight", 2, 128, 128, 1, 1);
    put(l, "Qformer.bert.encoder.layer.1.attention.self.query.weight", 2, 128, 128, 1, 1);
}
static struct checkpoint *file_of(const struct list *l) {
    struct buf b, header;
    size_t place = 0;
    struct checkpoint *file;
    struct err e = { 0 };
    buf_init(&header, 1 << 16);
    buf_puts(&header, "{");
    for (int i = 0; i < l->n; i++) {
        size_t n = 1;
        buf_printf(&header, "%s\"%s\":{\"dtype\":\"U8\",\"shape\":[", i ? "," : "", l->t[i].name);
        for (int k = 0; k < l->t[i].dims; k++) {
            buf_printf(&header, "%s%d", k ? "," : "", l->t[i].dim[k]);
            n *= (size_t)l->t[i].dim[k];
        }
        buf_printf(&header, "],\"data_offsets\":[%zu,%zu]}", place, place + n);
        place += n;
    }
    buf_puts(&header, "}");
    st_file(&b, buf_text(&header), place);
    folder_bytes("x.safetensors", b.p, b.n);
    if (checkpoint_open(&file, folder_at("x.safetensors"), &e)) fail_msg("%s", e.text);
    buf_fini(&b);
    buf_fini(&header);
    return file;
}
static int config(const struct list *l, bool v2, struct vision_config *c, struct err *e) {
    struct checkpoint *file = file_of(l);
    const struct checkpoint *const files[] = { file };
    const int rc = vision_config_of(files, 1, v2, c, e);
    checkpoint_close(file);
    return rc;
}
static void shapes_are_read_off(void **state) {
    (void)state;
    struct list l;
    struct vision_config c;
    struct err e = { 0 };
    encoder(&l, 2);
    put(&l, "llama_proj.weight", 2, 64, 704, 1, 1);
    if (config(&l, false, &c, &e)) fail_msg("%s", e.text);
    const struct vision_config joins = {
        .image = 8, .patch = 2, .grid = 4, .hidden = 176, .layers = 2, .heads = 2, .ffn = 64, .out = 64
    };
    assert_memory_equal(&c, &joins, sizeof c);
    if (config(&l, true, &c, &e)) fail_msg("%s", e.text);
    assert_int_equal(c.image, 16);
    assert_int_equal(c.grid, 4);
    qformer(&l); /* a file that is there but that the projection does not ask */
    if (config(&l, false, &c, &e)) fail_msg("%s", e.text);
    assert_memory_equal(&c, &joins, sizeof c);
    at(&l, "llama_proj.weight")->dim[1] = 128;
    if (config(&l, false, &c, &e)) fail_msg("%s", e.text);
    const struct vision_config asks = { .image = 8,
                                        .patch = 2,
                                        .grid = 4,
                                        .hidden = 176,
                                        .layers = 2,
                                        .heads = 2,
                                        .ffn = 64,
                                        .queries = 5,
                                        .q_hidden = 128,
                                        .q_layers = 2,
                                        .q_heads = 2,
                                        .q_ffn = 72,
                                        .out = 64 };
    assert_memory_equal(&c, &asks, sizeof c);
}
/* create_eva_vit_g takes 39 of the file's 40. */
static void the_last_block_of_the_tower_is_left_out(void **state) {
    (void)state;
    struct list l;
    struct vision_config c;
    struct err e = { 0 };
    for (int n = 38; n <= 40; n++) {
        encoder(&l, n);
        put(&l, "llama_proj.weight", 2, 64, 704, 1, 1);
        if (config(&l, false, &c, &e)) fail_msg("%s", e.text);
        assert_int_equal(c.layers, n < 40 ? n : 39);
    }
}
static void what_makes_no_image_path_is_named(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int k, to; /* that dimension becomes; to 0: the tensor is not there */
        const char *says;
    } row[] = {
        { "pos_embed", 0, 0, "pos_embed: in none of the files" },
        { "pos_embed", 1, 18, "pos_embed: 18 rows are no square grid" },
        { "pos_embed", 1, 1, "pos_embed: 1 rows are no square grid" },
        { "pos_embed", 2, 100, "patch_embed.proj.weight: 176x3x2x2 is not [100, 3, a side, a side]" },
        { "patch_embed.proj.weight", 3, 3, "patch_embed.proj.weight: 176x3x2x3" },
        { "blocks.0.attn.qkv.weight", 0, 0, "blocks.0.attn.qkv.weight: in none" },
        { "blocks.0.mlp.fc1.weight", 0, 70000, "blocks.0.mlp.fc1.weight: has 2 dimensions" },
        { "llama_proj.weight", 0, 0, "llama_proj.weight: in none" },
        { "llama_proj.weight", 1, 700, "llama_proj.weight: 700 columns are neither 4 neighbouring patches (704)" },
        { "query_tokens", 0, 0, "nor a Q-Former's (no query_tokens; --qformer PATH)" },
        { "query_tokens", 2, 126, "nor a Q-Former's (query_tokens has others)" },
        { "Qformer.bert.encoder.layer.0.intermediate_query.dense.weight", 0, 0,
          "intermediate_query.dense.weight: in none" },
        { "Qformer.bert.encoder.layer.0.attention.self.query.weight", 0, 0,
          "layer.0.attention.self.query.weight: in none" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct list l;
        struct vision_config c;
        struct err e = { 0 };
        encoder(&l, 1);
        put(&l, "llama_proj.weight", 2, 64, 128, 1, 1);
        qformer(&l);
        struct made *t = at(&l, row[i].name);
        t->dim[row[i].k] = row[i].to;
        if (!row[i].to) *t = (struct made){ "other", { 1 }, 1 };
        assert_int_equal(config(&l, false, &c, &e), STATUS_FORMAT);
        if (!strstr(e.text, row[i].says)) fail_msg("%zu: '%s'", i, e.text);
    }
    /* heads */
    struct list l;
    struct vision_config c;
    struct err e = { 0 }, q = { 0 };
    encoder(&l, 1);
    put(&l, "llama_proj.weight", 2, 64, 100, 1, 1);
    qformer(&l);
    at(&l, "query_tokens")->dim[2] = 100;
    assert_int_equal(config(&l, false, &c, &q), STATUS_FORMAT);
    assert_non_null(strstr(q.text, "query_tokens: 100 columns are no multiple of 64"));
    at(&l, "pos_embed")->dim[2] = at(&l, "patch_embed.proj.weight")->dim[0] = 100;
    assert_int_equal(config(&l, false, &c, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "pos_embed: 100 columns are no multiple of 88"));
}
static void lora_says_that_it_is_v2(void **state) {
    (void)state;
    struct list l;
    encoder(&l, 1);
    struct checkpoint *file = file_of(&l);
    assert_false(vision_is_v2(file));
    checkpoint_close(file);
    put(&l, "llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", 2, 4, 8, 1, 1);
    file = file_of(&l);
    assert_true(vision_is_v2(file));
    checkpoint_close(file);
}
static int set_up(void **state) {
    (void)state;
    return folder_make("vision");
}
static int tear_down(void **state) {
    (void)state;
    return folder_remove("");
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_are_read_off),
        cmocka_unit_test(the_last_block_of_the_tower_is_left_out),
        cmocka_unit_test(what_makes_no_image_path_is_named),
        cmocka_unit_test(lora_says_that_it_is_v2),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
