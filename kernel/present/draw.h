/* draw.h - what was seen in a picture, drawn over it: heat and boxes. Pure. */
#ifndef JAEDA_PRESENT_DRAW_H
#define JAEDA_PRESENT_DRAW_H
#include "boxes.h"
#include "picture.h"

/* A new picture: in grey, under the colours of heat (columns * rows values from the top, none below 0), with a bar of the
 * colours at its right, low at the bottom. The grid spans the whole picture, values lie at the middle of its cells and
 * change evenly between them. *top: the value that the brightest colour stands for, of a cell; of the cells 2 % at most
 * are above it, so that a single one does not leave all others dark. */
int draw_heat(struct picture *out, const struct picture *p, const float *heat, int columns, int rows, double *top,
              struct err *e);
/* Draws over p. A box of a phrase bears the phrase's number when there are several boxes. */
void draw_boxes(struct picture *p, const struct boxes *b);
/* The colour of a value from 0 to 1: dark violet, red, orange, light yellow, ever brighter. */
void draw_colour(double v, unsigned char rgb[3]);

#endif
