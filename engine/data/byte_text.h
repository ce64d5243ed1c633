/* byte_text.h - the printable alphabet in which byte-level BPE vocabularies write bytes (GPT-2). Pure. */
#ifndef JAEDA_DATA_BYTE_TEXT_H
#define JAEDA_DATA_BYTE_TEXT_H
#include <stddef.h>

/* The bytes that the text stands for, into out (at least n bytes); their number. (size_t)-1: some character is not of
 * the alphabet, or the text is no UTF-8. */
size_t byte_text_decode(const char *text, size_t n, char *out);

#endif
