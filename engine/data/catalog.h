/* catalog.h - names people type -> files on this disk, and what the project knows about a model: its prompt template. */
#ifndef JAEDA_DATA_CATALOG_H
#define JAEDA_DATA_CATALOG_H
#include "base/err.h"
#include <stdint.h>

struct catalog_entry {
    const char *name;                   /* "smollm2-135m" */
    const char *aliases;                /* separated by blanks: "smollm2 HuggingFaceTB/SmolLM2-135M-Instruct" */
    const char *file;                   /* file name to look for in the model folders */
    const char *template_name, *system; /* default template and system message (NULL: none) */
    const char *get;                    /* one command that fetches it */
    const char *about;
};
int catalog_count(void);
const struct catalog_entry *catalog_at(int i);
/* By name or alias, any case; else the only entry whose name or alias tail starts with it. NULL and an error that
 * names the nearest candidates (or, when several match, lists them). */
const struct catalog_entry *catalog_find(const char *name, struct err *e);
/* The same over another table, for tests. */
const struct catalog_entry *catalog_find_in(const struct catalog_entry *table, int n, const char *name, struct err *e);

enum { CATALOG_FOLDERS = 8, CATALOG_PATH = 512 };
/* Model folders, in order: $JAEDA_MODELS (colon-separated), $XDG_CACHE_HOME/jaeda/models or ~/.cache/jaeda/models.
 * Returns how many. */
int catalog_folders(char out[CATALOG_FOLDERS][CATALOG_PATH]);
/* The path of a model: an existing file as given (a leading ~/ is expanded), or a catalogue name found in a folder, or a
 * .gguf of a folder by its name without the ending. *entry: the catalogue's, or NULL. */
int catalog_resolve(const char *name, char path[CATALOG_PATH], const struct catalog_entry **entry, struct err *e);

struct catalog_file {
    char path[CATALOG_PATH], name[64]; /* name: what %load takes, the catalogue's or the file's without the ending */
    const struct catalog_entry *entry; /* NULL: a file that the catalogue does not know */
    uint64_t bytes;
};
/* Every *.gguf in the model folders, by name; the first folder wins where two hold the same file name. Returns how many
 * (0: none), or a status below 0. *out is the caller's (mem_free). */
int catalog_files(struct catalog_file **out, struct err *e);

#endif
