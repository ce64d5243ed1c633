/* engine.h - the only door to the engine.
 *
 * One API for two places: "local:" runs the engine on threads of this process; "ipc:" talks to the resident process
 * jaeda-engine, one per user and machine, and starts it when there is none ("ipc:DIR": the one whose socket lies in
 * DIR). Requests and events are plain data, so that the two differ only in how the bytes travel: no callback, no pointer
 * into the engine and no tensor crosses this header.
 *
 * The connection is the lease: when it ends, its jobs are cancelled and its KV caches given back; weights stay for
 * others and for the next connection. Threads: submit and cancel may be called from any thread; next belongs to one
 * thread; open and close to whoever owns the connection. STATUS, MODELS, SHOW and ENGINE are answered at once. Jobs of
 * one lane run one after another; those of several lanes and connections take turns, token by token and piece of
 * prompt by piece of prompt. Events of one job arrive in order and end with exactly one DONE or FAIL. */
#ifndef JAEDA_ENGINE_H
#define JAEDA_ENGINE_H
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ENGINE_STOPS = 16, /* of one request at most: stop strings, stop ids */
    ENGINE_BEAMS = 16,
    ENGINE_LANES = 8,  /* of one connection */
    ENGINE_IMAGES = 16 /* of one request, and of one conversation */
};
enum engine_req_kind {
    ENGINE_REQ_LOAD,     /* -> PROGRESS*, MODELS (one row), DONE */
    ENGINE_REQ_UNLOAD,   /* -> MODELS (one row: what was given back), DONE */
    ENGINE_REQ_GENERATE, /* -> PROGRESS*, TEXT*, VIEW*, DONE. A cancelled one ends in DONE with stop CANCELLED */
    ENGINE_REQ_PROFILE,  /* -> PROGRESS*, PROFILE, DONE */
    ENGINE_REQ_RESET,    /* forget a session -> DONE */
    ENGINE_REQ_STATUS,   /* -> MODELS (the loaded ones), SYSTEM, DONE */
    ENGINE_REQ_MODELS,   /* -> MODELS (every model known or found on this disk), DONE */
    ENGINE_REQ_SHOW,     /* -> MODELS (one row, from the file alone when it is not loaded), DONE */
    ENGINE_REQ_FIT,      /* -> FIT, DONE. Reads no weights; the first one measures this machine */
    ENGINE_REQ_LOOK,     /* decodes pictures, for people to see -> VIEW*, DONE. Needs no model */
    ENGINE_REQ_ENGINE,   /* sets the idle limit, or ends the process -> SYSTEM, DONE */
    ENGINE_REQ_KINDS
};

/* role NULL: raw text, no template; else "system", "user", "assistant", or "input": what the next user turn is about
 * (KoAlpaca's 맥락, KULLM's 입력). */
struct engine_message {
    const char *role, *text;
    size_t len;
};
/* A picture file (JPEG, PNG, WebP) of a GENERATE or LOOK. message: the user's message that it belongs to, in front of its
 * text; several of one message stand in the order of the list. */
struct engine_image {
    const char *name, *bytes; /* name: for people, "photo.jpg" */
    size_t n;
    int message;
};
/* Views that a GENERATE is to send of its pictures behind the text: ored. */
enum {
    ENGINE_SHOW_INPUT = 1,    /* what the image encoder was given */
    ENGINE_SHOW_ATTENTION = 2 /* where the image encoder looked, and where the answer did */
};
/* temperature 0 is greedy. top_k 0, top_p 1, min_p 0, typical_p 1, repetition_penalty 1: off. */
struct engine_sampling {
    float temperature, top_p, min_p, typical_p, repetition_penalty;
    int top_k;
    uint64_t seed;
};
/* Beam search as transformers does it: no sampling; the best finished text by sum of log-probabilities / length ^
 * length_penalty. num_beams 0 or 1: off. It streams nothing: the text comes at the end. */
