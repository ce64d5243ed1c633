/* What a cell has shown, kept: order, bounds in memory and on disk, and disks that do not want. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/protocol/tape.h"
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], jobs[80];
static void add(struct tape *t, const char *text) {
    json_t *content = json_pack("{s:s, s:s}", "name", "stdout", "text", text);
    tape_add(t, "stream", content);
    json_decref(content);
}
static struct tape *opened(const char *name, bool at_once) {
    json_t *head = json_pack("{s:s}", "what", "%generate");
    struct tape *t = tape_open(jobs, name, head, at_once);
    json_decref(head);
    assert_non_null(t);
    return t;
}
static const char *text_of(const json_t *record) {
    return json_string_value(json_object_get(json_object_get(record, "content"), "text"));
}
static json_t *loaded(const char *name) {
    struct err e = { 0 };
    json_t *lines = tape_load(jobs, name, &e);
    if (!lines) fail_msg("%s", e.text);
    return lines;
}

static void what_was_shown_comes_back_in_order(void **state) {
    (void)state;
    struct tape *t = opened("a", true);
    uint64_t at = 0, lost = 0;
    assert_null(tape_next(t, &at, &lost));
    char text[16];
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "%d 가", i);
        add(t, text);
    }
    for (int i = 0; i < 100; i++) {
        json_t *r = tape_next(t, &at, &lost);
        snprintf(text, sizeof text, "%d 가", i);
        assert_string_equal(text_of(r), text);
        json_decref(r);
    }
    assert_null(tape_next(t, &at, &lost));
    assert_int_equal(lost, 0);
    tape_end(t, "done");
    json_t *lines = loaded("a");
    assert_int_equal(json_array_size(lines), 102); /* head, records, end */
    assert_string_equal(text_of(json_array_get(lines, 100)), "99 가");
    assert_string_equal(json_string_value(json_object_get(json_array_get(lines, 101), "end")), "done");
    json_decref(lines);
    tape_close(t);
    struct stat st;
    char path[128];
    snprintf(path, sizeof path, "%s/a.jsonl", jobs);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}
static void memory_and_disk_are_bounded_and_say_what_is_gone(void **state) {
    (void)state;
    struct tape *t = opened("b", true);
    enum { PIECE = 1000, PIECES = 6000 }; /* 6 MB */
    char text[PIECE + 1];
    memset(text, 'x', PIECE);
    text[PIECE] = 0;
    for (int i = 0; i < PIECES; i++) add(t, text);
    uint64_t at = 0, lost = 0, kept = 0;
    for (json_t *r; (r = tape_next(t, &at, &lost)); json_decref(r)) kept++;
    assert_int_equal(kept + lost, PIECES);
    assert_true(lost > 0 && kept * PIECE <= TAPE_RING_BYTES);
    tape_end(t, "failed");
    tape_close(t);
    struct stat st;
    char path[128];
    snprintf(path, sizeof path, "%s/b.jsonl", jobs);
    assert_int_equal(stat(path, &st), 0);
    assert_in_range(st.st_size, TAPE_FILE_BYTES / 2, TAPE_FILE_BYTES + 1000);
    json_t *lines = loaded("b"); /* its end is there all the same */
    const size_t n = json_array_size(lines);
    assert_string_equal(json_string_value(json_object_get(json_array_get(lines, n - 1), "end")), "failed");
    json_decref(lines);
}
static void a_short_cell_leaves_no_file_and_old_files_go(void **state) {
    (void)state;
    struct tape *t = opened("short", false);
    add(t, "x");
    tape_end(t, "done");
    tape_close(t);
    json_t *files = tape_files(jobs);
    assert_int_equal(json_array_size(files), 0);
    json_decref(files);
    for (int i = 0; i < TAPE_FILES + 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "%04d", i);
        tape_close(opened(name, true));
    }
    files = tape_files(jobs);
    assert_int_equal(json_array_size(files), TAPE_FILES);
    assert_string_equal(json_string_value(json_array_get(files, 0)), "0036"); /* the newest first */
    json_decref(files);
}
static void a_torn_line_is_left_out(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/torn.jsonl", jobs);
    mkdir(jobs, 0700);
    FILE *f = fopen(path, "w");
    fputs("{\"what\":\"x\"}\n{\"type\":\"stream\",\"content\":{\"text\":\"whole\"}}\n{\"type\":\"str", f);
    fclose(f);
    json_t *lines = loaded("torn");
    assert_int_equal(json_array_size(lines), 2);
    json_decref(lines);
    struct err e = { 0 };
    assert_null(tape_load(jobs, "../torn", &e));
    assert_int_equal(e.code, STATUS_NOTFOUND);
}
static void a_full_disk_costs_the_file_and_not_the_cell(void **state) {
    (void)state;
    struct rlimit before, small = { 2000, 2000 };
    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    struct tape *t = opened("full", true);
    setrlimit(RLIMIT_FSIZE, &small);
    for (int i = 0; i < 200; i++) add(t, "forty bytes of text that go to a full disk");
    setrlimit(RLIMIT_FSIZE, &before);
    uint64_t at = 0, lost = 0, kept = 0;
    for (json_t *r; (r = tape_next(t, &at, &lost)); json_decref(r)) kept++;
    assert_int_equal(kept, 200);
    tape_end(t, "done");
    tape_close(t);
    json_t *lines = loaded("full");
    assert_in_range(json_array_size(lines), 1, 60);
    json_decref(lines);
}

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s/jaeda-tape-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) return -1;
    snprintf(jobs, sizeof jobs, "%s/jobs", folder);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    json_t *files = tape_files(jobs);
    for (size_t i = 0; i < json_array_size(files); i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s.jsonl", jobs, json_string_value(json_array_get(files, i)));
        unlink(path);
    }
    json_decref(files);
    rmdir(jobs);
    return rmdir(folder);
}
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(what_was_shown_comes_back_in_order),           T(memory_and_disk_are_bounded_and_say_what_is_gone),
        T(a_short_cell_leaves_no_file_and_old_files_go), T(a_torn_line_is_left_out),
        T(a_full_disk_costs_the_file_and_not_the_cell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
