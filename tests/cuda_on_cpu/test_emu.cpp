/* The emulated device itself: what it must catch, it catches. Kernels here are wrong on purpose. */
#include "cuda_emu.h"
#include "emu.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}
enum { N = 128, SEEDS = 20 };
static cudaStream_t stream;
template <typename T> static T *device(size_t n) {
    void *p = nullptr;
    assert_int_equal(cudaMalloc(&p, n * sizeof(T)), cudaSuccess);
    return (T *)p;
}
static int setup(void **) {
    emu_recover();
    return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
}
static int teardown(void **) {
    emu_recover();
    return cudaStreamDestroy(stream);
}
static cudaError_t wait() { return cudaStreamSynchronize(stream); }

/* ---- barriers ---- */
__global__ void turned(int *out, bool barrier) { /* each thread reads what its mirror image wrote */
    SMEM(int, s);
    s[threadIdx.x] = (int)threadIdx.x;
    if (barrier) __syncthreads();
    out[threadIdx.x] = s[N - 1 - threadIdx.x];
}
static int wrong_of(bool barrier) {
    int *out = device<int>(N), wrong = 0;
    for (int seed = 1; seed <= SEEDS; seed++) {
        emu_seed((unsigned long)seed);
        launch(turned, dim3(1), dim3(N), N * sizeof(int), stream, out, barrier);
        assert_int_equal(wait(), cudaSuccess);
        int host[N];
        cudaMemcpyAsync(host, out, sizeof host, cudaMemcpyDeviceToHost, stream);
        wait();
        bool ok = true;
        for (int i = 0; i < N; i++) ok &= host[i] == N - 1 - i;
        wrong += !ok;
    }
    cudaFree(out);
    return wrong;
}
static void a_missing_barrier_shows(void **) {
    assert_int_equal(wrong_of(true), 0);
    assert_int_equal(wrong_of(false), SEEDS);
}
__global__ void divergent(int how) {
    if (how == 0 && threadIdx.x == 3) return; /* then the others wait for it */
    if (how == 1 && threadIdx.x / 32 == 1) {
        __syncwarp();
        return;
    }
    __syncthreads();
}
static void divergent_barriers_are_faults(void **) {
    launch(divergent, dim3(1), dim3(N), 0, stream, 2);
    assert_int_equal(wait(), cudaSuccess);
    for (int how = 0; how < 2; how++) {
        launch(divergent, dim3(1), dim3(N), 0, stream, how);
        assert_int_equal(wait(), cudaErrorLaunchFailure);
        assert_int_equal(cudaMemsetAsync(nullptr, 0, 0, stream), cudaErrorLaunchFailure); /* it stays */
        emu_recover();
    }
}

/* ---- warps ---- */
__global__ void absent(int how) {
    const unsigned lane = threadIdx.x % 32;
    if (how == 0 && lane == 5) return;
    if (how == 1 && lane < 16)
        __shfl_xor_sync(0x0000ffffu, 1.0f, 16); /* asks lanes that do not take part */
    else
        __shfl_xor_sync(how == 1 ? 0xffff0000u : 0xffffffffu, 1.0f, 1);
}
static void absent_lanes_are_faults(void **) {
    for (int how = 0; how < 2; how++) {
        launch(absent, dim3(1), dim3(32), 0, stream, how);
        assert_int_equal(wait(), cudaErrorLaunchFailure);
        emu_recover();
    }
    launch(absent, dim3(1), dim3(32), 0, stream, 2);
    assert_int_equal(wait(), cudaSuccess);
}

/* ---- memory ---- */
__global__ void poison(float *out) {
    SMEM(float, s);
    out[threadIdx.x] = s[threadIdx.x];
}
static void shared_memory_is_poisoned(void **) {
    float *out = device<float>(32), host[32];
    launch(poison, dim3(1), dim3(32), 32 * sizeof(float), stream, out);
    cudaMemcpyAsync(host, out, sizeof host, cudaMemcpyDeviceToHost, stream);
    assert_int_equal(wait(), cudaSuccess);
    for (int i = 0; i < 32; i++) assert_true(host[i] != host[i]); /* not numbers */
    cudaFree(out);
}
__global__ void copies(const char *from, float *out, bool waits) {
    SMEM(char, s);
    cp_async<16>(s + 16 * threadIdx.x, from + 16 * threadIdx.x);
    cp_async_commit();
    if (waits) cp_async_wait<0>();
    out[threadIdx.x] = *(float *)(s + 16 * threadIdx.x);
}
static void an_asynchronous_copy_takes_its_time(void **) {
    char *from = device<char>(512);
    float *out = device<float>(32), host[32];
    cudaMemsetAsync(from, 0, 512, stream);
    for (int waits = 0; waits < 2; waits++) {
        launch(copies, dim3(1), dim3(32), 512, stream, (const char *)from, out, waits != 0);
        cudaMemcpyAsync(host, out, sizeof host, cudaMemcpyDeviceToHost, stream);
        assert_int_equal(wait(), cudaSuccess);
        for (int i = 0; i < 32; i++) assert_true(waits ? host[i] == 0 : host[i] != host[i]);
    }
    launch(copies, dim3(1), dim3(32), 512, stream, (const char *)from + 4, out, true);
    assert_int_equal(wait(), cudaErrorLaunchFailure);
    emu_recover();
    cudaFree(from);
    cudaFree(out);
}
__global__ void beyond(int *p, int at) { p[at] = 1; }
static void writing_past_an_allocation_ends_the_process(void **) {
    const pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_DFL); /* not the test framework's */
        int *p = device<int>(64);
        launch(beyond, dim3(1), dim3(1), 0, stream, p, 64);
        wait();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0); /* a sanitizer exits instead */
}
static void memory_ends_where_it_was_said_to(void **) {
    void *p = nullptr;
    size_t available = 0, total = 0;
    emu_memory(1 << 20, 2 << 20);
    assert_int_equal(cudaMemGetInfo(&available, &total), cudaSuccess);
    assert_int_equal(available, 1 << 20);
    assert_int_equal(total, 2 << 20);
    assert_int_equal(cudaMalloc(&p, (1 << 20) + 1), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&p, 1 << 20), cudaSuccess);
    cudaFree(p);
    emu_memory(0, 0);
}

