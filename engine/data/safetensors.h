/* safetensors.h - the header of a safetensors file (huggingface/safetensors, safetensors/src/tensor.rs), read with
 * bounds on everything: no holes, no overlap, and an end that is the file's. Pure but for file reads. */
#ifndef JAEDA_DATA_SAFETENSORS_H
#define JAEDA_DATA_SAFETENSORS_H
#include "checkpoint.h"

/* head: the file's first n bytes, at least its whole header; file_bytes: the whole file's size. label names it in
 * errors. */
int safetensors_parse(struct tensor_list *s, const void *head, size_t n, uint64_t file_bytes, const char *label,
                      struct err *e);
int safetensors_read(struct tensor_list *s, int fd, uint64_t file_bytes, const char *label, struct err *e);

#endif
