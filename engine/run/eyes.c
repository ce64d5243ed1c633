#include "eyes.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    KEPT_BYTES = 64 << 20, /* of encoded pictures, in the host's memory */
    CALLS = 5              /* of a stage in one turn: a block of the encoder, once fused */
};
struct kept {
    struct picture_key key;
    float *rows;
    struct kept *next;
};
struct picture_key picture_key(const void *bytes, size_t n) {
    const XXH128_hash_t h = XXH3_128bits(bytes, n);
    return (struct picture_key){ { h.low64, h.high64 } };
}

/* ---- life ---- */
int eyes_want(const char *text, const struct backend_api *api, struct backend *be, enum dtype *want, struct err *e) {
    *want = DTYPE_NONE;
    if (!text || !strcasecmp(text, "auto")) { /* a CPU has no products of fp16 and widens them to fp32 */
        if (!api->memory && be && strstr(api->isa(be), "bf16")) *want = DTYPE_BF16;
        return STATUS_OK;
    }
    *want = dtype_parse(text);
    if (*want == DTYPE_F32 || *want == DTYPE_F16 || *want == DTYPE_BF16 || *want == DTYPE_Q8_0) return STATUS_OK;
    return err_set(e, STATUS_INVALID, "--vision-dtype %.24s: choose auto, fp32, fp16, bf16 or int8", text);
}
const char *eyes_dtype(const struct eyes *s) {
    return s->want == DTYPE_Q8_0 ? "int8" : dtype_word(s->want == DTYPE_NONE ? DTYPE_F16 : s->want);
}
struct eyes *eyes_open(const struct source *from, const char *dtype, const struct backend_api *api, struct backend *be,
                       struct err *e) {
    struct eyes *s = mem_zero(1, sizeof *s);
    if (!s) return err_set(e, STATUS_NOMEM, "no memory for an image path"), NULL;
    *s = (struct eyes){ .api = api, .be = be, .config = from->vision };
    pthread_mutex_init(&s->lock, NULL);
    const bool files = !from->dummy && from->parts > 0;
    if (!eyes_want(dtype, api, be, &s->want, e))
        vision_open(&s->vision, files ? (const struct checkpoint *const *)from->part : NULL, files ? from->parts : 0,
                    &s->config, s->want, e);
    for (int i = 0; i < VISION_STAGES && !e->code; i++) {
        struct program *p = &s->program[i];
        program_init(p, api, be, 1, 1, 1);
        s->io[i] = vision_record(s->vision, (enum vision_stage)i, p);
        program_fuse(p);
        if (!program_plan(p, e)) s->work_bytes += p->need[REGION_ARENA];
    }
    for (int i = 0; i < vision_weights(s->vision) && !e->code; i++)
        s->weight_bytes += api->weight_bytes(vision_weight(s->vision, i));
    if (!e->code) return s;
    eyes_close(s);
    return NULL;
}
void eyes_close(struct eyes *s) {
    if (!s) return;
    for (int i = 0; i < VISION_STAGES; i++) {
        const size_t bytes = s->program[i].need[REGION_ARENA];
        program_fini(&s->program[i]);
        if (s->arena[i]) s->api->free(s->be, s->arena[i], bytes);
    }
    if (s->slab) s->api->drop(s->be, s->slab);
    vision_close(s->vision);
    for (struct kept *k = s->kept, *next; k; k = next) {
        next = k->next;
        mem_free(k->rows);
        mem_free(k);
    }
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}
int eyes_place(struct eyes *s, struct err *e) {
    struct program *all[VISION_STAGES];
    int n = 0;
    for (int i = 0; i < VISION_STAGES; i++)
        if (s->program[i].n) all[n++] = &s->program[i];
    return s->api->place(s->be, all, n, &s->slab, e);
}
int eyes_take(struct eyes *s, struct err *e) {
    for (int i = 0; i < VISION_STAGES; i++) {
        struct program *p = &s->program[i];
        if (!p->n) continue;
        s->arena[i] = s->api->alloc(s->be, p->need[REGION_ARENA]);
        if (!s->arena[i])
            return err_set(e, s->api->memory ? STATUS_DEVMEM : STATUS_NOMEM,
                           "no memory for the work area of the image path (%.1f MiB)",
                           (double)p->need[REGION_ARENA] / (1 << 20));
        if (program_link(p, s->arena[i], NULL, e)) return e->code;
    }
    return STATUS_OK;
}

