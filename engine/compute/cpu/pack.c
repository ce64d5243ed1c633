/* pack.c - each weight is read once and laid down in the grouping that the fused programs ask for. */
#include "base/mem.h"
#include "cpu.h"
#include <string.h>

struct slab {
    char *p;
    size_t bytes;
    struct packed *desc;
    struct weight **owner; /* of each desc; valid until dropped */
    int n, cap;
    struct slab *next;
};

static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }
static size_t panel_bytes(const struct weight *w) { return form_bytes(weight_form(w), w->cols); }
size_t cpu_weight_bytes(const struct weight *w) {
    if (w->rows < 1 || w->cols < 1 || weight_form(w) == DTYPE_NONE) return 0;
    return w->cols == 1 ? up((size_t)w->rows * 4, 64) : up((size_t)w->rows, PANEL) / PANEL * panel_bytes(w);
}

/* ---- place ---- */
static void place(struct slab *s, struct weight *const *w, int n) {
    size_t stride = 0, bytes = 0;
    for (int i = 0; i < n; i++) {
        if (!w[i] || w[i]->packed) return; /* absent, or placed before (perhaps in another grouping) */
        stride += w[i]->cols == 1 ? 0 : panel_bytes(w[i]);
        bytes += cpu_weight_bytes(w[i]);
    }
    if (n == 2 && (w[0] == w[1] || w[0]->rows != w[1]->rows)) { /* cannot lie side by side */
        place(s, w, 1);
        place(s, w + 1, 1);
        return;
    }
    size_t at = s->bytes;
    for (int i = 0; i < n; i++) {
        w[i]->packed = &s->desc[s->n];
        *w[i]->packed = (struct packed){ (char *)(uintptr_t)at, stride, weight_form(w[i]) }; /* an offset for now */
        s->owner[s->n++] = w[i];
        at += panel_bytes(w[i]);
    }
    s->bytes = up(s->bytes + bytes, 64);
}
static void place_call(struct slab *s, const struct op_call *c) {
    const struct proj *f = c->op == OP_PROJ ? c->priv : NULL;
    for (int i = 0; !f && i < 2; i++) place(s, &c->w[i], 1);
    for (int i = 0; f && i < f->norms; i++) {
        place(s, &f->norm[i].g, 1);
        place(s, &f->norm[i].b, 1);
    }
    for (int i = 0; f && i < f->segs; i++) {
        const struct seg *g = &f->seg[i];
        struct weight *side[2] = { g->t[0].w, g->t[1].w };
        place(s, side, g->terms);
        for (int t = 0; t < g->terms; t++) place(s, &g->t[t].b, 1);
    }
}
static void forget(struct slab *s) {
    for (int i = 0; i < s->n; i++) s->owner[i]->packed = NULL;
}
static void release(struct slab *s) {
    cpu_unmap(s->p, s->bytes);
    mem_free(s->desc);
    mem_free(s->owner);
    mem_free(s);
}
int cpu_place(struct backend *be, struct program *const *p, int n, struct slab **out, struct err *e) {
    size_t most = 1;
    *out = NULL;
    for (int i = 0; i < n; i++) {
        if (p[i]->err.code) return err_set(e, p[i]->err.code, "%s", p[i]->err.text);
        most += (size_t)p[i]->n * (2 * NORMS + 4 * SEGS);
    }
    struct slab *s = mem_zero(1, sizeof *s);
    if (!s) return err_set(e, STATUS_NOMEM, "no memory to place %zu weights", most);
    s->desc = mem_zero(most, sizeof *s->desc);
    s->owner = mem_zero(most, sizeof *s->owner);
    if (s->desc && s->owner)
        for (int i = 0; i < n; i++)
            for (int k = 0; k < p[i]->n; k++) place_call(s, &p[i]->call[k]);
    if (!s->desc || !s->owner || !(s->p = cpu_map(s->bytes))) {
        const int code =
            err_set(e, STATUS_NOMEM, "no memory for %.1f MiB of packed weights", (double)s->bytes / 1048576);
        forget(s);
        release(s);
        return code;
    }
    for (int i = 0; i < s->n; i++) s->desc[i].p = s->p + (uintptr_t)s->desc[i].p;
    s->next = *cpu_slabs(be);
    *out = *cpu_slabs(be) = s;
    return 0;
}
void cpu_drop(struct backend *be, struct slab *s) {
    if (!s) return;
    struct slab **at = cpu_slabs(be);
    while (*at && *at != s) at = &(*at)->next;
    if (!*at) return;
    *at = s->next;
    forget(s);
    release(s);
}
void cpu_drop_all(struct backend *be) {
    for (struct slab *s; (s = *cpu_slabs(be));) {
        *cpu_slabs(be) = s->next;
        release(s);
    }
}

