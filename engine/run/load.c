#include "load.h"
#include "base/log.h"
#include "base/mem.h"
#include "job.h"
#include "machine.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double MIB = 1024 * 1024, GIB = 1024.0 * 1024 * 1024;
enum { SLICE = 8 << 20, LEN_STEP = 256 };            /* bytes a read; a shrunk context is a multiple of LEN_STEP */
static const uint64_t HEADROOM = UINT64_C(64) << 20; /* for the tokeniser, threads and allocators */

/* ---- what the file says ---- */
static void describe(struct engine_model *info, const struct gguf *g, const struct model_config *c,
                     const struct catalog_entry *entry) {
    const char *path = gguf_path(g), *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    if (entry)
        snprintf(info->name, sizeof info->name, "%s", entry->name);
    else
        snprintf(info->name, sizeof info->name, "%.*s", dot ? (int)(dot - base) : (int)strlen(base), base);
    snprintf(info->file, sizeof info->file, "%s", path);
    snprintf(info->arch, sizeof info->arch, "%s", c->arch);
    snprintf(info->size_label, sizeof info->size_label, "%s", c->size_label);
    snprintf(info->license, sizeof info->license, "%s", c->license);
    info->on_disk = true;
    info->layers = c->layers, info->hidden = c->hidden, info->heads = c->heads, info->kv_heads = c->kv_heads;
    info->head_dim = c->head_dim, info->ffn = c->ffn, info->vocab = c->vocab, info->context = c->context;
    info->file_bytes = gguf_file_bytes(g);
    struct gguf_string jinja = { "", 0 };
    gguf_text(g, "tokenizer.chat_template", &jinja);
    const char *name = entry && entry->template_name ? entry->template_name : template_guess(jinja.p, jinja.n);
    snprintf(info->template_name, sizeof info->template_name, "%s", name);
}
/* The dtype that most of the weights' bytes have in the file. */
static const char *stored_dtype(const struct gguf *g) {
    const struct dtype_info *best = NULL;
    uint64_t most = 0;
    for (int i = 0; i < gguf_tensors(g); i++) {
        const int dt = gguf_tensor_at(g, i)->dt;
        uint64_t sum = 0;
        for (int j = 0; j < gguf_tensors(g); j++)
            sum += gguf_tensor_at(g, j)->dt == dt ? gguf_tensor_at(g, j)->bytes : 0;
        if (sum > most) most = sum, best = dtype_info(dt);
    }
    return best ? best->name : "unknown";
}
static int open_file(struct gguf **g, struct model_config *c, const char *name, const struct catalog_entry **entry,
                     struct err *e) {
    char path[CATALOG_PATH];
    if (catalog_resolve(name, path, entry, e) || gguf_open(g, path, e)) return e->code;
    return config_from_gguf(c, *g, e);
}
int model_describe(struct engine_model *info, const char *name, struct err *e) {
    struct gguf *g = NULL;
    struct model *m = NULL;
    struct model_config c;
    const struct catalog_entry *entry = NULL;
    *info = (struct engine_model){ 0 };
    if (!open_file(&g, &c, name, &entry, e) && !model_open(&m, g, &c, DTYPE_NONE, e)) {
        describe(info, g, &c, entry);
        snprintf(info->dtype, sizeof info->dtype, "%s", stored_dtype(g));
        info->params = model_params(m);
    }
    model_close(m);
    gguf_close(g);
    return e->code;
}

