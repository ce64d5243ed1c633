#include "gguf.h"
#include "base/mem.h"
#include "gguf_read.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_READ = 2 << 20, ALIGN_DEFAULT = 32, ALIGN_MIN = 8, ALIGN_MAX = 1 << 20 };
static const uint64_t ELEMENTS_MAX = (uint64_t)1 << 48; /* times the widest element still fits 64 bits */

static int bad_tensor(const struct gguf *g, const struct gguf_tensor *t, const char *why, struct err *e) {
    return err_set(e, STATUS_FORMAT, "%s: tensor '%s' %s; convert the file again", gguf_label(g), t->name, why);
}
/* Bytes and place of one tensor; the end is checked against the file by the caller. */
static int place_one(struct gguf *g, struct gguf_tensor *t, uint64_t align, struct err *e) {
    uint64_t count = 1;
    for (int i = 0; i < t->dims; i++) {
        if (!t->dim[i]) return bad_tensor(g, t, "has a dimension of 0", e);
        if (__builtin_mul_overflow(count, t->dim[i], &count) || count > ELEMENTS_MAX)
            return bad_tensor(g, t, "has impossible dimensions", e);
    }
    const struct dtype_info *info = dtype_info(t->dt);
    if (info && t->dim[0] % (uint64_t)info->block)
        return bad_tensor(g, t, "has rows that are no multiple of its type's block", e);
    t->bytes = info ? dtype_bytes(t->dt, (size_t)count) : 0;
    if (t->offset % align) return bad_tensor(g, t, "lies at an offset that breaks the alignment", e);
    if (__builtin_add_overflow(t->offset, g->data, &t->offset) || t->offset > UINT64_MAX / 2)
        return bad_tensor(g, t, "lies at an impossible offset", e);
    return 0;
}
static int by_offset(const void *a, const void *b) {
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a, *y = *(const struct gguf_tensor *const *)b;
    if (x->offset != y->offset) return x->offset > y->offset ? 1 : -1;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes); /* one of unknown size never hides behind */
}
static int check_order(const struct gguf *g, const struct gguf_tensor **sorted, struct err *e) {
    for (int i = 0; i < g->tensors; i++) sorted[i] = &g->tensor[i];
    qsort(sorted, (size_t)g->tensors, sizeof *sorted, by_offset);
    for (int i = 1; i < g->tensors; i++)
        if (sorted[i]->offset < sorted[i - 1]->offset + sorted[i - 1]->bytes)
            return err_set(e, STATUS_FORMAT, "%s: tensors '%s' and '%s' overlap; download it again", gguf_label(g),
                           sorted[i - 1]->name, sorted[i]->name);
    for (int i = 0; i < g->tensors; i++) {
        const struct gguf_tensor *last = sorted[g->tensors - 1];
        if (sorted[i]->offset + sorted[i]->bytes > g->file_bytes)
            return err_set(e, STATUS_FORMAT,
                           "%s: the file ends inside tensor '%s', %" PRIu64 " bytes too early; download it again",
                           gguf_label(g), sorted[i]->name, last->offset + last->bytes - g->file_bytes);
    }
    return 0;
}
int gguf_place(struct gguf *g, uint64_t header_bytes, struct err *e) {
    int64_t align = ALIGN_DEFAULT;
    gguf_int(g, "general.alignment", &align);
    if (align < ALIGN_MIN || align > ALIGN_MAX || (align & (align - 1)))
        return err_set(e, STATUS_FORMAT,
                       "%s: general.alignment is %" PRId64 " (a power of two from 8 to %d is allowed); "
                       "convert the file again",
                       gguf_label(g), align, ALIGN_MAX);
    g->data = (header_bytes + (uint64_t)align - 1) / (uint64_t)align * (uint64_t)align;
    for (int i = 0; i < g->tensors; i++) {
        const int rc = place_one(g, &g->tensor[i], (uint64_t)align, e);
        if (rc) return rc;
    }
    const struct gguf_tensor **sorted = mem_alloc((size_t)g->tensors * sizeof *sorted);
    if (!sorted) return err_set(e, STATUS_NOMEM, "%s: no memory for the header", gguf_label(g));
    const int rc = check_order(g, sorted, e);
    mem_free(sorted);
    return rc;
}

