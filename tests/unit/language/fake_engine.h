/* fake_engine.h - engine.h for tests of what stands above it: a script of canned answers, no model. */
#ifndef JAEDA_TEST_FAKE_ENGINE_H
#define JAEDA_TEST_FAKE_ENGINE_H
#include "engine/engine.h"
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { FAKE_EVENTS = 32 };
struct engine {
    struct engine_event queue[FAKE_EVENTS];
    int head, tail, fd;
    uint64_t job;
};
/* What the test asks of the fake, and what the fake saw. */
static struct fake {
    struct engine *g;
    struct engine_req last;
    char model[128], template_name[32], prompt[4096], roles[200], session[32], stop[64], dtype[16], kv_dtype[8];
    char load_format[16], revision[32], fit[200]; /* fit: "dtypes|machines|contexts|batches" */
    char parts[4096];                             /* of LOAD and FIT: "vit|qformer|projector|llm|vision dtype" */
    char images[400];                             /* of GENERATE: "name@message name@message" */
    char looked[400];                             /* of all LOOKs: "name name" */
    bool sees;                                    /* the model has an image path */
    const char *answer;                           /* the text; NULL: "안녕 world" */
    int opened, requests;
    atomic_int cancelled;
    struct err fail;   /* the next job ends in this */
    struct err refuse; /* engine_submit gives this */
    bool absent;       /* LOAD finds no weights, unless dummy ones are asked for */
    atomic_bool lost;  /* the connection is broken: fake_break */
    bool hang;         /* the next jobs answer only when cancelled, or by fake_event */
    struct engine_profile profile;
    struct engine_done done;
    const struct engine_gpu *card; /* of the machine */
    int cards;
} fake;

