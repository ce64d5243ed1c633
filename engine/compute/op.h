/* op.h - what crosses the seam between a program and a device: matrices, weights' descriptors, the records of calls. Plain
 * data, valid C11 and C++17. */
#ifndef JAEDA_COMPUTE_OP_H
#define JAEDA_COMPUTE_OP_H
#include "base/dtype.h"
#include "compute/step.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { OPERANDS = 8, HEAD_DIM_MAX = 256 };
/* An activation: row-major fp32. buf names it in its program; p is a device address, set by program_link(). Only a KV
 * mat lies otherwise: ld is the columns of one head there, its numbers may be fp16, and how heads and rows are stored is
 * the backend's affair. */
struct mat {
    float *p;
    int buf, rows, cols, ld;
    enum dim dim;
    enum dtype dt;
};

/* What a checkpoint says about a matrix (cols == 1: a vector). Row r lies at row first + r / run * step + r % run of
 * its tensor, so that several weights may share one. pairs: head_dim when the rows of each head are stored for
 * pairwise rotation (row 2i + j of a head in the file is row i + j * pairs / 2 here), else 0. The packed form belongs
 * to the backend that made it; nobody else can look inside. */
struct weight {
    char name[96];
    int rows, cols, first, run, step, pairs;
    /* in the file; when packed: DTYPE_NONE keeps dt (or the backend's exact equivalent), else F32, F16, BF16, or
     * quantised now in groups of 32 columns: Q8_0 ("int8"), Q4_0 ("int4"). What is quantised already is never quantised
     * again: it keeps its form. Vectors become f32 whatever want says. */
    enum dtype dt, want;
    int file;               /* of the checkpoint */
    uint64_t offset, bytes; /* of its whole tensor in that file */
    struct packed *packed;
};

#define OP_MAP(X)                                                                                                      \
    X(EMBED, "embed")                                                                                                  \
    X(ANGLES, "angles")                                                                                                \
    X(LINEAR, "linear")                                                                                                \
    X(NORM, "norm")                                                                                                    \
    X(ROPE, "rope")                                                                                                    \
    X(KV_PUT, "kv_put")                                                                                                \
    X(ATTN, "attn")                                                                                                    \
    X(GATE, "gate")                                                                                                    \
    X(ADD, "add")                                                                                                      \
    X(PICK, "pick")                                                                                                    \
    X(NEXT, "next")
enum op {
#define X(id, name) OP_##id,
    OP_MAP(X)
#undef X
        OP_COUNT /* from here on: codes private to one backend */
};
enum norm { NORM_LAYER, NORM_RMS };
enum act { ACT_NONE, ACT_GELU, ACT_SILU, ACT_GELU_TANH }; /* GELU: by erf */
enum { READ = 1, WRITE = 2 };
struct norm_of {
    struct weight *g, *b; /* gain, bias or NULL */
    enum norm kind;
    float eps;
};
struct rope {
    int head_dim, rot; /* the first rot of each head's dimensions turn; 0: none */
    float theta;
};
/* blocks: rows that are not cached are so many pieces of equal size (pictures), of queries and of keys; each piece sees its own
 * keys only. 0 and 1: every row sees every row. */
struct attn_of {
    int heads, kv_heads, head_dim, blocks;
};
static inline int attn_blocks(const struct attn_of *a) { return a->blocks > 1 ? a->blocks : 1; }

/* Operand traffic follows from the operands; this is the rest. flops = row_flops * rows + ctx_flops * sum of contexts. */
struct cost {
    double weight_bytes, row_bytes, row_flops, ctx_flops;
};

/* One call. The same record is checked, counted, fused, planned, dumped, timed and executed. */
struct op_call {
    int op, layer;     /* layer -1: outside the stack */
    const char *label; /* role: "attn.q", "mlp.down"; fused: "attn.q|attn.k|attn.v"; lives as long as the program */
    int n;
    struct mat m[OPERANDS]; /* m[0] is the result; for private ops the backend decides */
    unsigned char access[OPERANDS];
    struct weight *w[2]; /* matrix or gain, bias */
    union {
        struct norm_of norm;
        enum act act; /* LINEAR, GATE */
        struct rope rope;
        bool keys; /* KV_PUT: keys, not values */
        struct attn_of attn;
    } u;
    struct cost cost;
    void *priv; /* private ops: one mem_alloc block, freed with the program */
};
static inline int live_rows(const struct mat *m, const struct step *s) {
    return m->dim == DIM_FIXED ? m->rows : s->n[m->dim];
}
#ifdef __cplusplus
}
#endif
#endif
