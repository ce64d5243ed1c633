/* server.h - the io thread: owner of shell, control and stdin. It answers everything but execute_request itself, also
 * while cells run; those it hands one by one to the executor of their shell. Busy and idle are published here and
 * nowhere else. */
#ifndef JAEDA_KERNEL_PROTOCOL_SERVER_H
#define JAEDA_KERNEL_PROTOCOL_SERVER_H
#include "shells.h"

struct server;
struct server_parts { /* all borrowed; they outlive the server */
    const struct wire_key *key;
    struct sender *sender;
    struct iopub *iopub;
    struct comms *comms;
    struct shells *shells;
    struct interp *interp;
    struct history *history;
    int quit; /* eventfd: written when a front end has asked for shutdown and has its reply */
};
/* Binds the three sockets and starts the thread. */
int server_open(struct server **out, void *context, struct connection *c, const struct server_parts *parts,
                struct err *e);
void server_close(struct server *s); /* ends the thread, closes the sockets (they linger). NULL is fine */

#endif
