#include "buf.h"
#include "mem.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Half of what a size_t holds, so that no sum of lengths wraps. */
void buf_init(struct buf *b, size_t max) { *b = (struct buf){ .max = max < SIZE_MAX / 2 ? max : SIZE_MAX / 2 }; }
void buf_fini(struct buf *b) {
    mem_free(b->p);
    *b = (struct buf){ .max = b->max };
}
void buf_reset(struct buf *b) {
    b->n = 0;
    b->failed = false;
    if (b->p) b->p[0] = 0;
}
/* Room for n more bytes and the NUL. */
static int reserve(struct buf *b, size_t n) {
    if (b->failed) return -1;
    if (n > b->max || b->n > b->max - n) return b->failed = true, -1;
    const size_t need = b->n + n + 1;
    if (need <= b->cap) return 0;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap += cap / 2 + 64;
    char *p = mem_grow(b->p, cap, 1);
    if (!p) return b->failed = true, -1;
    b->p = p;
    b->cap = cap;
    return 0;
}
int buf_add(struct buf *b, const void *p, size_t n) {
    if (reserve(b, n)) return -1;
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
    return 0;
}
int buf_puts(struct buf *b, const char *s) { return buf_add(b, s, strlen(s)); }
int buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    const int rc = n < 0 ? -1 : reserve(b, (size_t)n);
    if (!rc) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    return rc;
}
void buf_drop(struct buf *b, size_t n) {
    if (!b->p) return;
    if (n > b->n) n = b->n;
    memmove(b->p, b->p + n, b->n - n + 1);
    b->n -= n;
}
char *buf_take(struct buf *b) {
    if (b->failed || (!b->p && reserve(b, 0))) return NULL;
    b->p[b->n] = 0;
    char *p = b->p;
    *b = (struct buf){ .max = b->max };
    return p;
}
const char *buf_text(const struct buf *b) { return b->p ? b->p : ""; }
