#include "executor.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cell.h"
#include "jobs.h"
#include "kernel/interp.h"
#include "redirect.h"
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum asking { NOT_ASKING, TO_ASK, ASKED, ANSWERED };
struct executor {
    struct executor_parts use;
    struct redirect *redirect; /* NULL: it has no part in what libraries print */
    pthread_t thread;
    struct interrupt interrupt;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job *next, *done;
    bool expecting, stopping, ended; /* expecting: a cell is announced and not here yet */
    enum asking asking;
    const char *prompt;
    bool password;
    struct buf answer;
    struct err why;
    /* What libraries print, from any thread. */
    pthread_mutex_t printing;
    const struct cell_output *print_to; /* NULL: no cell runs, or a silent one */
    struct buf held[2];
};

void job_free(struct job *j) {
    if (!j) return;
    message_fini(&j->request.msg);
    json_decref(j->reply);
    mem_free(j);
}
static void tell_io(struct executor *x) {
    const uint64_t one = 1;
    if (write(x->use.ready, &one, sizeof one) < 0) log_at(LOG_DEBUG, "executor: %s", strerror(errno));
}

/* The text may quote what a user typed or a file holds: any bytes. */
json_t *error_output(const struct err *e) {
    struct buf text;
    buf_init(&text, 4 * sizeof e->text);
    utf8_repair(&text, e->text, strlen(e->text));
    const char *ename = status_name(e->code);
    json_t *o = json_pack("{s:s, s:s, s:[o]}", "ename", ename, "evalue", buf_text(&text), "traceback",
                          json_sprintf("%s: %s", ename, buf_text(&text)));
    buf_fini(&text);
    return o;
}
json_t *error_reply(const struct err *e) {
    json_t *o = error_output(e);
    json_object_set_new(o, "status", json_string("error"));
    return o;
}

/* ---- questions ---- */

static int ask(void *arg, const char *prompt, bool password, struct buf *reply, struct err *e) {
    struct executor *x = arg;
    int rc = 0;
    pthread_mutex_lock(&x->lock);
    buf_reset(&x->answer);
    x->why = (struct err){ 0 };
    x->prompt = prompt;
    x->password = password;
    x->asking = TO_ASK;
    tell_io(x);
    while (x->asking != ANSWERED && !atomic_load(&x->interrupt.on)) pthread_cond_wait(&x->changed, &x->lock);
    if (x->asking != ANSWERED)
        rc = err_set(e, STATUS_CANCELLED, "interrupted");
    else if (x->why.code)
        rc = err_set(e, x->why.code, "%s", x->why.text);
    else if (x->answer.n == 1 && x->answer.p[0] == 4)
        rc = err_set(e, STATUS_IO, "end of input: ^D instead of a line");
    else if (buf_add(reply, buf_text(&x->answer), x->answer.n))
        rc = err_set(e, STATUS_NOMEM, "the line is too long");
    x->asking = NOT_ASKING;
    x->prompt = NULL;
    if (password && x->answer.p) explicit_bzero(x->answer.p, x->answer.cap);
    buf_reset(&x->answer);
    pthread_mutex_unlock(&x->lock);
    return rc;
}
bool executor_question(struct executor *x, struct buf *prompt, bool *password) {
    pthread_mutex_lock(&x->lock);
    const bool open = x->asking == TO_ASK;
    if (open) utf8_repair(prompt, x->prompt, strlen(x->prompt));
    *password = x->password;
    pthread_mutex_unlock(&x->lock);
    return open;
}
void executor_asked(struct executor *x) {
    pthread_mutex_lock(&x->lock);
    if (x->asking == TO_ASK) x->asking = ASKED;
    pthread_mutex_unlock(&x->lock);
}
bool executor_answer(struct executor *x, const char *text, size_t n, const char *why) {
    pthread_mutex_lock(&x->lock);
    /* A line that came before its question answers nothing. */
    const bool awaited = x->asking == ASKED || (why && x->asking == TO_ASK);
    if (awaited) {
        if (why)
            err_set(&x->why, STATUS_IO, "%s", why);
        else if (buf_add(&x->answer, text, n))
            err_set(&x->why, STATUS_IO, "the line is too long");
        x->asking = ANSWERED;
        pthread_cond_broadcast(&x->changed);
    }
    pthread_mutex_unlock(&x->lock);
    return awaited;
}

