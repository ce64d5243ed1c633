/* The samples name every member by its place and no member by its name: a new one in engine.h stops this file from
 * compiling until it stands here too, and then the comparison of whole structs fails until codec.c knows it. Static
 * ones, so that their padding is zero. */
#include "base/mem.h"
#include "link/codec.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Distinct values all of whose bytes are used. */
#define I ((int)(0x1a2b3c00u + __COUNTER__))
#define U (UINT64_C(0xf1e2d3c4b5a69700) + __COUNTER__)
#define D (-1.0 / 3 - __COUNTER__)
#define F (-1.0f / 3 - __COUNTER__)

static const struct engine_message messages[] = { { "system", "하나", 6 }, { NULL, "a\0b", 3 }, { "user", "", 0 } };
static const struct engine_image images[] = { { "a.jpg", "\xff\xd8\0\1", 4, 0 }, { NULL, "", 0, I } };
static const char *const stops[] = { "###", "", "끝" }, *const dtypes[] = { "int8", "auto" },
                         *const machines[] = { "g5" };
static const int ids[] = { -1, 7 }, contexts[] = { 1, 2, I }, batches[] = { I };
#define SAMPLING                                                                                                       \
    { F, F, F, F, F, I, U }
#define BEAMS                                                                                                          \
    { I, F, true }
static const struct engine_req request = {
    /* clang-format off */
    ENGINE_REQ_FIT, 3, "model", "session", "revision", "dtype", "kv", "format", I, I, "vit", "qformer", "projector", "llm",
    "bf16", I, "HOME=/x\nA=", I, true, true, true, D, true, messages, 3, "template", images, 2, I, (unsigned)I, true, SAMPLING,
    BEAMS, stops, 3, ids, 2, I, I, true, true, I, I, I,
    { dtypes, machines, contexts, batches, 2, 1, 3, 1 },
    /* clang-format on */
};
#define THREE                                                                                                          \
    { D, D, D }
#define MODEL                                                                                                          \
    {                                                                                                                  \
        "name", "file", "arch", "dtype", "kv", "size", "template", "license", "format", "repo", "aliases", true, true, \
            "get", "gated", I, I, I, I, I, I, I, I, I, I, I, I, F, "stops", U, U, U, U, U, U, U, U, U, U, U, U, I,     \
            "user", D, D, D, D, D, D, true, "notice", "vision", "bf16", "vit", "qformer", "projector", I, I, I, U, U   \
    }
static const struct engine_model models[] = { MODEL, { .name = "zero" }, MODEL };
static const struct engine_machine fit_machines[] = { { "this", "device", U, D }, { "b", "c", U, D } };
static const struct engine_fit_row fit_rows[] = { { I, "dtype", I, I, U, U, U, U, U, true, I, D } };
#define GPU                                                                                                            \
    {                                                                                                                  \
        "name", "00:1e.0", "driver", "12.8", D, D, D, D, D, D, D, D, D, D, D, D, D, "throttle", "ecc", D, "peers", I,  \
        {                                                                                                              \
            { I, true, "p", D }, { I, true, "q", D }, { I, true, "r", D }, { I, true, "s", D }, { I, true, "t", D },   \
                { I, true, "u", D }, { I, true, "v", D }, {                                                            \
                I, true, "w", D                                                                                        \
            }                                                                                                          \
        }                                                                                                              \
    }
static const struct engine_gpu gpus[] = { GPU, { .name = "zero" }, GPU };
static const float heat[] = { F, F };
static const struct engine_profile_row profile_rows[] = { { ENGINE_DECODE, -1, "op", "label", D, D, D, D },
                                                          { ENGINE_PREFILL, I, "op2", "label2", D, D, D, D } };
