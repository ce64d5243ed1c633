#include "draw.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int between(int low, int v, int high) { return v < low ? low : v > high ? high : v; }

/* ---- heat ---- */
void draw_colour(double v, unsigned char rgb[3]) {
    static const unsigned char stop[][3] = { { 8, 6, 28 },    { 58, 16, 96 },   { 124, 30, 110 }, { 184, 54, 86 },
                                             { 230, 96, 48 }, { 250, 160, 26 }, { 252, 238, 150 } };
    enum { LAST = sizeof stop / sizeof *stop - 1 };
    const double at = (v > 0 ? v < 1 ? v : 1 : 0) * LAST;
    const int i = between(0, (int)at, LAST - 1);
    for (int k = 0; k < 3; k++) rgb[k] = (unsigned char)lround(stop[i][k] + (at - i) * (stop[i + 1][k] - stop[i][k]));
}
static int smaller(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}
/* The value below which 98 % of the cells lie. */
static int highest(const float *heat, size_t n, double *top, struct err *e) {
    float *sorted = mem_alloc(n * sizeof *sorted);
    if (!sorted) return err_set(e, STATUS_NOMEM, "out of memory for a heat map");
    memcpy(sorted, heat, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, smaller);
    *top = sorted[n - 1 - n / 50];
    mem_free(sorted);
    return 0;
}
/* Where the middle of pixel i of n lies among cells: the cells before and behind it, and the share of the latter. */
struct lerp {
    int a, b;
    double share;
};
static struct lerp lerp_at(int i, int n, int cells) {
    const double at = (i + 0.5) * cells / n - 0.5;
    const int a = (int)floor(at);
    return (struct lerp){ between(0, a, cells - 1), between(0, a + 1, cells - 1), at - a };
}
/* The picture shows through everywhere, less where it is hot: darker where nobody looked, tinted where somebody did. */
static void blend(unsigned char *to, const unsigned char *from, double v) {
    const double grey = 0.299 * from[0] + 0.587 * from[1] + 0.114 * from[2], share = 0.45 + 0.25 * v;
    unsigned char colour[3];
    draw_colour(v, colour);
    for (int k = 0; k < 3; k++) to[k] = (unsigned char)lround(grey + share * (colour[k] - grey));
}
static void bar_row(unsigned char *to, int width, double v) {
    enum { EDGE = 2 };
    unsigned char colour[3];
    draw_colour(v, colour);
    for (int x = 0; x < width; x++)
        if (x < EDGE) {
            memset(to + 3 * x, 255, 3);
        } else {
            memcpy(to + 3 * x, colour, 3);
        }
}
int draw_heat(struct picture *out, const struct picture *p, const float *heat, int columns, int rows, double *top,
              struct err *e) {
    *out = (struct picture){ 0 };
    if (columns < 1 || rows < 1) return err_set(e, STATUS_FORMAT, "a heat map of %d x %d", columns, rows);
    if (highest(heat, (size_t)columns * (size_t)rows, top, e)) return STATUS_NOMEM;
    const int bar = between(10, p->width / 32, 24);
    if (picture_init(out, p->width + bar, p->height, e)) return e ? e->code : STATUS_NOMEM;
    for (int y = 0; y < p->height; y++) {
        const struct lerp row = lerp_at(y, p->height, rows);
        const float *above = heat + (size_t)row.a * (size_t)columns, *below = heat + (size_t)row.b * (size_t)columns;
        unsigned char *to = out->rgb + 3 * (size_t)y * (size_t)out->width;
        for (int x = 0; x < p->width; x++) {
            const struct lerp at = lerp_at(x, p->width, columns);
            const double a = above[at.a] + at.share * (above[at.b] - above[at.a]);
            const double b = below[at.a] + at.share * (below[at.b] - below[at.a]);
            const double v = a + row.share * (b - a);
            blend(to + 3 * x, p->rgb + 3 * ((size_t)y * (size_t)p->width + (size_t)x),
                  *top > 0 ? fmin(v / *top, 1) : 0);
        }
        bar_row(to + 3 * (size_t)p->width, bar, 1 - (y + 0.5) / p->height);
    }
    return 0;
}

