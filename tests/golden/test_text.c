/* test_text.c - SmolLM2's tokenizer and chat template against the reference ones (make_smollm2.py). */
#include "base/mem.h"
#include "data/template.h"
#include "rig.h"
#include "vectors.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after setjmp.h and stdarg.h, which it needs */
#include <cmocka.h>

enum { IDS = 2048, MESSAGES = 8 };
struct text {
    struct gguf *gguf;
    struct tokenizer *tok;
};
static int open_model(void **state) {
    static struct text t;
    char path[CATALOG_PATH];
    struct err e = { 0 };
    if (!default_model(path)) return 0;
    if (gguf_open(&t.gguf, path, &e) || tokenizer_from_gguf(&t.tok, t.gguf, &e)) return print_error("%s\n", e.text), -1;
    *state = &t;
    return 0;
}
static int close_model(void **state) {
    struct text *t = *state;
    if (t) tokenizer_close(t->tok), gguf_close(t->gguf);
    return 0;
}
static void show(const char *who, const int *id, size_t n) {
    print_message("  %s:", who);
    for (size_t i = 0; i < n && i < 40; i++) print_message(" %d", id[i]);
    print_message("%s\n", n > 40 ? " ..." : "");
}
static bool same_ids(const char *what, const struct ids *got, const char *expected) {
    int want[IDS];
    const size_t n = parse_ids(expected, want, IDS);
    if (got->n == n && (!n || !memcmp(got->v, want, n * sizeof *want))) return true;
    print_message("%s\n", what);
    show("reference", want, n);
    show("here", got->v, got->n);
    return false;
}
static void tokens(void **state) {
    const struct text *t = *state;
    struct line l = { .f = fopen("tests/golden/tokens.txt", "r") };
    int n = 0, wrong = 0;
    if (!t) skip();
    assert_non_null(l.f);
    for (; line_next(&l); n++) {
        struct ids ids = { 0 };
        struct err e = { 0 };
        assert_int_equal(l.fields, 3);
        char *shown = mem_string(l.field[1]);
        const size_t bytes = unquote(l.field[1]);
        if (tokenizer_encode(t->tok, l.field[1], bytes, !strcmp(l.field[0], "special"), &ids, &e))
            fail_msg("%s", e.text);
        wrong += !same_ids(shown, &ids, l.field[2]);
        mem_free(shown);
        ids_fini(&ids);
    }
    fclose(l.f);
    print_message("  %d texts, %d tokenised otherwise than by the reference\n", n, wrong);
    assert_true(n >= 60);
    assert_int_equal(wrong, 0);
}

struct talk {
    struct template_message m[MESSAGES];
    int n;
};
static void say(struct talk *talk, struct line *l) {
    assert_true(talk->n < MESSAGES && l->fields == 2);
    char *role = mem_string(l->field[0]), *text = mem_string(l->field[1]);
    talk->m[talk->n++] = (struct template_message){ role, text, unquote(text), 0 };
}
static void forget(struct talk *talk) {
    for (int i = 0; i < talk->n; i++) mem_free((char *)talk->m[i].role), mem_free((char *)talk->m[i].text);
    talk->n = 0;
}
static void templates(void **state) {
    const struct text *t = *state;
    struct line l = { .f = fopen("tests/golden/templates.txt", "r") };
    struct gguf_string jinja;
    struct rendered r = { 0 };
    struct talk talk = { .n = 0 };
    struct buf system;
    struct err e = { 0 };
    int n = 0;
    if (!t) skip();
    assert_non_null(l.f);
    buf_init(&system, 1 << 16);
    assert_true(gguf_text(t->gguf, "tokenizer.chat_template", &jinja));
    const char *name = template_guess(jinja.p, jinja.n);
    const bool has = template_system(jinja.p, jinja.n, &system);
    while (line_next(&l)) {
        if (!strcmp(l.field[0], "=")) {
            const size_t want = unquote(l.field[1]);
            if (template_render(name, has ? buf_text(&system) : NULL, talk.m, talk.n, &r, &e)) fail_msg("%s", e.text);
            assert_string_equal(buf_text(&r.text), l.field[1]);
            assert_int_equal(r.text.n, want);
            forget(&talk);
        } else if (!strcmp(l.field[0], "ids")) {
            struct ids ids = { 0 };
            if (template_encode(t->tok, &r, &ids, &e)) fail_msg("%s", e.text);
            assert_true(same_ids(buf_text(&r.text), &ids, l.field[1]));
            ids_fini(&ids);
            n++;
        } else {
            say(&talk, &l);
        }
    }
    fclose(l.f);
    rendered_fini(&r);
    buf_fini(&system);
    assert_int_equal(n, 6);
}
int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(tokens), cmocka_unit_test(templates) };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
