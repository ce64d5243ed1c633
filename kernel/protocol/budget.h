/* budget.h - how fast output may leave. Jupyter's server drops every output of a kernel that exceeds, over 3 s, 1000
 * messages or 1 MB of stream text a second (jupyter_server, ZMQChannelsWebsocketConnection): stay under that, with a
 * margin for a server that stalls and then counts a backlog at once. Pure. */
#ifndef JAEDA_KERNEL_PROTOCOL_BUDGET_H
#define JAEDA_KERNEL_PROTOCOL_BUDGET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Two token buckets: at most burst + 3 * rate in any 3 s, that is 2,100 of 3,000 messages and 2.3 of 3 MB. */
enum { BUDGET_MESSAGES = 600, BUDGET_MESSAGES_BURST = 300, BUDGET_BYTES = 650000, BUDGET_BYTES_BURST = 350000 };
struct budget {
    double messages, bytes; /* what is left; below zero after a large message */
    int64_t at_us;
};
void budget_init(struct budget *b, int64_t now_us);
/* Microseconds until the next message may leave; 0: now. */
int64_t budget_wait_us(struct budget *b, int64_t now_us);
/* One message left; stream_bytes: its frames' bytes when it is a stream, else 0. */
void budget_spend(struct budget *b, size_t stream_bytes);

#endif
