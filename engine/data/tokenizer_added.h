/* tokenizer_added.h - tokens that are looked for in the text itself, before it is cut into pieces. */
#ifndef JAEDA_DATA_TOKENIZER_ADDED_H
#define JAEDA_DATA_TOKENIZER_ADDED_H
#include "base/buf.h"

enum added_flags {
    ADDED_CONTROL = 1, /* counts only where control tokens in the text count */
    ADDED_LSTRIP = 2,  /* takes the white space before it, behind it */
    ADDED_RSTRIP = 4,
    ADDED_WORD = 8, /* only where no word goes on to either side */
};
struct added_token {
    size_t at, n; /* in text */
    int id;
    unsigned flags;
    int parent; /* the longest other one that this one begins with; -1: none */
};
struct added {
    struct buf text;
    struct added_token *v;
    int n, cap;
    int first[257]; /* where each first byte begins in v, which is sorted */
};
void added_fini(struct added *a);
/* Copies the text. The first of two with the same text stays. -1: no memory. */
int added_add(struct added *a, const char *p, size_t n, int id, unsigned flags);
void added_sort(struct added *a); /* once, after the last */
/* The longest one with which p (n > 0 bytes) begins; NULL: none. */
const struct added_token *added_find(const struct added *a, const char *p, size_t n);

#endif
