/* codec.c - one table for each struct that travels: its members in order, read by both directions, so that a new field
 * of engine.h is one word here. The type of a member picks how it travels; one that the tables do not know (an enum
 * without its range, a pointer without its count) does not compile.
 *
 * On the wire: numbers little-endian; a bool is one byte, 0 or 1; char[N] is u16 length and its bytes; a text is u32
 * length + 1 and its bytes, 0 for NULL; a list is u32 count and its elements. */
#include "codec.h"
#include "base/mem.h"
#include <string.h>

enum type { NUMBER, BOOL, RANGE, CHARS, STRING, TEXT, STRUCT, LIST, CASE };
struct table {
    const struct field *field;
    size_t fields, size; /* of the struct, in bytes */
};
struct field {
    enum type type;
    size_t at, size;        /* of the member: offset, bytes */
    size_t n_at;            /* TEXT: of its length; LIST: of its count; CASE: of the enum that picks the table */
    long low, high;         /* RANGE: of its values; LIST: of its count; STRING: low 1: not NULL */
    const struct table *of; /* STRUCT, LIST: of the member; CASE: of each value, whose offsets count from here too */
};

#define AT(s, m) .at = offsetof(s, m), .size = sizeof(((s *)0)->m)
/* clang-format off */
#define TYPE(x) _Generic((x), int: NUMBER, unsigned: NUMBER, float: NUMBER, double: NUMBER, uint64_t: NUMBER, bool: BOOL, \
                         char *: CHARS, const char *: STRING)
/* clang-format on */
#define PLAIN(s, m)                                                                                                    \
    { .type = TYPE(((s *)0)->m), AT(s, m) }
#define WITHIN(s, m, lo, hi)                                                                                           \
    { .type = RANGE, AT(s, m), .low = (lo), .high = (hi) }
#define TEXT_OF(s, m, len)                                                                                             \
    { .type = TEXT, AT(s, m), .n_at = offsetof(s, len) }
#define STRUCT_OF(s, m, t)                                                                                             \
    { .type = STRUCT, AT(s, m), .of = &(t) }
#define LIST_OF(s, m, n, t, most)                                                                                      \
    { .type = LIST, AT(s, m), .n_at = offsetof(s, n), .high = (most), .of = &(t) }
#define TABLE(s, f)                                                                                                    \
    { (f), sizeof(f) / sizeof *(f), sizeof(s) }

enum {
    MANY = 1 << 20,
    ROWS = 1 << 16,
    CHOICES = 128 /* of one list of FIT: the product of the four stays an int */
};
static const struct field text_field[] = { { .type = STRING, .size = sizeof(char *), .low = 1 } };
static const struct table text_table = TABLE(char *, text_field);
static const struct field int_field[] = { { .type = NUMBER, .size = sizeof(int) } };
static const struct table int_table = TABLE(int, int_field);
static const struct field float_field[] = { { .type = NUMBER, .size = sizeof(float) } };
static const struct table float_table = TABLE(float, float_field);

#define HELLO(m) PLAIN(struct hello, m)
static const struct field hello_field[] = { HELLO(build), HELLO(name), HELLO(pid), HELLO(refusal) };

#define MESSAGE(m) PLAIN(struct engine_message, m)
static const struct field message_field[] = { MESSAGE(role), TEXT_OF(struct engine_message, text, len) };
static const struct table message_table = TABLE(struct engine_message, message_field);

#define IMAGE(m) PLAIN(struct engine_image, m)
static const struct field image_field[] = { IMAGE(name), TEXT_OF(struct engine_image, bytes, n), IMAGE(message) };
static const struct table image_table = TABLE(struct engine_image, image_field);

#define SAMPLING(m) PLAIN(struct engine_sampling, m)
static const struct field sampling_field[] = {
    SAMPLING(temperature),        SAMPLING(top_p), SAMPLING(min_p), SAMPLING(typical_p),
    SAMPLING(repetition_penalty), SAMPLING(top_k), SAMPLING(seed),
};
static const struct table sampling_table = TABLE(struct engine_sampling, sampling_field);

