/* minigpt4.c - MiniGPT-4 (Zhu et al. 2023; Vision-CAIR/MiniGPT-4 minigpt4/models/minigpt4.py) and MiniGPT-v2: the image
 * encoder, what becomes of its rows, and the projection to the language model.
 *
 *   Llama-2, v2:  e = Wproj [four neighbouring patches of ln(vit(picture)), without the class token] + b
 *   Vicuna:       e = Wproj qformer(ln(vit(picture))) + b */
#include "base/mem.h"
#include "binding.h"
#include "vision_parts.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { JOINED = 4 };
struct vision {
    struct vision_config config;
    const struct checkpoint *const *file;
    int files;
    enum dtype want;
    struct eva_vit vit;
    struct qformer qformer;
    struct nn_linear projection;
    struct bound {
        struct weight *w;
        const struct checkpoint *from; /* NULL: every number of it is `value` */
        float value;
    } * list;
    int n;
    float *positions, *class_token, *patch_bias, *queries;
};
static const struct part own[] = {
    { "llama_proj.weight", offsetof(struct vision, projection.w), PART_OUT, PART_JOINED, 0, 0, 0 },
    { "llama_proj.bias", offsetof(struct vision, projection.b), PART_OUT, PART_ONE, 0, 0, 0 },
};
const struct parts minigpt4_parts = { "", own, sizeof own / sizeof *own };

struct vision_config vision_config(enum vision_variant v) {
    struct vision_config c = {
        .image = 224, .patch = 14, .grid = 16, .hidden = 1408, .layers = 39, .heads = 16, .ffn = 6144, .out = 4096
    };
    if (v == VISION_V2) c.image = 448;
    if (v == VISION_VICUNA_7B || v == VISION_VICUNA_13B)
        c.queries = 32, c.q_hidden = 768, c.q_layers = 12, c.q_heads = 12, c.q_ffn = 3072;
    if (v == VISION_VICUNA_13B) c.out = 5120;
    return c;
}
static int side(const struct vision_config *c) { return c->image / c->patch; }
int vision_rows(const struct vision_config *c) { return side(c) * side(c) + 1; }
int vision_tokens(const struct vision_config *c) { return c->queries ? c->queries : side(c) * side(c) / JOINED; }
int vision_columns(const struct vision_config *c) { return c->queries ? c->q_hidden : JOINED * c->hidden; }

