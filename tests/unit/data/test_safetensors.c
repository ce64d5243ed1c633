#include "base/mem.h"
#include "data/safetensors.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "folder_build.h"
#include "safetensors_build.h"
#include <cmocka.h>

#include "ids_file.h"

/* One header's text through the parser; file_bytes 0: as large as what is there. */
static int parse(struct tensor_list *s, const char *header, size_t data, uint64_t file_bytes, struct err *e) {
    struct buf b;
    st_file(&b, header, data);
    const int rc = safetensors_parse(s, b.p, b.n, file_bytes ? file_bytes : b.n, "x.safetensors", e);
    buf_fini(&b);
    return rc;
}
/* In no order of offsets, unaligned, with an empty tensor, a scalar, a name in Hangul, dtypes that only junk has. */
static const char whole[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"n\":\"1\"},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[17,23]},"
    "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[1,17]},"
    "\"mask\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]},"
    "\"\xed\x95\x9c \\\"q\\\"\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[23,25],\"more\":[1]},"
    "\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[23,23]},"
    "\"new\":{\"dtype\":\"F4_SOMETHING_NEW\",\"shape\":[9],\"data_offsets\":[25,30]},"
    "\"five\":{\"dtype\":\"I8\",\"shape\":[2,3,1,1,2],\"data_offsets\":[30,42]}}   ";

static void all_that_is_legal_is_read(void **state) {
    (void)state;
    struct tensor_list s;
    struct err e = { 0 };
    if (parse(&s, whole, 42, 0, &e)) fail_msg("%s", e.text);
    static const struct {
        const char *name, *spelt;
        int dt, dims;
        uint64_t dim[4], at, bytes;
    } want[] = {
        { "mask", "BOOL", DTYPE_NONE, 1, { 1, 1, 1, 1 }, 0, 1 },
        { "a", "F32", DTYPE_F32, 2, { 2, 2, 1, 1 }, 1, 16 },
        { "b", "BF16", DTYPE_BF16, 1, { 3, 1, 1, 1 }, 17, 6 },
        { "none", "F16", DTYPE_F16, 2, { 7, 0, 1, 1 }, 23, 0 },
        { "\xed\x95\x9c \"q\"", "F16", DTYPE_F16, 0, { 1, 1, 1, 1 }, 23, 2 },
        { "new", "F4_SOMETHIN", DTYPE_NONE, 1, { 9, 1, 1, 1 }, 25, 5 },
        { "five", "I8", DTYPE_NONE, 5, { 2, 1, 1, 6 }, 30, 12 },
    };
    assert_int_equal(s.tensors, sizeof want / sizeof *want);
    for (int i = 0; i < s.tensors; i++) {
        const struct tensor *t = &s.tensor[i];
        assert_string_equal(t->name, want[i].name);
        assert_string_equal(t->dt_name, want[i].spelt);
        assert_int_equal(t->dt, want[i].dt);
        assert_int_equal(t->dims, want[i].dims);
        assert_memory_equal(t->dim, want[i].dim, sizeof t->dim);
        assert_int_equal(t->offset, 8 + strlen(whole) + want[i].at);
        assert_int_equal(t->bytes, want[i].bytes);
    }
    tensor_list_fini(&s);
    assert_int_equal(parse(&s, "{}", 0, 0, &e), 0);
    assert_int_equal(s.tensors, 0);
    tensor_list_fini(&s);
    assert_int_equal(parse(&s, "{\"__metadata__\":{}}", 0, 0, &e), 0);
    tensor_list_fini(&s);
}
#define T(name, dtype, shape, from, to)                                                                                \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"
static const struct {
    const char *header;
    size_t data;
    const char *says;
} wrong[] = {
    { "", 0, "its header does not begin with '{'" },
    { " {}", 0, "does not begin with '{'" },
    { "[]", 0, "does not begin with '{'" },
    { "{", 0, "is no valid JSON" },
    { "{} x", 0, "is no valid JSON" },
    { "{\"\xff\":{}}", 0, "is no valid JSON" },
    { "{\"a\\u0000b\":{}}", 0, "is no valid JSON" },
    { "{\"a\":1}", 0, "tensor 'a' is no object" },
    { "{\"a\":{}}", 0, "tensor 'a' has no dtype" },
    { "{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ holds more than texts" },
    { "{\"__metadata__\":[]}", 0, "__metadata__ holds more than texts" },
    { "{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8, "is no valid JSON" },
    { "{" T("a", "F32", "{}", "0", "4") "}", 4, "'a' has an impossible shape" },
    { "{" T("a", "F32", "[-1]", "0", "4") "}", 4, "'a' has an impossible shape" },
    { "{" T("a", "F32", "[1.0]", "0", "4") "}", 4, "'a' has an impossible shape" },
    { "{" T("a", "F32", "[4611686018427387904,4]", "0", "4") "}", 4, "'a' has an impossible shape" },
    { "{" T("a", "F32", "[4611686018427387904]", "0", "0") "}", 0, "'a' has a shape that does not fill" },
    { "{" T("a", "F32", "[99999999999999999999]", "0", "0") "}", 0, "is no valid JSON" },
    { "{" T("a", "F32", "[1]", "4", "0") "}", 4, "'a' has impossible data_offsets" },
    { "{" T("a", "F32", "[1]", "0", "-4") "}", 4, "'a' has impossible data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "'a' has impossible data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"offsets\":[0,4]}}", 4, "'a' has impossible data_offsets" },
    { "{" T("a", "F32", "[2]", "0", "4") "}", 4, "'a' has a shape that does not fill" },
    { "{" T("a", "BOOL", "[2]", "0", "4") "}", 4, "'a' has a shape that does not fill" },
    { "{" T("a", "F32", "[1]", "0", "4") "}", 3, "the file ends inside tensor 'a', at least 1 bytes too early" },
    { "{" T("a", "F32", "[1]", "0", "4") "}", 5, "has 1 bytes that belong to no tensor" },
    { "{" T("a", "F32", "[1]", "4", "8") "}", 8, "'a' begins behind a hole" },
    { "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}", 12, "'b' begins behind a hole" },
    { "{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[1]", "4", "8") "}", 8, "'a' and 'b' overlap" },
    { "{" T("a", "NEW", "[1]", "0", "9223372036854775807") "}", 8, "ends inside tensor 'a'" },
    { "{" T("a", "NEW", "[1]", "9223372036854775807", "9223372036854775807") "}", 8, "behind a hole" },
};
static void each_wrong_header_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tensor_list s;
        struct err e = { 0 };
        const int rc = parse(&s, wrong[i].header, wrong[i].data, 0, &e);
        if (rc != STATUS_FORMAT || !strstr(e.text, wrong[i].says) || !strstr(e.text, "x.safetensors"))
            fail_msg("row %zu: rc %d, '%s'", i, rc, e.text);
        assert_null(s.tensor);
        assert_null(s.names);
    }
}
static int read_bytes(const void *p, size_t n, struct err *e) {
    struct tensor_list s;
    folder_bytes("f", p, n);
    const int fd = open(folder_at("f"), O_RDONLY);
    const int rc = safetensors_read(&s, fd, n, folder_at("f"), e);
    close(fd);
    tensor_list_fini(&s);
    return rc;
}
static void lengths_are_checked_before_memory_is_taken(void **state) {
    (void)state;
    static const struct {
        unsigned char head[8];
        size_t n;
        const char *says;
    } row[] = {
        { { 0 }, 0, "has 0 bytes, too few" },
        { { 1, 2 }, 7, "has 7 bytes, too few" },
        { { 255, 255, 255, 255, 255, 255, 255, 255 }, 8, "would have 18446744073709551615 bytes" },
        { { 0, 0xe1, 0xf5, 0x05 }, 8, "ends inside its header, 100000000 bytes too early" }, /* the largest legal one */
        { { 1, 0xe1, 0xf5, 0x05 }, 8, "would have 100000001 bytes" },
        { { 0 }, 8, "does not begin with '{'" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct err e = { 0 };
        mem_fail_at(row[i].head[3] == 0x05 || row[i].head[7] ? 1 : 0); /* no memory is asked for */
        const int rc = read_bytes(row[i].head, row[i].n, &e);
        mem_fail_at(0);
        if (rc != STATUS_FORMAT || !strstr(e.text, row[i].says)) fail_msg("row %zu: rc %d, '%s'", i, rc, e.text);
    }
}
static void every_cut_is_an_error(void **state) {
    (void)state;
    struct buf b;
    st_file(&b, whole, 42);
    for (size_t n = 0; n < b.n; n++) {
        struct err e = { 0 };
        if (read_bytes(b.p, n, &e) != STATUS_FORMAT) fail_msg("%zu bytes: '%s'", n, e.text);
    }
    struct err e = { 0 };
    assert_int_equal(read_bytes(b.p, b.n, &e), 0);
    buf_fini(&b);
}
static void a_tree_of_gigabytes_is_refused(void **state) {
    (void)state;
    enum { N = 12 << 20 };
    char *text = mem_alloc(N + 1);
    assert_non_null(text);
    memset(text, '[', N);
    memcpy(text, "{\"a\":[", 6);
    for (size_t i = 6; i < N; i++) text[i] = i % 2 ? ',' : '0';
    text[N] = 0;
    struct tensor_list s;
    struct err e = { 0 };
    assert_int_equal(parse(&s, text, 0, 0, &e), STATUS_FORMAT); /* depth or numbers: some error, at once */
    memset(text + 6, '{', N - 6);
    e.code = 0;
    assert_int_equal(parse(&s, text, 0, 0, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "far more JSON values"));
    memset(text + 1, '[', 100000);
    text[100000] = 0;
    e.code = 0;
    assert_int_equal(parse(&s, text, 0, 0, &e), STATUS_FORMAT);
    mem_free(text);
}
static void memory_may_end_at_any_point(void **state) {
    (void)state;
    struct buf b;
    st_file(&b, whole, 42);
    int rc = -1;
    for (long k = 1; rc; k++) {
        struct err e = { 0 };
        mem_fail_at(k);
        rc = read_bytes(b.p, b.n, &e);
        mem_fail_at(0);
        assert_true(k < 10 && (!rc || rc == STATUS_NOMEM));
        assert_true(!rc || strstr(e.text, "no memory"));
    }
    buf_fini(&b);
}
/* Files that another program wrote; the expected numbers were read from their JSON by hand. */
static void real_files_are_read(void **state) {
    (void)state;
    static const struct {
        const char *name, *tensor;
        int tensors;
        uint64_t bytes, dim[2], at;
    } row[] = { { "mnist", "fc1.weight", 20, 1509296, { 11616, 32 }, 8 + 1520 + 19056 },
                { "multi_layer", "fc1.weight", 9, 17624, { 256, 16 }, 8 + 648 + 520 } };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char name[100], path[600];
        snprintf(name, sizeof name, "safetensors/%s.safetensors", row[i].name);
        NEED_DATA(name, path);
        struct checkpoint *c;
        struct err e = { 0 };
        if (checkpoint_open(&c, path, &e)) fail_msg("%s", e.text);
        const struct tensor *t = checkpoint_tensor(c, row[i].tensor);
        assert_non_null(t);
        assert_int_equal(checkpoint_bytes(c), row[i].bytes);
        assert_int_equal(checkpoint_tensors(c), row[i].tensors);
        assert_memory_equal(t->dim, row[i].dim, sizeof row[i].dim);
        assert_int_equal(t->offset, row[i].at);
        assert_int_equal(t->bytes, t->dim[0] * t->dim[1] * 4);
        assert_string_equal(checkpoint_tensor(c, "norm1.num_batches_tracked")->dt_name, "I64");
        checkpoint_close(c);
    }
}
static int set_up(void **state) {
    (void)state;
    return folder_make("safetensors");
}
static int tear_down(void **state) {
    (void)state;
    return folder_remove("");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_is_legal_is_read),
        cmocka_unit_test(each_wrong_header_is_named),
        cmocka_unit_test(lengths_are_checked_before_memory_is_taken),
        cmocka_unit_test(every_cut_is_an_error),
        cmocka_unit_test(a_tree_of_gigabytes_is_refused),
        cmocka_unit_test(memory_may_end_at_any_point),
        cmocka_unit_test(real_files_are_read),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
