/* What a user sees of a token stream: whole code points, nothing of a stop string. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "run/text.h"
#include <cmocka.h>
#include <string.h>

/* Feeds the pieces (NULL ends), joining what is shown with '|'; a final flush after '/'. */
static const char *shown(const char *const *stop, int stops, const char *const *piece, struct text *t) {
    static char all[512];
    struct buf out;
    buf_init(&out, 1 << 16);
    text_init(t, stop, stops);
    all[0] = 0;
    bool ended = false;
    for (; *piece && !ended; piece++) {
        ended = text_feed(t, *piece, strlen(*piece), &out);
        strncat(all, buf_text(&out), sizeof all - strlen(all) - 1);
        strncat(all, ended ? "$" : "|", sizeof all - strlen(all) - 1);
    }
    if (!ended) {
        text_flush(t, &out);
        strncat(all, buf_text(&out), sizeof all - strlen(all) - 1);
    }
    text_fini(t);
    buf_fini(&out);
    return all;
}
#define PIECES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void syllables_are_never_broken(void **state) {
    (void)state;
    struct text t;
    /* 한 = ed 95 9c, 글 = ea b8 80, U+1F600 = f0 9f 98 80 */
    assert_string_equal(shown(NULL, 0, PIECES("\xed", "\x95", "\x9c\xea", "\xb8\x80!"), &t), "||한|글!|");
    assert_int_equal(t.chars, 3);
    assert_int_equal(t.replaced, 0);
    assert_string_equal(shown(NULL, 0, PIECES("a\xf0\x9f", "\x98\x80"), &t), "a|\xf0\x9f\x98\x80|");
}
static void a_tail_that_never_comes_is_one_replacement(void **state) {
    (void)state;
    struct text t;
    assert_string_equal(shown(NULL, 0, PIECES("a\xed\x95"), &t), "a|\xef\xbf\xbd");
    assert_int_equal(t.replaced, 1);
    assert_string_equal(shown(NULL, 0, PIECES("\xed", "x"), &t), "|\xef\xbf\xbdx|");
    assert_int_equal(t.chars, 2);
}
static void stop_strings_end_the_text_wherever_tokens_cut_them(void **state) {
    (void)state;
    struct text t;
    const char *const stop[] = { "###", "\n\nUser" };
    assert_string_equal(shown(stop, 2, PIECES("hi #", "#", "# no"), &t), "hi ||$");
    assert_int_equal(t.matched, 0);
    assert_string_equal(shown(stop, 2, PIECES("a#", "b"), &t), "a|#b|");
    assert_string_equal(shown(stop, 2, PIECES("x\n", "\nUs", "er: "), &t), "x||$");
    assert_int_equal(t.matched, 1);
    assert_string_equal(shown(stop, 2, PIECES("one\n\nUser###"), &t),
                        "one$"); /* the first in the text, not in the list */
    assert_int_equal(t.matched, 1);
    assert_string_equal(shown(stop, 2, PIECES("end ##"), &t), "end |##"); /* flushed: it was none after all */
}
static void overlapping_starts_are_held_back_once(void **state) {
    (void)state;
    struct text t;
    const char *const stop[] = { "aab" };
    assert_string_equal(shown(stop, 1, PIECES("a", "a", "a", "a", "b", "z"), &t), "||a|a|$");
}
static void no_memory_is_reported(void **state) {
    (void)state;
    struct text t;
    struct buf out;
    buf_init(&out, 1 << 16);
    text_init(&t, NULL, 0);
    mem_fail_at(1);
    text_feed(&t, "abc", 3, &out);
    mem_fail_at(0);
    assert_true(t.held.failed || out.failed);
    text_fini(&t);
    buf_fini(&out);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(syllables_are_never_broken),
        cmocka_unit_test(a_tail_that_never_comes_is_one_replacement),
        cmocka_unit_test(stop_strings_end_the_text_wherever_tokens_cut_them),
        cmocka_unit_test(overlapping_starts_are_held_back_once),
        cmocka_unit_test(no_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
