/* runtime.cpp - fibres, the order in which they run, and the few functions of the CUDA runtime that the backend uses. Work
 * is queued and runs when the host waits, looks or polls (or, by chance, at once): a missing wait shows. */
#include "cuda_emu.h"
#include "emu.h"
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vector>
#if defined(EMU_ASAN)
#include <sanitizer/asan_interface.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

enum {
    LANES = 1024,
    NOT_STARTED = -1,
    STACK = 128 << 10,
    STACK_TOP = 16 << 10,
    SHARED_ROOM = 227 << 10,
    SHARED_PLAIN = 48 << 10,
    PENDING = 128,
    ALIGN = 256
};

/* What a block may ask for: 227 KiB (9.0); EMU_SHARED_KIB=99: as 8.6 and 8.9 have it. */
static int shared_most() {
    static const char *const text = getenv("EMU_SHARED_KIB");
    static const int kib = text ? atoi(text) : 0;
    return kib > 0 && kib < SHARED_ROOM >> 10 ? kib << 10 : (int)SHARED_ROOM;
}

/* ---- fibres ---- */
namespace emu {
lane *me;
uint3 bid;
dim3 grid, block;
char *smem;
} // namespace emu
using emu::lane;

static lane lanes[LANES];
static struct { /* a bit a lane: what each waits for */
    unsigned ready, at_warp, at_block, done;
} warp[LANES / 32];
static char *stacks;
static unsigned spare[LANES], spares; /* stacks that no lane is on, the warmest one last */
static const char *fault_text;
static const std::function<void()> *body;
static uint64_t dice = 1;
static unsigned roll(unsigned n) { /* xorshift64* */
    dice ^= dice >> 12, dice ^= dice << 25, dice ^= dice >> 27;
    return (unsigned)((dice * 2685821657736338717u >> 33) % n);
}

#if defined(__x86_64__)
/* Swaps stacks in line, and jumps: a ret would be predicted to go where the other side was called from. The compiler
 * saves what it needs; what it may keep below the stack's end is stepped over. */
static inline __attribute__((always_inline)) void swap_stacks(void **from, void *to) {
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n"
                     "pushq %%rbp\n"
                     "leaq 1f(%%rip), %%rax\n"
                     "pushq %%rax\n"
                     "movq %%rsp, (%[from])\n"
                     "movq %[to], %%rsp\n"
                     "popq %%rax\n"
                     "jmpq *%%rax\n"
                     "1:\n"
                     "popq %%rbp\n"
                     "leaq 128(%%rsp), %%rsp\n"
                     : [from] "+D"(from), [to] "+S"(to)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
                       "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                       "xmm13", "xmm14", "xmm15", "memory", "cc");
}
static void *sp[LANES], *scheduler_sp; /* of each stack */
static void to_lane(int i) { swap_stacks(&scheduler_sp, sp[i]); }
static void to_scheduler(int i) { swap_stacks(&sp[i], scheduler_sp); }
static void prepare(int i, void (*entry)()) {
    void **top =
        (void **)(stacks + (size_t)(i + 1) * STACK - i % 61 * 192); /* or all of them share a few cache lines */
    *--top = nullptr;                                               /* so that the stack is aligned as behind a call */
    *--top = (void *)entry;
    sp[i] = top;
}
#else
static ucontext_t context[LANES], scheduler_context;
static void to_lane(int i) { swapcontext(&scheduler_context, &context[i]); }
static void to_scheduler(int i) { swapcontext(&context[i], &scheduler_context); }
static void prepare(int i, void (*entry)()) {
    getcontext(&context[i]);
    context[i].uc_stack.ss_sp = stacks + (size_t)i * STACK;
    context[i].uc_stack.ss_size = STACK;
    context[i].uc_link = nullptr;
    makecontext(&context[i], entry, 0);
}
#endif
#if defined(EMU_ASAN)
/* The last frames of a lane that has ended never returned; after a fault (whole), none of a lane's did. */
static void clean_stack(unsigned i, bool whole) {
    const size_t top = whole ? STACK : STACK_TOP;
    __asan_unpoison_memory_region(stacks + (size_t)(i + 1) * STACK - top, top);
}
#else
static void clean_stack(unsigned, bool) {}
#endif
static void leave(unsigned &waiting) { /* waiting: of the lane's warp */
    lane *const self = emu::me;
    const unsigned bit = 1u << self->lin % 32;
    warp[self->lin / 32].ready &= ~bit;
    waiting |= bit;
    to_scheduler(self->stack);
}
static void entry() {
    (*body)();
    leave(warp[emu::me->lin / 32].done);
}
/* A stack is taken when a lane starts and given back when it ends: lanes that never wait share one. */
static void resume(unsigned i) {
    lane *const l = emu::me = &lanes[i];
    if (l->stack == NOT_STARTED) {
        l->stack = (int)spare[--spares];
        clean_stack((unsigned)l->stack, false);
        prepare(l->stack, entry);
    }
    to_lane(l->stack);
    if (warp[i / 32].done >> i % 32 & 1) spare[spares++] = (unsigned)l->stack;
}
namespace emu {
void meet_block() { leave(warp[me->lin / 32].at_block); }
void meet_warp(unsigned mask, meeting kind) {
    me->mask = mask;
    me->kind = kind;
    leave(warp[me->lin / 32].at_warp);
}
} // namespace emu
static void fault(const char *why) {
    if (!fault_text) fprintf(stderr, "cuda-emu: %s (block %u,%u,%u)\n", why, emu::bid.x, emu::bid.y, emu::bid.z);
    fault_text = why;
    if (getenv("EMU_ABORT")) abort();
}