/* ---- what is kept; under the lock ---- */
static size_t rows_of(const struct eyes *s) { return (size_t)vision_tokens(&s->config) * (size_t)s->config.out; }
static bool known(struct eyes *s, struct picture_key key, float *to) {
    for (struct kept **at = &s->kept; *at; at = &(*at)->next) {
        struct kept *k = *at;
        if (!picture_same(k->key, key)) continue;
        *at = k->next;
        k->next = s->kept;
        s->kept = k;
        memcpy(to, k->rows, rows_of(s) * sizeof *to);
        return true;
    }
    return false;
}
/* Without memory it is not kept, which costs time and nothing else. */
static void keep(struct eyes *s, struct picture_key key, const float *rows) {
    const size_t each = rows_of(s) * sizeof *rows;
    struct kept *k = mem_zero(1, sizeof *k);
    if (k) k->rows = mem_alloc(each);
    if (!k || !k->rows) return mem_free(k);
    memcpy(k->rows, rows, each);
    k->key = key;
    k->next = s->kept;
    s->kept = k;
    size_t sum = 0;
    for (struct kept **at = &s->kept; *at;) {
        struct kept *old = *at;
        if ((sum += each) <= KEPT_BYTES || old == k) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        mem_free(old->rows);
        mem_free(old);
    }
}

