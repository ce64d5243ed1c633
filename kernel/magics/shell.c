#include "shell.h"
#include "base/mem.h"
#include "kernel/language/state.h"
#include "kernel/language/words.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 64 << 10, SCRIPT_FD = 9 };

/* A running child and what is known of its end. */
struct child {
    struct out *o;
    const struct shell *s;
    pid_t pid;
    int pipe[2]; /* stdout, stderr; -1: closed */
    bool gone;   /* waited for */
    int status;
    double stopping; /* when the user asked to stop; 0: not asked */
    int signals;     /* sent so far: SIGINT, SIGTERM, SIGKILL */
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What the child does between vfork and exec: system calls only, on its own descriptors. */
static void become(const struct shell *s, const int to[2], int script) {
    struct sigaction plain = { .sa_handler = SIG_DFL };
    for (int sig = 1; sig < 32; sig++) sigaction(sig, &plain, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(to[0], 1) < 0 || dup2(to[1], 2) < 0) _exit(127);
    if (script == SCRIPT_FD ? fcntl(script, F_SETFD, 0) : script >= 0 && dup2(script, SCRIPT_FD) < 0) _exit(127);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(s->argv[0], (char *const *)s->argv);
    _exit(127);
}
/* vfork, since a process with gigabytes of weights should not copy its page tables for `ls`. Signals stay blocked until
 * the child has its own dispositions, as a handler would run in the parent's memory. */
static pid_t start(const struct shell *s, const int to[2], int script) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const pid_t pid = vfork();
    if (!pid) become(s, to, script);
    const int saved = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = saved;
    return pid;
}
static int script_file(const struct shell *s) {
    const int fd = memfd_create("cell", MFD_CLOEXEC);
    size_t done = 0;
    while (fd >= 0 && done < s->script_len) {
        const ssize_t n = write(fd, s->script + done, s->script_len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return close(fd), -1;
        done += (size_t)n;
    }
    if (fd >= 0) lseek(fd, 0, SEEK_SET);
    return fd;
}

/* Shows or keeps what came; false: end of file. */
static bool take(struct child *c, int which, char *chunk) {
    const ssize_t n = read(c->pipe[which], chunk, CHUNK);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (n <= 0) return false;
    if (c->s->text[which]) {
        buf_add(c->s->text[which], chunk, (size_t)n);
    } else {
        out_stream(c->o, which ? OUT_STDERR : OUT_STDOUT, chunk, (size_t)n); /* when stopped and full: dropped */
    }
    return true;
}
/* Did it end? It stays a zombie until follow() has stopped its group: nobody else gets its number before. */
static void look(struct child *c) {
    siginfo_t info = { .si_pid = 0 };
    if (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) ? errno != EINTR : info.si_pid == c->pid)
        c->gone = true;
}
static void escalate(struct child *c) {
    static const int signal_of[] = { SIGINT, SIGTERM, SIGKILL };
    static const double after[] = { 0, 1.5, 3 };
    if (!c->stopping) c->stopping = now();
    if (c->signals < 3 && now() - c->stopping >= after[c->signals]) kill(-c->pid, signal_of[c->signals++]);
}
/* One wait of at most 100 ms: output, an interrupt, or nothing. True: output came. */
static bool turn(struct child *c, char *chunk) {
    struct pollfd p[3];
    int n = 0, which[3];
    for (int i = 0; i < 2; i++)
        if (c->pipe[i] >= 0) which[n] = i, p[n++] = (struct pollfd){ c->pipe[i], POLLIN, 0 };
    if (!c->stopping) which[n] = 2, p[n++] = (struct pollfd){ out_interrupt_fd(c->o), POLLIN, 0 };
    interp_pause();
    const int ready = poll(p, (nfds_t)n, 100);
    interp_resume();
    bool came = false;
    for (int i = 0; i < n && ready > 0; i++) {
        if (!p[i].revents || which[i] == 2) continue;
        came = take(c, which[i], chunk);
        if (!came) close(c->pipe[which[i]]), c->pipe[which[i]] = -1;
    }
    if (c->stopping || out_interrupted(c->o)) escalate(c);
    return came;
}
/* Runs until the child is gone and its output is read. What it left running in its group ends with the cell. */
static void follow(struct child *c, char *chunk) {
    double quiet = now();
    while (!c->gone || c->pipe[0] >= 0 || c->pipe[1] >= 0) {
        if (turn(c, chunk)) quiet = now();
        look(c);
        if (!c->gone) quiet = now();
        if (now() - quiet > 0.5) break; /* somebody else holds the pipe and is silent */
        if (c->stopping && now() - c->stopping > 4) break;
    }
    kill(-c->pid, SIGKILL);
    while (waitpid(c->pid, &c->status, 0) < 0 && errno == EINTR) continue;
    for (int i = 0; i < 2; i++)
        if (c->pipe[i] >= 0) close(c->pipe[i]);
}
static int run_in(struct child *c, int to[2], struct err *e) {
    const struct shell *s = c->s;
    const int script = s->script ? script_file(s) : -1;
    char *chunk = mem_alloc(CHUNK);
    if (!chunk || (s->script && script < 0)) {
        err_set(e, STATUS_NOMEM, "out of memory for a command");
    } else if ((c->pid = start(s, to, script)) < 0) {
        err_set(e, STATUS_SHELL, "cannot start %s: %s", s->argv[0], strerror(errno));
    }
    if (script >= 0) close(script);
    for (int i = 0; i < 2; i++)
        if (to[i] >= 0 && (i == 0 || to[1] != to[0])) close(to[i]);
    if (c->pid > 0) {
        follow(c, chunk);
    } else {
        for (int i = 0; i < 2; i++)
            if (c->pipe[i] >= 0) close(c->pipe[i]);
    }
    mem_free(chunk);
    return c->pid > 0 ? 0 : e->code;
}
int shell_run(struct out *o, const struct shell *s, int *status, struct err *e) {
    struct child c = { .o = o, .s = s, .pipe = { -1, -1 } };
    int to[2] = { -1, -1 };
    for (int i = 0; i < (s->merge ? 1 : 2); i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC)) {
            for (int k = 0; k < i; k++) close(c.pipe[k]), close(to[k]);
            return err_set(e, STATUS_SHELL, "cannot start %s: %s", s->argv[0], strerror(errno));
        }
        c.pipe[i] = pair[0];
        to[i] = pair[1];
    }
    if (s->merge) to[1] = to[0];
    const int rc = run_in(&c, to, e);
    if (rc) return rc;
    *status = WIFSIGNALED(c.status) ? 128 + WTERMSIG(c.status) : WEXITSTATUS(c.status);
    return c.stopping ? err_set(e, STATUS_CANCELLED, "interrupted: the command was stopped") : 0;
}

