/* cuda_emu.h - the .cu files as plain C++: one fibre a CUDA thread, one block at a time. Barriers, shuffles and mma are
 * meetings; between two of them warps run ahead in a random order, so that a missing barrier shows. */
#ifndef JAEDA_TESTS_CUDA_EMU_H
#define JAEDA_TESTS_CUDA_EMU_H
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__
#define __align__(n) alignas(n)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return { x, y }; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return { x, y, z, w }; }
static inline int2 make_int2(int x, int y) { return { x, y }; }
static inline float2 make_float2(float x, float y) { return { x, y }; }
static inline float4 make_float4(float x, float y, float z, float w) { return { x, y, z, w }; }
static const int warpSize = 32;

/* ---- the runtime's types (runtime.cpp) ---- */
enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInitializationError = 3,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorDevicesUnavailable = 46,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorECCUncorrectable = 214,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchOutOfResources = 701,
    cudaErrorLaunchTimeout = 702,
    cudaErrorAssert = 710,
    cudaErrorHardwareStackError = 714,
    cudaErrorIllegalInstruction = 715,
    cudaErrorMisalignedAddress = 716,
    cudaErrorInvalidAddressSpace = 717,
    cudaErrorInvalidPc = 718,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorUnknown = 999
};
typedef struct emu_stream *cudaStream_t;
typedef struct emu_event *cudaEvent_t;
typedef struct emu_graph *cudaGraph_t;
typedef struct emu_graph *cudaGraphExec_t;
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
enum {
    cudaStreamNonBlocking = 1,
    cudaEventDisableTiming = 2,
    cudaEventDefault = 0,
    cudaHostAllocDefault = 0,
    cudaHostAllocPortable = 1,
    cudaHostAllocMapped = 2
};
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
    int multiProcessorCount, major, minor, l2CacheSize, memoryBusWidth, pciBusID, pciDeviceID, pciDomainID;
};
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDevice(int *);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *, int);
cudaError_t cudaDriverGetVersion(int *);
cudaError_t cudaRuntimeGetVersion(int *);
cudaError_t cudaMemGetInfo(size_t *, size_t *);
cudaError_t cudaMalloc(void **, size_t);
cudaError_t cudaFree(void *);
cudaError_t cudaHostAlloc(void **, size_t, unsigned);
cudaError_t cudaFreeHost(void *);
cudaError_t cudaHostGetDevicePointer(void **, void *, unsigned);
cudaError_t cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void *, int, size_t, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamQuery(cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned = 0);
cudaError_t cudaEventCreate(cudaEvent_t *);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventQuery(cudaEvent_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaEventElapsedTime(float *, cudaEvent_t, cudaEvent_t);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char *cudaGetErrorString(cudaError_t);
const char *cudaGetErrorName(cudaError_t);
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *, cudaGraph_t, unsigned long long);
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);
void spin_wait();

namespace emu {
enum meeting { SYNC, SHUFFLE, BALLOT, MMA_F16, MMA_BF16, LDMATRIX, LDMATRIX_TRANS };
struct lane { /* one CUDA thread */
    uint3 tid;
    unsigned lin, mask, from; /* from: the lane whose value a shuffle takes */
    int kind, stack;
    uint64_t value[2], result[2];
    const void *row;
    uint32_t frag[6];
    float c[4];
};
#define EMU_INSIDE __attribute__((visibility("hidden"))) /* read in one load */
extern EMU_INSIDE lane *me;
extern EMU_INSIDE uint3 bid;
extern EMU_INSIDE dim3 grid, block;
extern EMU_INSIDE char *smem;
void meet_block();
void meet_warp(unsigned mask, meeting kind);
void enqueue(cudaStream_t s, const std::function<void()> &body, dim3 g, dim3 b, size_t shared, const void *kernel);
int injected(const char *call); /* the code that a test wants this call to end with, or 0 */
cudaError_t allow_shared(const void *kernel, int bytes);
void host_task(cudaStream_t s, const std::function<void()> &f); /* device work that is no kernel of ours */
} // namespace emu

#define threadIdx (emu::me->tid)
#define blockIdx (emu::bid)
#define blockDim (emu::block)
#define gridDim (emu::grid)
#define SMEM(T, name) T *name = reinterpret_cast<T *>(emu::smem)