#define BEAM(m) PLAIN(struct engine_beams, m)
static const struct field beams_field[] = { BEAM(num_beams), BEAM(length_penalty), BEAM(early_stopping) };
static const struct table beams_table = TABLE(struct engine_beams, beams_field);

#define REQ(m) PLAIN(struct engine_req, m)
#define REQ_LIST(m, n, t, most) LIST_OF(struct engine_req, m, n, t, most)
static const struct field req_field[] = {
    WITHIN(struct engine_req, kind, 0, ENGINE_REQ_KINDS - 1),
    REQ(lane), /* the engine says which there are */
    REQ(model),
    REQ(session),
    REQ(revision),
    REQ(dtype),
    REQ(kv_cache_dtype),
    REQ(load_format),
    REQ(max_model_len),
    REQ(max_sequences),
    REQ(vit),
    REQ(qformer),
    REQ(projector),
    REQ(llm),
    REQ(vision_dtype),
    REQ(max_images),
    REQ(environment),
    REQ(threads),
    REQ(evict),
    REQ(set_idle),
    REQ(quit),
    REQ(idle_s),
    REQ(gpus),
    REQ_LIST(message, messages, message_table, MANY),
    REQ(template_name),
    REQ_LIST(image, images, image_table, ROWS),
    REQ(look_px),
    REQ(show),
    REQ(own_sampling),
    STRUCT_OF(struct engine_req, sampling, sampling_table),
    STRUCT_OF(struct engine_req, beams, beams_table),
    REQ_LIST(stop, stops, text_table, ROWS), /* more than ENGINE_STOPS: the engine says so */
    REQ_LIST(stop_id, stop_ids, int_table, ROWS),
    REQ(max_new_tokens),
    REQ(min_new_tokens),
    REQ(ignore_eos),
    REQ(vision_only),
    REQ(prompt_tokens),
    REQ(runs),
    REQ(batch_size),
    REQ_LIST(fit.dtype, fit.dtypes, text_table, CHOICES),
    REQ_LIST(fit.machine, fit.machines, text_table, CHOICES),
    REQ_LIST(fit.context, fit.contexts, int_table, CHOICES),
    REQ_LIST(fit.batch, fit.batches, int_table, CHOICES),
};
static const struct table req_table = TABLE(struct engine_req, req_field);

#define MODEL(m) PLAIN(struct engine_model, m)
static const struct field model_field[] = {
    MODEL(name),
    MODEL(file),
    MODEL(arch),
    MODEL(dtype),
    MODEL(kv_dtype),
    MODEL(size_label),
    MODEL(template_name),
    MODEL(license),
    MODEL(format),
    MODEL(repo),
    MODEL(aliases),
    MODEL(loaded),
    MODEL(on_disk),
    MODEL(get),
    MODEL(gated),
    MODEL(layers),
    MODEL(hidden),
    MODEL(heads),
    MODEL(kv_heads),
    MODEL(head_dim),
    MODEL(rope_dims),
    MODEL(ffn),
    MODEL(vocab),
    MODEL(context),
    MODEL(max_model_len),
    MODEL(max_sequences),
    MODEL(sessions),
    MODEL(rope_theta),
    MODEL(stops),
    MODEL(params),
    MODEL(file_bytes),
    MODEL(weight_bytes),
    MODEL(kv_bytes),
    MODEL(arena_bytes),
    MODEL(kv_bytes_per_token),
    MODEL(predicted_bytes),
    MODEL(measured_bytes),
    MODEL(freed_bytes),
    MODEL(peak_bytes),
    MODEL(resident_before),
    MODEL(resident_after),
    MODEL(users),
    MODEL(user),
    MODEL(idle_s),
    MODEL(load_s),
    MODEL(read_mib_s),
    MODEL(disk_ms),
    MODEL(copy_ms),
    MODEL(pack_ms),
    MODEL(from_page_cache),
    MODEL(notice),
    MODEL(vision),
    MODEL(vision_dtype),
    MODEL(vit),
    MODEL(qformer),
    MODEL(projector),
    MODEL(image_px),
    MODEL(image_tokens),
    MODEL(max_images),
    MODEL(vision_bytes),
    MODEL(vision_work_bytes),
};
static const struct table model_table = TABLE(struct engine_model, model_field);

