#include "comm.h"
#include "base/log.h"
#include "base/mem.h"
#include "handlers.h"
#include <stdio.h>
#include <string.h>

static const char WIDGET[] = "jupyter.widget", CONTROL[] = "jupyter.widget.control";

struct comm {
    char id[COMM_ID_BYTES];
    const struct cell_output *cell; /* NULL: a control comm */
    json_t *state;
    struct comm_button button;
};
struct comms {
    struct iopub *io;
    pthread_mutex_t lock;
    struct comm *v; /* in the order of their opening */
    size_t n, cap;
    char front_end[COMM_FRONT_ENDS][COMM_ID_BYTES]; /* a ring of sessions */
    int next_front_end;
};
/* Header of the message that the front end is answered under, or that made the cell. */
struct parent {
    const char *p;
    size_t n;
};

int comms_open(struct comms **out, struct iopub *io, struct err *e) {
    struct comms *c = *out = mem_zero(1, sizeof *c);
    if (!c) return err_set(e, STATUS_NOMEM, "no memory for comms");
    c->io = io;
    pthread_mutex_init(&c->lock, NULL);
    return 0;
}
static void comm_fini(struct comm *m) {
    json_decref(m->state);
    json_decref(m->button.clicked);
}
void comms_close(struct comms *c) {
    if (!c) return;
    for (size_t i = 0; i < c->n; i++) comm_fini(&c->v[i]);
    pthread_mutex_destroy(&c->lock);
    mem_free(c->v);
    mem_free(c);
}

/* ---- all below: locked, unless said otherwise ---- */

static struct comm *find(struct comms *c, const char *id) {
    for (size_t i = 0; id && i < c->n; i++)
        if (!strcmp(c->v[i].id, id)) return &c->v[i];
    return NULL;
}
static struct comm *add(struct comms *c, const char *id) {
    if (c->n == c->cap) {
        struct comm *v = mem_grow(c->v, c->cap ? c->cap * 2 : 16, sizeof *v);
        if (!v) return NULL;
        c->v = v;
        c->cap = c->cap ? c->cap * 2 : 16;
    }
    struct comm *m = &c->v[c->n++];
    *m = (struct comm){ .cell = NULL };
    snprintf(m->id, sizeof m->id, "%s", id);
    return m;
}
static void drop(struct comms *c, struct comm *m) {
    comm_fini(m);
    const size_t behind = (size_t)(c->v + c->n-- - m) - 1;
    memmove(m, m + 1, behind * sizeof *m);
}
static void say(struct comms *c, const char *type, struct parent to, const char *id, json_t *data) {
    iopub_post(c->io, type, to.p, to.n, json_pack("{s:s, s:o}", "comm_id", id, "data", data));
}
/* method: update or echo_update. Steals state. */
static void say_state(struct comms *c, const char *method, struct parent to, const struct comm *m, json_t *state) {
    say(c, "comm_msg", to, m->id, json_pack("{s:s, s:o, s:[]}", "method", method, "state", state, "buffer_paths"));
}
static bool known(const struct comms *c, const char *session) {
    for (int i = 0; i < COMM_FRONT_ENDS; i++)
        if (!strcmp(c->front_end[i], session)) return true;
    return false;
}
static void remember(struct comms *c, const char *session) {
    if (!session || !*session || strlen(session) >= COMM_ID_BYTES || known(c, session)) return;
    snprintf(c->front_end[c->next_front_end], COMM_ID_BYTES, "%s", session);
    c->next_front_end = (c->next_front_end + 1) % COMM_FRONT_ENDS;
}
bool comms_widgets(struct comms *c, const char *session) {
    if (!session || !*session) return false;
    pthread_mutex_lock(&c->lock);
    const bool yes = known(c, session);
    pthread_mutex_unlock(&c->lock);
    return yes;
}

/* ---- models, from the thread of a cell ---- */

int comms_model(struct comms *c, const struct cell_output *cell, const char *id, json_t *state,
                const struct comm_button *button) {
    pthread_mutex_lock(&c->lock);
    struct comm *m = state && c->n < COMM_MODELS + COMM_CONTROLS && !find(c, id) ? add(c, id) : NULL;
    if (m) {
        m->cell = cell;
        m->state = json_incref(state);
        m->button = *button;
        json_incref(m->button.clicked);
        iopub_post(c->io, "comm_open", cell->parent, cell->parent_n,
                   json_pack("{s:s, s:s, s:{s:O, s:[]}}", "comm_id", id, "target_name", WIDGET, "data", "state", state,
                             "buffer_paths"));
    }
    pthread_mutex_unlock(&c->lock);
    json_decref(state);
    json_decref(button->clicked);
    return m ? 0 : -1;
}
void comms_set(struct comms *c, const struct cell_output *cell, const char *id, json_t *changes) {
    pthread_mutex_lock(&c->lock);
    struct comm *m = find(c, id);
    if (m && m->cell == cell && changes) {
        json_object_update(m->state, changes);
        say_state(c, "update", (struct parent){ cell->parent, cell->parent_n }, m, json_incref(changes));
    }
    pthread_mutex_unlock(&c->lock);
    json_decref(changes);
}
void comms_end(struct comms *c, const struct cell_output *cell, const char *id) {
    const struct parent to = { cell->parent, cell->parent_n };
    pthread_mutex_lock(&c->lock);
    for (size_t i = c->n; i-- > 0;) { /* a box before what it holds, which was opened first */
        struct comm *m = &c->v[i];
        if (m->cell != cell || (id && strcmp(m->id, id))) continue;
        say(c, "comm_close", to, m->id, json_object());
        drop(c, m);
    }
    pthread_mutex_unlock(&c->lock);
}

