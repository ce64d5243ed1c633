#include "dtype.h"
#include <stdint.h>
#include <string.h>
#include <strings.h>

static const struct dtype_info table[] = {
#define X(id, num, name, block, bytes) { DTYPE_##id, name, block, bytes },
    DTYPE_MAP(X)
#undef X
};
static const struct {
    const char *spelling;
    enum dtype dt;
} alias[] = {
    { "fp32", DTYPE_F32 },    { "float32", DTYPE_F32 }, { "float", DTYPE_F32 },     { "fp16", DTYPE_F16 },
    { "float16", DTYPE_F16 }, { "half", DTYPE_F16 },    { "bfloat16", DTYPE_BF16 }, { "int8", DTYPE_Q8_0 },
    { "8bit", DTYPE_Q8_0 },   { "int4", DTYPE_Q4_0 },   { "4bit", DTYPE_Q4_0 },
};

const struct dtype_info *dtype_info(int dt) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if ((int)table[i].dt == dt) return &table[i];
    return NULL;
}
enum dtype dtype_parse(const char *name) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcasecmp(name, table[i].name)) return table[i].dt;
    for (size_t i = 0; i < sizeof alias / sizeof *alias; i++)
        if (!strcasecmp(name, alias[i].spelling)) return alias[i].dt;
    return DTYPE_NONE;
}
size_t dtype_bytes(int dt, size_t n) {
    const struct dtype_info *t = dtype_info(dt);
    if (!t || n % (size_t)t->block || n / (size_t)t->block > SIZE_MAX / (size_t)t->bytes) return 0;
    return n / (size_t)t->block * (size_t)t->bytes;
}
