#include "tokenizer_json.h"
#include <string.h>

enum { DEPTH = 8 };

const char *tokenizer_json_text(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}
static const char *type_of(const json_t *j) { return tokenizer_json_text(j, "type"); }
static bool is(const json_t *j, const char *type) { return !strcmp(type_of(j), type); }

struct reader {
    struct tokenizer *t;
    const char *label, *what; /* what: "normalizer" */
    struct err *e;
};
static int unsupported(const struct reader *r, const json_t *j, const char *known) {
    return err_set(r->e, STATUS_INVALID, "%s: %s '%.40s' is not supported; supported: %s", r->label, r->what,
                   type_of(j), known);
}
static int wrong(const struct reader *r, const json_t *j, const char *why) {
    return err_set(r->e, STATUS_FORMAT, "%s: %s '%.40s' %s", r->label, r->what, type_of(j), why);
}
/* Calls one for each step of a Sequence, or for j itself. */
static int each(struct reader *r, const json_t *j, const char *list, int depth,
                int (*one)(struct reader *, const json_t *, int)) {
    size_t i;
    json_t *step;
    int rc = 0;
    if (!j || json_is_null(j)) return 0;
    if (!is(j, "Sequence")) return one(r, j, depth);
    const json_t *steps = json_object_get(j, list);
    if (!json_is_array(steps) || depth == DEPTH) return wrong(r, j, "holds no list of steps, or is nested too deeply");
    json_array_foreach(steps, i, step) if (!rc) rc = each(r, step, list, depth + 1, one);
    return rc;
}
/* {"String": "x"} or {"Regex": "x"}. */
static int open_pattern(struct reader *r, const json_t *j, struct pattern **out) {
    const json_t *pattern = json_object_get(j, "pattern");
    const json_t *literal = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
    const json_t *text = literal ? literal : regex;
    if (!json_is_string(text)) return wrong(r, j, "has no pattern");
    const int rc = pattern_open(out, json_string_value(text), json_string_length(text), !literal, r->e);
    return rc;
}

static int add_replace(struct reader *r, const json_t *j) {
    struct pattern *pattern;
    const json_t *content = json_object_get(j, "content");
    if (!json_is_string(content)) return wrong(r, j, "has no content");
    const int rc = open_pattern(r, j, &pattern);
    if (rc) return rc;
    return normalizer_add_replace(r->t->normalizer, pattern, json_string_value(content), json_string_length(content),
                                  r->e);
}
static int normalizer_step(struct reader *r, const json_t *j, int depth) {
    static const char *const forms[] = { "NFC", "NFD", "NFKC", "NFKD" };
    struct normalizer *z = r->t->normalizer;
    (void)depth;
    for (int form = 0; form < 4; form++)
        if (is(j, forms[form])) return normalizer_add_form(z, (enum utf8_form)form, r->e);
    if (is(j, "Replace")) return add_replace(r, j);
    if (is(j, "Strip"))
        return normalizer_add_strip(z, json_is_true(json_object_get(j, "strip_left")),
                                    json_is_true(json_object_get(j, "strip_right")), r->e);
    if (is(j, "Prepend")) {
        const json_t *text = json_object_get(j, "prepend");
        if (!json_is_string(text)) return wrong(r, j, "has no text");
        return normalizer_add_prepend(z, json_string_value(text), json_string_length(text), r->e);
    }
    return unsupported(r, j, "NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, Sequence");
}
int tokenizer_json_normalizer(struct tokenizer *t, const json_t *j, const char *label, struct err *e) {
    struct reader r = { t, label, "normalizer", e };
    if (!j || json_is_null(j)) return 0;
    const int rc = normalizer_open(&t->normalizer, e);
    return rc ? rc : each(&r, j, "normalizers", 0, normalizer_step);
}

