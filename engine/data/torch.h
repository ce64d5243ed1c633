/* torch.h - what torch.save wrote: a zip archive (since torch 1.6), or the legacy stream before that. Only the pickle is
 * read; where each tensor's bytes lie follows from it, so that an optimiser's state costs nothing. */
#ifndef JAEDA_DATA_TORCH_H
#define JAEDA_DATA_TORCH_H
#include "checkpoint.h"

/* The tensors of the state dict. In a training checkpoint that is what stands under "model", "state_dict" or
 * "model_state_dict"; else every tensor, its name the keys that lead to it, joined with dots. A tensor that is no plain row-major
 * array has dtype "strided". label names the file in errors. On failure s is empty; else tensor_list_fini. */
int torch_read(struct tensor_list *s, int fd, uint64_t file_bytes, const char *label, struct err *e);

#endif
