#include "base/mem.h"
#include "kernel/protocol/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char KEY[] = "a0436f6c-1916-498b-8eb9-e81ab9368e84";
static const char HEADER[] = "{\"msg_id\":\"m1\",\"session\":\"s1\",\"username\":\"jaeda\",\"date\":"
                             "\"2024-01-31T09:08:07.000123Z\",\"msg_type\":\"execute_request\",\"version\":\"5.6\"}";
static const char CONTENT[] = "{\"code\":\"%generate \\\"한글\\\"\"}";
/* Computed with Python's hmac over HEADER, {}, {} and CONTENT. */
static const struct {
    const char *scheme, *hex;
} SIGNED[] = {
    { "hmac-md5", "0b532024fd5123186f93012c013db181" },
    { "hmac-sha256", "5fbe5d31aa4e6263f51ba552b7ac4cc6ed9b3327910c63b37130fbbb226de211" },
    { "hmac-sha512", "f2bb161661972940a9b4c20824bbb88533eec35f0bc2f46c4572b3e3309034b9"
                     "4edc198ecf7651be7addc621386649e934ab5d0971c28fa889a72b48d6ecf08a" },
};
static const char GOOD[] = "5fbe5d31aa4e6263f51ba552b7ac4cc6ed9b3327910c63b37130fbbb226de211";

static struct wire_key *key_of(const char *scheme, const char *key) {
    struct err e = { 0 };
    struct wire_key *k;
    assert_int_equal(wire_key_open(&k, scheme, key, &e), 0);
    return k;
}
static void put(struct frames *f, const char *s) { assert_int_equal(frames_add(f, s, strlen(s)), 0); }
/* An execute_request with this signature and content behind two identities, one of them with NULs. */
static void build(struct frames *f, const char *signature, const char *content) {
    frames_init(f, 1 << 20);
    assert_int_equal(frames_add(f, "a\0b\0", 4), 0);
    put(f, "");
    put(f, "<IDS|MSG>");
    put(f, signature);
    put(f, HEADER);
    put(f, "{}");
    put(f, "{}");
    put(f, content);
}
/* Reads that message; the error's text, or NULL when it was accepted. */
static const char *refusal(const struct wire_key *k, struct wire_replay *r, const char *signature,
                           const char *content) {
    static struct err e;
    struct frames f;
    struct message m;
    e = (struct err){ 0 };
    build(&f, signature, content);
    const int rc = wire_read(&m, &f, k, r, &e);
    assert_int_equal(rc, e.code);
    if (!rc) message_fini(&m);
    frames_fini(&f);
    return rc ? e.text : NULL;
}

