/* Numbers, tables, bars: golden texts written by hand. */
#include "base/mem.h"
#include "base/utf8.h"
#include "kernel/magics/profile_limit.h"
#include "kernel/present/format.h"
#include "kernel/present/progress.h"
#include "kernel/present/table.h"
#include "language/fake_out.h"
#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SAYS(call, want)                                                                                               \
    do {                                                                                                               \
        char out_[32];                                                                                                 \
        call;                                                                                                          \
        assert_string_equal(out_, want);                                                                               \
    } while (0)

static void numbers(void **state) {
    (void)state;
    SAYS(format_number(out_, 0), "0");
    SAYS(format_number(out_, 44.84), "44.8");
    SAYS(format_number(out_, 9.996), "10.0");
    SAYS(format_number(out_, 99.96), "100");
    SAYS(format_number(out_, 2414.6), "2,415");
    SAYS(format_number(out_, 1234567), "1,234,567");
    SAYS(format_number(out_, -1234.5), "-1,234");
    SAYS(format_number(out_, 1.4249), "1.42");
    SAYS(format_number(out_, 0.4567), "0.457");
    SAYS(format_number(out_, 0.04567), "0.0457");
    SAYS(format_number(out_, 0.004567), "0.00457");
    SAYS(format_number(out_, 0.0001234), "1.23e-04");
    SAYS(format_number(out_, NAN), "–");
    SAYS(format_number(out_, INFINITY), "–");
    SAYS(format_count(out_, 0), "0");
    SAYS(format_count(out_, 1048576), "1,048,576");
    SAYS(format_count(out_, UINT64_MAX), "18,446,744,073,709,551,615");
    SAYS(format_bytes(out_, 512), "512 B");
    SAYS(format_bytes(out_, 98304000), "93.8 MiB");
    SAYS(format_bytes(out_, 1023.9 * 1048576), "1.00 GiB");
    SAYS(format_bytes(out_, 24.24 * 1073741824), "24.2 GiB");
    SAYS(format_seconds(out_, 0.000412), "412 µs");
    SAYS(format_seconds(out_, 0.048), "48.0 ms");
    SAYS(format_seconds(out_, 1.4249), "1.42 s");
    SAYS(format_seconds(out_, 133.4), "2 min 13 s");
    SAYS(format_seconds(out_, 11100), "3 h 5 min");
    SAYS(format_seconds(out_, -1), "–");
    SAYS(format_params(out_, 134515008), "135 M");
    SAYS(format_params(out_, 5885059072), "5.89 B");
    SAYS(format_params(out_, 512), "512");
    SAYS(format_percent(out_, 0.88), "88.0 %");
    SAYS(format_tenths(out_, 0.04), "0.0");
    SAYS(format_tenths(out_, 12.34), "12.3");
    SAYS(format_tenths(out_, 434.2), "434");
}
static void escapes(const char *in, const char *html, const char *markdown) {
    struct buf b;
    buf_init(&b, 1000);
    format_html(&b, in, strlen(in));
    assert_string_equal(buf_text(&b), html);
    buf_reset(&b);
    format_markdown(&b, in, strlen(in));
    assert_string_equal(buf_text(&b), markdown);
    buf_fini(&b);
}
static void escaping(void **state) {
    (void)state;
    escapes("<b>\"a\" & 'b'</b>", "&lt;b&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/b&gt;", "&lt;b>\"a\" & 'b'&lt;/b>");
    escapes("a|b_c*d`e$f", "a|b_c*d`e$f", "a\\|b\\_c\\*d\\`e\\$f");
    escapes("x\ny", "x<br>y", "x y");
}
static void redacts(const char *in, const char *want) {
    struct buf b;
    buf_init(&b, 1000);
    format_redacted(&b, in, strlen(in));
    assert_string_equal(buf_text(&b), want);
    buf_fini(&b);
}
static void secrets(void **state) {
    (void)state;
    redacts("%env HF_TOKEN=hf_abcdefghijklmnop", "%env HF_TOKEN=hf_<hidden>");
    redacts("AKIAIOSFODNN7EXAMPLE and sk-0123456789abcdef.", "AKIA<hidden> and sk-<hidden>.");
    redacts("ghp_0123456789abcdef", "ghp_<hidden>");
    redacts("self_hf_home hf_home task-force-alpha", "self_hf_home hf_home task-force-alpha");
    assert_true(format_is_secret_name("AWS_SECRET_ACCESS_KEY"));
    assert_true(format_is_secret_name("hf_token"));
    assert_false(format_is_secret_name("PATH"));
}
static const char *form(const json_t *bundle, const char *mime) {
    return json_string_value(json_object_get(bundle, mime));
}

