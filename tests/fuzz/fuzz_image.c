/* Any bytes as a picture: JPEG, PNG or WebP by their first bytes. */
#include "data/image.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct image_info i;
    struct image m, small;
    struct err e = { 0 };
    if (image_look(&i, data, size, "fuzz", &e)) {
        if (!e.text[0]) __builtin_trap();
        return 0;
    }
    if (i.width > (1 << 18) / i.height) return 0; /* large ones only take time */
    if (image_decode(&m, data, size, "fuzz", &e)) {
        if (m.rgb || !e.text[0]) __builtin_trap();
        return 0;
    }
    if (m.width != i.width || m.height != i.height) __builtin_trap();
    if (image_resize(&small, &m, 14, 14, &e)) __builtin_trap();
    image_fini(&small);
    image_fini(&m);
    return 0;
}
