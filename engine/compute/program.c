#include "program.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const names[OP_COUNT] = {
#define X(id, name) [OP_##id] = name,
    OP_MAP(X)
#undef X
};
static const char *const stop_text[] = {
#define X(id, text) [STOP_##id] = text,
    STOP_MAP(X)
#undef X
};
const char *op_name(int op) { return op >= 0 && op < OP_COUNT ? names[op] : "fused"; }

/* Room for one more element of the given size; NULL (and a sticky error) without memory. */
static void *more(struct program *p, void *v, int *cap, int n, size_t size) {
    if (n < *cap) return v;
    void *grown = mem_grow(v, 2 * (size_t)n + 64, size);
    if (!grown) {
        err_set(&p->err, STATUS_NOMEM, "no memory for a program of %d records", 2 * n + 64);
        return NULL;
    }
    *cap = 2 * n + 64;
    return grown;
}
void program_init(struct program *p, const struct backend_api *api, struct backend *be, int rows, int picks,
                  int kv_rows) {
    *p = (struct program){
        .api = api, .be = be, .rows = rows, .picks = picks, .kv_rows = kv_rows, .layer = -1, .kv = DTYPE_F32
    };
    if (rows < 1 || rows > ROWS_MAX || picks < 1 || picks > rows || picks > PICKS_MAX || kv_rows < 1)
        err_set(&p->err, STATUS_INVALID,
                "a program of %d rows, %d picks and %d KV rows: rows must be 1..%d, picks 1..%d of them", rows, picks,
                kv_rows, ROWS_MAX, PICKS_MAX);
}
void program_fini(struct program *p) {
    program_unlink(p);
    for (int i = 0; i < p->n; i++) mem_free(p->call[i].priv);
    mem_free(p->call);
    mem_free(p->area);
    *p = (struct program){ 0 };
}
/* Of int8 there are caches only, with one f16 for each head. */
static size_t row_bytes(const struct mat *m) {
    return m->dt == DTYPE_Q8_0 ? (size_t)m->cols + (size_t)(m->cols / m->ld) * 2 : dtype_bytes(m->dt, (size_t)m->cols);
}
static struct mat new_mat(struct program *p, enum region where, struct mat m) {
    struct area *a = more(p, p->area, &p->area_cap, p->areas, sizeof *a);
    if (!a) return m;
    p->area = a;
    m.buf = p->areas++;
    const size_t bytes = (size_t)m.rows * row_bytes(&m);
    a[m.buf] = (struct area){ .where = where, .bytes = (bytes + 63) & ~(size_t)63, .keep = where == REGION_KV };
    return m;
}
struct mat program_tmp(struct program *p, enum dim dim, int rows, int cols) {
    return new_mat(p, REGION_ARENA, (struct mat){ NULL, 0, rows, cols, cols, dim, DTYPE_F32 });
}
static struct mat kv_mat(struct program *p, int cols, int ld,
                         enum dtype dt) { /* whole tiles of 16 rows: keys lie across */
    return new_mat(p, REGION_KV, (struct mat){ NULL, 0, program_kv_rows(p->kv_rows), cols, ld, DIM_KV, dt });
}
struct mat program_kv(struct program *p, int cols, int head_dim) {
    return kv_mat(p, cols, head_dim, p->kv);
}
void program_keep(struct program *p, struct mat m) {
    if (m.buf < p->areas) p->area[m.buf].keep = true;
}
void program_remove(struct program *p, int i) {
    p->n--;
    memmove(&p->call[i], &p->call[i + 1], sizeof *p->call * (size_t)(p->n - i));
}
float *program_at(const struct program *p, struct mat m) {
    return (float *)(void *)(p->base[p->area[m.buf].where] + p->area[m.buf].off);
}
void program_fuse(struct program *p) {
    if (p->api->fuse && !p->err.code) p->api->fuse(p);
}

