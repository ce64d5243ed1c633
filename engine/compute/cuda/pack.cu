/* pack.cu - weights on the device: a place for each, and the way from a file's bytes into the packed layout of cuda.h.
 * The bytes of a weight's own rows pass through two staging buffers: while one is unpacked the other is filled. */
#include "base/mem.h"
#include "compute/cuda/blocks.h"
#include "compute/cuda/cuda.h"
#include "compute/cuda/unpack.h"
#include <string.h>
#include <time.h>

struct slab {
    char *p;
    size_t bytes;
    struct packed *desc;
    struct weight **owner; /* of each desc; valid until dropped */
    int n;
    struct slab *next;
};
enum { ALIGN = 256, STAGE = 32 << 20, GROUPS = 32, ROWS = 8 };
struct packer {
    char *stage[2];
    size_t bytes; /* of each */
    cudaStream_t copies;
    cudaEvent_t copied[2], begun[2], done[2];
    bool busy[2];
    int next;
    double copy_ms, pack_ms;
};

/* ---- place ---- */
static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }
static struct matrix shape_of(const struct weight *w) {
    struct matrix m = { NULL, NULL, w->rows, w->cols, 1, weight_form(w) };
    if (w->cols > 1) m.ld = (int)up((size_t)w->cols, (size_t)unit_of(m.form));
    return m;
}
static size_t number_bytes(const struct matrix *m) { return up((size_t)m->rows * row_bytes(m->form, m->ld), ALIGN); }
static size_t all_bytes(const struct matrix *m) {
    return number_bytes(m) + up((size_t)m->rows * scale_bytes(m->form, m->ld), ALIGN);
}
size_t cuda_weight_bytes(const struct weight *w) {
    if (w->rows < 1 || w->cols < 1 || weight_form(w) == DTYPE_NONE) return 0;
    const struct matrix m = shape_of(w);
    return all_bytes(&m);
}
static void place(struct slab *s, struct weight *w) {
    if (!w || w->packed) return;
    struct matrix m = shape_of(w);
    m.p = (const char *)s->bytes; /* offsets for now */
    m.scale = (const void *)(s->bytes + number_bytes(&m));
    w->packed = &s->desc[s->n];
    w->packed->m = m;
    s->owner[s->n++] = w;
    s->bytes += all_bytes(&m);
}
static void place_call(struct slab *s, const struct op_call *c) {
    const struct proj *f = c->op == OP_PROJ ? (const struct proj *)c->priv : NULL;
    for (int i = 0; !f && i < 2; i++) place(s, c->w[i]);
    for (int i = 0; f && i < f->norms; i++) {
        place(s, f->norm[i].g);
        place(s, f->norm[i].b);
    }
    for (int i = 0; f && i < f->segs; i++)
        for (int t = 0; t < f->seg[i].terms; t++) {
            place(s, f->seg[i].t[t].w);
            place(s, f->seg[i].t[t].b);
        }
}
static void release(struct slab *s) {
    if (s->p) cudaFree(s->p);
    mem_free(s->desc);
    mem_free(s->owner);
    mem_free(s);
}
static int reserve(struct backend *be, struct slab *s, struct err *e) {
    size_t free_bytes = 0, total = 0;
    const cudaError_t code = cudaMalloc((void **)&s->p, s->bytes + ALIGN);
    if (code == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        cudaMemGetInfo(&free_bytes, &total);
        return err_set(e, STATUS_DEVMEM,
                       "no device memory for %.1f MiB of packed weights: %.1f MiB is free, another process may "
                       "have taken it meanwhile",
                       (double)s->bytes / 1048576, (double)free_bytes / 1048576);
    }
    if (cuda_check(be, code, "weights", e)) return e->code;
    return cuda_check(be, cudaMemsetAsync(s->p, 0, s->bytes + ALIGN, be->stream), "weights",
                      e); /* what pads rows is zero */
}
int cuda_place(struct backend *be, struct program *const *p, int n, struct slab **out, struct err *e) {
    size_t most = 1;
    *out = NULL;
    for (int i = 0; i < n; i++) {
        if (p[i]->err.code) return err_set(e, p[i]->err.code, "%s", p[i]->err.text);
        most += (size_t)p[i]->n * (2 * NORMS + 4 * SEGS);
    }
    struct slab *s = (struct slab *)mem_zero(1, sizeof *s);
    if (!s) return err_set(e, STATUS_NOMEM, "no memory to place %zu weights", most);
    s->desc = (struct packed *)mem_zero(most, sizeof *s->desc);
    s->owner = (struct weight **)mem_zero(most, sizeof *s->owner);
    if (!s->desc || !s->owner) {
        release(s);
        return err_set(e, STATUS_NOMEM, "no memory to place %zu weights", most);
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < p[i]->n; k++) place_call(s, &p[i]->call[k]);
    if (reserve(be, s, e)) {
        for (int i = 0; i < s->n; i++) s->owner[i]->packed = NULL;
        release(s);
        return e->code;
    }
    for (int i = 0; i < s->n; i++) {
        s->desc[i].m.p = s->p + (uintptr_t)s->desc[i].m.p;
        s->desc[i].m.scale = s->p + (uintptr_t)s->desc[i].m.scale;
    }
    s->next = be->slabs;
    *out = be->slabs = s;
    return STATUS_OK;
}
void cuda_drop(struct backend *be, struct slab *s) {
    if (!s) return;
    struct slab **at = &be->slabs;
    while (*at && *at != s) at = &(*at)->next;
    if (!*at) return;
    *at = s->next;
    cudaStreamSynchronize(be->stream);
    for (int i = 0; i < s->n; i++) s->owner[i]->packed = NULL;
    release(s);
}

