#include "baton.h"
#include <signal.h>

void baton_init(struct baton *b) {
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->moved, NULL);
    b->drawn = b->served = 0;
}
void baton_fini(struct baton *b) {
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->moved);
}
unsigned long baton_draw(struct baton *b) {
    pthread_mutex_lock(&b->lock);
    const unsigned long ticket = b->drawn++;
    pthread_mutex_unlock(&b->lock);
    return ticket;
}
void baton_enter(struct baton *b, unsigned long ticket) {
    pthread_mutex_lock(&b->lock);
    while (b->served != ticket) pthread_cond_wait(&b->moved, &b->lock);
    pthread_mutex_unlock(&b->lock);
}
void baton_leave(struct baton *b) {
    pthread_mutex_lock(&b->lock);
    b->served++;
    pthread_cond_broadcast(&b->moved);
    pthread_mutex_unlock(&b->lock);
}
int thread_quiet(pthread_t *t, void *(*run)(void *), void *arg) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int rc = pthread_create(t, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}
