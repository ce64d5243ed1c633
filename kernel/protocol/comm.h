/* comm.h - comms: the models of widgets that cells open (ipywidgets' protocol 2.1, target jupyter.widget), and the control
 * comms by which front ends ask for them after a page reload. Any thread: one lock, under which messages are posted too, so
 * that the wire shows no update before its open or behind its close. */
#ifndef JAEDA_KERNEL_PROTOCOL_COMM_H
#define JAEDA_KERNEL_PROTOCOL_COMM_H
#include "iopub.h"

enum {
    COMM_MODELS = 1024,   /* models at a time; more are refused */
    COMM_CONTROLS = 16,   /* control comms; the oldest makes room */
    COMM_FRONT_ENDS = 32, /* that have shown widgets; the oldest is forgotten */
    COMM_ID_BYTES = 128,  /* of a comm id or a session */
};
struct comms;
int comms_open(struct comms **out, struct iopub *io, struct err *e); /* io is borrowed */
void comms_close(struct comms *c);                                   /* sends nothing; NULL is fine */

/* Does this client (the session of its messages' headers) show widgets? It has opened jupyter.widget.control or asked for
 * the comms of jupyter.widget, as only a widget manager does. */
bool comms_widgets(struct comms *c, const char *session);

struct comm_button {
    json_t *clicked; /* what a click sets in the model; NULL: no button */
    void (*click)(void *arg);
    void *arg; /* used only while the model is open */
};
/* Opens a model of a cell. Steals state and clicked. -1: too many, or no memory; nothing is open then. */
int comms_model(struct comms *c, const struct cell_output *cell, const char *id, json_t *state,
                const struct comm_button *button);
/* Steals changes. A model that the front end has closed meanwhile is left alone. */
void comms_set(struct comms *c, const struct cell_output *cell, const char *id, json_t *changes);
/* id NULL: all models of the cell. Behind this no click reaches the button's arg. */
void comms_end(struct comms *c, const struct cell_output *cell, const char *id);

/* A comm_open, comm_msg or comm_close from a front end; an error is for the log. */
void comms_hear(struct comms *c, const struct message *m, struct err *e);
/* {comm id: {target_name}}, of one target only unless that is NULL. NULL: no memory. */
json_t *comms_list(struct comms *c, const char *session, const char *target);

#endif
