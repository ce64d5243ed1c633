#include "base/utf8.h"
#include "listener.h"
#include <stdio.h>

static void post(struct listener *l, const char *type, const char *text) {
    iopub_post(l->io, type, PARENT, sizeof PARENT - 1, json_pack("{s:s}", "x", text));
}
static json_t *number(int i) { return json_pack("{s:i}", "n", i); }

static void a_subscriber_is_welcomed_first(void **state) {
    (void)state;
    struct listener l;
    listener_open(&l, 1000);
    struct message m = next(&l);
    size_t n;
    assert_string_equal(m.type, "iopub_welcome");
    assert_string_equal(json_string_value(json_object_get(m.content, "subscription")), "");
    assert_int_equal(json_object_size(m.parent), 0);
    assert_int_equal(m.ids, 1);
    frames_at(&m.frames, 0, &n);
    assert_int_equal(n, 0);
    message_fini(&m);
    zmq_setsockopt(l.sub, ZMQ_SUBSCRIBE, "stream", 6);
    expect(&l, "iopub_welcome", "{\"subscription\":\"stream\"}");
    zmq_setsockopt(l.sub, ZMQ_SUBSCRIBE, "\xff", 1); /* no text: no welcome */
    assert_true(quiet(&l, 200));
    iopub_status(l.io, PARENT, sizeof PARENT - 1, "busy", true);
    iopub_status(l.io, "{}", 2, "busy", false);
    iopub_status(l.io, "{}", 2, "idle", false);
    for (int i = 0; i < 3; i++) expect(&l, "status", NULL);
    zmq_setsockopt(l.sub, ZMQ_SUBSCRIBE, "", 0);
    expect(&l, "iopub_welcome", NULL);
    m = next(&l);
    assert_string_equal(m.type, "status");
    assert_string_equal(json_string_value(json_object_get(m.parent, "msg_id")), "cell");
    message_fini(&m);
    iopub_status(l.io, PARENT, sizeof PARENT - 1, "idle", true);
    expect(&l, "status", NULL);
    zmq_setsockopt(l.sub, ZMQ_SUBSCRIBE, "", 0);
    expect(&l, "iopub_welcome", NULL);
    assert_true(quiet(&l, 200));
    listener_close(&l);
}
static void every_cell_that_runs_is_told(void **state) {
    (void)state;
    static const char *const cell[] = { "{\"msg_id\":\"a\"}", "{\"msg_id\":\"b\"}", "{\"msg_id\":\"c\"}" };
    struct listener l;
    listener_open(&l, 1000);
    expect(&l, "iopub_welcome", NULL);
    for (int i = 0; i < 3; i++) iopub_status(l.io, cell[i], strlen(cell[i]), "busy", true);
    iopub_status(l.io, cell[1], strlen(cell[1]), "idle", true);
    for (int i = 0; i < 4; i++) expect(&l, "status", NULL);
    zmq_setsockopt(l.sub, ZMQ_SUBSCRIBE, "", 0);
    expect(&l, "iopub_welcome", NULL);
    for (int i = 0; i < 3; i += 2) {
        struct message m = next(&l);
        assert_string_equal(json_string_value(json_object_get(m.content, "execution_state")), "busy");
        assert_memory_equal(json_string_value(json_object_get(m.parent, "msg_id")), i ? "c" : "a", 2);
        message_fini(&m);
    }
    iopub_status(l.io, cell[0], strlen(cell[0]), "idle", true);
    iopub_status(l.io, cell[2], strlen(cell[2]), "idle", true);
    expect(&l, "status", NULL);
    expect(&l, "status", NULL);
    zmq_setsockopt(l.sub, ZMQ_SUBSCRIBE, "", 0);
    expect(&l, "iopub_welcome", NULL);
    assert_true(quiet(&l, 200));
    listener_close(&l);
}
static void the_order_is_the_order_of_the_calls(void **state) {
    (void)state;
    struct listener l;
    listener_open(&l, 1000);
    const struct cell_output o = listener_output(&l, NULL);
    expect(&l, "iopub_welcome", NULL);
    post(&l, "status", "busy");
    iopub_stream(&o, false, "one ", 4);
    iopub_stream(&o, false, "two ", 4);
    iopub_stream(&o, true, "err", 3);
    iopub_stream(&o, false, "three", 5);
    iopub_show(&o, "display_data", "d", number(1));
    iopub_stream(&o, false, "four", 4);
    post(&l, "error", "e");
    post(&l, "status", "idle");
    expect(&l, "status", "{\"x\":\"busy\"}");
    expect(&l, "stream", "{\"name\":\"stdout\",\"text\":\"one two \"}");
    expect(&l, "stream", "{\"name\":\"stderr\",\"text\":\"err\"}");
    expect(&l, "stream", "{\"name\":\"stdout\",\"text\":\"three\"}");
    expect(&l, "display_data", "{\"n\":1}");
    expect(&l, "stream", "{\"name\":\"stdout\",\"text\":\"four\"}");
    expect(&l, "error", "{\"x\":\"e\"}");
    expect(&l, "status", "{\"x\":\"idle\"}");
    listener_close(&l);
}
static void streams_of_two_cells_are_not_joined(void **state) {
    (void)state;
    struct listener l;
    listener_open(&l, 1000);
    struct cell_output o = listener_output(&l, NULL);
    expect(&l, "iopub_welcome", NULL);
    iopub_stream(&o, false, "first", 5);
    o.parent = "{\"msg_id\":\"next\"}";
    o.parent_n = strlen(o.parent);
    iopub_stream(&o, false, "second", 6);
    expect(&l, "stream", "{\"name\":\"stdout\",\"text\":\"first\"}");
    expect(&l, "stream", "{\"name\":\"stdout\",\"text\":\"second\"}");
    listener_close(&l);
}
static void a_large_text_is_cut_between_characters(void **state) {
    (void)state;
    enum { HANGUL = 100000 };
    struct listener l;
    struct buf text;
    size_t got = 0;
    listener_open(&l, 1000);
    const struct cell_output o = listener_output(&l, NULL);
    expect(&l, "iopub_welcome", NULL);
    buf_init(&text, 1 << 20);
    buf_puts(&text, "x"); /* so that no limit falls on a boundary */
    for (int i = 0; i < HANGUL; i++) buf_puts(&text, "한");
    iopub_stream(&o, false, text.p, text.n);
    while (got < text.n) {
        struct message m = next(&l);
        const json_t *part = json_object_get(m.content, "text");
        const size_t n = json_string_length(part);
        assert_true(n > 0 && n <= IOPUB_STREAM_BYTES && got + n <= text.n);
        assert_memory_equal(json_string_value(part), text.p + got, n);
        got += n;
        message_fini(&m);
    }
    buf_fini(&text);
    listener_close(&l);
}
/* Fills the budget, so that what comes behind stays queued for a while. */
static void hold_back(const struct cell_output *o) {
    for (int i = 0; i < 400; i++) iopub_show(o, "display_data", NULL, number(-i));
}
static void a_queued_update_is_replaced_by_the_newest(void **state) {
    (void)state;
    struct listener l;
    listener_open(&l, 1000);
    const struct cell_output o = listener_output(&l, NULL);
    expect(&l, "iopub_welcome", NULL);
    hold_back(&o);
    iopub_show(&o, "display_data", "a", number(0));
    for (int i = 1; i <= 50; i++) {
        iopub_show(&o, "update_display_data", "a", number(i));
        iopub_show(&o, "update_display_data", "b", number(100 + i));
    }
    iopub_show(&o, "display_data", "a", number(60)); /* a new display of that id: no update moves across it */
    iopub_show(&o, "update_display_data", "a", number(61));
    iopub_show(&o, "clear_output", NULL, number(62));
    iopub_show(&o, "update_display_data", "a", number(63));
    for (int i = 0; i < 400; i++) expect(&l, "display_data", NULL);
    expect(&l, "display_data", "{\"n\":0}");
    expect(&l, "update_display_data", "{\"n\":50}");
    expect(&l, "update_display_data", "{\"n\":150}");
    expect(&l, "display_data", "{\"n\":60}");
    expect(&l, "update_display_data", "{\"n\":61}");
    expect(&l, "clear_output", "{\"n\":62}");
    expect(&l, "update_display_data", "{\"n\":63}");
    assert_true(quiet(&l, 100));
    listener_close(&l);
}
static void a_flush_returns_when_all_is_sent(void **state) {
    (void)state;
    struct listener l;
    listener_open(&l, 1000);
    const struct cell_output o = listener_output(&l, NULL);
    expect(&l, "iopub_welcome", NULL);
    for (int i = 0; i < 50; i++) {
        iopub_stream(&o, false, "x", 1);
        iopub_flush(l.io);
        assert_false(quiet(&l, 0));
        expect(&l, "stream", NULL);
    }
    listener_close(&l);
}

