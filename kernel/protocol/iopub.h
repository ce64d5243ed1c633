/* iopub.h - everything that is broadcast to the front ends: one FIFO, one thread that owns the XPUB socket. The order
 * of the calls below is the order on the wire. Streams are coalesced, queued updates of a display are replaced by the
 * newest, and the whole is throttled under the server's budget; nothing is dropped, so producers wait instead. What a
 * subscriber leaves unread is kept for it on disk (spool.h) and holds up nobody. */
#ifndef JAEDA_KERNEL_PROTOCOL_IOPUB_H
#define JAEDA_KERNEL_PROTOCOL_IOPUB_H
#include "channel.h"

enum {
    IOPUB_COALESCE_MS = 40,
    IOPUB_STREAM_BYTES = 32 << 10, /* of one stream message */
    IOPUB_QUEUE_BYTES = 512 << 10, /* a cell's output waits above this */
    IOPUB_HARD_BYTES = 32 << 20,   /* even a status waits above this */
    IOPUB_PATIENCE_MS = 30000,     /* when nothing more can be kept for a subscriber, the others wait so long for it */
    IOPUB_CELLS = 40,              /* that run at once and of which new subscribers are told */
};
struct iopub;
/* Takes the bound XPUB socket, also on failure. */
int iopub_open(struct iopub **out, void *xpub, struct sender *sender, struct err *e);
/* Sends what is queued (at most for a second), ends the thread, closes the socket; later calls do nothing. */
void iopub_stop(struct iopub *io);
void iopub_close(struct iopub *io); /* stops and frees: no other thread may still use it. NULL is fine */

/* A message of any type with its parent's header as text (n 0: none). Steals content. Any thread. */
void iopub_post(struct iopub *io, const char *type, const char *parent, size_t n, json_t *content);
/* A status, "busy" or "idle". cell: it is the one that begins or ends a cell, and parent is the same in both; a front
 * end that subscribes in between is told busy behind its welcome, once for each cell that runs. */
void iopub_status(struct iopub *io, const char *parent, size_t n, const char *state, bool cell);

/* Where a cell's outputs go. stop: set by another thread to end a wait for room, followed by iopub_wake. */
struct cell_output {
    struct iopub *io;
    const char *parent;
    size_t parent_n;
    const atomic_bool *stop;
};
/* Valid UTF-8. 0, or -1 when stopped while the queue was full. */
int iopub_stream(const struct cell_output *o, bool to_stderr, const char *utf8, size_t n);
/* As iopub_post, but waits for room; when display_id and type update_display_data: replaces a queued update of that id. */
int iopub_show(const struct cell_output *o, const char *type, const char *display_id, json_t *content);
/* Returns when everything posted so far is with ZeroMQ. */
void iopub_flush(struct iopub *io);
void iopub_wake(struct iopub *io);

#endif
