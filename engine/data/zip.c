#include "zip.h"
#include "base/mem.h"
#include "json_text.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { END = 22, END64 = 56, LOCATOR = 20, CENTRAL = 46, LOCAL = 30, COMMENT_MAX = 65535 };
enum { DIRECTORY_MAX = 64 << 20, MEMBERS_MAX = 1 << 20 };

struct zipping {
    struct zip *z;
    int fd;
    uint64_t file_bytes, directory, bytes, count; /* the directory's place, size, entries */
    const char *label;
    struct err *e;
};
static uint64_t le(const unsigned char *p, int n) {
    uint64_t v = 0;
    while (n-- > 0) v = v << 8 | p[n];
    return v;
}
static int bad(const struct zipping *g, const char *why) {
    return err_set(g->e, STATUS_FORMAT, "%s: is a broken zip archive: %s; download it again", json_text_label(g->label),
                   why);
}
static int bad_member(const struct zipping *g, const char *name, const char *why) {
    return err_set(g->e, STATUS_FORMAT, "%s: its member '%.80s' %s; save it anew with torch.save, or download it again",
                   json_text_label(g->label), name, why);
}
static int get(const struct zipping *g, void *to, size_t n, uint64_t at) {
    if (n > g->file_bytes || at > g->file_bytes - n) return bad(g, "it points behind its end");
    return json_text_pread(g->fd, to, n, at, g->label, g->e);
}
/* An archive of more than 65,535 members or 4 GiB says so elsewhere. */
static int wide_end(struct zipping *g, uint64_t end) {
    unsigned char p[END64];
    if (end < LOCATOR || get(g, p, LOCATOR, end - LOCATOR)) return bad(g, "its end is cut off");
    if (memcmp(p, "PK\6\7", 4) != 0) return STATUS_OK; /* the numbers are what they are */
    if (get(g, p, END64, le(p + 8, 8))) return g->e->code;
    if (memcmp(p, "PK\6\6", 4) != 0) return bad(g, "its 64-bit end record is not where it says");
    g->count = le(p + 32, 8);
    g->bytes = le(p + 40, 8);
    g->directory = le(p + 48, 8);
    return STATUS_OK;
}
static int find_end(struct zipping *g) {
    const size_t room = g->file_bytes < END + COMMENT_MAX ? (size_t)g->file_bytes : END + COMMENT_MAX;
    const uint64_t from = g->file_bytes - room;
    unsigned char *p = mem_alloc(room + 1);
    if (!p) return err_set(g->e, STATUS_NOMEM, "%s: no memory for its directory", json_text_label(g->label));
    uint64_t end = 0;
    bool found = false;
    get(g, p, room, from);
    for (size_t i = room; !g->e->code && !found && i >= END; i--) {
        const unsigned char *r = p + i - END;
        found = !memcmp(r, "PK\5\6", 4) && le(r + 20, 2) == room - i;
        if (!found) continue;
        end = from + i - END;
        g->count = le(r + 10, 2);
        g->bytes = le(r + 12, 4);
        g->directory = le(r + 16, 4);
    }
    mem_free(p);
    if (!g->e->code && !found) bad(g, "its directory is missing, as after a download that was cut off");
    if (g->e->code) return g->e->code;
    if ((g->count == 0xffff || g->bytes == 0xffffffff || g->directory == 0xffffffff) && wide_end(g, end))
        return g->e->code;
    if (g->bytes > end || g->directory > end - g->bytes) return bad(g, "its directory lies behind its end");
    if (g->bytes > DIRECTORY_MAX || g->count > MEMBERS_MAX || g->count * CENTRAL > g->bytes)
        return bad(g, "its directory has an impossible size");
    return STATUS_OK;
}
/* Numbers that did not fit into 32 bits stand in an extra field, in this order. */
static void widen(uint64_t v[3], const unsigned char *extra, size_t n) {
    for (size_t i = 0; i + 4 <= n; i += 4 + le(extra + i + 2, 2)) {
        if (le(extra + i, 2) != 1) continue;
        size_t at = i + 4, end = at + le(extra + i + 2, 2);
        if (end > n) end = n;
        for (int k = 0; k < 3; k++)
            if (v[k] == 0xffffffff && at + 8 <= end) {
                v[k] = le(extra + at, 8);
                at += 8;
            }
        return;
    }
}
/* One entry of n bytes at most; *used: its size. Its name is copied to *name, which moves on. */
static int member(struct zipping *g, const unsigned char *p, size_t n, size_t *used, char **name) {
    struct zip_member *m = &g->z->member[g->z->members];
    if (n < CENTRAL || memcmp(p, "PK\1\2", 4) != 0) return bad(g, "its directory is damaged");
    const size_t name_n = le(p + 28, 2), extra_n = le(p + 30, 2), comment_n = le(p + 32, 2);
    *used = CENTRAL + name_n + extra_n + comment_n;
    if (*used > n) return bad(g, "its directory is damaged");
    memcpy(*name, p + CENTRAL, name_n);
    (*name)[name_n] = 0;
    uint64_t v[3] = { le(p + 24, 4), le(p + 20, 4), le(p + 42, 4) }; /* size, stored size, place */
    widen(v, p + CENTRAL + name_n, extra_n);
    *m = (struct zip_member){ .name = *name, .head = v[2], .bytes = v[0] };
    if (strlen(*name) != name_n) return bad(g, "a member's name holds a NUL");
    if (le(p + 8, 2) & 1) return bad_member(g, *name, "is encrypted");
    if (le(p + 10, 2) || v[0] != v[1]) return bad_member(g, *name, "is compressed, which torch.save does not do");
    unsigned char head[LOCAL];
    if (get(g, head, LOCAL, m->head)) return g->e->code;
    if (memcmp(head, "PK\3\4", 4) != 0) return bad_member(g, *name, "is not where the directory says");
    m->at = m->head + LOCAL + le(head + 26, 2) + le(head + 28, 2);
    if (m->bytes > g->directory || m->at > g->directory - m->bytes)
        return bad_member(g, *name, "lies outside the file");
    *name += name_n + 1;
    g->z->members++;
    return STATUS_OK;
}
static int by_place(const void *a, const void *b) {
    const struct zip_member *x = a, *y = b;
    return (x->head > y->head) - (x->head < y->head);
}
static int by_name(const void *a, const void *b) {
    return strcmp(((const struct zip_member *)a)->name, ((const struct zip_member *)b)->name);
}
static int check(const struct zipping *g) {
    struct zip_member *m = g->z->member;
    const int n = g->z->members;
    if (n) qsort(m, (size_t)n, sizeof *m, by_place);
    for (int i = 1; i < n; i++)
        if (m[i - 1].at + m[i - 1].bytes > m[i].head) return bad_member(g, m[i].name, "overlaps another one");
    if (n) qsort(m, (size_t)n, sizeof *m, by_name);
    for (int i = 1; i < n; i++)
        if (!by_name(&m[i - 1], &m[i])) return bad_member(g, m[i].name, "is there twice");
    return STATUS_OK;
}
static int read_directory(struct zipping *g, unsigned char *p) {
    struct zip *z = g->z;
    size_t at = 0, used = 0;
    char *name = z->names;
    if (get(g, p, (size_t)g->bytes, g->directory)) return g->e->code;
    for (uint64_t i = 0; i < g->count; i++, at += used)
        if (member(g, p + at, (size_t)g->bytes - at, &used, &name)) return g->e->code;
    return check(g);
}
int zip_read(struct zip *z, int fd, uint64_t file_bytes, const char *label, struct err *e) {
    struct err why = { 0 };
    struct zipping g = { .z = z, .fd = fd, .file_bytes = file_bytes, .label = label, .e = &why };
    *z = (struct zip){ 0 };
    if (!find_end(&g)) {
        unsigned char *p = mem_alloc((size_t)g.bytes + 1);
        z->member = mem_zero((size_t)g.count + 1, sizeof *z->member);
        z->names = mem_alloc((size_t)g.bytes + 1); /* entries are longer than their names */
        if (p && z->member && z->names)
            read_directory(&g, p);
        else
            err_set(&why, STATUS_NOMEM, "%s: no memory for its directory", json_text_label(label));
        mem_free(p);
    }
    if (!why.code) return STATUS_OK;
    zip_fini(z);
    return err_set(e, why.code, "%s", why.text);
}
void zip_fini(struct zip *z) {
    mem_free(z->member);
    mem_free(z->names);
    *z = (struct zip){ 0 };
}
const struct zip_member *zip_find(const struct zip *z, const char *name) {
    const struct zip_member key = { .name = name };
    return z->members ? bsearch(&key, z->member, (size_t)z->members, sizeof key, by_name) : NULL;
}
