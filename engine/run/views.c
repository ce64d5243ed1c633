/* What a generation shows of its pictures: what the encoder was given, where it looked, where the answer looked. */
#include "base/mem.h"
#include "generate.h"
#include "generation.h"
#include <stdio.h>
#include <string.h>

enum { EVERY = 4 }; /* which layers of the language model are looked at: the last, and backwards every so many */

/* Attention of the answer's rows, gathered while the conversation is read once more: keys of every row in the layers that
 * count, the queries of the piece under way. */
struct gather {
    int last, layers, q_cols, k_cols, q_buf, k_buf, answer, n; /* answer: the first row of the answer; n: all rows */
    struct attn_of shape;
    int at;       /* first row of the piece */
    float *k, *q; /* [layer][row][k_cols]; of one piece and layer */
    float *sum;   /* shares of every row, over answer rows and layers */
    float *scratch;
};
static void copy_rows(float *to, const struct mat *m, int rows, int cols) {
    for (int i = 0; i < rows; i++)
        memcpy(to + (size_t)i * (size_t)cols, m->p + (size_t)i * (size_t)m->ld, sizeof *to * (size_t)cols);
}
/* Queries and keys as RoPE leaves them. */
static void gather(void *arg, const struct op_call *c, const struct mat *m, int rows) {
    struct gather *g = arg;
    if (c->layer < 0 || (g->last - c->layer) % EVERY) return;
    if (c->op == OP_LINEAR && !strcmp(c->label, "attn.q")) g->q_buf = m->buf;
    if (c->op == OP_LINEAR && !strcmp(c->label, "attn.k")) g->k_buf = m->buf;
    if (c->op != OP_ROPE) return;
    if (m->buf == g->q_buf) return copy_rows(g->q, m, rows, g->q_cols);
    if (m->buf != g->k_buf) return;
    float *k = g->k + (size_t)((g->last - c->layer) / EVERY) * (size_t)g->n * (size_t)g->k_cols;
    copy_rows(k + (size_t)g->at * (size_t)g->k_cols, m, rows, g->k_cols);
    for (int i = 0; i < rows; i++)
        if (g->at + i >= g->answer)
            attention_row(g->q + (size_t)i * (size_t)g->q_cols, k, g->shape, g->at + i + 1, g->k_cols, g->scratch,
                          g->sum);
}
/* Reads tokens [0, n) of the conversation once more with a program that is not fused, so that queries and keys stand alone. */
static int read_again(struct generation *r, struct gather *g, struct err *e) {
    struct seat *seat = r->seat;
    const struct program *like = &seat->program[PROGRAM_PREFILL];
    const int chunk = seat_chunk(r->l);
    struct program p;
    program_init(&p, like->api, like->be, chunk, 1, like->kv_rows);
    p.kv = like->kv;
    p.image_rows = like->image_rows;
    model_record(r->l->model, &p);
    if (program_plan(&p, e)) return program_fini(&p), e->code;
    const size_t bytes = p.need[REGION_ARENA];
    job_turn_take(r->job);
    void *arena = like->api->alloc(like->be, bytes);
    if (!arena) err_set(e, STATUS_NOMEM, "no memory to look at the attention (%.1f MiB)", (double)bytes / (1 << 20));
    if (arena) program_link(&p, arena, seat->kv, e);
    job_turn_give(r->job);
    struct watch w = { .dump = gather, .arg = g };
    for (g->at = 0; g->at < g->n && !e->code;) {
        const int n = g->n - g->at < chunk ? g->n - g->at : chunk;
        job_step(r->job);
        step_rows(&r->job->step, r->seq->tokens.v + g->at, n, g->at, r->seq->base, false);
        job_progress(r->job, "looking where it looked", g->at, g->n, "tok", 0);
        job_replay(r->job, &p, &w, e);
        g->at += n;
    }
    job_turn_take(r->job);
    program_fini(&p);
    if (arena) like->api->free(like->be, arena, bytes);
    job_turn_give(r->job);
    return e->code;
}
static int answer_attention(struct generation *r, float **out, struct err *e) {
    const struct engine_model *info = &r->seat->info;
    struct gather g = { .last = info->layers - 1,
                        .layers = (info->layers + EVERY - 1) / EVERY,
                        .q_cols = info->heads * info->head_dim,
                        .k_cols = info->kv_heads * info->head_dim,
                        .answer = r->done.prompt_tokens,
                        .n = (int)r->seq->tokens.n,
                        .shape = { .heads = info->heads, .kv_heads = info->kv_heads, .head_dim = info->head_dim } };
    const size_t n = (size_t)g.n, chunk = (size_t)seat_chunk(r->l);
    *out = mem_zero(n, sizeof **out);
    g.k = mem_alloc((size_t)g.layers * n * (size_t)g.k_cols * sizeof *g.k);
    g.q = mem_alloc(chunk * (size_t)g.q_cols * sizeof *g.q);
    g.scratch = mem_alloc(n * sizeof *g.scratch);
    g.sum = *out;
    if (!*out || !g.k || !g.q || !g.scratch)
        err_set(e, STATUS_NOMEM, "no memory to look at the answer's attention");
    else
        read_again(r, &g, e);
    const float rows = (float)(g.n - g.answer) * (float)g.layers;
    for (size_t i = 0; i < n && !e->code && rows > 0; i++) (*out)[i] /= rows;
    mem_free(g.k);
    mem_free(g.q);
    mem_free(g.scratch);
    return e->code;
}
/* Of one picture: its rows' shares, laid over its patches. */
static int show_answer(struct generation *r, int i, const struct image *input, const float *share, struct err *e) {
    const struct vision_config *c = &r->l->eyes->config;
    const int side = c->image / c->patch, tokens = vision_tokens(c);
    const float *own = share + r->image_at[i];
    struct engine_view v = { .kind = ENGINE_VIEW_ANSWER, .image = i, .width = side, .height = side };
    float *heat = mem_alloc((size_t)side * (size_t)side * sizeof *heat);
    if (!heat) return err_set(e, STATUS_NOMEM, "no memory to show the attention");
    for (int t = 0; t < tokens; t++) v.share += (double)own[t];
    if (c->queries) { /* a query looks everywhere: where each looked, by how much the answer looked at it */
        eyes_attention(r->l->eyes, r->job, input, own, heat, e);
    } else { /* a row stands for neighbours in a row */
        const int joined = side * side / tokens;
        for (int p = 0; p < side * side; p++)
            heat[p] = v.share > 0 ? own[p / joined] / (float)joined / (float)v.share : 0;
    }
    snprintf(v.about, sizeof v.about,
             "attention of %d answer tokens to the picture, mean of the heads of every %dth of %d layers",
             r->done.new_tokens, EVERY, r->seat->info.layers);
    if (!e->code) send_heat(r->job, &v, &r->job->req.image[i], heat, e);
    mem_free(heat);
    return e->code;
}
static int show_encoder(struct generation *r, int i, const struct image *input, struct err *e) {
    const struct vision_config *c = &r->l->eyes->config;
    const int side = c->image / c->patch;
    struct engine_view v = { .kind = ENGINE_VIEW_ENCODER, .image = i, .width = side, .height = side };
    float *heat = mem_alloc((size_t)side * (size_t)side * sizeof *heat);
    if (!heat) return err_set(e, STATUS_NOMEM, "no memory to show the attention");
    snprintf(v.about, sizeof v.about, "attention of the class token in the last of %d blocks, mean of %d heads",
             c->layers, c->heads);
    if (!eyes_attention(r->l->eyes, r->job, input, NULL, heat, e))
        send_heat(r->job, &v, &r->job->req.image[i], heat, e);
    mem_free(heat);
    return e->code;
}
int generation_views(struct generation *r, struct err *e) {
    const struct engine_req *q = &r->job->req;
    const bool attention = q->show & ENGINE_SHOW_ATTENTION, answer = attention && r->done.new_tokens > 1;
    float *share = NULL;
    if (!q->show || !q->images || !r->l->eyes) return STATUS_OK;
    if (answer) answer_attention(r, &share, e);
    for (int i = 0; i < q->images && !e->code; i++) {
        struct image input = { 0 };
        struct eyes_times t = { 0 };
        if (send_picture(r->job, i, &q->image[i], q->look_px, e) ||
            eyes_input(&r->l->eyes->config, &q->image[i], &input, &t, e))
            break;
        if (q->show & ENGINE_SHOW_INPUT) send_pixels(r->job, ENGINE_VIEW_INPUT, i, &q->image[i], &input, e);
        if (attention && !e->code) show_encoder(r, i, &input, e);
        if (answer && !e->code) show_answer(r, i, &input, share, e);
        image_fini(&input);
    }
    mem_free(share);
    return e->code;
}