static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER; /* the queue: the hub's thread reads it */
/* An event of any job, at any time. */
static void fake_event(struct engine *g, uint64_t job, struct engine_event ev) {
    ev.job = job;
    pthread_mutex_lock(&fake_lock);
    g->queue[g->tail++ % FAKE_EVENTS] = ev;
    pthread_mutex_unlock(&fake_lock);
    if (write(g->fd, &(uint64_t){ 1 }, 8) != 8) fake.lost = true;
}
static inline void fake_break(void) {
    fake.lost = true;
    if (write(fake.g->fd, &(uint64_t){ 1 }, 8) != 8) fake.lost = true;
}
static void fake_push(struct engine *g, struct engine_event ev) { fake_event(g, g->job, ev); }
static void fake_text(struct engine *g, const char *text) {
    fake_push(g, (struct engine_event){ .kind = ENGINE_EV_TEXT, .u.text = { text, strlen(text), 1 } });
}
int engine_open(struct engine **out, const char *uri, struct err *e) {
    (void)uri, (void)e;
    static struct engine one;
    one = (struct engine){ .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    fake.g = *out = &one;
    fake.opened++;
    return 0;
}
void engine_close(struct engine *g) {
    if (g) close(g->fd);
}
static struct engine_model fake_model = { .name = "small",
                                          .file = "/models/small.gguf",
                                          .format = "GGUF",
                                          .repo = "Org/Small-135M",
                                          .aliases = "sm tiny-one",
                                          .arch = "llama",
                                          .dtype = "q4_1",
                                          .kv_dtype = "fp16",
                                          .template_name = "chatml",
                                          .on_disk = true,
                                          .layers = 30,
                                          .hidden = 576,
                                          .heads = 9,
                                          .kv_heads = 3,
                                          .head_dim = 64,
                                          .rope_dims = 64,
                                          .rope_theta = 100000,
                                          .vocab = 49152,
                                          .kv_bytes_per_token = 23040,
                                          .stops = "token 2",
                                          .context = 2048,
                                          .max_model_len = 4096,
                                          .params = 134515008,
                                          .file_bytes = 98304000,
                                          .weight_bytes = 98000000,
                                          .kv_bytes = 188743680,
                                          .arena_bytes = 1048576,
                                          .predicted_bytes = 287792256,
                                          .measured_bytes = 288000000,
                                          .peak_bytes = 300000000,
                                          .freed_bytes = 287000000,
                                          .load_s = 0.5,
                                          .read_mib_s = 200 };
static void fake_see(struct engine_model *m) {
    snprintf(m->vision, sizeof m->vision, "EVA ViT-g/14, 224 px");
    snprintf(m->vision_dtype, sizeof m->vision_dtype, "fp16");
    snprintf(m->vit, sizeof m->vit, "/models/eva_vit_g.pth");
    m->image_px = 224, m->image_tokens = 64, m->max_images = 4;
    m->vision_bytes = 1900ull << 20, m->vision_work_bytes = 30ull << 20;
}
/* Round numbers: fp16 weighs 12 GiB, int8 6, int4 3; a token's keys and values 1 MiB, the work 0.25 GiB. */
static void fake_fit(struct engine *g, const struct engine_req *q) {
    static const struct engine_machine known[] = { { "this", "", 4ull << 30, 0 },
                                                   { "g5.2xlarge", "NVIDIA A10G", 10ull << 30, 600 },
                                                   { "h100", "NVIDIA H100", 80ull << 30, 3350 } };
    static struct engine_machine machine[16];
    static struct engine_fit_row row[2048];
    static const uint64_t mib = 1 << 20;
    struct engine_fit f = { .model = fake_model, .machine = machine, .row = row };
    if (fake.sees) fake_see(&f.model);
    snprintf(f.model.name, sizeof f.model.name, "%s", q->model);
    for (; f.machines < q->fit.machines; f.machines++)
        for (size_t i = 0; i < 3; i++)
            if (!strcmp(known[i].name, q->fit.machine[f.machines])) machine[f.machines] = known[i];
    for (int m = 0; m < f.machines; m++)
        for (int d = 0; d < q->fit.dtypes; d++)
            for (int c = 0; c < q->fit.contexts; c++)
                for (int b = 0; b < q->fit.batches; b++) {
                    const char *dtype = strcmp(q->fit.dtype[d], "auto") ? q->fit.dtype[d] : "f16";
                    struct engine_fit_row *r = &row[f.rows++];
                    *r =
                        (struct engine_fit_row){ .machine = m, .context = q->fit.context[c], .batch = q->fit.batch[b] };
                    snprintf(r->dtype, sizeof r->dtype, "%s", dtype);
                    r->weight_bytes = (!strcmp(dtype, "int4") ? 3 : !strcmp(dtype, "int8") ? 6 : 12) * 1024 * mib;
                    r->kv_bytes = (uint64_t)r->context * (uint64_t)r->batch * mib;
                    r->work_bytes = 256 * mib;
                    r->vision_bytes = fake.sees ? 1900 * mib : 0;
                    r->total_bytes = r->weight_bytes + r->kv_bytes + r->work_bytes;
                    r->fits = r->total_bytes <= machine[m].memory_bytes;
                    const uint64_t fixed = r->weight_bytes + r->work_bytes, all = machine[m].memory_bytes;
                    const uint64_t most = all > fixed ? (all - fixed) / mib / (uint64_t)r->batch : 0;
                    r->max_context = most < 2048 ? (int)most : 2048;
                    r->ceiling = machine[m].bandwidth_gbs * 1e9 / (double)(r->weight_bytes + r->kv_bytes) * r->batch;
                }
    fake_push(g, (struct engine_event){ .kind = ENGINE_EV_FIT, .u.fit = f });
}
/* A picture of 48 x 32, red to the right and blue to the bottom; of a GENERATE what --show asks for. */
static void fake_views(struct engine *g, const struct engine_req *q) {
    static char rgb[3 * 48 * 32];
    static const float heat[] = { 0, 0.1f, 0.2f, 0.7f };
    struct engine_view v = { .kind = ENGINE_VIEW_PICTURE, .format = "JPEG", .file_width = 1920, .file_height = 1080 };
    for (int i = 0; i < 48 * 32; i++) rgb[3 * i] = (char)(i % 48 * 5), rgb[3 * i + 2] = (char)(i / 48 * 8);
    for (v.image = 0; v.image < q->images; v.image++) {
        snprintf(v.name, sizeof v.name, "%s", q->image[v.image].name);
        v.width = 48, v.height = 32, v.rgb = rgb, v.rgb_bytes = sizeof rgb, v.heat = NULL, v.heats = 0;
        v.kind = q->kind == ENGINE_REQ_LOOK ? ENGINE_VIEW_PICTURE : ENGINE_VIEW_INPUT;
        if (q->kind == ENGINE_REQ_LOOK || q->show & ENGINE_SHOW_INPUT)
            fake_push(g, (struct engine_event){ .kind = ENGINE_EV_VIEW, .u.view = v });
        v.width = v.height = 2, v.rgb = NULL, v.rgb_bytes = 0, v.heat = heat, v.heats = 4, v.share = 0.125;
        snprintf(v.about, sizeof v.about, "mean of 16 heads");
        for (int kind = ENGINE_VIEW_ENCODER; kind <= ENGINE_VIEW_ANSWER; kind++) {
            v.kind = (enum engine_view_kind)kind;
            if (q->kind == ENGINE_REQ_GENERATE && q->show & ENGINE_SHOW_ATTENTION)
                fake_push(g, (struct engine_event){ .kind = ENGINE_EV_VIEW, .u.view = v });
        }
        v.about[0] = 0;
    }
}
static void fake_generate(struct engine *g, const struct engine_req *q) {
    if (fake.answer) {
        fake_text(g, fake.answer);
    } else {
        fake_text(g, "안녕"), fake_text(g, " world");
    }
    fake_views(g, q);
}
static void fake_answer(struct engine *g, const struct engine_req *q) {
    static struct engine_model rows[3];
    rows[0] = fake_model;
    rows[0].loaded = q->kind != ENGINE_REQ_UNLOAD;
    rows[1] = (struct engine_model){ .name = "other",
                                     .arch = "gptneox",
                                     .params = 5885059072,
                                     .context = 2048,
                                     .template_name = "koalpaca",
                                     .repo = "org/other-가나다",
                                     .get = "hf download org/other-가나다" };
    rows[2] = (struct engine_model){ .name = "locked",
                                     .arch = "llama",
                                     .get = "hf download meta/locked",
                                     .gated = "gated: accept its licence at https://example.org/locked" };
    if (fake.sees) fake_see(&rows[0]);
    if (q->kind == ENGINE_REQ_FIT && !fake.fail.code) fake_fit(g, q);
    if (q->kind == ENGINE_REQ_LOOK && !fake.fail.code) fake_views(g, q);
    if (q->kind == ENGINE_REQ_LOAD)
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_PROGRESS,
                                            .u.progress = { "reading weights", 5e7, 9.8e7, "B", 0.2 } });
    if (q->kind != ENGINE_REQ_GENERATE && q->kind != ENGINE_REQ_PROFILE && q->kind != ENGINE_REQ_RESET &&
        q->kind != ENGINE_REQ_FIT && q->kind != ENGINE_REQ_LOOK &&
        !(fake.absent && q->kind == ENGINE_REQ_LOAD && strcmp(q->load_format, "dummy")))
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_MODELS,
                                            .u.models = { rows, q->kind == ENGINE_REQ_MODELS ? 3 : 1 } });
    if (q->kind == ENGINE_REQ_STATUS) {
        const struct engine_system s = { .cpu = "A Processor",
                                         .isa = "avx2",
                                         .gpu = "no GPU",
                                         .backend = "cpu",
                                         .version = "1",
                                         .threads = 2,
                                         .processors = 4,
                                         .stream_gbs = 20,
                                         .fp32_gflops = 300,
                                         .int8_gops = 900,
                                         .bf16_gflops = 600,
                                         .memory_total = 8ull << 30,
                                         .memory_available = 4ull << 30,
                                         .resident = 1ull << 28,
                                         .card = fake.card,
                                         .cards = q->gpus ? fake.cards : 0 };
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_SYSTEM, .u.system = s });
    }
    if (q->kind == ENGINE_REQ_PROFILE)
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_PROFILE, .u.profile = fake.profile });
    if (q->kind == ENGINE_REQ_GENERATE) fake_generate(g, q);
    const bool absent = fake.absent && q->kind == ENGINE_REQ_LOAD && strcmp(q->load_format, "dummy") != 0;
    if (absent) {
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_FAIL, .u.fail = { STATUS_NOTFOUND, "fetch it: hf" } });
    } else if (fake.fail.code) {
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_FAIL, .u.fail = fake.fail });
    } else if (!fake.hang || q->kind == ENGINE_REQ_STATUS) {
        fake_push(g, (struct engine_event){ .kind = ENGINE_EV_DONE, .u.done = fake.done });
    }
}
__attribute__((format(printf, 1, 2))) static void fake_fit_word(const char *fmt, ...) {
    const size_t n = strlen(fake.fit);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(fake.fit + n, sizeof fake.fit - n, fmt, ap);
    va_end(ap);
}
static void fake_note_pictures(const struct engine_req *q) {
    const bool look = q->kind == ENGINE_REQ_LOOK;
    char *to = look ? fake.looked : fake.images;
    if (!look && q->kind != ENGINE_REQ_GENERATE) return;
    if (!look) *to = 0;
    for (int i = 0; i < q->images; i++) {
        const size_t n = strlen(to);
        snprintf(to + n, sizeof fake.images - n, look ? "%s%s%.0d" : "%s%s@%d", n ? " " : "", q->image[i].name,
                 look ? 0 : q->image[i].message);
    }
}
int engine_submit(struct engine *g, const struct engine_req *q, uint64_t *job, struct err *e) {
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    if (fake.refuse.code) return err_set(e, fake.refuse.code, "%s", fake.refuse.text);
    pthread_mutex_lock(&one_at_a_time);
    fake.last = *q;
    fake.requests++;
    fake_note_pictures(q);
    snprintf(fake.parts, sizeof fake.parts, "%.1000s|%.1000s|%.1000s|%.1000s|%.20s", q->vit ? q->vit : "",
             q->qformer ? q->qformer : "", q->projector ? q->projector : "", q->llm ? q->llm : "",
             q->vision_dtype ? q->vision_dtype : "");
    snprintf(fake.model, sizeof fake.model, "%s", q->model ? q->model : "(last)");
    snprintf(fake.template_name, sizeof fake.template_name, "%s", q->template_name ? q->template_name : "(own)");
    snprintf(fake.session, sizeof fake.session, "%s", q->session ? q->session : "(none)");
    snprintf(fake.dtype, sizeof fake.dtype, "%s", q->dtype ? q->dtype : "");
    snprintf(fake.kv_dtype, sizeof fake.kv_dtype, "%s", q->kv_cache_dtype ? q->kv_cache_dtype : "");
    snprintf(fake.load_format, sizeof fake.load_format, "%s", q->load_format ? q->load_format : "");
    snprintf(fake.revision, sizeof fake.revision, "%s", q->revision ? q->revision : "");
    fake.fit[0] = 0;
    for (int i = 0; i < q->fit.dtypes; i++) fake_fit_word("%s%s", i ? " " : "", q->fit.dtype[i]);
    for (int i = 0; i < q->fit.machines; i++) fake_fit_word("%s%s", i ? " " : "|", q->fit.machine[i]);
    for (int i = 0; i < q->fit.contexts; i++) fake_fit_word("%s%d", i ? " " : "|", q->fit.context[i]);
    for (int i = 0; i < q->fit.batches; i++) fake_fit_word("%s%d", i ? " " : "|", q->fit.batch[i]);
    snprintf(fake.stop, sizeof fake.stop, "%s", q->stops ? q->stop[0] : "");
    fake.roles[0] = 0;
    for (int i = 0; i < q->messages; i++) {
        const size_t n = strlen(fake.roles);
        snprintf(fake.roles + n, sizeof fake.roles - n, "%s%s", i ? " " : "",
                 q->message[i].role ? q->message[i].role : "raw");
        snprintf(fake.prompt, sizeof fake.prompt, "%.*s", (int)q->message[i].len, q->message[i].text);
    }
    *job = ++g->job;
    fake_answer(g, q);
    pthread_mutex_unlock(&one_at_a_time);
    return 0;
}
int engine_fd(const struct engine *g) { return g->fd; }
int engine_next(struct engine *g, struct engine_event *ev) {
    uint64_t n;
    if (fake.lost) return -1;
    pthread_mutex_lock(&fake_lock);
    const bool some = g->head != g->tail;
    if (some) *ev = g->queue[g->head++ % FAKE_EVENTS];
    pthread_mutex_unlock(&fake_lock);
    return some ? 1 : read(g->fd, &n, 8) == 8 ? 0 : 0;
}
void engine_gone(const struct engine *g, struct err *e, struct buf *log) {
    (void)g;
    err_set(e, STATUS_GONE, "the engine was killed by signal 9: its models are unloaded. %%load starts it again");
    if (log) buf_puts(log, "out of memory\n");
}
void engine_event_fini(struct engine_event *ev) { (void)ev; }
void engine_cancel(struct engine *g, uint64_t job) {
    fake.cancelled++;
    struct engine_done done = fake.done;
    done.stop = ENGINE_STOP_CANCELLED;
    if (fake.last.kind == ENGINE_REQ_GENERATE)
        fake_event(g, job, (struct engine_event){ .kind = ENGINE_EV_DONE, .u.done = done });
    else
        fake_event(g, job,
                   (struct engine_event){ .kind = ENGINE_EV_FAIL, .u.fail = { STATUS_CANCELLED, "interrupted" } });
}
const char *engine_stop_text(enum engine_stop s) {
    return s == ENGINE_STOP_EOS ? "end of text" : s == ENGINE_STOP_CANCELLED ? "cancelled" : "max_new_tokens";
}
bool engine_machine(int i, struct engine_machine *out) {
    static const char *const name[] = { "g5.2xlarge", "h100" };
    if (i < 0 || i > 1) return false;
    *out = (struct engine_machine){ .memory_bytes = 1 };
    snprintf(out->name, sizeof out->name, "%s", name[i]);
    return true;
}
const char *engine_version(void) { return "fake"; }
const char *engine_build(void) { return "fake build"; }
int engine_log(const char *uri, int lines, struct buf *out, struct err *e) {
    (void)e;
    buf_printf(out, "the last %d lines of %s with hf_abcdefghijkl\n", lines, uri);
    return 0;
}

#endif
