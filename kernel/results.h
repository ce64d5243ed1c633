/* results.h - every generation and profile of this user, in SQLite: $XDG_DATA_HOME or ~/.local/share, then
 * jaeda/results.sqlite. Any thread. Nothing stays open between two calls, so that a file that is removed, replaced or
 * seen from another machine harms nobody.
 *
 * A home directory may lie on a network: there is no write-ahead log (its shared memory does not cross machines) but a
 * rollback journal, flushed before a call returns; where the file system has no record locks, a lock file stands in.
 * A damaged file is moved aside, never deleted; one of a newer version is left alone. */
#ifndef JAEDA_KERNEL_RESULTS_H
#define JAEDA_KERNEL_RESULTS_H
#include "base/buf.h"
#include "base/err.h"
#include <jansson.h>

enum { RESULTS_VERSION = 1 };

/* Where the file is, or would be. STATUS_IO: neither XDG_DATA_HOME nor HOME says. */
int results_path(char out[4096], struct err *e);
/* "ext4, record locks": the kind of file system below it and how writers keep apart; 96 bytes. */
void results_kind(char out[96]);

/* Adds a run: the columns of results.c by name; a list or object is kept as JSON, a name that is no column is an error.
 * Every text in it passes secret_redact. *number: its number. Appends to note what else is to be said (a line each): a
 * damaged file that was moved aside. Waits a few seconds at most for other kernels. */
int results_add(const json_t *run, long long *number, struct buf *note, struct err *e);

struct results_filter {
    const char *model, *grep; /* NULL: any. GLOB patterns; grep: anywhere in code, prompt, text, notebook */
    int limit;                /* the newest; 0: all */
};
/* The runs that fit, oldest first, without their long columns; *total: how many fit. NULL and e. */
json_t *results_list(const struct results_filter *f, long long *total, struct buf *note, struct err *e);
/* Everything of one run; number 0: the newest. NULL and e (STATUS_NOTFOUND: no such run). */
json_t *results_get(long long number, struct buf *note, struct err *e);
/* Removes a run and overwrites its bytes; number 0: every run. *removed: how many. */
int results_delete(long long number, long long *removed, struct err *e);

#endif
