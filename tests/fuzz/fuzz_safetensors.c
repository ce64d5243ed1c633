/* Any bytes as a safetensors file, and as the header text of one whose data has the size that the text asks for. */
#include "data/safetensors.h"
#include <stdlib.h>
#include <string.h>

/* What the parser promises about tensors that it lets through: in order, without holes, and inside the file. */
static void check(const struct tensor_list *s, uint64_t data, uint64_t file_bytes) {
    uint64_t at = data;
    for (int i = 0; i < s->tensors; i++) {
        const struct tensor *t = &s->tensor[i];
        if (t->offset != at || t->bytes > file_bytes - at) __builtin_trap();
        if (!t->name || !t->dt_name[0] || t->dims < 0 || t->file) __builtin_trap();
        const struct dtype_info *info = dtype_info(t->dt);
        if (info && t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3] * (uint64_t)info->bytes != t->bytes) __builtin_trap();
        at += t->bytes;
    }
    if (at != file_bytes) __builtin_trap();
}
static void parse(const uint8_t *p, size_t n, uint64_t header, uint64_t file_bytes) {
    struct tensor_list s;
    struct err e = { 0 };
    if (safetensors_parse(&s, p, n, file_bytes, "fuzz", &e)) {
        if (s.tensor || s.names || !e.code || !e.text[0]) __builtin_trap();
        return;
    }
    check(&s, 8 + header, file_bytes);
    tensor_list_fini(&s);
}
/* The largest number in the text: where its last tensor ends, if anything. */
static uint64_t largest(const uint8_t *p, size_t n) {
    uint64_t best = 0, v = 0;
    for (size_t i = 0; i < n; i++) {
        const int digit = p[i] - '0';
        v = digit < 0 || digit > 9 || v > UINT64_MAX / 20 ? 0 : v * 10 + (uint64_t)digit;
        if (v > best && v < (uint64_t)1 << 62) best = v;
    }
    return best;
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t header = 0;
    for (size_t i = 0; i < 8 && i < size; i++) header |= (uint64_t)data[i] << (8 * i);
    parse(data, size, header, size);
    uint8_t *file = malloc(size + 8);
    if (!file) return 0;
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)size >> (8 * i));
    if (size) memcpy(file + 8, data, size);
    parse(file, size + 8, size, size + 8 + largest(data, size));
    free(file);
    return 0;
}
