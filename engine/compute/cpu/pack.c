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

enum dtype cpu_form(const struct weight *w) {
    const enum dtype f = w->want != DTYPE_NONE && w->cols > 1 ? w->want : w->dt;
    const bool vector = w->cols == 1, quant = cpu_form_quant(w->dt);
    switch (w->dt) {
    case DTYPE_F32:
    case DTYPE_F16:
    case DTYPE_BF16:
    case DTYPE_Q4_0:
    case DTYPE_Q4_1:
    case DTYPE_Q8_0: break;
    default: return DTYPE_NONE;
    }
    if (quant && (vector || w->cols % QBLOCK)) return DTYPE_NONE;
    if (f != w->dt && f != DTYPE_F32 && f != DTYPE_F16) return DTYPE_NONE;
    return vector ? DTYPE_F32 : f;
}
bool cpu_form_quant(enum dtype f) { return f == DTYPE_Q4_0 || f == DTYPE_Q4_1 || f == DTYPE_Q8_0; }
static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }
static size_t panel_bytes(const struct weight *w) { return dtype_bytes(cpu_form(w), (size_t)w->cols) * PANEL; }
size_t cpu_weight_bytes(const struct weight *w) {
    if (w->rows < 1 || w->cols < 1 || cpu_form(w) == DTYPE_NONE) return 0;
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
        *w[i]->packed = (struct packed){ (char *)(uintptr_t)at, stride, cpu_form(w[i]) }; /* an offset for now */
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
static uint16_t to_half(float f) {
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
static uint16_t u16(const char *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
/* n columns of one source row as f32. Little-endian hosts only; the file promises no alignment. */
static void decode(float *out, const char *p, enum dtype dt, int n) {
    const struct dtype_info *info = dtype_info(dt);
    for (int c = 0; c < n; c += info->block, p += info->bytes) {
        uint32_t u = (uint32_t)0;
        const float d = info->block > 1 ? cpu_half(u16(p)) : 0, m = dt == DTYPE_Q4_1 ? cpu_half(u16(p + 2)) : 0;
        const unsigned char *q = (const unsigned char *)p + (dt == DTYPE_Q4_1 ? 4 : 2);
        switch (dt) {
        case DTYPE_F32: memcpy(&out[c], p, 4); break;
        case DTYPE_F16: out[c] = cpu_half(u16(p)); break;
        case DTYPE_BF16:
            u = (uint32_t)u16(p) << 16;
            memcpy(&out[c], &u, 4);
            break;
        case DTYPE_Q8_0:
            for (int j = 0; j < QBLOCK; j++) out[c + j] = d * (float)(signed char)q[j];
            break;
        default: /* q4: low nibbles are elements 0..15, high ones 16..31 */
            for (int j = 0; j < QBLOCK; j++) {
                const int v = j < 16 ? q[j] & 15 : q[j - 16] >> 4;
                out[c + j] = d * (float)(dt == DTYPE_Q4_0 ? v - 8 : v) + m;
            }
        }
    }
}
struct filling {
    struct pool *pool;
    const struct weight *w;
    const char *source;
    size_t row_bytes;
    float *rows; /* one source row for each thread */
};
static size_t source_row(const struct weight *w, int r) {
    if (w->pairs) { /* rotate-half row j * half + i of a head is pairwise row 2i + j */
        const int half = w->pairs / 2, in = r % w->pairs;
        r = r - in + in % half * 2 + in / half;
    }
    return (size_t)w->first + (size_t)(r / w->run) * (size_t)w->step + (size_t)(r % w->run);
}
/* One row's quantised blocks go to lane l of the panel, unchanged but for their order. */
static void lay_quant(char *panel, int l, const char *src, enum dtype dt, int cols) {
    const int head = dt == DTYPE_Q4_1 ? 4 : 2;
    const size_t block = dtype_bytes(dt, QBLOCK);
    for (int b = 0; b < cols / QBLOCK; b++, src += block, panel += block * PANEL) {
        memcpy(panel + 2 * l, src, 2);
        if (head == 4) memcpy(panel + 2 * PANEL + 2 * l, src + 2, 2);
        const unsigned char *q = (const unsigned char *)src + head;
        unsigned char *cell = (unsigned char *)panel + head * PANEL + 4 * l;
        if (dt == DTYPE_Q8_0) {
            for (int j = 0; j < 8; j++) memcpy(cell + 4 * PANEL * j, q + 4 * j, 4);
            continue;
        }
        unsigned char v[QBLOCK];
        for (int j = 0; j < 16; j++) {
            v[j] = q[j] & 15;
            v[j + 16] = q[j] >> 4;
        }
        for (int j = 0; j < QBLOCK / 2; j++) /* byte i of cell k: column 8k + i low, 8k + 4 + i high */
            cell[4 * PANEL * (j / 4) + j % 4] = (unsigned char)(v[j / 4 * 8 + j % 4] | v[j / 4 * 8 + 4 + j % 4] << 4);
    }
}
static void lay_plain(char *panel, int l, const float *src, enum dtype form, int cols) {
    for (int c = 0; c < cols; c++) {
        uint32_t u;
        memcpy(&u, &src[c], 4);
        const uint16_t h = form == DTYPE_F16 ? to_half(src[c]) : (uint16_t)(u >> 16); /* bf16 only from bf16: exact */
        if (form == DTYPE_F32)
            memcpy(panel + 4 * ((size_t)c * PANEL + (size_t)l), &src[c], 4);
        else
            memcpy(panel + 2 * ((size_t)c * PANEL + (size_t)l), &h, 2);
    }
}
static void fill_panels(void *arg, int id) {
    const struct filling *f = arg;
    const struct weight *w = f->w;
    float *values = f->rows + (size_t)id * (size_t)w->cols;
    POOL_TASKS(t, f->pool, id, (w->rows + PANEL - 1) / PANEL)
    for (int r = t * PANEL; r < w->rows && r < (t + 1) * PANEL; r++) {
        const char *src = f->source + source_row(w, r) * f->row_bytes;
        char *panel = w->packed->p + (size_t)t * w->packed->stride;
        if (w->cols == 1) {
            decode((float *)(void *)w->packed->p + r, src, w->dt, 1);
            continue;
        }
        if (cpu_form_quant(w->packed->form)) {
            lay_quant(panel, r % PANEL, src, w->dt, w->cols);
            continue;
        }
        decode(values, src, w->dt, w->cols);
        lay_plain(panel, r % PANEL, values, w->packed->form, w->cols);
    }
}
int cpu_fill(struct backend *be, const struct weight *w, const void *source, struct err *e) {
    struct filling f = { cpu_pool(be), w, source, dtype_bytes(w->dt, (size_t)w->cols), NULL };
    if (!w->packed) return err_set(e, STATUS_INVALID, "%s: not placed", w->name);
    size_t last = 0;
    for (int r = 0; r < w->rows; r++) {
        const size_t at = source_row(w, r);
        if (at > last) last = at;
    }
    if ((last + 1) * f.row_bytes > w->bytes)
        return err_set(e, STATUS_FORMAT, "%s: its tensor has %llu bytes, row %zu of %zu bytes lies beyond", w->name,
                       (unsigned long long)w->bytes, last, f.row_bytes);
    f.rows = mem_alloc((size_t)pool_threads(f.pool) * (size_t)w->cols * sizeof *f.rows);
    if (!f.rows) return err_set(e, STATUS_NOMEM, "no memory to pack %s", w->name);
    pool_run(f.pool, fill_panels, &f);
    mem_free(f.rows);
    return 0;
}
