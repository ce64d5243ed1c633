/* What the driver's library tells, through one that stands in for it (fake_nvml.c; FAKE_NVML is its path). The library is
 * opened once in a process, so the tests without it come first. */
#include "run/machine.h"
#include "run/nvml.h"
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char bus[] = "/tmp/jaeda-pci-XXXXXX", said[320];

static void device(const char *place, const char *vendor, const char *class) {
    const char *const file[][2] = { { "vendor", vendor }, { "class", class } };
    char path[200];
    snprintf(path, sizeof path, "%s/%s", bus, place);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s/%s", bus, place, file[i][0]);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fprintf(f, "%s\n", file[i][1]);
        fclose(f);
    }
}
static int setup(void **state) {
    (void)state;
    if (!getenv("FAKE_NVML") || !mkdtemp(bus)) return -1;
    return setenv("JAEDA_PCI", bus, 1) | setenv("JAEDA_NVML", "/nowhere/libnvidia-ml.so.1", 1);
}
static int teardown(void **state) {
    (void)state;
    static const char *const place[] = { "0000:00:1e.0", "0000:00:1f.0", "0000:01:00.0" };
    char path[200];
    for (int i = 0; i < 3; i++) {
        static const char *const file[] = { "/vendor", "/class", "" };
        for (int k = 0; k < 3; k++) {
            snprintf(path, sizeof path, "%s/%s%s", bus, place[i], file[k]);
            remove(path);
        }
    }
    return rmdir(bus);
}
static void says(const char *words) {
    if (!strstr(said, words)) fail_msg("\"%s\" is not in \"%s\"", words, said);
}
static void fail_of(const char *list) { assert_int_equal(setenv("FAKE_NVML_FAIL", list, 1), 0); }

