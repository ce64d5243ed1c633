/* %image: shows a picture and remembers it for the prompts to come. */
#include "kernel/language/state.h"
#include "kernel/present/table.h"
#include "magics.h"
#include "sight.h"
#include <stdio.h>

static void remember(struct interp *in, struct photo *p) {
    photo_hold(p);
    photo_drop(in->photo);
    in->photo = p;
}
static int clear(struct call *c) {
    struct photo *p = photo_hold(c->in->photo);
    remember(c->in, NULL);
    if (p) {
        out_printf(c->o, "%s is forgotten; a conversation keeps its pictures (%%chat --reset)\n", p->name);
    } else {
        out_printf(c->o, "no picture was remembered\n");
    }
    photo_drop(p);
    return 0;
}
/* The picture, then the line: a front end that shows pictures does not show the text beside one. */
static int show(struct call *c, struct photo *p, bool new) {
    struct sight s = { 0 };
    struct doc d;
    char name[256];
    int rc = sight_add(&s, p, 0, c->e);
    if (!rc) rc = sight_look(&s, c, 0, args_int(&c->args, "width"));
    if (!rc) {
        if (new) remember(c->in, p);
        sight_name(&s, 0, name);
        doc_init(&d);
        doc_line(&d, "%s · %s", name,
                 new ? "prompts to a model that sees are about it from now on"
                     : "remembered; %image --clear forgets it");
        rc = show_doc(c->o, &d, c->e);
    }
    sight_fini(&s);
    return rc;
}
int magic_image(struct call *c) {
    const char *where = args_word(&c->args, 0);
    const bool forget = args_flag(&c->args, "clear");
    if (where && forget) return err_set(c->e, STATUS_INVALID, "%%image takes FILE or --clear, not both");
    if (forget) return clear(c);
    struct photo *p = where ? photo_read(c->o, where, c->e) : photo_hold(c->in->photo);
    if (!p && where) return c->e->code;
    if (!p) return out_printf(c->o, "no picture is remembered: %%image FILE shows one and remembers it\n"), 0;
    const int rc = show(c, p, where != NULL);
    photo_drop(p);
    return rc;
}
