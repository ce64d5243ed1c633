#include "load.h"
#include "base/log.h"
#include "base/mem.h"
#include "job.h"
#include "machine.h"
#include "reader.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const double MIB = 1024 * 1024, GIB = 1024.0 * 1024 * 1024;
enum { LEN_STEP = 256 };                             /* a shrunk context is a multiple of it */
static const uint64_t HEADROOM = UINT64_C(64) << 20; /* for the tokeniser, threads and allocators */

/* ---- sizes ---- */
static size_t more(size_t a, size_t b) { return a > b ? a : b; }

int sizes_of(struct sizes *out, struct program p[PROGRAMS], struct model *m, const struct program *like, int batch,
             struct err *e) {
    const int rows[PROGRAMS] = { 1, batch, CHUNK }, picks[PROGRAMS] = { 1, batch, 1 };
    *out = (struct sizes){ 0 };
    for (int i = 0; i < PROGRAMS; i++) {
        program_fini(&p[i]);
        program_init(&p[i], like->api, like->be, rows[i], picks[i], like->kv_rows);
        p[i].kv = like->kv;
        op_next(&p[i], model_record(m, &p[i]));
        program_fuse(&p[i]);
        if (program_plan(&p[i], e)) return e->code;
        out->kv_bytes = more(out->kv_bytes, p[i].need[REGION_KV]);
        out->arena_bytes = more(out->arena_bytes, p[i].need[REGION_ARENA]);
    }
    for (int i = 0; i < model_weights(m); i++) out->weight_bytes += like->api->weight_bytes(model_weight(m, i));
    for (int i = 0; i < p[PROGRAM_DECODE].n; i++) out->read_bytes += p[PROGRAM_DECODE].call[i].cost.weight_bytes;
    return STATUS_OK;
}
static int record(struct loaded *l, int max_len, struct err *e) {
    const bool fp32 = !strcasecmp(l->info.kv_dtype, "fp32");
    const struct program like = {
        .api = l->api, .be = l->be, .kv_rows = SEQUENCES * max_len, .kv = fp32 ? DTYPE_F32 : DTYPE_F16
    };
    struct sizes s;
    struct engine_model *info = &l->info;
    if (sizes_of(&s, l->program, l->model, &like, BEAMS_MAX, e)) return e->code;
    info->max_model_len = max_len;
    info->kv_bytes = l->kv_bytes = s.kv_bytes;
    info->arena_bytes = l->arena_bytes = s.arena_bytes;
    info->kv_bytes_per_token = l->kv_bytes / ((uint64_t)SEQUENCES * (uint64_t)max_len);
    info->weight_bytes = s.weight_bytes;
    info->predicted_bytes = s.weight_bytes + s.kv_bytes + s.arena_bytes;
    return STATUS_OK;
}
/* Each tensor once, in file order: several weights may share one. at[i]: which extent weight i lies in. */
static int extents(const struct loaded *l, struct extent *x, int *at) {
    int n = 0;
    const struct weight *last = NULL;
    for (int i = 0; i < model_weights(l->model); i++) {
        const struct weight *w = model_weight(l->model, i);
        if (!last || last->file != w->file || last->offset != w->offset) {
            const struct checkpoint_file *f = checkpoint_file(l->source.file, w->file);
            x[n++] = (struct extent){ f->fd, f->path, w->name, w->offset, w->bytes };
        }
        at[i] = n - 1;
        last = w;
    }
    return n;
}
static uint64_t staging(const struct loaded *l) {
    const int n = l->source.dummy ? 0 : model_weights(l->model);
    struct extent *x = mem_zero((size_t)n + 1, sizeof *x);
    int *at = mem_zero((size_t)n + 1, sizeof *at);
    const uint64_t bytes = n && x && at ? reader_window(x, extents(l, x, at)) : 0;
    mem_free(x);
    mem_free(at);
    return bytes;
}
/* Context lengths are fitted to the memory that is free now; only a length the user asked for is never changed. */
static int fit(struct loaded *l, const struct load_options *o, struct err *e) {
    struct engine_model *info = &l->info;
    const int want = o->max_model_len ? o->max_model_len : info->context;
    if (want < 1 || want > info->context)
        return err_set(e, STATUS_INVALID, "--max-model-len %d: %s was trained for 1 to %d tokens", want, info->name,
                       info->context);
    if (record(l, want, e)) return e->code;
    const uint64_t fixed = info->weight_bytes + info->arena_bytes + staging(l) + HEADROOM;
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
            (double)info->kv_bytes / GIB, want, (double)(fixed - info->weight_bytes) / GIB, (double)free_bytes / GIB);
    const size_t n = strlen(e->text);
    if (fits)
        snprintf(e->text + n, sizeof e->text - n, "--max-model-len %d fits", fits);
    else
        snprintf(e->text + n, sizeof e->text - n, "%%unload other models, or --dtype int4; %%fit %s shows what fits",
                 info->name);
    return e->code;
}