#define GPU_PROCESS(m) PLAIN(struct engine_gpu_process, m)
static const struct field gpu_process_field[] = { GPU_PROCESS(pid), GPU_PROCESS(own), GPU_PROCESS(name),
                                                  GPU_PROCESS(used_bytes) };
static const struct table gpu_process_table = TABLE(struct engine_gpu_process, gpu_process_field);

#define GPU(m) PLAIN(struct engine_gpu, m)
#define GPU_HELD(i) STRUCT_OF(struct engine_gpu, process[i], gpu_process_table)
static const struct field gpu_field[] = {
    GPU(name),
    GPU(pci),
    GPU(driver),
    GPU(cuda),
    GPU(memory_bytes),
    GPU(used_bytes),
    GPU(free_bytes),
    GPU(busy_percent),
    GPU(memory_busy_percent),
    GPU(sm_mhz),
    GPU(sm_max_mhz),
    GPU(memory_mhz),
    GPU(memory_max_mhz),
    GPU(power_w),
    GPU(power_limit_w),
    GPU(celsius),
    GPU(energy_j),
    GPU(throttle),
    GPU(ecc),
    GPU(ecc_errors),
    GPU(peers),
    GPU(processes),
    GPU_HELD(0),
    GPU_HELD(1),
    GPU_HELD(2),
    GPU_HELD(3),
    GPU_HELD(4),
    GPU_HELD(5),
    GPU_HELD(6),
    GPU_HELD(7),
};
_Static_assert(ENGINE_GPU_PROCESSES == 8, "each process of a card stands in gpu_field");
static const struct table gpu_table = TABLE(struct engine_gpu, gpu_field);

#define SYSTEM(m) PLAIN(struct engine_system, m)
static const struct field system_field[] = {
    SYSTEM(cpu),
    SYSTEM(isa),
    SYSTEM(gpu),
    SYSTEM(backend),
    SYSTEM(version),
    SYSTEM(threads),
    SYSTEM(processors),
    SYSTEM(memory_total),
    SYSTEM(memory_available),
    SYSTEM(resident),
    SYSTEM(stream_gbs),
    SYSTEM(fp32_gflops),
    SYSTEM(int8_gops),
    SYSTEM(bf16_gflops),
    SYSTEM(transport),
    SYSTEM(build),
    SYSTEM(place),
    SYSTEM(log),
    SYSTEM(pid),
    SYSTEM(connections),
    SYSTEM(jobs_running),
    SYSTEM(jobs_waiting),
    SYSTEM(uptime_s),
    SYSTEM(idle_limit_s),
    LIST_OF(struct engine_system, card, cards, gpu_table, ROWS),
};
static const struct table system_table = TABLE(struct engine_system, system_field);

#define MACHINE(m) PLAIN(struct engine_machine, m)
static const struct field machine_field[] = { MACHINE(name), MACHINE(device), MACHINE(memory_bytes),
                                              MACHINE(bandwidth_gbs) };
static const struct table machine_table = TABLE(struct engine_machine, machine_field);

#define FIT_ROW(m) PLAIN(struct engine_fit_row, m)
static const struct field fit_row_field[] = {
    FIT_ROW(machine),      FIT_ROW(dtype),    FIT_ROW(context),     FIT_ROW(batch),
    FIT_ROW(weight_bytes), FIT_ROW(kv_bytes), FIT_ROW(work_bytes),  FIT_ROW(total_bytes),
    FIT_ROW(vision_bytes), FIT_ROW(fits),     FIT_ROW(max_context), FIT_ROW(ceiling),
};
static const struct table fit_row_table = TABLE(struct engine_fit_row, fit_row_field);

