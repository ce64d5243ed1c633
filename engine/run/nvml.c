/* The prototypes, structs and numbers below are those of NVIDIA's NVML API reference: nothing of its header is needed. */
#include "nvml.h"
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long u64;
struct pci {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char text[32];
};
struct memory {
    u64 total, free, used;
};
struct process {
    unsigned pid;
    u64 used; /* all ones: not told */
    unsigned instance[2];
};
_Static_assert(sizeof(struct pci) == 68 && sizeof(struct memory) == 24 && sizeof(struct process) == 24, "as NVML's");
enum { CLOCK_SM = 1, CLOCK_MEMORY, P2P_READ = 0, P2P_WRITE, P2P_NVLINK, ECC_UNCORRECTED = 1, ECC_SINCE_LOAD = 0 };

typedef int number_fn(void *card, unsigned *out);
typedef int long_fn(void *card, u64 *out);
typedef int kind_fn(void *card, int kind, unsigned *out);
typedef int processes_fn(void *card, unsigned *n, struct process *out);
/* Each gives 0 or an error's number. Of what the installed version lacks the pointer is NULL. */
struct nvml {
    int (*init)(void), (*count)(unsigned *), (*handle)(unsigned, void **);
    const char *(*error)(int);
    int (*driver)(char *, unsigned), (*cuda)(int *), (*name)(void *, char *, unsigned), (*pci)(void *, struct pci *);
    int (*memory)(void *, struct memory *), (*busy)(void *, unsigned[2]);
    kind_fn *clock, *clock_max, *celsius;
    number_fn *power, *power_limit;
    long_fn *energy, *throttle, *throttle_old;
    int (*ecc)(void *, int *now, int *pending), (*ecc_errors)(void *, int, int, u64 *);
    processes_fn *compute, *graphics;
    int (*ancestor)(void *, void *, int *), (*p2p)(void *, void *, int, int *);
};
#define SYMBOL(member, symbol)                                                                                         \
    { "nvml" symbol, offsetof(struct nvml, member) }
/* clang-format off */
static const struct { const char *name; size_t at; } symbols[] = {
    SYMBOL(init, "Init_v2"),
    SYMBOL(count, "DeviceGetCount_v2"),
    SYMBOL(handle, "DeviceGetHandleByIndex_v2"), /* these three must be there */
    SYMBOL(error, "ErrorString"),
    SYMBOL(driver, "SystemGetDriverVersion"),
    SYMBOL(cuda, "SystemGetCudaDriverVersion_v2"),
    SYMBOL(name, "DeviceGetName"),
    SYMBOL(pci, "DeviceGetPciInfo_v3"),
    SYMBOL(memory, "DeviceGetMemoryInfo"),
    SYMBOL(busy, "DeviceGetUtilizationRates"),
    SYMBOL(clock, "DeviceGetClockInfo"),
    SYMBOL(clock_max, "DeviceGetMaxClockInfo"),
    SYMBOL(celsius, "DeviceGetTemperature"),
    SYMBOL(power, "DeviceGetPowerUsage"),
    SYMBOL(power_limit, "DeviceGetEnforcedPowerLimit"),
    SYMBOL(energy, "DeviceGetTotalEnergyConsumption"),
    SYMBOL(throttle, "DeviceGetCurrentClocksEventReasons"),
    SYMBOL(throttle_old, "DeviceGetCurrentClocksThrottleReasons"),
    SYMBOL(ecc, "DeviceGetEccMode"),
    SYMBOL(ecc_errors, "DeviceGetTotalEccErrors"),
    SYMBOL(compute, "DeviceGetComputeRunningProcesses_v3"),
    SYMBOL(graphics, "DeviceGetGraphicsRunningProcesses_v3"),
    SYMBOL(ancestor, "DeviceGetTopologyCommonAncestor"),
    SYMBOL(p2p, "DeviceGetP2PStatus"),
};
/* clang-format on */

/* ---- the library ---- */
static const char *error_text(const struct nvml *n, int code) {
    const char *text = n->error ? n->error(code) : NULL;
    return text ? text : "an error without a name";
}
static bool load(struct nvml *n, char *why, size_t cap) {
    const char *asked = getenv("JAEDA_NVML"), *path = asked && *asked ? asked : "libnvidia-ml.so.1";
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!so) return snprintf(why, cap, "%.100s cannot be opened", path), false;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *f = dlsym(so, symbols[i].name);
        memcpy((char *)n + symbols[i].at, &f, sizeof f);
    }
    const bool known = n->init && n->count && n->handle;
    const int rc = known ? n->init() : 0;
    if (known && !rc) return true;
    snprintf(why, cap, "%.100s says: %.80s", path, known ? error_text(n, rc) : "another version");
    dlclose(so);
    return false;
}
/* NULL: why. A failure is tried again at the next call: a driver can be loaded meanwhile. */
static const struct nvml *library(char *why, size_t cap) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct nvml nvml;
    static bool loaded;
    pthread_mutex_lock(&lock);
    if (!loaded) loaded = load(&nvml, why, cap);
    const bool there = loaded;
    pthread_mutex_unlock(&lock);
    return there ? &nvml : NULL;
}
int nvml_count(char *why, size_t cap) {
    unsigned n = 0;
    const struct nvml *l = library(why, cap);
    const int rc = l ? l->count(&n) : 0;
    if (rc) snprintf(why, cap, "NVML says: %.80s", error_text(l, rc));
    return !l || rc ? -1 : (int)n;
}

