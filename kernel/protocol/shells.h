/* shells.h - the main shell and those beside it: each has a queue of cells and a thread that runs them one by one.
 * Subshells (JEP 91) are made and named by front ends. A hidden shell runs a cell that must not wait for the one that
 * runs in its own shell. What a cell gets and gives is server.c's; here is who waits where. */
#ifndef JAEDA_KERNEL_PROTOCOL_SHELLS_H
#define JAEDA_KERNEL_PROTOCOL_SHELLS_H
#include "executor.h"

enum {
    SHELLS_SUB = 16,                 /* at most */
    SHELLS_HIDDEN = 8,               /* at most */
    SHELLS_WAITING = 1000,           /* cells in all queues */
    SHELLS_WAITING_BYTES = 64 << 20, /* their messages */
};
enum shell_kind { SHELL_MAIN, SHELL_SUB, SHELL_HIDDEN };
/* The io thread's own; other threads reach only the executor. */
struct shell {
    struct shell *next;
    struct executor *executor;
    enum shell_kind kind;
    char id[40];              /* of a subshell */
    bool leaving;             /* deleted: it has no name any more, and goes when its cell has ended */
    struct job *first, *last; /* cells that wait */
    struct job *running;      /* with the executor, or finished and not yet answered */
    struct job *finished;     /* running, when it is to be answered at answer_us */
    int64_t answer_us, latest_us;
    int64_t question_us; /* since when a question could not be delivered; 0: none */
    char question_id[64];
};
struct shells;
/* parts: of every executor; ready and main are set here. Opens the main shell. */
int shells_open(struct shells **out, const struct executor_parts *parts, struct err *e);
/* Any thread. Interrupts the cells that run, in every shell. */
void shells_interrupt(struct shells *s);
/* Any thread. No further cell starts, no shell is made; those that run are interrupted. */
void shells_end(struct shells *s);
/* Not the io thread. As shells_end, and waits at most ms; false: a cell runs still, and nothing may be freed. */
bool shells_stop(struct shells *s, int ms);
void shells_close(struct shells *s); /* after shells_stop has given true, and the io thread has ended; NULL is fine */

/* ---- io thread only ---- */

int shells_fd(const struct shells *s);             /* readable when an executor has something to say */
void shells_heard(struct shells *s);               /* from now on only for what comes later */
struct shell *shells_main(const struct shells *s); /* the first of the list; ->next leads to the others */
struct shell *shells_busy(const struct shells *s); /* the first whose cell runs; NULL: none */
/* id NULL: the main shell. NULL and e: there is no such subshell. */
struct shell *shells_find(const struct shells *s, const char *id, struct err *e);
/* A hidden shell whose thread is free; NULL: all are taken. */
struct shell *shells_hidden(struct shells *s);
/* NULL and e: too many, no memory or no thread. */
struct shell *shells_create(struct shells *s, struct err *e);
/* Never waits: its cell is interrupted, those that wait are the caller's to take. */
int shells_delete(struct shells *s, const char *id, struct err *e);
json_t *shells_list(const struct shells *s); /* ids of the subshells, oldest first; NULL: no memory */
/* Frees the deleted ones that have come to rest. */
void shells_reap(struct shells *s);

/* Is there room for one more message of so many bytes? */
int shells_room(const struct shells *s, size_t bytes, struct err *e);
void shells_queue(struct shells *s, struct shell *to, struct job *j);
struct job *shells_take(struct shells *s, struct shell *from); /* the first that waits; NULL: none */
/* From now on an interrupt is meant for the next cell of this shell, which has none running. false: no cell may start. */
bool shells_arm(struct shells *s, struct shell *h);

#endif
