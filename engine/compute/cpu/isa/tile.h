/* tile.h - the inner loops of matrix products: a few vectors of weight rows times R rows of a step. */
#ifndef JAEDA_COMPUTE_CPU_ISA_TILE_H
#define JAEDA_COMPUTE_CPU_ISA_TILE_H
#include "compute/cpu/isa/dot.h"

/* Rows of a block for prefill, vectors of a tile. Zen 4, Zen 5: 16 sums of 32 registers; AVX2 and SSE have 16. */
#if defined(__AVX512F__)
enum { ROW_BLOCK = 8, TILE = 2 };
#else
enum { ROW_BLOCK = 4, TILE = 2 };
#endif
/* Vectors of a tile for one row: no more than a panel has, since memory is read best in a row. */
enum { TILE_ONE = PARTS == 1 ? 1 : TILE };

/* c[i * ld + v * VL] += vector part[v] of the panel at w[v], times row i of x, over so many columns. */
struct tile {
    const char *w[TILE];
    int part[TILE];
    const float *x;
    int cols, ld;
    float *c;
};
typedef void tile_fn(const struct tile *t);
tile_fn *NAMED(tile_of)(enum dtype form, int R); /* R: 1 (TILE_ONE vectors), 4 or ROW_BLOCK (TILE vectors) */

enum { AHEAD = 1536 }; /* bytes from what is read to what is asked for */

#endif
