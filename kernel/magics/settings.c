/* %set %env %alias %lsmagic: what the notebook remembers between cells. */
#include "base/mem.h"
#include "kernel/language/cell.h"
#include "kernel/language/nearest.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/secret.h"
#include "kernel/present/table.h"
#include "magics.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

/* ---- %set ---- */
static const struct option *settable(const char *name) {
    for (const struct magic *m = magic_table; m->name; m++) {
        const struct option *o = m->options ? option_find(m->options, name) : NULL;
        if (o && o->settable) return o;
    }
    return NULL;
}
static int no_such_default(const char *name, struct err *e) {
    struct nearest near;
    nearest_init(&near, name);
    for (const struct magic *m = magic_table; m->name; m++)
        for (option_groups g = m->options; g && *g; g++)
            for (const struct option *o = *g; o->name; o++)
                if (o->settable) nearest_offer_with(&near, o->name, o->aliases);
    struct buf hint;
    buf_init(&hint, 512);
    nearest_text(&near, "", &hint);
    err_set(e, STATUS_INVALID,
            "%%set: no option %.60s has a default to set.%s  (%%set name=value; completion lists them)", name,
            buf_text(&hint));
    buf_fini(&hint);
    return STATUS_INVALID;
}
static int set_one(struct call *c, const char *name, const char *value) {
    const struct option *o = settable(name);
    if (!o) return no_such_default(name, c->e);
    if (!*value || !strcmp(value, "default")) return variables_drop(&c->in->defaults, o->name), 0;
    double number;
    struct err why = { 0 };
    char *checked = option_check(o, value, &number, &why);
    if (!checked) return err_set(c->e, why.code, "%%set: %s", why.text);
    const int rc = variables_set_text(&c->in->defaults, o->name, checked, strlen(checked), c->e);
    mem_free(checked);
    return rc;
}
static int show_defaults(struct call *c) {
    const struct variables *v = &c->in->defaults;
    struct doc d;
    doc_init(&d);
    if (v->n) {
        struct table t;
        table_init(&t, NULL);
        table_column(&t, "default", TABLE_LEFT);
        table_column(&t, "value", TABLE_LEFT);
        t.max_rows = 100;
        for (int i = 0; i < v->n; i++) {
            table_cell(&t, "%s", v->v[i].name);
            table_cell(&t, "%s", v->v[i].value.text);
        }
        doc_table(&d, &t);
        table_fini(&t);
    } else {
        doc_line(&d, "no default is changed; %%set temperature=0.7 max_new_tokens=64 would change two");
    }
    return show_doc(c->o, &d, c->e);
}
int magic_set(struct call *c) {
    const int n = c->args.words.n;
    if (args_flag(&c->args, "reset")) variables_fini(&c->in->defaults);
    if (!n) return show_defaults(c);
    if (n == 2 && !strchr(args_word(&c->args, 0), '=') && !strchr(args_word(&c->args, 1), '='))
        return set_one(c, args_word(&c->args, 0), args_word(&c->args, 1));
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) {
        char *word = c->args.words.v[i].text, *eq = strchr(word, '=');
        if (!eq) return err_set(c->e, STATUS_INVALID, "%%set takes name=value, not \"%.60s\"", word);
        *eq = 0;
        rc = set_one(c, word, eq + 1);
    }
    return rc;
}

