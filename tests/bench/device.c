/* device.c - how fast a catalogued shape runs on a device with made-up weights, as decoding really runs: steps launched
 * ahead, one graph each, tokens chosen on the device. One JSON object a line; times of every run, for others to sum up.
 *   jaeda-bench-device [--backend cuda|PATH|cpu] [--model NAME] [--dtype T] [--kv fp16|int8] [--layers N] [--vocab N]
 *                      [--batch 1,4,16] [--context 0,1900] [--prompt 512,1900] [--tokens N] [--runs N]
 * Contexts other than the first are for a batch of 1. */
#include "compute/cpu/cpu.h"
#include "compute/module.h"
#include "data/catalog.h"
#include "shape.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIST = 8, WARM = 4, RUNS_MAX = 99 };
struct list {
    int at[LIST], n;
};
struct options {
    const char *backend, *model, *dtype, *kv;
    int layers, vocab, tokens, runs;
    struct list batch, context, prompt;
};
struct bench {
    struct options o;
    const struct backend_api *api;
    struct backend *be;
    struct model *model;
    struct slab *slab;
    struct program p[LIST + 1]; /* a batch each; last the prompt's */
    void *arena[LIST + 1], *kv;
};
static struct step s;

/* ---- the model ---- */
static int most_of(const struct list *l) {
    int most = 0;
    for (int i = 0; i < l->n; i++)
        if (l->at[i] > most) most = l->at[i];
    return most;
}
static int steps_of(const struct options *o) { return WARM + o->tokens + AHEAD_MAX; }
static int kv_rows(const struct options *o) {
    const int batch = most_of(&o->batch) * (o->context.at[0] + steps_of(o)), one = most_of(&o->context) + steps_of(o),
              prompt = most_of(&o->prompt) + 1;
    return batch > one ? batch > prompt ? batch : prompt : one > prompt ? one : prompt;
}
static int record(struct bench *b, struct err *e) {
    struct program *all[LIST + 1];
    const int n = b->o.batch.n + 1;
    for (int i = 0; i < n; i++) {
        const int picks = i < n - 1 ? b->o.batch.at[i] : 1, rows = i < n - 1 ? picks : b->api->chunk(b->be);
        all[i] = &b->p[i];
        program_init(all[i], b->api, b->be, rows, picks, kv_rows(&b->o));
        all[i]->kv = dtype_parse(!strcmp(b->o.kv, "int8") ? "q8_0" : b->o.kv);
        op_next(all[i], model_record(b->model, all[i]));
        program_fuse(all[i]);
        if (program_plan(all[i], e)) return e->code;
    }
    return b->api->place(b->be, all, n, &b->slab, e);
}
static int load(struct bench *b, struct err *e) {
    const struct catalog_entry *c = catalog_find(b->o.model, e);
    double bytes = 0, t0 = now();
    if (!c) return e->code;
    struct model_config config = c->config;
    if (b->o.layers) config.layers = b->o.layers;
    if (b->o.vocab) config.vocab = b->o.vocab;
    if (model_open(&b->model, NULL, &config, dtype_parse(b->o.dtype), e) || record(b, e) ||
        made_up(b->api, b->be, b->model, &bytes, e))
        return e->code;
    b->kv = b->api->alloc(b->be, b->p[0].need[REGION_KV]);
    for (int i = 0; i <= b->o.batch.n; i++) {
        b->arena[i] = b->api->alloc(b->be, b->p[i].need[REGION_ARENA]);
        if (!b->kv || !b->arena[i]) return err_set(e, STATUS_NOMEM, "no memory for activations and cache");
        if (program_link(&b->p[i], b->arena[i], b->kv, e)) return e->code;
    }
    printf("{\"what\": \"load\", \"weights_gb\": %.4f, \"kv_gb\": %.4f, \"seconds\": %.2f}\n", bytes * 1e-9,
           (double)b->p[0].need[REGION_KV] * 1e-9, now() - t0);
    return 0;
}
static void leave(struct bench *b) {
    for (int i = 0; i <= b->o.batch.n; i++) {
        if (b->p[i].api) program_fini(&b->p[i]);
        if (b->arena[i]) b->api->free(b->be, b->arena[i], b->p[i].need[REGION_ARENA]);
    }
    if (b->kv) b->api->free(b->be, b->kv, b->p[0].need[REGION_KV]);
    if (b->slab) b->api->drop(b->be, b->slab);
    model_close(b->model);
    b->api->close(b->be);
}

