/* folder_build.h - files, folders and links in a temporary folder, for tests. */
#ifndef JAEDA_TESTS_FOLDER_BUILD_H
#define JAEDA_TESTS_FOLDER_BUILD_H
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder_root[64];

static inline int folder_make(const char *what) {
    snprintf(folder_root, sizeof folder_root, "/tmp/jaeda-%s-XXXXXX", what);
    return mkdtemp(folder_root) ? 0 : -1;
}
/* Full path of a name; the last eight results stay valid. */
static inline const char *folder_at(const char *name) {
    static char path[8][512];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", folder_root, name);
    return p;
}
/* Makes the folders that a name needs above it. */
static inline void folder_above(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s", folder_at(name));
    for (char *p = path + strlen(folder_root) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        mkdir(path, 0700);
    }
}
static inline void folder_bytes(const char *name, const void *p, size_t n) {
    folder_above(name);
    FILE *f = fopen(folder_at(name), "wb");
    if (!f || fwrite(p, 1, n, f) != n) fprintf(stderr, "cannot write %s\n", name);
    if (f) fclose(f);
}
static inline void folder_text(const char *name, const char *text) { folder_bytes(name, text, strlen(text)); }
static inline void folder_link(const char *to, const char *name) {
    folder_above(name);
    if (symlink(to, folder_at(name))) fprintf(stderr, "cannot link %s\n", name);
}
static inline int folder_remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path);
}
static inline int folder_remove(const char *name) {
    return nftw(*name ? folder_at(name) : folder_root, folder_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
