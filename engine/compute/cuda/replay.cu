/* replay.cu - a program is run op by op (prompts, profiles) or as one graph (decoding), on a step block that lives on the
 * device. While decoding the host neither waits nor copies: NEXT moves the device's block on, and writes each token into
 * pinned memory, where the host looks for it. */
#include "base/mem.h"
#include "compute/cuda/replay.h"
#include <string.h>

/* GROUP: launches between two looks at the stop word; as many may run ahead of the device. */
enum { GRAPH_ROWS = 64, GROUP = 24, ALIGN = 256, QUERY_EVERY = 4096 };
struct linked {
    struct step *dev, *host; /* on the device; pinned, for copies */
    struct landing *landing; /* pinned, mapped */
    struct landing *landing_dev;
    unsigned *counter;
    cudaGraphExec_t graph;
    int n[DIM_COUNT]; /* live rows that the graph was captured for */
    cudaEvent_t paced[2];
};
static struct linked *linked_of(const struct program *p) { return (struct linked *)p->linked; }
static size_t up(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

/* ---- fuse, scratch ---- */
static int kind(const struct weight *) { return 0; }
void replay_fuse(struct program *p) {
    const struct fuse_rules rules = { 16, p->kv != DTYPE_Q8_0, kind }; /* a row of int8 needs all of its head first */
    fuse_program(p, &rules);
}
static size_t scratch_of(const struct backend *be, const struct op_call *c) {
    switch (c->op) {
    case OP_PROJ:
    case OP_LINEAR: return cuda_proj_scratch(be, c);
    case OP_ATTN: return cuda_attn_scratch(be, c);
    case OP_NEXT: return cuda_next_scratch(be, c);
    default: return 0;
    }
}
void replay_scratch(const struct program *p, size_t *each, size_t *shared) {
    *each = *shared = 0;
    for (int i = 0; i < p->n; i++) {
        const size_t bytes = scratch_of(p->be, &p->call[i]);
        if (bytes > *shared) *shared = bytes;
    }
    *shared = up(*shared) + ALIGN; /* the arena's end may lie anywhere */
}

/* ---- ops into the stream ---- */
static struct run run_of(struct backend *be, const struct program *p, const int n[DIM_COUNT]) {
    const struct linked *l = linked_of(p);
    struct run r = {};
    r.be = be;
    r.p = p;
    r.step = l->dev;
    memcpy(r.n, n, sizeof r.n);
    r.n[DIM_KV] = 0;
    r.stream = be->stream;
    r.counter = l->counter;
    r.landing = l->landing_dev;
    const uintptr_t end = (uintptr_t)p->base[REGION_ARENA] + p->need[REGION_ARENA];
    r.scratch = (char *)up(end - p->shared);
    return r;
}
static int op(struct run *r, struct err *e) {
    static cuda_op *const of[OPS_ALL] = { cuda_embed, cuda_angles, cuda_proj, cuda_norm, cuda_rope, cuda_kv_put,
                                          cuda_attn,  cuda_gate,   cuda_add,  cuda_pick, cuda_next, cuda_proj };
    const struct op_call *c = &r->p->call[r->call];
    const int rows = c->m[0].dim == DIM_KV      ? r->n[DIM_ROWS]
                     : c->m[0].dim == DIM_FIXED ? c->m[0].rows
                                                : r->n[c->m[0].dim];
    return rows ? of[c->op](r, c, e) : STATUS_OK;
}
/* The host stays at most two groups ahead, so that a stop word is seen within some layers. */
static int pace(struct run *r, const struct step *s, int i, struct err *e) {
    struct linked *l = linked_of(r->p);
    cudaEvent_t event = l->paced[i / GROUP % 2];
    if (!s || i % GROUP) return STATUS_OK;
    if (i >= 2 * GROUP && cuda_check(r->be, cudaEventSynchronize(event), "a step", e)) return e->code;
    return cuda_check(r->be, cudaEventRecord(event, r->stream), "a step", e);
}
/* s NULL: nobody can cancel it (a capture, a decode step). */
static int ops(struct run *r, const struct step *s, int from, int to, struct err *e) {
    for (r->call = from; r->call < to && !e->code; r->call++) {
        if (s && __atomic_load_n(&s->stop, __ATOMIC_RELAXED)) break;
        if (to - from > GROUP && pace(r, s, r->call - from, e)) break;
        op(r, e);
    }
    return e->code;
}
static int upload(struct backend *be, struct linked *l, const struct step *s, int stop, struct err *e) {
    memcpy(l->host, s, sizeof *s);
    l->host->stop = stop;
    l->landing->made = s->made;
    l->landing->stop = 0;
    return cuda_check(be, cudaMemcpyAsync(l->dev, l->host, sizeof *s, cudaMemcpyHostToDevice, be->stream), "a step", e);
}
/* All but the stop word, which another thread may be setting. */
static void take(struct step *s, const struct step *from) {
    memcpy(s, from, offsetof(struct step, stop));
    memcpy(&s->made, &from->made, sizeof *s - offsetof(struct step, made));
    int none = STOP_NONE;
    if (from->stop) __atomic_compare_exchange_n(&s->stop, &none, from->stop, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
static int download(struct backend *be, struct linked *l, struct step *s, struct err *e) {
    if (cuda_check(be, cudaMemcpyAsync(l->host, l->dev, sizeof *s, cudaMemcpyDeviceToHost, be->stream), "a step", e) ||
        cuda_check(be, cudaStreamSynchronize(be->stream), "a step", e))
        return e->code;
    if (__atomic_load_n(&s->stop, __ATOMIC_RELAXED) != STOP_CANCEL) take(s, l->host);
    return STATUS_OK;
}

/* ---- the graph ---- */
static void forget_graph(struct linked *l) {
    if (l->graph) cudaGraphExecDestroy(l->graph);
    l->graph = NULL;
}
static int capture(struct backend *be, const struct program *p, const int n[DIM_COUNT], struct err *e) {
    struct linked *l = linked_of(p);
    struct run r = run_of(be, p, n);
    cudaGraph_t graph = NULL;
    forget_graph(l);
    if (cuda_check(be, cudaStreamBeginCapture(be->stream, cudaStreamCaptureModeThreadLocal), "a graph", e))
        return e->code;
    ops(&r, NULL, 0, p->n, e);
    struct err ended = {};
    cuda_check(be, cudaStreamEndCapture(be->stream, &graph), "a graph", &ended);
    if (!e->code && ended.code) *e = ended;
    if (!e->code && !cuda_check(be, cudaGraphInstantiate(&l->graph, graph, 0), "a graph", e)) {
        memcpy(l->n, n, sizeof l->n);
        cuda_check(be, cudaGraphUpload(l->graph, be->stream), "a graph", e);
    }
    if (graph) cudaGraphDestroy(graph);
    if (e->code) forget_graph(l);
    return e->code;
}
static bool small(const struct program *p) { return p->rows <= GRAPH_ROWS; }
static int graph_for(struct backend *be, const struct program *p, const int n[DIM_COUNT], struct err *e) {
    const struct linked *l = linked_of(p);
    const bool same = l->graph && l->n[DIM_ROWS] == n[DIM_ROWS] && l->n[DIM_PICKS] == n[DIM_PICKS];
    return same ? STATUS_OK : capture(be, p, n, e);
}

/* ---- link ---- */
static int reserve(struct backend *be, struct linked *l, struct err *e) {
    const size_t step = up(sizeof(struct step)), counters = COUNTERS * sizeof(unsigned);
    char *device = NULL, *host = NULL;
    if (cuda_check(be, cudaMalloc((void **)&device, step + counters), "room for a step", e)) return e->code;
    l->dev = (struct step *)device;
    l->counter = (unsigned *)(device + step);
    if (cuda_check(be, cudaMemsetAsync(device, 0, step + counters, be->stream), "room for a step", e) ||
        cuda_check(be, cudaHostAlloc((void **)&host, step + sizeof *l->landing, cudaHostAllocMapped), "room for a step",
                   e))
        return e->code;
    memset(host, 0, step + sizeof *l->landing);
    l->host = (struct step *)host;
    l->landing = (struct landing *)(host + step);
    for (int i = 0; i < 2; i++)
        if (cuda_check(be, cudaEventCreateWithFlags(&l->paced[i], cudaEventDisableTiming), "room for a step", e))
            return e->code;
    return cuda_check(be, cudaHostGetDevicePointer((void **)&l->landing_dev, l->landing, 0), "room for a step", e);
}
static int search(struct run *r, struct err *e) {
    for (r->call = 0; r->call < r->p->n && !e->code; r->call++) {
        const struct op_call *c = &r->p->call[r->call];
        if (c->op == OP_PROJ || c->op == OP_LINEAR) cuda_proj_search(r, c, e);
    }
    return e->code;
}
static bool fixed(const struct program *p) { /* an image encoder's steps have no rows of their own */
    for (int i = 0; i < p->n; i++)
        if (p->call[i].m[0].dim != DIM_FIXED) return false;
    return true;
}
static void rows_of(int n[DIM_COUNT], const struct program *p, int rows) {
    n[DIM_FIXED] = n[DIM_KV] = 0;
    n[DIM_ROWS] = fixed(p) ? 0 : rows < p->rows ? rows : p->rows;
    n[DIM_PICKS] = n[DIM_ROWS] < p->picks ? n[DIM_ROWS] : p->picks;
}
/* Every kernel once, on a step that is stopped already: they load, find their attributes and touch nothing. */
static int warm_up(struct backend *be, const struct program *p, struct err *e) {
    enum { WAYS = 5 };
    static const int rows[WAYS] = { 1, 5, 17, 33, GRAPH_ROWS + 1 }; /* as many as take each way that there is */
    int n[DIM_COUNT];
    struct linked *l = linked_of(p);
    rows_of(n, p, GRAPH_ROWS + 1);
    struct run r = run_of(be, p, n);
    memset(l->host, 0, sizeof *l->host);
    l->host->stop = STOP_CANCEL;
    if (cuda_check(be, cudaMemcpyAsync(l->dev, l->host, sizeof *l->host, cudaMemcpyHostToDevice, be->stream), "a step",
                   e) ||
        search(&r, e))
        return e->code;
    for (int i = 0; i < WAYS && !e->code && (!i || rows[i - 1] < p->rows); i++) {
        rows_of(r.n, p, rows[i]);
        ops(&r, NULL, 0, p->n, e);
    }
    if (e->code || cuda_check(be, cudaStreamSynchronize(be->stream), "the first launch", e)) return e->code;
    return small(p) ? capture(be, p, n, e) : STATUS_OK;
}
int replay_link(struct backend *be, struct program *p, struct err *e) {
    struct linked *l = (struct linked *)mem_zero(1, sizeof *l);
    if (!l) return err_set(e, STATUS_NOMEM, "no memory to link a program");
    p->linked = l;
    if (reserve(be, l, e) || warm_up(be, p, e)) replay_unlink(be, p);
    return e->code;
}
void replay_unlink(struct backend *be, struct program *p) {
    struct linked *l = linked_of(p);
    if (!l) return;
    cudaStreamSynchronize(be->stream);
    forget_graph(l);
    for (int i = 0; i < 2; i++)
        if (l->paced[i]) cudaEventDestroy(l->paced[i]);
    if (l->dev) cudaFree(l->dev);
    if (l->host) cudaFreeHost(l->host);
    mem_free(l);
    p->linked = NULL;
}

/* ---- run ---- */
int replay_run(struct backend *be, const struct program *p, struct step *s, int from, int to, struct err *e) {
    struct linked *l = linked_of(p);
    const bool whole = from == 0 && to == p->n;
    int n[DIM_COUNT];
    memcpy(n, s->n, sizeof n);
    if (be->lost.code) return err_set(e, STATUS_DEVICE, "%s", be->lost.text);
    if ((whole || to == 0) && upload(be, l, s, __atomic_load_n(&s->stop, __ATOMIC_RELAXED), e)) return e->code;
    struct run r = run_of(be, p, n);
    if (whole && small(p) && (n[DIM_ROWS] || fixed(p))) {
        if (graph_for(be, p, n, e) || cuda_check(be, cudaGraphLaunch(l->graph, be->stream), "a step", e))
            return e->code;
    } else if (ops(&r, s, from, to, e))
        return e->code;
    return whole || from == p->n ? download(be, l, s, e) : STATUS_OK;
}
int replay_launch(struct backend *be, const struct program *p, const struct step *s, bool first, struct err *e) {
    struct linked *l = linked_of(p);
    if (be->lost.code) return err_set(e, STATUS_DEVICE, "%s", be->lost.text);
    const int n[DIM_COUNT] = { 0, first ? s->n[DIM_ROWS] : s->n[DIM_PICKS], s->n[DIM_PICKS], 0 };
    if (first && upload(be, l, s, STOP_NONE, e)) return e->code;
    if (graph_for(be, p, n, e)) return e->code;
    return cuda_check(be, cudaGraphLaunch(l->graph, be->stream), "a step", e);
}
/* Looks for the tokens of the oldest run; asks the stream now and then whether it still lives. */
static int await(struct backend *be, const struct landing *at, int made, struct err *e) {
    for (int i = 1; at->made < made && !at->stop; i++) {
        spin_wait();
        if (i % QUERY_EVERY) continue;
        const cudaError_t code = cudaStreamQuery(be->stream);
        if (code == cudaErrorNotReady) {
            cudaGetLastError(); /* no error, but kept as one */
            continue;
        }
        if (cuda_check(be, code, "a step", e)) return e->code;
        if (at->made < made && !at->stop) return err_set(e, STATUS_DEVICE, "a step ended without a token");
    }
    return STATUS_OK;
}
int replay_land(struct backend *be, const struct program *p, struct step *s, struct err *e) {
    const struct landing *at = linked_of(p)->landing;
    const int made = s->made + s->n[DIM_PICKS];
    if (await(be, at, made, e)) return e->code;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (at->made < made) { /* stopped: what still flies does nothing */
        int none = STOP_NONE;
        const int stop = at->stop;
        __atomic_compare_exchange_n(&s->stop, &none, stop, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
        return cuda_check(be, cudaStreamSynchronize(be->stream), "a step", e);
    }
    for (; s->made < made; s->made++) {
        s->ring[s->made % RING] = at->id[s->made % RING];
        s->stamp_ns[s->made % RING] = at->stamp_ns[s->made % RING];
    }
    return STATUS_OK;
}

/* ---- marks ---- */
int replay_mark(struct backend *be, int i, struct err *e) {
    if (!be->mark[i] && cuda_check(be, cudaEventCreate(&be->mark[i]), "a mark", e)) return e->code;
    return cuda_check(be, cudaEventRecord(be->mark[i], be->stream), "a mark", e);
}
int replay_marks(struct backend *be, double *us, int n, struct err *e) {
    if (n && cuda_check(be, cudaEventSynchronize(be->mark[n - 1]), "a mark", e)) return e->code;
    for (int i = 0; i < n; i++) {
        float ms = 0;
        if (cuda_check(be, cudaEventElapsedTime(&ms, be->mark[0], be->mark[i]), "a mark", e)) return e->code;
        us[i] = 1e3 * (double)ms;
    }
    return STATUS_OK;
}
