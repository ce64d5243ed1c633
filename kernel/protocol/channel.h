/* channel.h - ZeroMQ sockets as Jupyter wants them, the threads that own them, and the heartbeat. A socket belongs to
 * the thread that uses it; it may be handed over once, before that thread starts. */
#ifndef JAEDA_KERNEL_PROTOCOL_CHANNEL_H
#define JAEDA_KERNEL_PROTOCOL_CHANNEL_H
#include "connection.h"
#include "wire.h"
#include <pthread.h>
#include <stdatomic.h>

enum {
    CHANNEL_MAX_FRAME = 64 << 20, /* bytes; a peer that sends a larger frame is disconnected by ZeroMQ */
    CHANNEL_LINGER_MS = 1000,
    CHANNEL_UNREAD = 20000, /* messages that ZeroMQ keeps for a subscriber that does not read: 33 s at full budget */
};
/* Can what the connection file asks for be had of this libzmq? */
int channel_check(const struct connection *c, struct err *e);
/* A bound socket with every option set (ROUTER handover, XPUB verbose, limits, linger, encryption), its port in c;
 * NULL and e on failure. */
void *channel_bind(void *context, int type, struct connection *c, enum channel channel, struct err *e);
/* 1: a message in f; 0: none there now; -1: the context ended. An oversized one sets f->failed. *fd: the descriptor of
 * the connection that it came from, -1 unknown. Never waits. */
int channel_recv(void *socket, struct frames *f, int *fd);
/* All frames or none; 0, or -1 and errno (EAGAIN: the peer takes no more; EHOSTUNREACH: it is not there). Never waits. */
int channel_send(void *socket, const struct frames *f);

/* Ends the connections to a bound socket whose peers leave unread what was sent; ZeroMQ forgets what it kept for them,
 * and they connect again when they come to. Returns how many. Only after a while without sending: else it ends those
 * that are about to read, too. */
int channel_cut(void *socket);

/* Starts a named thread. Signals stay with main; only an open one (the executor, whose children inherit its mask)
 * has none blocked. 0, or -1 and e. */
int thread_start(pthread_t *t, const char *name, bool open, void *(*run)(void *), void *arg, struct err *e);

/* Who we are: one session for all messages of this process. Any thread. */
struct sender {
    const struct wire_key *key;
    char session[40];
    atomic_ullong count;
};
int sender_init(struct sender *s, const struct wire_key *key, struct err *e);
/* Fills msg_id, session and date, and builds the frames. id: 64 bytes that keep the msg_id, or NULL. */
int sender_write(struct sender *s, struct frames *f, struct outgoing *m, char *id);
/* Now, as Jupyter writes dates: 2024-01-31T09:08:07.000123Z. */
void date_now(char out[32]);
int64_t clock_us(void); /* monotonic */

struct heartbeat;
/* Echoes in a context and thread of its own, whatever else the process does. */
int heartbeat_open(struct heartbeat **out, struct connection *c, struct err *e);
void heartbeat_close(struct heartbeat *h);

#endif
