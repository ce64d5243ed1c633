#include "base/mem.h"
#include "kernel/language/cell.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static bool known(const void *arg, const char *name) {
    (void)arg;
    return !strcmp(name, "runs") || !strcmp(name, "모델");
}
static struct cell parse(const char *code) {
    struct cell c;
    struct err e = { 0 };
    if (cell_parse(&c, code, strlen(code), known, NULL, &e)) fail_msg("%s: %s", code, e.text);
    return c;
}
/* The cell is one directive of that kind. */
static void is_one(const char *code, enum directive_kind kind, const char *name, const char *rest) {
    struct cell c = parse(code);
    if (c.n != 1) fail_msg("%s: %d directives", code, c.n);
    if (c.v[0].kind != kind) fail_msg("%s: kind %d, not %d", code, c.v[0].kind, kind);
    if (name) assert_string_equal(c.v[0].name, name);
    if (rest) assert_string_equal(c.v[0].rest, rest);
    cell_fini(&c);
}
static void is_prompt(const char *code) {
    struct cell c = parse(code);
    if (c.n != 1 || c.v[0].kind != DIRECTIVE_PROMPT) fail_msg("no prompt: %s", code);
    assert_ptr_equal(c.v[0].body, code); /* verbatim, from the first byte */
    assert_int_equal(c.v[0].body_len, strlen(code));
    cell_fini(&c);
}
static void is_refused(const char *code, const char *word) {
    struct cell c;
    struct err e = { 0 };
    if (!cell_parse(&c, code, strlen(code), known, NULL, &e)) fail_msg("taken: %s", code);
    if (!strstr(e.text, word)) fail_msg("%s: \"%s\" does not say \"%s\"", code, e.text, word);
    assert_null(strchr(e.text, '\n'));
    cell_fini(&c);
}

