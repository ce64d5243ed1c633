#include "base/log.h"
#include "handlers.h"

json_t *answer_comm_info(struct server *s, const struct request *r, struct err *e) {
    (void)s, (void)r, (void)e;
    return json_pack("{s:s, s:{}}", "status", "ok", "comms");
}
json_t *answer_comm_open(struct server *s, const struct request *r, struct err *e) {
    const char *id = json_string_value(json_object_get(r->msg.content, "comm_id"));
    const char *target = json_string_value(json_object_get(r->msg.content, "target_name"));
    size_t n;
    const char *parent = message_header(&r->msg, &n);
    if (!id) {
        err_set(e, STATUS_INVALID, "comm_open has no comm_id");
        return NULL;
    }
    log_at(LOG_INFO, "comm: no target %.80s here", target ? target : "");
    iopub_post(server_parts(s)->iopub, "comm_close", parent, n, json_pack("{s:s, s:{}}", "comm_id", id, "data"));
    return NULL;
}
json_t *answer_comm_other(struct server *s, const struct request *r, struct err *e) {
    (void)s, (void)e;
    log_at(LOG_DEBUG, "comm: %s for a comm that is not open", r->msg.type);
    return NULL;
}
