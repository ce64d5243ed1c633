/* spm.h - SentencePiece's BPE model (Kudo, Richardson 2018), in which pieces have scores, as merges of token ids. */
#ifndef JAEDA_DATA_SPM_H
#define JAEDA_DATA_SPM_H
#include "tokenizer_parts.h"

/* Every way to make a piece of two others becomes a merge; the better score ranks first, equal scores rank equal.
 * t's table has been set from the same list. */
int spm_add_merges(struct tokenizer *t, const struct token *list, size_t n, const char *label, struct err *e);

#endif
