/* model.h - an architecture bound to a checkpoint: descriptors of weights, and one function that records the forward
 * pass. Knows no backend. */
#ifndef JAEDA_MODEL_MODEL_H
#define JAEDA_MODEL_MODEL_H
#include "compute/program.h"
#include "data/checkpoint.h"

struct model;
/* Binds every weight (name, shape and dtype checked; the error names the tensor) without reading weight bytes. want: what
 * matrices become when packed (see struct weight); one whose columns make no whole groups keeps its form. file NULL, or
 * without tensors: no weights exist; descriptors follow from the configuration alone (c->dtype, else f16), for %fit and
 * dummy weights. file must outlive the model. */
int model_open(struct model **out, const struct checkpoint *file, const struct model_config *c, enum dtype want,
               struct err *e);
void model_close(struct model *m);
/* Records the whole forward pass into p and returns the logits of the picked rows (kept). Errors are sticky in p. */
struct mat model_record(struct model *m, struct program *p);
/* Every weight descriptor, for the loader: in file order, a tied matrix once. */
int model_weights(const struct model *m);
struct weight *model_weight(struct model *m, int i);
uint64_t model_params(const struct model *m);
bool model_supported(const char *arch);
const char *model_archs(void); /* "llama, gptneox": for error texts */

#endif
