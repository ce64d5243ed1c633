/* rows.c - ops whose tasks are rows. */
#include "compute/cpu/isa/ops.h"

void NAMED(norm_row)(float *y, const float *x, int n, const struct norm_of *f) {
    const float *g = vector_of(f->g), *b = f->b ? vector_of(f->b) : NULL;
    const int whole = n / VL * VL;
    vf sum = { 0 };
    float mean = 0, square = 0;
    if (f->kind == NORM_LAYER) {
        for (int j = 0; j < whole; j += VL) sum += load(x + j);
        for (int j = whole; j < n; j++) mean += x[j];
        mean = (mean + sum_of(sum)) / (float)n;
    }
    sum = (vf){ 0 };
    for (int j = 0; j < whole; j += VL) {
        const vf v = load(x + j) - mean;
        sum += v * v;
    }
    for (int j = whole; j < n; j++) square += (x[j] - mean) * (x[j] - mean);
    const float inverse = 1 / sqrtf((square + sum_of(sum)) / (float)n + f->eps);
    for (int j = 0; j < n; j++) y[j] = (x[j] - mean) * inverse * g[j] + (b ? b[j] : 0);
}
void NAMED(rotate)(float *x, const float *angles, int rot) {
    const int half = rot / 2;
    for (int j = 0; j < half; j++) {
        const float a = x[j], b = x[j + half], cs = angles[j], sn = angles[j + half];
        x[j] = a * cs - b * sn;
        x[j + half] = b * cs + a * sn;
    }
}
/* n numbers, each `apart` bytes from the one before. */
INLINE void put_head(const size_t bytes, const size_t apart, char *y, const float *v, int n) {
    for (int j = 0; j < n; j += VL, y += VL * apart) {
        const int m = n - j < VL ? n - j : VL;
        char as[VL * sizeof(float)] = { 0 };
        memcpy(as, v + j, sizeof *v * (size_t)m);
        if (bytes == 2) store_halves(as, load((const float *)(const void *)as));
        for (int i = 0; i < m; i++) memcpy(y + (size_t)i * apart, as + (size_t)i * bytes, bytes);
    }
}
/* n columns of result row i from column col on; into the KV pool: at the row's place there. */
void NAMED(put)(const struct mat *out, const struct step *s, int i, int col, const float *v, int n, bool keys) {
    if (out->dim != DIM_KV) {
        memcpy(row(out, i) + col, v, sizeof *v * (size_t)n);
        return;
    }
    const int t = s->row[i].kv + s->row[i].at;
    for (int part; n > 0; n -= part, col += part, v += part) { /* a head at a time */
        part = out->ld - col % out->ld < n ? out->ld - col % out->ld : n;
        char *y = keys ? key_at(out, t, col) : value_at(out, t, col);
        if (out->dt == DTYPE_F16)
            put_head(2, keys ? 2 * PANEL : 2, y, v, part);
        else
            put_head(4, keys ? 4 * PANEL : 4, y, v, part);
    }
}

/* Whatever the block says: row i has a next one, what it sees lies in the pool, no row before it writes what it writes,
 * and what it asks of a mask lies in the mask. */