static void without_a_card_or_a_driver(void **state) {
    (void)state;
    struct engine_gpu g;
    device("0000:00:1f.0", "0x1234", "0x030000"); /* another maker's */
    device("0000:01:00.0", "0x10de", "0x040300"); /* NVIDIA's, for sound */
    assert_int_equal(nvml_count(said, sizeof said), -1);
    says("/nowhere/libnvidia-ml.so.1 cannot be opened");
    assert_int_equal(machine_gpu(said, sizeof said), 0);
    says("no GPU: ");
    device("0000:00:1e.0", "0x10de", "0x030200");
    assert_int_equal(machine_gpu(said, sizeof said), 0);
    says("GPU present, driver missing: 1 NVIDIA card (PCI 00:1e.0), but /nowhere/libnvidia-ml.so.1 cannot be opened");
    assert_int_equal(nvml_cards(&g, 1), 0);
    assert_false(nvml_card("00:1e.0", &g));
    assert_string_equal(g.name, "");
    assert_true(isnan(nvml_energy_j("00:1e.0")));
}
static void a_library_without_a_driver_is_tried_again(void **state) {
    (void)state;
    setenv("JAEDA_NVML", getenv("FAKE_NVML"), 1);
    fail_of("nvmlInit_v2=9");
    assert_int_equal(machine_gpu(said, sizeof said), 0);
    says("GPU present, driver missing");
    says("says: Driver Not Loaded");
    fail_of("nvmlDeviceGetCount_v2=15");
    assert_int_equal(nvml_count(said, sizeof said), -1);
    says("GPU is lost");
    fail_of("");
    setenv("FAKE_NVML_CARDS", "0", 1);
    assert_int_equal(machine_gpu(said, sizeof said), 0);
    says("GPU present, but its driver does not find it (PCI 00:1e.0)");
    unsetenv("FAKE_NVML_CARDS");
    assert_int_equal(machine_gpu(said, sizeof said), 2);
    says("2 NVIDIA GPUs");
}
static void every_value_of_a_card(void **state) {
    (void)state;
    struct engine_gpu g[3];
    assert_int_equal(nvml_cards(g, 3), 2);
    assert_string_equal(g->name, "NVIDIA A10G");
    assert_string_equal(g->pci, "00:1e.0");
    assert_string_equal(g->driver, "570.86.15");
    assert_string_equal(g->cuda, "12.8");
    assert_true(g->memory_bytes == 24.0 * (1 << 30) && g->free_bytes == 22.0 * (1 << 30));
    assert_true(g->used_bytes == 2.0 * (1 << 30));
    assert_true(g->busy_percent == 37 && g->memory_busy_percent == 12);
    assert_true(g->sm_mhz == 1410 && g->sm_max_mhz == 1710 && g->memory_mhz == 6250 && g->memory_max_mhz == 6251);
    assert_true(fabs(g->power_w - 61.4) < 1e-9 && g->power_limit_w == 300 && g->celsius == 42);
    assert_string_equal(g->throttle, "software power cap, hardware thermal limit");
    assert_string_equal(g->ecc, "on, off after a reboot");
    assert_true(g->ecc_errors == 3);
    assert_string_equal(g->peers, "GPU 1: direct / host bridge");
    assert_string_equal(g[1].peers, "GPU 0: none / host bridge");
    assert_string_equal(g[1].pci, "0001:af:00.0");
    const double j = nvml_energy_j("00:1e.0");
    assert_true(j > g->energy_j && fabs(nvml_energy_j("00:1e.0") - j - 5) < 1e-9);
}
static void processes_are_named_and_counted_once(void **state) {
    (void)state;
    struct engine_gpu g;
    assert_true(nvml_card("00:1e.0", &g));
    assert_int_equal(g.processes, 3);
    assert_int_equal(g.process[0].pid, getpid());
    assert_true(g.process[0].own && g.process[0].used_bytes == 512 << 20);
    assert_string_equal(g.process[0].name, "unit-nvml");
    assert_int_equal(g.process[1].pid, 1);
    assert_true(!g.process[1].own && isnan(g.process[1].used_bytes));
    assert_string_equal(g.process[2].name, ""); /* it has ended meanwhile */
}
static void what_a_card_does_not_tell_is_absent(void **state) {
    (void)state;
    struct engine_gpu g;
    assert_true(nvml_card("0001:af:00.0", &g));
    const double absent[] = { g.busy_percent, g.memory_busy_percent, g.sm_max_mhz, g.memory_max_mhz,
                              g.power_w,      g.power_limit_w,       g.celsius,    g.energy_j,
                              g.ecc_errors };
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) assert_true(isnan(absent[i]));
    assert_true(g.sm_mhz == 1410);
    assert_string_equal(g.throttle, "");
    assert_string_equal(g.ecc, "");
    assert_int_equal(g.processes, -1);
    assert_true(isnan(nvml_energy_j("0001:af:00.0")));
    assert_false(nvml_card("00:1d.0", &g));
    assert_false(nvml_card("", &g));
}
static void each_failure_takes_one_value(void **state) {
    (void)state;
    struct engine_gpu g;
    fail_of("nvmlDeviceGetMemoryInfo=999 nvmlDeviceGetClockInfo=3 nvmlDeviceGetP2PStatus=3 nvmlDeviceGetName=1");
    assert_int_equal(nvml_cards(&g, 1), 1);
    assert_true(isnan(g.memory_bytes) && isnan(g.used_bytes) && isnan(g.sm_mhz) && g.sm_max_mhz == 1710);
    assert_string_equal(g.peers, "GPU 1: not supported");
    assert_string_equal(g.name, "");
    fail_of("nvmlDeviceGetComputeRunningProcesses_v3=7 nvmlDeviceGetGraphicsRunningProcesses_v3=3");
    assert_int_equal(nvml_cards(&g, 1), 1);
    assert_int_equal(g.processes, -1);
    fail_of("nvmlDeviceGetHandleByIndex_v2=15");
    assert_int_equal(nvml_cards(&g, 1), 1);
    assert_string_equal(g.name, "no answer: GPU is lost");
    assert_true(isnan(g.memory_bytes) && isnan(g.sm_mhz));
    assert_int_equal(g.processes, -1);
    assert_false(nvml_card("00:1e.0", &g));
    fail_of("");
}
static void throttle_reasons_are_words(void **state) {
    (void)state;
    static const char *const way[][2] = { { "0", "nothing" },
                                          { "1", "nothing (idle)" },
                                          { "9", "hardware slowdown" },
                                          { "280", "power brake, reasons 0x200" } };
    for (size_t i = 0; i < sizeof way / sizeof *way; i++) {
        struct engine_gpu g;
        setenv("FAKE_NVML_THROTTLE", way[i][0], 1);
        assert_true(nvml_card("00:1e.0", &g));
        assert_string_equal(g.throttle, way[i][1]);
    }
    unsetenv("FAKE_NVML_THROTTLE");
}
static void *reader(void *arg) {
    struct engine_gpu g[2];
    for (int i = 0; i < 50; i++)
        if (nvml_cards(g, 2) == 2) ++*(int *)arg;
    return NULL;
}
static void threads_read_at_once(void **state) {
    (void)state;
    pthread_t thread[4];
    int read[4] = { 0 };
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, reader, &read[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(read[i], 50);
    }
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_card_or_a_driver),
        cmocka_unit_test(a_library_without_a_driver_is_tried_again),
        cmocka_unit_test(every_value_of_a_card),
        cmocka_unit_test(processes_are_named_and_counted_once),
        cmocka_unit_test(what_a_card_does_not_tell_is_absent),
        cmocka_unit_test(each_failure_takes_one_value),
        cmocka_unit_test(throttle_reasons_are_words),
        cmocka_unit_test(threads_read_at_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
