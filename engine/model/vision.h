/* vision.h - MiniGPT-4's way from a picture to rows that its language model reads: image encoder (eva_vit.c), Q-Former or
 * the joining of neighbours (qformer.c, minigpt4.c), projection. Each stage is a program of its own with inputs and a result
 * that the host puts and gets, so that each is timed alone. Knows no backend. */
#ifndef JAEDA_MODEL_VISION_H
#define JAEDA_MODEL_VISION_H
#include "compute/program.h"
#include "data/checkpoint.h"
#include "data/image.h"

struct vision_config {
    int image, patch;                                /* sides in pixels; patch divides image */
    int grid;                                        /* patches of a side that the file's position embedding knows */
    int hidden, layers, heads, ffn;                  /* of the image encoder */
    int queries, q_hidden, q_layers, q_heads, q_ffn; /* of the Q-Former; queries 0: there is none */
    int out;                                         /* columns of the language model's embedding */
};
enum vision_variant { VISION_LLAMA2, VISION_VICUNA_7B, VISION_VICUNA_13B, VISION_V2 };
struct vision_config vision_config(enum vision_variant v); /* the published shapes */
/* The shape that the tensors themselves have; an error names the tensor. v2: twice the grid, as MiniGPT-v2 looks. */
int vision_config_of(const struct checkpoint *const *file, int files, bool v2, struct vision_config *out,
                     struct err *e);
bool vision_is_v2(const struct checkpoint *projector); /* it brings LoRA matrices for the language model */

enum vision_stage { VISION_ENCODE, VISION_QUERY, VISION_PROJECT, VISION_STAGES };
/* Kept matrices of a recorded stage. ENCODE: in is vision_patches(), table vision_table(), out the normalised patches behind
 * the class token. QUERY: in is ENCODE's out, table vision_queries(). PROJECT: in is QUERY's out, or vision_join() of ENCODE's; out are
 * rows for the language model. */
struct vision_io {
    struct mat in, table, out;
};
struct vision;
/* Binds every weight by its name in the original checkpoints, each in the first file that has it; an error names the tensor. files 0:
 * the shape alone, for dummy weights. want: as for model_open. ln_vision is 1 and 0 unless a file holds it, since the
 * checkpoints without Q-Former were trained so. The files and their list outlive it. Tensors that nothing here needs are left alone. */
int vision_open(struct vision **out, const struct checkpoint *const *file, int files, const struct vision_config *c,
                enum dtype want, struct err *e);
void vision_close(struct vision *v);
int vision_weights(const struct vision *v); /* NULL: none */
struct weight *vision_weight(const struct vision *v, int i);
/* The bytes of weight i's whole tensor, mem_free them; NULL and an error when they cannot be read. */
void *vision_weight_read(const struct vision *v, int i, struct err *e);
/* The file that weight i comes from; NULL: from none, vision_weight_read makes it. */
const struct checkpoint_file *vision_weight_file(const struct vision *v, int i);
/* Records a stage into p. Without Q-Former QUERY records nothing. Errors are sticky in p. many: for so many pictures at once,
 * of which none sees another; in, table and out hold what one picture has, one behind the other. Where weights are of 16 bits
 * or fewer, p->kv becomes F16: so a device may then hold keys and values while it attends to them. */
struct vision_io vision_record(struct vision *v, enum vision_stage stage, struct program *p);
struct vision_io vision_record_many(struct vision *v, enum vision_stage stage, int pictures, struct program *p);

int vision_tokens(const struct vision_config *c);  /* rows of the language model for a picture: 64, 32, 256 */
int vision_rows(const struct vision_config *c);    /* of ENCODE: patches and the class token */
int vision_columns(const struct vision_config *c); /* of PROJECT's in */
/* A picture of image x image pixels as ENCODE's in: row 0 zero, then each patch, row-major, as [colour][y][x], normalised
 * by CLIP's mean and deviation (blip_processors.py). to: vision_rows() * 3 * patch * patch numbers. */
int vision_patches(const struct vision_config *c, const struct image *m, float *to, struct err *e);
/* What is added to the patches' products: position embedding (stretched to the grid as torch's bicubic interpolation does it, a =
 * -0.75, no antialiasing), class token, the convolution's bias. to: vision_rows() * hidden numbers. */
void vision_table(const struct vision *v, float *to);
void vision_queries(const struct vision *v, float *to); /* queries * q_hidden numbers */
/* ENCODE's result without the class token, four neighbours in a row joined: tokens * 4 * hidden numbers. */
void vision_join(const struct vision_config *c, const float *encoded, float *to);

#endif
