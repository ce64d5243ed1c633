/* load.c - how fast a folder of weights becomes a loaded model, against reading its files as `dd bs=16M` does, each with
 * the page cache dropped, in turn. Usage: jaeda-bench-load PATH [DTYPE [ROUNDS [GIB]]]
 * GIB of memory are touched before each round and given back right before its load: a virtual machine whose free pages go
 * back to the host pays for every fresh page again, which machines of fixed memory do not. */
#include "engine.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 16 << 20 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
/* Drops a file from the page cache, then reads it when told to; its bytes. */
static double file(const char *path, char *block, bool read_it) {
    const int fd = open(path, O_RDONLY);
    double bytes = 0;
    if (fd < 0) return 0;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    for (ssize_t n; read_it && (n = read(fd, block, BLOCK)) > 0;) bytes += (double)n;
    close(fd);
    return bytes;
}
static double all_files(const char *path, char *block, bool read_it) {
    DIR *d = opendir(path);
    double bytes = 0;
    if (!d) return file(path, block, read_it);
    for (struct dirent *e; (e = readdir(d));) {
        char full[1024];
        const size_t n = strlen(e->d_name);
        if (n < 12 || strcmp(e->d_name + n - 12, ".safetensors") != 0) continue;
        snprintf(full, sizeof full, "%s/%s", path, e->d_name);
        bytes += file(full, block, read_it);
    }
    closedir(d);
    return bytes;
}
static int answer(struct engine *g, const struct engine_req *q, struct engine_model *out) {
    struct err e = { 0 };
    struct pollfd p = { .fd = engine_fd(g), .events = POLLIN };
    uint64_t job;
    if (engine_submit(g, q, &job, &e)) return fprintf(stderr, "%s\n", e.text), -1;
    for (;;) {
        struct engine_event ev;
        if (engine_next(g, &ev) < 1) {
            poll(&p, 1, 100);
            continue;
        }
        const enum engine_event_kind kind = ev.kind;
        if (kind == ENGINE_EV_MODELS && ev.u.models.n) *out = ev.u.models.row[0];
        if (kind == ENGINE_EV_FAIL) fprintf(stderr, "%s\n", ev.u.fail.text);
        engine_event_fini(&ev);
        if (kind == ENGINE_EV_DONE || kind == ENGINE_EV_FAIL) return kind == ENGINE_EV_DONE ? 0 : -1;
    }
}
static char *touch(size_t bytes) {
    char *p = bytes ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 1, bytes);
    return p;
}
int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : NULL, *dtype = argc > 2 ? argv[2] : "auto";
    const long rounds = argc > 3 ? strtol(argv[3], NULL, 10) : 3;
    const size_t held = argc > 4 ? (size_t)strtoul(argv[4], NULL, 10) << 30 : 0;
    struct engine *g = NULL;
    struct err e = { 0 };
    char *block = malloc(BLOCK);
    if (!path || !block || engine_open(&g, "local:", &e))
        return fprintf(stderr, "usage: jaeda-bench-load PATH [DTYPE [ROUNDS [GIB]]]%s\n", e.text), 1;
    for (long i = 0; i < rounds; i++) {
        struct engine_model m = { 0 }, gone;
        char *memory = touch(held);
        all_files(path, block, false);
        double t = now();
        const double bytes = all_files(path, block, true), dd = bytes / (now() - t);
        all_files(path, block, false);
        if (memory) munmap(memory, held);
        if (answer(g, &(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = path, .dtype = dtype }, &m)) return 1;
        const double rate = m.read_mib_s * 1048576;
        printf(
            "%s %s: dd %.0f MB/s, load %.0f MB/s: %.2f of it; whole load %.2f s (%.2f); predicted %.0f MiB, measured "
            "%+.1f %%, peak %+.0f MiB above\n",
            m.name, m.dtype, dd * 1e-6, rate * 1e-6, rate / dd, m.load_s, bytes / m.load_s / dd,
            (double)m.predicted_bytes / 1048576, ((double)m.measured_bytes / (double)m.predicted_bytes - 1) * 100,
            ((double)m.peak_bytes - (double)m.predicted_bytes) / 1048576);
        answer(g, &(struct engine_req){ .kind = ENGINE_REQ_UNLOAD, .model = "*" }, &gone);
    }
    engine_close(g);
    free(block);
    return 0;
}
