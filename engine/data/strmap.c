#include "strmap.h"
#include "base/mem.h"
#include <string.h>

int strmap_init(struct strmap *m, size_t entries) {
    size_t slots = 8;
    while (slots / 2 < entries) slots *= 2;
    m->slot = mem_zero(slots, sizeof *m->slot);
    m->mask = slots - 1;
    return m->slot ? 0 : -1;
}
void strmap_fini(struct strmap *m) {
    mem_free(m->slot);
    *m = (struct strmap){ 0 };
}
/* FNV-1a, folded so that the low bits see every byte. */
static size_t hash(const char *p, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32);
}
/* The slot that holds the string, or the free one where it would go: at most half of the slots are taken. */
static struct strmap_slot *find(const struct strmap *m, const char *p, size_t n) {
    size_t i = hash(p, n) & m->mask;
    while (m->slot[i].p && (m->slot[i].n != n || memcmp(m->slot[i].p, p, n))) i = (i + 1) & m->mask;
    return &m->slot[i];
}
int strmap_add(struct strmap *m, const char *p, size_t n, int value) {
    struct strmap_slot *s = find(m, p, n);
    if (s->p) return s->value;
    *s = (struct strmap_slot){ p, (uint32_t)n, value };
    return -1;
}
int strmap_get(const struct strmap *m, const char *p, size_t n) {
    const struct strmap_slot *s = m->slot ? find(m, p, n) : NULL;
    return s && s->p ? s->value : -1;
}
