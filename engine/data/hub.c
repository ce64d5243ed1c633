#include "hub.h"
#include "base/buf.h"
#include "home.h"
#include "json_text.h"
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COMMIT = 40, COMMIT_MIN = 4, REF_MAX = 256, PART_MAX = 96, SHOWN = 160 };
static const char PREFIX[] = "models--";

bool hub_folder(char out[HUB_PATH]) {
    char base[HUB_PATH], set[HUB_PATH];
    if (home_variable("HF_HUB_CACHE", set, sizeof set)) return home_expand(set, strlen(set), out, HUB_PATH);
    if (home_variable("HF_HOME", set, sizeof set))
        return home_expand(set, strlen(set), base, HUB_PATH) && snprintf(out, HUB_PATH, "%s/hub", base) < HUB_PATH;
    return home_cache(base, HUB_PATH) && snprintf(out, HUB_PATH, "%s/huggingface/hub", base) < HUB_PATH;
}
static bool name_char(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
           c == '-';
}
/* Length of the part of a name at s, up to a '/' or the end; 0: not a good one. */
static size_t part(const char *s) {
    size_t n = 0;
    while (name_char(s[n])) n++;
    return n <= PART_MAX && (!s[n] || s[n] == '/') && s[0] != '.' && s[0] != '-' ? n : 0;
}
bool hub_repo_valid(const char *repo) {
    const size_t first = part(repo);
    if (!first || strstr(repo, "--") || strstr(repo, "..")) return false;
    if (!repo[first]) return true;
    const size_t second = part(repo + first + 1);
    return second && !repo[first + 1 + second];
}
bool hub_revision_valid(const char *revision) {
    const char *at = revision;
    for (size_t n; (n = part(at)); at += n + 1)
        if (!at[n]) return strlen(revision) < REF_MAX;
    return false;
}
bool hub_repo_name(const char *folder, char out[HUB_REPO]) {
    if (strncmp(folder, PREFIX, sizeof PREFIX - 1)) return false;
    const char *name = folder + sizeof PREFIX - 1, *dash = strstr(name, "--");
    const int n = dash ? snprintf(out, HUB_REPO, "%.*s/%s", (int)(dash - name), name, dash + 2)
                       : snprintf(out, HUB_REPO, "%s", name);
    return n > 0 && n < HUB_REPO && hub_repo_valid(out);
}
bool hub_repo_of_path(const char *path, char out[HUB_REPO]) {
    for (const char *at = strstr(path, PREFIX); at; at = strstr(at + 1, PREFIX)) {
        char folder[HUB_REPO];
        const size_t n = strcspn(at, "/");
        if (n >= sizeof folder || (at > path && at[-1] != '/')) continue;
        memcpy(folder, at, n);
        folder[n] = 0;
        if (hub_repo_name(folder, out)) return true;
    }
    return false;
}
static bool is_folder(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}
/* The commit that refs/REVISION holds; false: no such ref, or a broken one. */
static bool read_ref(const char *folder, const char *revision, char commit[COMMIT + 1]) {
    char path[HUB_PATH], text[REF_MAX + 1];
    uint64_t n = 0;
    if (snprintf(path, sizeof path, "%s/refs/%s", folder, revision) >= HUB_PATH) return false;
    const int fd = json_text_open(path, &n, NULL);
    if (fd < 0) return false;
    bool whole = n >= COMMIT && n <= REF_MAX && !json_text_pread(fd, text, (size_t)n, 0, path, NULL);
    close(fd);
    text[whole ? n : 0] = 0;
    whole = whole && strspn(text, "0123456789abcdef") == COMMIT && strspn(text + COMMIT, " \r\n") == n - COMMIT;
    if (whole) snprintf(commit, COMMIT + 1, "%.*s", COMMIT, text);
    return whole;
}
/* The commits in snapshots/ that begin with start: how many, the last one found, and all for an error text. */
static int commits(const char *folder, const char *start, char commit[COMMIT + 1], struct buf *shown) {
    char path[HUB_PATH];
    int n = 0;
    if (snprintf(path, sizeof path, "%s/snapshots", folder) >= HUB_PATH) return 0;
    DIR *d = opendir(path);
    for (struct dirent *at; d && (at = readdir(d));) {
        const char *name = at->d_name;
        if (strlen(name) != COMMIT || strspn(name, "0123456789abcdef") != COMMIT) continue;
        if (strncmp(name, start, strlen(start))) continue;
        memcpy(commit, name, COMMIT + 1);
        buf_printf(shown, "%s%.10s", n++ ? ", " : "", name);
    }
    if (d) closedir(d);
    return n;
}
int hub_commits(const char *folder) {
    char commit[COMMIT + 1];
    struct buf shown;
    buf_init(&shown, SHOWN);
    const int n = commits(folder, "", commit, &shown);
    buf_fini(&shown);
    return n;
}
int hub_snapshot(const char *folder, const char *revision, char out[HUB_PATH], struct err *e) {
    char commit[COMMIT + 1];
    struct buf shown;
    const char *asked = revision ? revision : "main";
    if (!hub_revision_valid(asked))
        return err_set(e, STATUS_INVALID, "a revision is a branch, a tag or a commit: letters, digits and ._-/ only");
    const bool ref = read_ref(folder, asked, commit);
    const size_t n = strlen(asked);
    const bool hex = n >= COMMIT_MIN && n <= COMMIT && strspn(asked, "0123456789abcdef") == n;
    buf_init(&shown, SHOWN);
    int found = ref ? 1 : hex ? commits(folder, asked, commit, &shown) : 0;
    int rc = 0;
    if (found > 1)
        rc = err_set(e, STATUS_INVALID, "revision '%.60s' may mean %s; write more of it", asked, buf_text(&shown));
    if (found == 1 && snprintf(out, HUB_PATH, "%s/snapshots/%s", folder, commit) >= HUB_PATH)
        rc = err_set(e, STATUS_INVALID, "%s: the path is too long", json_text_label(folder));
    if (!rc && (!found || !is_folder(out))) {
        buf_reset(&shown);
        found = commits(folder, "", commit, &shown);
        rc = err_set(e, STATUS_NOTFOUND, "revision '%.60s' is not in the hub cache (commits there: %s)", asked,
                     found ? buf_text(&shown) : "none");
    }
    buf_fini(&shown);
    return rc;
}
