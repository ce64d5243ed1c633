/* gguf_build.h - writes GGUF bytes by hand, right or deliberately wrong, for tests. */
#ifndef JAEDA_TESTS_GGUF_BUILD_H
#define JAEDA_TESTS_GGUF_BUILD_H
#include "base/buf.h"
#include <stdint.h>
#include <string.h>

enum { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STRING, T_ARRAY, T_U64, T_I64, T_F64 };

static inline void put_le(struct buf *b, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) buf_add(b, &(unsigned char){ (unsigned char)(v >> (8 * i)) }, 1);
}
static inline void put_text(struct buf *b, const char *s) {
    put_le(b, strlen(s), 8);
    buf_puts(b, s);
}
/* The counts are written as 0; put_done fills them in. */
static inline void put_head(struct buf *b, uint32_t version) {
    buf_init(b, 64 << 20);
    buf_puts(b, "GGUF");
    put_le(b, version, 4);
    put_le(b, 0, 8);
    put_le(b, 0, 8);
}
static inline void put_counts(struct buf *b, uint64_t tensors, uint64_t kvs) {
    for (int i = 0; i < 8; i++) {
        b->p[8 + i] = (char)(tensors >> (8 * i));
        b->p[16 + i] = (char)(kvs >> (8 * i));
    }
}
static inline void put_key(struct buf *b, const char *key, uint32_t type) {
    put_text(b, key);
    put_le(b, type, 4);
}
static inline void put_u32(struct buf *b, const char *key, uint32_t v) {
    put_key(b, key, T_U32);
    put_le(b, v, 4);
}
static inline void put_f32(struct buf *b, const char *key, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(b, key, T_F32);
    put_le(b, bits, 4);
}
static inline void put_bool(struct buf *b, const char *key, int v) {
    put_key(b, key, T_BOOL);
    put_le(b, (uint64_t)v, 1);
}
static inline void put_string(struct buf *b, const char *key, const char *v) {
    put_key(b, key, T_STRING);
    put_text(b, v);
}
static inline void put_array(struct buf *b, const char *key, uint32_t elem, uint64_t n) {
    put_key(b, key, T_ARRAY);
    put_le(b, elem, 4);
    put_le(b, n, 8);
}
static inline void put_tensor(struct buf *b, const char *name, int dims, const uint64_t *dim, uint32_t type,
                              uint64_t offset) {
    put_text(b, name);
    put_le(b, (uint64_t)dims, 4);
    for (int i = 0; i < dims; i++) put_le(b, dim[i], 8);
    put_le(b, type, 4);
    put_le(b, offset, 8);
}
static inline void put_align(struct buf *b, size_t align) {
    while (b->n % align) buf_add(b, "", 1);
}

#endif
