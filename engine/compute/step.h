/* step.h - the step block: the only thing that changes between two replays. Records point into nothing else. Plain
 * data, valid C11 and C++17. */
#ifndef JAEDA_COMPUTE_STEP_H
#define JAEDA_COMPUTE_STEP_H
#include <stdbool.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { ROWS_MAX = 256, RING = 256, BANNED_MAX = 8 };
/* A row count is symbolic: mat.rows is the bucket, the step block says how many rows are live. */
enum dim { DIM_FIXED, DIM_ROWS, DIM_PICKS, DIM_KV, DIM_COUNT };

/* temperature 0: greedy. top_k 0, top_p 0 or 1, repetition_penalty 0 or 1: off. rng is seeded by the host and carried
 * on by each draw. ban[0..banned) are never chosen. */
struct sampling {
    float temperature, top_p, repetition_penalty;
    int top_k;
    uint64_t rng;
    int banned, ban[BANNED_MAX];
};
struct step_row {
    int id, pos, kv; /* token, position, first row of its sequence in the KV pool; its KV length is pos + 1 */
};
struct step {
    int n[DIM_COUNT];                   /* live rows: [DIM_ROWS], [DIM_PICKS] */
    struct step_row row[ROWS_MAX];      /* rows of one sequence ascend */
    int pick[ROWS_MAX];                 /* rows whose logits are wanted, ascending */
    struct sampling sampling[ROWS_MAX]; /* of each pick; stays with its sequence from step to step */
    int stop;                           /* 0: go on; else enum stop | call << 8: later ops do nothing */
    int made, ring[RING];               /* tokens chosen on the device: the i-th of all lies at ring[i % RING] */
};
#define STOP_MAP(X)                                                                                                    \
    X(NONE, "")                                                                                                        \
    X(CANCEL, "cancelled")                                                                                             \
    X(TOKEN, "a token id lies outside the vocabulary")                                                                 \
    X(KV, "the KV cache is full")                                                                                      \
    X(NAN, "the logits are not finite: the weights may be damaged")
enum stop {
#define X(id, text) STOP_##id,
    STOP_MAP(X)
#undef X
};

/* Appends tokens id[0..n) of one sequence from position pos on to a zeroed or growing step; kv: its first row in the
 * pool. pick: the last of them is picked (its sampling is left as it is). The caller keeps within ROWS_MAX. */
void step_rows(struct step *s, const int *id, int n, int pos, int kv, bool pick);
void step_cancel(struct step *s); /* any thread, any time while s lives */

#ifdef __cplusplus
}
#endif
#endif
