/* sample.c - NEXT: chooses a token for each pick and makes the step block the next decode step. */
#include "compute/cpu/isa/ops.h"
#include <stdlib.h>

struct candidate {
    float v; /* logit, later its weight e^(v - max) */
    int id;
};
/* Working memory for one row of n logits, 3 * n floats. */
struct choice {
    float *v;            /* logits after penalty and bans; after temperature for sampling */
    struct candidate *c; /* those still in play, once there is a choice to make */
    int n;               /* logits */
    float max;
};

/* The largest logit; false when one is not a number or infinite. */
static bool largest(const float *l, int n, float *max) {
    float m = l[0], bad = 0;
    vf most = all(l[0]), odd = { 0 };
    int j = 0;
    for (; j + VL <= n; j += VL) {
        const vf v = load(l + j);
        most = vmax(v, most);
        odd += v * 0.0f;
    }
    for (; j < n; j++) {
        m = l[j] > m ? l[j] : m;
        bad += l[j] * 0.0f;
    }
    const float w = max_of(most);
    *max = w > m ? w : m;
    return bad + sum_of(odd) == 0;
}
static int first_of(const float *l, int n, float v) {
    for (int j = 0; j < n; j++)
        if (l[j] == v) return j;
    return 0;
}
/* Every token of the sequence so far counts once: positive logits are divided, negative ones multiplied. */
static void penalise(struct choice *k, const struct mat *history, const struct step_row *r, float penalty) {
    int *seen = (int *)(void *)k->c;
    memset(seen, 0, sizeof *seen * (size_t)k->n);
    for (int t = r->kv; t <= r->kv + r->pos; t++) {
        int id;
        memcpy(&id, row(history, t), sizeof id);
        if (id < 0 || id >= k->n || seen[id]++) continue;
        k->v[id] = k->v[id] < 0 ? k->v[id] * penalty : k->v[id] / penalty;
    }
}
static int by_value(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->v != y->v) return x->v > y->v ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}
static int by_id(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}
/* Candidates within `reach` of the largest logit, best first. Widened until there are `count` of them that weigh
 * `mass`, so that a peaked distribution over a large vocabulary is not sorted as a whole. */
static int gather(struct choice *k, int count, double mass) {
    int n = 0;
    for (float reach = 4; n < k->n; reach = reach < 64 ? reach * 2 : INFINITY) {
        double weight = 0;
        n = 0;
        for (int j = 0; j < k->n; j++)
            if (k->v[j] >= k->max - reach) {
                weight += mass > 0 ? exp((double)(k->v[j] - k->max)) : 0;
                k->c[n++] = (struct candidate){ k->v[j], j };
            }
        if ((n >= count && weight >= mass) || reach == INFINITY) break;
    }
    qsort(k->c, (size_t)n, sizeof *k->c, by_value);
    return n;
}
static double weigh_all(const struct choice *k) {
    double sum = 0;
    int j = 0;
    for (; j + VL <= k->n; j += VL) sum += (double)sum_of(vexp(load(k->v + j) - k->max));
    for (; j < k->n; j++) sum += (double)expf(k->v[j] - k->max);
    return sum;
}
/* A uniform number in [0, 1): SplitMix64 (Steele, Lea, Flood 2014), 53 bits. */
static double uniform(uint64_t *rng) {
    uint64_t z = *rng += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}
/* temperature, then top-k (ties with the k-th stay), then top-p of what is left (at least one), then a draw. */
static int draw(struct choice *k, struct sampling *s) {
    const bool by_count = s->top_k > 0 && s->top_k<k->n, by_mass = s->top_p> 0 && s->top_p < 1;
    for (int j = 0; j < k->n; j++) k->v[j] /= s->temperature;
    k->max /= s->temperature;
    double total = by_mass && !by_count ? weigh_all(k) : 0, kept = 0;
    int n = 0;
    if (by_count) {
        n = gather(k, s->top_k, 0);
        while (n > s->top_k && k->c[n - 1].v < k->c[s->top_k - 1].v) n--;
    } else if (by_mass) {
        n = gather(k, 1, (double)s->top_p * total);
    } else {
        for (; n < k->n; n++) k->c[n] = (struct candidate){ k->v[n], n };
    }
    for (int i = 0; i < n; i++) {
        k->c[i].v = expf(k->c[i].v - k->max);
        if (by_count) total += (double)k->c[i].v;
    }
    int last = 0;
    for (; last < n && (!by_mass || kept < (double)s->top_p * total); last++) kept += (double)k->c[last].v;
    if (by_count || by_mass) qsort(k->c, (size_t)last, sizeof *k->c, by_id); /* a draw does not hang on near ties */
    double at = uniform(&s->rng) * kept;
    int chosen = -1;
    for (int i = 0; i < last && at >= 0; i++) {
        if (k->c[i].v > 0) chosen = k->c[i].id;
        at -= (double)k->c[i].v;
    }
    return chosen;
}
/* -1: no token can be chosen. */
static int choose(struct worker *w, const struct op_call *c, int i) {
    struct sampling *s = &w->s->sampling[i];
    const float *l = row(&c->m[0], i), penalty = s->repetition_penalty;
    struct choice k = { .v = c->m[2].p, .n = c->m[0].cols };
    k.c = (struct candidate *)(void *)(k.v + k.n);
    if (!largest(l, k.n, &k.max)) return -1;
    const bool penal = penalty > 0 && penalty != 1;
    if (!(s->temperature > 0) && !penal && s->banned < 1) return first_of(l, k.n, k.max);
    memcpy(k.v, l, sizeof *l * (size_t)k.n);
    if (penal) penalise(&k, &c->m[1], &w->s->row[w->s->pick[i]], penalty);
    for (int b = 0; b < s->banned && b < BANNED_MAX; b++)
        if (s->ban[b] >= 0 && s->ban[b] < k.n) k.v[s->ban[b]] = -INFINITY;
    k.max = -INFINITY;
    for (int j = 0; j < k.n; j++) k.max = k.v[j] > k.max ? k.v[j] : k.max;
    if (k.max == -INFINITY) return -1;
    return s->temperature > 0 ? draw(&k, s) : first_of(k.v, k.n, k.max);
}
static void next(struct worker *w, const struct op_call *c) {
    struct step *s = w->s;
    for (int i = 0; i < s->n[DIM_PICKS]; i++) { /* pick[] ascends: row i is free when it is written */
        const int id = choose(w, c, i);
        if (id < 0) {
            stop(w, STOP_NAN);
            return;
        }
        s->row[i] = s->row[s->pick[i]];
        s->row[i].id = s->ring[s->made++ % RING] = id;
        s->row[i].pos++;
        s->pick[i] = i;
    }
    s->n[DIM_ROWS] = s->n[DIM_PICKS];
}
void NAMED(op_next)(struct worker *w, const struct op_call *c) { EACH_TASK(one, w, 1) next(w, c); }
