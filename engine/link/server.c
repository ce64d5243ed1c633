#include "server.h"
#include "base/log.h"
#include "base/mem.h"
#include "connection.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAUSE_MS = 100, WAIT_MAX_MS = 3600 * 1000 };
struct server {
    struct house house;
    char place[PLACE_PATH + 16], log[PLACE_PATH + 16];
    int listener;
    int spare; /* a descriptor to give up, so that a kernel can be told that there are none left */
    atomic_bool stop;
    struct connection *guest[SERVER_CONNECTIONS];
    int guests;
    double idle_us; /* since when there is no connection */
    bool paused;    /* accepting failed just now */
};

/* ---- coming and going ---- */

static void refuse_one(struct server *s, const char *why) {
    if (s->spare >= 0) close(s->spare);
    const int sock = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    if (sock >= 0) connection_refuse(sock, why);
    s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    s->paused = sock < 0;
}
static void accept_one(struct server *s) {
    struct err e = { 0 };
    const int sock = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    if (sock < 0) {
        if (errno == EMFILE || errno == ENFILE) {
            log_at(LOG_WARN, "a notebook was refused: %s", strerror(errno));
            refuse_one(s,
                       "the engine has no file descriptors left for another notebook: close one, or raise ulimit -n");
        } else {
            s->paused = errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
        }
        return;
    }
    if (place_peer(sock) != geteuid()) {
        log_at(LOG_WARN, "uid %d was refused", (int)place_peer(sock));
        connection_refuse(sock, "this engine serves another user");
    } else if (s->guests == SERVER_CONNECTIONS) {
        connection_refuse(sock, "the engine serves as many notebooks as it can: close one");
    } else if (!connection_open(&s->guest[s->guests], &s->house, sock, &e)) {
        s->guests++;
    } else {
        log_at(LOG_WARN, "a notebook was refused: %s", e.text);
    }
}
static void see_off(struct server *s) {
    const int before = s->guests;
    for (int i = s->guests - 1; i >= 0; i--)
        if (connection_over(s->guest[i])) {
            connection_close(s->guest[i]);
            s->guest[i] = s->guest[--s->guests];
        }
    if (before && !s->guests) s->idle_us = now_us();
}

/* ---- the end ---- */

static double idle_left_s(struct server *s) { /* < 0: no clock runs */
    const double limit = models_idle_limit(&s->house.models);
    if (s->guests || limit < 0) return -1;
    const double left = limit - (now_us() - s->idle_us) * 1e-6;
    return left > 0 ? left : 0;
}
static void minutes(double seconds, char out[32]) {
    if (seconds < 60)
        snprintf(out, 32, "%.3g seconds", seconds);
    else
        snprintf(out, 32, "%.3g minutes", seconds / 60);
}
static bool ends(struct server *s, char why[200]) {
    char idle[32];
    struct house *h = &s->house;
    if (atomic_load(&s->stop)) {
        snprintf(why, 200, "was asked to end (signal 15)");
    } else if (models_quitting(&h->models, why)) {
        return true;
    } else if (atomic_load(&h->retiring) && !atomic_load(&h->jobs)) {
        snprintf(why, 200, "made room for a newer build of Jaeda");
    } else if (idle_left_s(s) == 0) {
        minutes(models_idle_limit(&h->models), idle);
        snprintf(why, 200, "left after %s without a notebook", idle);
    } else {
        return false;
    }
    return true;
}
static void drain(int fd) {
    uint64_t n;
    while (read(fd, &n, sizeof n) < 0 && errno == EINTR) continue;
}
void server_run(struct server *s, char why[200]) {
    s->idle_us = now_us();
    while (!ends(s, why)) {
        struct house *h = &s->house;
        const double left = idle_left_s(s);
        const bool listens = !s->paused && !atomic_load(&h->retiring);
        struct pollfd at[] = { { .fd = listens ? s->listener : -1, .events = POLLIN },
                               { .fd = h->wake, .events = POLLIN },
                               { .fd = models_wake_fd(&h->models), .events = POLLIN } };
        const int wait = left < 0 ? -1 : left * 1e3 < WAIT_MAX_MS ? (int)(left * 1e3) + 1 : WAIT_MAX_MS;
        poll(at, 3, s->paused ? PAUSE_MS : wait);
        s->paused = false;
        if (at[1].revents) drain(h->wake);
        if (at[2].revents) drain(models_wake_fd(&h->models));
        see_off(s);
        if (at[0].revents) accept_one(s);
    }
    house_unbind(&s->house);
    close(s->listener);
    s->listener = -1;
    atomic_store(&s->house.leaving, true);
    for (int i = 0; i < s->guests; i++) connection_end(s->guest[i]);
}
void server_stop(struct server *s) {
    atomic_store(&s->stop, true);
    house_wake(&s->house);
}

/* ---- life ---- */

int server_open(struct server **out, const struct place *p, struct err *e) {
    *out = NULL;
    struct server *s = mem_zero(1, sizeof *s);
    if (!s) return err_set(e, STATUS_NOMEM, "no memory for the engine");
    struct house *h = &s->house;
    snprintf(s->place, sizeof s->place, "%s/engine.sock", p->dir);
    snprintf(s->log, sizeof s->log, "%s/log", p->dir);
    const struct about about = { "ipc", s->place, s->log };
    s->listener = s->spare = -1;
    h->place = p;
    h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&h->lock, NULL);
    if (models_open(&h->models, &about, e) || h->wake < 0) {
        err_set(e, STATUS_IO, "the engine cannot start: %s", strerror(errno));
    } else {
        s->listener = place_listen(p, &h->own, e);
        h->bound = s->listener >= 0;
        s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    if (!h->bound) return server_close(s), e->code;
    flock(p->fd, LOCK_SH); /* cleaners of the temporary directory leave locked directories alone */
    *out = s;
    return 0;
}
void server_close(struct server *s) {
    if (!s) return;
    house_unbind(&s->house);
    if (s->listener >= 0) close(s->listener);
    if (s->spare >= 0) close(s->spare);
    for (int i = 0; i < s->guests; i++) connection_close(s->guest[i]);
    models_close(&s->house.models);
    if (s->house.wake >= 0) close(s->house.wake);
    pthread_mutex_destroy(&s->house.lock);
    mem_free(s);
}
