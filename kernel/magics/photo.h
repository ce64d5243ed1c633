/* photo.h - picture files as people name them: a path, a file: or an http(s): URL. They are read here and decoded in the
 * engine. The thread whose turn it is. */
#ifndef JAEDA_MAGICS_PHOTO_H
#define JAEDA_MAGICS_PHOTO_H
#include "kernel/out.h"

enum { PHOTO_BYTES_MAX = 64 << 20 };
struct photo {
    int refs;
    char name[112];     /* for people: "photo.jpg"; UTF-8 */
    char source[4096];  /* absolute path or URL, for reading it again */
    const char *format; /* by its first bytes: "JPEG", "PNG", "WebP" */
    char *bytes;
    size_t n;
};
/* Waits for disks and servers; the user can interrupt. NULL and e; else photo_drop it. */
struct photo *photo_read(struct out *o, const char *where, struct err *e);
struct photo *photo_hold(struct photo *p);                     /* another reference; NULL stays NULL */
void photo_drop(struct photo *p);                              /* NULL is fine */
bool photo_same(const struct photo *a, const struct photo *b); /* by content; NULL is the same as NULL */

#endif