static bool in_background(const char *command) {
    size_t n = strlen(command);
    while (n && strchr(" \t\n", command[n - 1])) n--;
    return n > 1 && command[n - 1] == '&' && command[n - 2] != '&';
}
int shell_line(struct interp *in, struct out *o, const char *command, struct err *e) {
    char *text = words_expand(command, &in->vars, false, e);
    if (!text) return e->code;
    const char *program = access("/bin/bash", X_OK) ? "sh" : "bash";
    const char *argv[] = { program, "-c", text, NULL };
    const struct shell s = { .argv = argv, .merge = true };
    int status = 0, rc;
    if (in_background(text)) {
        rc = err_set(e, STATUS_INVALID,
                     "a command in the background (&) would end with its cell: start it with "
                     "`setsid -f command > file 2>&1`");
    } else {
        rc = shell_run(o, &s, &status, e);
    }
    if (!rc) {
        struct literal code = { .kind = LITERAL_INT };
        char digits[16];
        snprintf(digits, sizeof digits, "%d", status);
        code.text = mem_string(digits);
        code.repr = mem_string(digits);
        in->changed = true;
        rc = code.text && code.repr ? variables_set(&in->vars, "_exit_code", &code, e)
                                    : (literal_fini(&code), err_set(e, STATUS_NOMEM, "out of memory"));
    }
    mem_free(text);
    return rc;
}
