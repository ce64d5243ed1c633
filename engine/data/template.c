#include "template.h"
#include "base/mem.h"
#include "tokenizer_parts.h"
#include <string.h>

enum { TEXT_MAX = 64 << 20 };
static const char im_start[] = "<|im_start|>", im_end[] = "<|im_end|>";

void rendered_fini(struct rendered *r) {
    buf_fini(&r->text);
    mem_free(r->seg);
    *r = (struct rendered){ 0 };
}
/* Plain text joins the plain stretch before it, since a tokeniser sees no border there either. */
static void add_segment(struct rendered *r, const char *p, size_t n, bool special, int image) {
    const struct template_segment *last = r->n ? &r->seg[r->n - 1] : NULL;
    const size_t at = r->text.n;
    if (!n || buf_add(&r->text, p, n)) return;
    if (last && !special && !image && !last->special && !last->image) {
        r->seg[r->n - 1].len += n;
        return;
    }
    if (r->n == r->cap) {
        const size_t cap = r->cap ? r->cap * 2 : 16;
        struct template_segment *seg = mem_grow(r->seg, cap, sizeof *seg);
        if (!seg) {
            r->text.failed = true;
            return;
        }
        r->seg = seg;
        r->cap = cap;
    }
    r->seg[r->n++] = (struct template_segment){ at, n, special, image };
}
static void add(struct rendered *r, const char *p, size_t n, bool special) { add_segment(r, p, n, special, 0); }
static void plain(struct rendered *r, const char *s) { add(r, s, strlen(s), false); }

/* A conversation without its system message, and a place in it. */
struct talk {
    const char *system; /* NULL: none */
    size_t system_n;
    const struct template_message *m;
    int n, at, turns; /* turns: how many were taken */
    int images;       /* how many have their place */
};
struct turn {
    const struct template_message *input, *user, *answer; /* input, answer: NULL where there is none */
};
static bool is(const struct template_message *m, const char *role) { return m->role && !strcmp(m->role, role); }
static bool next_turn(struct talk *k, struct turn *t) {
    *t = (struct turn){ 0 };
    if (k->at < k->n && is(&k->m[k->at], "input")) t->input = &k->m[k->at++];
    if (k->at < k->n) t->user = &k->m[k->at++];
    if (k->at < k->n && is(&k->m[k->at], "assistant")) t->answer = &k->m[k->at++];
    k->turns++;
    return t->user != NULL;
}
static void said(struct rendered *r, const struct template_message *m) { add(r, m->text, m->len, false); }
/* An answer after a colon. One that was generated there mostly brings its blank along. */
static void answer_after_blank(struct rendered *r, const struct template_message *m) {
    if (!m->len || !strchr(" \n", *m->text)) plain(r, " ");
    said(r, m);
}
static void special(struct rendered *r, const char *s) { add(r, s, strlen(s), true); }

