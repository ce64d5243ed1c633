#include "photo.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "fetch.h"
#include "kernel/language/state.h"
#include "magics.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* By the first bytes; "" and a format that people have, but none that the engine reads: *known is its name. */
static const char *format_of(const char *p, size_t n, const char **known) {
    static const struct {
        size_t at;
        const char *mark, *name;
        bool read;
    } marks[] = {
        { 0, "\xff\xd8\xff", "JPEG", true }, { 0, "\x89PNG\r\n\x1a\n", "PNG", true },
        { 8, "WEBP", "WebP", true },         { 0, "GIF8", "GIF", false },
        { 0, "BM", "BMP", false },           { 0, "II*", "TIFF", false },
        { 4, "ftyphe", "HEIC", false },      { 4, "ftypmif1", "HEIC", false },
        { 4, "ftypavif", "AVIF", false },    { 0, "%PDF", "PDF", false },
        { 0, "<svg", "SVG", false },
    };
    *known = NULL;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        const size_t len = strlen(marks[i].mark);
        if (n < marks[i].at + len || memcmp(p + marks[i].at, marks[i].mark, len) != 0) continue;
        if (marks[i].read) return marks[i].name;
        *known = marks[i].name;
        return NULL;
    }
    return NULL;
}
static void name_it(struct photo *p, const char *name, size_t n) {
    struct buf text;
    buf_init(&text, 65536);
    utf8_repair(&text, name, n);
    snprintf(p->name, sizeof p->name, "%s", buf_text(&text));
    p->name[strlen(p->name) - utf8_tail(p->name, strlen(p->name))] = 0;
    buf_fini(&text);
}

/* ---- URLs ---- */
static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}
/* "file:///a%20b", "file:/a", "file://localhost/a" -> "/a b" */
static int file_url(const char *url, char out[4096], struct err *e) {
    const char *s = url + strlen("file:");
    if (!strncmp(s, "//", 2)) {
        s += 2;
        if (!strncasecmp(s, "localhost/", 10)) s += 9;
    }
    if (*s != '/') return err_set(e, STATUS_INVALID, "%.200s: a file: URL of this machine begins with file:///", url);
    size_t n = 0;
    for (; *s && n < 4095; s++) {
        const bool coded = *s == '%' && hex(s[1]) >= 0 && hex(s[2]) >= 0;
        out[n++] = coded ? (char)(hex(s[1]) * 16 + hex(s[2])) : *s;
        if (!out[n - 1]) return err_set(e, STATUS_INVALID, "%.200s: %%00 is in no file's name", url);
        s += coded ? 2 : 0;
    }
    out[n] = 0;
    return 0;
}
/* What stands behind the last slash, without ? and #; else the host. */
static void url_name(struct photo *p, const char *url) {
    const char *host = strstr(url, "://") + 3;
    const size_t n = strcspn(host, "?#"), end = n && host[n - 1] == '/' ? n - 1 : n;
    const char *slash = memrchr(host, '/', end);
    const char *from = slash ? slash + 1 : host;
    name_it(p, from, (size_t)(host + end - from));
}

/* ---- reading ---- */
static int read_file(struct photo *p, const char *path, struct err *e) {
    char full[4096], cwd[4096];
    struct stat st;
    if (file_expand(path, full, e)) return e->code;
    if (stat(full, &st))
        return err_set(e, errno == ENOENT ? STATUS_NOTFOUND : STATUS_IO, "cannot read %.200s: %s", full,
                       strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, STATUS_INVALID, "%.200s is %s, no picture file", full,
                       S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    const char *slash = strrchr(full, '/');
    name_it(p, slash ? slash + 1 : full, strlen(slash ? slash + 1 : full));
    const bool relative = *full != '/' && getcwd(cwd, sizeof cwd);
    snprintf(p->source, sizeof p->source, "%.2000s%s%.2000s", relative ? cwd : "", relative ? "/" : "", full);
    interp_pause();
    p->bytes = file_read(full, PHOTO_BYTES_MAX, &p->n, e);
    interp_resume();
    return p->bytes ? 0 : e->code;
}
static int read_url(struct photo *p, struct out *o, const char *url, char type[64], struct err *e) {
    struct buf bytes;
    buf_init(&bytes, PHOTO_BYTES_MAX);
    url_name(p, url);
    snprintf(p->source, sizeof p->source, "%s", url);
    int rc = fetch_url(o, url, p->name, &bytes, type, e);
    p->n = bytes.n;
    if (!rc && !(p->bytes = buf_take(&bytes))) rc = err_set(e, STATUS_NOMEM, "out of memory for %s", p->name);
    buf_fini(&bytes);
    return rc;
}
static int read_it(struct photo *p, struct out *o, const char *where, char type[64], struct err *e) {
    char path[4096];
    const size_t scheme = strspn(where, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    if (!strncasecmp(where, "http://", 7) || !strncasecmp(where, "https://", 8)) return read_url(p, o, where, type, e);
    if (!strncasecmp(where, "file:/", 6)) return file_url(where, path, e) ? e->code : read_file(p, path, e);
    if (scheme && !strncmp(where + scheme, "://", 3))
        return err_set(e, STATUS_INVALID,
                       "%.160s: pictures are read from paths, file: and http(s): URLs; fetch it in a ! line first",
                       where);
    return read_file(p, where, e);
}
static int check(struct photo *p, const char *where, const char *type, struct err *e) {
    const char *known;
    p->format = format_of(p->bytes, p->n, &known);
    if (p->format) return 0;
    if (known)
        return err_set(e, STATUS_FORMAT, "%.200s is %s; JPEG, PNG and WebP are read: convert it first", where, known);
    return err_set(e, STATUS_FORMAT, "%.200s is no picture%s%s%s%s", where, *type ? ": the server sent " : "", type,
                   !p->n ? ": it is empty" : "", *type || !p->n ? "" : ": it begins like no JPEG, PNG or WebP file");
}
struct photo *photo_read(struct out *o, const char *where, struct err *e) {
    struct photo *p = mem_zero(1, sizeof *p);
    char type[64] = "";
    if (!p) return err_set(e, STATUS_NOMEM, "out of memory for a picture"), NULL;
    p->refs = 1;
    if (!read_it(p, o, where, type, e) && !check(p, where, type, e)) return p;
    photo_drop(p);
    return NULL;
}
struct photo *photo_hold(struct photo *p) {
    if (p) p->refs++;
    return p;
}
void photo_drop(struct photo *p) {
    if (!p || --p->refs) return;
    mem_free(p->bytes);
    mem_free(p);
}
bool photo_same(const struct photo *a, const struct photo *b) {
    return a == b || (a && b && a->n == b->n && !memcmp(a->bytes, b->bytes, a->n));
}
