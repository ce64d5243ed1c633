/* Reading metadata values of a parsed header. Every place was checked when the header was read. */
#include "gguf_read.h"
#include <string.h>

static const struct gguf_kv *find(const struct gguf *g, const char *key) {
    const int i = strmap_get(&g->keys, key, strlen(key));
    return i < 0 ? NULL : &g->kv[i];
}
static bool int_at(const unsigned char *p, uint32_t type, int64_t *out) {
    switch (type) {
    case GGUF_U8: *out = p[0]; return true;
    case GGUF_I8: *out = (int8_t)p[0]; return true;
    case GGUF_U16: *out = (int64_t)gguf_le(p, 2); return true;
    case GGUF_I16: *out = (int16_t)gguf_le(p, 2); return true;
    case GGUF_U32: *out = (int64_t)gguf_le(p, 4); return true;
    case GGUF_I32: *out = (int32_t)gguf_le(p, 4); return true;
    case GGUF_I64: *out = (int64_t)gguf_le(p, 8); return true;
    case GGUF_U64: *out = (int64_t)gguf_le(p, 8); return *out >= 0;
    default: return false;
    }
}
static struct gguf_string string_at(const struct gguf *g, size_t at) {
    return (struct gguf_string){ (const char *)g->head + at + 8, (size_t)gguf_le(g->head + at, 8) };
}

bool gguf_int(const struct gguf *g, const char *key, int64_t *out) {
    const struct gguf_kv *kv = find(g, key);
    int64_t v;
    if (!kv || !int_at(g->head + kv->at, kv->type, &v)) return false;
    *out = v;
    return true;
}
static bool number_at(const unsigned char *p, uint32_t type, double *out) {
    int64_t v;
    if (type == GGUF_F32) {
        const uint32_t bits = (uint32_t)gguf_le(p, 4);
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = (double)f;
    } else if (type == GGUF_F64) {
        const uint64_t bits = gguf_le(p, 8);
        memcpy(out, &bits, sizeof bits);
    } else if (int_at(p, type, &v)) {
        *out = (double)v;
    } else {
        return false;
    }
    return true;
}
bool gguf_number(const struct gguf *g, const char *key, double *out) {
    const struct gguf_kv *kv = find(g, key);
    return kv && number_at(g->head + kv->at, kv->type, out);
}
bool gguf_bool(const struct gguf *g, const char *key, bool *out) {
    const struct gguf_kv *kv = find(g, key);
    if (!kv || kv->type != GGUF_BOOL) return false;
    *out = g->head[kv->at] != 0;
    return true;
}
bool gguf_text(const struct gguf *g, const char *key, struct gguf_string *out) {
    const struct gguf_kv *kv = find(g, key);
    if (!kv || kv->type != GGUF_STRING) return false;
    *out = string_at(g, kv->at);
    return true;
}
size_t gguf_array_len(const struct gguf *g, const char *key) {
    const struct gguf_kv *kv = find(g, key);
    return kv && kv->type == GGUF_ARRAY ? (size_t)kv->len : 0;
}
bool gguf_array_text(const struct gguf *g, const char *key, size_t i, struct gguf_string *out) {
    const struct gguf_kv *kv = find(g, key);
    if (!kv || !kv->string || i >= kv->len) return false;
    *out = string_at(g, kv->string[i]);
    return true;
}
/* The i-th element of an array of numbers; NULL: there is none. */
static const unsigned char *element(const struct gguf *g, const struct gguf_kv *kv, size_t i) {
    static const unsigned char width[GGUF_TYPES] = {
#define X(id, num, bytes) [num] = bytes,
        GGUF_TYPE_MAP(X)
#undef X
    };
    return kv && kv->type == GGUF_ARRAY && i < kv->len ? g->head + kv->at + i * width[kv->elem] : NULL;
}
bool gguf_array_int(const struct gguf *g, const char *key, size_t i, int64_t *out) {
    const struct gguf_kv *kv = find(g, key);
    const unsigned char *p = element(g, kv, i);
    int64_t v;
    if (!p || !int_at(p, kv->elem, &v)) return false;
    *out = v;
    return true;
}
bool gguf_array_number(const struct gguf *g, const char *key, size_t i, double *out) {
    const struct gguf_kv *kv = find(g, key);
    const unsigned char *p = element(g, kv, i);
    return p && number_at(p, kv->elem, out);
}
