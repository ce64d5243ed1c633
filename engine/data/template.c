#include "template.h"
#include "base/mem.h"
#include <string.h>

enum { TEXT_MAX = 64 << 20 };
static const char im_start[] = "<|im_start|>", im_end[] = "<|im_end|>";

void rendered_fini(struct rendered *r) {
    buf_fini(&r->text);
    mem_free(r->seg);
    *r = (struct rendered){ 0 };
}
/* Plain text joins the plain stretch before it, since a tokeniser sees no border there either. */
static void add(struct rendered *r, const char *p, size_t n, bool special) {
    const size_t at = r->text.n;
    if (!n || buf_add(&r->text, p, n)) return;
    if (r->n && !special && !r->seg[r->n - 1].special) {
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
    r->seg[r->n++] = (struct template_segment){ at, n, special };
}
static void plain(struct rendered *r, const char *s) { add(r, s, strlen(s), false); }

static void chatml_turn(struct rendered *r, const char *role, const char *text, size_t n) {
    add(r, im_start, sizeof im_start - 1, true);
    plain(r, role);
    plain(r, "\n");
    add(r, text, n, false);
    add(r, im_end, sizeof im_end - 1, true);
    plain(r, "\n");
}
static void chatml(struct rendered *r, const char *system, const struct template_message *m, int n) {
    if (system && strcmp(m[0].role, "system") != 0) chatml_turn(r, "system", system, strlen(system));
    for (int i = 0; i < n; i++) chatml_turn(r, m[i].role, m[i].text, m[i].len);
    add(r, im_start, sizeof im_start - 1, true);
    plain(r, "assistant\n");
}
static void raw(struct rendered *r, const char *system, const struct template_message *m, int n) {
    (void)system; /* raw text is exactly what was given */
    for (int i = 0; i < n; i++) add(r, m[i].text, m[i].len, false);
}
static const struct scheme {
    const char *name;
    bool roles; /* every message needs one */
    void (*render)(struct rendered *, const char *system, const struct template_message *, int n);
} schemes[] = {
    { "raw", false, raw },
    { "chatml", true, chatml },
};
enum { SCHEMES = sizeof schemes / sizeof *schemes };

const char *template_name(int i) { return i >= 0 && i < SCHEMES ? schemes[i].name : NULL; }
static int unknown(const char *name, struct err *e) {
    struct buf known;
    buf_init(&known, 200);
    for (int i = 0; i < SCHEMES; i++) buf_printf(&known, "%s%s", i ? ", " : "", schemes[i].name);
    const int rc = err_set(e, STATUS_INVALID, "no template '%.40s'; there are: %s", name, buf_text(&known));
    buf_fini(&known);
    return rc;
}
static int check_roles(const struct scheme *s, const struct template_message *m, int n, struct err *e) {
    static const char *const roles[] = { "system", "user", "assistant" };
    for (int i = 0; i < n; i++) {
        bool known = !s->roles;
        for (int k = 0; k < 3 && m[i].role; k++) known |= !strcmp(m[i].role, roles[k]);
        if (!known)
            return err_set(e, STATUS_INVALID, "template %s: role '%.24s' is none of system, user, assistant", s->name,
                           m[i].role ? m[i].role : "");
    }
    return 0;
}
int template_render(const char *name, const char *system, const struct template_message *m, int n, struct rendered *r,
                    struct err *e) {
    const struct scheme *s = NULL;
    for (int i = 0; i < SCHEMES; i++)
        if (!strcmp(name, schemes[i].name)) s = &schemes[i];
    rendered_fini(r);
    buf_init(&r->text, TEXT_MAX);
    if (!s) return unknown(name, e);
    if (n < 1) return err_set(e, STATUS_INVALID, "the prompt is empty; write some text");
    const int rc = check_roles(s, m, n, e);
    if (rc) return rc;
    s->render(r, system, m, n);
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
    bool full = tokenizer_bos(t) >= 0 && ids_add(out, tokenizer_bos(t));
    for (size_t i = 0; i < r->n && !full; i++) {
        const struct template_segment *s = &r->seg[i];
        if (!s->special) {
            const int rc = tokenizer_encode(t, r->text.p + s->at, s->len, false, out, e);
            if (rc) return rc;
            continue;
        }
        const int id = control_id(t, r, s);
        if (id < 0)
            return err_set(e, STATUS_INVALID,
                           "the model has no token '%.*s' that this template needs; use --template raw", (int)s->len,
                           r->text.p + s->at);
        full = ids_add(out, id);
    }
    return full ? err_set(e, STATUS_NOMEM, "no memory to tokenise the prompt") : 0;
}

const char *template_guess(const char *jinja, size_t n) {
    const bool both = memmem(jinja, n, im_start, sizeof im_start - 1) && memmem(jinja, n, im_end, sizeof im_end - 1);
    return both ? "chatml" : "raw";
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
