/* table.h - results as one MIME bundle of text/plain, text/html and text/markdown. A doc is a run of lines and tables.
 * Memory: a failed allocation is remembered and makes doc_bundle give NULL; the calls before it need no check. */
#ifndef JAEDA_PRESENT_TABLE_H
#define JAEDA_PRESENT_TABLE_H
#include "base/buf.h"
#include <jansson.h>

enum { TABLE_COLUMNS = 12, TABLE_ROWS = 20, TEXT_COLUMNS = 100 };
enum table_align { TABLE_LEFT, TABLE_RIGHT };

struct table {
    const char *caption; /* borrowed; NULL: none */
    const char *more;    /* what to type to see the rows beyond max_rows; NULL: nothing is said */
    int max_rows;        /* rows shown; 0: TABLE_ROWS */
    struct {
        const char *title; /* borrowed; the unit stands here, not in the cells */
        enum table_align align;
    } column[TABLE_COLUMNS];
    int columns, cells;
    struct buf text; /* the cells, row by row, each followed by a NUL */
    size_t *at;      /* where cell i begins in text */
    int cap;
    bool failed;
};
void table_init(struct table *t, const char *caption);
void table_fini(struct table *t);
void table_column(struct table *t, const char *title, enum table_align align);
/* The next cell, left to right, row by row. */
__attribute__((format(printf, 2, 3))) void table_cell(struct table *t, const char *fmt, ...);
void table_number(struct table *t, double v); /* three significant digits */
void table_tenths(struct table *t, double v); /* 12.3 */
int table_rows(const struct table *t);
const char *table_at(const struct table *t, int row, int column);

struct doc {
    struct buf plain, html, markdown;
    bool after_table; /* the next line keeps its distance */
};
void doc_init(struct doc *d);
void doc_fini(struct doc *d);
/* A paragraph: one line of plain text. */
__attribute__((format(printf, 2, 3))) void doc_line(struct doc *d, const char *fmt, ...);
void doc_code(struct doc *d, const char *text, size_t n); /* preformatted text */
void doc_table(struct doc *d, const struct table *t);
/* The bundle; the caller owns it. NULL: out of memory. d is spent but must still be given to doc_fini. */
json_t *doc_bundle(struct doc *d);
/* A bundle of plain text alone; bytes that are no UTF-8 are replaced. */
json_t *doc_plain(const char *text, size_t n);

#endif
