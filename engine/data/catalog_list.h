/* catalog_list.h - private to catalog*.c: what lies in the model folders and in the hub cache. */
#ifndef JAEDA_DATA_CATALOG_LIST_H
#define JAEDA_DATA_CATALOG_LIST_H
#include "catalog.h"
#include "hub.h"

struct catalog_item {
    struct catalog_file file;
    char repo[HUB_REPO]; /* "org/name"; "" for a file or folder of its own */
    bool absent;         /* of the hub cache, but not at the revision asked for: file.path is the repository's folder */
};
struct catalog_list {
    struct catalog_item *item;
    size_t n, cap;
};
/* Everything, sorted by name. revision NULL: the model folders and the hub cache at "main"; else the hub cache alone. */
int catalog_list_all(struct catalog_list *l, const char *revision, struct err *e);
void catalog_list_fini(struct catalog_list *l);

/* Length of a file name without ".gguf"; 0: it has another ending. */
size_t catalog_stem(const char *file);
const char *catalog_base_name(const char *path);
/* The k-th word by which an entry is known: its name, its file's, its repository, each alias, and what follows the last
 * '/' of each. false: no more. */
enum { CATALOG_WORD = 128 };
bool catalog_word(const struct catalog_entry *entry, int k, char word[CATALOG_WORD]);
/* The entry that has exactly this word, any case. */
const struct catalog_entry *catalog_exact(const struct catalog_entry *table, int n, const char *name);
const struct catalog_entry *catalog_table(int *n);
/* The command that fetches a repository, which is known to be a valid name; entry: the catalogue's, or NULL. Returns like
 * snprintf. */
int catalog_fetch(const char *repo, const struct catalog_entry *entry, const char *revision, char *out, size_t room);
bool catalog_starts(const struct catalog_entry *entry, const char *name);

/* The nearest word to a name that was not found. */
struct catalog_nearest {
    const char *name;
    char best[CATALOG_WORD];
    int edits;
};
struct catalog_nearest catalog_nearest_start(const char *name);
void catalog_consider(struct catalog_nearest *near, const char *word);
void catalog_consider_all(struct catalog_nearest *near, const struct catalog_entry *table, int n);
void catalog_unknown(const struct catalog_nearest *near, struct err *e);
/* A name as it may stand in an error text: printable, not too long. */
const char *catalog_shown(const char *name, char out[80]);

#endif
