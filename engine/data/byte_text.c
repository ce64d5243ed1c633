#include "byte_text.h"
#include "base/utf8.h"

/* GPT-2 writes the printable bytes of Latin-1 as themselves. */
static bool plain(uint32_t byte) {
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}
/* The others follow from U+0100 in rising order: 0x00-0x20, 0x7f-0xa0, 0xad. -1: no character of the alphabet. */
static int byte_of(uint32_t cp) {
    if (cp < 0x100) return plain(cp) ? (int)cp : -1;
    const uint32_t k = cp - 0x100;
    if (k <= 0x20) return (int)k;
    if (k <= 0x42) return (int)(k - 0x21 + 0x7f);
    return k == 0x43 ? 0xad : -1;
}
size_t byte_text_decode(const char *text, size_t n, char *out) {
    size_t made = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        const int len = utf8_decode(text + i, n - i, &cp);
        const int byte = len ? byte_of(cp) : -1;
        if (byte < 0) return (size_t)-1;
        out[made++] = (char)byte;
        i += (size_t)len;
    }
    return made;
}
