#include "sight.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "kernel/language/state.h"
#include "kernel/present/draw.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "magics.h"
#include <stdio.h>
#include <string.h>

/* ---- which pictures ---- */
int sight_add(struct sight *s, struct photo *p, int message, struct err *e) {
    size_t bytes = p->n;
    for (int i = 0; i < s->n; i++) bytes += s->photo[i]->n;
    if (s->n == ENGINE_IMAGES || bytes > SIGHT_BYTES_MAX)
        return err_set(e, STATUS_INVALID, "at most %d pictures of %d MiB together go with one request", ENGINE_IMAGES,
                       SIGHT_BYTES_MAX >> 20);
    s->image[s->n] = (struct engine_image){ p->name, p->bytes, p->n, message };
    s->photo[s->n++] = photo_hold(p);
    return 0;
}
static int take_given(struct sight *s, struct call *c) {
    for (int i = 0; i < c->args.n; i++) {
        const struct arg *a = &c->args.v[i];
        if (strcmp(a->option->name, "image") != 0) continue;
        struct photo *p = photo_read(c->o, a->text, c->e);
        if (!p) return c->e->code;
        const int rc = sight_add(s, p, 0, c->e);
        photo_drop(p);
        if (rc) return rc;
        s->given = true;
    }
    return 0;
}
/* The loaded model that a request would go to: does it see, and how? false: there is none, or it reads text alone. */
static bool model_sees(struct sight *s, struct call *c, const char *name, char model[64]) {
    struct models m;
    struct err none = { 0 };
    *model = 0;
    s->asked = true;
    models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_STATUS }, &m, &none);
    const struct engine_model *row = models_find(&m, name);
    if (row) snprintf(model, 64, "%s", row->name);
    s->sees = row && row->image_tokens > 0;
    s->qformer = s->sees && (*row->qformer || strstr(row->vision, "Q-Former"));
    models_fini(&m);
    return s->sees;
}
int sight_take(struct sight *s, struct call *c, const struct engine_req *q, const struct photo *known) {
    char model[64];
    *s = (struct sight){ 0 };
    if (take_given(s, c)) return c->e->code;
    struct photo *kept = s->n ? NULL : photo_hold(c->in->photo);
    int rc = 0;
    if (kept && photo_same(kept, known)) {
        photo_drop(kept);
        kept = NULL;
    }
    if (kept && model_sees(s, c, q->model, model)) {
        rc = sight_add(s, kept, 0, c->e);
    } else if (kept && *model) {
        snprintf(s->unseen, sizeof s->unseen, "%s is not shown to %s: it reads text only", kept->name, model);
    }
    photo_drop(kept);
    return rc;
}

/* ---- views ---- */
static int keep(struct sight *s, const struct engine_view *v, struct err *e) {
    struct seen *view = mem_grow(s->view, (size_t)s->views + 1, sizeof *view);
    if (!view) return err_set(e, STATUS_NOMEM, "out of memory for what was seen in a picture");
    s->view = view;
    struct seen *to = &view[s->views];
    *to = (struct seen){ .v = *v };
    to->v.rgb = NULL, to->v.heat = NULL;
    if (v->image < 0 || v->image >= s->n)
        return err_set(e, STATUS_GONE, "the engine tells of a picture that it was not given");
    if (v->kind == ENGINE_VIEW_PICTURE || v->kind == ENGINE_VIEW_INPUT) {
        if (picture_copy(&to->picture, v->rgb, v->rgb_bytes, v->width, v->height, e)) return e->code;
    } else {
        if (v->width < 1 || v->height < 1 || (long long)v->width * v->height != v->heats)
            return err_set(e, STATUS_GONE, "the engine sent a heat map of %d x %d with %d values", v->width, v->height,
                           v->heats);
        if (!(to->heat = mem_zero((size_t)v->heats, sizeof *to->heat)))
            return err_set(e, STATUS_NOMEM, "out of memory for a heat map");
        memcpy(to->heat, v->heat, (size_t)v->heats * sizeof *to->heat);
    }
    s->views++;
    return 0;
}
int sight_event(struct sight *s, const struct engine_event *ev, struct err *e) {
    return ev->kind == ENGINE_EV_VIEW ? keep(s, &ev->u.view, e) : 0;
}
static const struct seen *picture_of(const struct sight *s, int image) {
    for (int i = 0; i < s->views; i++)
        if (s->view[i].v.kind == ENGINE_VIEW_PICTURE && s->view[i].v.image == image) return &s->view[i];
    return NULL;
}
struct looking {
    struct sight *s;
    int first;
};
static int on_look(void *arg, const struct engine_event *ev, struct err *e) {
    struct looking *l = arg;
    if (ev->kind != ENGINE_EV_VIEW || ev->u.view.kind != ENGINE_VIEW_PICTURE) return 0;
    struct engine_view v = ev->u.view;
    v.image += l->first;
    return keep(l->s, &v, e);
}
/* One whose picture may not be there: of an earlier turn, or remembered. NULL and c->e. */
static const struct seen *look_again(struct sight *s, struct call *c, int image) {
    if (!picture_of(s, image)) {
        struct looking l = { s, image };
        const struct engine_req q = { .kind = ENGINE_REQ_LOOK, .image = s->image + image, .images = 1 };
        if (job_run(c->in, c->o, &q, on_look, &l, c->e)) return NULL;
    }
    const struct seen *p = picture_of(s, image);
    if (!p) err_set(c->e, STATUS_GONE, "the engine did not show %s", s->image[image].name);
    return p;
}