static void known_signatures_are_written(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct wire_key *k = key_of(SIGNED[i].scheme, KEY);
        struct frames f;
        frames_init(&f, 1 << 20);
        const struct outgoing m = { .topic = "t",
                                    .type = "execute_request",
                                    .msg_id = "m1",
                                    .session = "s1",
                                    .date = "2024-01-31T09:08:07.000123Z",
                                    .content = CONTENT,
                                    .content_n = strlen(CONTENT) };
        assert_int_equal(wire_write(&f, k, &m), 0);
        assert_int_equal(f.n, 7);
        assert_true(frames_equal(&f, 0, "t"));
        assert_true(frames_equal(&f, 1, "<IDS|MSG>"));
        assert_true(frames_equal(&f, 2, SIGNED[i].hex));
        assert_true(frames_equal(&f, 3, HEADER));
        assert_true(frames_equal(&f, 4, "{}"));
        assert_true(frames_equal(&f, 6, CONTENT));
        frames_fini(&f);
        wire_key_close(k);
    }
}
static void known_signatures_are_accepted_and_others_are_not(void **state) {
    (void)state;
    struct wire_key *k = key_of("hmac-sha256", KEY), *other = key_of("hmac-sha256", "another"),
                    *none = key_of("hmac-sha256", "");
    char wrong[200];
    assert_null(refusal(k, NULL, GOOD, CONTENT));
    assert_non_null(strstr(refusal(k, NULL, "", CONTENT), "not signed"));
    assert_non_null(strstr(refusal(other, NULL, GOOD, CONTENT), "wrong"));
    assert_non_null(strstr(refusal(k, NULL, GOOD, "{\"code\":\"%generate\"}"), "wrong"));
    for (int n = 1; n < 130; n++) {
        snprintf(wrong, sizeof wrong, "%.*s%s%s", n < 64 ? n : 64, GOOD, n > 64 ? GOOD : "", "");
        wrong[n] = 0;
        if (n != 64) assert_non_null(strstr(refusal(k, NULL, wrong, CONTENT), "characters"));
    }
    for (int i = 0; i < 64; i++) {
        memcpy(wrong, GOOD, 65);
        wrong[i] = wrong[i] == '0' ? '1' : '0';
        assert_non_null(strstr(refusal(k, NULL, wrong, CONTENT), "wrong"));
    }
    assert_null(refusal(none, NULL, "", CONTENT));
    assert_null(refusal(none, NULL, "whatever", CONTENT));
    wire_key_close(k);
    wire_key_close(other);
    wire_key_close(none);
}
static void unknown_schemes_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = { "", "sha256", "hmac-", "hmac-rot13", "none", "hmac-sha256x" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = { 0 };
        struct wire_key *k;
        assert_int_not_equal(wire_key_open(&k, bad[i], KEY, &e), 0);
        assert_null(k);
        assert_non_null(strstr(e.text, "hmac-sha256"));
    }
}
static void a_message_is_accepted_once(void **state) {
    (void)state;
    struct wire_key *k = key_of("hmac-sha256", KEY);
    struct wire_replay *r = wire_replay_open();
    assert_non_null(strstr(refusal(k, r, "", CONTENT), "not signed")); /* what is refused is not remembered */
    assert_null(refusal(k, r, GOOD, CONTENT));
    assert_non_null(strstr(refusal(k, r, GOOD, CONTENT), "replay"));
    wire_replay_close(r);
    wire_key_close(k);
}
static void tens_of_thousands_of_digests_are_remembered(void **state) {
    (void)state;
    struct wire_replay *r = wire_replay_open();
    unsigned char d[WIRE_SEEN] = { 0 };
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 50000; i++) { /* evenly over the rings, as a MAC is */
            d[0] = (unsigned char)i, d[1] = (unsigned char)(i >> 8), d[2] = (unsigned char)(i >> 16), d[15] = 1;
            assert_int_equal(wire_replay_seen(r, d), round);
        }
    wire_replay_close(r);
}
static void every_part_of_a_message_is_read(void **state) {
    (void)state;
    struct wire_key *k = key_of("hmac-sha256", KEY);
    struct err e = { 0 };
    struct frames f, back;
    struct message m;
    size_t n;
    build(&f, GOOD, CONTENT);
    put(&f, "a buffer, not signed");
    assert_int_equal(wire_read(&m, &f, k, NULL, &e), 0);
    assert_int_equal(f.n, 0); /* taken */
    assert_int_equal(m.ids, 2);
    assert_string_equal(m.type, "execute_request");
    assert_string_equal(m.id, "m1");
    assert_string_equal(json_string_value(json_object_get(m.content, "code")), "%generate \"한글\"");
    assert_memory_equal(message_header(&m, &n), HEADER, strlen(HEADER));
    assert_int_equal(n, strlen(HEADER));
    frames_init(&back, 1 << 20);
    const struct outgoing reply = { .to = &m,
                                    .type = "execute_reply",
                                    .msg_id = "2",
                                    .session = "k",
                                    .date = "now",
                                    .parent = message_header(&m, &n),
                                    .parent_n = strlen(HEADER) };
    assert_int_equal(wire_write(&back, k, &reply), 0);
    assert_memory_equal(frames_at(&back, 0, &n), "a\0b\0", 4);
    assert_int_equal(n, 4);
    assert_true(frames_equal(&back, 1, "") && frames_equal(&back, 2, "<IDS|MSG>"));
    assert_true(frames_equal(&back, 5, HEADER) && frames_equal(&back, 6, "{}") && frames_equal(&back, 7, "{}"));
    frames_fini(&back);
    message_fini(&m);
    frames_fini(&f);
    wire_key_close(k);
}
static void what_cannot_be_answered_is_refused(void **state) {
    (void)state;
    struct wire_key *k = key_of("hmac-sha256", "");
    static const char *const header[] = {
        "", "{", "[]", "null", "{}", "{\"msg_type\":7}", "{\"msg_type\":\"x\"} x", "\"\xff\""
    };
    for (int i = 0; i < 8 + 5; i++) { /* a bad header, or too few frames */
        struct err e = { 0 };
        struct frames f;
        struct message m;
        frames_init(&f, 1 << 20);
        if (i) put(&f, "<IDS|MSG>");
        for (int part = 0; part < (i < 8 ? 5 : i - 8); part++) put(&f, part != 1 ? "{}" : i < 8 ? header[i] : HEADER);
        assert_int_not_equal(wire_read(&m, &f, k, NULL, &e), 0);
        assert_int_not_equal(e.text[0], 0);
        frames_fini(&f);
    }
    wire_key_close(k);
}
static void bad_content_is_answerable(void **state) {
    (void)state;
    struct wire_key *k = key_of("hmac-sha256", "");
    static const char *const bad[] = {
        "", "{", "[1]", "7", "null", "{\"code\":\"\xed\xa0\x80\"}", "{\"code\":\"\\ud800\"}", "{\"a\":1e999}"
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = { 0 };
        struct frames f;
        struct message m;
        build(&f, "", bad[i]);
        assert_int_equal(wire_read(&m, &f, k, NULL, &e), 0);
        assert_int_not_equal(m.malformed.code, 0);
        assert_non_null(strstr(m.malformed.text, "content"));
        assert_true(json_is_object(m.content) && json_object_size(m.content) == 0);
        assert_string_equal(m.id, "m1");
        message_fini(&m);
        frames_fini(&f);
    }
    wire_key_close(k);
}
static void numbers_and_nuls_of_json(void **state) {
    (void)state;
    struct err e = { 0 };
    static const char text[] = "{\"big\": 123456789012345678901234567890, \"n\": 7, \"s\": \"a\\u0000b\"} ";
    json_t *v = wire_parse(text, sizeof text - 1, &e);
    assert_non_null(v);
    assert_true(json_number_value(json_object_get(v, "big")) > 1e29);
    assert_true(json_number_value(json_object_get(v, "n")) == 7);
    assert_int_equal(json_string_length(json_object_get(v, "s")), 3);
    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(wire_dump(&b, json_object_get(v, "s")), -1); /* a bare string is no message part */
    assert_int_equal(wire_dump(&b, v), 0);
    assert_non_null(strstr(b.p, "\"a\\u0000b\""));
    buf_fini(&b);
    json_decref(v);
    assert_null(wire_parse("{} x", 4, &e));
    assert_null(wire_parse("", 0, NULL));
}
static void frames_keep_their_limits(void **state) {
    (void)state;
    struct frames f;
    size_t n;
    frames_init(&f, 10);
    assert_int_equal(frames_add(&f, "12345", 5), 0);
    assert_int_equal(frames_add(&f, "123456", 6), -1);
    assert_int_equal(frames_add(&f, "", 0), -1); /* sticky */
    assert_true(f.failed && f.n == 1);
    assert_null(frames_at(&f, 1, &n));
    assert_null(frames_at(&f, -1, &n));
    frames_reset(&f);
    for (int i = 0; i < WIRE_MAX_FRAMES; i++) assert_int_equal(frames_add(&f, "", 0), 0);
    assert_int_equal(frames_add(&f, "", 0), -1);
    frames_fini(&f);
}
/* Every allocation fails once: an error, nothing leaked (under ASan), nothing half done. */
static void out_of_memory(void **state) {
    (void)state;
    struct wire_key *k = key_of("hmac-sha256", KEY);
    for (long at = 1, done = 0; !done; at++) {
        struct err e = { 0 };
        struct frames in, out;
        struct message m;
        build(&in, GOOD, CONTENT);
        frames_init(&out, 1 << 20);
        mem_fail_at(at);
        int rc = wire_read(&m, &in, k, NULL, &e);
        if (!rc) {
            const struct outgoing reply = { .to = &m,
                                            .type = "x",
                                            .msg_id = "2",
                                            .session = "k",
                                            .date = "now",
                                            .content = CONTENT,
                                            .content_n = strlen(CONTENT) };
            rc = m.malformed.code || wire_write(&out, k, &reply);
            message_fini(&m);
        }
        mem_fail_at(0);
        assert_true(at < 10000);
        done = !rc;
        frames_fini(&in);
        frames_fini(&out);
    }
    wire_key_close(k);
}
static void senders_are_compared_by_their_identity(void **state) {
    (void)state;
    struct message a = { 0 }, b = { 0 };
    frames_init(&a.frames, 100);
    frames_init(&b.frames, 100);
    put(&a.frames, "one");
    put(&b.frames, "one");
    a.ids = b.ids = 1;
    assert_true(message_same_sender(&a, &b));
    frames_reset(&b.frames);
    put(&b.frames, "ones");
    assert_false(message_same_sender(&a, &b));
    b.ids = 0;
    assert_false(message_same_sender(&a, &b));
    frames_fini(&a.frames);
    frames_fini(&b.frames);
}

int main(void) {
    json_set_alloc_funcs(mem_alloc, mem_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_signatures_are_written),
        cmocka_unit_test(known_signatures_are_accepted_and_others_are_not),
        cmocka_unit_test(unknown_schemes_are_refused),
        cmocka_unit_test(a_message_is_accepted_once),
        cmocka_unit_test(tens_of_thousands_of_digests_are_remembered),
        cmocka_unit_test(every_part_of_a_message_is_read),
        cmocka_unit_test(what_cannot_be_answered_is_refused),
        cmocka_unit_test(bad_content_is_answerable),
        cmocka_unit_test(numbers_and_nuls_of_json),
        cmocka_unit_test(frames_keep_their_limits),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(senders_are_compared_by_their_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