/* ---- what libraries print ---- */

static void print(void *arg, bool to_stderr, const char *p, size_t n) {
    struct executor *x = arg;
    struct buf text;
    buf_init(&text, 1 << 20);
    pthread_mutex_lock(&x->printing);
    if (x->print_to) {
        text_whole(&x->held[to_stderr], p, n, false, &text);
        iopub_stream(x->print_to, to_stderr, buf_text(&text), text.n);
    } else if (x->use.log >= 0 && write(x->use.log, p, n) < 0)
        log_at(LOG_DEBUG, "stderr: %s", strerror(errno));
    pthread_mutex_unlock(&x->printing);
    buf_fini(&text);
}
/* Where prints go from now on; an incomplete character does not reach into the next cell. */
static void print_to(struct executor *x, const struct cell_output *to) {
    pthread_mutex_lock(&x->printing);
    x->print_to = to;
    for (int i = 0; i < 2; i++) buf_reset(&x->held[i]);
    pthread_mutex_unlock(&x->printing);
}

/* ---- one cell ---- */

static json_t *expressions(struct executor *x, const json_t *asked) {
    json_t *all = json_object(), *value;
    const char *name;
    json_object_foreach((json_t *)asked, name, value) {
        struct err e = { 0 };
        const char *code = json_string_value(value);
        json_t *data = code ? interp_expression(x->use.interp, code, &e) : NULL, *o;
        if (data)
            o = json_pack("{s:s, s:o, s:{}}", "status", "ok", "data", data, "metadata");
        else {
            err_set(&e, STATUS_INVALID, "an expression is a text");
            o = error_reply(&e);
        }
        json_object_set_new(all, name, o);
    }
    return all;
}
static void finish(struct executor *x, struct job *j, struct out *o, const struct err *e) {
    json_t *r;
    j->failed = e->code != 0;
    if (j->failed) {
        r = error_reply(e);
        if (!j->silent) iopub_post(x->use.iopub, "error", o->to.parent, o->to.parent_n, error_output(e));
        json_object_set_new(r, "user_expressions", json_object());
    } else {
        r = json_pack("{s:s}", "status", "ok");
        json_object_set_new(r, "user_expressions",
                            expressions(x, json_object_get(j->request.msg.content, "user_expressions")));
        if (j->store && o->result.n) history_result(x->use.history, j->count, o->result.p, o->result.n);
    }
    json_object_set_new(r, "execution_count", json_integer(j->count));
    json_object_set(r, "payload", o->payload);
    j->reply = r;
}
static void stop_cell(void *x) { executor_interrupt(x); }
static void run_job(struct executor *x, struct job *j) {
    struct err e = { 0 };
    struct out o = { .to = { .io = x->use.iopub, .stop = &x->interrupt.on },
                     .interrupt = &x->interrupt,
                     .silent = j->silent,
                     .allow_stdin = j->allow_stdin,
                     .beside = !x->use.main,
                     .count = j->count,
                     .ask = ask,
                     .ask_arg = x,
                     .comms = x->use.comms,
                     .session = json_string_value(json_object_get(j->request.msg.header, "session")),
                     .stop = stop_cell,
                     .stop_arg = x };
    o.to.parent = message_header(&j->request.msg, &o.to.parent_n);
    date_now(j->started);
    if (j->store) history_add(x->use.history, j->count, j->code, j->code_n);
    print_to(x, j->silent ? NULL : &o.to);
    int rc = out_begin(&o) ? err_set(&e, STATUS_NOMEM, "no memory to run the cell") : 0;
    struct work *kept = rc ? NULL : jobs_begin(x->use.jobs, &o, j->code, j->code_n);
    if (!rc) rc = interp_execute(x->use.interp, &o, j->code, j->code_n, &e);
    if (rc) err_set(&e, rc, "the cell failed");
    out_settle(&o);
    jobs_end(x->use.jobs, kept, &o, &e);
    redirect_drain(x->redirect);
    print_to(x, NULL);
    finish(x, j, &o, &e);
    iopub_flush(x->use.iopub); /* the reply follows its outputs on the wire */
    out_fini(&o);
}
static void *run(void *arg) {
    struct executor *x = arg;
    pthread_mutex_lock(&x->lock);
    for (;;) {
        while (!x->next && (x->expecting || !x->stopping)) pthread_cond_wait(&x->changed, &x->lock);
        struct job *j = x->next;
        if (!j) break;
        x->next = NULL;
        pthread_mutex_unlock(&x->lock);
        run_job(x, j);
        pthread_mutex_lock(&x->lock);
        x->done = j;
        tell_io(x);
    }
    x->ended = true;
    pthread_cond_broadcast(&x->changed);
    tell_io(x);
    pthread_mutex_unlock(&x->lock);
    return NULL;
}
void executor_expect(struct executor *x) {
    interrupt_clear(&x->interrupt);
    pthread_mutex_lock(&x->lock);
    x->expecting = true;
    pthread_mutex_unlock(&x->lock);
}
void executor_start(struct executor *x, struct job *j) {
    pthread_mutex_lock(&x->lock);
    x->expecting = false;
    x->next = j;
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
}
struct job *executor_finished(struct executor *x) {
    pthread_mutex_lock(&x->lock);
    struct job *j = x->done;
    x->done = NULL;
    pthread_mutex_unlock(&x->lock);
    return j;
}
void executor_interrupt(struct executor *x) {
    interrupt_raise(&x->interrupt);
    pthread_mutex_lock(&x->lock);
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
    iopub_wake(x->use.iopub);
}

