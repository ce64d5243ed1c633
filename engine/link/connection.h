/* connection.h - one kernel's connection to the resident engine: a thread that carries frames between its socket and a
 * worker of its own. A kernel that does not read holds up its own events only. */
#ifndef JAEDA_LINK_CONNECTION_H
#define JAEDA_LINK_CONNECTION_H
#include "place.h"
#include "run/models.h"
#include <pthread.h>
#include <stdatomic.h>

/* What the connections of one server share with it. */
struct house {
    const struct place *place;
    struct models models;
    int wake;             /* eventfd: something below changed */
    atomic_int jobs;      /* of all connections: taken, their end not yet put into words */
    atomic_bool retiring; /* a kernel of a newer build came: nothing new is begun */
    atomic_bool leaving;  /* connections say what is left to say, and end */
    pthread_mutex_t lock; /* the socket's file */
    ino_t own;
    bool bound;
};
/* From now on other kernels find no engine here, and start one. Any thread, any number of times. */
void house_unbind(struct house *h);
void house_wake(struct house *h);

struct connection;
/* Takes sock. On failure it has been refused with e's text, and closed. */
int connection_open(struct connection **out, struct house *h, int sock, struct err *e);
bool connection_over(const struct connection *c);
/* As if its kernel had closed it; with h->leaving set it says first what became of its jobs. */
void connection_end(struct connection *c);
void connection_close(struct connection *c); /* waits for its thread */
/* Says hello with a refusal and closes. */
void connection_refuse(int sock, const char *why);

#endif