static const struct field fit_field[] = {
    STRUCT_OF(struct engine_fit, model, model_table),
    LIST_OF(struct engine_fit, machine, machines, machine_table, ROWS),
    LIST_OF(struct engine_fit, row, rows, fit_row_table, MANY),
};
static const struct table fit_table = TABLE(struct engine_fit, fit_field);

#define OF_DONE(m) PLAIN(struct engine_done, m)
static const struct field done_field[] = {
    WITHIN(struct engine_done, stop, 0, ENGINE_STOP_CANCELLED),
    OF_DONE(stop_text),
    OF_DONE(prompt_tokens),
    OF_DONE(cached_tokens),
    OF_DONE(new_tokens),
    OF_DONE(context_used),
    OF_DONE(chars),
    OF_DONE(utf8_replacements),
    OF_DONE(ttft_ms),
    OF_DONE(prefill_ms),
    OF_DONE(decode_ms),
    OF_DONE(tpot_ms),
    OF_DONE(total_ms),
    OF_DONE(waited_ms),
    OF_DONE(greedy),
    OF_DONE(dummy),
    STRUCT_OF(struct engine_done, sampling, sampling_table),
    STRUCT_OF(struct engine_done, beams, beams_table),
    OF_DONE(beam_score),
    OF_DONE(model),
    OF_DONE(template_name),
    OF_DONE(images),
    OF_DONE(images_encoded),
    OF_DONE(image_tokens),
    OF_DONE(image_decode_ms),
    OF_DONE(image_resize_ms),
    OF_DONE(image_encode_ms),
    OF_DONE(image_merge_ms),
    OF_DONE(image_project_ms),
};
static const struct table done_table = TABLE(struct engine_done, done_field);

#define VIEW(m) PLAIN(struct engine_view, m)
static const struct field view_field[] = {
    WITHIN(struct engine_view, kind, 0, ENGINE_VIEW_ANSWER),
    VIEW(image),
    VIEW(name),
    VIEW(format),
    VIEW(about),
    VIEW(file_width),
    VIEW(file_height),
    VIEW(width),
    VIEW(height),
    TEXT_OF(struct engine_view, rgb, rgb_bytes),
    LIST_OF(struct engine_view, heat, heats, float_table, MANY),
    VIEW(share),
};
static const struct table view_table = TABLE(struct engine_view, view_field);

#define PROFILE_ROW(m) PLAIN(struct engine_profile_row, m)
static const struct field profile_row_field[] = {
    WITHIN(struct engine_profile_row, phase, 0, ENGINE_PHASES - 1),
    PROFILE_ROW(layer),
    PROFILE_ROW(op),
    PROFILE_ROW(label),
    PROFILE_ROW(calls),
    PROFILE_ROW(ms),
    PROFILE_ROW(bytes),
    PROFILE_ROW(flops),
};
static const struct table profile_row_table = TABLE(struct engine_profile_row, profile_row_field);

