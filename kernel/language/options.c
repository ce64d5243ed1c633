#include "options.h"
#include "base/buf.h"
#include "base/mem.h"
#include "nearest.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool same_name(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char x = a[i] == '_' ? '-' : a[i], y = b[i] == '_' ? '-' : b[i];
        if (!x || x != y) return false;
    }
    return true;
}
/* Is name (n bytes) one of the blank-separated names? *negated: it stood there with a "!". */
static bool listed(const char *names, const char *name, size_t n, bool *negated) {
    for (const char *s = names; s && *s;) {
        const bool no = *s == '!';
        s += no;
        const size_t len = strcspn(s, " ");
        if (len == n && same_name(s, name, n)) {
            *negated = no;
            return true;
        }
        s += len + strspn(s + len, " ");
    }
    return false;
}
static bool starts(const char *name, const char *typed, size_t n) {
    return strlen(name) >= n && same_name(name, typed, n);
}
#define EACH_OPTION(o, groups)                                                                                         \
    for (option_groups g_ = (groups); g_ && *g_; g_++)                                                                 \
        for (const struct option *o = *g_; o->name; o++)

/* Exact name or alias of n bytes; "no-x" is a flag x negated. */
static const struct option *exact(option_groups groups, const char *name, size_t n, bool *negated) {
    *negated = false;
    EACH_OPTION(o, groups)
    if (listed(o->name, name, n, negated) || listed(o->aliases, name, n, negated)) return o;
    if (n > 3 && same_name(name, "no-", 3)) EACH_OPTION(o, groups) {
            if (o->type != OPTION_FLAG ||
                !(listed(o->name, name + 3, n - 3, negated) || listed(o->aliases, name + 3, n - 3, negated)))
                continue;
            *negated = !*negated;
            return o;
        }
    return NULL;
}
const struct option *option_find(option_groups groups, const char *name) {
    bool negated;
    const struct option *o = exact(groups, name, strlen(name), &negated);
    return negated ? NULL : o;
}
bool option_choice(const char *choices, int i, char out[40]) {
    for (const char *s = choices; s && *s; i--) {
        const size_t len = strcspn(s, " "), name = strcspn(s, " |");
        if (!i) {
            snprintf(out, 40, "%.*s", (int)name, s);
            return true;
        }
        s += len + strspn(s + len, " ");
    }
    return false;
}
static bool pick(const char *choices, const char *text, char out[40]) {
    for (const char *s = choices; *s;) {
        const size_t len = strcspn(s, " ");
        for (const char *name = s; name < s + len;) {
            const size_t n = strcspn(name, " |");
            if (n == strlen(text) && !strncasecmp(name, text, n)) {
                snprintf(out, 40, "%.*s", (int)strcspn(s, " |"), s);
                return true;
            }
            name += n + 1;
        }
        s += len + strspn(s + len, " ");
    }
    return false;
}
static char *refuse(const struct option *o, const char *text, const char *takes, struct err *e) {
    const bool list = strchr(text, ',') && o->type != OPTION_FLAG;
    err_set(e, STATUS_INVALID, "--%s takes %s, not \"%.60s\"%s", o->name, takes, text,
            list ? " (one value: lists that make a sweep are not there yet)" : "");
    return NULL;
}
static void number_text(char out[32], double v) {
    if (fabs(v) < 1e15 && v == floor(v)) {
        snprintf(out, 32, "%.0f", v);
    } else {
        snprintf(out, 32, "%g", v);
    }
}
static char *check_number(const struct option *o, const char *text, double *number, struct err *e) {
    char takes[120], low[32], high[32], *end = NULL;
    number_text(low, o->min);
    number_text(high, o->max);
    const char *kind = o->type == OPTION_INT ? "a whole number" : "a number";
    snprintf(takes, sizeof takes, isinf(o->max) ? "%s of at least %s" : "%s from %s to %s", kind, low, high);
    errno = 0;
    const double v = strtod(text, &end);
    const bool hex = strpbrk(text, "xX") != NULL;
    if (end == text || *end || hex || isspace((unsigned char)*text) || !isfinite(v)) return refuse(o, text, takes, e);
    if (o->type == OPTION_INT && v != floor(v)) return refuse(o, text, takes, e);
    if (v < o->min || v > o->max) return refuse(o, text, takes, e);
    *number = v;
    return mem_string(text);
}
static char *check_choice(const struct option *o, const char *text, struct err *e) {
    char name[40];
    if (pick(o->choices, text, name)) return mem_string(name);
    struct buf takes;
    buf_init(&takes, 512);
    for (int i = 0; option_choice(o->choices, i, name); i++) buf_printf(&takes, "%s%s", i ? ", " : "", name);
    refuse(o, text, buf_text(&takes), e);
    buf_fini(&takes);
    return NULL;
}
static char *check_flag(const struct option *o, const char *text, double *number, struct err *e) {
    static const char *const yes[] = { "true", "1", "yes", "on" }, *const no[] = { "false", "0", "no", "off" };
    for (size_t i = 0; i < 4; i++)
        if (!strcasecmp(text, yes[i]) || !strcasecmp(text, no[i])) {
            *number = !strcasecmp(text, yes[i]);
            return mem_string(*number ? "true" : "false");
        }
    return refuse(o, text, "true or false", e);
}
char *option_check(const struct option *o, const char *text, double *number, struct err *e) {
    char *checked;
    switch (o->type) {
    case OPTION_INT:
    case OPTION_FLOAT: checked = check_number(o, text, number, e); break;
    case OPTION_CHOICE: checked = check_choice(o, text, e); break;
    case OPTION_FLAG: checked = check_flag(o, text, number, e); break;
    case OPTION_LATER:
        if (!o->def || strcmp(o->def, text)) {
            err_set(e, STATUS_INVALID, "--%s is not there yet: %s", o->name, o->help);
            return NULL;
        }
        /* fall through */
    default: checked = mem_string(text);
    }
    if (!checked) err_set(e, STATUS_NOMEM, "out of memory for --%s", o->name);
    return checked;
}

