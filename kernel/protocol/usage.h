/* usage.h - what the resource monitors of the front ends ask for (ipykernel's usage_request). */
#ifndef JAEDA_KERNEL_PROTOCOL_USAGE_H
#define JAEDA_KERNEL_PROTOCOL_USAGE_H
#include <jansson.h>
#include <stdint.h>

/* Readings of the last call: percentages are over the time between two calls. */
struct usage {
    int64_t at_us, cpu_us;
    unsigned long long host_busy, host_all; /* ticks */
};
/* hostname, pid, kernel_cpu (% of one processor), kernel_memory (bytes), host_cpu_percent (from the second call on),
 * cpu_count, host_virtual_memory. NULL: no memory. */
json_t *usage_read(struct usage *u);

#endif
