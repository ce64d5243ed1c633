#include "base/mem.h"
#include "data/gguf.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf_build.h"
#include <cmocka.h>

static char folder[] = "/tmp/jaeda-gguf-XXXXXX";

static const char *in_folder(const char *name) {
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}
static const char *write_file(const char *name, const void *p, size_t n) {
    const char *path = in_folder(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
    return path;
}

enum { KVS = 15 };
/* Every kind of value, and two tensors of 64 and 40 bytes. *head: where the header ends. */
static void whole(struct buf *b, uint32_t version, size_t *head) {
    put_head(b, version);
    put_key(b, "u8", T_U8), put_le(b, 200, 1);
    put_key(b, "i8", T_I8), put_le(b, (uint64_t)-7, 1);
    put_key(b, "u16", T_U16), put_le(b, 60000, 2);
    put_key(b, "i16", T_I16), put_le(b, (uint64_t)-300, 2);
    put_u32(b, "u32", 4000000000u);
    put_key(b, "i32", T_I32), put_le(b, (uint64_t)-5, 4);
    put_f32(b, "f32", 1.5f);
    put_bool(b, "yes", 1);
    put_string(b, "text", "\xed\x95\x9c");
    put_key(b, "u64", T_U64), put_le(b, UINT64_MAX, 8);
    put_key(b, "i64", T_I64), put_le(b, (uint64_t)INT64_MIN, 8);
    put_key(b, "f64", T_F64), put_le(b, 0x3ff8000000000000u, 8); /* 1.5 */
    put_array(b, "ints", T_I16, 3), put_le(b, 1, 2), put_le(b, (uint64_t)-2, 2), put_le(b, 3, 2);
    put_array(b, "texts", T_STRING, 3), put_text(b, "a"), put_text(b, ""), put_text(b, "ccc");
    put_array(b, "nested", T_ARRAY, 2); /* [[1, 2], ["x"]] */
    put_le(b, T_U8, 4), put_le(b, 2, 8), put_le(b, 0x0201, 2);
    put_le(b, T_STRING, 4), put_le(b, 1, 8), put_text(b, "x");
    put_tensor(b, "first", 2, (const uint64_t[]){ 4, 4 }, 0, 0);
    put_tensor(b, "second", 2, (const uint64_t[]){ 32, 2 }, 3, 64);
    put_counts(b, 2, KVS);
    *head = b->n;
    put_align(b, 32);
    for (int i = 0; i < 64 + 40; i++) buf_add(b, "w", 1);
}

static void check_values(const struct gguf *g) {
    int64_t i;
    double d;
    bool yes = false;
    struct gguf_string s;
    static const struct {
        const char *key;
        int64_t v;
    } ints[] = { { "u8", 200 },         { "i8", -7 },  { "u16", 60000 },    { "i16", -300 },
                 { "u32", 4000000000 }, { "i32", -5 }, { "i64", INT64_MIN } };
    for (size_t k = 0; k < sizeof ints / sizeof *ints; k++) {
        assert_true(gguf_int(g, ints[k].key, &i));
        assert_true(i == ints[k].v);
        assert_true(gguf_number(g, ints[k].key, &d));
        assert_true(d == (double)ints[k].v);
    }
    assert_false(gguf_int(g, "u64", &i)); /* does not fit */
    assert_false(gguf_int(g, "f32", &i));
    assert_false(gguf_int(g, "yes", &i));
    assert_false(gguf_int(g, "absent", &i));
    assert_true(gguf_number(g, "f32", &d) && d == 1.5);
    assert_true(gguf_number(g, "f64", &d) && d == 1.5);
    assert_false(gguf_number(g, "text", &d));
    assert_true(gguf_bool(g, "yes", &yes) && yes);
    assert_false(gguf_bool(g, "u8", &yes));
    assert_true(gguf_text(g, "text", &s));
    assert_int_equal(s.n, 3);
    assert_memory_equal(s.p, "\xed\x95\x9c", 3);
    assert_false(gguf_text(g, "texts", &s));
}
static void check_arrays_and_tensors(const struct gguf *g, size_t head) {
    int64_t i;
    struct gguf_string s;
    assert_int_equal(gguf_array_len(g, "ints"), 3);
    assert_true(gguf_array_int(g, "ints", 1, &i) && i == -2);
    assert_false(gguf_array_int(g, "ints", 3, &i));
    assert_false(gguf_array_text(g, "ints", 0, &s));
    assert_int_equal(gguf_array_len(g, "texts"), 3);
    assert_true(gguf_array_text(g, "texts", 2, &s));
    assert_memory_equal(s.p, "ccc", 3);
    assert_true(gguf_array_text(g, "texts", 1, &s));
    assert_int_equal(s.n, 0);
    assert_false(gguf_array_text(g, "texts", 3, &s));
    assert_false(gguf_array_int(g, "texts", 0, &i));
    assert_int_equal(gguf_array_len(g, "nested"), 2);
    assert_int_equal(gguf_array_len(g, "text"), 0);
    assert_int_equal(gguf_tensors(g), 2);
    const struct gguf_tensor *t = gguf_tensor_find(g, "second");
    assert_ptr_equal(t, gguf_tensor_at(g, 1));
    assert_null(gguf_tensor_at(g, 2));
    assert_null(gguf_tensor_find(g, "third"));
    assert_int_equal(t->dims, 2);
    assert_int_equal(t->dim[0], 32);
    assert_int_equal(t->dim[1], 2);
    assert_int_equal(t->dim[2], 1);
    assert_int_equal(t->bytes, 40);
    assert_int_equal(t->offset, (head + 31) / 32 * 32 + 64);
}
static void every_kind_of_value_is_read(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct buf b;
        size_t head;
        struct err e = { 0 };
        struct gguf *g;
        whole(&b, version, &head);
        assert_int_equal(gguf_parse(&g, b.p, head, b.n, &e), 0);
        assert_int_equal(gguf_fd(g), -1);
        assert_string_equal(gguf_path(g), "memory");
        assert_int_equal(gguf_file_bytes(g), b.n);
        check_values(g);
        check_arrays_and_tensors(g, head);
        gguf_close(g);
        buf_fini(&b);
    }
}
static void every_cut_is_refused(void **state) {
    (void)state;
    struct buf b;
    size_t head;
    whole(&b, 3, &head);
    for (size_t n = 0; n < b.n; n++) {
        struct err e = { 0 };
        struct gguf *g;
        assert_int_equal(gguf_parse(&g, b.p, n, n, &e), STATUS_FORMAT);
        assert_null(g);
        assert_non_null(strstr(e.text, "download it again"));
        if (n >= head) {
            char want[80];
            snprintf(want, sizeof want, "%zu bytes too early", b.n - n);
            assert_non_null(strstr(e.text, want));
        } else {
            e = (struct err){ 0 };
            assert_int_equal(gguf_parse(&g, b.p, n, b.n, &e), STATUS_FORMAT);
            assert_non_null(strstr(e.text, "goes on beyond"));
        }
    }
    buf_fini(&b);
}
static void a_cut_file_names_tensor_and_bytes(void **state) {
    (void)state;
    struct buf b;
    size_t head;
    struct err e = { 0 };
    struct gguf *g;
    whole(&b, 3, &head);
    const char *path = write_file("cut.gguf", b.p, b.n - 10);
    assert_int_equal(gguf_open(&g, path, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "cut.gguf: the file ends inside tensor 'second', 10 bytes too early"));
    buf_fini(&b);
}

