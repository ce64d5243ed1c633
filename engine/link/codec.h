/* codec.h - requests and events as bytes: what travels between a kernel and the resident engine. Pure and bounded: any
 * bytes decode to a valid value or to an error, and nothing is trusted that the other end wrote. Both ends are the same
 * build (the handshake sees to it), so there is no versioning inside a frame; numbers are little-endian all the same. */
#ifndef JAEDA_LINK_CODEC_H
#define JAEDA_LINK_CODEC_H
#include "base/buf.h"
#include "engine.h"

enum { FRAME_HEAD = 8, FRAME_MAX = 256 << 20 };
/* A frame: u32 bytes of the body, u32 kind, the body. */
enum frame_kind {
    FRAME_HELLO,   /* both ways, first: see struct hello */
    FRAME_REQUEST, /* kernel -> engine: u64 job (the kernel numbers its jobs, from 1), request */
    FRAME_CANCEL,  /* kernel -> engine: u64 job */
    FRAME_EVENT,   /* engine -> kernel: event (its job is the kernel's number) */
    FRAME_KINDS
};
struct hello {
    char build[48]; /* engine_build() */
    char name[96];  /* kernel: the notebook's; engine: "" */
    int pid;
    char refusal[200]; /* engine: why the connection ends here; "" when it is welcome */
};
/* Each appends one whole frame to out. 0; or -1 with out->failed set (no memory, over out->max, or a value that no frame
 * may hold: a kind that does not exist, a list without end) and out's bytes as before. */
int encode_hello(struct buf *out, const struct hello *h);
int encode_request(struct buf *out, uint64_t job, const struct engine_req *q);
int encode_cancel(struct buf *out, uint64_t job);
int encode_event(struct buf *out, const struct engine_event *ev);

/* The first frame of p[0..n): 1 and its kind, body and whole size; 0: not all of it is there yet; <0: no frame (too
 * long, unknown kind), e says what is wrong with it. */
int frame_split(const char *p, size_t n, enum frame_kind *kind, const char **body, size_t *body_n, size_t *whole,
                struct err *e);
/* Each reads a body. Texts come out NUL-terminated and whole UTF-8 is not promised; counts, enums and booleans are in
 * range. On failure (STATUS_FORMAT, STATUS_NOMEM) nothing is allocated. */
int decode_hello(const char *body, size_t n, struct hello *out, struct err *e);
/* *block owns what q points to; mem_free it. */
int decode_request(const char *body, size_t n, uint64_t *job, struct engine_req *q, void **block, struct err *e);
int decode_cancel(const char *body, size_t n, uint64_t *job, struct err *e);
/* engine_event_fini frees what ev owns. */
int decode_event(const char *body, size_t n, struct engine_event *ev, struct err *e);

#endif
