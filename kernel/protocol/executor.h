/* executor.h - the thread that runs cells, one at a time. The io thread gives it a job and takes it back finished. */
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
/* interp, iopub, history are borrowed. log: descriptor for what libraries print while no cell runs. */
int executor_open(struct executor **out, struct interp *in, struct iopub *io, struct history *h, int log,
                  struct err *e);
/* Interrupts, and waits at most `ms` for the cell to end; false: it did not, and nothing it uses may be freed. */
bool executor_stop(struct executor *x, int ms);
void executor_close(struct executor *x);     /* after executor_stop has given true; NULL is fine */
void executor_interrupt(struct executor *x); /* any thread */

/* io thread only. */
int executor_fd(const struct executor *x); /* readable when a job has finished or a question waits */
/* Before the world hears that a cell is busy: from then on a SIGINT is meant for it. Only while none runs. */
void executor_forget_interrupt(struct executor *x);
void executor_start(struct executor *x, struct job *j); /* only while none runs */
struct job *executor_finished(struct executor *x);      /* NULL: not yet */
/* Is there a question that has not been sent? Appends its prompt. */
bool executor_question(struct executor *x, struct buf *prompt, bool *password);
void executor_asked(struct executor *x); /* it has been sent */
/* why NULL: here is the line. Else the wait ends in that error. Ignored when nothing was asked. */
void executor_answer(struct executor *x, const char *text, size_t n, const char *why);

#endif
