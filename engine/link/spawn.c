#include "spawn.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { START_MS = 10000, SAMPLE_MS = 10000, SWEEP_MS = 5000, WORDS = 200 };

/* ---- the starting side ---- */

static bool program(char out[4096]) {
    const char *chosen = getenv("JAEDA_ENGINE_PROGRAM");
    if (chosen && *chosen) return snprintf(out, 4096, "%s", chosen) < 4096;
    static const char NAME[] = "/jaeda-engine";
    const ssize_t n = readlink("/proc/self/exe", out, 4096 - sizeof NAME);
    out[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(out, '/');
    if (slash) memcpy(slash, NAME, sizeof NAME);
    return slash;
}
static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
/* Until all writers are gone, which an engine does that listens; keeps the last line. false: it took too long. */
static bool read_said(int fd, char said[200]) {
    const int64_t end = now_ms() + START_MS;
    char all[2048];
    size_t n = 0;
    for (int64_t left; (left = end - now_ms()) > 0;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (poll(&p, 1, (int)left) <= 0) continue;
        if (n == sizeof all - 1) n = 0;
        const ssize_t got = read(fd, all + n, sizeof all - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got > 0) {
            n += (size_t)got;
            continue;
        }
        while (n && all[n - 1] == '\n') n--;
        all[n] = 0;
        const char *line = strrchr(all, '\n');
        snprintf(said, 200, "%.199s", line ? line + 1 : all);
        return true;
    }
    return false;
}
static int launch(const char *path, const struct place *p, int lock, int out, pid_t *pid) {
    char *const argv[] = { (char *)"jaeda-engine", (char *)"--dir", (char *)p->dir, NULL };
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    posix_spawn_file_actions_adddup2(&files, lock, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, out, STDERR_FILENO);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigdefault(&how, &all);
    posix_spawnattr_setsigmask(&how, &none);
    const int rc = posix_spawn(pid, path, &files, &how, argv, environ);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}
int spawn_engine(const struct place *p, int lock, char said[200], struct err *e) {
    char path[4096];
    int out[2], status;
    pid_t pid;
    said[0] = 0;
    if (!program(path)) return err_set(e, STATUS_IO, "the engine's program is not to be found: /proc is not mounted");
    if (pipe2(out, O_CLOEXEC)) return err_set(e, STATUS_IO, "the engine cannot be started: %s", strerror(errno));
    const int rc = launch(path, p, lock, out[1], &pid);
    close(out[1]);
    if (rc) {
        close(out[0]);
        return err_set(e, STATUS_IO, "the engine %.200s cannot be started: %s", path, strerror(rc));
    }
    const bool done = read_said(out[0], said);
    close(out[0]);
    if (!done) kill(pid, SIGKILL); /* it has left long ago unless it hangs */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (!done)
        return err_set(e, STATUS_IO, "the engine did not start within %d s; its log: %.160s/log", START_MS / 1000,
                       p->dir);
    return 0;
}

/* ---- the guardian ---- */

/* Processes that the system has killed for want of memory: in this control group, or on this machine. */
static long oom_kills(void) {
    char path[600] = "/sys/fs/cgroup", line[512];
    long kills = -1;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "0::/", 4)) snprintf(path, sizeof path, "/sys/fs/cgroup%s", line + 3);
    }
    if (f) fclose(f);
    const size_t n = strlen(path);
    snprintf(path + n, sizeof path - n, "/memory.events");
    const char *const from[] = { path, "/proc/vmstat" };
    for (int i = 0; i < 2 && kills < 0; i++) {
        f = fopen(from[i], "re");
        while (f && kills < 0 && fgets(line, sizeof line, f))
            if (!strncmp(line, "oom_kill ", 9)) kills = strtol(line + 9, NULL, 10);
        if (f) fclose(f);
    }
    return kills;
}
static void describe(int status, bool oom, const char *words, char out[256]) {
    const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (signal == SIGKILL)
        snprintf(out, 256, "was killed by signal 9%s",
                 oom ? ": the system killed something for want of memory at that time" : "");
    else if (signal == SIGTERM)
        snprintf(out, 256, "was killed by signal 15");
    else if (signal)
        snprintf(out, 256, "crashed: signal %d (%s)", signal, strsignal(signal));
    else if (*words)
        snprintf(out, 256, "%.240s", words);
    else
        snprintf(out, 256, "ended with status %d", WEXITSTATUS(status));
}
static void quiet(int target) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= target && null >= 0; fd++) dup2(null, fd);
    if (null > target) close(null);
}
/* Waits for the end of the engine: of its copy of the pipe. */
static void guard(const struct place *p, pid_t engine, int words) {
    char said[WORDS + 1] = "", what[256];
    size_t n = 0;
    long before = oom_kills();
    for (;;) {
        struct pollfd at = { .fd = words, .events = POLLIN };
        if (poll(&at, 1, SAMPLE_MS) <= 0) {
            before = oom_kills();
            continue;
        }
        char c[WORDS];
        const ssize_t got = read(words, c, sizeof c);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        for (ssize_t i = 0; i < got && n < WORDS; i++) said[n++] = c[i];
    }
    int status = 0;
    struct err e = { 0 };
    while (waitpid(engine, &status, 0) < 0 && errno == EINTR) continue;
    describe(status, oom_kills() > before, said, what);
    place_ended(p, engine, what, &e);
    log_to_file(p->fd, "log", PLACE_LOG_BYTES);
    log_at(WIFEXITED(status) && !WEXITSTATUS(status) ? LOG_INFO : LOG_ERROR, "the engine %d %s", (int)engine, what);
    if (e.code) log_at(LOG_ERROR, "%s", e.text);
    place_sweep(p, SWEEP_MS);
}
int spawn_detach(const struct place *p, int *words, struct err *e) {
    static const int ignored[] = { SIGINT, SIGHUP, SIGPIPE, SIGTERM, SIGXFSZ };
    int ends[2];
    pid_t pid = fork();
    if (pid > 0) return 1;
    if (pid < 0) return err_set(e, STATUS_IO, "the engine cannot leave its caller: %s", strerror(errno));
    setsid();
    umask(077);
    if (chdir("/") || pipe2(ends, O_CLOEXEC) || (pid = fork()) < 0)
        return err_set(e, STATUS_IO, "the engine's guardian cannot be started: %s", strerror(errno));
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
    if (!pid) {
        close(ends[0]);
        *words = ends[1];
        return 0;
    }
    close(ends[1]);
    quiet(STDERR_FILENO);
    prctl(PR_SET_NAME, "jaeda-guardian");
    guard(p, pid, ends[0]);
    return 1;
}
