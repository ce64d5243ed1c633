/* cell.h - one execute_request while it runs: what is behind out.h. Executor thread. */
#ifndef JAEDA_KERNEL_PROTOCOL_CELL_H
#define JAEDA_KERNEL_PROTOCOL_CELL_H
#include "comm.h"
#include "kernel/out.h"

/* The user's wish to stop, from any thread. */
struct interrupt {
    atomic_bool on;
    int fd; /* eventfd, readable while on */
};
int interrupt_init(struct interrupt *i, struct err *e);
void interrupt_fini(struct interrupt *i);
void interrupt_raise(struct interrupt *i);
void interrupt_clear(struct interrupt *i);

/* Asks the front end for a line; gives 0 and the line in reply. Waits; ends when interrupted. */
typedef int ask_function(void *arg, const char *prompt, bool password, struct buf *reply, struct err *e);

struct out {
    struct cell_output to;
    const struct interrupt *interrupt;
    bool silent, allow_stdin;
    bool beside, background; /* beside: a subshell, or in the background */
    int count;
    struct buf held[2]; /* bytes of an incomplete character at the end of stdout, stderr */
    struct capture *capture;
    json_t *payload;
    struct buf result; /* text/plain of the last execute_result, for the history */
    ask_function *ask;
    void *ask_arg;
    struct tape *tape;    /* keeps what is shown; NULL: nothing is kept */
    struct comms *comms;  /* NULL: this cell shows no widgets */
    const char *session;  /* of the client that asked for the cell */
    void (*stop)(void *); /* what a Stop button does; any thread */
    void *stop_arg;
};
/* to, interrupt, silent, allow_stdin, beside, count, ask and ask_arg are set by the caller; the rest is made here. */
int out_begin(struct out *o);
/* Ends what a magic left open and sends what was held back. */
void out_settle(struct out *o);
void out_fini(struct out *o);

/* Moves what is whole UTF-8 of held + p into text, with what is invalid replaced; an incomplete tail stays in held,
 * unless this is the end. */
void text_whole(struct buf *held, const char *p, size_t n, bool end, struct buf *text);

#endif
