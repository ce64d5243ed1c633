#include "wire.h"
#include "base/mem.h"
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <string.h>

static const char DELIMITER[] = "<IDS|MSG>";
enum { HEADER = 2, PARENT, METADATA, CONTENT, PARTS }; /* frames behind the delimiter's place; 1 is the signature */

void frames_init(struct frames *f, size_t max_bytes) {
    *f = (struct frames){ 0 };
    buf_init(&f->bytes, max_bytes);
}
void frames_fini(struct frames *f) {
    buf_fini(&f->bytes);
    mem_free(f->end);
    frames_init(f, f->bytes.max);
}
void frames_reset(struct frames *f) {
    buf_reset(&f->bytes);
    f->n = 0;
    f->failed = false;
}
static int frames_room(struct frames *f) {
    if (f->n < f->cap) return 0;
    if (f->n >= WIRE_MAX_FRAMES) return -1;
    const int cap = f->cap ? 2 * f->cap : 8;
    size_t *end = mem_grow(f->end, (size_t)cap, sizeof *end);
    if (!end) return -1;
    f->end = end;
    f->cap = cap;
    return 0;
}
int frames_add(struct frames *f, const void *p, size_t n) {
    if (f->failed || frames_room(f) || buf_add(&f->bytes, p, n)) return f->failed = true, -1;
    f->end[f->n++] = f->bytes.n;
    return 0;
}
const char *frames_at(const struct frames *f, int i, size_t *n) {
    *n = 0;
    if (i < 0 || i >= f->n) return NULL;
    const size_t first = i ? f->end[i - 1] : 0;
    *n = f->end[i] - first;
    return buf_text(&f->bytes) + first;
}
bool frames_equal(const struct frames *f, int i, const char *text) {
    size_t n;
    const char *p = frames_at(f, i, &n);
    return p && n == strlen(text) && !memcmp(p, text, n);
}

/* ---- signatures ---- */

struct wire_key {
    EVP_MAC_CTX *keyed; /* NULL: messages are not signed. Only ever duplicated, hence usable from every thread */
    size_t digest;      /* bytes */
};
int wire_key_open(struct wire_key **out, const char *scheme, const char *key, struct err *e) {
    *out = NULL;
    if (strncmp(scheme, "hmac-", 5))
        return err_set(e, STATUS_INVALID, "signature_scheme '%.40s' is unknown: hmac-sha256 is expected", scheme);
    struct wire_key *k = mem_zero(1, sizeof *k);
    if (!k) return err_set(e, STATUS_NOMEM, "no memory for the signing key");
    if (*key) {
        char digest[32];
        snprintf(digest, sizeof digest, "%s", scheme + 5);
        EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
        k->keyed = mac ? EVP_MAC_CTX_new(mac) : NULL;
        EVP_MAC_free(mac);
        const OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                      OSSL_PARAM_construct_end() };
        if (!k->keyed || !EVP_MAC_init(k->keyed, (const unsigned char *)key, strlen(key), params)) {
            wire_key_close(k);
            return err_set(e, STATUS_INVALID, "signature_scheme '%.40s' is unknown: hmac-sha256 is expected", scheme);
        }
        k->digest = EVP_MAC_CTX_get_mac_size(k->keyed);
    }
    *out = k;
    return 0;
}
void wire_key_close(struct wire_key *k) {
    if (!k) return;
    EVP_MAC_CTX_free(k->keyed);
    mem_free(k);
}
/* HMAC of the frames [first, end), raw and as lower-case hex. */
static int sign(const struct wire_key *k, const struct frames *f, int first, int end,
                unsigned char raw[EVP_MAX_MD_SIZE], char hex[2 * EVP_MAX_MD_SIZE + 1]) {
    size_t n = 0;
    EVP_MAC_CTX *c = EVP_MAC_CTX_dup(k->keyed);
    int ok = c != NULL;
    for (int i = first; ok && i < end; i++) {
        const char *p = frames_at(f, i, &n);
        ok = p && EVP_MAC_update(c, (const unsigned char *)p, n);
    }
    ok = ok && EVP_MAC_final(c, raw, &n, EVP_MAX_MD_SIZE) && n == k->digest;
    EVP_MAC_CTX_free(c);
    for (size_t i = 0; ok && i < n; i++) snprintf(hex + 2 * i, 3, "%02x", raw[i]);
    return ok ? 0 : -1;
}

