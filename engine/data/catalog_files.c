/* What models lie in the model folders and in the hub cache. */
#include "base/mem.h"
#include "catalog_list.h"
#include "home.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { ITEMS_MAX = 4096 };

int catalog_folders(char out[CATALOG_FOLDERS][CATALOG_PATH]) {
    int n = 0;
    char base[CATALOG_PATH], list[4096];
    if (!home_variable("JAEDA_MODELS", list, sizeof list)) list[0] = 0;
    for (const char *at = list; *at && n < CATALOG_FOLDERS - 1; at += strspn(at, ":")) {
        const size_t len = strcspn(at, ":");
        if (len && home_expand(at, len, out[n], CATALOG_PATH)) n++;
        at += len;
    }
    if (home_cache(base, sizeof base) && snprintf(out[n], CATALOG_PATH, "%s/jaeda/models", base) < CATALOG_PATH) n++;
    return n;
}
static bool is_file(const char *path, uint64_t *bytes) {
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return false;
    *bytes = (uint64_t)st.st_size;
    return true;
}
static bool is_folder(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}
static bool ends(const char *s, const char *end) {
    const size_t n = strlen(s), k = strlen(end);
    return n > k && !strcasecmp(s + n - k, end);
}
static const struct catalog_entry *entry_of(const char *name) {
    int n;
    const struct catalog_entry *table = catalog_table(&n);
    return catalog_exact(table, n, name);
}
static int add(struct catalog_list *l, const struct catalog_item *item) {
    if (l->n >= ITEMS_MAX) return 0;
    if (l->n == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : 8;
        struct catalog_item *grown = mem_grow(l->item, cap, sizeof *grown);
        if (!grown) return -1;
        l->item = grown;
        l->cap = cap;
    }
    l->item[l->n++] = *item;
    return 0;
}
/* Adds a model unless an earlier place holds one of its name; one with weights takes the place of one without. */
static int add_once(struct catalog_list *l, const struct catalog_item *item) {
    for (size_t i = 0; i < l->n; i++) {
        struct catalog_item *other = &l->item[i];
        if (strcasecmp(other->file.name, item->file.name)) continue;
        const bool better = (other->absent && !item->absent) || (!other->file.bytes && item->file.bytes);
        if (better) *other = *item;
        return 0;
    }
    return add(l, item);
}
static void set_name(struct catalog_item *item, const char *name, size_t n) {
    const size_t room = sizeof item->file.name - 1;
    if (item->file.entry) {
        snprintf(item->file.name, room + 1, "%s", item->file.entry->name);
    } else {
        snprintf(item->file.name, room + 1, "%.*s", (int)(n < room ? n : room), name);
    }
}
static int add_gguf(struct catalog_list *l, const char *folder, const char *name, const char *repo) {
    char stem[CATALOG_PATH];
    struct catalog_item item = { 0 };
    const size_t n = catalog_stem(name);
    if (!n || snprintf(item.file.path, CATALOG_PATH, "%s/%s", folder, name) >= CATALOG_PATH) return 0;
    if (!is_file(item.file.path, &item.file.bytes)) return 0;
    snprintf(stem, sizeof stem, "%.*s", (int)n, name);
    snprintf(item.repo, sizeof item.repo, "%s", repo);
    item.file.entry = entry_of(stem);
    set_name(&item, name, n);
    return add_once(l, &item);
}
/* A folder as a model: known by repo or, "" there, by name. 1: it was one; 0: it was none; -1: no memory. */
static int add_folder(struct catalog_list *l, const char *folder, const char *name, const char *repo) {
    struct catalog_item item = { 0 };
    uint64_t torch = 0, bytes;
    bool config = false;
    int rc = 0, ggufs = 0;
    DIR *d = opendir(folder);
    for (struct dirent *at; d && rc >= 0 && (at = readdir(d));) {
        char path[CATALOG_PATH];
        if (snprintf(path, sizeof path, "%s/%s", folder, at->d_name) >= CATALOG_PATH) continue;
        config |= !strcmp(at->d_name, "config.json") && is_file(path, &bytes);
        if (ends(at->d_name, ".safetensors") && is_file(path, &bytes)) item.file.bytes += bytes;
        if (!strncmp(at->d_name, "pytorch_model", 13) && is_file(path, &bytes)) torch += bytes;
        if (!catalog_stem(at->d_name)) continue;
        rc = add_gguf(l, folder, at->d_name, repo);
        ggufs++;
    }
    if (d) closedir(d);
    if (rc < 0) return -1;
    /* A repository of GGUF files has a config.json at times, but no other weights. */
    if (!config || (ggufs && !item.file.bytes && !torch)) return ggufs > 0;
    if (!item.file.bytes) item.file.bytes = torch;
    if (snprintf(item.file.path, CATALOG_PATH, "%s", folder) >= CATALOG_PATH) return 0;
    snprintf(item.repo, sizeof item.repo, "%s", repo);
    const char *known = *repo ? repo : name;
    item.file.entry = entry_of(known);
    set_name(&item, known, strlen(known));
    return add_once(l, &item) ? -1 : 1;
}
/* What stands in a model folder: files, folders "name", and in others folders "org/name". */
static int list_inside(struct catalog_list *l, const char *folder, const char *org) {
    int rc = 0;
    DIR *d = opendir(folder);
    for (struct dirent *at; d && rc >= 0 && (at = readdir(d));) {
        char path[CATALOG_PATH], name[CATALOG_PATH];
        if (at->d_name[0] == '.' || snprintf(path, sizeof path, "%s/%s", folder, at->d_name) >= CATALOG_PATH) continue;
        if (!is_folder(path)) {
            if (!org) rc = add_gguf(l, folder, at->d_name, "");
            continue;
        }
        if (snprintf(name, sizeof name, "%s%s%s", org ? org : "", org ? "/" : "", at->d_name) >= CATALOG_PATH) continue;
        rc = add_folder(l, path, name, "");
        if (!rc && !org) rc = list_inside(l, path, at->d_name);
    }
    if (d) closedir(d);
    return rc < 0 ? -1 : 0;
}
static int list_hub(struct catalog_list *l, const char *revision) {
    char hub[HUB_PATH];
    int rc = 0;
    DIR *d = hub_folder(hub) ? opendir(hub) : NULL;
    for (struct dirent *at; d && rc >= 0 && (at = readdir(d));) {
        char path[HUB_PATH], snapshot[HUB_PATH], repo[HUB_REPO];
        if (!hub_repo_name(at->d_name, repo)) continue;
        if (snprintf(path, sizeof path, "%s/%s", hub, at->d_name) >= HUB_PATH) continue;
        if (!hub_snapshot(path, revision, snapshot, NULL)) {
            rc = add_folder(l, snapshot, repo, repo);
            continue;
        }
        if (!hub_commits(path)) continue; /* what a refused or broken download leaves */
        struct catalog_item item = { .absent = true, .file.entry = entry_of(repo) };
        memcpy(item.file.path, path, sizeof path);
        memcpy(item.repo, repo, sizeof repo);
        set_name(&item, repo, strlen(repo));
        rc = add_once(l, &item);
    }
    if (d) closedir(d);
    return rc < 0 ? -1 : 0;
}
static int by_name(const void *a, const void *b) {
    const struct catalog_item *x = a, *y = b;
    const int order = strcasecmp(x->file.name, y->file.name);
    return order ? order : strcmp(x->file.path, y->file.path);
}
int catalog_list_all(struct catalog_list *l, const char *revision, struct err *e) {
    char folder[CATALOG_FOLDERS][CATALOG_PATH];
    const int folders = revision ? 0 : catalog_folders(folder);
    int rc = 0;
    *l = (struct catalog_list){ 0 };
    for (int i = 0; i < folders && !rc; i++) rc = list_inside(l, folder[i], NULL);
    if (!rc) rc = list_hub(l, revision);
    if (rc) {
        catalog_list_fini(l);
        return err_set(e, STATUS_NOMEM, "no memory to list the model folders");
    }
    if (l->n) qsort(l->item, l->n, sizeof *l->item, by_name);
    return 0;
}
void catalog_list_fini(struct catalog_list *l) {
    mem_free(l->item);
    *l = (struct catalog_list){ 0 };
}
int catalog_files(struct catalog_file **out, struct err *e) {
    struct catalog_list l;
    int n = 0;
    *out = NULL;
    const int rc = catalog_list_all(&l, NULL, e);
    if (rc) return rc;
    *out = mem_alloc(l.n * sizeof **out);
    for (size_t i = 0; *out && i < l.n; i++)
        if (!l.item[i].absent) (*out)[n++] = l.item[i].file;
    catalog_list_fini(&l);
    return *out ? n : err_set(e, STATUS_NOMEM, "no memory to list the model folders");
}
