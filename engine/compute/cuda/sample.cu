/* sample.cu - NEXT: a block a pick chooses its token by the rules of cpu/isa/sample.c; the last block to finish moves the
 * step on and tells the host. Weights of tokens are summed as whole numbers, 2^-44 each, so that neither the order of
 * threads nor of blocks can move a draw. Cut-offs are found by counting (or weighing) keys byte by byte, not by sorting. */
#include "compute/cuda/cuda.h"

enum { THREADS = 1024, BINS = 256, NOT_CHOSEN = -1 };
typedef unsigned long long u64;

struct pick_args {
    const float *logits;
    const int *history;
    struct step *step;
    float *v;  /* scratch: of each pick, n numbers: relative logits, -inf: out of play */
    int *seen; /* scratch: of each pick, n marks */
    int *chosen, n, picks, call;
    unsigned *counter;
    struct landing *landing;
};
struct room { /* shared */
    u64 bin[BINS], total, above;
    double mean;
    float red[WARP];
    unsigned prefix;
    int first, last;
};

/* ---- over the whole block ---- */
__device__ static u64 block_total(u64 x, struct room *m) {
    __syncthreads(); /* an earlier total has been read */
    if (threadIdx.x == 0) m->total = 0;
    __syncthreads(); /* it starts at 0 */
    if (x) atomicAdd(&m->total, x);
    __syncthreads(); /* all is added */
    return m->total;
}
/* The smallest of all threads' numbers. */
__device__ static int block_first(int i, struct room *m) {
    __syncthreads(); /* an earlier one has been read */
    if (threadIdx.x == 0) m->first = INT32_MAX;
    __syncthreads(); /* it starts high */
    if (i < INT32_MAX) atomicMin(&m->first, i);
    __syncthreads(); /* all have had their say */
    return m->first;
}
#define EACH(j, n) for (int j = (int)threadIdx.x; j < (n); j += (int)blockDim.x)
/* Threads take the ids in stretches, so that "in the order of ids" is "in the order of threads". */
__device__ static int stretch(int n) { return (n + (int)blockDim.x - 1) / (int)blockDim.x; }
/* Sum of x over the threads before this one. all: over all. */
__device__ static u64 before(u64 x, struct room *m, u64 *all) {
    u64 sum = x;
    for (int d = 1; d < WARP; d *= 2) {
        const u64 other = __shfl_up_sync(FULL, sum, d);
        if (lane_of() >= d) sum += other;
    }
    __syncthreads(); /* bin is free */
    if (lane_of() == WARP - 1) m->bin[warp_of()] = sum;
    __syncthreads(); /* every warp's sum is there */
    u64 ahead = 0, total = 0;
    for (int w = 0; w < (int)blockDim.x / WARP; w++) {
        ahead += w < warp_of() ? m->bin[w] : 0;
        total += m->bin[w];
    }
    *all = total;
    return ahead + sum - x;
}
__device__ static u64 weight(float v) { return v > -INFINITY ? (u64)((double)expf(v) * 0x1p44) : 0; }

/* ---- what may be chosen ---- */
__device__ static bool penal(const struct sampling *s) {
    return s->repetition_penalty > 0 && s->repetition_penalty != 1;
}
__device__ static void penalise(const struct pick_args *a, const struct sampling *g, const struct step_row *r, float *v,
                                int *seen) {
    const float penalty = g->repetition_penalty;
    EACH(j, a->n) seen[j] = 0;
    __syncthreads(); /* marks are clear */
    EACH(t, r->at + 1) {
        const int id = a->history[r->kv + t];
        if (!row_sees(a->step, r, t) || (t && t < g->penal_from) || id < 0 || id >= a->n || atomicExch(&seen[id], 1))
            continue;
        v[id] = v[id] < 0 ? v[id] * penalty : v[id] / penalty;
    }
}
__device__ static void restrain(const struct pick_args *a, int i, float *v, int *seen) {
    const struct sampling *s = &a->step->sampling[i];
    __syncthreads(); /* v is written */
    if (penal(s)) penalise(a, s, &a->step->row[a->step->pick[i]], v, seen);
    __syncthreads(); /* penalties are in */
    for (int b = (int)threadIdx.x; b < s->banned && b < BANNED_MAX; b += (int)blockDim.x)
        if (s->ban[b] >= 0 && s->ban[b] < a->n) v[s->ban[b]] = -INFINITY;
    const int limit = s->limit > 0 && s->limit < a->n ? s->limit : a->n;
    for (int j = limit + (int)threadIdx.x; j < a->n; j += (int)blockDim.x) v[j] = -INFINITY;
    __syncthreads(); /* v is what it will be */
}
/* The largest; *odd: one of them is no finite number. */
__device__ static float largest(const float *l, int n, struct room *m, bool *odd) {
    float most = -INFINITY, bad = 0;
    EACH(j, n) {
        most = fmaxf(most, l[j]);
        bad += l[j] * 0.0f;
    }
    *odd = block_first(bad == 0 ? INT32_MAX : 0, m) == 0;
    return block_max(most, m->red);
}
__device__ static int first_of(const float *l, int n, float most, struct room *m) {
    int first = INT32_MAX;
    EACH(j, n) if (l[j] == most && j < first) first = j;
    return block_first(first, m);
}

