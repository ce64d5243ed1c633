/* config_read.h - private to config*.c: the numbers of a configuration and their checks, for every source alike. */
#ifndef JAEDA_DATA_CONFIG_READ_H
#define JAEDA_DATA_CONFIG_READ_H
#include "config.h"
#include <jansson.h>

enum config_source { CONFIG_GGUF, CONFIG_JSON, CONFIG_SOURCES };
struct config_reader {
    enum config_source source;
    const char *file, *prefix, *way_out; /* for error texts; prefix: "llama." before GGUF's keys, else "" */
    const struct gguf *gguf;             /* GGUF */
    const json_t *json;                  /* JSON */
    struct err *e;
};
/* Reads every number of the table, with its bounds. */
int config_read_numbers(struct model_config *c, const struct config_reader *r);
/* A number under a key of the source, absent: otherwise. */
int config_read_float(const struct config_reader *r, const char *key, double otherwise, const double range[2],
                      float *out);
extern const double CONFIG_THETA[2], CONFIG_EPS[2]; /* the ranges that rope_theta and norm_eps may have */
/* What follows from the numbers (kv_heads, head_dim, rope_dims where the source says nothing) and whether they fit. */
int config_derive(struct model_config *c, const struct config_reader *r);
/* Up to its length a sliding window sees what full attention sees, so the shorter context is exact. */
void config_window(struct model_config *c, int64_t window);
int config_wrong(const struct config_reader *r, const char *key, const char *why);
/* The same from a parsed object; used by the catalogue. */
int config_from_object(struct model_config *c, const json_t *o, const char *label, struct err *e);

#endif
