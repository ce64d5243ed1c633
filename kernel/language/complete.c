#include "base/mem.h"
#include "cell.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "place.h"
#include "state.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { ENTRIES_MAX = 500 };

struct offers {
    const char *code;
    size_t start, end; /* what a match replaces */
    json_t *matches, *types;
};
static bool fits(const char *text, const char *typed, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char a = text[i] == '_' ? '-' : text[i], b = typed[i] == '_' ? '-' : typed[i];
        if (!a || strncasecmp(&a, &b, 1)) return false;
    }
    return true;
}
static void put(struct offers *f, const char *text, const char *type) {
    size_t i;
    json_t *had;
    json_array_foreach(f->matches, i, had) if (!strcmp(json_string_value(had), text)) return;
    json_t *s = json_string(text);
    if (!s) return; /* a file name that is no UTF-8 */
    json_array_append_new(f->matches, s);
    json_array_append_new(f->types, json_pack("{s:I, s:I, s:s, s:s}", "start", (json_int_t)f->start, "end",
                                              (json_int_t)f->end, "text", text, "type", type));
}
static void offer(struct offers *f, const char *text, const char *type) {
    if (fits(text, f->code + f->start, f->end - f->start)) put(f, text, type);
}
/* Offers before + name of every entry of folder (as the disk has it). suffix: only those that end so, without it. */
static void offer_folder(struct offers *f, const char *folder, const char *before, const char *suffix,
                         const char *type) {
    struct dirent **entry = NULL;
    const int n = scandir(folder, &entry, NULL, alphasort);
    const size_t typed = f->end - f->start, skip = strlen(before);
    const bool hidden = typed > skip && f->code[f->start + skip] == '.';
    for (int i = 0, shown = 0; i < n; i++) {
        char text[4600], path[4600];
        const char *name = entry[i]->d_name;
        const size_t len = strlen(name), end = suffix ? strlen(suffix) : 0;
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, name);
        const bool folder_too = !suffix && !stat(path, &st) && S_ISDIR(st.st_mode);
        const bool wanted = suffix ? len > end && !strcmp(name + len - end, suffix) : *name != '.' || hidden;
        snprintf(text, sizeof text, "%s%.*s%s", before, (int)(len - end), name, folder_too ? "/" : "");
        if (wanted && strcmp(name, ".") && strcmp(name, "..") && shown++ < ENTRIES_MAX) offer(f, text, type);
        free(entry[i]);
    }
    free(entry);
}
static void offer_paths(struct offers *f) {
    char typed[2048], folder[4200];
    const size_t n = f->end - f->start;
    if (n >= sizeof typed) return;
    memcpy(typed, f->code + f->start, n);
    typed[n] = 0;
    char *slash = strrchr(typed, '/');
    if (slash) slash[1] = 0;
    const char *home = getenv("HOME");
    if (!slash) {
        snprintf(folder, sizeof folder, ".");
        typed[0] = 0;
    } else if (!strncmp(typed, "~/", 2)) {
        snprintf(folder, sizeof folder, "%.2000s%s", home ? home : "", typed + 1);
    } else {
        snprintf(folder, sizeof folder, "%s", typed);
    }
    offer_folder(f, folder, typed, NULL, "path");
}
static void offer_models(struct offers *f, const struct snapshot *s) {
    for (int i = 0; s && i < s->models.n; i++) offer(f, s->models.v[i].name, "model");
    for (int i = 0; s && i < s->aliases.n; i++)
        if (!alias_is_command(s->aliases.v[i].value.text)) offer(f, s->aliases.v[i].name, "model");
    offer(f, DEFAULT_MODEL, "model");
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME"), *own = getenv("JAEDA_MODELS");
    char folder[1024];
    for (const char *at = own ? own : ""; *at;) {
        const size_t n = strcspn(at, ":");
        snprintf(folder, sizeof folder, "%.*s", (int)(n < 1000 ? n : 1000), at);
        offer_folder(f, folder, "", ".gguf", "model");
        at += n + (at[n] == ':');
    }
    snprintf(folder, sizeof folder, "%.900s%s/jaeda/models", cache ? cache : home ? home : "", cache ? "" : "/.cache");
    offer_folder(f, folder, "", ".gguf", "model");
    const size_t n = f->end - f->start;
    if (memchr(f->code + f->start, '/', n) || (n && (f->code[f->start] == '.' || f->code[f->start] == '~')))
        offer_paths(f);
}
/* "%b" offers %%bash too; "%%b" cell magics alone. */
static void offer_magics(struct offers *f, const struct snapshot *s, bool cell) {
    char text[80];
    size_t name = f->start;
    while (name < f->end && strchr("%?", f->code[name]) && f->code[name]) name++;
    for (int cells = cell; cells < 2; cells++)
        for (const struct magic *m = magic_table; m->name; m++) {
            snprintf(text, sizeof text, "%s%.70s", cells ? "%%" : "%", m->name);
            if ((m->flags & (cells ? MAGIC_CELL : MAGIC_LINE)) && fits(m->name, f->code + name, f->end - name))
                put(f, text, "magic");
        }
    for (int i = 0; s && !cell && i < s->aliases.n; i++) {
        snprintf(text, sizeof text, "%%%.70s", s->aliases.v[i].name);
        if (alias_is_command(s->aliases.v[i].value.text)) offer(f, text, "magic");
    }
}
static void offer_options(struct offers *f, const struct magic *m) {
    for (option_groups g = m->options; g && *g; g++)
        for (const struct option *o = *g; o->name; o++) {
            char text[80];
            const bool on = o->type == OPTION_FLAG && o->def && !strcmp(o->def, "true");
            snprintf(text, sizeof text, "--%s%s", on ? "no-" : "", o->name);
            if (o->type != OPTION_LATER) offer(f, text, "option");
        }
    offer(f, "--help", "option");
}
static void offer_values(struct offers *f, const struct option *o, const struct snapshot *s) {
    char name[40];
    for (int i = 0; o->type == OPTION_CHOICE && option_choice(o->choices, i, name); i++) offer(f, name, "value");
    if (o->type == OPTION_FLAG) offer(f, "true", "value"), offer(f, "false", "value");
    if (o->type == OPTION_PATH) offer_paths(f);
    if (!strcmp(o->name, "model") || !strcmp(o->name, "llm")) offer_models(f, s);
    if (o->type == OPTION_NAME)
        for (int i = 0; s && i < s->vars.n; i++) offer(f, s->vars.v[i].name, "variable");
    if (o->def && o->type != OPTION_CHOICE && o->type != OPTION_FLAG) offer(f, o->def, "value");
}
/* name= of %set; behind it the values. */
static void offer_defaults(struct offers *f, const struct snapshot *s) {
    const char *typed = f->code + f->start, *eq = memchr(typed, '=', f->end - f->start);
    char text[80];
    for (const struct magic *m = magic_table; m->name; m++)
        for (option_groups g = m->options; g && *g; g++)
            for (const struct option *o = *g; o->name; o++) {
                if (!o->settable) continue;
                snprintf(text, sizeof text, "%s=", o->name);
                const size_t n = strlen(text);
                if (!eq) {
                    offer(f, text, "option");
                } else if ((size_t)(eq - typed) + 1 == n && fits(text, typed, n)) {
                    f->start += n;
                    offer_values(f, o, s);
                    return;
                }
            }
}
/* "[show|delete|path] ...": what a first word may be. */
static void offer_verbs(struct offers *f, const char *usage) {
    char verb[40];
    for (const char *v = usage + 1; v[-1] != ']';) {
        const size_t n = strcspn(v, "|]");
        snprintf(verb, sizeof verb, "%.*s", (int)n, v);
        offer(f, verb, "value");
        v += n + 1;
    }
}
/* Positional words, by the kind that usage names. */
static void offer_words(struct offers *f, const struct magic *m, const struct snapshot *s) {
    const char *usage = m->usage ? m->usage : "";
    if (*usage == '[' && strcspn(usage, "|") < strcspn(usage, "]")) {
        offer_verbs(f, usage);
    } else if (strstr(usage, "MODEL")) {
        offer_models(f, s);
    } else if (strstr(usage, "FILE") || strstr(usage, "DIR")) {
        offer_paths(f);
    } else if (!strcmp(m->name, "template")) {
        offer_values(f, option_find(magic_find("generate")->options, "template"), s);
        offer(f, "default", "value");
    } else if (!strcmp(m->name, "set")) {
        offer_defaults(f, s);
    } else if (!strcmp(m->name, "env")) {
        extern char **environ;
        for (char **v = environ; v && *v; v++) {
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)(strcspn(*v, "=") < 120 ? strcspn(*v, "=") : 120), *v);
            offer(f, name, "variable");
        }
    }
}
/* "$na", "${na" at the end of the word: variables, with the $. */
static bool offer_dollar(struct offers *f, const struct snapshot *s) {
    size_t at = f->end;
    while (at > f->start && f->code[at - 1] != '$') at--;
    if (at == f->start) return false;
    const bool brace = at < f->end && f->code[at] == '{';
    const size_t name = at + brace;
    if (cell_name_length(f->code + name, f->end - name) != f->end - name) return false;
    f->start = at - 1;
    for (int i = 0; s && i < s->vars.n; i++) {
        char text[300];
        snprintf(text, sizeof text, brace ? "${%.250s}" : "$%.250s", s->vars.v[i].name);
        offer(f, text, "variable");
    }
    return true;
}
/* What a match replaces begins behind the last comma of a list. */
static void behind_comma(struct offers *f) {
    const char *comma = memrchr(f->code + f->start, ',', f->end - f->start);
    if (comma) f->start = (size_t)(comma - f->code) + 1;
}
static void offer_at(struct offers *f, const struct place *p, const struct snapshot *s) {
    size_t value = 0;
    if (p->kind == PLACE_MAGIC) {
        offer_magics(f, s, p->cell);
    } else if (p->kind == PLACE_BARE) {
        for (int i = 0; s && i < s->vars.n; i++) offer(f, s->vars.v[i].name, "variable");
    } else if (offer_dollar(f, s)) {
        return;
    } else if (p->kind == PLACE_SHELL) {
        offer_paths(f);
    } else if (p->magic) {
        const struct option *o = strcmp(p->magic->name, "set") ? place_option(p, f->code, &value) : NULL;
        if (o && value <= f->end) {
            f->start = value;
            if (o->list && o->type != OPTION_TEXT && o->type != OPTION_PATH) behind_comma(f);
            offer_values(f, o, s);
        } else if (f->end > f->start && f->code[f->start] == '-') {
            offer_options(f, p->magic);
        } else {
            if (strstr(p->magic->usage, "MODEL...")) behind_comma(f);
            offer_words(f, p->magic, s);
        }
    }
}
json_t *interp_complete(struct interp *in, const char *code, size_t n, size_t cursor) {
    if (cursor > n) cursor = n;
    const struct place p = place_find(code, n, cursor);
    struct offers f = { code, p.kind == PLACE_NONE ? cursor : p.word, cursor, json_array(), json_array() };
    struct snapshot *s = snapshot_take(in);
    if (p.kind != PLACE_NONE && f.matches && f.types) offer_at(&f, &p, s);
    snapshot_give(in, s);
    return json_pack("{s:o, s:I, s:I, s:o}", "matches", f.matches, "cursor_start", (json_int_t)f.start, "cursor_end",
                     (json_int_t)f.end, "types", f.types);
}