/* The recording choke point: sticky error, shape check with the culprit's name, layer, cost. */
static void record(struct program *p, struct op_call c, bool fits) {
    if (p->err.code) return;
    c.layer = p->layer;
    const struct weight *w = c.w[0];
    if (!fits) {
        err_set(&p->err, STATUS_FORMAT, "%s '%s', layer %d: shapes do not fit: out %dx%d, in %dx%d, %s %dx%d",
                op_name(c.op), c.label, c.layer, c.m[0].rows, c.m[0].cols, c.m[1].rows, c.m[1].cols,
                w ? w->name : "other", w ? w->rows : c.m[2].rows, w ? w->cols : c.m[2].cols);
        return;
    }
    for (int i = 0; i < 2 && c.w[i]; i++) {
        const size_t bytes = p->api->weight_bytes(c.w[i]);
        const struct dtype_info *dt = dtype_info(c.w[i]->dt);
        if (!bytes) {
            err_set(&p->err, STATUS_FORMAT, "%s: %s weights of %dx%d cannot be used by the %s backend", c.w[i]->name,
                    dt ? dt->name : "unknown", c.w[i]->rows, c.w[i]->cols, p->api->name);
            return;
        }
        if (c.op == OP_EMBED)
            c.cost.row_bytes = (double)bytes / c.w[i]->rows;
        else
            c.cost.weight_bytes += (double)bytes;
    }
    struct op_call *v = more(p, p->call, &p->call_cap, p->n, sizeof *v);
    if (!v) return;
    p->call = v;
    v[p->n++] = c;
}

static void live_ranges(struct program *p) {
    for (int i = 0; i < p->areas; i++) {
        p->area[i].first = p->area[i].keep ? 0 : p->n;
        p->area[i].last = p->area[i].keep ? p->n : -1;
    }
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < p->call[i].n; k++) {
            struct area *a = &p->area[p->call[i].m[k].buf];
            if (i < a->first) a->first = i;
            if (i > a->last) a->last = i;
        }
}
static bool clash(const struct area *a, const struct area *b) {
    return a->where == b->where && a->first <= b->last && b->first <= a->last && a->off < b->off + b->bytes &&
           b->off < a->off + a->bytes;
}
/* Each buffer at the lowest offset where nothing alive at the same time lies. */
int program_plan(struct program *p, struct err *e) {
    if (p->err.code) return err_set(e, p->err.code, "%s", p->err.text);
    live_ranges(p);
    memset(p->need, 0, sizeof p->need);
    for (int i = 0; i < p->areas; i++) {
        struct area *a = &p->area[i];
        a->off = 0;
        if (a->last < 0) continue;
        for (int j = 0; j < i; j++) /* start again after each move: offsets only grow */
            if (p->area[j].last >= 0 && clash(a, &p->area[j])) {
                a->off = p->area[j].off + p->area[j].bytes;
                j = -1;
            }
        if (a->off + a->bytes > p->need[a->where]) p->need[a->where] = a->off + a->bytes;
    }
    if (p->api->scratch) p->api->scratch(p, &p->each, &p->shared);
    p->need[REGION_ARENA] += p->shared + p->each * (size_t)p->api->workers(p->be);
    return 0;
}
int program_link(struct program *p, void *arena, void *kv, struct err *e) {
    program_unlink(p);
    p->base[REGION_ARENA] = arena;
    p->base[REGION_KV] = kv;
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < p->call[i].n; k++) p->call[i].m[k].p = program_at(p, p->call[i].m[k]);
    return p->api->link ? p->api->link(p->be, p, e) : STATUS_OK;
}
void program_unlink(struct program *p) {
    if (p->api && p->api->unlink) p->api->unlink(p->be, p);
    p->linked = NULL;
    p->flying = 0;
}
int program_get(const struct program *p, struct mat m, float *to, size_t n, struct err *e) {
    if (p->api->get) return p->api->get(p->be, to, program_at(p, m), n * sizeof *to, e);
    memcpy(to, program_at(p, m), n * sizeof *to);
    return STATUS_OK;
}
static int put(const struct program *p, float *to, const float *from, size_t n, struct err *e) {
    if (p->api->put) return p->api->put(p->be, to, from, n * sizeof *from, e);
    memcpy(to, from, n * sizeof *from);
    return STATUS_OK;
}
int program_put(const struct program *p, struct mat m, const float *from, size_t n, struct err *e) {
    return put(p, program_at(p, m), from, n, e);
}
int program_put_rows(const struct program *p, struct mat m, int first, const float *from, int rows, struct err *e) {
    const size_t cols = (size_t)m.cols;
    return put(p, program_at(p, m) + (size_t)first * cols, from, (size_t)rows * cols, e);
}

