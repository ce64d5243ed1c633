/* load.h - a model made resident: sized before a byte of weights is read, read once in file order, packed, linked. */
#ifndef JAEDA_RUN_LOAD_H
#define JAEDA_RUN_LOAD_H
#include "compute/program.h"
#include "data/template.h"
#include "source.h"

enum { SEQUENCES = 1, CHUNK = ROWS_MAX, EOS_MAX = 8 }; /* KV caches of a model; rows of a prefill step */

/* A conversation's place in the KV pool and the tokens whose keys and values lie there. */
struct sequence {
    char owner[64]; /* session; "": nobody's */
    struct ids tokens;
    int base;      /* first row in the pool */
    uint64_t used; /* for least-recently-used */
};
/* 1 row, BEAMS_MAX rows with logits of all, and CHUNK rows, over the same weights, arena and KV pool. */
enum { PROGRAM_DECODE, PROGRAM_BEAMS, PROGRAM_PREFILL, PROGRAMS };
struct loaded {
    struct engine_model info;
    const struct backend_api *api;
    struct backend *be;
    struct source source;
    struct tokenizer *tok;
    struct model *model;
    struct program program[PROGRAMS];
    struct mat beam_logits;
    struct slab *slab;
    void *arena, *kv;
    size_t arena_bytes, kv_bytes;
    struct sequence seq[SEQUENCES];
    struct buf system; /* the model's own system message; empty: none */
    int eos[EOS_MAX], eos_n;
    uint64_t clock;
    struct loaded *next;
};
/* progress returns true to give up (STATUS_CANCELLED). done and total in bytes. NULL texts: the defaults of engine.h. */
struct load_options {
    const char *name, *revision, *dtype, *kv_cache_dtype, *load_format;
    int max_model_len; /* 0: the model's context, shrunk to what fits */
    bool (*progress)(void *arg, double done, double total);
    void *arg;
};
/* Opens everything but the weights: fills l->info's shape and predictions; refuses what does not fit in memory, naming
 * what would. l is zeroed first; loaded_close in every case. */
int loaded_open(struct loaded *l, const struct backend_api *api, struct backend *be, const struct load_options *o,
                struct err *e);
/* Reads and packs the weights, or makes them up; takes the memory, links the programs. */
int loaded_fill(struct loaded *l, const struct load_options *o, struct err *e);
void loaded_close(struct loaded *l); /* contents only; any state */
/* The session's own place, or the least recently used one, emptied. */
struct sequence *loaded_sequence(struct loaded *l, const char *session);

/* What a model of this shape takes on a device: kv_rows rows of cache, at most CHUNK rows or batch picks in a step. The
 * programs are left recorded and planned in p (program_fini). */
struct sizes {
    uint64_t weight_bytes, kv_bytes, arena_bytes;
    double read_bytes; /* of weights, for one decode step */
};
int sizes_of(struct sizes *out, struct program p[PROGRAMS], struct model *m, const struct program *like, int batch,
             struct err *e);

#endif
