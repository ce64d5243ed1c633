/* boxes.h - boxes in an answer of MiniGPT-v2: "<p>a dog</p> {<10><20><50><60>}<delim>{<60><20><90><60>}". Pure.
 * Corners are whole numbers from 0 to 100 of the picture's width and height. Read tolerantly: blanks and <unk> anywhere,
 * a missing </p> or }, numbers beyond the picture, corners in the wrong order. */
#ifndef JAEDA_PRESENT_BOXES_H
#define JAEDA_PRESENT_BOXES_H
#include <stddef.h>

enum { BOX_SCALE = 100, BOXES_MAX = 64 };
struct box {
    double x1, y1, x2, y2; /* x1 < x2, y1 < y2, all from 0 to BOX_SCALE */
    int number;            /* from 1: of its phrase, else of its own */
    const char *phrase;    /* in the text, len bytes; NULL: it has none */
    size_t len;
};
struct boxes {
    struct box box[BOXES_MAX];
    int n, numbers; /* numbers: the highest */
};
/* Finds at most BOXES_MAX; the result points into text. */
void boxes_find(struct boxes *out, const char *text, size_t n);

#endif
