#include "seat.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const double MIB = 1024 * 1024, GIB = 1024.0 * 1024 * 1024;
enum { LEN_STEP = 256 }; /* a shrunk context is a multiple of it */

/* ---- sizes ---- */
static size_t more(size_t a, size_t b) { return a > b ? a : b; }

int sizes_of(struct sizes *out, struct program p[PROGRAMS], struct model *m, const struct program *like, int batch,
             struct err *e) {
    const int rows[PROGRAMS] = { 1, batch, like->api->chunk(like->be) }, picks[PROGRAMS] = { 1, batch, 1 };
    *out = (struct sizes){ 0 };
    for (int i = 0; i < PROGRAMS; i++) {
        program_fini(&p[i]);
        program_init(&p[i], like->api, like->be, rows[i], picks[i], like->kv_rows);
        p[i].kv = like->kv;
        p[i].image_rows = like->image_rows;
        op_next(&p[i], model_record(m, &p[i]));
        program_fuse(&p[i]);
        if (program_plan(&p[i], e)) return e->code;
        out->kv_bytes = more(out->kv_bytes, p[i].need[REGION_KV]);
        out->image_bytes = (uint64_t)p[i].images.rows * (uint64_t)p[i].images.cols * sizeof(float);
        out->arena_bytes = more(out->arena_bytes, p[i].need[REGION_ARENA]);
    }
    for (int i = 0; i < model_weights(m); i++) out->weight_bytes += like->api->weight_bytes(model_weight(m, i));
    for (int i = 0; i < p[PROGRAM_DECODE].n; i++) out->read_bytes += p[PROGRAM_DECODE].call[i].cost.weight_bytes;
    return STATUS_OK;
}
static int record(struct seat *s, int max_len, struct err *e) {
    struct engine_model *info = &s->info;
    const int sequences = info->max_sequences, batch = sequences > BEAMS_MAX ? sequences : BEAMS_MAX;
    const struct program like = {
        .api = s->l->api,
        .be = s->l->be,
        .kv_rows = sequences * max_len,
        .kv = dtype_parse(info->kv_dtype),
        .image_rows = info->max_images * info->image_tokens,
    };
    struct sizes size;
    if (sizes_of(&size, s->program, s->l->model, &like, batch, e)) return e->code;
    info->max_model_len = max_len;
    info->kv_bytes = size.kv_bytes;
    info->arena_bytes = size.arena_bytes;
    info->kv_bytes_per_token = (size.kv_bytes - size.image_bytes) / (uint64_t)program_kv_rows(sequences * max_len);
    info->weight_bytes = size.weight_bytes + info->vision_bytes;
    info->predicted_bytes = info->weight_bytes + size.kv_bytes + size.arena_bytes + info->vision_work_bytes;
    return STATUS_OK;
}
static int choose_kv(struct seat *s, const char *kv, struct err *e) {
    const bool given = kv && strcasecmp(kv, "auto") != 0;
    const enum dtype dt = given ? dtype_parse(kv) : DTYPE_NONE;
    const bool int8 = s->l->api->kv(DTYPE_Q8_0);
    if (given && (dt == DTYPE_NONE || !s->l->api->kv(dt)))
        return err_set(e, STATUS_INVALID, "--kv-cache-dtype %.24s: %s caches in auto, fp32%s", kv, s->l->api->name,
                       int8 ? ", fp16 or int8" : " or fp16");
    const bool fp32 = dt == DTYPE_F32 || (!given && !strcmp(s->info.dtype, "fp32"));
    snprintf(s->info.kv_dtype, sizeof s->info.kv_dtype, "%s", fp32 ? "fp32" : dt == DTYPE_Q8_0 ? "int8" : "fp16");
    return STATUS_OK;
}
static void too_large(const struct seat *s, const struct seat_room *room, int fits, struct err *e) {
    const struct engine_model *info = &s->info;
    const double need = (double)(room->fixed + seat_bytes(s)) / GIB, free_gib = (double)room->free_bytes / GIB;
    const double kv = (double)info->kv_bytes / GIB;
    char each[32] = "";
    if (info->max_sequences > 1) snprintf(each, sizeof each, " x %d sequences", info->max_sequences);
    const int code = s->l->api->memory ? STATUS_DEVMEM : STATUS_NOMEM;
    if (room->fixed)
        err_set(e, code,
                "%s needs %.2f GiB (weights %.2f, KV cache %.2f for %d tokens%s, work %.2f), %.2f GiB is free: nothing "
                "was read. ",
                info->name, need, (double)info->weight_bytes / GIB, kv, info->max_model_len, each,
                need - kv - (double)info->weight_bytes / GIB, free_gib);
    else
        err_set(
            e, code,
            "the weights of %s are there, but its KV cache for %d tokens%s needs %.2f GiB beside those of others, %.2f "
            "GiB is free. ",
            info->name, info->max_model_len, each, need, free_gib);
    const size_t n = strlen(e->text);
    if (fits)
        snprintf(e->text + n, sizeof e->text - n, "--max-model-len %d fits", fits);
    else
        snprintf(e->text + n, sizeof e->text - n, "%%unload other models, or --dtype int4; %%fit %s shows what fits",
                 info->name);
}
static int choose_images(struct seat *s, int images, struct err *e) {
    struct engine_model *info = &s->info;
    if (!info->image_tokens && images)
        return err_set(e, STATUS_INVALID, "--max-images %d: %s reads text alone", images, info->name);
    info->max_images = !info->image_tokens ? 0 : images ? images : IMAGES;
    if (info->max_images < 0 || info->max_images > ENGINE_IMAGES)
        return err_set(e, STATUS_INVALID, "--max-images %d: 1 to %d", images, ENGINE_IMAGES);
    return STATUS_OK;
}
int seat_plan(struct seat *s, struct loaded *l, const struct seat_wish *wish, const struct seat_room *room,
              struct err *e) {
    *s = (struct seat){ .l = l, .info = l->info };
    struct engine_model *info = &s->info;
    const int want = wish->tokens, len = want ? want : info->context;
    info->max_sequences = wish->sequences ? wish->sequences : 1;
    if (info->max_sequences < 1 || info->max_sequences > BATCH_MAX)
        return err_set(e, STATUS_INVALID, "--max-sequences %d: 1 to %d", wish->sequences, BATCH_MAX);
    if (choose_images(s, wish->images, e)) return e->code;
    if (len < 1 || len > info->context)
        return err_set(e, STATUS_INVALID, "--max-model-len %d: %s was trained for 1 to %d tokens", len, info->name,
                       info->context);
    if (choose_kv(s, wish->kv, e) || record(s, len, e)) return e->code;
    const uint64_t fixed = room->fixed + info->arena_bytes;
    if (fixed + info->kv_bytes <= room->free_bytes) return STATUS_OK;
    const uint64_t rows = room->free_bytes > fixed
                              ? (room->free_bytes - fixed) / info->kv_bytes_per_token / (uint64_t)info->max_sequences
                              : 0;
    const int fits = rows < (uint64_t)info->context ? (int)rows / LEN_STEP * LEN_STEP : info->context;
    if (fits && !want) {
        snprintf(info->notice, sizeof info->notice,
                 "context shrunk from %d to %d tokens to fit %.1f GiB of free memory", len, fits,
                 (double)room->free_bytes / GIB);
        return record(s, fits, e);
    }
    too_large(s, room, fits, e);
    return e->code;
}

