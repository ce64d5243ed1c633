#include "base/log.h"
#include "base/mem.h"
#include "handlers.h"
#include "kernel/interp.h"
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

enum {
    ABORT_QUIET_MS = 30,  /* a failed cell's reply waits until no cell has come for so long, */
    ABORT_MOST_MS = 1000, /* and no longer than this: those that come were sent before it */
    STDIN_TRY_MS = 50,    /* between attempts to reach a client whose stdin is still connecting */
    STDIN_PATIENCE_MS = 3000,
};
static const char CLIENTS[] = "inproc://shell-clients"; /* ZeroMQ tells there when one disconnects */

struct server {
    struct server_parts use;
    void *control, *shell, *input, *clients;
    pthread_t thread;
    int stop; /* eventfd */
    struct frames in, out;
    struct wire_replay *replay;
    struct usage usage;
    int count;      /* of the cells that were stored, in all shells */
    bool shut_down; /* asked for */
};
const struct server_parts *server_parts(const struct server *s) { return &s->use; }
struct usage *server_usage(struct server *s) {
    return &s->usage;
}
void server_shut_down(struct server *s) {
    shells_end(s->use.shells);
    s->shut_down = true;
}

/* ---- sending ---- */

static void status(struct server *s, const struct request *r, const char *state, bool cell) {
    size_t n;
    const char *parent = message_header(&r->msg, &n);
    iopub_status(s->use.iopub, parent, n, state, cell);
}
static void begin(struct server *s, const struct request *r) { status(s, r, "busy", false); }
/* A bare idle would make a server believe that the kernel rests: while a cell runs, its busy follows. */
static void idle(struct server *s, const struct request *r, bool cell) {
    status(s, r, "idle", cell);
    const struct shell *h = shells_busy(s->use.shells);
    if (h) status(s, &h->running->request, "busy", false);
}
static void end(struct server *s, const struct request *r) { idle(s, r, false); }
/* Sends to the client of r over this socket. Steals content and metadata. 0, or why not, as an errno. */
static int send_to(struct server *s, void *socket, const struct request *r, const char *type, json_t *content,
                   json_t *metadata, char *id) {
    struct buf text, meta;
    buf_init(&text, (size_t)1 << 30);
    buf_init(&meta, 1 << 20);
    struct outgoing m = { .to = &r->msg, .type = type };
    m.parent = message_header(&r->msg, &m.parent_n);
    errno = ENOMEM;
    int rc = content ? wire_dump(&text, content) : -1;
    if (!rc && metadata) rc = wire_dump(&meta, metadata);
    m.content = text.p;
    m.content_n = text.n;
    m.metadata = meta.p;
    if (!rc) rc = sender_write(s->use.sender, &s->out, &m, id);
    if (!rc) rc = channel_send(socket, &s->out);
    const int why = rc ? errno : 0;
    if (why && why != EHOSTUNREACH)
        log_at(LOG_WARN, "%s: a %s was not sent: %s", channel_name(r->channel), type, strerror(why));
    json_decref(content);
    json_decref(metadata);
    buf_fini(&text);
    buf_fini(&meta);
    return why;
}
static void reply(struct server *s, const struct request *r, const char *type, json_t *content, json_t *metadata) {
    send_to(s, r->channel == CHANNEL_CONTROL ? s->control : s->shell, r, type, content, metadata, NULL);
}

/* ---- cells ---- */

static bool flag(const json_t *o, const char *name, bool otherwise) {
    const json_t *v = json_object_get(o, name);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}
