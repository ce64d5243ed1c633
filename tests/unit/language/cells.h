/* cells.h - whole cells against a scripted engine and a front end in memory. Included by one file of a test program. */
#ifndef JAEDA_TEST_CELLS_H
#define JAEDA_TEST_CELLS_H
#include "fake_engine.h"
#include "fake_out.h"

#include "base/utf8.h"
#include "kernel/interp.h"
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static char data_home[] = "/tmp/jaeda-cells-XXXXXX"; /* the user's own results are not for tests */
static struct interp *in;
static struct out o;

static inline int setup(void **state) {
    (void)state;
    struct err e = { 0 };
    memset(&fake, 0, sizeof fake);
    fake.done = (struct engine_done){ .stop = ENGINE_STOP_LENGTH,
                                      .prompt_tokens = 21,
                                      .cached_tokens = 16,
                                      .new_tokens = 128,
                                      .chars = 200,
                                      .ttft_ms = 48,
                                      .prefill_ms = 40,
                                      .decode_ms = 2845,
                                      .tpot_ms = 22.4,
                                      .total_ms = 2893,
                                      .greedy = true,
                                      .sampling = { .top_p = 1, .repetition_penalty = 1 },
                                      .model = "small",
                                      .template_name = "chatml" };
    snprintf(data_home, sizeof data_home, "/tmp/jaeda-cells-XXXXXX");
    if (!mkdtemp(data_home)) return -1;
    setenv("XDG_DATA_HOME", data_home, 1);
    out_open(&o);
    return interp_open(&in, NULL, &e);
}
static inline int teardown(void **state) {
    (void)state;
    interp_close(in);
    out_close(&o);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", data_home);
    return system(command);
}
static inline void fresh(void) {
    out_close(&o);
    out_open(&o);
}
static inline void runs(const char *code) {
    struct err e = { 0 };
    fresh();
    if (interp_execute(in, &o, code, strlen(code), &e)) fail_msg("%s: %s: %s", code, status_name(e.code), e.text);
}
static inline void fails(const char *code, int status, const char *want) {
    struct err e = { 0 };
    fresh();
    if (!interp_execute(in, &o, code, strlen(code), &e)) fail_msg("went well: %s", code);
    if (!strstr(e.text, want)) fail_msg("%s: \"%s\" does not say \"%s\"", code, e.text, want);
    if (e.code != status) fail_msg("%s: %s, not %s", code, status_name(e.code), status_name(status));
    assert_null(strchr(e.text, '\n'));
}
static inline const char *printed(void) { return buf_text(&o.text[0]); }
static inline void says(const char *text, const char *want) {
    if (!strstr(text, want)) fail_msg("not said: \"%s\" but: %s", want, text);
}

/* No line is wider than 100 columns. */
static inline void narrow(const char *s) {
    for (const char *line = s; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (utf8_width(line, strcspn(line, "\n")) > 100) fail_msg("too wide: %.*s", (int)strcspn(line, "\n"), line);
}
static inline void *interrupt_soon(void *arg) {
    nanosleep(&(struct timespec){ 0, (long)(intptr_t)arg * 1000000 }, NULL);
    out_interrupt(&o);
    return NULL;
}
/* Runs code, interrupts it after ms; seconds until it was over. */
static inline double stopped(const char *code, long ms, const char *want) {
    struct timespec a, b;
    pthread_t t;
    struct err e = { 0 };
    fresh();
    clock_gettime(CLOCK_MONOTONIC, &a);
    pthread_create(&t, NULL, interrupt_soon, (void *)(intptr_t)ms);
    const int rc = interp_execute(in, &o, code, strlen(code), &e);
    pthread_join(t, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_int_equal(rc, STATUS_CANCELLED);
    says(e.text, want);
    return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
}

#endif
