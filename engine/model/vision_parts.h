/* vision_parts.h - private to the files of vision.h. */
#ifndef JAEDA_MODEL_VISION_PARTS_H
#define JAEDA_MODEL_VISION_PARTS_H
#include "arch.h"
#include "vision.h"

struct eva_vit {
    struct weight patch;
    struct layer *layer;
    int n;
    struct nn_norm ln; /* ln_vision */
};
struct qformer_layer {
    struct nn_attn self, cross; /* cross: every second layer, from the first on */
    struct nn_norm ln_self, ln_cross, ln_mlp;
    struct nn_mlp mlp;
};
struct qformer {
    struct nn_norm ln;
    struct qformer_layer *layer;
    int n;
};
enum part_size {
    PART_ONE,
    PART_HIDDEN,
    PART_FFN,
    PART_PATCH,
    PART_Q_HIDDEN,
    PART_Q_FFN,
    PART_JOINED,
    PART_OUT,
    PART_SIZES
};
/* third: 1, 2, 3: that third of the rows of a tensor; 0: all. */
struct part {
    const char *name; /* behind what leads to its layer */
    size_t at;        /* of the struct weight */
    enum part_size rows, cols;
    int third;
    bool may_lack; /* made of `otherwise` then */
    float otherwise;
};
struct parts {
    const char *prefix; /* for printf with the layer's number */
    const struct part *part;
    int n;
};
extern const struct parts eva_vit_parts, eva_vit_layer_parts, qformer_parts, qformer_layer_parts, qformer_cross_parts,
    minigpt4_parts;
void eva_vit_shape(struct eva_vit *m, const struct vision_config *c);
struct vision_io eva_vit_record(struct eva_vit *m, const struct vision_config *c, int pictures, struct program *p);
void qformer_shape(struct qformer *m, const struct vision_config *c);
struct vision_io qformer_record(struct qformer *m, const struct vision_config *c, int pictures, struct program *p);

#endif
