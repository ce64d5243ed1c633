/* fit_table.h - what %fit shows of one model. Pure. */
#ifndef JAEDA_MAGICS_FIT_TABLE_H
#define JAEDA_MAGICS_FIT_TABLE_H
#include "engine/engine.h"
#include "kernel/present/table.h"

enum { FIT_LIST = 16 };
/* The lists that the engine was asked for, in its order. Dtypes from shown on are in no table: they say what would fit. */
struct fit_lists {
    const char *dtype[FIT_LIST], *machine[FIT_LIST];
    int context[FIT_LIST], batch[FIT_LIST];
    int dtypes, shown, machines, contexts, batches;
    struct engine_machine known[FIT_LIST]; /* what names in machine may point into */
};
/* Of one token's keys and values at fp16, by the shape. */
double fit_kv_bytes(const struct engine_model *m);
/* Appends the model's line, its tables, and for a machine where nothing fits what would. fit->rows is what l asks for. */
void fit_section(struct doc *d, const struct engine_fit *fit, const struct fit_lists *l);

#endif
