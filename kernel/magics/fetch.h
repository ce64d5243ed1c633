/* fetch.h - a file behind an http(s): URL, in memory. The thread whose turn it is; others run meanwhile. */
#ifndef JAEDA_MAGICS_FETCH_H
#define JAEDA_MAGICS_FETCH_H
#include "kernel/out.h"

/* Appends what the server sends to out, whose maximum is the limit; type: its content type, "" when it told none. Follows
 * redirects to http and https; ends when the user interrupts, when nothing comes for long, at a status of 400 or above. A
 * download of more than a second shows a bar. name is for people. */
int fetch_url(struct out *o, const char *url, const char *name, struct buf *out, char type[64], struct err *e);

#endif