static void chatml_turn(struct rendered *r, const char *role, const char *text, size_t n) {
    special(r, im_start);
    plain(r, role);
    plain(r, "\n");
    add(r, text, n, false);
    special(r, im_end);
    plain(r, "\n");
}
static void chatml(struct rendered *r, struct talk *k) {
    if (k->system) chatml_turn(r, "system", k->system, k->system_n);
    for (int i = 0; i < k->n; i++) chatml_turn(r, k->m[i].role, k->m[i].text, k->m[i].len);
    special(r, im_start);
    plain(r, "assistant\n");
}
static void raw(struct rendered *r, struct talk *k) {
    for (int i = 0; i < k->n; i++) said(r, &k->m[i]);
}
/* KoAlpaca v1.1 (its README). It was trained on single turns; further ones follow after an empty line. */
static void koalpaca(struct rendered *r, struct talk *k) {
    for (struct turn t; next_turn(k, &t);) {
        if (k->turns > 1) plain(r, "\n\n");
        plain(r, "### 질문: ");
        said(r, t.user);
        if (t.input) plain(r, "\n\n### 맥락: "), said(r, t.input);
        plain(r, "\n\n### 답변:");
        if (t.answer) answer_after_blank(r, t.answer);
    }
}
/* KULLM v2 (templates/kullm.json). The opening is that of the first turn. */
static void kullm(struct rendered *r, struct talk *k) {
    for (struct turn t; next_turn(k, &t);) {
        if (k->turns > 1) {
            plain(r, "\n\n");
        } else if (t.input) {
            plain(r, "아래는 작업을 설명하는 명령어와 추가 컨텍스트를 제공하는 입력이 짝을 이루는 예제입니다. 요청을 "
                     "적절히 완료하는 "
                     "응답을 작성하세요.\n\n");
        } else {
            plain(r, "아래는 작업을 설명하는 명령어입니다. 요청을 적절히 완료하는 응답을 작성하세요.\n\n");
        }
        plain(r, "### 명령어:\n");
        said(r, t.user);
        if (t.input) plain(r, "\n\n### 입력:\n"), said(r, t.input);
        plain(r, "\n\n### 응답:\n");
        if (t.answer) said(r, t.answer);
    }
}
/* Without the white space at its end and, where left, at its start. */
static void stripped(struct rendered *r, const struct template_message *m, bool left) {
    const char *p = m->text;
    size_t n = m->len;
    uint32_t cp;
    for (int len; left && n && (len = utf8_decode(p, n, &cp)) && utf8_is_space(cp); n -= (size_t)len) p += len;
    while (n) {
        size_t back = 1;
        while (back < n && back < 4 && ((unsigned char)p[n - back] & 0xc0) == 0x80) back++;
        if (utf8_decode(p + n - back, back, &cp) != (int)back || !utf8_is_space(cp)) break;
        n -= back;
    }
    add(r, p, n, false);
}
/* Llama-2-chat, as the chat_template of its tokenizer_config.json strips and joins. */
static void llama2(struct rendered *r, struct talk *k) {
    for (struct turn t; next_turn(k, &t);) {
        const bool opens = k->turns == 1 && k->system;
        special(r, "<s>");
        plain(r, "[INST] ");
        if (opens) {
            plain(r, "<<SYS>>\n");
            add(r, k->system, k->system_n, false);
            plain(r, "\n<</SYS>>\n\n");
        }
        stripped(r, t.user, !opens);
        plain(r, " [/INST]");
        if (!t.answer) continue;
        plain(r, " ");
        stripped(r, t.answer, true);
        plain(r, " ");
        special(r, "</s>");
    }
}
/* Vicuna v1.1 and later (FastChat's "vicuna_v1.1"). */
static void vicuna(struct rendered *r, struct talk *k) {
    static const char own[] =
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user's questions.";
    add(r, k->system ? k->system : own, k->system ? k->system_n : sizeof own - 1, false);
    if (!k->system || k->system_n) plain(r, " ");
    for (struct turn t; next_turn(k, &t);) {
        plain(r, "USER: ");
        said(r, t.user);
        plain(r, " ASSISTANT:");
        if (t.answer) answer_after_blank(r, t.answer), special(r, "</s>");
    }
}
/* Vicuna v0 as MiniGPT-4 writes it. */
static void vicuna_v0(struct rendered *r, struct talk *k) {
    if (k->system) add(r, k->system, k->system_n, false);
    for (struct turn t; next_turn(k, &t);) {
        plain(r, "###Human: ");
        said(r, t.user);
        plain(r, "###Assistant: ");
        if (t.answer) said(r, t.answer);
    }
}
/* ---- MiniGPT-4 (minigpt4/conversation/conversation.py: upload_img, ask, get_prompt) ---- */
static const char picture[] = "<ImageHere>";
static const char announced[] =
    "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once "
    "I provide it to you. Please answer my questions.";
static void announce(struct rendered *r, const struct talk *k) {
    if (k->system) {
        add(r, k->system, k->system_n, false);
    } else {
        plain(r, announced);
    }
}
static void asked(struct rendered *r, struct talk *k, const struct template_message *m) {
    for (int i = 0; i < m->images; i++) {
        plain(r, "<Img>");
        add_segment(r, picture, sizeof picture - 1, false, ++k->images);
        plain(r, "</Img>");
    }
    if (m->images) plain(r, " ");
    said(r, m);
}
/* No </s> follows an answer here. */
static void minigpt4_llama2(struct rendered *r, struct talk *k) {
    announce(r, k);
    for (struct turn t; next_turn(k, &t);) {
        special(r, "<s>");
        plain(r, "[INST] ");
        asked(r, k, t.user);
        plain(r, " [/INST] ");
        if (t.answer) stripped(r, t.answer, true);
    }
}
static void minigpt4_vicuna0(struct rendered *r, struct talk *k) {
    announce(r, k);
    for (struct turn t; next_turn(k, &t);) {
        plain(r, "###Human: ");
        asked(r, k, t.user);
        plain(r, "###Assistant: ");
        if (t.answer) stripped(r, t.answer, true);
    }
}
/* demo_v2.py forgets what was answered: "</s>" stands for it in every later turn. */
static void minigpt_v2(struct rendered *r, struct talk *k) {
    if (k->system) add(r, k->system, k->system_n, false);
    for (struct turn t; next_turn(k, &t);) {
        special(r, "<s>");
        plain(r, "[INST] ");
        asked(r, k, t.user);
        plain(r, " [/INST]");
        if (t.answer) special(r, "</s>");
    }
}
enum { SYSTEM = 1, INPUT = 2, ANY_ORDER = 4, ANY_ROLE = 8, IMAGES = 16 };
static const struct scheme {
    const char *name, *stop;
    int allows;
    void (*render)(struct rendered *, struct talk *);
} schemes[] = {
    { "raw", NULL, SYSTEM | INPUT | ANY_ORDER | ANY_ROLE, raw },
    { "chatml", NULL, SYSTEM | ANY_ORDER, chatml },
    { "koalpaca", "###", INPUT, koalpaca },
    { "kullm", "###", INPUT, kullm },
    { "llama-2", NULL, SYSTEM, llama2 },
    { "vicuna", NULL, SYSTEM, vicuna },
    { "vicuna-v0", "###", SYSTEM, vicuna_v0 },
    { "minigpt4-llama2", "###", SYSTEM | IMAGES, minigpt4_llama2 },
    { "minigpt4-vicuna0", "###", SYSTEM | IMAGES, minigpt4_vicuna0 },
    { "minigpt-v2", NULL, SYSTEM | IMAGES, minigpt_v2 },
};
enum { SCHEMES = sizeof schemes / sizeof *schemes };

