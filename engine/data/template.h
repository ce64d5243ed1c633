/* template.h - a conversation -> the text that a model was trained on. The template's own control tokens are kept apart
 * from everything a person or a model wrote, so that a prompt which contains "<|im_end|>" stays plain characters. */
#ifndef JAEDA_DATA_TEMPLATE_H
#define JAEDA_DATA_TEMPLATE_H
#include "base/buf.h"
#include "tokenizer.h"

struct template_message {
    /* role: "system", "user", "assistant", or "input", which goes with the user turn after it (KoAlpaca's 맥락, KULLM's
     * 입력); any or NULL for "raw" */
    const char *role, *text;
    size_t len;
    int images; /* pictures in front of a user's text; more than none: only in the templates of MiniGPT-4 */
};
/* A stretch of the rendered text. special: exactly one control token's text; image > 0: the place of that picture of the
 * conversation (the first is 1), "<ImageHere>" for people to read; else plain text, however it reads. Plain stretches
 * never touch each other, so encoding them one by one gives the ids of the whole. */
struct template_segment {
    size_t at, len; /* into text */
    bool special;
    int image;
};
struct rendered {
    struct buf text; /* what the model sees, in one piece, for people to read */
    struct template_segment *seg;
    size_t n, cap;
    /* As MiniGPT-4 reads prompts (transformers 4.30): BOS stands first even where a control token of the same kind opens
     * the text, and each plain stretch begins a text of its own, dummy blank included. */
    bool apart;
}; /* zero-initialise; rendered_fini frees */
void rendered_fini(struct rendered *r);

/* Known: "raw" (texts joined as they are), "chatml", "koalpaca", "kullm", "llama-2", "vicuna" (v1.1), "vicuna-v0", and
 * "minigpt4-llama2", "minigpt4-vicuna0", "minigpt-v2", which have places for pictures.
 * Renders the prompt that ends where the assistant speaks into r, whose former contents are dropped; what was rendered
 * for a conversation, and its answer, begin the text of the longer one (but for "minigpt-v2", whose authors leave answers
 * out). But for "raw" and "chatml", users and answers take turns. system: the model's own, put first when the conversation opens with no system message and the template has
 * a place for one; NULL: none. A system message or an input of the conversation that has no place is an error. */
int template_render(const char *name, const char *system, const struct template_message *m, int n, struct rendered *r,
                    struct err *e);
/* Appends the ids of r to out: BOS where the file (or the template) asks for one, control tokens only for special
 * segments, -n for picture n. A control token that the vocabulary lacks is an error that names it. */
int template_encode(const struct tokenizer *t, const struct rendered *r, struct ids *out, struct err *e);
const char *template_name(int i); /* NULL after the last one */
/* A text at which an answer in this template ends ("###"); NULL: none but the end of text. */
const char *template_stop(const char *name);
/* The name of the template that a model's chat_template is, by its markers; "raw" when unknown. */
const char *template_guess(const char *jinja, size_t n);
/* The system message that this chat_template puts first by itself, appended to out. false: it has none. */
bool template_system(const char *jinja, size_t n, struct buf *out);

#endif
