/* Pictures as results: what is encoded is decoded again by the engine's own reader; heat, boxes and their parser. */
#include "base/buf.h"
#include "base/mem.h"
#include "data/image.h"
#include "kernel/present/draw.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct picture made(int width, int height, unsigned noise) {
    struct picture p;
    struct err e = { 0 };
    unsigned seed = 7;
    assert_int_equal(picture_init(&p, width, height, &e), 0);
    for (int i = 0; i < 3 * width * height; i++) {
        seed = seed * 1664525 + 1013904223;
        p.rgb[i] = (unsigned char)(128 + 100 * sin(i / 3 % width * 0.05 + i % 3) + (noise ? (seed >> 16) % noise : 0));
    }
    return p;
}
static size_t from_base64(const char *s, unsigned char *out) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    unsigned v = 0;
    int bits = 0;
    assert_int_equal(strlen(s) % 4, 0);
    for (; *s && *s != '='; s++) {
        v = v << 6 | (unsigned)(strchr(digit, *s) - digit);
        bits += 6;
        if (bits >= 8) out[n++] = (unsigned char)(v >> (bits -= 8));
    }
    return n;
}
/* The picture that a bundle carries, decoded; mime is what it must be. */
static struct image carried(json_t *bundle, const char *mime) {
    static unsigned char bytes[8 << 20];
    struct image m;
    struct err e = { 0 };
    const char *text = json_string_value(json_object_get(bundle, mime));
    if (!text) fail_msg("no %s", mime);
    const size_t n = from_base64(text, bytes);
    if (image_decode(&m, bytes, n, "it", &e)) fail_msg("%s", e.text);
    return m;
}
static void drawings_come_back_bit_for_bit(void **state) {
    (void)state;
    static const int size[][2] = { { 1, 1 }, { 2, 3 }, { 17, 5 }, { 120, 90 } }; /* lengths 0, 1 and 2 modulo 3, too */
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        struct picture p = made(size[i][0], size[i][1], 40);
        struct err e = { 0 };
        json_t *metadata, *b = picture_bundle(&p, true, "a line", &metadata, &e);
        struct image m = carried(b, "image/png");
        assert_int_equal(m.width, p.width);
        assert_int_equal(m.height, p.height);
        assert_memory_equal(m.rgb, p.rgb, 3 * (size_t)p.width * (size_t)p.height);
        assert_string_equal(json_string_value(json_object_get(b, "text/plain")), "a line");
        const json_t *told = json_object_get(metadata, "image/png");
        assert_int_equal(json_integer_value(json_object_get(told, "width")), p.width);
        assert_int_equal(json_integer_value(json_object_get(told, "height")), p.height);
        image_fini(&m);
        json_decref(b);
        json_decref(metadata);
        picture_fini(&p);
    }
}
static void photographs_are_small_and_nearly_the_same(void **state) {
    (void)state;
    for (int exact = 0; exact < 2; exact++) { /* a drawing whose PNG would be large, too */
        struct picture p = made(512, 288, exact ? 90 : 8);
        struct err e = { 0 };
        json_t *metadata, *b = picture_bundle(&p, exact, "x", &metadata, &e);
        struct image m = carried(b, "image/jpeg");
        double sum = 0;
        for (int i = 0; i < 3 * 512 * 288; i++) sum += (m.rgb[i] - p.rgb[i]) * (m.rgb[i] - p.rgb[i]);
        if (sqrt(sum / (3 * 512 * 288)) > (exact ? 12 : 4)) fail_msg("differs by %.1f", sqrt(sum / (3 * 512 * 288)));
        assert_null(json_object_get(b, "image/png"));
        assert_true(json_string_length(json_object_get(b, "image/jpeg")) < 512u * 288u * 3);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(metadata, "image/jpeg"), "width")), 512);
        image_fini(&m);
        json_decref(b);
        json_decref(metadata);
        picture_fini(&p);
    }
}
static void what_is_no_picture_is_refused(void **state) {
    (void)state;
    struct picture p;
    struct err e = { 0 };
    assert_int_equal(picture_copy(&p, "abc", 3, 1, 2, &e), STATUS_FORMAT);
    assert_null(p.rgb);
    e = (struct err){ 0 };
    assert_int_equal(picture_init(&p, 0, 5, &e), STATUS_FORMAT);
    e = (struct err){ 0 };
    assert_int_equal(picture_init(&p, 100000, 100000, &e), STATUS_FORMAT);
    for (long at = 1;; at++) { /* no memory anywhere */
        mem_fail_at(at);
        e = (struct err){ 0 };
        json_t *metadata = NULL, *b = NULL;
        const int rc = picture_init(&p, 20, 10, &e);
        if (!rc) b = picture_bundle(&p, true, "x", &metadata, &e);
        mem_fail_at(0);
        const bool whole = b && json_object_get(b, "image/png");
        if (!b) assert_int_equal(e.code, STATUS_NOMEM);
        json_decref(b);
        json_decref(metadata);
        picture_fini(&p);
        if (whole) break;
    }
}

