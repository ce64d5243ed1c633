/* Reading ahead: every byte arrives, in order, whatever the sizes; a short file, a cancel and no memory end it cleanly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "run/reader.h"
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES = 50 << 20, MIB = 1 << 20 };
static char *ring;
/* Each reader gets memory of exactly the size that it asks for. */
static int open_reader(struct reader **r, const struct extent *x, int n, struct err *e) {
    mem_free(ring);
    ring = mem_alloc(reader_window(x, n));
    return ring ? reader_open(r, x, n, ring, e) : err_set(e, STATUS_NOMEM, "no ring");
}
static char path[] = "/tmp/jaeda-reader-XXXXXX";
static int fd;

static unsigned char byte_at(uint64_t at) { return (unsigned char)((at * 2654435761u) >> 13); }
static int make_file(void **state) {
    (void)state;
    unsigned char *p = malloc(FILE_BYTES);
    fd = mkstemp(path);
    if (!p || fd < 0) return -1;
    for (uint64_t i = 0; i < FILE_BYTES; i++) p[i] = byte_at(i);
    const bool ok = write(fd, p, FILE_BYTES) == FILE_BYTES;
    free(p);
    return ok ? 0 : -1;
}
static int drop_file(void **state) {
    (void)state;
    close(fd);
    return unlink(path);
}
static struct extent piece(uint64_t offset, uint64_t bytes) {
    return (struct extent){ fd, path, "a tensor", offset, bytes };
}
static void check(const struct extent *x, const unsigned char *p) {
    for (uint64_t i = 0; i < x->bytes; i++)
        if (p[i] != byte_at(x->offset + i)) fail_msg("byte %lu of the piece at %lu is wrong", i, x->offset);
}
static void read_all(const struct extent *x, int n) {
    struct err e = { 0 };
    struct reader *r = NULL;
    assert_int_equal(open_reader(&r, x, n, &e), 0);
    for (int i = 0; i < n; i++) {
        const unsigned char *p = reader_next(r, NULL, NULL, &e);
        assert_non_null(p);
        check(&x[i], p);
    }
    reader_close(r);
}
static void sizes_of_every_kind_arrive_in_order(void **state) {
    (void)state;
    /* the largest twice over the window, many small ones between, odd offsets, an empty one */
    static const uint64_t bytes[] = { 1,       20 * MIB, 3,        0,       7 * MIB + 5, 20 * MIB, 20 * MIB,
                                      9 * MIB, 1,        12 * MIB, 4 * MIB, 19 * MIB,    2,        20 * MIB };
    enum { N = sizeof bytes / sizeof *bytes, SMALL = 500 };
    struct extent x[N + SMALL];
    for (int i = 0; i < N; i++) x[i] = piece((uint64_t)i * 1000003 % MIB, bytes[i]);
    for (int i = 0; i < SMALL; i++) x[N + i] = piece((uint64_t)i * 4099, (uint64_t)i * 37 % 8192);
    read_all(x, N + SMALL);
    assert_true(reader_window(x, N + SMALL) <= 40 * MIB);
}
static void a_reader_that_is_left_early_joins_its_threads(void **state) {
    (void)state;
    struct extent x[8];
    for (int i = 0; i < 8; i++) x[i] = piece(0, 10 * MIB);
    for (int taken = 0; taken < 3; taken++) {
        struct err e = { 0 };
        struct reader *r = NULL;
        assert_int_equal(open_reader(&r, x, 8, &e), 0);
        for (int i = 0; i < taken; i++) assert_non_null(reader_next(r, NULL, NULL, &e));
        reader_close(r);
    }
    reader_close(NULL);
}
static void a_file_that_ends_too_early_is_named(void **state) {
    (void)state;
    const struct extent x[2] = { piece(0, MIB), piece(FILE_BYTES - 10, 11) };
    struct err e = { 0 };
    struct reader *r = NULL;
    assert_int_equal(open_reader(&r, x, 2, &e), 0);
    const void *p = reader_next(r, NULL, NULL, &e); /* the failure may be seen here already */
    if (p) p = reader_next(r, NULL, NULL, &e);
    assert_null(p);
    assert_int_equal(e.code, STATUS_FORMAT);
    assert_non_null(strstr(e.text, "a tensor"));
    assert_non_null(strstr(e.text, path));
    reader_close(r);
}
static bool give_up(void *arg, double done) {
    (void)arg;
    (void)done;
    return true;
}
static void a_cancel_ends_the_wait(void **state) {
    (void)state;
    const struct extent x[1] = { piece(0, 40 * MIB) };
    struct err e = { 0 };
    struct reader *r = NULL;
    assert_int_equal(open_reader(&r, x, 1, &e), 0);
    const void *p = reader_next(r, give_up, NULL, &e);
    if (!p) assert_int_equal(e.code, STATUS_CANCELLED); /* a fast disk may be done before it is asked */
    reader_close(r);
}
static void no_memory_is_an_error(void **state) {
    (void)state;
    const struct extent x[2] = { piece(0, MIB), piece(MIB, MIB) };
    for (long n = 1; n <= 6; n++) {
        struct err e = { 0 };
        struct reader *r = NULL;
        mem_fail_at(n);
        const int rc = open_reader(&r, x, 2, &e);
        mem_fail_at(0);
        if (n <= 5) assert_int_equal(rc, STATUS_NOMEM);
        if (n == 6) assert_int_equal(rc, 0);
        reader_close(r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_every_kind_arrive_in_order),
        cmocka_unit_test(a_reader_that_is_left_early_joins_its_threads),
        cmocka_unit_test(a_file_that_ends_too_early_is_named),
        cmocka_unit_test(a_cancel_ends_the_wait),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_file, drop_file);
}
