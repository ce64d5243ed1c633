/* The Jupyter process: reads the connection file, starts the threads of protocol/, then waits for a signal, for the
 * parent's death or for a shutdown_request. */
#include "base/log.h"
#include "base/mem.h"
#include "kernel/interp.h"
#include "protocol/redirect.h"
#include "protocol/server.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zmq.h>

enum { CELL_MS = 1000, LAST_SECONDS = 4, PARENT_MS = 500 };
static const char USAGE[] = "usage: jaeda-kernel -f CONNECTION_FILE\n"
                            "       jaeda-kernel --version | --help\n"
                            "Jupyter starts this program and writes the connection file.\n";

struct kernel {
    struct wire_key *key;
    struct sender sender;
    void *context;
    struct history *history;
    struct interp *interp;
    struct iopub *iopub;
    struct executor *executor;
    struct server *server;
    struct heartbeat *heartbeat;
    int log, quit; /* descriptors: stderr as it was; eventfd of a shutdown_request */
};

/* ---- signals ---- */

/* Handlers, not sigwait or SIG_IGN: a blocked or ignored signal would stay so in every command that a cell starts. */
static int signal_pipe[2] = { -1, -1 };
static void on_signal(int number) {
    const int before = errno;
    const char c = (char)number;
    if (number == SIGALRM) _exit(0); /* closing has taken too long: give everything back to the system now */
    if (number != SIGPIPE && number != SIGXFSZ && write(signal_pipe[1], &c, 1) < 0) errno = before;
    errno = before;
}
static int catch_signals(struct err *e) {
    static const int all[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ, SIGALRM };
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK)) return err_set(e, STATUS_IO, "pipe: %s", strerror(errno));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct sigaction a = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
        sigaction(all[i], &a, NULL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return 0;
}

/* ---- parent ---- */

struct parent {
    int fd;    /* pidfd of JPY_PARENT_PID; -1: none */
    pid_t pid; /* getppid() as it should stay; 0: not watched that way */
    bool dead;
};
/* Jupyter names its process in JPY_PARENT_PID, and leaves it out for a kernel that may outlive it. Between the two may
 * stand a wrapper, so the parent itself is compared only when it is the one named. */
static struct parent parent_watch(void) {
    const char *named = getenv("JPY_PARENT_PID");
    const long pid = named ? strtol(named, NULL, 10) : 0;
    struct parent p = { .fd = -1 };
    if (pid <= 0) return p;
    p.fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (getppid() == (pid_t)pid)
        p.pid = (pid_t)pid;
    else
        p.dead = p.fd < 0 && errno == ESRCH && getppid() == 1;
    return p;
}

/* ---- children ---- */

/* Ends the process groups that a cell's commands lead, when the cell did not end them in time. Linux lists children by
 * the thread that forked them. */
static void kill_commands(void) {
    DIR *threads = opendir("/proc/self/task");
    const struct dirent *thread;
    char path[300];
    while (threads && (thread = readdir(threads))) {
        snprintf(path, sizeof path, "/proc/self/task/%s/children", thread->d_name);
        FILE *children = fopen(path, "re");
        for (int pid; children && fscanf(children, "%d", &pid) == 1;)
            if (pid > 1 && getpgid(pid) == pid) kill(-pid, SIGKILL);
        if (children) fclose(children);
    }
    if (threads) closedir(threads);
}

/* ---- opening and closing ---- */

static void walk_history(void *arg, int session, int n, void (*line)(void *, int, int, const char *), void *to) {
    history_walk(arg, session, n, line, to);
}
static int open_outputs(struct kernel *k, const struct connection *c, struct err *e) {
    k->context = zmq_ctx_new();
    k->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    k->history = history_open(NULL);
    if (!k->context || k->quit < 0 || !k->history) return err_set(e, STATUS_NOMEM, "no memory to start");
    if (wire_key_open(&k->key, c->scheme, c->key, e) || sender_init(&k->sender, k->key, e)) return e->code;
    void *xpub = channel_bind(k->context, ZMQ_XPUB, c, CHANNEL_IOPUB, e);
    return xpub ? iopub_open(&k->iopub, xpub, &k->sender, e) : e->code;
}
static int kernel_open(struct kernel *k, const struct connection *c, struct err *e) {
    int rc = open_outputs(k, c, e);
    const struct interp_host host = { .arg = k->history, .history = walk_history };
    if (!rc) rc = interp_open(&k->interp, &host, e);
    if (!rc) rc = executor_open(&k->executor, k->interp, k->iopub, k->history, k->log, e);
    const struct server_parts parts = { .key = k->key,
                                        .sender = &k->sender,
                                        .iopub = k->iopub,
                                        .executor = k->executor,
                                        .interp = k->interp,
                                        .history = k->history,
                                        .quit = k->quit };
    if (!rc) rc = server_open(&k->server, k->context, c, &parts, e);
    if (!rc) rc = heartbeat_open(&k->heartbeat, c, e);
    if (!rc) iopub_status(k->iopub, NULL, 0, "starting", false);
    return rc;
}
/* Ends the cell, sends what is to be sent, closes. A cell that does not end keeps what it uses: the caller has to
 * leave by _exit. */
