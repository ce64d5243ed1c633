#include "home.h"
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool fits(int wrote, size_t room) { return wrote >= 0 && (size_t)wrote < room; }
static bool home(char *out, size_t room) {
    const char *h = getenv("HOME");
    char text[4096];
    struct passwd pw, *found = NULL;
    if ((!h || !*h) && !getpwuid_r(getuid(), &pw, text, sizeof text, &found) && found) h = pw.pw_dir;
    return h && *h && fits(snprintf(out, room, "%s", h), room);
}
bool home_expand(const char *p, size_t n, char *out, size_t room) {
    char base[4096] = "";
    const bool tilde = n && p[0] == '~' && (n == 1 || p[1] == '/');
    if (tilde && !home(base, sizeof base)) return false;
    if (tilde) p++, n--;
    return n < room && fits(snprintf(out, room, "%s%.*s", base, (int)n, p), room);
}
bool home_cache(char *out, size_t room) {
    const char *cache = getenv("XDG_CACHE_HOME");
    if (cache && cache[0] == '/' && fits(snprintf(out, room, "%s", cache), room)) return true;
    return home_expand("~/.cache", 8, out, room);
}
