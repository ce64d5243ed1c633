#include "handlers.h"

json_t *answer_interrupt(struct server *s, const struct request *r, struct err *e) {
    (void)r, (void)e;
    executor_interrupt(server_parts(s)->executor);
    return json_pack("{s:s}", "status", "ok");
}
json_t *answer_shutdown(struct server *s, const struct request *r, struct err *e) {
    (void)e;
    size_t n;
    const char *parent = message_header(&r->msg, &n);
    json_t *reply =
        json_pack("{s:s, s:b}", "status", "ok", "restart", json_is_true(json_object_get(r->msg.content, "restart")));
    /* Every front end is told, as ipykernel does, not only the one that asked. */
    iopub_post(server_parts(s)->iopub, "shutdown_reply", parent, n, json_deep_copy(reply));
    executor_interrupt(server_parts(s)->executor);
    server_shut_down(s);
    return reply;
}
json_t *answer_usage(struct server *s, const struct request *r, struct err *e) {
    (void)r, (void)e;
    return usage_read(server_usage(s));
}