static const struct engine_event events[] = {
    { ENGINE_EV_PROGRESS, U, { .progress = { "what", D, D, "tok", D } }, NULL },
    { ENGINE_EV_TEXT, U, { .text = { "a\0글", 5, 3 } }, NULL },
    { ENGINE_EV_PROFILE,
      U,
      { .profile = { profile_rows, 2,       I,     I,       I,      I,     I,    I,  I,      THREE,  THREE, THREE,
                     THREE,        D,       D,     D,       "int8", true,  true, D,  "fp16", "bf16", I,     D,
                     true,         "dtype", "isa", "model", true,   THREE, GPU,  GPU } },
      NULL },
    { ENGINE_EV_MODELS, U, { .models = { models, 3 } }, NULL },
    { ENGINE_EV_SYSTEM,
      U,
      { .system = { "cpu", "isa", "gpu",   "backend", "version", I, I, U, U, U, D, D,    D,
                    D,     "ipc", "build", "place",   "log",     I, I, I, I, D, D, gpus, 3 } },
      NULL },
    { ENGINE_EV_FIT, U, { .fit = { MODEL, fit_machines, fit_rows, 2, 1 } }, NULL },
    { ENGINE_EV_VIEW,
      U,
      { .view = { ENGINE_VIEW_ANSWER, I, "name", "JPEG", "about", I, I, I, I, "\0\1\xff", 3, heat, 2, D } },
      NULL },
    { ENGINE_EV_DONE,
      U,
      { .done = { ENGINE_STOP_CANCELLED,
                  "stop",
                  I,
                  I,
                  I,
                  I,
                  U,
                  U,
                  D,
                  D,
                  D,
                  D,
                  D,
                  D,
                  true,
                  true,
                  SAMPLING,
                  BEAMS,
                  D,
                  "model",
                  "template",
                  I,
                  I,
                  I,
                  D,
                  D,
                  D,
                  D,
                  D } },
      NULL },
    { ENGINE_EV_FAIL, U, { .fail = { STATUS_SHELL, "it failed" } }, NULL },
};
enum { EVENTS = sizeof events / sizeof *events };
static const struct hello hello = { "build", "a.ipynb", I, "another build" };

