#include "data/strmap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void the_first_value_stays(void **state) {
    (void)state;
    struct strmap m;
    assert_int_equal(strmap_init(&m, 3), 0);
    assert_int_equal(strmap_add(&m, "a", 1, 7), -1);
    assert_int_equal(strmap_add(&m, "a", 1, 8), 7);
    assert_int_equal(strmap_add(&m, "", 0, 9), -1);
    assert_int_equal(strmap_add(&m, "a\0b", 3, 10), -1);
    assert_int_equal(strmap_get(&m, "a", 1), 7);
    assert_int_equal(strmap_get(&m, "", 0), 9);
    assert_int_equal(strmap_get(&m, "a\0b", 3), 10);
    assert_int_equal(strmap_get(&m, "a\0c", 3), -1);
    strmap_fini(&m);
    assert_int_equal(strmap_get(&m, "a", 1), -1);
}
/* Strings that begin alike meet in the same slots; the table is as full as it may be. */
static void prefixes_stay_apart(void **state) {
    (void)state;
    enum { N = 2048 };
    static char text[N];
    struct strmap m;
    memset(text, 'a', N);
    for (int n = 1; n <= N; n *= 2) {
        assert_int_equal(strmap_init(&m, (size_t)n), 0);
        for (int i = 0; i < n; i++) assert_int_equal(strmap_add(&m, text, (size_t)i, i), -1);
        for (int i = 0; i < N; i++) assert_int_equal(strmap_get(&m, text, (size_t)i), i < n ? i : -1);
        strmap_fini(&m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_value_stays),
        cmocka_unit_test(prefixes_stay_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
