/* weight.h - what every backend asks of a weight's descriptor. Private to compute/. */
#ifndef JAEDA_COMPUTE_WEIGHT_H
#define JAEDA_COMPUTE_WEIGHT_H
#include "compute/backend.h"
#include "compute/quant.h"
#ifdef __cplusplus
extern "C" {
#endif

/* What it is packed as: F32, F16, BF16 or a quantised form; a vector: F32. DTYPE_NONE: not supported. */
enum dtype weight_form(const struct weight *w);
size_t weight_source_row(const struct weight *w, int r); /* of its tensor, for row r here */
/* Has it a place, and do its rows lie within its tensor? */
int weight_check(const struct weight *w, struct err *e);

#ifdef __cplusplus
}
#endif
#endif
