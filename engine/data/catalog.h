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
    /* Of a MiniGPT-4, else NULL: which image path ("llama2", "vicuna-7b", "vicuna-13b", "v2"), its language model (a name of this
     * catalogue), and the files of its other parts as their authors call them (qformer NULL: it has none). */
    const char *vision, *llm, *vit, *qformer, *projector;
    struct catalog_sampling { /* as the authors' own program samples; max_new_tokens 0: not said */
        float temperature, top_p, repetition_penalty;
        int top_k, max_new_tokens;
    } sampling;
    struct model_config config; /* its true shape; of a MiniGPT-4: its language model's */
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

/* Where the parts of a MiniGPT-4 lie; "": nowhere, or not needed. */
struct catalog_parts {
    char llm[CATALOG_PATH], vit[CATALOG_PATH], qformer[CATALOG_PATH], projector[CATALOG_PATH];
    const struct catalog_entry *entry, *llm_entry; /* the catalogue's, or NULL */
};
struct catalog_given { /* what the user named of them; NULL: to be found */
    const char *llm, *vit, *qformer, *projector;
};
/* 1: name is a MiniGPT-4 (a catalogue name, a folder that holds its parts, or any model with given->vit or ->projector,
 * which is then its language model) and out says where its parts lie; 0: it is none; < 0: an error that names what is
 * missing and the command that fetches it. Parts that nobody named are looked for by the catalogue's file names: in the
 * folder itself, beside each other, in the model folders and their sub-folders of that name. all false: what is not there
 * stays "" (made-up weights, %fit). */
int catalog_parts(const char *name, const char *revision, const struct catalog_given *given, bool all,
                  struct catalog_parts *out, struct err *e);

struct catalog_file {
    char path[CATALOG_PATH], name[64]; /* name: what %load takes: the catalogue's, the repository's, or the file's */
    const struct catalog_entry *entry; /* NULL: one that the catalogue does not know */
    uint64_t bytes;                    /* of its weights on this disk */
};
/* Every model in the model folders and the hub cache (revision main), by name; the first place wins where two hold the
 * same name. Returns how many (0: none), or a status below 0. *out is the caller's (mem_free). */
int catalog_files(struct catalog_file **out, struct err *e);

#endif
