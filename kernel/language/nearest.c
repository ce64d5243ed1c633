#include "nearest.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 40 };

static int fold(char c) { return c == '_' ? '-' : tolower((unsigned char)c); }

int nearest_distance(const char *a, const char *b) {
    const int n = (int)strnlen(a, NAME_MAX_BYTES), m = (int)strnlen(b, NAME_MAX_BYTES);
    int row[3][NAME_MAX_BYTES + 1];
    for (int j = 0; j <= m; j++) row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            const bool same = fold(a[i - 1]) == fold(b[j - 1]);
            int best = up[j - 1] + !same;
            if (up[j] + 1 < best) best = up[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]) &&
                up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}
void nearest_init(struct nearest *w, const char *typed) { *w = (struct nearest){ .typed = typed }; }

static int closeness(const char *typed, const char *name) {
    const int d = nearest_distance(typed, name);
    return strlen(typed) >= 3 && strcasestr(name, typed) && d > 1 ? 1 : d; /* a part of a name is as good as one slip */
}
void nearest_offer_with(struct nearest *w, const char *name, const char *aliases) {
    int d = closeness(w->typed, name);
    for (const char *s = aliases; s && *s;) {
        char alias[64];
        s += *s == '!';
        const size_t n = strcspn(s, " ");
        snprintf(alias, sizeof alias, "%.*s", (int)(n < 60 ? n : 60), s);
        const int other = closeness(w->typed, alias);
        if (other < d) d = other;
        s += n + strspn(s + n, " ");
    }
    if (d > 1 + (int)strlen(w->typed) / 4) return;
    int at = w->n;
    while (at > 0 && d < w->best[at - 1].distance) at--;
    for (int i = 0; i < w->n; i++)
        if (!strcmp(w->best[i].name, name)) return;
    if (at == NEAREST_MAX) return;
    if (w->n < NEAREST_MAX) w->n++;
    memmove(w->best + at + 1, w->best + at, (size_t)(w->n - at - 1) * sizeof *w->best);
    w->best[at].name = name;
    w->best[at].distance = d;
}
void nearest_offer(struct nearest *w, const char *name) { nearest_offer_with(w, name, NULL); }
/* A name that is two slips further than the best one is noise. */
void nearest_text(const struct nearest *w, const char *mark, struct buf *out) {
    int n = 0;
    while (n < w->n && w->best[n].distance <= w->best[0].distance + 1) n++;
    for (int i = 0; i < n; i++)
        buf_printf(out, "%s%s%s", i == 0 ? " Did you mean " : i == n - 1 ? " or " : ", ", mark, w->best[i].name);
    if (n) buf_puts(out, "?");
}
