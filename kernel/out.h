/* out.h - what a running cell can do to the front end. Given by the protocol side, used by the magics.
 * Owned by the thread that runs the cell; only out_interrupted is for any thread. Any of these functions may let other
 * cells run while it waits (interp_pause).
 * Every text is UTF-8 of any content: invalid bytes and incomplete tails are held back or replaced here, once. */
#ifndef JAEDA_KERNEL_OUT_H
#define JAEDA_KERNEL_OUT_H
#include "base/buf.h"
#include "base/err.h"
#include <jansson.h>
#include <stdbool.h>

struct out;
enum out_name { OUT_STDOUT, OUT_STDERR };

/* A stream message; coalesced with its neighbours and throttled under the server's budget, never dropped. Blocks while
 * the outgoing queue is full (bounded memory); returns -1 at once when the cell has been interrupted and the queue is full. */
int out_stream(struct out *o, enum out_name name, const char *text, size_t n);
__attribute__((format(printf, 2, 3))) int out_printf(struct out *o, const char *fmt, ...);
/* display_data, or update_display_data when update; steals data and metadata (NULL: {}); display_id may be NULL.
 * Updates of one id that are still queued are replaced by the newest. */
void out_display(struct out *o, json_t *data, json_t *metadata, const char *display_id, bool update);
void out_result(struct out *o, json_t *data, json_t *metadata); /* execute_result; steals */
void out_clear(struct out *o, bool wait);
void out_page(struct out *o, json_t *data);                         /* payload of the reply; steals */
void out_next_input(struct out *o, const char *text, bool replace); /* payload set_next_input */
/* A line from the user, into reply. Error when the front end allows no stdin, on interrupt, or when the client left. */
int out_input(struct out *o, const char *prompt, bool password, struct buf *reply, struct err *e);
/* The user asked to stop this cell. Sticky until the cell ends. */
bool out_interrupted(const struct out *o);
/* Becomes readable when the user asks to stop: for poll() beside engine_fd() or a pipe. */
int out_interrupt_fd(const struct out *o);
int out_execution_count(const struct out *o);
/* Does this cell run beside the main shell: in a subshell or in the background? */
bool out_beside(const struct out *o);
bool out_background(const struct out *o); /* of no cell, but of a job that a cell has started */
/* A new id for a display: unique in this process. */
void out_new_display_id(struct out *o, char id[48]);

/* Widgets (ipywidgets' protocol 2.1): a display may name a model, and the front end shows it live. Is there a front end
 * that does, and does it see this cell's displays? */
bool out_widgets(const struct out *o);
/* A model; its new id goes into id. clicked: it is a button that stops the cell, and this is what a click sets in it.
 * Steals both. false: none was opened. Models are closed with the cell at the latest. */
bool out_model_open(struct out *o, char id[48], json_t *state, json_t *clicked);
void out_model_set(struct out *o, const char *id, json_t *changes); /* steals */
void out_model_close(struct out *o, const char *id);

/* While a capture is on, streams and displays go into it and not to the front end; captures nest. The caller inits
 * text[] with the bounds that it wants, and frees text[] and displays. */
struct capture {
    struct buf text[2]; /* stdout, stderr */
    json_t *displays;   /* array of {data, metadata, id}; made by begin; an update replaces the display of its id */
    bool keep[3];       /* stdout, stderr, displays: false lets that kind through */
    struct capture *outer;
};
void out_capture_begin(struct out *o, struct capture *c);
void out_capture_end(struct out *o, struct capture *c);

#endif
