/* device.cu - the module's entry, the device it opens, its memory, and what its errors mean in words. */
#include "base/mem.h"
#include "compute/cuda/cuda.h"
#include "compute/cuda/replay.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- errors ---- */
/* A fault that poisons the context: every later call of this process returns it again. */
static bool sticky(cudaError_t code) {
    switch ((int)code) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
    case cudaErrorLaunchFailure:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorDevicesUnavailable:
    case 220: /* NvlinkUncorrectable, Contained, ContextIsDestroyed, TensorMemoryLeak, MpsClientTerminated: not in every toolkit */
    case 226:
    case 709:
    case 721:
    case 810:
    case cudaErrorUnknown: return true;
    default: return false;
    }
}
static const char *meaning(cudaError_t code) {
    switch ((int)code) {
    case cudaErrorMemoryAllocation: return "no device memory left";
    case cudaErrorNoDevice: return "the driver finds no GPU (CUDA_VISIBLE_DEVICES may hide it)";
    case cudaErrorNoKernelImageForDevice: return "this build has no code for this GPU: build it with its architecture";
    case cudaErrorLaunchTimeout: return "a kernel ran into the display's time limit";
    case cudaErrorECCUncorrectable: return "the GPU's memory reports an uncorrectable error (ECC): reset or replace it";
    case cudaErrorIllegalAddress: return "a kernel touched memory that is not its own";
    case cudaErrorDevicesUnavailable: return "the GPU is taken exclusively by another process";
    case cudaErrorUnknown: return "the GPU no longer answers (nvidia-smi and dmesg tell more)";
    case 802: return "the machine's NVLink switches are not set up: is nvidia-fabricmanager running?";
    case 803: return "the driver's library and its kernel module are of different versions: restart the machine";
    default: return cudaGetErrorString(code);
    }
}
int cuda_check(struct backend *be, cudaError_t code, const char *what, struct err *e) {
    if (code == cudaSuccess) return STATUS_OK;
    cudaGetLastError(); /* it is kept, and the next launch would be blamed for it */
    const int status = code == cudaErrorMemoryAllocation ? STATUS_DEVMEM : STATUS_DEVICE;
    if (sticky(code) && !be->lost.code)
        err_set(&be->lost, STATUS_DEVICE, "%s: %s (%s)", what, meaning(code), cudaGetErrorName(code));
    return err_set(e, status, "%s: %s (%s)", what, meaning(code), cudaGetErrorName(code));
}
static const char *lost(const struct backend *be) { return be->lost.code ? be->lost.text : NULL; }

/* ---- open ---- */
static int too_old(cudaError_t code, struct err *e) {
    int driver = 0, runtime = 0;
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (!driver)
        return err_set(e, STATUS_DEVICE, "no NVIDIA driver is loaded (%s): install one that knows CUDA %d.%d",
                       cudaGetErrorName(code), runtime / 1000, runtime % 1000 / 10);
    return err_set(e, STATUS_DEVICE,
                   "the driver knows CUDA %d.%d, this build needs %d.%d: update the driver, or build with an "
                   "older toolkit",
                   driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
}
static int find(struct backend *be, struct err *e) {
    int n = 0;
    const cudaError_t code = cudaGetDeviceCount(&n);
    if (code == cudaErrorInsufficientDriver) return too_old(code, e);
    if (cuda_check(be, code, "looking for a GPU", e)) return e->code;
    if (!n) return err_set(e, STATUS_DEVICE, "looking for a GPU: %s", meaning(cudaErrorNoDevice));
    return cuda_check(be, cudaSetDevice(be->device), "opening the GPU", e);
}
static int describe(struct backend *be, struct err *e) {
    cudaDeviceProp d;
    if (cuda_check(be, cudaGetDeviceProperties(&d, be->device), "opening the GPU", e)) return e->code;
    be->sms = d.multiProcessorCount;
    be->arch = 10 * d.major + d.minor;
    be->smem_max = (int)d.sharedMemPerBlockOptin;
    snprintf(be->isa, sizeof be->isa, "%.70s, sm_%d", d.name, be->arch);
    if (d.pciDomainID)
        snprintf(be->pci, sizeof be->pci, "%04x:%02x:%02x.0", d.pciDomainID, d.pciBusID & 255, d.pciDeviceID & 31);
    else
        snprintf(be->pci, sizeof be->pci, "%02x:%02x.0", d.pciBusID & 255, d.pciDeviceID & 31);
    if (be->arch < 80)
        return err_set(e, STATUS_DEVICE, "%.70s has compute capability %d.%d: 8.0 (A100, A10G) or newer is needed",
                       d.name, d.major, d.minor);
    return STATUS_OK;
}
__global__ void nothing_kernel() {}
static struct backend *device_open(int threads, struct err *e) {
    (void)threads;
    struct backend *be = (struct backend *)mem_zero(1, sizeof *be);
    if (!be) {
        err_set(e, STATUS_NOMEM, "no memory for the CUDA backend");
        return NULL;
    }
    if (!find(be, e) && !describe(be, e) &&
        !cuda_check(be, cudaStreamCreateWithFlags(&be->stream, cudaStreamNonBlocking), "opening the GPU", e)) {
        launch(nothing_kernel, dim3(1), dim3(WARP), 0, be->stream); /* is there code for this architecture? */
        if (!cuda_launched(be, "opening the GPU", e))
            cuda_check(be, cudaStreamSynchronize(be->stream), "opening the GPU", e);
    }
    struct err soft = {};
    if (!e->code && cuda_lt_open(be, &soft)) { /* large products take the slower way */
        be->lt = NULL;
        snprintf(be->isa + strlen(be->isa), sizeof be->isa - strlen(be->isa), ", no cuBLAS: slow");
    }
    if (!e->code) return be;
    if (be->stream) cudaStreamDestroy(be->stream);
    mem_free(be);
    return NULL;
}
static void device_close(struct backend *be) {
    if (!be) return;
    cuda_lt_close(be);
    cuda_pack_close(be);
    for (int i = 0; i < MARKS_MAX; i++)
        if (be->mark[i]) cudaEventDestroy(be->mark[i]);
    cudaStreamDestroy(be->stream);
    mem_free(be);
}
static const char *isa(const struct backend *be) { return be->isa; }
static const char *pci(const struct backend *be) { return be->pci; }
static int one(const struct backend *) { return 1; }
static int chunk(const struct backend *) { return ROWS_MAX; }
static bool kv(enum dtype dt) { return dt == DTYPE_F32 || dt == DTYPE_F16 || dt == DTYPE_Q8_0; }

/* ---- memory ---- */
static void *device_alloc(struct backend *be, size_t bytes) {
    void *p = NULL;
    if (cudaMalloc(&p, bytes) != cudaSuccess) {
        cudaGetLastError(); /* not sticky: the next call starts clean */
        return NULL;
    }
    if (cudaMemsetAsync(p, 0, bytes, be->stream) == cudaSuccess && cudaStreamSynchronize(be->stream) == cudaSuccess)
        return p;
    cudaGetLastError();
    cudaFree(p);
    return NULL;
}
static void device_free(struct backend *be, void *p, size_t) {
    cudaStreamSynchronize(be->stream);
    cudaFree(p);
}
static struct device_memory memory(struct backend *) {
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) {
        cudaGetLastError();
        free = total = 0;
    }
    return { free, total };
}
static void *host_alloc(struct backend *, size_t bytes) {
    void *p = NULL;
    if (cudaHostAlloc(&p, bytes, cudaHostAllocDefault) == cudaSuccess) return p;
    cudaGetLastError();
    return NULL;
}
static void host_free(struct backend *, void *p) { cudaFreeHost(p); }
static int copy(struct backend *be, void *to, const void *from, size_t bytes, struct err *e) {
    if (cuda_check(be, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, be->stream), "a copy", e)) return e->code;
    return cuda_check(be, cudaStreamSynchronize(be->stream), "a copy", e);
}

