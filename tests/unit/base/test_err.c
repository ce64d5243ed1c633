#include "base/err.h"
#include "base/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void the_first_cause_wins(void **state) {
    (void)state;
    struct err e = { 0 };
    assert_int_equal(err_set(&e, STATUS_IO, "disk %d", 1), STATUS_IO);
    assert_int_equal(err_set(&e, STATUS_NOMEM, "later"), STATUS_NOMEM);
    assert_int_equal(e.code, STATUS_IO);
    assert_string_equal(e.text, "disk 1");
    assert_int_equal(err_set(NULL, STATUS_BUSY, "nobody listens"), STATUS_BUSY);
}
static void long_text_is_cut_at_a_whole_character(void **state) {
    (void)state;
    char korean[1000];
    for (size_t pad = 0; pad < 3; pad++) {
        memset(korean, 'x', pad);
        for (size_t i = pad; i + 3 < sizeof korean; i += 3) memcpy(korean + i, "\xed\x95\x9c", 4);
        struct err e = { 0 };
        err_set(&e, STATUS_FORMAT, "%s", korean);
        const size_t n = strlen(e.text);
        assert_true(utf8_valid(e.text, n));
        assert_in_range(n, sizeof e.text - 3, sizeof e.text - 1);
    }
}
static void every_status_has_a_name(void **state) {
    (void)state;
    assert_string_equal(status_name(STATUS_CANCELLED), "KeyboardInterrupt");
    assert_string_equal(status_name(STATUS_INVALID), "UsageError");
    assert_string_equal(status_name(12345), "Error");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_cause_wins),
        cmocka_unit_test(long_text_is_cut_at_a_whole_character),
        cmocka_unit_test(every_status_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