/* What frame_split finds in a buffer that holds one frame. */
static const char *body_of(const struct buf *b, enum frame_kind want, size_t *n) {
    enum frame_kind kind;
    const char *body;
    size_t whole;
    struct err e = { 0 };
    for (size_t i = 0; i < b->n; i++) assert_int_equal(frame_split(b->p, i, &kind, &body, n, &whole, &e), 0);
    assert_int_equal(frame_split(b->p, b->n, &kind, &body, n, &whole, &e), 1);
    assert_int_equal(kind, want);
    assert_int_equal(whole, b->n);
    assert_ptr_equal(body + *n, b->p + b->n);
    return body;
}
static void same_texts(const char *const *a, const char *const *b, int n) {
    for (int i = 0; i < n; i++) assert_string_equal(a[i], b[i]);
}
/* Compares what the pointers point to, then everything else at once. Frees what got owns. */
static void same_request(struct engine_req *got, void *block) {
    for (int i = 0; i < request.messages; i++) {
        const struct engine_message *a = &got->message[i], *b = &messages[i];
        assert_int_equal(a->len, b->len);
        assert_memory_equal(a->text, b->text, b->len + 1);
        if (b->role)
            assert_string_equal(a->role, b->role);
        else
            assert_null(a->role);
    }
    for (int i = 0; i < request.images; i++) {
        const struct engine_image *a = &got->image[i], *b = &images[i];
        assert_true(a->n == b->n && a->message == b->message);
        assert_memory_equal(a->bytes, b->bytes, b->n + 1);
        assert_true(b->name ? !strcmp(a->name, b->name) : !a->name);
    }
    same_texts(got->stop, stops, 3);
    same_texts(got->fit.dtype, dtypes, 2);
    same_texts(got->fit.machine, machines, 1);
    assert_memory_equal(got->stop_id, ids, sizeof ids);
    assert_memory_equal(got->fit.context, contexts, sizeof contexts);
    assert_memory_equal(got->fit.batch, batches, sizeof batches);
    const char *const a[] = { got->model,       got->session,       got->revision,    got->dtype, got->kv_cache_dtype,
                              got->load_format, got->template_name, got->environment, got->vit,   got->qformer,
                              got->projector,   got->llm,           got->vision_dtype };
    const char *const b[] = { "model",       "session", "revision", "dtype",     "kv",  "format", "template",
                              "HOME=/x\nA=", "vit",     "qformer",  "projector", "llm", "bf16" };
    same_texts(a, b, 13);
    mem_free(block);
    got->message = messages, got->stop = stops, got->stop_id = ids;
    got->fit = request.fit;
    got->model = request.model, got->session = request.session, got->revision = request.revision;
    got->dtype = request.dtype, got->kv_cache_dtype = request.kv_cache_dtype;
    got->load_format = request.load_format, got->template_name = request.template_name;
    got->environment = request.environment;
    got->image = images, got->vit = request.vit, got->qformer = request.qformer, got->projector = request.projector;
    got->llm = request.llm, got->vision_dtype = request.vision_dtype;
    assert_memory_equal(got, &request, sizeof request);
}
static void same_event(struct engine_event *got, const struct engine_event *want) {
    void *const owned = got->owned;
    switch (want->kind) {
    case ENGINE_EV_TEXT:
        assert_memory_equal(got->u.text.utf8, want->u.text.utf8, want->u.text.len + 1);
        got->u.text.utf8 = want->u.text.utf8;
        break;
    case ENGINE_EV_PROFILE:
        assert_memory_equal(got->u.profile.row, profile_rows, sizeof profile_rows);
        got->u.profile.row = profile_rows;
        break;
    case ENGINE_EV_VIEW:
        assert_memory_equal(got->u.view.rgb, want->u.view.rgb, 3);
        assert_memory_equal(got->u.view.heat, heat, sizeof heat);
        got->u.view.rgb = want->u.view.rgb, got->u.view.heat = heat;
        break;
    case ENGINE_EV_SYSTEM:
        assert_memory_equal(got->u.system.card, gpus, sizeof gpus);
        got->u.system.card = gpus;
        break;
    case ENGINE_EV_MODELS:
        assert_memory_equal(got->u.models.row, models, sizeof models);
        got->u.models.row = models;
        break;
    case ENGINE_EV_FIT:
        assert_memory_equal(got->u.fit.machine, fit_machines, sizeof fit_machines);
        assert_memory_equal(got->u.fit.row, fit_rows, sizeof fit_rows);
        got->u.fit.machine = fit_machines, got->u.fit.row = fit_rows;
        break;
    default: assert_null(owned);
    }
    got->owned = NULL;
    assert_memory_equal(got, want, sizeof *want);
    got->owned = owned;
    engine_event_fini(got);
}