/* Hostile headers: each builder writes a file that is wrong in one way; the error holds `says`. */
static void bad_magic(struct buf *b) { memcpy(b->p, "GGML", 4); }
static void bad_version(struct buf *b) { b->p[4] = 1; }
static void big_endian(struct buf *b) { memcpy(b->p + 4, "\0\0\0\3", 4); }
static void lfs_pointer(struct buf *b) { memcpy(b->p, "version https://git-lfs.", 24); }
static void many_tensors(struct buf *b) { put_counts(b, (uint64_t)1 << 57, 0); }
static void many_keys(struct buf *b) { put_counts(b, 0, UINT64_MAX); }
static void too_many_keys(struct buf *b) {
    put_counts(b, 0, 300000);
    for (int i = 0; i < 300000 * 14; i += 8) put_le(b, 0, 8);
}
static void twice(struct buf *b) {
    put_u32(b, "k", 1), put_u32(b, "k", 2);
    put_counts(b, 0, 2);
}
static void empty_key(struct buf *b) { put_u32(b, "", 1), put_counts(b, 0, 1); }
static void long_key(struct buf *b) {
    put_le(b, 65536, 8);
    for (int i = 0; i < 65600; i++) buf_puts(b, "k");
    put_counts(b, 0, 1);
}
static void unknown_type(struct buf *b) { put_key(b, "k", 13), put_le(b, 0, 8), put_counts(b, 0, 1); }
static void bad_bool(struct buf *b) { put_bool(b, "k", 2), put_counts(b, 0, 1); }
static void long_string(struct buf *b) { put_key(b, "k", T_STRING), put_le(b, UINT64_MAX, 8), put_counts(b, 0, 1); }
static void long_array(struct buf *b) {
    put_array(b, "k", T_F64, UINT64_MAX / 8 + 2), put_le(b, 0, 8);
    put_counts(b, 0, 1);
}
static void long_texts(struct buf *b) {
    put_array(b, "k", T_STRING, (uint64_t)1 << 59), put_le(b, 0, 8);
    put_counts(b, 0, 1);
}
static void array_of_unknown(struct buf *b) { put_array(b, "k", 99, 1), put_le(b, 0, 8), put_counts(b, 0, 1); }
static void deep(struct buf *b) {
    put_array(b, "k", T_ARRAY, 1);
    for (int i = 0; i < 100; i++) put_le(b, T_ARRAY, 4), put_le(b, 1, 8);
    put_counts(b, 0, 1);
}
static void five_dims(struct buf *b) {
    put_tensor(b, "t", 5, (const uint64_t[]){ 1, 1, 1, 1, 1 }, 0, 0);
    put_counts(b, 1, 0);
}
static void no_dims(struct buf *b) {
    put_tensor(b, "t", 0, NULL, 0, 0), put_le(b, 0, 8);
    put_counts(b, 1, 0);
}
static void one_tensor(struct buf *b, const char *name, uint64_t x, uint64_t y, uint32_t type, uint64_t offset) {
    put_tensor(b, name, 2, (const uint64_t[]){ x, y }, type, offset);
    put_counts(b, 1, 0);
    put_align(b, 32);
    for (int i = 0; i < 256; i++) buf_add(b, "w", 1);
}
static void zero_dim(struct buf *b) { one_tensor(b, "t", 4, 0, 0, 0); }
static void overflow(struct buf *b) { one_tensor(b, "t", (uint64_t)1 << 33, (uint64_t)1 << 33, 0, 0); }
static void overflow_to_small(struct buf *b) { one_tensor(b, "t", (uint64_t)1 << 63, 2, 0, 0); }
static void overflow_in_bytes(struct buf *b) { one_tensor(b, "t", (uint64_t)1 << 31, (uint64_t)1 << 31, 0, 0); }
static void part_block(struct buf *b) { one_tensor(b, "t", 33, 32, 3, 0); }
static void odd_offset(struct buf *b) { one_tensor(b, "t", 4, 4, 0, 16); }
static void far_offset(struct buf *b) { one_tensor(b, "t", 4, 4, 0, UINT64_MAX - 31); }
static void beyond(struct buf *b) { one_tensor(b, "t", 4, 4, 0, 1 << 20); }
static void unknown_beyond(struct buf *b) { one_tensor(b, "t", 4, 4, 77, 1 << 20); }
static void long_name(struct buf *b) {
    one_tensor(b, "a234567890b234567890c234567890d234567890e234567890f234567890g2345", 4, 4, 0, 0);
}
static void odd_name(struct buf *b) { one_tensor(b, "t\n", 4, 4, 0, 0); }
static void no_name(struct buf *b) { one_tensor(b, "", 4, 4, 0, 0); }
static void same_tensor(struct buf *b) {
    put_tensor(b, "t", 1, (const uint64_t[]){ 4 }, 0, 0);
    one_tensor(b, "t", 4, 4, 0, 32);
    put_counts(b, 2, 0);
}
static void overlap(struct buf *b) {
    put_tensor(b, "late", 1, (const uint64_t[]){ 16 }, 0, 32);
    one_tensor(b, "early", 4, 4, 0, 0);
    put_counts(b, 2, 0);
}
static void overlap_unknown(struct buf *b) {
    put_tensor(b, "u", 1, (const uint64_t[]){ 16 }, 99, 0);
    one_tensor(b, "t", 4, 4, 0, 0);
    put_counts(b, 2, 0);
}
static void align_of(struct buf *b, uint32_t align) {
    put_u32(b, "general.alignment", align);
    one_tensor(b, "t", 4, 4, 0, 0);
    put_counts(b, 1, 1);
}
static void align_zero(struct buf *b) { align_of(b, 0); }
static void align_odd(struct buf *b) { align_of(b, 24); }
static void align_huge(struct buf *b) { align_of(b, 1u << 31); }

