#include "budget.h"

void budget_init(struct budget *b, int64_t now_us) {
    *b = (struct budget){ .messages = BUDGET_MESSAGES_BURST, .bytes = BUDGET_BYTES_BURST, .at_us = now_us };
}
static double refill(double have, double rate, double burst, double seconds) {
    have += rate * seconds;
    return have < burst ? have : burst;
}
int64_t budget_wait_us(struct budget *b, int64_t now_us) {
    const double seconds = now_us > b->at_us ? (double)(now_us - b->at_us) * 1e-6 : 0;
    b->messages = refill(b->messages, BUDGET_MESSAGES, BUDGET_MESSAGES_BURST, seconds);
    b->bytes = refill(b->bytes, BUDGET_BYTES, BUDGET_BYTES_BURST, seconds);
    b->at_us = now_us;
    const double messages = b->messages >= 1 ? 0 : (1 - b->messages) / BUDGET_MESSAGES;
    const double bytes = b->bytes > 0 ? 0 : -b->bytes / BUDGET_BYTES;
    const double wait = messages > bytes ? messages : bytes;
    return wait > 0 ? (int64_t)(wait * 1e6) + 1 : 0;
}
void budget_spend(struct budget *b, size_t stream_bytes) {
    b->messages -= 1;
    b->bytes -= (double)stream_bytes;
}
