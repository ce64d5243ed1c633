/* test_eyes.c - the tiny MiniGPT-4 through the engine's one door: a picture's bytes and a question go in, text, stages and views
 * come out, equal to the reference's. JAEDA_BACKEND picks the device. */
#include "base/mem.h"
#include "data/tokenizer.h"
#include "run/listen.h"
#include "run/text.h"
#include "vectors.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { NEW = 16, FILE_MAX = 1 << 20 };
#define FOLDER "tests/golden/minigpt4/"
static struct vectors v;
static struct engine_image jpeg, png;
static const struct engine_message question = { "user", "Describe this image in detail.", 30 };

static struct engine_image read_picture(const char *name) {
    char path[128];
    struct engine_image m = { .name = name };
    char *bytes = mem_alloc(FILE_MAX);
    snprintf(path, sizeof path, FOLDER "%s", name);
    FILE *f = fopen(path, "rb");
    assert_true(f && bytes);
    m.n = fread(bytes, 1, FILE_MAX, f);
    m.bytes = bytes;
    fclose(f);
    return m;
}
static const struct record *record(const char *talk, const char *what) {
    char label[32];
    snprintf(label, sizeof label, "%s.%s", talk, what);
    const struct record *r = vectors_find(&v, label, -1, 0);
    if (!r) fail_msg("no record %s", label);
    return r;
}
static void load(const char *folder) {
    char path[64];
    snprintf(path, sizeof path, FOLDER "%s", folder);
    ask(&(struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .model = "*" });
    struct heard *h = ask(&(struct engine_req){
        .kind = ENGINE_REQ_LOAD, .model = path, .dtype = "fp32", .vision_dtype = "fp32", .kv_cache_dtype = "fp32" });
    if (h->fail.code) fail_msg("%s", h->fail.text);
    assert_true(h->model.image_tokens > 0 && h->model.max_images == 4 && h->model.vision_bytes > 0);
    assert_true(h->model.predicted_bytes ==
                h->model.weight_bytes + h->model.kv_bytes + h->model.arena_bytes + h->model.vision_work_bytes);
}
static struct heard *see(const struct engine_message *m, int messages, const struct engine_image *image, int images,
                         struct engine_req q) {
    q.kind = ENGINE_REQ_GENERATE;
    q.message = m;
    q.messages = messages;
    q.image = image;
    q.images = images;
    q.ignore_eos = true;
    if (!q.max_new_tokens) q.max_new_tokens = NEW;
    struct heard *h = ask(&q);
    if (h->fail.code) fail_msg("%s", h->fail.text);
    return h;
}
/* The text that the reference's greedy tokens are, as text.c shows bytes. */
static void same_text(const struct heard *h, const char *talk) {
    const struct record *greedy = record(talk, "greedy");
    struct tokenizer *t;
    struct err e = { 0 };
    struct text text;
    struct buf piece, want;
    buf_init(&piece, 1 << 10);
    buf_init(&want, 1 << 10);
    text_init(&text, NULL, 0);
    if (tokenizer_from_folder(&t, FOLDER "llm", &e)) fail_msg("%s", e.text);
    for (int i = 0; i < NEW; i++) {
        size_t n;
        const char *bytes = tokenizer_bytes(t, greedy->i[i], &n);
        if (!bytes || tokenizer_is_control(t, greedy->i[i])) continue;
        text_feed(&text, bytes, n, &piece);
        buf_add(&want, piece.p, piece.n);
    }
    text_flush(&text, &piece);
    buf_add(&want, piece.p, piece.n);
    assert_string_equal(h->text, buf_text(&want));
    assert_int_equal(h->done.new_tokens, NEW);
    tokenizer_close(t);
    text_fini(&text);
    buf_fini(&piece);
    buf_fini(&want);
}
static int expanded(const char *talk, int tokens) {
    const struct record *r = record(talk, "ids");
    int n = 0;
    for (int i = 0; i < r->cols; i++) n += r->i[i] < 0 ? tokens : 1;
    return n;
}
static void near_to(const float *got, const char *talk, const char *what, float scale, double most) {
    const struct record *r = record(talk, what);
    double worst = 0;
    for (int i = 0; i < r->rows * r->cols; i++) {
        const double d = fabs((double)(got[i] * scale - r->f[i]));
        worst = d > worst ? d : worst;
    }
    print_message("  %s.%s: max abs diff %.2g\n", talk, what, worst);
    assert_true(worst <= most);
}

