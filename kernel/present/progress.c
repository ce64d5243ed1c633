#include "progress.h"
#include "format.h"
#include "table.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { BAR = 20 };
static const double WIDGET_AFTER_S = 0.5; /* what takes less is not worth a Stop button */

struct state {
    double done, total, rate; /* done lies in [0, total] when total is known */
    const char *unit;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
/* "58.1/93.8 MiB": the unit is the total's. */
static void amount(struct buf *out, double done, double total, const char *unit) {
    char a[32], b[32];
    if (strcmp(unit, "B")) {
        format_count(a, (uint64_t)done);
        format_count(b, (uint64_t)total);
        buf_printf(out, total > 0 ? "%s/%s %s" : "%s%.0s %s", a, b, unit);
        return;
    }
    const double scale = total > 0 ? total : done;
    const int power = scale >= 1024.0 * 1024 * 1000 ? 3 : 2;
    format_number(a, done / pow(1024, power));
    format_number(b, total / pow(1024, power));
    buf_printf(out, total > 0 ? "%s/%s %s" : "%s%.0s %s", a, b, power == 3 ? "GiB" : "MiB");
}
/* "62 %  58.1/93.8 MiB  1.20 GiB/s  ETA 1 s", with between in place of the blanks. */
static void figures(struct buf *out, const struct state *s, const char *between) {
    if (s->total > 0) buf_printf(out, "%.0f %%%s", floor(s->done / s->total * 100), between);
    amount(out, s->done, s->total, s->unit);
    if (!(s->rate > 0) || !strcmp(s->unit, "run")) return; /* a few runs make no rate */
    char text[32];
    if (strcmp(s->unit, "B")) {
        format_number(text, s->rate);
        buf_printf(out, "%s%s %s/s", between, text, s->unit);
    } else {
        format_bytes(text, s->rate);
        buf_printf(out, "%s%s/s", between, text);
    }
    if (s->total <= 0) return;
    const double left = ceil((s->total - s->done) / s->rate);
    if (left < 120)
        snprintf(text, sizeof text, "%.0f s", left);
    else
        format_seconds(text, left);
    buf_printf(out, "%sETA %s", between, text);
}
static struct state state_of(double done, double total, const char *unit, double rate) {
    return (struct state){ !(done >= 0) ? 0 : total > 0 && done > total ? total : done, total, rate, unit };
}
void progress_text(struct buf *out, double done, double total, const char *unit, double rate) {
    const struct state s = state_of(done, total, unit, rate);
    if (total > 0) {
        const int full = (int)(s.done / total * BAR);
        buf_puts(out, "▕");
        for (int i = 0; i < BAR; i++) buf_puts(out, i < full ? "█" : " ");
        buf_puts(out, "▏ ");
    }
    figures(out, &s, "  ");
}

void progress_init(struct progress *p, struct out *o) { *p = (struct progress){ .o = o, .last = -1, .begun = now() }; }
bool progress_shown(const struct progress *p) { return p->id[0]; }

static double window_rate(struct progress *p, double at, double done) {
    if (p->samples == PROGRESS_SAMPLES) {
        memmove(p->sample, p->sample + 1, sizeof p->sample - sizeof *p->sample);
        p->samples--;
    }
    p->sample[p->samples].at = at;
    p->sample[p->samples++].done = done;
    const double span = at - p->sample[0].at;
    return span > 0.05 ? (done - p->sample[0].done) / span : 0;
}
/* Steals bundle. */
static void show(struct progress *p, json_t *bundle) {
    const bool update = progress_shown(p);
    if (!bundle) return;
    if (!update) out_new_display_id(p->o, p->id);
    out_display(p->o, bundle, NULL, p->id, update);
}
/* As a widget, or as text where there are none. */
static void draw(struct progress *p, const char *what, const struct state *s) {
    const bool live = widget_shown(&p->widget), known = s->total > 0 || s->done > 0;
    json_t *bundle = NULL;
    struct buf text;
    buf_init(&text, 1024);
    if (!live) {
        buf_printf(&text, "%s  ", what);
        if (known) progress_text(&text, s->done, s->total, s->unit, s->rate);
        bundle = doc_plain(buf_text(&text), text.n);
        buf_reset(&text);
    }
    if (live || (!progress_shown(p) && bundle && widget_open(&p->widget, p->o))) {
        buf_printf(&text, "%s%s", what, known ? " · " : "");
        if (known) figures(&text, s, " · ");
        widget_set(&p->widget, s->total > 0 ? s->done / s->total : 0, buf_text(&text), text.n);
        if (!live) json_object_set_new(bundle, widget_mime, widget_view(&p->widget));
    }
    show(p, bundle);
    buf_fini(&text);
}
bool progress_live(struct progress *p) {
    if (widget_shown(&p->widget)) return true;
    p->at_once = !progress_shown(p) && out_widgets(p->o);
    return p->at_once;
}
void progress_update(struct progress *p, const char *what, double done, double total, const char *unit) {
    const double at = now();
    if (strncmp(p->what, what, sizeof p->what - 1)) { /* another phase: another rate */
        snprintf(p->what, sizeof p->what, "%s", what);
        p->samples = 0;
    }
    if (p->last >= 0 && at - p->last < 0.25) return;
    if (!progress_shown(p) && !p->at_once && at - p->begun < WIDGET_AFTER_S && out_widgets(p->o)) return;
    p->last = at;
    const struct state s = state_of(done, total, unit, window_rate(p, at, done));
    draw(p, what, &s);
}
void progress_end(struct progress *p, json_t *bundle) {
    show(p, bundle);
    widget_close(&p->widget); /* its display is replaced by now */
}
