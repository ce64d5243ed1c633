/* place.h - where the cursor stands in a cell: shared by completion and inspection. Pure. */
#ifndef JAEDA_LANGUAGE_PLACE_H
#define JAEDA_LANGUAGE_PLACE_H
#include "magic.h"

enum place_kind {
    PLACE_NONE,  /* prose, a body: nothing is known there */
    PLACE_MAGIC, /* in the name of a magic */
    PLACE_ARGS,  /* behind it */
    PLACE_SHELL, /* in a command */
    PLACE_BARE   /* the only word of a line: perhaps a variable */
};
struct place {
    enum place_kind kind;
    bool cell;                 /* %% */
    char name[64];             /* MAGIC, ARGS: the name as typed */
    const struct magic *magic; /* ARGS: NULL when unknown */
    size_t line, line_end;     /* of the (sub-)line, bytes */
    size_t word, word_end;     /* of the word at the cursor, without quotes being looked at */
    size_t args;               /* ARGS, SHELL: where they begin */
};
struct place place_find(const char *code, size_t n, size_t cursor);
/* ARGS: the option whose value the word at the cursor is; NULL: none. *value: where the value begins. */
const struct option *place_option(const struct place *p, const char *code, size_t *value);

#endif