/* ---- sizes ---- */
static void stop_at(struct loaded *l, int id) {
    for (int i = 0; i < l->eos_n; i++)
        if (l->eos[i] == id) return;
    if (id >= 0 && l->eos_n < EOS_MAX) l->eos[l->eos_n++] = id;
}
static int record(struct loaded *l, int max_len, struct err *e) {
    struct program *const p[2] = { &l->decode, &l->prefill };
    const int rows[2] = { 1, CHUNK };
    for (int i = 0; i < 2; i++) {
        program_fini(p[i]);
        program_init(p[i], l->api, l->be, rows[i], 1, SEQUENCES * max_len);
        op_next(p[i], model_record(l->model, p[i]));
        program_fuse(p[i]);
        if (program_plan(p[i], e)) return e->code;
    }
    struct engine_model *info = &l->info;
    info->max_model_len = max_len;
    l->kv_bytes =
        l->decode.need[REGION_KV] > l->prefill.need[REGION_KV] ? l->decode.need[REGION_KV] : l->prefill.need[REGION_KV];
    l->arena_bytes = l->decode.need[REGION_ARENA] > l->prefill.need[REGION_ARENA] ? l->decode.need[REGION_ARENA]
                                                                                  : l->prefill.need[REGION_ARENA];
    info->kv_bytes = l->kv_bytes;
    info->arena_bytes = l->arena_bytes;
    info->kv_bytes_per_token = l->kv_bytes / ((uint64_t)SEQUENCES * (uint64_t)max_len);
    info->weight_bytes = 0;
    for (int i = 0; i < model_weights(l->model); i++)
        info->weight_bytes += l->api->weight_bytes(model_weight(l->model, i));
    info->predicted_bytes = info->weight_bytes + info->kv_bytes + info->arena_bytes;
    return STATUS_OK;
}
static uint64_t largest_tensor(struct loaded *l) {
    uint64_t most = 0;
    for (int i = 0; i < model_weights(l->model); i++)
        if (model_weight(l->model, i)->bytes > most) most = model_weight(l->model, i)->bytes;
    return most;
}
/* Context lengths are fitted to the memory that is free now; only a length the user asked for is never changed. */
static int fit(struct loaded *l, const struct load_options *o, struct err *e) {
    struct engine_model *info = &l->info;
    const int want = o->max_model_len ? o->max_model_len : info->context;
    if (want < 1 || want > info->context)
        return err_set(e, STATUS_INVALID, "--max-model-len %d: %s was trained for 1 to %d tokens", want, info->name,
                       info->context);
    if (record(l, want, e)) return e->code;
    const uint64_t fixed = info->weight_bytes + info->arena_bytes + largest_tensor(l) + HEADROOM;
    const uint64_t free_bytes = machine_memory().available;
    if (fixed + info->kv_bytes <= free_bytes) return STATUS_OK;
    const uint64_t rows = free_bytes > fixed ? (free_bytes - fixed) / info->kv_bytes_per_token / SEQUENCES : 0;
    const int fits = rows < (uint64_t)info->context ? (int)rows / LEN_STEP * LEN_STEP : info->context;
    if (fits && !o->max_model_len) {
        snprintf(info->notice, sizeof info->notice,
                 "context shrunk from %d to %d tokens to fit %.1f GiB of free memory", want, fits,
                 (double)free_bytes / GIB);
        return record(l, fits, e);
    }
    err_set(e, STATUS_NOMEM,
            "%s needs %.2f GiB (weights %.2f, KV cache %.2f for %d tokens, work %.2f), %.2f GiB is free: nothing was "
            "read. ",
            info->name, (double)(fixed + info->kv_bytes) / GIB, (double)info->weight_bytes / GIB,
            (double)info->kv_bytes / GIB, want, (double)(info->arena_bytes + largest_tensor(l) + HEADROOM) / GIB,
            (double)free_bytes / GIB);
    const size_t n = strlen(e->text);
    if (fits)
        snprintf(e->text + n, sizeof e->text - n, "--max-model-len %d fits", fits);
    else
        snprintf(e->text + n, sizeof e->text - n, "%%unload other models, or take a smaller model or dtype");
    return e->code;
}

