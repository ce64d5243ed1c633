/* bpe.h - merges of byte-pair encoding over token ids (Sennrich et al. 2016). Immutable after loading. */
#ifndef JAEDA_DATA_BPE_H
#define JAEDA_DATA_BPE_H
#include "tokenizer.h"

struct bpe {
    struct bpe_merge {
        uint64_t pair; /* left id << 32 | right id; all ones: free */
        int rank, id;
    } * slot;
    size_t mask;
};
int bpe_init(struct bpe *b, size_t merges); /* -1: no memory */
void bpe_fini(struct bpe *b);
/* The pair (left, right) becomes id; the lower rank goes first. A pair given again replaces the former. */
void bpe_add(struct bpe *b, int left, int right, int rank, int id);

/* Scratch of one caller: zero-initialise, reuse from piece to piece. */
struct bpe_work {
    struct bpe_symbol *symbol;
    struct bpe_candidate *heap;
    size_t symbols, heap_n, heap_cap;
};
void bpe_work_fini(struct bpe_work *w);
/* Merges n ids (one piece of text) and appends what is left to out. n log n. 0, or -1: no memory. */
int bpe_merge(const struct bpe *b, struct bpe_work *w, const int *id, size_t n, struct ids *out);

#endif
