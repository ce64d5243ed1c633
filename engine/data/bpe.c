#include "bpe.h"
#include "base/mem.h"

static const uint64_t FREE = UINT64_MAX; /* ids are 31 bits, so no pair is all ones */

int bpe_init(struct bpe *b, size_t merges) {
    size_t slots = 8;
    while (slots / 2 < merges) slots *= 2;
    b->slot = mem_alloc(slots * sizeof *b->slot);
    b->mask = slots - 1;
    for (size_t i = 0; b->slot && i < slots; i++) b->slot[i].pair = FREE;
    return b->slot ? 0 : -1;
}
void bpe_fini(struct bpe *b) {
    mem_free(b->slot);
    *b = (struct bpe){ 0 };
}
static struct bpe_merge *find(const struct bpe *b, int left, int right) {
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t h = (pair ^ pair >> 29) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h ^ h >> 32) & b->mask;
    while (b->slot[i].pair != FREE && b->slot[i].pair != pair) i = (i + 1) & b->mask;
    return &b->slot[i];
}
void bpe_add(struct bpe *b, int left, int right, int rank, int id) {
    *find(b, left, right) = (struct bpe_merge){ (uint64_t)(uint32_t)left << 32 | (uint32_t)right, rank, id };
}

/* A piece is a linked list of symbols; a swallowed one has id -1. */
struct bpe_symbol {
    int id, before, after; /* -1: none */
};
/* Valid as long as a pair that makes id stands at `at`: candidates are never removed, only found stale. */
struct bpe_candidate {
    int rank, at, left, right, id;
};
void bpe_work_fini(struct bpe_work *w) {
    mem_free(w->symbol);
    mem_free(w->heap);
    *w = (struct bpe_work){ 0 };
}
/* The lower rank first, then the leftmost. */
static bool precedes(const struct bpe_candidate *a, const struct bpe_candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}
static int push(struct bpe_work *w, struct bpe_candidate c) {
    if (w->heap_n == w->heap_cap) {
        const size_t cap = w->heap_cap ? w->heap_cap * 2 : 64;
        struct bpe_candidate *heap = mem_grow(w->heap, cap, sizeof *heap);
        if (!heap) return -1;
        w->heap = heap;
        w->heap_cap = cap;
    }
    size_t i = w->heap_n++;
    for (; i && precedes(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
    return 0;
}
static struct bpe_candidate pop(struct bpe_work *w) {
    const struct bpe_candidate top = w->heap[0], last = w->heap[--w->heap_n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->heap_n; i = child) {
        if (child + 1 < w->heap_n && precedes(&w->heap[child + 1], &w->heap[child])) child++;
        if (!precedes(&w->heap[child], &last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}
/* Offers the pair that starts at symbol `at`. */
static int offer(const struct bpe *b, struct bpe_work *w, int at) {
    const struct bpe_symbol *s = w->symbol;
    if (at < 0 || s[at].after < 0) return 0;
    const int left = s[at].id, right = s[s[at].after].id;
    const struct bpe_merge *m = find(b, left, right);
    return m->pair == FREE ? 0 : push(w, (struct bpe_candidate){ m->rank, at, left, right, m->id });
}
static int start(const struct bpe *b, struct bpe_work *w, const int *id, size_t n) {
    if (n > w->symbols) {
        struct bpe_symbol *symbol = mem_grow(w->symbol, n, sizeof *symbol);
        if (!symbol) return -1;
        w->symbol = symbol;
        w->symbols = n;
    }
    w->heap_n = 0;
    for (size_t i = 0; i < n; i++) w->symbol[i] = (struct bpe_symbol){ id[i], (int)i - 1, i + 1 < n ? (int)i + 1 : -1 };
    for (size_t i = 0; i + 1 < n; i++)
        if (offer(b, w, (int)i)) return -1;
    return 0;
}
/* A candidate whose pair has changed still counts when the new pair makes the same token, as in the reference. */
static bool still_makes(const struct bpe *b, const struct bpe_candidate *c, int left, int right) {
    if (left == c->left && right == c->right) return true;
    const struct bpe_merge *m = find(b, left, right);
    return m->pair != FREE && m->id == c->id;
}
int bpe_merge(const struct bpe *b, struct bpe_work *w, const int *id, size_t n, struct ids *out) {
    if (!n) return 0;
    if (start(b, w, id, n)) return -1;
    struct bpe_symbol *s = w->symbol;
    while (w->heap_n) {
        const struct bpe_candidate c = pop(w);
        const int right = s[c.at].after;
        if (s[c.at].id < 0 || right < 0 || !still_makes(b, &c, s[c.at].id, s[right].id)) continue;
        s[c.at].id = c.id;
        s[c.at].after = s[right].after;
        s[right].id = -1;
        if (s[c.at].after >= 0) s[s[c.at].after].before = c.at;
        if (offer(b, w, s[c.at].before) || offer(b, w, c.at)) return -1;
    }
    for (int i = 0; i >= 0; i = s[i].after)
        if (ids_add(out, s[i].id)) return -1;
    return 0;
}
