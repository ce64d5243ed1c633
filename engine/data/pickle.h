/* pickle.h - a restricted unpickler: it knows the opcodes and globals that torch.save writes for tensors in dicts
 * (pytorch torch/_weights_only_unpickler.py; legacy files also use DICT) and refuses everything else by name. It builds
 * plain data and runs nothing. Pure. */
#ifndef JAEDA_DATA_PICKLE_H
#define JAEDA_DATA_PICKLE_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT, /* children: key, value, key, value ... */
    PICKLE_GLOBAL,
    PICKLE_STORAGE, /* children: "storage", its type (GLOBAL), key (TEXT), location, number of elements (INT >= 0), ... */
    PICKLE_TENSOR /* children: STORAGE, offset in elements (INT), shape and strides (TUPLEs of as many INTs >= 0), ... */
};
struct pickle_node {
    enum pickle_kind kind;
    int first, last; /* cells of the children; -1: none */
    int seen;        /* the reader's own, 0 at first: a pickle may hold itself */
    union {
        int64_t number; /* BOOL, INT */
        double real;
        struct {
            const char *p; /* into the bytes that were read */
            size_t n;
        } text;
        int global; /* enum pickle_global */
    } u;
};
enum pickle_global {
    PICKLE_ORDERED_DICT,
    PICKLE_REBUILD_TENSOR,
    PICKLE_REBUILD_PARAMETER,
    PICKLE_PARAMETER,
    PICKLE_SIZE,
    PICKLE_DTYPE,
    PICKLE_STORAGES /* from here on: pickle_storage[global - PICKLE_STORAGES] */
};
struct pickle_storage {
    const char *name, *dt_name; /* "HalfStorage", "F16" */
    int dt, bytes;              /* enum dtype; of one element */
};
extern const struct pickle_storage pickle_storage[];

struct pickle {
    struct pickle_node *node;
    struct pickle_cell {
        int node, next; /* next: -1 after the last */
    } * cell;
    int nodes, cells, node_cap, cell_cap, root;
    size_t used; /* bytes up to and with STOP */
    bool cut;    /* it failed because the bytes end */
};
/* label names the file in errors. On failure p is empty. Memory grows with n only. */
int pickle_read(struct pickle *p, const void *bytes, size_t n, const char *label, struct err *e);
void pickle_fini(struct pickle *p);
/* Child i of a container; NULL: it has fewer. */
struct pickle_node *pickle_child(const struct pickle *p, const struct pickle_node *of, int i);
int pickle_children(const struct pickle *p, const struct pickle_node *of);

#endif
