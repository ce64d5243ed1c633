/* The walk over a header's bytes. Every length is checked against what is left of the file before anything is
 * allocated or skipped, so memory and time are bounded by the header's real size. */
#include "gguf_read.h"
#include "base/mem.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 4, KEY_MAX = 65535, NAME_MAX_BYTES = 64, KV_MIN = 14, TENSOR_MIN = 33, COUNT_MAX = 1 << 18 };
static const unsigned char type_bytes[GGUF_TYPES] = {
#define X(id, num, bytes) [num] = bytes,
    GGUF_TYPE_MAP(X)
#undef X
};

/* at <= n <= file always. Errors are sticky: after the first, reads give 0. */
struct cursor {
    struct gguf *g;
    size_t at;
    bool failed, more;
    char where[96]; /* for error texts */
    struct err *e;
};

uint64_t gguf_le(const unsigned char *p, int bytes) {
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}
const char *gguf_label(const struct gguf *g) {
    const size_t n = strlen(g->path);
    return n > 120 ? g->path + n - 120 : g->path;
}
__attribute__((format(printf, 2, 3))) static void fail(struct cursor *c, const char *fmt, ...) {
    char text[240];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!c->failed) err_set(c->e, STATUS_FORMAT, "%s: %s", gguf_label(c->g), text);
    c->failed = true;
}
/* Where the walk is, with whatever bytes the file holds there made printable. */
static void at_key(struct cursor *c, const char *what, const char *p, size_t n) {
    char shown[65];
    if (n > sizeof shown - 1) n = sizeof shown - 1;
    for (size_t i = 0; i < n; i++) shown[i] = p[i] > ' ' && p[i] < 127 ? p[i] : '?';
    shown[n] = 0;
    snprintf(c->where, sizeof c->where, "%s '%s'", what, shown);
}
/* Are count things of `bytes` bytes left? */
static bool left(struct cursor *c, uint64_t count, uint64_t bytes) {
    if (c->failed) return false;
    if (count <= (c->g->n - c->at) / bytes) return true;
    const uint64_t file = c->g->file_bytes - c->at;
    if (count <= file / bytes && count > (GGUF_HEAD_MAX - c->at) / bytes) {
        fail(c, "%s makes the header larger than %d MiB; convert the file again", c->where, GGUF_HEAD_MAX >> 20);
    } else if (count <= file / bytes) {
        c->more = c->failed = true;
    } else if (bytes == 1 && count - file < 1u << 30) {
        fail(c, "the file ends inside %s, %" PRIu64 " bytes too early; download it again", c->where, count - file);
    } else {
        fail(c, "%s claims more entries (%" PRIu64 ") than the file has room for; download it again", c->where, count);
    }
    return false;
}
static uint64_t number(struct cursor *c, int bytes) {
    if (!left(c, (uint64_t)bytes, 1)) return 0;
    const uint64_t v = gguf_le(c->g->head + c->at, bytes);
    c->at += (size_t)bytes;
    return v;
}
static struct gguf_string string(struct cursor *c) {
    const uint64_t n = number(c, 8);
    if (!left(c, n, 1)) return (struct gguf_string){ "", 0 };
    const struct gguf_string s = { (const char *)c->g->head + c->at, (size_t)n };
    c->at += (size_t)n;
    return s;
}
static int no_memory(struct cursor *c) {
    c->failed = true;
    return err_set(c->e, STATUS_NOMEM, "%s: no memory for the header; close other programs", gguf_label(c->g));
}

