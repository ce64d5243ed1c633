#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void zero_bytes_are_still_a_pointer(void **state) {
    (void)state;
    void *const p[] = { mem_alloc(0), mem_zero(0, 8), mem_grow(NULL, 0, 4), mem_copy(NULL, 0) };
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
        assert_non_null(p[i]);
        mem_free(p[i]);
    }
    mem_free(NULL);
}
static void products_that_overflow_are_refused(void **state) {
    (void)state;
    assert_null(mem_zero(SIZE_MAX / 2, 3));
    assert_null(mem_grow(NULL, SIZE_MAX / 2, 3));
    assert_null(mem_copy("", SIZE_MAX));
}
static void copies_are_terminated(void **state) {
    (void)state;
    char *s = mem_copy("a\0b", 3), *t = mem_string("text");
    assert_memory_equal(s, "a\0b", 4);
    assert_string_equal(t, "text");
    mem_free(s);
    mem_free(t);
}
static void the_nth_and_all_later_ones_fail(void **state) {
    (void)state;
    mem_fail_at(3);
    void *a = mem_alloc(1), *b = mem_zero(1, 1);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(mem_alloc(1));
    assert_null(mem_string("x"));
    assert_null(mem_grow(NULL, 1, 1));
    assert_int_equal(mem_fail_at(0), 5);
    void *c = mem_alloc(1);
    assert_non_null(c);
    assert_int_equal(mem_fail_at(0), 1);
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_bytes_are_still_a_pointer),
        cmocka_unit_test(products_that_overflow_are_refused),
        cmocka_unit_test(copies_are_terminated),
        cmocka_unit_test(the_nth_and_all_later_ones_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
