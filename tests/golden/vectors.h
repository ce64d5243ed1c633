/* vectors.h - the files that make_tiny.py and make_smollm2.py wrote. Paths are relative to the top of the tree. */
#ifndef GOLDEN_VECTORS_H
#define GOLDEN_VECTORS_H
#include "base/err.h"
#include <stdbool.h>
#include <stdio.h>

struct record { /* one matrix: numbers f, or integers i */
    const char *label;
    int layer, rows, cols;
    const float *f;
    const int *i;
};
struct vectors {
    char *bytes;
    struct record *record;
    int n;
};
int vectors_open(struct vectors *v, const char *path, struct err *e);
void vectors_close(struct vectors *v);
/* The nth record (from 0) of that name; NULL: there is none. */
const struct record *vectors_find(const struct vectors *v, const char *label, int layer, int nth);

/* A line of tokens.txt, templates.txt or beams.txt: read with one getline, comments left out, split at tabs. */
enum { FIELDS = 7 };
struct line {
    FILE *f;
    char *text, *field[FIELDS];
    size_t cap;
    int fields;
};
bool line_next(struct line *l); /* false: the end */
/* Undoes the escapes in place; returns the number of bytes, NUL bytes included. */
size_t unquote(char *text);
/* Parses numbers separated by blanks into id; returns how many there are, at most max. */
size_t parse_ids(const char *text, int *id, size_t max);

#endif
