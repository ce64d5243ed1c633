#include "base/utf8.h"
#include "data/byte_text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The alphabet by its definition: printable Latin-1 stands for itself, the others count up from U+0100. */
static void fill(int byte_of[0x200]) {
    int next = 0x100;
    for (int cp = 0; cp < 0x200; cp++) byte_of[cp] = -1;
    for (int b = 0; b < 256; b++) {
        const int printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
        byte_of[printable ? b : next++] = b;
    }
}
static void every_character_is_its_byte_or_refused(void **state) {
    (void)state;
    int byte_of[0x200];
    fill(byte_of);
    for (uint32_t cp = 0; cp < 0x3000; cp++) {
        char s[4], out[4];
        const size_t n = (size_t)utf8_encode(cp, s), made = byte_text_decode(s, n, out);
        if (cp < 0x200 && byte_of[cp] >= 0) {
            assert_int_equal(made, 1);
            assert_int_equal((unsigned char)out[0], byte_of[cp]);
        } else {
            assert_true(made == (size_t)-1);
        }
    }
}
static void whole_words(void **state) {
    (void)state;
    char out[32];
    assert_int_equal(byte_text_decode("\xc4\xa0hi\xc4\x8a", 6, out), 4);
    assert_memory_equal(out, " hi\n", 4);
    assert_int_equal(byte_text_decode("", 0, out), 0);
    assert_true(byte_text_decode("a b", 3, out) == (size_t)-1);
    assert_true(byte_text_decode("a\xc4", 2, out) == (size_t)-1);
    assert_true(byte_text_decode("\xff", 1, out) == (size_t)-1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_is_its_byte_or_refused),
        cmocka_unit_test(whole_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