/* ---- open, fill, close ---- */
static int want_dtype(const char *text, enum dtype *want, struct err *e) {
    *want = !text || !strcasecmp(text, "auto") ? DTYPE_NONE : dtype_parse(text);
    if (!text || !strcasecmp(text, "auto") || *want == DTYPE_F32 || *want == DTYPE_F16) return STATUS_OK;
    return err_set(e, STATUS_INVALID, "--dtype %s: this version packs auto (as stored), fp32 and fp16", text);
}
int loaded_open(struct loaded *l, const struct backend_api *api, struct backend *be, const struct load_options *o,
                struct err *e) {
    *l = (struct loaded){ .api = api, .be = be };
    buf_init(&l->system, 1 << 16);
    const struct catalog_entry *entry = NULL;
    enum dtype want;
    if (want_dtype(o->dtype, &want, e) || open_file(&l->gguf, &l->config, o->name, &entry, e) ||
        tokenizer_from_gguf(&l->tok, l->gguf, e) || model_open(&l->model, l->gguf, &l->config, want, e))
        return e->code;
    describe(&l->info, l->gguf, &l->config, entry);
    snprintf(l->info.dtype, sizeof l->info.dtype, "%s",
             want == DTYPE_NONE ? stored_dtype(l->gguf) : dtype_info(want)->name);
    l->info.params = model_params(l->model);
    struct gguf_string jinja = { "", 0 };
    if (entry && entry->system)
        buf_puts(&l->system, entry->system);
    else if (gguf_text(l->gguf, "tokenizer.chat_template", &jinja))
        template_system(jinja.p, jinja.n, &l->system);
    stop_at(l, tokenizer_eos(l->tok));
    stop_at(l, tokenizer_find(l->tok, "<|endoftext|>"));
    stop_at(l, tokenizer_find(l->tok, "<|im_end|>"));
    return fit(l, o, e);
}
static int read_tensor(struct loaded *l, const struct weight *w, char *to, double *done, const struct load_options *o,
                       struct err *e) {
    for (uint64_t at = 0; at < w->bytes;) {
        const uint64_t left = w->bytes - at, n = left < SLICE ? left : SLICE;
        const ssize_t got = pread(gguf_fd(l->gguf), to + at, (size_t)n, (off_t)(w->offset + at));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_set(e, STATUS_IO, "%s: reading '%s': %s", l->info.file, w->name, strerror(errno));
        if (!got)
            return err_set(e, STATUS_FORMAT, "%s: the file ends inside '%s'; download it again", l->info.file, w->name);
        at += (uint64_t)got;
        *done += (double)got;
        if (o->progress && o->progress(o->arg, *done, (double)l->info.file_bytes))
            return err_set(e, STATUS_CANCELLED, "interrupted");
    }
    return STATUS_OK;
}
static int read_weights(struct loaded *l, const struct load_options *o, struct err *e) {
    char *staging = mem_alloc((size_t)largest_tensor(l));
    double done = 0;
    uint64_t held = UINT64_MAX; /* offset of the tensor that lies in staging: several weights may share one */
    if (!staging)
        return err_set(e, STATUS_NOMEM, "no memory for %.1f MiB of read buffer", (double)largest_tensor(l) / MIB);
    for (int i = 0; i < model_weights(l->model) && !e->code; i++) {
        struct weight *w = model_weight(l->model, i);
        if (w->offset == held || !read_tensor(l, w, staging, &done, o, e)) l->api->fill(l->be, w, staging, e);
        held = w->offset;
    }
    mem_free(staging);
    return e->code;
}
/* The KV pool and the arena, for good: the backend takes them now, so that no later step can fail for memory. */
static int take_memory(struct loaded *l, struct err *e) {
    l->arena = l->api->alloc(l->be, l->arena_bytes);
    l->kv = l->api->alloc(l->be, l->kv_bytes);
    if (!l->arena || !l->kv)
        return err_set(e, STATUS_NOMEM, "no memory for the KV cache (%.1f MiB); try a smaller --max-model-len",
                       (double)l->kv_bytes / MIB);
    program_link(&l->decode, l->arena, l->kv);
    program_link(&l->prefill, l->arena, l->kv);
    return STATUS_OK;
}
int loaded_fill(struct loaded *l, const struct load_options *o, struct err *e) {
    struct program *const p[2] = { &l->decode, &l->prefill };
    const uint64_t before = machine_resident();
    const double t0 = now_us();
    l->info.from_page_cache = machine_cached_share(gguf_fd(l->gguf), l->info.file_bytes) > 0.5;
    if (l->api->place(l->be, p, 2, &l->slab, e) || read_weights(l, o, e)) return e->code;
    const double seconds = (now_us() - t0) * 1e-6;
    l->info.read_mib_s = (double)l->info.file_bytes / MIB / seconds;
    if (take_memory(l, e)) return e->code;
    for (int i = 0; i < SEQUENCES; i++) l->seq[i].base = i * l->info.max_model_len;
    const uint64_t after = machine_resident();
    l->info.measured_bytes = after > before ? after - before : 0;
    l->info.loaded = true;
    log_at(LOG_INFO, "loaded %s: %.1f MiB in %.2f s", l->info.name, (double)l->info.file_bytes / MIB, seconds);
    return STATUS_OK;
}
void loaded_close(struct loaded *l) {
    program_fini(&l->decode);
    program_fini(&l->prefill);
    if (l->arena) l->api->free(l->be, l->arena, l->arena_bytes);
    if (l->kv) l->api->free(l->be, l->kv, l->kv_bytes);
    if (l->slab) l->api->drop(l->be, l->slab);
    for (int i = 0; i < SEQUENCES; i++) ids_fini(&l->seq[i].tokens);
    model_close(l->model);
    tokenizer_close(l->tok);
    gguf_close(l->gguf);
    buf_fini(&l->system);
    *l = (struct loaded){ 0 };
}
struct sequence *loaded_sequence(struct loaded *l, const char *session) {
    struct sequence *oldest = &l->seq[0];
    for (int i = 0; i < SEQUENCES; i++) {
        if (session && *session && !strcmp(l->seq[i].owner, session))
            oldest = &l->seq[i];
        else if (l->seq[i].used < oldest->used && strcmp(oldest->owner, session ? session : "") != 0)
            oldest = &l->seq[i];
    }
    if (!session || strcmp(oldest->owner, session) != 0) oldest->tokens.n = 0;
    snprintf(oldest->owner, sizeof oldest->owner, "%s", session ? session : "");
    oldest->used = ++l->clock;
    return oldest;
}
