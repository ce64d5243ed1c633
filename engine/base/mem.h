/* mem.h - allocation that tests can make fail. Thread-safe. Every malloc of the project's own goes through here. */
#ifndef JAEDA_BASE_MEM_H
#define JAEDA_BASE_MEM_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Like malloc, calloc, realloc, free, strdup and memdup + NUL. NULL: no memory. */
void *mem_alloc(size_t bytes);
void *mem_zero(size_t n, size_t size); /* n * size checked for overflow */
void *mem_grow(void *p, size_t n, size_t size);
char *mem_string(const char *s);
char *mem_copy(const void *p, size_t bytes); /* one NUL added */
void mem_free(void *p);
/* Tests: the n-th allocation from now on (1 = the next) and all after it fail; 0: never. Returns how many
 * allocations were made since the last call. */
long mem_fail_at(long n);
#ifdef __cplusplus
}
#endif

#endif
