/* dev_ptx.h - the real half of dev.h: CUDA's runtime, and PTX behind small functions. */
#ifndef JAEDA_COMPUTE_CUDA_DEV_PTX_H
#define JAEDA_COMPUTE_CUDA_DEV_PTX_H
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

/* Shared memory of the launch, as an array of T. One a kernel. */
#define SMEM(T, name)                                                                                                  \
    extern __shared__ __align__(128) char smem_raw_[];                                                                 \
    T *name = reinterpret_cast<T *>(smem_raw_)

template <typename... P, typename... A>
static inline void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, cudaStream_t stream, A... a) {
    kernel<<<grid, block, smem, stream>>>(a...);
}
/* For host code that polls memory which the device writes. */
static inline void spin_wait() { __builtin_ia32_pause(); }

__device__ static inline float f16_to_f32(uint16_t h) { return __half2float(__ushort_as_half(h)); }
__device__ static inline uint16_t f32_to_f16(float v) { return __half_as_ushort(__float2half_rn(v)); }
__device__ static inline float bf16_to_f32(uint16_t h) { return __uint_as_float((uint32_t)h << 16); }
__device__ static inline uint16_t f32_to_bf16(float v) { return __bfloat16_as_ushort(__float2bfloat16_rn(v)); }
__device__ static inline uint32_t half2_bits(__half2 h) { return *reinterpret_cast<uint32_t *>(&h); }
__device__ static inline __half2 bits_half2(uint32_t u) { return *reinterpret_cast<__half2 *>(&u); }
__device__ static inline uint32_t pack_f16(float lo, float hi) { return half2_bits(__floats2half2_rn(lo, hi)); }
__device__ static inline float2 unpack_f16(uint32_t u) { return __half22float2(bits_half2(u)); }
__device__ static inline uint32_t pack_bf16(float lo, float hi) {
    return f32_to_bf16(lo) | (uint32_t)f32_to_bf16(hi) << 16;
}
__device__ static inline float2 unpack_bf16(uint32_t u) {
    return make_float2(__uint_as_float(u << 16), __uint_as_float(u & 0xffff0000u));
}
__device__ static inline uint32_t h2_add(uint32_t a, uint32_t b) {
    return half2_bits(__hadd2(bits_half2(a), bits_half2(b)));
}
__device__ static inline uint32_t h2_sub(uint32_t a, uint32_t b) {
    return half2_bits(__hsub2(bits_half2(a), bits_half2(b)));
}
__device__ static inline uint32_t h2_mul(uint32_t a, uint32_t b) {
    return half2_bits(__hmul2(bits_half2(a), bits_half2(b)));
}
__device__ static inline uint32_t h2_fma(uint32_t a, uint32_t b, uint32_t c) {
    return half2_bits(__hfma2(bits_half2(a), bits_half2(b), bits_half2(c)));
}

/* c += a b: a 16x16 by rows, b 16x8 by columns, c 16x8, fragments as PTX's mma.m16n8k16 lays them out: with g = lane / 4,
 * t = lane % 4: a[0] row g columns 2t, 2t+1; a[1] row g+8; a[2], a[3] the same, columns + 8; b[0] rows 2t, 2t+1 of column g;
 * b[1] rows + 8; c[0], c[1] row g columns 2t, 2t+1; c[2], c[3] row g+8. */
__device__ static inline void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ static inline void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* Four 8x8 matrices of 16-bit numbers from shared memory; lane 8i + j gives the address of row j of matrix i. */
__device__ static inline void ldmatrix_x4(uint32_t r[4], const void *row) {
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ static inline void ldmatrix_x4_trans(uint32_t r[4], const void *row) {
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
/* 4, 8 or 16 bytes from global into shared memory, there after the wait that covers their commit group (of this thread). */
template <int BYTES> __device__ static inline void cp_async(void *shared, const void *global) {
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(global) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(global), "n"(BYTES) : "memory");
}
__device__ static inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ static inline void cp_async_wait() { /* all but the last N groups */
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
__device__ static inline uint4 load16(const void *p) { return *reinterpret_cast<const uint4 *>(p); }
/* Read once: weights. Stays out of the first cache, and goes first from the second. */
__device__ static inline uint4 load16_stream(const void *p) {
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
        : "l"(p));
    return v;
}
/* v, of which the compiler knows nothing more: what follows from it is computed again rather than kept in registers. */
__device__ static inline int anew(int v) {
    asm volatile("" : "+r"(v));
    return v;
}
/* Asks for the line at p, which must exist, into the second cache; nobody waits for it. */
__device__ static inline void ask_for(const void *p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
__device__ static inline uint64_t now_ns() {
    uint64_t t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

#endif