/* ---- cut-offs ---- */
/* Larger keys have larger bits. mean NaN: the key is v; else -|v - mean|. */
__device__ static unsigned key_of(float v, float mean) {
    const float k = mean == mean ? -fabsf(v - mean) : v;
    const unsigned u = __float_as_uint(k);
    return u >> 31 ? ~u : u | 0x80000000u;
}
/* The key at which the numbers in play, largest keys first, come to `target` (of weight, or of count): those above it do
 * not reach it, those from it on do. m->above: what those above it come to. target > 0. */
__device__ static unsigned cut_off(const float *v, int n, float mean, u64 target, bool count, struct room *m) {
    if (threadIdx.x == 0) m->prefix = 0, m->above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        __syncthreads(); /* prefix is set, bins are read */
        EACH(b, BINS) m->bin[b] = 0;
        __syncthreads(); /* bins are empty */
        EACH(j, n) {
            if (v[j] == -INFINITY) continue;
            const unsigned key = key_of(v[j], mean);
            if (shift == 24 || key >> (shift + 8) == m->prefix >> (shift + 8))
                atomicAdd(&m->bin[key >> shift & 255], count ? (u64)1 : weight(v[j]));
        }
        __syncthreads(); /* bins are full */
        if (threadIdx.x == 0) {
            int b = BINS - 1, lowest = b;
            u64 sum = m->above;
            for (; b >= 0 && sum + m->bin[b] < target; sum += m->bin[b--])
                if (m->bin[b]) lowest = b;
            if (b < 0) { /* rounding: all together fall short; the lowest that holds anything */
                b = lowest;
                sum -= m->bin[b];
            }
            m->above = sum;
            m->prefix |= (unsigned)b << shift;
        }
    }
    __syncthreads(); /* prefix is whole */
    return m->prefix;
}
__device__ static void drop_below(float *v, int n, float mean, unsigned key) {
    EACH(j, n) if (v[j] > -INFINITY && key_of(v[j], mean) < key) v[j] = -INFINITY;
    __syncthreads(); /* v is cut */
}
__device__ static u64 in_play(const float *v, int n, struct room *m) {
    u64 count = 0;
    EACH(j, n) count += v[j] > -INFINITY;
    return block_total(count, m);
}
__device__ static u64 weigh_all(const float *v, int n, struct room *m) {
    u64 sum = 0;
    EACH(j, n) sum += weight(v[j]);
    return block_total(sum, m);
}
/* The largest until they weigh p of all; of those that tie at the end as many as are needed, lower ids first. */
__device__ static void top_p(float *v, int n, float p, struct room *m) {
    const u64 mass = (u64)((double)p * (double)weigh_all(v, n, m));
    const unsigned key = cut_off(v, n, NAN, mass ? mass : 1, false, m);
    const u64 missing = mass > m->above ? mass - m->above : 1;
    const int per = stretch(n), from = (int)threadIdx.x * per, to = from + per < n ? from + per : n;
    u64 ties = 0, all;
    for (int j = from; j < to; j++) ties += v[j] > -INFINITY && key_of(v[j], NAN) == key;
    u64 rank = before(ties, m, &all);
    for (int j = from; j < to; j++) {
        if (v[j] == -INFINITY || key_of(v[j], NAN) > key) continue;
        const u64 each = weight(v[j]);
        if (key_of(v[j], NAN) < key || (each && rank * each >= missing) || (!each && rank)) v[j] = -INFINITY;
        rank += v[j] == -INFINITY ? 0 : key_of(v[j], NAN) == key;
    }
    __syncthreads(); /* v is cut */
}
__device__ static void min_p(float *v, int n, float p) {
    EACH(j, n) if (v[j] < 0 && expf(v[j]) < p) v[j] = -INFINITY;
    __syncthreads(); /* v is cut */
}
/* Meister et al. 2022: those whose surprise is nearest to the entropy, until they weigh p, and what ties with the last. */
__device__ static void typical_p(float *v, int n, float p, struct room *m) {
    double first = 0;
    const u64 sum = weigh_all(v, n, m);
    EACH(j, n) if (v[j] > -INFINITY) first += (double)expf(v[j]) * (double)v[j];
    double *part = (double *)m->bin;
    for (int d = WARP / 2; d > 0; d /= 2) first += __shfl_xor_sync(FULL, first, d);
    __syncthreads(); /* bin is free */
    if (lane_of() == 0) part[warp_of()] = first;
    __syncthreads(); /* every warp's sum is there */
    first = 0;
    for (int w = 0; w < (int)blockDim.x / WARP; w++) first += part[w];
    const float mean = (float)(first / ((double)sum * 0x1p-44));
    const u64 mass = (u64)((double)p * (double)sum);
    drop_below(v, n, mean, cut_off(v, n, mean, mass ? mass : 1, false, m));
}