template <typename... P, typename... A>
static inline void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, cudaStream_t stream, A... a) {
    emu::enqueue(
        stream, [=] { kernel(a...); }, grid, block, smem, (const void *)kernel);
}
template <typename F> static inline cudaError_t cudaFuncSetAttribute(F kernel, cudaFuncAttribute what, int value) {
    return what == cudaFuncAttributeMaxDynamicSharedMemorySize ? emu::allow_shared((const void *)kernel, value)
                                                               : cudaSuccess;
}
template <typename F> static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, F, int, size_t) {
    *n = 2;
    return cudaSuccess;
}

static inline void __syncthreads() { emu::meet_block(); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emu::meet_warp(mask, emu::SYNC); }
static inline void __threadfence() {}
static inline void __threadfence_system() {}
static inline void __threadfence_block() {}
namespace emu {
template <typename T> static inline T exchange(unsigned mask, T v, unsigned from) {
    static_assert(sizeof v <= 16, "a shuffle moves up to 16 bytes");
    memcpy(me->value, &v, sizeof v);
    me->from = from & 31;
    meet_warp(mask, SHUFFLE);
    memcpy(&v, me->result, sizeof v);
    return v;
}
} // namespace emu
template <typename T> static inline T __shfl_xor_sync(unsigned m, T v, int x, int = 32) {
    return emu::exchange(m, v, emu::me->lin ^ (unsigned)x);
}
template <typename T> static inline T __shfl_sync(unsigned m, T v, int x, int w = 32) {
    return emu::exchange(m, v, (emu::me->lin & 31 & ~(unsigned)(w - 1)) | ((unsigned)x & (unsigned)(w - 1)));
}
template <typename T> static inline T __shfl_down_sync(unsigned m, T v, unsigned x, int = 32) {
    const unsigned l = emu::me->lin & 31;
    return emu::exchange(m, v, l + x < 32 ? l + x : l);
}
template <typename T> static inline T __shfl_up_sync(unsigned m, T v, unsigned x, int = 32) {
    const unsigned l = emu::me->lin & 31;
    return emu::exchange(m, v, l >= x ? l - x : l);
}
static inline unsigned __ballot_sync(unsigned m, int p) {
    emu::me->value[0] = p != 0;
    emu::meet_warp(m, emu::BALLOT);
    return (unsigned)emu::me->result[0];
}
static inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
static inline int __all_sync(unsigned m, int p) { return __ballot_sync(m, p) == m; }

template <typename T> static inline T atomicAdd(T *p, T v) {
    const T o = *p;
    *p = o + v;
    return o;
}
static inline unsigned atomicAdd(unsigned *p, int v) { return atomicAdd(p, (unsigned)v); }
template <typename T> static inline T atomicMax(T *p, T v) {
    const T o = *p;
    if (v > o) *p = v;
    return o;
}
template <typename T> static inline T atomicMin(T *p, T v) {
    const T o = *p;
    if (v < o) *p = v;
    return o;
}
template <typename T> static inline T atomicOr(T *p, T v) {
    const T o = *p;
    *p = o | v;
    return o;
}
template <typename T> static inline T atomicExch(T *p, T v) {
    const T o = *p;
    *p = v;
    return o;
}
template <typename T> static inline T atomicCAS(T *p, T c, T v) {
    const T o = *p;
    if (o == c) *p = v;
    return o;
}
template <typename T> static inline T __ldg(const T *p) { return *p; }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
#define __expf expf /* the C library has functions of these names */
#define __logf logf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __uint_as_float(unsigned u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline unsigned __float_as_uint(float f) {
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float __int_as_float(int u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline int __float_as_int(float f) {
    int u;
    memcpy(&u, &f, 4);
    return u;
}
static inline int __float2int_rn(float f) { return (int)nearbyintf(f); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
    const uint64_t all = (uint64_t)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned sel = s >> 4 * i & 15;
        unsigned byte = (unsigned)(all >> 8 * (sel & 7)) & 255;
        if (sel & 8) byte = byte & 128 ? 255 : 0;
        r |= byte << 8 * i;
    }
    return r;
}
static inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++) c += (int)(signed char)(a >> 8 * i) * (int)(signed char)(b >> 8 * i);
    return c;
}

