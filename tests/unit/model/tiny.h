/* tiny.h - small random Llamas as GGUF tensors in memory, and a double-precision forward pass over their bytes. */
#ifndef JAEDA_TESTS_MODEL_TINY_H
#define JAEDA_TESTS_MODEL_TINY_H
#include "compute/kit.h"
#include "data/gguf_build.h"
#include "model/model.h"
#include <sys/mman.h>
#include <unistd.h>

enum { HIDDEN = 64, HEADS = 4, KV_HEADS = 2, HD = 16, FFN = 96, VOCAB = 203, LAYERS = 3, KV = 64, TEXT = 12 };
static const int tiny_text[16] = { 5, 17, 202, 0, 99, 41, 8, 120, 77, 3, 64, 150, 5, 5, 201, 1 };

struct tiny {
    struct checkpoint *file;
    int fd; /* of the file, which lies in memory only */
    struct model_config config;
    struct model *model;
    unsigned char *data;
    size_t bytes;
};
struct tiny_spec {
    bool tied;
    enum dtype layers, ends, want;
    const char *skip, *extra, *odd; /* a tensor left out, one too many, one whose shape is wrong */
};

static inline void tiny_tensor(struct buf *head, struct tiny *t, const struct tiny_spec *s, const char *name, int rows,
                               int cols, enum dtype dt) {
    if (s->skip && !strcmp(name, s->skip)) return;
    if (s->odd && !strcmp(name, s->odd)) cols += 32;
    const uint64_t dim[2] = { (uint64_t)cols, (uint64_t)rows };
    const bool vector = rows == 1;
    put_tensor(head, name, vector ? 1 : 2, dim, (uint32_t)dt, t->bytes);
    const size_t blocks = (size_t)rows * (size_t)cols / (size_t)kit_block(dt), each = kit_block_bytes(dt);
    t->data = realloc(t->data, t->bytes + blocks * each + 64);
    memset(t->data + t->bytes, 0, blocks * each + 64);
    for (size_t i = 0; i < blocks; i++) kit_encode(t->data + t->bytes + i * each, dt, vector ? 2 : 0.25);
    t->bytes = (t->bytes + blocks * each + 31) & ~(size_t)31;
}
/* Writes the header and the bytes, opens the model. Returns model_open's code. */
static inline int tiny_open(struct tiny *t, const struct tiny_spec *s, struct err *e) {
    static const struct {
        const char *name;
        int rows, cols;
    } per_layer[] = { { "attn_norm.weight", 1, HIDDEN },
                      { "ffn_down.weight", HIDDEN, FFN },
                      { "ffn_gate.weight", FFN, HIDDEN },
                      { "ffn_up.weight", FFN, HIDDEN },
                      { "ffn_norm.weight", 1, HIDDEN },
                      { "attn_k.weight", KV_HEADS * HD, HIDDEN },
                      { "attn_output.weight", HIDDEN, HEADS * HD },
                      { "attn_q.weight", HEADS * HD, HIDDEN },
                      { "attn_v.weight", KV_HEADS * HD, HIDDEN } };
    struct buf head;
    char name[64];
    *t = (struct tiny){ .config = { .arch = "llama",
                                    .layers = LAYERS,
                                    .hidden = HIDDEN,
                                    .heads = HEADS,
                                    .kv_heads = KV_HEADS,
                                    .head_dim = HD,
                                    .ffn = FFN,
                                    .vocab = VOCAB,
                                    .context = KV,
                                    .rope_dims = HD,
                                    .rope_theta = 10000,
                                    .norm_eps = 1e-5f,
                                    .tied = s->tied,
                                    .rope_pairs = true } };
    kit_seed = 7;
    put_head(&head, 3);
    int n = 2 + LAYERS * 9 + !s->tied - (s->skip != NULL) + (s->extra != NULL);
    tiny_tensor(&head, t, s, "token_embd.weight", VOCAB, HIDDEN, s->ends);
    for (int l = 0; l < LAYERS; l++)
        for (int k = 0; k < 9; k++) {
            snprintf(name, sizeof name, "blk.%d.%s", l, per_layer[k].name);
            tiny_tensor(&head, t, s, name, per_layer[k].rows, per_layer[k].cols,
                        per_layer[k].rows == 1 ? DTYPE_F32 : s->layers);
        }
    tiny_tensor(&head, t, s, "output_norm.weight", 1, HIDDEN, DTYPE_F32);
    if (!s->tied) tiny_tensor(&head, t, s, "output.weight", VOCAB, HIDDEN, s->ends);
    if (s->extra) tiny_tensor(&head, t, s, s->extra, 1, HIDDEN, DTYPE_F32);
    put_counts(&head, (uint64_t)n, 0);
    put_align(&head, 32);
    const size_t at = head.n;
    char path[32];
    t->fd = memfd_create("tiny.gguf", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", t->fd);
    assert_true(write(t->fd, head.p, at) == (ssize_t)at && write(t->fd, t->data, t->bytes) == (ssize_t)t->bytes);
    if (checkpoint_open(&t->file, path, e)) fail_msg("%s", e->text);
    buf_fini(&head);
    const int rc = model_open(&t->model, t->file, &t->config, s->want, e);
    for (int i = 0; !rc && i < model_weights(t->model); i++) {
        struct weight *w = model_weight(t->model, i);
        kit_source[kit_sources++] = (struct kit_source){ w, t->data + (w->offset - at), NULL };
    }
    return rc;
}
static inline void tiny_close(struct tiny *t) {
    kit_forget();
    model_close(t->model);
    checkpoint_close(t->file);
    close(t->fd);
    free(t->data);
}
static inline const struct weight *tiny_find(const struct tiny *t, const char *name, int layer) {
    char full[64];
    snprintf(full, sizeof full, name, layer);
    for (int i = 0; i < model_weights(t->model); i++)
        if (!strcmp(model_weight(t->model, i)->name, full)) return model_weight(t->model, i);
    return NULL;
}

/* ---- the forward pass in double, as the papers write it, over pairwise-rotated file rows ---- */
static inline void o_rms(double *y, const double *x, const struct weight *g) {
    double s = 0;
    for (int j = 0; j < HIDDEN; j++) s += x[j] * x[j] / HIDDEN;
    for (int j = 0; j < HIDDEN; j++) y[j] = x[j] / sqrt(s + 1e-5) * kit_at(g, j, 0);
}
/* Row r as the file has it: pairwise order is not undone, the rotation below is pairwise instead. */
static inline double o_row(const struct weight *w, int r, const double *x) {
    double s = 0;
    for (int c = 0; c < w->cols; c++) s += kit_raw(w, kit_bytes(w), (size_t)r, c) * x[c];
    return s;
}
static inline void o_rotate(double *x, int heads, int pos) {
    for (int j = 0; j < heads * HD; j += 2) {
        const double a = pos * pow(10000, -(j % HD) / (double)HD), re = x[j], im = x[j + 1];
        x[j] = re * cos(a) - im * sin(a);
        x[j + 1] = re * sin(a) + im * cos(a);
    }
}
static inline void o_layer(const struct tiny *t, int l, int n, double x[][HIDDEN]) {
    static double k[KV][KV_HEADS * HD], v[KV][KV_HEADS * HD];
    for (int i = 0; i < n; i++) {
        double h[HIDDEN], q[HEADS * HD], o[HEADS * HD] = { 0 }, f[FFN];
        o_rms(h, x[i], tiny_find(t, "blk.%d.attn_norm.weight", l));
        for (int r = 0; r < HEADS * HD; r++) q[r] = o_row(tiny_find(t, "blk.%d.attn_q.weight", l), r, h);
        for (int r = 0; r < KV_HEADS * HD; r++) {
            k[i][r] = o_row(tiny_find(t, "blk.%d.attn_k.weight", l), r, h);
            v[i][r] = o_row(tiny_find(t, "blk.%d.attn_v.weight", l), r, h);
        }
        o_rotate(q, HEADS, i);
        o_rotate(k[i], KV_HEADS, i);
        for (int head = 0; head < HEADS; head++) {
            double p[KV], sum = 0;
            const int at = head * HD, kat = head / (HEADS / KV_HEADS) * HD;
            for (int u = 0; u <= i; sum += p[u++]) {
                double dot = 0;
                for (int d = 0; d < HD; d++) dot += q[at + d] * k[u][kat + d];
                p[u] = exp(dot / sqrt(HD));
            }
            for (int u = 0; u <= i; u++)
                for (int d = 0; d < HD; d++) o[at + d] += p[u] / sum * v[u][kat + d];
        }
        for (int r = 0; r < HIDDEN; r++) x[i][r] += o_row(tiny_find(t, "blk.%d.attn_output.weight", l), r, o);
        o_rms(h, x[i], tiny_find(t, "blk.%d.ffn_norm.weight", l));
        for (int r = 0; r < FFN; r++) {
            const double g = o_row(tiny_find(t, "blk.%d.ffn_gate.weight", l), r, h);
            f[r] = g / (1 + exp(-g)) * o_row(tiny_find(t, "blk.%d.ffn_up.weight", l), r, h);
        }
        for (int r = 0; r < HIDDEN; r++) x[i][r] += o_row(tiny_find(t, "blk.%d.ffn_down.weight", l), r, f);
    }
}
/* Logits after the n tokens id[]. */
static inline void tiny_oracle(const struct tiny *t, const int *id, int n, double *logits) {
    static double x[KV][HIDDEN];
    double h[HIDDEN];
    const struct weight *embed = tiny_find(t, "token_embd.weight", 0), *head = tiny_find(t, "output.weight", 0);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < HIDDEN; c++) x[i][c] = kit_at(embed, id[i], c);
    for (int l = 0; l < LAYERS; l++) o_layer(t, l, n, x);
    o_rms(h, x[n - 1], tiny_find(t, "output_norm.weight", 0));
    for (int r = 0; r < VOCAB; r++) logits[r] = o_row(head ? head : embed, r, h);
}

#endif
