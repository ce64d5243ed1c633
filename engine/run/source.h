/* source.h - what a name stands for: files on this disk, or a shape alone; and what can be said of it without a device. */
#ifndef JAEDA_RUN_SOURCE_H
#define JAEDA_RUN_SOURCE_H
#include "data/catalog.h"
#include "data/checkpoint.h"
#include "data/tokenizer.h"
#include "engine.h"
#include "model/model.h"
#include "model/vision.h"

enum { PARTS_MAX = 3 }; /* of an image path: encoder, Q-Former, projection */
struct source {
    char path[CATALOG_PATH]; /* "": no files at all, the shape is the catalogue's */
    struct checkpoint *file; /* NULL: likewise */
    const struct catalog_entry *entry;
    struct model_config config;
    bool dummy; /* weights are to be made up */
    /* Of a MiniGPT-4, whose language model is what stands above. */
    bool sees, v2;
    struct catalog_parts place;
    struct checkpoint *part[PARTS_MAX]; /* parts 0: no files, the published shape */
    int parts;
    struct vision_config vision;
    const struct catalog_sampling *sampling; /* as its authors sample; NULL: they do not say */
    char given[CATALOG_PATH];                /* what the user called it */
    const char *template_name;               /* by its image path; the entry's goes first */
};
struct source_name {
    const char *name, *revision;
    struct catalog_given given;
};
enum source_need { NEED_WEIGHTS, NEED_SHAPE, NEED_DUMMY };
/* As a request names it. */
static inline struct source_name source_name(const struct engine_req *q) {
    return (struct source_name){ q->model, q->revision, { q->llm, q->vit, q->qformer, q->projector } };
}
/* Resolves and opens, reading headers only. NEED_WEIGHTS: without weight files it is an error that says how to get
 * them; NEED_SHAPE, NEED_DUMMY: a configuration will do, from the files or the catalogue. source_close in every case. */
int source_open(struct source *s, const struct source_name *name, enum source_need need, struct err *e);
void source_close(struct source *s);
/* The weights to bind, for model_open; NULL: none, the shape is all (made-up weights take nothing from files). */
const struct checkpoint *source_weights(const struct source *s);
/* Its own tokenizer; for dummy weights without one, that of bytes. */
int source_tokenizer(const struct source *s, struct tokenizer **out, struct err *e);
/* Name, shape, template, files; all that needs no weights. t: NULL, or asked for its chat template. */
void source_describe(const struct source *s, const struct tokenizer *t, struct engine_model *info);
/* The same for what the catalogue knows and this disk lacks. */
void source_describe_entry(const struct catalog_entry *entry, struct engine_model *info);
/* The dtype that most bytes of the weights have in the file, "fp16"; without weights, what the configuration says. */
const char *source_stored(const struct source *s);
/* As users of the field write it: "fp16", "bf16", "q4_1". */
const char *dtype_word(enum dtype dt);
/* --dtype as users write it -> want of struct weight (DTYPE_NONE: as stored). */
int source_want(const char *text, enum dtype *want, struct err *e);

#endif
