#include "safetensors.h"
#include "base/mem.h"
#include "json_text.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 100000000, LENGTH = 8, TENSORS_MAX = 1 << 18 };
/* The dtypes whose size is known; those without a DTYPE_ are only carried along. */
static const struct {
    const char *name;
    int dt, bytes;
} dtypes[] = {
    { "F32", DTYPE_F32, 4 },   { "F16", DTYPE_F16, 2 },      { "BF16", DTYPE_BF16, 2 },    { "F64", DTYPE_NONE, 8 },
    { "I64", DTYPE_NONE, 8 },  { "U64", DTYPE_NONE, 8 },     { "I32", DTYPE_NONE, 4 },     { "U32", DTYPE_NONE, 4 },
    { "I16", DTYPE_NONE, 2 },  { "U16", DTYPE_NONE, 2 },     { "I8", DTYPE_NONE, 1 },      { "U8", DTYPE_NONE, 1 },
    { "BOOL", DTYPE_NONE, 1 }, { "F8_E4M3", DTYPE_NONE, 1 }, { "F8_E5M2", DTYPE_NONE, 1 },
};

static int bad(const char *label, const char *name, const char *why, struct err *e) {
    return err_set(e, STATUS_FORMAT, "%s: tensor '%.80s' %s; download the file again", json_text_label(label), name,
                   why);
}
static bool natural(const json_t *v, uint64_t *out) {
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}
/* The shape, rows first in the file: fastest dimension first here. Beyond four, the outermost ones are multiplied into
 * dim[3]; dims still tells. false: no shape, or more elements than 64 bits count. */
static bool read_shape(struct tensor *t, const json_t *shape, uint64_t *count) {
    const size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > 64) return false;
    *count = 1;
    t->dims = (int)n;
    for (int i = 0; i < 4; i++) t->dim[i] = 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t v, *dim = &t->dim[i < 4 ? i : 3];
        if (!natural(json_array_get(shape, n - 1 - i), &v) || __builtin_mul_overflow(*count, v, count)) return false;
        if (__builtin_mul_overflow(*dim, v, dim)) return false;
    }
    return true;
}
static int read_tensor(struct tensor *t, const json_t *o, uint64_t data, const char *label, struct err *e) {
    const json_t *dtype = json_object_get(o, "dtype"), *span = json_object_get(o, "data_offsets");
    const char *spelt = json_is_string(dtype) ? json_string_value(dtype) : NULL;
    uint64_t count, begin, end, bytes;
    if (!spelt || !*spelt) return bad(label, t->name, "has no dtype", e);
    if (!read_shape(t, json_object_get(o, "shape"), &count)) return bad(label, t->name, "has an impossible shape", e);
    if (json_array_size(span) != 2 || !natural(json_array_get(span, 0), &begin) ||
        !natural(json_array_get(span, 1), &end) || end < begin)
        return bad(label, t->name, "has impossible data_offsets", e);
    for (size_t i = 0; spelt[i] && i < sizeof t->dt_name - 1; i++)
        t->dt_name[i] = (char)(spelt[i] > ' ' && spelt[i] < 127 ? spelt[i] : '?');
    t->dt = DTYPE_NONE;
    t->bytes = end - begin;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(spelt, dtypes[i].name)) continue;
        t->dt = dtypes[i].dt;
        if (__builtin_mul_overflow(count, (uint64_t)dtypes[i].bytes, &bytes) || bytes != t->bytes)
            return bad(label, t->name, "has a shape that does not fill its data_offsets", e);
    }
    t->offset = data + begin; /* both below 2^63 */
    return 0;
}
static int by_offset(const void *a, const void *b) {
    const struct tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset > y->offset ? 1 : -1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}
