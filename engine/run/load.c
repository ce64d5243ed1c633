#include "load.h"
#include "base/log.h"
#include "base/mem.h"
#include "eyes.h"
#include "job.h"
#include "machine.h"
#include "model/lora.h"
#include "reader.h"
#include "seat.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const double MIB = 1024 * 1024;
enum { FIRST_PIECE = 32 };                           /* rows of a prompt in one turn, before any was measured */
static const uint64_t HEADROOM = UINT64_C(64) << 20; /* for the tokeniser, threads and allocators */
/* On a device: staging, step blocks, kernels that are loaded when first used, what the allocator rounds up. */
static const uint64_t DEVICE_SLACK = UINT64_C(256) << 20;

/* What is read, in file order: the language model's tensors, then those of the image path. */
struct item {
    struct weight *w;
    const struct checkpoint_file *file;
    int group; /* which file, in the order of reading */
    int at;    /* its extent */
};
struct list {
    struct item *item;
    int n;
    struct extent *x; /* each tensor once: several weights may share one */
    int extents;
};
static void list_fini(struct list *k) {
    mem_free(k->item);
    mem_free(k->x);
}
static int by_place(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    if (x->group != y->group) return x->group - y->group;
    if (x->w->offset != y->w->offset) return x->w->offset < y->w->offset ? -1 : 1;
    return x->w->first - y->w->first;
}
static int group_of(const struct source *s, const struct checkpoint_file *f) {
    int group = checkpoint_files(s->file);
    for (int i = 0; i < s->parts; i++)
        for (int k = 0; k < checkpoint_files(s->part[i]); k++, group++)
            if (checkpoint_file(s->part[i], k) == f) return group;
    return group;
}
static int list_open(struct list *k, const struct loaded *l, struct err *e) {
    struct vision *v = l->eyes ? l->eyes->vision : NULL;
    const int n = model_weights(l->model), more = vision_weights(v);
    *k = (struct list){ .item = mem_zero((size_t)(n + more), sizeof *k->item),
                        .x = mem_zero((size_t)(n + more), sizeof *k->x) };
    if (!k->item || !k->x) return err_set(e, STATUS_NOMEM, "no memory for a list of %d weights", n + more);
    for (int i = 0; i < n; i++) {
        struct weight *w = model_weight(l->model, i);
        k->item[k->n++] = (struct item){ w, checkpoint_file(l->source.file, w->file), w->file, 0 };
    }
    for (int i = 0; i < more; i++) {
        const struct checkpoint_file *f = vision_weight_file(v, i);
        if (!f) continue; /* in no file */
        k->item[k->n++] = (struct item){ vision_weight(v, i), f, group_of(&l->source, f), 0 };
    }
    qsort(k->item, (size_t)k->n, sizeof *k->item, by_place);
    for (int i = 0; i < k->n; i++) {
        struct item *it = &k->item[i];
        if (!i || it[-1].group != it->group || it[-1].w->offset != it->w->offset)
            k->x[k->extents++] =
                (struct extent){ it->file->fd, it->file->path, it->w->name, it->w->offset, it->w->bytes };
        it->at = k->extents - 1;
    }
    return STATUS_OK;
}
uint64_t loaded_staging(const struct loaded *l) {
    if (l->api->memory) return DEVICE_SLACK; /* the files pass through the host's memory */
    struct list k = { 0 };
    struct err none = { 0 };
    const uint64_t bytes = l->source.dummy || list_open(&k, l, &none) ? 0 : reader_window(k.x, k.extents);
    list_fini(&k);
    return bytes + HEADROOM;
}

