/* server.h - the resident engine: it listens in a place, gives every kernel a connection with a worker of its own over
 * one struct models, and knows when to leave. */
#ifndef JAEDA_LINK_SERVER_H
#define JAEDA_LINK_SERVER_H
#include "place.h"

enum { SERVER_CONNECTIONS = 64 };
struct server;
/* Listens from now on. p is borrowed; the caller holds its lock. */
int server_open(struct server **out, const struct place *p, struct err *e);
/* Serves until it is stopped, %engine stop, a newer build or the idle clock ends it; why: its last words. Its socket is
 * gone then, its connections are about to be. */
void server_run(struct server *s, char why[200]);
/* Cancels what runs; any thread, and a signal handler too. */
void server_stop(struct server *s);
void server_close(struct server *s); /* not while it runs. NULL is fine */

#endif
