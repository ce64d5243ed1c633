/* sight.h - the pictures of one request, and what comes of them: for %image, %generate and %chat. The thread whose turn it is. */
#ifndef JAEDA_MAGICS_SIGHT_H
#define JAEDA_MAGICS_SIGHT_H
#include "job.h"
#include "kernel/language/magic.h"
#include "kernel/present/picture.h"
#include "photo.h"

enum { SIGHT_BYTES_MAX = 240 << 20 }; /* of one request's pictures: 256 MiB is the most that travels to the engine */
struct seen {                         /* a view, as its event brought it */
    struct engine_view v;
    struct picture picture; /* of PICTURE and INPUT */
    float *heat;            /* of ENCODER and ANSWER */
};
struct sight {
    struct photo *photo[ENGINE_IMAGES]; /* each held */
    struct engine_image image[ENGINE_IMAGES];
    int n;
    bool given;                /* by --image: shown above the answer */
    bool asked, sees, qformer; /* the engine was asked of the model: it sees, it has a Q-Former */
    char unseen[256];          /* a remembered picture is not sent: a line that says why; else "" */
    struct seen *view;
    int views;
};
/* The prompt's own pictures: those of --image, else the remembered one when the model that q names sees, and when it is not
 * known. known: NULL, or a picture that was offered to this conversation before. sight_fini it, also after an error. */
int sight_take(struct sight *s, struct call *c, const struct engine_req *q, const struct photo *known);
/* One more picture, of that message. */
int sight_add(struct sight *s, struct photo *p, int message, struct err *e);
/* Puts the pictures and --show into q. Those from the first one on that --image named are shown. */
int sight_ask(struct sight *s, struct call *c, struct engine_req *q, int first);
/* Decodes the pictures from the first one on and shows each, at most look_px wide and high; 0: 512. */
int sight_look(struct sight *s, struct call *c, int first, int look_px);
/* "photo.jpg: JPEG, 1,920 x 1,080, 312 KiB" of the i-th, after sight_look. */
void sight_name(const struct sight *s, int i, char out[256]);
int sight_event(struct sight *s, const struct engine_event *ev, struct err *e); /* keeps VIEWs */
/* Behind the text: the views that came, and the boxes that the text names on the last picture. */
int sight_end(struct sight *s, struct call *c, const struct buf *text);
struct doc;
/* The line about the stages that pictures went through; nothing without pictures. */
void sight_timings(const struct sight *s, const struct engine_done *d, struct doc *doc);
json_t *sight_numbers(const struct engine_done *d); /* the same for programs */
void sight_fini(struct sight *s);

#endif
