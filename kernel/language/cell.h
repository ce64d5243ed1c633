/* cell.h - the text of a cell -> what it asks for. Pure, of any bytes, fuzzed.
 *
 * A line is one of (blanks in front are skipped, U+00A0 and U+3000 count as blanks, \r\n ends a line as \n does):
 *   %name args       a magic; a trailing ; hides what it shows
 *   %%name args      a cell magic: the rest of the cell, byte for byte, is its body. May follow other lines
 *   %name? ?%name    its help (also %%name?, and ?? for ?)
 *   !command         for the shell
 *   name = literal   sets a variable; the literal may span lines inside brackets or triple quotes. "name: int = 1" too
 *   name, $name      shows a variable that exists
 *   # text, #        a comment: one # and a blank, or # alone
 * A magic's or a command's line goes on behind an odd number of backslashes at its end.
 * When the first line that is neither empty nor a comment is none of these, the whole cell is a prompt, verbatim.
 * "name = text" whose text is no literal is a prompt when it reads as prose ("x = 5 이면 2x는?") and an error when it
 * reads as code ("model = load('x')"): a slip must not go to a model as a question. So are `import x` and
 * `from x import y`. %%generate sends any text whatever. A later line of another kind is an error that names the line:
 * nothing of the cell has run then. */
#ifndef JAEDA_LANGUAGE_CELL_H
#define JAEDA_LANGUAGE_CELL_H
#include "literal.h"
#include <stdbool.h>

enum directive_kind {
    DIRECTIVE_MAGIC,
    DIRECTIVE_HELP,
    DIRECTIVE_SHELL,
    DIRECTIVE_ASSIGN,
    DIRECTIVE_SHOW,
    DIRECTIVE_PROMPT
};
struct directive {
    enum directive_kind kind;
    int line;             /* where it starts, from 1 */
    bool cell, quiet;     /* %% ; a trailing ; */
    char *name;           /* magic or variable; NULL for SHELL and PROMPT */
    char *rest;           /* MAGIC: arguments; SHELL: the command, lines joined; else NULL. Holds no NUL */
    struct literal value; /* ASSIGN */
    const char *body;     /* cell magic, PROMPT: borrowed from the cell's text */
    size_t body_len;
};
struct cell {
    struct directive *v;
    int n, cap;
    bool open; /* after an error: the text ended inside a value */
};
/* Tells whether a variable of that name exists; NULL: none does. */
typedef bool cell_known(const void *arg, const char *name);

/* out borrows code (bodies); cell_fini it also after an error. */
int cell_parse(struct cell *out, const char *code, size_t n, cell_known *known, const void *arg, struct err *e);
void cell_fini(struct cell *c);

/* Bytes of the variable name at s: letters of any script, digits, _; 0: none. */
size_t cell_name_length(const char *s, size_t n);
/* "complete", "incomplete", "invalid" as the protocol's is_complete has it. */
const char *cell_is_complete(const char *code, size_t n);

#endif
