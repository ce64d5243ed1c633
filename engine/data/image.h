/* image.h - pictures as the models' reference code sees them: RGB, 8 bits, upright. JPEG, PNG and WebP are decoded by
 * libturbojpeg, libpng and libwebp; what Pillow (Image.open, ImageOps.exif_transpose, convert("RGB")) makes of a file, this
 * does too, bit for bit. Pure. */
#ifndef JAEDA_DATA_IMAGE_H
#define JAEDA_DATA_IMAGE_H
#include "base/err.h"
#include <stddef.h>

/* Of one picture at most: 300 MB of RGB. Refused from its header, before memory is taken. */
enum { IMAGE_PIXELS_MAX = 100000000 };
enum image_format { IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP };
struct image_info {
    enum image_format format;
    int width, height; /* upright */
    int orientation;   /* EXIF's 1..8: how the stored rows have to be turned; 1: not at all */
};
struct image { /* rows of 3 * width bytes, red first, from the top; owned (image_fini) */
    unsigned char *rgb;
    int width, height;
};
/* Reads the header alone. label names the file in errors. */
int image_look(struct image_info *out, const void *bytes, size_t n, const char *label, struct err *e);
/* Alpha is dropped, not blended; of 16 bits the upper 8 count; CMYK is taken as Adobe writes it (inverted). A file that is cut off is
 * an error. On failure out is empty. */
int image_decode(struct image *out, const void *bytes, size_t n, const char *label, struct err *e);
/* Pillow's Image.resize((width, height), BICUBIC): antialiased, a = -0.5, rounded to 8 bits between the two passes
 * (python-pillow src/libImaging/Resample.c). Rows first, then columns, as Pillow did it up to version 12. */
int image_resize(struct image *out, const struct image *in, int width, int height, struct err *e);
void image_fini(struct image *m);
const char *image_format_name(enum image_format f); /* "JPEG" */

#endif
