/* home.h - where a user's files lie. Private to the data layer. */
#ifndef JAEDA_DATA_HOME_H
#define JAEDA_DATA_HOME_H
#include <stdbool.h>
#include <stddef.h>

/* p (n bytes) with a leading ~ or ~/ replaced; false: it does not fit, or there is no home. */
bool home_expand(const char *p, size_t n, char *out, size_t room);
/* $XDG_CACHE_HOME where it is an absolute path, else ~/.cache. */
bool home_cache(char *out, size_t room);

#endif