/* ---- what a meeting does ---- */
static float number(uint32_t pair, int high, bool bf16) {
    const uint16_t h = (uint16_t)(high ? pair >> 16 : pair);
    return bf16 ? bf16_to_f32(h) : f16_to_f32(h);
}
static void multiply(lane *w, bool bf16) {
    float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 2; i++) {
            const int g = l / 4, k = l % 4 * 2 + i;
            a[g][k] = number(w[l].frag[0], i, bf16);
            a[g + 8][k] = number(w[l].frag[1], i, bf16);
            a[g][k + 8] = number(w[l].frag[2], i, bf16);
            a[g + 8][k + 8] = number(w[l].frag[3], i, bf16);
            b[k][g] = number(w[l].frag[4], i, bf16);
            b[k + 8][g] = number(w[l].frag[5], i, bf16);
        }
    for (int g = 0; g < 16; g++) {
        float c[8] = { 0 };
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++) c[n] += a[g][k] * b[k][n];
        for (int n = 0; n < 8; n++) w[g % 8 * 4 + n / 2].c[n % 2 + g / 8 * 2] += c[n];
    }
}
static void matrices(lane *w, bool trans) {
    for (int i = 0; i < 4; i++)
        for (int l = 0; l < 32; l++) {
            uint16_t pair[2];
            for (int k = 0; k < 2; k++) {
                const int r = trans ? l % 4 * 2 + k : l / 4, c = trans ? l / 4 : l % 4 * 2 + k;
                memcpy(&pair[k], (const char *)w[8 * i + r].row + 2 * c, 2);
            }
            w[l].frag[i] = pair[0] | (uint32_t)pair[1] << 16;
        }
}
#define EACH_LANE(i, set)                                                                                              \
    for (unsigned rest_ = (set), i; rest_ && (i = (unsigned)__builtin_ctz(rest_), 1); rest_ &= rest_ - 1)
static void meet(lane *w, unsigned n, unsigned mask) {
    const int kind = w[__builtin_ctz(mask)].kind;
    unsigned ballot = 0;
    EACH_LANE(i, mask) {
        if (w[i].kind != kind) return fault("lanes of one warp wait for different things");
        if (kind == emu::SHUFFLE) {
            const unsigned from = w[i].from;
            if (!(mask >> from & 1)) return fault("a shuffle reads a lane that is absent");
            memcpy(w[i].result, w[from].value, sizeof w[i].result);
        } else if (kind == emu::BALLOT)
            ballot |= (unsigned)(w[i].value[0] != 0) << i;
        else if ((kind == emu::LDMATRIX || kind == emu::LDMATRIX_TRANS) && (uintptr_t)w[i].row % 16)
            return fault("ldmatrix: misaligned row");
    }
    if (kind >= emu::MMA_F16 && n < 32) return fault("mma by less than a warp");
    if (kind == emu::MMA_F16 || kind == emu::MMA_BF16) multiply(w, kind == emu::MMA_BF16);
    if (kind == emu::LDMATRIX || kind == emu::LDMATRIX_TRANS) matrices(w, kind == emu::LDMATRIX_TRANS);
    if (kind == emu::BALLOT) EACH_LANE(i, mask) w[i].result[0] = ballot;
}

