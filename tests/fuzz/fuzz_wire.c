/* Any frames as a message: nothing crashes, what is accepted is whole, and it survives being answered. The input's first
 * byte picks the key; then each frame is a length of two bytes and its bytes. With a key the signature is made right
 * for half of the inputs, since no fuzzer guesses a MAC. */
#include "base/mem.h"
#include "kernel/protocol/wire.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void require(bool ok) {
    if (!ok) abort();
}
static struct wire_key *keys[2];
static struct wire_replay *replay;

static void set_up(void) {
    if (replay) return;
    json_set_alloc_funcs(mem_alloc, mem_free);
    require(!wire_key_open(&keys[0], "hmac-sha256", "", NULL) && !wire_key_open(&keys[1], "hmac-sha256", "key", NULL));
    replay = wire_replay_open();
    require(replay != NULL);
}
static void split(struct frames *f, const uint8_t *p, size_t n) {
    while (n >= 2) {
        size_t length = (size_t)p[0] | (size_t)p[1] << 8;
        if (length > n - 2) length = n - 2;
        frames_add(f, p + 2, length);
        p += 2 + length;
        n -= 2 + length;
    }
}
/* The four frames behind the delimiter's signature, signed as a peer that knows the key would: by writing them. */
static void sign_again(struct frames *f) {
    struct frames signed_, with;
    size_t n[6];
    const char *p[6];
    int at = 0;
    while (at < f->n && !frames_equal(f, at, "<IDS|MSG>")) at++;
    for (int i = 2; i < 6; i++) p[i] = frames_at(f, at + i, &n[i]);
    if (!p[2] || !p[3] || !p[4] || !p[5] || memchr(p[4], 0, n[4])) return;
    frames_init(&signed_, 1 << 24);
    frames_init(&with, 1 << 24);
    char *metadata = mem_copy(p[4], n[4]);
    const struct outgoing m = { .topic = "t",
                                .type = "x_request",
                                .msg_id = "1",
                                .session = "s",
                                .date = "d",
                                .parent = p[3],
                                .parent_n = n[3],
                                .metadata = metadata,
                                .content = p[5],
                                .content_n = n[5] };
    if (metadata && !wire_write(&signed_, keys[1], &m)) {
        for (int i = 0; i < at + signed_.n - 1; i++) {
            const char *frame = i < at ? frames_at(f, i, &n[0]) : frames_at(&signed_, i - at + 1, &n[0]);
            frames_add(&with, frame, n[0]);
        }
        const struct frames old = *f;
        *f = with;
        with = old;
    }
    mem_free(metadata);
    frames_fini(&signed_);
    frames_fini(&with);
}
static void check(const struct message *m, const struct wire_key *key) {
    struct frames back;
    struct message again;
    struct err e = { 0 };
    size_t n, m_n;
    require(m->type && m->id && json_is_object(m->header) && json_is_object(m->parent));
    require(json_is_object(m->metadata) && json_is_object(m->content) && m->ids + 6 <= m->frames.n);
    frames_init(&back, 1 << 24);
    struct outgoing reply = { .to = m, .type = "x_reply", .msg_id = "2", .session = "s", .date = "d" };
    reply.parent = message_header(m, &reply.parent_n);
    require(!wire_write(&back, key, &reply));
    require(!wire_read(&again, &back, key, NULL, &e) && !again.malformed.code && again.ids == m->ids);
    require(json_equal(again.parent, m->header));
    for (int i = 0; i < m->ids; i++) {
        const char *a = frames_at(&m->frames, i, &n), *b = frames_at(&again.frames, i, &m_n);
        require(n == m_n && !memcmp(a, b, n));
    }
    message_fini(&again);
    frames_fini(&back);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct frames f;
    struct message m;
    struct err e = { 0 };
    if (!size) return 0;
    set_up();
    const struct wire_key *key = keys[data[0] & 1];
    frames_init(&f, 1 << 20);
    split(&f, data + 1, size - 1);
    if ((data[0] & 3) == 3) sign_again(&f);
    if (wire_read(&m, &f, key, data[0] & 4 ? replay : NULL, &e))
        require(e.code && e.text[0]);
    else {
        check(&m, key);
        message_fini(&m);
    }
    frames_fini(&f);
    return 0;
}
