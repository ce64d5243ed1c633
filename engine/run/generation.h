/* generation.h - one generation under way: what plain decoding and beam search share. Private to run/. */
#ifndef JAEDA_RUN_GENERATION_H
#define JAEDA_RUN_GENERATION_H
#include "job.h"
#include "seat.h"
#include "text.h"

struct generation {
    struct loaded *l;
    struct seat *seat;
    struct job *job;
    struct sequence *seq;
    const char *stop[TEXT_STOPS]; /* the request's, then the model's and the template's */
    int stops;
    int most;                    /* new tokens */
    int penal_from;              /* see struct sampling */
    int image_at[ENGINE_IMAGES]; /* where each picture's rows begin in the prompt */
    struct text text;
    struct buf out;
    struct engine_done done;
    double first_us, last_us; /* when the first and the last token were known */
};
static inline bool generation_ends(const struct generation *g, int id) {
    for (int i = 0; i < g->job->req.stop_ids; i++)
        if (g->job->req.stop_id[i] == id) return true;
    for (int i = 0; i < g->l->eos_n && !g->job->req.ignore_eos; i++)
        if (g->l->eos[i] == id) return true;
    return false;
}
/* Tokens that may not be chosen while the text is shorter than min_new_tokens; how many. */
int generation_banned(const struct generation *g, int made, int ban[BANNED_MAX]);
/* The sampling that every step starts from: options, and the number of ids that stand for tokens. */
struct sampling generation_sampling(const struct generation *g);
/* Feeds the prompt, reusing what is cached; job->step.sampling[0] says what becomes of its last row. */
int generation_prompt(struct generation *g, struct err *e);
/* Gives the bytes of a token to the text and shows what is ready. true: a stop string was completed. */
bool generation_show(struct generation *g, int id);
/* Why the text ended, and which token or string did it. */
enum engine_stop generation_ended(struct generation *g, enum engine_stop why, const char *text, size_t n);

/* views.c: what the request wants to see of its pictures, when the text has ended. */
int generation_views(struct generation *g, struct err *e);
/* beams.c: after generation_prompt would have been called; ends with the text shown and done filled. */
int beam_search(struct generation *g, struct err *e);

#endif
