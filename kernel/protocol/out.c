#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cell.h"
#include "kernel/interp.h"
#include "tape.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PIECE = 64 << 10, MAX_RESULT = 1 << 20 };

int interrupt_init(struct interrupt *i, struct err *e) {
    atomic_init(&i->on, false);
    i->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return i->fd < 0 ? err_set(e, STATUS_IO, "eventfd: %s", strerror(errno)) : 0;
}
void interrupt_fini(struct interrupt *i) {
    if (i->fd >= 0) close(i->fd);
    i->fd = -1;
}
void interrupt_raise(struct interrupt *i) {
    const uint64_t one = 1;
    atomic_store(&i->on, true);
    if (write(i->fd, &one, sizeof one) < 0) log_at(LOG_DEBUG, "interrupt: %s", strerror(errno));
}
void interrupt_clear(struct interrupt *i) {
    uint64_t count;
    if (read(i->fd, &count, sizeof count) < 0 && errno != EAGAIN) log_at(LOG_DEBUG, "interrupt: %s", strerror(errno));
    atomic_store(&i->on, false);
}

void text_whole(struct buf *held, const char *p, size_t n, bool end, struct buf *text) {
    if (held->n || end) {
        buf_add(held, p, n);
        const size_t tail = end ? 0 : utf8_tail(held->p, held->n);
        utf8_repair(text, buf_text(held), held->n - tail);
        buf_drop(held, held->n - tail);
        return;
    }
    const size_t tail = utf8_tail(p, n);
    utf8_repair(text, p, n - tail);
    buf_add(held, p + n - tail, tail);
}

int out_begin(struct out *o) {
    for (int i = 0; i < 2; i++) buf_init(&o->held[i], 2 * PIECE);
    buf_init(&o->result, MAX_RESULT);
    o->capture = NULL;
    o->payload = json_array();
    return o->payload ? 0 : -1;
}
void out_fini(struct out *o) {
    for (int i = 0; i < 2; i++) buf_fini(&o->held[i]);
    buf_fini(&o->result);
    json_decref(o->payload);
}
/* The innermost capture that takes this kind (0 stdout, 1 stderr, 2 displays); NULL: the front end does. */
static struct capture *taker(const struct out *o, int kind) {
    struct capture *c = o->capture;
    while (c && !c->keep[kind]) c = c->outer;
    return c;
}
static void keep_stream(struct out *o, enum out_name name, const struct buf *text) {
    if (!o->tape) return;
    json_t *content =
        json_pack("{s:s, s:s%}", "name", name == OUT_STDERR ? "stderr" : "stdout", "text", buf_text(text), text->n);
    if (content) tape_add(o->tape, "stream", content);
    json_decref(content);
}
static int emit(struct out *o, enum out_name name, const struct buf *text) {
    struct capture *c = taker(o, name);
    if (c) return buf_add(&c->text[name], buf_text(text), text->n), 0;
    keep_stream(o, name, text);
    if (o->silent) return 0;
    interp_pause(); /* the queue may be full */
    const int rc = iopub_stream(&o->to, name == OUT_STDERR, buf_text(text), text->n);
    interp_resume();
    return rc;
}
static int stream_piece(struct out *o, enum out_name name, const char *p, size_t n, bool end) {
    struct buf whole;
    buf_init(&whole, 8 * PIECE);
    text_whole(&o->held[name], p, n, end, &whole);
    const int rc = whole.n ? emit(o, name, &whole) : 0;
    buf_fini(&whole);
    return rc;
}
int out_stream(struct out *o, enum out_name name, const char *text, size_t n) {
    for (size_t piece; n; text += piece, n -= piece) {
        piece = n < PIECE ? n : PIECE;
        if (stream_piece(o, name, text, piece, false)) return -1;
    }
    return 0;
}
int out_printf(struct out *o, const char *fmt, ...) {
    char line[1024], *text = line;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof line) text = mem_alloc((size_t)n + 1);
    if (text && text != line) vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    const int rc = text && n > 0 ? out_stream(o, OUT_STDOUT, text, (size_t)n) : n < 0 || !text ? -1 : 0;
    if (text != line) mem_free(text);
    return rc;
}
/* What is held back belongs before a change of where text goes. */
static void settle(struct out *o) {
    for (int i = 0; i < 2; i++)
        if (o->held[i].n) stream_piece(o, (enum out_name)i, "", 0, true);
}
void out_settle(struct out *o) {
    while (o->capture) out_capture_end(o, o->capture);
    settle(o);
    if (o->comms) comms_end(o->comms, &o->to, NULL);
}

