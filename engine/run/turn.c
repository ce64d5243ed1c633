#include "turn.h"
#include "job.h"

void turn_init(struct turn *t) {
    *t = (struct turn){ .now = 1 };
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->moved, NULL);
}
void turn_fini(struct turn *t) {
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->moved);
}
double turn_take(struct turn *t, struct step *yields) {
    const double asked = now_us();
    pthread_mutex_lock(&t->lock);
    const unsigned long mine = ++t->last;
    if (t->now != mine && t->yields) step_cancel(t->yields);
    while (t->now != mine) pthread_cond_wait(&t->moved, &t->lock);
    t->yields = yields;
    if (yields && t->last != mine) step_cancel(yields); /* somebody came while it waited itself */
    pthread_mutex_unlock(&t->lock);
    return now_us() - asked;
}
void turn_give(struct turn *t) {
    pthread_mutex_lock(&t->lock);
    t->yields = NULL;
    t->now++;
    pthread_cond_broadcast(&t->moved);
    pthread_mutex_unlock(&t->lock);
}
int turn_rows(int rows, double ms) {
    const double fits = ms > 0 ? rows * (0.5 * TURN_MS) / ms : ROWS_MAX;
    return fits < 1 ? 1 : fits > ROWS_MAX ? ROWS_MAX : (int)fits;
}