/* ---- binding ---- */
static const struct tensor *find(const struct vision *v, const char *name, const struct checkpoint **from) {
    const struct tensor *t = NULL;
    for (int i = 0; i < v->files && !t; i++)
        if ((t = checkpoint_tensor(v->file[i], name))) *from = v->file[i];
    return t;
}
static int lacking(const char *name, struct err *e) {
    return err_set(e, STATUS_FORMAT, "%s: in none of the files, but MiniGPT-4 with this configuration needs it", name);
}
static int bind(struct vision *v, const struct parts *all, const struct part *part, void *base, int layer,
                struct err *e) {
    const struct vision_config *c = &v->config;
    const int size[PART_SIZES] = { 1,        c->hidden,         c->ffn, 3 * c->patch * c->patch, c->q_hidden,
                                   c->q_ffn, vision_columns(c), c->out };
    struct weight *w = (struct weight *)(void *)((char *)base + part->at);
    *w = (struct weight){ .rows = size[part->rows], .cols = size[part->cols] };
    w->run = w->rows;
    w->want = binding_want(v->want, w->cols);
    if (part->third) w->first = (part->third - 1) * w->rows;
    const int rows = part->third ? 3 * w->rows : w->rows;
    const int n = snprintf(w->name, sizeof w->name, all->prefix, layer);
    snprintf(w->name + n, sizeof w->name - (size_t)n, "%s", part->name);
    struct bound *b = &v->list[v->n++];
    *b = (struct bound){ .w = w, .value = part->otherwise };
    const struct tensor *t = find(v, w->name, &b->from);
    if (t) return binding_take(w, t, rows, e);
    if (v->files && !part->may_lack) return lacking(w->name, e);
    binding_imagine(w, rows, part->may_lack ? DTYPE_F32 : DTYPE_F16);
    return STATUS_OK;
}
static void bind_all(struct vision *v, const struct parts *all, void *base, int layer, struct err *e) {
    for (int i = 0; i < all->n && !e->code; i++) bind(v, all, &all->part[i], base, layer, e);
}
static double half(uint16_t h) {
    const int e = h >> 10 & 31, m = h & 1023;
    const double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h >> 15 ? -v : v;
}
static void to_floats(float *to, const unsigned char *p, size_t n, int dt) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        const uint32_t wide = (uint32_t)h << 16;
        if (dt == DTYPE_BF16) memcpy(&to[i], &wide, 4);
        if (dt == DTYPE_F16) to[i] = (float)half(h);
    }
}
static int read_bytes(const struct checkpoint *from, int file, uint64_t offset, void *to, size_t n, const char *name,
                      struct err *e) {
    if (pread(checkpoint_file(from, file)->fd, to, n, (off_t)offset) == (ssize_t)n) return STATUS_OK;
    return err_set(e, STATUS_IO, "%s: cannot be read from %.160s", name, checkpoint_file(from, file)->path);
}
/* A tensor that the host keeps, n numbers of any shape; zeros without files. */
static void host(struct vision *v, const char *name, size_t n, float **out, struct err *e) {
    const struct checkpoint *from = NULL;
    const struct tensor *t = find(v, name, &from);
    const uint64_t count = t ? t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3] : n;
    if (e->code || (!t && !v->files)) return; /* zeros, which take no memory: a shape is opened to be counted */
    *out = mem_zero(n, sizeof **out);
    unsigned char *bytes = t ? mem_alloc(t->bytes + 1) : NULL;
    if (!*out || (t && !bytes))
        err_set(e, STATUS_NOMEM, "no memory for %s", name);
    else if (!t && v->files)
        lacking(name, e);
    else if (count != n)
        err_set(e, STATUS_FORMAT, "%s: %llu numbers in the file, %zu by its configuration", name,
                (unsigned long long)count, n);
    else if (t && t->dt != DTYPE_F32 && t->dt != DTYPE_F16 && t->dt != DTYPE_BF16)
        err_set(e, STATUS_FORMAT, "%s has dtype %s, which no weight of a model here can have", name, t->dt_name);
    else if (t && !read_bytes(from, t->file, t->offset, bytes, t->bytes, name, e)) {
        if (t->dt == DTYPE_F32)
            memcpy(*out, bytes, n * sizeof **out);
        else
            to_floats(*out, bytes, n, t->dt);
    }
    mem_free(bytes);
}
static void bind_host(struct vision *v, struct err *e) {
    const struct vision_config *c = &v->config;
    const size_t hidden = (size_t)c->hidden, rows = (size_t)c->grid * (size_t)c->grid + 1;
    host(v, "pos_embed", rows * hidden, &v->positions, e);
    host(v, "cls_token", hidden, &v->class_token, e);
    host(v, "patch_embed.proj.bias", hidden, &v->patch_bias, e);
    if (c->queries) host(v, "query_tokens", (size_t)c->queries * (size_t)c->q_hidden, &v->queries, e);
}
static int check_config(const struct vision_config *c, struct err *e) {
    const bool square = c->image > 0 && c->patch > 0 && c->image % c->patch == 0 && c->image <= 1 << 12 && c->grid > 0;
    const bool heads = c->heads > 0 && c->hidden % c->heads == 0 && c->hidden / c->heads <= HEAD_DIM_MAX;
    const bool queries = !c->queries || (c->q_heads > 0 && c->q_hidden % c->q_heads == 0 && c->q_layers > 0);
    if (square && heads && queries && c->layers > 0 && c->ffn > 0 && c->out > 0 &&
        (c->queries || side(c) * side(c) % JOINED == 0))
        return STATUS_OK;
    return err_set(e, STATUS_FORMAT,
                   "an image encoder of %d px, patches of %d, %d heads over %d columns does not exist", c->image,
                   c->patch, c->heads, c->hidden);
}
int vision_open(struct vision **out, const struct checkpoint *const *file, int files, const struct vision_config *c,
                enum dtype want, struct err *e) {
    struct err why = { 0 };
    *out = NULL;
    if (check_config(c, &why)) return err_set(e, why.code, "%s", why.text);
    struct vision *v = mem_zero(1, sizeof *v);
    if (!v) return err_set(e, STATUS_NOMEM, "no memory for an image encoder");
    *v = (struct vision){ .config = *c, .file = file, .files = files, .want = want };
    const int each = eva_vit_layer_parts.n, q_each = qformer_layer_parts.n + qformer_cross_parts.n;
    const int most = eva_vit_parts.n + each * c->layers + qformer_parts.n + q_each * c->q_layers + minigpt4_parts.n;
    v->vit.n = c->layers;
    v->qformer.n = c->queries ? c->q_layers : 0;
    v->vit.layer = mem_zero((size_t)c->layers, sizeof *v->vit.layer);
    v->qformer.layer = mem_zero((size_t)v->qformer.n + 1, sizeof *v->qformer.layer);
    v->list = mem_zero((size_t)most, sizeof *v->list);
    if (!v->vit.layer || !v->qformer.layer || !v->list) err_set(&why, STATUS_NOMEM, "no memory for an image encoder");
    bind_all(v, &eva_vit_parts, &v->vit, 0, &why);
    for (int i = 0; i < v->vit.n; i++) bind_all(v, &eva_vit_layer_parts, &v->vit.layer[i], i, &why);
    if (c->queries) bind_all(v, &qformer_parts, &v->qformer, 0, &why);
    for (int i = 0; i < v->qformer.n; i++) {
        bind_all(v, &qformer_layer_parts, &v->qformer.layer[i], i, &why);
        if (i % 2 == 0) bind_all(v, &qformer_cross_parts, &v->qformer.layer[i], i, &why);
    }
    bind_all(v, &minigpt4_parts, v, 0, &why);
    bind_host(v, &why);
    if (why.code) {
        vision_close(v);
        return err_set(e, why.code, "%s", why.text);
    }
    eva_vit_shape(&v->vit, c);
    qformer_shape(&v->qformer, c);
    *out = v;
    return STATUS_OK;
}
void vision_close(struct vision *v) {
    if (!v) return;
    mem_free(v->vit.layer);
    mem_free(v->qformer.layer);
    mem_free(v->list);
    mem_free(v->positions);
    mem_free(v->class_token);
    mem_free(v->patch_bias);
    mem_free(v->queries);
    mem_free(v);
}
int vision_weights(const struct vision *v) { return v ? v->n : 0; }
struct weight *vision_weight(const struct vision *v, int i) {
    return v->list[i].w;
}
const struct checkpoint_file *vision_weight_file(const struct vision *v, int i) {
    const struct bound *b = &v->list[i];
    return b->from ? checkpoint_file(b->from, b->w->file) : NULL;
}
void *vision_weight_read(const struct vision *v, int i, struct err *e) {
    const struct bound *b = &v->list[i];
    const size_t n = (size_t)b->w->bytes;
    char *p = mem_alloc(n);
    if (!p) {
        err_set(e, STATUS_NOMEM, "no memory for %s", b->w->name);
    } else if (!b->from) {
        for (size_t k = 0; k + sizeof b->value <= n; k += sizeof b->value) memcpy(p + k, &b->value, sizeof b->value);
    } else if (read_bytes(b->from, b->w->file, b->w->offset, p, n, b->w->name, e)) {
        mem_free(p);
        p = NULL;
    }
    return p;
}