const char *template_name(int i) { return i >= 0 && i < SCHEMES ? schemes[i].name : NULL; }
static const struct scheme *find_scheme(const char *name) {
    for (int i = 0; i < SCHEMES; i++)
        if (!strcmp(name, schemes[i].name)) return &schemes[i];
    return NULL;
}
const char *template_stop(const char *name) {
    const struct scheme *s = find_scheme(name);
    return s ? s->stop : NULL;
}
static int unknown(const char *name, struct err *e) {
    struct buf known;
    buf_init(&known, 200);
    for (int i = 0; i < SCHEMES; i++) buf_printf(&known, "%s%s", i ? ", " : "", schemes[i].name);
    const int rc = err_set(e, STATUS_INVALID, "no template '%.40s'; there are: %s", name, buf_text(&known));
    buf_fini(&known);
    return rc;
}
static int check_role(const struct scheme *s, const struct template_message *m, struct err *e) {
    if (s->allows & ANY_ROLE) return 0;
    if (is(m, "user") || is(m, "assistant")) return 0;
    if (is(m, "system"))
        return s->allows & SYSTEM ? 0
                                  : err_set(e, STATUS_INVALID,
                                            "template %s has no place for a system message; put it into "
                                            "the user's message, or use another --template",
                                            s->name);
    if (is(m, "input"))
        return s->allows & INPUT ? 0
                                 : err_set(e, STATUS_INVALID,
                                           "template %s has no place for an input; put it into the user's "
                                           "message, or use --template koalpaca or kullm",
                                           s->name);
    return err_set(e, STATUS_INVALID, "template %s: role '%.24s' is none of system, user, assistant, input", s->name,
                   m->role ? m->role : "");
}
static int check_images(const struct scheme *s, const struct template_message *m, struct err *e) {
    if (!m->images) return 0;
    if (!(s->allows & IMAGES))
        return err_set(e, STATUS_INVALID,
                       "template %s has no place for a picture; load a MiniGPT-4 (minigpt4-7b), whose template has one",
                       s->name);
    if (m->images > 0 && is(m, "user")) return 0;
    return err_set(e, STATUS_INVALID, "template %s: a picture stands in a user's message", s->name);
}
/* [system] ([input] user assistant)* [input] user */
static int check_order(const struct scheme *s, const struct template_message *m, int n, struct err *e) {
    const char *why = NULL;
    if (s->allows & ANY_ORDER) return 0;
    for (int i = 0; i < n && !why; i++) {
        const struct template_message *before = i && !is(&m[i - 1], "system") ? &m[i - 1] : NULL;
        const bool answered = !before || is(before, "assistant");
        if (is(&m[i], "system") && i) why = "a system message stands first or nowhere";
        if (is(&m[i], "assistant") && (answered || is(before, "input")))
            why = "an answer needs a user's message before it";
        if (is(&m[i], "input") && !answered) why = "an input stands before the user's message that it belongs to";
        if (is(&m[i], "user") && before && is(before, "user")) why = "two user messages need an answer between them";
    }
    if (!why && !is(&m[n - 1], "user")) why = "the conversation must end with the user's message";
    return why ? err_set(e, STATUS_INVALID, "template %s: %s", s->name, why) : 0;
}
int template_render(const char *name, const char *system, const struct template_message *m, int n, struct rendered *r,
                    struct err *e) {
    const struct scheme *s = find_scheme(name);
    struct talk k = { .m = m, .n = n };
    rendered_fini(r);
    buf_init(&r->text, TEXT_MAX);
    if (!s) return unknown(name, e);
    if (n < 1) return err_set(e, STATUS_INVALID, "the prompt is empty; write some text");
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) rc = check_role(s, &m[i], e);
    for (int i = 0; i < n && !rc; i++) rc = check_images(s, &m[i], e);
    if (!rc) rc = check_order(s, m, n, e);
    if (rc) return rc;
    if (is(&m[0], "system") && !(s->allows & ANY_ORDER)) {
        k = (struct talk){ .system = m[0].text, .system_n = m[0].len, .m = m + 1, .n = n - 1 };
    } else if (system && !is(&m[0], "system")) {
        k.system = system;
        k.system_n = strlen(system);
    }
    r->apart = s->allows & IMAGES;
    s->render(r, &k);
    if (!r->text.failed) return 0;
    return err_set(e, STATUS_NOMEM, "no memory for the prompt, or it is longer than %d MiB; shorten it",
                   TEXT_MAX >> 20);
}

