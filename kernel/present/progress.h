/* progress.h - one display that is updated in place while something runs, at most four times a second, and that ends as
 * the result (the last update replaces the bar). Executor thread. */
#ifndef JAEDA_PRESENT_PROGRESS_H
#define JAEDA_PRESENT_PROGRESS_H
#include "kernel/out.h"

enum { PROGRESS_SAMPLES = 10 };
struct progress {
    struct out *o;
    char id[48]; /* empty: nothing was shown yet */
    double last; /* monotonic seconds of the last update */
    struct {
        double at, done;
    } sample[PROGRESS_SAMPLES]; /* a window for the rate */
    int samples;
    char what[96];
};
void progress_init(struct progress *p, struct out *o);
/* done and total in unit ("B" is shown as MiB); total 0: unknown. */
void progress_update(struct progress *p, const char *what, double done, double total, const char *unit);
/* Replaces the bar (or shows, when there was none) by the result; steals bundle. */
void progress_end(struct progress *p, json_t *bundle);
bool progress_shown(const struct progress *p);

/* The text of a bar, pure: "▕██████    ▏ 62 %  58.1/93.8 MiB  1.20 GiB/s  ETA 1 s". rate per second, 0: unknown. */
void progress_text(struct buf *out, double done, double total, const char *unit, double rate);

#endif