/* ---- one card ---- */
static const struct engine_gpu absent = { .memory_bytes = NAN,
                                          .used_bytes = NAN,
                                          .free_bytes = NAN,
                                          .busy_percent = NAN,
                                          .memory_busy_percent = NAN,
                                          .sm_mhz = NAN,
                                          .sm_max_mhz = NAN,
                                          .memory_mhz = NAN,
                                          .memory_max_mhz = NAN,
                                          .power_w = NAN,
                                          .power_limit_w = NAN,
                                          .celsius = NAN,
                                          .energy_j = NAN,
                                          .ecc_errors = NAN,
                                          .processes = -1 };
static double number(number_fn *f, void *card) {
    unsigned v;
    return f && !f(card, &v) ? v : NAN;
}
static double of_kind(kind_fn *f, void *card, int kind) {
    unsigned v;
    return f && !f(card, kind, &v) ? v : NAN;
}
static double energy_j(const struct nvml *n, void *card) {
    u64 mj;
    return n->energy && !n->energy(card, &mj) ? (double)mj * 1e-3 : NAN;
}
/* As lspci prints it: without the domain where that is 0. */
static void place(const struct nvml *n, void *card, char out[24]) {
    struct pci p;
    out[0] = 0;
    if (!n->pci || n->pci(card, &p)) return;
    if (p.domain)
        snprintf(out, 24, "%04x:%02x:%02x.0", p.domain, p.bus & 255, p.device & 31);
    else
        snprintf(out, 24, "%02x:%02x.0", p.bus & 255, p.device & 31);
}
__attribute__((format(printf, 3, 4))) static void append(char *out, size_t cap, const char *fmt, ...) {
    size_t n = strlen(out);
    va_list ap;
    if (n) n += (size_t)snprintf(out + n, cap - n, ", ");
    if (n >= cap) return;
    va_start(ap, fmt);
    vsnprintf(out + n, cap - n, fmt, ap);
    va_end(ap);
}
static void throttle(const struct nvml *n, void *card, char *out, size_t cap) {
    static const char *const reason[] = { NULL,
                                          "clocks set by an application",
                                          "software power cap",
                                          "hardware slowdown",
                                          "clocks held together by sync boost",
                                          "software thermal limit",
                                          "hardware thermal limit",
                                          "power brake",
                                          "display clock setting" };
    enum { IDLE = 1, REASONS = sizeof reason / sizeof *reason };
    u64 bits;
    if ((!n->throttle || n->throttle(card, &bits)) && (!n->throttle_old || n->throttle_old(card, &bits))) return;
    for (int i = 1; i < REASONS; i++)
        if (bits >> i & 1) append(out, cap, "%s", reason[i]);
    if (bits >> REASONS) append(out, cap, "reasons 0x%llx", bits >> REASONS << REASONS);
    if (!*out) snprintf(out, cap, bits & IDLE ? "nothing (idle)" : "nothing");
}
static void add_process(struct engine_gpu *g, const struct process *p) {
    char path[40];
    for (int i = 0; i < g->processes && i < ENGINE_GPU_PROCESSES; i++)
        if (g->process[i].pid == (int)p->pid) return; /* computes and draws */
    if (g->processes++ >= ENGINE_GPU_PROCESSES) return;
    struct engine_gpu_process *to = &g->process[g->processes - 1];
    to->pid = (int)p->pid;
    to->own = p->pid == (unsigned)getpid();
    to->used_bytes = p->used == ~(u64)0 ? NAN : (double)p->used;
    snprintf(path, sizeof path, "/proc/%u/comm", p->pid);
    FILE *f = fopen(path, "re");
    if (f && fgets(to->name, sizeof to->name, f)) to->name[strcspn(to->name, "\n")] = 0;
    if (f) fclose(f);
}
static void processes(const struct nvml *n, void *card, struct engine_gpu *g) {
    processes_fn *const list[] = { n->compute, n->graphics };
    struct process p[128];
    for (int k = 0; k < 2; k++) {
        unsigned found = sizeof p / sizeof *p;
        if (!list[k] || list[k](card, &found, p)) continue;
        if (g->processes < 0) g->processes = 0;
        for (unsigned i = 0; i < found; i++) add_process(g, &p[i]);
    }
}
/* "GPU 1: direct / host bridge": can one read and write the other's memory, and what lies between them. */
static void peers(const struct nvml *n, unsigned self, unsigned cards, struct engine_gpu *g) {
    static const char *const between[] = { "same board",  "PCIe switch", "PCIe switches",
                                           "host bridge", "same CPU",    "between CPUs" };
    void *a, *b;
    for (unsigned i = 0; i < cards; i++) {
        int level = -1, reads = -1, writes = -1, nvlink = -1;
        if (i == self || n->handle(self, &a) || n->handle(i, &b)) continue;
        if (!n->p2p || n->p2p(a, b, P2P_READ, &reads) || n->p2p(a, b, P2P_WRITE, &writes)) {
            append(g->peers, sizeof g->peers, "GPU %u: not supported", i);
            continue;
        }
        if (n->p2p(a, b, P2P_NVLINK, &nvlink)) nvlink = -1;
        if (!n->ancestor || n->ancestor(a, b, &level)) level = -1;
        append(g->peers, sizeof g->peers, "GPU %u: %s%s%s", i, reads || writes ? "none" : "direct",
               !nvlink || level >= 0 ? " / " : "",
               !nvlink      ? "NVLink"
               : level >= 0 ? between[level / 10 < 6 ? level / 10 : 5]
                            : "");
    }
}
static void memory_of(const struct nvml *n, void *card, struct engine_gpu *g) {
    struct memory m;
    if (!n->memory || n->memory(card, &m)) return;
    g->memory_bytes = (double)m.total;
    g->used_bytes = (double)m.used;
    g->free_bytes = (double)m.free;
}
static void ecc(const struct nvml *n, void *card, struct engine_gpu *g) {
    int now, pending;
    u64 errors;
    if (n->ecc && !n->ecc(card, &now, &pending))
        snprintf(g->ecc, sizeof g->ecc, "%s%s", now ? "on" : "off",
                 !now == !pending ? ""
                 : pending        ? ", on after a reboot"
                                  : ", off after a reboot");
    if (n->ecc_errors && !n->ecc_errors(card, ECC_UNCORRECTED, ECC_SINCE_LOAD, &errors)) g->ecc_errors = (double)errors;
}
static void versions(const struct nvml *n, struct engine_gpu *g) {
    int cuda;
    if (!n->driver || n->driver(g->driver, sizeof g->driver)) g->driver[0] = 0;
    if (n->cuda && !n->cuda(&cuda)) snprintf(g->cuda, sizeof g->cuda, "%d.%d", cuda / 1000 % 1000, cuda % 1000 / 10);
}
static void read_card(const struct nvml *n, unsigned i, unsigned cards, struct engine_gpu *g) {
    void *card;
    unsigned busy[2];
    const int rc = n->handle(i, &card);
    *g = absent;
    versions(n, g);
    if (rc) snprintf(g->name, sizeof g->name, "no answer: %.70s", error_text(n, rc));
    if (rc) return;
    if (!n->name || n->name(card, g->name, sizeof g->name)) g->name[0] = 0;
    place(n, card, g->pci);
    memory_of(n, card, g);
    if (n->busy && !n->busy(card, busy)) g->busy_percent = busy[0], g->memory_busy_percent = busy[1];
    g->sm_mhz = of_kind(n->clock, card, CLOCK_SM);
    g->sm_max_mhz = of_kind(n->clock_max, card, CLOCK_SM);
    g->memory_mhz = of_kind(n->clock, card, CLOCK_MEMORY);
    g->memory_max_mhz = of_kind(n->clock_max, card, CLOCK_MEMORY);
    g->power_w = number(n->power, card) * 1e-3;
    g->power_limit_w = number(n->power_limit, card) * 1e-3;
    g->celsius = of_kind(n->celsius, card, 0);
    g->energy_j = energy_j(n, card);
    throttle(n, card, g->throttle, sizeof g->throttle);
    ecc(n, card, g);
    processes(n, card, g);
    peers(n, i, cards, g);
}

