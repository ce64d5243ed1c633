#include "kernel/protocol/cell.h"
#include "listener.h"
#include <stdio.h>
#include <stdlib.h>

struct rig {
    struct listener l;
    struct interrupt interrupt;
    struct out o;
};
static int no_answer(void *arg, const char *prompt, bool password, struct buf *reply, struct err *e) {
    (void)arg, (void)prompt, (void)password;
    return buf_puts(reply, "typed") ? err_set(e, STATUS_NOMEM, "full") : 0;
}
static int rig_open(void **state) {
    struct err e = { 0 };
    struct rig *r = calloc(1, sizeof *r);
    listener_open(&r->l, 1000);
    assert_int_equal(interrupt_init(&r->interrupt, &e), 0);
    r->o = (struct out){
        .to = listener_output(&r->l, &r->interrupt.on), .interrupt = &r->interrupt, .count = 7, .ask = no_answer
    };
    assert_int_equal(out_begin(&r->o), 0);
    expect(&r->l, "iopub_welcome", NULL);
    *state = r;
    return 0;
}
static int rig_close(void **state) {
    struct rig *r = *state;
    out_settle(&r->o);
    out_fini(&r->o);
    interrupt_fini(&r->interrupt);
    listener_close(&r->l);
    free(r);
    return 0;
}
/* What arrives, joined, until the idle that this posts. */
static void streamed(struct rig *r, const char *want, size_t n) {
    struct buf got;
    buf_init(&got, 1 << 20);
    out_settle(&r->o);
    iopub_post(r->l.io, "status", PARENT, sizeof PARENT - 1, json_object());
    for (bool more = true; more;) {
        struct message m = next(&r->l);
        const json_t *text = json_object_get(m.content, "text");
        more = strcmp(m.type, "status") != 0;
        if (more) buf_add(&got, json_string_value(text), json_string_length(text));
        message_fini(&m);
    }
    assert_int_equal(got.n, n);
    assert_memory_equal(buf_text(&got), want, n);
    buf_fini(&got);
}

/* What Python's bytes.decode("utf-8", "replace") makes of it. */
static const char BYTES[] = "a한\xff글\xf0\x9f\x98\x80\xed\xa0\x80z\0é\xea\xb0";
static const char WHOLE[] = "a한\xef\xbf\xbd글\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\0é\xef\xbf\xbd";

