/* variables.h - names with values, in the order in which they were set: notebook variables, aliases, defaults. */
#ifndef JAEDA_LANGUAGE_VARIABLES_H
#define JAEDA_LANGUAGE_VARIABLES_H
#include "literal.h"
#include <stdbool.h>

struct variable {
    char *name;
    struct literal value;
};
struct variables {
    struct variable *v;
    int n, cap;
};
/* Takes *value (also on an error), which is zeroed. */
int variables_set(struct variables *vars, const char *name, struct literal *value, struct err *e);
int variables_set_text(struct variables *vars, const char *name, const char *text, size_t n, struct err *e);
const struct literal *variables_get(const struct variables *vars, const char *name); /* NULL: none */
bool variables_drop(struct variables *vars, const char *name);                       /* false: there was none */
void variables_fini(struct variables *vars);
int variables_copy(struct variables *out, const struct variables *vars, struct err *e);

#endif