/* ---- stages ---- */
struct vision_io vision_record(struct vision *v, enum vision_stage stage, struct program *p) {
    return vision_record_many(v, stage, 1, p);
}
struct vision_io vision_record_many(struct vision *v, enum vision_stage stage, int pictures, struct program *p) {
    const struct vision_config *c = &v->config;
    const struct weight *q = &v->vit.layer[0].attn.q.w;
    if ((q->want == DTYPE_NONE ? q->dt : q->want) != DTYPE_F32) p->kv = DTYPE_F16;
    if (stage == VISION_ENCODE) return eva_vit_record(&v->vit, c, pictures, p);
    if (stage == VISION_QUERY)
        return c->queries ? qformer_record(&v->qformer, c, pictures, p) : (struct vision_io){ 0 };
    struct vision_io io = { .in = program_tmp(p, DIM_FIXED, pictures * vision_tokens(c), vision_columns(c)) };
    program_keep(p, io.in);
    io.out = nn_linear(p, "llama_proj", &v->projection, io.in, ACT_NONE);
    program_keep(p, io.out);
    return io;
}
int vision_patches(const struct vision_config *c, const struct image *m, float *to, struct err *e) {
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
    static const float deviation[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    const int n = c->patch, patches = side(c);
    if (m->width != c->image || m->height != c->image)
        return err_set(e, STATUS_INVALID, "the image encoder takes %d x %d pixels, not %d x %d", c->image, c->image,
                       m->width, m->height);
    memset(to, 0, sizeof *to * 3 * (size_t)(n * n));
    to += 3 * n * n;
    for (int patch = 0; patch < patches * patches; patch++)
        for (int i = 0; i < 3 * n * n; i++) {
            const int colour = i / (n * n), y = patch / patches * n + i / n % n, x = patch % patches * n + i % n;
            const float v = (float)m->rgb[3 * ((size_t)y * (size_t)m->width + (size_t)x) + (size_t)colour] / 255.0f;
            *to++ = (v - mean[colour]) / deviation[colour];
        }
    return STATUS_OK;
}
/* Keys' cubic convolution with a = -0.75 at distances 1 + t, t, 1 - t, 2 - t. */
static void cubic(double t, double w[4]) {
    const double a = -0.75, far[2] = { 1 + t, 2 - t }, near[2] = { t, 1 - t };
    for (int i = 0; i < 2; i++) {
        w[3 * i] = ((a * far[i] - 5 * a) * far[i] + 8 * a) * far[i] - 4 * a;
        w[1 + i] = ((a + 2) * near[i] - (a + 3)) * near[i] * near[i] + 1;
    }
}
static int within(int i, int n) { return i < 0 ? 0 : i >= n ? n - 1 : i; }
/* The embedding of patch (x, y) of a grid of `to` a side, from one of `from`. */
static void stretch(const float *grid, int from, int to, int x, int y, int cols, float *out) {
    const double scale = (double)from / to, at[2] = { (x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5 };
    const int first[2] = { (int)floor(at[0]), (int)floor(at[1]) };
    double w[2][4];
    for (int i = 0; i < 2; i++) cubic(at[i] - first[i], w[i]);
    for (int j = 0; j < cols; j++) {
        double sum = 0;
        for (int k = 0; k < 16; k++) {
            const int gx = within(first[0] - 1 + k % 4, from), gy = within(first[1] - 1 + k / 4, from);
            sum += w[0][k % 4] * w[1][k / 4] *
                   (double)grid[((size_t)gy * (size_t)from + (size_t)gx) * (size_t)cols + (size_t)j];
        }
        out[j] = (float)sum;
    }
}
void vision_table(const struct vision *v, float *to) {
    const struct vision_config *c = &v->config;
    const int patches = side(c), cols = c->hidden;
    if (!v->positions) { /* made up: see host() */
        memset(to, 0, sizeof *to * (size_t)(patches * patches + 1) * (size_t)cols);
        return;
    }
    const float *grid = v->positions + cols; /* behind the class token's */
    for (int j = 0; j < cols; j++) to[j] = v->class_token[j] + v->positions[j];
    for (int i = 0; i < patches * patches; i++) {
        float *row = to + (size_t)(i + 1) * (size_t)cols;
        if (patches == c->grid)
            memcpy(row, grid + (size_t)i * (size_t)cols, sizeof *row * (size_t)cols);
        else
            stretch(grid, c->grid, patches, i % patches, i / patches, cols, row);
        for (int j = 0; j < cols; j++) row[j] += v->patch_bias[j];
    }
}
void vision_queries(const struct vision *v, float *to) {
    const size_t n = sizeof *to * (size_t)v->config.queries * (size_t)v->config.q_hidden;
    if (v->queries)
        memcpy(to, v->queries, n);
    else
        memset(to, 0, n);
}
/* Rows follow each other in memory: four of them are one already. */
void vision_join(const struct vision_config *c, const float *encoded, float *to) {
    memcpy(to, encoded + c->hidden, sizeof *to * (size_t)(vision_rows(c) - 1) * (size_t)c->hidden);
}
