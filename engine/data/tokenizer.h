/* tokenizer.h - byte-level BPE (GPT-2 family) and SentencePiece BPE (Llama), from a GGUF, a tokenizer.json or a
 * tokenizer.model. Immutable after opening, so any thread may use it. */
#ifndef JAEDA_DATA_TOKENIZER_H
#define JAEDA_DATA_TOKENIZER_H
#include "gguf.h"

struct ids {
    int *v;
    size_t n, cap;
}; /* zero-initialise; ids_fini frees */
void ids_fini(struct ids *ids);
int ids_add(struct ids *ids, int id); /* -1: no memory */

struct tokenizer;
int tokenizer_from_gguf(struct tokenizer **out, const struct gguf *g, struct err *e);
/* tokenizer.json of a folder, else its tokenizer.model; tokenizer_config.json says about BOS, EOS and the chat template.
 * STATUS_NOTFOUND when there is neither. */
int tokenizer_from_folder(struct tokenizer **out, const char *folder, struct err *e);
/* From the text of a tokenizer.json; from the bytes of a SentencePiece tokenizer.model. label names the file in errors. */
int tokenizer_from_json(struct tokenizer **out, const char *text, size_t n, const char *label, struct err *e);
int tokenizer_from_model(struct tokenizer **out, const void *bytes, size_t n, const char *label, struct err *e);
/* For shapes without files (dummy weights): ids 0..255 are the bytes, all others up to vocab are written as "·". */
int tokenizer_from_bytes(struct tokenizer **out, int vocab, struct err *e);
void tokenizer_close(struct tokenizer *t);
/* Appends the ids of text (any bytes; valid UTF-8 gives the reference's ids). special: control tokens written in the
 * text ("<|im_end|>") become their ids; otherwise they are plain characters. No BOS is added here. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool special, struct ids *out,
                     struct err *e);
/* The bytes of one token (not NUL-terminated, valid as long as t); a part of a code point is normal. NULL: no such id. */
const char *tokenizer_bytes(const struct tokenizer *t, int id, size_t *n);
bool tokenizer_is_control(const struct tokenizer *t, int id);
int tokenizer_find(const struct tokenizer *t, const char *text); /* id of exactly this token text, -1: none */
int tokenizer_vocab(const struct tokenizer *t);
int tokenizer_bos(const struct tokenizer *t); /* -1: the file asks for none */
int tokenizer_eos(const struct tokenizer *t); /* -1: unknown */
/* The jinja text of its chat template; "" when it has none. Valid as long as t. */
const char *tokenizer_chat_template(const struct tokenizer *t, size_t *n);

#endif