static void magics(void **state) {
    (void)state;
    is_one("%load smollm2", DIRECTIVE_MAGIC, "load", "smollm2");
    is_one("   %load   a  b  ", DIRECTIVE_MAGIC, "load", "a  b");
    is_one("%ps", DIRECTIVE_MAGIC, "ps", "");
    is_one("%load a\r\n", DIRECTIVE_MAGIC, "load", "a");
    is_one("\xc2\xa0%load\xc2\xa0"
           "a",
           DIRECTIVE_MAGIC, "load", "a"); /* pasted from a web page */
    is_one("\xef\xbb\xbf%ps", DIRECTIVE_MAGIC, "ps", "");
    is_one("%generate -n 5 \\\n  --seed 1", DIRECTIVE_MAGIC, "generate", "-n 5  --seed 1");
    is_one("%generate a\\\\", DIRECTIVE_MAGIC, "generate", "a\\\\");
    is_one("# a comment\n\n%ps", DIRECTIVE_MAGIC, "ps", "");
    struct cell c = parse("%generate a\\\\\n%ps"); /* two backslashes are no continuation */
    assert_int_equal(c.n, 2);
    cell_fini(&c);
    c = parse("%load x ;\n%ps;\n%ps");
    assert_true(c.v[0].quiet);
    assert_string_equal(c.v[0].rest, "x");
    assert_true(c.v[1].quiet);
    assert_string_equal(c.v[1].name, "ps");
    assert_false(c.v[2].quiet);
    assert_int_equal(c.v[2].line, 3);
    cell_fini(&c);
    is_refused("%", "name follows");
    is_refused("%%", "name follows");
    is_refused("% load x", "name follows");
    is_refused("%%%load", "name follows");
}
static void cell_magics_take_the_rest_byte_for_byte(void **state) {
    (void)state;
    const char code[] = "%%generate -n 3\r\n  첫 줄\r\n%load x\n\n# not a comment \xff\n";
    struct cell c = parse(code);
    assert_int_equal(c.n, 1);
    assert_true(c.v[0].cell);
    assert_string_equal(c.v[0].rest, "-n 3");
    assert_ptr_equal(c.v[0].body, strchr(code, '\n') + 1);
    assert_string_equal(c.v[0].body, "  첫 줄\r\n%load x\n\n# not a comment \xff\n");
    cell_fini(&c);
    c = parse("x = 5\n# note\n%%bash\necho $x");
    assert_int_equal(c.n, 2);
    assert_string_equal(c.v[1].body, "echo $x");
    cell_fini(&c);
    is_one("%%time", DIRECTIVE_MAGIC, "time", "");
}
static void help(void **state) {
    (void)state;
    is_one("%load?", DIRECTIVE_HELP, "load", NULL);
    is_one("%load??", DIRECTIVE_HELP, "load", NULL);
    is_one("?%load", DIRECTIVE_HELP, "load", NULL);
    is_one("%%bash?", DIRECTIVE_HELP, "bash", NULL);
    is_one("%generate 뭐야?", DIRECTIVE_MAGIC, "generate", "뭐야?");
    is_prompt("load?");
    is_prompt("?");
    is_prompt("???");
}
static void shell(void **state) {
    (void)state;
    is_one("!ls -l", DIRECTIVE_SHELL, NULL, "ls -l");
    is_one("! lspci | grep -i nvidia", DIRECTIVE_SHELL, NULL, "lspci | grep -i nvidia");
    is_one("!echo a \\\n b", DIRECTIVE_SHELL, NULL, "echo a  b");
    is_one("!echo a;", DIRECTIVE_SHELL, NULL, "echo a;");
    is_refused("!", "missing");
    is_refused("%ps\n!  ", "line 2");
}
static void assignments(void **state) {
    (void)state;
    struct cell c = parse(
        "# Parameters\nmodel = \"llama-2-7b\"\nruns = 5  # five\ncold = True;\nx = None\n모델='가'\nn: int = 3\n");
    static const char *const want[][2] = { { "model", "'llama-2-7b'" }, { "runs", "5" },
                                           { "cold", "True" },          { "x", "None" },
                                           { "모델", "'가'" },          { "n", "3" } };
    assert_int_equal(c.n, 6);
    for (int i = 0; i < c.n; i++) {
        assert_int_equal(c.v[i].kind, DIRECTIVE_ASSIGN);
        assert_string_equal(c.v[i].name, want[i][0]);
        assert_string_equal(c.v[i].value.repr, want[i][1]);
    }
    cell_fini(&c);
    c = parse("a = [\n 1, # one\n 2]\nt = '''x\ny'''\n%ps");
    assert_int_equal(c.n, 3);
    assert_int_equal(c.v[1].line, 4);
    assert_int_equal(c.v[2].line, 6);
    cell_fini(&c);
    is_refused("model = load('x')", "literal");
    is_refused("x = a + b", "literal");
    is_refused("x = 1 + 2", "without operators");
    is_refused("x = [1, 2", "not closed");
    is_refused("%ps\ny = 2x", "line 2: cannot set y");
}
static void shows(void **state) {
    (void)state;
    is_one("runs", DIRECTIVE_SHOW, "runs", NULL);
    is_one("  $runs ; \n\n", DIRECTIVE_SHOW, "runs", NULL);
    is_one("모델", DIRECTIVE_SHOW, "모델", NULL);
    is_prompt("other");
    is_prompt("$other");
    is_prompt("runs\nand more text"); /* a prompt that starts with that word */
    struct cell c = parse("y = 1\ny");
    assert_int_equal(c.v[1].kind, DIRECTIVE_SHOW);
    cell_fini(&c);
}
static void prompts(void **state) {
    (void)state;
    is_prompt("### 질문: 딥러닝이 뭐야?");
    is_prompt("### 질문: 딥러닝이 뭐야?\n\n### 답변:");
    is_prompt("\n  \n대한민국의 수도는\n%load x\n!ls\n");
    is_prompt("#hashtag");
    is_prompt("x = 5 이면 2x는?");
    is_prompt("y = the slope of a line");
    is_prompt("x == 3");
    is_prompt("What is 2 + 2?");
    is_prompt("{\"a\": \"$b {c}\"}");
    is_prompt("Note: x = 5 holds");
    is_prompt("from here to there");
    is_prompt("import duties are what?");
}
static void neither(void **state) {
    (void)state;
    struct cell c = parse("");
    assert_int_equal(c.n, 0);
    cell_fini(&c);
    c = parse(" \n\t\n# only a comment\n#\n");
    assert_int_equal(c.n, 0);
    cell_fini(&c);
    is_refused("%ps\nhello there", "line 2: \"hello there\"");
    is_refused("import torch", "not Python");
    is_refused("from transformers import AutoModel", "not Python");
    is_refused("import numpy as np\nx = 1", "not Python");
}
static void nul_bytes(void **state) {
    (void)state;
    struct cell c;
    struct err e = { 0 };
    assert_int_not_equal(cell_parse(&c, "%load a\0b", 9, known, NULL, &e), 0);
    assert_non_null(strstr(e.text, "NUL"));
    cell_fini(&c);
    e.code = 0;
    assert_int_equal(cell_parse(&c, "a\0b", 3, known, NULL, &e), 0);
    assert_int_equal(c.v[0].body_len, 3);
    cell_fini(&c);
    e.code = 0;
    assert_int_not_equal(cell_parse(&c, "x = 'a\0b'", 9, known, NULL, &e), 0);
    cell_fini(&c);
}
static void completeness(void **state) {
    (void)state;
    static const char *const want[][2] = {
        { "%ps", "complete" },
        { "hello", "complete" },
        { "", "complete" },
        { "%%bash", "incomplete" },
        { "%%bash\nls", "incomplete" },
        { "%%bash\nls\n", "incomplete" },
        { "%%bash\nls\n\n", "complete" },
        { "%load x \\", "incomplete" },
        { "x = [1,", "incomplete" },
        { "x = '''a\n", "incomplete" },
        { "x = 5", "complete" },
        { "%", "invalid" },
        { "%ps\nhello", "invalid" },
        { "x = load()", "invalid" },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        if (strcmp(cell_is_complete(want[i][0], strlen(want[i][0])), want[i][1]))
            fail_msg("%s: %s", want[i][0], cell_is_complete(want[i][0], strlen(want[i][0])));
}
static void survives_without_memory(void **state) {
    (void)state;
    const char code[] = "# p\nx = [1, 'a']\n%load $x --seed 1 \\\n -n 2\n!ls\nx\n%%bash\nls";
    for (long n = 1;; n++) {
        struct cell c;
        struct err e = { 0 };
        mem_fail_at(n);
        const int rc = cell_parse(&c, code, sizeof code - 1, NULL, NULL, &e);
        mem_fail_at(0);
        const int made = c.n;
        cell_fini(&c);
        if (!rc) {
            assert_int_equal(made, 5);
            assert_true(n > 5);
            return;
        }
        assert_int_not_equal(e.code, 0);
    }
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(magics),
        cmocka_unit_test(cell_magics_take_the_rest_byte_for_byte),
        cmocka_unit_test(help),
        cmocka_unit_test(shell),
        cmocka_unit_test(assignments),
        cmocka_unit_test(shows),
        cmocka_unit_test(prompts),
        cmocka_unit_test(neither),
        cmocka_unit_test(nul_bytes),
        cmocka_unit_test(completeness),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
