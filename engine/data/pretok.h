/* pretok.h - cutting text into the pieces within which BPE merges, in stages, each working within the pieces of the one
 * before. Immutable once built; any thread may cut, each with scratch of its own. */
#ifndef JAEDA_DATA_PRETOK_H
#define JAEDA_DATA_PRETOK_H
#include "base/buf.h"
#include "pattern.h"

struct pretok;
enum pretok_behavior { PRETOK_REMOVED, PRETOK_ISOLATED, PRETOK_WITH_PREVIOUS, PRETOK_WITH_NEXT, PRETOK_CONTIGUOUS };
int pretok_open(struct pretok **out, struct err *e); /* no stages: the whole text is one piece */
/* By the value of tokenizer.ggml.pre. An unknown one is named together with the known ones. */
int pretok_named(struct pretok **out, const char *name, size_t n, struct err *e);
void pretok_close(struct pretok *p); /* NULL is fine */
/* What becomes of a pattern's matches and what lies between them; invert: the other way round. The pattern
 * belongs to p from here on, also when this fails. */
int pretok_add_split(struct pretok *p, struct pattern *pattern, enum pretok_behavior behavior, bool invert,
                     struct err *e);
int pretok_add_gpt2(struct pretok *p, struct err *e); /* GPT-2's splitter */
/* A blank before every piece that does not begin with one. */
int pretok_add_blank(struct pretok *p, struct err *e);
/* Blanks become mark (at most 15 bytes). prefix: a mark before a piece that does not begin with one: never, only at the
 * start of the text, always. */
enum pretok_prefix { PRETOK_NEVER, PRETOK_FIRST, PRETOK_ALWAYS };
int pretok_add_mark(struct pretok *p, const char *mark, size_t n, enum pretok_prefix prefix, struct err *e);
/* For the names of tokenizer.ggml.pre: a piece that is a token as a whole is taken without merging (Llama 3); BOS goes
 * first where the file itself does not say. */
bool pretok_whole_first(const struct pretok *p);
bool pretok_adds_bos(const struct pretok *p);

struct pretok_piece {
    uint32_t at, n;
};
/* Scratch and result of one caller: zero-initialise, reuse. */
struct pretok_work {
    const char *text; /* what the pieces lie in: the caller's text, or one that the stages made */
    struct pretok_piece *piece;
    size_t n;
    struct pretok_list {
        struct pretok_piece *v;
        size_t n, cap;
    } list[2];
    struct buf made[2];
    struct pattern_work search;
};
void pretok_work_fini(struct pretok_work *w);
/* Cuts n bytes (under 4 GiB) into w->piece[0 .. w->n - 1], none empty, in order. first: the text starts here. Bytes that
 * are no UTF-8 become pieces of their own, which no stage changes. */
int pretok_cut(const struct pretok *p, struct pretok_work *w, const char *text, size_t n, bool first, struct err *e);

#endif
