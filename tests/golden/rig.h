/* rig.h - a model on the bare layers below run/, so that a test can look between the calls of a program. */
#ifndef GOLDEN_RIG_H
#define GOLDEN_RIG_H
#include "data/catalog.h"
#include "model/model.h"

/* The backend under test: the CPU's, or what JAEDA_TEST_BACKEND names ("cuda", or a module's path). NULL and an error. */
const struct backend_api *tested_backend(struct err *e);
bool on_device(void);   /* it is not the CPU */
bool on_emulated(void); /* it is the emulated device, where everything takes its time */

struct rig_options {
    const char *path;                   /* a GGUF file or a folder; NULL: */
    const struct model_config *made_up; /* a shape, its weights random and the same for every backend */
    enum dtype want, kv;
    bool fuse;
    const char *isa; /* as JAEDA_ISA takes it; NULL: what the environment says */
    int threads, rows, image_rows;
};
struct rig {
    const struct backend_api *api;
    struct backend *be;
    struct checkpoint *file;
    struct model_config config;
    struct model *model;
    struct program wide, one; /* rows rows with logits of all; one row, then the next token */
    struct mat wide_logits, one_logits;
    struct slab *slab;
    void *arena, *kv;
    size_t arena_bytes, kv_bytes;
    struct step *step;
};
int rig_open(struct rig *r, const struct rig_options *o, struct err *e);
void rig_close(struct rig *r);
/* Feeds n tokens from position pos on through the wide program and copies their n rows of logits to out. w: NULL, or
 * watches. */
int rig_wide(struct rig *r, const int *id, int n, int pos, struct watch *w, float *out, struct err *e);
/* Feeds one token; out: its logits (NULL: not wanted). The step then holds the next one. */
int rig_one(struct rig *r, int id, int pos, float *out, struct err *e);
/* n tokens by the program's own choice, after the last rig_one: out[0] is the one that it chose. */
int rig_greedy(struct rig *r, int *out, int n, struct err *e);

/* Finds the embedded default model in the model folders. false: it is not there and JAEDA_ALLOW_SKIP=1 allows that
 * (set-up fetches it, so that anywhere else its absence is a failure). */
bool default_model(char path[CATALOG_PATH]);

double max_diff(const float *a, const float *b, size_t n); /* NaN anywhere counts as infinite */

#endif