/* ---- from a file's rows ---- */
struct unpacking { /* of staged rows [0, n), which are rows [first, first + n) of the weight, in the file's order */
    const unsigned char *source;
    size_t row_bytes;
    struct matrix to;
    enum dtype dt;
    int first, n, pairs;
};
/* The weight's row that the file's row r is: pairwise rows 2i + j of a head are rotate-half rows j * half + i. */
__device__ static int row_here(int r, int pairs) {
    return pairs ? r - r % pairs + r % 2 * (pairs / 2) + r % pairs / 2 : r;
}
__device__ static float number_at(const struct unpacking *u, const unsigned char *row, int c) {
    if (u->dt == DTYPE_F32 || u->dt == DTYPE_F16 || u->dt == DTYPE_BF16) return plain_at(row, u->dt, c);
    const struct block_number b = block_at(row, u->dt, c);
    const int zero = u->dt == DTYPE_Q5_0 ? 128 : zero_of(u->dt);
    return b.scale * (float)(b.n - zero) + b.minimum;
}
__global__ void numbers_kernel(struct unpacking u) {
    const int k = (int)(blockIdx.x * blockDim.y + threadIdx.y);
    if (k >= u.n) return;
    const unsigned char *row = u.source + (size_t)k * u.row_bytes;
    const size_t at = (size_t)row_here(u.first + k, u.pairs) * (size_t)u.to.ld;
    char *p = const_cast<char *>(u.to.p);
    for (int c = (int)threadIdx.x; c < u.to.cols; c += (int)blockDim.x) {
        const float v = number_at(&u, row, c);
        if (u.to.form == DTYPE_F32) ((float *)p)[at + c] = v;
        if (u.to.form == DTYPE_F16) ((uint16_t *)p)[at + c] = f32_to_f16(v);
        if (u.to.form == DTYPE_BF16) ((uint16_t *)p)[at + c] = f32_to_bf16(v);
    }
}
/* Eight columns from c on, as the packed form holds them. */
__device__ static void put_eight(const struct matrix *m, int r, int c, const int *n) {
    char *row = const_cast<char *>(m->p) + (size_t)r * row_bytes(m->form, m->ld);
    uint32_t word = 0;
    if (unit_of(m->form) == 64) {
        for (int j = 0; j < 8; j++) row[byte_of(c + j, m->form == DTYPE_Q6_K)] = (char)n[j];
        return;
    }
    for (int j = 0; j < 8; j++) word |= (uint32_t)n[j] << (4 * (j / 2) + 16 * (j % 2));
    *(uint32_t *)(row + bit_of(c) / 8) = word;
}
__global__ void blocks_kernel(struct unpacking u) { /* quantised already: each thread eight columns */
    const int k = (int)(blockIdx.x * blockDim.y + threadIdx.y);
    if (k >= u.n) return;
    const unsigned char *row = u.source + (size_t)k * u.row_bytes;
    const int r = row_here(u.first + k, u.pairs);
    char *scales = (char *)const_cast<void *>(u.to.scale) + (size_t)r * scale_bytes(u.to.form, u.to.ld);
    for (int c = 8 * (int)threadIdx.x; c < u.to.cols; c += 8 * (int)blockDim.x) {
        int n[8];
        for (int j = 0; j < 8; j++) n[j] = block_at(row, u.dt, c + j).n;
        put_eight(&u.to, r, c, n);
        const struct block_number b = block_at(row, u.dt, c);
        if (u.to.form == DTYPE_Q6_K && c % 16 == 0) ((float *)scales)[c / 16] = b.scale;
        if (u.to.form == DTYPE_Q6_K || c % 32) continue;
        if (u.to.form == DTYPE_Q8_0 || u.to.form == DTYPE_Q4_0)
            ((uint16_t *)scales)[c / 32] = f32_to_f16(b.scale); /* it was one */
        else
            ((float2 *)scales)[c / 32] = make_float2(b.scale, b.minimum);
    }
}
/* The scale for 16 levels -8..7 that leaves the least squared error, chosen as on the CPU (scale_q4 in cpu/isa/fill.c). */
__device__ static float scale_q4(const float *v, float top) {
    const float ends[] = { -8.0f, -7.3f, -8.7f, -6.6f, 7.4f, 6.8f }, inverse = top != 0 ? 1.0f / top : 0;
    float best = 0, gain = -1;
    for (int t = 0; t < 6; t++) {
        float xn = 0, nn = 1e-30f;
        for (int k = 0; k < 32; k++) {
            const float n = fmaxf(fminf(rintf(v[k] * (inverse * ends[t])), 7.0f), -8.0f);
            xn += v[k] * n;
            nn += n * n;
        }
        const float fit = xn / nn, won = xn * fit;
        if (won > gain) best = fit;
        gain = fmaxf(won, gain);
    }
    return best;
}
__global__ void quantise_kernel(struct unpacking u) { /* each thread 32 columns */
    const int k = (int)(blockIdx.x * blockDim.y + threadIdx.y);
    const bool four = u.to.form == DTYPE_Q4_0;
    if (k >= u.n) return;
    const unsigned char *row = u.source + (size_t)k * u.row_bytes;
    const int r = row_here(u.first + k, u.pairs);
    uint16_t *scales =
        (uint16_t *)((char *)const_cast<void *>(u.to.scale) + (size_t)r * scale_bytes(u.to.form, u.to.ld));
    for (int c = 32 * (int)threadIdx.x; c < u.to.cols; c += 32 * (int)blockDim.x) {
        float v[32], top = 0, bad = 0;
        for (int j = 0; j < 32; j++) {
            v[j] = plain_at(row, u.dt, c + j);
            if (fabsf(v[j]) > fabsf(top)) top = v[j];
            bad += v[j] * 0.0f;
        }
        const uint16_t scale = f32_to_f16((four ? scale_q4(v, top) : fabsf(top) * (1 / 127.0f)) + bad);
        const float as_read = f16_to_f32(scale), inverse = as_read != 0 ? 1.0f / as_read : 0, least = four ? -8 : -128;
        scales[c / 32] = scale;
        for (int j = 0; j < 32; j += 8) {
            int n[8];
            for (int i = 0; i < 8; i++)
                n[i] = (int)rintf(fmaxf(fminf(v[j + i] * inverse, four ? 7.0f : 127.0f), least)) - (int)least;
            put_eight(&u.to, r, c + j, n);
        }
    }
}

