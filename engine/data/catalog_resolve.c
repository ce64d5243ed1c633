/* From what a person typed to a path on this disk. */
#include "base/buf.h"
#include "catalog_list.h"
#include "home.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

struct wanted {
    const char *name, *revision;
    struct err *e;
};
/* How well an item fits a name: wholly, by the tail of its repository, by a start. */
enum fit { NO_FIT, FIT_START, FIT_TAIL, FIT_WHOLE };

static enum fit fit_of(const struct catalog_item *item, const char *name) {
    const char *base = catalog_base_name(item->file.path), *shown = item->file.name;
    const size_t n = strlen(name), stem = item->absent ? 0 : catalog_stem(base);
    if ((stem == n && !strncasecmp(name, base, n)) || !strcasecmp(name, shown)) return FIT_WHOLE;
    const char *repo = stem ? "" : item->repo; /* one file of a repository is not the repository */
    const char *tail = catalog_base_name(*repo ? repo : shown);
    if (!strcasecmp(name, repo)) return FIT_WHOLE;
    if (!strcasecmp(name, tail)) return FIT_TAIL;
    const bool starts = !strncasecmp(name, shown, n) || !strncasecmp(name, tail, n) || !strncasecmp(name, repo, n);
    return starts ? FIT_START : NO_FIT;
}
static const struct catalog_item *item_of(const struct catalog_list *l, const struct catalog_entry *entry) {
    for (size_t i = 0; i < l->n; i++)
        if (l->item[i].file.entry == entry) return &l->item[i];
    return NULL;
}
/* What a name may mean; how many different models, their names for an error text, and the last of them. */
struct matches {
    int n;
    const struct catalog_item *item;   /* lies here */
    const struct catalog_entry *entry; /* is known, but does not */
    struct buf names;
};
static void match(struct matches *m, const char *name, const struct catalog_item *item,
                  const struct catalog_entry *entry) {
    buf_printf(&m->names, "%s%s", m->n++ ? ", " : "", name);
    m->item = item;
    m->entry = item ? NULL : entry;
}
static void match_items(struct matches *m, const struct catalog_list *l, const char *name, enum fit fit) {
    for (size_t i = 0; i < l->n; i++)
        if (fit_of(&l->item[i], name) == fit) match(m, l->item[i].file.name, &l->item[i], NULL);
}
static void match_starts(struct matches *m, const struct catalog_list *l, const char *name) {
    int n;
    const struct catalog_entry *table = catalog_table(&n);
    match_items(m, l, name, FIT_START);
    for (int i = 0; i < n; i++) {
        const struct catalog_item *here = item_of(l, &table[i]);
        const bool counted = here && fit_of(here, name) == FIT_START;
        if (!counted && catalog_starts(&table[i], name)) match(m, table[i].name, here, &table[i]);
    }
}

/* The model is known, by the catalogue or by a repository's name, but not here. */
static int not_here(const struct wanted *w, const struct catalog_entry *entry, const char *repo) {
    char get[400];
    const char *known = entry ? entry->name : repo, *command = entry ? entry->get : get;
    if (entry) repo = entry->repo;
    if (repo && (!entry || w->revision)) {
        catalog_fetch(repo, entry, w->revision, get, sizeof get);
        command = get;
    }
    if (entry && entry->gated)
        return err_set(w->e, STATUS_NOTFOUND, "%s is not on this disk; %s; then: %s", known, entry->gated, command);
    const bool hub = !strncmp(command, "hf ", 3);
    return err_set(w->e, STATUS_NOTFOUND, "%s is not on this disk; get it with: %s%s", known, command,
                   hub ? " (hf comes with: pip install -U huggingface_hub)" : "");
}
static int take(const struct wanted *w, const struct catalog_item *item, char path[CATALOG_PATH],
                const struct catalog_entry **entry) {
    char get[400], snapshot[HUB_PATH];
    *entry = item->file.entry;
    if (!item->absent) {
        snprintf(path, CATALOG_PATH, "%s", item->file.path);
        return 0;
    }
    struct err why = { 0 };
    const int rc = hub_snapshot(item->file.path, w->revision, snapshot, &why);
    catalog_fetch(item->repo, item->file.entry, w->revision, get, sizeof get);
    if (rc == STATUS_NOTFOUND) return err_set(w->e, rc, "%s: %s; get it with: %s", item->repo, why.text, get);
    return err_set(w->e, rc ? rc : STATUS_BUSY, "%s: %s", item->repo, rc ? why.text : "is changing; try again");
}
/* Nothing has the name: it may be a near miss, or a repository that nobody fetched yet. */
static int unknown(const struct wanted *w, const struct catalog_list *l) {
    int n;
    const struct catalog_entry *table = catalog_table(&n);
    if (strchr(w->name, '/') && hub_repo_valid(w->name)) return not_here(w, NULL, w->name);
    struct catalog_nearest near = catalog_nearest_start(w->name);
    catalog_consider_all(&near, table, n);
    for (size_t i = 0; i < l->n; i++) catalog_consider(&near, l->item[i].file.name);
    catalog_unknown(&near, w->e);
    return STATUS_NOTFOUND;
}
/* Whole names first, the catalogue's before what lies here; then the tails of repositories, then starts. */
static int resolve_name(const struct wanted *w, const struct catalog_list *l, char path[CATALOG_PATH],
                        const struct catalog_entry **entry) {
    int n;
    const struct catalog_entry *table = catalog_table(&n), *exact = catalog_exact(table, n, w->name);
    const struct catalog_item *here = exact ? item_of(l, exact) : NULL;
    struct matches m = { 0 };
    char shown[80];
    buf_init(&m.names, 200);
    if (exact) match(&m, exact->name, here, exact);
    if (!m.n) match_items(&m, l, w->name, FIT_WHOLE);
    if (!m.n) match_items(&m, l, w->name, FIT_TAIL);
    if (!m.n) match_starts(&m, l, w->name);
    int rc;
    if (!m.n) {
        rc = unknown(w, l);
    } else if (m.n > 1) {
        rc = err_set(w->e, STATUS_INVALID, "'%s' may mean %s; write more of it", catalog_shown(w->name, shown),
                     buf_text(&m.names));
    } else if (m.item) {
        rc = take(w, m.item, path, entry);
    } else {
        *entry = m.entry;
        rc = not_here(w, m.entry, NULL);
    }
    buf_fini(&m.names);
    return rc;
}

