#include "base/buf.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void grows_and_stays_terminated(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_string_equal(buf_text(&b), "");
    for (int i = 0; i < 1000; i++) assert_int_equal(buf_printf(&b, "%d,", i), 0);
    assert_int_equal(b.n, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(buf_text(&b)), b.n);
    assert_memory_equal(b.p + b.n - 8, "998,999,", 9);
    assert_int_equal(buf_add(&b, "a\0b", 3), 0);
    assert_memory_equal(b.p + b.n - 3, "a\0b", 4);
    buf_fini(&b);
    assert_null(b.p);
}
static void the_maximum_is_kept_and_sticky(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 4);
    assert_int_equal(buf_puts(&b, "1234"), 0);
    assert_int_equal(buf_puts(&b, "5"), -1);
    assert_true(b.failed);
    assert_int_equal(buf_puts(&b, ""), -1);
    assert_string_equal(buf_text(&b), "1234");
    assert_null(buf_take(&b));
    buf_reset(&b);
    assert_int_equal(buf_printf(&b, "%s", "abcd"), 0);
    assert_int_equal(buf_printf(&b, "%d", 1), -1);
    buf_fini(&b);
    buf_init(&b, 0);
    assert_int_equal(buf_add(&b, NULL, 0), 0);
    assert_int_equal(buf_add(&b, "x", 1), -1);
    buf_fini(&b);
}
static void an_absurd_length_is_refused(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, SIZE_MAX);
    assert_int_equal(buf_puts(&b, "x"), 0);
    assert_int_equal(buf_add(&b, "x", SIZE_MAX - 1), -1);
    assert_string_equal(buf_text(&b), "x");
    buf_fini(&b);
}
static void drop_and_take(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    buf_drop(&b, 5);
    buf_puts(&b, "hello world");
    buf_drop(&b, 6);
    assert_string_equal(buf_text(&b), "world");
    buf_drop(&b, 99);
    assert_int_equal(b.n, 0);
    buf_puts(&b, "x");
    char *p = buf_take(&b);
    assert_string_equal(p, "x");
    assert_int_equal(b.n, 0);
    mem_free(p);
    p = buf_take(&b);
    assert_string_equal(p, "");
    mem_free(p);
    buf_fini(&b);
}
static void no_memory_keeps_what_was_there(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_puts(&b, "kept");
    mem_fail_at(1);
    char big[500];
    memset(big, 'x', sizeof big);
    assert_int_equal(buf_add(&b, big, sizeof big), -1);
    mem_fail_at(0);
    assert_true(b.failed);
    assert_string_equal(buf_text(&b), "kept");
    buf_fini(&b);
    mem_fail_at(1);
    assert_null(buf_take(&b));
    mem_fail_at(0);
    buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_stays_terminated),     cmocka_unit_test(the_maximum_is_kept_and_sticky),
        cmocka_unit_test(an_absurd_length_is_refused),    cmocka_unit_test(drop_and_take),
        cmocka_unit_test(no_memory_keeps_what_was_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
