#include "handlers.h"

json_t *answer_interrupt(struct server *s, const struct request *r, struct err *e) {
    (void)r, (void)e;
    shells_interrupt(server_parts(s)->shells);
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
    server_shut_down(s);
    return reply;
}
json_t *answer_usage(struct server *s, const struct request *r, struct err *e) {
    (void)r, (void)e;
    return usage_read(server_usage(s));
}

/* ---- subshells (JEP 91) ---- */

json_t *answer_create_subshell(struct server *s, const struct request *r, struct err *e) {
    (void)r;
    const struct shell *h = shells_create(server_parts(s)->shells, e);
    return h ? json_pack("{s:s, s:s}", "status", "ok", "subshell_id", h->id) : NULL;
}
json_t *answer_delete_subshell(struct server *s, const struct request *r, struct err *e) {
    const char *id = json_string_value(json_object_get(r->msg.content, "subshell_id"));
    if (!id) err_set(e, STATUS_INVALID, "delete_subshell_request has no subshell_id");
    return id && !shells_delete(server_parts(s)->shells, id, e) ? json_pack("{s:s}", "status", "ok") : NULL;
}
json_t *answer_list_subshell(struct server *s, const struct request *r, struct err *e) {
    (void)r, (void)e;
    json_t *ids = shells_list(server_parts(s)->shells);
    return ids ? json_pack("{s:s, s:o}", "status", "ok", "subshell_id", ids) : NULL;
}
