/* tokenizer_json.h - private to tokenizer_json*.c: reading the steps that a tokenizer.json describes. */
#ifndef JAEDA_DATA_TOKENIZER_JSON_H
#define JAEDA_DATA_TOKENIZER_JSON_H
#include "tokenizer_parts.h"
#include <jansson.h>

/* Each takes its part of the file (NULL or JSON null: none) and sets what it says in t. What the file asks for and this
 * tokeniser does not have is an error that names it. label names the file. */
int tokenizer_json_normalizer(struct tokenizer *t, const json_t *j, const char *label, struct err *e);
int tokenizer_json_pretok(struct tokenizer *t, const json_t *j, const char *label, struct err *e);  /* bytewise too */
int tokenizer_json_decoder(struct tokenizer *t, const json_t *j, const char *label, struct err *e); /* marks */

/* The text of a member, "" when it is none. */
const char *tokenizer_json_text(const json_t *j, const char *key);
/* A member that is a JSON text, or an object that has it as "content" (tokenizer_config.json). NULL: it is neither. */
const char *tokenizer_json_content(const json_t *j, const char *key);
json_t *tokenizer_json_parse(const char *text, size_t n, const char *label, struct err *e); /* NULL: it failed */

#endif
