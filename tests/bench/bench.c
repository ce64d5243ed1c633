/* bench.c - how fast a catalogued model runs at its true shape with made-up weights, each figure beside what the same run
 * measures of the machine: the streaming bandwidth for decode, the peak of the arithmetic used for prefill.
 *   jaeda-bench [--model NAME] [--dtype int4|int8|bf16|fp16|fp32] [--kv fp16|fp32] [--prompt N] [--decode N]
 *               [--threads N] [--runs N] [--calls]
 * Take figures from a Release build on a machine that does nothing else: it prints how far that holds. */
#include "data/catalog.h"
#include "shape.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { RUNS_MAX = 99, SPANS = 8192, FILL = 8192 };
struct options {
    const char *model, *dtype, *kv;
    int prompt, decode, threads, runs, calls;
};
struct bench {
    struct options o;
    const struct backend_api *api;
    struct backend *be;
    struct model *model;
    struct slab *slab;
    struct program decode, prefill; /* one row; as many as the device likes to be fed at once */
    void *arena[2], *kv;
    double bytes; /* of packed weights */
};
struct figure { /* one a run */
    double rate[RUNS_MAX], share[RUNS_MAX];
};

static int failed(const struct err *e) {
    fprintf(stderr, "%s\n", e->text);
    return 1;
}

/* ---- the machine ---- */
/* Time that the host took from this machine's processors, in ticks, and all time. */
static void ticks(double *stolen, double *all) {
    double v[8] = { 0 };
    FILE *f = fopen("/proc/stat", "r");
    if (f && fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7) != 8)
        memset(v, 0, sizeof v);
    if (f) fclose(f);
    *stolen = v[7];
    *all = 0;
    for (int i = 0; i < 8; i++) *all += v[i];
}
static void machine(const struct bench *b) {
    char line[256], cpu[128] = "an unknown processor";
    double load[1] = { 0 };
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %127[^\n]", cpu) == 1) break;
    if (f) fclose(f);
    if (getloadavg(load, 1) != 1) load[0] = -1;
    printf("%s, %s, %d threads; load average before: %.2f\n", cpu, b->api->isa(b->be), b->api->threads(b->be), load[0]);
}

/* ---- the model ---- */
static int make_up(struct bench *b, struct err *e) {
    const double t0 = now();
    if (made_up(b->api, b->be, b->model, &b->bytes, e)) return e->code;
    printf("%.3f GB of packed weights, made up in %.2f s: %.2f GB/s\n", b->bytes * 1e-9, now() - t0,
           b->bytes * 1e-9 / (now() - t0));
    return 0;
}
static int chunk(const struct bench *b) { return b->api->chunk(b->be); }
static int load(struct bench *b, struct err *e) {
    struct program *const both[2] = { &b->decode, &b->prefill };
    const struct catalog_entry *c = catalog_find(b->o.model, e);
    const enum dtype want = dtype_parse(b->o.dtype), kv = dtype_parse(b->o.kv);
    if (!c) return e->code;
    if (want == DTYPE_NONE || (kv != DTYPE_F32 && kv != DTYPE_F16))
        return err_set(e, STATUS_INVALID, "--dtype %s --kv %s: unknown", b->o.dtype, b->o.kv);
    if (model_open(&b->model, NULL, &c->config, want, e)) return e->code;
    const int rows = b->o.prompt + b->o.decode * 2 + 16;
    for (int i = 0; i < 2; i++) {
        program_init(both[i], b->api, b->be, i ? chunk(b) : 1, 1, rows);
        both[i]->kv = kv;
        model_record(b->model, both[i]);
        program_fuse(both[i]);
        if (program_plan(both[i], e)) return e->code;
    }
    if (b->api->place(b->be, both, 2, &b->slab, e) || make_up(b, e)) return e->code;
    b->kv = b->api->alloc(b->be, b->prefill.need[REGION_KV]);
    for (int i = 0; i < 2; i++) {
        b->arena[i] = b->api->alloc(b->be, both[i]->need[REGION_ARENA]);
        if (!b->kv || !b->arena[i]) return err_set(e, STATUS_NOMEM, "no memory for activations and cache");
        if (program_link(both[i], b->arena[i], b->kv, e)) return e->code;
    }
    return 0;
}
static void leave(struct bench *b) {
    struct program *const both[2] = { &b->decode, &b->prefill };
    for (int i = 0; i < 2; i++)
        if (b->arena[i]) b->api->free(b->be, b->arena[i], both[i]->need[REGION_ARENA]);
    if (b->kv) b->api->free(b->be, b->kv, b->prefill.need[REGION_KV]);
    if (b->slab) b->api->drop(b->be, b->slab);
    program_fini(&b->decode);
    program_fini(&b->prefill);
    model_close(b->model);
    b->api->close(b->be);
}

