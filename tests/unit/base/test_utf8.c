/* The reference is the C library's own iconv; replacement counts follow Unicode's table of maximal subparts (3-8). */
#include "base/utf8.h"
#include <iconv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static iconv_t converter;

/* Code points of s by iconv, or -1 when it is no UTF-8. */
static long reference(const char *s, size_t n, uint32_t *first) {
    uint32_t out[64];
    char *in = (char *)s, *to = (char *)out;
    size_t left = n, room = sizeof out;
    iconv(converter, NULL, NULL, NULL, NULL);
    if (iconv(converter, &in, &left, &to, &room) == (size_t)-1) return -1;
    *first = out[0];
    return (long)((sizeof out - room) / 4);
}
static void every_code_point_survives(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp < 0x110010; cp++) {
        char s[5] = { 0 };
        uint32_t back = 0, first = 0;
        const int n = utf8_encode(cp, s);
        if ((cp >= 0xd800 && cp < 0xe000) || cp > 0x10ffff) {
            assert_int_equal(n, 0);
            continue;
        }
        assert_int_equal(utf8_decode(s, (size_t)n, &back), n);
        assert_int_equal(back, cp);
        assert_int_equal(reference(s, (size_t)n, &first), 1);
        assert_int_equal(first, cp);
        for (int cut = 1; cut < n; cut++) {
            assert_int_equal(utf8_decode(s, (size_t)cut, &back), 0);
            assert_int_equal(utf8_tail(s, (size_t)cut), cut);
        }
        assert_int_equal(utf8_tail(s, (size_t)n), 0);
    }
}
static void random_bytes_agree_with_the_reference(void **state) {
    (void)state;
    static const unsigned char likely[] = { 0x41, 0x80, 0xbf, 0x90, 0x9f, 0xa0, 0xc2, 0xdf, 0xe0, 0xed,
                                            0xef, 0xf0, 0xf4, 0xf5, 0xc0, 0xff, 0x8f, 0xe1, 0xf1, 0x00 };
    srand(7);
    int valid = 0;
    for (int i = 0; i < 300000; i++) {
        char s[8];
        const size_t n = (size_t)(rand() % 6) + 1;
        for (size_t k = 0; k < n; k++) s[k] = (char)likely[(size_t)rand() % sizeof likely];
        uint32_t first, got;
        const long want = reference(s, n, &first);
        valid += want >= 0;
        assert_int_equal(utf8_valid(s, n), want >= 0);
        if (want < 0) continue;
        assert_int_equal(utf8_count(s, n), want);
        assert_true(utf8_decode(s, n, &got) > 0);
        assert_int_equal(got, first);
    }
    assert_true(valid > 1000);
}
static void repairs_by_maximal_subparts(void **state) {
    (void)state;
    static const struct {
        const char *in;
        size_t n;
        const char *out; /* '?' for U+FFFD */
    } row[] = {
        { "\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", 9, "????????A" },
        { "\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", 9, "????????A" },
        { "\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", 9, "?????A??B" },
        { "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", 9, "????A" },
        { "ok", 2, "ok" },
        { "\xed\x95\x9c\xed\x95", 5, "\xed\x95\x9c?" },
        { "a\0b", 3, "a" },
        { "", 0, "" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct buf got, want;
        buf_init(&got, 1000);
        buf_init(&want, 1000);
        size_t marks = 0;
        for (const char *p = row[i].out; *p; p++) {
            marks += *p == '?';
            buf_add(&want, *p == '?' ? "\xef\xbf\xbd" : p, *p == '?' ? 3 : 1);
        }
        assert_int_equal(utf8_repair(&got, row[i].in, row[i].n), marks);
        assert_string_equal(buf_text(&got), buf_text(&want));
        assert_true(utf8_valid(buf_text(&got), got.n));
        buf_fini(&got);
        buf_fini(&want);
    }
}
static void offsets_count_code_points(void **state) {
    (void)state;
    const char *s = "a\xed\x95\x9c\xf0\x9f\xa6\x99\xff"
                    "b";
    const size_t n = strlen(s);
    assert_int_equal(utf8_count(s, n), 5);
    static const size_t at[] = { 0, 1, 4, 8, 9, 10, 10 };
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) assert_int_equal(utf8_offset(s, n, i), at[i]);
    assert_int_equal(utf8_tail("\x80\x80\x80\x80", 4), 0);
    assert_int_equal(utf8_tail("a\xed\xa0", 3), 0);
    assert_int_equal(utf8_tail("", 0), 0);
}
static void widths_are_terminal_cells(void **state) {
    (void)state;
    assert_int_equal(utf8_width("abc", 3), 3);
    assert_int_equal(utf8_width("\xed\x95\x9c\xea\xb8\x80", 6), 4);
    assert_int_equal(utf8_width("e\xcc\x81", 3), 1);
    assert_int_equal(utf8_width("\xf0\x9f\xa6\x99", 4), 2);
    assert_int_equal(utf8_width("\xff", 1), 1);
}

