/* backend.h - the table of functions that a device is. Valid C11 and C++17. */
#ifndef JAEDA_COMPUTE_BACKEND_H
#define JAEDA_COMPUTE_BACKEND_H
#include "base/err.h"
#include "compute/op.h"
#ifdef __cplusplus
extern "C" {
#endif

/* What the device gives, measured: bytes a second (a CPU: reading memory in a row; a GPU: a copy, read plus written); two
 * operations a multiply-add, in the kinds that it multiplies in. 0: it has no such products. */
struct peaks {
    double stream_gbs, fp32_gflops, int8_gops, bf16_gflops, fp16_gflops;
};
struct device_memory { /* bytes: what alloc can be given now, and all there is */
    uint64_t free, total;
};
struct program;
struct backend; /* one per device */
struct slab;    /* the packed weights of one placement */
enum { BACKEND_ABI = 1, AHEAD_MAX = 4 };

/* A device. Its functions belong to one thread at a time; meanwhile only the stop word of a step may be touched, and alloc and
 * free called where `memory` is NULL. What a backend that computes in the host's memory leaves out (NULL) is said at each. */
struct backend_api {
    int abi;
    const char *name;
    /* threads 0: every processor this process may use (affinity and cgroup quota). NULL: e says why. */
    struct backend *(*open)(int threads, struct err *e);
    void (*close)(struct backend *be); /* NULL is fine; slabs still there are dropped without touching their weights */
    const char *(*isa)(const struct backend *be); /* "avx512-bf16"; "NVIDIA A10G, sm_86" */
    int (*threads)(const struct backend *be);
    int (*workers)(const struct backend *be);         /* how many scratch areas a program needs */
    int (*chunk)(const struct backend *be);           /* rows of a prompt that are best fed at once, <= ROWS_MAX */
    bool (*kv)(enum dtype dt);                        /* can keys and values be cached so? */
    void *(*alloc)(struct backend *be, size_t bytes); /* taken at once, zeroed, aligned to 64; NULL: none */
    void (*free)(struct backend *be, void *p, size_t bytes);
    /* Of the device's own memory. NULL: the host's. */
    struct device_memory (*memory)(struct backend *be);
    /* Host memory that fill reads from fastest. NULL: any will do. */
    void *(*host_alloc)(struct backend *be, size_t bytes);
    void (*host_free)(struct backend *be, void *p);
    /* Copies between host and device, done on return. NULL: the device reads the host's memory. */
    int (*get)(struct backend *be, void *host, const void *device, size_t bytes, struct err *e);
    int (*put)(struct backend *be, void *device, const void *host, size_t bytes, struct err *e);
    size_t (*weight_bytes)(const struct weight *w); /* packed size, before a byte is read; 0: dtype not supported */
    void (*fuse)(struct program *p);                /* may be NULL; never fails, only fuses less */
    /* Scratch bytes the program needs for each worker and once for all; may be NULL. With chunk, fuse, kv and weight_bytes it
     * answers of a device, with be NULL, for the largest that it knows. */
    void (*scratch)(const struct program *p, size_t *each, size_t *shared);
    /* Gives every weight of these programs that has none a place, grouped as the programs read them (the decode
     * program comes first); reads nothing. On failure *out is NULL and no weight has changed. */
    int (*place)(struct backend *be, struct program *const *p, int n, struct slab **out, struct err *e);
    /* Converts and packs one placed weight from the bytes of its whole tensor (w->bytes of them, any alignment), which it
     * has read when it returns; the packing itself may still be under way. */
    int (*fill)(struct backend *be, const struct weight *w, const void *source, struct err *e);
    /* Fills one placed weight with random numbers around mean (quantised matrices: around 0) with a standard deviation
     * of about dev, directly in packed form and reproducibly from seed: for measuring a shape without its files. */
    int (*dummy)(struct backend *be, const struct weight *w, float mean, float dev, uint64_t seed, struct err *e);
    void (*drop)(struct backend *be, struct slab *s); /* frees; before the weights themselves go. NULL is fine */
    /* Where fill spent its time since the slab was placed, in ms: copying to the device, packing there. NULL: not told. */
    void (*fill_ms)(struct backend *be, double *copy, double *pack);
    /* After program_link and before it loses its memory: what replays of this program need beside it (p->linked), with
     * everything that the first replay would otherwise have to allocate or compile. NULL: nothing. */
    int (*link)(struct backend *be, struct program *p, struct err *e);
    void (*unlink)(struct backend *be, struct program *p); /* any state of p */
    /* Runs calls [from, to) on the step and waits; a step that stopped is no error of replay's. A device reads *s at a whole
     * run and at [0, 0), writes it at a whole run and at [n, n), and waits only there. */
    int (*replay)(struct backend *be, const struct program *p, struct step *s, int from, int to, struct err *e);
    /* Puts one more run of the whole program behind those already launched (at most AHEAD_MAX): the first reads *s, a later
     * one goes on from where NEXT has left the device's own step block. land waits for the oldest of them and
     * carries made, ring, stamp_ns and stop of that run into *s, nothing else. NULL: replay does. */
    int (*launch)(struct backend *be, const struct program *p, const struct step *s, bool first, struct err *e);
    int (*land)(struct backend *be, const struct program *p, struct step *s, struct err *e);
    double (*time_us)(struct backend *be);
    /* Marks a moment in the device's work, without waiting; i < MARKS_MAX. marks: waits, then all moments in us. NULL:
     * time_us around replay does. */
    int (*mark)(struct backend *be, int i, struct err *e);
    int (*marks)(struct backend *be, double *us, int n, struct err *e);
    int (*probe)(struct backend *be, struct peaks *out, struct err *e); /* takes about 0.5 s */
    /* Why nothing can be computed here any more (a fault that no later call gets over), or NULL. NULL: never. */
    const char *(*lost)(const struct backend *be);
    /* Where lspci finds the device, "00:1e.0". NULL: it is no card. */
    const char *(*pci)(const struct backend *be);
};
enum { MARKS_MAX = 4096 };
extern const struct backend_api backend_cpu;

#ifdef __cplusplus
}
#endif
#endif
