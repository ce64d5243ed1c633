/* tokenizer_parts.h - what the readers of the three file formats build, and what encoding reads. */
#ifndef JAEDA_DATA_TOKENIZER_PARTS_H
#define JAEDA_DATA_TOKENIZER_PARTS_H
#include "bpe.h"
#include "normalizer.h"
#include "pretok.h"
#include "strmap.h"
#include "tokenizer.h"
#include "tokenizer_added.h"

enum { TOKENS_MAX = 1 << 22, TOKEN_BYTES_MAX = 1 << 16 };
/* As tokenizer.ggml.token_type and SentencePiece number them. */
enum token_type { TOKEN_GAP, TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE };

struct tokenizer {
    int n, bos, eos, unk;         /* unk: what a symbol that the vocabulary lacks becomes; -1: it vanishes */
    bool bytewise;                /* symbols are bytes, tokens are written in the byte alphabet; else characters */
    bool marks;                   /* tokens have "▁" for a blank */
    bool whole_first;             /* a piece that is a token is taken without merging */
    bool fuse_unk;                /* one unk for a run of unknown symbols */
    bool bare;                    /* made without a file: has no control tokens */
    bool cuts_marks;              /* nothing merges over the border between something and a "▁" */
    char *blob;                   /* the bytes of all tokens, one after another */
    char *spelling;               /* of tokens of characters: the keys of the two maps; NULL: they lie in blob */
    uint32_t *at;                 /* n + 1 places in blob */
    unsigned char *type;          /* enum token_type */
    struct strmap normal, named;  /* bytes -> id of what merges make; text -> id of everything else */
    int byte[256];                /* id that stands for a single byte, -1: the vocabulary lacks it */
    struct added raw, normalized; /* looked for before and after the normalizer */
    struct bpe bpe;
    struct pretok *pretok;         /* NULL: text is one piece */
    struct normalizer *normalizer; /* NULL: none */
    char *chat_template;           /* NULL: none */
    size_t chat_template_n;
};

struct token {
    const char *p; /* as the file spells it; borrowed */
    size_t n;
    unsigned char type;
    bool merges; /* merges may make it */
    float score;
};
/* Makes t's token table from list (n of them, gaps included). t->bytewise and t->marks say how they are spelled. */
int tokenizer_set_tokens(struct tokenizer *t, const struct token *list, size_t n, const char *label, struct err *e);
/* A user-defined or control token that is looked for in the text (n bytes); normalized: after the normalizer. */
int tokenizer_add_text(struct tokenizer *t, const char *p, size_t n, int id, unsigned flags, bool normalized,
                       struct err *e);
/* After everything else: sorts, looks at the merges. */
void tokenizer_seal(struct tokenizer *t);
int tokenizer_no_memory(struct err *e);
/* "▁", U+2581 */
#define MARK_TEXT "\xe2\x96\x81"
enum { MARK_BYTES = 3 };

/* tokenizer_encode of a text that goes on from another: start is false where something stands before it. */
int tokenizer_encode_part(const struct tokenizer *t, const char *text, size_t n, bool special, bool start,
                          struct ids *out, struct err *e);
bool tokenizer_is_bare(const struct tokenizer *t);

/* For readers of folders: the tokenizer as it is read from the file, to which the folder's other files add. */
struct token_extra {
    const char *p;
    size_t n;
    int id;
    unsigned flags;
};
int tokenizer_read_model(struct tokenizer **out, const void *bytes, size_t n, const struct token_extra *extra,
                         int extras, const char *label, struct err *e);

#endif