/* Expected: unicodedata.normalize of Python 3.11. */
static void normal_forms(void **state) {
    (void)state;
    static const struct {
        const char *in, *form[4]; /* NFC NFD NFKC NFKD */
    } row[] = {
        { "", { "", "", "", "" } },
        { "abc", { "abc", "abc", "abc", "abc" } },
        { "caf\xc3\xa9 e\xcc\x81",
          { "caf\xc3\xa9 \xc3\xa9", "cafe\xcc\x81 e\xcc\x81", "caf\xc3\xa9 \xc3\xa9", "cafe\xcc\x81 e\xcc\x81" } },
        { "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab",
          { "\xed\x95\x9c", "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c",
            "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab" } },
        { "\xed\x95\x98\xe1\x86\xab", /* an open syllable and a final */
          { "\xed\x95\x9c", "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c",
            "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab" } },
        { "a\xcc\x81\xcc\xa3",
          { "\xe1\xba\xa1\xcc\x81", "a\xcc\xa3\xcc\x81", "\xe1\xba\xa1\xcc\x81", "a\xcc\xa3\xcc\x81" } },
        { "\xef\xac\x81\xe2\x84\xab",
          { "\xef\xac\x81\xc3\x85",
            "\xef\xac\x81"
            "A\xcc\x8a",
            "fi\xc3\x85", "fiA\xcc\x8a" } },
        { "\xef\xbd\xb6\xef\xbe\x9e", /* half-width: the mark joins only in compatibility */
          { "\xef\xbd\xb6\xef\xbe\x9e", "\xef\xbd\xb6\xef\xbe\x9e", "\xe3\x82\xac", "\xe3\x82\xab\xe3\x82\x99" } },
        { "e\xff\xcc\x81\xed\xa0\x80",
          { "e\xff\xcc\x81\xed\xa0\x80", "e\xff\xcc\x81\xed\xa0\x80", "e\xff\xcc\x81\xed\xa0\x80",
            "e\xff\xcc\x81\xed\xa0\x80" } },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int form = 0; form < 4; form++) {
            struct buf b;
            buf_init(&b, 1000);
            assert_int_equal(utf8_normalize(&b, row[i].in, strlen(row[i].in), (enum utf8_form)form), 0);
            assert_string_equal(buf_text(&b), row[i].form[form]);
            buf_fini(&b);
        }
}
/* Marks are sorted in quadratic time where nothing bounds their run. */
static void a_megabyte_of_marks_is_normalised_in_time(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    struct buf in, out;
    buf_init(&in, 2 * N);
    buf_init(&out, 4 * N);
    while (in.n < N) buf_puts(&in, "\xcc\x81\xcc\xa3");
    assert_int_equal(utf8_normalize(&out, in.p, in.n, UTF8_NFC), 0);
    assert_int_equal(out.n, in.n);
    buf_fini(&in);
    buf_fini(&out);
    buf_init(&out, 2);
    assert_int_equal(utf8_normalize(&out, "e\xcc\x81x", 4, UTF8_NFC), -1);
    buf_fini(&out);
}
static void spaces_and_words(void **state) {
    (void)state;
    static const uint32_t space[] = { ' ', '\t', 0x85, 0xa0, 0x1680, 0x2000, 0x200a, 0x2028, 0x202f, 0x3000 },
                          neither[] = { 0x180e, 0x200b, '-', 0xb2, 0x1f600, 0xfeff },
                          word[] = { 'a', '_', '7', 0xac00, 0x301, 0x2177, 0x203f };
    for (size_t i = 0; i < sizeof space / sizeof *space; i++)
        assert_true(utf8_is_space(space[i]) && !utf8_is_word(space[i]));
    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        assert_true(utf8_is_word(word[i]) && !utf8_is_space(word[i]));
    for (size_t i = 0; i < sizeof neither / sizeof *neither; i++)
        assert_false(utf8_is_word(neither[i]) || utf8_is_space(neither[i]));
}
int main(void) {
    converter = iconv_open("UTF-32LE", "UTF-8");
    if (converter == (iconv_t)-1) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_survives),
        cmocka_unit_test(random_bytes_agree_with_the_reference),
        cmocka_unit_test(repairs_by_maximal_subparts),
        cmocka_unit_test(offsets_count_code_points),
        cmocka_unit_test(widths_are_terminal_cells),
        cmocka_unit_test(normal_forms),
        cmocka_unit_test(a_megabyte_of_marks_is_normalised_in_time),
        cmocka_unit_test(spaces_and_words),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    iconv_close(converter);
    return failed;
}