/* ---- what is PTX on the device ---- */
static inline float f16_to_f32(uint16_t h) {
    _Float16 v;
    memcpy(&v, &h, 2);
    return (float)v;
}
static inline uint16_t f32_to_f16(float f) {
    const _Float16 v = (_Float16)f;
    uint16_t h;
    memcpy(&h, &v, 2);
    return h;
}
static inline float bf16_to_f32(uint16_t h) { return __uint_as_float((unsigned)h << 16); }
static inline uint16_t f32_to_bf16(float f) {
    const unsigned u = __float_as_uint(f);
    if ((u & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static inline uint32_t pack_f16(float lo, float hi) { return f32_to_f16(lo) | (uint32_t)f32_to_f16(hi) << 16; }
static inline uint32_t pack_bf16(float lo, float hi) { return f32_to_bf16(lo) | (uint32_t)f32_to_bf16(hi) << 16; }
static inline float2 unpack_f16(uint32_t u) { return { f16_to_f32((uint16_t)u), f16_to_f32((uint16_t)(u >> 16)) }; }
static inline float2 unpack_bf16(uint32_t u) { return { bf16_to_f32((uint16_t)u), bf16_to_f32((uint16_t)(u >> 16)) }; }
#define EMU_H2(name, expression)                                                                                       \
    static inline uint32_t name(uint32_t u, uint32_t v) {                                                              \
        const float2 a = unpack_f16(u), b = unpack_f16(v);                                                             \
        (void)b;                                                                                                       \
        float r[2];                                                                                                    \
        for (int i = 0; i < 2; i++) {                                                                                  \
            const float x = i ? a.y : a.x, y = i ? b.y : b.x;                                                          \
            r[i] = expression;                                                                                         \
        }                                                                                                              \
        return pack_f16(r[0], r[1]);                                                                                   \
    }
EMU_H2(h2_add, x + y)
EMU_H2(h2_sub, x - y)
EMU_H2(h2_mul, x *y)
static inline uint32_t h2_fma(uint32_t u, uint32_t v, uint32_t w) {
    const float2 a = unpack_f16(u), b = unpack_f16(v), c = unpack_f16(w);
    uint16_t r[2];
    for (int i = 0; i < 2; i++) {
        const _Float16 h = (_Float16)((double)(i ? a.y : a.x) * (double)(i ? b.y : b.x) + (double)(i ? c.y : c.x));
        memcpy(&r[i], &h, 2);
    }
    return r[0] | (uint32_t)r[1] << 16;
}
static inline void emu_mma(float c[4], const uint32_t a[4], const uint32_t b[2], emu::meeting kind) {
    memcpy(emu::me->frag, a, 16);
    memcpy(emu::me->frag + 4, b, 8);
    memcpy(emu::me->c, c, 16);
    emu::meet_warp(0xffffffffu, kind);
    memcpy(c, emu::me->c, 16);
}
static inline void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]) { emu_mma(c, a, b, emu::MMA_F16); }
static inline void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]) { emu_mma(c, a, b, emu::MMA_BF16); }
static inline void emu_ldmatrix(uint32_t r[4], const void *row, emu::meeting kind) {
    emu::me->row = row;
    emu::meet_warp(0xffffffffu, kind);
    memcpy(r, emu::me->frag, 16);
}
static inline void ldmatrix_x4(uint32_t r[4], const void *row) { emu_ldmatrix(r, row, emu::LDMATRIX); }
static inline void ldmatrix_x4_trans(uint32_t r[4], const void *row) { emu_ldmatrix(r, row, emu::LDMATRIX_TRANS); }
void emu_cp_async(void *shared, const void *global, int bytes);
void emu_cp_commit();
void emu_cp_wait(int n);
template <int BYTES> static inline void cp_async(void *shared, const void *global) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "what cp.async copies");
    emu_cp_async(shared, global, BYTES);
}
static inline void cp_async_commit() { emu_cp_commit(); }
template <int N> static inline void cp_async_wait() { emu_cp_wait(N); }
uint4 emu_load16(const void *p);
static inline uint4 load16(const void *p) { return emu_load16(p); }
static inline uint4 load16_stream(const void *p) { return emu_load16(p); }
static inline int anew(int v) { return v; }
static inline void ask_for(const void *p) { (void)*(const volatile char *)p; } /* a guard may be hit */
uint64_t now_ns();
#endif
