/* state.h - what a notebook is made of, behind interp.h. Owned by the executor thread; other threads read snapshots. */
#ifndef JAEDA_LANGUAGE_STATE_H
#define JAEDA_LANGUAGE_STATE_H
#include "kernel/interp.h"
#include "variables.h"
#include <pthread.h>

#define DEFAULT_MODEL "smollm2-135m" /* what examples name and completion offers before %models was asked */

struct message {
    char role[12];
    char *text;
    size_t len;
};
struct chat { /* the whole conversation; the engine keeps its keys and values under the session "chat" */
    struct message *v;
    int n, cap;
};
/* Never changed after it was published; freed with the last reference. */
struct snapshot {
    int refs; /* under interp.lock */
    struct variables vars, aliases, models;
};
struct engine;
struct interp {
    struct interp_host host;
    struct variables vars, aliases, defaults; /* defaults: %set, by option name */
    struct variables models;                  /* names seen in the engine's lists, with a line about each */
    struct chat chat;
    struct engine *engine; /* NULL until a cell needs it */
    int depth;             /* cells within cells: %%time, %%capture, aliases */
    bool changed;          /* since the last snapshot */
    pthread_mutex_t lock;  /* guards snap and its refs */
    struct snapshot *snap;
};

/* A cell within a cell (the body of %%time). Like interp_execute. */
int interp_run(struct interp *in, struct out *o, const char *code, size_t n, struct err *e);
int interp_set(struct interp *in, const char *name, const char *text, size_t n, struct err *e);
/* The model that an alias stands for, else the name itself; NULL stays NULL. Borrowed. */
const char *interp_model(const struct interp *in, const char *name);
/* Is this alias a command (%... or !...) and no model? */
bool alias_is_command(const char *text);

struct snapshot *snapshot_take(struct interp *in); /* NULL: no memory; give it back */
void snapshot_give(struct interp *in, struct snapshot *s);

#endif
