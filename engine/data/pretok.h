/* pretok.h - cutting text into the pieces within which BPE merges. Immutable after opening; any thread may split. */
#ifndef JAEDA_DATA_PRETOK_H
#define JAEDA_DATA_PRETOK_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

struct pretok;
/* By the value of tokenizer.ggml.pre. An unknown one is named together with the known ones. */
int pretok_open(struct pretok **out, const char *name, size_t n, struct err *e);
void pretok_close(struct pretok *p);
/* A piece that is a token as a whole is taken without merging (Llama 3). */
bool pretok_whole_first(const struct pretok *p);
bool pretok_adds_bos(const struct pretok *p); /* where the file itself does not say */
/* Calls piece for each piece of text, in order; together they are the text. Bytes that are no UTF-8 become pieces of
 * their own. Stops at the first return other than 0 and returns it. */
int pretok_split(const struct pretok *p, const char *text, size_t n, int (*piece)(void *, const char *, size_t),
                 void *with, struct err *e);

#endif
