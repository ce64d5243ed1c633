#include "image.h"
#include "base/mem.h"
#include "image_codecs.h"
#include "json_text.h"
#include <string.h>

static const struct image_codec *const codecs[] = {
    [IMAGE_JPEG] = &image_jpeg, [IMAGE_PNG] = &image_png, [IMAGE_WEBP] = &image_webp
};
enum { FORMATS = sizeof codecs / sizeof *codecs, ORIENTATION = 0x0112 };

const char *image_format_name(enum image_format f) { return codecs[f]->name; }
int image_broken(const struct image_source *s, const char *format, const char *why, struct err *e) {
    return err_set(e, STATUS_FORMAT, "%s: is a broken %s (%.100s); save it anew or download it again",
                   json_text_label(s->label), format, why);
}
/* EXIF is a TIFF file without a picture (CIPA DC-008): the first directory's Orientation, or 1. */
static uint32_t number(const unsigned char *p, int n, bool big) {
    uint32_t v = 0;
    for (int i = 0; i < n; i++) v = v << 8 | p[big ? i : n - 1 - i];
    return v;
}
static int orientation_of(const unsigned char *p, size_t n) {
    if (!p || n < 8 || (memcmp(p, "II*\0", 4) != 0 && memcmp(p, "MM\0*", 4) != 0)) return 1;
    const bool big = *p == 'M';
    const size_t at = number(p + 4, 4, big);
    if (at > n - 2) return 1;
    const size_t entries = number(p + at, 2, big);
    for (size_t i = 0; i < entries && at + 2 + 12 * (i + 1) <= n; i++) {
        const unsigned char *entry = p + at + 2 + 12 * i;
        if (number(entry, 2, big) != ORIENTATION) continue;
        const uint32_t v = number(entry + 8, 2, big);
        return v >= 1 && v <= 8 ? (int)v : 1;
    }
    return 1;
}
static int look(struct image_info *out, const struct image_source *s, struct err *e) {
    const unsigned char *exif = NULL;
    size_t exif_n = 0;
    int f = 0, w = 0, h = 0;
    while (f < FORMATS && !codecs[f]->is(s)) f++;
    if (f == FORMATS)
        return err_set(e, STATUS_FORMAT, "%s: is no picture that is read here: JPEG, PNG and WebP are",
                       json_text_label(s->label));
    if (codecs[f]->look(s, &w, &h, &exif, &exif_n, e)) return e->code;
    if (w < 1 || h < 1) return image_broken(s, codecs[f]->name, "it has no pixels", e);
    if (w > IMAGE_PIXELS_MAX / h)
        return err_set(e, STATUS_INVALID,
                       "%s: %d x %d pixels are more than the %d million that are allowed; make it smaller",
                       json_text_label(s->label), w, h, IMAGE_PIXELS_MAX / 1000000);
    const int o = orientation_of(exif, exif_n);
    *out = (struct image_info){ .format = (enum image_format)f, .width = w, .height = h, .orientation = o };
    return STATUS_OK;
}
static bool lies(const struct image_info *i) { return i->orientation >= 5; }
static void turn(struct image_info *i) {
    const int w = i->width;
    if (!lies(i)) return;
    i->width = i->height;
    i->height = w;
}
int image_look(struct image_info *out, const void *bytes, size_t n, const char *label, struct err *e) {
    struct err why = { 0 };
    *out = (struct image_info){ .orientation = 1 };
    if (look(out, &(struct image_source){ bytes, n, label }, &why)) return err_set(e, why.code, "%s", why.text);
    turn(out);
    return STATUS_OK;
}
static int room(struct image *m, int w, int h, struct err *e) {
    *m = (struct image){ mem_alloc(3 * (size_t)w * (size_t)h), w, h };
    if (m->rgb) return STATUS_OK;
    return err_set(e, STATUS_NOMEM, "no memory for a picture of %d x %d pixels", w, h);
}
/* Stored rows -> upright. The orientation says where row 0 and column 0 of the stored picture belong. */
static int upright(struct image *m, const struct image_info *i, struct err *e) {
    static const struct {
        bool swap, right,
            bottom; /* rows are columns; column 0 is at the right; row 0 at the bottom (before the swap) */
    } way[9] = { [2] = { 0, 1, 0 }, [3] = { 0, 1, 1 }, [4] = { 0, 0, 1 }, [5] = { 1, 0, 0 },
                 [6] = { 1, 0, 1 }, [7] = { 1, 1, 1 }, [8] = { 1, 1, 0 } };
    const int o = i->orientation, w = m->width, h = m->height;
    struct image to;
    if (o == 1) return STATUS_OK;
    if (room(&to, lies(i) ? h : w, lies(i) ? w : h, e)) return e->code;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int sx = way[o].right ? w - 1 - x : x, sy = way[o].bottom ? h - 1 - y : y;
            const size_t at = way[o].swap ? (size_t)sx * (size_t)h + (size_t)sy : (size_t)sy * (size_t)w + (size_t)sx;
            memcpy(to.rgb + 3 * at, m->rgb + 3 * ((size_t)y * (size_t)w + (size_t)x), 3);
        }
    image_fini(m);
    *m = to;
    return STATUS_OK;
}
int image_decode(struct image *out, const void *bytes, size_t n, const char *label, struct err *e) {
    const struct image_source s = { bytes, n, label };
    struct image_info i;
    struct err why = { 0 };
    *out = (struct image){ 0 };
    if (!look(&i, &s, &why) && !room(out, i.width, i.height, &why) && !codecs[i.format]->decode(&s, out, &why) &&
        !upright(out, &i, &why))
        return STATUS_OK;
    image_fini(out);
    return err_set(e, why.code, "%s", why.text);
}
void image_fini(struct image *m) {
    mem_free(m->rgb);
    *m = (struct image){ 0 };
}
