/* strmap.h - byte strings -> small numbers, sized once. The strings are borrowed. Reading is thread-safe. */
#ifndef JAEDA_DATA_STRMAP_H
#define JAEDA_DATA_STRMAP_H
#include <stddef.h>
#include <stdint.h>

struct strmap {
    struct strmap_slot {
        const char *p; /* NULL: free */
        uint32_t n;
        int value;
    } * slot;
    size_t mask;
};
int strmap_init(struct strmap *m, size_t entries); /* room for that many; -1: no memory */
void strmap_fini(struct strmap *m);
/* -1: added; else the value that the string already has, which stays. value >= 0; n < 2^32. */
int strmap_add(struct strmap *m, const char *p, size_t n, int value);
int strmap_get(const struct strmap *m, const char *p, size_t n); /* -1: not there */

#endif
