#include "registration.h"
#include "channel.h"
#include <errno.h>
#include <zmq.h>

/* Ports are texts in a registration. */
static int ports(const struct connection *c, struct buf *b) {
    json_t *o = json_pack("{s:s}", "kernel_id", c->kernel_id);
    for (int i = 0; o && i < CHANNELS; i++) {
        char name[32], number[16];
        snprintf(name, sizeof name, "%s_port", channel_name((enum channel)i));
        snprintf(number, sizeof number, "%d", c->port[i]);
        json_object_set_new(o, name, json_string(number));
    }
    const int rc = json_object_size(o) == CHANNELS + 1 ? wire_dump(b, o) : -1;
    json_decref(o);
    return rc;
}
static int say(void *socket, const struct connection *c, const struct wire_key *key, struct err *e) {
    struct buf content;
    struct frames f;
    buf_init(&content, 4096);
    frames_init(&f, 8192);
    int rc = ports(c, &content) || wire_write_short(&f, key, content.p, content.n) ? STATUS_NOMEM : 0;
    if (rc)
        err_set(e, rc, "no memory for the registration");
    else if (channel_send(socket, &f))
        rc = err_set(e, STATUS_IO, "registration at %.200s: %s", c->registration, zmq_strerror(errno));
    frames_fini(&f);
    buf_fini(&content);
    return rc;
}
static int hear(void *socket, const struct connection *c, const struct wire_key *key, struct err *e) {
    const int64_t until = clock_us() + REGISTRATION_MS * 1000LL;
    struct frames f;
    struct err why = { 0 };
    int fd, got = 0;
    frames_init(&f, 1 << 20);
    for (int64_t left; !got && (left = until - clock_us()) > 0;) {
        zmq_pollitem_t at = { .socket = socket, .events = ZMQ_POLLIN };
        if (zmq_poll(&at, 1, (long)(left / 1000 + 1)) > 0) got = channel_recv(socket, &f, &fd);
    }
    int rc = 0;
    if (got <= 0)
        rc = err_set(e, STATUS_IO, "the launcher at %.150s did not acknowledge this kernel's registration within %d s",
                     c->registration, REGISTRATION_MS / 1000);
    else if (wire_read_short(&f, key, &why))
        rc = err_set(e, STATUS_FORMAT, "the launcher's acknowledgement from %.150s is refused: %.100s", c->registration,
                     why.text);
    frames_fini(&f);
    return rc;
}
int registration_send(void *context, const struct connection *c, const struct wire_key *key, struct err *e) {
    const int none = 0;
    void *socket = zmq_socket(context, ZMQ_DEALER);
    if (!socket) return err_set(e, STATUS_IO, "registration: %s", zmq_strerror(errno));
    zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none);
    int rc = zmq_connect(socket, c->registration)
                 ? err_set(e, STATUS_IO, "registration at %.200s: %s", c->registration, zmq_strerror(errno))
                 : say(socket, c, key, e);
    if (!rc) rc = hear(socket, c, key, e);
    zmq_close(socket);
    return rc;
}
