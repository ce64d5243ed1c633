/* link.h - what a transport provides behind engine.h: five calls on its own object. */
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
};
extern const struct link_ops link_local; /* a worker thread of this process */

#endif
