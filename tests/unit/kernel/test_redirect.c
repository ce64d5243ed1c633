#include "kernel/protocol/redirect.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    pthread_mutex_t lock;
    char text[2][200000];
    size_t n[2];
} got = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void take(void *to, bool to_stderr, const char *p, size_t n) {
    (void)to;
    pthread_mutex_lock(&got.lock);
    if (got.n[to_stderr] + n <= sizeof got.text[0]) memcpy(got.text[to_stderr] + got.n[to_stderr], p, n);
    got.n[to_stderr] += n;
    pthread_mutex_unlock(&got.lock);
}
static size_t count(int which) {
    pthread_mutex_lock(&got.lock);
    const size_t n = got.n[which];
    pthread_mutex_unlock(&got.lock);
    return n;
}
static struct redirect *r;
static int before, copy; /* stdout and stderr of the runner */

static int set_up(void **state) {
    (void)state;
    struct err e = { 0 };
    got.n[0] = got.n[1] = 0;
    before = dup(1);
    copy = redirect_keep_stderr();
    return redirect_open(&r, take, NULL, &e);
}
static int tear_down(void **state) {
    (void)state;
    redirect_close(r, copy);
    dup2(before, 1);
    close(before);
    close(copy);
    return 0;
}
static void what_is_printed_has_arrived_after_a_drain(void **state) {
    (void)state;
    for (int i = 0; i < 200; i++) {
        printf("a line without a flush %d", i); /* the buffer of stdio, too */
        dprintf(2, "%d\n", i);
        redirect_drain(r);
    }
    assert_int_equal(count(0), 200 * 23 + 10 + 90 * 2 + 100 * 3);
    assert_int_equal(count(1), 10 * 2 + 90 * 3 + 100 * 4);
    pthread_mutex_lock(&got.lock);
    assert_memory_equal(got.text[1], "0\n1\n2\n", 6);
    pthread_mutex_unlock(&got.lock);
}
static void more_than_a_pipe_holds_does_not_block(void **state) {
    (void)state;
    char block[1000];
    memset(block, 'z', sizeof block);
    for (int i = 0; i < 1000; i++) assert_int_equal(write(1, block, sizeof block), sizeof block);
    for (int i = 0; i < 200 && count(0) < 1000000; i++) redirect_drain(r);
    assert_int_equal(count(0), 1000000);
}
static void the_copy_of_stderr_is_closed_on_exec(void **state) {
    (void)state;
    assert_true(copy > 2);
    assert_int_equal(fcntl(copy, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(1, F_GETFD) & FD_CLOEXEC, 0);
}
static void closed_descriptors_are_filled(void **state) {
    (void)state;
    const int in = dup(0);
    close(0);
    redirect_guard();
    assert_true(fcntl(0, F_GETFD) >= 0);
    dup2(in, 0);
    close(in);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_printed_has_arrived_after_a_drain),
        TEST(more_than_a_pipe_holds_does_not_block),
        TEST(the_copy_of_stderr_is_closed_on_exec),
        TEST(closed_descriptors_are_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
