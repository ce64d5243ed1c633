#include "weight.h"

enum dtype weight_form(const struct weight *w) {
    const bool plain = w->dt == DTYPE_F32 || w->dt == DTYPE_F16 || w->dt == DTYPE_BF16;
    const enum dtype own = plain ? w->dt : block_form(w->dt);
    if (w->cols == 1) return plain ? DTYPE_F32 : DTYPE_NONE;
    if (own == DTYPE_NONE || w->cols % dtype_info(w->dt)->block) return DTYPE_NONE;
    switch (w->want) {
    case DTYPE_F32:
    case DTYPE_F16: return w->want;
    case DTYPE_BF16: return plain ? w->want : own;
    case DTYPE_Q8_0:
    case DTYPE_Q4_0: return plain && w->cols % QBLOCK == 0 ? w->want : own;
    case DTYPE_NONE: return own;
    default: return DTYPE_NONE;
    }
}
size_t weight_source_row(const struct weight *w, int r) {
    if (w->pairs) { /* rotate-half row j * half + i of a head is pairwise row 2i + j */
        const int half = w->pairs / 2, in = r % w->pairs;
        r = r - in + in % half * 2 + in / half;
    }
    return (size_t)w->first + (size_t)(r / w->run) * (size_t)w->step + (size_t)(r % w->run);
}
int weight_check(const struct weight *w, struct err *e) {
    const size_t row_bytes = dtype_bytes(w->dt, (size_t)w->cols);
    size_t last = 0;
    if (!w->packed) return err_set(e, STATUS_INVALID, "%s: not placed", w->name);
    for (int r = 0; r < w->rows; r++) {
        const size_t at = weight_source_row(w, r);
        if (at > last) last = at;
    }
    if ((last + 1) * row_bytes > w->bytes)
        return err_set(e, STATUS_FORMAT, "%s: its tensor has %llu bytes, row %zu of %zu bytes lies beyond", w->name,
                       (unsigned long long)w->bytes, last, row_bytes);
    return STATUS_OK;
}
