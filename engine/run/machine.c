#include "machine.h"
#include "base/mem.h"
#include "nvml.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TEXT = 8192 };
/* The first bytes of a small file as text; false when it cannot be read. */
static bool slurp(const char *path, char out[TEXT]) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t n = 0;
    for (ssize_t got; n < TEXT - 1 && (got = read(fd, out + n, TEXT - 1 - n)) > 0;) n += (size_t)got;
    close(fd);
    out[n] = 0;
    return n > 0;
}
/* The number after "key" at the start of a line; 0 when absent. */
static uint64_t field(const char *text, const char *key) {
    for (const char *at = text; (at = strstr(at, key)); at++)
        if (at == text || at[-1] == '\n') return strtoull(at + strlen(key), NULL, 10);
    return 0;
}
/* A cgroup's number, or 0 for "max", absent or absurd (v1 writes a huge number for no limit). */
static uint64_t limit(const char *path) {
    char text[TEXT];
    if (!slurp(path, text)) return 0;
    const uint64_t v = strtoull(text, NULL, 10);
    return v < UINT64_C(1) << 60 ? v : 0;
}
/* This process's folder below the cgroup mount, v2 ("0::/path"); "" for the root. */
static void cgroup_path(char out[512]) {
    char text[TEXT];
    out[0] = 0;
    if (!slurp("/proc/self/cgroup", text)) return;
    const char *at = strstr(text, "0::/");
    if (at) snprintf(out, 512, "%.*s", (int)strcspn(at + 3, "\n"), at + 3);
}
/* The tightest limit on the way from this process's cgroup to the root, and what is left below it. */
static void cgroup_memory(struct machine_memory *m) {
    char at[512], path[600], stat[TEXT];
    cgroup_path(at);
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", at);
        const uint64_t max = limit(path);
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", at);
        const uint64_t used = limit(path);
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.stat", at);
        const uint64_t cache = slurp(path, stat) ? field(stat, "inactive_file ") : 0;
        const uint64_t held = used > cache ? used - cache : 0;
        if (max && max < m->total) m->total = max;
        if (max && max - (held < max ? held : max) < m->available) m->available = max - (held < max ? held : max);
        char *slash = strrchr(at, '/');
        if (!slash) return;
        *slash = 0;
    }
}
struct machine_memory machine_memory(void) {
    char text[TEXT];
    struct machine_memory m = { 0, 0 };
    if (slurp("/proc/meminfo", text))
        m = (struct machine_memory){ field(text, "MemTotal:") * 1024, field(text, "MemAvailable:") * 1024 };
    const uint64_t v1 = limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    const uint64_t v1_used = limit("/sys/fs/cgroup/memory/memory.usage_in_bytes");
    if (v1 && v1 < m.total) m.total = v1;
    if (v1 > v1_used && v1 - v1_used < m.available) m.available = v1 - v1_used;
    cgroup_memory(&m);
    return m;
}
uint64_t machine_resident(void) {
    char text[TEXT];
    if (!slurp("/proc/self/statm", text)) return 0;
    const char *second = strchr(text, ' ');
    return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
void machine_cpu(char *out, size_t cap) {
    char text[TEXT];
    const char *at = slurp("/proc/cpuinfo", text) ? strstr(text, "model name") : NULL;
    const char *name = at ? strchr(at, ':') : NULL;
    if (name)
        snprintf(out, cap, "%.*s", (int)strcspn(name + 2, "\n"), name + 2);
    else
        snprintf(out, cap, "unknown processor");
}
int machine_processors(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

/* PCI devices of NVIDIA (0x10de) that are display or 3D controllers (class 0x03xxxx); the first one's place. */
static int pci_gpus(char id[24]) {
    const char *asked = getenv("JAEDA_PCI"), *root = asked && *asked ? asked : "/sys/bus/pci/devices";
    int n = 0;
    DIR *dir = opendir(root);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[PATH_MAX], vendor[TEXT], class[TEXT];
        snprintf(path, sizeof path, "%.2000s/%s/vendor", root, e->d_name);
        if (e->d_name[0] == '.' || !slurp(path, vendor) || strncmp(vendor, "0x10de", 6) != 0) continue;
        snprintf(path, sizeof path, "%.2000s/%s/class", root, e->d_name);
        if (!slurp(path, class) || strncmp(class, "0x03", 4) != 0) continue;
        const char *place = e->d_name + (strncmp(e->d_name, "0000:", 5) ? 0 : 5); /* as lspci prints it */
        if (!n++) snprintf(id, 24, "%.23s", place);
    }
    if (dir) closedir(dir);
    return n;
}
int machine_gpu(char *out, size_t cap) {
    char id[24] = "", why[200] = "";
    const int known = nvml_count(why, sizeof why), on_bus = pci_gpus(id);
    if (known > 0) {
        snprintf(out, cap, "%d NVIDIA GPU%s", known, known > 1 ? "s" : "");
    } else if (!on_bus) {
        snprintf(out, cap, "no GPU: no NVIDIA card is on the PCI bus");
    } else if (!known) {
        snprintf(out, cap, "GPU present, but its driver does not find it (PCI %s): dmesg may say why", id);
    } else {
        snprintf(out, cap, "GPU present, driver missing: %d NVIDIA card%s (PCI %s%s), but %s", on_bus,
                 on_bus > 1 ? "s" : "", id, on_bus > 1 ? ", ..." : "", why);
    }
    return known > 0 ? known : 0;
}
double machine_cached_share(int fd, uint64_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size_t)((bytes + page - 1) / page);
    void *map = bytes ? mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED) return 0;
    size_t in = 0;
    unsigned char *seen = mem_zero(pages, 1);
    if (seen && !mincore(map, (size_t)bytes, seen))
        for (size_t i = 0; i < pages; i++) in += seen[i] & 1;
    mem_free(seen);
    munmap(map, (size_t)bytes);
    return (double)in / (double)pages;
}