struct engine_beams {
    int num_beams;
    float length_penalty; /* 0 is meant as 0; 1 is transformers' default */
    bool early_stopping;
};
/* Borrowed for the call of engine_submit; zero or NULL means the default everywhere. */
struct engine_req {
    enum engine_req_kind kind;
    int lane; /* 0 .. ENGINE_LANES - 1: all but STATUS, MODELS, SHOW and ENGINE. A lane has KV caches of its own */
    const char
        *model; /* LOAD, SHOW: catalogue name, alias or path; others: a loaded model's name, NULL: the last loaded */
    const char
        *session; /* GENERATE, RESET: conversation whose KV cache is reused; NULL: none. Dies with the connection */
    const char *revision;       /* LOAD, SHOW, FIT: of a repository in the hub cache; NULL: "main" */
    const char *dtype;          /* LOAD: "auto" (as stored), "fp32", "fp16", "bf16", "int8", "int4" */
    const char *kv_cache_dtype; /* LOAD: "auto" (fp16, with fp32 weights fp32), "fp32", "fp16"; a GPU's "int8" */
    const char *load_format;    /* LOAD: "auto", or "dummy": the true shape with random weights, no file needed */
    int max_model_len;          /* LOAD: tokens of a sequence to reserve; 0: the model's context, shrunk to what fits */
    int max_sequences;          /* LOAD: how many sequences of them; 0: 1 */
    /* LOAD, FIT of a MiniGPT-4: its parts where they are not found beside each other or by the catalogue's names: paths,
     * llm also a model's name. vision_dtype: of the image encoder, "auto", "fp32", "fp16", "bf16", "int8"; NULL: auto,
     * as the checkpoint has it (fp16), on a CPU that computes bf16 faster that. */
    const char *vit, *qformer, *projector, *llm, *vision_dtype;
    int max_images; /* LOAD: pictures that one conversation may hold; 0: 4 */
    /* Where names are looked up, as "HOME=...\nHF_HOME=...": the resident engine has another environment than the
     * notebook. NULL: that of the calling process. A relative path in model is the calling process' too. */
    const char *environment;
    int threads;         /* LOAD: 0: every processor this process may use */
    bool evict;          /* LOAD: when memory is short, models that nobody uses leave, the longest unused first */
    bool set_idle, quit; /* ENGINE: idle_s is the new limit; the engine is to end now, whoever uses it */
    double idle_s;       /* seconds without a connection until the process ends; < 0: never */
    bool gpus;           /* STATUS: with what every card tells of itself */
    const struct engine_message *message; /* GENERATE, PROFILE: the whole conversation so far, or one raw text */
    int messages;
    const char *template_name;        /* GENERATE: NULL: the model's own */
    const struct engine_image *image; /* GENERATE: in the order of their messages; LOOK */
    int images;
    int look_px;   /* LOOK: longest side of what is sent, never more than the picture's own; 0: 512 */
    unsigned show; /* GENERATE: ENGINE_SHOW_... */
    /* GENERATE: as the model's authors sample, where the catalogue says how (sampling, and max_new_tokens when that is 0);
     * else `sampling` counts. */
    bool own_sampling;
    struct engine_sampling sampling;
    struct engine_beams beams;
    const char *const *stop; /* GENERATE: strings that end the text; they are not part of it */
    int stops;
    const int *stop_id;
    int stop_ids;
    int max_new_tokens, min_new_tokens; /* max 0: 128 */
    bool ignore_eos;
    bool vision_only;  /* PROFILE: nothing but the image path */
    int prompt_tokens; /* PROFILE: length of a synthetic prompt when no message is given; 0: 512, cut to the context */
    int runs;          /* PROFILE: repetitions; 0: 3 */
    int batch_size;    /* PROFILE: sequences that decode side by side, each behind a copy of the prompt; 0: 1 */
    struct {           /* FIT of model: every combination of these lists; an empty list stands for the default */
        const char *const *dtype, *const *machine; /* dtypes as for LOAD; names of engine_machine(), "this" */
        const int *context, *batch;
        int dtypes, machines, contexts, batches;
    } fit;
};