static const struct {
    const char *what;
    void (*build)(struct buf *);
    const char *says;
} hostile[] = {
    { "magic", bad_magic, "no GGUF file" },
    { "version", bad_version, "version 1 is not supported" },
    { "endian", big_endian, "big-endian" },
    { "lfs", lfs_pointer, "git lfs pull" },
    { "many tensors", many_tensors, "tensor count claims more entries" },
    { "many keys", many_keys, "metadata count claims more entries" },
    { "duplicate key", twice, "key 'k' is there twice" },
    { "empty key", empty_key, "0 bytes long" },
    { "long key", long_key, "65536 bytes long" },
    { "type", unknown_type, "key 'k' has unknown type 13" },
    { "bool", bad_bool, "no truth value" },
    { "string", long_string, "key 'k' claims more" },
    { "array", long_array, "key 'k' claims more" },
    { "texts", long_texts, "key 'k' claims more" },
    { "elem", array_of_unknown, "unknown type 99" },
    { "deep", deep, "nested too deeply" },
    { "5 dims", five_dims, "5 dimensions" },
    { "0 dims", no_dims, "0 dimensions" },
    { "zero", zero_dim, "dimension of 0" },
    { "overflow", overflow, "impossible dimensions" },
    { "overflow to 0", overflow_to_small, "impossible dimensions" },
    { "overflow in bytes", overflow_in_bytes, "impossible dimensions" },
    { "block", part_block, "multiple of its type's block" },
    { "offset", odd_offset, "breaks the alignment" },
    { "far", far_offset, "impossible offset" },
    { "beyond", beyond, "inside tensor 't'" },
    { "unknown beyond", unknown_beyond, "inside tensor 't'" },
    { "long name", long_name, "1 to 64 printable" },
    { "odd name", odd_name, "tensor 't?'" },
    { "no name", no_name, "1 to 64 printable" },
    { "same", same_tensor, "tensor 't' is there twice" },
    { "overlap", overlap, "tensors 'early' and 'late' overlap" },
    { "overlap of unknown", overlap_unknown, "tensors 't' and 'u' overlap" },
    { "align 0", align_zero, "general.alignment is 0" },
    { "align 24", align_odd, "general.alignment is 24" },
    { "align 2^31", align_huge, "general.alignment is 2147483648" },
};
static void hostile_headers_are_refused_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct buf b;
        struct err e = { 0 };
        struct gguf *g;
        put_head(&b, 3);
        hostile[i].build(&b);
        const int rc = gguf_parse(&g, b.p, b.n, b.n, &e);
        if (rc != STATUS_FORMAT || g || !strstr(e.text, hostile[i].says))
            fail_msg("%s: rc %d, error '%s'", hostile[i].what, rc, e.text);
        buf_fini(&b);
    }
}
/* In a file that is large enough for the claim, the claim itself is refused, before anything is read or allocated. */
static void a_huge_file_does_not_excuse_huge_claims(void **state) {
    (void)state;
    static const struct {
        void (*build)(struct buf *);
        const char *says;
    } row[] = { { many_tensors, "makes the header larger than 256 MiB" },
                { long_texts, "key 'k' makes the header larger than 256 MiB" },
                { too_many_keys, "claims 0 tensors and 300000 keys" } };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct buf b;
        struct err e = { 0 };
        struct gguf *g;
        put_head(&b, 3);
        row[i].build(&b);
        assert_int_equal(gguf_parse(&g, b.p, b.n, INT64_MAX, &e), STATUS_FORMAT);
        if (!strstr(e.text, row[i].says)) fail_msg("'%s'", e.text);
        buf_fini(&b);
    }
}
static void neighbours_and_gaps_are_fine(void **state) {
    (void)state;
    struct buf b;
    struct err e = { 0 };
    struct gguf *g;
    put_head(&b, 3);
    put_u32(&b, "general.alignment", 8);
    put_tensor(&b, "last", 1, (const uint64_t[]){ 4 }, 0, 96);
    put_tensor(&b, "unknown", 1, (const uint64_t[]){ 4 }, 1000, 16);
    put_tensor(&b, "next", 1, (const uint64_t[]){ 2 }, 0, 24);
    put_tensor(&b, "first", 1, (const uint64_t[]){ 4 }, 0, 0);
    put_counts(&b, 4, 1);
    put_align(&b, 8);
    const size_t data = b.n;
    for (int i = 0; i < 112; i++) buf_add(&b, "w", 1);
    assert_int_equal(gguf_parse(&g, b.p, b.n, b.n, &e), 0);
    assert_int_equal(gguf_tensor_find(g, "last")->offset, data + 96);
    assert_int_equal(gguf_tensor_find(g, "unknown")->bytes, 0);
    gguf_close(g);
    buf_fini(&b);
}
static void every_failing_allocation_is_survived(void **state) {
    (void)state;
    struct buf b;
    size_t head;
    whole(&b, 3, &head);
    const char *path = write_file("alloc.gguf", b.p, b.n);
    for (int from_file = 0; from_file < 2; from_file++) {
        int rc = -1;
        for (long at = 1; rc; at++) {
            struct err e = { 0 };
            struct gguf *g;
            mem_fail_at(at);
            rc = from_file ? gguf_open(&g, path, &e) : gguf_parse(&g, b.p, b.n, b.n, &e);
            mem_fail_at(0);
            assert_true(rc == 0 || (rc == STATUS_NOMEM && e.text[0]));
            assert_true(at < 100 && (rc || at > 5));
            gguf_close(g);
        }
    }
    buf_fini(&b);
}