/* ---- what front ends say ---- */

static int hear_open(struct comms *c, const char *id, const struct message *msg, struct parent to, struct err *e) {
    const char *target = json_string_value(json_object_get(msg->content, "target_name"));
    if (find(c, id)) return err_set(e, STATUS_INVALID, "comm_open: %s is open already", id);
    bool open = target && !strcmp(target, CONTROL);
    size_t controls = 0, oldest = 0;
    for (size_t i = c->n; i-- > 0;)
        if (!c->v[i].cell) controls++, oldest = i;
    if (open && controls == COMM_CONTROLS) { /* a page that was killed never closes its own */
        say(c, "comm_close", to, c->v[oldest].id, json_object());
        drop(c, &c->v[oldest]);
    }
    open = open && add(c, id);
    if (open) {
        remember(c, json_string_value(json_object_get(msg->header, "session")));
        return 0;
    }
    log_at(LOG_INFO, "comm: no target %.80s here", target ? target : "");
    say(c, "comm_close", to, id, json_object());
    return 0;
}
static json_t *all_states(struct comms *c) {
    json_t *all = json_object();
    for (size_t i = 0; i < c->n; i++) {
        const json_t *s = c->v[i].state;
        if (!s) continue;
        json_object_set_new(all, c->v[i].id,
                            json_pack("{s:O, s:O, s:O, s:O}", "model_name", json_object_get(s, "_model_name"),
                                      "model_module", json_object_get(s, "_model_module"), "model_module_version",
                                      json_object_get(s, "_model_module_version"), "state", s));
    }
    return all;
}
/* What the front end has changed is taken over and echoed, so that other pages see it too; what a model is stays. */
static void hear_update(struct comms *c, struct comm *m, json_t *state, struct parent to) {
    json_t *echo = json_object(), *value;
    const char *key;
    json_object_foreach(state, key, value) {
        if (key[0] != '_' && json_object_get(m->state, key)) json_object_set(echo, key, value);
    }
    json_object_update(m->state, echo);
    if (json_object_size(echo))
        say_state(c, "echo_update", to, m, echo);
    else
        json_decref(echo);
}
static void hear_click(struct comms *c, struct comm *m, struct parent to) {
    json_object_update(m->state, m->button.clicked);
    say_state(c, "update", to, m, json_incref(m->button.clicked));
    m->button.click(m->button.arg);
}
static void hear_message(struct comms *c, struct comm *m, json_t *data, struct parent to) {
    const char *said = json_string_value(json_object_get(data, "method"));
    const char *event = json_string_value(json_object_get(json_object_get(data, "content"), "event"));
    const char *method = said ? said : "";
    if (!m->cell && !strcmp(method, "request_states"))
        say(c, "comm_msg", to, m->id,
            json_pack("{s:s, s:o, s:[]}", "method", "update_states", "states", all_states(c), "buffer_paths"));
    else if (m->cell && !strcmp(method, "request_state"))
        say_state(c, "update", to, m, json_incref(m->state));
    else if (m->cell && !strcmp(method, "update"))
        hear_update(c, m, json_object_get(data, "state"), to);
    else if (m->button.clicked && !strcmp(method, "custom") && event && !strcmp(event, "click"))
        hear_click(c, m, to);
    else
        log_at(LOG_DEBUG, "comm: nothing to do for %.40s", method);
}
void comms_hear(struct comms *c, const struct message *msg, struct err *e) {
    const char *id = json_string_value(json_object_get(msg->content, "comm_id"));
    struct parent to;
    to.p = message_header(msg, &to.n);
    if (!id || !*id || strlen(id) >= COMM_ID_BYTES) {
        err_set(e, STATUS_INVALID, "%s has no comm_id of less than %d bytes", msg->type, COMM_ID_BYTES);
        return;
    }
    pthread_mutex_lock(&c->lock);
    struct comm *m = find(c, id);
    if (!strcmp(msg->type, "comm_open"))
        hear_open(c, id, msg, to, e);
    else if (!m)
        log_at(LOG_DEBUG, "comm: %s for a comm that is not open", msg->type);
    else if (!strcmp(msg->type, "comm_close"))
        drop(c, m);
    else
        hear_message(c, m, json_object_get(msg->content, "data"), to);
    pthread_mutex_unlock(&c->lock);
}
json_t *comms_list(struct comms *c, const char *session, const char *target) {
    json_t *all = json_object();
    pthread_mutex_lock(&c->lock);
    if (target && !strcmp(target, WIDGET)) remember(c, session);
    for (size_t i = 0; i < c->n; i++) {
        const char *name = c->v[i].cell ? WIDGET : CONTROL;
        if (!target || !strcmp(target, name))
            json_object_set_new(all, c->v[i].id, json_pack("{s:s}", "target_name", name));
    }
    pthread_mutex_unlock(&c->lock);
    return all;
}

/* ---- handlers ---- */

json_t *answer_comm_info(struct server *s, const struct request *r, struct err *e) {
    (void)e;
    const char *session = json_string_value(json_object_get(r->msg.header, "session"));
    const char *target = json_string_value(json_object_get(r->msg.content, "target_name"));
    return json_pack("{s:s, s:o}", "status", "ok", "comms", comms_list(server_parts(s)->comms, session, target));
}
json_t *answer_comm(struct server *s, const struct request *r, struct err *e) {
    comms_hear(server_parts(s)->comms, &r->msg, e);
    return NULL;
}