/* ---- one token ---- */
__device__ static double uniform(uint64_t *rng) { /* [0, 1): 53 bits of SplitMix64 */
    uint64_t z = *rng += STEP_RNG;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}
__device__ static int draw(float *v, int n, struct sampling *s, float most, struct room *m) {
    EACH(j, n) v[j] = (v[j] - most) / s->temperature;
    __syncthreads(); /* v is relative */
    if (s->top_k > 0 && (u64)s->top_k < in_play(v, n, m))
        drop_below(v, n, NAN, cut_off(v, n, NAN, (u64)s->top_k, true, m));
    if (s->top_p > 0 && s->top_p < 1) top_p(v, n, s->top_p, m);
    if (s->min_p > 0) min_p(v, n, s->min_p);
    if (s->typical_p > 0 && s->typical_p < 1) typical_p(v, n, s->typical_p, m);
    const int per = stretch(n), from = (int)threadIdx.x * per, to = from + per < n ? from + per : n;
    u64 mine = 0, all;
    for (int j = from; j < to; j++) mine += weight(v[j]);
    u64 sum = before(mine, m, &all);
    if (threadIdx.x == 0) m->mean = uniform(&s->rng);
    __syncthreads(); /* the number is drawn */
    const u64 at = (u64)(m->mean * (double)all);
    int chosen = INT32_MAX;
    for (int j = from; j < to && chosen == INT32_MAX; j++)
        if ((sum += weight(v[j])) > at && weight(v[j])) chosen = j;
    return block_first(chosen, m);
}
__device__ static int choose(const struct pick_args *a, int i, struct room *m) {
    struct sampling *s = &a->step->sampling[i];
    const float *l = a->logits + (size_t)i * (size_t)a->n;
    float *v = a->v + (size_t)i * (size_t)a->n;
    bool odd;
    float most = largest(l, a->n, m, &odd);
    if (odd) return NOT_CHOSEN;
    if (!(s->temperature > 0) && !penal(s) && s->banned < 1 && s->limit < 1) return first_of(l, a->n, most, m);
    EACH(j, a->n) v[j] = l[j];
    restrain(a, i, v, a->seen + (size_t)i * (size_t)a->n);
    most = -INFINITY;
    EACH(j, a->n) most = fmaxf(most, v[j]);
    most = block_max(most, m->red);
    if (most == -INFINITY) return NOT_CHOSEN;
    return s->temperature > 0 ? draw(v, a->n, s, most, m) : first_of(v, a->n, most, m);
}