/* ---- boxes ---- */
/* Okabe and Ito's colours, which the colour-blind can tell apart, those first that stand out on photographs. */
static const unsigned char palette[][3] = { { 230, 159, 0 }, { 86, 180, 233 },  { 0, 158, 115 }, { 240, 228, 66 },
                                            { 213, 94, 0 },  { 204, 121, 167 }, { 0, 114, 178 } };
static const unsigned char black[3] = { 0, 0, 0 };
struct rect { /* the right and lower edges are outside */
    int x1, y1, x2, y2;
};
static void fill(struct picture *p, struct rect r, const unsigned char colour[3]) {
    r = (struct rect){ between(0, r.x1, p->width), between(0, r.y1, p->height), between(0, r.x2, p->width),
                       between(0, r.y2, p->height) };
    for (int y = r.y1; y < r.y2; y++)
        for (int x = r.x1; x < r.x2; x++) memcpy(p->rgb + 3 * ((size_t)y * (size_t)p->width + (size_t)x), colour, 3);
}
static void frame(struct picture *p, struct rect r, int line, const unsigned char colour[3]) {
    fill(p, (struct rect){ r.x1, r.y1, r.x2, r.y1 + line }, colour);
    fill(p, (struct rect){ r.x1, r.y2 - line, r.x2, r.y2 }, colour);
    fill(p, (struct rect){ r.x1, r.y1, r.x1 + line, r.y2 }, colour);
    fill(p, (struct rect){ r.x2 - line, r.y1, r.x2, r.y2 }, colour);
}
static struct rect inside(struct rect r, int by) { return (struct rect){ r.x1 + by, r.y1 + by, r.x2 - by, r.y2 - by }; }
/* Digits of 3 x 5 cells, a row in three bits from the top. */
static void digits(struct picture *p, int x, int y, int cell, const char *text) {
    static const unsigned short shape[10] = { 075557, 026227, 071747, 071717, 055711,
                                              074717, 074757, 071111, 075757, 075717 };
    for (; *text; text++, x += 4 * cell)
        for (int i = 0; i < 15; i++)
            if (shape[*text - '0'] >> (14 - i) & 1)
                fill(
                    p,
                    (struct rect){ x + i % 3 * cell, y + i / 3 * cell, x + (i % 3 + 1) * cell, y + (i / 3 + 1) * cell },
                    black);
}
/* The number on its own ground, in the upper left corner of the box, moved into the picture where it would leave it. */
static void tag(struct picture *p, int x, int y, int number, const unsigned char colour[3]) {
    char text[12];
    const int cell = between(3, (p->width < p->height ? p->width : p->height) / 120, 8);
    snprintf(text, sizeof text, "%d", number);
    const int width = ((int)strlen(text) * 4 + 1) * cell, height = 7 * cell;
    x = between(0, x, p->width - width), y = between(0, y, p->height - height);
    fill(p, (struct rect){ x, y, x + width, y + height }, colour);
    digits(p, x + cell, y + cell, cell, text);
}
void draw_boxes(struct picture *p, const struct boxes *b) {
    const int line = between(2, (p->width < p->height ? p->width : p->height) / 160, 8);
    for (int i = 0; i < b->n; i++) {
        const struct box *at = &b->box[i];
        const unsigned char *colour = palette[(size_t)(at->number - 1) % (sizeof palette / sizeof *palette)];
        const struct rect r = { (int)lround(at->x1 * p->width / BOX_SCALE), (int)lround(at->y1 * p->height / BOX_SCALE),
                                (int)lround(at->x2 * p->width / BOX_SCALE),
                                (int)lround(at->y2 * p->height / BOX_SCALE) };
        frame(p, inside(r, -1), line + 2, black); /* a dark rim: seen on any ground */
        frame(p, r, line, colour);
        if (b->n > 1) tag(p, r.x1, r.y1, at->number, colour);
    }
}
