/* model.c - binds an architecture's table to a checkpoint: one loop looks up, checks, and names what is wrong. */
#include "model.h"
#include "arch.h"
#include "base/mem.h"
#include "binding.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct arch *const archs[] = { &arch_llama, &arch_neox };
/* Endings of tensors that old checkpoints hold and nothing computes with: causal masks, frequencies of RoPE. */
static const char *const junk[] = { ".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq" };

struct model {
    const struct arch *arch;
    const struct checkpoint *file; /* NULL: weights follow from the configuration alone */
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
const char *model_archs(void) { return "llama, gptneox"; }

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
static bool gguf(const struct model *m) { return m->file && checkpoint_kind(m->file) == CHECKPOINT_GGUF; }
static void tensor_name(const struct model *m, const struct bind *b, int layer, char *out, size_t n) {
    char prefix[32] = "";
    if (b->flags & BIND_LAYER && gguf(m))
        snprintf(prefix, sizeof prefix, "blk.%d.", layer);
    else if (b->flags & BIND_LAYER)
        snprintf(prefix, sizeof prefix, m->arch->hf_layer, layer);
    snprintf(out, n, "%s%s", prefix, gguf(m) ? b->gguf : b->hf);
}
static bool wanted(const struct model_config *c, const struct bind *b) {
    if (b->flags & BIND_ATTN_BIAS) return c->attn_bias;
    if (b->flags & BIND_MLP_BIAS) return c->mlp_bias;
    return !(b->flags & BIND_HEAD && c->tied);
}
/* Which rows of its tensor w is made of; returns how many rows that tensor has. */
static int row_map(const struct model *m, const struct bind *b, struct weight *w) {
    const int part = b->flags & BIND_Q ? 0 : b->flags & BIND_K ? 1 : b->flags & BIND_V ? 2 : -1;
    const int run = part >= 0 && m->config.qkv_by_head ? m->config.head_dim : w->rows;
    w->run = run;
    w->step = part < 0 ? 0 : 3 * run;
    w->first = part < 0 ? 0 : part * run;
    w->pairs = b->flags & BIND_ROTATED && m->config.rope_pairs ? m->config.head_dim : 0;
    return part < 0 ? w->rows : 3 * w->rows;
}
static int bind(struct model *m, const struct bind *b, int layer, struct err *e) {
    if (!wanted(&m->config, b)) return 0;
    char *base = b->flags & BIND_LAYER ? (char *)&m->d.layer[layer] : (char *)&m->d;
    struct weight *w = (struct weight *)(void *)(base + b->at);
    *w = (struct weight){ .rows = size_of(&m->config, b->rows), .cols = size_of(&m->config, b->cols) };
    w->want = binding_want(m->want, w->cols);
    tensor_name(m, b, layer, w->name, sizeof w->name);
    const int rows = row_map(m, b, w);
    const struct tensor *t = m->file ? checkpoint_tensor(m->file, w->name) : NULL;
    m->list[m->n++] = w;
    if (!m->file) {
        binding_imagine(w, rows, m->config.dtype);
        return 0;
    }
    if (!t)
        return err_set(e, STATUS_FORMAT, "%s: not in the file, but a %s model with this configuration needs it",
                       w->name, m->arch->name);
    return binding_take(w, t, rows, e);
}
/* In the order in which the files are best read; weights over one tensor follow each other. */
static int by_place(const void *a, const void *b) {
    const struct weight *x = *(struct weight *const *)a, *y = *(struct weight *const *)b;
    if (x->file != y->file) return x->file - y->file;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->first - y->first;
}
static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}
static bool ignored(const struct model *m, const char *name) {
    for (size_t i = 0; i < sizeof junk / sizeof *junk; i++)
        if (ends_with(name, junk[i])) return true;
    for (int i = 0; i < m->arch->binds; i++) { /* tied by its configuration, yet stored: the embedding counts */
        const struct bind *b = &m->arch->bind[i];
        if (b->flags & BIND_HEAD && m->config.tied && !strcmp(name, gguf(m) ? b->gguf : b->hf)) return true;
    }
    return false;
}
/* A tensor that nothing reads would be a different model than the one computed here. */
static int all_used(const struct model *m, struct err *e) {
    for (int i = 0; i < checkpoint_tensors(m->file); i++) {
        const struct tensor *t = checkpoint_tensor_at(m->file, i);
        bool used = false;
        for (int k = 0; k < m->n && !used; k++)
            used = m->list[k]->offset == t->offset && !strcmp(m->list[k]->name, t->name);
        if (!used && !ignored(m, t->name))
            return err_set(e, STATUS_FORMAT, "%s: not part of a %s model with this configuration", t->name,
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
    if (!m->file) return rc;
    if (!rc) {
        qsort(m->list, (size_t)m->n, sizeof(struct weight *), by_place);
        rc = all_used(m, e);
    }
    const size_t n = rc && e ? strlen(e->text) : 0;
    if (n)
        snprintf(e->text + n, sizeof e->text - n,
                 " (%s): weights and configuration do not belong together; download both again",
                 checkpoint_path(m->file));
    return rc;
}
/* All that is no weight. */
static void shape(struct decoder *d, enum norm norm, const struct model_config *c) {
    static const enum act act[] = {
        [CONFIG_SILU] = ACT_SILU, [CONFIG_GELU] = ACT_GELU, [CONFIG_GELU_TANH] = ACT_GELU_TANH
    };
    d->parallel = c->parallel;
    d->ends.norm.kind = norm;
    d->ends.norm.eps = c->norm_eps;
    for (struct layer *l = d->layer; l < d->layer + d->n; l++) {
        l->ln1.kind = l->ln2.kind = norm;
        l->ln1.eps = l->ln2.eps = c->norm_eps;
        l->attn.shape = (struct attn_of){ c->heads, c->kv_heads, c->head_dim, 1 };
        l->attn.rope = (struct rope){ c->head_dim, c->rope_dims, c->rope_theta };
        l->mlp.act = act[c->act];
    }
}
static int check_options(const struct model_config *c, enum dtype want, struct err *e) {
    if (!model_supported(c->arch))
        return err_set(e, STATUS_FORMAT, "architecture '%s' is not supported; %s are", c->arch, model_archs());
    if (want != DTYPE_NONE && want != DTYPE_F32 && want != DTYPE_F16 && want != DTYPE_BF16 && want != DTYPE_Q8_0 &&
        want != DTYPE_Q4_0)
        return err_set(e, STATUS_INVALID, "weights can be kept as stored, or become f32, f16, bf16, q8_0 or q4_0");
    if (c->rope_pairs && c->rope_dims != c->head_dim)
        return err_set(e, STATUS_FORMAT, "%d of %d dimensions are rotated pairwise: only whole heads are supported",
                       c->rope_dims, c->head_dim);
    if (find(c->arch) == &arch_neox && c->kv_heads != c->heads)
        return err_set(e, STATUS_FORMAT, "%d KV heads for %d heads: a %s model has as many", c->kv_heads, c->heads,
                       c->arch);
    return 0;
}
int model_open(struct model **out, const struct checkpoint *file, const struct model_config *c, enum dtype want,
               struct err *e) {
    *out = NULL;
    int rc = check_options(c, want, e);
    if (rc) return rc;
    struct model *m = mem_zero(1, sizeof *m);
    if (!m) return err_set(e, STATUS_NOMEM, "no memory for a model");
    *m = (struct model){ .arch = find(c->arch), .config = *c, .want = want, .d = { .n = c->layers } };
    if (file && checkpoint_tensors(file)) m->file = file;
    m->d.layer = mem_zero((size_t)c->layers, sizeof *m->d.layer);
    m->list = mem_zero((size_t)c->layers * (size_t)m->arch->binds, sizeof(struct weight *));
    if (!m->d.layer || !m->list)
        rc = err_set(e, STATUS_NOMEM, "no memory for a model of %d layers", c->layers);
    else
        rc = bind_all(m, e);
    if (rc) {
        model_close(m);
        return rc;
    }
    shape(&m->d, m->arch->norm, c);
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
