#include "pickle.h"
#include "base/dtype.h"
#include "base/mem.h"
#include "json_text.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DIMS_MAX = 64, NAME = 60, MARK = -1, NOTHING = -2 };
const struct pickle_storage pickle_storage[] = {
    { "HalfStorage", "F16", DTYPE_F16, 2 },   { "BFloat16Storage", "BF16", DTYPE_BF16, 2 },
    { "FloatStorage", "F32", DTYPE_F32, 4 },  { "DoubleStorage", "F64", DTYPE_NONE, 8 },
    { "LongStorage", "I64", DTYPE_NONE, 8 },  { "IntStorage", "I32", DTYPE_NONE, 4 },
    { "ShortStorage", "I16", DTYPE_NONE, 2 }, { "CharStorage", "I8", DTYPE_NONE, 1 },
    { "ByteStorage", "U8", DTYPE_NONE, 1 },   { "BoolStorage", "BOOL", DTYPE_NONE, 1 },
};
enum { STORAGES = sizeof pickle_storage / sizeof *pickle_storage };
static const struct {
    const char *module, *name;
    int global;
} globals[] = {
    { "collections", "OrderedDict", PICKLE_ORDERED_DICT },
    { "torch._utils", "_rebuild_tensor_v2", PICKLE_REBUILD_TENSOR },
    { "torch._utils", "_rebuild_parameter", PICKLE_REBUILD_PARAMETER },
    { "torch.nn.parameter", "Parameter", PICKLE_PARAMETER },
    { "torch", "Size", PICKLE_SIZE },
    { "torch", "float32", PICKLE_DTYPE },
    { "torch", "float16", PICKLE_DTYPE },
    { "torch", "bfloat16", PICKLE_DTYPE },
    { "torch", "float64", PICKLE_DTYPE },
    { "torch", "int64", PICKLE_DTYPE },
    { "torch", "int32", PICKLE_DTYPE },
    { "torch", "int16", PICKLE_DTYPE },
    { "torch", "int8", PICKLE_DTYPE },
    { "torch", "uint8", PICKLE_DTYPE },
    { "torch", "bool", PICKLE_DTYPE },
};

