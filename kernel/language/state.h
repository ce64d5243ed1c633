/* state.h - what a notebook is made of, behind interp.h. Owned by the thread whose turn it is to run a cell's code; others
 * read snapshots. Nothing borrowed from it lives across a wait: job_run, shell_run and every out_ function let other
 * cells go on meanwhile. */
#ifndef JAEDA_LANGUAGE_STATE_H
#define JAEDA_LANGUAGE_STATE_H
#include "baton.h"
#include "kernel/interp.h"
#include "variables.h"
#include <pthread.h>

#define DEFAULT_MODEL "smollm2-135m" /* what examples name and completion offers before %models was asked */

struct message {
    char role[12];
    char *text;
    size_t len;
};
struct photo;
enum { CHAT_PICTURES = 16 };
struct chat { /* the whole conversation; the engine keeps its keys and values under the session "chat" */
    struct message *v;
    int n, cap;
    struct {
        struct photo *photo;
        int message; /* the user's, that it belongs to */
    } picture[CHAT_PICTURES];
    int pictures;
    struct photo
        *offered; /* the remembered picture that a turn had, or did without: it does not come again by itself */
};
/* Never changed after it was published; freed with the last reference. */
struct snapshot {
    int refs; /* under interp.lock */
    struct variables vars, aliases, models;
};
/* The last model that was loaded, as it was asked for: %load alone does it again. model "": none. */
struct last_load {
    char model[1024], revision[128], dtype[16], kv_cache_dtype[16], load_format[16];
    char vit[1024], qformer[1024], projector[1024], llm[1024],
        vision_dtype[16]; /* of a MiniGPT-4; "": as it is found */
    int max_model_len, max_sequences, threads, max_images;
};
struct hub;
struct interp {
    struct baton baton; /* guards all below but snap */
    struct interp_host host;
    struct variables vars, aliases, defaults; /* defaults: %set, by option name */
    struct variables models;                  /* names seen in the engine's lists, with a line about each */
    struct chat chat;
    struct last_load last;
    struct photo *photo;  /* of %image, for prompts to come; NULL: none */
    bool chatting;        /* a turn of the conversation is under way: another one is refused */
    struct hub *hub;      /* the engine, for all threads */
    bool changed;         /* since the last snapshot */
    pthread_mutex_t lock; /* guards snap and its refs */
    struct snapshot *snap;
};
/* Of the thread that runs a cell; zero elsewhere. */
struct context {
    struct interp *in;
    int depth;  /* cells within cells: %%time, %%capture, aliases */
    int pauses; /* interp_pause without its interp_resume */
    int lane;   /* of the engine, for this cell's jobs; -1: none yet */
    struct kept *kept;
};
extern _Thread_local struct context this_cell;

/* A cell within a cell (the body of %%time). Like interp_execute. */
int interp_run(struct interp *in, struct out *o, const char *code, size_t n, struct err *e);
struct text {
    const char *p;
    size_t n;
};
/* interp_execute with a place in the queue that was drawn before. */
int interp_execute_at(struct interp *in, unsigned long ticket, struct out *o, const struct text *code, struct err *e);
int interp_set(struct interp *in, const char *name, const char *text, size_t n, struct err *e);
/* The model that an alias stands for, else the name itself; NULL stays NULL. Valid until the cell ends. */
const char *interp_model(const struct interp *in, const char *name);
/* Is this alias a command (%... or !...) and no model? */
bool alias_is_command(const char *text);

struct snapshot *snapshot_take(struct interp *in); /* NULL: no memory; give it back */
void snapshot_give(struct interp *in, struct snapshot *s);

#endif
