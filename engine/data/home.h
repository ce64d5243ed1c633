/* home.h - where a user's files lie, as the environment of whoever asks says. */
#ifndef JAEDA_DATA_HOME_H
#define JAEDA_DATA_HOME_H
#include <stdbool.h>
#include <stddef.h>

/* The variables that say so, and PWD: where relative paths begin; NULL ends the list. */
extern const char *const home_variables[];
/* From now on this thread answers by these lines "NAME=value\n..." instead of its process' environment; borrowed until
 * the next call; NULL: the process' again. */
void home_use(const char *lines);
/* Copies a variable; false: it is unset, empty, or does not fit. */
bool home_variable(const char *name, char *out, size_t room);
/* p (n bytes) with a leading ~ or ~/ replaced, made absolute when this thread was told a PWD; false: it does not fit, or there is no home. */
bool home_expand(const char *p, size_t n, char *out, size_t room);
/* $XDG_CACHE_HOME where it is an absolute path, else ~/.cache. */
bool home_cache(char *out, size_t room);

#endif
