#include "widget.h"
#include "base/buf.h"
#include "base/utf8.h"

/* In the order of opening: a model is opened before the one that refers to it. */
enum { BOX_LAYOUT, BAR_LAYOUT, BUTTON_LAYOUT, BAR, BUTTON, LABEL, BOX };
const char widget_mime[] = "application/vnd.jupyter.widget-view+json";

/* What a front end must be told of a model; the rest it knows itself. Steals more. */
static json_t *model(const char *module, const char *name, const char *view, json_t *more) {
    static const char version[] = "2.0.0";
    json_t *s =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "_model_module", module, "_model_module_version", version,
                  "_model_name", name, "_view_module", module, "_view_module_version", version, "_view_name", view);
    if (!s || !more || json_object_update(s, more)) {
        json_decref(s);
        s = NULL;
    }
    json_decref(more);
    return s;
}
static json_t *layout(json_t *more) { return model("@jupyter-widgets/base", "LayoutModel", "LayoutView", more); }
static json_t *control(const char *name, const char *view, json_t *more) {
    return model("@jupyter-widgets/controls", name, view, more);
}
static json_t *named(const struct widget *w, int i) { return json_sprintf("IPY_MODEL_%s", w->id[i]); }

static json_t *state(const struct widget *w, int i) {
    switch (i) {
    case BOX_LAYOUT: return layout(json_pack("{s:s}", "align_items", "center"));
    case BAR_LAYOUT: return layout(json_pack("{s:s, s:s}", "width", "240px", "flex", "0 0 auto"));
    case BUTTON_LAYOUT: return layout(json_pack("{s:s, s:s}", "width", "80px", "flex", "0 0 auto"));
    case BAR:
        return control(
            "FloatProgressModel", "ProgressView",
            json_pack("{s:f, s:f, s:f, s:o}", "value", 0.0, "min", 0.0, "max", 1.0, "layout", named(w, BAR_LAYOUT)));
    case BUTTON:
        return control(
            "ButtonModel", "ButtonView",
            json_pack("{s:s, s:b, s:o}", "description", "Stop", "disabled", 0, "layout", named(w, BUTTON_LAYOUT)));
    case LABEL: return control("LabelModel", "LabelView", json_pack("{s:s}", "value", ""));
    default:
        return control("HBoxModel", "HBoxView",
                       json_pack("{s:[o,o,o], s:o}", "children", named(w, BAR), named(w, BUTTON), named(w, LABEL),
                                 "layout", named(w, BOX_LAYOUT)));
    }
}
bool widget_open(struct widget *w, struct out *o) {
    *w = (struct widget){ .o = o };
    if (!out_widgets(o)) return false;
    for (int i = 0; i < WIDGET_MODELS; i++) {
        json_t *clicked = i == BUTTON ? json_pack("{s:s, s:b}", "description", "Stopping", "disabled", 1) : NULL;
        if (out_model_open(o, w->id[i], state(w, i), clicked)) continue;
        w->id[i][0] = 0;
        widget_close(w);
        return false;
    }
    return true;
}
bool widget_shown(const struct widget *w) { return w->id[BOX][0]; }
void widget_set(struct widget *w, double share, const char *text, size_t n) {
    struct buf whole;
    buf_init(&whole, 4 * n + 1);
    utf8_repair(&whole, text, n);
    out_model_set(w->o, w->id[LABEL], json_pack("{s:s}", "value", buf_text(&whole)));
    buf_fini(&whole);
    out_model_set(w->o, w->id[BAR], json_pack("{s:f}", "value", share));
}
json_t *widget_view(const struct widget *w) {
    return json_pack("{s:i, s:i, s:s}", "version_major", 2, "version_minor", 0, "model_id", w->id[BOX]);
}
void widget_close(struct widget *w) {
    for (int i = WIDGET_MODELS; i-- > 0;) {
        if (w->id[i][0]) out_model_close(w->o, w->id[i]);
        w->id[i][0] = 0;
    }
}