/* ---- one block ---- */
struct pending {
    void *to;
    const void *from;
    int group, bytes;
};
static pending copy_of[LANES][PENDING];
static int copies[LANES], groups[LANES];
static void run_copies(unsigned l, int done_before) {
    int left = 0;
    for (int i = 0; i < copies[l]; i++) {
        if (copy_of[l][i].group < done_before)
            memcpy(copy_of[l][i].to, copy_of[l][i].from, (size_t)copy_of[l][i].bytes);
        else
            copy_of[l][left++] = copy_of[l][i];
    }
    copies[l] = left;
}
void emu_cp_async(void *shared, const void *global, int bytes) {
    const unsigned l = emu::me->lin;
    if ((uintptr_t)shared % (unsigned)bytes || (uintptr_t)global % (unsigned)bytes)
        return fault("cp.async: misaligned");
    if (copies[l] == PENDING) return fault("cp.async: too many in flight for the emulator");
    memset(shared, 0xff, (size_t)bytes);
    copy_of[l][copies[l]++] = { shared, global, groups[l], bytes };
}
void emu_cp_commit() { groups[emu::me->lin]++; }
void emu_cp_wait(int n) { run_copies(emu::me->lin, groups[emu::me->lin] - n); }
uint4 emu_load16(const void *p) {
    uint4 v = { 0, 0, 0, 0 };
    if ((uintptr_t)p % 16)
        fault("a 16-byte load is misaligned");
    else
        memcpy(&v, p, 16);
    return v;
}

static bool run_warp(unsigned k, unsigned all) { /* all: its lanes */
    const unsigned ready = warp[k].ready, from = ready ? roll(32) : 0;
    const bool up = roll(2);
    lane *const w = &lanes[32 * k];
    for (unsigned part = 0; part < 2; part++) { /* up or down, from any lane on */
        unsigned some = ready & ((part == 0) == up ? ~0u << from : ~(~0u << from));
        while (some && !fault_text) {
            const unsigned i = (unsigned)(up ? __builtin_ctz(some) : 31 - __builtin_clz(some));
            some &= ~(1u << i);
            resume(32 * k + i);
        }
    }
    bool met = false;
    for (unsigned left = warp[k].at_warp; left && !fault_text;) {
        const unsigned mask = w[__builtin_ctz(left)].mask, wanted = mask & all;
        unsigned there = 0;
        EACH_LANE(i, left) there |= (unsigned)(w[i].mask == mask) << i;
        left &= ~there;
        if (wanted & warp[k].done) fault("a lane has returned that others wait for");
        if ((there & wanted) == wanted && !fault_text) {
            meet(w, (unsigned)__builtin_popcount(all), wanted);
            warp[k].at_warp &= ~wanted;
            warp[k].ready |= wanted;
            met = true;
        }
    }
    return ready || met;
}
static unsigned lanes_of(unsigned k, unsigned n) { return n - 32 * k < 32 ? (1u << (n - 32 * k)) - 1 : ~0u; }
static void prepare_lanes(dim3 b) { /* for all blocks of a kernel */
    const unsigned n = b.x * b.y * b.z;
    for (unsigned i = 0; i < n; i++) {
        lanes[i].lin = i;
        lanes[i].tid = { i % b.x, i / b.x % b.y, i / b.x / b.y };
    }
}
static void run_block() {
    const unsigned n = emu::block.x * emu::block.y * emu::block.z, warps = (n + 31) / 32;
    unsigned order[LANES / 32];
    if (spares != LANES) /* a fault left lanes where they were */
        for (spares = 0; spares < LANES; spares++) {
            spare[spares] = LANES - 1 - spares;
            clean_stack(spare[spares], true);
        }
    for (unsigned i = 0; i < n; i++) {
        lanes[i].stack = NOT_STARTED;
        copies[i] = groups[i] = 0;
    }
    for (unsigned w = 0; w < warps; w++) {
        order[w] = w;
        warp[w] = { lanes_of(w, n), 0, 0, 0 };
    }
    while (!fault_text) {
        bool ran = false;
        for (unsigned w = warps; w > 1; w--) std::swap(order[w - 1], order[roll(w)]);
        for (unsigned w = 0; w < warps; w++) /* each as far ahead as it can go: the harshest legal order */
            while (!fault_text && run_warp(order[w], lanes_of(order[w], n))) ran = true;
        unsigned done = 0, waiting = 0;
        for (unsigned w = 0; w < warps; w++) {
            done += (unsigned)__builtin_popcount(warp[w].done);
            waiting += (unsigned)__builtin_popcount(warp[w].at_block);
        }
        if (done == n) return;
        if (waiting == n)
            for (unsigned w = 0; w < warps; w++) std::swap(warp[w].ready, warp[w].at_block);
        else if (waiting + done == n)
            fault("__syncthreads after some threads of the block have returned");
        else if (!ran)
            fault("divergent barrier: threads of one block wait at different places");
    }
}

