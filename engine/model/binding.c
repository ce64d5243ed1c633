#include "binding.h"
#include <string.h>

enum dtype binding_want(enum dtype want, int cols) {
    const struct dtype_info *to = dtype_info(want);
    return cols == 1 || (to && cols % to->block) ? DTYPE_NONE : want;
}
void binding_imagine(struct weight *w, int rows, enum dtype kind) {
    const struct dtype_info *dt = dtype_info(kind);
    w->dt = !dt ? DTYPE_F16 : dt->block > 1 && w->cols == 1 ? DTYPE_F32 : dt->dt;
    w->bytes = dtype_bytes(w->dt, (size_t)rows * (size_t)w->cols);
}
int binding_take(struct weight *w, const struct tensor *t, int rows, struct err *e) {
    const bool vector = w->cols == 1;
    const uint64_t want[4] = { (uint64_t)(vector ? rows : w->cols), (uint64_t)(vector ? 1 : rows), 1, 1 };
    const bool convolution = t->dims == 4 && t->dim[3] == want[1] && t->dim[0] * t->dim[1] * t->dim[2] == want[0];
    const struct dtype_info *dt = dtype_info(t->dt);
    w->dt = t->dt;
    w->file = t->file;
    w->offset = t->offset;
    w->bytes = t->bytes;
    if (memcmp(t->dim, want, sizeof want) != 0 && !convolution)
        return err_set(e, STATUS_FORMAT, "%s: %llux%llu in the file, %dx%d by its configuration", w->name,
                       (unsigned long long)t->dim[1], (unsigned long long)t->dim[0], (int)want[1], (int)want[0]);
    if (!dt)
        return err_set(e, STATUS_FORMAT, "%s has dtype %s, which no weight of a model here can have", w->name,
                       t->dt_name);
    const size_t bytes = dtype_bytes(t->dt, (size_t)rows * (size_t)w->cols);
    if (t->bytes != bytes || !bytes)
        return err_set(e, STATUS_FORMAT, "%s: %llu bytes do not hold %dx%d numbers of %s", w->name,
                       (unsigned long long)t->bytes, rows, w->cols, dt->name);
    return 0;
}
