#include "source.h"
#include "data/hub.h"
#include "data/template.h"
#include "model/lora.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool has_weights(const struct source *s) { return !s->dummy && s->file && checkpoint_tensors(s->file) > 0; }
const struct checkpoint *source_weights(const struct source *s) { return has_weights(s) ? s->file : NULL; }

static int no_weights(const struct source *s, struct err *e) {
    char repo[HUB_REPO];
    if (s->entry && s->entry->repo)
        snprintf(repo, sizeof repo, "%s", s->entry->repo);
    else if (!hub_repo_of_path(s->path, repo))
        repo[0] = 0;
    if (repo[0]) /* whether it has safetensors is not known here: an earlier command may have asked for them in vain */
        return err_set(
            e, STATUS_NOTFOUND,
            "%s: a configuration but no weights; fetch them: hf download %s --include \"*.safetensors*\", or, "
            "where it has none, --include \"*.bin*\"",
            s->path, repo);
    if (s->entry && s->entry->get)
        return err_set(e, STATUS_NOTFOUND, "%s: a configuration but no weights; fetch them: %s", s->path,
                       s->entry->get);
    return err_set(e, STATUS_NOTFOUND,
                   "%s: a configuration but no weights; --load-format dummy measures the shape without them", s->path);
}
static const struct {
    const char *name, *template_name;
    enum vision_variant variant;
} paths[] = {
    { "llama2", "minigpt4-llama2", VISION_LLAMA2 },
    { "vicuna-7b", "minigpt4-vicuna0", VISION_VICUNA_7B },
    { "vicuna-13b", "minigpt4-vicuna0", VISION_VICUNA_13B },
    { "v2", "minigpt-v2", VISION_V2 },
};
static void take_path(struct source *s, const char *name) {
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (!strcmp(paths[i].name, name)) {
            s->vision = vision_config(paths[i].variant);
            s->v2 = paths[i].variant == VISION_V2;
            s->template_name = paths[i].template_name;
        }
    for (int i = 0; i < catalog_count(); i++)
        if (catalog_at(i)->vision && !strcmp(catalog_at(i)->vision, name)) s->sampling = &catalog_at(i)->sampling;
}
/* What the catalogue says of the image path. */
static void publish(struct source *s) {
    if (s->sees) take_path(s, s->entry && s->entry->vision ? s->entry->vision : paths[0].name);
}
/* The image path's files, or its published shape where not all of them are there or weights are made up. */
static int open_parts(struct source *s, struct err *e) {
    const struct catalog_parts *p = &s->place;
    const char *const file[PARTS_MAX] = { p->vit, p->qformer, p->projector };
    const bool all = *p->vit && *p->projector && (*p->qformer || !p->entry || !p->entry->qformer);
    publish(s);
    if (!all || s->dummy) return STATUS_OK;
    for (int i = 0; i < PARTS_MAX; i++)
        if (*file[i] && !checkpoint_open(&s->part[s->parts], file[i], e)) s->parts++;
    if (e->code) return e->code;
    const bool v2 = s->v2 || vision_is_v2(s->part[s->parts - 1]);
    struct vision_config c;
    if (vision_config_of((const struct checkpoint *const *)s->part, s->parts, v2, &c, e)) return e->code;
    take_path(s, v2 ? "v2" : !c.queries ? "llama2" : c.out == 5120 ? "vicuna-13b" : "vicuna-7b");
    s->vision = c;
    return STATUS_OK;
}
/* A picture's rows stand among the language model's. */
static int check_parts(const struct source *s, struct err *e) {
    if (!s->sees || s->vision.out == s->config.hidden) return STATUS_OK;
    return err_set(e, STATUS_FORMAT,
                   "the projection makes rows of %d numbers, the language model's have %d: --llm or --projector names "
                   "the wrong one",
                   s->vision.out, s->config.hidden);
}
int source_open(struct source *s, const struct source_name *name, enum source_need need, struct err *e) {
    *s = (struct source){ .dummy = need == NEED_DUMMY };
    struct err missing = { 0 };
    const int sees = catalog_parts(name->name, name->revision, &name->given, need == NEED_WEIGHTS, &s->place, e);
    if (sees < 0) return e->code;
    s->sees = sees;
    snprintf(s->given, sizeof s->given, "%s", name->name);
    s->entry = s->place.entry;
    if (sees && open_parts(s, e)) return e->code;
    if (sees && *s->place.llm) {
        snprintf(s->path, sizeof s->path, "%s", s->place.llm);
    } else if (sees) {
        if (!s->entry) return err_set(e, STATUS_NOTFOUND, "'%.200s': --llm names no language model", name->name);
        s->config = s->entry->config;
        return check_parts(s, e);
    } else if (catalog_resolve(name->name, name->revision, s->path, &s->entry, &missing)) {
        if (need == NEED_WEIGHTS || missing.code != STATUS_NOTFOUND || !s->entry)
            return err_set(e, missing.code, "%s", missing.text);
        s->path[0] = 0;
        s->config = s->entry->config;
        return STATUS_OK;
    }
    if (checkpoint_open(&s->file, s->path, e) || checkpoint_config(s->file, &s->config, e)) return e->code;
    return need == NEED_WEIGHTS && !has_weights(s) ? no_weights(s, e) : check_parts(s, e);
}
void source_close(struct source *s) {
    checkpoint_close(s->file);
    for (int i = 0; i < s->parts; i++) checkpoint_close(s->part[i]);
    *s = (struct source){ 0 };
}
int source_tokenizer(const struct source *s, struct tokenizer **out, struct err *e) {
    struct err why = { 0 };
    *out = NULL;
    if (s->file && checkpoint_gguf(s->file)) return tokenizer_from_gguf(out, checkpoint_gguf(s->file), e);
    const int rc = s->file ? tokenizer_from_folder(out, checkpoint_folder(s->file), &why) : STATUS_NOTFOUND;
    if (rc == STATUS_NOTFOUND && s->dummy) return tokenizer_from_bytes(out, s->config.vocab, e);
    if (rc) return err_set(e, why.code, "%s", why.text);
    if (tokenizer_vocab(*out) <= s->config.vocab) return STATUS_OK;
    err_set(e, STATUS_FORMAT,
            "%s: its tokenizer knows %d ids, the embedding has %d rows; take the model's own tokenizer", s->path,
            tokenizer_vocab(*out), s->config.vocab);
    tokenizer_close(*out);
    *out = NULL;
    return e->code;
}

