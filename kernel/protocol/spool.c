#include "spool.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { ALIGN = alignof(max_align_t) };
struct spool {
    atomic_long users; /* letters, segments and the owner */
    atomic_size_t heap, disk;
    atomic_ullong gone;
    struct segment *open; /* takes further letters; the owner's */
};
struct segment {
    struct spool *spool;
    atomic_int users; /* letters, and the spool while it is open */
    char *base;
    size_t size, used;
};
struct letter {
    struct spool *spool;
    struct segment *segment; /* NULL: heap */
    size_t size;
    atomic_int holders;
    alignas(max_align_t) char bytes[];
};

static void leave(struct spool *s) {
    if (atomic_fetch_sub(&s->users, 1) == 1) mem_free(s);
}
int spool_open(struct spool **out, struct err *e) {
    *out = mem_zero(1, sizeof **out);
    if (!*out) return err_set(e, STATUS_NOMEM, "no memory for messages");
    atomic_store(&(*out)->users, 1);
    return 0;
}
static void segment_leave(struct segment *g) {
    if (atomic_fetch_sub(&g->users, 1) > 1) return;
    munmap(g->base, g->size);
    atomic_fetch_sub(&g->spool->disk, g->size);
    leave(g->spool);
    mem_free(g);
}
/* Its pages have been written and are not needed until they are sent: they leave this process, not the file. */
static void segment_close(struct spool *s) {
    if (!s->open) return;
    madvise(s->open->base, s->open->size, MADV_DONTNEED);
    segment_leave(s->open);
    s->open = NULL;
}
void spool_close(struct spool *s) {
    if (!s) return;
    segment_close(s);
    leave(s);
}

/* ---- files ---- */

/* A file without a name: /var/tmp is a disk where /tmp may be memory. -1: nowhere. */
static int nameless(void) {
    const char *const where[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };
    int fd = -1;
    for (int i = 0; fd < 0 && i < 3; i++) {
        char path[4096];
        if (!where[i] || snprintf(path, sizeof path, "%s/jaeda-XXXXXX", where[i]) >= (int)sizeof path) continue;
        fd = open(where[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0 || (fd = mkostemp(path, O_CLOEXEC)) < 0) continue;
        unlink(path);
    }
    return fd;
}
/* The blocks are reserved: writing to the mapping cannot fail later. NULL: no room. */
static char *mapped(size_t size) {
    struct statvfs disk;
    char *p = MAP_FAILED;
    const int fd = nameless();
    if (fd < 0) return NULL;
    const bool room = !fstatvfs(fd, &disk) && (uint64_t)disk.f_bavail * disk.f_frsize > SPOOL_SPARE_BYTES + size;
    if (room && !posix_fallocate(fd, 0, (off_t)size)) p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}
/* An open segment with n bytes left; NULL: no room. */
static struct segment *segment_for(struct spool *s, size_t n) {
    if (s->open && s->open->size - s->open->used >= n) return s->open;
    segment_close(s);
    const size_t size = n > SPOOL_SEGMENT_BYTES ? (n + 65535) / 65536 * 65536 : SPOOL_SEGMENT_BYTES;
    if (atomic_load(&s->disk) + size > SPOOL_FILE_BYTES) return NULL;
    struct segment *g = mem_zero(1, sizeof *g);
    if (!g) return NULL;
    g->base = mapped(size);
    if (!g->base) {
        mem_free(g);
        return NULL;
    }
    g->spool = s;
    g->size = size;
    atomic_store(&g->users, 1);
    atomic_fetch_add(&s->users, 1);
    atomic_fetch_add(&s->disk, size);
    return s->open = g;
}

/* ---- letters ---- */

struct letter *spool_letter(struct spool *s, size_t n, int holders, bool anyhow) {
    const size_t size = (sizeof(struct letter) + n + ALIGN - 1) / ALIGN * ALIGN;
    struct segment *g = NULL;
    if (atomic_load(&s->heap) + size > SPOOL_HEAP_BYTES) {
        g = segment_for(s, size);
        if (!g && !anyhow) return NULL;
    } else
        segment_close(s);
    struct letter *l = g ? (struct letter *)(void *)(g->base + g->used) : mem_alloc(size);
    if (!l) return NULL;
    if (g) {
        g->used += size;
        atomic_fetch_add(&g->users, 1);
    } else
        atomic_fetch_add(&s->heap, size);
    l->spool = s;
    l->segment = g;
    l->size = size;
    atomic_init(&l->holders, holders);
    atomic_fetch_add(&s->users, 1);
    return l;
}
char *letter_bytes(struct letter *l) { return l->bytes; }
void letter_drop(void *bytes, void *letter) {
    (void)bytes;
    struct letter *l = letter;
    if (atomic_fetch_sub(&l->holders, 1) > 1) return;
    struct spool *s = l->spool;
    atomic_fetch_add(&s->gone, 1);
    if (l->segment)
        segment_leave(l->segment);
    else {
        atomic_fetch_sub(&s->heap, l->size);
        mem_free(l);
    }
    leave(s);
}
uint64_t spool_gone(const struct spool *s) { return atomic_load(&s->gone); }
size_t spool_on_disk(const struct spool *s) { return atomic_load(&s->disk); }
