/* buf.h - a growing byte buffer with a mandatory maximum. Sticky: after the first failure further calls do nothing. */
#ifndef JAEDA_BASE_BUF_H
#define JAEDA_BASE_BUF_H
#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *p; /* always NUL-terminated once something was added; NULL before */
    size_t n, cap, max;
    bool failed; /* out of memory or over max: contents are unchanged since the failing call */
};

void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);
void buf_reset(struct buf *b);                       /* keeps memory, drops contents and the failure */
int buf_add(struct buf *b, const void *p, size_t n); /* 0, or -1 when failed */
int buf_puts(struct buf *b, const char *s);
__attribute__((format(printf, 2, 3))) int buf_printf(struct buf *b, const char *fmt, ...);
void buf_drop(struct buf *b, size_t n);    /* removes n bytes at the front */
char *buf_take(struct buf *b);             /* moves the contents out (mem_free them); "" when empty; NULL when failed */
const char *buf_text(const struct buf *b); /* "" when empty; valid until the next change */

#endif