static int check_order(const struct tensor_list *s, uint64_t data, uint64_t file_bytes, const char *label,
                       struct err *e) {
    uint64_t end = data;
    for (int i = 0; i < s->tensors; i++) {
        const struct tensor *t = &s->tensor[i];
        if (t->offset > end) return bad(label, t->name, "begins behind a hole in the file", e);
        if (t->offset < end) {
            return err_set(e, STATUS_FORMAT, "%s: tensors '%.80s' and '%.80s' overlap; download the file again",
                           json_text_label(label), i ? s->tensor[i - 1].name : "the header", t->name);
        }
        end = t->offset + t->bytes; /* t->offset <= data + 2^63, so that this does not wrap */
        if (end > file_bytes)
            return err_set(e, STATUS_FORMAT,
                           "%s: the file ends inside tensor '%.80s', at least %" PRIu64
                           " bytes too early; download it again",
                           json_text_label(label), t->name, end - file_bytes);
    }
    if (end < file_bytes)
        return err_set(e, STATUS_FORMAT, "%s: has %" PRIu64 " bytes that belong to no tensor; download it again",
                       json_text_label(label), file_bytes - end);
    return 0;
}
static int check_metadata(const json_t *o, const char *label, struct err *e) {
    const char *key;
    json_t *v;
    bool texts = json_is_object(o);
    json_object_foreach((json_t *)o, key, v) texts &= json_is_string(v);
    if (texts) return 0;
    return err_set(e, STATUS_FORMAT, "%s: __metadata__ holds more than texts; download the file again",
                   json_text_label(label));
}
static int no_memory(const char *label, struct err *e) {
    return err_set(e, STATUS_NOMEM, "%s: no memory for the header; close other programs", json_text_label(label));
}
static int read_all(struct tensor_list *s, json_t *root, uint64_t data, const char *label, struct err *e) {
    const json_t *meta = json_object_get(root, "__metadata__");
    const size_t n = json_object_size(root) - (meta != NULL);
    const char *name;
    json_t *v;
    size_t room = 1;
    if (n > TENSORS_MAX)
        return err_set(e, STATUS_FORMAT, "%s: lists %zu tensors (%d are allowed); download it again",
                       json_text_label(label), n, TENSORS_MAX);
    if (meta && check_metadata(meta, label, e)) return STATUS_FORMAT;
    json_object_foreach(root, name, v) room += strlen(name) + 1;
    s->tensor = mem_zero(n, sizeof *s->tensor);
    s->names = mem_alloc(room);
    if (!s->tensor || !s->names) return no_memory(label, e);
    char *at = s->names;
    json_object_foreach(root, name, v) {
        if (v == meta) continue;
        const size_t bytes = strlen(name) + 1;
        struct tensor *t = &s->tensor[s->tensors++];
        t->name = memcpy(at, name, bytes);
        at += bytes;
        const int rc = json_is_object(v) ? read_tensor(t, v, data, label, e) : bad(label, name, "is no object", e);
        if (rc) return rc;
    }
    qsort(s->tensor, (size_t)s->tensors, sizeof *s->tensor, by_offset);
    return 0;
}
/* The header's length as the file's first bytes give it, checked. */
static int header_bytes(const unsigned char *head, uint64_t file_bytes, const char *label, uint64_t *out,
                        struct err *e) {
    uint64_t v = 0;
    for (int i = LENGTH - 1; i >= 0; i--) v = v << 8 | head[i];
    *out = v;
    if (v > HEADER_MAX)
        return err_set(e, STATUS_FORMAT,
                       "%s: is no safetensors file, or a broken one: its header would have %" PRIu64
                       " bytes (%d are allowed); download it again",
                       json_text_label(label), v, HEADER_MAX);
    if (v > file_bytes - LENGTH)
        return err_set(e, STATUS_FORMAT,
                       "%s: the file ends inside its header, %" PRIu64 " bytes too early; download it again",
                       json_text_label(label), v - (file_bytes - LENGTH));
    return 0;
}
static int too_short(uint64_t bytes, const char *label, struct err *e) {
    return err_set(e, STATUS_FORMAT, "%s: has %" PRIu64 " bytes, too few for a safetensors file; download it again",
                   json_text_label(label), bytes);
}
int safetensors_parse(struct tensor_list *s, const void *head, size_t n, uint64_t file_bytes, const char *label,
                      struct err *e) {
    uint64_t header;
    json_t *root = NULL;
    *s = (struct tensor_list){ 0 };
    if (n < LENGTH || file_bytes < n) return too_short(file_bytes, label, e);
    int rc = header_bytes(head, file_bytes, label, &header, e);
    if (rc) return rc;
    const char *text = (const char *)head + LENGTH;
    if (header > n - LENGTH) return err_set(e, STATUS_INVALID, "%s: the header goes on", json_text_label(label));
    if (!header || text[0] != '{')
        return err_set(e, STATUS_FORMAT, "%s: its header does not begin with '{'; download it again",
                       json_text_label(label));
    rc = json_text_parse(&root, text, (size_t)header, label, e);
    if (!rc) rc = read_all(s, root, LENGTH + header, label, e);
    json_decref(root);
    if (!rc) rc = check_order(s, LENGTH + header, file_bytes, label, e);
    if (rc) tensor_list_fini(s);
    return rc;
}
int safetensors_read(struct tensor_list *s, int fd, uint64_t file_bytes, const char *label, struct err *e) {
    unsigned char length[LENGTH];
    uint64_t header;
    *s = (struct tensor_list){ 0 };
    if (file_bytes < LENGTH) return too_short(file_bytes, label, e);
    int rc = json_text_pread(fd, length, LENGTH, 0, label, e);
    if (!rc) rc = header_bytes(length, file_bytes, label, &header, e);
    if (rc) return rc;
    unsigned char *head = mem_alloc((size_t)header + LENGTH);
    if (!head) return no_memory(label, e);
    rc = json_text_pread(fd, head, (size_t)header + LENGTH, 0, label, e);
    if (!rc) rc = safetensors_parse(s, head, (size_t)header + LENGTH, file_bytes, label, e);
    mem_free(head);
    return rc;
}