static const struct catalog_entry *entry_of_path(const char *path, bool folder) {
    int n;
    char word[CATALOG_PATH];
    const struct catalog_entry *table = catalog_table(&n);
    const char *base = catalog_base_name(path);
    if (folder && hub_repo_of_path(path, word)) return catalog_exact(table, n, word);
    snprintf(word, sizeof word, "%.*s", (int)(folder ? strlen(base) : catalog_stem(base)), base);
    return *word ? catalog_exact(table, n, word) : NULL;
}
/* 1: path exists and is what was meant; 0: a name was meant; else an error. */
static int resolve_path(const struct wanted *w, char path[CATALOG_PATH], const struct catalog_entry **entry) {
    struct stat st, ignored;
    char shown[80], config[CATALOG_PATH + 16], repo[HUB_REPO], snapshot[HUB_PATH];
    const bool given = strchr("/~.", w->name[0]) || (catalog_stem(w->name) && strchr(w->name, '/'));
    const int why = stat(path, &st) ? errno : 0;
    catalog_shown(w->name, shown);
    if (why && given)
        return err_set(w->e, STATUS_NOTFOUND, "'%s': %s; see %%models for the models here", shown, strerror(why));
    snprintf(config, sizeof config, "%s/config.json", path);
    if (why || !(given || S_ISREG(st.st_mode) || !stat(config, &ignored))) return 0;
    if (S_ISDIR(st.st_mode) && hub_repo_name(catalog_base_name(path), repo)) {
        const int rc = hub_snapshot(path, w->revision, snapshot, w->e);
        if (rc) return rc;
        snprintf(path, CATALOG_PATH, "%s", snapshot);
    } else if (w->revision) {
        return err_set(w->e, STATUS_INVALID, "'%s' is a path; a revision is of a repository in the hub cache", shown);
    }
    *entry = entry_of_path(path, S_ISDIR(st.st_mode));
    return 1;
}
int catalog_resolve(const char *name, const char *revision, char path[CATALOG_PATH], const struct catalog_entry **entry,
                    struct err *e) {
    const struct wanted given = { name, revision, e };
    char shown[80], bare[CATALOG_PATH];
    struct catalog_list l;
    *entry = NULL;
    if (!*name) return err_set(e, STATUS_INVALID, "give a model's name or the path of a .gguf file or a folder");
    if (!home_expand(name, strlen(name), path, CATALOG_PATH))
        return err_set(e, STATUS_INVALID, "'%s...': the path is too long", catalog_shown(name, shown));
    if (revision && !hub_revision_valid(revision))
        return err_set(e, STATUS_INVALID, "revision '%s': a branch, a tag or a commit is letters, digits and ._-/ only",
                       catalog_shown(revision, shown));
    int known;
    if (!catalog_table(&known)) return err_set(e, STATUS_NOMEM, "no memory for the catalogue; close other programs");
    int rc = resolve_path(&given, path, entry);
    if (rc) return rc > 0 ? 0 : rc;
    rc = catalog_list_all(&l, revision, e);
    if (rc) return rc;
    snprintf(bare, sizeof bare, "%.*s", (int)(catalog_stem(name) ? catalog_stem(name) : strlen(name)), name);
    const struct wanted w = { bare, revision, e };
    rc = resolve_name(&w, &l, path, entry);
    catalog_list_fini(&l);
    return rc;
}
