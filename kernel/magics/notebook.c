/* %history %time %%capture %clear %cd %pwd %%bash: what people know from other notebooks. */
#include "base/mem.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "magics.h"
#include "shell.h"
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_MAX = 64 << 20 };

/* ---- %history ---- */
struct listing {
    struct buf text;
    int from, to;           /* inputs of this session; 0: all */
    bool numbers, sessions; /* sessions: those of other notebooks may be among them */
    const char *pattern;    /* NULL: any */
};
static bool matches(const char *pattern, const char *input) {
    if (!pattern) return true;
    char glob[512];
    snprintf(glob, sizeof glob, "*%.500s*", pattern);
    return !fnmatch(glob, input, 0);
}
static void add_input(void *to, int session, int number, const char *input) {
    struct listing *l = to;
    if (!matches(l->pattern, input)) return;
    if (l->from && (number < l->from || number > l->to)) return;
    if (l->numbers && l->sessions) {
        buf_printf(&l->text, "%4d/%d: ", session, number);
    } else if (l->numbers) {
        buf_printf(&l->text, "%4d: ", number);
    }
    format_redacted(&l->text, input, strlen(input));
    buf_puts(&l->text, "\n");
}
static int range(const char *text, struct listing *l, struct err *e) {
    char *end;
    errno = 0;
    const long from = strtol(text, &end, 10);
    long to = from;
    if (end != text && *end == '-') {
        const char *second = end + 1;
        to = *second ? strtol(second, &end, 10) : INT_MAX;
        if (!*second) end++;
    }
    if (end == text || *end || from < 1 || to < from || errno || from > INT_MAX)
        return err_set(e, STATUS_INVALID, "%%history takes numbers of cells such as 4 or 2-6, not \"%.60s\"", text);
    l->from = (int)from;
    l->to = to > INT_MAX ? INT_MAX : (int)to;
    return 0;
}
int magic_history(struct call *c) {
    struct listing l = { .numbers = args_flag(&c->args, "numbers"), .pattern = args_text(&c->args, "grep") };
    const char *which = args_word(&c->args, 0);
    if (which && range(which, &l, c->e)) return c->e->code;
    if (!c->in->host.history) return err_set(c->e, STATUS_NOTFOUND, "%%history: this kernel keeps no history");
    buf_init(&l.text, TEXT_MAX);
    l.sessions = args_given(&c->args, "limit") || l.pattern;
    const bool limited = args_given(&c->args, "limit");
    const int n = limited ? args_int(&c->args, "limit") : l.pattern && !which ? 100000 : 0;
    c->in->host.history(c->in->host.arg, 0, n, add_input, &l);
    if (l.text.n) out_stream(c->o, OUT_STDOUT, buf_text(&l.text), l.text.n);
    buf_fini(&l.text);
    return 0;
}

/* ---- %time ---- */
struct clocks {
    double wall, user, sys;
};
static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec * 1e-6; }
static struct clocks clocks_now(void) {
    struct timespec t;
    struct rusage self, children;
    clock_gettime(CLOCK_MONOTONIC, &t);
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    return (struct clocks){ (double)t.tv_sec + (double)t.tv_nsec * 1e-9,
                            seconds(self.ru_utime) + seconds(children.ru_utime),
                            seconds(self.ru_stime) + seconds(children.ru_stime) };
}
/* The times stand there also when the line failed: how long until it did. */
int magic_time(struct call *c) {
    const char *code = c->body ? c->body : c->rest;
    const size_t n = c->body ? c->body_len : strlen(c->rest);
    if (c->body && *c->rest)
        return err_set(c->e, STATUS_INVALID, "%%%%time takes its lines from below, not from its own line");
    if (!n) return err_set(c->e, STATUS_INVALID, "%%time needs a line to run, such as %%time %%load %s", DEFAULT_MODEL);
    const struct clocks a = clocks_now();
    const int rc = interp_run(c->in, c->o, code, n, c->e);
    const struct clocks b = clocks_now();
    char user[32], sys[32], total[32], wall[32];
    format_seconds(user, b.user - a.user);
    format_seconds(sys, b.sys - a.sys);
    format_seconds(total, b.user - a.user + b.sys - a.sys);
    format_seconds(wall, b.wall - a.wall);
    out_printf(c->o, "CPU times: user %s, sys: %s, total: %s\nWall time: %s\n", user, sys, total, wall);
    return rc;
}