/* ---- what is shown ---- */
static int show_picture(struct call *c, const struct picture *p, bool exact, const char *text, struct err *e) {
    json_t *metadata, *bundle = picture_bundle(p, exact, text, &metadata, e);
    if (!bundle) return e->code;
    out_display(c->o, bundle, metadata, NULL, false);
    return 0;
}
static int show_line(struct call *c, const char *text, struct err *e) {
    struct doc d;
    doc_init(&d);
    doc_line(&d, "%s", text);
    return show_doc(c->o, &d, e);
}
void sight_name(const struct sight *s, int i, char out[256]) {
    const struct seen *p = picture_of(s, i);
    char size[32], width[32], height[32];
    format_bytes(size, (double)s->image[i].n);
    format_count(width, p ? (uint64_t)p->v.file_width : 0);
    format_count(height, p ? (uint64_t)p->v.file_height : 0);
    snprintf(out, 256, "%s: %s, %s x %s, %s", s->image[i].name, s->photo[i]->format, width, height, size);
}
int sight_look(struct sight *s, struct call *c, int first, int look_px) {
    struct looking l = { s, first };
    if (first >= s->n) return 0;
    const struct engine_req q = {
        .kind = ENGINE_REQ_LOOK, .image = s->image + first, .images = s->n - first, .look_px = look_px
    };
    if (job_run(c->in, c->o, &q, on_look, &l, c->e)) return c->e->code;
    for (int i = first; i < s->n; i++) {
        const struct seen *p = picture_of(s, i);
        char text[256];
        if (!p) return err_set(c->e, STATUS_GONE, "the engine did not show %s", s->image[i].name);
        snprintf(text, sizeof text, "[%s, %d x %d]", s->image[i].name, p->picture.width, p->picture.height);
        if (show_picture(c, &p->picture, !strcmp(s->photo[i]->format, "PNG"), text, c->e)) return c->e->code;
    }
    return 0;
}
int sight_ask(struct sight *s, struct call *c, struct engine_req *q, int first) {
    bool typed = false;
    char model[64];
    for (int i = 0; i < c->args.n; i++) {
        const struct arg *a = &c->args.v[i];
        if (strcmp(a->option->name, "show") != 0) continue;
        q->show |= !strcmp(a->text, "input") ? ENGINE_SHOW_INPUT : ENGINE_SHOW_ATTENTION;
        typed |= !a->from_set;
    }
    if (!s->n && typed && !*s->unseen)
        return err_set(c->e, STATUS_INVALID, "--show needs a picture: add --image FILE, or %%image FILE before");
    if (!s->n) q->show = 0;
    q->image = s->image;
    q->images = s->n;
    if (s->n && !s->asked) model_sees(s, c, q->model, model);
    return s->given ? sight_look(s, c, first, 0) : 0;
}
static int show_heat(struct sight *s, struct call *c, const struct seen *view) {
    const struct seen *under = look_again(s, c, view->v.image);
    const char *name = s->image[view->v.image].name;
    const bool answer = view->v.kind == ENGINE_VIEW_ANSWER;
    struct picture heat;
    char line[480], share[32], top[32], even[32], text[256];
    double most;
    if (!under) return c->e->code;
    if (draw_heat(&heat, &under->picture, view->heat, view->v.width, view->v.height, &most, c->e)) return c->e->code;
    format_percent(share, view->v.share);
    format_percent(top, most);
    format_percent(even, 1.0 / view->v.heats);
    snprintf(text, sizeof text, "[%s under %d x %d values of attention]", name, view->v.width, view->v.height);
    int rc = show_picture(c, &heat, true, text, c->e);
    picture_fini(&heat);
    snprintf(line, sizeof line,
             "%s: where the %s looked%s%s%s · %d x %d fields, the brightest %s each (%s if all were alike)%s%s", name,
             answer ? "answer" : "image encoder", answer ? " · " : "", answer ? share : "",
             answer ? " of its attention went to this picture" : "", view->v.width, view->v.height, top, even,
             *view->v.about ? " · " : "", view->v.about);
    return rc ? rc : show_line(c, line, c->e);
}
static int show_input(struct sight *s, struct call *c, const struct seen *view) {
    char line[400], text[256];
    const char *name = s->image[view->v.image].name;
    snprintf(text, sizeof text, "[%s as the model sees it]", name);
    if (show_picture(c, &view->picture, true, text, c->e)) return c->e->code;
    snprintf(line, sizeof line, "%s: what the model sees: %d x %d%s%s", name, view->v.width, view->v.height,
             *view->v.about ? " · " : "", view->v.about);
    return show_line(c, line, c->e);
}
enum { PHRASE = 200 }; /* bytes of one that are told */
/* "1: a man · 2: a dog, 3 places · 3" */
static void legend(const struct boxes *b, struct buf *out) {
    for (int number = 1; number <= b->numbers; number++) {
        const struct box *first = NULL;
        int places = 0;
        for (int i = 0; i < b->n; i++)
            if (b->box[i].number == number && !places++) first = &b->box[i];
        if (!first) continue;
        buf_printf(out, "%s%d", number > 1 ? " · " : "", number);
        size_t len = first->len < PHRASE ? first->len : PHRASE;
        if (len == PHRASE) len -= utf8_tail(first->phrase, len);
        if (first->phrase) buf_printf(out, ": %.*s", (int)len, first->phrase);
        if (places > 1) buf_printf(out, ", %d places", places);
    }
}
static int show_boxes(struct sight *s, struct call *c, const struct buf *text) {
    struct boxes b;
    boxes_find(&b, buf_text(text), text->n);
    if (!b.n) return 0;
    const struct seen *under = look_again(s, c, s->n - 1);
    if (!under) return c->e->code;
    struct picture p;
    struct buf line;
    if (picture_copy(&p, under->picture.rgb, 3 * (size_t)under->picture.width * (size_t)under->picture.height,
                     under->picture.width, under->picture.height, c->e))
        return c->e->code;
    buf_init(&line, 65536);
    draw_boxes(&p, &b);
    buf_printf(&line, "[%s with %d box%s]", s->image[s->n - 1].name, b.n, b.n == 1 ? "" : "es");
    int rc = show_picture(c, &p, true, buf_text(&line), c->e);
    picture_fini(&p);
    buf_reset(&line);
    legend(&b, &line);
    if (!rc) rc = show_line(c, buf_text(&line), c->e);
    buf_fini(&line);
    return rc;
}
int sight_end(struct sight *s, struct call *c, const struct buf *text) {
    int rc = 0;
    const int views = s->views; /* a picture that is looked at again comes behind them */
    for (int i = 0; i < views && !rc; i++) {
        const struct seen view = s->view[i];
        if (view.v.kind == ENGINE_VIEW_INPUT) rc = show_input(s, c, &view);
        if (view.heat) rc = show_heat(s, c, &view);
    }
    return !rc && s->n ? show_boxes(s, c, text) : rc;
}

