/* gguf_read.h - private to gguf*.c: a header in memory and the cursor that walks it. */
#ifndef JAEDA_DATA_GGUF_READ_H
#define JAEDA_DATA_GGUF_READ_H
#include "gguf.h"
#include "strmap.h"
#include <stddef.h>

/* X(id, GGUF number, bytes of a value; 0: has its own length) */
#define GGUF_TYPE_MAP(X)                                                                                               \
    X(U8, 0, 1)                                                                                                        \
    X(I8, 1, 1)                                                                                                        \
    X(U16, 2, 2)                                                                                                       \
    X(I16, 3, 2)                                                                                                       \
    X(U32, 4, 4)                                                                                                       \
    X(I32, 5, 4)                                                                                                       \
    X(F32, 6, 4)                                                                                                       \
    X(BOOL, 7, 1)                                                                                                      \
    X(STRING, 8, 0)                                                                                                    \
    X(ARRAY, 9, 0)                                                                                                     \
    X(U64, 10, 8)                                                                                                      \
    X(I64, 11, 8)                                                                                                      \
    X(F64, 12, 8)
enum gguf_type {
#define X(id, num, bytes) GGUF_##id = num,
    GGUF_TYPE_MAP(X)
#undef X
        GGUF_TYPES
};

struct gguf_kv {
    const char *key; /* not NUL-terminated */
    uint32_t key_n, type, elem;
    uint64_t len;     /* ARRAY */
    size_t at;        /* first byte of the value; of an array: of its first element */
    uint32_t *string; /* ARRAY of STRING: where each element's length stands */
};
struct gguf {
    unsigned char *head;
    size_t n;
    uint64_t file_bytes, data; /* data: where offsets count from */
    int fd, tensors;
    char *path;
    struct gguf_kv *kv;
    size_t kvs;
    struct gguf_tensor *tensor;
    struct strmap keys, names;
};
enum { GGUF_HEAD_MAX = 256 << 20 }; /* so that a place in the header fits 32 bits */

/* Parses g->head. *more: the header goes on beyond g->n, and the file has more; no error is set then. On failure what
 * was allocated stays for gguf_forget. */
int gguf_read(struct gguf *g, bool *more, struct err *e);
void gguf_forget(struct gguf *g); /* everything that gguf_read made */
/* Checks types, sizes and places of the tensors once all are read. */
int gguf_place(struct gguf *g, uint64_t header_bytes, struct err *e);
/* Path for an error text: the end of a long one. */
const char *gguf_label(const struct gguf *g);
uint64_t gguf_le(const unsigned char *p, int bytes);

#endif