/* ---- heat ---- */
static double grey(const unsigned char *p) { return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]; }
static void colours_grow_brighter(void **state) {
    (void)state;
    unsigned char was[3], is[3];
    draw_colour(0, was);
    for (int i = 1; i <= 200; i++) {
        draw_colour(i / 200.0, is);
        if (grey(is) < grey(was)) fail_msg("%d of 200 is darker than the one before", i);
        memcpy(was, is, 3);
    }
    draw_colour(-1, was);
    draw_colour(0, is);
    assert_memory_equal(was, is, 3);
    draw_colour(NAN, is);
    assert_memory_equal(was, is, 3);
    draw_colour(9, was);
    draw_colour(1, is);
    assert_memory_equal(was, is, 3);
}
/* On a grey picture of 100 the colour of a pixel tells its value: compared with bilinear weights worked out by hand. */
static void heat_lies_where_it_belongs(void **state) {
    (void)state;
    struct picture p = made(40, 20, 0), out;
    struct err e = { 0 };
    double top;
    memset(p.rgb, 100, 3 * 40 * 20);
    static const float heat[] = { 0, 1, 2, 4 }; /* 2 x 2: cells of 20 x 10 */
    assert_int_equal(draw_heat(&out, &p, heat, 2, 2, &top, &e), 0);
    assert_true(top == 4);
    assert_int_equal(out.height, 20);
    assert_int_equal(out.width, 50); /* with the bar */
    static const struct {
        int x, y;
        double v;
    } at[] = { { 0, 0, 0 },   /* before the first middle: its own value */
               { 39, 19, 4 }, /* behind the last */
               { 39, 0, 1 },
               { 20, 0, (20.5 / 20 - 0.5) * 1 },                            /* between two columns */
               { 20, 10, 0.55 * (0.475 * 2 + 0.525 * 4) + 0.45 * 0.525 } }; /* between all four */
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        unsigned char want[3];
        const unsigned char *is = out.rgb + 3 * (at[i].y * 50 + at[i].x);
        const double v = at[i].v / 4;
        draw_colour(v, want);
        for (int k = 0; k < 3; k++) {
            const double blended = 100 + (0.45 + 0.25 * v) * (want[k] - 100);
            if (fabs(is[k] - blended) > 1) fail_msg("(%d, %d): %d, not %.1f", at[i].x, at[i].y, is[k], blended);
        }
    }
    unsigned char hot[3], cold[3];
    draw_colour(0.975, hot), draw_colour(0.025, cold);
    for (int k = 0; k < 3; k++) { /* the bar: bright above, dark below */
        assert_int_equal(out.rgb[3 * 49 + k], hot[k]);
        assert_int_equal(out.rgb[3 * (19 * 50 + 49) + k], cold[k]);
    }
    picture_fini(&out);
    picture_fini(&p);
}
static void one_cell_does_not_darken_all_others(void **state) {
    (void)state;
    struct picture p = made(32, 32, 0), out;
    struct err e = { 0 };
    float heat[256];
    double top;
    for (int i = 0; i < 256; i++) heat[i] = 0.002f;
    heat[77] = 0.49f;
    assert_int_equal(draw_heat(&out, &p, heat, 16, 16, &top, &e), 0);
    assert_true(fabs(top - 0.002) < 1e-6);
    picture_fini(&out);
    memset(heat, 0, sizeof heat); /* nothing anywhere is no division by nothing */
    assert_int_equal(draw_heat(&out, &p, heat, 16, 16, &top, &e), 0);
    assert_true(top == 0);
    picture_fini(&out);
    assert_int_equal(draw_heat(&out, &p, heat, 0, 16, &top, &e), STATUS_FORMAT);
    picture_fini(&p);
}

