#include "fit.h"
#include "base/mem.h"
#include "compute/module.h"
#include "eyes.h"
#include "machine.h"
#include "seat.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* What a driver's context, its libraries and fragmentation take of a GPU before the first tensor: an allowance, not
 * measured here. */
static const uint64_t MIB = UINT64_C(1) << 20, GPU_RESERVE = UINT64_C(768) << 20;
enum { CELLS_MAX = 4096, PROBES = 3 };

/* Memory as the devices report it (EC2's DescribeInstanceTypes for the A10G), bandwidth by their data sheets. */
static const struct {
    const char *name, *device;
    int memory_mib;
    double bandwidth_gbs;
} known[] = {
    { "g5.2xlarge", "NVIDIA A10G", 22888, 600 },
    { "g5.12xlarge", "NVIDIA A10G, one of 4", 22888, 600 },
    { "a100-80gb", "NVIDIA A100 80GB SXM", 81920, 2039 },
    { "h100", "NVIDIA H100 80GB SXM", 81559, 3350 },
};
enum { MACHINES = 1 + sizeof known / sizeof *known }; /* this one, then the known */
static const char *const usual[] = { "auto", "int8", "int4" };
enum { DTYPES = sizeof usual / sizeof *usual };
bool engine_machine(int i, struct engine_machine *out) {
    *out = (struct engine_machine){ 0 };
    if (i < 0 || i >= MACHINES) return false;
    snprintf(out->name, sizeof out->name, "%s", i ? known[i - 1].name : "this");
    if (!i) return true;
    snprintf(out->device, sizeof out->device, "%s", known[i - 1].device);
    out->memory_bytes = (uint64_t)known[i - 1].memory_mib * MIB;
    out->bandwidth_gbs = known[i - 1].bandwidth_gbs;
    return true;
}

struct fitting {
    struct models *m;
    struct job *job;
    struct source source;
    struct engine_fit out;
    struct engine_machine *machine;
    struct engine_fit_row *row;
};
static int add_machine(struct fitting *f, const char *name, struct err *e) {
    struct engine_machine *to = &f->machine[f->out.machines];
    for (int i = 0; engine_machine(i, to); i++) {
        if (strcasecmp(to->name, name) != 0) continue;
        f->out.machines++;
        if (i) return STATUS_OK;
        const struct backend_api *api = f->m->api;
        if (api->memory) {
            snprintf(to->device, sizeof to->device, "%.63s", api->isa(f->m->be));
            to->memory_bytes = api->memory(f->m->be).free;
        } else {
            machine_cpu(to->device, sizeof to->device);
            to->memory_bytes = machine_memory().available;
        }
        to->bandwidth_gbs = models_peaks(f->m).stream_gbs;
        return STATUS_OK;
    }
    return err_set(e, STATUS_INVALID, "--machine %.24s: choose this, g5.2xlarge, g5.12xlarge, a100-80gb or h100", name);
}
/* What plans for another machine's GPU: the module of this build, which need not find a device for that; without one, what
 * computes here. */
