/* safetensors_build.h - writes safetensors bytes by hand, right or deliberately wrong, for tests. */
#ifndef JAEDA_TESTS_SAFETENSORS_BUILD_H
#define JAEDA_TESTS_SAFETENSORS_BUILD_H
#include "base/buf.h"
#include <stdint.h>
#include <string.h>

/* A file with this header text and `data` bytes behind it. */
static inline void st_file(struct buf *b, const char *header, size_t data) {
    const uint64_t n = strlen(header);
    buf_init(b, 64 << 20);
    for (int i = 0; i < 8; i++) buf_add(b, &(unsigned char){ (unsigned char)(n >> (8 * i)) }, 1);
    buf_puts(b, header);
    for (size_t i = 0; i < data; i++) buf_add(b, "w", 1);
}

#endif
