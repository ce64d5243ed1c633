/* secret.h - values that must be kept nowhere: what is recorded passes through here. Any thread. */
#ifndef JAEDA_PRESENT_SECRET_H
#define JAEDA_PRESENT_SECRET_H
#include "base/buf.h"

/* Remembers a value for the life of the process. What is shorter than 6 bytes is no secret but a word such as "none". */
void secret_add(const char *value);
/* The same for a value whose name says that it is one (format_is_secret_name). */
void secret_named(const char *name, const char *value);
/* All such variables of the environment. Not while another thread changes it. */
void secret_environment(void);
/* Appends text with these values as "<hidden>" and access keys cut as format_redacted does. */
void secret_redact(struct buf *out, const char *s, size_t n);

#endif
