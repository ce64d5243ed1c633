/* machine.h - what this computer is and has: for reports and for the memory check before a load. */
#ifndef JAEDA_RUN_MACHINE_H
#define JAEDA_RUN_MACHINE_H
#include <stddef.h>
#include <stdint.h>

/* Bytes, as the smaller of the machine's and the cgroup's view (v2 and v1). available: what can be had without swapping. */
struct machine_memory {
    uint64_t total, available;
};
struct machine_memory machine_memory(void);
uint64_t machine_resident(void); /* bytes of this process in memory now */
void machine_cpu(char *out, size_t cap);
/* One sentence about NVIDIA cards, from the driver and the PCI bus (JAEDA_PCI: a folder that stands in for
 * /sys/bus/pci/devices); how many the driver knows. */
int machine_gpu(char *out, size_t cap);
int machine_processors(void);
/* Share of the file's pages that are in the page cache, 0..1; 0 when it cannot be told. */
double machine_cached_share(int fd, uint64_t bytes);

#endif