/* ---- memory ---- */
uint64_t seat_bytes(const struct seat *s) { return s->info.kv_bytes + s->info.arena_bytes; }
int seat_take(struct seat *s, struct err *e) {
    const struct loaded *l = s->l;
    s->arena = l->api->alloc(l->be, s->info.arena_bytes);
    s->kv = l->api->alloc(l->be, s->info.kv_bytes);
    if (!s->arena || !s->kv)
        return err_set(
            e, l->api->memory ? STATUS_DEVMEM : STATUS_NOMEM,
            "no memory for the KV cache (%.1f MiB): another process may have taken it meanwhile; try a smaller "
            "--max-model-len",
            (double)s->info.kv_bytes / MIB);
    for (int i = 0; i < PROGRAMS; i++)
        if (program_link(&s->program[i], s->arena, s->kv, e)) return e->code;
    for (int i = 0; i < SEQUENCES; i++) s->seq[i].base = i * s->info.max_model_len;
    return STATUS_OK;
}
void seat_close(struct seat *s) {
    for (int i = 0; i < PROGRAMS; i++) program_fini(&s->program[i]);
    if (s->arena) s->l->api->free(s->l->be, s->arena, s->info.arena_bytes);
    if (s->kv) s->l->api->free(s->l->be, s->kv, s->info.kv_bytes);
    for (int i = 0; i < SEQUENCES; i++) ids_fini(&s->seq[i].tokens);
    *s = (struct seat){ 0 };
}

struct sequence *seat_sequence(struct seat *s, const char *session) {
    struct sequence *oldest = &s->seq[0];
    for (int i = 0; i < SEQUENCES; i++) {
        if (session && *session && !strcmp(s->seq[i].owner, session))
            oldest = &s->seq[i];
        else if (s->seq[i].used < oldest->used && strcmp(oldest->owner, session ? session : "") != 0)
            oldest = &s->seq[i];
    }
    if (!session || strcmp(oldest->owner, session) != 0) oldest->tokens.n = 0;
    snprintf(oldest->owner, sizeof oldest->owner, "%s", session ? session : "");
    oldest->used = ++s->clock;
    return oldest;
}

int seat_image_id(const struct seat *s, int slot) { return s->info.vocab + slot * s->info.image_tokens; }
static void forget(struct seat *s, int slot) {
    const int from = seat_image_id(s, slot), to = seat_image_id(s, slot + 1);
    for (int i = 0; i < SEQUENCES; i++) {
        struct ids *ids = &s->seq[i].tokens;
        for (size_t k = 0; k < ids->n; k++)
            if (ids->v[k] >= from && ids->v[k] < to) ids->n = k;
    }
}
int seat_slot(struct seat *s, struct picture_key key, unsigned taken, bool *fresh) {
    int oldest = -1;
    *fresh = false;
    for (int i = 0; i < s->info.max_images; i++) {
        if (s->slot[i].used && picture_same(s->slot[i].key, key)) {
            s->slot[i].used = ++s->clock;
            return i;
        }
        if (!(taken >> i & 1) && (oldest < 0 || s->slot[i].used < s->slot[oldest].used)) oldest = i;
    }
    if (oldest < 0) return -1;
    *fresh = true;
    forget(s, oldest);
    s->slot[oldest] = (struct slot){ key, ++s->clock };
    return oldest;
}
