/* logits.c - what a model computes, for comparison with what others compute of the same weights: logits of the last rows of
 * a prompt and of the steps behind it, then what it writes by itself. The backend is what JAEDA_TEST_BACKEND names.
 *   jaeda-logits (--folder PATH | --shape NAME [--layers N]) [--dtype T] [--prompt N] [--steps N] --out FILE
 * Prompt and steps are the tokens (37 i + 11) % 251. FILE: rows of 32-bit floats, of the last ROWS of the prompt and of each
 * step; standard output: one JSON object. A shape's weights are made up, the same for every backend. */
#include "../golden/rig.h"
#include "data/catalog.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 8, PROMPT_MAX = 1024, STEPS_MAX = 64 };
struct options {
    const char *folder, *shape, *dtype, *out;
    int layers, prompt, steps;
};
static int token(int i) { return (37 * i + 11) % 251; }

static int write_rows(FILE *f, const float *logits, int rows, int vocab, struct err *e) {
    return fwrite(logits, sizeof *logits, (size_t)rows * (size_t)vocab, f) == (size_t)rows * (size_t)vocab
               ? 0
               : err_set(e, STATUS_IO, "the file cannot be written");
}
static int compute(struct rig *r, const struct options *o, FILE *f, struct err *e) {
    const int vocab = r->config.vocab, rows = o->prompt < ROWS ? o->prompt : ROWS;
    int id[PROMPT_MAX], text[STEPS_MAX];
    float *logits = malloc((size_t)o->prompt * (size_t)vocab * sizeof *logits);
    if (!logits) return err_set(e, STATUS_NOMEM, "no memory for logits");
    for (int i = 0; i < o->prompt; i++) id[i] = token(i);
    if (!rig_wide(r, id, o->prompt, 0, NULL, logits, e))
        write_rows(f, logits + (size_t)(o->prompt - rows) * (size_t)vocab, rows, vocab, e);
    for (int i = 0; i < o->steps && !e->code; i++)
        if (!rig_one(r, token(o->prompt + i), o->prompt + i, logits, e)) write_rows(f, logits, 1, vocab, e);
    free(logits);
    if (e->code || rig_one(r, id[o->prompt - 1], o->prompt - 1, NULL, e) || rig_greedy(r, text, o->steps, e))
        return e->code;
    printf("{\"device\": \"%s\", \"vocab\": %d, \"rows\": %d, \"greedy\": [", r->api->isa(r->be), vocab,
           rows + o->steps);
    for (int i = 0; i < o->steps; i++) printf("%s%d", i ? ", " : "", text[i]);
    printf("]}\n");
    return 0;
}
static int run(const struct options *o, struct err *e) {
    struct model_config config;
    struct rig_options how = { .path = o->folder, .want = dtype_parse(o->dtype), .fuse = true, .rows = o->prompt };
    how.kv = how.want == DTYPE_F32 ? DTYPE_F32 : DTYPE_F16;
    if (o->shape) {
        const struct catalog_entry *c = catalog_find(o->shape, e);
        if (!c) return e->code;
        config = c->config;
        if (o->layers) config.layers = o->layers;
        how.made_up = &config;
    }
    struct rig r;
    FILE *f = fopen(o->out, "wb");
    if (!f) return err_set(e, STATUS_IO, "%s cannot be written", o->out);
    if (!rig_open(&r, &how, e)) compute(&r, o, f, e);
    if (fclose(f) && !e->code) err_set(e, STATUS_IO, "%s cannot be written", o->out);
    if (r.be) rig_close(&r);
    return e->code;
}
static int number(const char *text, int most) {
    char *end;
    const long n = strtol(text, &end, 10);
    return *text && !*end && n > 0 && n <= most ? (int)n : -1;
}
int main(int argc, char **argv) {
    static const struct option names[] = { { "folder", 1, NULL, 'f' }, { "shape", 1, NULL, 's' },
                                           { "layers", 1, NULL, 'l' }, { "dtype", 1, NULL, 'd' },
                                           { "prompt", 1, NULL, 'p' }, { "steps", 1, NULL, 'n' },
                                           { "out", 1, NULL, 'o' },    { NULL, 0, NULL, 0 } };
    struct options o = { NULL, NULL, "fp16", NULL, 0, 130, 8 };
    struct err e = { 0 };
    bool bad = false;
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) >= 0;) {
        int *n = c == 'l' ? &o.layers : c == 'p' ? &o.prompt : c == 'n' ? &o.steps : NULL;
        if (c == 'f') o.folder = optarg;
        if (c == 's') o.shape = optarg;
        if (c == 'd') o.dtype = optarg;
        if (c == 'o') o.out = optarg;
        if (n) *n = number(optarg, c == 'p' ? PROMPT_MAX : STEPS_MAX);
        bad = bad || c == '?' || (n && *n < 0);
    }
    if (bad || !o.out || !o.folder == !o.shape) {
        fprintf(
            stderr,
            "usage: %s (--folder PATH | --shape NAME [--layers N]) [--dtype T] [--prompt N] [--steps N] --out FILE\n",
            argv[0]);
        return 2;
    }
    if (run(&o, &e)) fprintf(stderr, "%s\n", e.text);
    return e.code ? 1 : 0;
}
