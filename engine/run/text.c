#include "text.h"
#include "base/utf8.h"
#include <string.h>

enum { HELD_MAX = 1 << 20 };

void text_init(struct text *t, const char *const *stop, int stops) {
    *t = (struct text){ .stop = stop, .stops = stops < TEXT_STOPS ? stops : TEXT_STOPS, .matched = -1 };
    buf_init(&t->held, HELD_MAX);
}
void text_fini(struct text *t) { buf_fini(&t->held); }

/* Moves the first n held bytes to out. */
static void show(struct text *t, size_t n, struct buf *out) {
    const size_t from = out->n;
    t->replaced += utf8_repair(out, buf_text(&t->held), n);
    t->chars += utf8_count(buf_text(out) + from, out->n - from);
    buf_drop(&t->held, n);
}
/* Where the earliest complete stop string begins, or -1. */
static long complete_stop(struct text *t) {
    long first = -1;
    for (int i = 0; i < t->stops; i++) {
        const char *at = t->held.n ? memmem(t->held.p, t->held.n, t->stop[i], strlen(t->stop[i])) : NULL;
        if (!at || (first >= 0 && at - t->held.p >= first)) continue;
        first = at - t->held.p;
        t->matched = i;
    }
    return first;
}
/* Length of the longest end of the held bytes that could still become a stop string. */
static size_t open_stop(const struct text *t) {
    size_t longest = 0;
    for (int i = 0; i < t->stops; i++) {
        const size_t len = strlen(t->stop[i]);
        for (size_t k = len - 1; k > longest; k--)
            if (k <= t->held.n && !memcmp(t->held.p + t->held.n - k, t->stop[i], k)) longest = k;
    }
    return longest;
}
bool text_feed(struct text *t, const char *bytes, size_t n, struct buf *out) {
    buf_reset(out);
    buf_add(&t->held, bytes, n);
    const long stop = complete_stop(t);
    if (stop >= 0) {
        show(t, (size_t)stop, out);
        buf_reset(&t->held);
        return true;
    }
    const size_t keep = open_stop(t), ready = t->held.n - keep;
    show(t, ready - utf8_tail(buf_text(&t->held), ready), out);
    return false;
}
void text_flush(struct text *t, struct buf *out) {
    buf_reset(out);
    show(t, t->held.n, out);
}
