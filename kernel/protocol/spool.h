/* spool.h - the memory of messages that ZeroMQ has not sent yet. A few megabytes are heap; what a subscriber leaves
 * unread beyond that lies in unlinked temporary files that are mapped, so that it costs disk and no memory of this
 * process. A segment of the file is given back when all its letters are gone. */
#ifndef JAEDA_KERNEL_PROTOCOL_SPOOL_H
#define JAEDA_KERNEL_PROTOCOL_SPOOL_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SPOOL_HEAP_BYTES = 4 << 20,
    SPOOL_SEGMENT_BYTES = 1 << 20,
    SPOOL_FILE_BYTES = 1 << 30, /* on disk at most, */
    SPOOL_SPARE_BYTES = 1 << 28 /* and so much stays free there */
};
struct spool;
int spool_open(struct spool **out, struct err *e);
void spool_close(struct spool *s); /* letters may outlive it. NULL is fine */
/* n bytes that live until letter_drop was called `holders` times, each from any thread. anyhow: of heap when neither
 * the bound nor the disk has room. NULL: no room, no memory. One thread. */
struct letter;
struct letter *spool_letter(struct spool *s, size_t n, int holders, bool anyhow);
char *letter_bytes(struct letter *l);
void letter_drop(void *bytes, void *letter); /* as zmq_msg_init_data calls it; bytes is not looked at */
/* Letters that are gone. It grows while some subscriber reads. Any thread. */
uint64_t spool_gone(const struct spool *s);
size_t spool_on_disk(const struct spool *s); /* bytes now. Any thread */

#endif
