/* image_tool decode FILE | resize FILE WIDTH HEIGHT: "width height\n" and the RGB bytes to the standard output; an error as one line
 * to the standard error. */
#include "data/image.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    static unsigned char bytes[64 << 20];
    struct image m, small;
    struct err e = { 0 };
    FILE *f = argc > 2 ? fopen(argv[2], "rb") : NULL;
    if (!f) return fprintf(stderr, "no such file\n"), 2;
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    if (image_decode(&m, bytes, n, argv[2], &e)) return fprintf(stderr, "%s\n", e.text), 1;
    if (argc > 4 && !strcmp(argv[1], "resize")) {
        const long w = strtol(argv[3], NULL, 10), h = strtol(argv[4], NULL, 10);
        if (image_resize(&small, &m, (int)w, (int)h, &e)) return fprintf(stderr, "%s\n", e.text), 1;
        image_fini(&m);
        m = small;
    }
    printf("%d %d\n", m.width, m.height);
    fwrite(m.rgb, 3, (size_t)m.width * (size_t)m.height, stdout);
    image_fini(&m);
    return 0;
}