/* ---- computing ---- */
static size_t size(struct mat m) { return (size_t)m.rows * (size_t)m.cols; }
/* Numbers of the host that go through a stage. table NULL: it has none. */
struct flow {
    const float *in, *table;
    float *out;
};
static int stage(struct eyes *s, struct job *job, enum vision_stage i, struct flow f, struct watch *w, double *ms,
                 struct err *e) {
    const struct program *p = &s->program[i];
    const struct vision_io *io = &s->io[i];
    const double t0 = now_us() - job->waited_us;
    job_step(job);
    job_turn_take(job);
    if (!program_put(p, io->in, f.in, size(io->in), e) && f.table)
        program_put(p, io->table, f.table, size(io->table), e);
    job_turn_give(job);
    if (e->code) return e->code;
    if (w ? job_replay(job, &s->program[i], w, e) : job_replay_in_turns(job, &s->program[i], CALLS, e)) return e->code;
    job_turn_take(job);
    program_get(p, io->out, f.out, size(io->out), e);
    job_turn_give(job);
    *ms += (now_us() - job->waited_us - t0) * 1e-3;
    return e->code;
}
/* The host's side of a picture's way: one block of memory for all of it. */
struct way {
    float *block, *patches, *table, *encoded, *merged;
};
static int way_open(struct way *w, const struct eyes *s, const struct image *m, struct err *e) {
    const struct vision_config *c = &s->config;
    const struct vision_io *io = s->io;
    const size_t n[] = { size(io[VISION_ENCODE].in), size(io[VISION_ENCODE].table), size(io[VISION_ENCODE].out),
                         size(io[VISION_PROJECT].in) };
    w->block = mem_alloc((n[0] + n[1] + n[2] + n[3]) * sizeof *w->block);
    if (!w->block) return err_set(e, STATUS_NOMEM, "no memory for a picture's numbers");
    w->patches = w->block;
    w->table = w->patches + n[0];
    w->encoded = w->table + n[1];
    w->merged = w->encoded + n[2];
    vision_table(s->vision, w->table);
    return vision_patches(c, m, w->patches, e);
}
static int merge(struct eyes *s, struct job *job, struct way *k, struct watch *w, double *ms, struct err *e) {
    const struct vision_config *c = &s->config;
    if (c->queries) {
        vision_queries(s->vision, k->table); /* smaller than the positions that stood there */
        return stage(s, job, VISION_QUERY, (struct flow){ k->encoded, k->table, k->merged }, w, ms, e);
    }
    const double t0 = now_us();
    vision_join(c, k->encoded, k->merged);
    *ms += (now_us() - t0) * 1e-3;
    return STATUS_OK;
}
/* Under the lock. */
static int run(struct eyes *s, struct job *job, const struct image *m, struct watch *w, float *to, struct eyes_times *t,
               struct err *e) {
    struct way k = { 0 };
    struct watch *const each[VISION_STAGES] = { w, w ? w + 1 : NULL, w ? w + 2 : NULL };
    const double t0 = now_us();
    if (!way_open(&k, s, m, e)) {
        t->encode_ms += (now_us() - t0) * 1e-3;
        const struct flow in = { k.patches, k.table, k.encoded }, out = { k.merged, NULL, to };
        if (!stage(s, job, VISION_ENCODE, in, each[VISION_ENCODE], &t->encode_ms, e) &&
            !merge(s, job, &k, each[VISION_QUERY], &t->merge_ms, e))
            stage(s, job, VISION_PROJECT, out, each[VISION_PROJECT], &t->project_ms, e);
    }
    mem_free(k.block);
    return e->code;
}
int eyes_run(struct eyes *s, struct job *job, const struct image *m, struct watch *w, float *to,
             struct eyes_times *times, struct err *e) {
    pthread_mutex_lock(&s->lock);
    run(s, job, m, w, to, times, e);
    pthread_mutex_unlock(&s->lock);
    return e->code;
}
int eyes_input(const struct vision_config *c, const struct engine_image *m, struct image *out, struct eyes_times *times,
               struct err *e) {
    struct image whole = { 0 };
    const double t0 = now_us();
    *out = (struct image){ 0 };
    if (image_decode(&whole, m->bytes, m->n, m->name ? m->name : "the picture", e)) return e->code;
    const double t1 = now_us();
    image_resize(out, &whole, c->image, c->image, e);
    image_fini(&whole);
    times->decode_ms += (t1 - t0) * 1e-3;
    times->resize_ms += (now_us() - t1) * 1e-3;
    return e->code;
}
int eyes_encode(struct eyes *s, struct job *job, const struct engine_image *m, float *to, struct eyes_times *times,
                struct err *e) {
    const struct picture_key key = picture_key(m->bytes, m->n);
    struct image input = { 0 };
    pthread_mutex_lock(&s->lock); /* who asks for the same picture meanwhile waits, and finds it */
    times->encoded = !known(s, key, to);
    if (times->encoded && !eyes_input(&s->config, m, &input, times, e) && !run(s, job, &input, NULL, to, times, e))
        keep(s, key, to);
    pthread_mutex_unlock(&s->lock);
    image_fini(&input);
    return e->code;
}

