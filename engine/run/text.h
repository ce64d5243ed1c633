/* text.h - from token bytes to text that may be shown: stop strings and unfinished code points are held back. Pure. */
#ifndef JAEDA_RUN_TEXT_H
#define JAEDA_RUN_TEXT_H
#include "base/buf.h"
#include <stdint.h>

enum { TEXT_STOPS = 16 };
struct text {
    struct buf held;          /* bytes not shown yet */
    const char *const *stop;  /* borrowed; stops <= TEXT_STOPS, none empty */
    int stops, matched;       /* matched: index of the stop string that ended the text, -1: none */
    uint64_t chars, replaced; /* code points shown; U+FFFD put in place of invalid bytes */
};
void text_init(struct text *t, const char *const *stop, int stops);
void text_fini(struct text *t);
/* Takes the bytes of one token and appends to out (reset first) what may be shown now. true: a stop string was completed;
 * the text before it is in out and nothing follows. Without memory out->failed or held.failed is set. */
bool text_feed(struct text *t, const char *bytes, size_t n, struct buf *out);
/* The end of a text that no stop string ended: what was held back, an unfinished code point as U+FFFD. */
void text_flush(struct text *t, struct buf *out);

#endif
