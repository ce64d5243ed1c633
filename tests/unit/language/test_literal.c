/* Expected texts are what CPython 3 prints for the same source (repr). */
#include "base/mem.h"
#include "base/utf8.h"
#include "kernel/language/literal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void reads(const char *source, const char *type, const char *repr, const char *text) {
    struct literal v;
    struct err e = { 0 };
    size_t used = 0;
    if (literal_parse(&v, source, strlen(source), &used, &e)) fail_msg("%s: %s", source, e.text);
    assert_string_equal(v.repr, repr);
    assert_string_equal(v.text, text ? text : repr);
    assert_string_equal(literal_type(&v), type);
    assert_int_equal(used, strlen(source));
    literal_fini(&v);
}
static void refused(const char *source, const char *word) {
    struct literal v;
    struct err e = { 0 };
    size_t used = 0;
    const int rc = literal_parse(&v, source, strlen(source), &used, &e);
    if (!rc) fail_msg("%s was read as %s", source, v.repr);
    if (!strstr(e.text, word)) fail_msg("%s: \"%s\" does not say \"%s\"", source, e.text, word);
    assert_null(v.text);
}

static void numbers(void **state) {
    (void)state;
    reads("5", "int", "5", NULL);
    reads("-12", "int", "-12", NULL);
    reads("+7", "int", "7", NULL);
    reads("1_000_000", "int", "1000000", NULL);
    reads("0x1F", "int", "31", NULL);
    reads("0b101", "int", "5", NULL);
    reads("-0o17", "int", "-15", NULL);
    reads("123456789012345678901234567890", "int", "123456789012345678901234567890", NULL);
    reads("0.7", "float", "0.7", NULL);
    reads("1.", "float", "1.0", NULL);
    reads("-.5", "float", "-0.5", NULL);
    reads("2e3", "float", "2000.0", NULL);
    reads("1e16", "float", "1e+16", NULL);
    reads("123456789.125", "float", "123456789.125", NULL);
    reads("1e-5", "float", "1e-05", NULL);
    reads("0.00012", "float", "0.00012", NULL);
    reads("1.5e300", "float", "1.5e+300", NULL);
    reads("0.1", "float", "0.1", NULL);
    reads("0.30000000000000004", "float", "0.30000000000000004", NULL);
    reads("float('nan')", "float", "nan", NULL);
    reads("float(\"-inf\")", "float", "-inf", NULL);
    reads("float(3)", "float", "3.0", NULL);
    refused("1.2.3", "number");
    refused("12abc", "number");
    refused("3j", "number");
    refused("float('x')", "float(...)");
    refused("--5", "literal");
}
static void words(void **state) {
    (void)state;
    reads("True", "bool", "True", NULL);
    reads("False", "bool", "False", NULL);
    reads("None", "NoneType", "None", NULL);
    refused("true", "literal");
    refused("Truely", "literal");
    refused("foo()", "literal");
    refused("", "missing");
}
static void strings(void **state) {
    (void)state;
    reads("'abc'", "str", "'abc'", "abc");
    reads("\"it's\"", "str", "\"it's\"", "it's");
    reads("'a\"b\\'c'", "str", "'a\"b\\'c'", "a\"b'c");
    reads("'a\\nb\\tc\\\\'", "str", "'a\\nb\\tc\\\\'", "a\nb\tc\\");
    reads("'\\x41\\u00e9\\U0001F600'", "str", "'Aé😀'", "Aé😀");
    reads("'\\ud83d\\ude00'", "str", "'😀'", "😀");
    reads("\"\\uac00\\ub098\"", "str", "'가나'", "가나"); /* how papermill writes Hangul */
    reads("'\\101\\60'", "str", "'A0'", "A0");
    reads("r'\\d\\n'", "str", "'\\\\d\\\\n'", "\\d\\n");
    reads("'\\d'", "str", "'\\\\d'", "\\d");
    reads("'''two\nlines'''", "str", "'two\\nlines'", "two\nlines");
    reads("\"\"\"a \"quoted\" b\"\"\"", "str", "'a \"quoted\" b'", "a \"quoted\" b");
    reads("''", "str", "''", "");
    reads("'a' \"b\"", "str", "'ab'", "ab");
    reads("'\\x01\\x7f'", "str", "'\\x01\\x7f'", "\x01\x7f");
    reads("'\\ud800'", "str", "'\xef\xbf\xbd'", "\xef\xbf\xbd");
    refused("'abc", "not closed");
    refused("'a\nb'", "not closed");
    refused("'''a", "not closed");
    refused("'\\x4'", "digits");
    refused("'\\0'", "NUL");
    refused("'\\N{DASH}'", "\\N");
    refused("'a\\", "not closed");
}
static void containers(void **state) {
    (void)state;
    reads("[1, 2, 3]", "list", "[1, 2, 3]", "1,2,3");
    reads("['a', 'b']", "list", "['a', 'b']", "a,b");
    reads("[]", "list", "[]", "");
    reads("(1, 'x')", "tuple", "(1, 'x')", "1,x");
    reads("(1,)", "tuple", "(1,)", "1");
    reads("()", "tuple", "()", "");
    reads("(3)", "int", "3", NULL);
    reads("('a' 'b')", "str", "'ab'", "ab");
    reads("{'a': 1, 2: [3, 4]}", "dict", "{'a': 1, 2: [3, 4]}", NULL);
    reads("{}", "dict", "{}", NULL);
    reads("[\n  'a', # first\n  'b',\n]", "list", "['a', 'b']", "a,b");
    reads("[[1, 2], (3,)]", "list", "[[1, 2], (3,)]", "1,2,3");
    refused("[1, 2", "not closed");
    refused("[1 2]", "comma");
    refused("[,]", "literal");
    refused("{1}", "key: value");
    refused("{[1]: 2}", "key");
    char deep[202];
    memset(deep, '[', 200);
    deep[200] = 0;
    refused(deep, "deeper");
}
static void takes_only_its_own_bytes(void **state) {
    (void)state;
    struct literal v;
    struct err e = { 0 };
    size_t used = 0;
    assert_int_equal(literal_parse(&v, "5 # five\n6", 10, &used, &e), 0);
    assert_int_equal(used, 1);
    literal_fini(&v);
    assert_int_equal(literal_parse(&v, "'a'\n'b'", 7, &used, &e), 0); /* the next line is not joined */
    assert_string_equal(v.text, "a");
    literal_fini(&v);
}
static void survives_without_memory(void **state) {
    (void)state;
    const char source[] = "{'name': ['a', \"b\"], 'n': (1, 2.5, float('nan')), 's': 'x' 'y'}";
    for (long n = 1;; n++) {
        struct literal v;
        struct err e = { 0 };
        size_t used;
        mem_fail_at(n);
        const int rc = literal_parse(&v, source, sizeof source - 1, &used, &e);
        mem_fail_at(0);
        if (!rc) {
            literal_fini(&v);
            assert_true(n > 3);
            return;
        }
        assert_int_not_equal(e.code, 0);
        assert_null(v.repr);
    }
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(words),
        cmocka_unit_test(strings),
        cmocka_unit_test(containers),
        cmocka_unit_test(takes_only_its_own_bytes),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
