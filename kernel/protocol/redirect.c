#include "redirect.h"
#include "base/mem.h"
#include "channel.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct redirect {
    void (*text)(void *to, bool to_stderr, const char *p, size_t n);
    void *to;
    int from[2], stop;
    pthread_mutex_t lock; /* text arrives in the order of reading */
    pthread_t thread;
};
void redirect_guard(void) {
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < 3);
    if (fd >= 3) close(fd);
}
int redirect_keep_stderr(void) { return fcntl(2, F_DUPFD_CLOEXEC, 3); }

/* At most a pipe's capacity at a time, so that a library that never stops printing cannot hold the end of a cell. */
static void drain(struct redirect *r) {
    char bytes[8192];
    ssize_t n;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < 2; i++)
        for (int left = 16; left && (n = read(r->from[i], bytes, sizeof bytes)) > 0; left--)
            r->text(r->to, i == 1, bytes, (size_t)n);
    pthread_mutex_unlock(&r->lock);
}
static void *watch(void *arg) {
    struct redirect *r = arg;
    struct pollfd at[3] = { { .fd = r->from[0], .events = POLLIN },
                            { .fd = r->from[1], .events = POLLIN },
                            { .fd = r->stop, .events = POLLIN } };
    while (!at[2].revents && (poll(at, 3, -1) >= 0 || errno == EINTR)) drain(r);
    return NULL;
}
void redirect_drain(struct redirect *r) {
    if (!r) return;
    fflush(stdout);
    fflush(stderr);
    drain(r);
}
/* The reading end never blocks; the writing end does, which slows a library that floods. */
static int swap(int *from, int fd) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return -1;
    const int rc = fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 || dup2(ends[1], fd) < 0 ? -1 : 0;
    close(ends[1]);
    *from = ends[0];
    return rc;
}
static void redirect_free(struct redirect *r) {
    for (int i = 0; i < 2; i++)
        if (r->from[i] >= 0) close(r->from[i]);
    if (r->stop >= 0) close(r->stop);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}
int redirect_open(struct redirect **out, void (*text)(void *to, bool to_stderr, const char *p, size_t n), void *to,
                  struct err *e) {
    *out = NULL;
    struct redirect *r = mem_zero(1, sizeof *r);
    if (!r) return err_set(e, STATUS_NOMEM, "no memory to watch stdout");
    *r = (struct redirect){ .text = text, .to = to, .from = { -1, -1 }, .stop = eventfd(0, EFD_CLOEXEC) };
    pthread_mutex_init(&r->lock, NULL);
    if (r->stop < 0 || swap(&r->from[0], 1) || swap(&r->from[1], 2))
        err_set(e, STATUS_IO, "cannot redirect stdout: %s", strerror(errno));
    else if (!thread_start(&r->thread, "redirect", false, watch, r, e)) {
        setvbuf(stdout, NULL, _IOLBF, 0);
        *out = r;
        return 0;
    }
    redirect_free(r);
    return e ? e->code : STATUS_IO;
}
void redirect_close(struct redirect *r, int log) {
    if (!r) return;
    const uint64_t one = 1;
    redirect_drain(r);
    if (log >= 0) dup2(log, 1), dup2(log, 2);
    if (write(r->stop, &one, sizeof one) == sizeof one) pthread_join(r->thread, NULL);
    redirect_free(r);
}