static void executor_free(struct executor *x) {
    redirect_close(x->redirect, x->use.log);
    job_free(x->next);
    job_free(x->done);
    interrupt_fini(&x->interrupt);
    buf_fini(&x->answer);
    for (int i = 0; i < 2; i++) buf_fini(&x->held[i]);
    pthread_mutex_destroy(&x->lock);
    pthread_mutex_destroy(&x->printing);
    pthread_cond_destroy(&x->changed);
    mem_free(x);
}
int executor_open(struct executor **out, const struct executor_parts *parts, struct err *e) {
    *out = NULL;
    struct executor *x = mem_zero(1, sizeof *x);
    if (!x) return err_set(e, STATUS_NOMEM, "no memory for the executor");
    x->use = *parts;
    pthread_mutex_init(&x->lock, NULL);
    pthread_mutex_init(&x->printing, NULL);
    pthread_cond_init(&x->changed, NULL);
    buf_init(&x->answer, 1 << 20);
    for (int i = 0; i < 2; i++) buf_init(&x->held[i], 1 << 16);
    int rc = interrupt_init(&x->interrupt, e);
    if (!rc && parts->main) rc = redirect_open(&x->redirect, print, x, e);
    if (!rc) rc = thread_start(&x->thread, "executor", true, run, x, e);
    if (!rc)
        *out = x;
    else
        executor_free(x);
    return rc;
}
void executor_end(struct executor *x) {
    executor_interrupt(x);
    pthread_mutex_lock(&x->lock);
    x->stopping = true;
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
}
bool executor_ended(struct executor *x, int ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) until.tv_sec++, until.tv_nsec -= 1000000000L;
    pthread_mutex_lock(&x->lock);
    for (int rc = 0; !x->ended && !rc;) rc = pthread_cond_timedwait(&x->changed, &x->lock, &until);
    const bool ended = x->ended;
    pthread_mutex_unlock(&x->lock);
    return ended;
}
void executor_close(struct executor *x) {
    if (!x) return;
    pthread_join(x->thread, NULL);
    executor_free(x);
}
