#include "base/dtype.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Sizes as ggml's documentation gives them: bits per weight. */
static const struct {
    const char *name;
    int number;
    double bits;
} known[] = {
    { "f32", 0, 32 },    { "f16", 1, 16 },       { "q4_0", 2, 4.5 },    { "q4_1", 3, 5 },       { "q5_0", 6, 5.5 },
    { "q5_1", 7, 6 },    { "q8_0", 8, 8.5 },     { "q2_k", 10, 2.625 }, { "q3_k", 11, 3.4375 }, { "q4_k", 12, 4.5 },
    { "q5_k", 13, 5.5 }, { "q6_k", 14, 6.5625 }, { "bf16", 30, 16 },
};

static void numbers_and_sizes_are_ggufs(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct dtype_info *t = dtype_info(known[i].number);
        assert_non_null(t);
        assert_string_equal(t->name, known[i].name);
        assert_int_equal(dtype_parse(known[i].name), known[i].number);
        assert_true((double)dtype_bytes(known[i].number, 1024) == 1024 * known[i].bits / 8);
    }
    assert_null(dtype_info(9));
    assert_null(dtype_info(-1));
}
static void spellings_of_the_field(void **state) {
    (void)state;
    assert_int_equal(dtype_parse("FP32"), DTYPE_F32);
    assert_int_equal(dtype_parse("float32"), DTYPE_F32);
    assert_int_equal(dtype_parse("half"), DTYPE_F16);
    assert_int_equal(dtype_parse("BFloat16"), DTYPE_BF16);
    assert_int_equal(dtype_parse("Q4_1"), DTYPE_Q4_1);
    assert_int_equal(dtype_parse("int8"), DTYPE_Q8_0);
    assert_int_equal(dtype_parse("4bit"), DTYPE_Q4_0);
    assert_int_equal(dtype_parse("fp31"), DTYPE_NONE);
    assert_int_equal(dtype_parse(""), DTYPE_NONE);
}
static void odd_lengths_and_overflow_give_zero(void **state) {
    (void)state;
    assert_int_equal(dtype_bytes(DTYPE_Q4_1, 33), 0);
    assert_int_equal(dtype_bytes(99, 32), 0);
    assert_int_equal(dtype_bytes(DTYPE_F32, SIZE_MAX / 2), 0);
    assert_int_equal(dtype_bytes(DTYPE_F32, 3), 12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_and_sizes_are_ggufs),
        cmocka_unit_test(spellings_of_the_field),
        cmocka_unit_test(odd_lengths_and_overflow_give_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
