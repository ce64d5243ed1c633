/* The Jupyter process: reads the connection file, starts the threads of protocol/, then waits for a signal, for the
 * parent's death or for a shutdown_request. */
#include "base/log.h"
#include "base/mem.h"
#include "kernel/interp.h"
#include "kernel/magics/hub.h"
#include "protocol/comm.h"
#include "protocol/jobs.h"
#include "protocol/redirect.h"
#include "protocol/registration.h"
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
static const char USAGE[] =
    "usage: jaeda-kernel (-f CONNECTION_FILE | -r REGISTRATION_FILE) [--engine URI]\n"
    "       jaeda-kernel --version | --features | --help\n"
    "Jupyter starts this program and writes the file: one with the ports to listen at, or one that names the launcher\n"
    "that is told the ports this program has found (the startup handshake).\n"
    "  -f, --connection-file FILE    either of the two\n"
    "  -r, --registration-file FILE  only the second\n"
    "  --engine URI                  where models run: ipc: the engine that all notebooks share and that outlives\n"
    "                                them, ipc:DIR one with its socket in DIR, local: inside this program\n"
    "                                (JAEDA_ENGINE; else " DEFAULT_ENGINE ")\n"
    "  --features                    what this machine adds, a word a line: curve (encrypted connections)\n";

struct options {
    const char *file, *engine;
    bool registration; /* file must be one */
};
struct kernel {
    struct wire_key *key;
    struct sender sender;
    void *context;
    struct history *history;
    struct interp *interp;
    struct iopub *iopub;
    struct comms *comms;
    struct jobs *jobs;
    struct shells *shells;
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
static int open_outputs(struct kernel *k, struct connection *c, struct err *e) {
    k->context = zmq_ctx_new();
    k->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    k->history = history_open(NULL);
    if (!k->context || k->quit < 0 || !k->history) return err_set(e, STATUS_NOMEM, "no memory to start");
    if (wire_key_open(&k->key, c->scheme, c->key, e) || sender_init(&k->sender, k->key, e)) return e->code;
    void *xpub = channel_bind(k->context, ZMQ_XPUB, c, CHANNEL_IOPUB, e);
    return xpub ? iopub_open(&k->iopub, xpub, &k->sender, e) : e->code;
}
static int kernel_open(struct kernel *k, struct connection *c, struct err *e) {
    int rc = channel_check(c, e);
    if (!rc) rc = open_outputs(k, c, e);
    if (!rc) rc = jobs_open(&k->jobs, NULL, e);
    const struct interp_host host = { k->history, walk_history, k->jobs ? jobs_host(k->jobs) : NULL };
    if (!rc) rc = interp_open(&k->interp, &host, e);
    if (!rc) rc = comms_open(&k->comms, k->iopub, e);
    const struct executor_parts runs = {
        .interp = k->interp, .iopub = k->iopub, .comms = k->comms, .history = k->history, .jobs = k->jobs, .log = k->log
    };
    if (!rc) jobs_bind(k->jobs, k->interp, k->iopub);
    if (!rc) rc = shells_open(&k->shells, &runs, e);
    const struct server_parts parts = { .key = k->key,
                                        .sender = &k->sender,
                                        .iopub = k->iopub,
                                        .comms = k->comms,
                                        .shells = k->shells,
                                        .interp = k->interp,
                                        .history = k->history,
                                        .quit = k->quit };
    if (!rc) rc = server_open(&k->server, k->context, c, &parts, e);
    if (!rc) rc = heartbeat_open(&k->heartbeat, c, e);
    if (!rc && *c->registration) rc = registration_send(k->context, c, k->key, e);
    if (!rc) iopub_status(k->iopub, NULL, 0, "starting", false);
    return rc;
}
/* Ends the cells, sends what is to be sent, closes. A cell that does not end keeps what it uses: the caller has to
 * leave by _exit. */
static bool kernel_close(struct kernel *k) {
    bool ended = !k->shells || shells_stop(k->shells, CELL_MS);
    if (!ended) {
        kill_commands();
        ended = shells_stop(k->shells, CELL_MS / 2);
    }
    ended = jobs_stop(k->jobs, CELL_MS) && ended;
    server_close(k->server);
    if (k->iopub) iopub_stop(k->iopub);
    heartbeat_close(k->heartbeat);
    while (k->context && zmq_ctx_term(k->context) < 0 && errno == EINTR) continue; /* or what is on its way is lost */
    if (!ended) return false;
    shells_close(k->shells);
    jobs_close(k->jobs);
    interp_close(k->interp);
    comms_close(k->comms);
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
            shells_interrupt(k->shells);
        }
        if (at[1].revents) return false;
        if (at[2].revents) return true;
    }
}
static int run(const struct options *o, int log) {
    struct err e = { 0 };
    struct connection c;
    struct kernel k = { .log = log, .quit = -1 };
    const struct parent parent = parent_watch(); /* first of all: it may die while the sockets are bound */
    int rc = connection_load(&c, o->file, &e);
    if (!rc && o->registration && !*c.registration)
        rc = err_set(&e, STATUS_INVALID, "registration file %.200s: it has no registration_port", o->file);
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
/* The value of an option of this short or long name at argv[*i], which moves behind it; NULL: it is another. */
static const char *value_of(char **argv, int *i, const char *brief, const char *name) {
    const size_t n = strlen(name);
    const char *at = argv[*i], *value = NULL;
    if (!strncmp(at, name, n) && at[n] == '=')
        value = at + n + 1;
    else if (!strcmp(at, brief) || !strcmp(at, name))
        value = argv[++*i];
    else
        return NULL;
    return value ? value : "";
}
/* false: they are not to be understood. */
static bool read_options(struct options *o, char **argv) {
    for (int i = 1; argv[i]; i++) {
        const char *file = value_of(argv, &i, "-f", "--connection-file"), *other = NULL, *engine = NULL;
        if (!file) file = other = value_of(argv, &i, "-r", "--registration-file");
        if (!file) engine = value_of(argv, &i, "--engine", "--engine");
        if ((!file || !*file || o->file) && (!engine || !*engine || o->engine)) return false;
        if (file) o->file = file;
        if (other) o->registration = true;
        if (engine) o->engine = engine;
        if (!argv[i]) return false;
    }
    return o->file;
}
int main(int argc, char **argv) {
    struct options o = { 0 };
    redirect_guard();
    if (argc == 2 && !strcmp(argv[1], "--version")) return puts("jaeda-kernel " JAEDA_VERSION) < 0;
    if (argc == 2 && !strcmp(argv[1], "--help")) return fputs(USAGE, stdout) < 0;
    if (argc == 2 && !strcmp(argv[1], "--features")) return fputs(zmq_has("curve") ? "curve\n" : "", stdout) < 0;
    if (!read_options(&o, argv)) {
        fputs("jaeda-kernel: it takes one of -f CONNECTION_FILE and -r REGISTRATION_FILE; --help says more\n", stderr);
        return 2;
    }
    if (o.engine) setenv("JAEDA_ENGINE", o.engine, 1); /* before there are threads */
    const int log = redirect_keep_stderr();
    log_to(log);
    json_set_alloc_funcs(mem_alloc, mem_free);
    json_object_seed(0);
    return run(&o, log);
}
