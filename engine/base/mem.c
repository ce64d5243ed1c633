#include "mem.h"
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static atomic_long made, limit; /* limit 0: never fail */

static int refused(void) {
    const long n = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
    const long at = atomic_load_explicit(&limit, memory_order_relaxed);
    return at > 0 && n >= at;
}
void *mem_alloc(size_t bytes) { return refused() ? NULL : malloc(bytes ? bytes : 1); }
void *mem_zero(size_t n, size_t size) {
    if (refused() || (size && n > SIZE_MAX / size)) return NULL;
    return calloc(n ? n : 1, size ? size : 1);
}
void *mem_grow(void *p, size_t n, size_t size) {
    if (refused() || (size && n > SIZE_MAX / size)) return NULL;
    const size_t bytes = n * size;
    return realloc(p, bytes ? bytes : 1);
}
char *mem_copy(const void *p, size_t bytes) {
    char *copy = bytes < SIZE_MAX ? mem_alloc(bytes + 1) : NULL;
    if (!copy) return NULL;
    if (bytes) memcpy(copy, p, bytes);
    copy[bytes] = 0;
    return copy;
}
char *mem_string(const char *s) { return mem_copy(s, strlen(s)); }
void mem_free(void *p) { free(p); }
long mem_fail_at(long n) {
    atomic_store(&limit, n);
    return atomic_exchange(&made, 0);
}
