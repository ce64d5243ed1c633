/* shell.h - commands of a cell: !command, %%bash. In a process group of its own, output streamed as it arrives, stdin
 * empty, stopped by an interrupt (SIGINT, then SIGTERM, then SIGKILL). Executor thread. */
#ifndef JAEDA_MAGICS_SHELL_H
#define JAEDA_MAGICS_SHELL_H
#include "kernel/out.h"

struct interp;
struct shell {
    const char *const *argv; /* NULL-terminated; looked up in PATH */
    const char *script;      /* goes to the program as a file; NULL: none */
    size_t script_len;
    bool merge;          /* stderr into stdout, in order */
    struct buf *text[2]; /* collects stdout, stderr instead of showing it; NULL: shown */
};
/* 0 and *status: the exit status (128 + signal when a signal ended it). CANCELLED when the user stopped it. */
int shell_run(struct out *o, const struct shell *s, int *status, struct err *e);
/* A "!" line: variables put in, run, its status kept in the variable _exit_code. A failing command is no error. */
int shell_line(struct interp *in, struct out *o, const char *command, struct err *e);

#endif