/* ---- measured ---- */
static struct step *rows(const struct bench *b, int from, int n) {
    static struct step s;
    int id[ROWS_MAX];
    for (int i = 0; i < n; i++) id[i] = (from + i) * 37 % 1000;
    memset(&s, 0, sizeof s);
    step_rows(&s, id, n, from, 0, from + n >= b->o.prompt);
    return &s;
}
static int prefill(struct bench *b, double *seconds, double *flops, struct err *e) {
    double bytes = 0;
    *seconds = *flops = 0;
    for (int from = 0; from < b->o.prompt; from += chunk(b)) {
        const int n = b->o.prompt - from < chunk(b) ? b->o.prompt - from : chunk(b);
        struct step *s = rows(b, from, n);
        costs(&b->prefill, s, &bytes, flops);
        const double t0 = now();
        if (program_replay(&b->prefill, s, NULL, e)) return e->code;
        *seconds += now() - t0;
    }
    return 0;
}
static int decode(struct bench *b, double *seconds, double *bytes, struct err *e) {
    struct step *s = rows(b, b->o.prompt, 1);
    double flops = 0;
    if (program_replay(&b->decode, s, NULL, e)) return e->code; /* the first step of a run finds other data cached */
    *bytes = 0;
    costs(&b->decode, s, bytes, &flops);
    const double t0 = now();
    for (int i = 0; i < b->o.decode; i++)
        if (program_replay(&b->decode, s, NULL, e)) return e->code;
    *seconds = (now() - t0) / b->o.decode;
    return 0;
}
/* The calls of one watched step, summed by what they do. */
static int calls(struct program *p, struct step *s, struct err *e) {
    static struct span span[SPANS];
    struct watch w = { .span = span, .cap = SPANS };
    if (program_replay(p, s, &w, e)) return e->code;
    printf("%-40s %8s %8s %8s\n", "call", "ms", "GB/s", "GOP/s");
    for (int i = 0; i < w.n; i++) {
        struct span sum = span[i];
        bool first = true;
        for (int k = 0; k < w.n; k++) {
            if (k == i || strcmp(span[k].call->label, sum.call->label) != 0) continue;
            first &= k > i;
            sum.us += span[k].us;
            sum.bytes += span[k].bytes;
            sum.flops += span[k].flops;
        }
        if (first)
            printf("%-40s %8.2f %8.1f %8.1f\n", sum.call->label, sum.us * 1e-3, sum.bytes / sum.us * 1e-3,
                   sum.flops / sum.us * 1e-3);
    }
    return 0;
}
/* How fast the numbers of a file become packed ones: a made-up matrix of 128 MiB as f16. */
static int fill(struct bench *b, struct err *e) {
    static struct weight w;
    struct program p, *const one[] = { &p };
    struct slab *slab = NULL;
    w = (struct weight){ "fill", .rows = FILL, .cols = FILL, .run = FILL, .dt = DTYPE_F16 };
    w.want = dtype_parse(b->o.dtype);
    w.bytes = dtype_bytes(w.dt, (size_t)FILL * FILL);
    uint16_t *source = malloc(w.bytes);
    program_init(&p, b->api, b->be, 1, 1, 16);
    op_linear(&p, "fill", program_tmp(&p, DIM_ROWS, 1, FILL), program_tmp(&p, DIM_ROWS, 1, FILL), &w, NULL, ACT_NONE);
    int rc = source ? program_plan(&p, e) : err_set(e, STATUS_NOMEM, "no memory for a matrix");
    if (!rc) rc = b->api->place(b->be, one, 1, &slab, e);
    double best = 1e9;
    for (size_t i = 0; source && i < w.bytes / 2; i++)
        source[i] = (uint16_t)(0x2400 | (i * 40503u >> 3 & 0x83ff)); /* 1/64 .. 1/32 of either sign */
    for (int i = 0; i < 4 && !rc; i++) {
        const double t0 = now();
        rc = b->api->fill(b->be, &w, source, e);
        if (now() - t0 < best) best = now() - t0;
    }
    if (!rc) printf("packing from f16: %.2f GB/s of the file\n", (double)w.bytes * 1e-9 / best);
    if (slab) b->api->drop(b->be, slab);
    program_fini(&p);
    free(source);
    return rc;
}

