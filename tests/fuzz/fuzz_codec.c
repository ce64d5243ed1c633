/* Any bytes as frames: nothing crashes, what is refused leaves nothing allocated and says why, and what is accepted is
 * written again as the very same bytes. */
#include "base/mem.h"
#include "link/codec.h"
#include <stdlib.h>
#include <string.h>

static void require(bool ok) {
    if (!ok) abort();
}
/* One whole frame p[0..whole), its body behind the head. Appends what was read to again; < 0: refused. */
static int read_and_write(enum frame_kind kind, const char *body, size_t n, struct buf *again, struct err *e) {
    struct hello hello;
    struct engine_req q;
    struct engine_event ev;
    uint64_t job;
    void *block;
    int rc = STATUS_FORMAT;
    switch (kind) {
    case FRAME_HELLO: rc = decode_hello(body, n, &hello, e); return rc ? rc : encode_hello(again, &hello);
    case FRAME_REQUEST:
        if ((rc = decode_request(body, n, &job, &q, &block, e))) return require(!block), rc;
        rc = encode_request(again, job, &q);
        mem_free(block);
        return rc;
    case FRAME_CANCEL: rc = decode_cancel(body, n, &job, e); return rc ? rc : encode_cancel(again, job);
    case FRAME_EVENT:
        if ((rc = decode_event(body, n, &ev, e))) return require(!ev.owned), rc;
        rc = encode_event(again, &ev);
        engine_event_fini(&ev);
        return rc;
    default: require(false);
    }
    return rc;
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *p = (const char *)data, *body;
    struct buf again;
    struct err e = { 0 };
    enum frame_kind kind;
    size_t n, whole;
    buf_init(&again, FRAME_MAX);
    while (frame_split(p, size, &kind, &body, &n, &whole, &e) == 1) {
        const size_t before = again.n;
        const int rc = read_and_write(kind, body, n, &again, &e);
        require(rc ? e.code == STATUS_FORMAT && e.text[0] : !again.failed);
        if (rc) break;
        require(again.n - before == whole && !memcmp(again.p + before, p, whole));
        p += whole;
        size -= whole;
    }
    buf_fini(&again);
    return 0;
}
