/* checkpoint_read.h - private to checkpoint*.c: an opened checkpoint. */
#ifndef JAEDA_DATA_CHECKPOINT_READ_H
#define JAEDA_DATA_CHECKPOINT_READ_H
#include "checkpoint.h"
#include "safetensors.h"
#include "strmap.h"
#include "torch.h"

enum { CHECKPOINT_PATH = 1024, CHECKPOINT_FILES_MAX = 1024, CHECKPOINT_CONFIG_MAX = 1 << 20 };
struct checkpoint {
    enum checkpoint_kind kind;
    char *path, *folder; /* folder: where config.json lies; HF only */
    struct gguf *gguf;
    struct checkpoint_file *file;
    struct tensor_list *part; /* one a file; HF only */
    int files, tensors;
    struct tensor *tensor;
    struct strmap names;
};
/* Opens what a folder holds into c, whose folder is set. On failure c is left for checkpoint_close. */
int checkpoint_read_folder(struct checkpoint *c, struct err *e);
/* Makes room for n files; opens file i and reads its header; gathers the tensors of all files. */
int checkpoint_room(struct checkpoint *c, int n, struct err *e);
int checkpoint_read_file(struct checkpoint *c, int i, const char *path, struct err *e);
int checkpoint_gather(struct checkpoint *c, struct err *e);
bool checkpoint_is_torch(const char *path); /* by its ending */
bool checkpoint_is_shard(const char *path); /* "...-00001-of-00003.safetensors" */
int checkpoint_no_memory(const struct checkpoint *c, struct err *e);

#endif
