/* link.h - what a transport provides behind engine.h: its calls on its own object. */
#ifndef JAEDA_LINK_LINK_H
#define JAEDA_LINK_LINK_H
#include "engine.h"

struct link_ops {
    const char *scheme; /* "local:" */
    int (*open)(void **self, const char *uri, struct err *e);
    void (*close)(void *self);
    int (*submit)(void *self, const struct engine_req *q, uint64_t *job, struct err *e);
    int (*fd)(const void *self);
    int (*next)(void *self, struct engine_event *ev);
    void (*cancel)(void *self, uint64_t job);
    void (*gone)(const void *self, struct err *e, struct buf *log);
    int (*log)(const char *uri, int lines, struct buf *out, struct err *e); /* of no object */
};
extern const struct link_ops link_local; /* threads of this process */
extern const struct link_ops link_ipc;   /* the resident process */
/* Of two engine_build(): 0: the same, > 0: a is the newer. */
int build_compare(const char *a, const char *b);

#endif