static bool kernel_close(struct kernel *k) {
    bool ended = !k->executor || executor_stop(k->executor, CELL_MS);
    if (!ended) {
        kill_commands();
        ended = executor_stop(k->executor, CELL_MS / 2);
    }
    server_close(k->server);
    if (k->iopub) iopub_stop(k->iopub);
    heartbeat_close(k->heartbeat);
    if (k->context) zmq_ctx_term(k->context);
    if (!ended) return false;
    executor_close(k->executor);
    interp_close(k->interp);
    iopub_close(k->iopub);
    history_close(k->history);
    wire_key_close(k->key);
    return true;
}
/* Until something asks for the end; true: the parent is dead. */
static bool wait_for_end(const struct kernel *k, struct parent parent) {
    struct pollfd at[] = { { .fd = signal_pipe[0], .events = POLLIN },
                           { .fd = k->quit, .events = POLLIN },
                           { .fd = parent.fd, .events = POLLIN } };
    for (;;) {
        char number;
        if (parent.dead || (parent.pid && getppid() != parent.pid)) return true;
        if (poll(at, 3, parent.pid ? PARENT_MS : -1) < 0) continue;
        while (read(signal_pipe[0], &number, 1) == 1) {
            if (number != SIGINT) return false;
            executor_interrupt(k->executor);
        }
        if (at[1].revents) return false;
        if (at[2].revents) return true;
    }
}
static int run(const char *file, int log) {
    struct err e = { 0 };
    struct connection c;
    struct kernel k = { .log = log, .quit = -1 };
    const struct parent parent = parent_watch(); /* first of all: it may die while the sockets are bound */
    int rc = connection_load(&c, file, &e);
    if (!rc) rc = catch_signals(&e);
    if (!rc) rc = kernel_open(&k, &c, &e);
    if (rc)
        dprintf(log, "jaeda-kernel: %s\n", e.text);
    else {
        log_at(LOG_INFO, "kernel %s is ready", JAEDA_VERSION);
        if (wait_for_end(&k, parent)) log_at(LOG_INFO, "the parent is gone: leaving");
    }
    alarm(LAST_SECONDS);
    const bool whole = kernel_close(&k);
    if (!rc) connection_remove_sockets(&c);
    if (!whole) _exit(rc ? 1 : 0);
    return rc ? 1 : 0;
}
static const char *connection_argument(int argc, char **argv) {
    static const char NAME[] = "--connection-file=";
    if (argc == 3 && (!strcmp(argv[1], "-f") || !strcmp(argv[1], "--connection-file"))) return argv[2];
    return argc == 2 && !strncmp(argv[1], NAME, sizeof NAME - 1) ? argv[1] + sizeof NAME - 1 : NULL;
}
int main(int argc, char **argv) {
    redirect_guard();
    if (argc == 2 && !strcmp(argv[1], "--version")) return puts("jaeda-kernel " JAEDA_VERSION) < 0;
    if (argc == 2 && !strcmp(argv[1], "--help")) return fputs(USAGE, stdout) < 0;
    const char *file = connection_argument(argc, argv);
    if (!file) {
        fputs("jaeda-kernel: it takes -f CONNECTION_FILE; --help says more\n", stderr);
        return 2;
    }
    const int log = redirect_keep_stderr();
    log_to(log);
    json_set_alloc_funcs(mem_alloc, mem_free);
    json_object_seed(0); /* before there are threads */
    return run(file, log);
}
