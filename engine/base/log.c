#include "log.h"
#include "utf8.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { LINES = 256, WIDTH = 240 };
static const char *const level_name[] = { "error", "warn", "info", "debug" };
static struct {
    pthread_mutex_t lock;
    char line[LINES][WIDTH];
    unsigned long n;
    int fd;
} ring = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO };

static int chosen(int otherwise) {
    const char *s = getenv("JAEDA_LOG");
    for (int i = 0; s && i < 4; i++)
        if (!strcasecmp(s, level_name[i])) return i;
    return otherwise;
}
void log_to(int fd) {
    pthread_mutex_lock(&ring.lock);
    ring.fd = fd;
    pthread_mutex_unlock(&ring.lock);
}
void log_at(enum log_level level, const char *fmt, ...) {
    if ((int)level > chosen(LOG_INFO)) return;
    char line[WIDTH], thread[16] = "";
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    pthread_getname_np(pthread_self(), thread, sizeof thread);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ %d %s %s: ", now.tv_nsec / 1000000, (int)getpid(), thread,
                          level_name[level]);
    va_list ap;
    va_start(ap, fmt);
    const int more = vsnprintf(line + n, sizeof line - n, fmt, ap);
    va_end(ap);
    n = more < 0 ? n : (size_t)more >= sizeof line - n ? sizeof line - 1 : n + (size_t)more;
    line[n -= utf8_tail(line, n)] = 0;
    for (size_t i = 0; i < n; i++)
        if (line[i] == '\n' || line[i] == '\r') line[i] = ' ';
    pthread_mutex_lock(&ring.lock);
    memcpy(ring.line[ring.n++ % LINES], line, n + 1);
    if (ring.fd >= 0 && (int)level <= chosen(LOG_WARN)) dprintf(ring.fd, "%s\n", line);
    pthread_mutex_unlock(&ring.lock);
}
void log_tail(struct buf *out, int lines) {
    pthread_mutex_lock(&ring.lock);
    unsigned long n = ring.n < LINES ? ring.n : LINES;
    if (lines >= 0 && (unsigned long)lines < n) n = (unsigned long)lines;
    for (unsigned long i = ring.n - n; i < ring.n; i++) buf_printf(out, "%s\n", ring.line[i % LINES]);
    pthread_mutex_unlock(&ring.lock);
}