/* ---- measured ---- */
static void numbers(const char *name, const double *v, int n) {
    printf(", \"%s\": [", name);
    for (int i = 0; i < n; i++) printf("%s%.6g", i ? ", " : "", v[i]);
    printf("]");
}
static int peak(struct bench *b, struct err *e) {
    struct peaks p;
    if (b->api->probe(b->be, &p, e)) return e->code;
    printf("{\"what\": \"peaks\", \"stream_gbs\": %.1f, \"fp32_tflops\": %.2f, \"fp16_tflops\": %.2f, "
           "\"bf16_tflops\": %.2f}\n",
           p.stream_gbs, p.fp32_gflops * 1e-3, p.fp16_gflops * 1e-3, p.bf16_gflops * 1e-3);
    return 0;
}
static void begin(int batch, int context, int apart) {
    const int id = 7;
    memset(&s, 0, sizeof s);
    for (int i = 0; i < batch; i++) step_rows(&s, &id, 1, context, i * apart, true);
}
/* Steps launched ahead, as far as the device allows; *host_us: of this thread a step, waiting left out. */
static int steps(struct program *p, int n, double *host_us, struct err *e) {
    const int ahead = p->api->launch ? AHEAD_MAX : 1;
    for (int launched = 0, landed = 0; landed < n; landed++) {
        const double t0 = now();
        for (; launched < n && p->flying < ahead; launched++)
            if (program_launch(p, &s, e)) return e->code;
        *host_us += (now() - t0) * 1e6 / n;
        if (program_land(p, &s, e)) return e->code;
    }
    return 0;
}
static int decode(struct bench *b, int which, int context, struct err *e) {
    struct program *p = &b->p[which];
    const int batch = b->o.batch.at[which], apart = context + steps_of(&b->o);
    double us[RUNS_MAX], host[RUNS_MAX], bytes = 0, flops = 0, unused = 0;
    for (int r = 0; r < b->o.runs; r++) {
        begin(batch, context, apart);
        if (steps(p, WARM, &unused, e)) return e->code;
        for (int i = 0; i < batch; i++) s.row[i].pos = s.row[i].at = context + WARM;
        const double t0 = now();
        host[r] = 0;
        if (steps(p, b->o.tokens, &host[r], e)) return e->code;
        us[r] = (now() - t0) * 1e6 / b->o.tokens;
    }
    begin(batch, context + WARM + b->o.tokens / 2, apart);
    costs(p, &s, &bytes, &flops);
    printf("{\"what\": \"decode\", \"batch\": %d, \"context\": %d, \"gb\": %.6f, \"gflop\": %.4f", batch, context,
           bytes * 1e-9, flops * 1e-9);
    numbers("step_us", us, b->o.runs);
    numbers("host_us", host, b->o.runs);
    printf("}\n");
    return 0;
}
static int prompt(struct bench *b, int tokens, struct err *e) {
    struct program *p = &b->p[b->o.batch.n];
    const int chunk = b->api->chunk(b->be);
    double ms[RUNS_MAX], bytes = 0, flops = 0;
    for (int r = 0; r <= b->o.runs; r++) { /* the first one is not counted */
        const double t0 = now();
        for (int from = 0; from < tokens; from += chunk) {
            const int n = tokens - from < chunk ? tokens - from : chunk;
            int id[ROWS_MAX];
            for (int i = 0; i < n; i++) id[i] = (from + i) * 37 % 200;
            memset(&s, 0, sizeof s);
            step_rows(&s, id, n, from, 0, from + n == tokens);
            if (!r) costs(p, &s, &bytes, &flops);
            if (program_replay(p, &s, NULL, e)) return e->code;
        }
        if (r) ms[r - 1] = (now() - t0) * 1e3;
    }
    printf("{\"what\": \"prefill\", \"tokens\": %d, \"gflop\": %.3f", tokens, flops * 1e-9);
    numbers("ms", ms, b->o.runs);
    printf("}\n");
    return 0;
}
static int run(struct bench *b, struct err *e) {
    printf("{\"what\": \"device\", \"name\": \"%s\", \"model\": \"%s\", \"dtype\": \"%s\", \"kv\": \"%s\"}\n",
           b->api->isa(b->be), b->o.model, b->o.dtype, b->o.kv);
    if (peak(b, e) || load(b, e)) return e->code;
    for (int i = 0; i < b->o.batch.n; i++)
        for (int c = 0; c < (b->o.batch.at[i] == 1 ? b->o.context.n : 1); c++)
            if (decode(b, i, b->o.context.at[c], e)) return e->code;
    for (int i = 0; i < b->o.prompt.n; i++)
        if (prompt(b, b->o.prompt.at[i], e)) return e->code;
    return peak(b, e);
}