/* ---- boxes ---- */
static struct boxes found(const char *text) {
    struct boxes b;
    boxes_find(&b, text, strlen(text));
    return b;
}
static void is_box(const struct boxes *b, int i, const double at[4], int number, const char *phrase) {
    const struct box *x = &b->box[i];
    assert_true(x->x1 == at[0] && x->y1 == at[1] && x->x2 == at[2] && x->y2 == at[3]);
    assert_int_equal(x->number, number);
    assert_true(phrase ? x->phrase && x->len == strlen(phrase) && !memcmp(x->phrase, phrase, x->len) : !x->phrase);
}
#define AT(...) ((const double[4]){ __VA_ARGS__ })
static void boxes_of_an_answer(void **state) {
    (void)state;
    struct boxes b = found("In this image <p>a man</p> {<10><20><50><90>} walks <p>강아지 두 마리</p> "
                           "{<60><70><80><95>}<delim>{<1><2><3><4>}.");
    assert_int_equal(b.n, 3);
    assert_int_equal(b.numbers, 2);
    is_box(&b, 0, AT(10, 20, 50, 90), 1, "a man");
    is_box(&b, 1, AT(60, 70, 80, 95), 2, "강아지 두 마리");
    is_box(&b, 2, AT(1, 2, 3, 4), 2, "강아지 두 마리");
    b = found("{<10><20><50><90>}");
    assert_int_equal(b.n, 1);
    is_box(&b, 0, AT(10, 20, 50, 90), 1, NULL);
    b = found("{<10><20><50><90>}<delim>{<20><20><50><90>}"); /* without a phrase each is its own */
    assert_int_equal(b.n, 2);
    assert_int_equal(b.box[1].number, 2);
    b = found("<10> <20> <50> <90>");
    assert_int_equal(b.n, 1);
}
static void boxes_of_a_careless_answer(void **state) {
    (void)state;
    struct boxes b = found("<p> a cat {< 10 ><unk><20> <50><90>} <delim> {<50><90><10><20>");
    assert_int_equal(b.n, 2);
    is_box(&b, 0, AT(10, 20, 50, 90), 1, "a cat");
    is_box(&b, 1, AT(10, 20, 50, 90), 1, "a cat"); /* corners the other way round */
    b = found("<p>x</p> {<-7><0><150><99>}");
    is_box(&b, 0, AT(0, 0, 100, 99), 1, "x");
    static const char *const none[] = {
        "",
        "no box at all",
        "{<10><20><50>}",
        "{<10><20><50><ninety>}",
        "{<10><20><10><90>}",       /* no area */
        "{<300><300><400><400>}",   /* beyond the picture */
        "ten to five: 10 20 30 40", /* numbers without brackets are a sentence's */
        "<1><2><3><4><5>",
        "<p>",
        "<p>a dog</p>",
        "{",
        "{{{{<<<>>>",
        "<p><p><p>{<p>",
        "<delim><delim>",
        "{<99999999999999999999><0><0><0>}",
    };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        b = found(none[i]);
        if (b.n) fail_msg("a box in \"%s\"", none[i]);
    }
}
/* Every cut and every change of one byte of a text: read within its bounds (the sanitizers watch), boxes within the picture. */
static void boxes_of_hostile_texts(void **state) {
    (void)state;
    static const char text[] = "<p>a</p> {<10><20><50><90>}<delim>{<60><70><80><95>}<unk><p>b{<1><2><3><4>}";
    const size_t n = sizeof text - 1;
    for (size_t cut = 0; cut <= n; cut++)
        for (int c = 0; c < 256; c += cut == n ? 1 : 85) {
            char *s = malloc(n ? cut : 1); /* exactly its size */
            struct boxes b;
            memcpy(s, text, cut);
            if (cut) s[(size_t)c % cut] = (char)c;
            boxes_find(&b, s, cut);
            for (int i = 0; i < b.n; i++) {
                const struct box *x = &b.box[i];
                assert_true(x->x1 >= 0 && x->x1 < x->x2 && x->x2 <= 100 && x->y1 >= 0 && x->y1 < x->y2 && x->y2 <= 100);
                assert_true(x->number >= 1 && x->number <= b.numbers);
                assert_true(!x->phrase || (x->phrase >= s && x->phrase + x->len <= s + cut));
            }
            free(s);
        }
    struct buf many;
    struct boxes b;
    buf_init(&many, 1 << 20);
    for (int i = 0; i < 500; i++) buf_puts(&many, "<p>a</p>{<1><1><9><9>}");
    boxes_find(&b, many.p, many.n);
    assert_int_equal(b.n, BOXES_MAX);
    buf_fini(&many);
}
static bool is_colour(const struct picture *p, int x, int y, int r, int g, int b) {
    const unsigned char *at = p->rgb + 3 * (y * p->width + x);
    return at[0] == r && at[1] == g && at[2] == b;
}
static void boxes_are_drawn(void **state) {
    (void)state;
    struct err e = { 0 };
    struct picture p;
    assert_int_equal(picture_init(&p, 200, 100, &e), 0);
    memset(p.rgb, 77, 3 * 200 * 100);
    struct boxes b = found("{<10><20><60><80>}");
    draw_boxes(&p, &b);
    assert_true(is_colour(&p, 20, 20, 230, 159, 0)); /* its corners, the first colour */
    assert_true(is_colour(&p, 119, 79, 230, 159, 0));
    assert_true(is_colour(&p, 19, 40, 0, 0, 0));    /* the rim */
    assert_true(is_colour(&p, 70, 50, 77, 77, 77)); /* the inside and the outside stay as they are */
    assert_true(is_colour(&p, 10, 10, 77, 77, 77));
    b = found("<p>a</p>{<10><20><60><80>}<p>b</p>{<0><0><100><100>}<p>c</p>{<99><99><100><100>}");
    draw_boxes(&p, &b); /* in all corners: within the picture (the sanitizers watch) */
    int dark = 0;
    for (int y = 23; y < 38; y++)
        for (int x = 23; x < 32; x++) dark += is_colour(&p, x, y, 0, 0, 0);
    assert_int_equal(dark, 8 * 9); /* a "1" of 8 cells of 3 x 3 */
    picture_fini(&p);
    assert_int_equal(picture_init(&p, 1, 1, &e), 0);
    draw_boxes(&p, &b);
    picture_fini(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drawings_come_back_bit_for_bit),
        cmocka_unit_test(photographs_are_small_and_nearly_the_same),
        cmocka_unit_test(what_is_no_picture_is_refused),
        cmocka_unit_test(colours_grow_brighter),
        cmocka_unit_test(heat_lies_where_it_belongs),
        cmocka_unit_test(one_cell_does_not_darken_all_others),
        cmocka_unit_test(boxes_of_an_answer),
        cmocka_unit_test(boxes_of_a_careless_answer),
        cmocka_unit_test(boxes_of_hostile_texts),
        cmocka_unit_test(boxes_are_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
