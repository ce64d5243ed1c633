#include "base/mem.h"
#include "checkpoint_read.h"
#include "json_text.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static bool ends(const char *s, const char *end) {
    const size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcasecmp(s + n - k, end);
}
bool checkpoint_is_torch(const char *path) {
    return ends(path, ".bin") || ends(path, ".pt") || ends(path, ".pth") || ends(path, ".ckpt");
}
void tensor_list_fini(struct tensor_list *s) {
    mem_free(s->tensor);
    mem_free(s->names);
    *s = (struct tensor_list){ 0 };
}
int checkpoint_no_memory(const struct checkpoint *c, struct err *e) {
    return err_set(e, STATUS_NOMEM, "%s: no memory for the headers; close other programs", json_text_label(c->path));
}
int checkpoint_room(struct checkpoint *c, int n, struct err *e) {
    c->file = mem_zero((size_t)n, sizeof *c->file);
    c->part = mem_zero((size_t)n, sizeof *c->part);
    if (!c->file || !c->part) return checkpoint_no_memory(c, e);
    c->files = n;
    for (int i = 0; i < n; i++) c->file[i].fd = -1;
    return 0;
}
int checkpoint_read_file(struct checkpoint *c, int i, const char *path, struct err *e) {
    struct checkpoint_file *f = &c->file[i];
    if (!(f->path = mem_string(path))) return checkpoint_no_memory(c, e);
    struct err why = { 0 };
    f->fd = json_text_open(path, &f->bytes, &why);
    if (f->fd < 0) return err_set(e, why.code, "%s", why.text);
    return (checkpoint_is_torch(path) ? torch_read : safetensors_read)(&c->part[i], f->fd, f->bytes, path, e);
}
/* c->tensor and c->names from what the files hold; a name in two files is an error. */
int checkpoint_gather(struct checkpoint *c, struct err *e) {
    size_t n = 0;
    for (int i = 0; i < c->files; i++) n += (size_t)c->part[i].tensors;
    c->tensor = mem_zero(n, sizeof *c->tensor);
    if (!c->tensor || strmap_init(&c->names, n)) return checkpoint_no_memory(c, e);
    for (int i = 0; i < c->files; i++) {
        for (int k = 0; k < c->part[i].tensors; k++) {
            struct tensor *t = &c->tensor[c->tensors];
            *t = c->part[i].tensor[k];
            t->file = i;
            const int twice = strmap_add(&c->names, t->name, strlen(t->name), c->tensors);
            if (twice >= 0)
                return err_set(e, STATUS_FORMAT, "tensor '%.80s' is in %.80s and in %.80s; download the folder again",
                               t->name, json_text_label(c->file[c->tensor[twice].file].path),
                               json_text_label(c->file[i].path));
            c->tensors++;
        }
    }
    return 0;
}