static void a_header_longer_than_the_first_read(void **state) {
    (void)state;
    struct buf b;
    struct err e = { 0 };
    struct gguf *g;
    struct gguf_string s;
    enum { N = 400000 };
    put_head(&b, 3);
    put_array(&b, "big", T_STRING, N); /* 6.4 MB */
    for (int i = 0; i < N; i++) {
        put_le(&b, 8, 8);
        buf_printf(&b, "%08d", i);
    }
    put_string(&b, "after", "it");
    put_tensor(&b, "t", 1, (const uint64_t[]){ 8 }, 0, 0);
    put_counts(&b, 1, 2);
    put_align(&b, 32);
    buf_add(&b, "0123456789abcdef0123456789abcdef", 32);
    const char *path = write_file("long.gguf", b.p, b.n);
    assert_int_equal(gguf_open(&g, path, &e), 0);
    assert_true(gguf_array_text(g, "big", N - 1, &s));
    assert_memory_equal(s.p, "00399999", 8);
    assert_true(gguf_text(g, "after", &s));
    char got[8];
    assert_int_equal(pread(gguf_fd(g), got, 8, (off_t)gguf_tensor_at(g, 0)->offset), 8);
    assert_memory_equal(got, "01234567", 8);
    assert_true(fcntl(gguf_fd(g), F_GETFD) & FD_CLOEXEC);
    assert_string_equal(gguf_path(g), path);
    gguf_close(g);
    buf_fini(&b);
}
static void what_is_no_regular_file_is_refused(void **state) {
    (void)state;
    struct gguf *g;
    struct err e = { 0 };
    assert_int_equal(gguf_open(&g, in_folder("absent.gguf"), &e), STATUS_NOTFOUND);
    assert_non_null(strstr(e.text, "absent.gguf: No such file"));
    e.code = 0;
    assert_int_equal(gguf_open(&g, folder, &e), STATUS_INVALID);
    assert_non_null(strstr(e.text, "is a folder"));
    e.code = 0;
    assert_int_equal(mkfifo(in_folder("pipe.gguf"), 0600), 0);
    assert_int_equal(gguf_open(&g, in_folder("pipe.gguf"), &e), STATUS_INVALID); /* and does not wait */
    assert_non_null(strstr(e.text, "no regular file"));
    e.code = 0;
    assert_int_equal(gguf_open(&g, write_file("empty.gguf", "", 0), &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "first 24 bytes"));
    e.code = 0;
    assert_int_equal(gguf_open(&g, "/dev/null", &e), STATUS_INVALID);
    assert_null(g);
    gguf_close(NULL);
}
/* Written by the format's own Python package. */
static void a_foreign_file_is_read(void **state) {
    (void)state;
    struct gguf *g;
    struct err e = { 0 };
    struct gguf_string s;
    if (gguf_open(&g, "tests/golden/tiny-quant.gguf", &e)) fail_msg("%s", e.text);
    assert_true(gguf_text(g, "general.architecture", &s));
    assert_memory_equal(s.p, "llama", 5);
    assert_int_equal(gguf_tensors(g), 29);
    assert_int_equal(gguf_tensor_find(g, "token_embd.weight")->dim[0], 64);
    gguf_close(g);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}
static int drop_folder(void **state) {
    (void)state;
    static const char *const names[] = { "cut.gguf", "alloc.gguf", "long.gguf", "pipe.gguf", "empty.gguf" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(in_folder(names[i]));
    return rmdir(folder);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_read),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(a_cut_file_names_tensor_and_bytes),
        cmocka_unit_test(hostile_headers_are_refused_by_name),
        cmocka_unit_test(a_huge_file_does_not_excuse_huge_claims),
        cmocka_unit_test(neighbours_and_gaps_are_fine),
        cmocka_unit_test(every_failing_allocation_is_survived),
        cmocka_unit_test(a_header_longer_than_the_first_read),
        cmocka_unit_test(what_is_no_regular_file_is_refused),
        cmocka_unit_test(a_foreign_file_is_read),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
