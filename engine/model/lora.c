#include "lora.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* MiniGPT-v2's lora_alpha (Vision-CAIR/MiniGPT-4 minigpt4/models/minigpt_v2.py); checkpoints do not hold it. */
static const float alpha = 16;
enum { RANK_MAX = 1024, TILE = 1024 }; /* TILE columns of A stay in a core's cache while the rows of W pass */

struct pair {
    const char *module; /* "...layers.0.self_attn.q_proj", n bytes of the name of A */
    size_t n;
    const struct tensor *a, *b;
};
struct lora {
    const struct checkpoint *file;
    struct pair *pair;
    int n;
};
/* Length of the module's name before ".lora_A.weight" or the same with an adapter's name; 0: no such tensor. */
static size_t module_of(const char *name, char which) {
    static const char *const endings[] = { ".lora_%c.weight", ".lora_%c.default.weight" };
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char end[32];
        const size_t k = (size_t)snprintf(end, sizeof end, endings[i], which);
        if (n > k && !strcmp(name + n - k, end)) return n - k;
    }
    return 0;
}
static struct pair *pair_of(const struct lora *l, const char *module, size_t n) {
    for (int i = 0; i < l->n; i++)
        if (l->pair[i].n == n && !memcmp(l->pair[i].module, module, n)) return &l->pair[i];
    return NULL;
}
static int check_pair(const struct pair *p, struct err *e) {
    const struct tensor *a = p->a, *b = p->b;
    if (!a || !b)
        return err_set(e, STATUS_FORMAT, "%s: its pair, lora_%c, is not in the file", (a ? a : b)->name, a ? 'B' : 'A');
    if (a->dims != 2 || b->dims != 2 || a->dim[1] != b->dim[0] || !a->dim[1] || a->dim[1] > RANK_MAX)
        return err_set(e, STATUS_FORMAT,
                       "%s is %llux%llu and its lora_B %llux%llu: they have no rank from 1 to %d in common", a->name,
                       (unsigned long long)a->dim[1], (unsigned long long)a->dim[0], (unsigned long long)b->dim[1],
                       (unsigned long long)b->dim[0], RANK_MAX);
    for (int i = 0; i < 2; i++) {
        const struct tensor *t = i ? b : a;
        if (t->dt != DTYPE_F32 && t->dt != DTYPE_F16 && t->dt != DTYPE_BF16)
            return err_set(e, STATUS_FORMAT, "%s has dtype %s; f32, f16 or bf16 can be added to a weight", t->name,
                           t->dt_name);
    }
    return 0;
}
static int collect(struct lora *l, struct err *e) {
    for (int i = 0; i < checkpoint_tensors(l->file); i++) {
        const struct tensor *t = checkpoint_tensor_at(l->file, i);
        if (!strstr(t->name, ".lora_")) continue;
        const size_t a = module_of(t->name, 'A'), b = module_of(t->name, 'B');
        if (!a && !b)
            return err_set(e, STATUS_FORMAT, "%s: only lora_A and lora_B of linear layers can be merged", t->name);
        struct pair *p = pair_of(l, t->name, a + b);
        if (!p) {
            p = &l->pair[l->n++];
            *p = (struct pair){ .module = t->name, .n = a + b };
        }
        const struct tensor **to = a ? &p->a : &p->b;
        if (*to) return err_set(e, STATUS_FORMAT, "%s and %s are the same matrix", (*to)->name, t->name);
        *to = t;
    }
    int rc = 0;
    for (int i = 0; i < l->n && !rc; i++) rc = check_pair(&l->pair[i], e);
    return rc;
}
int lora_open(struct lora **out, const struct checkpoint *file, struct err *e) {
    int n = 0;
    *out = NULL;
    for (int i = 0; i < checkpoint_tensors(file); i++)
        n += strstr(checkpoint_tensor_at(file, i)->name, ".lora_") != NULL;
    if (!n) return 0;
    struct lora *l = mem_zero(1, sizeof *l);
    struct pair *pair = mem_zero((size_t)n, sizeof *pair);
    int rc = 0;
    if (!l || !pair) {
        mem_free(pair);
        mem_free(l);
        return err_set(e, STATUS_NOMEM, "no memory for the LoRA matrices' names");
    }
    *l = (struct lora){ .file = file, .pair = pair };
    rc = collect(l, e);
    if (rc) {
        lora_close(l);
        return rc;
    }
    *out = l;
    return 0;
}
void lora_close(struct lora *l) {
    if (!l) return;
    mem_free(l->pair);
    mem_free(l);
}
int lora_pairs(const struct lora *l) { return l ? l->n : 0; }
int lora_rank(const struct lora *l) { return l ? (int)l->pair[0].a->dim[1] : 0; }
/* peft puts "base_model.model." and more before the model's own name of the module. */
static bool fits(const struct pair *p, const struct weight *w) {
    static const char end[] = ".weight";
    const size_t n = strlen(w->name), k = sizeof end - 1;
    if (n <= k || strcmp(w->name + n - k, end) != 0 || p->n < n - k) return false;
    const char *at = p->module + p->n - (n - k);
    return !memcmp(at, w->name, n - k) && (at == p->module || at[-1] == '.');
}
static const struct pair *pair_for(const struct lora *l, const struct weight *w) {
    for (int i = 0; l && i < l->n; i++)
        if (fits(&l->pair[i], w)) return &l->pair[i];
    return NULL;
}
bool lora_touches(const struct lora *l, const struct weight *w) { return pair_for(l, w) != NULL; }
static int check_fit(const struct pair *p, const struct weight *w, struct err *e) {
    if (p->a->dim[0] != (uint64_t)w->cols || p->b->dim[1] != (uint64_t)w->rows)
        return err_set(e, STATUS_FORMAT, "%s: its LoRA pair makes %llux%llu, the weight is %dx%d", w->name,
                       (unsigned long long)p->b->dim[1], (unsigned long long)p->a->dim[0], w->rows, w->cols);
    if (w->dt != DTYPE_F32 && w->dt != DTYPE_F16 && w->dt != DTYPE_BF16)
        return err_set(e, STATUS_FORMAT,
                       "%s is quantised (%s), so that LoRA cannot be added to it; load an unquantised language model "
                       "(--dtype int4 quantises behind the merge)",
                       w->name, dtype_info(w->dt) ? dtype_info(w->dt)->name : "?");
    if (w->bytes != dtype_bytes(w->dt, (size_t)w->rows * (size_t)w->cols) || w->pairs)
        return err_set(e, STATUS_FORMAT, "%s is a part of a tensor, or re-ordered: LoRA cannot be added to it",
                       w->name);
    return 0;
}
int lora_check(const struct lora *l, struct model *m, struct err *e) {
    for (int i = 0; l && i < l->n; i++) {
        const struct pair *p = &l->pair[i];
        int found = 0, rc = 0;
        for (int k = 0; k < model_weights(m) && !rc; k++) {
            if (!fits(p, model_weight(m, k))) continue;
            rc = pair_for(l, model_weight(m, k)) == p
                     ? check_fit(p, model_weight(m, k), e)
                     : err_set(e, STATUS_FORMAT, "%s: a second LoRA pair for %s", p->a->name, model_weight(m, k)->name);
            found++;
        }
        if (rc) return rc;
        if (found != 1)
            return err_set(
                e, STATUS_FORMAT,
                "%s changes %s of this language model; it belongs to another, or to the same as a folder with "
                "config.json",
                p->a->name, found ? "several weights" : "no weight");
    }
    return 0;
}