/* ---- %%capture ---- */
static void add_displays(struct buf *text, const json_t *displays) {
    size_t i;
    json_t *d;
    json_array_foreach(displays, i, d) {
        const json_t *plain = json_object_get(json_object_get(d, "data"), "text/plain");
        if (!plain) continue;
        buf_add(text, json_string_value(plain), json_string_length(plain));
        buf_puts(text, "\n");
    }
}
/* The variable gets the standard output, then the text of the displays, then the errors' stream. */
int magic_capture(struct call *c) {
    struct capture kept = { .keep = { !args_flag(&c->args, "no-stdout"), !args_flag(&c->args, "no-stderr"),
                                      !args_flag(&c->args, "no-display") } };
    struct buf text;
    buf_init(&kept.text[0], TEXT_MAX);
    buf_init(&kept.text[1], TEXT_MAX);
    buf_init(&text, 4 * TEXT_MAX);
    out_capture_begin(c->o, &kept);
    int rc = interp_run(c->in, c->o, c->body, c->body_len, c->e);
    out_capture_end(c->o, &kept);
    buf_add(&text, buf_text(&kept.text[0]), kept.text[0].n);
    add_displays(&text, kept.displays);
    buf_add(&text, buf_text(&kept.text[1]), kept.text[1].n);
    const char *name = args_word(&c->args, 0);
    if (text.failed || kept.text[0].failed || kept.text[1].failed) {
        if (!rc) rc = err_set(c->e, STATUS_NOMEM, "%%%%capture: more than 64 MiB of output");
    } else if (name) {
        const int set = interp_set(c->in, name, buf_text(&text), text.n, rc ? NULL : c->e);
        if (!rc) rc = set;
    }
    buf_fini(&kept.text[0]);
    buf_fini(&kept.text[1]);
    buf_fini(&text);
    json_decref(kept.displays);
    return rc;
}
int magic_clear(struct call *c) {
    out_clear(c->o, args_flag(&c->args, "wait"));
    return 0;
}

/* ---- folders ---- */
int magic_pwd(struct call *c) {
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here)) return err_set(c->e, STATUS_IO, "%%pwd: %s", strerror(errno));
    out_printf(c->o, "%s\n", here);
    return 0;
}
int magic_cd(struct call *c) {
    const char *to = args_word(&c->args, 0), *old = getenv("OLDPWD");
    char here[PATH_MAX], path[4096];
    if (!to) to = "~";
    if (!strcmp(to, "-") && !old) return err_set(c->e, STATUS_INVALID, "%%cd -: there is no folder before this one");
    if (file_expand(!strcmp(to, "-") ? old : to, path, c->e)) return c->e->code;
    const bool known = getcwd(here, sizeof here) != NULL;
    if (chdir(path)) return err_set(c->e, STATUS_IO, "%%cd %.200s: %s", path, strerror(errno));
    if (known) setenv("OLDPWD", here, 1);
    return magic_pwd(c);
}

/* ---- %%bash ---- */
int magic_bash(struct call *c) {
    const char *program = !strcmp(c->typed, "sh") ? "sh" : "bash";
    const char *argv[] = { program, "/dev/fd/9", NULL };
    const char *out = args_text(&c->args, "out"), *errors = args_text(&c->args, "err");
    struct buf text[2];
    for (int i = 0; i < 2; i++) buf_init(&text[i], TEXT_MAX);
    const struct shell s = { .argv = argv,
                             .script = c->body,
                             .script_len = c->body_len,
                             .text = { out ? &text[0] : NULL, errors ? &text[1] : NULL } };
    int status = 0, rc = shell_run(c->o, &s, &status, c->e);
    if (!rc && out) rc = interp_set(c->in, out, buf_text(&text[0]), text[0].n, c->e);
    if (!rc && errors) rc = interp_set(c->in, errors, buf_text(&text[1]), text[1].n, c->e);
    for (int i = 0; i < 2; i++) buf_fini(&text[i]);
    if (rc || !status || !args_flag(&c->args, "raise-error")) return rc;
    if (status > 128)
        return err_set(c->e, STATUS_SHELL, "%%%%%s: the script was ended by signal %d (%s)", c->typed, status - 128,
                       strsignal(status - 128));
    return err_set(c->e, STATUS_SHELL, "%%%%%s: the script ended with status %d%s", c->typed, status,
                   status == 127 ? " (command not found)" : "");
}
