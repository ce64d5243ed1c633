/* program.h - record, fuse, plan, link, replay. op_*() is the only way model code computes. */
#ifndef JAEDA_COMPUTE_PROGRAM_H
#define JAEDA_COMPUTE_PROGRAM_H
#include "compute/backend.h"

enum region { REGION_ARENA, REGION_KV, REGION_COUNT };
struct area { /* where one buffer of the program lies, and between which calls it lives */
    enum region where;
    size_t bytes, off;
    int first, last;
    bool keep;
};
struct program {
    const struct backend_api *api;
    struct backend *be;
    int rows, picks, kv_rows, layer; /* bucket; capacity of the KV pool; layer being recorded, -1: none */
    int image_rows; /* rows that the host brings beside the embedding's, as pictures; before recording */
    enum dtype kv;  /* of cached keys and values: F32 (as program_init sets it), F16 or Q8_0; before recording */
    struct op_call *call;
    int n, call_cap;
    struct area *area;
    int areas, area_cap;
    size_t need[REGION_COUNT], each, shared; /* bytes, known after program_plan(); scratch for each worker, for all */
    char *base[REGION_COUNT];
    void *linked;       /* the backend's own, from link to unlink */
    int flying;         /* runs launched and not landed */
    struct mat history; /* token ids of every KV row; cols 0: no EMBED yet */
    struct mat
        images;     /* image_rows rows, with the KV pool and as lasting; zero at first, program_put_rows fills them */
    struct err err; /* first failure of the recording; later ops do nothing */
};

/* Life: init, record (op_*), fuse, plan -> need[] is known; api->place, api->fill of each weight; link; replay many
 * times. One thread at a time. Programs with the same kv_rows and the same order of records agree on the layout of
 * the KV memory and may be linked to the same; arenas may be shared too when replays do not overlap. */
void program_init(struct program *p, const struct backend_api *api, struct backend *be, int rows, int picks,
                  int kv_rows);
void program_fini(struct program *p);
void program_fuse(struct program *p);
/* 0, or the code of the recording's error, which e takes over (e may be NULL: it stays in p->err). */
int program_plan(struct program *p, struct err *e);
/* arena and kv: need[REGION_ARENA] and need[REGION_KV] bytes of the backend's memory, owned by the caller, which stay until
 * program_unlink or program_fini. */
int program_link(struct program *p, void *arena, void *kv, struct err *e);
void program_unlink(struct program *p);

struct mat program_tmp(struct program *p, enum dim dim, int rows, int cols);
/* The rows that a KV pool of n tokens has: vectors hold 16 of them. */
static inline int program_kv_rows(int n) { return (n + 15) / 16 * 16; }
/* One half of a layer's cache: kv_rows rows for all sequences, cols / head_dim heads. */
struct mat program_kv(struct program *p, int cols, int head_dim);
void program_keep(struct program *p, struct mat m);       /* input or output: lives through the whole program */
void program_remove(struct program *p, int i);            /* for fuse passes; frees no priv */
float *program_at(const struct program *p, struct mat m); /* device address of a kept mat, after link */
/* n numbers of a kept mat of the arena from the first on, to and from the host. */
int program_get(const struct program *p, struct mat m, float *to, size_t n, struct err *e);
int program_put(const struct program *p, struct mat m, const float *from, size_t n, struct err *e);
/* Whole rows of it, from row `first` on. */
int program_put_rows(const struct program *p, struct mat m, int first, const float *from, int rows, struct err *e);

/* One observed call; bytes and flops are true for the step that was run. */
struct span {
    const struct op_call *call;
    double us, bytes, flops;
};
struct watch {
    struct span *span;
    int n, cap;
    /* Each result in host-readable memory, may be NULL. A name that appears twice is told apart by its layer. */
    void (*dump)(void *arg, const struct op_call *c, const struct mat *m, int rows);
    void *arg;
};
/* Runs one step. w NULL: one launch of the whole program; else call by call, observed. 0, or the code in e:
 * STATUS_CANCELLED after step_cancel(), STATUS_INVALID for too many rows, a bad token id or a full KV pool. */
int program_replay(struct program *p, struct step *s, struct watch *w, struct err *e);
/* Calls [from, to) alone, in order, of a program without NEXT on a device that computes in the host's memory: what a long step is made
 * of, so that others may compute between its parts. */
int program_replay_part(struct program *p, struct step *s, int from, int to, struct err *e);
/* Decoding without waiting for each token: up to AHEAD_MAX runs of a program that ends in NEXT are launched, each going on
 * from the one before; program_land waits for the oldest, after which *s is as program_replay would have left it. *s and
 * its program are touched by nothing else while runs fly; what a run needs of *s is read when the first is launched. The
 * caller keeps within the KV pool. 0, or as program_replay; after an error nothing flies. */
int program_launch(struct program *p, struct step *s, struct err *e);
int program_land(struct program *p, struct step *s, struct err *e);
/* Waits for what still flies and forgets it: *s stays as after the last landed run, and so do the KV rows that it counts. */
void program_recall(struct program *p, struct step *s);
void program_cost(const struct op_call *c, const struct step *s, double *bytes, double *flops);
const char *op_name(int op); /* "linear"; private ops of a backend: "fused" */

/* Row id of table; of images, for ids from table->rows on. Also notes the ids beside the KV pool. */
void op_embed(struct program *p, struct mat y, struct weight *table);
void op_linear(struct program *p, const char *label, struct mat y, struct mat x, struct weight *w, struct weight *b,
               enum act a); /* y = act(x w^T + b) */
void op_norm(struct program *p, const char *label, struct mat y, struct mat x, const struct norm_of *n);
void op_rope(struct program *p, struct mat x, struct rope r); /* rotate-half, in place */
void op_kv_put(struct program *p, struct mat cache, struct mat x, bool keys);
/* y = softmax(q k^T / sqrt(head_dim)) v, causal when k and v are KV mats. shape.heads is a multiple of kv_heads, shape.blocks
 * divides the rows of q and of k. */
void op_attn(struct program *p, struct mat y, struct mat q, struct mat k, struct mat v, struct attn_of shape);
void op_gate(struct program *p, struct mat y, struct mat gate, struct mat up, enum act a); /* y = act(gate) * up */
void op_add(struct program *p, struct mat y, struct mat x);                                /* y += x */
void op_pick(struct program *p, struct mat y, struct mat x);
/* Chooses one token for each pick, writes the ring, and makes the step block the next decode step. */
void op_next(struct program *p, struct mat logits);
#endif