struct producer {
    struct cell_output o;
    atomic_bool stop;
    atomic_size_t given;
    atomic_int rc;
};
static void *produce(void *arg) {
    struct producer *p = arg;
    char line[1000];
    memset(line, 'x', sizeof line);
    for (int i = 0; i < 20000 && !atomic_load(&p->rc); i++) {
        atomic_store(&p->rc, iopub_stream(&p->o, false, line, sizeof line));
        if (!atomic_load(&p->rc)) atomic_fetch_add(&p->given, sizeof line);
    }
    return NULL;
}
/* A subscriber that reads nothing: the producer stops at the bound, and goes on or gives up as told. */
static void a_full_queue_holds_the_producer_and_lets_it_go(void **state) {
    (void)state;
    struct listener l;
    struct producer p = { .given = 0 };
    pthread_t t;
    size_t before, now = 0;
    listener_open(&l, 2);
    p.o = listener_output(&l, &p.stop);
    expect(&l, "iopub_welcome", NULL);
    pthread_create(&t, NULL, produce, &p);
    do {
        before = now;
        usleep(500000);
        now = atomic_load(&p.given);
    } while (now != before || !now);
    assert_true(now <= IOPUB_QUEUE_BYTES + 8 * IOPUB_STREAM_BYTES);
    assert_int_equal(atomic_load(&p.rc), 0);
    post(&l, "status", "answered meanwhile"); /* does not wait */
    for (int i = 0; i < 10; i++) expect(&l, "stream", NULL);
    usleep(500000);
    assert_true(atomic_load(&p.given) > now); /* room again */
    atomic_store(&p.stop, true);
    iopub_wake(l.io);
    pthread_join(t, NULL);
    assert_int_equal(atomic_load(&p.rc), -1);
    listener_close(&l);
}
static void text_that_is_no_utf8_or_no_json_is_dropped_alone(void **state) {
    (void)state;
    struct listener l;
    listener_open(&l, 1000);
    expect(&l, "iopub_welcome", NULL);
    iopub_post(l.io, "display_data", PARENT, sizeof PARENT - 1, NULL);
    post(&l, "status", "after");
    expect(&l, "status", "{\"x\":\"after\"}");
    listener_close(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_subscriber_is_welcomed_first),
        cmocka_unit_test(every_cell_that_runs_is_told),
        cmocka_unit_test(the_order_is_the_order_of_the_calls),
        cmocka_unit_test(streams_of_two_cells_are_not_joined),
        cmocka_unit_test(a_large_text_is_cut_between_characters),
        cmocka_unit_test(a_queued_update_is_replaced_by_the_newest),
        cmocka_unit_test(a_flush_returns_when_all_is_sent),
        cmocka_unit_test(a_full_queue_holds_the_producer_and_lets_it_go),
        cmocka_unit_test(text_that_is_no_utf8_or_no_json_is_dropped_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
