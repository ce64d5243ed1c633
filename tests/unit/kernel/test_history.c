#include "base/mem.h"
#include "kernel/protocol/history.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/jaeda-history-XXXXXX", path[100];

static void add(struct history *h, int line, const char *source) { history_add(h, line, source, strlen(source)); }
static json_t *ask(struct history *h, const char *request) {
    struct err e = { 0 };
    json_t *q = json_loads(request, 0, NULL), *list;
    assert_non_null(q);
    list = history_query(h, q, &e);
    json_decref(q);
    assert_true(list || e.text[0]);
    return list;
}
/* The answer as compact JSON against what it should be. */
static void check(struct history *h, const char *request, const char *want) {
    json_t *list = ask(h, request);
    char *text = json_dumps(list, JSON_COMPACT);
    assert_string_equal(text, want);
    mem_free(text);
    json_decref(list);
}
static void every_kind_of_question(void **state) {
    (void)state;
    struct history *h = history_open(path);
    add(h, 1, "a");
    add(h, 2, "b 한글");
    add(h, 3, "a");
    history_result(h, 3, "42", 2);
    check(h, "{\"hist_access_type\": \"range\"}", "[[1,1,\"a\"],[1,2,\"b 한글\"],[1,3,\"a\"]]");
    check(h, "{\"hist_access_type\": \"range\", \"session\": 1, \"start\": 2, \"stop\": 3}", "[[1,2,\"b 한글\"]]");
    check(h, "{\"hist_access_type\": \"tail\", \"n\": 2}", "[[1,2,\"b 한글\"],[1,3,\"a\"]]");
    check(h, "{\"hist_access_type\": \"tail\", \"n\": 1, \"output\": true}", "[[1,3,[\"a\",\"42\"]]]");
    check(h, "{\"hist_access_type\": \"search\", \"pattern\": \"b*\", \"output\": true}", "[[1,2,[\"b 한글\",null]]]");
    check(h, "{\"hist_access_type\": \"search\", \"pattern\": \"?\", \"unique\": true}", "[[1,3,\"a\"]]");
    check(h, "{\"hist_access_type\": \"search\", \"unique\": true}", "[[1,2,\"b 한글\"],[1,3,\"a\"]]");
    check(h, "{\"hist_access_type\": \"search\", \"unique\": true, \"n\": 1}", "[[1,3,\"a\"]]");
    check(h, "{\"hist_access_type\": \"search\", \"n\": 1}", "[[1,3,\"a\"]]");
    check(h, "{\"hist_access_type\": \"tail\", \"n\": -1}", "[]");
    check(h, "{\"hist_access_type\": \"range\", \"session\": -7}", "[]");
    assert_null(ask(h, "{\"hist_access_type\": \"sideways\"}"));
    history_close(h);
}
static void the_next_session_finds_the_last(void **state) {
    (void)state;
    struct history *h = history_open(path), *beside = history_open(path);
    add(h, 1, "later");
    add(beside, 1, "beside");
    check(h, "{\"hist_access_type\": \"range\", \"session\": -1, \"start\": 3}", "[[1,3,\"a\"]]");
    check(h, "{\"hist_access_type\": \"range\", \"session\": 0}", "[[2,1,\"later\"]]");
    check(beside, "{\"hist_access_type\": \"tail\", \"n\": 2}", "[[2,1,\"later\"],[3,1,\"beside\"]]");
    history_close(h);
    history_close(beside);
}
static void nuls_are_kept(void **state) {
    (void)state;
    struct history *h = history_open(path);
    history_add(h, 1, "x\0y", 3);
    check(h, "{\"hist_access_type\": \"range\"}", "[[4,1,\"x\\u0000y\"]]");
    history_close(h);
}
struct seen {
    char text[100];
};
static void see(void *to, int session, int number, const char *input) {
    struct seen *s = to;
    const size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%d/%d %s;", session, number, input);
}
static void a_walk_goes_oldest_first(void **state) {
    (void)state;
    struct history *h = history_open("/dev/null/no/history.sqlite");
    struct seen all = { "" }, last = { "" }, none = { "" };
    for (int i = 1; i <= 4; i++) add(h, i, i % 2 ? "odd" : "even");
    history_walk(h, 0, 0, see, &all);
    assert_string_equal(all.text, "1/1 odd;1/2 even;1/3 odd;1/4 even;");
    history_walk(h, 0, 2, see, &last);
    assert_string_equal(last.text, "1/3 odd;1/4 even;");
    history_walk(h, -1, 0, see, &none);
    assert_string_equal(none.text, "");
    history_close(h);
}
static void out_of_memory(void **state) {
    (void)state;
    struct history *h = history_open(path);
    json_t *q = json_pack("{s:s, s:b}", "hist_access_type", "tail", "output", 1);
    for (long at = 1; at < 100; at++) {
        struct err e = { 0 };
        mem_fail_at(at);
        json_t *list = history_query(h, q, &e);
        mem_fail_at(0);
        assert_true(list || e.code);
        json_decref(list);
    }
    json_decref(q);
    history_close(h);
}
static int set_up(void **state) {
    (void)state;
    json_set_alloc_funcs(mem_alloc, mem_free);
    if (!mkdtemp(directory)) return -1;
    snprintf(path, sizeof path, "%s/new/history.sqlite", directory);
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    unlink(path);
    *strrchr(path, '/') = 0;
    rmdir(path);
    return rmdir(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_question), cmocka_unit_test(the_next_session_finds_the_last),
        cmocka_unit_test(nuls_are_kept),          cmocka_unit_test(a_walk_goes_oldest_first),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
