/* executor.h - a thread that runs cells, one at a time. The io thread gives it a job and takes it back finished. */
#ifndef JAEDA_KERNEL_PROTOCOL_EXECUTOR_H
#define JAEDA_KERNEL_PROTOCOL_EXECUTOR_H
#include "history.h"
#include "iopub.h"

struct interp;
/* One received message and where it came from. */
struct request {
    struct message msg;
    enum channel channel;
    int fd; /* of the client's connection, -1 unknown */
};
/* One execute_request; belongs to the io thread, and to the executor between start and finished. */
struct job {
    struct request request;
    struct job *next;
    const char *code; /* inside request */
    size_t code_n;
    bool silent, store, allow_stdin, stop_on_error;
    int count;
    bool failed;
    char started[32];
    json_t *reply; /* content of the execute_reply, made by the executor */
};
void job_free(struct job *j);
/* {ename, evalue, traceback}, as IOPub's error has it; with "status": "error", as a reply. */
json_t *error_output(const struct err *e);
json_t *error_reply(const struct err *e);

struct executor;
struct executor_parts { /* all borrowed; they outlive the executor */
    struct interp *interp;
    struct iopub *iopub;
    struct comms *comms; /* NULL: no widgets */
    struct history *history;
    struct jobs *jobs; /* NULL: no cell's output is kept */
    int ready;         /* eventfd: written when a job has finished, a question waits or the thread has ended */
    bool main;         /* it runs the main shell: what libraries print belongs to its cells; at most one */
    int log;           /* where they print while no cell runs; -1: nowhere */
};
int executor_open(struct executor **out, const struct executor_parts *parts, struct err *e);
void executor_interrupt(struct executor *x); /* any thread */
/* Any thread. Interrupts; the thread ends when the job that it has is finished. */
void executor_end(struct executor *x);
/* After executor_end. Waits at most ms; false: it runs still, and nothing it uses may be freed. */
bool executor_ended(struct executor *x, int ms);
void executor_close(struct executor *x); /* after executor_ended has given true; NULL is fine */

/* io thread only. */
/* Before the world hears that a cell is busy: from then on a SIGINT is meant for it, and executor_end waits for it. Only while
 * none runs, and not after executor_end. */
void executor_expect(struct executor *x);
void executor_start(struct executor *x, struct job *j); /* once after executor_expect */
struct job *executor_finished(struct executor *x);      /* NULL: not yet */
/* Is there a question that has not been sent? Appends its prompt. */
bool executor_question(struct executor *x, struct buf *prompt, bool *password);
void executor_asked(struct executor *x); /* it has been sent */
/* why NULL: here is the line. Else the wait ends in that error. false: nothing was asked. */
bool executor_answer(struct executor *x, const char *text, size_t n, const char *why);

#endif
