/* baton.h - whose turn it is to run a cell's code: one thread at a time, in the order of asking. */
#ifndef JAEDA_LANGUAGE_BATON_H
#define JAEDA_LANGUAGE_BATON_H
#include <pthread.h>

/* Fair, unlike a mutex: a cell that waits and goes on a thousand times a second must not starve the others. */
struct baton {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    unsigned long drawn, served;
};
void baton_init(struct baton *b);
void baton_fini(struct baton *b);
/* A place in the queue; whoever draws one must enter with it, from any thread. */
unsigned long baton_draw(struct baton *b);
void baton_enter(struct baton *b, unsigned long ticket); /* waits for it */
void baton_leave(struct baton *b);

/* pthread_create for a thread that takes no signals. */
int thread_quiet(pthread_t *t, void *(*run)(void *), void *arg);

#endif
