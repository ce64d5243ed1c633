#include "image_codecs.h"
#include <string.h>
#include <webp/decode.h>

static bool is(const struct image_source *s) {
    return s->n > 12 && !memcmp(s->p, "RIFF", 4) && !memcmp(s->p + 8, "WEBP", 4);
}
static void find_exif(const struct image_source *s, const unsigned char **exif, size_t *n) {
    for (size_t at = 12; at + 8 <= s->n;) {
        const unsigned char *c = s->p + at;
        const size_t bytes = (size_t)c[7] << 24 | (size_t)c[6] << 16 | (size_t)c[5] << 8 | c[4];
        if (bytes > s->n - at - 8) return;
        if (!memcmp(c, "EXIF", 4)) {
            const size_t skip =
                bytes > 6 && !memcmp(c + 8, "Exif\0\0", 6) ? 6 : 0; /* some writers keep JPEG's prefix */
            *exif = c + 8 + skip;
            *n = bytes - skip;
            return;
        }
        at += 8 + bytes + bytes % 2;
    }
}
static int look(const struct image_source *s, int *w, int *h, const unsigned char **exif, size_t *n, struct err *e) {
    WebPBitstreamFeatures f;
    if (WebPGetFeatures(s->p, s->n, &f) != VP8_STATUS_OK) return image_broken(s, "WebP", "its header", e);
    if (f.has_animation)
        return err_set(e, STATUS_INVALID, "%.160s: is an animation; save one of its pictures as PNG", s->label);
    *w = f.width;
    *h = f.height;
    find_exif(s, exif, n);
    return STATUS_OK;
}
static int decode(const struct image_source *s, struct image *out, struct err *e) {
    const size_t bytes = 3 * (size_t)out->width * (size_t)out->height;
    if (WebPDecodeRGBInto(s->p, s->n, out->rgb, bytes, 3 * out->width)) return STATUS_OK;
    return image_broken(s, "WebP", "its data are damaged or cut off", e);
}
const struct image_codec image_webp = { "WebP", is, look, decode };
