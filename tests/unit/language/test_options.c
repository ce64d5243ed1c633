/* Words, options, "did you mean": by a grammar of the test's own. */
#include "base/mem.h"
#include "kernel/language/nearest.h"
#include "kernel/language/options.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct option some[] = {
    { "max-new-tokens", "n", "max-tokens num-predict", OPTION_INT, .settable = true, .arg = "N", .def = "128", .min = 1,
      .max = 1000, .help = "" },
    { "temperature", "t", "temp", OPTION_FLOAT, .settable = true, .arg = "T", .def = "1.0", .min = 0, .max = 2,
      .help = "" },
    { "do-sample", NULL, "sample !greedy", OPTION_FLAG, .help = "" },
    { "stream", NULL, NULL, OPTION_FLAG, .def = "true", .help = "" },
    { "stop", "r", NULL, OPTION_TEXT, .list = true, .arg = "TEXT", .help = "" },
    { "dtype", NULL, "torch-dtype", OPTION_CHOICE, .arg = "D", .def = "auto",
      .choices = "auto fp32|float32|float fp16|half", .help = "" },
    { "context", "c", NULL, OPTION_INT, .list = true, .arg = "N,...", .min = 1, .max = 9000, .help = "" },
    { "form", NULL, NULL, OPTION_CHOICE, .list = true, .choices = "a|x b", .help = "" },
    { "num-beams", NULL, NULL, OPTION_LATER, .arg = "N", .def = "1", .help = "greedy only" },
    { "tensor-parallel-size", "tp", NULL, OPTION_INT, .arg = "N", .min = 1, .max = 8, .help = "" },
    { "top-p", NULL, NULL, OPTION_FLOAT, .min = 0, .max = 1, .help = "" },
    { "top-k", NULL, NULL, OPTION_INT, .min = 0, .max = 9, .help = "" },
    { NULL },
};
static const struct option *const groups[] = { some, NULL };
static struct variables vars;

static struct args read_as(const char *line, const char *usage, unsigned flags, const struct variables *defaults) {
    struct words w;
    struct args a;
    struct err e = { 0 };
    const struct grammar g = { "%gen", usage, groups, flags };
    if (words_split(&w, line, &vars, &e) || args_read(&a, &g, &w, defaults, &e)) fail_msg("%s: %s", line, e.text);
    return a;
}
static struct args reads(const char *line) { return read_as(line, "[TEXT...]", WORDS_ARE_TEXT, NULL); }
static void refused_as(const char *line, const char *usage, unsigned flags, const char *want) {
    struct words w;
    struct args a;
    struct err e = { 0 };
    const struct grammar g = { "%gen", usage, groups, flags };
    if (!words_split(&w, line, &vars, &e) && !args_read(&a, &g, &w, NULL, &e)) fail_msg("taken: %s", line);
    if (!strstr(e.text, want)) fail_msg("%s: \"%s\" does not say \"%s\"", line, e.text, want);
    assert_null(strchr(e.text, '\n'));
    assert_int_equal(e.code, STATUS_INVALID);
}
static void refused(const char *line, const char *want) { refused_as(line, "[TEXT...]", WORDS_ARE_TEXT, want); }

