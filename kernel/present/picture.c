#include "picture.h"
#include "base/mem.h"
#include <png.h>
#include <string.h>
#include <turbojpeg.h>

enum { QUALITY = 88, PNG_LARGE = 256 << 10 };

int picture_init(struct picture *p, int width, int height, struct err *e) {
    *p = (struct picture){ .width = width, .height = height };
    if (width < 1 || height < 1 || width > PICTURE_SIDE_MAX || height > PICTURE_SIDE_MAX) {
        *p = (struct picture){ 0 };
        return err_set(e, STATUS_FORMAT, "a picture of %d x %d cannot be shown", width, height);
    }
    p->rgb = mem_zero((size_t)width * (size_t)height, 3);
    if (p->rgb) return 0;
    *p = (struct picture){ 0 };
    return err_set(e, STATUS_NOMEM, "out of memory for a picture of %d x %d", width, height);
}
int picture_copy(struct picture *p, const void *rgb, size_t n, int width, int height, struct err *e) {
    if (picture_init(p, width, height, e)) return e ? e->code : STATUS_FORMAT;
    if (n == 3 * (size_t)width * (size_t)height) {
        memcpy(p->rgb, rgb, n);
        return 0;
    }
    picture_fini(p);
    return err_set(e, STATUS_FORMAT, "%zu bytes are no picture of %d x %d", n, width, height);
}
void picture_fini(struct picture *p) {
    mem_free(p->rgb);
    *p = (struct picture){ 0 };
}

static json_t *base64(const unsigned char *p, size_t n) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t len = (n + 2) / 3 * 4;
    char *text = mem_alloc(len + 1), *to = text;
    if (!text) return NULL;
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const unsigned v = (unsigned)p[i] << 16 | (left > 1 ? p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
        *to++ = digit[v >> 18];
        *to++ = digit[v >> 12 & 63];
        *to++ = left > 1 ? digit[v >> 6 & 63] : '=';
        *to++ = left > 2 ? digit[v & 63] : '=';
    }
    json_t *s = json_stringn_nocheck(text, len);
    mem_free(text);
    return s;
}
/* NULL: no memory, or larger than most. */
static json_t *as_png(const struct picture *p, size_t most) {
    png_image image = { .version = PNG_IMAGE_VERSION,
                        .width = (png_uint_32)p->width,
                        .height = (png_uint_32)p->height,
                        .format = PNG_FORMAT_RGB };
    png_alloc_size_t n = PNG_IMAGE_PNG_SIZE_MAX(image);
    unsigned char *bytes = mem_alloc(n);
    json_t *text = NULL;
    if (bytes && png_image_write_to_memory(&image, bytes, &n, 0, p->rgb, 0, NULL) && n <= most) text = base64(bytes, n);
    mem_free(bytes);
    return text;
}
/* A drawing keeps its colours at full resolution: thin lines would bleed. */
static json_t *as_jpeg(const struct picture *p, bool drawing) {
    tjhandle t = tjInitCompress();
    unsigned char *bytes = NULL;
    unsigned long n = 0;
    json_t *text = NULL;
    if (t && !tjCompress2(t, p->rgb, p->width, 0, p->height, TJPF_RGB, &bytes, &n, drawing ? TJSAMP_444 : TJSAMP_420,
                          QUALITY, TJFLAG_ACCURATEDCT))
        text = base64(bytes, n);
    tjFree(bytes);
    if (t) tjDestroy(t);
    return text;
}
json_t *picture_bundle(const struct picture *p, bool exact, const char *text, json_t **metadata, struct err *e) {
    json_t *data = exact ? as_png(p, PNG_LARGE) : NULL;
    const char *mime = data ? "image/png" : "image/jpeg";
    if (!data) data = as_jpeg(p, exact);
    *metadata = json_pack("{s:{s:i, s:i, s:s}}", mime, "width", p->width, "height", p->height, "alt", text);
    json_t *bundle = data ? json_pack("{s:o, s:s}", mime, data, "text/plain", text) : NULL;
    if (bundle && *metadata) return bundle;
    json_decref(bundle);
    json_decref(*metadata);
    *metadata = NULL;
    err_set(e, STATUS_NOMEM, "out of memory for a picture of %d x %d", p->width, p->height);
    return NULL;
}