/* ---- memory ---- */
struct allocation {
    char *map, *p;
    size_t map_bytes, bytes;
};
static std::recursive_mutex lock;
#define LOCKED std::lock_guard<std::recursive_mutex> locked(lock)
static std::vector<allocation> device, pinned;
static size_t page() { return (size_t)sysconf(_SC_PAGESIZE); }
static allocation map_guarded(size_t bytes) {
    const size_t inside = ((bytes + ALIGN - 1) / ALIGN * ALIGN + page() - 1) / page() * page();
    char *map =
        (char *)mmap(nullptr, inside + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return { nullptr, nullptr, 0, 0 };
    mprotect(map + page(), inside, PROT_READ | PROT_WRITE);
    return { map, map + page() + inside - (bytes + ALIGN - 1) / ALIGN * ALIGN, inside + 2 * page(), bytes };
}
static bool within(const std::vector<allocation> &v, const void *p) {
    for (const allocation &a : v)
        if ((const char *)p >= a.p && (const char *)p < a.p + a.bytes) return true;
    return false;
}
/* With EMU_GUARD set the host may not touch device memory: it is there only while device work runs. Costs a system call
 * for each allocation and a visit of all its pages, twice for each batch of work. */
static void show_device(bool on) {
    static const bool guard = getenv("EMU_GUARD") != nullptr;
    if (!guard) return;
    for (const allocation &a : device)
        mprotect(a.map + page(), a.map_bytes - 2 * page(), on ? PROT_READ | PROT_WRITE : PROT_NONE);
}

/* ---- errors, counts, facts ---- */
static cudaError_t last, stuck;
static emu_counts counts;
static struct {
    const char *call;
    int after, code;
} planned[8];
static size_t said_free, said_total, used;
static int devices = 1, cc_major = 9, cc_minor = 0, driver = 13000;
static bool is_sticky(int c) { return (c >= 700 && c != 701 && c < 720) || c == 214 || c == 999; }
static cudaError_t fail(int code) {
    if (code == cudaSuccess) return cudaSuccess;
    if (is_sticky(code)) stuck = (cudaError_t)code;
    return last = (cudaError_t)code;
}
/* Where no test is in this process: EMU_FAULT names a file; when it appears, the next kernel ends with the code in it. */
static int fault_of_file() {
    static const char *const path = getenv("EMU_FAULT");
    FILE *f = path ? fopen(path, "r") : nullptr;
    int code = 0;
    if (!f) return 0;
    if (fscanf(f, "%d", &code) != 1) code = 0;
    fclose(f);
    if (code) unlink(path);
    return code;
}
int emu::injected(const char *call) {
    if (!strcmp(call, "kernel"))
        if (const int code = fault_of_file()) return code;
    for (auto &p : planned)
        if (p.call && !strcmp(p.call, call) && --p.after == 0) {
            p.call = nullptr;
            return p.code;
        }
    return 0;
}
#define CALL(name)                                                                                                     \
    LOCKED;                                                                                                            \
    if (stuck) return last = stuck;                                                                                    \
    if (const int injected_ = emu::injected(name)) return fail(injected_)

/* ---- streams ---- */
struct task {
    std::function<void()> run;
    dim3 grid, block;
    size_t shared;
    bool kernel;
};
typedef std::shared_ptr<const task> work; /* a graph's tasks are queued again and again */
struct emu_graph {
    std::vector<work> tasks;
};
struct emu_event {
    bool recorded;
    long at; /* of the tasks of its stream */
    emu_stream *stream;
    double us;
};
struct emu_stream {
    std::vector<work> queue;
    size_t head;
    long done, put;
    emu_graph *capture;
    bool spoiled;
};
static std::vector<emu_stream *> streams;
static std::vector<std::pair<const void *, int>> allowed;
static emu_stream plain;
static emu_stream *of(cudaStream_t s) { return s ? s : &plain; }

static void poison_shared(size_t bytes) {
    static allocation room;
    if (!room.map) room = map_guarded(SHARED_ROOM + ALIGN);
    emu::smem = room.p + room.bytes - (bytes + 127) / 128 * 128;
    emu::smem = (char *)((uintptr_t)emu::smem / 128 * 128);
    for (size_t i = 0; i + 4 <= bytes; i += 4) memcpy(emu::smem + i, "\xad\xde\xc0\x7f", 4);
}
static void run_kernel(const task &t) {
    if (!stacks) {
        stacks = (char *)mmap(nullptr, (size_t)LANES * STACK, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) abort();
    }
    body = &t.run;
    emu::grid = t.grid;
    emu::block = t.block;
    prepare_lanes(t.block);
    const unsigned n = t.grid.x * t.grid.y * t.grid.z, from = roll(n), step = n > 2 && roll(2) ? n - 1 : 1;
    for (unsigned k = 0; k < n && !fault_text; k++) { /* in some order: from a random block up or down */
        const unsigned i = (unsigned)((from + (uint64_t)k * step) % n);
        emu::bid = { i % t.grid.x, i / t.grid.x % t.grid.y, i / t.grid.x / t.grid.y };
        poison_shared(t.shared);
        run_block();
    }
    if (fault_text) fail(cudaErrorLaunchFailure);
    fault_text = nullptr;
}
static void run_one(emu_stream *s) {
    const work t = s->queue[s->head++];
    if (s->head == s->queue.size()) s->queue.clear(), s->head = 0;
    s->done++;
    if (stuck) return;
    if (t->kernel) {
        if (const int code = emu::injected("kernel"))
            fail(code);
        else
            run_kernel(*t);
    } else
        t->run();
}
static void run_some(emu_stream *s, long upto) { /* tasks of the stream, by their number */
    if (s->done >= upto || s->head == s->queue.size()) return;
    show_device(true);
    while (s->done < upto && s->head < s->queue.size()) run_one(s);
    show_device(false);
}
static void drain(emu_stream *s) { run_some(s, s->put); }
static cudaError_t put(cudaStream_t to, const work &t) {
    emu_stream *s = of(to);
    if (s->capture) {
        s->capture->tasks.push_back(t);
        return cudaSuccess;
    }
    s->queue.push_back(t);
    s->put++;
    if (roll(16) == 0) drain(s);
    return cudaSuccess;
}
static cudaError_t put(cudaStream_t to, const std::function<void()> &f) {
    return put(to, std::make_shared<const task>(task{ f, {}, {}, 0, false }));
}
static bool unfit_for_capture() { /* of any stream: synchronising calls break a capture */
    for (emu_stream *s : streams)
        if (s->capture) return s->spoiled = true;
    return false;
}
namespace emu {
void enqueue(cudaStream_t s, const std::function<void()> &f, dim3 g, dim3 b, size_t shared, const void *kernel) {
    LOCKED;
    int most = SHARED_PLAIN;
    for (auto &a : allowed)
        if (a.first == kernel) most = a.second;
    const unsigned n = b.x * b.y * b.z;
    counts.kernels++;
    if (stuck) {
        last = stuck;
        return;
    }
    if (!n || n > LANES || !g.x || !g.y || !g.z || g.y > 65535 || g.z > 65535)
        fail(cudaErrorInvalidConfiguration);
    else if ((int)shared > most || (int)shared > shared_most())
        fail(cudaErrorInvalidValue);
    else if (const int code = emu::injected("launch"))
        fail(code);
    else
        put(s, std::make_shared<const task>(task{ f, g, b, shared, true }));
}
void host_task(cudaStream_t s, const std::function<void()> &f) {
    LOCKED;
    put(s, f);
}
cudaError_t allow_shared(const void *kernel, int bytes) {
    CALL("cudaFuncSetAttribute");
    if (bytes > shared_most()) return fail(cudaErrorInvalidValue);
    for (auto &a : allowed)
        if (a.first == kernel) return a.second = bytes, cudaSuccess;
    allowed.push_back({ kernel, bytes });
    return cudaSuccess;
}
} // namespace emu
void spin_wait() {
    LOCKED;
    for (emu_stream *s : streams)
        if (s->head < s->queue.size()) return run_some(s, s->done + 8);
    sched_yield();
}
static double now_us() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}
uint64_t now_ns() { return (uint64_t)(now_us() * 1e3); }

