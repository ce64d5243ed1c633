/* Against jupyter_server's own counting: sums over a sliding window of three seconds. */
#include "kernel/protocol/budget.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WINDOW_US = 3000000, MOST_MESSAGES = 3000, MOST_BYTES = 3000000, SENT = 60000 };
struct sent {
    int64_t at_us;
    size_t bytes;
};

/* Sends as fast as the budget lets, on a clock of its own; the size of each message by next(). Returns bytes a second. */
static double send_all(size_t (*next)(int i), int messages, double *per_second) {
    struct sent *log = calloc(SENT, sizeof *log);
    struct budget b;
    int64_t now = 100000000; /* after a silence of 100 s */
    int first = 0;
    size_t bytes = 0, all = 0;
    budget_init(&b, 0);
    for (int i = 0; i < messages; i++) {
        const int64_t wait = budget_wait_us(&b, now);
        assert_true(wait >= 0 && wait < 10000000);
        now += wait;
        assert_int_equal(budget_wait_us(&b, now), 0); /* it waits no longer than it says */
        log[i] = (struct sent){ now, next(i) };
        budget_spend(&b, log[i].bytes);
        bytes += log[i].bytes;
        all += log[i].bytes;
        for (; log[first].at_us <= now - WINDOW_US; first++) bytes -= log[first].bytes;
        assert_true(i - first + 1 <= MOST_MESSAGES * 3 / 4);
        assert_true(bytes <= MOST_BYTES * 9 / 10);
    }
    free(log);
    *per_second = messages / ((double)now / 1e6 - 100);
    return (double)all / ((double)now / 1e6 - 100);
}
static size_t nothing(int i) { return (void)i, 0; }
static size_t full(int i) { return (void)i, 35000; }
static size_t odd(int i) { return (size_t)(i * 7919 % 60013); }
static size_t huge(int i) { return (void)i, 200000; } /* 32 KiB of control characters, as JSON writes them */

static void the_server_never_drops(void **state) {
    (void)state;
    double rate;
    send_all(nothing, SENT, &rate);
    assert_true(rate > 0.95 * BUDGET_MESSAGES && rate < 1.2 * BUDGET_MESSAGES);
    assert_true(send_all(full, 2000, &rate) > 0.95 * BUDGET_BYTES);
    send_all(odd, 5000, &rate);
    send_all(huge, 500, &rate);
}
static void what_comes_slowly_never_waits(void **state) {
    (void)state;
    struct budget b;
    budget_init(&b, 0);
    for (int64_t now = 0; now < 60000000; now += 40000) { /* tokens, every 40 ms */
        assert_int_equal(budget_wait_us(&b, now), 0);
        budget_spend(&b, 400);
    }
}
static void a_clock_that_stands_still_is_no_trouble(void **state) {
    (void)state;
    struct budget b;
    budget_init(&b, 5000);
    for (int i = 0; i < BUDGET_MESSAGES_BURST; i++) {
        assert_int_equal(budget_wait_us(&b, 5000 - i), 0);
        budget_spend(&b, 0);
    }
    assert_true(budget_wait_us(&b, 5000) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_server_never_drops),
        cmocka_unit_test(what_comes_slowly_never_waits),
        cmocka_unit_test(a_clock_that_stands_still_is_no_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