static int add_split(struct reader *r, const json_t *j) {
    static const char *const names[] = { "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous" };
    const char *name = tokenizer_json_text(j, "behavior");
    struct pattern *pattern;
    int behavior = 0;
    while (behavior < 5 && strcmp(name, names[behavior]) != 0) behavior++;
    if (behavior == 5) return wrong(r, j, "has an unknown behavior");
    const int rc = open_pattern(r, j, &pattern);
    if (rc) return rc;
    return pretok_add_split(r->t->pretok, pattern, (enum pretok_behavior)behavior,
                            json_is_true(json_object_get(j, "invert")), r->e);
}
static int add_regex(struct reader *r, const char *regex, enum pretok_behavior behavior) {
    struct pattern *pattern;
    const int rc = pattern_open(&pattern, regex, strlen(regex), true, r->e);
    return rc ? rc : pretok_add_split(r->t->pretok, pattern, behavior, false, r->e);
}
/* Old files say add_prefix_space, newer ones prepend_scheme. */
static int add_metaspace(struct reader *r, const json_t *j) {
    const char *scheme = tokenizer_json_text(j, "prepend_scheme");
    const json_t *old = json_object_get(j, "add_prefix_space"), *mark = json_object_get(j, "replacement");
    enum pretok_prefix prefix = PRETOK_ALWAYS;
    if (!strcmp(scheme, "first")) {
        prefix = PRETOK_FIRST;
    } else if (!strcmp(scheme, "never") || (!*scheme && json_is_false(old))) {
        prefix = PRETOK_NEVER;
    } else if (*scheme && strcmp(scheme, "always") != 0) {
        return wrong(r, j, "has an unknown prepend_scheme");
    }
    if (!json_is_string(mark) || !json_string_length(mark)) return wrong(r, j, "has no replacement");
    int rc = pretok_add_mark(r->t->pretok, json_string_value(mark), json_string_length(mark), prefix, r->e);
    if (rc || json_is_false(json_object_get(j, "split"))) return rc;
    struct pattern *pattern;
    rc = pattern_open(&pattern, json_string_value(mark), json_string_length(mark), false, r->e);
    return rc ? rc : pretok_add_split(r->t->pretok, pattern, PRETOK_WITH_NEXT, false, r->e);
}
static int pretok_step(struct reader *r, const json_t *j, int depth) {
    struct pretok *p = r->t->pretok;
    int rc = 0;
    (void)depth;
    if (r->t->bytewise) return wrong(r, j, "after ByteLevel is not supported"); /* it would see the byte alphabet */
    if (is(j, "Split")) return add_split(r, j);
    if (is(j, "Metaspace")) return add_metaspace(r, j);
    if (is(j, "Digits")) {
        const bool single = json_is_true(json_object_get(j, "individual_digits"));
        return add_regex(r, "\\p{N}", single ? PRETOK_ISOLATED : PRETOK_CONTIGUOUS);
    }
    if (!is(j, "ByteLevel")) return unsupported(r, j, "ByteLevel, Split, Digits, Metaspace, Sequence");
    r->t->bytewise = true;
    if (json_is_true(json_object_get(j, "add_prefix_space"))) rc = pretok_add_blank(p, r->e);
    if (!rc && !json_is_false(json_object_get(j, "use_regex"))) rc = pretok_add_gpt2(p, r->e);
    return rc;
}
int tokenizer_json_pretok(struct tokenizer *t, const json_t *j, const char *label, struct err *e) {
    struct reader r = { t, label, "pre_tokenizer", e };
    if (!j || json_is_null(j)) return 0;
    const int rc = pretok_open(&t->pretok, e);
    return rc ? rc : each(&r, j, "pretokenizers", 0, pretok_step);
}

static int decoder_step(struct reader *r, const json_t *j, int depth) {
    static const char *const plain[] = { "ByteLevel", "ByteFallback", "Fuse", "Strip" };
    const char *mark = NULL;
    (void)depth;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (is(j, plain[i])) return 0;
    if (is(j, "Metaspace")) mark = tokenizer_json_text(j, "replacement");
    if (is(j, "Replace") && !strcmp(tokenizer_json_text(j, "content"), " "))
        mark = tokenizer_json_text(json_object_get(j, "pattern"), "String");
    if (!mark)
        return unsupported(r, j, "ByteLevel, ByteFallback, Fuse, Strip, Metaspace, Replace of \"" MARK_TEXT "\"");
    if (strcmp(mark, MARK_TEXT) != 0) return wrong(r, j, "with another mark than \"" MARK_TEXT "\" is not supported");
    r->t->marks = true;
    return 0;
}
int tokenizer_json_decoder(struct tokenizer *t, const json_t *j, const char *label, struct err *e) {
    struct reader r = { t, label, "decoder", e };
    return each(&r, j, "decoders", 0, decoder_step);
}
