/* json_text.h - JSON that nobody vouches for, read by jansson within bounds. Private to the data layer. */
#ifndef JAEDA_DATA_JSON_TEXT_H
#define JAEDA_DATA_JSON_TEXT_H
#include "base/err.h"
#include <jansson.h>
#include <stdint.h>

/* The text's root, which must be an object, with no key twice; json_decref it. Text whose tree would take more than a
 * few hundred MB is refused before it is built. label names the file in errors. */
int json_text_parse(json_t **out, const char *text, size_t n, const char *label, struct err *e);
/* The same from a file of at most max bytes. STATUS_NOTFOUND when there is none. */
int json_text_file(json_t **out, const char *path, size_t max, struct err *e);
/* A whole regular file of at most max bytes, one NUL added (mem_free it). STATUS_NOTFOUND when there is none. */
int json_text_read(char **out, size_t *n, const char *path, size_t max, struct err *e);
/* Reads exactly n bytes at an offset of a file. */
int json_text_pread(int fd, void *out, size_t n, uint64_t at, const char *label, struct err *e);
/* The end of a long path, for an error text. */
const char *json_text_label(const char *path);
/* Opens a regular file for reading, without ever waiting (a named pipe is an error). -1 and an error, else fd and size. */
int json_text_open(const char *path, uint64_t *bytes, struct err *e);

#endif