/* ---- order, counts, failures ---- */
static void work_waits_for_the_host_to_wait(void **) {
    int *out = device<int>(1), early = 0;
    cudaMemsetAsync(out, 0, sizeof *out, stream);
    wait();
    for (int seed = 0; seed < SEEDS; seed++) {
        emu_seed((unsigned long)seed);
        *out = 0;
        launch(beyond, dim3(1), dim3(1), 0, stream, out, 0);
        early += *out == 0;
        wait();
        assert_int_equal(*out, 1);
    }
    assert_true(early > 0); /* a host that looks without waiting is wrong now and then */
    cudaFree(out);
}
static void calls_are_counted_and_fail_on_request(void **) {
    void *p = nullptr;
    emu_reset_counts();
    launch(beyond, dim3(1), dim3(1), 0, stream, device<int>(1), 0);
    wait();
    assert_int_equal(emu_count().kernels, 1);
    assert_int_equal(emu_count().mallocs, 1);
    assert_int_equal(emu_count().syncs, 1);
    emu_fail("cudaMalloc", 2, cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&p, 8), cudaSuccess);
    cudaFree(p);
    assert_int_equal(cudaMalloc(&p, 8), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&p, 8), cudaSuccess);
    cudaFree(p);
}

/* ---- fragments: against a plain product ---- */
__global__ void product(const uint16_t *a, const uint16_t *b, float *c) {
    const int l = (int)threadIdx.x, g = l / 4, t = l % 4;
    uint32_t x[4], y[2];
    float z[4] = { 0, 0, 0, 0 };
    memcpy(&x[0], a + g * 16 + 2 * t, 4);
    memcpy(&x[1], a + (g + 8) * 16 + 2 * t, 4);
    memcpy(&x[2], a + g * 16 + 2 * t + 8, 4);
    memcpy(&x[3], a + (g + 8) * 16 + 2 * t + 8, 4);
    for (int i = 0; i < 2; i++) y[i] = b[(2 * t + 8 * i) * 8 + g] | (uint32_t)b[(2 * t + 8 * i + 1) * 8 + g] << 16;
    mma_f16(z, x, y);
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = z[i];
}
static void mma_multiplies_matrices(void **) {
    uint16_t *a = device<uint16_t>(256), *b = device<uint16_t>(128);
    float *c = device<float>(128);
    for (int i = 0; i < 256; i++) a[i] = f32_to_f16((float)(i * 7 % 11 - 5));
    for (int i = 0; i < 128; i++) b[i] = f32_to_f16((float)(i * 5 % 13 - 6));
    launch(product, dim3(1), dim3(32), 0, stream, (const uint16_t *)a, (const uint16_t *)b, c);
    assert_int_equal(wait(), cudaSuccess);
    for (int r = 0; r < 16; r++)
        for (int n = 0; n < 8; n++) {
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += (float)((r * 16 + k) * 7 % 11 - 5) * (float)((k * 8 + n) * 5 % 13 - 6);
            assert_true(c[r * 8 + n] == sum);
        }
    cudaFree(a);
    cudaFree(b);
    cudaFree(c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main() {
    const struct CMUnitTest tests[] = {
        T(a_missing_barrier_shows),
        T(divergent_barriers_are_faults),
        T(absent_lanes_are_faults),
        T(shared_memory_is_poisoned),
        T(an_asynchronous_copy_takes_its_time),
        T(writing_past_an_allocation_ends_the_process),
        T(memory_ends_where_it_was_said_to),
        T(work_waits_for_the_host_to_wait),
        T(calls_are_counted_and_fail_on_request),
        T(mma_multiplies_matrices),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