/* ---- what it took ---- */
static void names(const struct sight *s, struct buf *out) {
    if (s->n > 2) {
        buf_printf(out, "%d pictures", s->n);
    } else {
        for (int i = 0; i < s->n; i++) buf_printf(out, "%s%s", i ? ", " : "", s->image[i].name);
    }
}
static void stage(struct buf *out, const char *name, double ms) {
    char took[32];
    format_seconds(took, ms * 1e-3);
    if (ms > 0) buf_printf(out, " · %s %s", name, took);
}
json_t *sight_numbers(const struct engine_done *d) {
    return json_pack("{s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f}", "images", d->images, "images_encoded",
                     d->images_encoded, "image_tokens", d->image_tokens, "image_decode_ms", d->image_decode_ms,
                     "image_resize_ms", d->image_resize_ms, "image_encode_ms", d->image_encode_ms, "image_merge_ms",
                     d->image_merge_ms, "image_project_ms", d->image_project_ms);
}
void sight_timings(const struct sight *s, const struct engine_done *d, struct doc *doc) {
    char tokens[32];
    if (!d->images) return;
    struct buf line;
    buf_init(&line, 65536);
    format_count(tokens, (uint64_t)d->image_tokens);
    names(s, &line);
    buf_printf(&line, ": %s tokens", tokens);
    if (!d->images_encoded) {
        buf_puts(&line, " · known already, not encoded again");
    } else {
        if (d->images_encoded < d->images)
            buf_printf(&line, " · %d of %d encoded, the others were known", d->images_encoded, d->images);
        stage(&line, "read", d->image_decode_ms);
        stage(&line, "resize", d->image_resize_ms);
        stage(&line, "image encoder", d->image_encode_ms);
        stage(&line, s->qformer ? "Q-Former" : "merge", d->image_merge_ms);
        stage(&line, "projection", d->image_project_ms);
    }
    doc_line(doc, "%s", buf_text(&line));
    buf_fini(&line);
}
void sight_fini(struct sight *s) {
    for (int i = 0; i < s->n; i++) photo_drop(s->photo[i]);
    for (int i = 0; i < s->views; i++) {
        picture_fini(&s->view[i].picture);
        mem_free(s->view[i].heat);
    }
    mem_free(s->view);
    *s = (struct sight){ 0 };
}
