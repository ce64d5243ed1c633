/* test_vision.c - MiniGPT-4's image path against the reference framework's BLIP-2 classes (make_vision.py): every stage of a
 * tiny one from files that torch.save wrote, a block of full width, stretched positions; per instruction set, fused and
 * not. */
#include "base/mem.h"
#include "compute/module.h"
#include "model/vision.h"
#include "rig.h"
#include "vectors.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after setjmp.h and stdarg.h, which it needs */
#include <cmocka.h>

enum { FILES_MAX = 3 };
static const char *const isas[] = { "scalar", "avx2", "avx512", "avx512-vnni", "avx512-bf16" };
static const struct vision_config tiny = {
    .image = 56, .patch = 14, .grid = 4, .hidden = 48, .layers = 3, .heads = 2, .ffn = 80, .out = 40
};
static const struct vision_config asking = { .image = 56,
                                             .patch = 14,
                                             .grid = 4,
                                             .hidden = 48,
                                             .layers = 3,
                                             .heads = 2,
                                             .ffn = 80,
                                             .queries = 5,
                                             .q_hidden = 32,
                                             .q_layers = 3,
                                             .q_heads = 2,
                                             .q_ffn = 72,
                                             .out = 40 };
static struct vectors v;

/* One open image path on one device. */
struct path {
    struct vision_config c;
    const struct backend_api *api;
    struct backend *be;
    struct checkpoint *file[FILES_MAX];
    int files;
    struct vision *vision;
    struct program p[VISION_STAGES];
    struct vision_io io[VISION_STAGES];
    struct slab *slab;
    void *arena[VISION_STAGES];
    struct step *step;
};
struct how {
    const char *isa;
    enum dtype want;
    bool fuse;
    int pictures; /* 0: one, by vision_record() */
};
/* The numbers that make_vision.py gives a name: exact in fp16. */
static float made_up(const char *name, size_t i) {
    uint32_t seed = 2166136261u;
    for (const char *c = name; *c; c++) seed = (seed ^ (unsigned char)*c) * 16777619u;
    uint32_t x = (uint32_t)i * 2654435761u + seed;
    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    const size_t n = strlen(name);
    const bool gain = strstr(name, "norm") && n > 6 && !strcmp(name + n - 6, "weight");
    const float k = (float)((int)((x >> 8) % 256) - 128);
    return gain ? k / 1024 + 1 : k / 4096;
}
static void fill_made_up(const struct path *t, const struct weight *w, struct err *e) {
    const size_t n = (size_t)w->bytes / (w->dt == DTYPE_F32 ? 4 : 2);
    unsigned char *p = mem_alloc((size_t)w->bytes);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        const float x = made_up(w->name, i), one = strstr(w->name, "weight") ? 1 : 0; /* ln_vision: F32 */
        const _Float16 h = (_Float16)x;
        memcpy(p + i * (size_t)(w->bytes / n), w->dt == DTYPE_F32 ? (const void *)&one : (const void *)&h,
               (size_t)(w->bytes / n));
    }
    t->api->fill(t->be, w, p, e);
    mem_free(p);
}
static void fill(const struct path *t, struct err *e) {
    for (int i = 0; i < vision_weights(t->vision) && !e->code; i++) {
        void *bytes = t->files ? vision_weight_read(t->vision, i, e) : NULL;
        if (bytes)
            t->api->fill(t->be, vision_weight(t->vision, i), bytes, e);
        else if (!e->code)
            fill_made_up(t, vision_weight(t->vision, i), e);
        mem_free(bytes);
    }
}
static struct backend *device(const struct backend_api *api, const char *isa, struct err *e) {
    if (isa) setenv("JAEDA_ISA", isa, 1);
    struct backend *be = api->open(2, e);
    unsetenv("JAEDA_ISA");
    return be;
}
static void path_close(struct path *t) {
    for (int i = 0; i < VISION_STAGES; i++) {
        const size_t bytes = t->p[i].need[REGION_ARENA];
        program_fini(&t->p[i]);
        if (t->arena[i]) t->api->free(t->be, t->arena[i], bytes);
    }
    if (t->slab) t->api->drop(t->be, t->slab);
    vision_close(t->vision);
    for (int i = 0; i < t->files; i++) checkpoint_close(t->file[i]);
    t->api->close(t->be);
    mem_free(t->step);
}
/* false: this machine has not that instruction set. */
static bool path_open(struct path *t, const struct vision_config *c, const char *const *file, struct how how) {
    struct err e = { 0 };
    struct program *all[VISION_STAGES];
    *t = (struct path){ .c = *c, .api = tested_backend(&e), .step = mem_zero(1, sizeof *t->step) };
    if (!t->api || !(t->be = device(t->api, how.isa, &e))) {
        if (!how.isa) fail_msg("%s", e.text);
        mem_free(t->step);
        return false;
    }
    for (; file && file[t->files]; t->files++) {
        char name[96];
        snprintf(name, sizeof name, "tests/golden/vision/%s.pth", file[t->files]);
        if (checkpoint_open(&t->file[t->files], name, &e)) fail_msg("%s", e.text);
    }
    if (vision_open(&t->vision, (const struct checkpoint *const *)t->file, t->files, c, how.want, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < VISION_STAGES; i++) {
        program_init(&t->p[i], t->api, t->be, 1, 1, 1);
        t->io[i] = how.pictures ? vision_record_many(t->vision, (enum vision_stage)i, how.pictures, &t->p[i])
                                : vision_record(t->vision, (enum vision_stage)i, &t->p[i]);
        if (how.fuse) program_fuse(&t->p[i]);
        if (program_plan(&t->p[i], &e)) fail_msg("%s", e.text);
        all[i] = &t->p[i];
    }
    if (t->api->place(t->be, all, VISION_STAGES, &t->slab, &e)) fail_msg("%s", e.text);
    fill(t, &e);
    if (e.code) fail_msg("%s", e.text);
    for (int i = 0; i < VISION_STAGES; i++) {
        if (!t->p[i].n) continue;
        t->arena[i] = t->api->alloc(t->be, t->p[i].need[REGION_ARENA]);
        assert_non_null(t->arena[i]);
        if (program_link(&t->p[i], t->arena[i], NULL, &e)) fail_msg("%s", e.text);
    }
    return true;
}
static size_t size(struct mat m) { return (size_t)m.rows * (size_t)m.cols; }
static float *floats(size_t n) {
    float *p = mem_zero(n, sizeof *p);
    assert_non_null(p);
    return p;
}
/* Runs a stage; its result, to be freed. */
static float *run(struct path *t, enum vision_stage stage, const float *in, const float *table) {
    const struct vision_io *io = &t->io[stage];
    struct err e = { 0 };
    float *out = floats(size(io->out));
    memset(t->step, 0, sizeof *t->step);
    if (program_put(&t->p[stage], io->in, in, size(io->in), &e) ||
        (table && program_put(&t->p[stage], io->table, table, size(io->table), &e)) ||
        program_replay(&t->p[stage], t->step, NULL, &e) || program_get(&t->p[stage], io->out, out, size(io->out), &e))
        fail_msg("stage %d: %s", (int)stage, e.text);
    return out;
}
/* which 0: the picture that the vectors know. */
static float *patches(const struct vision_config *c, int which) {
    const int n = c->image;
    struct image m = { mem_alloc(3 * (size_t)n * (size_t)n), n, n };
    struct err e = { 0 };
    float *out = floats((size_t)vision_rows(c) * 3 * (size_t)(c->patch * c->patch));
    for (int i = 0; i < 3 * n * n; i++) {
        const int x = i / 3 % n, y = i / 3 / n;
        m.rgb[i] = (unsigned char)(x * 7 + y * 13 + i % 3 * 50 + x * y / 5 + which * (x % 9) * 29);
    }
    assert_int_equal(vision_patches(c, &m, out, &e), 0);
    m.width--;
    assert_int_equal(vision_patches(c, &m, out + 0, &e), STATUS_INVALID);
    assert_non_null(strstr(e.text, "56 x 56") ? e.text : strstr(e.text, " x "));
    image_fini(&m);
    return out;
}
static void same(const char *label, const float *got, size_t n, double most) {
    const struct record *r = vectors_find(&v, label, -1, 0);
    assert_non_null(r);
    assert_int_equal((size_t)r->rows * (size_t)r->cols, n);
    const double diff = max_diff(got, r->f, n);
    print_message("  %s: max abs diff %.2g\n", label, diff);
    assert_true(diff <= most);
}
static float *encode(struct path *t) {
    float *in = patches(&t->c, 0), *table = floats(size(t->io[VISION_ENCODE].table));
    vision_table(t->vision, table);
    float *out = run(t, VISION_ENCODE, in, table);
    mem_free(in);
    mem_free(table);
    return out;
}
static void join(struct how how, double most) {
    static const char *const files[] = { "eva_vit", "proj_join", NULL };
    struct path t;
    if (!path_open(&t, &tiny, files, how)) return;
    print_message("joined, %s%s\n", t.api->isa(t.be), how.fuse ? ", fused" : "");
    float *encoded = encode(&t), *joined = floats(size(t.io[VISION_PROJECT].in));
    same("tiny.encode", encoded, size(t.io[VISION_ENCODE].out), most);
    vision_join(&t.c, encoded, joined);
    float *out = run(&t, VISION_PROJECT, joined, NULL);
    same("tiny.join", out, size(t.io[VISION_PROJECT].out), most);
    mem_free(encoded), mem_free(joined), mem_free(out);
    path_close(&t);
}
static void ask(struct how how, double most) {
    static const char *const files[] = { "eva_vit", "blip2", "proj_ask", NULL };
    struct path t;
    if (!path_open(&t, &asking, files, how)) return;
    print_message("asked, %s%s\n", t.api->isa(t.be), how.fuse ? ", fused" : "");
    float *encoded = encode(&t), *queries = floats(size(t.io[VISION_QUERY].table));
    same("tiny.encode_ln", encoded, size(t.io[VISION_ENCODE].out), most);
    vision_queries(t.vision, queries);
    float *seen = run(&t, VISION_QUERY, encoded, queries);
    same("tiny.query", seen, size(t.io[VISION_QUERY].out), most);
    float *again = run(&t, VISION_QUERY, encoded, NULL); /* inputs stay as they were put */
    assert_memory_equal(seen, again, sizeof *seen * size(t.io[VISION_QUERY].out));
    float *out = run(&t, VISION_PROJECT, seen, NULL);
    same("tiny.ask", out, size(t.io[VISION_PROJECT].out), most);
    mem_free(encoded), mem_free(queries), mem_free(seen), mem_free(again), mem_free(out);
    path_close(&t);
}
/* Three pictures at once: the one that the vectors know among two others, each as if it were alone. */
enum { MANY = 3, KNOWN = 1 };
static float *beside(float *const *one, size_t n) {
    float *all = floats(MANY * n);
    for (int i = 0; i < MANY; i++) memcpy(all + (size_t)i * n, one[i], sizeof *all * n);
    return all;
}
static float *stage_of_many(struct path *one, struct path *many, enum vision_stage stage, float *const *in,
                            float *table, const char *label, double most) {
    const size_t n = size(one->io[stage].in), out = size(one->io[stage].out);
    float *const tables[MANY] = { table, table, table };
    float *all = beside(in, n), *all_tables = table ? beside(tables, size(one->io[stage].table)) : NULL;
    assert_int_equal(size(many->io[stage].in), MANY * n);
    float *got = run(many, stage, all, all_tables);
    if (label) same(label, got + KNOWN * out, out, most);
    for (int i = 0; i < MANY; i++) {
        float *alone = run(one, stage, in[i], table);
        const double diff = max_diff(got + (size_t)i * out, alone, out);
        if (!(diff <= most / 4)) fail_msg("stage %d, picture %d: off by %g", (int)stage, i, diff);
        mem_free(alone);
    }
    mem_free(all), mem_free(all_tables);
    return got;
}
static void of_many(struct how how, double most) {
    static const char *const files[] = { "eva_vit", "blip2", "proj_ask", NULL };
    struct path one, many;
    float *in[MANY], *next[MANY];
    if (!path_open(&one, &asking, files, how)) return;
    how.pictures = MANY;
    if (!path_open(&many, &asking, files, how)) fail();
    print_message("%d at once, %s%s\n", MANY, one.api->isa(one.be), how.fuse ? ", fused" : "");
    for (int i = 0; i < MANY; i++) in[i] = patches(&asking, (i + MANY - KNOWN) % MANY);
    float *table = floats(size(one.io[VISION_ENCODE].table)), *queries = floats(size(one.io[VISION_QUERY].table));
    vision_table(one.vision, table);
    vision_queries(one.vision, queries);
    const bool exact = how.want == DTYPE_F32;
    float *got = stage_of_many(&one, &many, VISION_ENCODE, in, table, exact ? "tiny.encode_ln" : NULL, most);
    for (int i = 0; i < MANY; i++) next[i] = got + (size_t)i * size(one.io[VISION_ENCODE].out);
    float *seen = stage_of_many(&one, &many, VISION_QUERY, next, queries, exact ? "tiny.query" : NULL, most);
    for (int i = 0; i < MANY; i++) next[i] = seen + (size_t)i * size(one.io[VISION_QUERY].out);
    float *out = stage_of_many(&one, &many, VISION_PROJECT, next, NULL, exact ? "tiny.ask" : NULL, most);
    for (int i = 0; i < MANY; i++) mem_free(in[i]);
    mem_free(table), mem_free(queries), mem_free(got), mem_free(seen), mem_free(out);
    path_close(&one);
    path_close(&many);
}
static void stages(void **state) {
    (void)state;
    for (size_t i = 0; i < (on_device() ? 1 : sizeof isas / sizeof *isas); i++)
        for (int fuse = 0; fuse < 2; fuse++) {
            const struct how how = { on_device() ? NULL : isas[i], DTYPE_F32, fuse, 0 };
            join(how, 1e-4);
            ask(how, 1e-4);
        }
}
static void pictures_at_once(void **state) {
    (void)state;
    for (size_t i = 0; i < (on_device() ? 1 : sizeof isas / sizeof *isas); i++)
        for (int fuse = 0; fuse < 2; fuse++)
            of_many((struct how){ on_device() ? NULL : isas[i], DTYPE_F32, fuse, 0 }, 1e-4);
    of_many((struct how){ NULL, DTYPE_F16, true, 0 }, 0.05);
    of_many((struct how){ NULL, DTYPE_Q8_0, true, 0 }, 0.05);
}
static void other_dtypes(void **state) {
    (void)state;
    static const enum dtype want[] = { DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0 };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        print_message("%s:\n", dtype_info(want[i])->name);
        join((struct how){ NULL, want[i], true, 0 }, 0.05);
        ask((struct how){ NULL, want[i], true, 0 }, 0.05);
    }
}
static void stretched(void **state) {
    (void)state;
    static const char *const files[] = { "eva_vit", "proj_join", NULL };
    struct vision_config wide = tiny;
    struct path t;
    wide.image = 112;
    if (!path_open(&t, &wide, files, (struct how){ NULL, DTYPE_F32, true, 0 })) fail();
    const size_t n = size(t.io[VISION_ENCODE].table), cols = (size_t)wide.hidden;
    float *table = floats(n);
    vision_table(t.vision, table);
    for (size_t i = 0; i < n; i++) /* what the table holds beside positions, taken out again */
        table[i] -= i < cols ? (float)(_Float16)made_up("cls_token", i) : made_up("patch_embed.proj.bias", i % cols);
    same("wide.positions", table, n, 1e-5);
    float *encoded = encode(&t);
    same("wide.encode", encoded, size(t.io[VISION_ENCODE].out), 1e-4);
    mem_free(table), mem_free(encoded);
    path_close(&t);
}
static void full_width_as(enum dtype want, double most) {
    static const int kept[] = { 0, 1, 128, 256 };
    struct vision_config c = vision_config(VISION_LLAMA2);
    struct path t;
    c.layers = 1;
    c.out = 16;
    if (!path_open(&t, &c, NULL, (struct how){ NULL, want, true, 0 })) fail();
    const size_t cols = (size_t)c.hidden;
    float *in = patches(&c, 0), *table = floats(size(t.io[VISION_ENCODE].table)), rows[4 * 1408];
    for (size_t i = 0; i < size(t.io[VISION_ENCODE].table); i++)
        table[i] =
            made_up("pos_embed", i) + (i < cols ? made_up("cls_token", i) : made_up("patch_embed.proj.bias", i % cols));
    float *out = run(&t, VISION_ENCODE, in, table);
    for (size_t i = 0; i < 4; i++) memcpy(rows + i * cols, out + (size_t)kept[i] * cols, sizeof *rows * cols);
    same("full.encode", rows, 4 * cols, most);
    mem_free(in), mem_free(table), mem_free(out);
    path_close(&t);
}
static void full_width(void **state) {
    (void)state;
    if (on_emulated()) skip(); /* minutes on the emulated device; real ones have the time */
    full_width_as(DTYPE_F32, 1e-4);
    full_width_as(DTYPE_F16, 0.05);
}
/* Without a file that has them they are 1 and 0: the checkpoints without Q-Former were trained so. */
static void ln_vision_is_the_identity_unless_a_file_holds_it(void **state) {
    (void)state;
    static const char *const files[] = { "eva_vit", "proj_join", NULL };
    struct path t;
    struct err e = { 0 };
    int found = 0;
    if (!path_open(&t, &tiny, files, (struct how){ NULL, DTYPE_F32, true, 0 })) fail();
    for (int i = 0; i < vision_weights(t.vision); i++) {
        const struct weight *w = vision_weight(t.vision, i);
        if (strncmp(w->name, "ln_vision.", 10) != 0) continue;
        float *p = vision_weight_read(t.vision, i, &e);
        assert_non_null(p);
        for (int k = 0; k < w->rows; k++) assert_true(p[k] == (strstr(w->name, "weight") ? 1.0f : 0.0f));
        mem_free(p);
        found++;
    }
    assert_int_equal(found, 2);
    path_close(&t);
}
static void what_is_wrong_is_named(void **state) {
    (void)state;
    struct checkpoint *file[2];
    struct vision *m;
    struct err e = { 0 };
    assert_int_equal(checkpoint_open(&file[0], "tests/golden/vision/eva_vit.pth", &e), 0);
    assert_int_equal(checkpoint_open(&file[1], "tests/golden/vision/proj_ask.pth", &e), 0);
    const struct checkpoint *const *files = (const struct checkpoint *const *)file;
    struct vision_config c = tiny;
    static const struct {
        int files, layers, ffn, heads;
        const char *says;
    } all[] = {
        { 1, 3, 80, 2, "llama_proj.weight: in none of the files" },
        { 2, 3, 80, 2, "llama_proj.weight: 40x32 in the file, 40x192 by its configuration" },
        { 2, 4, 80, 2, "blocks.3.norm1.bias: in none of the files" },
        { 2, 3, 81, 2, "blocks.0.mlp.fc1.weight: 80x48 in the file, 81x48" },
        { 2, 3, 80, 5, "5 heads over 48 columns" },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        c.layers = all[i].layers, c.ffn = all[i].ffn, c.heads = all[i].heads;
        e = (struct err){ 0 };
        assert_int_equal(vision_open(&m, files, all[i].files, &c, DTYPE_NONE, &e), STATUS_FORMAT);
        if (!strstr(e.text, all[i].says)) fail_msg("says: %s; should say: %s", e.text, all[i].says);
        assert_null(m);
    }
    for (int i = 1;; i++) { /* memory that ends */
        e = (struct err){ 0 };
        c = tiny;
        mem_fail_at(i);
        const int rc = vision_open(&m, files, 0, &c, DTYPE_NONE, &e);
        mem_fail_at(0);
        vision_close(m);
        if (!rc) break;
        assert_int_equal(rc, STATUS_NOMEM);
    }
    checkpoint_close(file[0]);
    checkpoint_close(file[1]);
}
static void published_shapes(void **state) {
    (void)state;
    static const int tokens[] = { 64, 32, 32, 256 }, columns[] = { 5632, 768, 768, 5632 };
    for (int i = VISION_LLAMA2; i <= VISION_V2; i++) {
        const struct vision_config c = vision_config((enum vision_variant)i);
        assert_int_equal(vision_tokens(&c), tokens[i]);
        assert_int_equal(vision_columns(&c), columns[i]);
        assert_int_equal(vision_rows(&c), i == VISION_V2 ? 1025 : 257);
    }
    struct vision_config c = vision_config(VISION_LLAMA2);
    struct vision *m;
    struct err e = { 0 };
    uint64_t params = 0;
    if (vision_open(&m, NULL, 0, &c, DTYPE_NONE, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < vision_weights(m); i++)
        params += (uint64_t)vision_weight(m, i)->rows * (uint64_t)vision_weight(m, i)->cols;
    /* 985,894,528 of the encoder's 39 blocks and ends, less class token, positions and patch bias; ln_vision; projection */
    assert_int_equal(params, 985894528u - 1408 * (1 + 257 + 1) + 2 * 1408 + 4096u * 5632 + 4096);
    vision_close(m);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages),
        cmocka_unit_test(pictures_at_once),
        cmocka_unit_test(other_dtypes),
        cmocka_unit_test(stretched),
        cmocka_unit_test(full_width),
        cmocka_unit_test(ln_vision_is_the_identity_unless_a_file_holds_it),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(published_shapes),
    };
    struct err e = { 0 };
    if (vectors_open(&v, "tests/golden/vision.bin", &e)) return fprintf(stderr, "%s\n", e.text), 1;
    const int failed = cmocka_run_group_tests_name("vision", tests, NULL, NULL);
    vectors_close(&v);
    return failed;
}
