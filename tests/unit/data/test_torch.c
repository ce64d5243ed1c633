#include "base/mem.h"
#include "data/pickle.h"
#include "data/torch.h"
#include "data/zip.h"
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "folder_build.h"
#include "torch_build.h"
#include <cmocka.h>

static const char shared[] = "../shared/data/torch";

/* ---- files in memory ---- */
static int in_memory(const void *p, size_t n) {
    const int fd = memfd_create("torch", MFD_CLOEXEC);
    if (fd < 0 || (n && write(fd, p, n) != (ssize_t)n)) fail_msg("no file in memory");
    return fd;
}
static int parse(struct tensor_list *s, const void *p, size_t n, struct err *e) {
    const int fd = in_memory(p, n), rc = torch_read(s, fd, n, "x.pth", e);
    close(fd);
    return rc;
}
static void fails(struct buf *b, const char *says) {
    struct tensor_list s;
    struct err e = { 0 };
    if (!parse(&s, buf_text(b), b->n, &e)) fail_msg("was read, should say: %s", says);
    if (!strstr(e.text, says) || !strstr(e.text, "x.pth")) fail_msg("says: %s; should say: %s", e.text, says);
    assert_null(s.tensor);
    assert_null(s.names);
    buf_fini(b);
}
/* A pickle as the only contents of an archive, with one storage of 24 bytes. */
static void archive(struct buf *pickle, struct buf *out) {
    static const float six[6] = { 1, 2, 3, 4, 5, 6 };
    struct zip_build z;
    zip_begin(&z);
    zip_add(&z, "m/data.pkl", pickle->p, pickle->n);
    zip_add(&z, "m/byteorder", "little", 6);
    zip_add(&z, "m/data/0", six, sizeof six);
    zip_end(&z);
    buf_fini(pickle);
    *out = z.file;
}
static void pickle_fails(struct buf *pickle, const char *says) {
    struct buf b;
    archive(pickle, &b);
    fails(&b, says);
}

