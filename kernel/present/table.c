#include "table.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "format.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 8 << 20, CELL_MIN = 8 };

void table_init(struct table *t, const char *caption) {
    *t = (struct table){ .caption = caption };
    buf_init(&t->text, TEXT_MAX);
}
void table_fini(struct table *t) {
    buf_fini(&t->text);
    mem_free(t->at);
    *t = (struct table){ 0 };
}
void table_column(struct table *t, const char *title, enum table_align align) {
    if (t->columns == TABLE_COLUMNS) return;
    t->column[t->columns].title = title;
    t->column[t->columns++].align = align;
}
static bool room(struct table *t) {
    if (t->cells < t->cap) return true;
    const int cap = t->cap ? t->cap * 2 : 64;
    size_t *at = mem_grow(t->at, (size_t)cap, sizeof *at);
    if (!at) return false;
    t->at = at;
    t->cap = cap;
    return true;
}
void table_cell(struct table *t, const char *fmt, ...) {
    char cell[512];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(cell, sizeof cell, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : strlen(cell);
    if (n >= (int)sizeof cell) len -= utf8_tail(cell, len);
    const size_t start = t->text.n;
    utf8_repair(&t->text, cell, len);
    for (char *c = t->text.p ? t->text.p + start : NULL; c && c < t->text.p + t->text.n; c++)
        if (*c == '\n' || *c == '\r' || *c == '\t') *c = ' ';
    buf_add(&t->text, "", 1);
    if (t->text.failed || !room(t)) {
        t->failed = true;
        return;
    }
    t->at[t->cells++] = start;
}
void table_number(struct table *t, double v) {
    char n[32];
    format_number(n, v);
    table_cell(t, "%s", n);
}
void table_tenths(struct table *t, double v) {
    char n[32];
    format_tenths(n, v);
    table_cell(t, "%s", n);
}
int table_rows(const struct table *t) { return t->columns ? t->cells / t->columns : 0; }
const char *table_at(const struct table *t, int row, int column) {
    return t->text.p + t->at[row * t->columns + column];
}

void doc_init(struct doc *d) {
    buf_init(&d->plain, TEXT_MAX);
    buf_init(&d->html, TEXT_MAX);
    buf_init(&d->markdown, TEXT_MAX);
    d->after_table = false;
}
void doc_fini(struct doc *d) {
    buf_fini(&d->plain);
    buf_fini(&d->html);
    buf_fini(&d->markdown);
}
/* Breaks at blanks so that no line is wider than TEXT_COLUMNS, unless a word is. */
static void wrap(struct buf *out, const char *text, size_t n) {
    const char *end = text + n;
    while (text < end) {
        size_t fits = 0;
        for (size_t at = 0; text + at <= end; at++) {
            if (text + at < end && text[at] != ' ') continue;
            if (fits && utf8_width(text, at) > TEXT_COLUMNS) break;
            fits = at;
        }
        buf_add(out, text, fits);
        buf_puts(out, "\n");
        text += fits + (text + fits < end);
    }
    if (!n) buf_puts(out, "\n");
}
static void paragraph(struct doc *d, const char *text, size_t n) {
    if (d->after_table) buf_puts(&d->plain, "\n");
    d->after_table = false;
    wrap(&d->plain, text, n);
    buf_puts(&d->html, "<div>");
    format_html(&d->html, text, n);
    buf_puts(&d->html, "</div>\n");
    if (d->markdown.n) buf_puts(&d->markdown, "\n");
    format_markdown(&d->markdown, text, n);
    buf_puts(&d->markdown, "\n");
}
void doc_line(struct doc *d, const char *fmt, ...) {
    struct buf clean;
    buf_init(&clean, TEXT_MAX);
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *text = n < 0 ? NULL : mem_alloc((size_t)n + 1);
    if (text) {
        vsnprintf(text, (size_t)n + 1, fmt, again);
        utf8_repair(&clean, text, (size_t)n);
    }
    va_end(again);
    if (!text || clean.failed) d->plain.failed = true;
    if (text) paragraph(d, buf_text(&clean), clean.n);
    mem_free(text);
    buf_fini(&clean);
}
/* The fence is longer than any run of backticks in the text. */
static void fenced(struct buf *out, const char *text, size_t n) {
    int run = 0, ticks = 3;
    for (size_t i = 0; i < n; i++) {
        run = text[i] == '`' ? run + 1 : 0;
        if (run >= ticks) ticks = run + 1;
    }
    if (out->n) buf_puts(out, "\n");
    for (int i = 0; i < ticks; i++) buf_puts(out, "`");
    buf_printf(out, "\n%s%s", text, n && text[n - 1] != '\n' ? "\n" : "");
    for (int i = 0; i < ticks; i++) buf_puts(out, "`");
    buf_puts(out, "\n");
}
void doc_code(struct doc *d, const char *text, size_t n) {
    struct buf clean;
    buf_init(&clean, TEXT_MAX);
    utf8_repair(&clean, text, n);
    if (clean.failed) d->plain.failed = true;
    if (d->after_table) buf_puts(&d->plain, "\n");
    d->after_table = false;
    buf_add(&d->plain, buf_text(&clean), clean.n);
    if (clean.n && clean.p[clean.n - 1] != '\n') buf_puts(&d->plain, "\n");
    buf_puts(&d->html, "<pre>");
    for (size_t i = 0; i < clean.n; i++) /* line breaks stay what they are in <pre> */
        if (clean.p[i] == '\n') {
            buf_puts(&d->html, "\n");
        } else {
            format_html(&d->html, clean.p + i, 1);
        }
    buf_puts(&d->html, "</pre>\n");
    fenced(&d->markdown, buf_text(&clean), clean.n);
    buf_fini(&clean);
}

/* Widths in terminal cells; the widest left-aligned columns give way until the table fits TEXT_COLUMNS. */
static void measure(const struct table *t, int rows, size_t width[]) {
    size_t total = 0;
    for (int c = 0; c < t->columns; c++) {
        width[c] = utf8_width(t->column[c].title, strlen(t->column[c].title));
        for (int r = 0; r < rows; r++) {
            const char *s = table_at(t, r, c);
            const size_t w = utf8_width(s, strlen(s));
            if (w > width[c]) width[c] = w;
        }
        total += width[c] + (c ? 2 : 0);
    }
    while (total > TEXT_COLUMNS) {
        int widest = -1;
        for (int c = 0; c < t->columns; c++)
            if (t->column[c].align == TABLE_LEFT && width[c] > CELL_MIN && (widest < 0 || width[c] > width[widest]))
                widest = c;
        if (widest < 0) return;
        width[widest]--;
        total--;
    }
}
/* Writes s into width cells; what is too long ends in "…". */
static void pad(struct buf *out, const char *s, size_t width, enum table_align align, bool last) {
    size_t n = strlen(s), w = utf8_width(s, n);
    const bool cut = w > width;
    uint32_t cp;
    while (w > (cut ? width - 1 : width) && n) {
        do n--;
        while (n && !utf8_decode(s + n, strlen(s + n), &cp));
        w = utf8_width(s, n);
    }
    const size_t fill = width - w - cut;
    if (align == TABLE_RIGHT) buf_printf(out, "%*s", (int)fill, "");
    buf_add(out, s, n);
    if (cut) buf_puts(out, "…");
    if (align == TABLE_LEFT && !last) buf_printf(out, "%*s", (int)fill, "");
}
static void plain_table(struct buf *out, const struct table *t, int rows) {
    size_t width[TABLE_COLUMNS];
    measure(t, rows, width);
    for (int r = -2; r < rows; r++) { /* -2: titles, -1: the rule under them */
        for (int c = 0; c < t->columns; c++) {
            const bool last = c == t->columns - 1;
            if (c) buf_puts(out, "  ");
            if (r == -1) {
                for (size_t i = 0; i < width[c]; i++) buf_puts(out, "-");
            } else {
                pad(out, r < 0 ? t->column[c].title : table_at(t, r, c), width[c], t->column[c].align, last);
            }
        }
        while (out->n && !out->failed && out->p[out->n - 1] == ' ') out->p[--out->n] = 0;
        buf_puts(out, "\n");
    }
}
static void html_table(struct buf *out, const struct table *t, int rows) {
    buf_puts(out, "<table>\n");
    if (t->caption) {
        buf_puts(out, "<caption>");
        format_html(out, t->caption, strlen(t->caption));
        buf_puts(out, "</caption>\n");
    }
    buf_puts(out, "<thead><tr>");
    for (int r = -1; r < rows; r++) {
        if (r >= 0) buf_puts(out, "<tr>");
        for (int c = 0; c < t->columns; c++) {
            const char *s = r < 0 ? t->column[c].title : table_at(t, r, c), *tag = r < 0 ? "th" : "td";
            buf_printf(out, "<%s%s style=\"text-align:%s\">", tag, r < 0 ? " scope=\"col\"" : "",
                       t->column[c].align == TABLE_RIGHT ? "right" : "left");
            format_html(out, s, strlen(s));
            buf_printf(out, "</%s>", tag);
        }
        buf_puts(out, r < 0 ? "</tr></thead>\n<tbody>\n" : "</tr>\n");
    }
    buf_puts(out, "</tbody>\n</table>\n");
}
static void markdown_table(struct buf *out, const struct table *t, int rows) {
    if (out->n) buf_puts(out, "\n");
    if (t->caption) {
        buf_puts(out, "**");
        format_markdown(out, t->caption, strlen(t->caption));
        buf_puts(out, "**\n\n");
    }
    for (int r = -2; r < rows; r++) {
        buf_puts(out, "|");
        for (int c = 0; c < t->columns; c++) {
            const int row = r == -2 ? -1 : r;
            const char *s = row < 0 ? t->column[c].title : table_at(t, row, c);
            if (r == -1) {
                buf_puts(out, t->column[c].align == TABLE_RIGHT ? "--:|" : ":--|");
                continue;
            }
            buf_puts(out, " ");
            format_markdown(out, s, strlen(s));
            buf_puts(out, " |");
        }
        buf_puts(out, "\n");
    }
}
void doc_table(struct doc *d, const struct table *t) {
    const int all = table_rows(t), limit = t->max_rows ? t->max_rows : TABLE_ROWS, rows = all < limit ? all : limit;
    if (t->failed) d->plain.failed = true;
    if (d->plain.n) buf_puts(&d->plain, "\n");
    if (t->caption) buf_printf(&d->plain, "%s\n", t->caption);
    plain_table(&d->plain, t, rows);
    html_table(&d->html, t, rows);
    markdown_table(&d->markdown, t, rows);
    d->after_table = rows == all;
    if (rows < all)
        doc_line(d, "… %d more row%s%s%s", all - rows, all - rows == 1 ? "" : "s", t->more ? " - " : "",
                 t->more ? t->more : "");
}

json_t *doc_plain(const char *text, size_t n) {
    struct buf clean;
    buf_init(&clean, 2 * n + TEXT_MAX);
    utf8_repair(&clean, text, n);
    json_t *s = clean.failed ? NULL : json_stringn(buf_text(&clean), clean.n);
    buf_fini(&clean);
    return json_pack("{s:o}", "text/plain", s);
}
json_t *doc_bundle(struct doc *d) {
    if (d->plain.failed || d->html.failed || d->markdown.failed) return NULL;
    while (d->plain.n && d->plain.p[d->plain.n - 1] == '\n') d->plain.p[--d->plain.n] = 0;
    return json_pack("{s:o, s:o, s:o}", "text/plain", json_stringn(buf_text(&d->plain), d->plain.n), "text/html",
                     json_stringn(buf_text(&d->html), d->html.n), "text/markdown",
                     json_stringn(buf_text(&d->markdown), d->markdown.n));
}