/* ---- where it looked ---- */
/* Queries and keys of the attention over all patches in one layer of a stage. */
struct gaze {
    int layer, cols, rows; /* rows: of the keys */
    float *q, *k;
    bool done;
};
static void copy_gaze(void *arg, const struct op_call *c, const struct mat *m, int rows) {
    struct gaze *g = arg;
    if (g->done || c->op != OP_LINEAR || c->layer != g->layer || m->cols != g->cols || rows > g->rows) return;
    const bool q = !strcmp(c->label, "attn.q"), k = !strcmp(c->label, "attn.k") && rows == g->rows;
    if (!q && !k) return; /* a Q-Former's layer looks at its own queries first */
    for (int i = 0; i < rows; i++)
        memcpy((q ? g->q : g->k) + (size_t)i * (size_t)g->cols, m->p + (size_t)i * (size_t)m->ld,
               sizeof *g->q * (size_t)g->cols);
    g->done = k;
}
/* The stage once more, not fused, so that queries and keys stand alone; on the same packed weights. */
static int gaze(struct eyes *s, struct job *job, enum vision_stage i, struct flow f, struct gaze *g, struct err *e) {
    struct program p;
    program_init(&p, s->api, s->be, 1, 1, 1);
    const struct vision_io io = vision_record(s->vision, i, &p);
    if (program_plan(&p, e)) return program_fini(&p), e->code;
    const size_t bytes = p.need[REGION_ARENA];
    job_turn_take(job);
    void *arena = s->api->alloc(s->be, bytes);
    if (!arena) err_set(e, STATUS_NOMEM, "no memory to look at the attention");
    if (!e->code && !program_link(&p, arena, NULL, e) && !program_put(&p, io.in, f.in, size(io.in), e))
        program_put(&p, io.table, f.table, size(io.table), e);
    job_turn_give(job);
    struct watch w = { .dump = copy_gaze, .arg = g };
    job_step(job);
    if (!e->code) job_replay(job, &p, &w, e);
    job_turn_take(job);
    program_fini(&p);
    if (arena) s->api->free(s->be, arena, bytes);
    job_turn_give(job);
    return e->code;
}
/* The Q-Former's last look at the patches. */
static int gaze_of_queries(struct eyes *s, struct job *job, struct way *k, struct gaze *g, struct err *e) {
    struct eyes_times t = { 0 };
    if (stage(s, job, VISION_ENCODE, (struct flow){ k->patches, k->table, k->encoded }, NULL, &t.encode_ms, e))
        return e->code;
    vision_queries(s->vision, k->table);
    return gaze(s, job, VISION_QUERY, (struct flow){ k->encoded, k->table, NULL }, g, e);
}
int eyes_attention(struct eyes *s, struct job *job, const struct image *m, const float *share, float *to,
                   struct err *e) {
    const struct vision_config *c = &s->config;
    const int layer = share ? (c->q_layers - 1) / 2 * 2 : c->layers - 1, queries = share ? c->queries : 1;
    struct gaze g = { layer, share ? c->q_hidden : c->hidden, vision_rows(c), NULL, NULL, false };
    const int n = share ? c->q_heads : c->heads;
    const struct attn_of heads = { .heads = n, .kv_heads = n, .head_dim = g.cols / n };
    const size_t rows = (size_t)g.rows, cols = (size_t)g.cols;
    float *block = mem_zero(2 * rows * cols + 2 * rows, sizeof *block), all = 0;
    struct way k = { 0 };
    if (!block) return err_set(e, STATUS_NOMEM, "no memory to look at the attention");
    g.q = block;
    g.k = g.q + rows * cols;
    float *scratch = g.k + rows * cols, *sum = scratch + rows;
    pthread_mutex_lock(&s->lock);
    if (!way_open(&k, s, m, e))
        share ? gaze_of_queries(s, job, &k, &g, e)
              : gaze(s, job, VISION_ENCODE, (struct flow){ k.patches, k.table, NULL }, &g, e);
    pthread_mutex_unlock(&s->lock);
    memset(to, 0, (rows - 1) * sizeof *to);
    for (int i = 0; i < queries && !e->code; i++) {
        memset(sum, 0, rows * sizeof *sum);
        attention_row(g.q + (size_t)i * cols, g.k, heads, g.rows, g.cols, scratch, sum);
        for (size_t t = 1; t < rows; t++) to[t - 1] += sum[t] * (share ? share[i] : 1);
    }
    for (size_t t = 0; t + 1 < rows; t++) all += to[t]; /* what goes to the class token is left out */
    for (size_t t = 0; t + 1 < rows && all > 0; t++) to[t] /= all;
    mem_free(k.block);
    mem_free(block);
    return e->code;
}
