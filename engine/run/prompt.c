/* From a conversation to rows in the KV cache: rendered, encoded, its pictures put where they belong, what is cached reused. */
#include "base/mem.h"
#include "generate.h"
#include "generation.h"
#include <stdio.h>
#include <string.h>

/* ids with a negative number for each picture. */
static int encode(struct generation *r, struct ids *ids, struct err *e) {
    const struct engine_req *q = &r->job->req;
    struct rendered text = { 0 };
    const char *name = q->template_name ? q->template_name : r->l->info.template_name;
    if (q->messages == 1 && !q->message[0].role) name = "raw";
    snprintf(r->done.template_name, sizeof r->done.template_name, "%s", name);
    struct template_message *m = mem_zero((size_t)q->messages, sizeof *m);
    if (!m) return err_set(e, STATUS_NOMEM, "out of memory for the prompt");
    for (int i = 0; i < q->messages; i++) {
        int images = 0;
        for (int k = 0; k < q->images; k++) images += q->image[k].message == i;
        m[i] = (struct template_message){
            .role = q->message[i].role, .text = q->message[i].text, .len = q->message[i].len, .images = images
        };
    }
    if (!template_render(name, r->l->system.n ? buf_text(&r->l->system) : NULL, m, q->messages, &text, e))
        template_encode(r->l->tok, &text, ids, e);
    mem_free(m);
    rendered_fini(&text);
    if (!e->code && !ids->n) err_set(e, STATUS_INVALID, "the prompt is empty: there is nothing to continue");
    const int limit = r->seat->info.max_model_len, tokens = r->l->info.image_tokens;
    const size_t n = ids->n + (size_t)q->images * (size_t)(tokens ? tokens - 1 : 0);
    char pictures[64] = "";
    if (q->images) snprintf(pictures, sizeof pictures, ", %d of them for each picture", tokens);
    if (!e->code && n >= (size_t)limit)
        err_set(e, STATUS_INVALID,
                "the prompt has %zu tokens%s, the context holds %d (one is needed for the answer): shorten it%s", n,
                pictures, limit, limit < r->l->info.context ? ", or %load with a larger --max-model-len" : "");
    return e->code;
}
/* Each picture of the request has its rows in a slot of the seat afterwards; first[i]: the first id that stands for them. */
static int place_pictures(struct generation *r, int *first, struct err *e) {
    const struct engine_req *q = &r->job->req;
    struct seat *seat = r->seat;
    const struct engine_model *info = &seat->info;
    const size_t tokens = (size_t)info->image_tokens;
    float *rows = mem_alloc(tokens * (size_t)info->hidden * sizeof *rows);
    unsigned taken = 0;
    if (!rows) return err_set(e, STATUS_NOMEM, "no memory for a picture");
    for (int i = 0; i < q->images && !e->code; i++) {
        struct eyes_times t = { 0 };
        bool fresh;
        const int slot = seat_slot(seat, picture_key(q->image[i].bytes, q->image[i].n), taken, &fresh);
        if (slot < 0) {
            err_set(e, STATUS_INVALID,
                    "the conversation holds more than %d different pictures: begin a new one (%%chat --reset), or "
                    "%%load with a larger --max-images",
                    info->max_images);
            break;
        }
        taken |= 1u << slot;
        first[i] = seat_image_id(seat, slot);
        if (!fresh) continue;
        if (!eyes_encode(r->l->eyes, r->job, &q->image[i], rows, &t, e)) {
            const struct program *p = &seat->program[PROGRAM_DECODE];
            job_turn_take(r->job);
            program_put_rows(p, p->images, slot * info->image_tokens, rows, info->image_tokens, e);
            job_turn_give(r->job);
        }
        if (e->code) seat->slot[slot] = (struct slot){ { { 0 } }, 0 };
        r->done.images_encoded += t.encoded && !e->code;
        r->done.image_decode_ms += t.decode_ms;
        r->done.image_resize_ms += t.resize_ms;
        r->done.image_encode_ms += t.encode_ms;
        r->done.image_merge_ms += t.merge_ms;
        r->done.image_project_ms += t.project_ms;
    }
    mem_free(rows);
    return e->code;
}
/* Puts the ids of its rows where each picture stands. */
static int expand(struct generation *r, struct ids *ids, struct err *e) {
    const struct engine_req *q = &r->job->req;
    int first[ENGINE_IMAGES];
    struct ids all = { 0 };
    if (!q->images) return STATUS_OK;
    if (place_pictures(r, first, e)) return e->code;
    for (size_t i = 0; i < ids->n; i++) {
        const int id = ids->v[i], n = id < 0 ? r->l->info.image_tokens : 1;
        if (id < 0) r->image_at[-id - 1] = (int)all.n;
        for (int k = 0; k < n && !e->code; k++)
            if (ids_add(&all, id < 0 ? first[-id - 1] + k : id)) err_set(e, STATUS_NOMEM, "no memory for the prompt");
    }
    ids_fini(ids);
    *ids = all;
    r->done.images = q->images;
    r->done.image_tokens = q->images * r->l->info.image_tokens;
    return e->code;
}
static int check_pictures(const struct generation *r, struct err *e) {
    const struct engine_req *q = &r->job->req;
    if (!q->images || r->l->eyes) return STATUS_OK;
    return err_set(e, STATUS_INVALID, "%s reads text alone, it cannot be shown %.80s: %%load minigpt4-7b sees",
                   r->l->info.name, q->image[0].name && *q->image[0].name ? q->image[0].name : "a picture");
}
/* How many leading tokens of ids lie in the KV cache already. The last one is always fed: its logits are wanted. */
static size_t cached(const struct sequence *seq, const struct ids *ids) {
    size_t n = 0;
    while (n < seq->tokens.n && n + 1 < ids->n && seq->tokens.v[n] == ids->v[n]) n++;
    return n;
}
static bool alone(const struct job *job) { return atomic_load(&job->turn->jobs) < 2; }
int prefill_piece(const struct seat *seat, const struct job *job) {
    const int chunk = seat_chunk(seat->l), piece = atomic_load(&seat->l->piece);
    return alone(job) || piece > chunk ? chunk : piece;
}
int prefill(struct seat *seat, struct job *job, const struct ids *ids, size_t at, int base, struct err *e) {
    const double t0 = now_us();
    const size_t from = at;
    while (at < ids->n) {
        const size_t most = (size_t)prefill_piece(seat, job);
        const size_t n = ids->n - at < most ? ids->n - at : most;
        const double t1 = now_us(), waited = job->waited_us;
        bool yielded = false;
        job_step(job);
        step_rows(&job->step, ids->v + at, (int)n, (int)at, base, at + n == ids->n);
        struct program *p = &seat->program[n == 1 ? PROGRAM_DECODE : PROGRAM_PREFILL];
        if ((int)most == seat_chunk(seat->l) && n > 1 ? job_replay_or_yield(job, p, &yielded, e)
                                                      : job_replay(job, p, NULL, e))
            return e->code;
        if (yielded) continue;
        const double ms = (now_us() - t1 - (job->waited_us - waited)) * 1e-3;
        if (n > 1) atomic_store(&seat->l->piece, turn_rows((int)n, ms));
        at += n;
        if (ids->n - from > (size_t)seat_chunk(seat->l))
            job_progress(job, "prefill", (double)(at - from), (double)(ids->n - from), "tok", (now_us() - t0) * 1e-6);
    }
    return STATUS_OK;
}
int generation_prompt(struct generation *r, struct err *e) {
    struct ids ids = { 0 };
    if (check_pictures(r, e) || encode(r, &ids, e) || expand(r, &ids, e)) return ids_fini(&ids), e->code;
    if (r->l->source.sees) { /* its authors' program knows the prompt as numbers only: answers may repeat its words */
        r->penal_from = (int)ids.n;
        r->job->step.sampling[0].penal_from = (int)ids.n;
    }
    const size_t reuse = r->seq->owner[0] ? cached(r->seq, &ids) : 0;
    r->done.prompt_tokens = (int)ids.n;
    r->done.cached_tokens = (int)reuse;
    r->seq->tokens.n = reuse;
    const double t0 = now_us();
    if (!prefill(r->seat, r->job, &ids, reuse, r->seq->base, e)) {
        ids_fini(&r->seq->tokens);
        r->seq->tokens = ids; /* they are in the cache now */
        ids = (struct ids){ 0 };
    }
    r->done.prefill_ms = (now_us() - t0) * 1e-3;
    ids_fini(&ids);
    return e->code;
}
