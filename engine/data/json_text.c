#include "json_text.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A parsed value takes some 40 bytes, an object about eight times that. */
enum { WEIGHT_MAX = 8 << 20, WEIGHT_OBJECT = 8, LABEL = 120 };

const char *json_text_label(const char *path) {
    const size_t n = strlen(path);
    return n > LABEL ? path + n - LABEL : path;
}
/* What the tree will take, in values, from the marks outside strings: one pass, no memory. */
static size_t weight(const char *text, size_t n) {
    size_t sum = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (!quoted) {
            sum += text[i] == '{' ? WEIGHT_OBJECT : text[i] == ',' || text[i] == '[';
        }
    }
    return sum;
}
int json_text_parse(json_t **out, const char *text, size_t n, const char *label, struct err *e) {
    *out = NULL;
    label = json_text_label(label);
    if (weight(text, n) > WEIGHT_MAX)
        return err_set(e, STATUS_FORMAT, "%s: has far more JSON values than any model needs; download it again", label);
    json_error_t why = { .text = "" };
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!root && (!why.text[0] || json_error_code(&why) == json_error_out_of_memory))
        return err_set(e, STATUS_NOMEM, "%s: no memory to read it; close other programs", label);
    if (!root)
        return err_set(e, STATUS_FORMAT, "%s: is no valid JSON: line %d: %.120s; download it again", label, why.line,
                       why.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(e, STATUS_FORMAT, "%s: is JSON but no object; download it again", label);
    }
    *out = root;
    return 0;
}
int json_text_open(const char *path, uint64_t *bytes, struct err *e) {
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st)) {
        err_set(e, errno == ENOENT ? STATUS_NOTFOUND : STATUS_IO, "%s: %s", json_text_label(path), strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        err_set(e, STATUS_INVALID, "%s: is %s, not a file to read", json_text_label(path),
                S_ISDIR(st.st_mode) ? "a folder" : "something special");
    } else {
        *bytes = (uint64_t)st.st_size;
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}
int json_text_pread(int fd, void *out, size_t n, uint64_t at, const char *label, struct err *e) {
    for (size_t have = 0; have < n;) {
        const ssize_t got = pread(fd, (char *)out + have, n - have, (off_t)(at + have));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_set(e, STATUS_IO, "%s: %s", json_text_label(label), strerror(errno));
        if (!got) return err_set(e, STATUS_IO, "%s: became shorter while it was read", json_text_label(label));
        have += (size_t)got;
    }
    return 0;
}
int json_text_read(char **out, size_t *n, const char *path, size_t max, struct err *e) {
    struct err why = { 0 };
    uint64_t bytes = 0;
    *out = NULL;
    const int fd = json_text_open(path, &bytes, &why);
    int rc = why.code;
    if (!rc && bytes > max)
        rc = err_set(&why, STATUS_FORMAT, "%s: has %" PRIu64 " bytes (%zu are allowed); download it again",
                     json_text_label(path), bytes, max);
    if (!rc && !(*out = mem_alloc((size_t)bytes + 1)))
        rc = err_set(&why, STATUS_NOMEM, "%s: no memory to read it; close other programs", json_text_label(path));
    if (!rc) rc = json_text_pread(fd, *out, (size_t)bytes, 0, path, &why);
    if (fd >= 0) close(fd);
    if (rc) {
        mem_free(*out);
        *out = NULL;
        return err_set(e, rc, "%s", why.text);
    }
    *n = (size_t)bytes;
    (*out)[*n] = 0;
    return 0;
}
int json_text_file(json_t **out, const char *path, size_t max, struct err *e) {
    char *text;
    size_t n = 0;
    *out = NULL;
    int rc = json_text_read(&text, &n, path, max, e);
    if (!rc) rc = json_text_parse(out, text, n, path, e);
    mem_free(text);
    return rc;
}