/* ---- the real files ---- */
static int open_shared(const char *name, uint64_t *bytes) {
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s.pt", shared, name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) fail_msg("%s is missing", path);
    *bytes = (uint64_t)st.st_size;
    return fd;
}
static double half(uint16_t h) {
    const int e = h >> 10 & 31, m = h & 1023;
    const double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h >> 15 ? -v : v;
}
/* Number i of a tensor, whatever its type. */
static double number(int fd, const struct tensor *t, int i) {
    union {
        float f;
        double d;
        int64_t l;
        int32_t i;
        int16_t s;
        uint16_t h;
        int8_t b;
        uint8_t u;
        unsigned char raw[8];
    } v = { .l = 0 };
    static const char *const name[] = { "F32", "F64", "I64", "I32", "I16", "F16", "BF16", "I8", "U8", "BOOL" };
    static const int size[] = { 4, 8, 8, 4, 2, 2, 2, 1, 1, 1 };
    int k = 0;
    while (strcmp(name[k], t->dt_name) != 0) assert_true(++k < 10);
    assert_true((uint64_t)((i + 1) * size[k]) <= t->bytes);
    assert_int_equal(pread(fd, v.raw, (size_t)size[k], (off_t)t->offset + i * size[k]), size[k]);
    const uint32_t wide = (uint32_t)v.h << 16;
    float b16;
    memcpy(&b16, &wide, 4);
    const double all[] = { (double)v.f, v.d, (double)v.l, v.i, v.s, half(v.h), (double)b16, v.b, v.u, v.u };
    return all[k];
}
struct expected {
    const char *file, *name, *dt;
    int dims;
    uint64_t dim[4]; /* fastest first */
    int n;           /* numbers to compare */
    double v[5];
};
static const struct tensor *named(const struct tensor_list *s, const char *name) {
    for (int i = 0; i < s->tensors; i++)
        if (!strcmp(s->tensor[i].name, name)) return &s->tensor[i];
    char all[1024] = "";
    for (int i = 0; i < s->tensors; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), " '%s'", s->tensor[i].name);
    fail_msg("no tensor '%s' among%s", name, all);
    return NULL;
}
static void compare(const struct expected *x) {
    struct tensor_list s;
    struct err e = { 0 };
    uint64_t bytes;
    const int fd = open_shared(x->file, &bytes);
    if (torch_read(&s, fd, bytes, x->file, &e)) fail_msg("%s: %s", x->file, e.text);
    const struct tensor *t = named(&s, x->name);
    assert_string_equal(t->dt_name, x->dt);
    assert_int_equal(t->dims, x->dims);
    for (int i = 0; i < 4; i++) assert_int_equal(t->dim[i], x->dim[i] ? x->dim[i] : 1);
    for (int i = 0; i < x->n; i++) {
        const double got = number(fd, t, i), want = x->v[i];
        const double off = strcmp(x->dt, "F64") ? 1e-6 : 1e-15;
        const bool same = isnan(want) ? isnan(got) : isinf(want) ? got == want : fabs(got - want) <= off * fabs(want);
        if (!same) fail_msg("%s '%s'[%d]: %.17g, not %.17g", x->file, x->name, i, got, want);
    }
    tensor_list_fini(&s);
    close(fd);
}
static void every_real_file_has_its_known_values(void **state) {
    (void)state;
    if (access(shared, R_OK)) {
        print_message("no %s: the real files are not tried\n", shared);
        skip();
    }
    static const struct expected all[] = {
        { "float32", "tensor", "F32", 1, { 4 }, 4, { 1, 2.5, -3.7, 0 } },
        { "float64", "tensor", "F64", 1, { 3 }, 3, { 1.1, 2.2, 3.3 } },
        { "float16", "tensor", "F16", 1, { 3 }, 3, { 1.5, -2.25, 3.125 } },
        { "bfloat16", "tensor", "BF16", 1, { 3 }, 3, { 1.5, -2.5, 3.5 } },
        { "int64", "tensor", "I64", 1, { 4 }, 4, { 100, -200, 300, 0 } },
        { "int32", "tensor", "I32", 1, { 3 }, 3, { 10, 20, -30 } },
        { "int16", "tensor", "I16", 1, { 3 }, 3, { 1000, -2000, 3000 } },
        { "int8", "tensor", "I8", 1, { 4 }, 4, { 127, -128, 0, 50 } },
        { "uint8", "tensor", "U8", 1, { 4 }, 4, { 0, 128, 255, 42 } },
        { "bool", "tensor", "BOOL", 1, { 5 }, 5, { 1, 0, 1, 1, 0 } },
        { "tensor_2d", "tensor", "F32", 2, { 2, 3 }, 5, { 1, 2, 3, 4, 5 } },
        { "tensor_3d", "tensor", "F32", 3, { 4, 3, 2 }, 0, { 0 } },
        { "tensor_4d", "tensor", "F32", 4, { 2, 2, 3, 2 }, 0, { 0 } },
        { "scalar", "tensor", "F32", 0, { 1 }, 1, { 42 } },
        { "special_values", "tensor", "F32", 1, { 5 }, 5, { NAN, INFINITY, -INFINITY, 0, 1 } },
        { "extreme_values", "tensor", "F32", 1, { 4 }, 4, { 1e-30, 1e30, -1e-30, -1e30 } },
        { "large_shape", "tensor", "F32", 2, { 100, 100 }, 2, { 1, 0 } },
        { "nested_dict", "layer1.weight", "F32", 2, { 3, 2 }, 0, { 0 } },
        { "nested_dict", "layer2.bias", "F32", 1, { 4 }, 0, { 0 } },
        { "checkpoint", "fc2.weight", "F32", 2, { 10, 3 }, 0, { 0 } },
        { "complex_structure", "state.encoder.layer_0.weight", "F32", 2, { 3, 4 }, 0, { 0 } },
        { "parameter", "param", "F32", 2, { 3, 3 }, 0, { 0 } },
        { "mnist", "conv1.weight", "F32", 4, { 3, 3, 1, 8 }, 0, { 0 } },
        { "simple_legacy", "bias", "F32", 1, { 2 }, 2, { 1, 1 } },
        { "legacy_with_offsets", "tensor1", "F32", 1, { 10 }, 3, { 1, 1.01, 1.02 } },
        { "legacy_with_offsets", "tensor2", "F32", 1, { 5 }, 2, { 2, 2.1 } },
        { "legacy_uncloned_views", "tensor1", "F32", 1, { 10 }, 3, { 10, 11, 12 } },
        { "legacy_uncloned_views", "tensor2", "F32", 1, { 10 }, 3, { 50, 51, 52 } },
        { "legacy_shared_storage", "view1", "F32", 1, { 10 }, 0, { 0 } },
        { "legacy_shared_storage", "view2", "F32", 1, { 20 }, 0, { 0 } },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) compare(&all[i]);
}
static void other_real_files_are_read_or_refused(void **state) {
    (void)state;
    if (access(shared, R_OK)) skip();
    static const struct {
        const char *file;
        int tensors; /* -1: refused */
    } all[] = { { "state_dict", -2 }, { "buffers", -2 }, { "mixed_types", -2 }, { "empty", 1 }, { "broken", -1 } };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct tensor_list s;
        struct err e = { 0 };
        uint64_t bytes;
        const int fd = open_shared(all[i].file, &bytes), rc = torch_read(&s, fd, bytes, all[i].file, &e);
        if (all[i].tensors == -1 ? rc != STATUS_FORMAT : rc) fail_msg("%s: %d %s", all[i].file, rc, e.text);
        if (all[i].tensors == -2) assert_true(s.tensors > 0);
        if (all[i].tensors >= 0) assert_int_equal(s.tensors, all[i].tensors);
        tensor_list_fini(&s);
        close(fd);
    }
}
/* Cut off anywhere, a file is refused; with any byte changed it is read or refused, and nothing reaches outside of it. */
static void damaged_real_files_harm_nobody(void **state) {
    (void)state;
    if (access(shared, R_OK)) skip();
    static const char *const names[] = { "checkpoint", "legacy_shared_storage", "parameter" };
    static char raw[1 << 13];
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        uint64_t bytes;
        const int fd = open_shared(names[k], &bytes);
        assert_true(bytes < sizeof raw);
        assert_int_equal(read(fd, raw, sizeof raw), bytes);
        close(fd);
        for (size_t n = 0; n < bytes; n++) {
            struct tensor_list s;
            struct err e = { 0 };
            if (!parse(&s, raw, n, &e)) fail_msg("%s was read with %zu of its %zu bytes", names[k], n, (size_t)bytes);
            raw[n] ^= (char)(1 << n % 8);
            if (!parse(&s, raw, (size_t)bytes, &(struct err){ 0 }))
                for (int i = 0; i < s.tensors; i++) assert_true(s.tensor[i].offset + s.tensor[i].bytes <= bytes);
            tensor_list_fini(&s);
            raw[n] ^= (char)(1 << n % 8);
        }
    }
}