/* ---- staging ---- */
static double now_ms() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}
static void close_packer(struct backend *be) {
    struct packer *k = be->packer;
    if (!k) return;
    cudaStreamSynchronize(be->stream);
    for (int i = 0; i < 2; i++) {
        if (k->stage[i]) cudaFree(k->stage[i]);
        if (k->copied[i]) cudaEventDestroy(k->copied[i]);
        if (k->begun[i]) cudaEventDestroy(k->begun[i]);
        if (k->done[i]) cudaEventDestroy(k->done[i]);
    }
    if (k->copies) cudaStreamDestroy(k->copies);
    mem_free(k);
    be->packer = NULL;
}
static int open_packer(struct backend *be, struct err *e) {
    struct packer *k = be->packer = (struct packer *)mem_zero(1, sizeof *k);
    if (!k) return err_set(e, STATUS_NOMEM, "no memory to pack weights");
    k->bytes = STAGE;
    cuda_check(be, cudaStreamCreateWithFlags(&k->copies, cudaStreamNonBlocking), "room to stage weights", e);
    for (int i = 0; i < 2 && !e->code; i++)
        if (cuda_check(be, cudaMalloc((void **)&k->stage[i], k->bytes), "room to stage weights", e) ||
            cuda_check(be, cudaEventCreateWithFlags(&k->copied[i], cudaEventDisableTiming), "room to stage weights",
                       e) ||
            cuda_check(be, cudaEventCreate(&k->begun[i]), "room to stage weights", e))
            break;
        else
            cuda_check(be, cudaEventCreate(&k->done[i]), "room to stage weights", e);
    if (e->code) close_packer(be); /* the next load begins anew */
    return e->code;
}
void cuda_pack_close(struct backend *be) {
    close_packer(be);
    while (be->slabs) {
        struct slab *s = be->slabs;
        be->slabs = s->next;
        release(s);
    }
}
static int settle(struct backend *be, int i, struct err *e) { /* the stage is free again */
    struct packer *k = be->packer;
    float ms = 0;
    if (!k->busy[i]) return STATUS_OK;
    k->busy[i] = false;
    if (cuda_check(be, cudaEventSynchronize(k->done[i]), "packing", e) ||
        cuda_check(be, cudaEventElapsedTime(&ms, k->begun[i], k->done[i]), "packing", e))
        return e->code;
    k->pack_ms += (double)ms;
    return STATUS_OK;
}
void cuda_fill_ms(struct backend *be, double *copy, double *pack) {
    struct err ignored = {};
    *copy = *pack = 0;
    if (!be->packer) return;
    for (int i = 0; i < 2; i++) settle(be, i, &ignored);
    *copy = be->packer->copy_ms;
    *pack = be->packer->pack_ms;
    close_packer(be); /* its memory was part of the load */
}
static void unpack(const struct backend *be, const struct unpacking *u) {
    const dim3 grid((unsigned)((u->n + ROWS - 1) / ROWS)), block(GROUPS, ROWS);
    const bool plain = u->dt == DTYPE_F32 || u->dt == DTYPE_F16 || u->dt == DTYPE_BF16;
    if (u->to.form == DTYPE_F32 || u->to.form == DTYPE_F16 || u->to.form == DTYPE_BF16)
        launch(numbers_kernel, grid, block, 0, be->stream, *u);
    else if (plain)
        launch(quantise_kernel, grid, block, 0, be->stream, *u);
    else
        launch(blocks_kernel, grid, block, 0, be->stream, *u);
}
/* The file's rows [u->first, u->first + u->n) of this weight into a stage, run by run, and out of it. */
static int slice(struct backend *be, const struct weight *w, const char *source, struct unpacking *u, struct err *e) {
    struct packer *k = be->packer;
    const int i = k->next;
    k->next = !i;
    if (settle(be, i, e)) return e->code;
    for (int r = u->first, n; r < u->first + u->n && !e->code; r += n) {
        n = w->run - r % w->run;
        if (n > u->first + u->n - r) n = u->first + u->n - r;
        const size_t from = (size_t)w->first + (size_t)(r / w->run) * (size_t)w->step + (size_t)(r % w->run);
        cuda_check(be,
                   cudaMemcpyAsync(k->stage[i] + (size_t)(r - u->first) * u->row_bytes, source + from * u->row_bytes,
                                   (size_t)n * u->row_bytes, cudaMemcpyHostToDevice, k->copies),
                   "copying weights", e);
    }
    if (e->code || cuda_check(be, cudaEventRecord(k->copied[i], k->copies), "copying weights", e) ||
        cuda_check(be, cudaStreamWaitEvent(be->stream, k->copied[i], 0), "copying weights", e) ||
        cuda_check(be, cudaEventRecord(k->begun[i], be->stream), "packing", e))
        return e->code;
    u->source = (const unsigned char *)k->stage[i];
    unpack(be, u);
    k->busy[i] = true;
    if (cuda_launched(be, "packing", e)) return e->code;
    return cuda_check(be, cudaEventRecord(k->done[i], be->stream), "packing", e);
}
int cuda_fill(struct backend *be, const struct weight *w, const void *source, struct err *e) {
    if (weight_check(w, e) || (!be->packer && open_packer(be, e))) return e->code;
    struct unpacking u = {};
    u.to = w->packed->m;
    u.dt = w->dt;
    u.pairs = w->pairs;
    u.row_bytes = dtype_bytes(w->dt, (size_t)w->cols);
    const size_t fit = be->packer->bytes / u.row_bytes;
    if (!fit) return err_set(e, STATUS_FORMAT, "%s: a row of %zu bytes is too long to be staged", w->name, u.row_bytes);
    const double t0 = now_ms();
    for (u.first = 0; u.first < w->rows && !e->code; u.first += u.n) {
        u.n = (size_t)(w->rows - u.first) < fit ? w->rows - u.first : (int)fit;
        slice(be, w, (const char *)source, &u, e);
    }
    if (!e->code) cuda_check(be, cudaStreamSynchronize(be->packer->copies), "copying weights", e);
    be->packer->copy_ms += now_ms() - t0;
    return e->code;
}