struct reader {
    struct pickle *out;
    const unsigned char *p;
    size_t n, at;
    int *stack, *memo; /* stack: nodes and MARKs */
    int depth, stack_cap, memos, memo_cap;
    bool done;
    const char *label;
    struct err *e;
};
__attribute__((format(printf, 2, 3))) static void bad(struct reader *r, const char *fmt, ...) {
    char text[240];
    va_list v;
    va_start(v, fmt);
    vsnprintf(text, sizeof text, fmt, v);
    va_end(v);
    err_set(r->e, STATUS_FORMAT, "%s: its pickle %s; take *.safetensors, or download the file again",
            json_text_label(r->label), text);
}
static void no_memory(struct reader *r) {
    err_set(r->e, STATUS_NOMEM, "%s: no memory for its pickle; close other programs", json_text_label(r->label));
}
/* Room for one more; NULL: none. */
static void *more(struct reader *r, void *v, int *cap, int n, size_t size) {
    if (n < *cap) return v;
    void *grown = mem_grow(v, 2 * (size_t)n + 64, size);
    if (grown)
        *cap = 2 * n + 64;
    else
        no_memory(r);
    return grown;
}
static int node(struct reader *r, struct pickle_node v) {
    struct pickle *o = r->out;
    void *grown = more(r, o->node, &o->node_cap, o->nodes, sizeof *o->node);
    if (!grown) return NOTHING;
    o->node = grown;
    o->node[o->nodes] = v;
    return o->nodes++;
}
static void push(struct reader *r, int v) {
    if (v == NOTHING) return;
    void *grown = more(r, r->stack, &r->stack_cap, r->depth, sizeof *r->stack);
    if (!grown) return;
    r->stack = grown;
    r->stack[r->depth++] = v;
}
static void push_node(struct reader *r, struct pickle_node v) {
    v.first = v.last = -1;
    push(r, node(r, v));
}
static int pop(struct reader *r) {
    if (r->depth && r->stack[r->depth - 1] != MARK) return r->stack[--r->depth];
    bad(r, "takes more than it has put");
    return NOTHING;
}
static struct pickle_node *top(struct reader *r) {
    if (r->depth && r->stack[r->depth - 1] != MARK) return &r->out->node[r->stack[r->depth - 1]];
    bad(r, "takes more than it has put");
    return NULL;
}
static void append(struct reader *r, int to, int child) {
    struct pickle *o = r->out;
    if (to < 0 || child < 0) return;
    void *grown = more(r, o->cell, &o->cell_cap, o->cells, sizeof *o->cell);
    if (!grown) return;
    o->cell = grown;
    o->cell[o->cells] = (struct pickle_cell){ child, -1 };
    struct pickle_node *n = &o->node[to];
    if (n->last >= 0)
        o->cell[n->last].next = o->cells;
    else
        n->first = o->cells;
    n->last = o->cells++;
}
/* Where the topmost MARK lies; below 0: there is none. */
static int mark(struct reader *r) {
    int i = r->depth - 1;
    while (i >= 0 && r->stack[i] != MARK) i--;
    if (i < 0) bad(r, "closes what it has not opened");
    return i;
}
/* What lies from stack place `from` on becomes the children of a new container. */
static void gather(struct reader *r, enum pickle_kind kind, int from) {
    const int to = node(r, (struct pickle_node){ .kind = kind, .first = -1, .last = -1 });
    for (int i = from; i < r->depth && !r->e->code; i++) append(r, to, r->stack[i]);
    r->depth = from;
    push(r, to);
}
/* The next n bytes, or NULL. */
static const unsigned char *bytes(struct reader *r, size_t n) {
    if (n > r->n - r->at) {
        r->out->cut = true;
        bad(r, "ends too early");
        return NULL;
    }
    r->at += n;
    return r->p + r->at - n;
}
static uint64_t number(struct reader *r, int n) { /* little-endian */
    const unsigned char *p = bytes(r, (size_t)n);
    uint64_t v = 0;
    for (int i = n - 1; p && i >= 0; i--) v = v << 8 | p[i];
    return v;
}
static void integer(struct reader *r, int64_t v) {
    push_node(r, (struct pickle_node){ .kind = PICKLE_INT, .u.number = v });
}
static void text(struct reader *r, size_t n) {
    const unsigned char *p = r->e->code ? NULL : bytes(r, n);
    if (p) push_node(r, (struct pickle_node){ .kind = PICKLE_TEXT, .u.text = { (const char *)p, n } });
}
static void real(struct reader *r) { /* big-endian */
    const unsigned char *p = bytes(r, 8);
    uint64_t v = 0;
    double d;
    for (int i = 0; p && i < 8; i++) v = v << 8 | p[i];
    memcpy(&d, &v, sizeof d);
    push_node(r, (struct pickle_node){ .kind = PICKLE_FLOAT, .u.real = d });
}
static void long1(struct reader *r) {
    const int n = (int)number(r, 1);
    if (n > 8) {
        bad(r, "holds an integer of more than 64 bits");
        return;
    }
    uint64_t v = number(r, n);
    if (n && n < 8 && v >> (8 * n - 1)) v |= ~(uint64_t)0 << (8 * n);
    integer(r, (int64_t)v);
}
/* These functions say whether the opcode was theirs. */
static bool plain(struct reader *r, int op) {
    switch (op) {
    case 'N': push_node(r, (struct pickle_node){ .kind = PICKLE_NONE }); return true;
    case 0x88:
    case 0x89: push_node(r, (struct pickle_node){ .kind = PICKLE_BOOL, .u.number = op == 0x88 }); return true;
    case 'K': integer(r, (int64_t)number(r, 1)); return true;
    case 'M': integer(r, (int64_t)number(r, 2)); return true;
    case 'J': integer(r, (int32_t)number(r, 4)); return true;
    case 0x8a: long1(r); return true;
    case 'G': real(r); return true;
    case 'X': text(r, (size_t)number(r, 4)); return true;
    case 'U': text(r, (size_t)number(r, 1)); return true;
    default: return false;
    }
}
static void put(struct reader *r, uint64_t i) {
    if (!top(r)) return;
    const int v = r->stack[r->depth - 1];
    if (i > (uint64_t)r->memos) { /* picklers number what they note one by one: a large number would only cost memory */
        bad(r, "skips places of its memo");
        return;
    }
    void *grown = more(r, r->memo, &r->memo_cap, r->memos, sizeof *r->memo);
    if (!grown) return;
    r->memo = grown;
    r->memo[i] = v;
    if (i == (uint64_t)r->memos) r->memos++;
}
static void get(struct reader *r, uint64_t i) {
    if (i < (uint64_t)r->memos)
        push(r, r->memo[i]);
    else
        bad(r, "reads a place of its memo that is empty");
}
static bool noted(struct reader *r, int op) {
    if (op != 'q' && op != 'r' && op != 'h' && op != 'j') return false;
    const uint64_t i = number(r, op == 'q' || op == 'h' ? 1 : 4);
    if (r->e->code) return true;
    if (op == 'q' || op == 'r')
        put(r, i);
    else
        get(r, i);
    return true;
}
/* The values above stack place `from` go into the container below them (below the MARK, if there is one). */
static void extend(struct reader *r, enum pickle_kind kind, int from, bool marked) {
    const int below = from - (marked ? 2 : 1);
    if (from < 0 || below < 0 || r->stack[below] == MARK || r->out->node[r->stack[below]].kind != kind) {
        bad(r, "adds to what is no %s", kind == PICKLE_DICT ? "dict" : "list");
        return;
    }
    if (kind == PICKLE_DICT && (r->depth - from) % 2) {
        bad(r, "has a key without a value");
        return;
    }
    for (int i = from; i < r->depth && !r->e->code; i++) append(r, r->stack[below], r->stack[i]);
    r->depth = below + 1;
}
static bool values_above(struct reader *r, int n) { /* the top n are values, not MARKs */
    for (int i = 1; i <= n; i++)
        if (i > r->depth || r->stack[r->depth - i] == MARK) {
            bad(r, "takes more than it has put");
            return false;
        }
    return true;
}
static void from_mark(struct reader *r, int op) {
    const int at = mark(r);
    if (at < 0) return;
    if (op == 'e' || op == 'u') {
        extend(r, op == 'e' ? PICKLE_LIST : PICKLE_DICT, at + 1, true);
        return;
    }
    if (op == 'd' && (r->depth - at - 1) % 2) {
        bad(r, "has a key without a value");
        return;
    }
    gather(r, op == 't' ? PICKLE_TUPLE : PICKLE_DICT, at + 1);
    if (r->e->code) return;
    r->stack[at] = r->stack[r->depth - 1]; /* in the MARK's place */
    r->depth = at + 1;
}
static bool container(struct reader *r, int op) {
    switch (op) {
    case '(': push(r, MARK); return true;
    case ')': push_node(r, (struct pickle_node){ .kind = PICKLE_TUPLE }); return true;
    case ']':
    case 0x8f: push_node(r, (struct pickle_node){ .kind = PICKLE_LIST }); return true; /* a set: only ever empty */
    case '}': push_node(r, (struct pickle_node){ .kind = PICKLE_DICT }); return true;
    case 0x85:
    case 0x86:
    case 0x87:
        if (values_above(r, op - 0x84)) gather(r, PICKLE_TUPLE, r->depth - (op - 0x84));
        return true;
    case 't':
    case 'd':
    case 'e':
    case 'u': from_mark(r, op); return true;
    case 'a':
        if (values_above(r, 2)) extend(r, PICKLE_LIST, r->depth - 1, false);
        return true;
    case 's':
        if (values_above(r, 3)) extend(r, PICKLE_DICT, r->depth - 2, false);
        return true;
    default: return false;
    }
}
static const char *line(struct reader *r, size_t *n) {
    const unsigned char *p = r->p + r->at, *end = memchr(p, '\n', r->n - r->at);
    if (!end) {
        bytes(r, r->n - r->at + 1);
        return NULL;
    }
    *n = (size_t)(end - p);
    r->at += *n + 1;
    return (const char *)p;
}
static bool equal(const char *p, size_t n, const char *s) { return strlen(s) == n && !memcmp(p, s, n); }
static void global(struct reader *r) {
    size_t n = 0, k = 0;
    const char *module = line(r, &n), *name = module ? line(r, &k) : NULL;
    if (!name) return;
    int found = -1;
    for (size_t i = 0; i < sizeof globals / sizeof *globals && found < 0; i++)
        if (equal(module, n, globals[i].module) && equal(name, k, globals[i].name)) found = globals[i].global;
    for (int i = 0; i < STORAGES && found < 0; i++)
        if (equal(module, n, "torch") && equal(name, k, pickle_storage[i].name)) found = PICKLE_STORAGES + i;
    if (found >= 0) {
        push_node(r, (struct pickle_node){ .kind = PICKLE_GLOBAL, .u.global = found });
        return;
    }
    char what[2 * NAME + 2];
    snprintf(what, sizeof what, "%.*s.%.*s", (int)(n < NAME ? n : NAME), module, (int)(k < NAME ? k : NAME), name);
    for (char *c = what; *c; c++)
        if (*c < ' ' || *c > '~') *c = '?';
    bad(r, "asks for '%s', which weights do not need: refused", what);
}
/* A tuple of integers >= 0, no more than a tensor can have dimensions: one that is noted may be checked many times. */
static bool counts(const struct pickle *p, const struct pickle_node *t) {
    if (!t || t->kind != PICKLE_TUPLE) return false;
    for (int c = t->first, n = 0; c >= 0; c = p->cell[c].next, n++) {
        const struct pickle_node *v = &p->node[p->cell[c].node];
        if (n == DIMS_MAX || v->kind != PICKLE_INT || v->u.number < 0) return false;
    }
    return true;
}
static bool is(const struct pickle_node *v, enum pickle_kind kind) { return v && v->kind == kind; }
static bool tensor_fits(const struct pickle *p, const struct pickle_node *a) {
    const struct pickle_node *at = pickle_child(p, a, 1), *shape = pickle_child(p, a, 2),
                             *stride = pickle_child(p, a, 3);
    return is(pickle_child(p, a, 0), PICKLE_STORAGE) && is(at, PICKLE_INT) && at->u.number >= 0 && counts(p, shape) &&
           counts(p, stride) && pickle_children(p, shape) == pickle_children(p, stride);
}
static bool storage_fits(const struct pickle *p, const struct pickle_node *a) {
    const struct pickle_node *word = pickle_child(p, a, 0), *type = pickle_child(p, a, 1), *n = pickle_child(p, a, 4);
    const struct pickle_node *view = pickle_child(p, a, 5);
    return is(a, PICKLE_TUPLE) && is(word, PICKLE_TEXT) && equal(word->u.text.p, word->u.text.n, "storage") &&
           is(type, PICKLE_GLOBAL) && type->u.global >= PICKLE_STORAGES && is(pickle_child(p, a, 2), PICKLE_TEXT) &&
           is(n, PICKLE_INT) && n->u.number >= 0 && (!view || is(view, PICKLE_NONE));
}
/* A copy of tuple a under another kind: the tuple itself may be noted and used again. */
static void retype(struct reader *r, int a, enum pickle_kind kind) {
    struct pickle_node v = r->out->node[a];
    v.kind = kind;
    push(r, node(r, v));
}
/* f(*args) of the few callables that are known. */
static void call(struct reader *r) {
    const int a = pop(r), f = a < 0 ? NOTHING : pop(r);
    if (f < 0) return;
    const struct pickle *p = r->out;
    const struct pickle_node *args = &p->node[a], *first = pickle_child(p, args, 0);
    const int which = p->node[f].kind == PICKLE_GLOBAL ? p->node[f].u.global : -1;
    if (args->kind != PICKLE_TUPLE) {
        bad(r, "calls without arguments");
    } else if (which == PICKLE_ORDERED_DICT && !first) {
        push_node(r, (struct pickle_node){ .kind = PICKLE_DICT });
    } else if (which == PICKLE_REBUILD_TENSOR && tensor_fits(p, args)) {
        retype(r, a, PICKLE_TENSOR);
    } else if ((which == PICKLE_REBUILD_PARAMETER || which == PICKLE_PARAMETER) && is(first, PICKLE_TENSOR)) {
        push(r, (int)(first - p->node));
    } else if (which == PICKLE_SIZE && counts(p, first)) {
        push(r, (int)(first - p->node));
    } else {
        bad(r, "calls %s with other arguments than torch.save writes",
            which == PICKLE_ORDERED_DICT     ? "OrderedDict"
            : which == PICKLE_REBUILD_TENSOR ? "_rebuild_tensor_v2"
                                             : "something");
    }
}
static bool object(struct reader *r, int op) {
    switch (op) {
    case 'c': global(r); return true;
    case 'R':
    case 0x81: call(r); return true;
    case 'b': { /* attributes of a state dict or parameter (_metadata): not needed */
        const int state = pop(r);
        const struct pickle_node *of = state < 0 ? NULL : top(r);
        if (of && of->kind != PICKLE_DICT && of->kind != PICKLE_TENSOR)
            bad(r, "sets the state of what is no tensor and no dict: refused");
        return true;
    }
    case 'Q': {
        const int a = pop(r);
        if (a >= 0 && storage_fits(r->out, &r->out->node[a]))
            retype(r, a, PICKLE_STORAGE);
        else if (a >= 0)
            bad(r, "has a reference that is no tensor storage as torch.save writes it");
        return true;
    }
    default: return false;
    }
}
static void instruction(struct reader *r) {
    const unsigned char *p = bytes(r, 1);
    if (!p) return;
    const int op = *p;
    if (op == '.') {
        r->out->root = pop(r);
        r->done = true;
    } else if (op == 0x80) {
        const int version = (int)number(r, 1);
        if (!r->e->code && version != 2) bad(r, "has protocol %d, torch.save's is 2", version);
    } else if (!plain(r, op) && !noted(r, op) && !container(r, op) && !object(r, op)) {
        bad(r, "uses opcode 0x%02x, which weights do not need: refused", (unsigned)op);
    }
}
int pickle_read(struct pickle *p, const void *from, size_t n, const char *label, struct err *e) {
    struct err why = { 0 };
    *p = (struct pickle){ 0 };
    struct reader r = { .out = p, .p = from, .n = n < INT32_MAX / 4 ? n : 0, .label = label, .e = &why };
    while (!r.done && !why.code) instruction(&r);
    p->used = r.at;
    mem_free(r.stack);
    mem_free(r.memo);
    if (!why.code) return STATUS_OK;
    const bool cut = p->cut;
    pickle_fini(p);
    p->cut = cut;
    return err_set(e, why.code, "%s", why.text);
}
void pickle_fini(struct pickle *p) {
    mem_free(p->node);
    mem_free(p->cell);
    *p = (struct pickle){ 0 };
}
struct pickle_node *pickle_child(const struct pickle *p, const struct pickle_node *of, int i) {
    int c = of->first;
    while (c >= 0 && i-- > 0) c = p->cell[c].next;
    return c < 0 ? NULL : &p->node[p->cell[c].node];
}
int pickle_children(const struct pickle *p, const struct pickle_node *of) {
    int n = 0;
    for (int c = of->first; c >= 0; c = p->cell[c].next) n++;
    return n;
}
