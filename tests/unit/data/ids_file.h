/* ids_file.h - reads tokenizer_ids.txt and tokenizer_tiny.txt (make_tokenizer_ids.py), and finds the real files. */
#ifndef JAEDA_TESTS_IDS_FILE_H
#define JAEDA_TESTS_IDS_FILE_H
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "data/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file of the test data, beside the repository or where JAEDA_TEST_DATA says. false: it is not there. Only where CI is
 * set and JAEDA_ALLOW_SKIP is not 1, that is *failed. */
static inline bool data_path(const char *name, char *path, size_t n, bool *failed) {
    const char *where = getenv("JAEDA_TEST_DATA"), *allow = getenv("JAEDA_ALLOW_SKIP");
    snprintf(path, n, "%s/%s", where ? where : "../shared/data", name);
    *failed = false;
    if (!access(path, R_OK)) return true;
    printf("no %s: not compared (JAEDA_TEST_DATA says where the test data lie)\n", path);
    *failed = getenv("CI") && (!allow || strcmp(allow, "1") != 0);
    return false;
}
#define NEED_DATA(name, path)                                                                                          \
    do {                                                                                                               \
        bool failed;                                                                                                   \
        if (!data_path(name, path, sizeof path, &failed)) {                                                            \
            if (failed) fail_msg("%s is missing", path);                                                               \
            skip();                                                                                                    \
        }                                                                                                              \
    } while (0)

static inline char *read_whole(const char *path, size_t *n) {
    struct buf b;
    char part[4096];
    buf_init(&b, 64 << 20);
    FILE *f = fopen(path, "rb");
    for (size_t got; f && (got = fread(part, 1, sizeof part, f));) buf_add(&b, part, got);
    if (f) fclose(f);
    *n = b.n;
    return f ? buf_take(&b) : NULL;
}
/* Undoes the escapes in place; the number of bytes, which may hold a NUL. */
static inline size_t unescape(char *text) {
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        if (*p != '\\') {
            text[n++] = *p;
        } else if (*++p == 'u') {
            const char hex[5] = { p[1], p[2], p[3], p[4], 0 };
            n += (size_t)utf8_encode((uint32_t)strtoul(hex, NULL, 16), text + n);
            p += 4;
        } else {
            text[n++] = *p == 'n' ? '\n' : *p == 'r' ? '\r' : *p == 't' ? '\t' : *p;
        }
    }
    text[n] = 0;
    return n;
}
struct ids_line {
    char *what, *text, *rest; /* rest: the ids as text, or what else stands there */
};
/* The next line of *at, cut up in place; comments left out. */
static inline bool next_line(char **at, struct ids_line *l) {
    while (**at == '#') *at += strcspn(*at, "\n") + 1;
    if (!**at) return false;
    char *end = *at + strcspn(*at, "\n");
    l->what = *at;
    *at = *end ? end + 1 : end;
    *end = 0;
    l->text = strchr(l->what, '\t');
    *l->text++ = 0;
    l->rest = strchr(l->text, '\t');
    *l->rest++ = 0;
    return true;
}
/* Are these the ids that t gives? Says so where they are not. text is unescaped in place. */
static inline bool same_ids(const struct tokenizer *t, const char *name, struct ids_line *l, bool special) {
    char *shown = mem_string(l->text);
    struct ids ids = { 0 };
    struct err e = { 0 };
    const size_t n = unescape(l->text);
    bool same = !tokenizer_encode(t, l->text, n, special, &ids, &e);
    const char *at = l->rest;
    for (size_t i = 0; i < ids.n && same; i++) {
        char *next;
        same = ids.v[i] == strtol(at, &next, 10) && next != at;
        at = next;
    }
    same = same && !at[strspn(at, " ")];
    if (!same) {
        printf("%s, %s: '%s' %s\n  want %s\n  here", name, special ? "special" : "plain", shown, e.text, l->rest);
        for (size_t i = 0; i < ids.n; i++) printf(" %d", ids.v[i]);
        putchar('\n');
    }
    mem_free(shown);
    ids_fini(&ids);
    return same;
}

#endif
