/* widget.h - a bar, a Stop button and a line of text as ipywidgets' models, which the front end shows live. The thread of
 * the cell. */
#ifndef JAEDA_PRESENT_WIDGET_H
#define JAEDA_PRESENT_WIDGET_H
#include "kernel/out.h"

enum { WIDGET_MODELS = 7 };
struct widget {
    struct out *o;
    char id[WIDGET_MODELS][48]; /* empty: not open */
};
/* false: the front end shows no widgets, or there is no memory; nothing is open then. */
bool widget_open(struct widget *w, struct out *o);
bool widget_shown(const struct widget *w);
/* share in [0, 1]. Bytes of text that are no UTF-8 are replaced. */
void widget_set(struct widget *w, double share, const char *text, size_t n);
/* What a display holds beside text/plain: its MIME type and the value; the caller owns it. */
extern const char widget_mime[];
json_t *widget_view(const struct widget *w);
/* Its display is to be replaced before: a view without its models is nothing. Closing twice is fine. */
void widget_close(struct widget *w);

#endif