/* Takes r. NULL and e: it is no cell that can run. */
static struct job *job_new(struct request *r, struct err *e) {
    const json_t *c = r->msg.content, *code = json_object_get(c, "code");
    if (r->msg.malformed.code)
        err_set(e, STATUS_INVALID, "%s", r->msg.malformed.text);
    else if (!json_is_string(code))
        err_set(e, STATUS_INVALID, "execute_request has no code");
    struct job *j = e->code ? NULL : mem_zero(1, sizeof *j);
    if (!j) {
        err_set(e, STATUS_NOMEM, "no memory for the cell");
        return NULL;
    }
    j->silent = flag(c, "silent", false);
    j->store = !j->silent && flag(c, "store_history", true);
    j->allow_stdin = flag(c, "allow_stdin", false);
    j->stop_on_error = flag(c, "stop_on_error", true);
    j->code = json_string_value(code);
    j->code_n = json_string_length(code);
    j->request = *r;
    *r = (struct request){ 0 };
    return j;
}
/* A cell that cannot even wait: its front end shows the error under it. */
static void refuse_cell(struct server *s, const struct request *r, const struct err *e) {
    size_t n;
    const char *parent = message_header(&r->msg, &n);
    json_t *content = error_reply(e);
    begin(s, r);
    if (!flag(r->msg.content, "silent", false)) iopub_post(s->use.iopub, "error", parent, n, error_output(e));
    json_object_set_new(content, "execution_count", json_integer(s->count));
    reply(s, r, "execute_reply", content, NULL);
    end(s, r);
}
static void put_off_answer(struct shell *h) {
    h->answer_us = clock_us() + ABORT_QUIET_MS * 1000;
    if (h->answer_us > h->latest_us) h->answer_us = h->latest_us;
}
/* The shell that its header names. */
static struct shell *shell_of(struct server *s, const struct request *r, struct err *e) {
    const json_t *id = json_object_get(r->msg.header, "subshell_id");
    if (id && !json_is_string(id) && !json_is_null(id)) {
        err_set(e, STATUS_INVALID, "subshell_id is no text");
        return NULL;
    }
    return shells_find(s->use.shells, json_string_value(id), e);
}
static void queue_cell(struct server *s, struct request *r) {
    struct err e = { 0 };
    struct shell *h = shell_of(s, r, &e), *beside = NULL;
    if (h) shells_room(s->use.shells, r->msg.frames.bytes.n, &e);
    struct job *j = e.code ? NULL : job_new(r, &e);
    if (!j) {
        refuse_cell(s, r, &e);
        return;
    }
    if (h->running && interp_beside(s->use.interp, j->code, j->code_n)) beside = shells_hidden(s->use.shells);
    shells_queue(s->use.shells, beside ? beside : h, j);
    if (!beside && h->finished) put_off_answer(h);
}
static void abort_waiting(struct server *s, struct shell *h) {
    for (struct job *j; (j = shells_take(s->use.shells, h)); job_free(j)) {
        begin(s, &j->request);
        reply(s, &j->request, "execute_reply",
              json_pack("{s:s, s:i}", "status", "aborted", "execution_count", s->count), NULL);
        end(s, &j->request);
    }
}
static void start_next(struct server *s, struct shell *h) {
    if (h->running || !h->first) return;
    if (!shells_arm(s->use.shells, h)) {
        abort_waiting(s, h);
        return;
    }
    struct job *j = shells_take(s->use.shells, h);
    size_t n;
    const char *parent = message_header(&j->request.msg, &n);
    status(s, &j->request, "busy", true);
    if (j->store) s->count++;
    j->count = s->count;
    if (!j->silent)
        iopub_post(s->use.iopub, "execute_input", parent, n,
                   json_pack("{s:s%, s:i}", "code", j->code, j->code_n, "execution_count", j->count));
    h->running = j;
    executor_start(h->executor, j);
}
static void answer_cell(struct server *s, struct shell *h) {
    struct job *j = h->finished;
    const bool stop = j->failed && j->stop_on_error;
    reply(s, &j->request, "execute_reply", j->reply,
          json_pack("{s:s, s:s}", "started", j->started, "status", j->failed ? "error" : "ok"));
    j->reply = NULL;
    h->running = h->finished = NULL;
    idle(s, &j->request, true);
    job_free(j);
    if (stop) abort_waiting(s, h);
}
/* now: the reply of a failed cell does not wait for the cells behind it. */
static void look_at_cell(struct server *s, struct shell *h, bool now) {
    struct job *j = executor_finished(h->executor);
    if (j) {
        h->finished = j;
        h->latest_us = clock_us() + (j->failed && j->stop_on_error ? ABORT_MOST_MS * 1000 : 0);
        put_off_answer(h);
    }
    if (h->finished && (now || clock_us() >= h->answer_us)) answer_cell(s, h);
    start_next(s, h);
}

/* ---- questions of a running cell ---- */

