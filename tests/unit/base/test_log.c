#include "base/log.h"
#include "base/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int lines_of(const char *s) {
    int n = 0;
    for (; *s; s++) n += *s == '\n';
    return n;
}
static void one_line_an_event(void **state) {
    (void)state;
    log_to(-1);
    struct buf b;
    buf_init(&b, 1 << 20);
    log_at(LOG_INFO, "first %d", 1);
    log_at(LOG_WARN, "two\nlines\r");
    log_at(LOG_DEBUG, "not kept by default");
    log_tail(&b, 2);
    assert_int_equal(lines_of(buf_text(&b)), 2);
    const char *first = strstr(buf_text(&b), "info"), *second = strstr(buf_text(&b), "warn");
    assert_non_null(first);
    assert_non_null(strstr(first, ": first 1\n"));
    assert_non_null(second);
    assert_true(second > first);
    assert_non_null(strstr(second, ": two lines \n"));
    buf_fini(&b);
}
static void the_ring_keeps_the_newest(void **state) {
    (void)state;
    log_to(-1);
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 600; i++) log_at(LOG_INFO, "event %d.", i);
    log_tail(&b, 100000);
    assert_int_equal(lines_of(buf_text(&b)), 256);
    assert_null(strstr(buf_text(&b), "event 343."));
    assert_non_null(strstr(buf_text(&b), "event 344."));
    assert_non_null(strstr(buf_text(&b), "event 599."));
    buf_reset(&b);
    log_tail(&b, 0);
    assert_int_equal(b.n, 0);
    buf_fini(&b);
}
static void long_lines_are_cut_whole(void **state) {
    (void)state;
    log_to(-1);
    char korean[900];
    for (size_t i = 0; i + 3 < sizeof korean; i += 3) memcpy(korean + i, "\xed\x95\x9c", 4);
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int pad = 0; pad < 3; pad++) log_at(LOG_ERROR, "%.*s%s", pad, "xx", korean);
    log_tail(&b, 3);
    assert_int_equal(lines_of(buf_text(&b)), 3);
    assert_true(utf8_valid(b.p, b.n));
    buf_fini(&b);
}
static void warnings_reach_the_descriptor(void **state) {
    (void)state;
    int fd[2];
    char got[1000];
    assert_int_equal(pipe(fd), 0);
    log_to(fd[1]);
    log_at(LOG_WARN, "seen");
    log_at(LOG_INFO, "quiet");
    setenv("JAEDA_LOG", "debug", 1);
    log_at(LOG_DEBUG, "now too");
    unsetenv("JAEDA_LOG");
    log_to(-1);
    log_at(LOG_ERROR, "nowhere");
    close(fd[1]);
    const ssize_t n = read(fd[0], got, sizeof got - 1);
    close(fd[0]);
    assert_true(n > 0);
    got[n] = 0;
    assert_int_equal(lines_of(got), 2);
    assert_non_null(strstr(got, "warn"));
    assert_non_null(strstr(got, ": seen\n"));
    assert_non_null(strstr(got, ": now too\n"));
}

int main(void) {
    unsetenv("JAEDA_LOG");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_an_event),
        cmocka_unit_test(the_ring_keeps_the_newest),
        cmocka_unit_test(long_lines_are_cut_whole),
        cmocka_unit_test(warnings_reach_the_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