/* ---- candidates ---- */
__device__ static int list(const struct pick_args *a, int i, struct room *m) {
    const int asked = a->step->sampling[i].candidates, count = asked < CANDIDATES_MAX ? asked : CANDIDATES_MAX;
    const float *l = a->logits + (size_t)i * (size_t)a->n;
    float *v = a->v + (size_t)i * (size_t)a->n;
    bool odd;
    const float most = largest(l, a->n, m, &odd);
    if (odd) return NOT_CHOSEN;
    EACH(j, a->n) v[j] = l[j] - most;
    const float norm = (float)log((double)weigh_all(v, a->n, m) * 0x1p-44);
    EACH(j, a->n) v[j] -= norm;
    restrain(a, i, v, a->seen + (size_t)i * (size_t)a->n);
    for (int c = 0; c < count; c++) {
        float top = -INFINITY;
        EACH(j, a->n) top = fmaxf(top, v[j]);
        top = block_max(top, m->red);
        const int id = top > -INFINITY ? first_of(v, a->n, top, m) : -1;
        if (threadIdx.x == 0) a->step->candidate[i][c] = { id, top };
        if (threadIdx.x == 0 && id >= 0) v[id] = -INFINITY;
        __syncthreads(); /* it is out of play */
    }
    return 0;
}

/* ---- the step moves on ---- */
__device__ static void move_on(const struct pick_args *a, bool listed) {
    struct step *s = a->step;
    const uint64_t now = now_ns();
    for (int i = 0; i < a->picks; i++)
        if (a->chosen[i] < 0) { /* then no sequence moves on */
            stop_step(s, STOP_NAN, a->call);
            return;
        }
    for (int i = 0; i < a->picks && !listed; i++) {
        const int id = a->chosen[i];
        s->row[i] = s->row[s->pick[i]]; /* pick[] ascends: row i is free when it is written */
        a->landing->stamp_ns[s->made % RING] = s->stamp_ns[s->made % RING] = now;
        a->landing->id[s->made % RING] = s->ring[s->made % RING] = s->row[i].id = id;
        s->made++;
        s->row[i].pos++;
        s->row[i].at++;
        s->pick[i] = i;
        if (s->sampling[i].ban_for > 0 && !--s->sampling[i].ban_for) s->sampling[i].banned = 0;
    }
    if (!listed) s->n[DIM_ROWS] = a->picks;
}
__device__ static void tell(const struct pick_args *a) {
    __threadfence_system(); /* tokens before their number */
    a->landing->stop = a->step->stop;
    a->landing->made = a->step->made;
}
__global__ void __launch_bounds__(THREADS, 1) next_kernel(struct pick_args a) {
    SMEM(struct room, m);
    const int i = (int)blockIdx.x;
    if (STOPPED(a.step)) {
        if (i == 0 && threadIdx.x == 0) tell(&a);
        return;
    }
    bool listed = false;
    for (int k = 0; k < a.picks && k < BEAMS_MAX; k++) listed |= a.step->sampling[k].candidates > 0;
    int id = 0;
    if (!listed)
        id = choose(&a, i, m);
    else if (i < BEAMS_MAX && a.step->sampling[i].candidates > 0)
        id = list(&a, i, m);
    __threadfence(); /* candidates and rng before the block is counted */
    __syncthreads(); /* all of the block's are written */
    if (threadIdx.x) return;
    a.chosen[i] = id;
    __threadfence();
    if (atomicAdd(a.counter, 1u) != (unsigned)a.picks - 1) return;
    *a.counter = 0;
    __threadfence(); /* what the others chose */
    move_on(&a, listed);
    tell(&a);
}
size_t cuda_next_scratch(const struct backend *, const struct op_call *c) {
    const size_t picks = (size_t)c->m[0].rows;
    return picks * (size_t)c->m[0].cols * (sizeof(float) + sizeof(int)) + picks * sizeof(int);
}
int cuda_next(const struct run *r, const struct op_call *c, struct err *e) {
    struct pick_args a = {};
    a.logits = c->m[0].p;
    a.history = (const int *)c->m[1].p;
    a.step = r->step;
    a.n = c->m[0].cols;
    a.picks = r->n[DIM_PICKS];
    a.call = r->call;
    a.counter = r->counter;
    a.landing = r->landing;
    a.v = (float *)r->scratch;
    a.seen = (int *)(a.v + (size_t)c->m[0].rows * (size_t)a.n);
    a.chosen = a.seen + (size_t)c->m[0].rows * (size_t)a.n;
    const unsigned threads = a.n >= 16384 ? THREADS : a.n >= 2048 ? THREADS / 4 : THREADS / 16;
    launch(next_kernel, dim3((unsigned)a.picks), dim3(threads), sizeof(struct room), r->stream, a);
    return cuda_launched(r->be, "next", e);
}