static struct program planner(const struct fitting *f, bool here) {
    struct err none = { 0 };
    const struct backend_api *cuda = here || f->m->api->memory ? NULL : module_open("cuda", &none);
    return (struct program){ .api = cuda ? cuda : f->m->api, .be = cuda ? NULL : f->m->be };
}
/* What a load needs for a moment beside what stays, so that what fits here can also be loaded. */
static uint64_t staging(const struct fitting *f, struct model *m) {
    uint64_t largest = 0;
    for (int i = 0; i < model_weights(m); i++)
        if (model_weight(m, i)->bytes > largest) largest = model_weight(m, i)->bytes;
    return load_staging(f->m->api, largest);
}
/* Everything that one dtype takes at one context and batch; contexts are linear, so that the largest follows. */
static int row_of(struct fitting *f, struct engine_fit_row *row, struct model *m, bool fp32, struct err *e) {
    const struct engine_machine *at = &f->machine[row->machine];
    const bool here = !strcmp(at->name, "this");
    struct program like = planner(f, here);
    like.kv_rows = row->context;
    like.kv = fp32 ? DTYPE_F32 : DTYPE_F16;
    like.image_rows = f->out.model.image_tokens * IMAGES;
    struct eyes *eyes = NULL;
    if (f->source.sees && !(eyes = eyes_open(&f->source, f->job->req.vision_dtype, like.api, like.be, e)))
        return e->code;
    const int picks = here && row->batch < BEAMS_MAX ? BEAMS_MAX : row->batch;
    struct program p[PROGRAMS] = { 0 };
    struct sizes s;
    if (!sizes_of(&s, p, m, &like, picks, e)) {
        s.weight_bytes += eyes ? eyes->weight_bytes : 0;
        const uint64_t work = s.arena_bytes + (eyes ? eyes->work_bytes : 0) + (here ? 0 : GPU_RESERVE);
        const uint64_t fixed = s.weight_bytes + s.image_bytes + work, one = s.kv_bytes - s.image_bytes;
        const uint64_t spare = here ? staging(f, m) : 0, batch = (uint64_t)row->batch, kv = one * batch;
        const uint64_t usable = at->memory_bytes > spare ? at->memory_bytes - spare : 0;
        const uint64_t token = one / (uint64_t)program_kv_rows(like.kv_rows), each = token * batch;
        const uint64_t rows = usable > fixed ? (usable - fixed) / each : 0;
        f->out.model.kv_bytes_per_token = token;
        row->weight_bytes = s.weight_bytes;
        row->vision_bytes = eyes ? eyes->weight_bytes : 0;
        row->kv_bytes = kv;
        row->work_bytes = work + s.image_bytes;
        row->total_bytes = fixed + kv;
        row->fits = row->total_bytes <= usable;
        row->max_context = rows < (uint64_t)f->out.model.context ? (int)rows : f->out.model.context;
        row->ceiling = at->bandwidth_gbs * 1e9 * row->batch / (s.read_bytes + (double)kv);
    }
    for (int i = 0; i < PROGRAMS; i++) program_fini(&p[i]);
    eyes_close(eyes);
    return e->code;
}
static int rows_of_dtype(struct fitting *f, int machine, const char *dtype, struct err *e) {
    const struct engine_req *q = &f->job->req;
    const int own = f->out.model.context < 2048 ? f->out.model.context : 2048, one = 1;
    const int *context = q->fit.contexts ? q->fit.context : &own, *batch = q->fit.batches ? q->fit.batch : &one;
    enum dtype want;
    struct model *m = NULL;
    if (source_want(dtype, &want, e) || model_open(&m, source_weights(&f->source), &f->source.config, want, e))
        return e->code;
    const char *stored = source_stored(&f->source);
    const bool fp32 = want == DTYPE_F32 || (want == DTYPE_NONE && !strcmp(stored, "fp32"));
    for (int c = 0; c < (q->fit.contexts ? q->fit.contexts : 1) && !e->code; c++)
        for (int b = 0; b < (q->fit.batches ? q->fit.batches : 1) && !e->code; b++) {
            if (context[c] < 1 || context[c] > f->out.model.context)
                err_set(e, STATUS_INVALID, "--max-model-len %d: %s was trained for 1 to %d tokens", context[c],
                        f->out.model.name, f->out.model.context);
            else if (batch[b] < 1 || batch[b] > ROWS_MAX)
                err_set(e, STATUS_INVALID, "--batch-size %d: 1 to %d", batch[b], ROWS_MAX);
            if (e->code) break;
            struct engine_fit_row *row = &f->row[f->out.rows++];
            *row = (struct engine_fit_row){ .machine = machine, .context = context[c], .batch = batch[b] };
            snprintf(row->dtype, sizeof row->dtype, "%s", want == DTYPE_NONE ? stored : dtype);
            row_of(f, row, m, fp32, e);
        }
    model_close(m);
    return e->code;
}
static int matrix(struct fitting *f, struct err *e) {
    const struct engine_req *q = &f->job->req;
    const int most = q->fit.dtypes ? q->fit.dtypes : DTYPES;
    for (int i = 0; i < q->fit.machines; i++)
        if (add_machine(f, q->fit.machine[i], e)) return e->code;
    for (int i = 0; !q->fit.machines && i < MACHINES; i++)
        if (add_machine(f, i ? known[i - 1].name : "this", e)) return e->code;
    for (int i = 0; i < f->out.machines; i++)
        for (int d = 0; d < most; d++)
            if (rows_of_dtype(f, i, q->fit.dtypes ? q->fit.dtype[d] : usual[d], e)) return e->code;
    return STATUS_OK;
}
static int cells(const struct engine_req *q) {
    const int dtypes = q->fit.dtypes ? q->fit.dtypes : DTYPES, machines = q->fit.machines ? q->fit.machines : MACHINES;
    const int contexts = q->fit.contexts ? q->fit.contexts : 1, batches = q->fit.batches ? q->fit.batches : 1;
    return dtypes * machines * contexts * batches;
}
/* One block for both lists, so that the event owns one thing. */
static int make(struct fitting *f, struct err *e) {
    const struct engine_req *q = &f->job->req;
    const int machines = q->fit.machines ? q->fit.machines : MACHINES, rows = cells(q);
    if (machines > 64 || rows > CELLS_MAX)
        return err_set(e, STATUS_INVALID, "%d combinations; at most %d", rows, CELLS_MAX);
    char *block = mem_zero(1, sizeof *f->row * (size_t)rows + sizeof *f->machine * (size_t)(machines + 1));
    if (!block) return err_set(e, STATUS_NOMEM, "out of memory for %d rows", rows);
    f->row = (struct engine_fit_row *)(void *)block;
    f->machine = (struct engine_machine *)(void *)(block + sizeof *f->row * (size_t)rows);
    for (int i = 0; i < PROBES && models_probes(f->m) < PROBES; i++) /* the best: neighbours only make it slower */
        if (models_probe(f->m, f->job, e)) return e->code;
    return matrix(f, e);
}
int fit(struct models *m, struct job *job, struct err *e) {
    struct fitting f = { .m = m, .job = job };
    if (!job->req.model) return err_set(e, STATUS_INVALID, "%%fit needs a model: a name of %%models or a path");
    const struct source_name name = source_name(&job->req);
    if (!source_open(&f.source, &name, NEED_SHAPE, e)) {
        source_describe(&f.source, NULL, &f.out.model);
        if (!make(&f, e)) {
            struct engine_event ev = { .kind = ENGINE_EV_FIT, .owned = f.row };
            f.out.row = f.row, f.out.machine = f.machine;
            ev.u.fit = f.out;
            f.row = NULL;
            job_emit(job, &ev);
            job_done(job, &(struct engine_done){ 0 });
        }
    }
    mem_free(f.row);
    source_close(&f.source);
    return e->code;
}