/* ---- fill ---- */
float cpu_half(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    uint32_t bits = (rest << 13) + 0x38000000; /* exponent bias 15 -> 127 */
    float f;
    if (rest >= 0x7c00) bits = (rest << 13) | 0x7f800000;
    memcpy(&f, &bits, 4);
    if (rest < 0x400) f = (float)rest * 0x1p-24f; /* subnormal or zero */
    memcpy(&bits, &f, 4);
    bits |= sign;
    memcpy(&f, &bits, 4);
    return f;
}
/* Round to nearest even; too large becomes infinite. */
uint16_t cpu_to_half(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    const uint32_t sign = u >> 16 & 0x8000, rest = u & 0x7fffffff;
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x47800000) return (uint16_t)(sign | 0x7c00);
    if (rest < 0x38800000) { /* subnormal: adding 0.5 lets the hardware round at the right bit */
        float a;
        memcpy(&a, &rest, 4);
        a += 0.5f;
        memcpy(&u, &a, 4);
        return (uint16_t)(sign | (u - 0x3f000000));
    }
    return (uint16_t)(sign | ((rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13));
}
static void run_panels(void *arg, int id) {
    const struct filling *f = arg;
    POOL_TASKS(t, f->pool, id, (f->w->rows + PANEL - 1) / PANEL) f->panel(f, t);
}
static void fill_vector(const struct filling *f) {
    float *y = (float *)(void *)f->w->packed->p;
    uint64_t dice = f->seed;
    for (int r = 0; r < f->w->rows; r++) {
        uint32_t u = 0;
        const char *p = f->source ? f->source + weight_source_row(f->w, r) * f->row_bytes : NULL;
        dice = dice * 6364136223846793005u + 1442695040888963407u; /* Knuth's */
        if (!p) {
            y[r] = f->mean + f->dev * 1.7320508f * ((float)(dice >> 40) * 0x1p-23f - 1);
            continue;
        }
        memcpy(&u, p, f->row_bytes);
        if (f->w->dt == DTYPE_BF16) u <<= 16;
        if (f->w->dt == DTYPE_F16)
            y[r] = cpu_half((uint16_t)u);
        else
            memcpy(&y[r], &u, 4);
    }
}
static void fill(struct filling *f) {
    if (f->w->cols == 1)
        fill_vector(f);
    else
        pool_run(f->pool, run_panels, f);
}
int cpu_fill(struct backend *be, const struct weight *w, const void *source, struct err *e) {
    struct filling f = { .w = w, .pool = cpu_pool(be), .panel = cpu_kernels(be)->fill_panel, .source = source };
    f.row_bytes = dtype_bytes(w->dt, (size_t)w->cols);
    if (weight_check(w, e)) return e->code;
    fill(&f);
    return 0;
}
int cpu_dummy(struct backend *be, const struct weight *w, float mean, float dev, uint64_t seed, struct err *e) {
    struct filling f = { .w = w, .pool = cpu_pool(be), .panel = cpu_kernels(be)->dummy_panel, .seed = seed };
    if (!w->packed) return err_set(e, STATUS_INVALID, "%s: not placed", w->name);
    f.mean = mean;
    f.dev = dev;
    fill(&f);
    return 0;
}
