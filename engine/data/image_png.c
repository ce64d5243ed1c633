#include "base/mem.h"
#include "image_codecs.h"
#include <png.h>
#include <setjmp.h>
#include <string.h>

/* libpng leaves by longjmp: what must survive it lies here, not in locals. */
struct reading {
    const struct image_source *s;
    size_t at;
    png_structp png;
    png_infop info;
    unsigned char **row;
    struct err *e;
};
static bool is(const struct image_source *s) { return s->n > 8 && !png_sig_cmp(s->p, 0, 8); }
static void on_error(png_structp png, png_const_charp text) {
    struct reading *r = png_get_error_ptr(png);
    image_broken(r->s, "PNG", text, r->e);
    png_longjmp(png, 1);
}
static void on_warning(png_structp png, png_const_charp text) { (void)png, (void)text; }
static void give(png_structp png, png_bytep to, size_t n) {
    struct reading *r = png_get_io_ptr(png);
    if (n > r->s->n - r->at) png_error(png, "the file ends too early");
    memcpy(to, r->s->p + r->at, n);
    r->at += n;
}
static int begin(struct reading *r) {
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
    r->info = r->png ? png_create_info_struct(r->png) : NULL;
    if (!r->info) return err_set(r->e, STATUS_NOMEM, "no memory to read a PNG");
    png_set_read_fn(r->png, r, give);
    png_set_user_limits(r->png, IMAGE_PIXELS_MAX, IMAGE_PIXELS_MAX);
    png_set_chunk_malloc_max(r->png, 16 << 20);
    return STATUS_OK;
}
static void end(struct reading *r) {
    png_destroy_read_struct(&r->png, &r->info, NULL);
    mem_free(r->row);
}
/* EXIF stands in a chunk of its own, also behind the picture; chunk lengths are checked here, their sums by libpng. */
static void find_exif(const struct image_source *s, const unsigned char **exif, size_t *n) {
    for (size_t at = 8; at + 12 <= s->n;) {
        const unsigned char *c = s->p + at;
        const size_t bytes = (size_t)c[0] << 24 | (size_t)c[1] << 16 | (size_t)c[2] << 8 | c[3];
        if (bytes > s->n - at - 12) return;
        if (!memcmp(c + 4, "eXIf", 4)) {
            *exif = c + 8;
            *n = bytes;
            return;
        }
        at += 12 + bytes;
    }
}
static int look(const struct image_source *s, int *w, int *h, const unsigned char **exif, size_t *n, struct err *e) {
    struct reading r = { .s = s, .e = e };
    if (!begin(&r) && !setjmp(png_jmpbuf(r.png))) {
        png_read_info(r.png, r.info);
        *w = (int)png_get_image_width(r.png, r.info);
        *h = (int)png_get_image_height(r.png, r.info);
    }
    end(&r);
    find_exif(s, exif, n);
    return e->code;
}
/* Everything becomes 8-bit RGB; transparency is read and dropped, gamma is left alone. */
static void read_rows(struct reading *r, struct image *out) {
    png_read_info(r->png, r->info);
    png_set_strip_16(r->png);
    png_set_expand(r->png);
    png_set_gray_to_rgb(r->png);
    png_set_strip_alpha(r->png);
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    if (png_get_rowbytes(r->png, r->info) != 3 * (size_t)out->width) png_error(r->png, "its rows have another size");
    png_read_image(r->png, r->row);
    png_read_end(r->png, NULL);
}
static int decode(const struct image_source *s, struct image *out, struct err *e) {
    struct reading r = { .s = s, .e = e, .row = mem_alloc((size_t)out->height * sizeof *r.row) };
    for (int y = 0; r.row && y < out->height; y++) r.row[y] = out->rgb + 3 * (size_t)y * (size_t)out->width;
    if (!r.row)
        err_set(e, STATUS_NOMEM, "no memory to read a PNG");
    else if (!begin(&r) && !setjmp(png_jmpbuf(r.png)))
        read_rows(&r, out);
    end(&r);
    return e->code;
}
const struct image_codec image_png = { "PNG", is, look, decode };