static void text_is_the_same_however_it_is_cut(void **state) {
    struct rig *r = *state;
    const size_t n = sizeof BYTES - 1;
    for (size_t piece = 1; piece <= n; piece++) {
        for (size_t i = 0; i < n; i += piece)
            assert_int_equal(out_stream(&r->o, OUT_STDOUT, BYTES + i, n - i < piece ? n - i : piece), 0);
        streamed(r, WHOLE, sizeof WHOLE - 1);
    }
}
static void an_incomplete_character_waits_for_its_rest(void **state) {
    struct rig *r = *state;
    out_stream(&r->o, OUT_STDOUT, "\xed\x95", 2);
    assert_true(quiet(&r->l, 150));
    out_stream(&r->o, OUT_STDERR, "e", 1); /* streams are held apart */
    out_stream(&r->o, OUT_STDOUT, "\x9c", 1);
    expect(&r->l, "stream", "{\"name\":\"stderr\",\"text\":\"e\"}");
    expect(&r->l, "stream", "{\"name\":\"stdout\",\"text\":\"한\"}");
}
static void printf_of_any_length(void **state) {
    struct rig *r = *state;
    char *long_text = malloc(200001);
    memset(long_text, 'y', 200000);
    long_text[200000] = 0;
    assert_int_equal(out_printf(&r->o, "%s", ""), 0);
    assert_int_equal(out_printf(&r->o, "%s", long_text), 0);
    streamed(r, long_text, 200000);
    free(long_text);
}
static void displays_have_what_the_protocol_wants(void **state) {
    struct rig *r = *state;
    out_display(&r->o, json_pack("{s:s}", "text/plain", "a"), NULL, NULL, false);
    out_display(&r->o, json_pack("{s:s}", "text/plain", "b"), json_pack("{s:i}", "m", 1), "id", false);
    out_display(&r->o, json_pack("{s:s}", "text/plain", "c"), NULL, "id", true);
    out_result(&r->o, json_pack("{s:s}", "text/plain", "d"), NULL);
    out_clear(&r->o, true);
    expect(&r->l, "display_data", "{\"data\":{\"text/plain\":\"a\"},\"metadata\":{},\"transient\":{}}");
    expect(&r->l, "display_data",
           "{\"data\":{\"text/plain\":\"b\"},\"metadata\":{\"m\":1},\"transient\":{\"display_id\":\"id\"}}");
    expect(&r->l, "update_display_data",
           "{\"data\":{\"text/plain\":\"c\"},\"metadata\":{},\"transient\":{\"display_id\":\"id\"}}");
    expect(&r->l, "execute_result",
           "{\"data\":{\"text/plain\":\"d\"},\"execution_count\":7,\"metadata\":{},\"transient\":{}}");
    expect(&r->l, "clear_output", "{\"wait\":true}");
    assert_string_equal(buf_text(&r->o.result), "d");
}
static void silence_shows_nothing(void **state) {
    struct rig *r = *state;
    r->o.silent = true;
    out_stream(&r->o, OUT_STDOUT, "x", 1);
    out_display(&r->o, json_pack("{s:s}", "text/plain", "a"), NULL, "id", false);
    out_result(&r->o, json_pack("{s:s}", "text/plain", "d"), NULL);
    out_clear(&r->o, false);
    assert_true(quiet(&r->l, 150));
}
static void only_the_last_next_input_counts(void **state) {
    struct rig *r = *state;
    out_next_input(&r->o, "one", false);
    out_page(&r->o, json_pack("{s:s}", "text/plain", "page"));
    out_next_input(&r->o, "two", true);
    char *text = json_dumps(r->o.payload, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "[{\"data\":{\"text/plain\":\"page\"},\"source\":\"page\",\"start\":0},"
                              "{\"replace\":true,\"source\":\"set_next_input\",\"text\":\"two\"}]");
    mem_free(text);
}
static void begin(struct rig *r, struct capture *c, bool out, bool err, bool displays) {
    *c = (struct capture){ .keep = { out, err, displays } };
    for (int i = 0; i < 2; i++) buf_init(&c->text[i], 1000);
    out_capture_begin(&r->o, c);
}
static void end(struct capture *c) {
    for (int i = 0; i < 2; i++) buf_fini(&c->text[i]);
    json_decref(c->displays);
}
static void captures_nest_and_let_through_what_they_do_not_keep(void **state) {
    struct rig *r = *state;
    struct capture outer, inner;
    begin(r, &outer, true, true, true);
    out_printf(&r->o, "1");
    begin(r, &inner, true, false, false);
    out_printf(&r->o, "2");
    out_stream(&r->o, OUT_STDERR, "e\xea", 2); /* cut short by the end of the capture */
    out_display(&r->o, json_pack("{s:s}", "text/plain", "a"), NULL, "id", false);
    out_display(&r->o, json_pack("{s:s}", "text/plain", "b"), NULL, "id", true);
    out_capture_end(&r->o, &inner);
    out_printf(&r->o, "3");
    out_capture_end(&r->o, &outer);
    out_printf(&r->o, "4");
    expect(&r->l, "stream", "{\"name\":\"stdout\",\"text\":\"4\"}");
    assert_string_equal(buf_text(&outer.text[0]), "13");
    assert_string_equal(buf_text(&outer.text[1]), "e\xef\xbf\xbd");
    assert_string_equal(buf_text(&inner.text[0]), "2");
    assert_int_equal(json_array_size(inner.displays), 0);
    assert_int_equal(json_array_size(outer.displays), 1);
    const json_t *data = json_object_get(json_array_get(outer.displays, 0), "data");
    assert_string_equal(json_string_value(json_object_get(data, "text/plain")), "b");
    end(&outer);
    end(&inner);
}
static void a_capture_that_is_full_says_so(void **state) {
    struct rig *r = *state;
    struct capture c;
    begin(r, &c, true, true, true);
    for (int i = 0; i < 300; i++) out_printf(&r->o, "12345");
    out_capture_end(&r->o, &c);
    assert_true(c.text[0].failed);
    assert_true(quiet(&r->l, 100));
    end(&c);
}
static void input_only_where_it_is_allowed(void **state) {
    struct rig *r = *state;
    struct err e = { 0 };
    struct buf reply;
    buf_init(&reply, 100);
    assert_int_not_equal(out_input(&r->o, "?", false, &reply, &e), 0);
    assert_non_null(strstr(e.text, "allow_stdin"));
    r->o.allow_stdin = true;
    out_printf(&r->o, "before the question");
    assert_int_equal(out_input(&r->o, "?", false, &reply, NULL), 0);
    assert_false(quiet(&r->l, 0)); /* it was sent before the question */
    assert_string_equal(buf_text(&reply), "typed");
    buf_fini(&reply);
}
static void an_interrupt_stays_until_cleared(void **state) {
    struct rig *r = *state;
    zmq_pollitem_t at = { .fd = out_interrupt_fd(&r->o), .events = ZMQ_POLLIN };
    assert_false(out_interrupted(&r->o));
    assert_int_equal(zmq_poll(&at, 1, 0), 0);
    interrupt_raise(&r->interrupt);
    interrupt_raise(&r->interrupt);
    for (int i = 0; i < 3; i++) assert_true(out_interrupted(&r->o) && zmq_poll(&at, 1, 0) == 1);
    interrupt_clear(&r->interrupt);
    assert_false(out_interrupted(&r->o));
    assert_int_equal(zmq_poll(&at, 1, 0), 0);
}
static void display_ids_differ(void **state) {
    struct rig *r = *state;
    char a[48], b[48];
    out_new_display_id(&r->o, a);
    out_new_display_id(&r->o, b);
    assert_string_not_equal(a, b);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_open, rig_close)
    const struct CMUnitTest tests[] = {
        TEST(text_is_the_same_however_it_is_cut),
        TEST(an_incomplete_character_waits_for_its_rest),
        TEST(printf_of_any_length),
        TEST(displays_have_what_the_protocol_wants),
        TEST(silence_shows_nothing),
        TEST(only_the_last_next_input_counts),
        TEST(captures_nest_and_let_through_what_they_do_not_keep),
        TEST(a_capture_that_is_full_says_so),
        TEST(input_only_where_it_is_allowed),
        TEST(an_interrupt_stays_until_cleared),
        TEST(display_ids_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
