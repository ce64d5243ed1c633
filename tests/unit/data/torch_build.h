/* torch_build.h - writes pickles and zip archives by hand, right or deliberately wrong, for tests. */
#ifndef JAEDA_TESTS_TORCH_BUILD_H
#define JAEDA_TESTS_TORCH_BUILD_H
#include "base/buf.h"
#include <stdint.h>
#include <string.h>

static inline void pk_raw(struct buf *b, const char *s) { buf_puts(b, s); }
static inline void le_add(struct buf *b, uint64_t v, int n) {
    for (int i = 0; i < n; i++) buf_add(b, &(unsigned char){ (unsigned char)(i < 8 ? v >> (8 * i) : 0) }, 1);
}
static inline void pk_text(struct buf *b, const char *s) {
    pk_raw(b, "X");
    le_add(b, strlen(s), 4);
    pk_raw(b, s);
}
static inline void pk_int(struct buf *b, uint64_t v) { /* LONG1 of 8 bytes */
    buf_add(b, "\x8a\x08", 2);
    le_add(b, v, 8);
}
static inline void pk_begin(struct buf *b) {
    buf_init(b, 64 << 20);
    buf_add(b, "\x80\x02", 2);
}
static inline void pk_ints(struct buf *b, const uint64_t *v, int n) {
    pk_raw(b, "(");
    for (int i = 0; i < n; i++) pk_int(b, v[i]);
    pk_raw(b, "t");
}
struct pk_storage {
    const char *type, *key;
    uint64_t numel, offset; /* offset: where the tensor begins */
};
/* One tensor as torch.save writes it; stride NULL: row-major. */
static inline void pk_tensor(struct buf *b, struct pk_storage of, const uint64_t *dim, const uint64_t *stride,
                             int dims) {
    uint64_t own[8] = { 0 }, n = 1;
    for (int i = dims - 1; i >= 0; n *= dim[i--]) own[i] = n;
    pk_raw(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pk_text(b, "storage");
    buf_printf(b, "ctorch\n%s\n", of.type);
    pk_text(b, of.key);
    pk_text(b, "cpu");
    pk_int(b, of.numel);
    pk_raw(b, "tQ");
    pk_int(b, of.offset);
    pk_ints(b, dim, dims);
    pk_ints(b, stride ? stride : own, dims);
    pk_raw(b, "\x89"
              "ccollections\nOrderedDict\n)RtR");
}

struct zip_build {
    struct buf file, directory;
    int n;
};
static inline void zip_begin(struct zip_build *z) {
    *z = (struct zip_build){ .n = 0 };
    buf_init(&z->file, 256 << 20);
    buf_init(&z->directory, 1 << 20);
}
static inline void zip_fields(struct buf *b, int method, uint64_t bytes, uint64_t whole, const char *name) {
    le_add(b, 0, 2), le_add(b, (uint64_t)method, 2), le_add(b, 0, 8);
    le_add(b, bytes, 4), le_add(b, whole, 4), le_add(b, strlen(name), 2);
}
/* whole: the size it claims to have unpacked. */
static inline void zip_add_as(struct zip_build *z, const char *name, const void *p, size_t n, int method,
                              uint64_t whole) {
    const uint64_t at = z->file.n;
    buf_add(&z->file, "PK\3\4\x14", 5), le_add(&z->file, 0, 1);
    zip_fields(&z->file, method, n, whole, name);
    le_add(&z->file, 0, 2);
    pk_raw(&z->file, name);
    buf_add(&z->file, p, n);
    buf_add(&z->directory, "PK\1\2\x14\0\x14", 7), le_add(&z->directory, 0, 1);
    zip_fields(&z->directory, method, n, whole, name);
    le_add(&z->directory, 0, 12), le_add(&z->directory, at, 4);
    pk_raw(&z->directory, name);
    z->n++;
}
static inline void zip_add(struct zip_build *z, const char *name, const void *p, size_t n) {
    zip_add_as(z, name, p, n, 0, n);
}
/* The whole archive is in z->file afterwards. */
static inline void zip_end(struct zip_build *z) {
    const uint64_t at = z->file.n;
    if (z->directory.n) buf_add(&z->file, z->directory.p, z->directory.n);
    buf_add(&z->file, "PK\5\6", 4), le_add(&z->file, 0, 4);
    le_add(&z->file, (uint64_t)z->n, 2), le_add(&z->file, (uint64_t)z->n, 2);
    le_add(&z->file, z->directory.n, 4), le_add(&z->file, at, 4), le_add(&z->file, 0, 2);
    buf_fini(&z->directory);
}

#endif