/* ---- all of them ---- */
int nvml_cards(struct engine_gpu *out, int most) {
    char why[200];
    const struct nvml *n = library(why, sizeof why);
    const int cards = n ? nvml_count(why, sizeof why) : 0;
    int i = 0;
    for (; i < cards && i < most; i++) read_card(n, (unsigned)i, (unsigned)cards, &out[i]);
    return i;
}
/* Its number in the driver's order, or -1. */
static int find(const struct nvml *n, const char *pci, void **card) {
    char why[200], at[24];
    const int cards = n && *pci ? nvml_count(why, sizeof why) : 0;
    for (int i = 0; i < cards; i++) {
        if (n->handle((unsigned)i, card)) continue;
        place(n, *card, at);
        if (!strcmp(at, pci)) return i;
    }
    return -1;
}
bool nvml_card(const char *pci, struct engine_gpu *out) {
    char why[200];
    void *card;
    const struct nvml *n = library(why, sizeof why);
    const int i = find(n, pci, &card);
    *out = (struct engine_gpu){ 0 };
    if (i >= 0) read_card(n, (unsigned)i, (unsigned)nvml_count(why, sizeof why), out);
    return i >= 0;
}
double nvml_energy_j(const char *pci) {
    char why[200];
    void *card;
    const struct nvml *n = library(why, sizeof why);
    return find(n, pci, &card) >= 0 ? energy_j(n, card) : NAN;
}
