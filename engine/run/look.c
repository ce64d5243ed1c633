/* What people see: pictures as files show them, as a model gets them, and where it looked. */
#include "base/mem.h"
#include "eyes.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LOOK_PX = 512, LOOK_PX_MAX = 4096 };

void attention_row(const float *q, const float *k, struct attn_of a, int rows, int ld, float *scratch, float *sum) {
    const int share = a.heads / a.kv_heads;
    const float scale = 1 / sqrtf((float)a.head_dim);
    for (int h = 0; h < a.heads; h++) {
        const float *query = q + h * a.head_dim;
        float most = -INFINITY, all = 0;
        for (int t = 0; t < rows; t++) {
            const float *key = k + (size_t)t * (size_t)ld + (size_t)(h / share * a.head_dim);
            float dot = 0;
            for (int j = 0; j < a.head_dim; j++) dot += query[j] * key[j];
            scratch[t] = dot * scale;
            most = scratch[t] > most ? scratch[t] : most;
        }
        for (int t = 0; t < rows; t++) all += scratch[t] = expf(scratch[t] - most);
        for (int t = 0; t < rows; t++) sum[t] += scratch[t] / all / (float)a.heads;
    }
}

/* ---- views ---- */
/* A view of this picture with room for its pixels or shares, which the event owns; NULL: no memory. */
static struct engine_view *begin(struct engine_event *ev, enum engine_view_kind kind, int image,
                                 const struct engine_image *m, size_t bytes) {
    struct engine_view *v = &ev->u.view;
    *ev = (struct engine_event){ .kind = ENGINE_EV_VIEW, .owned = mem_alloc(bytes) };
    v->kind = kind;
    v->image = image;
    snprintf(v->name, sizeof v->name, "%s", m->name ? m->name : "");
    struct image_info info;
    struct err none = { 0 };
    if (!image_look(&info, m->bytes, m->n, v->name, &none)) {
        snprintf(v->format, sizeof v->format, "%s", image_format_name(info.format));
        v->file_width = info.width;
        v->file_height = info.height;
    }
    return ev->owned ? v : NULL;
}
static int no_memory(struct err *e) { return err_set(e, STATUS_NOMEM, "no memory to show a picture"); }
int send_pixels(struct job *job, enum engine_view_kind kind, int image, const struct engine_image *m,
                const struct image *pixels, struct err *e) {
    struct engine_event ev;
    const size_t n = 3 * (size_t)pixels->width * (size_t)pixels->height;
    struct engine_view *v = begin(&ev, kind, image, m, n);
    if (!v) return no_memory(e);
    v->width = pixels->width;
    v->height = pixels->height;
    v->rgb = memcpy(ev.owned, pixels->rgb, n);
    v->rgb_bytes = n;
    job_emit(job, &ev);
    return STATUS_OK;
}
int send_heat(struct job *job, const struct engine_view *what, const struct engine_image *m, const float *heat,
              struct err *e) {
    struct engine_event ev;
    const size_t n = (size_t)what->width * (size_t)what->height;
    struct engine_view *v = begin(&ev, what->kind, what->image, m, n * sizeof *heat);
    if (!v) return no_memory(e);
    v->width = what->width;
    v->height = what->height;
    v->share = what->share;
    snprintf(v->about, sizeof v->about, "%s", what->about);
    v->heat = memcpy(ev.owned, heat, n * sizeof *heat);
    v->heats = (int)n;
    job_emit(job, &ev);
    return STATUS_OK;
}
int send_picture(struct job *job, int image, const struct engine_image *m, int px, struct err *e) {
    struct image whole = { 0 }, small = { 0 };
    const int most = px ? px : LOOK_PX;
    if (most < 1 || most > LOOK_PX_MAX)
        return err_set(e, STATUS_INVALID, "a picture shown %d pixels wide: 1 to %d", px, LOOK_PX_MAX);
    if (image_decode(&whole, m->bytes, m->n, m->name ? m->name : "the picture", e)) return e->code;
    const int side = whole.width > whole.height ? whole.width : whole.height;
    const double scale = side > most ? (double)most / side : 1;
    const int w = (int)lrint(whole.width * scale), h = (int)lrint(whole.height * scale);
    if (scale == 1 || !image_resize(&small, &whole, w > 0 ? w : 1, h > 0 ? h : 1, e))
        send_pixels(job, ENGINE_VIEW_PICTURE, image, m, scale == 1 ? &whole : &small, e);
    image_fini(&whole);
    image_fini(&small);
    return e->code;
}
int look(struct job *job, struct err *e) {
    const struct engine_req *q = &job->req;
    if (!q->images) return err_set(e, STATUS_INVALID, "there is no picture to look at");
    for (int i = 0; i < q->images && !e->code; i++) {
        if (job_cancelled(job)) return err_set(e, STATUS_CANCELLED, "interrupted");
        send_picture(job, i, &q->image[i], q->look_px, e);
    }
    if (!e->code) job_done(job, &(struct engine_done){ .images = q->images });
    return e->code;
}