static void every_member_of_a_request_travels(void **state) {
    (void)state;
    struct buf b;
    struct engine_req got;
    struct err e = { 0 };
    uint64_t job;
    void *block;
    size_t n;
    buf_init(&b, FRAME_MAX);
    assert_int_equal(encode_request(&b, U, &request), 0);
    const char *body = body_of(&b, FRAME_REQUEST, &n);
    assert_int_equal(decode_request(body, n, &job, &got, &block, &e), 0);
    assert_memory_equal(&job, b.p + FRAME_HEAD, 8);
    same_request(&got, block);
    buf_reset(&b);
    assert_int_equal(encode_request(&b, 1, &(struct engine_req){ 0 }), 0);
    body = body_of(&b, FRAME_REQUEST, &n);
    assert_int_equal(decode_request(body, n, &job, &got, &block, &e), 0);
    static const struct engine_req nothing;
    assert_memory_equal(&got, &nothing, sizeof got);
    assert_null(block);
    buf_fini(&b);
}
static void every_member_of_an_event_travels(void **state) {
    (void)state;
    for (int i = 0; i < EVENTS; i++) {
        struct buf b;
        struct engine_event got;
        struct err e = { 0 };
        size_t n;
        assert_int_equal(events[i].kind, i);
        buf_init(&b, FRAME_MAX);
        assert_int_equal(encode_event(&b, &events[i]), 0);
        const char *body = body_of(&b, FRAME_EVENT, &n);
        assert_int_equal(decode_event(body, n, &got, &e), 0);
        same_event(&got, &events[i]);
        buf_fini(&b);
    }
}
static void greetings_and_cancellations_travel(void **state) {
    (void)state;
    struct buf b;
    struct hello got;
    struct err e = { 0 };
    uint64_t job = 0;
    size_t n;
    buf_init(&b, FRAME_MAX);
    assert_int_equal(encode_hello(&b, &hello), 0);
    const char *body = body_of(&b, FRAME_HELLO, &n);
    assert_int_equal(decode_hello(body, n, &got, &e), 0);
    assert_memory_equal(&got, &hello, sizeof got);
    buf_reset(&b);
    assert_int_equal(encode_cancel(&b, 0x1122334455667788), 0);
    assert_memory_equal(b.p, "\x08\0\0\0\x02\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11", 16);
    body = body_of(&b, FRAME_CANCEL, &n);
    assert_int_equal(decode_cancel(body, n, &job, &e), 0);
    assert_int_equal(job, 0x1122334455667788);
    buf_fini(&b);
}