struct engine_model {
    char name[64], file[512], arch[24], dtype[16], kv_dtype[8], size_label[32], template_name[24], license[32];
    char format[16], repo[96],
        aliases[160]; /* format: "GGUF", "safetensors", "torch", "dummy", "config" (no weights) */
    bool loaded, on_disk;
    char get[200];   /* when not on disk: the command that fetches it */
    char gated[200]; /* what to do before that, "" when nothing */
    int layers, hidden, heads, kv_heads, head_dim, rope_dims, ffn, vocab, context, max_model_len, sessions;
    int max_sequences; /* that the KV cache has room for, of max_model_len tokens each */
    float rope_theta;
    char stops[96]; /* what ends every answer beside the end of text: "token 2, \"###\""; "" when nothing does */
    uint64_t params, file_bytes;
    /* Predicted before a byte of weights is read; measured: growth of the process' resident set over the load. */
    uint64_t weight_bytes, kv_bytes, arena_bytes, kv_bytes_per_token, predicted_bytes, measured_bytes, freed_bytes;
    uint64_t peak_bytes;                      /* most that the process grew by while it loaded */
    uint64_t resident_before, resident_after; /* UNLOAD: of the engine's process */
    int users;      /* connections that hold it; 0: idle. UNLOAD: those that hold it still, so that its weights stay */
    char user[160]; /* their names, "a.ipynb (you), b.ipynb" */
    double idle_s;  /* since its last job ended; 0 while one runs */
    double load_s, read_mib_s;
    double disk_ms, copy_ms, pack_ms; /* of the load, side by side: waiting for files, copying to a device, packing */
    bool from_page_cache;             /* most of the file was in the page cache before the load */
    char notice[200];                 /* such as "context shrunk from 8192 to 4096 tokens to fit" */
    /* Of a model that sees; image_tokens 0: it reads text alone. weight_bytes and arena_bytes count the image path too. */
    char vision[64], vision_dtype[8], vit[512], qformer[512], projector[512]; /* vision: "EVA ViT-g/14, 224 px" */
    int image_px, image_tokens, max_images;
    uint64_t vision_bytes, vision_work_bytes; /* weights and work area of the image path */
};
/* An NVIDIA card as its driver describes it. What it does not tell is absent: NAN or "". */
enum { ENGINE_GPU_PROCESSES = 8 };
struct engine_gpu_process {
    int pid;
    bool own; /* the engine's process */
    char name[19];
    double used_bytes;
};
struct engine_gpu {
    char name[96], pci[24], driver[32], cuda[16]; /* pci: as lspci prints it, "00:1e.0"; cuda: that the driver knows */
    double memory_bytes, used_bytes, free_bytes;
    double busy_percent, memory_busy_percent; /* of the time, lately */
    double sm_mhz, sm_max_mhz, memory_mhz, memory_max_mhz, power_w, power_limit_w, celsius;
    double energy_j;    /* since the driver was loaded */
    char throttle[192]; /* what holds the clocks down: "nothing", "nothing (idle)", "software power cap, ..." */
    char ecc[32];       /* "on", "off", "on, off after a reboot" */
    double ecc_errors;  /* uncorrected, since the driver was loaded */
    char peers[256];    /* "GPU 1: direct / NVLink, GPU 2: none / between CPUs" */
    int processes;      /* that hold memory of it, the first of them below; -1: absent */
    struct engine_gpu_process process[ENGINE_GPU_PROCESSES];
};
struct engine_system {
    char cpu[96], isa[96], gpu[320], backend[16], version[48]; /* gpu: one sentence */
    int threads, processors;                                   /* threads used for compute; processors of the machine */
    uint64_t memory_total, memory_available, resident;         /* bytes; total and available respect the cgroup */
    double stream_gbs, fp32_gflops, int8_gops, bf16_gflops;    /* measured on this machine; 0: not measured yet */
    char transport[8], build[48], place[120], log[200]; /* "local" or "ipc"; engine_build(); socket; log file or "" */
    int pid, connections, jobs_running, jobs_waiting;
    double uptime_s, idle_limit_s; /* limit < 0: never ends by itself, as "local" does not */
    const struct engine_gpu *card; /* none unless they were asked for */
    int cards;
};
/* A device that models can be fitted to; "this" is the machine it runs on. */
struct engine_machine {
    char name[24], device[64]; /* "g5.12xlarge", "NVIDIA A10G, one of 4" */
    uint64_t memory_bytes;     /* of one device, as it reports it; of this machine: what is free */
    double bandwidth_gbs;      /* nominal; of this machine: measured, 0 when it was not yet */
};
struct engine_fit_row {
    int machine; /* in engine_fit.machine */
    char dtype[16];
    int context, batch;
    uint64_t weight_bytes, kv_bytes, work_bytes, total_bytes;
    uint64_t vision_bytes; /* of the weights, the image path's */
    bool fits;
    int max_context; /* largest that fits at this batch, 0: not even one row; never above the model's own */
    double ceiling;  /* tok/s of all sequences together, from bandwidth alone with the context full; 0: unknown */
};
struct engine_fit {
    struct engine_model model; /* shape only */
    const struct engine_machine *machine;
    const struct engine_fit_row *row; /* machines outermost, then dtypes, contexts, batches */
    int machines, rows;
};
enum engine_stop {
    ENGINE_STOP_NONE,
    ENGINE_STOP_EOS,
    ENGINE_STOP_LENGTH,
    ENGINE_STOP_CONTEXT,
    ENGINE_STOP_STRING,
    ENGINE_STOP_ID,
    ENGINE_STOP_CANCELLED
};
struct engine_done {
    enum engine_stop stop;
    char stop_text[64]; /* STRING: which one; EOS, ID: the token's text */
    int prompt_tokens, cached_tokens, new_tokens, context_used;
    uint64_t chars, utf8_replacements; /* code points of the text sent */
    /* ttft: submit to first token, tokenising included. decode_ms: first to last token. tpot = decode_ms / (new_tokens - 1). */
    double ttft_ms, prefill_ms, decode_ms, tpot_ms, total_ms;
    double waited_ms;                /* of total: for its turn, while jobs of other notebooks or lanes computed */
    bool greedy, dummy;              /* dummy: random weights, the text means nothing */
    struct engine_sampling sampling; /* as used */
    struct engine_beams beams;
    double beam_score; /* of the text that was taken */
    char model[64], template_name[24];
    /* Pictures of the conversation: how many, how many of them were encoded now (the others were known by their content), the
     * prompt's tokens that stand for them; summed over those that were encoded: reading the file, resizing, image encoder,
     * Q-Former or the joining of neighbours, projection. ttft counts them all. */
    int images, images_encoded, image_tokens;
    double image_decode_ms, image_resize_ms, image_encode_ms, image_merge_ms, image_project_ms;
};
/* One picture of a GENERATE or LOOK, or what was seen in it. */
enum engine_view_kind {
    ENGINE_VIEW_PICTURE, /* the file, upright, scaled to look_px */
    ENGINE_VIEW_INPUT,   /* what the image encoder was given */
    ENGINE_VIEW_ENCODER, /* attention of the encoder's class token in its last block, mean of the heads */
    ENGINE_VIEW_ANSWER /* attention of the answer's tokens to this picture's, mean over tokens, heads and some layers */
};
struct engine_view {
    enum engine_view_kind kind;
    int image;                             /* of the request's list */
    char name[128], format[8], about[160]; /* format: "JPEG"; about: one line on how it was made */
    int file_width, file_height;           /* upright */
    int width, height;                     /* of rgb, or of heat */
    const char *rgb;                       /* PICTURE, INPUT: 3 bytes a pixel, rows from the top; else NULL */
    size_t rgb_bytes;
    const float *heat; /* ENCODER, ANSWER: width * height shares from the top, of sum 1; else NULL */
    int heats;
    double share; /* ANSWER: of its attention, what goes to this picture: 0..1 */
};
enum engine_phase { ENGINE_PREFILL, ENGINE_DECODE, ENGINE_VISION, ENGINE_PHASES };
struct engine_profile_row { /* one recorded call of the fused program, averaged over the runs */
    enum engine_phase phase;
    int layer; /* -1: outside the stack */
    char op[16], label[72];
    double calls, ms, bytes, flops; /* per step */
};
struct engine_profile {
    const struct engine_profile_row *row;
    int rows, runs, warmups, threads, batch_size;
    int prompt_tokens, decode_steps, context; /* context: KV length at the middle of the measured decode steps */
    /* Per step (the prefill of all prompts; a token for each; one picture from its pixels to rows of the prompt): mean and standard deviation over runs of the unprofiled wall time, the
     * mean of the profiled wall time, the sum of spans. */
    double wall_ms[ENGINE_PHASES], wall_sd_ms[ENGINE_PHASES], profiled_ms[ENGINE_PHASES], spans_ms[ENGINE_PHASES];
    double waited_ms;               /* while other jobs computed: they share caches and clocks, the numbers are worse */
    double stream_gbs, peak_gflops; /* measured in the same job; peak: of the arithmetic that these weights need */
    char peak_kind[8];              /* "int8", "bf16" or "fp32": which arithmetic that is */
    bool vision, vision_only;       /* the image path was measured; nothing else was */
    double vision_peak_gflops;
    char vision_peak_kind[8], vision_dtype[8];
    int image_tokens;
    double image_resize_ms; /* of a picture of 1,920 x 1,080 */
    bool dummy;             /* random weights */
    char dtype[16], isa[96], model[64];
    bool gpu;                        /* it computed; else the CPU did, and nothing of what follows is there */
    double energy_j[ENGINE_PHASES];  /* per step, as wall_ms; NAN: the card does not count */
    struct engine_gpu before, after; /* the runs; name and pci "": the driver does not tell of the card */
};

