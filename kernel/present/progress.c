#include "progress.h"
#include "format.h"
#include "table.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { BAR = 20 };

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
void progress_text(struct buf *out, double done, double total, const char *unit, double rate) {
    if (!(done >= 0)) done = 0;
    if (total > 0) {
        if (done > total) done = total;
        const int full = (int)(done / total * BAR);
        buf_puts(out, "▕");
        for (int i = 0; i < BAR; i++) buf_puts(out, i < full ? "█" : " ");
        buf_printf(out, "▏ %.0f %%  ", floor(done / total * 100));
    }
    amount(out, done, total, unit);
    if (!(rate > 0) || !strcmp(unit, "run")) return; /* a few runs make no rate */
    char text[32];
    if (strcmp(unit, "B")) {
        format_number(text, rate);
        buf_printf(out, "  %s %s/s", text, unit);
    } else {
        format_bytes(text, rate);
        buf_printf(out, "  %s/s", text);
    }
    if (total <= 0) return;
    const double left = ceil((total - done) / rate);
    if (left < 120) {
        buf_printf(out, "  ETA %.0f s", left);
    } else {
        format_seconds(text, left);
        buf_printf(out, "  ETA %s", text);
    }
}

void progress_init(struct progress *p, struct out *o) { *p = (struct progress){ .o = o, .last = -1 }; }
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
static void show(struct progress *p, json_t *bundle) {
    const bool update = progress_shown(p);
    if (!bundle) return;
    if (!update) out_new_display_id(p->o, p->id);
    out_display(p->o, bundle, NULL, p->id, update);
}
void progress_update(struct progress *p, const char *what, double done, double total, const char *unit) {
    const double at = now();
    if (strncmp(p->what, what, sizeof p->what - 1)) { /* another phase: another rate */
        snprintf(p->what, sizeof p->what, "%s", what);
        p->samples = 0;
    }
    if (p->last >= 0 && at - p->last < 0.25) return;
    p->last = at;
    const double rate = window_rate(p, at, done);
    struct buf text;
    buf_init(&text, 1024);
    buf_printf(&text, "%s  ", what);
    if (total > 0 || done > 0) progress_text(&text, done, total, unit, rate);
    show(p, doc_plain(buf_text(&text), text.n));
    buf_fini(&text);
}
void progress_end(struct progress *p, json_t *bundle) { show(p, bundle); }
