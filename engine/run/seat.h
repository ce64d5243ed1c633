/* seat.h - what one user of a model has for himself: the programs over the shared weights, KV caches, conversations. */
#ifndef JAEDA_RUN_SEAT_H
#define JAEDA_RUN_SEAT_H
#include "eyes.h"
#include "load.h"

enum { IMAGES = 4 };                    /* of a conversation, unless the load says otherwise */
enum { SEQUENCES = 1, BATCH_MAX = 64 }; /* conversations of a seat; sequences of a static batch */

/* A conversation's place in the KV pool and the tokens whose keys and values lie there. */
struct sequence {
    char owner[64]; /* session; "": nobody's */
    struct ids tokens;
    int base;      /* first row in the pool */
    uint64_t used; /* for least-recently-used */
};
/* A picture's rows among those that stand beside the embedding's: whose they are, until another one needs the place. */
struct slot {
    struct picture_key key; /* zero: nobody's */
    uint64_t used;
};
/* 1 row, BEAMS_MAX (or max_sequences) rows with logits of all, and seat_chunk rows, over the same weights, arena and KV pool. */
enum { PROGRAM_DECODE, PROGRAM_BEAMS, PROGRAM_PREFILL, PROGRAMS };
struct worker;
/* Rows of a prefill step at most. */
static inline int seat_chunk(const struct loaded *l) { return l->api->chunk(l->be); }
struct seat {
    struct loaded *l;
    struct engine_model info; /* l->info with the KV cache's size and dtype, and the work area's */
    struct program program[PROGRAMS];
    void *arena, *kv;
    struct sequence seq[SEQUENCES];
    struct slot slot[ENGINE_IMAGES]; /* info.max_images of them */
    uint64_t clock;
    /* under the lock of struct models */
    const struct worker *owner;
    int lane;
    unsigned long order; /* of its owner's loads: the last is the largest */
    bool busy;           /* a job runs on it */
    struct seat *next;
};
/* Records and sizes the programs for a model that is bound: fills s->info. It has to fit into free_bytes
 * beside `fixed` bytes (the weights when they are still to be read, and what loading takes). An error names what would
 * fit. s is zeroed first. */
struct seat_room {
    uint64_t free_bytes, fixed;
};
struct seat_wish {
    int tokens;     /* of each sequence; 0: the model's context, shrunk to what fits */
    int sequences;  /* 0: 1 */
    int images;     /* 0: IMAGES, where the model sees */
    const char *kv; /* "auto", "fp32", "fp16", "int8" or NULL */
};
int seat_plan(struct seat *s, struct loaded *l, const struct seat_wish *wish, const struct seat_room *room,
              struct err *e);
/* Takes the memory, for good, so that no later step can fail for it; links the programs. Any thread. */
int seat_take(struct seat *s, struct err *e);
uint64_t seat_bytes(const struct seat *s); /* that seat_take takes */
void seat_close(struct seat *s);           /* contents only; any state. Any thread */
/* The session's own place, or the least recently used one, emptied. */
struct sequence *seat_sequence(struct seat *s, const char *session);
/* First of the ids that stand for the rows in a slot. */
int seat_image_id(const struct seat *s, int slot);
/* The slot that holds this picture's rows, or one to put them into (*fresh): the longest unused that is not in taken (a bit each);
 * conversations in which its former picture stood are forgotten from there on. -1: all are taken. */
int seat_slot(struct seat *s, struct picture_key key, unsigned taken, bool *fresh);

/* What a model of this shape takes on a device: kv_rows rows of cache, at most a chunk of rows or batch picks in a step. The
 * programs are left recorded and planned in p (program_fini). */
struct sizes {
    uint64_t weight_bytes, kv_bytes, arena_bytes;
    uint64_t image_bytes; /* of kv_bytes: rows that pictures stand in */
    double read_bytes;    /* of weights, for one decode step */
};
int sizes_of(struct sizes *out, struct program p[PROGRAMS], struct model *m, const struct program *like, int batch,
             struct err *e);

#endif
