/* dev.h - what the .cu files use of the device. The emulator's header brings the same names with plain bodies; half and
 * bf16 numbers are bits in integers, so that it needs nothing of CUDA. Only .cu files include this. */
#ifndef JAEDA_COMPUTE_CUDA_DEV_H
#define JAEDA_COMPUTE_CUDA_DEV_H
#include <stddef.h>
#include <stdint.h>
#if defined(JAEDA_CUDA_EMU)
#include "cuda_emu.h"
#else
#include "compute/cuda/dev_ptx.h"
#endif

enum { WARP = 32 };
#define FULL 0xffffffffu /* every lane of a warp takes part */

__device__ static inline int lane_of() { return (int)threadIdx.x % WARP; }
__device__ static inline int warp_of() { return (int)threadIdx.x / WARP; }
__device__ static inline float warp_sum(float v) {
    for (int m = WARP / 2; m > 0; m /= 2) v += __shfl_xor_sync(FULL, v, m);
    return v;
}
__device__ static inline float warp_max(float v) {
    for (int m = WARP / 2; m > 0; m /= 2) v = fmaxf(v, __shfl_xor_sync(FULL, v, m));
    return v;
}
/* Of all threads of a one-dimensional block, in an order that does not change. red: one float a warp, of shared memory. */
__device__ static inline float block_sum(float v, float *red) {
    __syncthreads(); /* red may still be read by an earlier call */
    v = warp_sum(v);
    if (lane_of() == 0) red[warp_of()] = v;
    __syncthreads(); /* every warp's sum is there */
    v = 0;
    for (int w = 0; w < (int)(blockDim.x + WARP - 1) / WARP; w++) v += red[w];
    return v;
}
__device__ static inline float block_max(float v, float *red) {
    __syncthreads(); /* red may still be read by an earlier call */
    v = warp_max(v);
    if (lane_of() == 0) red[warp_of()] = v;
    __syncthreads(); /* every warp's largest is there */
    v = red[0];
    for (int w = 1; w < (int)(blockDim.x + WARP - 1) / WARP; w++) v = fmaxf(v, red[w]);
    return v;
}

#endif
