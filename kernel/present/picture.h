/* picture.h - pictures as results: RGB of 8 bits, rows from the top, and the MIME bundle that shows them. Pure. */
#ifndef JAEDA_PRESENT_PICTURE_H
#define JAEDA_PRESENT_PICTURE_H
#include "base/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { PICTURE_SIDE_MAX = 8192 };
struct picture {
    unsigned char *rgb; /* 3 * width * height bytes; owned */
    int width, height;
};
/* Zeroed pixels; on failure p is empty. */
int picture_init(struct picture *p, int width, int height, struct err *e);
/* A copy of n bytes, which must be those of so many pixels. */
int picture_copy(struct picture *p, const void *rgb, size_t n, int width, int height, struct err *e);
void picture_fini(struct picture *p);

/* image/jpeg where exact is false; image/png where it is true, unless that would be large. text: one line that stands
 * for the picture where none can be shown. *metadata tells front ends how large it is. The caller owns both; NULL and e. */
json_t *picture_bundle(const struct picture *p, bool exact, const char *text, json_t **metadata, struct err *e);

#endif
