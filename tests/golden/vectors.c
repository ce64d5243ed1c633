#include "vectors.h"
#include "base/mem.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL = 24, HEAD = LABEL + 4 * sizeof(int) };

static char *slurp(const char *path, size_t *n, struct err *e) {
    FILE *f = fopen(path, "rb");
    char *bytes = NULL;
    if (!f || fseek(f, 0, SEEK_END)) {
        err_set(e, STATUS_IO, "%s: %s (run from the top of the tree)", path, strerror(errno));
    } else {
        *n = (size_t)ftell(f);
        rewind(f);
        bytes = mem_alloc(*n + 1);
        if (!bytes || fread(bytes, 1, *n, f) != *n) err_set(e, STATUS_IO, "%s: cannot be read", path);
    }
    if (f) fclose(f);
    return bytes;
}
int vectors_open(struct vectors *v, const char *path, struct err *e) {
    size_t size = 0, at = 8;
    *v = (struct vectors){ .bytes = slurp(path, &size, e) };
    if (e->code) return e->code;
    int n = 0;
    if (size >= at) memcpy(&n, v->bytes + 4, sizeof n);
    if (size < at || memcmp(v->bytes, "JGV1", 4) || !(v->record = mem_zero((size_t)n, sizeof *v->record)))
        return err_set(e, STATUS_FORMAT, "%s: no vector file", path);
    for (; v->n < n && at + HEAD <= size; v->n++) {
        const int *head = (const int *)(const void *)(v->bytes + at + LABEL); /* layer, kind, rows, cols */
        const char *data = v->bytes + at + HEAD;
        struct record *r = &v->record[v->n];
        *r = (struct record){ v->bytes + at, head[0], head[2], head[3], NULL, NULL };
        if (head[1])
            r->i = (const int *)(const void *)data;
        else
            r->f = (const float *)(const void *)data;
        at += HEAD + 4 * (size_t)r->rows * (size_t)r->cols;
    }
    return v->n == n && at == size ? 0 : err_set(e, STATUS_FORMAT, "%s: cut short", path);
}
void vectors_close(struct vectors *v) {
    mem_free(v->record);
    mem_free(v->bytes);
}
const struct record *vectors_find(const struct vectors *v, const char *label, int layer, int nth) {
    for (int i = 0; i < v->n; i++)
        if (v->record[i].layer == layer && !strcmp(v->record[i].label, label) && !nth--) return &v->record[i];
    return NULL;
}

bool line_next(struct line *l) {
    ssize_t n;
    do {
        n = getline(&l->text, &l->cap, l->f);
        if (n < 0) return free(l->text), l->text = NULL, false;
    } while (l->text[0] == '#');
    if (n && l->text[n - 1] == '\n') l->text[n - 1] = 0;
    char *at = l->text;
    for (l->fields = 0; at && l->fields < FIELDS; l->fields++) {
        char *tab = strchr(at, '\t');
        if (tab) *tab++ = 0;
        l->field[l->fields] = at;
        at = tab;
    }
    return true;
}
static size_t put_utf8(char *to, unsigned c) { /* the files escape nothing above U+FFFF */
    if (c < 0x80) return to[0] = (char)c, 1;
    if (c < 0x800) return to[0] = (char)(0xC0 | c >> 6), to[1] = (char)(0x80 | (c & 63)), 2;
    to[0] = (char)(0xE0 | c >> 12), to[1] = (char)(0x80 | (c >> 6 & 63)), to[2] = (char)(0x80 | (c & 63));
    return 3;
}
size_t unquote(char *text) {
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        if (*p != '\\') {
            text[n++] = *p;
        } else if (*++p == 'u') {
            const char hex[5] = { p[1], p[2], p[3], p[4], 0 };
            n += put_utf8(text + n, (unsigned)strtoul(hex, NULL, 16));
            p += 4;
        } else {
            text[n++] = *p == 'n' ? '\n' : *p == 'r' ? '\r' : *p == 't' ? '\t' : *p;
        }
    }
    text[n] = 0;
    return n;
}
size_t parse_ids(const char *text, int *id, size_t max) {
    size_t n = 0;
    for (char *end; n < max; text = end, n++) {
        const long v = strtol(text, &end, 10);
        if (end == text) break;
        id[n] = (int)v;
    }
    return n;
}