uint64_t load_staging(const struct backend_api *api, uint64_t largest) {
    return api->memory ? DEVICE_SLACK : reader_room(largest) + HEADROOM;
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
static void choose_formats(struct loaded *l, enum dtype want) {
    static const char *const users[] = { [DTYPE_Q8_0] = "int8", [DTYPE_Q4_0] = "int4" };
    struct engine_model *info = &l->info;
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
}
static void stamp_files(struct stamp *s, const struct checkpoint *c) {
    for (int i = 0; c && i < checkpoint_files(c); i++) {
        struct stat st;
        if (fstat(checkpoint_file(c, i)->fd, &st)) continue;
        const uint64_t number[] = { st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
                                    (uint64_t)st.st_mtim.tv_nsec };
        for (size_t k = 0; k < sizeof number / sizeof *number; k++)
            s->number[k] = (s->number[k] ^ number[k]) * UINT64_C(1099511628211); /* FNV-1a, a number at a time */
    }
}
static void take_stamp(struct loaded *l) {
    struct stamp *s = &l->stamp;
    const char *file = l->info.file[0] ? l->info.file : l->info.name; /* made up from a name alone */
    snprintf(s->file, sizeof s->file, "%s", file);
    snprintf(s->dtype, sizeof s->dtype, "%s", l->info.dtype);
    snprintf(s->vision_dtype, sizeof s->vision_dtype, "%s", l->info.vision_dtype);
    snprintf(s->format, sizeof s->format, "%s", l->source.dummy ? "dummy" : l->info.format);
    stamp_files(s, l->source.file);
    for (int i = 0; i < l->source.parts; i++) stamp_files(s, l->source.part[i]);
}
bool loaded_same(const struct loaded *a, const struct loaded *b) {
    return !memcmp(&a->stamp, &b->stamp, sizeof a->stamp);
}
static void own_system(struct loaded *l) {
    size_t n = 0;
    const char *jinja = tokenizer_chat_template(l->tok, &n);
    if (l->source.entry && l->source.entry->system)
        buf_puts(&l->system, l->source.entry->system);
    else
        template_system(jinja, n, &l->system);
}
static int choose_eyes(struct loaded *l, const char *dtype, struct err *e) {
    if (!l->source.sees && dtype && strcasecmp(dtype, "auto") != 0)
        return err_set(e, STATUS_INVALID, "--vision-dtype %.24s: %s reads text alone, it has no image encoder", dtype,
                       l->info.name);
    if (!l->source.sees) return STATUS_OK;
    l->eyes = eyes_open(&l->source, dtype, l->api, l->be, e);
    if (!l->eyes) return e->code;
    snprintf(l->info.vision_dtype, sizeof l->info.vision_dtype, "%s", eyes_dtype(l->eyes));
    l->info.vision_bytes = l->eyes->weight_bytes;
    l->info.vision_work_bytes = l->eyes->work_bytes;
    return STATUS_OK;
}
int loaded_open(struct loaded *l, const struct backend_api *api, struct backend *be, const struct load_options *o,
                struct err *e) {
    *l = (struct loaded){ .api = api, .be = be };
    buf_init(&l->system, 1 << 16);
    atomic_init(&l->piece, FIRST_PIECE);
    enum dtype want;
    const char *format = o->load_format ? o->load_format : "auto";
    const bool dummy = !strcasecmp(format, "dummy");
    if (!dummy && strcasecmp(format, "auto") != 0)
        return err_set(e, STATUS_INVALID, "--load-format %.24s: choose auto or dummy", format);
    if (source_want(o->dtype, &want, e) || source_open(&l->source, &o->name, dummy ? NEED_DUMMY : NEED_WEIGHTS, e))
        return e->code;
    source_describe(&l->source, NULL, &l->info);
    choose_formats(l, want);
    if (choose_eyes(l, o->vision_dtype, e)) return e->code;
    take_stamp(l);
    return STATUS_OK;
}
int loaded_bind(struct loaded *l, const struct load_options *o, struct err *e) {
    enum dtype want;
    if (source_want(o->dtype, &want, e) || source_tokenizer(&l->source, &l->tok, e) ||
        model_open(&l->model, source_weights(&l->source), &l->source.config, want, e))
        return e->code;
    for (int i = 0; i < l->source.parts && !l->lora; i++)
        if (lora_open(&l->lora, l->source.part[i], e)) return e->code;
    if (l->lora && source_weights(&l->source) && lora_check(l->lora, l->model, e)) return e->code;
    source_describe(&l->source, l->tok, &l->info);
    choose_formats(l, want);
    own_system(l);
    stop_rules(l);
    return STATUS_OK;
}

/* ---- fill ---- */
struct filling {
    struct loaded *l;
    const struct load_options *o;
    const struct load_turn *turn;
    uint64_t before;
    double total;
};
/* Bytes of the device that are taken, or of this process where the CPU computes. */
static uint64_t used(const struct loaded *l) {
    if (!l->api->memory) return machine_resident();
    const struct device_memory d = l->api->memory(l->be);
    return d.total - d.free;
}
static void take(const struct filling *f) {
    if (f->turn) f->turn->take(f->turn->arg);
}
static int give(const struct filling *f, int rc) {
    if (f->turn) f->turn->give(f->turn->arg);
    return rc;
}
static int pack(const struct filling *f, const struct weight *w, const void *bytes, struct err *e) {
    char *merged = NULL;
    if (lora_touches(f->l->lora, w)) {
        if (!(merged = mem_copy(bytes, (size_t)w->bytes)))
            return err_set(e, STATUS_NOMEM, "no memory to merge LoRA into %s", w->name);
        bytes = merged;
    }
    if (!merged || !lora_merge(f->l->lora, w, merged, e)) {
        take(f);
        give(f, f->l->api->fill(f->l->be, w, bytes, e));
    }
    mem_free(merged);
    return e->code;
}
static bool tell(void *arg, double done) {
    struct filling *f = arg;
    const uint64_t now = used(f->l);
    if (now > f->before && now - f->before > f->l->info.peak_bytes) f->l->info.peak_bytes = now - f->before;
    return f->o->progress && f->o->progress(f->o->arg, done, f->total);
}
static char *ring_of(const struct loaded *l, size_t bytes) {
    return l->api->host_alloc ? l->api->host_alloc(l->be, bytes) : mem_alloc(bytes);
}
/* Of the image path's, what no file holds. */
static int fill_constants(const struct filling *f, struct err *e) {
    struct vision *v = f->l->eyes ? f->l->eyes->vision : NULL;
    for (int i = 0; i < vision_weights(v) && !e->code; i++) {
        if (vision_weight_file(v, i)) continue;
        void *bytes = vision_weight_read(v, i, e);
        if (bytes) pack(f, vision_weight(v, i), bytes, e);
        mem_free(bytes);
    }
    return e->code;
}
static int read_weights(struct filling *f, struct err *e) {
    struct loaded *l = f->l;
    struct list k;
    struct reader *r = NULL;
    const void *bytes = NULL;
    double done = 0;
    char *ring = NULL;
    if (!list_open(&k, l, e)) {
        ring = ring_of(l, reader_window(k.x, k.extents));
        if (!ring)
            err_set(e, STATUS_NOMEM, "no memory for the %.1f MiB that weights are read into",
                    (double)reader_window(k.x, k.extents) / MIB);
        else
            reader_open(&r, k.x, k.extents, ring, e);
    }
    if (l->eyes) l->info.file_bytes = 0; /* of a checkpoint, what trained it is not read */
    for (int i = 0; l->eyes && i < k.extents; i++) l->info.file_bytes += k.x[i].bytes;
    f->total = (double)l->info.file_bytes;
    for (int i = 0, held = -1; i < k.n && !e->code; i++) {
        const struct weight *w = k.item[i].w;
        if (k.item[i].at != held) {
            bytes = reader_next(r, tell, f, e);
            held = k.item[i].at;
            done += (double)w->bytes;
        }
        if (bytes && !pack(f, w, bytes, e) && tell(f, done)) err_set(e, STATUS_CANCELLED, "interrupted");
    }
    if (r) l->info.disk_ms = reader_waited_ms(r);
    reader_close(r);
    if (l->api->host_alloc)
        l->api->host_free(l->be, ring);
    else
        mem_free(ring);
    list_fini(&k);
    return e->code ? e->code : fill_constants(f, e);
}
/* Random numbers of a size that keeps activations of the order of one, so that no kernel meets infinities. */
static int make_up(struct filling *f, struct err *e) {
    struct loaded *l = f->l;
    double done = 0;
    struct vision *v = l->eyes ? l->eyes->vision : NULL;
    const int text = model_weights(l->model);
    for (int i = 0; i < text + vision_weights(v); i++) {
        const struct weight *w = i < text ? model_weight(l->model, i) : vision_weight(v, i - text);
        const size_t n = strlen(w->name);
        const bool bias = n > 4 && !strcmp(w->name + n - 4, "bias"), vector = w->cols == 1;
        const float dev = vector ? 0.02f : 1 / sqrtf((float)w->cols);
        take(f);
        if (give(f, l->api->dummy(l->be, w, vector && !bias ? 1.0f : 0.0f, dev, (uint64_t)i, e))) return e->code;
        done += (double)l->api->weight_bytes(w);
        if (tell(f, done)) return err_set(e, STATUS_CANCELLED, "interrupted");
    }
    return STATUS_OK;
}
/* The first touch of fresh pages is as slow as a disk: where the CPU computes, KV cache and work area are taken beside the
 * reading, on a thread of their own. A device's memory is taken behind it, in this thread's turn. */
struct seating {
    struct seat *seat;
    struct err err;
    pthread_t thread;
    bool beside;
};
static void *take_seat(void *arg) {
    struct seating *s = arg;
    struct eyes *eyes = s->seat->l->eyes;
    if (!seat_take(s->seat, &s->err) && eyes) eyes_take(eyes, &s->err);
    return NULL;
}
static void begin_seating(struct seating *s) {
    s->beside = !s->seat->l->api->memory && !pthread_create(&s->thread, NULL, take_seat, s);
}
static int end_seating(struct seating *s, const struct filling *f, struct err *e) {
    if (s->beside)
        pthread_join(s->thread, NULL);
    else if (!e->code) {
        take(f);
        take_seat(s);
        give(f, 0);
    }
    if (s->err.code && !e->code) *e = s->err;
    return e->code;
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
int loaded_fill(struct loaded *l, struct seat *first, const struct load_options *o, const struct load_turn *turn,
                struct err *e) {
    struct engine_model *info = &l->info;
    const bool dummy = l->source.dummy;
    info->weight_bytes = first->info.weight_bytes;
    struct filling f = { l, o, turn, used(l), (double)(dummy ? info->weight_bytes : info->file_bytes) };
    struct program *p[PROGRAMS];
    for (int i = 0; i < PROGRAMS; i++) p[i] = &first->program[i];
    info->from_page_cache = !dummy && cached(l);
    const double t0 = now_us();
    take(&f);
    l->api->place(l->be, p, PROGRAMS, &l->slab, e);
    if (give(&f, e->code || !l->eyes ? e->code : eyes_place(l->eyes, e))) return e->code;
    struct seating seating = { .seat = first };
    begin_seating(&seating);
    dummy ? make_up(&f, e) : read_weights(&f, e);
    const double seconds = (now_us() - t0) * 1e-6;
    info->read_mib_s = dummy ? 0 : (double)info->file_bytes / MIB / seconds;
    if (l->api->fill_ms) l->api->fill_ms(l->be, &info->copy_ms, &info->pack_ms);
    if (end_seating(&seating, &f, e)) return e->code;
    tell(&f, f.total);
    const uint64_t after = used(l);
    info->measured_bytes = after > f.before ? after - f.before : 0;
    info->loaded = true;
    log_at(LOG_INFO, "loaded %s: %.1f MiB in %.2f s", info->name, f.total / MIB, seconds);
    return STATUS_OK;
}
void loaded_close(struct loaded *l) {
    if (l->slab) l->api->drop(l->be, l->slab);
    eyes_close(l->eyes);
    lora_close(l->lora);
    model_close(l->model);
    tokenizer_close(l->tok);
    source_close(&l->source);
    buf_fini(&l->system);
    *l = (struct loaded){ 0 };
}
