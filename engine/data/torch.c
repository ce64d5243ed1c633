#include "torch.h"
#include "base/mem.h"
#include "json_text.h"
#include "pickle.h"
#include "strmap.h"
#include "zip.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* PATH: of a name; DEPTH: of dicts in dicts. */
enum { PICKLE_MAX = 16 << 20, WINDOW = 1 << 20, PATH = 512, DEPTH = 32, KEY_MAX = 200 };
static const char MAGIC[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."; /* pickle of a number */

struct place {
    uint64_t at, bytes;
};
struct torch {
    int fd;
    uint64_t file_bytes;
    const char *label;
    struct err *e;
    char *bytes; /* what the pickle's texts point into */
    struct pickle pickle;
    struct zip zip;
    char root[KEY_MAX + 1]; /* of the archive: "archive" */
    struct strmap keys;     /* legacy: of storages, to storage[] */
    struct place *storage;
    struct tensor_list *out;
    int pass; /* 1 counts, 2 fills */
    size_t name_bytes;
};
static int bad(const struct torch *t, const char *why) {
    return err_set(t->e, STATUS_FORMAT, "%s: %s; download it again", json_text_label(t->label), why);
}
static int no_memory(const struct torch *t) {
    return err_set(t->e, STATUS_NOMEM, "%s: no memory for its tensors; close other programs",
                   json_text_label(t->label));
}

/* ---- zip ---- */
static int open_zip(struct torch *t) {
    static const char tail[] = "/data.pkl";
    const struct zip_member *found = NULL;
    if (zip_read(&t->zip, t->fd, t->file_bytes, t->label, t->e)) return t->e->code;
    for (int i = 0; i < t->zip.members && !found; i++) {
        const struct zip_member *m = &t->zip.member[i];
        const char *slash = strchr(m->name, '/');
        if (slash && !strcmp(slash, tail) && slash - m->name <= KEY_MAX) found = m;
    }
    if (!found) return bad(t, "a zip archive without data.pkl: torch.save did not write it");
    snprintf(t->root, sizeof t->root, "%.*s", (int)strcspn(found->name, "/"), found->name);
    char name[KEY_MAX + 32], order[4] = "";
    snprintf(name, sizeof name, "%s/byteorder", t->root);
    const struct zip_member *m = zip_find(&t->zip, name);
    if (m && m->bytes >= 3 && json_text_pread(t->fd, order, 3, m->at, t->label, t->e)) return t->e->code;
    if (!strcmp(order, "big")) return bad(t, "was saved on a big-endian machine, which is not read");
    if (found->bytes > PICKLE_MAX) return bad(t, "its pickle is larger than 16 MiB");
    t->bytes = mem_alloc((size_t)found->bytes + 1);
    if (!t->bytes) return no_memory(t);
    if (json_text_pread(t->fd, t->bytes, (size_t)found->bytes, found->at, t->label, t->e)) return t->e->code;
    return pickle_read(&t->pickle, t->bytes, (size_t)found->bytes, t->label, t->e);
}

/* ---- the legacy stream: magic, version, system, state dict, list of storages, then each of them ---- */
static int after(const struct torch *t, size_t *at, size_t n, struct pickle *p, struct err *e) {
    const int rc = pickle_read(p, t->bytes + *at, n - *at, t->label, e);
    *at += p->used;
    return rc;
}
static int legacy_pickles(struct torch *t, size_t n, size_t *at, struct pickle *list, bool *cut) {
    struct err why = { 0 };
    struct pickle p;
    *at = sizeof MAGIC - 1;
    *cut = false;
    for (int i = 0; i < 4 && !why.code; i++) {
        struct pickle *to = i == 2 ? &t->pickle : i == 3 ? list : &p;
        after(t, at, n, to, &why);
        *cut = to->cut;
        if (i < 2) pickle_fini(&p);
    }
    if (why.code && *cut) pickle_fini(&t->pickle);
    return why.code && !(*cut && n < t->file_bytes) ? err_set(t->e, why.code, "%s", why.text) : why.code;
}
static const struct pickle_storage *type_of(const struct pickle *p, const struct pickle_node *storage) {
    return &pickle_storage[pickle_child(p, storage, 1)->u.global - PICKLE_STORAGES];
}
/* Bytes of an element for each key, from the references in the state dict. */
static int element_sizes(struct torch *t, struct strmap *size) {
    for (int i = 0; i < t->pickle.nodes; i++) {
        const struct pickle_node *v = &t->pickle.node[i];
        if (v->kind != PICKLE_STORAGE) continue;
        const struct pickle_node *key = pickle_child(&t->pickle, v, 2);
        const int bytes = type_of(&t->pickle, v)->bytes;
        const int was = strmap_add(size, key->u.text.p, key->u.text.n, bytes);
        if (was >= 0 && was != bytes) return bad(t, "one storage has two types");
    }
    return STATUS_OK;
}
static int legacy_places(struct torch *t, const struct pickle *list, const struct strmap *size, uint64_t at) {
    const struct pickle_node *root = &list->node[list->root];
    int n = 0;
    if (root->kind != PICKLE_LIST) return bad(t, "its list of storages is none");
    for (int c = root->first; c >= 0; c = list->cell[c].next, n++) {
        const struct pickle_node *key = &list->node[list->cell[c].node];
        unsigned char head[8];
        uint64_t count = 0, bytes;
        const int each = key->kind == PICKLE_TEXT ? strmap_get(size, key->u.text.p, key->u.text.n) : -1;
        if (each <= 0) return bad(t, "it lists a storage that no tensor uses");
        if (at > t->file_bytes || t->file_bytes - at < 8) return bad(t, "the file ends inside its storages");
        if (json_text_pread(t->fd, head, 8, at, t->label, t->e)) return t->e->code;
        for (int i = 7; i >= 0; i--) count = count << 8 | head[i];
        at += 8;
        if (__builtin_mul_overflow(count, (uint64_t)each, &bytes) || bytes > t->file_bytes - at)
            return bad(t, "the file ends inside its storages");
        if (strmap_add(&t->keys, key->u.text.p, key->u.text.n, n) >= 0) return bad(t, "it lists a storage twice");
        t->storage[n] = (struct place){ at, bytes };
        at += bytes;
    }
    return STATUS_OK;
}
static int place_legacy(struct torch *t, const struct pickle *list, uint64_t at) {
    const size_t n = (size_t)pickle_children(list, &list->node[list->root]);
    struct strmap size = { 0 };
    t->storage = mem_zero(n + 1, sizeof *t->storage);
    if (!t->storage || strmap_init(&t->keys, n + 1) || strmap_init(&size, (size_t)t->pickle.nodes + 1))
        no_memory(t);
    else if (!element_sizes(t, &size))
        legacy_places(t, list, &size, at);
    strmap_fini(&size);
    return t->e->code;
}
static int open_legacy(struct torch *t) {
    struct pickle list = { 0 };
    size_t at = 0, most = t->file_bytes < PICKLE_MAX ? (size_t)t->file_bytes : PICKLE_MAX;
    bool cut = true;
    for (size_t n = most < WINDOW ? most : WINDOW; cut && !t->e->code; n = n < most / 4 ? 4 * n : most) {
        mem_free(t->bytes);
        if (!(t->bytes = mem_alloc(n + 1))) return no_memory(t);
        if (json_text_pread(t->fd, t->bytes, n, 0, t->label, t->e)) return t->e->code;
        legacy_pickles(t, n, &at, &list, &cut);
        if (cut && n == most && !t->e->code) bad(t, "its pickle is larger than 16 MiB");
    }
    if (!t->e->code) place_legacy(t, &list, at);
    pickle_fini(&list); /* its texts were copied or lie in t->bytes */
    return t->e->code;
}

/* ---- tensors ---- */
static int storage_place(const struct torch *t, const struct pickle_node *key, struct place *out) {
    char name[2 * KEY_MAX + 16];
    if (t->storage) {
        const int i = strmap_get(&t->keys, key->u.text.p, key->u.text.n);
        if (i >= 0) *out = t->storage[i];
        return i >= 0 ? STATUS_OK : bad(t, "a tensor's storage is not in its list");
    }
    const struct zip_member *m = NULL;
    if (key->u.text.n <= KEY_MAX) {
        snprintf(name, sizeof name, "%s/data/%.*s", t->root, (int)key->u.text.n, key->u.text.p);
        m = zip_find(&t->zip, name);
    }
    if (!m) return bad(t, "a tensor's storage is not in the archive");
    *out = (struct place){ m->at, m->bytes };
    return STATUS_OK;
}
/* Shape, number of elements, and is it row-major? The outermost of more than four dimensions are multiplied into dim[3]. */
static bool read_shape(const struct pickle *p, const struct pickle_node *v, struct tensor *x, uint64_t *count,
                       bool *plain) {
    const struct pickle_node *shape = pickle_child(p, v, 2), *stride = pickle_child(p, v, 3);
    x->dims = pickle_children(p, shape);
    for (int i = 0; i < 4; i++) x->dim[i] = 1;
    *count = 1;
    *plain = true;
    for (int i = 0; i < x->dims; i++) {
        const uint64_t n = (uint64_t)pickle_child(p, shape, x->dims - 1 - i)->u.number;
        const uint64_t step = (uint64_t)pickle_child(p, stride, x->dims - 1 - i)->u.number;
        uint64_t *dim = &x->dim[i < 4 ? i : 3];
        *plain &= n < 2 || step == *count;
        if (__builtin_mul_overflow(*count, n, count) || __builtin_mul_overflow(*dim, n, dim)) return false;
    }
    *plain |= !*count;
    return true;
}
static int add_tensor(struct torch *t, const struct pickle_node *v, const char *name) {
    const struct pickle *p = &t->pickle;
    const struct pickle_node *storage = pickle_child(p, v, 0);
    const struct pickle_storage *type = type_of(p, storage);
    struct tensor_list *s = t->out;
    const size_t n = strlen(name) + 1;
    s->tensors++;
    if (t->pass == 1) {
        t->name_bytes += n;
        return STATUS_OK;
    }
    struct tensor *x = &s->tensor[s->tensors - 1];
    struct place at;
    uint64_t count, skip, end;
    bool plain;
    x->name = memcpy(s->names + t->name_bytes, name, n);
    t->name_bytes += n;
    if (storage_place(t, pickle_child(p, storage, 2), &at)) return t->e->code;
    if (!read_shape(p, v, x, &count, &plain)) return bad(t, "a tensor has an impossible shape");
    if (!plain) count = 0; /* where its elements lie is not followed up */
    if (__builtin_mul_overflow((uint64_t)pickle_child(p, v, 1)->u.number, (uint64_t)type->bytes, &skip) ||
        __builtin_mul_overflow(count, (uint64_t)type->bytes, &x->bytes) ||
        __builtin_add_overflow(skip, x->bytes, &end) || end > at.bytes)
        return err_set(t->e, STATUS_FORMAT,
                       "%s: tensor '%.80s' reaches beyond its storage of %" PRIu64 " bytes; download it again",
                       json_text_label(t->label), name, at.bytes);
    x->dt = plain ? type->dt : DTYPE_NONE;
    x->offset = at.at + skip;
    snprintf(x->dt_name, sizeof x->dt_name, "%s", plain ? type->dt_name : "strided");
    return STATUS_OK;
}
/* The name of a child: its key, behind what leads there. false: the key is no name. */
static bool join(char *path, size_t n, const struct pickle_node *key, int index) {
    char *to = path + n;
    const size_t room = PATH - n;
    if (n && room > 1) *to++ = '.';
    const size_t left = (size_t)(path + PATH - to);
    int k;
    if (key && key->kind == PICKLE_TEXT && memchr(key->u.text.p, 0, key->u.text.n)) return false;
    if (key && key->kind == PICKLE_TEXT && key->u.text.n < PATH)
        k = snprintf(to, left, "%.*s", (int)key->u.text.n, key->u.text.p);
    else if (!key || key->kind == PICKLE_INT)
        k = snprintf(to, left, "%" PRId64, key ? key->u.number : (int64_t)index);
    else
        return false;
    return k >= 0 && (size_t)k < left;
}
/* Every container is walked once, whatever holds it. */
static int walk(struct torch *t, struct pickle_node *v, char path[PATH], int depth) {
    const struct pickle *p = &t->pickle;
    const size_t n = strlen(path);
    const struct pickle_node *key = NULL;
    if (v->kind == PICKLE_TENSOR) return add_tensor(t, v, path);
    const bool dict = v->kind == PICKLE_DICT;
    if ((!dict && v->kind != PICKLE_LIST && v->kind != PICKLE_TUPLE) || v->seen == t->pass) return STATUS_OK;
    if (depth == DEPTH) return bad(t, "its dicts are nested too deeply");
    v->seen = t->pass;
    for (int c = v->first, i = 0; c >= 0 && !t->e->code; c = p->cell[c].next, i++) {
        struct pickle_node *child = &p->node[p->cell[c].node];
        if (dict && i % 2 == 0) {
            key = child;
            continue;
        }
        if (join(path, n, dict ? key : NULL, i)) walk(t, child, path, depth + 1);
        path[n] = 0;
    }
    return t->e->code;
}
/* Where the state dict is. */
static struct pickle_node *state_dict(const struct torch *t) {
    static const char *const names[] = { "model", "state_dict", "model_state_dict" };
    const struct pickle *p = &t->pickle;
    struct pickle_node *root = &p->node[p->root], *found = NULL;
    if (root->kind != PICKLE_DICT) return root;
    const struct pickle_node *key = NULL;
    for (int c = root->first, i = 0; c >= 0; c = p->cell[c].next, i++) {
        struct pickle_node *v = &p->node[p->cell[c].node];
        if (i % 2 == 0) {
            key = v;
            continue;
        }
        if (v->kind == PICKLE_TENSOR) return root;
        for (size_t k = 0; k < sizeof names / sizeof *names && v->kind == PICKLE_DICT; k++)
            if (key->kind == PICKLE_TEXT && key->u.text.n == strlen(names[k]) &&
                !memcmp(key->u.text.p, names[k], key->u.text.n))
                found = v;
    }
    return found ? found : root;
}
static int by_place(const void *a, const void *b) {
    const struct tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset > y->offset ? 1 : -1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}
static int list(struct torch *t) {
    struct tensor_list *s = t->out;
    struct pickle_node *from = state_dict(t);
    char path[PATH] = "";
    t->pass = 1;
    if (walk(t, from, path, 0)) return t->e->code;
    s->tensor = mem_zero((size_t)s->tensors + 1, sizeof *s->tensor);
    s->names = mem_alloc(t->name_bytes + 1);
    if (!s->tensor || !s->names) return no_memory(t);
    s->tensors = 0;
    t->name_bytes = 0;
    t->pass = 2;
    path[0] = 0;
    if (walk(t, from, path, 0)) return t->e->code;
    if (s->tensors) qsort(s->tensor, (size_t)s->tensors, sizeof *s->tensor, by_place);
    return STATUS_OK;
}
int torch_read(struct tensor_list *s, int fd, uint64_t file_bytes, const char *label, struct err *e) {
    struct err why = { 0 };
    struct torch t = { .fd = fd, .file_bytes = file_bytes, .label = label, .e = &why, .out = s };
    char head[sizeof MAGIC] = "";
    *s = (struct tensor_list){ 0 };
    const size_t n = file_bytes < sizeof MAGIC - 1 ? (size_t)file_bytes : sizeof MAGIC - 1;
    if (!json_text_pread(fd, head, n, 0, label, &why)) {
        if (!memcmp(head, "PK\3\4", 4))
            open_zip(&t);
        else if (!memcmp(head, MAGIC, sizeof MAGIC - 1))
            open_legacy(&t);
        else
            bad(&t, "is no file of torch.save (neither a zip archive nor its older format), or a broken one");
    }
    if (!why.code) list(&t);
    pickle_fini(&t.pickle);
    zip_fini(&t.zip);
    strmap_fini(&t.keys);
    mem_free(t.storage);
    mem_free(t.bytes);
    if (!why.code) return STATUS_OK;
    tensor_list_fini(s);
    return err_set(e, why.code, "%s", why.text);
}
