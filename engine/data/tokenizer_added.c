#include "tokenizer_added.h"
#include "base/mem.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void added_fini(struct added *a) {
    buf_fini(&a->text);
    mem_free(a->v);
    *a = (struct added){ 0 };
}
int added_add(struct added *a, const char *p, size_t n, int id, unsigned flags) {
    if (!n) return 0;
    if (a->n == a->cap) {
        const int cap = a->cap ? a->cap * 2 : 32;
        struct added_token *v = mem_grow(a->v, (size_t)cap, sizeof *v);
        if (!v) return -1;
        a->v = v;
        a->cap = cap;
    }
    if (!a->text.max) buf_init(&a->text, SIZE_MAX);
    a->v[a->n] = (struct added_token){ a->text.n, n, id, flags, -1 };
    if (buf_add(&a->text, p, n)) return -1;
    a->n++;
    return 0;
}
/* In order of bytes, so that a text stands right behind those that it begins with. */
static int compare(const char *a, size_t an, const char *b, size_t bn) {
    const int c = memcmp(a, b, an < bn ? an : bn);
    return c ? c : (an > bn) - (an < bn);
}
static int by_text(const void *x, const void *y, void *text) {
    const struct added_token *a = x, *b = y;
    const int c = compare((char *)text + a->at, a->n, (char *)text + b->at, b->n);
    return c ? c : (a->at > b->at) - (a->at < b->at);
}
static bool begins(const struct added *a, const struct added_token *t, const char *p, size_t n) {
    return t->n <= n && !memcmp(a->text.p + t->at, p, t->n);
}
void added_sort(struct added *a) {
    int n = 0;
    if (a->n) qsort_r(a->v, (size_t)a->n, sizeof *a->v, by_text, a->text.p);
    for (int i = 0; i < a->n; i++) {
        const char *p = a->text.p + a->v[i].at;
        const size_t len = a->v[i].n;
        if (n && a->v[n - 1].n == len && begins(a, &a->v[n - 1], p, len)) continue;
        int parent = n - 1;
        while (parent >= 0 && !begins(a, &a->v[parent], p, len)) parent = a->v[parent].parent;
        a->v[n] = a->v[i];
        a->v[n++].parent = parent;
        a->first[(unsigned char)*p + 1]++;
    }
    a->n = n;
    for (int b = 0; b < 256; b++) a->first[b + 1] += a->first[b];
}
const struct added_token *added_find(const struct added *a, const char *p, size_t n) {
    int low = a->first[(unsigned char)*p], high = a->first[(unsigned char)*p + 1];
    const int none = low - 1;
    while (low < high) { /* behind the last one that is not greater than the text */
        const int mid = low + (high - low) / 2;
        if (compare(a->text.p + a->v[mid].at, a->v[mid].n, p, n) <= 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    /* What the text begins with is that one or one of those that it begins with. */
    for (int i = low - 1; i > none && i >= 0; i = a->v[i].parent)
        if (begins(a, &a->v[i], p, n)) return &a->v[i];
    return NULL;
}
