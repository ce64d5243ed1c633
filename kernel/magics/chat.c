/* %chat: a conversation with the loaded model. */
#include "base/mem.h"
#include "generate.h"
#include "hub.h"
#include "kernel/language/state.h"
#include "kernel/present/table.h"
#include "magics.h"
#include <stdio.h>
#include <string.h>

static const char SESSION[] = "chat";

static int push(struct chat *chat, const char *role, const char *text, size_t n, struct err *e) {
    if (chat->n == chat->cap) {
        const int cap = chat->cap ? chat->cap * 2 : 16;
        struct message *v = mem_grow(chat->v, (size_t)cap, sizeof *v);
        if (!v) return err_set(e, STATUS_NOMEM, "out of memory for the conversation");
        chat->v = v;
        chat->cap = cap;
    }
    struct message *m = &chat->v[chat->n];
    *m = (struct message){ .text = mem_copy(text, n), .len = n };
    if (!m->text) return err_set(e, STATUS_NOMEM, "out of memory for the conversation");
    snprintf(m->role, sizeof m->role, "%s", role);
    chat->n++;
    return 0;
}
static void cut(struct chat *chat, int n) {
    while (chat->n > n) mem_free(chat->v[--chat->n].text);
    while (chat->pictures && chat->picture[chat->pictures - 1].message >= n)
        photo_drop(chat->picture[--chat->pictures].photo);
}
static void offered(struct chat *chat, struct photo *p) {
    photo_hold(p);
    photo_drop(chat->offered);
    chat->offered = p;
}
static int forget(struct call *c) {
    cut(&c->in->chat, 0);
    offered(&c->in->chat, NULL);
    if (!hub_connected(c->in->hub)) return 0;
    return job_run(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_RESET, .session = SESSION }, NULL, NULL, c->e);
}
static int show_chat(struct call *c) {
    const struct chat *chat = &c->in->chat;
    struct doc d;
    doc_init(&d);
    if (!chat->n) doc_line(&d, "the conversation is empty: %%chat TEXT starts it");
    for (int i = 0; i < chat->n; i++) {
        struct buf names;
        buf_init(&names, 65536);
        for (int k = 0; k < chat->pictures; k++)
            if (chat->picture[k].message == i)
                buf_printf(&names, "%s%s", names.n ? ", " : ", about ", chat->picture[k].photo->name);
        doc_line(&d, "%s%s:", chat->v[i].role, buf_text(&names));
        buf_fini(&names);
        doc_code(&d, chat->v[i].text, chat->v[i].len);
    }
    return show_doc(c->o, &d, c->e);
}
/* The system message opens a conversation; another one starts it anew, but a default of %set does not break into one. */
static int open_chat(struct call *c) {
    struct chat *chat = &c->in->chat;
    const struct arg *system = args_last(&c->args, "system");
    const bool same = chat->n && system && !strcmp(chat->v[0].role, "system") && !strcmp(chat->v[0].text, system->text);
    if (args_flag(&c->args, "reset") || (system && !system->from_set && chat->n && !same))
        if (forget(c)) return c->e->code;
    return !chat->n && system ? push(chat, "system", system->text, strlen(system->text), c->e) : 0;
}
/* The pictures of the turn stay with its message; then s holds those of the whole conversation. */
static int keep_pictures(struct run *r, int message) {
    struct chat *chat = &r->c->in->chat;
    struct sight *s = &r->sight;
    size_t bytes = 0;
    for (int i = 0; i < chat->pictures; i++) bytes += chat->picture[i].photo->n;
    for (int i = 0; i < s->n; i++) bytes += s->photo[i]->n;
    if (chat->pictures + s->n > CHAT_PICTURES || bytes > SIGHT_BYTES_MAX)
        return err_set(
            r->c->e, STATUS_INVALID,
            "%%chat: a conversation holds at most %d pictures of %d MiB together: %%chat --reset starts another",
            CHAT_PICTURES, SIGHT_BYTES_MAX >> 20);
    for (int i = 0; i < s->n; i++) {
        chat->picture[chat->pictures].message = message;
        chat->picture[chat->pictures++].photo = photo_hold(s->photo[i]);
    }
    for (int i = 0; i < s->n; i++) photo_drop(s->photo[i]);
    s->n = 0;
    for (int i = 0; i < chat->pictures; i++)
        if (sight_add(s, chat->picture[i].photo, chat->picture[i].message, r->c->e)) return r->c->e->code;
    return 0;
}
/* Another model was loaded, which cannot go on with a conversation about pictures: the way out. */
static void other_model(const struct sight *s, int before, struct err *e) {
    const struct err was = *e;
    if (s->sees || !before || was.code != STATUS_INVALID) return;
    *e = (struct err){ 0 };
    err_set(e, was.code, "%.*s; %%chat --reset begins a conversation without pictures", (int)(sizeof was.text - 80),
            was.text);
}
/* Submits the whole conversation; before: how many pictures it held. */
static int send(struct run *r, int before) {
    struct chat *chat = &r->c->in->chat;
    struct engine_message *m = mem_zero((size_t)chat->n, sizeof *m);
    if (!m) return err_set(r->c->e, STATUS_NOMEM, "out of memory for the conversation");
    for (int i = 0; i < chat->n; i++)
        m[i] = (struct engine_message){ chat->v[i].role, chat->v[i].text, chat->v[i].len };
    r->q.message = m;
    r->q.messages = chat->n;
    r->q.session = SESSION;
    int rc = sight_ask(&r->sight, r->c, &r->q, before);
    if (!rc) rc = run_go(r);
    if (rc) other_model(&r->sight, before, r->c->e);
    mem_free(m);
    return rc;
}
static int say(struct run *r, const char *text, size_t n) {
    struct call *c = r->c;
    struct chat *chat = &c->in->chat;
    const int before = chat->n, pictures = chat->pictures;
    const char *input = args_text(&c->args, "input");
    struct photo *remembered = r->sight.n ? photo_hold(c->in->photo) : NULL; /* it may be another one afterwards */
    int rc = input ? push(chat, "input", input, strlen(input), c->e) : 0;
    if (!rc) rc = push(chat, "user", text, n, c->e);
    if (!rc) rc = keep_pictures(r, chat->n - 1);
    const bool asked = !rc;
    if (!rc) rc = send(r, pictures);
    if (!asked || (rc && rc != STATUS_CANCELLED)) {
        cut(chat, before); /* a question that failed was not asked */
    } else if (push(chat, "assistant", buf_text(&r->text), r->text.n, c->e)) {
        cut(chat, before);
        rc = c->e->code;
    } else if (remembered) {
        offered(chat, remembered);
    }
    photo_drop(remembered);
    return rc;
}
/* Without --template it is the model's own that must have a place for --input. */
static int check_chat_input(struct run *r) {
    struct call *c = r->c;
    struct models m;
    const char *name = r->q.template_name;
    if (name) return check_input(c, name);
    int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_STATUS }, &m, c->e);
    const struct engine_model *row = rc ? NULL : models_find(&m, r->q.model);
    if (!rc) rc = check_input(c, row ? row->template_name : NULL);
    models_fini(&m);
    return rc;
}
static int converse(struct call *c) {
    struct run r = { 0 };
    char *owned = NULL;
    const char *text = c->body;
    size_t n = c->body_len;
    if (!c->body && !c->args.words.n && args_given(&c->args, "image"))
        return err_set(c->e, STATUS_INVALID, "%%chat --image FILE goes with a question: %%chat --image FILE TEXT");
    if (c->body && c->args.words.n)
        return err_set(c->e, STATUS_INVALID, "%%%%chat takes its text from the lines below, not from its own line");
    if (open_chat(c)) return c->e->code;
    if (!c->body && !c->args.words.n) {
        if (!args_flag(&c->args, "reset")) return show_chat(c);
        struct doc d;
        doc_init(&d);
        doc_line(&d, "a new conversation%s", c->in->chat.n ? " with its system message" : "");
        return show_doc(c->o, &d, c->e);
    }
    if (!c->body) text = owned = args_join(&c->args, 0);
    int rc = text ? 0 : err_set(c->e, STATUS_NOMEM, "out of memory for the prompt");
    if (owned) n = strlen(owned);
    if (!rc) rc = run_ask(&r, c);
    if (!rc && args_given(&c->args, "input")) rc = check_chat_input(&r);
    if (!rc) rc = sight_take(&r.sight, c, &r.q, c->in->chat.offered);
    if (!rc) rc = say(&r, text, n);
    run_fini(&r);
    mem_free(owned);
    return rc;
}

/* The conversation has one turn at a time: what is said next depends on what was answered. */
int magic_chat(struct call *c) {
    if (!c->body && !c->args.words.n && !args_flag(&c->args, "reset") && !args_given(&c->args, "system") &&
        !args_given(&c->args, "image"))
        return show_chat(c);
    if (c->in->chatting)
        return err_set(c->e, STATUS_BUSY,
                       "%%chat: an answer is being written already: wait for its end, or %%generate");
    c->in->chatting = true;
    const int rc = converse(c);
    c->in->chatting = false;
    return rc;
}