static struct gguf *blank(const char *path, uint64_t file_bytes) {
    struct gguf *g = mem_zero(1, sizeof *g);
    if (!g) return NULL;
    g->fd = -1;
    g->file_bytes = file_bytes;
    if ((g->path = mem_string(path))) return g;
    mem_free(g);
    return NULL;
}
int gguf_parse(struct gguf **out, const void *head, size_t n, uint64_t file_bytes, struct err *e) {
    *out = NULL;
    if (n > GGUF_HEAD_MAX) n = GGUF_HEAD_MAX;
    if (file_bytes < n) return err_set(e, STATUS_INVALID, "memory: %zu header bytes of a smaller file", n);
    struct gguf *g = blank("memory", file_bytes);
    if (!g || !(g->head = (unsigned char *)mem_copy(head, n))) {
        gguf_close(g);
        return err_set(e, STATUS_NOMEM, "no memory for a GGUF header of %zu bytes", n);
    }
    g->n = n;
    bool more;
    int rc = gguf_read(g, &more, e);
    if (more) rc = err_set(e, STATUS_FORMAT, "memory: the GGUF header goes on beyond the %zu bytes given", n);
    if (rc) {
        gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}
/* Makes the header's first `want` bytes present. */
static int read_up_to(struct gguf *g, size_t want, struct err *e) {
    unsigned char *head = mem_grow(g->head, want, 1);
    if (!head) return err_set(e, STATUS_NOMEM, "%s: no memory for the header (%zu bytes)", gguf_label(g), want);
    g->head = head;
    while (g->n < want) {
        const ssize_t got = pread(g->fd, head + g->n, want - g->n, (off_t)g->n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_set(e, STATUS_IO, "%s: %s while reading the header", gguf_label(g), strerror(errno));
        if (!got) return err_set(e, STATUS_IO, "%s: became shorter while it was read; try again", gguf_label(g));
        g->n += (size_t)got;
    }
    return 0;
}
static int read_file(struct gguf *g, struct err *e) {
    for (size_t want = FIRST_READ;; want *= 2) {
        if (want > GGUF_HEAD_MAX) want = GGUF_HEAD_MAX;
        if (want > g->file_bytes) want = (size_t)g->file_bytes;
        int rc = read_up_to(g, want, e);
        if (rc) return rc;
        bool more;
        rc = gguf_read(g, &more, e);
        if (!more) return rc;
        gguf_forget(g);
        if (want == GGUF_HEAD_MAX)
            return err_set(e, STATUS_FORMAT, "%s: the header is larger than %d MiB; convert the file again",
                           gguf_label(g), GGUF_HEAD_MAX >> 20);
    }
}
int gguf_open(struct gguf **out, const char *path, struct err *e) {
    *out = NULL;
    struct gguf *g = blank(path, 0);
    if (!g) return err_set(e, STATUS_NOMEM, "%s: no memory", path);
    struct stat st;
    int rc = 0;
    /* O_NONBLOCK: opening a named pipe must not wait for a writer. */
    g->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (g->fd < 0 || fstat(g->fd, &st)) {
        rc = err_set(e, errno == ENOENT ? STATUS_NOTFOUND : STATUS_IO, "%s: %s", gguf_label(g), strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        rc = err_set(e, STATUS_INVALID, "%s: is %s; give the path of a .gguf file", gguf_label(g),
                     S_ISDIR(st.st_mode) ? "a folder" : "no regular file");
    } else {
        g->file_bytes = (uint64_t)st.st_size;
        rc = read_file(g, e);
    }
    if (rc) {
        gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}
void gguf_close(struct gguf *g) {
    if (!g) return;
    gguf_forget(g);
    if (g->fd >= 0) close(g->fd);
    mem_free(g->head);
    mem_free(g->path);
    mem_free(g);
}
int gguf_fd(const struct gguf *g) { return g->fd; }
const char *gguf_path(const struct gguf *g) { return g->path; }
uint64_t gguf_file_bytes(const struct gguf *g) { return g->file_bytes; }
int gguf_tensors(const struct gguf *g) { return g->tensors; }
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i) {
    return i >= 0 && i < g->tensors ? &g->tensor[i] : NULL;
}
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name) {
    const int i = strmap_get(&g->names, name, strlen(name));
    return i < 0 ? NULL : &g->tensor[i];
}