static bool no_answer(struct shell *h, const char *why) {
    h->question_us = 0;
    return executor_answer(h->executor, NULL, 0, why);
}
static void look_for_question(struct server *s, struct shell *h) {
    struct buf prompt;
    bool password;
    buf_init(&prompt, 1 << 20);
    if (!h->running || !executor_question(h->executor, &prompt, &password)) {
        h->question_us = 0;
        buf_fini(&prompt);
        return;
    }
    const int why = send_to(s, s->input, &h->running->request, "input_request",
                            json_pack("{s:s%, s:b}", "prompt", buf_text(&prompt), prompt.n, "password", password), NULL,
                            h->question_id);
    buf_fini(&prompt);
    if (!h->question_us) h->question_us = clock_us();
    if (!why) {
        h->question_us = 0;
        executor_asked(h->executor);
    } else if (why != EHOSTUNREACH || clock_us() - h->question_us > STDIN_PATIENCE_MS * 1000LL)
        no_answer(h, "the front end cannot be asked: it has left, or has no stdin channel");
}
/* Only the client that was asked may answer, and only the question that is open: one answered late, after an
 * interrupt, must not become the next question's password. false: this shell has not asked it. */
static bool take_line(const struct server *s, struct shell *h, const struct request *r) {
    const char *asked = json_string_value(json_object_get(r->msg.parent, "msg_id"));
    const json_t *value = json_object_get(r->msg.content, "value");
    const size_t own = strlen(s->use.sender->session);
    if (!h->running || !message_same_sender(&r->msg, &h->running->request.msg)) return false;
    if (asked && !strncmp(asked, s->use.sender->session, own) && strcmp(asked, h->question_id)) return false;
    if (json_is_string(value))
        return executor_answer(h->executor, json_string_value(value), json_string_length(value), NULL);
    return no_answer(h, "the front end's input_reply has no value");
}
static void input_reply(struct server *s, const struct request *r) {
    struct shell *h = strcmp(r->msg.type, "input_reply") ? NULL : shells_main(s->use.shells);
    while (h && !take_line(s, h, r)) h = h->next;
}
/* Frames of the monitor: {u16 event, u32 value: the descriptor}, address. */
static void client_left(struct server *s) {
    size_t n;
    int unused;
    uint32_t fd;
    while (channel_recv(s->clients, &s->in, &unused) > 0) {
        const char *p = frames_at(&s->in, 0, &n);
        if (n < 6) continue;
        memcpy(&fd, p + 2, sizeof fd);
        for (struct shell *h = shells_main(s->use.shells); h; h = h->next)
            if (h->running && h->running->request.fd == (int)fd) no_answer(h, "the front end that was asked has left");
    }
}

/* ---- receiving ---- */

static void answer(struct server *s, const struct request *r) {
    struct err e = { 0 };
    const struct handler *h = handler_find(r->msg.type);
    begin(s, r);
    if (!h) log_at(LOG_INFO, "%s: no answer to a %.60s", channel_name(r->channel), r->msg.type);
    if (r->msg.malformed.code) err_set(&e, STATUS_INVALID, "%s", r->msg.malformed.text);
    json_t *content = h && !e.code ? h->answer(s, r, &e) : NULL;
    if (!content && h && h->reply) {
        err_set(&e, STATUS_NOMEM, "no memory to answer");
        content = error_reply(&e);
    }
    if (e.code) log_at(LOG_WARN, "%s: a %.60s failed: %s", channel_name(r->channel), r->msg.type, e.text);
    if (content) reply(s, r, h->reply, content, NULL);
    end(s, r);
}
/* One message from one socket; false: there was none. */
static bool receive(struct server *s, void *socket, enum channel channel) {
    struct err e = { 0 };
    struct request r = { .channel = channel };
    if (channel_recv(socket, &s->in, &r.fd) <= 0) return false;
    if (s->in.failed) {
        log_at(LOG_WARN, "%s: refused a message: it has more than %d MiB or %d frames", channel_name(channel),
               CHANNEL_MAX_FRAME >> 20, WIRE_MAX_FRAMES);
        return true;
    }
    if (wire_read(&r.msg, &s->in, s->use.key, s->replay, &e)) {
        log_at(LOG_WARN, "%s: refused a message: %s", channel_name(channel), e.text);
        return true;
    }
    if (channel == CHANNEL_STDIN)
        input_reply(s, &r);
    else if (channel == CHANNEL_SHELL && !strcmp(r.msg.type, "execute_request"))
        queue_cell(s, &r);
    else
        answer(s, &r);
    message_fini(&r.msg);
    return true;
}
static void look_at_shells(struct server *s, bool now) {
    shells_heard(s->use.shells);
    for (struct shell *h = shells_main(s->use.shells); h; h = h->next) {
        look_at_cell(s, h, now || h->leaving);
        look_for_question(s, h);
    }
    shells_reap(s->use.shells);
}
static long pause_ms(const struct server *s) {
    long shortest = -1;
    for (const struct shell *h = shells_main(s->use.shells); h; h = h->next) {
        long ms = h->question_us ? STDIN_TRY_MS : -1;
        if (h->finished) ms = h->answer_us > clock_us() ? (h->answer_us - clock_us()) / 1000 + 1 : 0;
        if (ms >= 0 && (shortest < 0 || ms < shortest)) shortest = ms;
    }
    return shortest;
}
static void *serve(void *arg) {
    struct server *s = arg;
    zmq_pollitem_t at[] = {
        { .socket = s->control, .events = ZMQ_POLLIN },
        { .socket = s->shell, .events = ZMQ_POLLIN },
        { .socket = s->input, .events = ZMQ_POLLIN },
        { .socket = s->clients, .events = ZMQ_POLLIN },
        { .fd = shells_fd(s->use.shells), .events = ZMQ_POLLIN },
        { .fd = s->stop, .events = ZMQ_POLLIN },
    };
    const uint64_t one = 1;
    bool told = false;
    while (!at[5].revents) {
        if (zmq_poll(at, sizeof at / sizeof *at, pause_ms(s)) < 0 && errno != EINTR) break;
        /* One message of each a turn: a client that floods shell does not keep an interrupt on control waiting. */
        receive(s, s->control, CHANNEL_CONTROL);
        receive(s, s->shell, CHANNEL_SHELL);
        receive(s, s->input, CHANNEL_STDIN);
        client_left(s);
        look_at_shells(s, false);
        if (s->shut_down && !told) told = write(s->use.quit, &one, sizeof one) == sizeof one;
    }
    shells_end(s->use.shells);
    look_at_shells(s, true);
    return NULL;
}

