/* handlers.h - the requests that are answered at once: one table over shell and control. io thread. */
#ifndef JAEDA_KERNEL_PROTOCOL_HANDLERS_H
#define JAEDA_KERNEL_PROTOCOL_HANDLERS_H
#include "server.h"
#include "usage.h"

struct handler {
    const char *request;
    const char *reply; /* NULL: none is sent */
    /* The content of the reply, or NULL and e: an error reply. Without a reply: NULL. */
    json_t *(*answer)(struct server *s, const struct request *r, struct err *e);
};
/* NULL: unknown. */
const struct handler *handler_find(const char *request);

/* What handlers may use of the server. */
const struct server_parts *server_parts(const struct server *s);
struct usage *server_usage(struct server *s);
void server_shut_down(struct server *s); /* once the reply to this request has been sent */

/* control.c */
json_t *answer_interrupt(struct server *s, const struct request *r, struct err *e);
json_t *answer_shutdown(struct server *s, const struct request *r, struct err *e);
json_t *answer_usage(struct server *s, const struct request *r, struct err *e);
json_t *answer_create_subshell(struct server *s, const struct request *r, struct err *e);
json_t *answer_delete_subshell(struct server *s, const struct request *r, struct err *e);
json_t *answer_list_subshell(struct server *s, const struct request *r, struct err *e);
/* comm.c */
json_t *answer_comm_info(struct server *s, const struct request *r, struct err *e);
json_t *answer_comm(struct server *s, const struct request *r, struct err *e); /* comm_open, comm_msg, comm_close */

#endif
