/* eyes.h - the eyes of a MiniGPT-4 that is loaded: from a picture's file to rows for its language model, stage by stage,
 * each timed; encoded pictures are kept by their content. Shared by everybody who uses the weights. */
#ifndef JAEDA_RUN_EYES_H
#define JAEDA_RUN_EYES_H
#include "job.h"
#include "model/vision.h"
#include "source.h"

struct eyes {
    const struct backend_api *api;
    struct backend *be;
    struct vision_config config;
    struct vision *vision;
    struct program program[VISION_STAGES];
    struct vision_io io[VISION_STAGES];
    struct slab *slab;
    void *arena[VISION_STAGES];
    enum dtype want;
    uint64_t weight_bytes, work_bytes; /* known from eyes_open on */
    pthread_mutex_t lock;              /* programs and what is kept */
    struct kept *kept;                 /* the last used first */
};
/* What a picture file is known by. */
struct picture_key {
    uint64_t hash[2];
};
struct picture_key picture_key(const void *bytes, size_t n);
static inline bool picture_same(struct picture_key a, struct picture_key b) {
    return a.hash[0] == b.hash[0] && a.hash[1] == b.hash[1];
}
/* Time that a picture took, stage by stage, in ms; encoded false: its rows were known. */
struct eyes_times {
    double decode_ms, resize_ms, encode_ms, merge_ms, project_ms;
    bool encoded;
};

/* Binds and plans, without a byte of weights. be NULL with an api that plans for other machines. NULL and e: not possible. */
struct eyes *eyes_open(const struct source *s, const char *dtype, const struct backend_api *api, struct backend *be,
                       struct err *e);
void eyes_close(struct eyes *s); /* NULL is fine; any state; in its turn */
/* --vision-dtype as users write it; NULL or "auto": as stored, but bf16 where the device multiplies that faster than fp16. */
int eyes_want(const char *text, const struct backend_api *api, struct backend *be, enum dtype *want, struct err *e);
const char *eyes_dtype(const struct eyes *s); /* "bf16" */
static inline uint64_t eyes_bytes(const struct eyes *s) { return s ? s->weight_bytes + s->work_bytes : 0; }
/* Gives the weights their places; after they are filled eyes_take takes the work areas. */
int eyes_place(struct eyes *s, struct err *e);
int eyes_take(struct eyes *s, struct err *e);

/* The file, upright and as its model wants it: image x image pixels; times may be NULL. */
int eyes_input(const struct vision_config *c, const struct engine_image *m, struct image *out, struct eyes_times *times,
               struct err *e);
/* Rows for the language model, vision_tokens() of config.out numbers, into to. Computes in its turns. */
int eyes_encode(struct eyes *s, struct job *job, const struct engine_image *m, float *to, struct eyes_times *times,
                struct err *e);
/* One picture from pixels to rows, with the given watch for each stage (NULL: none) and nothing kept. */
int eyes_run(struct eyes *s, struct job *job, const struct image *m, struct watch *w, float *to,
             struct eyes_times *times, struct err *e);
/* Attention to the patches, mean of the heads, of sum 1, side * side numbers, row-major: of the encoder's class token in its last
 * block; with share (one number a query of the Q-Former) of those queries in its last layer that looks. */
int eyes_attention(struct eyes *s, struct job *job, const struct image *m, const float *share, float *to,
                   struct err *e);
/* Adds to sum[0..rows) what one query (heads * head_dim numbers) gives each of so many keys, ld numbers apart: the softmax of the
 * scores, mean of the heads. scratch: rows numbers. */
void attention_row(const float *q, const float *k, struct attn_of a, int rows, int ld, float *scratch, float *sum);
/* A LOOK job: decodes each picture, scales it for people; needs no model. */
int look(struct job *job, struct err *e);
/* Views, as events. A picture scaled so that its longer side is at most px (0: 512); pixels as they are; a heat map of the kind, size, share
 * and about of what. */
int send_picture(struct job *job, int image, const struct engine_image *m, int px, struct err *e);
int send_pixels(struct job *job, enum engine_view_kind kind, int image, const struct engine_image *m,
                const struct image *pixels, struct err *e);
int send_heat(struct job *job, const struct engine_view *what, const struct engine_image *m, const float *heat,
              struct err *e);

#endif
