/* magics.h - the run functions that the table names. Each returns 0, or a status with c->e filled. Executor thread. */
#ifndef JAEDA_MAGICS_MAGICS_H
#define JAEDA_MAGICS_MAGICS_H
#include "kernel/language/magic.h"

/* load.c */
int magic_load(struct call *c);
int magic_unload(struct call *c);
/* fit.c */
int magic_fit(struct call *c);
/* model.c */
int magic_models(struct call *c);
int magic_ps(struct call *c);
int magic_show(struct call *c);
/* generate.c */
int magic_generate(struct call *c);
int magic_template(struct call *c);
/* chat.c */
int magic_chat(struct call *c);
/* image.c */
int magic_image(struct call *c);
/* profile.c */
int magic_profile(struct call *c);
/* machine.c */
int magic_gpu(struct call *c);
int magic_sysinfo(struct call *c);
int magic_log(struct call *c);
/* settings.c */
int magic_set(struct call *c);
int magic_env(struct call *c);
int magic_alias(struct call *c);
int magic_lsmagic(struct call *c);
/* notebook.c */
int magic_history(struct call *c);
int magic_time(struct call *c);
int magic_capture(struct call *c);
int magic_clear(struct call *c);
int magic_cd(struct call *c);
int magic_pwd(struct call *c);
int magic_bash(struct call *c);
/* runs.c */
int magic_runs(struct call *c);
/* engine.c */
int magic_engine(struct call *c);
/* jobs.c */
int magic_jobs(struct call *c);
int magic_attach(struct call *c);
int magic_bg(struct call *c);
/* Was --background given? Then the magic runs there, without it, and *rc is the result. */
bool in_background(struct call *c, int *rc);
/* file.c */
int magic_writefile(struct call *c);

/* Stands in every result of a model that was loaded with random weights. */
#define DUMMY_NOTICE "random weights (load format dummy): speed and memory are this shape's, the text means nothing"
struct doc;
struct interp;
struct models;
/* model.c: shows d as one display and frees it. */
int show_doc(struct out *o, struct doc *d, struct err *e);
/* model.c: keeps the names in m for completion, with a line about each. */
void models_remember(struct interp *in, const struct models *m);
/* engine.c: appends " · waited 1.20 s for other notebooks" when that is at least a hundredth of all. */
void waited_text(double waited_ms, double total_ms, struct buf *out);
struct engine_system;
/* engine.c: "resident (ipc:)"; and one line about where it is, its memory and when it leaves. */
void engine_where(const struct engine_system *s, char out[64]);
void engine_line(struct doc *d, const struct engine_system *s);
/* load.c: loads again what this notebook loaded last. */
int load_last(struct call *c, bool evict);
/* load.c: behind an error that ends the engine, how to have the model again that this notebook had loaded. */
void load_again(const struct interp *in, struct err *e);
struct engine_model;
/* load.c: one line about the memory of a loaded model. */
void memory_line(struct doc *d, const struct engine_model *m);
/* load.c: lines about the image path of a model that sees; else none. */
void sees_line(struct doc *d, const struct engine_model *m);
/* file.c: a whole text file of at most max bytes; "~/" is expanded. NULL and e on an error; else mem_free it. */
char *file_read(const char *path, size_t max, size_t *n, struct err *e);
/* Expands a leading "~" into out. */
int file_expand(const char *path, char out[4096], struct err *e);

#endif
