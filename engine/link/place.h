/* place.h - the directory in which a user's engine lives: its socket, its log, and the lock that decides who starts it.
 *
 *   engine.sock   the engine listens here
 *   lock          flock: whoever binds, starts or removes the socket holds it; it vanishes with its process
 *   log, log.1    what the engine wrote; the second is the part before the last rotation
 *   ended         what became of the last engine, written by its guardian
 *
 * The directory is the user's own and nobody else's (0700); everything in it is reached through its descriptor. */
#ifndef JAEDA_LINK_PLACE_H
#define JAEDA_LINK_PLACE_H
#include "base/buf.h"
#include "base/err.h"
#include <stdint.h>
#include <sys/types.h>

enum { PLACE_PATH = 1024, PLACE_LOG_BYTES = 1 << 20 };
struct place {
    int fd; /* of the directory; -1: closed */
    char dir[PLACE_PATH];
};
/* dir "": the user's own, which follows from the uid and not from the environment. Made when it is missing and make is
 * set. Refused when it is not a directory of this user's alone. */
int place_open(struct place *p, const char *dir, bool make, struct err *e);
void place_close(struct place *p);

/* Each returns a descriptor (close-on-exec), or a status. */
/* STATUS_NOTFOUND: nobody listens, or what listened is gone. */
int place_connect(const struct place *p, struct err *e);
/* Under the lock: a socket that nobody answers any more is replaced. STATUS_BUSY: somebody listens. *own: for
 * place_remove_socket. */
int place_listen(const struct place *p, ino_t *own, struct err *e);
/* Waits at most wait_ms; STATUS_BUSY after that. Closing it gives it back, once every copy is closed. */
int place_lock(const struct place *p, int wait_ms, struct err *e);
/* Is this descriptor a copy of the one that place_lock gave to another process? */
bool place_locked_by(const struct place *p, int fd);
/* The uid at the other end of a connected socket; (uid_t)-1: unknown. */
uid_t place_peer(int sock);

/* Removes the socket if nobody listens on it, under the lock, waiting at most wait_ms. */
void place_sweep(const struct place *p, int wait_ms);
/* Whoever listens removes its socket before it closes it; not one that another engine has put in its place. */
void place_remove_socket(const struct place *p, ino_t own);
/* Appends the last lines of the log. */
void place_log(const struct place *p, int lines, struct buf *out);
/* What became of the process pid ("was killed by signal 9"): one line, replaced as a whole. */
int place_ended(const struct place *p, pid_t pid, const char *what, struct err *e);
/* false: nothing is known of that process, or not yet. */
bool place_how_ended(const struct place *p, pid_t pid, char what[256]);

#endif
