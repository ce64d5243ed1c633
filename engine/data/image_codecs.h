/* image_codecs.h - private to image*.c: one decoder for each format. */
#ifndef JAEDA_DATA_IMAGE_CODECS_H
#define JAEDA_DATA_IMAGE_CODECS_H
#include "image.h"
#include <stdbool.h>
#include <stdint.h>

struct image_source {
    const unsigned char *p;
    size_t n;
    const char *label;
};
struct image_codec {
    const char *name;
    bool (*is)(const struct image_source *s);
    /* Size as stored, and EXIF's bytes (a TIFF header on), NULL: none. */
    int (*look)(const struct image_source *s, int *width, int *height, const unsigned char **exif, size_t *exif_n,
                struct err *e);
    /* Into out->rgb, which has room for the size that look gave. */
    int (*decode)(const struct image_source *s, struct image *out, struct err *e);
};
extern const struct image_codec image_jpeg, image_png, image_webp;
int image_broken(const struct image_source *s, const char *format, const char *why, struct err *e);

#endif
