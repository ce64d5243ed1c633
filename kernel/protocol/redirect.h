/* redirect.h - what libraries print on descriptors 1 and 2 goes to the cell that runs. */
#ifndef JAEDA_KERNEL_PROTOCOL_REDIRECT_H
#define JAEDA_KERNEL_PROTOCOL_REDIRECT_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

/* Opens /dev/null for each of the descriptors 0..2 that is closed, so that no socket is given such a number. */
void redirect_guard(void);
/* A copy of descriptor 2 for the log; -1: none. */
int redirect_keep_stderr(void);

struct redirect;
/* From now on 1 and 2 are pipes whose text reaches text() from a thread of its own, or from redirect_drain. */
int redirect_open(struct redirect **out, void (*text)(void *to, bool to_stderr, const char *p, size_t n), void *to,
                  struct err *e);
/* Returns when everything printed so far has been given to text(). Any thread. */
void redirect_drain(struct redirect *r);
/* Descriptors 1 and 2 become copies of log (-1: stay as they are). NULL is fine. */
void redirect_close(struct redirect *r, int log);

#endif