/* A captured update replaces the display that it names. Steals both. */
static void capture_display(struct capture *c, json_t *data, json_t *metadata, const char *id, bool update) {
    json_t *entry, *new = json_pack("{s:o, s:o, s:s*}", "data", data, "metadata", metadata, "id", id);
    size_t i;
    json_array_foreach(c->displays, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "id"));
        if (!update || !id || !name || strcmp(name, id)) continue;
        json_array_set_new(c->displays, i, new);
        return;
    }
    json_array_append_new(c->displays, new);
}
/* Steals content. */
static void send(struct out *o, const char *type, const char *id, json_t *content) {
    interp_pause();
    iopub_show(&o->to, type, id, content);
    interp_resume();
}
static void show(struct out *o, const char *type, json_t *data, json_t *metadata, const char *id) {
    struct capture *c = taker(o, 2);
    const bool update = !strcmp(type, "update_display_data");
    if (!metadata) metadata = json_object();
    if (c) {
        capture_display(c, data, metadata, id, update);
        return;
    }
    json_t *content =
        json_pack("{s:o, s:o, s:{s:s*}}", "data", data, "metadata", metadata, "transient", "display_id", id);
    if (content && !strcmp(type, "execute_result"))
        json_object_set_new(content, "execution_count", json_integer(o->count));
    if (o->tape && content) tape_add(o->tape, type, content);
    if (o->silent)
        json_decref(content);
    else
        send(o, type, id, content);
}
void out_display(struct out *o, json_t *data, json_t *metadata, const char *display_id, bool update) {
    show(o, update && display_id ? "update_display_data" : "display_data", data, metadata, display_id);
}
void out_result(struct out *o, json_t *data, json_t *metadata) {
    const json_t *text = json_object_get(data, "text/plain");
    buf_reset(&o->result);
    buf_add(&o->result, json_is_string(text) ? json_string_value(text) : "", json_string_length(text));
    show(o, "execute_result", data, metadata, NULL);
}
void out_clear(struct out *o, bool wait) {
    if (o->silent || taker(o, 2)) return;
    send(o, "clear_output", NULL, json_pack("{s:b}", "wait", wait));
}
void out_page(struct out *o, json_t *data) {
    json_array_append_new(o->payload, json_pack("{s:s, s:o, s:i}", "source", "page", "data", data, "start", 0));
}
/* Front ends honour one only: the last. */
void out_next_input(struct out *o, const char *text, bool replace) {
    json_t *entry;
    for (size_t i = json_array_size(o->payload); i-- > 0;) {
        entry = json_array_get(o->payload, i);
        const char *source = json_string_value(json_object_get(entry, "source"));
        if (source && !strcmp(source, "set_next_input")) json_array_remove(o->payload, i);
    }
    json_array_append_new(o->payload,
                          json_pack("{s:s, s:s, s:b}", "source", "set_next_input", "text", text, "replace", replace));
}
int out_input(struct out *o, const char *prompt, bool password, struct buf *reply, struct err *e) {
    if (!o->allow_stdin)
        return err_set(e, STATUS_INVALID,
                       "this front end takes no input (allow_stdin is false): run the cell in a notebook");
    settle(o);
    interp_pause();
    iopub_flush(o->to.io);
    const int rc = o->ask(o->ask_arg, prompt, password, reply, e);
    interp_resume();
    return rc;
}
bool out_interrupted(const struct out *o) { return atomic_load(&o->interrupt->on); }
int out_interrupt_fd(const struct out *o) { return o->interrupt->fd; }
bool out_beside(const struct out *o) { return o->beside; }
bool out_background(const struct out *o) { return o->background; }
int out_execution_count(const struct out *o) { return o->count; }
void out_new_display_id(struct out *o, char id[48]) {
    static atomic_ullong count;
    (void)o;
    snprintf(id, 48, "jaeda-%d-%llx-%llu", (int)getpid(), (unsigned long long)clock_us(), atomic_fetch_add(&count, 1));
}

void out_capture_begin(struct out *o, struct capture *c) {
    settle(o);
    c->displays = json_array();
    c->outer = o->capture;
    o->capture = c;
}
void out_capture_end(struct out *o, struct capture *c) {
    settle(o);
    if (o->capture == c) o->capture = c->outer;
}

/* ---- widgets ---- */

bool out_widgets(const struct out *o) {
    return o->comms && !o->silent && !taker(o, 2) && comms_widgets(o->comms, o->session);
}
bool out_model_open(struct out *o, char id[48], json_t *state, json_t *clicked) {
    const struct comm_button button = { .clicked = clicked, .click = o->stop, .arg = o->stop_arg };
    if (!o->comms) {
        json_decref(state);
        json_decref(clicked);
        return false;
    }
    out_new_display_id(o, id);
    interp_pause();
    const int rc = comms_model(o->comms, &o->to, id, state, &button);
    interp_resume();
    return !rc;
}
void out_model_set(struct out *o, const char *id, json_t *changes) {
    interp_pause();
    comms_set(o->comms, &o->to, id, changes);
    interp_resume();
}
void out_model_close(struct out *o, const char *id) {
    interp_pause();
    comms_end(o->comms, &o->to, id);
    interp_resume();
}
