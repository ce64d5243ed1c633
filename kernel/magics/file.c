/* %%writefile, and reading a small file. */
#include "base/mem.h"
#include "magics.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_expand(const char *path, char out[4096], struct err *e) {
    const bool home = *path == '~' && (path[1] == '/' || !path[1]);
    const char *base = home ? getenv("HOME") : "";
    if (!base) return err_set(e, STATUS_IO, "~ is unknown: HOME is not set");
    if (snprintf(out, 4096, "%s%s", base, path + home) >= 4096)
        return err_set(e, STATUS_INVALID, "a path of more than 4095 bytes");
    return 0;
}
char *file_read(const char *path, size_t max, size_t *n, struct err *e) {
    char full[4096];
    if (file_expand(path, full, e)) return NULL;
    struct buf b;
    buf_init(&b, max);
    const int fd = open(full, O_RDONLY | O_CLOEXEC);
    char chunk[16384];
    ssize_t got = fd < 0 ? -1 : 0;
    while (fd >= 0 && !b.failed && (got = read(fd, chunk, sizeof chunk)) != 0) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        buf_add(&b, chunk, (size_t)got);
    }
    if (got < 0) err_set(e, STATUS_IO, "cannot read %.200s: %s", full, strerror(errno));
    if (b.failed) err_set(e, STATUS_INVALID, "%.200s is larger than %zu MiB", full, max >> 20);
    if (fd >= 0) close(fd);
    *n = b.n;
    char *text = got < 0 ? NULL : buf_take(&b);
    buf_fini(&b);
    return text;
}

static int write_all(int fd, const char *p, size_t n) {
    while (n) {
        const ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return -1;
        p += done;
        n -= (size_t)done;
    }
    return 0;
}
/* In place: for devices and pipes, and for appending, where the old length comes back when the new part does not fit. */
static int write_in_place(const char *path, const char *p, size_t n, bool append) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : 0), 0666);
    if (fd < 0) return -1;
    struct stat st;
    const bool regular = !fstat(fd, &st) && S_ISREG(st.st_mode);
    int rc = write_all(fd, p, n);
    if (!rc && regular) rc = fsync(fd);
    const int why = errno;
    if (rc && regular && ftruncate(fd, st.st_size)) rc = -1;
    if (close(fd) && !rc) return -1;
    errno = why;
    return rc;
}
/* A new file beside the old one takes its name only when it is whole. */
static int replace(const char *path, const char *p, size_t n, mode_t mode) {
    char temp[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const int folder = slash ? (int)(slash - path) + 1 : 0;
    if (snprintf(temp, sizeof temp, "%.*s.%.100s.XXXXXX", folder, path, path + folder) >= (int)sizeof temp)
        return errno = ENAMETOOLONG, -1;
    const int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) return -1;
    int rc = write_all(fd, p, n) || fchmod(fd, mode) || fsync(fd) ? -1 : 0;
    int why = errno;
    if (close(fd) && !rc) rc = -1, why = errno;
    if (!rc && rename(temp, path)) rc = -1, why = errno;
    if (rc) unlink(temp);
    errno = why;
    return rc;
}
int magic_writefile(struct call *c) {
    char full[4096], target[PATH_MAX];
    if (file_expand(args_word(&c->args, 0), full, c->e)) return c->e->code;
    struct stat st = { 0 };
    const bool exists = !stat(full, &st), append = args_flag(&c->args, "append");
    if (exists && S_ISDIR(st.st_mode)) return err_set(c->e, STATUS_IO, "%%%%writefile: %.200s is a folder", full);
    const mode_t mask = umask(0);
    umask(mask);
    const char *path = realpath(full, target) ? target : full; /* a link stays one: its target is written */
    const int rc = append || (exists && !S_ISREG(st.st_mode))
                       ? write_in_place(path, c->body, c->body_len, append)
                       : replace(path, c->body, c->body_len, exists ? st.st_mode & 07777 : 0666 & ~mask);
    if (rc)
        return err_set(c->e, STATUS_IO, "%%%%writefile: cannot write %.180s: %s%s", full, strerror(errno),
                       exists ? "; the file is as it was" : "; nothing is left behind");
    out_printf(c->o, "%s %s\n", append && exists ? "Appended to" : exists ? "Overwrote" : "Wrote", full);
    return 0;
}