static void every_spelling_of_an_option(void **state) {
    (void)state;
    static const char *const line[] = { "--max-new-tokens 7",
                                        "--max_new_tokens=7",
                                        "max_new_tokens=7",
                                        "max-new-tokens=7",
                                        "-n 7",
                                        "-n7",
                                        "-n=7",
                                        "--max-tokens 7",
                                        "--num_predict 7",
                                        "--max-n 7",
                                        "--max-new-tokens '7'",
                                        "-n 3 -n 7" };
    for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
        struct args a = reads(line[i]);
        if (args_int(&a, "max-new-tokens") != 7) fail_msg("%s", line[i]);
        assert_int_equal(a.words.n, 0);
        args_fini(&a);
    }
    struct args a = reads("-tp 4 -t0.5 hello");
    assert_int_equal(args_int(&a, "tensor-parallel-size"), 4); /* the longer short name wins over -t */
    assert_true(args_number(&a, "temperature") == 0.5);
    assert_string_equal(args_word(&a, 0), "hello");
    args_fini(&a);
}
static void flags(void **state) {
    (void)state;
    static const struct {
        const char *line;
        bool sample, stream;
    } want[] = { { "", false, true },
                 { "--do-sample", true, true },
                 { "--no-do-sample", false, true },
                 { "--greedy", false, true },
                 { "--no-greedy", true, true },
                 { "do_sample=true", true, true },
                 { "greedy=false", true, true },
                 { "--no-stream", false, false },
                 { "stream=off --sample", true, false } };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct args a = reads(want[i].line);
        if (args_flag(&a, "do-sample") != want[i].sample || args_flag(&a, "stream") != want[i].stream)
            fail_msg("%s", want[i].line);
        args_fini(&a);
    }
    refused("do_sample=maybe", "true or false");
}
static void words_and_text(void **state) {
    (void)state;
    struct args a = reads("What's 3 - 2, or x=3 -5? -n 4 -- --stop");
    char *text = args_join(&a, 0);
    assert_string_equal(text, "What's 3 - 2, or x=3 -5? --stop");
    mem_free(text);
    args_fini(&a);
    a = reads("\"a b\" 'c \\n $x' \"d\\n\\t\\\"\" e\\ f \"--stop\" \"n=5\" --stop \"\\n\\n\" -r '###'");
    assert_string_equal(args_word(&a, 0), "a b");
    assert_string_equal(args_word(&a, 1), "c \\n $x");
    assert_string_equal(args_word(&a, 2), "d\n\t\"");
    assert_string_equal(args_word(&a, 3), "e f");
    assert_string_equal(args_word(&a, 4), "--stop");
    assert_string_equal(args_word(&a, 5), "n=5");
    assert_string_equal(a.v[0].text, "\n\n");
    assert_string_equal(a.v[1].text, "###");
    assert_int_equal(a.n, 2);
    args_fini(&a);
    refused("\"open", "not closed");
}
static void variables_are_put_in_whole(void **state) {
    (void)state;
    struct args a = reads("$prompt ${n}tok $$n $5 '$n' \"<$n>\" -n $n");
    assert_string_equal(args_word(&a, 0), "two words --stop 'x"); /* neither split nor read again */
    assert_string_equal(args_word(&a, 1), "64tok");
    assert_string_equal(args_word(&a, 2), "$n");
    assert_string_equal(args_word(&a, 3), "$5");
    assert_string_equal(args_word(&a, 4), "$n");
    assert_string_equal(args_word(&a, 5), "<64>");
    assert_int_equal(args_int(&a, "max-new-tokens"), 64);
    args_fini(&a);
    refused("$promt", "Did you mean $prompt?");
    setenv("JAEDA_TEST_VALUE", "from outside", 1);
    a = reads("$JAEDA_TEST_VALUE");
    assert_string_equal(args_word(&a, 0), "from outside");
    args_fini(&a);
    struct err e = { 0 };
    char *line = words_expand("echo $n $HOME $$n ${n}x $(ls)", &vars, false, &e);
    assert_string_equal(line, "echo 64 $HOME $n 64x $(ls)");
    mem_free(line);
}
static void one_clear_line_for_every_slip(void **state) {
    (void)state;
    refused("--max-token 5", "unknown option --max-token for %gen. Did you mean --max-new-tokens?  (%gen? for all)");
    refused("--temprature 1", "Did you mean --temperature?");
    refused("temprature=1", "Did you mean --temperature?");
    refused("-z 3", "unknown option -z");
    refused("-n", "--max-new-tokens needs a value: N");
    refused("-n 0", "a whole number from 1 to 1000, not \"0\"");
    refused("-n 5000", "from 1 to 1000");
    refused("-n 1.5", "a whole number");
    refused("-n 0x10", "a whole number");
    refused("-n nan", "a whole number");
    refused("-n 8,16", "not there yet");
    refused("-t abc", "a number from 0 to 2");
    refused("--dtype int8", "auto, fp32, fp16, not \"int8\"");
    refused("--num-beams 4", "--num-beams is not there yet: greedy only");
    refused("--top 5", "could be --top-p --top-k");
    refused_as("foo=3", "", 0, "unknown option foo");
    refused_as("a b", "MODEL", 0, "takes only MODEL, so \"b\" is too much");
    refused_as("", "MODEL", 0, "needs MODEL");
    refused_as("x", "", 0, "takes no arguments");
    struct args a = reads("--num-beams 1 --dtype HALF");
    assert_string_equal(args_text(&a, "dtype"), "fp16");
    args_fini(&a);
    a = read_as("A=b c=d", "[NAME] [VALUE...]", WORDS_HOLD_EQUALS, NULL);
    assert_string_equal(args_word(&a, 1), "c=d");
    args_fini(&a);
}
static void several_values_behind_a_comma(void **state) {
    (void)state;
    struct args a = reads("-c 512,2048 --form x,b -c8 --stop a,b");
    assert_int_equal(a.n, 6);
    assert_true(a.v[0].number == 512 && a.v[1].number == 2048 && a.v[4].number == 8);
    assert_string_equal(a.v[2].text, "a");
    assert_string_equal(a.v[3].text, "b");
    assert_string_equal(a.v[5].text, "a,b"); /* a text keeps its commas */
    args_fini(&a);
    refused("-c 512,,8", "not \"\"");
    refused("-c 5,", "not \"\"");
    refused("-c 512,9001", "from 1 to 9000, not \"9001\"");
    refused("--form a,c", "a, b, not \"c\"");
}
static void defaults_lie_below_what_is_typed(void **state) {
    (void)state;
    struct variables d = { 0 };
    variables_set_text(&d, "temperature", "0.5", 3, NULL);
    variables_set_text(&d, "dtype", "fp32", 4, NULL); /* not settable here: left out */
    struct args a = read_as("hello", "[TEXT...]", WORDS_ARE_TEXT, &d);
    assert_true(args_given(&a, "temperature") && args_last(&a, "temperature")->from_set);
    assert_true(args_number(&a, "temperature") == 0.5);
    assert_string_equal(args_text(&a, "dtype"), "auto");
    args_fini(&a);
    a = read_as("-t 1.5", "[TEXT...]", WORDS_ARE_TEXT, &d);
    assert_true(args_number(&a, "temperature") == 1.5);
    args_fini(&a);
    variables_fini(&d);
}
static void distances(void **state) {
    (void)state;
    assert_int_equal(nearest_distance("load", "load"), 0);
    assert_int_equal(nearest_distance("laod", "load"), 1); /* neighbours swapped */
    assert_int_equal(nearest_distance("top_p", "top-p"), 0);
    assert_int_equal(nearest_distance("kitten", "sitting"), 3);
    assert_int_equal(nearest_distance("", "abc"), 3);
}
static void survives_without_memory(void **state) {
    (void)state;
    const struct grammar g = { "%gen", "[TEXT...]", groups, WORDS_ARE_TEXT };
    for (long n = 1;; n++) {
        struct words w;
        struct args a;
        struct err e = { 0 };
        mem_fail_at(n);
        const int rc = words_split(&w, "$prompt \"b c\" -n 5 --stop x --dtype fp16 d", &vars, &e) ||
                       args_read(&a, &g, &w, NULL, &e);
        mem_fail_at(0);
        if (!rc) {
            assert_int_equal(a.words.n, 3);
            args_fini(&a);
            assert_true(n > 5);
            return;
        }
        assert_int_equal(e.code, STATUS_NOMEM);
    }
}
static int setup(void **state) {
    (void)state;
    variables_set_text(&vars, "prompt", "two words --stop 'x", 19, NULL);
    variables_set_text(&vars, "n", "64", 2, NULL);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    variables_fini(&vars);
    return 0;
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_of_an_option),
        cmocka_unit_test(flags),
        cmocka_unit_test(words_and_text),
        cmocka_unit_test(variables_are_put_in_whole),
        cmocka_unit_test(one_clear_line_for_every_slip),
        cmocka_unit_test(several_values_behind_a_comma),
        cmocka_unit_test(defaults_lie_below_what_is_typed),
        cmocka_unit_test(distances),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