enum { RINGS = 4096, RING = 16 };
struct wire_replay {
    unsigned char seen[RINGS][RING][WIRE_SEEN];
    unsigned char next[RINGS];
};
struct wire_replay *wire_replay_open(void) {
    return mem_zero(1, sizeof(struct wire_replay));
}
void wire_replay_close(struct wire_replay *r) { mem_free(r); }
bool wire_replay_seen(struct wire_replay *r, const unsigned char digest[WIRE_SEEN]) {
    const int ring = (digest[0] | digest[1] << 8) % RINGS;
    for (int i = 0; i < RING; i++)
        if (!memcmp(r->seen[ring][i], digest, WIRE_SEEN)) return true;
    memcpy(r->seen[ring][r->next[ring]++ % RING], digest, WIRE_SEEN);
    return false;
}
/* signature: its frame, before the `parts` that it signs. */
static int verify(const struct frames *f, int signature, int parts, const struct wire_key *k,
                  struct wire_replay *replay, struct err *e) {
    if (!k->keyed) return 0;
    unsigned char raw[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    size_t n;
    const char *sig = frames_at(f, signature, &n);
    if (!n) return err_set(e, STATUS_FORMAT, "it is not signed");
    /* The length first: comparing 64 bytes of a shorter frame would read beyond it. */
    if (n != 2 * k->digest)
        return err_set(e, STATUS_FORMAT, "its signature has %zu characters, not %zu", n, 2 * k->digest);
    if (sign(k, f, signature + 1, signature + 1 + parts, raw, hex))
        return err_set(e, STATUS_NOMEM, "no memory to verify it");
    if (CRYPTO_memcmp(hex, sig, n)) return err_set(e, STATUS_FORMAT, "its signature is wrong");
    if (replay && wire_replay_seen(replay, raw)) return err_set(e, STATUS_FORMAT, "it was received before (a replay)");
    return 0;
}

/* ---- JSON ---- */

json_t *wire_parse(const char *text, size_t n, struct err *e) {
    json_error_t why;
    json_t *v = json_loadb(text, n, JSON_ALLOW_NUL, &why);
    if (!v && json_error_code(&why) == json_error_numeric_overflow)
        v = json_loadb(text, n, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    if (!v) err_set(e, STATUS_FORMAT, "no JSON: %s (line %d, column %d)", why.text, why.line, why.column);
    return v;
}
static int append(const char *p, size_t n, void *b) { return buf_add(b, p, n); }
int wire_dump(struct buf *b, const json_t *value) { return json_dump_callback(value, append, b, JSON_COMPACT); }

static json_t *object(const struct message *m, int part, const char *name, struct err *e) {
    size_t n;
    struct err why = { 0 };
    const char *p = frames_at(&m->frames, m->ids + part, &n);
    json_t *v = wire_parse(p, n, &why);
    if (json_is_object(v)) return v;
    err_set(e, STATUS_FORMAT, "the message's %s is %s", name, v ? "no JSON object" : why.text);
    json_decref(v);
    return NULL;
}
/* One of the three frames behind the header: a bad one makes the message malformed, but still answerable. */
static json_t *later(struct message *m, int part, const char *name) {
    json_t *v = m->frames.bytes.n > WIRE_MAX_MESSAGE ? NULL : object(m, part, name, &m->malformed);
    if (!v)
        err_set(&m->malformed, STATUS_INVALID, "the message has %zu bytes; %d are the most that are accepted",
                m->frames.bytes.n, WIRE_MAX_MESSAGE);
    return v ? v : json_object();
}
static int parse(struct message *m, struct err *e) {
    size_t n;
    frames_at(&m->frames, m->ids + HEADER, &n);
    if (n > WIRE_MAX_MESSAGE / 16) return err_set(e, STATUS_FORMAT, "its header has %zu bytes", n);
    m->header = object(m, HEADER, "header", e);
    if (!m->header) return e ? e->code : STATUS_FORMAT;
    m->type = json_string_value(json_object_get(m->header, "msg_type"));
    m->id = json_string_value(json_object_get(m->header, "msg_id"));
    if (!m->id) m->id = "";
    if (!m->type) return err_set(e, STATUS_FORMAT, "its header has no msg_type");
    m->parent = later(m, PARENT, "parent_header");
    m->metadata = later(m, METADATA, "metadata");
    m->content = later(m, CONTENT, "content");
    return m->parent && m->metadata && m->content ? 0 : err_set(e, STATUS_NOMEM, "no memory for it");
}
int wire_read(struct message *m, struct frames *f, const struct wire_key *key, struct wire_replay *replay,
              struct err *e) {
    *m = (struct message){ .frames = *f };
    frames_init(f, f->bytes.max);
    while (m->ids < m->frames.n && !frames_equal(&m->frames, m->ids, DELIMITER)) m->ids++;
    int rc = 0;
    if (m->ids == m->frames.n)
        rc = err_set(e, STATUS_FORMAT, "it has no %s frame", DELIMITER);
    else if (m->frames.n - m->ids < PARTS)
        rc = err_set(e, STATUS_FORMAT, "it has %d frames behind %s, not 5", m->frames.n - m->ids - 1, DELIMITER);
    if (!rc) rc = verify(&m->frames, m->ids + 1, PARTS - HEADER, key, replay, e);
    if (!rc) rc = parse(m, e);
    if (rc) message_fini(m);
    return rc;
}
void message_fini(struct message *m) {
    json_decref(m->header);
    json_decref(m->parent);
    json_decref(m->metadata);
    json_decref(m->content);
    frames_fini(&m->frames);
    *m = (struct message){ 0 };
}
const char *message_header(const struct message *m, size_t *n) { return frames_at(&m->frames, m->ids + HEADER, n); }
bool message_same_sender(const struct message *a, const struct message *b) {
    size_t na, nb;
    const char *pa = frames_at(&a->frames, 0, &na), *pb = frames_at(&b->frames, 0, &nb);
    return a->ids && b->ids && na == nb && !memcmp(pa, pb, na);
}

static int add_text(struct frames *f, const char *s) { return frames_add(f, s ? s : "{}", s ? strlen(s) : 2); }
static int add_identities(struct frames *f, const struct outgoing *m) {
    if (!m->to) return add_text(f, m->topic);
    for (int i = 0; i < m->to->ids; i++) {
        size_t n;
        const char *p = frames_at(&m->to->frames, i, &n);
        if (frames_add(f, p, n)) return -1;
    }
    return 0;
}
static int add_header(struct frames *f, const struct outgoing *m) {
    struct buf b;
    buf_init(&b, 4096);
    buf_printf(&b,
               "{\"msg_id\":\"%s\",\"session\":\"%s\",\"username\":\"jaeda\",\"date\":\"%s\",\"msg_type\":\"%s\","
               "\"version\":\"5.6\"}",
               m->msg_id, m->session, m->date, m->type);
    const int rc = b.failed ? -1 : frames_add(f, b.p, b.n);
    buf_fini(&b);
    return rc;
}
/* The signature stands before what it signs: the four frames are built apart first. */
int wire_write(struct frames *f, const struct wire_key *key, const struct outgoing *m) {
    struct frames body;
    unsigned char raw[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    frames_reset(f);
    frames_init(&body, f->bytes.max);
    int rc = add_header(&body, m) || frames_add(&body, m->parent ? m->parent : "{}", m->parent ? m->parent_n : 2) ||
             add_text(&body, m->metadata) ||
             frames_add(&body, m->content ? m->content : "{}", m->content ? m->content_n : 2);
    if (!rc && key->keyed) rc = sign(key, &body, 0, body.n, raw, hex);
    if (!rc)
        rc = add_identities(f, m) || frames_add(f, DELIMITER, strlen(DELIMITER)) || frames_add(f, hex, strlen(hex));
    for (int i = 0; !rc && i < body.n; i++) {
        size_t n;
        const char *p = frames_at(&body, i, &n);
        rc = frames_add(f, p, n);
    }
    frames_fini(&body);
    return rc ? -1 : 0;
}

/* ---- the startup handshake ---- */

int wire_write_short(struct frames *f, const struct wire_key *key, const char *content, size_t n) {
    struct frames body;
    unsigned char raw[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    frames_reset(f);
    frames_init(&body, f->bytes.max);
    int rc = frames_add(&body, content, n);
    if (!rc && key->keyed) rc = sign(key, &body, 0, 1, raw, hex);
    if (!rc)
        rc =
            frames_add(f, DELIMITER, strlen(DELIMITER)) || frames_add(f, hex, strlen(hex)) || frames_add(f, content, n);
    frames_fini(&body);
    return rc ? -1 : 0;
}
int wire_read_short(const struct frames *f, const struct wire_key *key, struct err *e) {
    int at = 0;
    while (at < f->n && !frames_equal(f, at, DELIMITER)) at++;
    if (f->n - at < 3) return err_set(e, STATUS_FORMAT, "it has no %s, signature and content", DELIMITER);
    return verify(f, at + 1, 1, key, NULL, e);
}
