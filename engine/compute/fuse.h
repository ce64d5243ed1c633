/* fuse.h - rewrites a recorded program into fewer, larger calls, for every backend that has PROJ. Private to compute/. */
#ifndef JAEDA_COMPUTE_FUSE_H
#define JAEDA_COMPUTE_FUSE_H
#include "compute/program.h"
#ifdef __cplusplus
extern "C" {
#endif

/* PROJ = up to two norms of x, then rows of several matrices, then what follows each row:
 *   sum of terms (or act(t0) * t1), biases, act, rope, to an activation, onto a residual or into the KV pool. */
enum { OP_PROJ = OP_COUNT, OPS_ALL };
enum { SEGS = 4, NORMS = 2, FEEDS = 6 };
struct term { /* x: operand index; norm: index, -1 = x as it is */
    int x, norm, feed;
    struct weight *w, *b;
};
struct seg {
    struct term t[2];
    int terms, out; /* out: operand index */
    enum act act;
    bool gate, rope, add, keys;
};
struct feed { /* one form of one input; what kinds there are is the backend's affair */
    int x, norm, kind;
};
struct proj {
    struct norm_of norm[NORMS];
    struct seg seg[SEGS];
    struct feed feed[FEEDS];
    int norms, segs, feeds, angles; /* angles: operand index, for rope */
    struct rope rope;
    char label[72];
};
typedef int fuse_kind(const struct weight *w); /* the form in which this weight wants its input */
struct fuse_rules {
    int head_multiple; /* rope goes into PROJ when head_dim is a multiple of it */
    bool kv;           /* PROJ can write into the KV pool */
    fuse_kind *kind;
};
/* Never fails, only fuses less. Afterwards LINEAR has become PROJ wherever there was memory for it. */
void fuse_program(struct program *p, const struct fuse_rules *r);
struct proj fuse_linear(const struct op_call *c, fuse_kind *kind); /* a LINEAR as a PROJ of one segment */

#ifdef __cplusplus
}
#endif
#endif
