/* log.h - one line per event to stderr and to a ring that %log shows. Thread-safe. Never cell or prompt text above DEBUG. */
#ifndef JAEDA_BASE_LOG_H
#define JAEDA_BASE_LOG_H
#include "buf.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Level from JAEDA_LOG (error, warn, info, debug; default warn on stderr, info in the ring). fmt without a newline. */
__attribute__((format(printf, 2, 3))) void log_at(enum log_level level, const char *fmt, ...);
/* Appends the last `lines` lines of the ring (oldest first), each with a newline. */
void log_tail(struct buf *out, int lines);
/* stderr as it was at start, since the kernel redirects descriptor 2 into cells; -1 = nothing is written there. */
void log_to(int fd);
/* For a process of its own: stderr is the file `name` in this directory (an open descriptor) from now on, and gets
 * every line down to INFO; past so many bytes it becomes name.1 and a new one begins. name is borrowed for good. -1: it
 * cannot be opened (errno). */
int log_to_file(int dir, const char *name, long bytes);

#endif