static void each_kind_answers_as_the_reference_does(void **state) {
    (void)state;
    static const struct {
        const char *talk, *template_name;
        struct engine_message m;
        int tokens;
    } kinds[] = {
        { "llama2", "minigpt4-llama2", { "user", "Describe this image in detail.", 30 }, 4 },
        { "vicuna", "minigpt4-vicuna0", { "user", "Describe this image in detail.", 30 }, 5 },
        { "v2", "minigpt-v2", { "user", "[vqa] Describe this image in detail.", 36 }, 16 },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        load(kinds[i].talk);
        struct heard *h = see(&kinds[i].m, 1, &jpeg, 1, (struct engine_req){ 0 });
        same_text(h, kinds[i].talk);
        const struct engine_done *d = &h->done;
        assert_string_equal(d->template_name, kinds[i].template_name);
        assert_int_equal(d->prompt_tokens, expanded(kinds[i].talk, kinds[i].tokens));
        assert_true(d->images == 1 && d->images_encoded == 1 && d->image_tokens == kinds[i].tokens);
        assert_true(d->image_decode_ms > 0 && d->image_resize_ms > 0 && d->image_encode_ms > 0 &&
                    d->image_merge_ms > 0 && d->image_project_ms > 0);
        assert_true(d->ttft_ms >= d->image_encode_ms + d->prefill_ms);
    }
}
static void a_second_question_encodes_nothing(void **state) {
    (void)state;
    static const struct engine_message talk[] = { { "user", "What differs?", 13 },
                                                  { "assistant", "The colours.", 12 },
                                                  { "user", "Which?", 6 } };
    const struct engine_image both[] = { jpeg, png };
    load("llama2");
    struct heard *h = see(talk, 1, both, 2, (struct engine_req){ .session = "chat" });
    assert_int_equal(h->done.images_encoded, 2);
    h = see(talk, 3, both, 2, (struct engine_req){ .session = "chat" });
    same_text(h, "llama2.two");
    assert_true(h->done.images == 2 && h->done.images_encoded == 0 && h->done.image_encode_ms == 0);
    assert_in_range(h->done.cached_tokens, 60, h->done.prompt_tokens - 1); /* the first question with both pictures */
    h = see(&question, 1, &png, 1, (struct engine_req){ 0 });              /* no session: computed anew, but known */
    assert_true(h->done.images_encoded == 0 && h->done.cached_tokens == 0);
    h = see(talk, 3, both, 2, (struct engine_req){ .session = "chat" });
    same_text(h, "llama2.two");
}
/* A PNG of one pixel more or less is another picture: a chunk of text behind the last makes its bytes different. */
static struct engine_image variant(char *room, int i) {
    memcpy(room, png.bytes, png.n);
    room[png.n] = (char)i; /* behind IEND: decoders stop before it */
    return (struct engine_image){ "variant.png", room, png.n + 1, 0 };
}
static void more_pictures_than_there_is_room_for(void **state) {
    (void)state;
    char *room = mem_alloc(5 * (png.n + 1));
    struct engine_image many[5];
    load("llama2");
    char first[1 << 10];
    memccpy(first, see(&question, 1, &jpeg, 1, (struct engine_req){ .session = "chat" })->text, 0, sizeof first);
    for (int i = 0; i < 5; i++) { /* one after the other: the oldest makes room, nothing wrong is reused */
        many[i] = variant(room + (size_t)i * (png.n + 1), i);
        struct heard *h = see(&question, 1, &many[i], 1, (struct engine_req){ .session = "chat" });
        assert_int_equal(h->done.images_encoded, 1);
    }
    struct heard *h = see(&question, 1, &jpeg, 1, (struct engine_req){ .session = "chat" });
    assert_string_equal(h->text, first);
    assert_int_equal(h->done.images_encoded, 0); /* its rows were kept */
    h = ask(&(struct engine_req){
        .kind = ENGINE_REQ_GENERATE, .message = &question, .messages = 1, .image = many, .images = 5 });
    assert_int_equal(h->fail.code, STATUS_INVALID);
    assert_non_null(strstr(h->fail.text, "more than 4 different pictures"));
    assert_non_null(strstr(h->fail.text, "--max-images"));
    mem_free(room);
}
static void what_was_seen_is_shown(void **state) {
    (void)state;
    static const struct {
        const char *talk;
        struct engine_message m;
        int px, side;
    } kinds[] = { { "llama2", { "user", "Describe this image in detail.", 30 }, 56, 4 },
                  { "vicuna", { "user", "Describe this image in detail.", 30 }, 56, 4 },
                  { "v2", { "user", "[vqa] Describe this image in detail.", 36 }, 112, 8 } };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const int side = kinds[i].side;
        load(kinds[i].talk);
        struct heard *h = see(&kinds[i].m, 1, &jpeg, 1,
                              (struct engine_req){ .show = ENGINE_SHOW_INPUT | ENGINE_SHOW_ATTENTION, .look_px = 40 });
        same_text(h, kinds[i].talk);
        assert_int_equal(h->views, 4);
        for (int k = 0; k < 4; k++) {
            assert_int_equal(seen[k].view.kind, k);
            assert_string_equal(seen[k].view.name, "shapes.jpg");
            assert_string_equal(seen[k].view.format, "JPEG");
            assert_true(seen[k].view.file_width == 80 && seen[k].view.file_height == 60);
        }
        assert_true(seen[0].view.width == 40 && seen[0].view.height == 30 && seen[0].view.rgb_bytes == 3 * 40 * 30);
        assert_true(seen[1].view.width == kinds[i].px && seen[1].view.height == kinds[i].px);
        assert_true(seen[2].view.heats == side * side && seen[3].view.heats == side * side);
        if (strcmp(kinds[i].talk, "vicuna") != 0) near_to(seen[2].u.heat, kinds[i].talk, "look", 1, 1e-5);
        near_to(seen[3].u.heat, kinds[i].talk, "gaze", 1, 1e-5);
        const struct record *share = record(kinds[i].talk, "share");
        double sum = 0;
        for (int k = 0; k < share->rows * share->cols; k++) sum += (double)share->f[k];
        assert_true(fabs(sum - seen[3].view.share) < 1e-5);
    }
}
static void a_picture_is_shown_without_a_model(void **state) {
    (void)state;
    const struct engine_image both[] = { jpeg, png };
    struct heard *h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOOK, .image = both, .images = 2 });
    assert_int_equal(h->fail.code, 0);
    assert_int_equal(h->views, 2);
    assert_true(seen[0].view.width == 80 && seen[0].view.height == 60); /* never larger than it is */
    assert_true(seen[1].view.width == 45 && seen[1].view.height == 70);
    assert_true(seen[1].view.image == 1 && !strcmp(seen[1].view.format, "PNG"));
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOOK, .image = both, .images = 2, .look_px = 35 });
    assert_true(seen[1].view.width == 22 && seen[1].view.height == 35);
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOOK });
    assert_non_null(strstr(h->fail.text, "no picture"));
}
static void what_cannot_be_seen_is_said(void **state) {
    (void)state;
    const struct engine_image text = { "notes.txt", "no picture at all", 17, 0 },
                              cut = { "cut.jpg", jpeg.bytes, 900, 0 };
    struct engine_req q = { .kind = ENGINE_REQ_GENERATE, .message = &question, .messages = 1, .images = 1 };
    load("llama2");
    q.image = &text;
    struct heard *h = ask(&q);
    assert_non_null(strstr(h->fail.text, "notes.txt"));
    q.image = &cut;
    h = ask(&q);
    assert_non_null(strstr(h->fail.text, "cut.jpg"));
    same_text(see(&question, 1, &jpeg, 1, (struct engine_req){ 0 }), "llama2"); /* nothing was lost */
    struct engine_image late = jpeg;
    late.message = 1;
    q.image = &late;
    struct err e = { 0 };
    uint64_t job;
    assert_int_equal(engine_submit(g, &q, &job, &e), STATUS_INVALID);
    assert_non_null(strstr(e.text, "belongs to no message"));
    struct heard *l =
        ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = FOLDER "llm", .vision_dtype = "fp16" });
    assert_non_null(strstr(l->fail.text, "reads text alone"));
    l = ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = FOLDER "llm" });
    if (l->fail.code) fail_msg("%s", l->fail.text);
    q.image = &jpeg;
    q.template_name = "vicuna";
    h = ask(&q);
    assert_non_null(strstr(h->fail.text, "reads text alone"));
    l = ask(&(struct engine_req){ .kind = ENGINE_REQ_PROFILE, .vision_only = true });
    assert_non_null(strstr(l->fail.text, "no image path"));
    static const struct {
        struct engine_req q;
        const char *says;
    } loads[] = {
        { { .model = FOLDER "llama2", .vision_dtype = "int4" }, "--vision-dtype int4" },
        { { .model = FOLDER "llama2", .max_images = 17 }, "--max-images 17: 1 to 16" },
        { { .model = FOLDER "llama2", .projector = FOLDER "vicuna/prerained_minigpt4_7b.pth" }, "llama_proj" },
        { { .model = FOLDER "llama2", .llm = "tests/golden/folders/llama-tied" }, "rows of 64 numbers" },
        { { .model = FOLDER "llama2", .vit = "tests/golden/minigpt4/shapes.jpg" }, "shapes.jpg" },
    };
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) {
        struct engine_req r = loads[i].q;
        r.kind = ENGINE_REQ_LOAD;
        l = ask(&r);
        if (!l->fail.code || !strstr(l->fail.text, loads[i].says)) fail_msg("%zu: '%s'", i, l->fail.text);
    }
}
static void the_image_path_is_measured(void **state) {
    (void)state;
    load("vicuna");
    struct heard *h = ask(&(struct engine_req){ .kind = ENGINE_REQ_PROFILE, .vision_only = true, .runs = 2 });
    if (h->fail.code) fail_msg("%s", h->fail.text);
    const struct engine_profile *p = &h->profile;
    assert_true(p->vision && p->vision_only && p->image_tokens == 5 && !strcmp(p->vision_dtype, "fp32"));
    assert_true(p->wall_ms[ENGINE_VISION] > 0 && p->spans_ms[ENGINE_VISION] > 0 && p->image_resize_ms > 0);
    assert_true(p->wall_ms[ENGINE_PREFILL] == 0 && p->wall_ms[ENGINE_DECODE] == 0);
    assert_true(fabs(h->row_ms[ENGINE_VISION] - p->spans_ms[ENGINE_VISION]) < 1e-6);
    h = ask(&(struct engine_req){ .kind = ENGINE_REQ_PROFILE, .prompt_tokens = 8, .max_new_tokens = 2, .runs = 1 });
    if (h->fail.code) fail_msg("%s", h->fail.text);
    for (int k = 0; k < ENGINE_PHASES; k++) assert_true(h->profile.wall_ms[k] > 0 && h->row_ms[k] > 0);
}
/* The authors' sampling is taken where the request leaves it to them. */
static void its_authors_sampling(void **state) {
    (void)state;
    load("llama2");
    struct heard *h = see(&question, 1, &jpeg, 1,
                          (struct engine_req){ .own_sampling = true, .max_new_tokens = 4, .sampling = { .seed = 3 } });
    const struct engine_sampling *s = &h->done.sampling;
    assert_true(s->temperature == 1 && s->top_p == 0.9f && s->top_k == 50 && s->repetition_penalty == 1.05f);
    assert_true(s->seed == 3 && !h->done.greedy);
}
/* Without memory at any point there is an error and nothing is lost: the next question is answered as ever. */
static bool ends_without_memory(const struct engine_req *q, long n) {
    static struct heard h;
    struct err e = { 0 };
    uint64_t job;
    memset(&h, 0, sizeof h);
    mem_fail_at(n);
    const int rc = engine_submit(g, q, &job, &e);
    if (!rc) listen(job, &h);
    const long made = mem_fail_at(0);
    const int code = rc ? rc : h.fail.code;
    if (code) assert_int_equal(code, STATUS_NOMEM);
    return made < n;
}
static void no_memory_is_an_error_and_loses_nothing(void **state) {
    (void)state;
    const char *device = getenv("JAEDA_BACKEND");
    const long coarse = device && *device && strcmp(device, "cpu") != 0 ? 20 : 1; /* the emulated one is slow */
    char *room = mem_alloc(png.n + 1);
    load("vicuna");
    for (long n = 1;; n += coarse) {
        struct engine_image other = variant(room, (int)(n % 100)); /* is encoded, not known */
        const struct engine_req q = { .kind = ENGINE_REQ_GENERATE,
                                      .message = &question,
                                      .messages = 1,
                                      .image = &other,
                                      .images = 1,
                                      .max_new_tokens = 2,
                                      .show = ENGINE_SHOW_INPUT | ENGINE_SHOW_ATTENTION };
        if (ends_without_memory(&q, n)) break;
    }
    same_text(see(&question, 1, &jpeg, 1, (struct engine_req){ 0 }), "vicuna");
    mem_free(room);
    for (long n = 1;; n += coarse * (n < 50 ? 1 : 13)) {
        ask(&(struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .model = "*" });
        const struct engine_req q = { .kind = ENGINE_REQ_LOAD, .model = FOLDER "v2", .dtype = "fp32" };
        if (ends_without_memory(&q, n)) break;
    }
    load("llama2");
    same_text(see(&question, 1, &jpeg, 1, (struct engine_req){ 0 }), "llama2");
}
static int set_up(void **state) {
    (void)state;
    struct err e = { 0 };
    jpeg = read_picture("shapes.jpg");
    png = read_picture("shapes.png");
    if (vectors_open(&v, "tests/golden/minigpt4.bin", &e) || engine_open(&g, "local:", &e))
        return print_error("%s\n", e.text), -1;
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    engine_close(g);
    vectors_close(&v);
    mem_free((char *)jpeg.bytes);
    mem_free((char *)png.bytes);
    return 0;
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_answers_as_the_reference_does),
        cmocka_unit_test(a_second_question_encodes_nothing),
        cmocka_unit_test(more_pictures_than_there_is_room_for),
        cmocka_unit_test(what_was_seen_is_shown),
        cmocka_unit_test(a_picture_is_shown_without_a_model),
        cmocka_unit_test(what_cannot_be_seen_is_said),
        cmocka_unit_test(the_image_path_is_measured),
        cmocka_unit_test(its_authors_sampling),
        cmocka_unit_test(no_memory_is_an_error_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
