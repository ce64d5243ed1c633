/* step.h - the step block: the only thing that changes between two replays. Records point into nothing else. Plain
 * data, valid C11 and C++17. */
#ifndef JAEDA_COMPUTE_STEP_H
#define JAEDA_COMPUTE_STEP_H
#include <stdbool.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum {
    ROWS_MAX = 2048,
    PICKS_MAX = 256,
    RING = 256,
    BANNED_MAX = 8,
    BEAMS_MAX = 16,
    CANDIDATES_MAX = 2 * BEAMS_MAX,
    MASK_WORDS = 256
};
/* A row count is symbolic: mat.rows is the bucket, the step block says how many rows are live. */
enum dim { DIM_FIXED, DIM_ROWS, DIM_PICKS, DIM_KV, DIM_COUNT };

/* temperature 0: greedy. top_k 0, top_p 0 or 1, min_p 0, typical_p 0 or 1, repetition_penalty 0 or 1: off; they apply in
 * transformers' order: penalty, bans, temperature, top-k, top-p, min-p, typical-p. The penalty counts the tokens of the sequence's row 0
 * and of its rows from penal_from on (0: all; behind a prompt, it leaves that out but for its first token). rng is seeded by the host and carried
 * on by each draw. ban[0..banned) are not chosen, for ban_for more draws (NEXT counts down) or always (0), nor are ids
 * from limit on (0: no limit): rows of the embedding that no token stands for. candidates > 0 (up to CANDIDATES_MAX, of the first BEAMS_MAX picks): nothing is chosen for any pick
 * and the step is not moved on; the so many likeliest tokens (by log-softmax over all rows, then penalty and bans as
 * transformers' beam search applies them) go to step.candidate, best first, the lower id first of equals. */
struct sampling {
    float temperature, top_p, min_p, typical_p, repetition_penalty;
    int top_k, limit, candidates, penal_from;
    uint64_t rng;
    int banned, ban_for, ban[BANNED_MAX];
};
/* Token, position (for RoPE), first row of its sequence in the KV pool, and the row behind that which it writes. It sees
 * the sequence's rows 0..at; of those from mask[mask - 1].from on only the ones whose bit is set (mask 0: all). A plain
 * sequence has at == pos; beams share the rows of their prompt and interleave the rows behind it. NEXT moves pos and at on
 * by one; masks are the host's. EMBED refuses (STOP_KV) a place or mask that does not exist and two rows that write the
 * same place. */
struct step_row {
    int id, pos, kv, at, mask;
};
struct kv_mask {
    int from;                  /* row of the sequence that bit 0 stands for */
    uint32_t bits[MASK_WORDS]; /* bit i % 32 of word i / 32: row from + i is seen */
};
struct candidate { /* id -1: there was nothing (left) to choose */
    int id;
    float logp;
};
struct step {
    int n[DIM_COUNT];                    /* live rows: [DIM_ROWS], [DIM_PICKS] */
    struct step_row row[ROWS_MAX];       /* rows of one sequence ascend */
    int pick[PICKS_MAX];                 /* rows whose logits are wanted, ascending */
    struct sampling sampling[PICKS_MAX]; /* of each pick; stays with its sequence from step to step */
    int stop;                            /* 0: go on; else enum stop | call << 8: later ops do nothing */
    int made, ring[RING];                /* tokens chosen on the device: the i-th of all lies at ring[i % RING] */
    uint64_t stamp_ns[RING];             /* when, by the device's clock */
    struct kv_mask mask[BEAMS_MAX];
    struct candidate candidate[BEAMS_MAX][CANDIDATES_MAX]; /* of the i-th pick */
};
#define STOP_MAP(X)                                                                                                    \
    X(NONE, "")                                                                                                        \
    X(CANCEL, "cancelled")                                                                                             \
    X(TOKEN, "a token id lies outside the vocabulary")                                                                 \
    X(KV, "the KV cache is full")                                                                                      \
    X(NAN, "the logits are not finite: the weights may be damaged; download the model again")
enum stop {
#define X(id, text) STOP_##id,
    STOP_MAP(X)
#undef X
};

/* What a draw adds to rng: the generator is SplitMix64 (Steele, Lea, Flood 2014). */
#define STEP_RNG 0x9e3779b97f4a7c15u
/* Does row r see row t <= r->at of its sequence? For a row that EMBED has let pass. */
static inline bool step_sees(const struct step *s, const struct step_row *r, int t) {
    if (!r->mask || t < s->mask[r->mask - 1].from) return true;
    const int bit = t - s->mask[r->mask - 1].from;
    return s->mask[r->mask - 1].bits[bit / 32] >> bit % 32 & 1;
}
static inline bool step_penal(const struct sampling *g, int t) { return !t || t >= g->penal_from; }
/* Appends tokens id[0..n) of one sequence from position pos on to a zeroed or growing step; kv: its first row in the
 * pool. pick: the last of them is picked (its sampling is left as it is). The caller keeps within ROWS_MAX. */
void step_rows(struct step *s, const int *id, int n, int pos, int kv, bool pick);
void step_cancel(struct step *s); /* any thread, any time while s lives */

#ifdef __cplusplus
}
#endif
#endif
