/* The shape of an image path from the tensors of its files. */
#include "vision.h"
#include <stdio.h>
#include <string.h>

enum {
    HEAD_DIM = 88,   /* EVA ViT-g's (eva_vit.py: 1408 / 16) */
    Q_HEAD_DIM = 64, /* bert-base's */
    JOINED = 4,      /* neighbours in one row of the projection (minigpt4.py) */
    TOWER = 40,      /* blocks of the published file, of which create_eva_vit_g takes all but the last */
    LARGEST = 1 << 16
};
struct found {
    const struct checkpoint *const *file;
    int files;
    struct err *e;
};
static const struct tensor *find(const struct found *f, const char *name) {
    const struct tensor *t = NULL;
    for (int i = 0; i < f->files && !t; i++) t = checkpoint_tensor(f->file[i], name);
    return t;
}
/* NULL and an error unless it is there with so many dimensions, none of them absurd. */
static const struct tensor *need(const struct found *f, const char *name, int dims) {
    const struct tensor *t = find(f, name);
    bool sound = t && t->dims == dims;
    for (int i = 0; i < dims && sound; i++) sound = t->dim[i] > 0 && t->dim[i] <= LARGEST;
    if (sound) return t;
    if (t)
        err_set(f->e, STATUS_FORMAT, "%s: has %d dimensions, a MiniGPT-4 has it with %d of at most %d", name, t->dims,
                dims, LARGEST);
    else
        err_set(f->e, STATUS_FORMAT, "%s: in none of the files, but every MiniGPT-4 has it; is it the right file?",
                name);
    return NULL;
}
static int blocks(const struct found *f, const char *format) {
    char name[96];
    int n = 0;
    while (n < LARGEST && snprintf(name, sizeof name, format, n) > 0 && find(f, name)) n++;
    return n;
}
static int read_encoder(const struct found *f, struct vision_config *c) {
    const struct tensor *pos = need(f, "pos_embed", 3), *patch = pos ? need(f, "patch_embed.proj.weight", 4) : NULL;
    const struct tensor *fc1 = patch ? need(f, "blocks.0.mlp.fc1.weight", 2) : NULL;
    if (!fc1) return STATUS_FORMAT;
    c->hidden = (int)pos->dim[0];
    while (c->grid * c->grid < (int)pos->dim[1] - 1) c->grid++;
    if (c->grid * c->grid + 1 != (int)pos->dim[1] || !c->grid)
        return err_set(f->e, STATUS_FORMAT, "pos_embed: %d rows are no square grid and the class token's",
                       (int)pos->dim[1]);
    c->patch = (int)patch->dim[0];
    if (patch->dim[1] != patch->dim[0] || patch->dim[2] != 3 || (int)patch->dim[3] != c->hidden)
        return err_set(f->e, STATUS_FORMAT, "patch_embed.proj.weight: %dx%dx%dx%d is not [%d, 3, a side, a side]",
                       (int)patch->dim[3], (int)patch->dim[2], (int)patch->dim[1], (int)patch->dim[0], c->hidden);
    if (c->hidden % HEAD_DIM)
        return err_set(f->e, STATUS_FORMAT,
                       "pos_embed: %d columns are no multiple of %d, the columns of a head of EVA ViT-g", c->hidden,
                       HEAD_DIM);
    c->heads = c->hidden / HEAD_DIM;
    c->ffn = (int)fc1->dim[1];
    c->layers = blocks(f, "blocks.%d.attn.qkv.weight");
    if (c->layers == TOWER) c->layers--;
    return c->layers
               ? STATUS_OK
               : err_set(f->e, STATUS_FORMAT, "blocks.0.attn.qkv.weight: in none of the files; is it an EVA ViT-g?");
}
static int read_qformer(const struct found *f, const struct tensor *queries, struct vision_config *c) {
    const struct tensor *fc = need(f, "Qformer.bert.encoder.layer.0.intermediate_query.dense.weight", 2);
    if (!fc) return STATUS_FORMAT;
    c->queries = (int)queries->dim[1];
    c->q_hidden = (int)queries->dim[0];
    if (c->q_hidden % Q_HEAD_DIM)
        return err_set(f->e, STATUS_FORMAT, "query_tokens: %d columns are no multiple of %d, the columns of a head",
                       c->q_hidden, Q_HEAD_DIM);
    c->q_heads = c->q_hidden / Q_HEAD_DIM;
    c->q_ffn = (int)fc->dim[1];
    c->q_layers = blocks(f, "Qformer.bert.encoder.layer.%d.attention.self.query.weight");
    return c->q_layers ? STATUS_OK
                       : err_set(f->e, STATUS_FORMAT,
                                 "Qformer.bert.encoder.layer.0.attention.self.query.weight: in none of the files");
}
int vision_config_of(const struct checkpoint *const *file, int files, bool v2, struct vision_config *out,
                     struct err *e) {
    struct err why = { 0 };
    const struct found f = { file, files, &why };
    struct vision_config c = { 0 };
    int rc = read_encoder(&f, &c);
    const struct tensor *projection = rc ? NULL : need(&f, "llama_proj.weight", 2);
    const struct tensor *queries = find(&f, "query_tokens");
    if (projection) {
        const int cols = (int)projection->dim[0];
        c.out = (int)projection->dim[1];
        c.image = c.patch * c.grid * (v2 ? 2 : 1);
        const bool asks = queries && queries->dims == 3 && queries->dim[0] == projection->dim[0];
        if (asks && need(&f, "query_tokens", 3))
            read_qformer(&f, queries, &c);
        else if (!asks && cols != JOINED * c.hidden)
            err_set(&why, STATUS_FORMAT,
                    "llama_proj.weight: %d columns are neither %d neighbouring patches (%d) nor a Q-Former's (%s)",
                    cols, JOINED, JOINED * c.hidden,
                    queries ? "query_tokens has others" : "no query_tokens; --qformer PATH");
    }
    if (why.code) return err_set(e, why.code, "%s", why.text);
    *out = c;
    return STATUS_OK;
}
bool vision_is_v2(const struct checkpoint *projector) {
    for (int i = 0; i < checkpoint_tensors(projector); i++)
        if (strstr(checkpoint_tensor_at(projector, i)->name, ".lora_")) return true;
    return false;
}