struct reader {
    const struct grammar *g;
    struct args *out;
    struct words *w;
    int at;
    struct err *e;
};
static int add(struct reader *r, const struct option *o, const char *text, bool from_set) {
    struct args *a = r->out;
    if (a->n == a->cap) {
        const int cap = a->cap ? a->cap * 2 : 16;
        struct arg *v = mem_grow(a->v, (size_t)cap, sizeof *v);
        if (!v) return err_set(r->e, STATUS_NOMEM, "out of memory for %s", r->g->magic);
        a->v = v;
        a->cap = cap;
    }
    double number = 0;
    struct err why = { 0 };
    char *checked = option_check(o, text, &number, &why);
    if (!checked) return err_set(r->e, why.code, "%s: %s", r->g->magic, why.text);
    a->v[a->n++] = (struct arg){ o, checked, number, from_set };
    return 0;
}
/* "a,b" is two values where an option takes several; a text keeps its commas. */
static int add_each(struct reader *r, const struct option *o, const char *text) {
    const bool several = o->list && (o->type == OPTION_INT || o->type == OPTION_FLOAT || o->type == OPTION_CHOICE);
    for (const char *s = text;; s++) {
        const size_t n = several ? strcspn(s, ",") : strlen(s);
        char *one = mem_copy(s, n);
        if (!one) return err_set(r->e, STATUS_NOMEM, "out of memory for %s", r->g->magic);
        const int rc = add(r, o, one, false);
        mem_free(one);
        s += n;
        if (rc || !*s) return rc;
    }
}
static int unknown(struct reader *r, const char *name, size_t n, const char *dashes) {
    char typed[64];
    snprintf(typed, sizeof typed, "%.*s", (int)(n < 60 ? n : 60), name);
    struct nearest near;
    nearest_init(&near, typed);
    EACH_OPTION(o, r->g->groups) if (o->type != OPTION_LATER) nearest_offer_with(&near, o->name, o->aliases);
    struct buf hint;
    buf_init(&hint, 512);
    nearest_text(&near, "--", &hint);
    err_set(r->e, STATUS_INVALID, "unknown option %s%s for %s.%s  (%s? for all)", dashes, typed, r->g->magic,
            buf_text(&hint), r->g->magic);
    buf_fini(&hint);
    return STATUS_INVALID;
}
/* The only option whose shown name starts with name; an error when several do. */
static const struct option *by_prefix(struct reader *r, const char *name, size_t n) {
    const struct option *found = NULL;
    bool many = false;
    EACH_OPTION(o, r->g->groups) {
        if (o->type == OPTION_LATER || !starts(o->name, name, n)) continue;
        many |= found != NULL;
        found = found ? found : o;
    }
    if (!many) return found;
    struct buf all;
    buf_init(&all, 256);
    EACH_OPTION(o, r->g->groups)
    if (o->type != OPTION_LATER && starts(o->name, name, n)) buf_printf(&all, " --%s", o->name);
    err_set(r->e, STATUS_INVALID, "%s: --%.*s could be%s", r->g->magic, (int)(n < 60 ? n : 60), name, buf_text(&all));
    buf_fini(&all);
    return NULL;
}
/* The value of o: what is behind "=" or glued on, else the next word. */
static int with_value(struct reader *r, const struct option *o, const char *value, bool negated) {
    if (o->type == OPTION_FLAG) {
        double on = 1;
        char *checked = value ? option_check(o, value, &on, r->e) : NULL;
        if (value && !checked) return r->e->code;
        mem_free(checked);
        return add(r, o, (on != 0) != negated ? "true" : "false", false);
    }
    if (!value && o->type == OPTION_LATER && !o->arg) value = "true";
    if (!value) {
        if (r->at == r->w->n)
            return err_set(r->e, STATUS_INVALID, "%s: --%s needs a value%s%s", r->g->magic, o->name, o->arg ? ": " : "",
                           o->arg ? o->arg : "");
        value = r->w->v[r->at++].text;
    }
    return add_each(r, o, value);
}
static int long_option(struct reader *r, const char *s) {
    const size_t n = strcspn(s, "=");
    bool negated;
    const struct option *o = exact(r->g->groups, s, n, &negated);
    if (!o) o = by_prefix(r, s, n);
    if (!o) return r->e->code ? r->e->code : unknown(r, s, n, "--");
    return with_value(r, o, s[n] ? s + n + 1 : NULL, negated);
}
/* -n 5, -n5, -n=5, -tp 2; 0: no short option of that name. */
static int short_option(struct reader *r, const char *s) {
    const struct option *best = NULL;
    size_t best_n = 0;
    EACH_OPTION(o, r->g->groups) for (const char *name = o->shorts; name && *name;) {
        const size_t n = strcspn(name, " ");
        if (n > best_n && !strncmp(name, s, n)) best = o, best_n = n;
        name += n + strspn(name + n, " ");
    }
    if (!best) return unknown(r, s, strlen(s), "-");
    const char *value = s[best_n] == '=' ? s + best_n + 1 : s[best_n] ? s + best_n : NULL;
    if (best->type == OPTION_FLAG && value && s[best_n] != '=') return unknown(r, s, strlen(s), "-");
    return with_value(r, best, value, false);
}
/* name=value without dashes. 1: it was none. */
static int assigned(struct reader *r, const char *s) {
    const char *eq = strchr(s, '=');
    if (!eq || eq == s || (r->g->flags & WORDS_HOLD_EQUALS)) return 1;
    bool negated;
    const size_t n = (size_t)(eq - s);
    const struct option *o = exact(r->g->groups, s, n, &negated);
    if (o) return with_value(r, o, eq + 1, negated);
    char typed[64];
    if (n >= sizeof typed || strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") < n)
        return 1;
    snprintf(typed, sizeof typed, "%.*s", (int)n, s);
    bool slip = !(r->g->flags & WORDS_ARE_TEXT); /* in free text only what is nearly an option is a slip of one */
    EACH_OPTION(p, r->g->groups) slip |= n > 3 && nearest_distance(typed, p->name) <= 2;
    return slip ? unknown(r, s, n, "") : 1;
}
static int take_word(struct reader *r, struct word *w) {
    struct words *to = &r->out->words;
    to->v[to->n++] = *w;
    w->text = NULL;
    return 0;
}
static int read_words(struct reader *r) {
    bool options = true;
    while (r->at < r->w->n) {
        struct word *w = &r->w->v[r->at++];
        const char *s = w->text;
        int rc = 1;
        if (options && !w->quoted) {
            if (!strcmp(s, "--")) {
                options = false;
                continue;
            }
            if (s[0] == '-' && s[1] == '-') {
                rc = long_option(r, s + 2);
            } else if (s[0] == '-' && s[1] && !isdigit((unsigned char)s[1]) && s[1] != '.') {
                rc = short_option(r, s + 1);
            } else {
                rc = assigned(r, s);
            }
        }
        if (rc == 1) rc = take_word(r, w);
        if (rc) return rc;
    }
    return 0;
}
/* Are there as many words as usage says? */
static int check_count(struct reader *r) {
    int least = 0, most = 0;
    bool any = false;
    for (const char *s = r->g->usage; s && *s;) {
        const size_t n = strcspn(s, " ");
        any |= memmem(s, n, "...", 3) != NULL;
        least += *s != '[';
        most++;
        s += n + strspn(s + n, " ");
    }
    const int n = r->out->words.n;
    if (n < least)
        return err_set(r->e, STATUS_INVALID, "%s needs %s  (%s? for help)", r->g->magic, r->g->usage, r->g->magic);
    if (n <= most || any) return 0;
    return err_set(r->e, STATUS_INVALID, "%s takes %s%s, so \"%.60s\" is too much  (%s? for help)", r->g->magic,
                   most ? "only " : "no arguments", most ? r->g->usage : "", r->out->words.v[most].text, r->g->magic);
}
static int add_defaults(struct reader *r, const struct variables *defaults) {
    for (int i = 0; defaults && i < defaults->n; i++) {
        const struct option *o = option_find(r->g->groups, defaults->v[i].name);
        if (!o || !o->settable) continue;
        const int rc = add(r, o, defaults->v[i].value.text, true);
        if (rc) return rc;
    }
    return 0;
}
int args_read(struct args *out, const struct grammar *g, struct words *w, const struct variables *defaults,
              struct err *e) {
    struct err own = { 0 };
    struct reader r = { .g = g, .out = out, .w = w, .e = &own };
    *out = (struct args){ .groups = g->groups };
    int rc = 0;
    if (w->n && !(out->words.v = mem_zero((size_t)w->n, sizeof *out->words.v)))
        rc = err_set(&own, STATUS_NOMEM, "out of memory for %s", g->magic);
    if (!rc) rc = add_defaults(&r, defaults); /* first, so that what is typed comes later and wins */
    if (!rc) rc = read_words(&r);
    if (!rc) rc = check_count(&r);
    words_fini(w);
    if (rc) args_fini(out);
    return rc ? err_set(e, own.code ? own.code : rc, "%s", own.text) : 0;
}
void args_fini(struct args *a) {
    for (int i = 0; i < a->n; i++) mem_free(a->v[i].text);
    mem_free(a->v);
    words_fini(&a->words);
    *a = (struct args){ 0 };
}

const struct arg *args_last(const struct args *a, const char *name) {
    for (int i = a->n - 1; i >= 0; i--)
        if (!strcmp(a->v[i].option->name, name)) return &a->v[i];
    return NULL;
}
bool args_given(const struct args *a, const char *name) { return args_last(a, name) != NULL; }
const char *args_text(const struct args *a, const char *name) {
    const struct arg *v = args_last(a, name);
    if (v) return v->text;
    const struct option *o = option_find(a->groups, name);
    return o ? o->def : NULL;
}
double args_number(const struct args *a, const char *name) {
    const struct arg *v = args_last(a, name);
    if (v) return v->number;
    const struct option *o = option_find(a->groups, name);
    return o && o->def ? strtod(o->def, NULL) : 0;
}
int args_int(const struct args *a, const char *name) { return (int)args_number(a, name); }
bool args_flag(const struct args *a, const char *name) {
    const struct arg *v = args_last(a, name);
    const struct option *o = v ? NULL : option_find(a->groups, name);
    return v ? v->number != 0 : o && o->def && !strcmp(o->def, "true");
}
char *args_join(const struct args *a, int from) {
    struct buf b;
    buf_init(&b, 64 << 20);
    for (int i = from; i < a->words.n; i++) {
        if (i > from) buf_puts(&b, " ");
        buf_puts(&b, a->words.v[i].text);
    }
    char *text = buf_take(&b);
    buf_fini(&b);
    return text;
}
