/* fill.c - packing: panels of 16 rows from the rows of a file, from numbers quantised now, or from random numbers; and a
 * row taken out again. Numbers on their way into a panel stand as they will lie there: 16 rows side by side. */
#include "compute/cpu/isa/ops.h"

enum { SPAN = SUPER }; /* columns at a time */
typedef float stage[SPAN][PANEL];
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));

static float half_at(const void *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return cpu_half(h);
}
static uint32_t word_at(const unsigned char *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* ---- numbers of a file, 16 rows side by side ---- */
/* Word k of row l goes to out[k * 16 + l]. */
static void side_by_side(uint32_t *out, const char *const *src, int words) {
    for (int l = 0; l < PANEL; l++)
        for (int k = 0; k < words; k++) memcpy(&out[k * PANEL + l], src[l] + 4 * k, 4);
}
/* n columns, an even number but for the last of a row. */
static void numbers(stage s, const char *const *src, enum dtype dt, int n) {
    uint32_t pair[SPAN / 2 * PANEL] __attribute__((aligned(64)));
    if (dt == DTYPE_F32) {
        side_by_side((uint32_t *)(void *)s, src, n);
        return;
    }
    side_by_side(pair, src, n / 2);
    for (int l = 0; n % 2 && l < PANEL; l++) {
        uint16_t last;
        memcpy(&last, src[l] + 2 * (n - 1), 2);
        pair[n / 2 * PANEL + l] = last;
    }
    for (int k = 0; k < n; k += 2)
        for (int l = 0; l < PANEL; l += VL) {
            const vu two = (vu)load_bytes((const char *)&pair[k / 2 * PANEL + l]);
            const vh low = __builtin_convertvector(two & 0xffff, vh), high = __builtin_convertvector(two >> 16, vh);
            const bool half = dt == DTYPE_F16;
            store(&s[k][l], half ? halves((const char *)&low) : (vf)(two << 16));
            if (k + 1 < n) store(&s[k + 1][l], half ? halves((const char *)&high) : (vf)(two & 0xffff0000));
        }
}

/* The same for two bytes a number that stay what they are: 16 rows of a column, then 16 of the next. */
static void columns(char *p, const char *const *src, int n) {
    uint32_t pair[SPAN / 2 * PANEL] __attribute__((aligned(64)));
    side_by_side(pair, src, n / 2);
    for (int k = 0; k < n; k += 2, p += 4 * PANEL)
        for (int l = 0; l < PANEL; l += VL) {
            const vu two = (vu)load_bytes((const char *)&pair[k / 2 * PANEL + l]);
            const vh low = __builtin_convertvector(two & 0xffff, vh), high = __builtin_convertvector(two >> 16, vh);
            memcpy(p + 2 * l, &low, sizeof low);
            memcpy(p + 2 * (PANEL + l), &high, sizeof high);
        }
}

/* ---- blocks of a file ---- */
/* The numbers of 32 columns, 4 bytes to a word, as the packed form holds them; b: which block of its 256 columns. */
INLINE void block_numbers(uint32_t *n, const unsigned char *p, const enum dtype dt, int b) {
    const uint32_t low = 0x0f0f0f0f;
    const unsigned char *high = p + (dt == DTYPE_Q5_1 ? 4 : 2);
    for (int k = 0; k < 8; k++) {
        const int shift = k < 4 ? 0 : 4; /* 32 numbers in 16 bytes: the second half lies above the first */
        switch (dt) {
        case DTYPE_Q4_0: n[k] = word_at(p + 2 + 4 * (k % 4)) >> shift & low; break;
        case DTYPE_Q4_1: n[k] = word_at(p + 4 + 4 * (k % 4)) >> shift & low; break;
        case DTYPE_Q5_0:
        case DTYPE_Q5_1: /* a bit of each byte comes from the word of fifth bits */
            n[k] = word_at(high + 4 + 4 * (k % 4)) >> shift & low;
            n[k] |= ((word_at(high) >> 4 * k & 15) * 0x00204081 & 0x01010101) << 4;
            if (dt == DTYPE_Q5_0) n[k] += 0x01010101 * (128 - 16);
            break;
        case DTYPE_Q8_0: n[k] = word_at(p + 2 + 4 * k) ^ 0x80808080; break;
        case DTYPE_Q4_K: n[k] = word_at(p + 16 + b / 2 * 32 + 4 * k) >> b % 2 * 4 & low; break;
        case DTYPE_Q5_K:
            n[k] = word_at(p + 48 + b / 2 * 32 + 4 * k) >> b % 2 * 4 & low;
            n[k] |= (word_at(p + 16 + 4 * k) >> b & 0x01010101) << 4;
            break;
        default: /* q6_k: in each half of the columns, two low nibbles, then the two above them */
            n[k] = word_at(p + b / 4 * 64 + b % 2 * 32 + 4 * k) >> b % 4 / 2 * 4 & low;
            n[k] |= (word_at(p + 128 + b / 4 * 32 + 4 * k) >> b % 4 * 2 & 0x03030303) << 4;
        }
    }
}
/* Scale and minimum of block b in q4_k and q5_k: 6 bits each, twelve bytes for eight of both. */
static void six_bits(unsigned char *out, const unsigned char *p, int b) {
    const unsigned char *q = p + 4;
    out[0] = (unsigned char)(b < 4 ? q[b] & 63 : (q[b + 4] & 15) | q[b - 4] >> 6 << 4);
    out[1] = (unsigned char)(b < 4 ? q[b + 4] & 63 : q[b + 4] >> 4 | q[b] >> 6 << 4);
}
/* Scales and minima of block b to lane l of its head; in the file minima are taken off where they are bytes. */
INLINE void lay_scales(char *head, int l, const unsigned char *p, const enum dtype dt, int b) {
    const struct quant_form q = quant_form(block_form(dt));
    unsigned char byte[2];
    if (q.super && q.minima)
        six_bits(byte, p, b);
    else if (q.super)
        memcpy(byte, p + 192 + 2 * b, 2);
    for (int k = 0; q.super && k < 2; k++) head[k * PANEL + l] = (char)byte[k];
    if (!q.super) memcpy(head + 2 * l, p, 2);
    if (!q.super && q.minima) memcpy(head + 2 * PANEL + 2 * l, p + 2, 2);
}
INLINE void lay_super_scales(char *head, int l, const unsigned char *p, const enum dtype dt) {
    memcpy(head + 2 * l, p + (dt == DTYPE_Q6_K ? 208 : 0), 2);
    if (dt == DTYPE_Q6_K) return;
    memcpy(head + 2 * PANEL + 2 * l, p + 2, 2);
    head[2 * PANEL + 2 * l + 1] ^= (char)0x80;
}
/* One row of a file's blocks to lane l of a panel: the same numbers, none rounded again. */
INLINE void lay_row(char *panel, int l, const char *src, const enum dtype dt, int cols) {
    const struct quant_form q = quant_form(block_form(dt));
    const int per = q.super ? SUPER_BLOCKS : 1;
    const size_t bytes = dtype_bytes(dt, (size_t)(per * QBLOCK));
    for (int b = 0; b < cols / QBLOCK; b++, panel += quant_block(q)) {
        const unsigned char *p = (const unsigned char *)src + (size_t)(b / per) * bytes;
        if (q.super && b % per == 0) {
            lay_super_scales(panel, l, p, dt);
            panel += quant_super_head(q);
        }
        lay_scales(panel, l, p, dt, b % per);
        uint32_t n[8];
        block_numbers(n, p, dt, b % per);
        char *cell = panel + quant_head(q) + 4 * l;
        for (int k = 0; k < q.bits; k++, cell += 4 * PANEL) {
            const uint32_t word = q.bits == 4 ? n[2 * k] | n[2 * k + 1] << 4 : n[k];
            memcpy(cell, &word, 4);
        }
    }
}
static void lay_blocks(char *panel, int l, const char *src, enum dtype dt, int cols) {
    switch (dt) {
    case DTYPE_Q4_0: lay_row(panel, l, src, DTYPE_Q4_0, cols); break;
    case DTYPE_Q4_1: lay_row(panel, l, src, DTYPE_Q4_1, cols); break;
    case DTYPE_Q5_0: lay_row(panel, l, src, DTYPE_Q5_0, cols); break;
    case DTYPE_Q5_1: lay_row(panel, l, src, DTYPE_Q5_1, cols); break;
    case DTYPE_Q8_0: lay_row(panel, l, src, DTYPE_Q8_0, cols); break;
    case DTYPE_Q4_K: lay_row(panel, l, src, DTYPE_Q4_K, cols); break;
    case DTYPE_Q5_K: lay_row(panel, l, src, DTYPE_Q5_K, cols); break;
    default: lay_row(panel, l, src, DTYPE_Q6_K, cols); break;
    }
}

/* ---- numbers into a panel ---- */
/* 4 columns from c on, by least..most levels, as the bytes of a cell's words. */
INLINE vi bytes_of(const stage s, int c, int l, vf inverse, float least, float most) {
    vi word = { 0 };
    for (int k = 0; k < 4; k++) {
        const vf n = vmax(vmin(load(&s[c + k][l]) * inverse, all(most)), all(least));
        word |= (to_int(n) - (int)least) << 8 * k;
    }
    return word;
}
/* Scales as they will be read; a row with a number that is none gets a scale that is none. */
INLINE vf put_scale(char *p, vf scale, vf bad) {
    store_halves(p, scale + bad);
    scale = halves(p);
    const vi none = scale != 0;
    return (vf)((vi)(1.0f / scale) & none);
}
INLINE vf largest(const stage s, int c, int l, vf *bad) { /* the number furthest from 0 */
    vf top = { 0 }, size = { 0 };
    *bad = (vf){ 0 };
    for (int k = 0; k < QBLOCK; k++) {
        const vf v = load(&s[c + k][l]), a = pick(v < 0, -v, v);
        top = pick(a > size, v, top);
        size = vmax(a, size);
        *bad += v * 0.0f;
    }
    return top;
}
static void to_q8(char *p, const stage s, int n) {
    for (int c = 0; c < n; c += QBLOCK, p += 34 * PANEL)
        for (int l = 0; l < PANEL; l += VL) {
            vf bad;
            const vf top = largest(s, c, l, &bad), size = pick(top < 0, -top, top);
            const vf inverse = put_scale(p + 2 * l, size * (1 / 127.0f), bad);
            for (int k = 0; k < 8; k++) {
                const vi w = bytes_of(s, c + 4 * k, l, inverse, -128, 127);
                memcpy(p + 2 * PANEL + 4 * (k * PANEL + l), &w, sizeof w);
            }
        }
}
/* The scale for 16 levels -8..7 that leaves the least squared error: of a few that bring the number furthest from 0 near
 * an end, the one whose best fit, sum(x n) / sum(n n), explains most. */
INLINE vf scale_q4(const stage s, int c, int l, vf top) {
    static const float ends[] = { -8.0f, -7.3f, -8.7f, -6.6f, 7.4f, 6.8f };
    vf best = { 0 }, gain = all(-1.0f);
    const vf inverse = (vf)((vi)(1.0f / top) & (top != 0));
    for (size_t t = 0; t < sizeof ends / sizeof *ends; t++) {
        vf xn = { 0 }, nn = all(1e-30f);
        for (int k = 0; k < QBLOCK; k++) {
            const vf v = load(&s[c + k][l]);
            const vf n = vmax(vmin(to_float(to_int(v * (inverse * ends[t]))), all(7.0f)), all(-8.0f));
            xn += v * n;
            nn += n * n;
        }
        const vf fit = xn / nn, won = xn * fit;
        best = pick(won > gain, fit, best);
        gain = vmax(won, gain);
    }
    return best;
}
static void to_q4(char *p, const stage s, int n) {
    for (int c = 0; c < n; c += QBLOCK, p += 18 * PANEL)
        for (int l = 0; l < PANEL; l += VL) {
            vf bad;
            const vf top = largest(s, c, l, &bad), inverse = put_scale(p + 2 * l, scale_q4(s, c, l, top), bad);
            for (int k = 0; k < 4; k++) {
                const vi low = bytes_of(s, c + 8 * k, l, inverse, -8, 7);
                const vi w = low | bytes_of(s, c + 8 * k + 4, l, inverse, -8, 7) << 4;
                memcpy(p + 2 * PANEL + 4 * (k * PANEL + l), &w, sizeof w);
            }
        }
}
INLINE vu bfloat_of(vf v) { /* in the low half; to nearest even */
    const vu u = (vu)v, near = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (vu)pick(v == v, (vf)near, (vf)(u >> 16 | 0x40));
}
/* n columns of the stage to p in the given form. */
static void lay_numbers(char *p, const stage s, enum dtype form, int n) {
    if (form == DTYPE_Q8_0) to_q8(p, s, n);
    if (form == DTYPE_Q4_0) to_q4(p, s, n);
    if (form == DTYPE_F32) memcpy(p, s, sizeof(float) * PANEL * (size_t)n);
    for (int k = 0; form == DTYPE_F16 && k < n; k++)
        for (int l = 0; l < PANEL; l += VL) store_halves(p + 2 * (k * PANEL + l), load(&s[k][l]));
    for (int k = 0; form == DTYPE_BF16 && k < n; k += 2)
        for (int l = 0; l < PANEL; l += VL) {
            vu two = bfloat_of(load(&s[k][l]));
            if (k + 1 < n) two |= bfloat_of(load(&s[k + 1][l])) << 16;
            memcpy(p + 4 * (k / 2 * PANEL + l), &two, sizeof two);
        }
}

/* ---- a panel out of a file ---- */
/* The numbers of 32 columns of a panel's lane. */
static const char *lane_numbers(float *y, const char *panel, int l, struct quant_form q, const float *super) {
    const unsigned char *head = (const unsigned char *)panel + (q.super ? l : 2 * l);
    const unsigned char *cell = (const unsigned char *)panel + quant_head(q) + 4 * l;
    const float least = !q.minima ? 0 : q.super ? super[1] * (float)head[PANEL] : half_at(head + 2 * PANEL);
    for (int j = 0; j < QBLOCK; j++) {
        const int at =
            q.bits == 4 ? cell[j / 8 * 4 * PANEL + j % 4] >> (j % 8 < 4 ? 0 : 4) & 15 : cell[j / 4 * 4 * PANEL + j % 4];
        const unsigned char byte = head[j / q.sub * PANEL * q.super];
        const float d = !q.super ? half_at(head) : super[0] * (float)(q.minima ? byte : (int)(signed char)byte);
        y[j] = d * (float)(at - q.zero) + least;
    }
    return panel + quant_block(q);
}
static void lane(float *y, const char *panel, int l, enum dtype form, int cols) {
    const struct quant_form q = quant_form(form);
    float super[2] = { 0, 0 };
    for (int c = 0; c < cols; c += q.bits ? QBLOCK : 1) {
        const size_t at = (size_t)c * PANEL + (size_t)l;
        uint32_t u = 0;
        if (form == DTYPE_F32) memcpy(&y[c], panel + 4 * at, 4);
        if (form == DTYPE_F16) y[c] = half_at(panel + 2 * at);
        if (form == DTYPE_BF16) {
            memcpy((char *)&u + 2, panel + 4 * ((size_t)(c / 2 * PANEL) + (size_t)l) + 2 * (c % 2), 2);
            memcpy(&y[c], &u, 4);
        }
        if (q.super && c % SUPER == 0) {
            super[0] = half_at(panel + 2 * l);
            super[1] = q.minima ? half_at(panel + 2 * PANEL + 2 * l) : 0;
            panel += quant_super_head(q);
        }
        if (q.bits) panel = lane_numbers(y + c, panel, l, q, super);
    }
}
void NAMED(unpack_row)(float *y, const struct weight *w, int r) {
    lane(y, w->packed->p + (size_t)(r / PANEL) * w->packed->stride, r % PANEL, w->packed->form, w->cols);
}
/* Blocks that become numbers after all: packed as they are, then read back lane by lane. */
static void blocks_as_numbers(stage s, const char *const *src, enum dtype dt, int n) {
    const enum dtype form = block_form(dt);
    char panel[SPAN * PANEL * 3 / 2];
    float y[SPAN];
    for (int l = 0; l < PANEL; l++) lay_blocks(panel, l, src[l], dt, n);
    for (int l = 0; l < PANEL; l++) {
        lane(y, panel, l, form, n);
        for (int c = 0; c < n; c++) s[c][l] = y[c];
    }
}
void NAMED(fill_panel)(const struct filling *f, int t) {
    const struct weight *w = f->w;
    const struct packed *to = w->packed;
    char *panel = to->p + (size_t)t * to->stride;
    const bool blocks = dtype_info(w->dt)->block > 1;
    stage s __attribute__((aligned(64)));
    const char *src[PANEL];
    for (int l = 0; l < PANEL; l++) { /* behind the last row: that row again */
        const int r = t * PANEL + l < w->rows ? t * PANEL + l : w->rows - 1;
        src[l] = f->source + weight_source_row(w, r) * f->row_bytes;
        if (blocks && quant_form(to->form).bits) lay_blocks(panel, l, src[l], w->dt, w->cols);
    }
    if (blocks && quant_form(to->form).bits) return;
    for (int c = 0; c < w->cols; c += SPAN) {
        const int n = w->cols - c < SPAN ? w->cols - c : SPAN;
        char *p = panel + form_bytes(to->form, c);
        if (w->dt == DTYPE_BF16 && to->form == DTYPE_BF16 && n % 2 == 0)
            side_by_side((uint32_t *)(void *)p, src, n / 2); /* as it is */
        else if (w->dt == DTYPE_F16 && to->form == DTYPE_F16 && n % 2 == 0)
            columns(p, src, n);
        else {
            if (blocks)
                blocks_as_numbers(s, src, w->dt, n);
            else
                numbers(s, src, w->dt, n);
            lay_numbers(p, s, to->form, n);
        }
        for (int l = 0; l < PANEL; l++) src[l] += dtype_bytes(w->dt, SPAN);
    }
}

/* ---- a panel of random numbers ---- */
struct dice {
    vu at[PARTS];
};
INLINE vu roll(struct dice *d, int part) { /* xorshift, George Marsaglia */
    vu x = d->at[part];
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return d->at[part] = x;
}
static struct dice dice(uint64_t seed, int t) {
    struct dice d;
    for (int l = 0; l < PANEL; l++) { /* splitmix64 */
        uint64_t z = seed + 0x9e3779b97f4a7c15u * (uint64_t)(t * PANEL + l + 1);
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        d.at[l / VL][l % VL] = (uint32_t)(z >> 32) | 1;
    }
    return d;
}
static void random_numbers(char *panel, const struct filling *f, struct dice *d) {
    const struct weight *w = f->w;
    const float step = f->dev * 1.7320508f * 0x1p-31f; /* evenly between -sqrt(3) and sqrt(3) deviations */
    stage s __attribute__((aligned(64)));
    for (int c = 0; c < w->cols; c += SPAN) {
        const int n = w->cols - c < SPAN ? w->cols - c : SPAN;
        for (int k = 0; k < n; k++)
            for (int i = 0; i < PARTS; i++) store(&s[k][i * VL], to_float((vi)roll(d, i)) * step + f->mean);
        lay_numbers(panel + form_bytes(w->packed->form, c), s, w->packed->form, n);
    }
}
/* Any bytes are quantised numbers: only the scales must fit. Those of either sign keep the mean at 0 where the numbers
 * themselves lean to one side; minima do it elsewhere. */
static void random_blocks(char *panel, const struct filling *f, struct dice *d) {
    const struct quant_form q = quant_form(f->w->packed->form);
    const float levels = q.bits == 4 ? 16 : q.zero ? 2 * (float)q.zero : 32, middle = (levels - 1) / 2 - (float)q.zero;
    const float spread = sqrtf((levels * levels - 1) / 12 + (q.minima ? 0 : middle * middle));
    const float scale = f->dev / spread / (q.super ? 48.39f : 1); /* bytes 32..63: root of their mean square */
    const float least = -scale * middle;
    const vu mask = (vu){ 0 } + 0x01010101u * (q.bits == 4 ? 255u : (uint32_t)levels - 1);
    for (int b = 0; b < f->w->cols / QBLOCK; b++) {
        if (q.super && b % SUPER_BLOCKS == 0) {
            for (int i = 0; i < PARTS * (1 + q.minima); i++)
                store_halves(panel + 2 * VL * i, all(i < PARTS ? scale : least));
            panel += quant_super_head(q);
        }
        for (int i = 0; i < PARTS; i++) {
            const vu sign = q.minima ? (vu){ 0 } : roll(d, i) & 0x80000000;
            if (!q.super) store_halves(panel + 2 * VL * i, (vf)((vu)all(scale) ^ sign));
            if (!q.super && q.minima) store_halves(panel + 2 * PANEL + 2 * VL * i, all(least));
        }
        for (int l = 0; q.super && l < PANEL; l++) {
            const uint32_t bits = d->at[l / VL][l % VL] ^ (uint32_t)b * 0x9e3779b9u;
            const int one = 32 + (int)(bits >> 8 & 31), two = 32 + (int)(bits >> 16 & 31);
            panel[l] = (char)(q.minima ? one : bits >> 31 ? -one : one);
            panel[PANEL + l] = (char)(q.minima ? one : bits >> 30 & 1 ? -two : two);
        }
        char *cell = panel + quant_head(q);
        for (int k = 0; k < q.bits; k++)
            for (int i = 0; i < PARTS; i++, cell += sizeof(vu)) {
                const vu n = roll(d, i) & mask;
                memcpy(cell, &n, sizeof n);
            }
        panel += quant_block(q);
    }
}
void NAMED(dummy_panel)(const struct filling *f, int t) {
    char *panel = f->w->packed->p + (size_t)t * f->w->packed->stride;
    struct dice d = dice(f->seed, t);
    if (quant_form(f->w->packed->form).bits)
        random_blocks(panel, f, &d);
    else
        random_numbers(panel, f, &d);
}