/* ---- open ---- */
static void stop_at(struct loaded *l, int id) {
    for (int i = 0; i < l->eos_n; i++)
        if (l->eos[i] == id) return;
    if (id >= 0 && id < l->info.vocab && l->eos_n < EOS_MAX) l->eos[l->eos_n++] = id;
}
/* What ends a text. The catalogue's word stands above the files': configs of the Polyglot family name the wrong id. */
static void stop_rules(struct loaded *l) {
    const struct catalog_entry *entry = l->source.entry;
    const struct model_config *c = &l->source.config;
    for (int i = 0; entry && i < entry->stop_ids; i++) stop_at(l, entry->stop_id[i]);
    if (!l->eos_n) {
        stop_at(l, tokenizer_eos(l->tok));
        for (int i = 0; i < c->eos_n; i++) stop_at(l, c->eos[i]);
    }
    stop_at(l, tokenizer_find(l->tok, "<|endoftext|>"));
    stop_at(l, tokenizer_find(l->tok, "<|im_end|>"));
}
static int choose_formats(struct loaded *l, const struct load_options *o, enum dtype want, struct err *e) {
    static const char *const users[] = { [DTYPE_Q8_0] = "int8", [DTYPE_Q4_0] = "int4" };
    struct engine_model *info = &l->info;
    const char *kv = o->kv_cache_dtype && strcasecmp(o->kv_cache_dtype, "auto") ? o->kv_cache_dtype : NULL;
    const enum dtype kv_dt = kv ? dtype_parse(kv) : DTYPE_NONE;
    if (kv && kv_dt != DTYPE_F32 && kv_dt != DTYPE_F16)
        return err_set(e, STATUS_INVALID, "--kv-cache-dtype %.24s: choose auto, fp32 or fp16", kv);
    char stored[sizeof info->dtype];
    snprintf(stored, sizeof stored, "%s", source_stored(&l->source));
    const enum dtype stays = dtype_parse(stored);
    /* What is quantised in the file keeps its form: a second rounding would only lose. */
    const bool quantised = stays != DTYPE_NONE && dtype_info(stays)->block > 1;
    const bool kept = want == DTYPE_NONE || (quantised && want != DTYPE_F32 && want != DTYPE_F16);
    const char *name = kept ? stored : want == DTYPE_Q8_0 || want == DTYPE_Q4_0 ? users[want] : dtype_word(want);
    if (kept && want != DTYPE_NONE && want != stays)
        snprintf(info->notice, sizeof info->notice,
                 "the file's %s weights are kept: quantising them again would only lose", stored);
    snprintf(info->dtype, sizeof info->dtype, "%s", name);
    const bool fp32 = kv_dt == DTYPE_F32 || (kv_dt == DTYPE_NONE && !strcmp(info->dtype, "fp32"));
    snprintf(info->kv_dtype, sizeof info->kv_dtype, "%s", fp32 ? "fp32" : "fp16");
    return STATUS_OK;
}
static void own_system(struct loaded *l) {
    size_t n = 0;
    const char *jinja = tokenizer_chat_template(l->tok, &n);
    if (l->source.entry && l->source.entry->system)
        buf_puts(&l->system, l->source.entry->system);
    else
        template_system(jinja, n, &l->system);
}
int loaded_open(struct loaded *l, const struct backend_api *api, struct backend *be, const struct load_options *o,
                struct err *e) {
    *l = (struct loaded){ .api = api, .be = be };
    buf_init(&l->system, 1 << 16);
    enum dtype want;
    const char *format = o->load_format ? o->load_format : "auto";
    const bool dummy = !strcasecmp(format, "dummy");
    if (!dummy && strcasecmp(format, "auto") != 0)
        return err_set(e, STATUS_INVALID, "--load-format %.24s: choose auto or dummy", format);
    if (source_want(o->dtype, &want, e) ||
        source_open(&l->source, o->name, o->revision, dummy ? NEED_DUMMY : NEED_WEIGHTS, e) ||
        source_tokenizer(&l->source, &l->tok, e) ||
        model_open(&l->model, source_weights(&l->source), &l->source.config, want, e))
        return e->code;
    source_describe(&l->source, l->tok, &l->info);
    if (choose_formats(l, o, want, e)) return e->code;
    own_system(l);
    stop_rules(l);
    return fit(l, o, e);
}

