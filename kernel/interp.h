/* interp.h - the cell language: all state of a notebook (variables, aliases, settings, conversation, engine handle)
 * and what the protocol side asks of it. */
#ifndef JAEDA_KERNEL_INTERP_H
#define JAEDA_KERNEL_INTERP_H
#include "out.h"

struct interp;
/* Cells that ran long or in the background; given by the protocol side. Any thread that runs cells. */
struct job_info {
    char name[48]; /* "3"; of an earlier kernel "20260131T090807-1234-3" */
    char what[96], state[16], started[32], notebook[96];
    double seconds;
};
struct job_host {
    void *arg;
    /* The newest last; all: of earlier kernels too, before them. Returns how many. */
    int (*list)(void *arg, struct job_info *out, int cap, bool all);
    /* Runs code in the background; its number. */
    int (*start)(void *arg, const char *code, size_t n, int *number, struct err *e);
    int (*stop)(void *arg, const char *name, struct err *e);
    /* Shows what the job has shown and goes on until it ends or o is interrupted. name NULL: the one that runs, or the last. */
    int (*attach)(void *arg, struct out *o, const char *name, struct err *e);
};
/* One line of this session's or an earlier one's inputs, for %history; given by the protocol side. */
struct interp_host {
    void *arg;
    /* Calls line() for the last n inputs (n 0: all of this session), oldest first. session 0: this one. */
    void (*history)(void *arg, int session, int n, void (*line)(void *to, int session, int number, const char *input),
                    void *to);
    const struct job_host *jobs; /* NULL: none are kept */
};
/* Never waits for a model or a device: the engine is opened by the first cell that needs it. */
int interp_open(struct interp **out, const struct interp_host *host, struct err *e);
void interp_close(struct interp *in);

/* Any thread: cells of several shells take turns. Runs a cell; 0, or a status with e filled: the error that the front end gets (code -> ename,
 * text -> evalue). Streams what it shows through o. */
int interp_execute(struct interp *in, struct out *o, const char *code, size_t n, struct err *e);
/* A thread that may run cells: one of user_expressions, "$name" or "name" of a variable -> its MIME bundle; NULL and e otherwise. */
json_t *interp_expression(struct interp *in, const char *code, struct err *e);
/* Is this cell one line magic %attach? It needs no turn behind a cell that runs: it shows what that one shows. Pure. */
bool interp_beside(struct interp *in, const char *code, size_t n);
/* Around every wait of a thread that runs a cell: other cells run meanwhile. They nest; elsewhere they do nothing. */
void interp_pause(void);
void interp_resume(void);

/* Any thread, while a cell runs: they read an immutable snapshot. cursor in bytes. */
/* {"matches": [...], "cursor_start": bytes, "cursor_end": bytes, "types": [{"start","end","text","type"}...]};
 * the caller turns bytes into code points. */
json_t *interp_complete(struct interp *in, const char *code, size_t n, size_t cursor);
/* A MIME bundle with text/plain, text/markdown (and text/html), or NULL: nothing known there. level 0 or 1. */
json_t *interp_inspect(struct interp *in, const char *code, size_t n, size_t cursor, int level);
/* "complete", "incomplete" (indent then holds what to put in front), "invalid", "unknown". */
const char *interp_is_complete(const char *code, size_t n, char indent[16]);

#endif