/* ---- numbers ---- */
static float as_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static uint32_t as_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}
/* Written without branches, so that loops over them become vectors. */
static inline float from_half(uint16_t h) {
    const uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t special = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0; /* infinite, or not a number */
    return as_float(as_bits(as_float(magnitude) * 0x1p112f) | sign | special);
}
static inline uint16_t to_half(float f) {
    const uint32_t bits = as_bits(f), magnitude = bits & 0x7fffffff, sign = bits >> 16 & 0x8000;
    /* below 2^-14 the sum with 0.5 leaves the fraction of a subnormal, rounded as every sum is */
    const uint32_t small = as_bits(as_float(magnitude) + 0.5f) - as_bits(0.5f);
    const uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
    const uint32_t large = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
    const uint32_t h = magnitude < 113u << 23 ? small : magnitude >= 143u << 23 ? large : normal;
    return (uint16_t)(h | sign);
}
static inline uint16_t to_bfloat(float f) {
    const uint32_t bits = as_bits(f), whole = bits + 0x7fff + (bits >> 16 & 1);
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : whole >> 16);
}
static void widen(float *to, const void *from, size_t n, enum dtype dt) {
    const uint16_t *h = from;
    if (dt == DTYPE_F32) memcpy(to, from, n * sizeof *to);
    for (size_t i = 0; dt == DTYPE_F16 && i < n; i++) to[i] = from_half(h[i]);
    for (size_t i = 0; dt == DTYPE_BF16 && i < n; i++) to[i] = as_float((uint32_t)h[i] << 16);
}
/* to += from, n numbers. */
static void add(void *to, const float *from, size_t n, enum dtype dt) {
    float *f = to;
    uint16_t *h = to;
    for (size_t i = 0; dt == DTYPE_F32 && i < n; i++) f[i] += from[i];
    for (size_t i = 0; dt == DTYPE_F16 && i < n; i++) h[i] = to_half(from_half(h[i]) + from[i]);
    for (size_t i = 0; dt == DTYPE_BF16 && i < n; i++) h[i] = to_bfloat(as_float((uint32_t)h[i] << 16) + from[i]);
}
/* A matrix of the file, times scale. */
static float *read_matrix(const struct lora *l, const struct tensor *t, float scale, struct err *e) {
    const size_t n = (size_t)t->dim[0] * (size_t)t->dim[1];
    const struct checkpoint_file *file = checkpoint_file(l->file, t->file);
    float *m = mem_alloc(n * sizeof *m);
    void *bytes = mem_alloc(t->bytes);
    if (!m || !bytes) {
        err_set(e, STATUS_NOMEM, "no memory for %s", t->name);
    } else if (t->bytes != dtype_bytes(t->dt, n) ||
               pread(file->fd, bytes, t->bytes, (off_t)t->offset) != (ssize_t)t->bytes) {
        err_set(e, STATUS_IO, "%s: cannot be read from %.160s", t->name, file->path);
    } else {
        widen(m, bytes, n, (enum dtype)t->dt);
        for (size_t i = 0; i < n; i++) m[i] *= scale;
        mem_free(bytes);
        return m;
    }
    mem_free(bytes);
    mem_free(m);
    return NULL;
}
/* sum = b[0..rank) times the rows of a, n columns; four rows at a time, so that sums are stored seldom. */
static void row_times(float *restrict sum, const float *b, const float *restrict a, size_t rank, size_t ld, size_t n) {
    size_t k = 0;
    memset(sum, 0, n * sizeof *sum);
    for (; k + 4 <= rank; k += 4) {
        const float *a0 = a + k * ld, *a1 = a0 + ld, *a2 = a1 + ld, *a3 = a2 + ld;
        const float b0 = b[k], b1 = b[k + 1], b2 = b[k + 2], b3 = b[k + 3];
        for (size_t j = 0; j < n; j++) sum[j] += b0 * a0[j] + b1 * a1[j] + (b2 * a2[j] + b3 * a3[j]);
    }
    for (; k < rank; k++)
        for (size_t j = 0; j < n; j++) sum[j] += b[k] * a[k * ld + j];
}
int lora_merge(const struct lora *l, const struct weight *w, void *bytes, struct err *e) {
    const struct pair *p = pair_for(l, w);
    if (!p) return err_set(e, STATUS_INVALID, "%s has no LoRA pair", w->name);
    if (check_fit(p, w, e)) return e ? e->code : STATUS_FORMAT;
    const size_t rank = (size_t)p->a->dim[1], cols = (size_t)w->cols, rows = (size_t)w->rows;
    const size_t size = (size_t)dtype_info(w->dt)->bytes;
    float sum[TILE];
    float *a = read_matrix(l, p->a, 1, e), *b = a ? read_matrix(l, p->b, alpha / (float)rank, e) : NULL;
    for (size_t at = 0; b && at < cols; at += TILE) {
        const size_t n = cols - at < TILE ? cols - at : TILE;
        for (size_t row = 0; row < rows; row++) {
            row_times(sum, b + row * rank, a + at, rank, cols, n);
            add((char *)bytes + (row * cols + at) * size, sum, n, w->dt);
        }
    }
    const int rc = b ? STATUS_OK : STATUS_NOMEM;
    mem_free(a);
    mem_free(b);
    return rc && e ? e->code : rc;
}
