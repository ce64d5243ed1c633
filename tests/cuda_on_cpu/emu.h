/* emu.h - what tests may ask of the emulated device. C linkage, found in the module by dlsym or linked. */
#ifndef JAEDA_TESTS_EMU_H
#define JAEDA_TESTS_EMU_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

struct emu_counts {
    long kernels, graphs, syncs, mallocs, host_allocs, copies;
};
void emu_seed(unsigned long seed);
void emu_reset_counts(void);
struct emu_counts emu_count(void);
/* The after-th call (1: the next) of this runtime function ("cudaMalloc", "kernel") gives that error; sticky ones stay. */
void emu_fail(const char *call, int after, int code);
void emu_memory(size_t free, size_t total);                   /* 0, 0: as much as there is */
void emu_device(int count, int major, int minor, int driver); /* count 0: no GPU; driver 12020: CUDA 12.2; 0: none */
void emu_recover(void); /* as a new process would find the device: no sticky error */

#ifdef __cplusplus
}
#endif
#endif