/* ---- what pickles do ---- */
static const uint64_t two_three[] = { 2, 3 };
static void a_training_checkpoint_gives_its_model_alone(void **state) {
    (void)state;
    struct buf p, b;
    struct tensor_list s;
    struct err e = { 0 };
    pk_begin(&p);
    pk_raw(&p, "}(");
    pk_text(&p, "optimizer");
    pk_raw(&p, "}(");
    pk_text(&p, "state");
    pk_raw(&p, "}(K\1}(");
    pk_text(&p, "exp_avg");
    pk_tensor(&p, (struct pk_storage){ "FloatStorage", "never there", 6, 0 }, two_three, NULL,
              2); /* nobody asks for its bytes */
    pk_raw(&p, "uuu");
    pk_text(&p, "epoch");
    pk_raw(&p, "K\3");
    pk_text(&p, "model");
    pk_raw(&p, "}(");
    pk_text(&p, "proj.weight");
    pk_tensor(&p, (struct pk_storage){ "FloatStorage", "0", 6, 0 }, two_three, NULL, 2);
    pk_text(&p, "turned");
    pk_tensor(&p, (struct pk_storage){ "FloatStorage", "0", 6, 0 }, two_three, (const uint64_t[]){ 1, 2 }, 2);
    pk_text(&p, "tail");
    pk_tensor(&p, (struct pk_storage){ "HalfStorage", "0", 12, 8 }, (const uint64_t[]){ 4 }, NULL, 1);
    pk_raw(&p, "uu.");
    archive(&p, &b);
    if (parse(&s, b.p, b.n, &e)) fail_msg("%s", e.text);
    assert_int_equal(s.tensors, 3);
    const struct tensor *t = named(&s, "proj.weight"), *tail = named(&s, "tail");
    assert_int_equal(t->dt, DTYPE_F32);
    assert_int_equal(t->bytes, 24);
    assert_memory_equal(b.p + t->offset, ((float[]){ 1, 2, 3, 4, 5, 6 }), 24);
    assert_int_equal(tail->dt, DTYPE_F16);
    assert_int_equal(tail->offset, t->offset + 16);
    assert_string_equal(named(&s, "turned")->dt_name, "strided");
    assert_int_equal(named(&s, "turned")->dt, DTYPE_NONE);
    tensor_list_fini(&s);
    buf_fini(&b);
}
static void code_in_a_pickle_is_refused_by_name(void **state) {
    (void)state;
    static const char *const calls[][2] = { { "cos\nsystem\n(X\2\0\0\0lstR.", "asks for 'os.system'" },
                                            { "cposix\nsystem\n(tR.", "asks for 'posix.system'" },
                                            { "cbuiltins\neval\n(tR.", "asks for 'builtins.eval'" },
                                            { "ctorch._utils\n_rebuild_tensor\n.", "'torch._utils._rebuild_tensor'" },
                                            { "ctorch\nComplexFloatStorage\n.", "'torch.ComplexFloatStorage'" },
                                            { "c\x1b[31m\nx\n.", "asks for '?[31m.x'" } };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct buf p;
        pk_begin(&p);
        /* the text's length holds zeros */
        if (i == 0)
            buf_add(&p, "cos\nsystem\n(X\2\0\0\0lstR.", 23);
        else
            pk_raw(&p, calls[i][0]);
        pickle_fails(&p, calls[i][1]);
    }
}
static void odd_pickles_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *p;
        size_t n;
        const char *says;
    } all[] = {
        { "}r\xff\xff\xff\xff.", 7, "skips places of its memo" },
        { "j\xff\xff\xff\x7f.", 6, "reads a place of its memo that is empty" },
        { "}q\1.", 4, "skips places of its memo" },
        { "t.", 2, "closes what it has not opened" },
        { "((ttt.", 6, "closes what it has not opened" },
        { ".", 1, "takes more than it has put" },
        { "(.", 2, "takes more than it has put" },
        { "K\1\x86.", 4, "takes more than it has put" },
        { "}(K\1u.", 6, "a key without a value" },
        { "(K\1d.", 5, "a key without a value" },
        { "K\1(K\1e.", 7, "adds to what is no list" },
        { "]K\1K\1s.", 7, "adds to what is no dict" },
        { "K\1}b.", 5, "sets the state of what is no tensor" },
        { ")Q.", 3, "reference that is no tensor storage" },
        { "ccollections\nOrderedDict\n}R.", 28, "calls without arguments" },
        { "ccollections\nOrderedDict\nK\1\x85R.", 30, "calls OrderedDict with other arguments" },
        { "K\1)R.", 5, "calls something with other arguments" },
        { "I1\n.", 4, "uses opcode 0x49" },
        { "\x80\4.", 3, "has protocol 4" },
        { "\x8a\x09xxxxxxxxx.", 12, "more than 64 bits" },
        { "}", 1, "ends too early" },
        { "X\xff\xff\xff\xff.", 6, "ends too early" },
        { "cos", 3, "ends too early" },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct buf p;
        pk_begin(&p);
        buf_add(&p, all[i].p, all[i].n);
        pickle_fails(&p, all[i].says);
    }
}
static void what_holds_itself_ends(void **state) {
    (void)state;
    struct buf p, b;
    struct tensor_list s;
    struct err e = { 0 };
    pk_begin(&p);
    pk_raw(&p, "}q");
    le_add(&p, 0, 1);
    pk_raw(&p, "(");
    pk_text(&p, "me");
    buf_add(&p, "h\0", 2);
    pk_text(&p, "w");
    pk_tensor(&p, (struct pk_storage){ "FloatStorage", "0", 6, 0 }, two_three, NULL, 2);
    pk_raw(&p, "u.");
    archive(&p, &b);
    if (parse(&s, b.p, b.n, &e)) fail_msg("%s", e.text);
    assert_int_equal(s.tensors, 1);
    assert_string_equal(s.tensor[0].name, "w");
    tensor_list_fini(&s);
    buf_fini(&b);
    pk_begin(&p); /* lists in lists, deeper than anybody stacks them */
    for (int i = 0; i < 100000; i++) pk_raw(&p, "]");
    for (int i = 1; i < 100000; i++) pk_raw(&p, "a");
    pk_raw(&p, ".");
    pickle_fails(&p, "nested too deeply");
}
static void tensors_outside_their_storage_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *key;
        uint64_t offset, dim[2];
        const char *says;
    } all[] = {
        { "0", 1, { 2, 3 }, "reaches beyond its storage of 24 bytes" },
        { "0", 0, { 7, 1 }, "reaches beyond its storage" },
        { "0", (uint64_t)1 << 62, { 2, 3 }, "reaches beyond its storage" },
        { "0", 0, { (uint64_t)1 << 40, (uint64_t)1 << 40 }, "impossible shape" },
        { "0", 0, { (uint64_t)1 << 62, 1 }, "reaches beyond its storage" },
        { "0", (uint64_t)-1, { 1, 1 }, "_rebuild_tensor_v2 with other arguments" },
        { "1", 0, { 2, 3 }, "storage is not in the archive" },
        { "../data/0", 0, { 2, 3 }, "storage is not in the archive" },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct buf p;
        pk_begin(&p);
        pk_raw(&p, "}");
        pk_text(&p, "w");
        pk_tensor(&p, (struct pk_storage){ "FloatStorage", all[i].key, 6, all[i].offset }, all[i].dim, NULL, 2);
        pk_raw(&p, "s.");
        pickle_fails(&p, all[i].says);
    }
}