/* ---- opening and closing ---- */

static int bind_all(struct server *s, void *context, struct connection *c, struct err *e) {
    int on = 1;
    s->control = channel_bind(context, ZMQ_ROUTER, c, CHANNEL_CONTROL, e);
    s->shell = s->control ? channel_bind(context, ZMQ_ROUTER, c, CHANNEL_SHELL, e) : NULL;
    s->input = s->shell ? channel_bind(context, ZMQ_ROUTER, c, CHANNEL_STDIN, e) : NULL;
    s->clients = s->input ? zmq_socket(context, ZMQ_PAIR) : NULL;
    /* Mandatory: a question to a client that is not there fails instead of waiting for ever. */
    if (s->clients && !zmq_setsockopt(s->input, ZMQ_ROUTER_MANDATORY, &on, sizeof on) &&
        !zmq_socket_monitor(s->shell, CLIENTS, ZMQ_EVENT_DISCONNECTED) && !zmq_connect(s->clients, CLIENTS))
        return 0;
    return err_set(e, STATUS_IO, "sockets: %s", zmq_strerror(errno)), STATUS_IO;
}
static void server_free(struct server *s) {
    if (s->shell) zmq_socket_monitor(s->shell, NULL, 0);
    void *const sockets[] = { s->control, s->shell, s->input, s->clients };
    for (int i = 0; i < 4; i++)
        if (sockets[i]) zmq_close(sockets[i]);
    frames_fini(&s->in);
    frames_fini(&s->out);
    wire_replay_close(s->replay);
    if (s->stop >= 0) close(s->stop);
    mem_free(s);
}
int server_open(struct server **out, void *context, struct connection *c, const struct server_parts *parts,
                struct err *e) {
    *out = NULL;
    struct server *s = mem_zero(1, sizeof *s);
    if (!s) return err_set(e, STATUS_NOMEM, "no memory for the sockets");
    s->use = *parts;
    frames_init(&s->in, CHANNEL_MAX_FRAME);
    frames_init(&s->out, SIZE_MAX / 2);
    s->replay = wire_replay_open();
    s->stop = eventfd(0, EFD_CLOEXEC);
    int rc = s->replay && s->stop >= 0 ? 0 : err_set(e, STATUS_NOMEM, "no memory for the sockets");
    if (!rc) rc = bind_all(s, context, c, e);
    if (!rc) rc = thread_start(&s->thread, "io", false, serve, s, e);
    if (!rc)
        *out = s;
    else
        server_free(s);
    return rc;
}
void server_close(struct server *s) {
    if (!s) return;
    const uint64_t one = 1;
    if (write(s->stop, &one, sizeof one) == sizeof one) pthread_join(s->thread, NULL);
    server_free(s);
}