static bool fits(const struct worker *w, int i) {
    const struct step_row *r = &w->s->row[i], *other = w->s->row;
    if (r->pos < 0 || r->pos == INT32_MAX || r->mask < 0 || r->mask > BEAMS_MAX) return false;
    if (r->kv < 0 || r->at < 0 || r->at >= w->p->kv_rows - r->kv) return false;
    for (; other < r; other++)
        if ((int64_t)other->kv + other->at == r->kv + r->at) return false;
    const struct kv_mask *m = &w->s->mask[r->mask ? r->mask - 1 : 0];
    return !r->mask || (m->from >= 0 && r->at - m->from < 32 * MASK_WORDS);
}
/* First op of a step: it also vets the step block, and notes each id beside its KV row. */
void NAMED(op_embed)(struct worker *w, const struct op_call *c) {
    const struct weight *t = c->w[0];
    const int images = c->n > 2 ? c->m[2].rows : 0;
    EACH_TASK(i, w, live(w, &c->m[0])) {
        const struct step_row *r = &w->s->row[i];
        if (r->id < 0 || r->id - t->rows >= images)
            stop(w, STOP_TOKEN);
        else if (!fits(w, i))
            stop(w, STOP_KV);
        else {
            memcpy(row(&c->m[1], r->kv + r->at), &r->id, sizeof r->id);
            if (r->id < t->rows)
                NAMED(unpack_row)(row(&c->m[0], i), t, r->id);
            else
                memcpy(row(&c->m[0], i), row(&c->m[2], r->id - t->rows), sizeof(float) * (size_t)t->cols);
        }
    }
}
/* In fp32 throughout, as the reference framework computes them: 1 / theta^(2j / rot), times the position. */
void NAMED(op_angles)(struct worker *w, const struct op_call *c) {
    const int half = c->u.rope.rot / 2;
    EACH_TASK(i, w, live(w, &c->m[0])) {
        float *y = row(&c->m[0], i);
        for (int j = 0; j < half; j++) {
            const float inverse = 1.0f / powf(c->u.rope.theta, (float)(2 * j) / (float)c->u.rope.rot);
            y[j] = cosf((float)w->s->row[i].pos * inverse);
            y[j + half] = sinf((float)w->s->row[i].pos * inverse);
        }
    }
}
void NAMED(op_norm)(struct worker *w, const struct op_call *c) {
    EACH_TASK(i, w, live(w, &c->m[0])) {
        NAMED(norm_row)(row(&c->m[0], i), row(&c->m[1], i), c->m[1].cols, &c->u.norm);
    }
}
void NAMED(op_rope)(struct worker *w, const struct op_call *c) {
    const int heads = c->m[0].cols / c->u.rope.head_dim;
    EACH_TASK(i, w, live(w, &c->m[0])) {
        for (int h = 0; h < heads; h++)
            NAMED(rotate)(row(&c->m[0], i) + h * c->u.rope.head_dim, row(&c->m[1], i), c->u.rope.rot);
    }
}
void NAMED(op_kv_put)(struct worker *w, const struct op_call *c) {
    EACH_TASK(i, w, live(w, &c->m[1])) { NAMED(put)(&c->m[0], w->s, i, 0, row(&c->m[1], i), c->m[1].cols, c->u.keys); }
}
void NAMED(op_gate)(struct worker *w, const struct op_call *c) {
    EACH_TASK(i, w, live(w, &c->m[0])) {
        float *y = row(&c->m[0], i);
        const float *g = row(&c->m[1], i), *up = row(&c->m[2], i);
        for (int j = 0; j < c->m[0].cols; j += VL) {
            const int n = c->m[0].cols - j < VL ? c->m[0].cols - j : VL;
            vf a = { 0 }, b = { 0 };
            memcpy(&a, g + j, sizeof *g * (size_t)n);
            memcpy(&b, up + j, sizeof *up * (size_t)n);
            a = vact(c->u.act, a) * b;
            memcpy(y + j, &a, sizeof *y * (size_t)n);
        }
    }
}
void NAMED(op_add)(struct worker *w, const struct op_call *c) {
    EACH_TASK(i, w, live(w, &c->m[0])) {
        float *y = row(&c->m[0], i);
        const float *x = row(&c->m[1], i);
        for (int j = 0; j < c->m[0].cols; j++) y[j] += x[j];
    }
}
void NAMED(op_pick)(struct worker *w, const struct op_call *c) {
    EACH_TASK(i, w, live(w, &c->m[0])) {
        memcpy(row(&c->m[0], i), row(&c->m[1], w->s->pick[i]), sizeof(float) * (size_t)c->m[0].cols);
    }
}