/* ---- %env ---- */
static const char *shown(const char *name, const char *value, struct buf *out) {
    buf_reset(out);
    if (format_is_secret_name(name)) {
        buf_puts(out, "<hidden>");
    } else {
        format_redacted(out, value, strlen(value));
    }
    return buf_text(out);
}
static int list_env(struct call *c) {
    struct buf lines, value;
    buf_init(&lines, 8 << 20);
    buf_init(&value, 4 << 20);
    for (char **v = environ; v && *v; v++) {
        char name[256];
        const size_t n = strcspn(*v, "=");
        snprintf(name, sizeof name, "%.*s", (int)n, *v);
        buf_printf(&lines, "%s=%s\n", name, (*v)[n] ? shown(name, *v + n + 1, &value) : "");
    }
    out_stream(c->o, OUT_STDOUT, buf_text(&lines), lines.n);
    buf_fini(&lines);
    buf_fini(&value);
    return 0;
}
static int get_env(struct call *c, const char *name) {
    const char *value = getenv(name);
    if (!value)
        return err_set(c->e, STATUS_NOTFOUND, "the environment has no %.80s  (%%env %.80s=value sets it)", name, name);
    struct buf text;
    buf_init(&text, 4 << 20);
    shown(name, value, &text);
    buf_puts(&text, "\n");
    out_stream(c->o, OUT_STDOUT, buf_text(&text), text.n);
    buf_fini(&text);
    return 0;
}
static int put_env(struct call *c, const char *name, const char *value, bool typed) {
    if (!*name || strchr(name, '='))
        return err_set(c->e, STATUS_INVALID, "%%env: \"%.60s\" is no name of a variable", name);
    secret_named(name, value);
    if (setenv(name, value, 1)) return err_set(c->e, STATUS_NOMEM, "out of memory for the environment");
    struct buf text;
    buf_init(&text, 4 << 20);
    out_printf(c->o, "env: %s=%s\n", name, shown(name, value, &text));
    if (typed && format_is_secret_name(name))
        out_printf(c->o, "the value stays in this cell's text: %%env --ask %s leaves no trace\n", name);
    buf_fini(&text);
    return 0;
}
static int ask_env(struct call *c, const char *name) {
    struct buf reply;
    char prompt[300];
    buf_init(&reply, 1 << 20);
    snprintf(prompt, sizeof prompt, "%.250s: ", name);
    int rc = out_input(c->o, prompt, true, &reply, c->e);
    if (!rc && memchr(buf_text(&reply), 0, reply.n))
        rc = err_set(c->e, STATUS_INVALID, "%%env: a value cannot hold a NUL");
    if (!rc && (!*name || strchr(name, '=')))
        rc = err_set(c->e, STATUS_INVALID, "%%env: \"%.60s\" is no name of a variable", name);
    if (!rc) secret_add(buf_text(&reply));
    if (!rc && setenv(name, buf_text(&reply), 1)) rc = err_set(c->e, STATUS_NOMEM, "out of memory for the environment");
    if (!rc) out_printf(c->o, "env: %s=<hidden>\n", name);
    if (reply.p) explicit_bzero(reply.p, reply.cap);
    buf_fini(&reply);
    return rc;
}
int magic_env(struct call *c) {
    const char *ask = args_text(&c->args, "ask"), *drop = args_text(&c->args, "unset"), *name = args_word(&c->args, 0);
    if (ask) return ask_env(c, ask);
    if (drop)
        return unsetenv(drop) ? err_set(c->e, STATUS_INVALID, "%%env: \"%.60s\" is no name of a variable", drop) : 0;
    if (!name) return list_env(c);
    char *all = args_join(&c->args, 0);
    if (!all) return err_set(c->e, STATUS_NOMEM, "out of memory for the environment");
    char *cut = all + strcspn(all, "= ");
    int rc;
    if (!*cut) {
        rc = get_env(c, all);
    } else {
        const bool spaced = *cut == ' ' && cut[1] == '='; /* NAME = value */
        char *value = cut + 1 + spaced;
        if (spaced && *value == ' ') value++;
        *cut = 0;
        rc = put_env(c, all, value, true);
    }
    mem_free(all);
    return rc;
}

