/* listen.h - one engine connection of a test, and what it answered. */
#ifndef UNIT_RUN_LISTEN_H
#define UNIT_RUN_LISTEN_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/utf8.h"
#include "engine.h"
#include <cmocka.h>
#include <poll.h>
#include <string.h>

enum { VIEWS = 8 };
/* The views of the last request, with as much of their pixels or shares as there is room for. */
static struct heard_view {
    struct engine_view view;
    union {
        unsigned char rgb[1 << 18];
        float heat[1 << 12];
    } u;
} seen[VIEWS];
struct heard {
    int events[ENGINE_EV_FAIL + 1];
    char text[1 << 12];
    struct engine_model model; /* the last row */
    int models;
    struct engine_system system;
    struct engine_done done;
    struct engine_profile profile; /* row is not kept */
    struct engine_fit fit;         /* its lists point into the two arrays below */
    struct engine_machine machine[8];
    struct engine_fit_row row[64];
    double row_ms[ENGINE_PHASES];
    int views;
    struct err fail;
    bool ended;
};
static struct engine *g;

static inline void note_view(struct heard *h, const struct engine_view *from) {
    struct heard_view *to = &seen[h->views++];
    to->view = *from;
    if (from->rgb)
        memcpy(to->u.rgb, from->rgb, from->rgb_bytes < sizeof to->u.rgb ? from->rgb_bytes : sizeof to->u.rgb);
    assert_true((size_t)from->heats * sizeof(float) <= sizeof to->u.heat);
    if (from->heat) memcpy(to->u.heat, from->heat, sizeof(float) * (size_t)from->heats);
}
static inline void note(struct heard *h, const struct engine_event *ev) {
    h->events[ev->kind]++;
    assert_false(h->ended); /* nothing follows DONE or FAIL */
    h->ended = ev->kind == ENGINE_EV_DONE || ev->kind == ENGINE_EV_FAIL;
    switch (ev->kind) {
    case ENGINE_EV_TEXT:
        assert_true(utf8_valid(ev->u.text.utf8, ev->u.text.len));
        assert_true(strlen(h->text) + ev->u.text.len < sizeof h->text);
        strncat(h->text, ev->u.text.utf8, ev->u.text.len);
        break;
    case ENGINE_EV_MODELS:
        h->models += ev->u.models.n;
        if (ev->u.models.n) h->model = ev->u.models.row[ev->u.models.n - 1];
        break;
    case ENGINE_EV_SYSTEM: h->system = ev->u.system; break;
    case ENGINE_EV_PROFILE:
        h->profile = ev->u.profile;
        for (int i = 0; i < ev->u.profile.rows; i++) h->row_ms[ev->u.profile.row[i].phase] += ev->u.profile.row[i].ms;
        break;
    case ENGINE_EV_FIT:
        assert_true(ev->u.fit.rows <= 64 && ev->u.fit.machines <= 8);
        h->fit = ev->u.fit;
        h->fit.row = memcpy(h->row, ev->u.fit.row, sizeof *h->row * (size_t)ev->u.fit.rows);
        h->fit.machine = memcpy(h->machine, ev->u.fit.machine, sizeof *h->machine * (size_t)ev->u.fit.machines);
        break;
    case ENGINE_EV_DONE: h->done = ev->u.done; break;
    case ENGINE_EV_FAIL: h->fail = ev->u.fail; break;
    case ENGINE_EV_PROGRESS: break;
    case ENGINE_EV_VIEW:
        if (h->views < VIEWS) note_view(h, &ev->u.view);
        break;
    }
}
/* The next event of any job within two minutes (the emulated device is slow); false: none came. */
static inline bool next(struct engine_event *ev) {
    struct pollfd p = { .fd = engine_fd(g), .events = POLLIN };
    for (int i = 0; i < 1200; i++) {
        const int rc = engine_next(g, ev);
        assert_true(rc >= 0);
        if (rc) return true;
        poll(&p, 1, 100);
    }
    return false;
}
static inline void listen(uint64_t job, struct heard *h) {
    struct engine_event ev;
    while (!h->ended) {
        assert_true(next(&ev));
        assert_int_equal(ev.job, job);
        note(h, &ev);
        engine_event_fini(&ev);
    }
}
static inline uint64_t submit(const struct engine_req *q) {
    struct err e = { 0 };
    uint64_t job = 0;
    if (engine_submit(g, q, &job, &e)) fail_msg("%s", e.text);
    assert_true(job != 0);
    return job;
}
static inline struct heard *ask(const struct engine_req *q) {
    static struct heard h;
    memset(&h, 0, sizeof h);
    listen(submit(q), &h);
    return &h;
}
static inline struct engine_message raw(const char *text) {
    return (struct engine_message){ NULL, text, strlen(text) };
}
static inline struct heard *generate(const char *prompt, struct engine_req q) {
    const struct engine_message m = raw(prompt);
    q.kind = ENGINE_REQ_GENERATE;
    q.message = &m;
    q.messages = 1;
    return ask(&q);
}

#endif
