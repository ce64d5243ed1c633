/* model.c - binds an architecture's table to a checkpoint: one loop looks up, checks, and names what is wrong. */
#include "model.h"
#include "arch.h"
#include "base/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct arch *const archs[] = { &arch_llama };

struct model {
    const struct arch *arch;
    const struct gguf *file;
    struct model_config config;
    enum dtype want;
    struct decoder d;
    struct weight **list;
    int n;
};

static const struct arch *find(const char *name) {
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (!strcmp(archs[i]->name, name)) return archs[i];
    return NULL;
}
bool model_supported(const char *arch) { return find(arch) != NULL; }
const char *model_archs(void) { return "llama"; }

static int size_of(const struct model_config *c, enum size s) {
    const int size[SIZE_COUNT] = {
        [SIZE_ONE] = 1,
        [SIZE_VOCAB] = c->vocab,
        [SIZE_HIDDEN] = c->hidden,
        [SIZE_Q] = c->heads * c->head_dim,
        [SIZE_KV] = c->kv_heads * c->head_dim,
        [SIZE_FFN] = c->ffn,
    };
    return size[s];
}
static int bind(struct model *m, const struct bind *b, int layer, struct err *e) {
    const struct model_config *c = &m->config;
    const int rows = size_of(c, b->rows), cols = size_of(c, b->cols);
    char *base = b->flags & BIND_LAYER ? (char *)&m->d.layer[layer] : (char *)&m->d;
    struct weight *w = (struct weight *)(void *)(base + b->at);
    char name[64];
    if (b->flags & BIND_LAYER)
        snprintf(name, sizeof name, "blk.%d.%s", layer, b->gguf);
    else
        snprintf(name, sizeof name, "%s", b->gguf);
    const struct gguf_tensor *t = gguf_tensor_find(m->file, name);
    if (!t && b->flags & BIND_OPTIONAL) return 0;
    if (!t) return err_set(e, STATUS_FORMAT, "%s: not in the file, but a %s model needs it", name, m->arch->name);
    const bool vector = cols == 1, fits = t->dim[0] == (uint64_t)(vector ? rows : cols) &&
                                          t->dim[1] == (uint64_t)(vector ? 1 : rows) && t->dim[2] == 1 &&
                                          t->dim[3] == 1;
    if (!fits)
        return err_set(e, STATUS_FORMAT, "%s: %llux%llu in the file, %dx%d by its configuration", name,
                       (unsigned long long)t->dim[1], (unsigned long long)t->dim[0], vector ? 1 : rows,
                       vector ? rows : cols);
    const struct dtype_info *dt = dtype_info(t->dt);
    if (!dt) return err_set(e, STATUS_FORMAT, "%s: its number format %d is not known", name, t->dt);
    if (t->bytes != dtype_bytes(t->dt, (size_t)rows * (size_t)cols) || !t->bytes)
        return err_set(e, STATUS_FORMAT, "%s: %llu bytes do not hold %dx%d numbers of %s", name,
                       (unsigned long long)t->bytes, rows, cols, dt->name);
    *w =
        (struct weight){ .rows = rows, .cols = cols, .run = rows, .dt = dt->dt, .want = vector ? DTYPE_NONE : m->want };
    memcpy(w->name, name, sizeof w->name);
    w->pairs = b->flags & BIND_ROTATED && c->rope_pairs ? c->head_dim : 0;
    w->offset = t->offset;
    w->bytes = t->bytes;
    m->list[m->n++] = w;
    return 0;
}
static int by_place(const void *a, const void *b) {
    const struct weight *x = *(struct weight *const *)a, *y = *(struct weight *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->first - y->first;
}
/* A tensor that nothing reads would be a different model than the one computed here. */
static int all_used(const struct model *m, struct err *e) {
    for (int i = 0; i < gguf_tensors(m->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(m->file, i);
        bool used = false;
        for (int k = 0; k < m->n && !used; k++)
            used = m->list[k]->offset == t->offset && !strcmp(m->list[k]->name, t->name);
        if (!used)
            return err_set(e, STATUS_FORMAT, "%s: not part of a %s model as this engine knows it", t->name,
                           m->arch->name);
    }
    return 0;
}
static int bind_all(struct model *m, struct err *e) {
    const struct arch *a = m->arch;
    int rc = 0;
    for (int i = 0; i < a->binds && !rc; i++)
        for (int layer = 0; layer < (a->bind[i].flags & BIND_LAYER ? m->d.n : 1) && !rc; layer++)
            rc = bind(m, &a->bind[i], layer, e);
    return rc ? rc : all_used(m, e);
}
int model_open(struct model **out, const struct gguf *g, const struct model_config *c, enum dtype want, struct err *e) {
    const struct arch *arch = find(c->arch);
    *out = NULL;
    if (!arch) return err_set(e, STATUS_FORMAT, "architecture '%s' is not supported; %s is", c->arch, model_archs());
    if (want != DTYPE_NONE && want != DTYPE_F32 && want != DTYPE_F16)
        return err_set(e, STATUS_INVALID, "weights can be kept as stored, or become f32 or f16");
    if (c->rope_pairs && c->rope_dims != c->head_dim)
        return err_set(e, STATUS_FORMAT, "%d of %d dimensions are rotated pairwise: only whole heads are supported",
                       c->rope_dims, c->head_dim);
    int rc = STATUS_NOMEM;
    struct model *m = mem_zero(1, sizeof *m);
    if (!m) return err_set(e, rc, "no memory for a model");
    *m = (struct model){ .arch = arch, .file = g, .config = *c, .want = want, .d = { .n = c->layers } };
    m->d.layer = mem_zero((size_t)c->layers, sizeof *m->d.layer);
    m->list = mem_zero((size_t)c->layers * (size_t)arch->binds, sizeof *m->list);
    if (!m->d.layer || !m->list)
        err_set(e, rc, "no memory for a model of %d layers", c->layers);
    else
        rc = bind_all(m, e);
    if (rc) {
        model_close(m);
        return rc;
    }
    arch->shape(&m->d, c);
    qsort(m->list, (size_t)m->n, sizeof(struct weight *), by_place);
    *out = m;
    return 0;
}
void model_close(struct model *m) {
    if (!m) return;
    mem_free(m->d.layer);
    mem_free(m->list);
    mem_free(m);
}
struct mat model_record(struct model *m, struct program *p) {
    return m->arch->record(&m->d, p);
}
int model_weights(const struct model *m) { return m->n; }
struct weight *model_weight(struct model *m, int i) {
    return m->list[i];
}
uint64_t model_params(const struct model *m) {
    uint64_t n = 0;
    for (int i = 0; i < m->n; i++) n += (uint64_t)m->list[i]->rows * (uint64_t)m->list[i]->cols;
    return n;
}
