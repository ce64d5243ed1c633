/* fake_out.h - out.h for tests: everything a cell shows lies in memory. Included by one file of a test program. */
#ifndef JAEDA_TEST_FAKE_OUT_H
#define JAEDA_TEST_FAKE_OUT_H
#include "kernel/out.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct out {
    struct buf text[2];
    json_t *displays; /* {data, metadata, id, update} in order */
    json_t *result, *page;
    const char *input; /* what out_input gives; NULL: no stdin */
    bool password;
    int cleared, ids, pipe[2];
    atomic_bool interrupted;
    bool beside;
    struct capture *capture;
    json_t *models; /* of widgets, by id; NULL: the front end shows none */
};
static inline void out_open(struct out *o) {
    *o = (struct out){ .displays = json_array() };
    for (int i = 0; i < 2; i++) buf_init(&o->text[i], 256 << 20);
    if (pipe(o->pipe)) o->pipe[0] = o->pipe[1] = -1;
}
static inline void out_close(struct out *o) {
    for (int i = 0; i < 2; i++) buf_fini(&o->text[i]), close(o->pipe[i]);
    json_decref(o->displays);
    json_decref(o->result);
    json_decref(o->page);
    json_decref(o->models);
}
/* From any thread. */
static inline void out_interrupt(struct out *o) {
    o->interrupted = true;
    if (write(o->pipe[1], "x", 1) != 1) o->interrupted = true;
}
int out_stream(struct out *o, enum out_name name, const char *text, size_t n) {
    struct capture *c = o->capture;
    while (c && !c->keep[name]) c = c->outer;
    buf_add(c ? &c->text[name] : &o->text[name], text, n);
    return 0;
}
int out_printf(struct out *o, const char *fmt, ...) {
    char text[65536];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return out_stream(o, OUT_STDOUT, text, strlen(text));
}
void out_display(struct out *o, json_t *data, json_t *metadata, const char *id, bool update) {
    struct capture *c = o->capture;
    while (c && !c->keep[2]) c = c->outer;
    json_array_append_new(c ? c->displays : o->displays, json_pack("{s:o, s:o*, s:s*, s:b}", "data", data, "metadata",
                                                                   metadata, "id", id, "update", (int)update));
}
void out_result(struct out *o, json_t *data, json_t *metadata) {
    json_decref(o->result);
    json_decref(metadata);
    o->result = data;
}
void out_clear(struct out *o, bool wait) { o->cleared += 1 + wait; }
void out_page(struct out *o, json_t *data) {
    json_decref(o->page);
    o->page = data;
}
void out_next_input(struct out *o, const char *text, bool replace) { (void)o, (void)text, (void)replace; }
int out_input(struct out *o, const char *prompt, bool password, struct buf *reply, struct err *e) {
    (void)prompt;
    o->password = password;
    if (!o->input) return err_set(e, STATUS_IO, "no stdin");
    buf_puts(reply, o->input);
    return 0;
}
bool out_interrupted(const struct out *o) { return o->interrupted; }
int out_interrupt_fd(const struct out *o) { return o->pipe[0]; }
bool out_beside(const struct out *o) { return o->beside; }
bool out_background(const struct out *o) { return (void)o, false; }
int out_execution_count(const struct out *o) { return (void)o, 1; }
void out_new_display_id(struct out *o, char id[48]) { snprintf(id, 48, "display-%d", ++o->ids); }
bool out_widgets(const struct out *o) { return o->models != NULL; }
bool out_model_open(struct out *o, char id[48], json_t *state, json_t *clicked) {
    json_decref(clicked);
    snprintf(id, 48, "model-%d", ++o->ids);
    return !json_object_set_new(o->models, id, state);
}
void out_model_set(struct out *o, const char *id, json_t *changes) {
    json_object_update(json_object_get(o->models, id), changes);
    json_decref(changes);
}
void out_model_close(struct out *o, const char *id) { json_object_del(o->models, id); }
void out_capture_begin(struct out *o, struct capture *c) {
    c->outer = o->capture;
    c->displays = json_array();
    o->capture = c;
}
void out_capture_end(struct out *o, struct capture *c) { o->capture = c->outer; }
/* The i-th display's text/plain, from the end when negative; "" when there is none. */
static inline const char *out_plain(const struct out *o, int i) {
    const size_t n = json_array_size(o->displays);
    const json_t *d = json_array_get(o->displays, i < 0 ? n - (size_t)-i : (size_t)i);
    const char *s = json_string_value(json_object_get(json_object_get(d, "data"), "text/plain"));
    return s ? s : "";
}

#endif
