/* load.h - a model's weights made resident: described from headers, read once in file order, packed. Shared by every
 * notebook; what one notebook needs beside them is a seat (seat.h). */
#ifndef JAEDA_RUN_LOAD_H
#define JAEDA_RUN_LOAD_H
#include "compute/program.h"
#include "data/template.h"
#include "source.h"
#include <stdatomic.h>

enum { EOS_MAX = 8, STAMPS = 8 };
struct seat;
struct eyes;
struct lora;
/* Same bytes, same form: the same weights. Of each file: device, inode, size, time of the last change. */
struct stamp {
    char file[512], dtype[16], vision_dtype[8], format[16];
    uint64_t number[STAMPS]; /* a mix over the files, so that their count is free */
};
struct loaded {
    struct engine_model info; /* shape and weights; what a KV cache adds stands in a seat's */
    struct stamp stamp;
    const struct backend_api *api;
    struct backend *be;
    struct source source;
    struct tokenizer *tok;
    struct model *model;
    struct eyes *eyes; /* of a MiniGPT-4; NULL: it reads text alone */
    struct lora *lora; /* to be merged while loading; NULL: none */
    struct slab *slab;
    struct buf system; /* the model's own system message; empty: none */
    int eos[EOS_MAX], eos_n;
    atomic_int piece; /* rows of a prompt that fit into one turn, as measured */
    /* under the lock of struct models */
    struct seat *seats;
    int pins;   /* those who look at it without a seat: it may not go */
    bool ready; /* filled; until then it stands in the list so that nobody loads it twice */
    double used_us, made_us;
    struct loaded *next;
};
/* progress returns true to give up (STATUS_CANCELLED). done and total in bytes. NULL texts: the defaults of engine.h. */
struct load_options {
    struct source_name name;
    const char *dtype, *kv_cache_dtype, *load_format, *vision_dtype;
    int max_model_len; /* 0: the model's context, shrunk to what fits */
    bool (*progress)(void *arg, double done, double total);
    void *arg;
};
/* Resolves the name and says which weights it means: info's shape and formats, stamp. l is zeroed first; loaded_close in
 * every case. */
int loaded_open(struct loaded *l, const struct backend_api *api, struct backend *be, const struct load_options *o,
                struct err *e);
/* The rest of what needs no weights: tokeniser, model, stop rules. */
int loaded_bind(struct loaded *l, const struct load_options *o, struct err *e);
/* Places the weights as the seat's programs want them, reads and packs them or makes them up. `turn` and `give` around
 * each use of the device; NULL: nobody else uses it. */
struct load_turn {
    void (*take)(void *arg);
    void (*give)(void *arg);
    void *arg;
};
int loaded_fill(struct loaded *l, struct seat *first, const struct load_options *o, const struct load_turn *turn,
                struct err *e);
void loaded_close(struct loaded *l); /* contents only; any state; without seats; in its turn */
bool loaded_same(const struct loaded *a, const struct loaded *b);
/* Bytes that reading takes beside the weights, for a moment. */
uint64_t loaded_staging(const struct loaded *l);
uint64_t load_staging(const struct backend_api *api, uint64_t largest); /* the same, of a file that may not be there */

#endif