/* ---- fill ---- */
struct filling {
    struct loaded *l;
    const struct load_options *o;
    uint64_t before;
    double total;
};
static bool tell(void *arg, double done) {
    struct filling *f = arg;
    const uint64_t now = machine_resident();
    if (now > f->before && now - f->before > f->l->info.peak_bytes) f->l->info.peak_bytes = now - f->before;
    return f->o->progress && f->o->progress(f->o->arg, done, f->total);
}
static int read_weights(struct filling *f, struct err *e) {
    struct loaded *l = f->l;
    const int n = model_weights(l->model);
    struct extent *x = mem_zero((size_t)n, sizeof *x);
    int *at = mem_zero((size_t)n, sizeof *at), held = -1;
    struct reader *r = NULL;
    const void *bytes = NULL;
    double done = 0;
    if (!x || !at)
        err_set(e, STATUS_NOMEM, "no memory to read weights");
    else
        reader_open(&r, x, extents(l, x, at), e);
    for (int i = 0; i < n && !e->code; i++) {
        const struct weight *w = model_weight(l->model, i);
        if (at[i] != held) {
            bytes = reader_next(r, tell, f, e);
            held = at[i];
            done += (double)w->bytes;
        }
        if (bytes && !l->api->fill(l->be, w, bytes, e) && tell(f, done)) err_set(e, STATUS_CANCELLED, "interrupted");
    }
    reader_close(r);
    mem_free(x);
    mem_free(at);
    return e->code;
}
/* Random numbers of a size that keeps activations of the order of one, so that no kernel meets infinities. */
static int make_up(struct filling *f, struct err *e) {
    struct loaded *l = f->l;
    double done = 0;
    for (int i = 0; i < model_weights(l->model); i++) {
        const struct weight *w = model_weight(l->model, i);
        const size_t n = strlen(w->name);
        const bool bias = n > 5 && !strcmp(w->name + n - 5, ".bias"), vector = w->cols == 1;
        const float dev = vector ? 0.02f : 1 / sqrtf((float)w->cols);
        if (l->api->dummy(l->be, w, vector && !bias ? 1.0f : 0.0f, dev, (uint64_t)i, e)) return e->code;
        done += (double)l->api->weight_bytes(w);
        if (tell(f, done)) return err_set(e, STATUS_CANCELLED, "interrupted");
    }
    return STATUS_OK;
}
/* The KV pool and the arena, for good: the backend takes them now, so that no later step can fail for memory. */
static int take_memory(struct loaded *l, struct err *e) {
    l->arena = l->api->alloc(l->be, l->arena_bytes);
    l->kv = l->api->alloc(l->be, l->kv_bytes);
    if (!l->arena || !l->kv)
        return err_set(e, STATUS_NOMEM, "no memory for the KV cache (%.1f MiB); try a smaller --max-model-len",
                       (double)l->kv_bytes / MIB);
    for (int i = 0; i < PROGRAMS; i++) program_link(&l->program[i], l->arena, l->kv);
    return STATUS_OK;
}
static bool cached(const struct loaded *l) {
    double share = 0;
    const double total = (double)l->info.file_bytes;
    for (int i = 0; l->source.file && i < checkpoint_files(l->source.file); i++) {
        const struct checkpoint_file *f = checkpoint_file(l->source.file, i);
        share += machine_cached_share(f->fd, f->bytes) * (double)f->bytes / total;
    }
    return share > 0.5;
}
int loaded_fill(struct loaded *l, const struct load_options *o, struct err *e) {
    struct engine_model *info = &l->info;
    const bool dummy = l->source.dummy;
    struct filling f = { l, o, machine_resident(), (double)(dummy ? info->weight_bytes : info->file_bytes) };
    struct program *p[PROGRAMS];
    for (int i = 0; i < PROGRAMS; i++) p[i] = &l->program[i];
    info->from_page_cache = !dummy && cached(l);
    const double t0 = now_us();
    if (l->api->place(l->be, p, PROGRAMS, &l->slab, e)) return e->code;
    if (dummy ? make_up(&f, e) : read_weights(&f, e)) return e->code;
    const double seconds = (now_us() - t0) * 1e-6;
    info->read_mib_s = dummy ? 0 : (double)info->file_bytes / MIB / seconds;
    if (take_memory(l, e)) return e->code;
    for (int i = 0; i < SEQUENCES; i++) l->seq[i].base = i * info->max_model_len;
    tell(&f, f.total);
    const uint64_t after = machine_resident();
    info->measured_bytes = after > f.before ? after - f.before : 0;
    info->loaded = true;
    log_at(LOG_INFO, "loaded %s: %.1f MiB in %.2f s", info->name, f.total / MIB, seconds);
    return STATUS_OK;
}
void loaded_close(struct loaded *l) {
    for (int i = 0; i < PROGRAMS; i++) program_fini(&l->program[i]);
    if (l->arena) l->api->free(l->be, l->arena, l->arena_bytes);
    if (l->kv) l->api->free(l->be, l->kv, l->kv_bytes);
    if (l->slab) l->api->drop(l->be, l->slab);
    for (int i = 0; i < SEQUENCES; i++) ids_fini(&l->seq[i].tokens);
    model_close(l->model);
    tokenizer_close(l->tok);
    source_close(&l->source);
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