/* ---- what archives do ---- */
static void odd_archives_are_refused(void **state) {
    (void)state;
    struct zip_build z;
    zip_begin(&z);
    zip_add_as(&z, "m/data.pkl", "x", 1, 8, UINT64_C(4000000000)); /* a bomb: nothing is unpacked */
    zip_end(&z);
    fails(&z.file, "'m/data.pkl' is compressed");
    zip_begin(&z);
    zip_add_as(&z, "m/data.pkl", "x", 1, 0, UINT64_C(4000000000));
    zip_end(&z);
    fails(&z.file, "is compressed");
    zip_begin(&z);
    zip_add(&z, "m/data.pkl", "}.", 2);
    zip_add(&z, "m/data.pkl", "}.", 2);
    zip_end(&z);
    fails(&z.file, "is there twice");
    zip_begin(&z);
    zip_add(&z, "m/other", "}.", 2);
    zip_end(&z);
    fails(&z.file, "without data.pkl");
    zip_begin(&z); /* two entries over the same bytes */
    zip_add(&z, "m/data/0", "12345678", 8);
    zip_add(&z, "m/data/1", "12345678", 8);
    memset(z.directory.p + 46 + 8 + 42, 0, 4);
    zip_end(&z);
    fails(&z.file, "overlaps another one");
    zip_begin(&z);
    zip_add(&z, "m/data.pkl", "}.", 2);
    memset(z.directory.p + 42, 0x7f, 4);
    zip_end(&z);
    fails(&z.file, "points behind its end");
    zip_begin(&z);
    zip_add(&z, "m/data.pkl", "}.", 2);
    zip_add(&z, "m/byteorder", "big", 3);
    zip_end(&z);
    fails(&z.file, "big-endian");
    struct buf b;
    buf_init(&b, 99);
    buf_puts(&b, "PK\3\4 and then nothing");
    fails(&b, "directory is missing");
    buf_init(&b, 99);
    buf_puts(&b, "GGUF");
    fails(&b, "is no file of torch.save");
    buf_init(&b, 99);
    fails(&b, "is no file of torch.save");
}
static void memory_that_ends_is_an_error(void **state) {
    (void)state;
    struct buf p, b;
    pk_begin(&p);
    pk_raw(&p, "}");
    pk_text(&p, "w");
    pk_tensor(&p, (struct pk_storage){ "FloatStorage", "0", 6, 0 }, two_three, NULL, 2);
    pk_raw(&p, "s.");
    archive(&p, &b);
    const int fd = in_memory(b.p, b.n);
    for (int i = 1;; i++) {
        struct tensor_list s;
        struct err e = { 0 };
        mem_fail_at(i);
        const int rc = torch_read(&s, fd, b.n, "x.pth", &e);
        mem_fail_at(0);
        tensor_list_fini(&s);
        if (!rc) break;
        assert_int_equal(rc, STATUS_NOMEM);
        assert_true(i < 100);
    }
    close(fd);
    buf_fini(&b);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_real_file_has_its_known_values),
        cmocka_unit_test(other_real_files_are_read_or_refused),
        cmocka_unit_test(damaged_real_files_harm_nobody),
        cmocka_unit_test(a_training_checkpoint_gives_its_model_alone),
        cmocka_unit_test(code_in_a_pickle_is_refused_by_name),
        cmocka_unit_test(odd_pickles_are_refused),
        cmocka_unit_test(what_holds_itself_ends),
        cmocka_unit_test(tensors_outside_their_storage_are_refused),
        cmocka_unit_test(odd_archives_are_refused),
        cmocka_unit_test(memory_that_ends_is_an_error),
    };
    return cmocka_run_group_tests_name("torch", tests, NULL, NULL);
}