/* ---- random numbers ---- */
__device__ static uint32_t mix(uint64_t seed, uint64_t i) { /* the upper half of SplitMix64's i-th number */
    uint64_t z = seed * 0xd1342543de82ef95u + (i + 1) * STEP_RNG;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}
struct dice {
    struct matrix to;
    float mean, dev;
    uint64_t seed;
};
__global__ void random_numbers_kernel(struct dice d) {
    const size_t r = blockIdx.x * (size_t)blockDim.y + threadIdx.y;
    if (r >= (size_t)d.to.rows) return;
    char *p = const_cast<char *>(d.to.p);
    for (int c = (int)threadIdx.x; c < d.to.cols; c += (int)blockDim.x) {
        const size_t at = r * (size_t)d.to.ld + (size_t)c;
        const float v =
            d.mean + d.dev * 1.7320508f * ((float)(mix(d.seed, at) >> 8) * 0x1p-23f - 1); /* sqrt(3): uniform */
        if (d.to.form == DTYPE_F32) ((float *)p)[at] = v;
        if (d.to.form == DTYPE_F16) ((uint16_t *)p)[at] = f32_to_f16(v);
        if (d.to.form == DTYPE_BF16) ((uint16_t *)p)[at] = f32_to_bf16(v);
    }
}
__global__ void random_blocks_kernel(struct dice d) {
    const size_t r = blockIdx.x * (size_t)blockDim.y + threadIdx.y;
    if (r >= (size_t)d.to.rows) return;
    const enum dtype form = d.to.form;
    const int most = unit_of(form) == 128 ? 15 : form == DTYPE_Q6_K ? 63 : form == DTYPE_Q8_0 ? 255 : 31;
    const int least = zero_of(form) ? 1 : 0, levels = most + 1 - least;                /* around zero */
    const float scale = d.dev * 3.4641016f / sqrtf((float)levels * (float)levels - 1); /* sqrt(12): they are uniform */
    char *scales = (char *)const_cast<void *>(d.to.scale) + r * scale_bytes(form, d.to.ld);
    for (int c = 8 * (int)threadIdx.x; c < d.to.cols; c += 8 * (int)blockDim.x) {
        int n[8];
        for (int j = 0; j < 8; j++)
            n[j] = least + (int)(mix(d.seed, r * (size_t)d.to.ld + (size_t)(c + j)) % (uint32_t)levels);
        put_eight(&d.to, (int)r, c, n);
        if (form == DTYPE_Q6_K && c % 16 == 0) ((float *)scales)[c / 16] = scale;
        if (form == DTYPE_Q6_K || c % 32) continue;
        if (form == DTYPE_Q8_0 || form == DTYPE_Q4_0)
            ((uint16_t *)scales)[c / 32] = f32_to_f16(scale);
        else
            ((float2 *)scales)[c / 32] = make_float2(scale, -0.5f * scale * (float)most);
    }
}
int cuda_dummy(struct backend *be, const struct weight *w, float mean, float dev, uint64_t seed, struct err *e) {
    if (!w->packed) return err_set(e, STATUS_INVALID, "%s: not placed", w->name);
    const struct dice d = { w->packed->m, mean, dev, seed };
    const dim3 grid((unsigned)((w->rows + ROWS - 1) / ROWS)), block(GROUPS, ROWS);
    if (d.to.form == DTYPE_F32 || d.to.form == DTYPE_F16 || d.to.form == DTYPE_BF16)
        launch(random_numbers_kernel, grid, block, 0, be->stream, d);
    else
        launch(random_blocks_kernel, grid, block, 0, be->stream, d);
    return cuda_launched(be, "made-up weights", e);
}