static void table_in_three_forms(void **state) {
    (void)state;
    struct table t;
    table_init(&t, "한글 <표>");
    table_column(&t, "이름", TABLE_LEFT);
    table_column(&t, "ms", TABLE_RIGHT);
    table_cell(&t, "%s", "가나다");
    table_number(&t, 1234.5);
    table_cell(&t, "a|b\n\xff");
    table_number(&t, 0.5);
    struct doc d;
    doc_init(&d);
    doc_line(&d, "before");
    doc_table(&d, &t);
    json_t *bundle = doc_bundle(&d);
    assert_string_equal(form(bundle, "text/plain"),
                        "before\n\n한글 <표>\n이름       ms\n------  -----\n가나다  1,234\na|b \xef\xbf\xbd   0.500");
    assert_string_equal(
        form(bundle, "text/html"),
        "<div>before</div>\n<table>\n<caption>한글 &lt;표&gt;</caption>\n<thead><tr>"
        "<th scope=\"col\" style=\"text-align:left\">이름</th><th scope=\"col\" "
        "style=\"text-align:right\">ms</th></tr></thead>\n"
        "<tbody>\n<tr><td style=\"text-align:left\">가나다</td><td style=\"text-align:right\">1,234</td></tr>\n"
        "<tr><td style=\"text-align:left\">a|b \xef\xbf\xbd</td><td "
        "style=\"text-align:right\">0.500</td></tr>\n</tbody>\n</table>\n");
    assert_string_equal(
        form(bundle, "text/markdown"),
        "before\n\n**한글 &lt;표>**\n\n| 이름 | ms |\n|:--|--:|\n| 가나다 | 1,234 |\n| a\\|b \xef\xbf\xbd | 0.500 |\n");
    json_decref(bundle);
    doc_fini(&d);
    table_fini(&t);
}
static void code_keeps_its_fence(void **state) {
    (void)state;
    struct doc d;
    doc_init(&d);
    doc_code(&d, "a\n```py\n<b>\n```", 15);
    json_t *bundle = doc_bundle(&d);
    assert_string_equal(form(bundle, "text/markdown"), "````\na\n```py\n<b>\n```\n````\n");
    assert_string_equal(form(bundle, "text/html"), "<pre>a\n```py\n&lt;b&gt;\n```</pre>\n");
    json_decref(bundle);
    doc_fini(&d);
}
static void lines_wrap_in_plain_text_only(void **state) {
    (void)state;
    struct doc d;
    doc_init(&d);
    doc_line(&d, "%s",
             "가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 end");
    json_t *bundle = doc_bundle(&d);
    assert_string_equal(
        form(bundle, "text/plain"),
        "가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라 가나다라\nend");
    assert_null(strstr(form(bundle, "text/html"), "라\n"));
    json_decref(bundle);
    doc_fini(&d);
}
static void long_tables_are_cut_with_a_hint(void **state) {
    (void)state;
    struct table t;
    table_init(&t, NULL);
    table_column(&t, "n", TABLE_RIGHT);
    t.more = "%ps --all";
    for (int i = 0; i < 57; i++) table_cell(&t, "%d", i);
    struct doc d;
    doc_init(&d);
    doc_table(&d, &t);
    json_t *bundle = doc_bundle(&d);
    const char *plain = form(bundle, "text/plain");
    assert_non_null(strstr(plain, "\n19\n… 37 more rows - %ps --all"));
    assert_null(strstr(form(bundle, "text/html"), ">20<"));
    json_decref(bundle);
    doc_fini(&d);
    table_fini(&t);
}
static void plain_tables_stay_within_100_columns(void **state) {
    (void)state;
    struct table t;
    table_init(&t, NULL);
    table_column(&t, "path", TABLE_LEFT);
    table_column(&t, "n", TABLE_RIGHT);
    char path[301] = "";
    for (int i = 0; i < 100; i++) memcpy(path + i * 3, "각", 4);
    table_cell(&t, "%s", path);
    table_cell(&t, "7");
    struct doc d;
    doc_init(&d);
    doc_table(&d, &t);
    json_t *bundle = doc_bundle(&d);
    const char *last = strrchr(form(bundle, "text/plain"), '\n') + 1;
    assert_int_equal(utf8_width(last, strlen(last)), 100);
    assert_true(utf8_valid(last, strlen(last)));
    assert_non_null(strstr(last, "…"));
    assert_non_null(strstr(form(bundle, "text/html"), path)); /* only the plain form is cut */
    json_decref(bundle);
    doc_fini(&d);
    table_fini(&t);
}
static void table_survives_without_memory(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        struct table t;
        struct doc d;
        mem_fail_at(n);
        table_init(&t, "c");
        table_column(&t, "a", TABLE_LEFT);
        table_column(&t, "b", TABLE_RIGHT);
        for (int i = 0; i < 200; i++) table_cell(&t, "%d", i);
        doc_init(&d);
        doc_line(&d, "line");
        doc_code(&d, "code", 4);
        doc_table(&d, &t);
        mem_fail_at(0);
        json_t *bundle = doc_bundle(&d);
        doc_fini(&d);
        table_fini(&t);
        if (!bundle) continue;
        assert_non_null(strstr(form(bundle, "text/plain"), "90 more rows")
                            ? ""
                            : strstr(form(bundle, "text/plain"), "80 more rows"));
        json_decref(bundle);
        assert_true(n > 5);
        return;
    }
}
static void bar(double done, double total, const char *unit, double rate, const char *want) {
    struct buf b;
    buf_init(&b, 1000);
    progress_text(&b, done, total, unit, rate);
    assert_string_equal(buf_text(&b), want);
    buf_fini(&b);
}
static void bars(void **state) {
    (void)state;
    const double mib = 1048576;
    bar(58.1 * mib, 93.8 * mib, "B", 1228.8 * mib, "▕████████████        ▏ 61 %  58.1/93.8 MiB  1.20 GiB/s  ETA 1 s");
    bar(0, 100, "tok", 0, "▕                    ▏ 0 %  0/100 tok");
    bar(100, 100, "tok", 250, "▕████████████████████▏ 100 %  100/100 tok  250 tok/s  ETA 0 s");
    bar(8.3 * 1024 * mib, 13.5 * 1024 * mib, "B", 118 * mib,
        "▕████████████        ▏ 61 %  8.30/13.5 GiB  118 MiB/s  ETA 46 s");
    bar(7, 0, "tok", 3, "7 tok  3.00 tok/s");
    bar(NAN, 10, "tok", NAN, "▕                    ▏ 0 %  0/10 tok");
    bar(20, 10, "tok", 1, "▕████████████████████▏ 100 %  10/10 tok  1.00 tok/s  ETA 0 s");
}
static void progress_is_one_display(void **state) {
    (void)state;
    struct out o;
    out_open(&o);
    struct progress p;
    progress_init(&p, &o);
    for (int i = 0; i < 1000; i++) progress_update(&p, "reading", i, 1000, "B");
    assert_int_equal(json_array_size(o.displays), 1); /* at most four a second */
    progress_end(&p, doc_plain("done", 4));
    assert_int_equal(json_array_size(o.displays), 2);
    const json_t *last = json_array_get(o.displays, 1);
    assert_true(json_is_true(json_object_get(last, "update")));
    assert_string_equal(json_string_value(json_object_get(last, "id")), "display-1");
    out_close(&o);
}
static void limit(double wall, double spans, double bytes, double flops, const char *want) {
    const struct limit_facts f = { "decode", wall, spans, bytes, flops, 100, 20, 100, "mlp.down", spans * 0.4 };
    char s[320];
    limit_sentence(&f, s);
    if (!strstr(s, want)) fail_msg("\"%s\" does not say \"%s\"", s, want);
}
static void what_limits(void **state) {
    (void)state;
    limit(10, 9.5, 180e6, 100e6, "Memory limits decode: 18.0 of 20.0 GB/s (90.0 %)");
    limit(10, 9.5, 20e6, 800e6, "Arithmetic limits decode: 80.0 of 100 GFLOP/s (80.0 %)");
    limit(10, 5.0, 180e6, 100e6, "Overhead limits decode: only 50.0 %");
    limit(10, 9.5, 400e6, 100e6, "cache feeds decode: 40.0 GB/s where memory gives 20.0");
    limit(10, 9.5, 20e6, 1500e6, "150 GFLOP/s, more than the 100 measured as this machine");
    limit(10, 9.5, 50e6, 200e6,
          "Neither memory (25.0 %) nor arithmetic (20.0 %) is near its peak in decode: its kernels limit, above all "
          "mlp.down (40.0 %");
    const struct limit_facts unknown = { "decode", 10, 9, 1e6, 1e6, 5, 0, 0, NULL, 0 };
    char s[320];
    limit_sentence(&unknown, s);
    assert_non_null(strstr(s, "not known"));
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(escaping),
        cmocka_unit_test(secrets),
        cmocka_unit_test(table_in_three_forms),
        cmocka_unit_test(code_keeps_its_fence),
        cmocka_unit_test(lines_wrap_in_plain_text_only),
        cmocka_unit_test(long_tables_are_cut_with_a_hint),
        cmocka_unit_test(plain_tables_stay_within_100_columns),
        cmocka_unit_test(table_survives_without_memory),
        cmocka_unit_test(bars),
        cmocka_unit_test(progress_is_one_display),
        cmocka_unit_test(what_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
