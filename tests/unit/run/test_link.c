/* The resident engine as a process: who starts it, who may use it, what happens when either end dies. Each test has a
 * folder of its own; the program is JAEDA_ENGINE_PROGRAM's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "link/codec.h"
#include "link/place.h"
#include "link/server.h"
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TINY "tests/golden/tiny-tied.gguf"
enum { NOBODY = 65534, KERNELS = 8 };
static char folder[64], uri[80];

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static struct engine *connected(void) {
    struct engine *g;
    struct err e = { 0 };
    if (engine_open(&g, uri, &e)) fail_msg("%s", e.text);
    return g;
}
static uint64_t submit(struct engine *g, const struct engine_req *q) {
    uint64_t job = 0;
    struct err e = { 0 };
    if (engine_submit(g, q, &job, &e)) fail_msg("%s", e.text);
    return job;
}
struct heard {
    struct engine_system system;
    struct engine_model model;
    struct engine_done done;
    struct err fail;
    int rows, texts;
};
/* Until the job has ended; -1: the connection has. texts > 0: until so many pieces of text came. */
static int hear(struct engine *g, uint64_t job, int texts, struct heard *h) {
    *h = (struct heard){ 0 };
    for (const double end = now_s() + 120; now_s() < end;) {
        struct engine_event ev;
        struct pollfd p = { engine_fd(g), POLLIN, 0 };
        const int rc = engine_next(g, &ev);
        if (rc < 0) return -1;
        if (!rc) {
            poll(&p, 1, 100);
            continue;
        }
        const enum engine_event_kind kind = ev.kind;
        const bool mine = ev.job == job;
        if (kind == ENGINE_EV_SYSTEM) h->system = ev.u.system;
        if (kind == ENGINE_EV_MODELS && ev.u.models.n) h->model = ev.u.models.row[0], h->rows += ev.u.models.n;
        if (kind == ENGINE_EV_DONE) h->done = ev.u.done;
        if (kind == ENGINE_EV_FAIL) h->fail = ev.u.fail;
        h->texts += kind == ENGINE_EV_TEXT;
        engine_event_fini(&ev);
        if (mine && (kind == ENGINE_EV_DONE || kind == ENGINE_EV_FAIL)) return 0;
        if (texts && h->texts >= texts) return 0;
    }
    fail_msg("no end within two minutes");
    return -1;
}
static struct heard ask(struct engine *g, struct engine_req q) {
    struct heard h;
    assert_int_equal(hear(g, submit(g, &q), 0, &h), 0);
    return h;
}
static struct heard status(struct engine *g) { return ask(g, (struct engine_req){ .kind = ENGINE_REQ_STATUS }); }
static void load(struct engine *g) {
    struct heard h = ask(g, (struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .dtype = "fp32" });
    if (h.fail.code) fail_msg("%s", h.fail.text);
}
static uint64_t write_for_ever(struct engine *g) {
    static const struct engine_message hello = { NULL, "hello", 5 };
    static const struct engine_req q = {
        .kind = ENGINE_REQ_PROFILE, .message = &hello, .messages = 1, .max_new_tokens = 64, .runs = 100
    };
    return submit(g, &q);
}
/* What is said of an engine that has gone. */
static void gone(struct engine *g, const char *want) {
    struct heard h;
    struct err e = { 0 };
    struct buf log;
    assert_int_equal(hear(g, 0, 0, &h), -1);
    buf_init(&log, 1 << 20);
    engine_gone(g, &e, &log);
    if (!strstr(e.text, want)) fail_msg("\"%s\" does not say \"%s\"", e.text, want);
    assert_int_equal(e.code, STATUS_GONE);
    assert_true(log.n > 0);
    buf_fini(&log);
    engine_close(g);
}
static bool exists(const char *name) {
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return !lstat(path, &st);
}
static bool within(double seconds, bool (*is)(void)) {
    for (const double end = now_s() + seconds; now_s() < end; poll(NULL, 0, 20))
        if (is()) return true;
    return is();
}
static bool socket_gone(void) { return !exists("engine.sock"); }

