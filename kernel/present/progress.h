/* progress.h - one display that is updated in place while something runs, at most four times a second, and that ends as
 * the result (the last update replaces the bar). A widget with a Stop button where the front end shows widgets, text
 * elsewhere. The thread of the cell. */
#ifndef JAEDA_PRESENT_PROGRESS_H
#define JAEDA_PRESENT_PROGRESS_H
#include "widget.h"

enum { PROGRESS_SAMPLES = 10 };
struct progress {
    struct out *o;
    char id[48]; /* empty: nothing was shown yet */
    struct widget widget;
    bool at_once;
    double begun, last; /* monotonic seconds; last: of the last update, -1: none */
    struct {
        double at, done;
    } sample[PROGRESS_SAMPLES]; /* a window for the rate */
    int samples;
    char what[96];
};
void progress_init(struct progress *p, struct out *o);
/* done and total in unit ("B" is shown as MiB); total 0: unknown. */
void progress_update(struct progress *p, const char *what, double done, double total, const char *unit);
/* Is the bar a widget, or will it be with the next update? Then that is shown at once: for a bar that must stand above what
 * comes next. */
bool progress_live(struct progress *p);
/* Replaces the bar (or shows, when there was none) by the result; steals bundle. */
void progress_end(struct progress *p, json_t *bundle);
bool progress_shown(const struct progress *p);

/* The text of a bar, pure: "▕██████    ▏ 62 %  58.1/93.8 MiB  1.20 GiB/s  ETA 1 s". rate per second, 0: unknown. */
void progress_text(struct buf *out, double done, double total, const char *unit, double rate);

#endif