/* ---- the command line ---- */
static int parse_list(struct list *l, const char *text, int most) {
    char *end = NULL;
    for (l->n = 0; l->n < LIST; text = end + 1) {
        const long v = strtol(text, &end, 10);
        if (end == text || v < 0 || v > most) return -1;
        l->at[l->n++] = (int)v;
        if (!*end) return 0;
        if (*end != ',') return -1;
    }
    return -1;
}
static int parse(struct options *o, int argc, char **argv) {
    static const struct option names[] = {
        { "backend", 1, NULL, 'b' }, { "model", 1, NULL, 'm' },  { "dtype", 1, NULL, 'd' }, { "kv", 1, NULL, 'k' },
        { "layers", 1, NULL, 'l' },  { "vocab", 1, NULL, 'v' },  { "batch", 1, NULL, 'n' }, { "context", 1, NULL, 'c' },
        { "prompt", 1, NULL, 'p' },  { "tokens", 1, NULL, 't' }, { "runs", 1, NULL, 'r' },  { NULL, 0, NULL, 0 }
    };
    *o = (struct options){ "cuda", "polyglot-ko-5.8b", "fp16",       "fp16",        0, 0, 64,
                           7,      { { 1 }, 1 },       { { 0 }, 1 }, { { 512 }, 1 } };
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) >= 0;) {
        struct list one = { { 0 }, 1 };
        struct list *to = c == 'n' ? &o->batch : c == 'c' ? &o->context : c == 'p' ? &o->prompt : &one;
        if (c == '?') return -1;
        if (c == 'b') o->backend = optarg;
        if (c == 'm') o->model = optarg;
        if (c == 'd') o->dtype = optarg;
        if (c == 'k') o->kv = optarg;
        if (strchr("bmdk", c)) continue;
        if (parse_list(to, optarg, c == 'n' ? PICKS_MAX : c == 'v' ? 1 << 20 : c == 'r' ? RUNS_MAX : 8192)) return -1;
        if (c == 'l') o->layers = one.at[0];
        if (c == 'v') o->vocab = one.at[0];
        if (c == 't') o->tokens = one.at[0];
        if (c == 'r') o->runs = one.at[0];
    }
    return optind == argc && o->tokens && o->runs ? 0 : -1;
}
int main(int argc, char **argv) {
    struct bench b = { 0 };
    struct err e = { 0 };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (parse(&b.o, argc, argv)) {
        fprintf(stderr,
                "usage: %s [--backend cuda|PATH|cpu] [--model NAME] [--dtype T] [--kv fp16|int8] [--layers N] "
                "[--vocab N] [--batch N,..] [--context N,..] [--prompt N,..] [--tokens N] [--runs N]\n",
                argv[0]);
        return 2;
    }
    b.api = !strcmp(b.o.backend, "cpu") ? &backend_cpu : module_open(b.o.backend, &e);
    if (b.api) b.be = b.api->open(0, &e);
    const int rc = b.be ? run(&b, &e) : e.code;
    if (rc) fprintf(stderr, "%s\n", e.text);
    if (b.be) leave(&b);
    return rc ? 1 : 0;
}