struct tally { /* rows[DIM_KV]: cache rows read; ctx: sum over query rows */
    double rows[DIM_COUNT], ctx;
};
static struct tally tally(const struct step *s) {
    struct tally t = { .rows = { [DIM_ROWS] = s->n[DIM_ROWS], [DIM_PICKS] = s->n[DIM_PICKS] } };
    for (int i = 0; i < s->n[DIM_ROWS]; i++) {
        t.ctx += (double)s->row[i].at + 1; /* not vetted yet */
        bool last = true;                  /* a sequence's cache is read once, by its last row */
        for (int j = i + 1; j < s->n[DIM_ROWS]; j++) last &= s->row[j].kv != s->row[i].kv;
        if (last) t.rows[DIM_KV] += (double)s->row[i].at + 1;
    }
    return t;
}
static void cost_of(const struct op_call *c, const struct tally *t, double *bytes, double *flops) {
    const enum dim dim = c->m[0].dim == DIM_KV ? DIM_ROWS : c->m[0].dim;
    const double rows = dim == DIM_FIXED ? c->m[0].rows : t->rows[dim];
    *flops = c->cost.row_flops * rows + c->cost.ctx_flops * t->ctx;
    *bytes = c->cost.weight_bytes + c->cost.row_bytes * rows;
    for (int k = 0; k < c->n; k++) {
        const struct mat *m = &c->m[k];
        if (!c->access[k]) continue;
        const enum dim d = m->dim == DIM_KV && c->access[k] == WRITE ? DIM_ROWS : m->dim;
        const double live = d == DIM_FIXED ? m->rows : t->rows[d];
        *bytes += live * (double)row_bytes(m) * (c->access[k] == (READ | WRITE) ? 2 : 1);
    }
}
void program_cost(const struct op_call *c, const struct step *s, double *bytes, double *flops) {
    const struct tally t = tally(s);
    cost_of(c, &t, bytes, flops);
}
/* Results in the host's memory, for the dump. */
static int dump(struct program *p, const struct op_call *c, const int n[DIM_COUNT], struct watch *w, struct err *e) {
    for (int k = 0; k < c->n && !e->code; k++) {
        struct mat m = c->m[k];
        if (!(c->access[k] & WRITE) || m.dim == DIM_KV) continue;
        const int rows = m.dim == DIM_FIXED ? m.rows : n[m.dim];
        const size_t bytes = (size_t)rows * (size_t)m.ld * sizeof *m.p;
        float *copy = p->api->get ? mem_alloc(bytes + 1) : NULL;
        if (p->api->get && !copy) return err_set(e, STATUS_NOMEM, "no memory to look at '%s'", c->label);
        if (copy && !p->api->get(p->be, copy, m.p, bytes, e)) m.p = copy;
        if (!e->code) w->dump(w->arg, c, &m, rows);
        mem_free(copy);
    }
    return e->code;
}
static int watched(struct program *p, struct step *s, struct watch *w, struct err *e) {
    const struct tally t = tally(s); /* before: NEXT moves the step on */
    const int n[DIM_COUNT] = { 0, s->n[DIM_ROWS], s->n[DIM_PICKS], 0 };
    const bool marks = p->api->mark && 2 * p->n <= MARKS_MAX;
    const int first = w->n;
    if (p->api->replay(p->be, p, s, 0, 0, e)) return e->code;
    for (int i = 0; i < p->n && !e->code && !__atomic_load_n(&s->stop, __ATOMIC_RELAXED); i++) {
        const struct op_call *c = &p->call[i];
        struct span sp = { .call = c };
        cost_of(c, &t, &sp.bytes, &sp.flops);
        const double t0 = p->api->time_us(p->be);
        if (marks && p->api->mark(p->be, 2 * i, e)) break;
        if (p->api->replay(p->be, p, s, i, i + 1, e)) break;
        if (marks && p->api->mark(p->be, 2 * i + 1, e)) break;
        sp.us = p->api->time_us(p->be) - t0;
        if (w->n < w->cap) w->span[w->n++] = sp;
        if (w->dump) dump(p, c, n, w, e);
    }
    if (!e->code) p->api->replay(p->be, p, s, p->n, p->n, e);
    double *us = marks && !e->code ? mem_alloc(2 * (size_t)p->n * sizeof *us) : NULL;
    if (us && !p->api->marks(p->be, us, 2 * (w->n - first), e))
        for (int i = first; i < w->n; i++) w->span[i].us = us[2 * (i - first) + 1] - us[2 * (i - first)];
    mem_free(us);
    return e->code;
}
static int check(const struct program *p, const struct step *s, struct err *e) {
    const int rows = s->n[DIM_ROWS], picks = s->n[DIM_PICKS];
    if (p->err.code) return err_set(e, p->err.code, "%s", p->err.text);
    if (rows < 0 || rows > p->rows || picks < 0 || picks > p->picks)
        return err_set(e, STATUS_INVALID, "a step of %d rows and %d picks: the program was recorded for %d and %d",
                       rows, picks, p->rows, p->picks);
    for (int i = 0; i < picks; i++) {
        if (s->sampling[i].candidates > (i < BEAMS_MAX ? CANDIDATES_MAX : 0))
            return err_set(e, STATUS_INVALID, "pick %d asks for %d candidates: %d at most, for the first %d picks", i,
                           s->sampling[i].candidates, CANDIDATES_MAX, BEAMS_MAX);
        if (s->pick[i] < 0 || s->pick[i] >= rows || (i && s->pick[i] <= s->pick[i - 1]))
            return err_set(e, STATUS_INVALID, "pick %d is row %d: picks must ascend within the step's %d rows", i,
                           s->pick[i], rows);
    }
    return STATUS_OK;
}
static void find_odd(void *arg, const struct op_call *c, const struct mat *m, int rows) {
    const struct op_call **first = arg;
    for (int i = 0; i < rows && !*first; i++)
        for (int j = 0; j < m->cols && !*first; j++)
            if (!isfinite(m->p[(size_t)i * (size_t)m->ld + (size_t)j])) *first = c;
}
/* The step once more, call by call, to find who made the first number that is none. NEXT has left the step as it was. */
static const struct op_call *blame(struct program *p, struct step *s) {
    const struct op_call *first = NULL;
    struct watch w = { .dump = find_odd, .arg = &first };
    struct err ignored = { 0 };
    const int stop = __atomic_load_n(&s->stop, __ATOMIC_RELAXED);
    __atomic_store_n(&s->stop, STOP_NONE, __ATOMIC_RELEASE);
    watched(p, s, &w, &ignored);
    __atomic_store_n(&s->stop, stop, __ATOMIC_RELEASE);
    return first;
}
static int outcome(struct program *p, struct step *s, struct err *e) {
    const int stop = __atomic_load_n(&s->stop, __ATOMIC_ACQUIRE), why = stop & 255;
    if (!stop) return STATUS_OK;
    if (why == STOP_CANCEL) return err_set(e, STATUS_CANCELLED, "cancelled");
    const struct op_call *at = &p->call[stop >> 8];
    const struct op_call *first = why == STOP_NAN ? blame(p, s) : NULL;
    if (why != STOP_NAN) return err_set(e, STATUS_INVALID, "'%s', layer %d: %s", at->label, at->layer, stop_text[why]);
    if (!first) return err_set(e, STATUS_FORMAT, "%s", stop_text[why]);
    return err_set(e, STATUS_FORMAT, "%s (the first number that is none comes from '%s', layer %d)", stop_text[why],
                   first->label, first->layer);
}
/* The replay choke point. Profile marks and golden dumps need nothing from a backend but "run calls [i, j)". */
int program_replay(struct program *p, struct step *s, struct watch *w, struct err *e) {
    if (check(p, s, e)) return e->code;
    if (w ? watched(p, s, w, e) : p->api->replay(p->be, p, s, 0, p->n, e)) return e->code;
    return outcome(p, s, e);
}
int program_replay_part(struct program *p, struct step *s, int from, int to, struct err *e) {
    if (check(p, s, e) || p->api->replay(p->be, p, s, from, to, e)) return e->code;
    return outcome(p, s, e);
}
int program_launch(struct program *p, struct step *s, struct err *e) {
    if (!p->flying && check(p, s, e)) return e->code;
    if (p->flying == AHEAD_MAX) return err_set(e, STATUS_INVALID, "%d steps fly already", p->flying);
    if ((p->flying + 1) * s->n[DIM_PICKS] > RING)
        return err_set(e, STATUS_INVALID, "%d steps of %d tokens do not fit the ring of %d", p->flying + 1,
                       s->n[DIM_PICKS], RING);
    if (p->api->launch && p->api->launch(p->be, p, s, !p->flying, e)) return program_recall(p, s), e->code;
    p->flying++;
    return STATUS_OK;
}
/* What NEXT did to the step on the device, done here. Each draw takes one number of the generator. */
static void advance(struct step *s) {
    const int picks = s->n[DIM_PICKS];
    for (int i = 0; i < picks; i++) { /* pick[] ascends: row i is free when it is written */
        struct sampling *g = &s->sampling[i];
        s->row[i] = s->row[s->pick[i]];
        s->row[i].id = s->ring[(s->made - picks + i) % RING];
        s->row[i].pos++;
        s->row[i].at++;
        s->pick[i] = i;
        if (g->temperature > 0) g->rng += STEP_RNG;
        if (g->ban_for > 0 && !--g->ban_for) g->banned = 0;
    }
    s->n[DIM_ROWS] = picks;
}
int program_land(struct program *p, struct step *s, struct err *e) {
    if (!p->flying) return err_set(e, STATUS_INVALID, "no step flies");
    if (!p->api->land) {
        p->flying = 0; /* nothing was begun before: a step that runs in the host's memory leaves nothing to wait for */
        return program_replay(p, s, NULL, e);
    }
    if (p->api->land(p->be, p, s, e) || outcome(p, s, e)) return program_recall(p, s), e->code;
    p->flying--;
    advance(s);
    return STATUS_OK;
}
void program_recall(struct program *p, struct step *s) {
    struct err ignored = { 0 };
    const int stop = __atomic_load_n(&s->stop, __ATOMIC_RELAXED), made = s->made;
    if (p->api->land)
        while (p->flying > 0 && !ignored.code) p->flying--, p->api->land(p->be, p, s, &ignored);
    p->flying = 0;
    s->made = made;
    __atomic_store_n(&s->stop, stop, __ATOMIC_RELEASE);
}
void step_rows(struct step *s, const int *id, int n, int pos, int kv, bool pick) {
    for (int i = 0; i < n && s->n[DIM_ROWS] < ROWS_MAX; i++)
        s->row[s->n[DIM_ROWS]++] = (struct step_row){ .id = id[i], .pos = pos + i, .kv = kv, .at = pos + i };
    if (pick && n > 0 && s->n[DIM_PICKS] < PICKS_MAX) s->pick[s->n[DIM_PICKS]++] = s->n[DIM_ROWS] - 1;
}
void step_cancel(struct step *s) {
    int none = STOP_NONE;
    __atomic_compare_exchange_n(&s->stop, &none, STOP_CANCEL, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

/* ---- the ops: shapes and costs, nothing else ---- */
static struct op_call call(int op, const char *label, struct mat out, int access) {
    struct op_call c = { .op = op, .label = label, .n = 1, .m = { out }, .access = { (unsigned char)access } };
    return c;
}
static void operand(struct op_call *c, struct mat m, int access) {
    c->m[c->n] = m;
    c->access[c->n++] = (unsigned char)access;
}
static bool vector(const struct weight *w, int n) { return !w || (w->rows == n && w->cols == 1); }
static bool same(const struct mat *a, const struct mat *b) {
    return a->rows == b->rows && a->cols == b->cols && a->dim == b->dim;
}

void op_embed(struct program *p, struct mat y, struct weight *table) {
    struct op_call c = call(OP_EMBED, "embed", y, WRITE);
    if (!p->history.cols) p->history = kv_mat(p, 1, 1, DTYPE_F32); /* int32, in fact */
    operand(&c, p->history, WRITE);
    if (p->image_rows) {
        if (!p->images.cols)
            p->images =
                new_mat(p, REGION_KV, (struct mat){ NULL, 0, p->image_rows, y.cols, y.cols, DIM_FIXED, DTYPE_F32 });
        operand(&c, p->images, 0); /* read where a row says so: no traffic of every step */
    }
    c.w[0] = table;
    record(p, c, p->image_rows >= 0 && y.cols == table->cols && y.dim == DIM_ROWS);
}
void op_linear(struct program *p, const char *label, struct mat y, struct mat x, struct weight *w, struct weight *b,
               enum act a) {
    struct op_call c = call(OP_LINEAR, label, y, WRITE);
    operand(&c, x, READ);
    c.w[0] = w;
    c.w[1] = b;
    c.u.act = a;
    c.cost.row_flops = 2.0 * w->rows * w->cols;
    record(p, c,
           w->cols > 1 && x.cols == w->cols && y.cols == w->rows && y.rows == x.rows && y.dim == x.dim &&
               vector(b, w->rows));
}
void op_norm(struct program *p, const char *label, struct mat y, struct mat x, const struct norm_of *n) {
    struct op_call c = call(OP_NORM, label, y, WRITE);
    operand(&c, x, READ);
    c.w[0] = n->g;
    c.w[1] = n->b;
    c.u.norm = *n;
    c.cost.row_flops = 4.0 * x.cols;
    record(p, c, n->g && vector(n->g, x.cols) && vector(n->b, x.cols) && same(&y, &x));
}
/* The cosines and sines of every live row's position: one record at the front serves all layers. */
static struct mat angles(struct program *p, struct rope r) {
    for (int i = 0; i < p->n; i++) {
        const struct rope *o = &p->call[i].u.rope;
        if (p->call[i].op == OP_ANGLES && o->head_dim == r.head_dim && o->rot == r.rot && o->theta == r.theta)
            return p->call[i].m[0];
    }
    struct op_call c = call(OP_ANGLES, "angles", program_tmp(p, DIM_ROWS, p->rows, r.rot), WRITE);
    c.u.rope = r;
    c.cost.row_flops = 2.0 * r.rot;
    const int layer = p->layer, at = p->n > 0 && p->call[0].op == OP_EMBED; /* EMBED vets the step: it stays first */
    p->layer = -1;
    record(p, c, true);
    p->layer = layer;
    if (!p->err.code) {
        c = p->call[p->n - 1];
        memmove(&p->call[at + 1], &p->call[at], sizeof c * (size_t)(p->n - 1 - at));
        p->call[at] = c;
    }
    return c.m[0];
}
void op_rope(struct program *p, struct mat x, struct rope r) {
    struct op_call c = call(OP_ROPE, "rope", x, READ | WRITE);
    const bool fits = r.head_dim > 0 && r.head_dim <= HEAD_DIM_MAX && x.cols % r.head_dim == 0 && r.rot > 0 &&
                      r.rot <= r.head_dim && r.rot % 2 == 0 && x.dim == DIM_ROWS;
    operand(&c, fits ? angles(p, r) : x, READ);
    c.u.rope = r;
    c.cost.row_flops = fits ? 3.0 * x.cols / r.head_dim * r.rot : 0;
    record(p, c, fits);
}
void op_kv_put(struct program *p, struct mat cache, struct mat x, bool keys) {
    struct op_call c = call(OP_KV_PUT, keys ? "kv_put.k" : "kv_put.v", cache, WRITE);
    operand(&c, x, READ);
    c.u.keys = keys;
    record(p, c, cache.cols == x.cols && cache.dim == DIM_KV && x.dim == DIM_ROWS);
}
void op_attn(struct program *p, struct mat y, struct mat q, struct mat k, struct mat v, struct attn_of a) {
    struct op_call c = call(OP_ATTN, "attn.mix", y, WRITE);
    operand(&c, q, READ);
    operand(&c, k, READ);
    operand(&c, v, READ);
    c.u.attn = a;
    const int blocks = attn_blocks(&a);
    if (k.dim == DIM_KV)
        c.cost.ctx_flops = 4.0 * q.cols;
    else
        c.cost.row_flops = 4.0 * q.cols * k.rows / blocks;
    const bool whole = q.dim == DIM_FIXED && k.dim == DIM_FIXED && q.rows % blocks == 0 && k.rows % blocks == 0;
    record(p, c,
           a.kv_heads > 0 && a.heads % a.kv_heads == 0 && a.head_dim > 0 && a.head_dim <= HEAD_DIM_MAX &&
               q.cols == a.heads * a.head_dim && k.cols == a.kv_heads * a.head_dim && same(&k, &v) && same(&y, &q) &&
               (k.dim != DIM_KV || q.dim == DIM_ROWS) && (blocks == 1 || whole));
}
void op_gate(struct program *p, struct mat y, struct mat g, struct mat up, enum act a) {
    struct op_call c = call(OP_GATE, "mlp.gate*up", y, WRITE);
    operand(&c, g, READ);
    operand(&c, up, READ);
    c.u.act = a;
    c.cost.row_flops = 2.0 * g.cols;
    record(p, c, same(&g, &up) && same(&y, &g));
}
void op_add(struct program *p, struct mat y, struct mat x) {
    struct op_call c = call(OP_ADD, "residual", y, READ | WRITE);
    operand(&c, x, READ);
    c.cost.row_flops = y.cols;
    record(p, c, same(&x, &y));
}
void op_pick(struct program *p, struct mat y, struct mat x) {
    struct op_call c = call(OP_PICK, "pick", y, WRITE);
    operand(&c, x, READ);
    record(p, c, y.cols == x.cols && y.dim == DIM_PICKS && x.dim == DIM_ROWS);
}
void op_next(struct program *p, struct mat logits) {
    struct op_call c = call(OP_NEXT, "next", logits, READ);
    operand(&c, p->history, READ);
    operand(&c, program_tmp(p, DIM_FIXED, 1, 3 * logits.cols), WRITE);
    record(p, c, logits.dim == DIM_PICKS && p->history.cols == 1);
}