static void notebooks_that_start_together_start_one_engine(void **state) {
    (void)state;
    int out[2];
    assert_int_equal(pipe(out), 0);
    for (int i = 0; i < KERNELS; i++) {
        const pid_t child = fork();
        if (child) continue;
        struct engine *g;
        struct err e = { 0 };
        int pid = -1;
        if (!engine_open(&g, uri, &e)) pid = status(g).system.pid;
        _exit(write(out[1], &pid, sizeof pid) != sizeof pid); /* without a goodbye */
    }
    int first = 0;
    for (int i = 0, pid; i < KERNELS; i++) {
        assert_int_equal(read(out[0], &pid, sizeof pid), sizeof pid);
        if (!first) first = pid;
        assert_true(pid > 0);
        assert_int_equal(pid, first);
        wait(NULL);
    }
    close(out[0]);
    close(out[1]);
    struct engine *g = connected();
    struct heard h = status(g);
    assert_int_equal(h.system.pid, first);
    assert_string_equal(h.system.transport, "ipc");
    assert_true(strstr(h.system.log, folder) && h.system.uptime_s >= 0);
    engine_close(g);
}
static void weights_outlive_their_notebook(void **state) {
    (void)state;
    struct engine *g = connected();
    load(g);
    engine_close(g);
    g = connected();
    struct heard h = ask(g, (struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = TINY, .dtype = "fp32" });
    assert_string_equal(h.model.notice, "already loaded");
    engine_close(g);
}
static void a_killed_notebook_frees_its_jobs_within_a_second(void **state) {
    (void)state;
    struct engine *g = connected();
    int ready[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    const pid_t child = fork();
    if (!child) {
        struct engine *mine = connected();
        load(mine);
        write_for_ever(mine);
        for (bool runs = false; !runs;) { /* the measurement of the machine, which nothing interrupts, is over */
            struct engine_event ev;
            if (engine_next(mine, &ev) < 1) continue;
            runs = ev.kind == ENGINE_EV_PROGRESS && !strcmp(ev.u.progress.what, "warming up");
            engine_event_fini(&ev);
        }
        _exit(write(ready[1], "x", 1) != 1 || pause());
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    for (int i = 0; i < 100 && !status(g).system.jobs_running; i++) poll(NULL, 0, 10);
    assert_int_equal(status(g).system.jobs_running, 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    const double end = now_s() + 1;
    struct heard h;
    do h = status(g);
    while ((h.system.jobs_running || h.system.connections > 1 || h.model.users) && now_s() < end);
    assert_int_equal(h.system.jobs_running, 0);
    assert_int_equal(h.system.connections, 1);
    assert_int_equal(h.model.users, 0);
    assert_int_equal(h.rows, 1); /* the weights stay */
    engine_close(g);
    close(ready[0]);
    close(ready[1]);
}
static void a_dead_engine_says_how_it_died(void **state) {
    (void)state;
    static const struct {
        int signal;
        const char *words;
    } way[] = { { SIGKILL, "was killed by signal 9" }, { SIGABRT, "crashed: signal 6" }, { SIGTERM, "asked to end" } };
    for (int i = 0; i < 3; i++) {
        struct engine *g = connected();
        load(g);
        write_for_ever(g);
        kill(status(g).system.pid, way[i].signal);
        gone(g, way[i].words);
        g = connected(); /* the next one is fresh: over a stale socket too */
        assert_int_equal(status(g).rows, 0);
        engine_close(g);
    }
}
static void an_engine_leaves_when_nobody_needs_it(void **state) {
    (void)state;
    struct engine *g = connected();
    struct heard h = ask(g, (struct engine_req){ .kind = ENGINE_REQ_ENGINE, .set_idle = true, .idle_s = 0.2 });
    assert_float_equal(h.system.idle_limit_s, 0.2, 1e-9);
    poll(NULL, 0, 400);
    assert_int_equal(status(g).system.pid, h.system.pid); /* somebody is connected */
    engine_close(g);
    assert_true(within(5, socket_gone));
    g = connected();
    assert_int_not_equal(status(g).system.pid, h.system.pid);
    engine_close(g);
}
static void a_slow_reader_delays_itself_only(void **state) {
    (void)state;
    struct engine *slow = connected(), *g = connected();
    for (int i = 0; i < 400; i++) submit(slow, &(struct engine_req){ .kind = ENGINE_REQ_MODELS });
    load(g);
    const double t = now_s();
    status(g);
    assert_true(now_s() - t < 5);
    struct heard h;
    uint64_t last = submit(slow, &(struct engine_req){ .kind = ENGINE_REQ_STATUS });
    assert_int_equal(hear(slow, last, 0, &h), 0); /* and nothing of it was lost: its own answer comes last */
    assert_true(h.rows > 400);
    engine_close(slow);
    engine_close(g);
}

/* ---- who may ---- */
static void refused(const char *dir, const char *want) {
    struct engine *g;
    struct err e = { 0 };
    char at[128];
    snprintf(at, sizeof at, "ipc:%s", dir);
    assert_int_not_equal(engine_open(&g, at, &e), 0);
    assert_null(g);
    if (!strstr(e.text, want)) fail_msg("\"%s\" does not say \"%s\"", e.text, want);
}
static void a_folder_that_is_not_private_is_refused(void **state) {
    (void)state;
    char other[128];
    assert_int_equal(chmod(folder, 0755), 0);
    refused(folder, "chmod 700 it");
    assert_int_equal(chmod(folder, 0700), 0);
    snprintf(other, sizeof other, "%s/link", folder);
    assert_int_equal(symlink(folder, other), 0);
    refused(other, "link");
    unlink(other);
    refused("relative", "relative");
    snprintf(other, sizeof other, "%s/file", folder);
    close(open(other, O_CREAT | O_WRONLY, 0600));
    refused(other, "director");
    unlink(other);
    if (geteuid() != 0) {
        print_message("not root: another owner is not tried\n");
        return;
    }
    snprintf(other, sizeof other, "%s/theirs", folder);
    assert_int_equal(mkdir(other, 0700), 0);
    assert_int_equal(chown(other, NOBODY, NOBODY), 0);
    refused(other, "65534");
    rmdir(other);
}
static int raw(void) {
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    snprintf(at.sun_path, sizeof at.sun_path, "%s/engine.sock", folder);
    const int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!connect(sock, (const struct sockaddr *)&at, sizeof at)) return sock;
    close(sock);
    return -1;
}
/* Reads to the end of the connection; the hello's refusal, "" when there was none, "gone" when nothing came. */
static void answer_to(int sock, const struct hello *mine, char refusal[200]) {
    struct buf out;
    char in[4096];
    size_t n = 0, body_n, whole;
    const char *body;
    enum frame_kind kind;
    struct hello its;
    struct err e = { 0 };
    buf_init(&out, 1 << 16);
    if (mine) assert_int_equal(encode_hello(&out, mine), 0);
    if (mine) assert_true(send(sock, out.p, out.n, MSG_NOSIGNAL) <= (ssize_t)out.n);
    struct pollfd p = { sock, POLLIN, 0 };
    for (ssize_t got = 1; got > 0 && poll(&p, 1, 3000) > 0 && n < sizeof in;) {
        got = read(sock, in + n, sizeof in - n);
        if (got > 0) n += (size_t)got;
        if (frame_split(in, n, &kind, &body, &body_n, &whole, &e) > 0) break;
    }
    snprintf(refusal, 200, "gone");
    if (frame_split(in, n, &kind, &body, &body_n, &whole, &e) > 0 && kind == FRAME_HELLO &&
        !decode_hello(body, body_n, &its, &e))
        snprintf(refusal, 200, "%s", its.refusal);
    buf_fini(&out);
    close(sock);
}
static void another_user_gets_nothing(void **state) {
    (void)state;
    if (geteuid() != 0) {
        print_message("not root: another user is not tried\n");
        skip();
    }
    struct engine *g = connected();
    char path[128];
    snprintf(path, sizeof path, "%s/engine.sock", folder);
    for (int open_wide = 0; open_wide < 2; open_wide++) {
        if (open_wide) { /* as if the folder's protection had failed */
            chmod(folder, 0755);
            chmod(path, 0777);
        }
        const pid_t child = fork();
        if (!child) {
            char refusal[200] = "";
            if (setgid(NOBODY) || setuid(NOBODY)) _exit(9);
            const int sock = raw();
            if (sock < 0) _exit(open_wide ? 8 : 0);
            answer_to(sock, NULL, refusal);
            _exit(open_wide && strstr(refusal, "another user") ? 0 : 7);
        }
        int how;
        waitpid(child, &how, 0);
        assert_int_equal(WEXITSTATUS(how), 0);
    }
    chmod(folder, 0700);
    assert_int_equal(status(g).system.connections, 1);
    engine_close(g);
}
static void another_build_is_told_what_to_do(void **state) {
    (void)state;
    struct engine *g = connected();
    char refusal[200];
    struct hello mine = { .build = "0.0.1 20010101T000000Z 00000000", .name = "old.ipynb", .pid = 1 };
    answer_to(raw(), &mine, refusal);
    assert_non_null(strstr(refusal, "restart the notebook's kernel"));
    load(g); /* the engine serves on */
    const uint64_t job = write_for_ever(g);
    mine = (struct hello){ .build = "9.9.9 29990101T000000Z 00000000", .name = "new.ipynb", .pid = 1 };
    answer_to(raw(), &mine, refusal);
    assert_true(refusal[0] != 0);
    assert_true(within(2, socket_gone)); /* whoever comes now starts another */
    engine_cancel(g, job);
    struct heard h;
    hear(g, job, 0, &h); /* its jobs end first */
    gone(g, "newer build");
}
static void rubbish_ends_one_connection_only(void **state) {
    (void)state;
    struct engine *g = connected();
    load(g);
    static const char *const rubbish[] = { "GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\xff\xff\xff\xff",
                                           "\1\0\0\0\1\0\0\0x", "" };
    for (int i = 0; i < 40; i++) {
        const int sock = raw();
        const char *bytes = rubbish[i % 4];
        assert_true(sock >= 0);
        if (*bytes || i % 4 == 2) assert_true(send(sock, bytes, i % 4 == 2 ? 9 : strlen(bytes), MSG_NOSIGNAL) > 0);
        close(sock);
    }
    assert_int_equal(status(g).rows, 1);
    engine_close(g);
}

/* ---- want ---- */
static void without_descriptors_a_newcomer_is_told_and_the_others_go_on(void **state) {
    (void)state;
    struct engine *g = connected(), *late;
    load(g);
    const pid_t pid = (pid_t)status(g).system.pid;
    struct rlimit before, tight = { 0 };
    char fds[64];
    int open_now = 0;
    snprintf(fds, sizeof fds, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(fds);
    while (readdir(d)) open_now++;
    closedir(d);
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, NULL, &before), 0);
    tight = (struct rlimit){ (rlim_t)open_now - 2, before.rlim_max }; /* without . and .. : none is left */
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &tight, NULL), 0);
    for (int i = 0; i < 3; i++) {
        struct err e = { 0 };
        assert_int_not_equal(engine_open(&late, uri, &e), 0);
        if (!strstr(e.text, "descriptor")) fail_msg("%s", e.text);
        assert_int_equal(status(g).rows, 1);
    }
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &before, NULL), 0);
    late = connected();
    assert_int_equal(status(late).system.pid, pid);
    engine_close(late);
    engine_close(g);
}
static void a_server_that_finds_no_memory_is_no_server(void **state) {
    (void)state;
    struct place p;
    struct err e = { 0 };
    assert_int_equal(place_open(&p, folder, true, &e), 0);
    bool opened = false;
    for (long n = 1; n < 1000 && !opened; n++) {
        struct server *s;
        e = (struct err){ 0 };
        mem_fail_at(n);
        const int rc = server_open(&s, &p, &e);
        mem_fail_at(0);
        opened = !rc;
        if (rc) assert_true(e.code == rc && e.text[0] && !s);
        server_close(s);
        assert_false(exists("engine.sock")); /* what did not open leaves nothing behind */
    }
    assert_true(opened);
    place_close(&p);
}

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s/jaeda-link-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) return -1;
    snprintf(uri, sizeof uri, "ipc:%s", folder);
    return 0;
}
/* Ends the engine if one is left, and takes everything away. */
static int teardown(void **state) {
    (void)state;
    chmod(folder, 0700);
    if (exists("engine.sock")) {
        struct engine *g = connected();
        submit(g, &(struct engine_req){ .kind = ENGINE_REQ_ENGINE, .quit = true });
        gone(g, "was stopped by");
    }
    static const char *const left[] = { "log", "log.1", "lock", "ended", "engine.sock" };
    bool sock = !within(5, socket_gone);
    for (int i = 0; i < 5; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, left[i]);
        unlink(path);
    }
    return rmdir(folder) || sock ? -1 : 0;
}
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(notebooks_that_start_together_start_one_engine),
        T(weights_outlive_their_notebook),
        T(a_killed_notebook_frees_its_jobs_within_a_second),
        T(a_dead_engine_says_how_it_died),
        T(an_engine_leaves_when_nobody_needs_it),
        T(a_slow_reader_delays_itself_only),
        T(a_folder_that_is_not_private_is_refused),
        T(another_user_gets_nothing),
        T(another_build_is_told_what_to_do),
        T(rubbish_ends_one_connection_only),
        T(without_descriptors_a_newcomer_is_told_and_the_others_go_on),
        T(a_server_that_finds_no_memory_is_no_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