#define PROFILE(m) PLAIN(struct engine_profile, m)
static const struct field profile_field[] = {
    LIST_OF(struct engine_profile, row, rows, profile_row_table, ROWS),
    PROFILE(runs),
    PROFILE(warmups),
    PROFILE(threads),
    PROFILE(batch_size),
    PROFILE(prompt_tokens),
    PROFILE(decode_steps),
    PROFILE(context),
    PROFILE(wall_ms[0]),
    PROFILE(wall_ms[1]),
    PROFILE(wall_ms[2]),
    PROFILE(wall_sd_ms[0]),
    PROFILE(wall_sd_ms[1]),
    PROFILE(wall_sd_ms[2]),
    PROFILE(profiled_ms[0]),
    PROFILE(profiled_ms[1]),
    PROFILE(profiled_ms[2]),
    PROFILE(spans_ms[0]),
    PROFILE(spans_ms[1]),
    PROFILE(spans_ms[2]),
    PROFILE(waited_ms),
    PROFILE(stream_gbs),
    PROFILE(peak_gflops),
    PROFILE(peak_kind),
    PROFILE(vision),
    PROFILE(vision_only),
    PROFILE(vision_peak_gflops),
    PROFILE(vision_peak_kind),
    PROFILE(vision_dtype),
    PROFILE(image_tokens),
    PROFILE(image_resize_ms),
    PROFILE(dummy),
    PROFILE(dtype),
    PROFILE(isa),
    PROFILE(model),
    PROFILE(gpu),
    PROFILE(energy_j[0]),
    PROFILE(energy_j[1]),
    PROFILE(energy_j[2]),
    STRUCT_OF(struct engine_profile, before, gpu_table),
    STRUCT_OF(struct engine_profile, after, gpu_table),
};
static const struct table profile_table = TABLE(struct engine_profile, profile_field);

#define EVENT(m) PLAIN(struct engine_event, m)
enum {
    STATUSES = 0
#define X(id, num, ename) +1
    STATUS_MAP(X)
#undef X
};
static const struct field progress_field[] = { EVENT(u.progress.what), EVENT(u.progress.done), EVENT(u.progress.total),
                                               EVENT(u.progress.unit), EVENT(u.progress.seconds) };
static const struct field ev_text_field[] = { TEXT_OF(struct engine_event, u.text.utf8, u.text.len),
                                              EVENT(u.text.tokens) };
static const struct field ev_profile_field[] = { STRUCT_OF(struct engine_event, u.profile, profile_table) };
static const struct field ev_models_field[] = { LIST_OF(struct engine_event, u.models.row, u.models.n, model_table,
                                                        ROWS) };
static const struct field ev_system_field[] = { STRUCT_OF(struct engine_event, u.system, system_table) };
static const struct field ev_fit_field[] = { STRUCT_OF(struct engine_event, u.fit, fit_table) };
static const struct field ev_view_field[] = { STRUCT_OF(struct engine_event, u.view, view_table) };
static const struct field ev_done_field[] = { STRUCT_OF(struct engine_event, u.done, done_table) };
static const struct field ev_fail_field[] = { WITHIN(struct engine_event, u.fail.code, 1 - STATUSES, -1),
                                              EVENT(u.fail.text) };
static const struct table ev_table[] = {
    [ENGINE_EV_PROGRESS] = TABLE(struct engine_event, progress_field),
    [ENGINE_EV_TEXT] = TABLE(struct engine_event, ev_text_field),
    [ENGINE_EV_PROFILE] = TABLE(struct engine_event, ev_profile_field),
    [ENGINE_EV_MODELS] = TABLE(struct engine_event, ev_models_field),
    [ENGINE_EV_SYSTEM] = TABLE(struct engine_event, ev_system_field),
    [ENGINE_EV_FIT] = TABLE(struct engine_event, ev_fit_field),
    [ENGINE_EV_VIEW] = TABLE(struct engine_event, ev_view_field),
    [ENGINE_EV_DONE] = TABLE(struct engine_event, ev_done_field),
    [ENGINE_EV_FAIL] = TABLE(struct engine_event, ev_fail_field),
};
static const struct field event_field[] = {
    WITHIN(struct engine_event, kind, 0, ENGINE_EV_FAIL),
    EVENT(job),
    { .type = CASE, .n_at = offsetof(struct engine_event, kind), .of = ev_table },
};

struct request {
    uint64_t job;
    struct engine_req q;
};
static const struct field request_field[] = { PLAIN(struct request, job), STRUCT_OF(struct request, q, req_table) };
static const struct field cancel_field[] = { PLAIN(struct request, job) };

