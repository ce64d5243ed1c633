/* dtype.h - how numbers lie in a file or in memory. Numbers are GGUF's type ids where GGUF has one
 * (ggml docs/gguf.md), so that a header's u32 can be looked up directly. */
#ifndef JAEDA_BASE_DTYPE_H
#define JAEDA_BASE_DTYPE_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* X(id, GGUF number, name, elements per block, bytes per block) */
#define DTYPE_MAP(X)                                                                                                   \
    X(F32, 0, "f32", 1, 4)                                                                                             \
    X(F16, 1, "f16", 1, 2)                                                                                             \
    X(Q4_0, 2, "q4_0", 32, 18)                                                                                         \
    X(Q4_1, 3, "q4_1", 32, 20)                                                                                         \
    X(Q5_0, 6, "q5_0", 32, 22)                                                                                         \
    X(Q5_1, 7, "q5_1", 32, 24)                                                                                         \
    X(Q8_0, 8, "q8_0", 32, 34)                                                                                         \
    X(Q2_K, 10, "q2_k", 256, 84)                                                                                       \
    X(Q3_K, 11, "q3_k", 256, 110)                                                                                      \
    X(Q4_K, 12, "q4_k", 256, 144)                                                                                      \
    X(Q5_K, 13, "q5_k", 256, 176)                                                                                      \
    X(Q6_K, 14, "q6_k", 256, 210)                                                                                      \
    X(BF16, 30, "bf16", 1, 2)
enum dtype {
#define X(id, num, name, block, bytes) DTYPE_##id = num,
    DTYPE_MAP(X)
#undef X
        DTYPE_NONE = -1
};
struct dtype_info {
    enum dtype dt;
    const char *name;
    int block, bytes; /* elements and bytes of one block */
};
/* NULL for a number that is not listed. */
const struct dtype_info *dtype_info(int dt);
/* Accepts the listed names and the field's spellings: fp32 float32 float half float16 fp16 bfloat16, and int8 8bit (q8_0), int4
 * 4bit (q4_0); DTYPE_NONE otherwise. */
enum dtype dtype_parse(const char *name);
/* Bytes of n elements; 0 when dt is unknown, n is no multiple of the block, or a size_t cannot hold them. */
size_t dtype_bytes(int dt, size_t n);

#ifdef __cplusplus
}
#endif
#endif
