#include "log.h"
#include "utf8.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINES = 256, WIDTH = 240 };
static const char *const level_name[] = { "error", "warn", "info", "debug" };
static struct {
    pthread_mutex_t lock;
    char line[LINES][WIDTH];
    unsigned long n;
    int fd, level; /* what is written to fd unless JAEDA_LOG says otherwise */
    int dir;       /* of the file that fd is; -1: none */
    const char *name;
    long bytes;
} ring = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO, .level = LOG_WARN, .dir = -1 };

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
/* Under the lock. Another process of the same log may have turned it over already: then only the new one is opened. */
static int turn_over(void) {
    char old[64];
    struct stat mine, named;
    const bool same = !fstat(ring.fd, &mine) && !fstatat(ring.dir, ring.name, &named, AT_SYMLINK_NOFOLLOW) &&
                      mine.st_ino == named.st_ino && mine.st_dev == named.st_dev;
    snprintf(old, sizeof old, "%s.1", ring.name);
    if (same && mine.st_size < ring.bytes) return 0;
    if (same) renameat(ring.dir, ring.name, ring.dir, old);
    const int fd = openat(ring.dir, ring.name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    dup2(fd, ring.fd);
    close(fd);
    return 0;
}
int log_to_file(int dir, const char *name, long bytes) {
    pthread_mutex_lock(&ring.lock);
    ring.dir = dir;
    ring.name = name;
    ring.bytes = bytes;
    ring.fd = STDERR_FILENO;
    ring.level = LOG_INFO;
    const int rc = turn_over();
    pthread_mutex_unlock(&ring.lock);
    return rc;
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
    if (ring.fd >= 0 && (int)level <= chosen(ring.level)) {
        if (ring.dir >= 0) turn_over();
        dprintf(ring.fd, "%s\n", line);
    }
    pthread_mutex_unlock(&ring.lock);
}
void log_tail(struct buf *out, int lines) {
    pthread_mutex_lock(&ring.lock);
    unsigned long n = ring.n < LINES ? ring.n : LINES;
    if (lines >= 0 && (unsigned long)lines < n) n = (unsigned long)lines;
    for (unsigned long i = ring.n - n; i < ring.n; i++) buf_printf(out, "%s\n", ring.line[i % LINES]);
    pthread_mutex_unlock(&ring.lock);
}
