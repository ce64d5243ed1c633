/* test_sight.c - three tiny MiniGPT-4 in the layout of the published ones (make_minigpt4.py), from their folders and the bytes of a
 * JPEG and a PNG to logits and greedy tokens: parts, shape, every stage of the image path, LoRA, prompt ids. */
#include "base/mem.h"
#include "compute/module.h"
#include "data/catalog.h"
#include "data/template.h"
#include "model/lora.h"
#include "model/vision.h"
#include "rig.h"
#include "vectors.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after setjmp.h and stdarg.h, which it needs */
#include <cmocka.h>

enum { FILES = 3, PICTURES = 2, NEW = 16, LONGEST = 192, MESSAGES = 3 };
static const double tolerance = 1e-4;
static struct vectors v;
static const struct talk {
    const char *name, *folder, *entry; /* name: of the records */
    struct template_message m[MESSAGES];
    int n;
} talks[] = {
    { "llama2", "llama2", "minigpt4-7b", { { "user", "Describe this image in detail.", 30, 1 } }, 1 },
    { "llama2.two",
      "llama2",
      "minigpt4-7b",
      { { "user", "What differs?", 13, 2 }, { "assistant", " The colours.\n", 14, 0 }, { "user", "Which?", 6, 0 } },
      3 },
    { "vicuna", "vicuna", "minigpt4-vicuna-7b", { { "user", "Describe this image in detail.", 30, 1 } }, 1 },
    { "v2", "v2", "minigpt-v2", { { "user", "[vqa] Describe this image in detail.", 36, 1 } }, 1 },
};
struct sight {
    const struct talk *talk;
    struct catalog_parts parts;
    struct checkpoint *file[FILES];
    int files;
    struct vision_config c;
    struct vision *vision;
    const struct backend_api *api;
    struct backend *be;
    struct program p[VISION_STAGES];
    struct vision_io io[VISION_STAGES];
    void *arena[VISION_STAGES];
    struct slab *slab;
    struct step *step;
};
static size_t size(struct mat m) { return (size_t)m.rows * (size_t)m.cols; }
static float *floats(size_t n) {
    float *p = mem_zero(n, sizeof *p);
    assert_non_null(p);
    return p;
}
static const struct record *record(const struct sight *s, const char *what) {
    char label[32];
    snprintf(label, sizeof label, "%s.%s", s->talk->name, what);
    const struct record *r = vectors_find(&v, label, -1, 0);
    if (!r) fail_msg("no record %s", label);
    return r;
}
static void same(const struct sight *s, const char *what, const float *got, size_t n) {
    const struct record *r = record(s, what);
    assert_int_equal((size_t)r->rows * (size_t)r->cols, n);
    const double diff = max_diff(got, r->f, n);
    print_message("  %s: max abs diff %.2g\n", what, diff);
    assert_true(diff <= tolerance);
}
static void open_parts(struct sight *s) {
    char folder[64];
    struct err e = { 0 };
    snprintf(folder, sizeof folder, "tests/golden/minigpt4/%s", s->talk->folder);
    if (catalog_parts(folder, NULL, NULL, true, &s->parts, &e) != 1) fail_msg("%s", e.text);
    assert_string_equal(s->parts.entry->name, s->talk->entry);
    const char *const paths[FILES] = { s->parts.vit, s->parts.projector, s->parts.qformer };
    for (; s->files < FILES && *paths[s->files]; s->files++)
        if (checkpoint_open(&s->file[s->files], paths[s->files], &e)) fail_msg("%s", e.text);
    const struct checkpoint *const *files = (const struct checkpoint *const *)s->file;
    if (vision_config_of(files, s->files, vision_is_v2(s->file[1]), &s->c, &e) ||
        vision_open(&s->vision, files, s->files, &s->c, DTYPE_F32, &e))
        fail_msg("%s", e.text);
}
static void open_vision(struct sight *s) {
    struct program *all[VISION_STAGES];
    struct err e = { 0 };
    s->api = tested_backend(&e);
    if (!s->api || !(s->be = s->api->open(2, &e))) fail_msg("%s", e.text);
    for (int i = 0; i < VISION_STAGES; i++) {
        program_init(&s->p[i], s->api, s->be, 1, 1, 1);
        s->io[i] = vision_record(s->vision, (enum vision_stage)i, &s->p[i]);
        program_fuse(&s->p[i]);
        if (program_plan(&s->p[i], &e)) fail_msg("%s", e.text);
        all[i] = &s->p[i];
    }
    if (s->api->place(s->be, all, VISION_STAGES, &s->slab, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < vision_weights(s->vision); i++) {
        void *bytes = vision_weight_read(s->vision, i, &e);
        if (!bytes || s->api->fill(s->be, vision_weight(s->vision, i), bytes, &e)) fail_msg("%s", e.text);
        mem_free(bytes);
    }
    for (int i = 0; i < VISION_STAGES; i++) {
        if (!s->p[i].n) continue;
        s->arena[i] = s->api->alloc(s->be, s->p[i].need[REGION_ARENA]);
        if (!s->arena[i] || program_link(&s->p[i], s->arena[i], NULL, &e)) fail_msg("stage %d: %s", i, e.text);
    }
    s->step = mem_zero(1, sizeof *s->step);
}
static void sight_close(struct sight *s) {
    for (int i = 0; i < VISION_STAGES; i++) {
        const size_t bytes = s->p[i].need[REGION_ARENA];
        program_fini(&s->p[i]);
        if (s->arena[i]) s->api->free(s->be, s->arena[i], bytes);
    }
    s->api->drop(s->be, s->slab);
    vision_close(s->vision);
    for (int i = 0; i < s->files; i++) checkpoint_close(s->file[i]);
    s->api->close(s->be);
    mem_free(s->step);
}
static void run(struct sight *s, enum vision_stage stage, const float *in, const float *table, float *out) {
    const struct vision_io *io = &s->io[stage];
    struct err e = { 0 };
    memset(s->step, 0, sizeof *s->step);
    if (program_put(&s->p[stage], io->in, in, size(io->in), &e) ||
        (table && program_put(&s->p[stage], io->table, table, size(io->table), &e)) ||
        program_replay(&s->p[stage], s->step, NULL, &e) || program_get(&s->p[stage], io->out, out, size(io->out), &e))
        fail_msg("stage %d: %s", (int)stage, e.text);
}
/* A file's bytes as ENCODE's in. */
static void picture(const struct sight *s, const char *path, float *to) {
    static char bytes[1 << 16];
    struct image whole, scaled;
    struct err e = { 0 };
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    if (image_decode(&whole, bytes, n, path, &e) || image_resize(&scaled, &whole, s->c.image, s->c.image, &e) ||
        vision_patches(&s->c, &scaled, to, &e))
        fail_msg("%s", e.text);
    image_fini(&whole);
    image_fini(&scaled);
}
/* What the language model reads of a picture; checked: it is the first one of a talk that has records of it. */
static void see(struct sight *s, const char *path, bool checked, float *rows) {
    float *in = floats(size(s->io[VISION_ENCODE].in)), *table = floats(size(s->io[VISION_ENCODE].table));
    float *encoded = floats(size(s->io[VISION_ENCODE].out)), *merged = floats(size(s->io[VISION_PROJECT].in));
    picture(s, path, in);
    vision_table(s->vision, table);
    run(s, VISION_ENCODE, in, table, encoded);
    if (checked) same(s, "encode", encoded, size(s->io[VISION_ENCODE].out));
    if (s->c.queries) {
        float *queries = floats(size(s->io[VISION_QUERY].table));
        vision_queries(s->vision, queries);
        run(s, VISION_QUERY, encoded, queries, merged);
        same(s, "query", merged, size(s->io[VISION_QUERY].out));
        mem_free(queries);
    } else {
        vision_join(&s->c, encoded, merged);
    }
    run(s, VISION_PROJECT, merged, NULL, rows);
    if (checked) same(s, "rows", rows, size(s->io[VISION_PROJECT].out));
    mem_free(in), mem_free(table), mem_free(encoded), mem_free(merged);
}
static void prompt(const struct sight *s, struct ids *ids) {
    const struct record *want = record(s, "ids");
    struct tokenizer *t;
    struct rendered r = { 0 };
    struct err e = { 0 };
    if (tokenizer_from_folder(&t, s->parts.llm, &e) ||
        template_render(s->parts.entry->template_name, s->parts.entry->system, s->talk->m, s->talk->n, &r, &e) ||
        template_encode(t, &r, ids, &e))
        fail_msg("%s", e.text);
    assert_int_equal(ids->n, want->cols);
    assert_memory_equal(ids->v, want->i, ids->n * sizeof *ids->v);
    rendered_fini(&r);
    tokenizer_close(t);
}
/* Fills what the projector's LoRA changes once more. */
static void merge(const struct sight *s, struct rig *r) {
    struct lora *l;
    struct err e = { 0 };
    int changed = 0;
    if (lora_open(&l, s->file[1], &e) || lora_check(l, r->model, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < model_weights(r->model); i++) {
        struct weight *w = model_weight(r->model, i);
        if (!lora_touches(l, w)) continue;
        void *bytes = mem_alloc((size_t)w->bytes);
        const int fd = checkpoint_file(r->file, w->file)->fd;
        assert_int_equal(pread(fd, bytes, (size_t)w->bytes, (off_t)w->offset), w->bytes);
        if (lora_merge(l, w, bytes, &e) || r->api->fill(r->be, w, bytes, &e)) fail_msg("%s", e.text);
        mem_free(bytes);
        changed++;
    }
    assert_int_equal(changed, lora_pairs(l));
    assert_true(vision_is_v2(s->file[1]) == (changed > 0));
    lora_close(l);
}
static void answer(const struct sight *s, const float *rows, int pictures) {
    const int tokens = vision_tokens(&s->c), all = tokens * pictures;
    struct ids ids = { 0 };
    struct rig r;
    struct err e = { 0 };
    int id[LONGEST], n = 0, greedy[NEW];
    prompt(s, &ids);
    if (rig_open(&r,
                 &(struct rig_options){ .path = s->parts.llm,
                                        .want = DTYPE_F32,
                                        .fuse = true,
                                        .threads = 2,
                                        .rows = LONGEST,
                                        .image_rows = all },
                 &e))
        fail_msg("%s", e.text);
    merge(s, &r);
    for (size_t i = 0; i < ids.n; i++) {
        for (int k = 0; k < tokens && ids.v[i] < 0; k++) id[n++] = r.config.vocab + (-ids.v[i] - 1) * tokens + k;
        if (ids.v[i] >= 0) id[n++] = ids.v[i];
    }
    assert_true(n <= LONGEST);
    const size_t vocab = (size_t)r.config.vocab;
    float *logits = floats((size_t)n * vocab);
    if (program_put(&r.wide, r.wide.images, rows, (size_t)all * (size_t)s->c.out, &e) ||
        rig_wide(&r, id, n, 0, NULL, logits, &e))
        fail_msg("%s", e.text);
    same(s, "logits", logits + (size_t)(n - 1) * vocab, vocab);
    if (rig_one(&r, id[n - 1], n - 1, NULL, &e) || rig_greedy(&r, greedy, NEW, &e)) fail_msg("%s", e.text);
    assert_memory_equal(greedy, record(s, "greedy")->i, sizeof greedy);
    mem_free(logits);
    ids_fini(&ids);
    rig_close(&r);
}
static void from_files_to_answers(void **state) {
    (void)state;
    static const char *const paths[PICTURES] = { "tests/golden/minigpt4/shapes.jpg",
                                                 "tests/golden/minigpt4/shapes.png" };
    for (size_t i = 0; i < sizeof talks / sizeof *talks; i++) {
        struct sight s = { .talk = &talks[i] };
        const int pictures = talks[i].m[0].images;
        print_message("%s\n", talks[i].name);
        open_parts(&s);
        open_vision(&s);
        const size_t each = size(s.io[VISION_PROJECT].out);
        float *rows = floats(PICTURES * each);
        for (int k = 0; k < pictures; k++) see(&s, paths[k], pictures == 1, rows + (size_t)k * each);
        answer(&s, rows, pictures);
        mem_free(rows);
        sight_close(&s);
    }
}
static int set_up(void **state) {
    (void)state;
    struct err e = { 0 };
    return vectors_open(&v, "tests/golden/minigpt4.bin", &e) ? (print_error("%s\n", e.text), -1) : 0;
}
static int tear_down(void **state) {
    (void)state;
    vectors_close(&v);
    return 0;
}
int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(from_files_to_answers) };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
