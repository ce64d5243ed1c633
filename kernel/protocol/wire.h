/* wire.h - Jupyter's frames <-> a signed message (messaging specification 5.6, "The wire protocol"). Pure: no socket,
 * no clock, no thread. A received message is verified before a byte of its JSON is parsed. */
#ifndef JAEDA_KERNEL_PROTOCOL_WIRE_H
#define JAEDA_KERNEL_PROTOCOL_WIRE_H
#include "base/buf.h"
#include "base/err.h"
#include <jansson.h>

enum {
    WIRE_MAX_MESSAGE = 16 << 20, /* bytes of a message whose content is still read */
    WIRE_MAX_FRAMES = 1024,
    WIRE_SEEN = 16, /* bytes of a digest that are remembered */
};

/* One multipart message: all frames end to end. */
struct frames {
    struct buf bytes;
    size_t *end; /* end[i]: offset behind frame i */
    int n, cap;
    bool failed; /* sticky: too many frames, too many bytes or no memory */
};
void frames_init(struct frames *f, size_t max_bytes);
void frames_fini(struct frames *f);
void frames_reset(struct frames *f);
int frames_add(struct frames *f, const void *p, size_t n);          /* 0, or -1 and failed */
const char *frames_at(const struct frames *f, int i, size_t *n);    /* frame i, borrowed; NULL and 0 outside */
bool frames_equal(const struct frames *f, int i, const char *text); /* is frame i exactly this text? */

/* The connection's signing key; immutable, so every thread may use it. */
struct wire_key;
/* scheme "hmac-sha256" (or another digest that OpenSSL knows); key "" means unsigned messages. */
int wire_key_open(struct wire_key **out, const char *scheme, const char *key, struct err *e);
void wire_key_close(struct wire_key *k);

/* Digests of about the last 65,000 messages (a set of 4,096 rings of 16), 1 MiB. One thread. */
struct wire_replay;
struct wire_replay *wire_replay_open(void); /* NULL: no memory */
void wire_replay_close(struct wire_replay *r);
bool wire_replay_seen(struct wire_replay *r, const unsigned char digest[WIRE_SEEN]); /* and remembers it */

/* A received message. The JSON values are never NULL; content is {} when malformed says why it could not be read. */
struct message {
    struct frames frames; /* as received */
    int ids;              /* frames [0, ids) are the identities */
    json_t *header, *parent, *metadata, *content;
    const char *type, *id; /* inside header */
    struct err malformed;
};
/* Takes f's bytes, also on failure. Fails, with the reason, when nothing may be answered: no delimiter, not signed as
 * the key demands, seen before, or a header that is no header. replay may be NULL. */
int wire_read(struct message *m, struct frames *f, const struct wire_key *key, struct wire_replay *replay,
              struct err *e);
void message_fini(struct message *m);
/* The header as received: what an answer carries as parent_header. */
const char *message_header(const struct message *m, size_t *n);
bool message_same_sender(const struct message *a, const struct message *b);

/* A message to send. Texts are JSON objects; NULL stands for {}. */
struct outgoing {
    const struct message *to; /* identities to send to; NULL: topic is the first frame */
    const char *topic;
    const char *parent;
    size_t parent_n;
    const char *type, *msg_id, *session, *date; /* plain ASCII, no quotes */
    const char *metadata, *content;
    size_t content_n;
};
int wire_write(struct frames *f, const struct wire_key *key, const struct outgoing *m); /* 0, or -1: no memory */

/* The messages of the startup handshake have one frame behind the signature, and no header. 0, or -1: no memory. */
int wire_write_short(struct frames *f, const struct wire_key *key, const char *content, size_t n);
/* Is it one, signed as the key demands? Its content is not looked at. */
int wire_read_short(const struct frames *f, const struct wire_key *key, struct err *e);

/* Appends compact JSON. 0, or -1: no memory or text that is not UTF-8. */
int wire_dump(struct buf *b, const json_t *value);
/* Parses UTF-8 JSON of any length with NULs; integers beyond 64 bits become reals. NULL and e otherwise. */
json_t *wire_parse(const char *text, size_t n, struct err *e);

#endif
