#include "channel.h"
#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <zmq.h>

static int set(void *socket, int option, int value) { return zmq_setsockopt(socket, option, &value, sizeof value); }
static int options(void *socket, int type) {
    const int64_t largest = type == ZMQ_XPUB ? 65536 : CHANNEL_MAX_FRAME; /* only subscriptions come in on XPUB */
    int rc = set(socket, ZMQ_LINGER, CHANNEL_LINGER_MS) | set(socket, ZMQ_IPV6, 1) |
             zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    /* A client that reconnects with its old identity must be heard again. */
    if (type == ZMQ_ROUTER) rc |= set(socket, ZMQ_ROUTER_HANDOVER, 1);
    /* Verbose: each subscriber is welcomed, not only the first. No drop: a full queue shows as EAGAIN. */
    if (type == ZMQ_XPUB)
        rc |= set(socket, ZMQ_XPUB_VERBOSE, 1) | set(socket, ZMQ_XPUB_NODROP, 1) |
              set(socket, ZMQ_SNDHWM, CHANNEL_UNREAD);
    return rc;
}
int channel_check(const struct connection *c, struct err *e) {
    char public[CURVE_KEY];
    int version[3];
    if (!*c->curve_public) return 0;
    zmq_version(&version[0], &version[1], &version[2]);
    if (!zmq_has("curve"))
        return err_set(e, STATUS_INVALID,
                       "the connection file asks for CurveZMQ encryption, which this machine's libzmq (%d.%d.%d) was "
                       "built without: start the kernel with transport_encryption disabled",
                       version[0], version[1], version[2]);
    /* Of two keys that do not belong together no client could tell more than that nothing ever answers. */
    if (zmq_curve_public(public, c->curve_secret) || strcmp(public, c->curve_public))
        return err_set(e, STATUS_INVALID,
                       "the connection file's curve_publickey and curve_secretkey do not belong together");
    return 0;
}
static int encryption(void *socket, const struct connection *c) {
    if (!*c->curve_public) return 0;
    return set(socket, ZMQ_CURVE_SERVER, 1) |
           zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, c->curve_secret, sizeof c->curve_secret) |
           zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, c->curve_public, sizeof c->curve_public);
}
/* An ipc socket is for its user alone. */
static int bind_socket(void *socket, const char *endpoint) {
    const mode_t mask = umask(077);
    const int rc = zmq_bind(socket, endpoint);
    const int why = errno;
    umask(mask);
    errno = why;
    return rc;
}
static int bound_port(void *socket) {
    char endpoint[320];
    size_t n = sizeof endpoint;
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &n)) return 0;
    const char *colon = strrchr(endpoint, ':');
    return colon ? (int)strtol(colon + 1, NULL, 10) : 0;
}
void *channel_bind(void *context, int type, struct connection *c, enum channel channel, struct err *e) {
    char endpoint[320];
    if (connection_endpoint(c, channel, endpoint, sizeof endpoint, e)) return NULL;
    void *socket = zmq_socket(context, type);
    if (!socket || options(socket, type) || encryption(socket, c)) {
        err_set(e, STATUS_IO, "%s socket: %s", channel_name(channel), zmq_strerror(errno));
        if (socket) zmq_close(socket);
        return NULL;
    }
    if (bind_socket(socket, endpoint)) {
        err_set(e, STATUS_IO, "%s: cannot bind %.200s: %s", channel_name(channel), endpoint, zmq_strerror(errno));
        zmq_close(socket);
        return NULL;
    }
    if (!c->port[channel]) c->port[channel] = bound_port(socket);
    return socket;
}
int channel_recv(void *socket, struct frames *f, int *fd) {
    frames_reset(f);
    *fd = -1;
    for (bool more = true, first = true; more; first = false) {
        zmq_msg_t part;
        int rc;
        zmq_msg_init(&part);
        do rc = zmq_msg_recv(&part, socket, first ? ZMQ_DONTWAIT : 0);
        while (rc < 0 && errno == EINTR);
        if (rc < 0) {
            zmq_msg_close(&part);
            return errno == EAGAIN ? 0 : -1;
        }
        frames_add(f, zmq_msg_data(&part), zmq_msg_size(&part));
        if (!first) *fd = zmq_msg_get(&part, ZMQ_SRCFD); /* an identity frame knows it only sometimes */
        more = zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
    return 1;
}
int channel_send(void *socket, const struct frames *f) {
    for (int i = 0; i < f->n; i++) {
        size_t n;
        int rc;
        const char *p = frames_at(f, i, &n);
        do rc = zmq_send(socket, p, n, ZMQ_DONTWAIT | (i < f->n - 1 ? ZMQ_SNDMORE : 0));
        while (rc < 0 && errno == EINTR);
        if (rc < 0) return -1; /* only the first frame can fail: whole messages are counted */
    }
    return 0;
}

/* Is fd a connection that was accepted at this endpoint? */
static bool accepted_at(int fd, const char *endpoint) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    } own = { .any.sa_family = AF_UNSPEC }, peer;
    socklen_t n = sizeof own, m = sizeof peer;
    if (getsockname(fd, &own.any, &n) || getpeername(fd, &peer.any, &m)) return false;
    if (own.any.sa_family == AF_UNIX)
        return n > sizeof own.any.sa_family && !strncmp(endpoint, "ipc://", 6) &&
               !strncmp(own.un.sun_path, endpoint + 6, sizeof own.un.sun_path);
    const char *port = strrchr(endpoint, ':');
    const in_port_t at = own.any.sa_family == AF_INET    ? own.v4.sin_port
                         : own.any.sa_family == AF_INET6 ? own.v6.sin6_port
                                                         : 0;
    return at && port && !strncmp(endpoint, "tcp://", 6) && ntohs(at) == strtol(port + 1, NULL, 10);
}
int channel_cut(void *socket) {
    char endpoint[512];
    size_t n = sizeof endpoint;
    int cut = 0;
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &n)) return 0;
    DIR *all = opendir("/proc/self/fd");
    for (const struct dirent *d; all && (d = readdir(all));) {
        const int fd = (int)strtol(d->d_name, NULL, 10);
        int unread = 0;
        if (accepted_at(fd, endpoint) && !ioctl(fd, SIOCOUTQ, &unread) && unread > 0) cut += !shutdown(fd, SHUT_RDWR);
    }
    if (all) closedir(all);
    return cut;
}

