/* binding.h - what every binding of a weight to a tensor shares. Private to model/. */
#ifndef JAEDA_MODEL_BINDING_H
#define JAEDA_MODEL_BINDING_H
#include "compute/op.h"
#include "data/checkpoint.h"

/* w (name, rows, cols and row map are set) takes place and dtype of t, which has `rows` rows of w->cols numbers; a convolution's [rows, c, y, x]
 * counts as [rows, c * y * x]. An error names the tensor. */
int binding_take(struct weight *w, const struct tensor *t, int rows, struct err *e);
/* What it would be, were there a file whose weights have dtype dt (DTYPE_NONE: f16). */
void binding_imagine(struct weight *w, int rows, enum dtype dt);
/* Vectors stay as they are, and so does a matrix whose columns do not divide into the groups of a quantised form. */
enum dtype binding_want(enum dtype want, int cols);

#endif
