#include "place.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char SOCKET[] = "engine.sock", LOCK[] = "lock", LOG[] = "log", OLD_LOG[] = "log.1", ENDED[] = "ended";
static const char ENDED_NEW[] = "ended.new";
enum { BACKLOG = 64, LOCK_STEP_MS = 20, TAIL_BYTES = 1 << 16 };

/* ---- the directory ---- */

static int refused(const struct place *p, const char *what, struct err *e) {
    return err_set(
        e, STATUS_IO,
        "%.120s cannot hold the engine's socket: it %s; remove it, or set JAEDA_ENGINE=ipc:DIR to a directory "
        "of your own",
        p->dir, what);
}
static int check(const struct place *p, struct err *e) {
    struct stat st;
    char what[64];
    if (fstat(p->fd, &st)) return refused(p, strerror(errno), e);
    if (st.st_uid != geteuid()) {
        snprintf(what, sizeof what, "belongs to uid %u, not to %u", (unsigned)st.st_uid, (unsigned)geteuid());
        return refused(p, what, e);
    }
    if (st.st_mode & 077) {
        return err_set(e, STATUS_IO, "%.160s is open to other users (mode %o), so no engine starts there: chmod 700 it",
                       p->dir, (unsigned)st.st_mode & 07777);
    }
    return 0;
}
int place_open(struct place *p, const char *dir, bool make, struct err *e) {
    p->fd = -1;
    const int n = *dir ? snprintf(p->dir, sizeof p->dir, "%s", dir)
                       : snprintf(p->dir, sizeof p->dir, P_tmpdir "/jaeda-%u", (unsigned)geteuid());
    if (n >= (int)sizeof p->dir || p->dir[0] != '/')
        return err_set(e, STATUS_INVALID, "ipc:%.160s: the engine's directory is an absolute path below %d bytes", dir,
                       PLACE_PATH);
    const bool made = make && !mkdir(p->dir, 0700);
    if (make && !made && errno != EEXIST)
        return err_set(e, STATUS_IO, "the engine's directory %.160s cannot be made: %s", p->dir, strerror(errno));
    p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (p->fd < 0) {
        struct stat st;
        if (errno == ENOENT) return err_set(e, STATUS_NOTFOUND, "there is no %.160s: no engine ran yet", p->dir);
        if (!lstat(p->dir, &st) && S_ISLNK(st.st_mode)) return refused(p, "is a symbolic link", e);
        return refused(p, errno == ENOTDIR ? "is not a directory" : strerror(errno), e);
    }
    if (made) fchmod(p->fd, 0700); /* whatever the umask is */
    if (check(p, e)) place_close(p);
    return e->code;
}
void place_close(struct place *p) {
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
}

/* ---- the socket ---- */

/* Through /proc, since a socket's path holds 107 bytes and a directory's may be longer. */
static struct sockaddr_un address(const struct place *p) {
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", p->fd, SOCKET);
    return a;
}
static int io_error(const struct place *p, const char *what, struct err *e) {
    return err_set(e, STATUS_IO, "%.160s: %s: %s", p->dir, what, strerror(errno));
}
int place_connect(const struct place *p, struct err *e) {
    const struct sockaddr_un to = address(p);
    const struct timeval wait = { .tv_sec = 10 }; /* a full backlog; also what a send may take */
    struct stat st;
    if (fstatat(p->fd, SOCKET, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? err_set(e, STATUS_NOTFOUND, "no engine runs") : io_error(p, SOCKET, e);
    if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
        return err_set(e, STATUS_IO, "%.160s/%s is not this user's socket: remove it", p->dir, SOCKET);
    const int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0) return io_error(p, "socket", e);
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (!connect(sock, (const struct sockaddr *)&to, sizeof to)) return sock;
    const bool nobody = errno == ECONNREFUSED || errno == ENOENT;
    const int rc = nobody ? err_set(e, STATUS_NOTFOUND, "no engine listens") : io_error(p, "connect", e);
    close(sock);
    return rc;
}
static int bind_to(const struct place *p, int sock) {
    const struct sockaddr_un at = address(p);
    return bind(sock, (const struct sockaddr *)&at, sizeof at);
}
static int replace_stale(const struct place *p, int sock, struct err *e) {
    struct err none = { 0 };
    const int there = place_connect(p, &none);
    if (there >= 0) {
        close(there);
        return err_set(e, STATUS_BUSY, "an engine listens in %.160s already", p->dir);
    }
    if (there != STATUS_NOTFOUND) return err_set(e, there, "%s", none.text);
    if ((unlinkat(p->fd, SOCKET, 0) && errno != ENOENT) || bind_to(p, sock)) return io_error(p, SOCKET, e);
    return 0;
}
int place_listen(const struct place *p, ino_t *own, struct err *e) {
    struct stat st;
    const int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0) return io_error(p, "socket", e);
    int rc = 0;
    if (bind_to(p, sock)) rc = errno == EADDRINUSE ? replace_stale(p, sock, e) : io_error(p, SOCKET, e);
    if (!rc && (listen(sock, BACKLOG) || fstatat(p->fd, SOCKET, &st, AT_SYMLINK_NOFOLLOW))) rc = io_error(p, SOCKET, e);
    if (!rc) return *own = st.st_ino, sock;
    close(sock);
    return rc;
}
void place_remove_socket(const struct place *p, ino_t own) {
    struct stat st;
    if (!fstatat(p->fd, SOCKET, &st, AT_SYMLINK_NOFOLLOW) && st.st_ino == own) unlinkat(p->fd, SOCKET, 0);
}
void place_sweep(const struct place *p, int wait_ms) {
    struct err none = { 0 };
    const int lock = place_lock(p, wait_ms, &none);
    if (lock < 0) return;
    const int there = place_connect(p, &none);
    if (there >= 0)
        close(there);
    else if (there == STATUS_NOTFOUND)
        unlinkat(p->fd, SOCKET, 0);
    close(lock);
}
uid_t place_peer(int sock) {
    struct ucred who;
    socklen_t n = sizeof who;
    return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &n) ? (uid_t)-1 : who.uid;
}