/* ---- the runtime ---- */
cudaError_t cudaGetDeviceCount(int *n) {
    CALL("cudaGetDeviceCount");
    if (driver < 13000) return fail(cudaErrorInsufficientDriver);
    *n = devices;
    return devices ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int i) {
    CALL("cudaSetDevice");
    return i < devices ? cudaSuccess : fail(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int *i) { return *i = 0, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    CALL("cudaGetDeviceProperties");
    *p = cudaDeviceProp{};
    snprintf(p->name, sizeof p->name, "Emulated GPU");
    p->totalGlobalMem = (size_t)8 << 30;
    p->sharedMemPerBlockOptin = (size_t)shared_most();
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->multiProcessorCount = 4;
    p->major = cc_major;
    p->minor = cc_minor;
    p->l2CacheSize = 32 << 20;
    p->pciDeviceID = 0x1e;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v) { return *v = driver, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { return *v = 13000, cudaSuccess; }
static size_t total_bytes() { return said_total ? said_total : (size_t)8 << 30; }
static size_t free_bytes() { return said_total ? said_free : total_bytes() > used ? total_bytes() - used : 0; }
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    CALL("cudaMemGetInfo");
    *free = free_bytes();
    *total = total_bytes();
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **p, size_t bytes) {
    CALL("cudaMalloc");
    counts.mallocs++;
    *p = nullptr;
    if (unfit_for_capture()) return fail(cudaErrorStreamCaptureUnsupported);
    if (!bytes) return cudaSuccess;
    if (bytes > free_bytes()) return fail(cudaErrorMemoryAllocation);
    const allocation a = map_guarded(bytes);
    if (!a.map) return fail(cudaErrorMemoryAllocation);
    memset(a.p, 0xff, bytes);
    device.push_back(a);
    used += bytes;
    if (said_total) said_free -= bytes;
    show_device(false);
    *p = a.p;
    return cudaSuccess;
}
static cudaError_t give_back(std::vector<allocation> &v, void *p) {
    for (size_t i = 0; p && i < v.size(); i++)
        if (v[i].p == p) {
            munmap(v[i].map, v[i].map_bytes);
            if (&v == &device) used -= v[i].bytes, said_free += said_total ? v[i].bytes : 0;
            v.erase(v.begin() + (long)i);
            return cudaSuccess;
        }
    return p ? fail(cudaErrorInvalidValue) : cudaSuccess;
}
static void drain_all() {
    for (emu_stream *s : streams) drain(s);
    drain(&plain);
}
cudaError_t cudaFree(void *p) {
    LOCKED;
    drain_all();
    return give_back(device, p);
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned) {
    CALL("cudaHostAlloc");
    counts.host_allocs++;
    const allocation a = map_guarded(bytes);
    if (!a.map) return fail(cudaErrorMemoryAllocation);
    memset(a.p, 0xff, bytes);
    pinned.push_back(a);
    *p = a.p;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) {
    LOCKED;
    drain_all();
    return give_back(pinned, p);
}
cudaError_t cudaHostGetDevicePointer(void **d, void *h, unsigned) { return *d = h, cudaSuccess; }
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t s) {
    CALL("cudaMemcpyAsync");
    const bool in = within(device, to), out = within(device, from);
    counts.copies++;
    if ((kind == cudaMemcpyHostToDevice && (!in || out)) || (kind == cudaMemcpyDeviceToHost && (in || !out)) ||
        (kind == cudaMemcpyDeviceToDevice && (!in || !out)))
        return fail(cudaErrorInvalidValue);
    const bool slow_in = !out && !within(pinned, from), slow_out = !in && !within(pinned, to);
    if ((slow_in || slow_out) && of(s)->capture) return of(s)->spoiled = true, fail(cudaErrorStreamCaptureUnsupported);
    if (!n) return stuck; /* and no pointer is looked at */
    if (slow_in) {        /* pageable memory is staged at once */
        const auto copy = std::make_shared<const std::vector<char>>((const char *)from, (const char *)from + n);
        return put(s, [=] { memcpy(to, copy->data(), n); });
    }
    put(s, [=] { memcpy(to, from, n); });
    if (slow_out) drain(of(s));
    return stuck;
}
cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t s) {
    CALL("cudaMemsetAsync");
    return put(s, [=] { memset(p, v, n); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
    CALL("cudaStreamCreateWithFlags");
    *s = new emu_stream{};
    streams.push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    LOCKED;
    drain(s);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + (long)i), i--;
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    CALL("cudaStreamSynchronize");
    counts.syncs++;
    if (unfit_for_capture()) return fail(cudaErrorStreamCaptureUnsupported);
    drain(of(s));
    return stuck;
}
cudaError_t cudaDeviceSynchronize() {
    CALL("cudaDeviceSynchronize");
    counts.syncs++;
    if (unfit_for_capture()) return fail(cudaErrorStreamCaptureUnsupported);
    drain_all();
    return stuck;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
    CALL("cudaStreamQuery");
    run_some(of(s), of(s)->done + 1);
    return stuck ? stuck : of(s)->head < of(s)->queue.size() ? fail(cudaErrorNotReady) : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t e, unsigned) {
    LOCKED;
    if (e->recorded) run_some(e->stream, e->at);
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    CALL("cudaEventCreate");
    *e = new emu_event{};
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    LOCKED;
    drain_all(); /* a queued record may still point to it */
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    CALL("cudaEventRecord");
    e->recorded = true;
    e->stream = of(s);
    put(s, [=] { e->us = now_us(); });
    e->at = of(s)->put;
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    CALL("cudaEventQuery");
    if (e->recorded) run_some(e->stream, e->stream->done < e->at ? e->stream->done + 1 : 0);
    return stuck ? stuck : e->recorded && e->stream->done < e->at ? fail(cudaErrorNotReady) : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    CALL("cudaEventSynchronize");
    counts.syncs++;
    if (e->recorded) run_some(e->stream, e->at);
    return stuck;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
    LOCKED;
    if (!a->recorded || !b->recorded) return fail(cudaErrorInvalidResourceHandle);
    if (a->stream->done < a->at || b->stream->done < b->at) return cudaErrorNotReady;
    *ms = (float)((b->us - a->us) * 1e-3);
    return cudaSuccess;
}
cudaError_t cudaGetLastError() {
    LOCKED;
    const cudaError_t e = last;
    last = stuck;
    return e;
}
cudaError_t cudaPeekAtLastError() { return last; }
const char *cudaGetErrorString(cudaError_t) { return "an emulated error"; }
const char *cudaGetErrorName(cudaError_t c) {
    static char text[32];
    snprintf(text, sizeof text, "cudaError %d", (int)c);
    return text;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
    CALL("cudaStreamBeginCapture");
    s->capture = new emu_graph{};
    s->spoiled = false;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) {
    LOCKED;
    *g = nullptr;
    if (s->spoiled || stuck) {
        delete s->capture;
        s->capture = nullptr;
        return fail(stuck ? stuck : cudaErrorStreamCaptureInvalidated);
    }
    *g = s->capture;
    s->capture = nullptr;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long) {
    CALL("cudaGraphInstantiate");
    *e = new emu_graph(*g);
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    CALL("cudaGraphUpload");
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s) {
    CALL("cudaGraphLaunch");
    counts.graphs++;
    for (const work &t : g->tasks) put(s, t);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    delete g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) {
    delete g;
    return cudaSuccess;
}

/* ---- for tests ---- */
#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT void emu_seed(unsigned long seed) { dice = seed * 2 + 1; }
EXPORT void emu_reset_counts() { counts = emu_counts{}; }
EXPORT emu_counts emu_count() { return counts; }
EXPORT void emu_fail(const char *call, int after, int code) {
    for (auto &p : planned)
        if (!p.call) {
            p = { call, after, code };
            return;
        }
}
EXPORT void emu_memory(size_t free, size_t total) {
    said_free = free;
    said_total = total;
}
EXPORT void emu_device(int count, int major, int minor, int version) {
    devices = count;
    cc_major = major;
    cc_minor = minor;
    driver = version;
}
EXPORT void emu_recover() {
    if (stuck) last = cudaSuccess;
    stuck = cudaSuccess;
    for (auto &p : planned) p.call = nullptr;
    for (emu_stream *s : streams) s->queue.clear(), s->head = 0, s->done = s->put;
}
