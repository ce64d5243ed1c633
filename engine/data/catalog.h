/* catalog.h - names people type -> files on this disk, and what the project knows about a model (catalog.json, which is
 * built into the library): repository, prompt template, stop rules, shape. */
#ifndef JAEDA_DATA_CATALOG_H
#define JAEDA_DATA_CATALOG_H
#include "config.h"

enum { CATALOG_STOPS = 4, CATALOG_FOLDERS = 8, CATALOG_PATH = 512 };
struct catalog_entry {
    const char *name;                    /* "polyglot-ko-5.8b" */
    const char *aliases;                 /* separated by blanks; never NULL */
    const char *repo;                    /* "EleutherAI/polyglot-ko-5.8b"; NULL: only as file */
    const char *file;                    /* a GGUF's name to look for in the model folders; NULL: none */
    const char *template_name, *system;  /* default template and system message (NULL: none) */
    const char *stop[CATALOG_STOPS + 1]; /* texts that end every answer of this model; NULL after the last */
    int stop_id[CATALOG_STOPS], stop_ids;
    const char *weights; /* pattern of the weight files in repo; NULL: "*.safetensors" */
    const char *get;     /* the exact command that fetches it */
    const char *gated;   /* what to do first where the repository asks for consent; NULL: nothing */
    const char *about;
    struct model_config config; /* its true shape */
};
/* The built-in catalogue. Reading it the first time may fail for memory only: then it is empty. Any thread. */
int catalog_count(void);
const struct catalog_entry *catalog_at(int i);
/* By name, alias or repository, any case; else the only entry whose name or alias tail starts with it. NULL and an error
 * that names the nearest candidates (or, when several match, lists them). */
const struct catalog_entry *catalog_find(const char *name, struct err *e);
/* The same over another table, for tests. */
const struct catalog_entry *catalog_find_in(const struct catalog_entry *table, int n, const char *name, struct err *e);
/* A catalogue from JSON text; *out is one block of memory (mem_free it once). Returns how many entries, or a status. */
int catalog_parse(struct catalog_entry **out, const char *json, size_t n, struct err *e);

/* Model folders, in order: $JAEDA_MODELS (colon-separated), $XDG_CACHE_HOME/jaeda/models or ~/.cache/jaeda/models.
 * Returns how many. */
int catalog_folders(char out[CATALOG_FOLDERS][CATALOG_PATH]);
/* Where a model lies: an existing file or folder as given (a leading ~/ is expanded); else a catalogue name, a
 * repository ("org/name"), its unique tail in any case, or a file's name without the ending, looked for in the model
 * folders (files, folders "name" and "org/name") and in the Hugging Face hub cache ($HF_HUB_CACHE, $HF_HOME/hub,
 * ~/.cache/huggingface/hub), there at revision (NULL: "main"; a branch, tag or commit). path is a GGUF file or a folder.
 * *entry: the catalogue's, or NULL; set also when the model is known but not on this disk: then the error (NOTFOUND)
 * holds the exact command that fetches it and, for gated ones, what to accept and set. */
int catalog_resolve(const char *name, const char *revision, char path[CATALOG_PATH], const struct catalog_entry **entry,
                    struct err *e);

struct catalog_file {
    char path[CATALOG_PATH], name[64]; /* name: what %load takes: the catalogue's, the repository's, or the file's */
    const struct catalog_entry *entry; /* NULL: one that the catalogue does not know */
    uint64_t bytes;                    /* of its weights on this disk */
};
/* Every model in the model folders and the hub cache (revision main), by name; the first place wins where two hold the
 * same name. Returns how many (0: none), or a status below 0. *out is the caller's (mem_free). */
int catalog_files(struct catalog_file **out, struct err *e);

#endif
