#include "base/mem.h"
#include "kernel/protocol/connection.h"
#include "kernel/protocol/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char TCP[] =
    "{\"shell_port\": 51001, \"iopub_port\": \"51002\", \"stdin_port\": 51003, \"control_port\": 51004,"
    "\"hb_port\": 51005, \"ip\": \"127.0.0.1\", \"key\": \"k-1\", \"transport\": \"tcp\","
    "\"signature_scheme\": \"hmac-sha256\", \"kernel_name\": \"jaeda\", \"jupyter_session\": \"x\"}";

static void a_file_is_read(void **state) {
    (void)state;
    struct connection c;
    struct err e = { 0 };
    char at[100];
    assert_int_equal(connection_parse(&c, TCP, strlen(TCP), &e), 0);
    assert_string_equal(c.key, "k-1");
    assert_int_equal(connection_endpoint(&c, CHANNEL_IOPUB, at, sizeof at, &e), 0);
    assert_string_equal(at, "tcp://127.0.0.1:51002");
    snprintf(c.ip, sizeof c.ip, "::1");
    assert_int_equal(connection_endpoint(&c, CHANNEL_HB, at, sizeof at, &e), 0);
    assert_string_equal(at, "tcp://[::1]:51005");
}
static void ipc_has_a_hyphen_and_a_limit(void **state) {
    (void)state;
    struct connection c = { .ipc = true, .ip = "/run/user/1/kernel-1-ipc", .port = { 1, 2, 3, 4, 5 } };
    struct err e = { 0 };
    char at[320];
    assert_int_equal(connection_endpoint(&c, CHANNEL_CONTROL, at, sizeof at, &e), 0);
    assert_string_equal(at, "ipc:///run/user/1/kernel-1-ipc-4");
    memset(c.ip, 'x', 105);
    c.ip[105] = 0; /* with -4: 107 bytes, the most that sun_path holds beside its NUL */
    assert_int_equal(connection_endpoint(&c, CHANNEL_CONTROL, at, sizeof at, &e), 0);
    c.ip[105] = 'x';
    c.ip[106] = 0;
    assert_int_not_equal(connection_endpoint(&c, CHANNEL_CONTROL, at, sizeof at, &e), 0);
    assert_non_null(strstr(e.text, "107 bytes"));
}
static void a_registration_file_names_the_launcher(void **state) {
    (void)state;
    static const struct {
        const char *file, *at, *ip, *says;
    } all[] = {
        { "{'kernel_id': 'k', 'registration_port': 9, 'registration_ip': '::1', 'key': 'x'}", "tcp://[::1]:9", "::1",
          NULL },
        { "{'kernel_id': 'k', 'registration_port': '9', 'registration_ip': '10.0.0.1', 'ip': '10.0.0.2'}",
          "tcp://10.0.0.1:9", "10.0.0.2", NULL },
        { "{'kernel_id': 'k', 'registration_port': 9}", "tcp://127.0.0.1:9", "127.0.0.1", NULL },
        { "{'registration_port': 9}", NULL, NULL, "kernel_id" },
        { "{'kernel_id': 'k', 'registration_port': '9x'}", NULL, NULL, "registration_port" },
        { "{'kernel_id': 'k', 'registration_port': 9, 'shell_port': 1}", NULL, NULL, "both" },
        { "{'kernel_id': 'k', 'registration_port': 9, 'transport': 'ipc'}", NULL, NULL, "tcp" },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct connection c;
        struct err e = { 0 };
        char text[200], at[100];
        snprintf(text, sizeof text, "%s", all[i].file);
        for (char *p = text; (p = strchr(p, '\'')); p++) *p = '"';
        const int rc = connection_parse(&c, text, strlen(text), &e);
        assert_int_equal(rc != 0, all[i].says != NULL);
        if (rc) {
            assert_non_null(strstr(e.text, all[i].says));
            continue;
        }
        assert_string_equal(c.registration, all[i].at);
        assert_string_equal(c.ip, all[i].ip);
        assert_int_equal(connection_endpoint(&c, CHANNEL_HB, at, sizeof at, &e), 0);
        assert_string_equal(at + strlen(at) - 2, ":*");
    }
}
static void what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        const char *name, *value, *says;
    } bad[] = {
        { "shell_port", NULL, "no shell_port" },
        { "hb_port", "0", "hb_port" },
        { "hb_port", "65536", "hb_port" },
        { "hb_port", "1.5", "hb_port" },
        { "hb_port", "\"12x\"", "hb_port" },
        { "hb_port", "\"\"", "hb_port" },
        { "hb_port", "null", "hb_port" },
        { "transport", "\"udp\"", "udp" },
        { "transport", "1", "transport" },
        { "key", "[]", "key" },
        { "ip", "\"\\u0000\"", NULL },
        { "curve_publickey", "\"x\"", "CurveZMQ" },
        { "signature_scheme", "{}", "signature_scheme" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = { 0 };
        struct connection c;
        json_t *o = json_loads(TCP, 0, NULL);
        if (bad[i].value)
            json_object_set_new(o, bad[i].name, json_loads(bad[i].value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
        else
            json_object_del(o, bad[i].name);
        char *text = json_dumps(o, 0);
        const int rc = connection_parse(&c, text, strlen(text), &e);
        assert_true((rc != 0) == (bad[i].says != NULL));
        if (bad[i].says) assert_non_null(strstr(e.text, bad[i].says));
        mem_free(text);
        json_decref(o);
    }
}
static void a_file_that_is_not_there_is_named(void **state) {
    (void)state;
    struct connection c;
    struct err e = { 0 };
    assert_int_not_equal(connection_load(&c, "/no/such/file.json", &e), 0);
    assert_non_null(strstr(e.text, "/no/such/file.json: No such file"));
}
static void out_of_memory(void **state) {
    (void)state;
    for (long at = 1, done = 0; !done; at++) {
        struct connection c;
        struct err e = { 0 };
        mem_fail_at(at);
        done = !connection_parse(&c, TCP, strlen(TCP), &e);
        mem_fail_at(0);
        assert_true(at < 10000 && (done || e.code));
    }
}

int main(void) {
    json_set_alloc_funcs(mem_alloc, mem_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read),
        cmocka_unit_test(ipc_has_a_hyphen_and_a_limit),
        cmocka_unit_test(a_registration_file_names_the_launcher),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