/* ---- the lock ---- */

int place_lock(const struct place *p, int wait_ms, struct err *e) {
    const int fd = openat(p->fd, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return io_error(p, LOCK, e);
    for (int left = wait_ms;; left -= LOCK_STEP_MS) {
        if (!flock(fd, LOCK_EX | LOCK_NB)) return fd;
        if (errno != EWOULDBLOCK && errno != EINTR) break;
        if (left <= 0) {
            close(fd);
            return err_set(e, STATUS_BUSY, "another program has been starting the engine in %.120s for %d s", p->dir,
                           wait_ms / 1000);
        }
        poll(NULL, 0, LOCK_STEP_MS);
    }
    const int rc = io_error(p, LOCK, e);
    close(fd);
    return rc;
}
bool place_locked_by(const struct place *p, int fd) {
    struct stat given, ours;
    return !fstat(fd, &given) && !fstatat(p->fd, LOCK, &ours, AT_SYMLINK_NOFOLLOW) && given.st_dev == ours.st_dev &&
           given.st_ino == ours.st_ino && !flock(fd, LOCK_EX | LOCK_NB);
}

/* ---- texts ---- */

static void read_tail(const struct place *p, const char *name, struct buf *out) {
    char chunk[4096];
    struct stat st;
    const int fd = openat(p->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    ssize_t n;
    if (!fstat(fd, &st) && st.st_size > TAIL_BYTES) lseek(fd, -TAIL_BYTES, SEEK_END);
    while ((n = read(fd, chunk, sizeof chunk)) > 0 && !buf_add(out, chunk, (size_t)n)) continue;
    close(fd);
}
void place_log(const struct place *p, int lines, struct buf *out) {
    struct buf text;
    buf_init(&text, 3 * TAIL_BYTES);
    read_tail(p, OLD_LOG, &text);
    read_tail(p, LOG, &text);
    const char *all = buf_text(&text);
    size_t from = text.n ? text.n - 1 : 0; /* before the last newline */
    while (from > 0 && (all[from - 1] != '\n' || --lines > 0)) from--;
    buf_puts(out, all + from);
    buf_fini(&text);
}
int place_ended(const struct place *p, pid_t pid, const char *what, struct err *e) {
    const int fd = openat(p->fd, ENDED_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return io_error(p, ENDED_NEW, e);
    const bool wrote = dprintf(fd, "%d %s\n", (int)pid, what) > 0;
    if (close(fd) || !wrote || renameat(p->fd, ENDED_NEW, p->fd, ENDED)) return io_error(p, ENDED, e);
    return 0;
}
bool place_how_ended(const struct place *p, pid_t pid, char what[256]) {
    struct buf text;
    buf_init(&text, TAIL_BYTES + 1);
    read_tail(p, ENDED, &text);
    char *after = NULL;
    const bool known = strtol(buf_text(&text), &after, 10) == pid && *after == ' ';
    if (known) snprintf(what, 256, "%.*s", (int)strcspn(after + 1, "\n"), after + 1);
    buf_fini(&text);
    return known;
}
