/* reader.h - weight files read ahead: a few threads fill a ring of memory in file order, in large pieces, while the caller
 * packs what has arrived. One caller. */
#ifndef JAEDA_RUN_READER_H
#define JAEDA_RUN_READER_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One tensor's bytes; path and name are for error texts. All borrowed until reader_close. */
struct extent {
    int fd;
    const char *path, *name;
    uint64_t offset, bytes;
};
struct reader;
/* Memory that reading these will take: room for the largest one twice. */
size_t reader_window(const struct extent *x, int n);
size_t reader_room(uint64_t largest); /* the same, where only its bytes are known */
/* Starts to read into ring, reader_window bytes of the caller's; extents come in the order given. */
int reader_open(struct reader **out, const struct extent *x, int n, char *ring, struct err *e);
/* The bytes of the next extent, valid until the next call. tell is asked several times a second while it waits, with the
 * bytes read so far: true gives up (STATUS_CANCELLED). NULL: e says why. */
const void *reader_next(struct reader *r, bool (*tell)(void *arg, double done), void *arg, struct err *e);
double reader_waited_ms(const struct reader *r); /* of the caller, in reader_next */
void reader_close(struct reader *r);             /* NULL is fine; waits for reads under way */

#endif