/* ---- what the device gives ---- */
static double time_us(struct backend *) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}
enum { PROBE_RUNS = 10, PROBE_MIB_MOST = 1024, MARK_FROM = MARKS_MAX - 2, MARK_TO };
/* The best of several copies within the device: bytes read plus bytes written. */
static int copy_gbs(struct backend *be, double *out, struct err *e) {
    size_t bytes = (size_t)PROBE_MIB_MOST << 20;
    char *p = NULL;
    double at[MARKS_MAX];
    while (bytes > (size_t)16 << 20 && !(p = (char *)device_alloc(be, 2 * bytes))) bytes /= 2;
    if (!p) return err_set(e, STATUS_DEVMEM, "no device memory to measure its bandwidth");
    for (int i = 0; i < PROBE_RUNS && !e->code; i++) {
        if (replay_mark(be, 0, e)) break;
        cuda_check(be, cudaMemcpyAsync(p, p + bytes, bytes, cudaMemcpyDeviceToDevice, be->stream), "measuring", e);
        if (replay_mark(be, 1, e) || replay_marks(be, at, 2, e)) break;
        const double gbs = 2e-3 * (double)bytes / (at[1] - at[0]);
        if (gbs > *out) *out = gbs;
    }
    device_free(be, p, 2 * bytes);
    return e->code;
}
static int probe(struct backend *be, struct peaks *out, struct err *e) {
    double half = 0, bf = 0, full = 0;
    *out = {};
    if (copy_gbs(be, &out->stream_gbs, e)) return e->code;
    if (be->lt && (cuda_peak_gemm(be, DTYPE_F16, &half, e) || cuda_peak_gemm(be, DTYPE_BF16, &bf, e) ||
                   cuda_peak_gemm(be, DTYPE_F32, &full, e)))
        return e->code;
    out->fp32_gflops = 1e3 * full;
    out->fp16_gflops = 1e3 * half;
    out->bf16_gflops = 1e3 * bf;
    return STATUS_OK;
}

extern "C" __attribute__((visibility("default"))) const struct backend_api *backend_entry(int abi) {
    static struct backend_api api; /* filled by name: C++17 has no designated initialisers */
    api.abi = BACKEND_ABI;
    api.name = "cuda";
    api.open = device_open;
    api.close = device_close;
    api.isa = isa;
    api.threads = api.workers = one;
    api.chunk = chunk;
    api.kv = kv;
    api.alloc = device_alloc;
    api.free = device_free;
    api.memory = memory;
    api.host_alloc = host_alloc;
    api.host_free = host_free;
    api.get = api.put = copy;
    api.weight_bytes = cuda_weight_bytes;
    api.fuse = replay_fuse;
    api.scratch = replay_scratch;
    api.place = cuda_place;
    api.fill = cuda_fill;
    api.dummy = cuda_dummy;
    api.drop = cuda_drop;
    api.fill_ms = cuda_fill_ms;
    api.link = replay_link;
    api.unlink = replay_unlink;
    api.replay = replay_run;
    api.launch = replay_launch;
    api.land = replay_land;
    api.time_us = time_us;
    api.mark = replay_mark;
    api.marks = replay_marks;
    api.probe = probe;
    api.lost = lost;
    api.pci = pci;
    return abi == BACKEND_ABI ? &api : NULL;
}
