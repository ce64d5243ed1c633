/* gguf.h - the header of a GGUF file (ggml docs/gguf.md), read with bounds on everything. Pure but for file reads. */
#ifndef JAEDA_DATA_GGUF_H
#define JAEDA_DATA_GGUF_H
#include "base/dtype.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct gguf_string {
    const char *p;
    size_t n;
}; /* into the header's copy; not NUL-terminated */

struct gguf_tensor {
    char name[65];
    int dt; /* enum dtype, or a number dtype_info() does not know */
    int dims;
    uint64_t dim[4];        /* dim[0] runs fastest: columns; unused ones are 1 */
    uint64_t offset, bytes; /* in the file; bytes 0 when dt is unknown: only using it is an error */
};
struct gguf;

/* Parses a header that lies in memory (n bytes, copied); file_bytes is the whole file's size for the bounds checks. */
int gguf_parse(struct gguf **out, const void *head, size_t n, uint64_t file_bytes, struct err *e);
/* Opens a file, reads and parses its header; the descriptor stays open for gguf_fd. Errors name the path. */
int gguf_open(struct gguf **out, const char *path, struct err *e);
void gguf_close(struct gguf *g);   /* NULL is fine */
int gguf_fd(const struct gguf *g); /* -1 when parsed from memory */
const char *gguf_path(const struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g);

int gguf_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name); /* NULL: not there */

/* Metadata. false: absent or of another kind (any integer or float width is accepted for a number). */
bool gguf_number(const struct gguf *g, const char *key, double *out);
bool gguf_int(const struct gguf *g, const char *key, int64_t *out);
bool gguf_bool(const struct gguf *g, const char *key, bool *out);
bool gguf_text(const struct gguf *g, const char *key, struct gguf_string *out);
size_t gguf_array_len(const struct gguf *g, const char *key); /* 0: absent or no array */
bool gguf_array_text(const struct gguf *g, const char *key, size_t i, struct gguf_string *out); /* O(1) */
bool gguf_array_int(const struct gguf *g, const char *key, size_t i, int64_t *out);
bool gguf_array_number(const struct gguf *g, const char *key, size_t i, double *out);

#endif