static const struct table frame[] = {
    [FRAME_HELLO] = TABLE(struct hello, hello_field),
    [FRAME_REQUEST] = TABLE(struct request, request_field),
    [FRAME_CANCEL] = TABLE(struct request, cancel_field),
    [FRAME_EVENT] = TABLE(struct engine_event, event_field),
};
static const char *const frame_name[] = { "greeting", "request", "cancellation", "event" };

/* Members as numbers: their bits, so that a NaN travels as it is. */
static uint64_t load(const void *p, size_t size) {
    uint32_t v4 = 0;
    uint64_t v8 = 0;
    if (size == sizeof(bool)) return *(const bool *)p;
    if (size == sizeof v4) return memcpy(&v4, p, sizeof v4), v4;
    return memcpy(&v8, p, sizeof v8), v8;
}
static void store(void *p, uint64_t v, size_t size) {
    const uint32_t v4 = (uint32_t)v;
    if (size == sizeof(bool))
        *(bool *)p = v;
    else if (size == sizeof v4)
        memcpy(p, &v4, sizeof v4);
    else
        memcpy(p, &v, sizeof v);
}

/* ---- writing ---- */
static void put(struct buf *b, uint64_t v, size_t size) {
    char p[8];
    for (size_t i = 0; i < size; i++) p[i] = (char)(v >> 8 * i & 255);
    buf_add(b, p, size);
}
static void put_text(struct buf *b, const char *s, size_t n) {
    if (s && n >= FRAME_MAX) b->failed = true;
    put(b, s ? n + 1 : 0, 4);
    if (s) buf_add(b, s, n);
}
static void put_struct(struct buf *b, const struct table *t, const char *from);
static void put_list(struct buf *b, const struct field *f, const char *list, int n) {
    if (!list) n = 0;
    if (n < 0 || n > f->high) {
        b->failed = true;
        return;
    }
    put(b, (uint64_t)n, 4);
    for (int i = 0; i < n; i++) put_struct(b, f->of, list + f->of->size * (size_t)i);
}
static void put_field(struct buf *b, const struct field *f, const char *from) {
    const char *at = from + f->at;
    switch (f->type) {
    case RANGE: b->failed |= (int)load(at, f->size) < f->low || (int)load(at, f->size) > f->high; /* fall through */
    case NUMBER:
    case BOOL: put(b, load(at, f->size), f->size); return;
    case CHARS: {
        const size_t n = strnlen(at, f->size - 1);
        put(b, n, 2);
        buf_add(b, at, n);
        return;
    }
    case STRING: {
        const char *s = *(const char *const *)(const void *)at;
        b->failed |= !s && f->low;
        put_text(b, s, s ? strlen(s) : 0);
        return;
    }
    case TEXT:
        put_text(b, *(const char *const *)(const void *)at, *(const size_t *)(const void *)(from + f->n_at));
        return;
    case STRUCT: put_struct(b, f->of, at); return;
    case LIST:
        put_list(b, f, *(const char *const *)(const void *)at, *(const int *)(const void *)(from + f->n_at));
        return;
    case CASE: put_struct(b, &f->of[load(from + f->n_at, sizeof(int))], from); return;
    }
}
static void put_struct(struct buf *b, const struct table *t, const char *from) {
    for (size_t i = 0; i < t->fields && !b->failed; i++) put_field(b, &t->field[i], from);
}
static int encode(struct buf *out, enum frame_kind kind, const void *from) {
    const size_t start = out->n;
    put(out, 0, 4);
    put(out, kind, 4);
    put_struct(out, &frame[kind], from);
    if (!out->failed && out->n - start - FRAME_HEAD > FRAME_MAX) out->failed = true;
    if (out->failed) {
        out->n = start; /* whole frames or nothing */
        if (out->p) out->p[start] = 0;
        return -1;
    }
    const size_t body = out->n - start - FRAME_HEAD;
    for (int i = 0; i < 4; i++) out->p[start + (size_t)i] = (char)(body >> 8 * i & 255);
    return 0;
}
int encode_hello(struct buf *out, const struct hello *h) { return encode(out, FRAME_HELLO, h); }
int encode_request(struct buf *out, uint64_t job, const struct engine_req *q) {
    const struct request r = { job, *q };
    return encode(out, FRAME_REQUEST, &r);
}
int encode_cancel(struct buf *out, uint64_t job) {
    const struct request r = { .job = job };
    return encode(out, FRAME_CANCEL, &r);
}
int encode_event(struct buf *out, const struct engine_event *ev) { return encode(out, FRAME_EVENT, ev); }