static int control_id(const struct tokenizer *t, const struct rendered *r, const struct template_segment *s) {
    char text[64];
    if (s->len >= sizeof text) return -1;
    memcpy(text, r->text.p + s->at, s->len);
    text[s->len] = 0;
    return tokenizer_find(t, text);
}
int template_encode(const struct tokenizer *t, const struct rendered *r, struct ids *out, struct err *e) {
    const int bos = tokenizer_bos(t);
    const bool opens = r->n && r->seg[0].special && control_id(t, r, &r->seg[0]) == bos; /* it brings its own */
    bool full = bos >= 0 && (!opens || r->apart) && ids_add(out, bos);
    for (size_t i = 0; i < r->n && !full; i++) {
        const struct template_segment *s = &r->seg[i];
        const int id = s->special ? control_id(t, r, s) : -1;
        if (id >= 0 || s->image) {
            full = ids_add(out, s->image ? -s->image : id);
            continue;
        }
        if (s->special && !tokenizer_is_bare(t))
            return err_set(e, STATUS_INVALID,
                           "the model has no token '%.*s' that this template needs; use --template raw", (int)s->len,
                           r->text.p + s->at);
        const int rc = tokenizer_encode_part(t, r->text.p + s->at, s->len, false, !i || r->apart, out, e);
        if (rc) return rc;
    }
    return full ? err_set(e, STATUS_NOMEM, "no memory to tokenise the prompt") : 0;
}

/* Only where the markers leave no doubt: a template that looks like it but is not would answer nonsense. */
const char *template_guess(const char *jinja, size_t n) {
    static const struct {
        const char *name, *marker[2], *never;
    } known[] = {
        { "chatml", { im_start, im_end }, NULL },
        { "llama-2", { "[INST]", "<</SYS>>" }, NULL },
        { "koalpaca", { "### 질문:", "### 답변:" }, NULL },
        { "kullm", { "### 명령어:", "### 응답:" }, NULL },
        { "vicuna", { "USER: ", "ASSISTANT:" }, "SYSTEM:" },
        { "vicuna-v0", { "###Human:", "###Assistant:" }, NULL },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        bool is_it = !known[i].never || !memmem(jinja, n, known[i].never, strlen(known[i].never));
        for (int k = 0; k < 2; k++) is_it = is_it && memmem(jinja, n, known[i].marker[k], strlen(known[i].marker[k]));
        if (is_it) return known[i].name;
    }
    return "raw";
}
/* ChatML templates write it as one string literal: '<|im_start|>system\n...<|im_end|>\n'. */
bool template_system(const char *jinja, size_t n, struct buf *out) {
    static const char opening[] = "<|im_start|>system";
    const char *end = jinja + n;
    const char *at = memmem(jinja, n, opening, sizeof opening - 1);
    if (!at) return false;
    at += sizeof opening - 1;
    if (end - at >= 2 && !memcmp(at, "\\n", 2)) {
        at += 2;
    } else if (at < end && *at == '\n') {
        at++;
    } else {
        return false;
    }
    const char *stop = memmem(at, (size_t)(end - at), im_end, sizeof im_end - 1);
    if (!stop || stop == at) return false;
    for (const char *p = at; p < stop; p++)
        if (strchr("'\"\\{}", *p)) return false; /* computed, or escaped: not a plain literal */
    return !buf_add(out, at, (size_t)(stop - at));
}
