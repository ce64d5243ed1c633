/* generate.h - what %generate and %chat share: a request for text, what comes of it, how it is shown and recorded. */
#ifndef JAEDA_MAGICS_GENERATE_H
#define JAEDA_MAGICS_GENERATE_H
#include "kernel/present/progress.h"
#include "sight.h"

enum { STOPS = 16, PROMPT_MAX = 64 << 20 };
struct run {
    struct call *c;
    struct engine_req q;
    const char *stop[STOPS];
    int stop_id[STOPS];
    struct engine_message plain[3]; /* of %generate: system, input, user */
    struct sight sight;
    struct buf text;
    struct engine_done done;
    struct progress progress;
    int most; /* tokens that may come; 0: the model's authors say how many */
    bool stream;
    bool waited, counted; /* the bar was shown for the prompt; it counts tokens */
};
/* Reads the options of the call into r->q, all but the messages and the pictures. run_fini it, also after an error. */
int run_ask(struct run *r, struct call *c);
/* Runs what run_ask and the caller's messages and pictures describe, shows its end and records it. */
int run_go(struct run *r);
void run_fini(struct run *r);
/* Has the template a place for --input? NULL: the model's own, which the engine knows. */
int check_input(struct call *c, const char *template);

#endif
