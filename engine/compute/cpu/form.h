/* form.h - how packed weights lie in memory, and the rows of a step that meet them. */
#ifndef JAEDA_COMPUTE_CPU_FORM_H
#define JAEDA_COMPUTE_CPU_FORM_H
#include "compute/quant.h"
#include <stdint.h>

/* A matrix lies in panels of 16 rows; stride: bytes from panel to panel, so that weights packed side by side ([gate|up])
 * can still be read alone. A panel, by form:
 *   f32, f16    for each column: 16 numbers
 *   bf16        for each 2 columns: a cell of 16 rows x 2 (an odd last column with a zero beside it)
 *   quantised   for each 32 columns: 16 scales (and 16 minima), then cells of 16 rows x 4 bytes; at 4 bits a byte of
 *               cell j holds columns 8j..8j+3 low and 8j+4..8j+7 high, at 8 bits columns 4j..4j+3
 * A vector is plain f32, padded with zeros to a multiple of 16. */
struct packed {
    char *p;
    size_t stride;
    enum dtype form;
};
enum { PANEL = 16 };

/* Bytes in a panel: f16 scales before 256 columns; scales of 32 columns; scales and cells of 32 columns. */
static inline int quant_super_head(struct quant_form q) { return q.super ? 2 * PANEL * (1 + q.minima) : 0; }
static inline int quant_head(struct quant_form q) { return (q.super ? QBLOCK / q.sub : 2) * PANEL * (1 + q.minima); }
static inline int quant_block(struct quant_form q) { return quant_head(q) + q.bits * QBLOCK / 8 * PANEL; }
/* Bytes of a panel's first so many columns; of a quantised one 32 or 256 of them go together. */
static inline size_t form_bytes(enum dtype form, int cols) {
    const struct quant_form q = quant_form(form);
    const size_t n = (size_t)cols;
    if (!q.bits) return form == DTYPE_BF16 ? (n + 1) / 2 * 4 * PANEL : n * (form == DTYPE_F32 ? 4 : 2) * PANEL;
    return n / QBLOCK * (size_t)quant_block(q) + n / SUPER * (size_t)quant_super_head(q);
}

/* What a step's rows become before a matrix product: blocks of R rows (R = 1, 4 or the instruction set's ROW_BLOCK),
 * columns outside, rows inside, by the form of the weights:
 *   FEED_FLOAT  f32
 *   FEED_PAIRS  pairs of bf16, where the instruction set multiplies them and R > 4; else f32 too
 *   FEED_QUANT  per 32 columns 8 x R groups of 4 int8, then R times each of: scale (the same for FEED_GROUP columns),
 *               -8 * sum, -128 * sum, -8 * sum of the first 16 (int32) */
enum feed_kind { FEED_FLOAT, FEED_PAIRS, FEED_QUANT };
enum { ROW_BLOCK_MAX = 8, QUANT_WORDS = 8 + 4, FEED_GROUP = 128 };
static inline enum feed_kind feed_kind(enum dtype form) {
    return quant_form(form).bits ? FEED_QUANT : form == DTYPE_BF16 ? FEED_PAIRS : FEED_FLOAT;
}

#endif
