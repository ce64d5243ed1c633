/* fuse.c - what the CPU asks of the fusion rules, and the scratch memory of the programs that come out. */
#include "cpu.h"

int cpu_kind(const struct weight *w) { return feed_kind(weight_form(w)); }
void cpu_fuse(struct program *p) {
    static const struct fuse_rules rules = { .head_multiple = PANEL, .kv = true, .kind = cpu_kind };
    fuse_program(p, &rules);
}
size_t cpu_feed_bytes(const struct feed *f, int cols, int rows, int block) {
    if (rows == 1 && f->kind != FEED_QUANT && f->norm < 0) return 0; /* the row itself will do */
    const size_t padded = (size_t)((rows + block - 1) / block * block);
    const size_t bytes =
        padded * (f->kind == FEED_QUANT ? (size_t)cols / QBLOCK * QUANT_WORDS : (size_t)cols) * sizeof(float);
    return (bytes + 63) & ~(size_t)63;
}
/* Keys that are not cached, laid across. Of few queries what the chunks of cached keys found: for each a head's columns, the
 * largest score, the sum of weights. */
static size_t attn_bytes(const struct op_call *c) {
    const struct attn_of *s = &c->u.attn;
    if (c->op != OP_ATTN) return 0;
    if (c->m[2].dim != DIM_KV)
        return (size_t)(c->m[2].rows + PANEL - 1) / PANEL * PANEL * (size_t)c->m[2].cols * sizeof(float);
    if (c->m[1].rows > ALONE_ROWS) return 0;
    return (size_t)c->m[1].rows * (size_t)s->heads * ATTN_CHUNKS * (size_t)(s->head_dim + 2) * sizeof(float);
}
void cpu_scratch(const struct program *p, size_t *each, size_t *shared) {
    *each = *shared = 0;
    for (int i = 0; i < p->n; i++) {
        const struct op_call *c = &p->call[i];
        if (attn_bytes(c) > *shared) *shared = (attn_bytes(c) + 63) & ~(size_t)63;
        if (c->op != OP_PROJ && c->op != OP_LINEAR) continue;
        const struct proj f = c->op == OP_PROJ ? *(const struct proj *)c->priv : fuse_linear(c, cpu_kind);
        const int rows = c->m[f.feed[0].x].rows, block = cpu_block(cpu_kernels(p->be), rows);
        size_t feeds = 0, own = 0;
        for (int k = 0; k < f.feeds; k++) {
            const int cols = c->m[f.feed[k].x].cols;
            feeds += cpu_feed_bytes(&f.feed[k], cols, rows, block);
            const size_t temp = f.feed[k].norm < 0 ? 0 : ((size_t)cols * sizeof(float) + 63) & ~(size_t)63;
            if (temp > own) own = temp;
        }
        if (rows <= ALONE_ROWS)
            own += feeds;
        else if (feeds > *shared)
            *shared = feeds;
        if (own > *each) *each = own;
    }
}
