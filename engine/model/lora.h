/* lora.h - low-rank changes to a language model (Hu et al. 2021, LoRA) that a checkpoint brings along, as MiniGPT-v2's does:
 *   W' = W + (alpha / r) B A,   A [r][columns], B [rows][r]
 * Knows no backend; immutable after opening, so any thread may use it. */
#ifndef JAEDA_MODEL_LORA_H
#define JAEDA_MODEL_LORA_H
#include "model.h"

struct lora;
/* The pairs of a file by their names, "...model.layers.0.self_attn.q_proj.lora_A.weight" (peft 0.2) or "...lora_A.default.weight"
 * (later ones). *out is NULL when it has none. file must outlive it. */
int lora_open(struct lora **out, const struct checkpoint *file, struct err *e);
void lora_close(struct lora *l);      /* NULL is fine */
int lora_pairs(const struct lora *l); /* NULL: 0 */
int lora_rank(const struct lora *l);  /* of the first pair; NULL: 0 */
/* Before weights are read: every pair must fit exactly one weight of m, by name, shape and a dtype that can be added to. */
int lora_check(const struct lora *l, struct model *m, struct err *e);
bool lora_touches(const struct lora *l, const struct weight *w); /* l NULL: false */
/* Adds to bytes, w's whole tensor (F32, F16 or BF16, rounded to the nearest, ties to even), in place. w has a pair and passed
 * lora_check. */
int lora_merge(const struct lora *l, const struct weight *w, void *bytes, struct err *e);

#endif