struct start {
    void *(*run)(void *);
    void *arg;
    char name[16];
};
static void *started(void *arg) {
    struct start s = *(struct start *)arg;
    mem_free(arg);
    pthread_setname_np(pthread_self(), s.name);
    return s.run(s.arg);
}
int thread_start(pthread_t *t, const char *name, bool open, void *(*run)(void *), void *arg, struct err *e) {
    struct start *s = mem_alloc(sizeof *s);
    if (!s) return err_set(e, STATUS_NOMEM, "no memory for thread %s", name);
    *s = (struct start){ .run = run, .arg = arg };
    snprintf(s->name, sizeof s->name, "%s", name);
    sigset_t all, before;
    sigfillset(&all);
    if (!open) pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(t, NULL, started, s);
    if (!open) pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!rc) return 0;
    mem_free(s);
    return err_set(e, STATUS_NOMEM, "cannot start thread %s: %s", name, strerror(rc));
}

int sender_init(struct sender *s, const struct wire_key *key, struct err *e) {
    unsigned char random[16];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return err_set(e, STATUS_IO, "no random numbers for the session id");
    for (int i = 0; i < 16; i++) snprintf(s->session + 2 * i, 3, "%02x", random[i]);
    s->key = key;
    atomic_init(&s->count, 0);
    return 0;
}
int sender_write(struct sender *s, struct frames *f, struct outgoing *m, char *id) {
    char date[32], own[64];
    if (!id) id = own;
    snprintf(id, sizeof own, "%s_%llu", s->session, atomic_fetch_add(&s->count, 1));
    date_now(date);
    m->msg_id = id;
    m->session = s->session;
    m->date = date;
    const int rc = wire_write(f, s->key, m);
    m->msg_id = m->date = NULL;
    return rc;
}
void date_now(char out[32]) {
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    const size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, 32 - n, ".%06ldZ", t.tv_nsec / 1000);
}
int64_t clock_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

struct heartbeat {
    void *context, *socket;
    pthread_t thread;
};
static void *beat(void *arg) {
    struct heartbeat *h = arg;
    zmq_msg_t part;
    zmq_msg_init(&part);
    for (;;) {
        if (zmq_msg_recv(&part, h->socket, 0) < 0) {
            if (errno == ETERM) break;
            continue;
        }
        const bool more = zmq_msg_more(&part);
        if (zmq_msg_send(&part, h->socket, more ? ZMQ_SNDMORE : 0) < 0 && errno == ETERM) break;
    }
    zmq_msg_close(&part);
    zmq_close(h->socket);
    return NULL;
}
int heartbeat_open(struct heartbeat **out, struct connection *c, struct err *e) {
    *out = NULL;
    struct heartbeat *h = mem_zero(1, sizeof *h);
    if (!h) return err_set(e, STATUS_NOMEM, "no memory for the heartbeat");
    h->context = zmq_ctx_new();
    h->socket = h->context ? channel_bind(h->context, ZMQ_ROUTER, c, CHANNEL_HB, e) : NULL;
    if (h->socket && !thread_start(&h->thread, "heartbeat", false, beat, h, e)) {
        *out = h;
        return 0;
    }
    if (h->socket) zmq_close(h->socket);
    if (h->context) zmq_ctx_term(h->context);
    mem_free(h);
    return err_set(e, STATUS_IO, "cannot start the heartbeat");
}
void heartbeat_close(struct heartbeat *h) {
    if (!h) return;
    zmq_ctx_shutdown(h->context);
    pthread_join(h->thread, NULL);
    zmq_ctx_term(h->context);
    mem_free(h);
}