enum engine_event_kind {
    ENGINE_EV_PROGRESS,
    ENGINE_EV_TEXT,
    ENGINE_EV_PROFILE,
    ENGINE_EV_MODELS,
    ENGINE_EV_SYSTEM,
    ENGINE_EV_FIT,
    ENGINE_EV_VIEW,
    ENGINE_EV_DONE,
    ENGINE_EV_FAIL
};
struct engine_event {
    enum engine_event_kind kind;
    uint64_t job;
    union {
        struct {
            char what[96];      /* "reading weights", "prefill" */
            double done, total; /* bytes or tokens, as unit says; total 0: unknown */
            char unit[8];       /* "B", "tok" */
            double seconds;     /* since this phase began */
        } progress;
        struct {
            const char *utf8; /* whole code points only */
            size_t len;
            int tokens; /* new ones so far, this text's with them */
        } text;
        struct engine_profile profile;
        struct {
            const struct engine_model *row;
            int n;
        } models;
        struct engine_system system;
        struct engine_fit fit;
        struct engine_view view;
        struct engine_done done;
        struct err fail;
    } u;
    void *owned; /* what the pointers above point into; freed by engine_event_fini */
};

struct engine;
/* uri "local:", "ipc:" or "ipc:DIR" (an absolute path). On failure *out is NULL and e says why. */
int engine_open(struct engine **out, const char *uri, struct err *e);
void engine_close(struct engine *g); /* NULL is fine; cancels, waits, frees */
/* Copies the request. *job is its number, never 0. */
int engine_submit(struct engine *g, const struct engine_req *q, uint64_t *job, struct err *e);
int engine_fd(const struct engine *g);                      /* readable when engine_next has something */
int engine_next(struct engine *g, struct engine_event *ev); /* 1: an event, 0: none now, <0: connection lost */
/* After engine_next < 0 or a submit that gave STATUS_GONE: what became of the engine ("killed by signal 9 ...") and the
 * way out, as a STATUS_GONE in e; the last lines of its log are appended to log when that is not NULL. */
void engine_gone(const struct engine *g, struct err *e, struct buf *log);
/* The last lines of the engine's log, also when none runs. uri as for engine_open. */
int engine_log(const char *uri, int lines, struct buf *out, struct err *e);
void engine_event_fini(struct engine_event *ev);
void engine_cancel(struct engine *g, uint64_t job); /* any thread, any time; unknown jobs are ignored */
const char *engine_stop_text(enum engine_stop s);   /* "end of text", "max_new_tokens", ... */
const char *engine_version(void);
const char *engine_build(void); /* names this build; both ends of a connection must be the same */
/* The machines that FIT knows by name; false: no such index. */
bool engine_machine(int i, struct engine_machine *out);

#endif
