#include "usage.h"
#include "channel.h"
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int64_t cpu_us(void) {
    struct rusage r;
    if (getrusage(RUSAGE_SELF, &r)) return 0;
    return (int64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 + r.ru_utime.tv_usec + r.ru_stime.tv_usec;
}
static long long resident_bytes(void) {
    long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%*d %lld", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}
/* First line of /proc/stat: user nice system idle iowait irq softirq steal, in ticks since boot. */
static void host_ticks(unsigned long long *busy, unsigned long long *all) {
    unsigned long long t[8] = { 0 };
    *busy = *all = 0;
    FILE *f = fopen("/proc/stat", "re");
    if (f && fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", t, t + 1, t + 2, t + 3, t + 4, t + 5, t + 6,
                    t + 7) == 8) {
        for (int i = 0; i < 8; i++) *all += t[i];
        *busy = *all - t[3] - t[4];
    }
    if (f) fclose(f);
}
static json_t *virtual_memory(void) {
    static const char *const want[][2] = { { "MemTotal:", "total" },   { "MemAvailable:", "available" },
                                           { "MemFree:", "free" },     { "Buffers:", "buffers" },
                                           { "Cached:", "cached" },    { "Active:", "active" },
                                           { "Inactive:", "inactive" } };
    json_t *o = json_object();
    FILE *f = fopen("/proc/meminfo", "re");
    char name[64];
    long long kib;
    while (f && fscanf(f, "%63s %lld%*[^\n]", name, &kib) == 2)
        for (size_t i = 0; i < sizeof want / sizeof *want; i++)
            if (!strcmp(name, want[i][0])) json_object_set_new(o, want[i][1], json_integer(kib * 1024));
    if (f) fclose(f);
    const json_int_t total = json_integer_value(json_object_get(o, "total"));
    const json_int_t used = total - json_integer_value(json_object_get(o, "available"));
    json_object_set_new(o, "used", json_integer(used));
    json_object_set_new(o, "percent", json_real(total ? 100.0 * (double)used / (double)total : 0));
    return o;
}
json_t *usage_read(struct usage *u) {
    char host[256] = "";
    unsigned long long busy, all;
    const int64_t now = clock_us(), cpu = cpu_us();
    gethostname(host, sizeof host - 1);
    host_ticks(&busy, &all);
    const double kernel = u->at_us && now > u->at_us ? 100.0 * (double)(cpu - u->cpu_us) / (double)(now - u->at_us) : 0;
    json_t *o = json_pack("{s:s, s:i, s:f, s:I, s:I, s:o}", "hostname", host, "pid", (int)getpid(), "kernel_cpu",
                          kernel, "kernel_memory", (json_int_t)resident_bytes(), "cpu_count",
                          (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "host_virtual_memory", virtual_memory());
    if (o && u->host_all && all > u->host_all)
        json_object_set_new(o, "host_cpu_percent",
                            json_real(100.0 * (double)(busy - u->host_busy) / (double)(all - u->host_all)));
    *u = (struct usage){ .at_us = now, .cpu_us = cpu, .host_busy = busy, .host_all = all };
    return o;
}