/* ---- %alias ---- */
static int list_aliases(struct call *c) {
    struct doc d;
    doc_init(&d);
    struct table t;
    table_init(&t, NULL);
    table_column(&t, "alias", TABLE_LEFT);
    table_column(&t, "stands for", TABLE_LEFT);
    t.max_rows = 200;
    for (int i = 0; i < c->in->aliases.n; i++) {
        table_cell(&t, "%s", c->in->aliases.v[i].name);
        table_cell(&t, "%s", c->in->aliases.v[i].value.text);
    }
    if (c->in->aliases.n) {
        doc_table(&d, &t);
    } else {
        doc_line(&d, "no aliases; %%alias small %s would make one", DEFAULT_MODEL);
    }
    table_fini(&t);
    return show_doc(c->o, &d, c->e);
}
static int check_alias(const char *name, const char *what, struct err *e) {
    if (!cell_name_length(name, strlen(name))) return err_set(e, STATUS_INVALID, "%%alias: \"%.60s\" is no name", name);
    if (alias_is_command(what)) {
        if (magic_find(name))
            return err_set(e, STATUS_INVALID, "%%alias: %%%.60s is a magic already; take another name", name);
        return 0;
    }
    if (!strpbrk(what, " \t")) return 0;
    return err_set(
        e, STATUS_INVALID,
        "%%alias: \"%.60s\" is no model. A shell command: %%alias %.40s !%.60s; a magic: %%alias %.40s %%...", what,
        name, what, name);
}
int magic_alias(struct call *c) {
    const char *s = c->rest;
    if (!*s) return list_aliases(c);
    const size_t n = strcspn(s, " \t=");
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)(n < 120 ? n : 120), s);
    const char *what = s + n + strspn(s + n, " \t=");
    c->in->changed = true;
    if (!strcmp(name, "-d")) {
        if (!*what || !variables_drop(&c->in->aliases, what))
            return err_set(c->e, STATUS_NOTFOUND, "%%alias: no alias \"%.60s\"", what);
        return 0;
    }
    if (!*what) {
        const struct literal *v = variables_get(&c->in->aliases, name);
        if (!v)
            return err_set(c->e, STATUS_NOTFOUND, "%%alias: no alias \"%.60s\"  (%%alias %.60s WHAT makes it)", name,
                           name);
        out_printf(c->o, "%s = %s\n", name, v->text);
        return 0;
    }
    if (check_alias(name, what, c->e)) return c->e->code;
    return variables_set_text(&c->in->aliases, name, what, strlen(what), c->e);
}

/* ---- %lsmagic ---- */
static json_t *magics_json(void) {
    json_t *all = json_object();
    for (const struct magic *m = magic_table; m->name; m++)
        json_object_set_new(all, m->name,
                            json_pack("{s:b, s:b, s:s, s:s}", "line", !!(m->flags & MAGIC_LINE), "cell",
                                      !!(m->flags & MAGIC_CELL), "aliases", m->aliases, "summary", m->summary));
    return all;
}
int magic_lsmagic(struct call *c) {
    if (args_flag(&c->args, "json")) {
        json_t *all = magics_json();
        char *text = json_dumps(all, JSON_INDENT(1));
        if (text) out_printf(c->o, "%s\n", text);
        free(text);
        json_decref(all);
        return text ? 0 : err_set(c->e, STATUS_NOMEM, "out of memory");
    }
    struct table t;
    table_init(&t, NULL);
    table_column(&t, "magic", TABLE_LEFT);
    table_column(&t, "what it does (%name? explains)", TABLE_LEFT);
    t.max_rows = 200;
    for (const struct magic *m = magic_table; m->name; m++) {
        const bool line = m->flags & MAGIC_LINE, cell = m->flags & MAGIC_CELL;
        table_cell(&t, "%s%s%s%s%s", line ? "%" : "", line ? m->name : "", line && cell ? " " : "", cell ? "%%" : "",
                   cell ? m->name : "");
        table_cell(&t, "%s", m->summary);
    }
    struct doc d;
    doc_init(&d);
    doc_table(&d, &t);
    doc_line(&d,
             "Any other text is a prompt to the loaded model; !command runs in the shell; name = value sets $name.");
    table_fini(&t);
    return show_doc(c->o, &d, c->e);
}
