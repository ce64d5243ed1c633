#include "base/mem.h"
#include "image_codecs.h"
#include <string.h>
#include <turbojpeg.h>

static bool is(const struct image_source *s) { return s->n > 3 && !memcmp(s->p, "\xff\xd8\xff", 3); }
/* The APP1 segment that begins with "Exif", before the picture's data. */
static void find_exif(const struct image_source *s, const unsigned char **exif, size_t *n) {
    for (size_t at = 2; at + 4 <= s->n && s->p[at] == 0xff;) {
        const unsigned char marker = s->p[at + 1];
        if (marker == 0xff) { /* fill byte */
            at++;
            continue;
        }
        const size_t bytes = (size_t)s->p[at + 2] << 8 | s->p[at + 3];
        if (marker == 0xda || marker == 0xd9 || bytes < 2 || bytes > s->n - at - 2) return;
        if (marker == 0xe1 && bytes >= 8 && !memcmp(s->p + at + 4, "Exif\0\0", 6)) {
            *exif = s->p + at + 10;
            *n = bytes - 8;
            return;
        }
        at += 2 + bytes;
    }
}
static int open_header(const struct image_source *s, tjhandle *t, int *w, int *h, int *space, struct err *e) {
    int sampling;
    *t = tjInitDecompress();
    if (!*t) return err_set(e, STATUS_NOMEM, "no memory to read a JPEG");
    if (!tjDecompressHeader3(*t, s->p, s->n, w, h, &sampling, space)) return STATUS_OK;
    return image_broken(s, "JPEG", tjGetErrorStr2(*t), e);
}
static int look(const struct image_source *s, int *w, int *h, const unsigned char **exif, size_t *n, struct err *e) {
    tjhandle t = NULL;
    int space;
    open_header(s, &t, w, h, &space, e);
    if (t) tjDestroy(t);
    find_exif(s, exif, n);
    return e->code;
}
/* Pillow's conversion (src/libImaging/Convert.c, cmyk2rgb) of the inverted inks that Adobe writes. */
static unsigned char ink(unsigned c, unsigned k) { /* k: light that black lets through */
    const unsigned product = (255 - c) * k + 128, gone = (product + (product >> 8)) >> 8;
    return (unsigned char)(k > gone ? k - gone : 0);
}
static void to_rgb(unsigned char *rgb, const unsigned char *cmyk, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) rgb[3 * i + (size_t)c] = ink(cmyk[4 * i + (size_t)c], cmyk[4 * i + 3]);
}
static int decode(const struct image_source *s, struct image *out, struct err *e) {
    tjhandle t = NULL;
    int w, h, space;
    if (open_header(s, &t, &w, &h, &space, e)) goto out;
    const bool inks = space == TJCS_CMYK || space == TJCS_YCCK;
    const size_t pixels = (size_t)w * (size_t)h;
    unsigned char *cmyk = inks ? mem_alloc(4 * pixels) : NULL;
    if (inks && !cmyk) {
        err_set(e, STATUS_NOMEM, "no memory for a picture of %d x %d pixels", w, h);
        goto out;
    }
    if (tjDecompress2(t, s->p, s->n, inks ? cmyk : out->rgb, w, 0, h, inks ? TJPF_CMYK : TJPF_RGB, 0)) {
        const char *why = tjGetErrorStr2(t); /* a warning about stray bytes harms nothing; missing ones do */
        if (tjGetErrorCode(t) == TJERR_FATAL || strstr(why, "remature end")) image_broken(s, "JPEG", why, e);
    }
    if (inks && !e->code) to_rgb(out->rgb, cmyk, pixels);
    mem_free(cmyk);
out:
    if (t) tjDestroy(t);
    return e->code;
}
const struct image_codec image_jpeg = { "JPEG", is, look, decode };
