/* repeat.h - the cell that does a recorded run again. Pure. */
#ifndef JAEDA_MAGICS_REPEAT_H
#define JAEDA_MAGICS_REPEAT_H
#include "base/buf.h"
#include <jansson.h>

/* run: as results_get gives it. "%load ...", then the magic with every option that decides the text or the numbers. */
void repeat_text(const json_t *run, struct buf *out);
/* Appends " --name word", quoted so that words_split reads it back as it is. */
void repeat_option(struct buf *out, const char *name, const char *word);

#endif
