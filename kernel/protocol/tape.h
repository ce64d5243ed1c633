/* tape.h - what a cell has shown, kept: the newest of it in memory, the first of it on disk, both bounded. Written by the
 * cell's thread, read by any. */
#ifndef JAEDA_KERNEL_PROTOCOL_TAPE_H
#define JAEDA_KERNEL_PROTOCOL_TAPE_H
#include "base/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    TAPE_RING_BYTES = 1 << 20, /* in memory */
    TAPE_FILE_BYTES = 4 << 20,
    TAPE_FILES = 32,       /* the oldest go */
    TAPE_PATIENCE_MS = 500 /* a cell that ends before that leaves no file */
};
struct tape;
/* dir NULL: memory only. head: the file's first line; borrowed. name: of the file, without ".jsonl". at_once: the file is
 * made now. NULL: no memory. */
struct tape *tape_open(const char *dir, const char *name, const json_t *head, bool at_once);
void tape_close(struct tape *t); /* NULL is fine */
/* One message as it was shown; content is borrowed. A full disk costs the file, never the cell. */
void tape_add(struct tape *t, const char *type, const json_t *content);
/* The last line; readers then know that no more comes. */
void tape_end(struct tape *t, const char *state);
/* The first record behind *at: {"type", "content"}, the caller's; *at moves on, *lost grows by those that the ring no longer
 * holds. NULL: there is none (yet). */
json_t *tape_next(struct tape *t, uint64_t *at, uint64_t *lost);

/* Files of a folder, newest first: names without the ending; the caller's (json array). */
json_t *tape_files(const char *dir);
/* The lines of a file; a torn last one is left out. NULL and e. */
json_t *tape_load(const char *dir, const char *name, struct err *e);

#endif