/* Walks over the elements of an array; notes where strings lie when place is not NULL. */
static void skip_array(struct cursor *c, uint32_t elem, uint64_t len, uint32_t *place, int depth) {
    for (uint64_t i = 0; i < len && !c->failed; i++) {
        if (elem == GGUF_STRING) {
            if (place) place[i] = (uint32_t)c->at;
            string(c);
            continue;
        }
        const uint32_t inner = (uint32_t)number(c, 4);
        const uint64_t n = number(c, 8);
        if (c->failed) return;
        if (inner >= GGUF_TYPES || depth >= DEPTH_MAX) {
            fail(c, "%s is nested too deeply or of unknown type %u; convert the file again", c->where, inner);
        } else if (type_bytes[inner]) {
            if (left(c, n, type_bytes[inner])) c->at += (size_t)n * type_bytes[inner];
        } else if (left(c, n, inner == GGUF_ARRAY ? 12 : 8)) {
            skip_array(c, inner, n, NULL, depth + 1);
        }
    }
}
static void read_array(struct cursor *c, struct gguf_kv *kv) {
    kv->elem = (uint32_t)number(c, 4);
    kv->len = number(c, 8);
    kv->at = c->at;
    if (c->failed) return;
    if (kv->elem >= GGUF_TYPES) {
        fail(c, "%s is an array of unknown type %u; convert the file again", c->where, kv->elem);
    } else if (type_bytes[kv->elem]) {
        if (left(c, kv->len, type_bytes[kv->elem])) c->at += (size_t)kv->len * type_bytes[kv->elem];
    } else if (left(c, kv->len, kv->elem == GGUF_ARRAY ? 12 : 8)) {
        if (kv->elem == GGUF_STRING && !(kv->string = mem_alloc((size_t)kv->len * sizeof *kv->string))) {
            no_memory(c);
            return;
        }
        skip_array(c, kv->elem, kv->len, kv->string, 1);
    }
}
static void read_kv(struct cursor *c, struct gguf_kv *kv) {
    const struct gguf_string key = string(c);
    if (c->failed) return;
    at_key(c, "key", key.p, key.n);
    if (!key.n || key.n > KEY_MAX) {
        fail(c, "a metadata key is %zu bytes long (1 to %d are allowed); download the file again", key.n, KEY_MAX);
        return;
    }
    kv->key = key.p;
    kv->key_n = (uint32_t)key.n;
    kv->type = (uint32_t)number(c, 4);
    kv->at = c->at;
    if (c->failed) return;
    if (kv->type >= GGUF_TYPES) {
        fail(c, "%s has unknown type %u; convert the file again", c->where, kv->type);
    } else if (kv->type == GGUF_ARRAY) {
        read_array(c, kv);
    } else if (kv->type == GGUF_STRING) {
        string(c);
    } else {
        const uint64_t v = number(c, type_bytes[kv->type]);
        if (kv->type == GGUF_BOOL && v > 1) fail(c, "%s is no truth value; download the file again", c->where);
    }
}
static void read_tensor(struct cursor *c, struct gguf_tensor *t) {
    const struct gguf_string name = string(c);
    if (c->failed) return;
    at_key(c, "tensor", name.p, name.n);
    bool plain = name.n && name.n <= NAME_MAX_BYTES;
    for (size_t i = 0; plain && i < name.n; i++) plain = name.p[i] > ' ' && name.p[i] < 127;
    if (!plain) {
        fail(c, "%s: a name is 1 to %d printable characters; convert the file again", c->where, NAME_MAX_BYTES);
        return;
    }
    memcpy(t->name, name.p, name.n);
    t->name[name.n] = 0;
    const uint64_t dims = number(c, 4);
    if (!c->failed && (dims < 1 || dims > 4)) {
        fail(c, "%s has %" PRIu64 " dimensions (1 to 4 are allowed); convert the file again", c->where, dims);
        return;
    }
    t->dims = (int)dims;
    for (int i = 0; i < 4; i++) t->dim[i] = i < t->dims ? number(c, 8) : 1;
    const uint32_t type = (uint32_t)number(c, 4);
    t->dt = type <= INT32_MAX ? (int)type : INT32_MAX;
    t->offset = number(c, 8);
}
static void read_prologue(struct cursor *c, uint64_t *tensors, uint64_t *kvs) {
    snprintf(c->where, sizeof c->where, "the first 24 bytes");
    if (!left(c, 24, 1)) return;
    const unsigned char *p = c->g->head;
    if (memcmp(p, "GGUF", 4)) {
        fail(c, "%s",
             !memcmp(p, "version http", 12)
                 ? "is a Git LFS pointer, not the model; run git lfs pull"
                 : "is no GGUF file; models are .gguf, .safetensors, .bin, .pth, .pt or .ckpt files, or folders");
        return;
    }
    const uint64_t version = gguf_le(p + 4, 4);
    if (version != 2 && version != 3) {
        const bool swapped = version == 0x02000000 || version == 0x03000000;
        fail(c, "GGUF version %" PRIu64 "%s is not supported (2 and 3 are); convert the model again", version,
             swapped ? " (big-endian)" : "");
        return;
    }
    *tensors = gguf_le(p + 8, 8);
    *kvs = gguf_le(p + 16, 8);
    c->at = 24;
    snprintf(c->where, sizeof c->where, "the metadata count");
    if (!left(c, *kvs, KV_MIN)) return;
    snprintf(c->where, sizeof c->where, "the tensor count");
    if (!left(c, *tensors, TENSOR_MIN)) return;
    if (*tensors > COUNT_MAX || *kvs > COUNT_MAX)
        fail(c, "claims %" PRIu64 " tensors and %" PRIu64 " keys (at most %d each); convert the file again", *tensors,
             *kvs, COUNT_MAX);
}
static void read_all(struct cursor *c) {
    struct gguf *g = c->g;
    uint64_t tensors = 0, kvs = 0;
    read_prologue(c, &tensors, &kvs);
    if (c->failed) return;
    g->kv = mem_zero((size_t)kvs, sizeof *g->kv);
    g->tensor = mem_zero((size_t)tensors, sizeof *g->tensor);
    if (!g->kv || !g->tensor || strmap_init(&g->keys, (size_t)kvs) || strmap_init(&g->names, (size_t)tensors)) {
        no_memory(c);
        return;
    }
    for (uint64_t i = 0; i < kvs && !c->failed; i++) {
        struct gguf_kv *kv = &g->kv[g->kvs++];
        read_kv(c, kv);
        if (!c->failed && strmap_add(&g->keys, kv->key, kv->key_n, (int)i) >= 0)
            fail(c, "%s is there twice; convert the file again", c->where);
    }
    for (uint64_t i = 0; i < tensors && !c->failed; i++) {
        struct gguf_tensor *t = &g->tensor[g->tensors++];
        read_tensor(c, t);
        if (!c->failed && strmap_add(&g->names, t->name, strlen(t->name), (int)i) >= 0)
            fail(c, "%s is there twice; convert the file again", c->where);
    }
}
int gguf_read(struct gguf *g, bool *more, struct err *e) {
    struct err mine = { 0 };
    struct cursor c = { .g = g, .e = e ? e : &mine };
    read_all(&c);
    *more = c.more;
    if (c.failed) return c.more ? STATUS_FORMAT : c.e->code;
    return gguf_place(g, c.at, e);
}
void gguf_forget(struct gguf *g) {
    for (size_t i = 0; i < g->kvs; i++) mem_free(g->kv[i].string);
    mem_free(g->kv);
    mem_free(g->tensor);
    strmap_fini(&g->keys);
    strmap_fini(&g->names);
    g->kv = NULL;
    g->tensor = NULL;
    g->kvs = 0;
    g->tensors = 0;
}
