/* options.h - what a magic takes, as data, and the reading of words by it. Pure.
 * --name V, --name=V, name=V, -n V, -nV, --flag, --no-flag, flag=true; - and _ are the same in long names; a prefix that
 * fits one option will do behind --; "--" ends the options. */
#ifndef JAEDA_LANGUAGE_OPTIONS_H
#define JAEDA_LANGUAGE_OPTIONS_H
#include "words.h"

enum option_type {
    OPTION_FLAG,
    OPTION_INT,
    OPTION_FLOAT,
    OPTION_TEXT,
    OPTION_CHOICE,
    OPTION_PATH,
    OPTION_NAME, /* of a variable */
    OPTION_LATER /* known to people from other tools, not here yet: an error that says so, unless the value is def */
};
struct option {
    const char *name;    /* as shown: "max-new-tokens" */
    const char *shorts;  /* "n"; several separated by blanks */
    const char *aliases; /* separated by blanks; !greedy is the opposite of a flag */
    enum option_type type;
    bool list, settable; /* may be given several times, numbers and choices also as a,b; %set takes it as a default */
    const char *arg;     /* what stands for the value in help: "N" */
    const char *def;     /* the default as text; NULL: none */
    double min, max;     /* allowed, of INT and FLOAT */
    const char *choices; /* CHOICE: "auto fp32|float32|float fp16|half": canonical first, other spellings behind | */
    const char *help;
};
/* Groups of options, each ended by a name of NULL; groups ended by NULL. */
typedef const struct option *const *option_groups;

enum { WORDS_ARE_TEXT = 1, WORDS_HOLD_EQUALS = 2 }; /* free text; a=b is a word of its own (%env A=b) */
/* How words are to be read. usage: "MODEL", "[MODEL]", "[TEXT...]", "[NAME] [VALUE...]": positionals, required or not. */
struct grammar {
    const char *magic; /* for messages: "%load" */
    const char *usage;
    option_groups groups;
    unsigned flags;
};
struct arg {
    const struct option *option;
    char *text; /* FLAG: "true" or "false"; CHOICE: the canonical spelling */
    double number;
    bool from_set; /* a default of %set */
};
struct args {
    option_groups groups;
    struct arg *v;
    struct words words;
    int n, cap;
};
/* w is taken apart (its texts move) and is empty afterwards. defaults: of %set, may be NULL. */
int args_read(struct args *out, const struct grammar *g, struct words *w, const struct variables *defaults,
              struct err *e);
void args_fini(struct args *a);

const struct option *option_find(option_groups groups, const char *name); /* exact name or alias, - is _ */
/* Checks a value and gives its canonical text (mem_free it). NULL and e when it does not fit. */
char *option_check(const struct option *o, const char *text, double *number, struct err *e);
/* Words in a choices or aliases list: the i-th canonical one into out; false after the last. */
bool option_choice(const char *choices, int i, char out[40]);

bool args_given(const struct args *a, const char *name); /* typed, or set by %set */
const struct arg *args_last(const struct args *a, const char *name);
const char *args_text(const struct args *a, const char *name); /* the value, else the default, else NULL */
double args_number(const struct args *a, const char *name);    /* the value, else the default, else 0 */
int args_int(const struct args *a, const char *name);
bool args_flag(const struct args *a, const char *name);
/* The positional words joined by a blank; "" when there are none. NULL: no memory. */
char *args_join(const struct args *a, int from);
static inline const char *args_word(const struct args *a, int i) { return i < a->words.n ? a->words.v[i].text : NULL; }

#endif
