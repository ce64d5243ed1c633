/* magic.h - the one table of magics: dispatch, completion, inspection, %lsmagic and help all read it. */
#ifndef JAEDA_LANGUAGE_MAGIC_H
#define JAEDA_LANGUAGE_MAGIC_H
#include "kernel/out.h"
#include "options.h"

struct interp;
struct call;
enum { MAGIC_LINE = 1, MAGIC_CELL = 2, MAGIC_RAW = 4, MAGIC_TEXT = 8, MAGIC_EQUALS = 16 };
struct magic {
    const char *name, *aliases; /* aliases: blank-separated */
    const char *usage;          /* the positionals, see struct grammar; a name says of what kind: MODEL, FILE, ... */
    unsigned flags;             /* LINE and CELL: %x, %%x; RAW: the rest of the line is not read as words */
    const struct option *const *options;
    int (*run)(struct call *c);
    const char *summary; /* one line */
    const char *help;    /* more lines, examples; NULL: none */
};
/* One running magic; everything is borrowed for its time. Executor thread. */
struct call {
    struct interp *in;
    struct out *o;
    const struct magic *magic;
    const char *typed; /* the name as typed: an alias may matter */
    const char *rest;  /* the arguments as written, without variables put in */
    struct args args;  /* empty for MAGIC_RAW */
    const char *body;  /* NULL for a line magic */
    size_t body_len;
    struct err *e;
};
extern const struct magic magic_table[]; /* ended by a name of NULL; kernel/magics/table.c */

/* By name or alias; - is _; NULL: none. */
const struct magic *magic_find(const char *name);
/* The error of an unknown name: what it is elsewhere and what to use here, or the nearest names. */
int magic_unknown(const char *name, bool cell, const struct variables *aliases, struct err *e);
/* Reads the arguments and runs. vars, defaults: what $name and %set hold. rest "--help" shows the help instead. */
int magic_run(struct call *c, bool cell, const struct variables *vars, const struct variables *defaults);
/* The help page as a bundle; NULL: no memory. */
json_t *magic_help(const struct magic *m);
/* One line and a table row of an option: for inspection. */
json_t *magic_option_help(const struct magic *m, const struct option *o);
/* What people type from other kernels, or what comes later: a line of help, or NULL. kernel/magics/table.c */
const char *magic_hint(const char *name);

#endif
