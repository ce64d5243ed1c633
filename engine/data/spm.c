#include "spm.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <stdlib.h>
#include <string.h>

enum { PIECE_MAX = 512 }; /* bytes; the time to find the halves grows with the square */

struct scored {
    float score;
    int id;
};
static int by_score(const void *x, const void *y) {
    const struct scored *a = x, *b = y;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->id - b->id;
}
/* Each place where both halves are pieces: counts them, or adds the merges to b. */
static size_t halves(const struct tokenizer *t, const struct token *k, struct bpe *b, int rank, int id) {
    size_t found = 0;
    uint32_t cp;
    for (size_t i = 0; i < k->n;) {
        const int len = utf8_decode(k->p + i, k->n - i, &cp);
        i += len ? (size_t)len : 1;
        if (i >= k->n) break;
        const int left = strmap_get(&t->normal, k->p, i);
        const int right = left < 0 ? -1 : strmap_get(&t->normal, k->p + i, k->n - i);
        if (right < 0) continue;
        if (b) bpe_add(b, left, right, rank, id);
        found++;
    }
    return found;
}
int spm_add_merges(struct tokenizer *t, const struct token *list, size_t n, const char *label, struct err *e) {
    struct scored *order = mem_alloc(n * sizeof *order);
    size_t many = 0, merges = 0;
    int rc = order ? 0 : tokenizer_no_memory(e);
    for (size_t i = 0; i < n && !rc; i++) {
        if (!list[i].merges) continue;
        if (list[i].n > PIECE_MAX)
            rc = err_set(e, STATUS_FORMAT, "%s: token %zu has %zu bytes (at most %d)", label, i, list[i].n, PIECE_MAX);
        if (!(list[i].score == list[i].score)) /* not a number */
            rc = err_set(e, STATUS_FORMAT, "%s: the score of token %zu is not a number", label, i);
        if (rc) break;
        merges += halves(t, &list[i], NULL, 0, 0);
        order[many++] = (struct scored){ list[i].score, (int)i };
    }
    if (!rc && bpe_init(&t->bpe, merges)) rc = tokenizer_no_memory(e);
    if (!rc && many) qsort(order, many, sizeof *order, by_score);
    for (size_t i = 0, rank = 0; i < many && !rc; i++) {
        if (i && order[i].score != order[i - 1].score) rank = i;
        const int id = order[i].id;
        /* Of two tokens with one spelling only the first is found by text. */
        if (strmap_get(&t->normal, list[id].p, list[id].n) == id) halves(t, &list[id], &t->bpe, (int)rank, id);
    }
    mem_free(order);
    return rc;
}