/* ---- reading ---- */
/* Twice over the same bytes: without a block it checks them and counts what the lists and texts take, then it fills. */
struct reader {
    const char *p;
    size_t n, at;
    char *block;
    size_t used; /* of the block */
    const char *wrong;
};
static const char *get(struct reader *r, size_t n) {
    if (!r->wrong && n > r->n - r->at) r->wrong = "it ends too early";
    if (r->wrong) return NULL;
    r->at += n;
    return r->p + r->at - n;
}
static uint64_t get_number(struct reader *r, size_t size) {
    const unsigned char *p = (const unsigned char *)get(r, size);
    uint64_t v = 0;
    for (size_t i = 0; p && i < size; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}
static void *lay(struct reader *r, size_t bytes) {
    const size_t at = (r->used + 7) & ~(size_t)7; /* nothing that travels is aligned more strictly */
    r->used = at + bytes;
    return r->block ? r->block + at : NULL;
}
/* The smallest that a struct can be on the wire: what counts are held against before anything is reserved. */
static size_t least(const struct table *t) {
    size_t n = 0;
    for (size_t i = 0; i < t->fields; i++) {
        const struct field *f = &t->field[i];
        switch (f->type) {
        case NUMBER:
        case BOOL:
        case RANGE: n += f->size; break;
        case CHARS: n += 2; break;
        case STRING:
        case TEXT:
        case LIST: n += 4; break;
        case STRUCT: n += least(f->of); break;
        case CASE: break;
        }
    }
    return n;
}
static void get_scalar(struct reader *r, const struct field *f, char *to) {
    const uint64_t v = get_number(r, f->size);
    const int32_t value = (int32_t)v;
    if (f->type == BOOL && v > 1) r->wrong = "a yes or no that is neither";
    if (f->type == RANGE && !r->wrong && (value < f->low || value > f->high)) r->wrong = "a number out of range";
    if (to && !r->wrong) store(to, v, f->size);
}
static void get_chars(struct reader *r, const struct field *f, char *to) {
    const size_t n = (size_t)get_number(r, 2);
    const char *p = get(r, n);
    if (p && (n >= f->size || memchr(p, 0, n))) r->wrong = "a name that is too long or holds a zero";
    if (to && !r->wrong) {
        memcpy(to, p, n);
        to[n] = 0;
    }
}
static void get_text(struct reader *r, const struct field *f, char *to, size_t *length) {
    const size_t n1 = (size_t)get_number(r, 4), n = n1 ? n1 - 1 : 0;
    const char *p = get(r, n);
    if (!p) return;
    if (f->type == STRING && (memchr(p, 0, n) || (!n1 && f->low))) r->wrong = "a text that is missing or holds a zero";
    char *copy = n1 ? lay(r, n + 1) : NULL;
    if (copy) {
        memcpy(copy, p, n);
        copy[n] = 0;
    }
    if (!to || r->wrong) return;
    memcpy(to, &copy, sizeof copy);
    if (length) *length = n;
}
static void get_struct(struct reader *r, const struct table *t, char *to);
static void get_list(struct reader *r, const struct field *f, char *to, int *count) {
    const uint64_t n = get_number(r, 4);
    if (r->wrong) return;
    if (n > (uint64_t)f->high || n * least(f->of) > r->n - r->at) {
        r->wrong = "a count out of range";
        return;
    }
    char *list = n ? lay(r, f->of->size * (size_t)n) : NULL;
    if (list) memset(list, 0, f->of->size * (size_t)n);
    for (size_t i = 0; i < n && !r->wrong; i++) get_struct(r, f->of, list ? list + f->of->size * i : NULL);
    if (!to || r->wrong) return;
    memcpy(to, &list, sizeof list);
    *count = list ? (int)n : 0;
}
static void get_field(struct reader *r, const struct field *f, char *to) {
    char *at = to ? to + f->at : NULL;
    void *n_at = to ? to + f->n_at : NULL;
    switch (f->type) {
    case NUMBER:
    case BOOL:
    case RANGE: get_scalar(r, f, at); return;
    case CHARS: get_chars(r, f, at); return;
    case STRING: get_text(r, f, at, NULL); return;
    case TEXT: get_text(r, f, at, n_at); return;
    case STRUCT: get_struct(r, f->of, at); return;
    case LIST: get_list(r, f, at, n_at); return;
    case CASE: get_struct(r, &f->of[load(n_at, sizeof(int))], to); return; /* only ever of a frame, never in a list */
    }
}
/* to NULL: an element of a list that has no place yet. */
static void get_struct(struct reader *r, const struct table *t, char *to) {
    for (size_t i = 0; i < t->fields && !r->wrong; i++) get_field(r, &t->field[i], to);
}
static int decode(struct reader *r, enum frame_kind kind, void *to, struct err *e) {
    const struct table *t = &frame[kind];
    memset(to, 0, t->size);
    get_struct(r, t, to);
    if (!r->wrong && r->at < r->n) r->wrong = "bytes behind its end";
    if (r->wrong) {
        memset(to, 0, t->size);
        return err_set(e, STATUS_FORMAT, "a damaged %s: %s, at byte %zu of %zu", frame_name[kind], r->wrong, r->at,
                       r->n);
    }
    if (!r->used) return STATUS_OK;
    r->block = mem_alloc(r->used);
    if (!r->block) {
        memset(to, 0, t->size);
        return err_set(e, STATUS_NOMEM, "out of memory for a %s of %zu bytes", frame_name[kind], r->used);
    }
    r->at = r->used = 0;
    get_struct(r, t, to);
    return STATUS_OK;
}
int decode_hello(const char *body, size_t n, struct hello *out, struct err *e) {
    return decode(&(struct reader){ .p = body, .n = n }, FRAME_HELLO, out, e);
}
int decode_request(const char *body, size_t n, uint64_t *job, struct engine_req *q, void **block, struct err *e) {
    struct reader r = { .p = body, .n = n };
    struct request got;
    const int rc = decode(&r, FRAME_REQUEST, &got, e);
    *job = got.job;
    *q = got.q;
    *block = r.block;
    return rc;
}
int decode_cancel(const char *body, size_t n, uint64_t *job, struct err *e) {
    struct request got;
    const int rc = decode(&(struct reader){ .p = body, .n = n }, FRAME_CANCEL, &got, e);
    *job = got.job;
    return rc;
}
int decode_event(const char *body, size_t n, struct engine_event *ev, struct err *e) {
    struct reader r = { .p = body, .n = n };
    const int rc = decode(&r, FRAME_EVENT, ev, e);
    ev->owned = r.block;
    return rc;
}
int frame_split(const char *p, size_t n, enum frame_kind *kind, const char **body, size_t *body_n, size_t *whole,
                struct err *e) {
    struct reader r = { .p = p, .n = n };
    if (n < FRAME_HEAD) return 0;
    const size_t bytes = (size_t)get_number(&r, 4);
    const uint64_t k = get_number(&r, 4);
    if (k >= FRAME_KINDS || bytes > FRAME_MAX)
        return err_set(e, STATUS_FORMAT, "no frame of Jaeda: kind %u, %zu bytes", (unsigned)k, bytes);
    *kind = (enum frame_kind)k;
    *body = p + FRAME_HEAD;
    *body_n = bytes;
    *whole = FRAME_HEAD + bytes;
    return n >= *whole;
}
