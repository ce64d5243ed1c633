#include "base/utf8.h"
#include "handlers.h"
#include "kernel/interp.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The text that a request is about; NULL and e when there is none. */
static const char *code_of(const struct request *r, size_t *n, struct err *e) {
    const json_t *code = json_object_get(r->msg.content, "code");
    *n = json_string_length(code);
    if (!json_is_string(code)) err_set(e, STATUS_INVALID, "%s has no code", r->msg.type);
    return json_string_value(code);
}
/* cursor_pos counts code points, and lies where it will: clamped. Without one: the end. */
static size_t cursor_of(const struct request *r, const char *code, size_t n) {
    const json_t *pos = json_object_get(r->msg.content, "cursor_pos");
    if (!json_is_number(pos)) return n;
    const double at = json_number_value(pos);
    return at <= 0 ? 0 : at >= (double)n ? n : utf8_offset(code, n, (size_t)at);
}
static json_t *points(const char *code, size_t n, const json_t *bytes) {
    const json_int_t at = json_integer_value(bytes);
    return json_integer((json_int_t)utf8_count(code, at < 0 ? 0 : (size_t)at > n ? n : (size_t)at));
}
/* Read once: a cell may change the environment while another thread asks. */
static const char *engine_line;
static void find_engine(void) {
    const char *uri = getenv("JAEDA_ENGINE");
    engine_line = uri && !strncmp(uri, "local:", 6) ? "engine: in this kernel (local:)" : "engine: resident (ipc:)";
}
static json_t *answer_kernel_info(struct server *s, const struct request *r, struct err *e) {
    (void)s, (void)r, (void)e;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_engine);
    json_t *language = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "name", "jaeda", "version", JAEDA_VERSION,
                                 "mimetype", "text/x-jaeda", "file_extension", ".jaeda", "pygments_lexer", "bash",
                                 "codemirror_mode", "shell", "nbconvert_exporter", "script");
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s+, s:[], s:b, s:[s]}", "status", "ok", "protocol_version", "5.6",
                     "implementation", "jaeda", "implementation_version", JAEDA_VERSION, "language_info", language,
                     "banner",
                     "Jaeda " JAEDA_VERSION ": language models, run and measured. %lsmagic lists what there is.\n",
                     engine_line, "help_links", "debugger", 0, "supported_features", "kernel subshells");
}
static json_t *answer_complete(struct server *s, const struct request *r, struct err *e) {
    size_t n, i;
    const char *code = code_of(r, &n, e);
    if (!code) return NULL;
    json_t *found = interp_complete(server_parts(s)->interp, code, n, cursor_of(r, code, n)), *type;
    if (!found) {
        err_set(e, STATUS_NOMEM, "no completion: out of memory");
        return NULL;
    }
    json_t *types = json_object_get(found, "types");
    json_array_foreach(types, i, type) {
        json_object_set_new(type, "start", points(code, n, json_object_get(type, "start")));
        json_object_set_new(type, "end", points(code, n, json_object_get(type, "end")));
    }
    json_t *reply = json_pack(
        "{s:s, s:O, s:o, s:o, s:{s:O*}}", "status", "ok", "matches", json_object_get(found, "matches"), "cursor_start",
        points(code, n, json_object_get(found, "cursor_start")), "cursor_end",
        points(code, n, json_object_get(found, "cursor_end")), "metadata", "_jupyter_types_experimental", types);
    json_decref(found);
    return reply;
}
static json_t *answer_inspect(struct server *s, const struct request *r, struct err *e) {
    size_t n;
    const char *code = code_of(r, &n, e);
    if (!code) return NULL;
    const int level = json_number_value(json_object_get(r->msg.content, "detail_level")) >= 1;
    json_t *data = interp_inspect(server_parts(s)->interp, code, n, cursor_of(r, code, n), level);
    const int found = data != NULL;
    return json_pack("{s:s, s:b, s:o, s:{}}", "status", "ok", "found", found, "data", found ? data : json_object(),
                     "metadata");
}
static json_t *answer_is_complete(struct server *s, const struct request *r, struct err *e) {
    (void)s;
    size_t n;
    char indent[16] = "";
    const char *code = code_of(r, &n, e);
    if (!code) return NULL;
    const char *status = interp_is_complete(code, n, indent);
    return json_pack("{s:s, s:s*}", "status", status, "indent", strcmp(status, "incomplete") ? NULL : indent);
}
static json_t *answer_history(struct server *s, const struct request *r, struct err *e) {
    json_t *list = history_query(server_parts(s)->history, r->msg.content, e);
    return list ? json_pack("{s:s, s:o}", "status", "ok", "history", list) : NULL;
}

static const struct handler table[] = {
    { "kernel_info_request", "kernel_info_reply", answer_kernel_info },
    { "complete_request", "complete_reply", answer_complete },
    { "inspect_request", "inspect_reply", answer_inspect },
    { "is_complete_request", "is_complete_reply", answer_is_complete },
    { "history_request", "history_reply", answer_history },
    { "comm_info_request", "comm_info_reply", answer_comm_info },
    { "comm_open", NULL, answer_comm },
    { "comm_msg", NULL, answer_comm },
    { "comm_close", NULL, answer_comm },
    { "interrupt_request", "interrupt_reply", answer_interrupt },
    { "shutdown_request", "shutdown_reply", answer_shutdown },
    { "usage_request", "usage_reply", answer_usage },
    { "create_subshell_request", "create_subshell_reply", answer_create_subshell },
    { "delete_subshell_request", "delete_subshell_reply", answer_delete_subshell },
    { "list_subshell_request", "list_subshell_reply", answer_list_subshell },
};
const struct handler *handler_find(const char *request) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].request, request)) return &table[i];
    return NULL;
}
