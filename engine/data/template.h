/* template.h - a conversation -> the text that a model was trained on. The template's own control tokens are kept apart
 * from everything a person or a model wrote, so that a prompt which contains "<|im_end|>" stays plain characters. */
#ifndef JAEDA_DATA_TEMPLATE_H
#define JAEDA_DATA_TEMPLATE_H
#include "base/buf.h"
#include "tokenizer.h"

struct template_message {
    const char *role, *text; /* role: "system", "user" or "assistant"; any or NULL for "raw" */
    size_t len;
};
/* A stretch of the rendered text. special: exactly one control token's text; else plain text, however it reads. Plain
 * stretches never touch each other, so encoding them one by one gives the ids of the whole. */
struct template_segment {
    size_t at, len; /* into text */
    bool special;
};
struct rendered {
    struct buf text; /* what the model sees, in one piece, for people to read */
    struct template_segment *seg;
    size_t n, cap;
}; /* zero-initialise; rendered_fini frees */
void rendered_fini(struct rendered *r);

/* Known: "raw" (texts joined as they are), "chatml". Renders the prompt that ends where the assistant speaks into r,
 * whose former contents are dropped. system: put first when the conversation opens with no system message; NULL: none. */
int template_render(const char *name, const char *system, const struct template_message *m, int n, struct rendered *r,
                    struct err *e);
/* Appends the ids of r to out: BOS where the file asks for one, control tokens only for special segments. A control
 * token that the vocabulary lacks is an error that names it. */
int template_encode(const struct tokenizer *t, const struct rendered *r, struct ids *out, struct err *e);
const char *template_name(int i); /* NULL after the last one */
/* The name of the template that a GGUF's tokenizer.chat_template is, by its markers; "raw" when unknown. */
const char *template_guess(const char *jinja, size_t n);
/* The system message that this chat_template puts first by itself, appended to out. false: it has none. */
bool template_system(const char *jinja, size_t n, struct buf *out);

#endif