static int open_gguf(struct checkpoint *c, struct err *e) {
    int rc = gguf_open(&c->gguf, c->path, e);
    if (rc) return rc;
    int64_t parts;
    if (gguf_int(c->gguf, "split.count", &parts) && parts > 1)
        return err_set(e, STATUS_INVALID, "%s: is one part of a split GGUF, which is not read; merge the parts first",
                       json_text_label(c->path));
    const int n = gguf_tensors(c->gguf);
    rc = checkpoint_room(c, 1, e);
    if (rc) return rc;
    c->file[0] = (struct checkpoint_file){ mem_string(c->path), gguf_fd(c->gguf), gguf_file_bytes(c->gguf) };
    c->tensor = mem_zero((size_t)n, sizeof *c->tensor);
    if (!c->file[0].path || !c->tensor || strmap_init(&c->names, (size_t)n)) return checkpoint_no_memory(c, e);
    for (int i = 0; i < n; i++) {
        const struct gguf_tensor *from = gguf_tensor_at(c->gguf, i);
        const struct dtype_info *info = dtype_info(from->dt);
        struct tensor *t = &c->tensor[c->tensors++];
        *t = (struct tensor){ .name = from->name, .dt = from->dt, .dims = from->dims, .offset = from->offset };
        t->bytes = from->bytes;
        memcpy(t->dim, from->dim, sizeof t->dim);
        if (info) snprintf(t->dt_name, sizeof t->dt_name, "%s", info->name);
        if (!info) snprintf(t->dt_name, sizeof t->dt_name, "type %d", from->dt % 100000);
        strmap_add(&c->names, t->name, strlen(t->name), i);
    }
    return 0;
}
static int open_single(struct checkpoint *c, struct err *e) {
    int rc = checkpoint_room(c, 1, e);
    if (!rc) rc = checkpoint_read_file(c, 0, c->path, e);
    return rc ? rc : checkpoint_gather(c, e);
}
bool checkpoint_is_shard(const char *path) {
    const char *slash = strrchr(path, '/'), *of = strstr(slash ? slash : path, "-of-");
    return of && of > path && isdigit((unsigned char)of[-1]) && strtol(of + 4, NULL, 10) > 1;
}
static int open_any(struct checkpoint *c, struct err *e) {
    struct stat st;
    if (stat(c->path, &st))
        return err_set(e, errno == ENOENT ? STATUS_NOTFOUND : STATUS_IO, "%s: %s", json_text_label(c->path),
                       strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        if (!(c->folder = mem_string(c->path))) return checkpoint_no_memory(c, e);
        return checkpoint_read_folder(c, e);
    }
    if (ends(c->path, ".safetensors") || checkpoint_is_torch(c->path)) {
        const char *slash = strrchr(c->path, '/');
        c->folder = slash ? mem_copy(c->path, slash == c->path ? 1 : (size_t)(slash - c->path)) : mem_string(".");
        if (c->folder && checkpoint_is_shard(c->path))
            return err_set(e, STATUS_INVALID, "%s: is one shard of several; give the folder that holds them all: %s",
                           json_text_label(c->path), json_text_label(c->folder));
        return c->folder ? open_single(c, e) : checkpoint_no_memory(c, e);
    }
    c->kind = CHECKPOINT_GGUF;
    return open_gguf(c, e);
}
int checkpoint_open(struct checkpoint **out, const char *path, struct err *e) {
    *out = NULL;
    struct checkpoint *c = mem_zero(1, sizeof *c);
    if (!c || !(c->path = mem_string(path))) {
        mem_free(c);
        return err_set(e, STATUS_NOMEM, "%s: no memory", json_text_label(path));
    }
    c->kind = CHECKPOINT_HF;
    const int rc = open_any(c, e);
    if (rc) {
        checkpoint_close(c);
        return rc;
    }
    *out = c;
    return 0;
}
void checkpoint_close(struct checkpoint *c) {
    if (!c) return;
    for (int i = 0; i < c->files; i++) {
        if (c->kind == CHECKPOINT_HF && c->file[i].fd >= 0) close(c->file[i].fd);
        tensor_list_fini(&c->part[i]);
        mem_free((char *)c->file[i].path);
    }
    gguf_close(c->gguf);
    strmap_fini(&c->names);
    mem_free(c->file);
    mem_free(c->part);
    mem_free(c->tensor);
    mem_free(c->folder);
    mem_free(c->path);
    mem_free(c);
}
enum checkpoint_kind checkpoint_kind(const struct checkpoint *c) { return c->kind; }
const char *checkpoint_path(const struct checkpoint *c) { return c->path; }
const char *checkpoint_folder(const struct checkpoint *c) { return c->folder; }
const char *checkpoint_format(const struct checkpoint *c) {
    if (c->gguf) return "GGUF";
    return c->files && checkpoint_is_torch(c->file[0].path) ? "torch" : "safetensors";
}
const struct gguf *checkpoint_gguf(const struct checkpoint *c) { return c->gguf; }
int checkpoint_files(const struct checkpoint *c) { return c->files; }
const struct checkpoint_file *checkpoint_file(const struct checkpoint *c, int i) {
    return i >= 0 && i < c->files ? &c->file[i] : NULL;
}
uint64_t checkpoint_bytes(const struct checkpoint *c) {
    uint64_t sum = 0;
    for (int i = 0; i < c->files; i++) sum += c->file[i].bytes;
    return sum;
}
int checkpoint_tensors(const struct checkpoint *c) { return c->tensors; }
const struct tensor *checkpoint_tensor_at(const struct checkpoint *c, int i) {
    return i >= 0 && i < c->tensors ? &c->tensor[i] : NULL;
}
const struct tensor *checkpoint_tensor(const struct checkpoint *c, const char *name) {
    const int i = strmap_get(&c->names, name, strlen(name));
    return i < 0 ? NULL : &c->tensor[i];
}

/* The text of folder/name; NOTFOUND: there is none. */
static int read_beside(const struct checkpoint *c, const char *name, char path[CHECKPOINT_PATH], char **text, size_t *n,
                       struct err *e) {
    *text = NULL;
    if (snprintf(path, CHECKPOINT_PATH, "%s/%s", c->folder, name) >= CHECKPOINT_PATH)
        return err_set(e, STATUS_INVALID, "%s: the path is too long", json_text_label(c->folder));
    return json_text_read(text, n, path, CHECKPOINT_CONFIG_MAX, e);
}
/* The rows of the embedding are the vocabulary: 30,003 rows of KoAlpaca-12.8B where the others of its family have 30,080. */
static int check_embedding(const struct checkpoint *c, const struct model_config *out, const char *label,
                           struct err *e) {
    static const char *const names[] = { "gpt_neox.embed_in.weight", "model.embed_tokens.weight" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct tensor *t = checkpoint_tensor(c, names[i]);
        if (!t) continue;
        if (t->dims == 2 && t->dim[0] == (uint64_t)out->hidden && t->dim[1] == (uint64_t)out->vocab) return 0;
        return err_set(
            e, STATUS_FORMAT,
            "%s: vocab_size %d and hidden_size %d, but tensor '%s' is [%llu, %llu]: these files do not belong "
            "together; download the folder again",
            json_text_label(label), out->vocab, out->hidden, names[i], (unsigned long long)t->dim[1],
            (unsigned long long)t->dim[0]);
    }
    return 0;
}
int checkpoint_config(const struct checkpoint *c, struct model_config *out, struct err *e) {
    if (c->gguf) return config_from_gguf(out, c->gguf, e);
    char path[CHECKPOINT_PATH], extra[CHECKPOINT_PATH], *text;
    size_t n = 0;
    struct err why = { 0 };
    int rc = read_beside(c, "config.json", path, &text, &n, &why);
    if (rc == STATUS_NOTFOUND)
        return err_set(e, rc, "%s: no config.json there, which says what the tensors mean; download it too",
                       json_text_label(c->folder));
    if (rc) return err_set(e, rc, "%s", why.text);
    rc = config_from_json(out, text, n, path, e);
    mem_free(text);
    if (!rc) rc = check_embedding(c, out, path, e);
    if (rc) return rc;
    rc = read_beside(c, "generation_config.json", extra, &text, &n, &why);
    if (!rc)
        rc = config_add_generation(out, text, n, extra, e);
    else if (rc == STATUS_NOTFOUND)
        rc = 0;
    else
        err_set(e, rc, "%s", why.text);
    mem_free(text);
    return rc;
}
