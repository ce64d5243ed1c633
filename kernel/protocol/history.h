/* history.h - the inputs of this session and of earlier ones, in SQLite; outputs that were results beside them. Any
 * thread. Opened by its first use, so that a slow home directory delays no kernel start. */
#ifndef JAEDA_KERNEL_PROTOCOL_HISTORY_H
#define JAEDA_KERNEL_PROTOCOL_HISTORY_H
#include "base/err.h"
#include <jansson.h>
#include <stdbool.h>

struct history;
/* path NULL: $XDG_DATA_HOME or ~/.local/share, jaeda/history.sqlite. A file that cannot be used becomes a history in
 * memory and one line in the log. NULL: no memory. */
struct history *history_open(const char *path);
void history_close(struct history *h);

void history_add(struct history *h, int line, const char *source, size_t n);
void history_result(struct history *h, int line, const char *text, size_t n);
/* A history_request's content -> the reply's "history": [[session, line, input | [input, output]], ...]; NULL and e. */
json_t *history_query(struct history *h, const json_t *request, struct err *e);
/* The last n inputs (n 0: all of that session), oldest first; session 0: this one, -1 the one before it. */
void history_walk(struct history *h, int session, int n,
                  void (*line)(void *to, int session, int number, const char *input), void *to);

#endif
