#include "home.h"
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool fits(int wrote, size_t room) { return wrote >= 0 && (size_t)wrote < room; }
const char *const home_variables[] = {
    "HOME", "XDG_CACHE_HOME", "JAEDA_MODELS", "HF_HOME", "HF_HUB_CACHE", "PWD", NULL
};
static _Thread_local const char *asked; /* lines in place of the environment */
void home_use(const char *lines) { asked = lines; }
bool home_variable(const char *name, char *out, size_t room) {
    const size_t n = strlen(name);
    const char *value = asked ? NULL : getenv(name);
    size_t len = value ? strlen(value) : 0;
    for (const char *line = asked; line && !value; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, name, n) && line[n] == '=') {
            value = line + n + 1;
            len = strcspn(value, "\n");
        }
    return len && fits(snprintf(out, room, "%.*s", (int)len, value), room);
}
static bool home(char *out, size_t room) {
    char text[4096];
    struct passwd pw, *found = NULL;
    if (home_variable("HOME", out, room)) return true;
    return !getpwuid_r(getuid(), &pw, text, sizeof text, &found) && found && *pw.pw_dir &&
           fits(snprintf(out, room, "%s", pw.pw_dir), room);
}
bool home_expand(const char *p, size_t n, char *out, size_t room) {
    char base[4096] = "";
    const bool tilde = n && p[0] == '~' && (n == 1 || p[1] == '/');
    if (tilde && !home(base, sizeof base)) return false;
    if (!tilde && asked && n && p[0] != '/' && home_variable("PWD", base, sizeof base - 1))
        memcpy(base + strlen(base), "/", 2);
    if (tilde) p++, n--;
    return n < room && fits(snprintf(out, room, "%s%.*s", base, (int)n, p), room);
}
bool home_cache(char *out, size_t room) {
    if (home_variable("XDG_CACHE_HOME", out, room) && out[0] == '/') return true;
    return home_expand("~/.cache", 8, out, room);
}
