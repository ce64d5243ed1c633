/* Stands in for libnvidia-ml.so.1: two cards, of which the second tells little. FAKE_NVML_FAIL, "nvmlInit_v2=9
 * nvmlDeviceGetName=15", makes these functions give these errors; FAKE_NVML_CARDS is how many there are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long u64;
enum { NOT_SUPPORTED = 3, INVALID = 2, TOO_SMALL = 7 };
struct pci {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char text[32];
};
struct process {
    unsigned pid;
    u64 used;
    unsigned instance[2];
};
static char cards[2];

static int failure(const char *function) {
    const char *list = getenv("FAKE_NVML_FAIL");
    const char *at = list ? strstr(list, function) : NULL;
    return at && at[strlen(function)] == '=' ? (int)strtol(at + strlen(function) + 1, NULL, 10) : 0;
}
#define FAIL(function)                                                                                                 \
    do {                                                                                                               \
        const int code = failure(function);                                                                            \
        if (code) return code;                                                                                         \
    } while (0)
#define FAIL_OR_SECOND(function)                                                                                       \
    FAIL(function);                                                                                                    \
    if (card != &cards[0]) return NOT_SUPPORTED

int nvmlInit_v2(void) {
    FAIL("nvmlInit_v2");
    return 0;
}
const char *nvmlErrorString(int code) {
    return code == 15 ? "GPU is lost" : code == 9 ? "Driver Not Loaded" : "Failed";
}
int nvmlSystemGetDriverVersion(char *out, unsigned cap) { return snprintf(out, cap, "570.86.15"), 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return *out = 12080, 0; }
int nvmlDeviceGetCount_v2(unsigned *out) {
    FAIL("nvmlDeviceGetCount_v2");
    const char *n = getenv("FAKE_NVML_CARDS");
    return *out = n ? (unsigned)strtoul(n, NULL, 10) : 2, 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **out) {
    FAIL("nvmlDeviceGetHandleByIndex_v2");
    return i < 2 ? *out = &cards[i], 0 : INVALID;
}
int nvmlDeviceGetName(void *card, char *out, unsigned cap) {
    FAIL("nvmlDeviceGetName");
    return snprintf(out, cap, card == &cards[0] ? "NVIDIA A10G" : "NVIDIA Plain"), 0;
}
int nvmlDeviceGetPciInfo_v3(void *card, struct pci *out) {
    FAIL("nvmlDeviceGetPciInfo_v3");
    *out = card == &cards[0] ? (struct pci){ .bus = 0, .device = 0x1e } : (struct pci){ .domain = 1, .bus = 0xaf };
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *card, u64 out[3]) {
    (void)card;
    FAIL("nvmlDeviceGetMemoryInfo");
    return out[0] = 24ull << 30, out[1] = 22ull << 30, out[2] = 2ull << 30, 0;
}
int nvmlDeviceGetUtilizationRates(void *card, unsigned out[2]) {
    FAIL_OR_SECOND("nvmlDeviceGetUtilizationRates");
    return out[0] = 37, out[1] = 12, 0;
}
int nvmlDeviceGetClockInfo(void *card, int kind, unsigned *out) {
    (void)card;
    FAIL("nvmlDeviceGetClockInfo");
    return *out = kind == 1 ? 1410 : kind == 2 ? 6250 : 1, 0;
}
int nvmlDeviceGetMaxClockInfo(void *card, int kind, unsigned *out) {
    FAIL_OR_SECOND("nvmlDeviceGetMaxClockInfo");
    return *out = kind == 1 ? 1710 : kind == 2 ? 6251 : 1, 0;
}
int nvmlDeviceGetTemperature(void *card, int sensor, unsigned *out) {
    FAIL_OR_SECOND("nvmlDeviceGetTemperature");
    return sensor ? INVALID : (*out = 42, 0);
}
int nvmlDeviceGetPowerUsage(void *card, unsigned *out) {
    FAIL_OR_SECOND("nvmlDeviceGetPowerUsage");
    return *out = 61400, 0;
}
int nvmlDeviceGetEnforcedPowerLimit(void *card, unsigned *out) {
    FAIL_OR_SECOND("nvmlDeviceGetEnforcedPowerLimit");
    return *out = 300000, 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *card, u64 *out) {
    static u64 mj = 1000000;
    FAIL_OR_SECOND("nvmlDeviceGetTotalEnergyConsumption");
    return *out = __atomic_add_fetch(&mj, 5000, __ATOMIC_RELAXED), 0; /* five joules more each time */
}
/* Under its old name alone, as drivers before 535 have it. */
int nvmlDeviceGetCurrentClocksThrottleReasons(void *card, u64 *out) {
    FAIL_OR_SECOND("nvmlDeviceGetCurrentClocksThrottleReasons");
    const char *bits = getenv("FAKE_NVML_THROTTLE");
    return *out = bits ? strtoull(bits, NULL, 16) : 0x4 | 0x40, 0;
}
int nvmlDeviceGetEccMode(void *card, int *now, int *pending) {
    FAIL_OR_SECOND("nvmlDeviceGetEccMode");
    return *now = 1, *pending = 0, 0;
}
int nvmlDeviceGetTotalEccErrors(void *card, int kind, int counter, u64 *out) {
    FAIL_OR_SECOND("nvmlDeviceGetTotalEccErrors");
    return *out = kind == 1 && counter == 0 ? 3 : 99, 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *card, unsigned *n, struct process *out) {
    FAIL_OR_SECOND("nvmlDeviceGetComputeRunningProcesses_v3");
    if (*n < 2) return *n = 2, TOO_SMALL;
    out[0] = (struct process){ (unsigned)getpid(), 512 << 20, { 0, 0 } };
    out[1] = (struct process){ 1, ~0ull, { 0, 0 } };
    return *n = 2, 0;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *card, unsigned *n, struct process *out) {
    FAIL_OR_SECOND("nvmlDeviceGetGraphicsRunningProcesses_v3");
    out[0] = (struct process){ 1, 1 << 20, { 0, 0 } };       /* computes, too */
    out[1] = (struct process){ 4194305, 1 << 20, { 0, 0 } }; /* ended: above any pid */
    return *n = 2, 0;
}
int nvmlDeviceGetTopologyCommonAncestor(void *card, void *other, int *out) {
    FAIL("nvmlDeviceGetTopologyCommonAncestor");
    return *out = card == other ? 0 : 30, 0;
}
int nvmlDeviceGetP2PStatus(void *card, void *other, int what, int *out) {
    (void)other;
    FAIL("nvmlDeviceGetP2PStatus");
    return *out = card == &cards[0] && what != 2 ? 0 : 2, 0; /* NVLink: none; the second reaches nobody */
}