/* ---- reported ---- */
static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static void report(const char *what, const char *unit, const char *of, struct figure *f, int n) {
    qsort(f->rate, (size_t)n, sizeof *f->rate, by_size);
    qsort(f->share, (size_t)n, sizeof *f->share, by_size);
    printf("%-8s median %8.2f %s (%.2f..%.2f), %.3f (%.3f..%.3f) of %s\n", what, f->rate[n / 2], unit, f->rate[0],
           f->rate[n - 1], f->share[n / 2], f->share[0], f->share[n - 1], of);
}
static double peak_of(const struct bench *b, const struct peaks *p, const char **name) {
    const enum dtype want = dtype_parse(b->o.dtype);
    const bool quant = want == DTYPE_Q4_0 || want == DTYPE_Q8_0, pairs = want == DTYPE_BF16 && p->bf16_gflops > 0;
    *name = quant ? "the int8 peak" : pairs ? "the bf16 peak" : "the fp32 peak";
    return quant ? p->int8_gops : pairs ? p->bf16_gflops : p->fp32_gflops;
}
static int run(struct bench *b, struct err *e) {
    static struct figure d, f;
    const char *arithmetic = "";
    double best = 0;
    for (int r = 0; r < b->o.runs; r++) {
        struct peaks p[3];
        double s[2] = { 1, 1 }, bytes = 0, flops = 0;
        if (b->api->probe(b->be, &p[0], e) || prefill(b, &s[0], &flops, e) || b->api->probe(b->be, &p[1], e) ||
            decode(b, &s[1], &bytes, e) || b->api->probe(b->be, &p[2], e))
            return e->code;
        for (int i = 0; i < 3; i++)
            if (peak_of(b, &p[i], &arithmetic) > best) best = peak_of(b, &p[i], &arithmetic);
        const double stream = (p[1].stream_gbs + p[2].stream_gbs) / 2;
        d.rate[r] = 1 / s[1];
        d.share[r] = bytes / s[1] * 1e-9 / stream;
        f.rate[r] = b->o.prompt / s[0];
        f.share[r] = flops / s[0] * 1e-9;
        printf("run %d: stream %.1f, %.1f, %.1f GB/s; decode %.2f ms, %.1f GB/s: %.3f; peak %.0f, prefill %.0f: %.3f\n",
               r, p[0].stream_gbs, p[1].stream_gbs, p[2].stream_gbs, s[1] * 1e3, bytes / s[1] * 1e-9, d.share[r], best,
               f.share[r], f.share[r] / best);
    }
    for (int r = 0; r < b->o.runs; r++) f.share[r] /= best;
    report("decode", "tok/s", "the stream before and after", &d, b->o.runs);
    report("prefill", "tok/s", arithmetic, &f, b->o.runs);
    return b->o.calls && (calls(&b->decode, rows(b, b->o.prompt, 1), e) || calls(&b->prefill, rows(b, 0, chunk(b)), e))
               ? e->code
               : 0;
}
static int number(const char *text, int least, int most) {
    char *end;
    const long n = strtol(text, &end, 10);
    if (!*text || *end || n < least || n > most) {
        fprintf(stderr, "%s: a number from %d to %d\n", text, least, most);
        return -1;
    }
    return (int)n;
}
static int parse(struct options *o, int argc, char **argv) {
    static const struct option names[] = { { "model", 1, NULL, 'm' },  { "dtype", 1, NULL, 'd' },
                                           { "kv", 1, NULL, 'k' },     { "prompt", 1, NULL, 'p' },
                                           { "decode", 1, NULL, 'n' }, { "threads", 1, NULL, 't' },
                                           { "runs", 1, NULL, 'r' },   { "calls", 0, NULL, 'c' },
                                           { NULL, 0, NULL, 0 } };
    *o = (struct options){ "polyglot-ko-5.8b", "int4", "fp16", 512, 8, 0, 5, 0 };
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) >= 0;) {
        int unused = 0;
        if (c == 'm') o->model = optarg;
        if (c == 'd') o->dtype = optarg;
        if (c == 'k') o->kv = optarg;
        if (c == 'c') o->calls = 1;
        int *to = c == 'p' ? &o->prompt : c == 'n' ? &o->decode : c == 't' ? &o->threads : c == 'r' ? &o->runs : NULL;
        if (to) *to = number(optarg, c == 't' ? 0 : 1, c == 'r' ? RUNS_MAX : c == 't' ? 256 : 8192);
        if (c == '?' || (to ? *to : unused) < 0) return -1;
    }
    return optind == argc ? 0 : -1;
}
int main(int argc, char **argv) {
    struct bench b = { .api = &backend_cpu };
    struct err e = { 0 };
    double stolen[2], all[2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (parse(&b.o, argc, argv)) {
        fprintf(stderr,
                "usage: %s [--model NAME] [--dtype T] [--kv T] [--prompt N] [--decode N] [--threads N] [--runs N] "
                "[--calls]\n",
                argv[0]);
        return 2;
    }
    if (!(b.be = b.api->open(b.o.threads, &e))) return failed(&e);
    printf("%s as %s, cache %s, prompt %d\n", b.o.model, b.o.dtype, b.o.kv, b.o.prompt);
    machine(&b);
    ticks(&stolen[0], &all[0]);
    const int rc = load(&b, &e) || fill(&b, &e) || run(&b, &e) ? failed(&e) : 0;
    ticks(&stolen[1], &all[1]);
    if (all[1] > all[0]) printf("stolen by the host: %.1f %%\n", 100 * (stolen[1] - stolen[0]) / (all[1] - all[0]));
    leave(&b);
    return rc;
}
