#include "base/mem.h"
#include "kernel/protocol/spool.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* their shadow memory is resident too */
enum { SHADOW = true };
#else
enum { SHADOW = false };
#endif
enum { LETTER = 100000, LETTERS = 300 };
static struct letter *letter(struct spool *s, int mark) {
    struct letter *l = spool_letter(s, LETTER, 2, false);
    if (l) memset(letter_bytes(l), mark, LETTER);
    return l;
}
static void read_and_drop(struct letter *l, int mark) {
    char want[LETTER];
    memset(want, mark, LETTER);
    assert_memory_equal(letter_bytes(l), want, LETTER);
    letter_drop(NULL, l);
    letter_drop(NULL, l);
}
static long resident_pages(void) {
    long unused, pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    assert_int_equal(fscanf(f, "%ld %ld", &unused, &pages), 2);
    fclose(f);
    return pages;
}
static void what_is_much_lies_on_disk(void **state) {
    (void)state;
    struct spool *s;
    struct err e = { 0 };
    struct letter *l[LETTERS];
    assert_int_equal(spool_open(&s, &e), 0);
    const long before = resident_pages();
    for (int i = 0; i < LETTERS; i++) {
        l[i] = letter(s, i % 251);
        assert_non_null(l[i]);
        if (i == 30) assert_int_equal(spool_on_disk(s), 0); /* a little is heap */
    }
    assert_true(spool_on_disk(s) > (LETTERS - 45) * (size_t)LETTER);
    assert_true(SHADOW || (resident_pages() - before) * 4096 < SPOOL_HEAP_BYTES + 3 * SPOOL_SEGMENT_BYTES);
    for (int i = 0; i < LETTERS; i++) read_and_drop(l[i], i % 251);
    assert_int_equal(spool_gone(s), LETTERS);
    letter_drop(NULL, spool_letter(s, 1, 1, false)); /* heap again: the last segment is given back */
    assert_int_equal(spool_on_disk(s), 0);
    spool_close(s);
}
static void letters_may_outlive_the_spool(void **state) {
    (void)state;
    struct spool *s;
    struct err e = { 0 };
    struct letter *l[60];
    assert_int_equal(spool_open(&s, &e), 0);
    for (int i = 0; i < 60; i++) l[i] = letter(s, i);
    spool_close(s);
    for (int i = 59; i >= 0; i--) read_and_drop(l[i], i);
}
static void one_larger_than_a_segment(void **state) {
    (void)state;
    enum { LARGE = 5 * SPOOL_SEGMENT_BYTES };
    struct spool *s;
    struct err e = { 0 };
    assert_int_equal(spool_open(&s, &e), 0);
    struct letter *l = spool_letter(s, LARGE, 1, false);
    memset(letter_bytes(l), 'x', LARGE);
    assert_true(spool_on_disk(s) > LARGE);
    letter_drop(NULL, l);
    spool_close(s);
}
static void without_room_it_says_so(void **state) {
    (void)state;
    struct rlimit before, none = { 0, RLIM_INFINITY };
    struct spool *s;
    struct err e = { 0 };
    struct letter *l[60];
    int n = 0;
    assert_int_equal(spool_open(&s, &e), 0);
    getrlimit(RLIMIT_NOFILE, &before);
    none.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_NOFILE, &none); /* no file can be opened */
    while (n < 60 && (l[n] = letter(s, n))) n++;
    struct letter *anyhow = spool_letter(s, LETTER, 1, true);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_true(n > 30 && n < 60);
    assert_int_equal(spool_on_disk(s), 0);
    assert_non_null(anyhow);
    letter_drop(NULL, anyhow);
    while (n--) read_and_drop(l[n], n);
    spool_close(s);
}
static void out_of_memory(void **state) {
    (void)state;
    struct err e = { 0 };
    bool done = false;
    for (int at = 1; !done; at++) {
        struct spool *s = NULL;
        struct letter *l[2] = { NULL, NULL };
        mem_fail_at(at);
        if (!spool_open(&s, &e)) l[0] = spool_letter(s, LETTER, 1, false);
        if (l[0]) l[1] = spool_letter(s, SPOOL_HEAP_BYTES, 1, false);
        mem_fail_at(0);
        done = l[1];
        for (int i = 0; i < 2; i++)
            if (l[i]) letter_drop(NULL, l[i]);
        spool_close(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_much_lies_on_disk),
        cmocka_unit_test(letters_may_outlive_the_spool),
        cmocka_unit_test(one_larger_than_a_segment),
        cmocka_unit_test(without_room_it_says_so),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
