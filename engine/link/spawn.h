/* spawn.h - how the resident engine is started, and the guardian that tells how it ended. */
#ifndef JAEDA_LINK_SPAWN_H
#define JAEDA_LINK_SPAWN_H
#include "place.h"

/* Starts jaeda-engine in p (the one beside this program, or $JAEDA_ENGINE_PROGRAM) and waits, at most 10 s, until it
 * listens or says why not: said, its last line. The caller holds `lock`; the engine inherits a copy of it, so that it
 * stays locked until the engine listens, even if the caller dies. */
int spawn_engine(const struct place *p, int lock, char said[200], struct err *e);

/* In the engine's program, before any thread: leaves the caller's process group and descriptors, and splits in two.
 * Returns 0 in the engine, with *words its pipe to the guardian: what it writes there are its last words ("was stopped
 * by ..."); 1 in the guardian, after the engine has ended, its end been told in p and its socket been swept; 1 at once in
 * the caller's process; a status when it cannot be done. */
int spawn_detach(const struct place *p, int *words, struct err *e);

#endif
