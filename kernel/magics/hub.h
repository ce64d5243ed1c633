/* hub.h - one engine connection for all threads of a kernel: the main shell, subshells, jobs in the background. A thread
 * of its own takes the engine's events and gives each to the job that it belongs to. Any thread. */
#ifndef JAEDA_MAGICS_HUB_H
#define JAEDA_MAGICS_HUB_H
#include "engine/engine.h"

/* Where the engine is when JAEDA_ENGINE says nothing; see engine_open. */
#define DEFAULT_ENGINE "ipc:"

struct hub;
struct pending; /* a submitted request until its last event was taken; belongs to one thread */

int hub_open(struct hub **out, struct err *e); /* opens no engine yet */
/* Ends the connection: every pending request ends as lost. Frees nothing that they need. */
void hub_stop(struct hub *h);
void hub_close(struct hub *h);     /* after hub_stop, when nothing is pending any more; NULL is fine */
const char *hub_uri(void);         /* of the engine that this kernel uses; valid until %env changes JAEDA_ENGINE */
bool hub_connected(struct hub *h); /* false: no engine was needed so far, or it is gone */

/* The engine was asked to end: waits at most that long until the connection is over, of which there are no news then. */
void hub_farewell(struct hub *h, int ms);

/* A lane for one cell's jobs: 0 for the main shell, a free one for others (beside). -1 and e: all are taken. */
int hub_lane(struct hub *h, bool beside, struct err *e);
void hub_lane_back(struct hub *h, int lane); /* < 0 is fine */

/* Opens the engine when it is not; q is copied. On success pending_close it when it ended. */
int hub_submit(struct hub *h, const struct engine_req *q, struct pending **out, struct err *e);
int pending_fd(const struct pending *p); /* readable when pending_next has something */
/* 1: an event, to be freed with engine_event_fini. 0: none now. -1: the connection is lost; pending_gone says why. */
int pending_next(struct pending *p, struct engine_event *ev);
/* Why it was lost, into e; the last lines of the engine's log, "" when there are none. Valid until pending_close. */
const char *pending_gone(struct pending *p, struct err *e);
void pending_cancel(struct pending *p);
/* Only after DONE, FAIL or -1. */
void pending_close(struct pending *p);
/* True once after the engine was lost while nobody waited for it, with the reason in why. */
bool hub_news(struct hub *h, struct err *why);

#endif
