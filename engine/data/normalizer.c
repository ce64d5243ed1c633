#include "normalizer.h"
#include "base/mem.h"
#include <string.h>

enum { STEPS = 32, LONGEST = 1024, TEXT_MAX = 256 << 20 };
struct step {
    enum { FORM, PREPEND, REPLACE, STRIP, COLLAPSE } kind;
    enum utf8_form form;
    struct pattern *pattern;
    char *text; /* the step's own */
    size_t n;
    bool left, right;
};
struct normalizer {
    struct step step[STEPS];
    int steps;
};
static int no_memory(struct err *e) { return err_set(e, STATUS_NOMEM, "no memory to tokenise the text"); }

int normalizer_open(struct normalizer **out, struct err *e) {
    *out = mem_zero(1, sizeof **out);
    return *out ? 0 : no_memory(e);
}
static void step_fini(struct step *s) {
    pattern_close(s->pattern);
    mem_free(s->text);
}
void normalizer_close(struct normalizer *z) {
    if (!z) return;
    for (int i = 0; i < z->steps; i++) step_fini(&z->step[i]);
    mem_free(z);
}
static int add(struct normalizer *z, struct step s, const char *text, struct err *e) {
    int rc = 0;
    if (z->steps == STEPS || s.n > LONGEST) {
        rc = err_set(e, STATUS_INVALID,
                     "a normalizer of more than %d steps, or with a text of more than %d bytes, is not "
                     "supported",
                     STEPS, LONGEST);
    } else if (text && !(s.text = mem_copy(text, s.n))) {
        rc = no_memory(e);
    }
    if (rc) {
        step_fini(&s);
    } else {
        z->step[z->steps++] = s;
    }
    return rc;
}
int normalizer_add_form(struct normalizer *z, enum utf8_form form, struct err *e) {
    return add(z, (struct step){ .kind = FORM, .form = form }, NULL, e);
}
int normalizer_add_prepend(struct normalizer *z, const char *p, size_t n, struct err *e) {
    return add(z, (struct step){ .kind = PREPEND, .n = n }, p, e);
}
int normalizer_add_replace(struct normalizer *z, struct pattern *pattern, const char *p, size_t n, struct err *e) {
    return add(z, (struct step){ .kind = REPLACE, .pattern = pattern, .n = n }, p, e);
}
int normalizer_add_strip(struct normalizer *z, bool left, bool right, struct err *e) {
    return add(z, (struct step){ .kind = STRIP, .left = left, .right = right }, NULL, e);
}
int normalizer_add_collapse(struct normalizer *z, struct err *e) {
    return add(z, (struct step){ .kind = COLLAPSE }, NULL, e);
}
bool normalizer_empty(const struct normalizer *z) { return !z->steps; }

void normalizer_work_fini(struct normalizer_work *w) {
    for (int i = 0; i < 2; i++) buf_fini(&w->made[i]);
    pattern_work_fini(&w->search);
}
/* In a stretch of valid UTF-8. */
static int replace_in(const struct step *s, struct normalizer_work *w, const char *p, size_t n, struct buf *out,
                      struct err *e) {
    struct pattern_match m;
    size_t last = 0;
    int found = 0;
    while (last <= n && (found = pattern_find(s->pattern, &w->search, p, n, last, &m, e)) > 0) {
        buf_add(out, p + last, m.from - last);
        if (buf_add(out, s->text, s->n)) return no_memory(e);
        last = m.to;
    }
    if (found < 0) return found;
    return buf_add(out, p + last, n - last) ? no_memory(e) : 0;
}
static int replace(const struct step *s, struct normalizer_work *w, const char *p, size_t n, struct buf *out,
                   struct err *e) {
    uint32_t cp;
    int rc = 0;
    for (size_t at = 0, i = 0; at < n && !rc; at = i) { /* what is no UTF-8 stays */
        for (int len; i < n && (len = utf8_decode(p + i, n - i, &cp));) i += (size_t)len;
        rc = replace_in(s, w, p + at, i - at, out, e);
        if (i < n) buf_add(out, p + i++, 1);
    }
    return out->failed ? no_memory(e) : rc;
}
static bool space_at(const char *p, size_t n, int *len) {
    uint32_t cp;
    *len = utf8_decode(p, n, &cp);
    return *len && utf8_is_space(cp);
}
static void strip(const struct step *s, const char *p, size_t n, struct buf *out) {
    int len;
    while (s->left && n && space_at(p, n, &len)) p += len, n -= (size_t)len;
    while (s->right && n) {
        size_t back = 1;
        while (back < n && back < 4 && ((unsigned char)p[n - back] & 0xc0) == 0x80) back++;
        if (!space_at(p + n - back, back, &len) || (size_t)len != back) break;
        n -= back;
    }
    buf_add(out, p, n);
}
static void collapse(const char *p, size_t n, struct buf *out) {
    const char *end = p + n;
    bool any = false;
    while (p < end) {
        const char *blank = memchr(p, ' ', (size_t)(end - p));
        const char *stop = blank ? blank : end;
        if (stop > p) {
            if (any) buf_add(out, " ", 1);
            buf_add(out, p, (size_t)(stop - p));
            any = true;
        }
        p = blank ? blank + 1 : end;
    }
}
static int run(const struct step *s, struct normalizer_work *w, const char *p, size_t n, struct buf *out,
               struct err *e) {
    switch (s->kind) {
    case FORM: return utf8_normalize(out, p, n, s->form) ? no_memory(e) : 0;
    case REPLACE: return replace(s, w, p, n, out, e);
    case STRIP: strip(s, p, n, out); break;
    case COLLAPSE: collapse(p, n, out); break;
    case PREPEND:
        if (n) buf_add(out, s->text, s->n);
        buf_add(out, p, n);
        break;
    }
    return out->failed ? no_memory(e) : 0;
}
int normalizer_run(const struct normalizer *z, struct normalizer_work *w, const char *text, size_t n, const char **out,
                   size_t *out_n, struct err *e) {
    int rc = 0;
    for (int i = 0; i < z->steps && !rc; i++) {
        struct buf *made = &w->made[i & 1];
        buf_reset(made);
        made->max = TEXT_MAX;
        rc = run(&z->step[i], w, text, n, made, e);
        text = buf_text(made);
        n = made->n;
    }
    *out = text;
    *out_n = n;
    return rc;
}
