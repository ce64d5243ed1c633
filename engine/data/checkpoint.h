/* checkpoint.h - the tensors of a model wherever they lie: one GGUF file, one safetensors or torch file, or a folder of
 * shards in the Hugging Face layout. Headers are read and checked at opening; weight bytes never. */
#ifndef JAEDA_DATA_CHECKPOINT_H
#define JAEDA_DATA_CHECKPOINT_H
#include "config.h"
#include "gguf.h"

struct tensor {
    const char *name; /* the checkpoint's */
    int dt;           /* enum dtype, or a number that dtype_info() does not know: only using it is an error */
    char dt_name[12]; /* as the file spells it: "F16", "BOOL" */
    int dims;
    uint64_t dim[4];        /* dim[0] runs fastest: columns; unused ones are 1 */
    int file;               /* which file */
    uint64_t offset, bytes; /* in that file */
};
struct tensor_list {       /* of one file */
    struct tensor *tensor; /* by offset; file is 0 */
    int tensors;
    char *names; /* what tensor[].name points into */
};
void tensor_list_fini(struct tensor_list *s);
struct checkpoint_file {
    const char *path;
    int fd;
    uint64_t bytes;
};
enum checkpoint_kind { CHECKPOINT_GGUF, CHECKPOINT_HF };
struct checkpoint;

/* path: a .gguf, a .safetensors, .bin, .pt, .pth or .ckpt (config.json beside it), or a folder with config.json and
 * model.safetensors, pytorch_model.bin, or the index.json of either with its shards; safetensors go first. A folder that
 * has a config but no weights opens with no tensors (what %fit needs); one that lacks a shard, or whose files contradict
 * each other is an error that names the file and the way out. */
int checkpoint_open(struct checkpoint **out, const char *path, struct err *e);
void checkpoint_close(struct checkpoint *c); /* NULL is fine */
enum checkpoint_kind checkpoint_kind(const struct checkpoint *c);
const char *checkpoint_path(const struct checkpoint *c);        /* as opened */
const char *checkpoint_folder(const struct checkpoint *c);      /* where config.json lies; NULL: a GGUF */
const char *checkpoint_format(const struct checkpoint *c);      /* "GGUF", "safetensors", "torch" */
const struct gguf *checkpoint_gguf(const struct checkpoint *c); /* NULL: not a GGUF */
int checkpoint_files(const struct checkpoint *c);
const struct checkpoint_file *checkpoint_file(const struct checkpoint *c, int i); /* fds stay open until close */
uint64_t checkpoint_bytes(const struct checkpoint *c);                            /* of all weight files */
int checkpoint_tensors(const struct checkpoint *c);
const struct tensor *checkpoint_tensor_at(const struct checkpoint *c, int i);
const struct tensor *checkpoint_tensor(const struct checkpoint *c, const char *name); /* NULL: not there */
/* The configuration: from GGUF metadata, or config.json and generation_config.json, checked against the embedding's rows
 * where there are tensors. */
int checkpoint_config(const struct checkpoint *c, struct model_config *out, struct err *e);

#endif
