/* sample.c - NEXT: chooses a token for each pick and makes the step block the next decode step, or lists candidates. */
#include "compute/cpu/isa/ops.h"
#include <stdlib.h>
#include <time.h>

struct option {
    float key; /* what they are sorted by */
    int id;
};
/* Working memory for one row of n logits, 3 * n floats. */
struct choice {
    float *v;         /* logits, from temperature on relative to the largest; -inf: out of play */
    struct option *c; /* those in play, once there is a choice to make */
    int n, left;      /* of v, of c */
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
/* Every token that the row sees counts once: positive logits are divided, negative ones multiplied. */
static void penalise(struct choice *k, const struct step *s, const struct sampling *g, const struct step_row *r,
                     const struct mat *history) {
    const float penalty = g->repetition_penalty;
    int *seen = (int *)(void *)k->c;
    memset(seen, 0, sizeof *seen * (size_t)k->n);
    for (int t = 0; t <= r->at; t++) {
        int id;
        memcpy(&id, row(history, r->kv + t), sizeof id);
        if (!step_sees(s, r, t) || !step_penal(g, t) || id < 0 || id >= k->n || seen[id]++) continue;
        k->v[id] = k->v[id] < 0 ? k->v[id] * penalty : k->v[id] / penalty;
    }
}
static bool penal(const struct sampling *s) { return s->repetition_penalty > 0 && s->repetition_penalty != 1; }
/* Penalty and bans. */
static void restrain(struct choice *k, struct worker *w, const struct op_call *c, int i) {
    const struct sampling *s = &w->s->sampling[i];
    if (penal(s)) penalise(k, w->s, s, &w->s->row[w->s->pick[i]], &c->m[1]);
    for (int b = 0; b < s->banned && b < BANNED_MAX; b++)
        if (s->ban[b] >= 0 && s->ban[b] < k->n) k->v[s->ban[b]] = -INFINITY;
    for (int j = s->limit; s->limit > 0 && j < k->n; j++) k->v[j] = -INFINITY;
}

/* ---- drawing ---- */
static int by_key(const void *a, const void *b) {
    const struct option *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}
static int by_id(const void *a, const void *b) {
    const struct option *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}
static double weight(const struct choice *k, int i) { return (double)expf(k->v[k->c[i].id]); }
static void cut(struct choice *k, int left) {
    while (k->left > left) k->v[k->c[--k->left].id] = -INFINITY;
}
/* Sorts the options within `reach` of the best key and drops the others. Widened until there are `count` of them that
 * weigh `mass`, so that a peaked distribution over a large vocabulary is not sorted as a whole. */
static void sort_best(struct choice *k, int count, double mass) {
    float top = -INFINITY, reach = 1;
    for (int i = 0; i < k->left; i++) top = k->c[i].key > top ? k->c[i].key : top;
    for (;; reach = reach < 64 ? reach * 2 : INFINITY) {
        double sum = 0;
        int n = 0;
        for (int i = 0; i < k->left; i++) {
            if (k->c[i].key < top - reach) continue;
            sum += mass > 0 ? weight(k, i) : 0;
            n++;
        }
        if ((n >= count && sum >= mass) || reach == INFINITY) break;
    }
    int n = 0;
    for (int i = 0; i < k->left; i++)
        if (k->c[i].key < top - reach)
            k->v[k->c[i].id] = -INFINITY;
        else
            k->c[n++] = k->c[i];
    k->left = n;
    qsort(k->c, (size_t)n, sizeof *k->c, by_key);
}
/* Weight of all that is in play, and the mean of v under it. */
static double weigh_all(const struct choice *k, double *mean) {
    double sum = 0, first = 0;
    int j = 0;
    for (; j + VL <= k->n; j += VL) {
        const vf v = load(k->v + j), w = vexp(v);
        sum += (double)sum_of(w);
        first += (double)sum_of(w * vmax(v, all(-200)));
    }
    for (; j < k->n; j++) {
        const double w = (double)expf(k->v[j]);
        sum += w;
        first += w > 0 ? w * (double)k->v[j] : 0;
    }
    *mean = first / sum;
    return sum;
}
/* The k largest and what ties with the last of them. */
static void top_k(struct choice *k, int count) {
    sort_best(k, count, 0);
    int n = k->left;
    while (n > count && k->c[n - 1].key < k->c[count - 1].key) n--;
    cut(k, n);
}
/* The largest until they weigh p; at least one. */
static void top_p(struct choice *k, float p) {
    double mean, mass = (double)p * weigh_all(k, &mean), kept = 0;
    int n = 0;
    sort_best(k, 1, mass);
    while (n < k->left && (!n || kept < mass)) kept += weight(k, n++);
    cut(k, n);
}
/* What is at least so likely as p times the likeliest. */
static void min_p(struct choice *k, float p) {
    int n = 0;
    for (int i = 0; i < k->left; i++) {
        const struct option o = k->c[i];
        if (k->v[o.id] < 0 && expf(k->v[o.id]) < p)
            k->v[o.id] = -INFINITY;
        else
            k->c[n++] = o;
    }
    k->left = n;
}
/* Meister et al. 2022: those whose surprise is nearest to the entropy, until they weigh p, and what ties with the last.
 * |-log p_i - H| is |v_i - mean|: the normalising constants cancel. */
static void typical_p(struct choice *k, float p) {
    double mean, mass = (double)p * weigh_all(k, &mean), kept = 0;
    for (int i = 0; i < k->left; i++) k->c[i].key = -fabsf(k->v[k->c[i].id] - (float)mean);
    sort_best(k, 1, mass);
    int last = 0;
    while (last < k->left - 1 && (kept += weight(k, last)) < mass) last++;
    while (last < k->left - 1 && k->c[last + 1].key == k->c[last].key) last++;
    cut(k, last + 1);
}
/* A uniform number in [0, 1): 53 bits of SplitMix64. */
static double uniform(uint64_t *rng) {
    uint64_t z = *rng += STEP_RNG;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}
static int draw(struct choice *k, struct sampling *s, float max) {
    double kept = 0;
    for (int j = 0; j < k->n; j++) {
        k->v[j] = (k->v[j] - max) / s->temperature;
        if (k->v[j] > -INFINITY) k->c[k->left++] = (struct option){ k->v[j], j };
    }
    const int before = k->left;
    if (s->top_k > 0 && s->top_k < k->left) top_k(k, s->top_k);
    if (s->top_p > 0 && s->top_p < 1) top_p(k, s->top_p);
    if (s->min_p > 0) min_p(k, s->min_p);
    if (s->typical_p > 0 && s->typical_p < 1) typical_p(k, s->typical_p);
    if (k->left < before) qsort(k->c, (size_t)k->left, sizeof *k->c, by_id); /* a draw does not hang on near ties */
    for (int i = 0; i < k->left; i++) kept += weight(k, i);
    double at = uniform(&s->rng) * kept;
    int chosen = -1;
    for (int i = 0; i < k->left && at >= 0; i++) {
        if (weight(k, i) > 0) chosen = k->c[i].id;
        at -= weight(k, i);
    }
    return chosen;
}
/* -1: no token can be chosen. */
static int choose(struct worker *w, const struct op_call *c, int i) {
    struct sampling *s = &w->s->sampling[i];
    const float *l = row(&c->m[0], i);
    struct choice k = { .v = c->m[2].p, .n = c->m[0].cols };
    float max;
    k.c = (struct option *)(void *)(k.v + k.n);
    if (!largest(l, k.n, &max)) return -1;
    if (!(s->temperature > 0) && !penal(s) && s->banned < 1 && s->limit < 1) return first_of(l, k.n, max);
    memcpy(k.v, l, sizeof *l * (size_t)k.n);
    restrain(&k, w, c, i);
    max = -INFINITY;
    for (int j = 0; j < k.n; j++) max = k.v[j] > max ? k.v[j] : max;
    if (max == -INFINITY) return -1;
    return s->temperature > 0 ? draw(&k, s, max) : first_of(k.v, k.n, max);
}

/* ---- candidates: the best log-probabilities; false: the logits are not finite ---- */
static bool list(struct worker *w, const struct op_call *c, int i) {
    const int most = w->s->sampling[i].candidates < CANDIDATES_MAX ? w->s->sampling[i].candidates : CANDIDATES_MAX;
    const float *l = row(&c->m[0], i);
    struct candidate *best = w->s->candidate[i];
    struct choice k = { .v = c->m[2].p, .n = c->m[0].cols };
    double mean;
    float max;
    k.c = (struct option *)(void *)(k.v + k.n);
    if (!largest(l, k.n, &max)) return false;
    for (int j = 0; j < k.n; j++) k.v[j] = l[j] - max;
    const float norm = (float)log(weigh_all(&k, &mean));
    for (int j = 0; j < k.n; j++) k.v[j] -= norm;
    restrain(&k, w, c, i);
    for (int n = 0; n < most; n++) best[n] = (struct candidate){ -1, -INFINITY };
    for (int j = 0; j < k.n; j++) {
        int at = most;
        for (; at > 0 && k.v[j] > best[at - 1].logp; at--)
            if (at < most) best[at] = best[at - 1];
        if (at < most) best[at] = (struct candidate){ j, k.v[j] };
    }
    return true;
}
static void next(struct worker *w, const struct op_call *c) {
    struct step *s = w->s;
    bool listed = false;
    for (int i = 0; i < s->n[DIM_PICKS] && i < BEAMS_MAX; i++) {
        if (s->sampling[i].candidates < 1) continue;
        listed = true;
        if (!list(w, c, i)) stop(w, STOP_NAN);
    }
    int id[PICKS_MAX];
    for (int i = 0; !listed && i < s->n[DIM_PICKS]; i++)
        if ((id[i] = choose(w, c, i)) < 0) { /* then no sequence moves on */
            stop(w, STOP_NAN);
            return;
        }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (int i = 0; !listed && i < s->n[DIM_PICKS]; i++) { /* pick[] ascends: row i is free when it is written */
        s->row[i] = s->row[s->pick[i]];
        s->stamp_ns[s->made % RING] = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        s->row[i].id = s->ring[s->made++ % RING] = id[i];
        s->row[i].pos++;
        s->row[i].at++;
        s->pick[i] = i;
        if (s->sampling[i].ban_for > 0 && !--s->sampling[i].ban_for) s->sampling[i].banned = 0;
    }
    if (!listed) s->n[DIM_ROWS] = s->n[DIM_PICKS];
}
void NAMED(op_next)(struct worker *w, const struct op_call *c) { EACH_TASK(one, w, 1) next(w, c); }