/* ---- descriptions ---- */
/* The last folder or file of a path without its ending; of the hub cache, the repository's name. */
static void name_of(const char *path, char *out, size_t room) {
    const char *hub = strstr(path, "models--"), *end = path + strlen(path);
    if (hub && (hub = strstr(hub + 8, "--"))) {
        snprintf(out, room, "%.*s", (int)strcspn(hub + 2, "/"), hub + 2);
        return;
    }
    while (end > path + 1 && end[-1] == '/') end--;
    const char *base = end;
    while (base > path && base[-1] != '/') base--;
    static const char *const endings[] = { ".gguf", ".safetensors", ".bin", ".pth", ".pt", ".ckpt" };
    size_t n = (size_t)(end - base), k;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (n > (k = strlen(endings[i])) && !strncasecmp(base + n - k, endings[i], k)) n -= k;
    snprintf(out, room, "%.*s", (int)n, base);
}
static void describe_config(const struct model_config *c, struct engine_model *info) {
    snprintf(info->arch, sizeof info->arch, "%s", c->arch);
    if (c->size_label[0]) snprintf(info->size_label, sizeof info->size_label, "%s", c->size_label);
    if (c->license[0]) snprintf(info->license, sizeof info->license, "%s", c->license);
    info->layers = c->layers, info->hidden = c->hidden, info->heads = c->heads, info->kv_heads = c->kv_heads;
    info->head_dim = c->head_dim, info->ffn = c->ffn, info->vocab = c->vocab, info->context = c->context;
    info->rope_dims = c->rope_dims, info->rope_theta = c->rope_theta;
}
static void describe_stops(const struct catalog_entry *c, struct engine_model *info) {
    struct buf text;
    buf_init(&text, sizeof info->stops - 1);
    for (int i = 0; i < c->stop_ids; i++) buf_printf(&text, "%stoken %d", text.n ? ", " : "", c->stop_id[i]);
    for (int i = 0; c->stop[i]; i++) buf_printf(&text, "%s\"%s\"", text.n ? ", " : "", c->stop[i]);
    snprintf(info->stops, sizeof info->stops, "%s", buf_text(&text));
    buf_fini(&text);
}
static void describe_catalog(const struct catalog_entry *c, struct engine_model *info) {
    describe_stops(c, info);
    snprintf(info->name, sizeof info->name, "%s", c->name);
    snprintf(info->repo, sizeof info->repo, "%s", c->repo ? c->repo : "");
    snprintf(info->aliases, sizeof info->aliases, "%s", c->aliases);
    snprintf(info->template_name, sizeof info->template_name, "%s", c->template_name);
    snprintf(info->get, sizeof info->get, "%s", c->get ? c->get : "");
    snprintf(info->gated, sizeof info->gated, "%s", c->gated ? c->gated : "");
}
static uint64_t params_of(const struct source *s) {
    struct err none = { 0 };
    struct model *m = NULL;
    struct vision *v = NULL;
    uint64_t n = model_open(&m, source_weights(s), &s->config, DTYPE_NONE, &none) ? 0 : model_params(m);
    model_close(m);
    if (s->sees) vision_open(&v, NULL, 0, &s->vision, DTYPE_NONE, &none);
    for (int i = 0; i < vision_weights(v); i++)
        n += (uint64_t)vision_weight(v, i)->rows * (uint64_t)vision_weight(v, i)->cols;
    vision_close(v);
    return n;
}
static void describe_vision(const struct source *s, struct engine_model *info) {
    const struct vision_config *c = &s->vision;
    if (!s->sees) return;
    snprintf(info->vision, sizeof info->vision, "EVA ViT, %d blocks of %d, %d px%s", c->layers, c->hidden, c->image,
             c->queries ? ", Q-Former" : "");
    snprintf(info->vit, sizeof info->vit, "%s", s->place.vit);
    snprintf(info->qformer, sizeof info->qformer, "%s", s->place.qformer);
    snprintf(info->projector, sizeof info->projector, "%s", s->place.projector);
    info->image_px = c->image;
    info->image_tokens = vision_tokens(c);
    if (!s->entry) snprintf(info->template_name, sizeof info->template_name, "%s", s->template_name);
}
void source_describe_entry(const struct catalog_entry *entry, struct engine_model *info) {
    struct source s = { .entry = entry, .config = entry->config, .sees = entry->vision != NULL };
    publish(&s);
    *info = (struct engine_model){ 0 };
    describe_config(&entry->config, info);
    describe_catalog(entry, info);
    describe_vision(&s, info);
    info->params = params_of(&s);
    snprintf(info->dtype, sizeof info->dtype, "%s", source_stored(&s));
}
void source_describe(const struct source *s, const struct tokenizer *t, struct engine_model *info) {
    describe_config(&s->config, info);
    if (s->entry)
        describe_catalog(s->entry, info);
    else
        name_of(s->sees ? s->given : s->path, info->name, sizeof info->name);
    size_t n = 0;
    struct gguf_string jinja = { "", 0 };
    if (t)
        jinja.p = tokenizer_chat_template(t, &n), jinja.n = n;
    else if (s->file && checkpoint_gguf(s->file))
        gguf_text(checkpoint_gguf(s->file), "tokenizer.chat_template", &jinja);
    if (!s->entry) snprintf(info->template_name, sizeof info->template_name, "%s", template_guess(jinja.p, jinja.n));
    describe_vision(s, info);
    snprintf(info->file, sizeof info->file, "%s", s->path);
    info->on_disk = has_weights(s) && (!s->sees || s->parts);
    info->file_bytes = has_weights(s) ? checkpoint_bytes(s->file) : 0;
    snprintf(info->format, sizeof info->format, "%s",
             s->dummy          ? "dummy"
             : !has_weights(s) ? "config"
                               : checkpoint_format(s->file));
    snprintf(info->dtype, sizeof info->dtype, "%s", source_stored(s));
    info->params = params_of(s);
}
const char *source_stored(const struct source *s) {
    const struct dtype_info *best = NULL;
    uint64_t most = 0, sum[64] = { 0 };
    for (int i = 0; has_weights(s) && i < checkpoint_tensors(s->file); i++) {
        const struct tensor *t = checkpoint_tensor_at(s->file, i);
        if (!dtype_info(t->dt) || t->dt >= 64) continue;
        sum[t->dt] += t->bytes;
        if (sum[t->dt] > most) most = sum[t->dt], best = dtype_info(t->dt);
    }
    if (!best) best = dtype_info(s->config.dtype == DTYPE_NONE ? DTYPE_F16 : s->config.dtype);
    return dtype_word(best->dt);
}
const char *dtype_word(enum dtype dt) {
    switch (dt) {
    case DTYPE_F32: return "fp32";
    case DTYPE_F16: return "fp16";
    default: return dtype_info(dt)->name;
    }
}
int source_want(const char *text, enum dtype *want, struct err *e) {
    *want = DTYPE_NONE;
    if (!text || !strcasecmp(text, "auto")) return STATUS_OK;
    *want = dtype_parse(text);
    if (*want == DTYPE_F32 || *want == DTYPE_F16 || *want == DTYPE_BF16 || *want == DTYPE_Q8_0 || *want == DTYPE_Q4_0)
        return STATUS_OK;
    return err_set(e, STATUS_INVALID, "--dtype %.24s: choose auto (as stored), fp32, fp16, bf16, int8 or int4", text);
}