/* One frame of each kind that holds anything, and what reads it: 0 or an error, with nothing left allocated. */
enum { FRAMES = EVENTS + 3 };
static int encode_nth(struct buf *b, int i) {
    if (i < EVENTS) return encode_event(b, &events[i]);
    if (i == EVENTS) return encode_request(b, 7, &request);
    return i == EVENTS + 1 ? encode_hello(b, &hello) : encode_cancel(b, 7);
}
static int decode_nth(const char *body, size_t n, int i, struct err *e) {
    struct engine_event ev;
    struct engine_req q;
    struct hello h;
    uint64_t job;
    void *block;
    int rc;
    if (i < EVENTS) {
        rc = decode_event(body, n, &ev, e);
        if (rc) assert_null(ev.owned);
        engine_event_fini(&ev);
    } else if (i == EVENTS) {
        rc = decode_request(body, n, &job, &q, &block, e);
        if (rc) assert_null(block);
        mem_free(block);
    } else
        rc = i == EVENTS + 1 ? decode_hello(body, n, &h, e) : decode_cancel(body, n, &job, e);
    return rc;
}
static void cut_at_every_byte_it_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < FRAMES; i++) {
        struct buf b;
        buf_init(&b, FRAME_MAX);
        assert_int_equal(encode_nth(&b, i), 0);
        const size_t n = b.n - FRAME_HEAD;
        for (size_t cut = 0; cut < n; cut++) {
            char *body = mem_copy(b.p + FRAME_HEAD, cut); /* exactly that long: a sanitizer sees a read beyond it */
            struct err e = { 0 };
            assert_int_equal(decode_nth(body, cut, i, &e), STATUS_FORMAT);
            assert_non_null(strstr(e.text, "damaged"));
            mem_free(body);
        }
        buf_add(&b, "x", 1);
        struct err e = { 0 };
        assert_int_equal(decode_nth(b.p + FRAME_HEAD, n + 1, i, &e), STATUS_FORMAT);
        buf_fini(&b);
    }
}
static void flipped_bytes_never_crash(void **state) {
    (void)state;
    int refused = 0;
    for (int i = 0; i < FRAMES; i++) {
        struct buf b;
        buf_init(&b, FRAME_MAX);
        assert_int_equal(encode_nth(&b, i), 0);
        for (size_t at = FRAME_HEAD; at < b.n; at++)
            for (int flip = 1; flip < 256; flip = flip * 4 + 3) {
                struct err e = { 0 };
                b.p[at] = (char)(b.p[at] ^ flip);
                const int rc = decode_nth(b.p + FRAME_HEAD, b.n - FRAME_HEAD, i, &e);
                assert_true(rc == 0 || rc == STATUS_FORMAT);
                refused += rc != 0;
                b.p[at] = (char)(b.p[at] ^ flip);
            }
        buf_fini(&b);
    }
    assert_true(refused > 1000);
}
/* Where in a frame a value lies: what differs between the frames of two values. */
static void poke(const struct engine_event *a, const struct engine_event *other, unsigned char value) {
    struct buf b, c;
    struct engine_event ev;
    struct err e = { 0 };
    size_t at = 0;
    buf_init(&b, FRAME_MAX);
    buf_init(&c, FRAME_MAX);
    assert_int_equal(encode_event(&b, a), 0);
    assert_int_equal(encode_event(&c, other), 0);
    assert_int_equal(b.n, c.n);
    while (at < b.n && b.p[at] == c.p[at]) at++;
    assert_true(at < b.n);
    b.p[at] = (char)value;
    assert_int_equal(decode_event(b.p + FRAME_HEAD, b.n - FRAME_HEAD, &ev, &e), STATUS_FORMAT);
    buf_fini(&b);
    buf_fini(&c);
}
static void values_out_of_range_are_refused(void **state) {
    (void)state;
    struct engine_event a = { .kind = ENGINE_EV_DONE }, b = a;
    b.u.done.greedy = true;
    poke(&a, &b, 2);
    b = a;
    b.u.done.stop = ENGINE_STOP_EOS;
    poke(&a, &b, ENGINE_STOP_CANCELLED + 1);
    struct engine_event fail = { .kind = ENGINE_EV_FAIL, .u.fail = { STATUS_IO, "" } }, other = fail;
    other.u.fail.code = STATUS_GONE;
    poke(&fail, &other, 0);
    poke(&fail, &other, 1);
    other = fail, fail.u.fail.text[0] = 'a', other.u.fail.text[0] = 'b'; /* a zero would hide what follows it */
    poke(&fail, &other, 0);
    struct engine_profile_row row = { .phase = ENGINE_PREFILL }, row2 = { .phase = ENGINE_DECODE };
    struct engine_event p = { .kind = ENGINE_EV_PROFILE, .u.profile = { .row = &row, .rows = 1 } }, p2 = p;
    p2.u.profile.row = &row2;
    poke(&p, &p2, ENGINE_PHASES);
}
static void a_text_with_a_zero_and_a_list_without_end_are_refused(void **state) {
    (void)state;
    struct buf b;
    struct engine_req q = { .model = "xyz", .fit = { .context = contexts, .contexts = 0 } };
    struct err e = { 0 }, e2 = { 0 };
    uint64_t job;
    void *block;
    buf_init(&b, FRAME_MAX);
    assert_int_equal(encode_request(&b, 1, &q), 0);
    *(char *)memchr(b.p + FRAME_HEAD, 'y', b.n - FRAME_HEAD) = 0;
    assert_int_equal(decode_request(b.p + FRAME_HEAD, b.n - FRAME_HEAD, &job, &q, &block, &e), STATUS_FORMAT);
    assert_null(block);
    buf_reset(&b);
    assert_int_equal(encode_request(&b, 1, &(struct engine_req){ 0 }), 0);
    b.p[b.n - 3] = 1; /* the last list's count: 256, and room enough for its numbers */
    for (int i = 0; i < 256; i++) buf_add(&b, "\x01\0\0", 4);
    assert_int_equal(decode_request(b.p + FRAME_HEAD, b.n - FRAME_HEAD, &job, &q, &block, &e2), STATUS_FORMAT);
    buf_fini(&b);
}
static void what_no_frame_may_hold_is_not_written(void **state) {
    (void)state;
    static const char *const hole[1];
    const struct engine_req bad[] = {
        { .kind = ENGINE_REQ_KINDS },
        { .stop = hole, .stops = 1 },
        { .message = messages, .messages = -1 },
        { .fit = { .context = contexts, .contexts = 1 << 20 } },
    };
    struct buf b;
    buf_init(&b, FRAME_MAX);
    assert_int_equal(encode_cancel(&b, 1), 0);
    const size_t before = b.n;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(encode_request(&b, 1, &bad[i]), -1);
        assert_true(b.failed);
        assert_int_equal(b.n, before);
        b.failed = false;
    }
    assert_int_equal(encode_event(&b, &(struct engine_event){ .kind = (enum engine_event_kind)99 }), -1);
    buf_fini(&b);
    buf_init(&b, 40);
    assert_int_equal(encode_hello(&b, &hello), -1);
    assert_int_equal(b.n, 0);
    buf_fini(&b);
}
/* Counts and lengths of four bytes: whatever stands there, no more is reserved than a few times the frame. */
static void a_huge_count_allocates_nothing(void **state) {
    (void)state;
    struct buf b;
    struct engine_event ev = { .kind = ENGINE_EV_MODELS, .job = 1 };
    buf_init(&b, FRAME_MAX);
    assert_int_equal(encode_event(&b, &ev), 0);
    const size_t n = b.n - FRAME_HEAD;
    for (uint64_t count = 1; count <= UINT32_MAX; count = count * 2 + 1) {
        struct err e = { 0 };
        for (size_t i = 0; i < 4; i++) b.p[b.n - 4 + i] = (char)(count >> 8 * i);
        mem_fail_at(0);
        assert_int_equal(decode_event(b.p + FRAME_HEAD, n, &ev, &e), STATUS_FORMAT);
        assert_int_equal(mem_fail_at(0), 0);
    }
    buf_fini(&b);
}
static void no_memory_is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    for (int i = 0; i < FRAMES; i++) {
        struct buf b;
        buf_init(&b, FRAME_MAX);
        long at = 1;
        for (;; at++) {
            mem_fail_at(at);
            const int rc = encode_nth(&b, i);
            mem_fail_at(0);
            if (!rc) break;
            assert_int_equal(b.n, 0);
            buf_fini(&b);
        }
        for (at = 1;; at++) {
            struct err e = { 0 };
            mem_fail_at(at);
            const int rc = decode_nth(b.p + FRAME_HEAD, b.n - FRAME_HEAD, i, &e);
            mem_fail_at(0);
            if (!rc) break;
            assert_int_equal(rc, STATUS_NOMEM);
        }
        buf_fini(&b);
    }
}
static void a_head_that_is_none_is_refused(void **state) {
    (void)state;
    enum frame_kind kind;
    const char *body;
    size_t n, whole;
    struct err e = { 0 };
    assert_int_equal(frame_split("\x01\0\0\x10\x01\0\0\0", 8, &kind, &body, &n, &whole, &e), STATUS_FORMAT);
    e = (struct err){ 0 };
    assert_int_equal(frame_split("\x01\0\0\0\x04\0\0\0x", 9, &kind, &body, &n, &whole, &e), STATUS_FORMAT);
    e = (struct err){ 0 };
    assert_int_equal(frame_split("GET / HTTP/1.1\r\n", 16, &kind, &body, &n, &whole, &e), STATUS_FORMAT);
    assert_int_equal(frame_split("\0\0\0\x10\x01\0\0\0", 8, &kind, &body, &n, &whole, &e), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_member_of_a_request_travels),
        cmocka_unit_test(every_member_of_an_event_travels),
        cmocka_unit_test(greetings_and_cancellations_travel),
        cmocka_unit_test(cut_at_every_byte_it_is_refused),
        cmocka_unit_test(flipped_bytes_never_crash),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(a_text_with_a_zero_and_a_list_without_end_are_refused),
        cmocka_unit_test(what_no_frame_may_hold_is_not_written),
        cmocka_unit_test(a_huge_count_allocates_nothing),
        cmocka_unit_test(no_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(a_head_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
