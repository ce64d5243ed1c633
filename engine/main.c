/* jaeda-engine: the resident engine of one user. Kernels start it and talk to it through its socket; it outlives them. */
#include "base/log.h"
#include "engine.h"
#include "link/server.h"
#include "link/spawn.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOCK_MS = 10000, LAST_SECONDS = 10 };
static const char USAGE[] =
    "usage: jaeda-engine [--dir DIR]\n"
    "       jaeda-engine --version | --help\n"
    "Notebooks start this program when they need it; %engine in a notebook shows and stops it.\n"
    "It leaves this terminal, listens in DIR and writes its log there.\n";

static struct server *server;
static void on_signal(int number) {
    if (number == SIGALRM) _exit(0); /* closing has taken too long: give everything back to the system now */
    if (server) server_stop(server);
}
/* What a notebook's process had open is not the engine's: a forgotten socket would keep its other end waiting. */
static void close_inherited(void) {
    if (!close_range(STDERR_FILENO + 1, ~0U, 0)) return;
    DIR *d = opendir("/proc/self/fd");
    for (const struct dirent *item; d && (item = readdir(d));) {
        const int fd = (int)strtol(item->d_name, NULL, 10);
        if (fd > STDERR_FILENO && fd != dirfd(d)) close(fd);
    }
    if (d) closedir(d);
}
static void let_go(int fd) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, fd);
    close(null);
}
/* stdin may be the lock that the starting kernel took; it is given back, and stdout told, when the socket listens. */
static int open_server(const struct place *p, struct err *e) {
    const bool given = place_locked_by(p, STDIN_FILENO);
    const int lock = given ? STDIN_FILENO : place_lock(p, LOCK_MS, e);
    if (lock < 0) return e->code;
    const int rc = server_open(&server, p, e);
    if (!given) close(lock);
    let_go(STDIN_FILENO);
    return rc;
}
static int run(const struct place *p, int words) {
    struct err e = { 0 };
    char why[200] = "";
    struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    if (log_to_file(p->fd, "log", PLACE_LOG_BYTES)) {
        printf("jaeda-engine: no log can be written in %s\n", p->dir);
        return 1;
    }
    if (open_server(p, &e)) {
        log_at(LOG_ERROR, "%s", e.text);
        printf("jaeda-engine: %s\n", e.text);
        dprintf(words, "did not start: %.180s", e.text);
        return 1;
    }
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGALRM, &act, NULL);
    log_at(LOG_INFO, "engine %s listens in %s", engine_build(), p->dir);
    printf("jaeda-engine: process %d listens in %s\n", (int)getpid(), p->dir);
    fflush(stdout);
    let_go(STDOUT_FILENO);
    server_run(server, why);
    dprintf(words, "%s", why);
    alarm(LAST_SECONDS);
    struct server *last = server;
    server = NULL;
    server_close(last);
    return 0;
}
int main(int argc, char **argv) {
    struct err e = { 0 };
    struct place p;
    int words = -1;
    if (argc == 2 && !strcmp(argv[1], "--version")) return printf("jaeda-engine %s\n", engine_build()) < 0;
    if (argc == 2 && !strcmp(argv[1], "--help")) return fputs(USAGE, stdout) < 0;
    if (argc != 1 && (argc != 3 || strcmp(argv[1], "--dir") != 0)) return fputs(USAGE, stderr), 2;
    close_inherited();
    if (place_open(&p, argc == 3 ? argv[2] : "", true, &e)) return fprintf(stderr, "jaeda-engine: %s\n", e.text), 1;
    const int rc = spawn_detach(&p, &words, &e);
    if (rc < 0) return fprintf(stderr, "jaeda-engine: %s\n", e.text), 1;
    return rc ? 0 : run(&p, words);
}
