/* listener.h - an iopub over inproc and a subscriber that reads what it sends, for tests. */
#ifndef JAEDA_TESTS_LISTENER_H
#define JAEDA_TESTS_LISTENER_H
#include "base/mem.h"
#include "kernel/protocol/iopub.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

static const char PARENT[] = "{\"msg_id\":\"cell\",\"msg_type\":\"execute_request\"}";
struct listener {
    void *context, *sub;
    struct wire_key *key;
    struct sender sender;
    struct iopub *io;
    struct frames in;
};
static inline void listener_open(struct listener *l, int unread) {
    struct err e = { 0 };
    const int on = 1;
    json_set_alloc_funcs(mem_alloc, mem_free);
    l->context = zmq_ctx_new();
    void *xpub = zmq_socket(l->context, ZMQ_XPUB);
    l->sub = zmq_socket(l->context, ZMQ_SUB);
    zmq_setsockopt(xpub, ZMQ_XPUB_VERBOSE, &on, sizeof on);
    zmq_setsockopt(xpub, ZMQ_XPUB_NODROP, &on, sizeof on);
    zmq_setsockopt(xpub, ZMQ_SNDHWM, &unread, sizeof unread);
    zmq_setsockopt(l->sub, ZMQ_RCVHWM, &unread, sizeof unread);
    assert_int_equal(zmq_bind(xpub, "inproc://iopub"), 0);
    assert_int_equal(wire_key_open(&l->key, "hmac-sha256", "k", &e), 0);
    assert_int_equal(sender_init(&l->sender, l->key, &e), 0);
    frames_init(&l->in, 64 << 20);
    assert_int_equal(iopub_open(&l->io, xpub, &l->sender, &e), 0);
    zmq_connect(l->sub, "inproc://iopub");
    zmq_setsockopt(l->sub, ZMQ_SUBSCRIBE, "", 0);
}
static inline void listener_close(struct listener *l) {
    zmq_close(l->sub);
    iopub_close(l->io);
    wire_key_close(l->key);
    frames_fini(&l->in);
    zmq_ctx_term(l->context);
}
static inline struct cell_output listener_output(struct listener *l, const atomic_bool *stop) {
    return (struct cell_output){ .io = l->io, .parent = PARENT, .parent_n = sizeof PARENT - 1, .stop = stop };
}
/* The next message, signature verified; fails the test after 20 s. message_fini it. */
static inline struct message next(struct listener *l) {
    struct err e = { 0 };
    struct message m;
    int fd;
    zmq_pollitem_t at = { .socket = l->sub, .events = ZMQ_POLLIN };
    assert_int_equal(zmq_poll(&at, 1, 20000), 1);
    assert_int_equal(channel_recv(l->sub, &l->in, &fd), 1);
    const int rc = wire_read(&m, &l->in, l->key, NULL, &e);
    assert_string_equal(e.text, "");
    assert_int_equal(rc, 0);
    return m;
}
/* The next message is of this type, and its content as compact JSON with sorted keys is this (NULL: any). */
static inline void expect(struct listener *l, const char *type, const char *content) {
    struct message m = next(l);
    assert_string_equal(m.type, type);
    char *text = json_dumps(m.content, JSON_COMPACT | JSON_SORT_KEYS);
    if (content) assert_string_equal(text, content);
    mem_free(text);
    message_fini(&m);
}
static inline bool quiet(struct listener *l, int ms) {
    zmq_pollitem_t at = { .socket = l->sub, .events = ZMQ_POLLIN };
    return zmq_poll(&at, 1, ms) == 0;
}

#endif
