/* Which files of a folder in the Hugging Face layout hold the weights. */
#include "base/mem.h"
#include "checkpoint_read.h"
#include "hub.h"
#include "json_text.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { INDEX_MAX = 64 << 20, NAME_MAX_BYTES = 255 };
/* The two kinds of weight files, in the order in which they are taken. */
static const char *const single_name[] = { "model.safetensors", "pytorch_model.bin" };
static const char *const index_name[] = { "model.safetensors.index.json", "pytorch_model.bin.index.json" };
enum { KINDS = 2 };

/* What stands in the folder, by kind; a name of each kind for error texts. */
struct seen {
    char safetensors[NAME_MAX_BYTES + 1], torch[NAME_MAX_BYTES + 1], gguf[NAME_MAX_BYTES + 1];
    bool single[KINDS], index[KINDS], config;
};
static bool ends(const char *s, const char *end) {
    const size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcasecmp(s + n - k, end);
}
static void note(char *kind, const char *name) {
    if (!kind[0] || strcmp(name, kind) < 0) snprintf(kind, NAME_MAX_BYTES + 1, "%s", name);
}
static int look(const struct checkpoint *c, struct seen *s, struct err *e) {
    DIR *d = opendir(c->folder);
    *s = (struct seen){ 0 };
    if (!d) return err_set(e, STATUS_IO, "%s: cannot be read", json_text_label(c->path));
    for (struct dirent *at; (at = readdir(d));) {
        const char *name = at->d_name;
        for (int k = 0; k < KINDS; k++) {
            s->single[k] |= !strcmp(name, single_name[k]);
            s->index[k] |= !strcmp(name, index_name[k]);
        }
        s->config |= !strcmp(name, "config.json");
        if (ends(name, ".safetensors")) note(s->safetensors, name);
        if (ends(name, ".gguf")) note(s->gguf, name);
        if ((!strncmp(name, "pytorch_model", 13) && ends(name, ".bin")) || ends(name, ".pth")) note(s->torch, name);
    }
    closedir(d);
    return 0;
}
static int join(const struct checkpoint *c, const char *name, char path[CHECKPOINT_PATH], struct err *e) {
    if (snprintf(path, CHECKPOINT_PATH, "%s/%s", c->folder, name) < CHECKPOINT_PATH) return 0;
    return err_set(e, STATUS_INVALID, "%s: the path is too long", json_text_label(c->path));
}
/* The repository that the folder is a copy of, for a command; a stand-in where that is not known. */
static const char *repo_of(const struct checkpoint *c, char out[HUB_REPO]) {
    if (!hub_repo_of_path(c->path, out)) snprintf(out, HUB_REPO, "REPOSITORY");
    return out;
}
/* A file name that an index may give: of this folder, and printable. */
static bool plain_name(const char *s) {
    const size_t n = strlen(s);
    if (!n || n > NAME_MAX_BYTES || s[0] == '.' || strchr(s, '/') || strchr(s, '\\')) return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == 127) return false;
    return true;
}
static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The different files that weight_map names, sorted, into list (room for all its entries). How many, or a status. */
static int shards(const json_t *map, const char *label, const char **list, struct err *e) {
    const char *tensor;
    json_t *file;
    size_t n = 0, kept = 0;
    json_object_foreach((json_t *)map, tensor, file) {
        if (!json_is_string(file) || !plain_name(json_string_value(file)))
            return err_set(e, STATUS_FORMAT,
                           "%s: maps tensor '%.60s' to something that is no file of this folder; download it again",
                           json_text_label(label), tensor);
        list[n++] = json_string_value(file);
    }
    if (n) qsort(list, n, sizeof *list, by_text);
    for (size_t i = 0; i < n; i++)
        if (!kept || strcmp(list[i], list[kept - 1])) list[kept++] = list[i];
    if (!kept || kept > CHECKPOINT_FILES_MAX)
        return err_set(e, STATUS_FORMAT, "%s: names %zu files (1 to %d are allowed); download it again",
                       json_text_label(label), kept, CHECKPOINT_FILES_MAX);
    return (int)kept;
}
static int missing(const struct checkpoint *c, const char *name, const char *label, struct err *e) {
    char repo[HUB_REPO];
    return err_set(e, STATUS_NOTFOUND,
                   "%s: shard '%.100s' is missing; get it with: hf download %s --include \"%.100s\"",
                   json_text_label(label), name, repo_of(c, repo), name);
}
static int read_shards(struct checkpoint *c, const char **list, int n, const char *label, struct err *e) {
    char path[CHECKPOINT_PATH];
    struct stat st;
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) { /* all names before any header: a download that is not done says so at once */
        rc = join(c, list[i], path, e);
        if (!rc && stat(path, &st)) rc = missing(c, list[i], label, e);
    }
    if (!rc) rc = checkpoint_room(c, n, e);
    for (int i = 0; i < n && !rc; i++) {
        rc = join(c, list[i], path, e);
        if (!rc) rc = checkpoint_read_file(c, i, path, e);
    }
    return rc ? rc : checkpoint_gather(c, e);
}
/* Every tensor that the index maps must be in the file that it names. */
static int check_map(const struct checkpoint *c, const json_t *map, const char *label, struct err *e) {
    const char *name;
    json_t *file;
    json_object_foreach((json_t *)map, name, file) {
        const struct tensor *t = checkpoint_tensor(c, name);
        const char *path = t ? c->file[t->file].path : "", *slash = strrchr(path, '/');
        if (!t || strcmp(slash ? slash + 1 : path, json_string_value(file)))
            return err_set(e, STATUS_FORMAT,
                           "%s: says that tensor '%.80s' is in '%.100s', which lacks it; download both again",
                           json_text_label(label), name, json_string_value(file));
    }
    return 0;
}
static int open_index(struct checkpoint *c, const char *index, struct err *e) {
    char path[CHECKPOINT_PATH];
    json_t *root = NULL;
    const char **list = NULL;
    int rc = join(c, index, path, e), n = 0;
    if (!rc) rc = json_text_file(&root, path, INDEX_MAX, e);
    const json_t *map = json_object_get(root, "weight_map");
    if (!rc && !json_is_object(map))
        rc = err_set(e, STATUS_FORMAT, "%s: has no weight_map; download it again", json_text_label(path));
    if (!rc && !(list = mem_alloc(json_object_size(map) * sizeof *list))) rc = checkpoint_no_memory(c, e);
    if (!rc) rc = n = shards(map, path, list, e);
    if (n > 0) rc = read_shards(c, list, n, path, e);
    if (!rc) rc = check_map(c, map, path, e);
    mem_free(list);
    json_decref(root);
    return rc;
}
static int open_single(struct checkpoint *c, const char *name, struct err *e) {
    char path[CHECKPOINT_PATH];
    int rc = join(c, name, path, e);
    if (!rc) rc = checkpoint_room(c, 1, e);
    if (!rc) rc = checkpoint_read_file(c, 0, path, e);
    return rc ? rc : checkpoint_gather(c, e);
}
/* Weights under another name, which may be all there is, or shards without the index that lists them. */
static int not_whole(const struct checkpoint *c, const char *name, int kind, struct err *e) {
    char repo[HUB_REPO];
    return err_set(e, STATUS_NOTFOUND, "%s: has %.80s but neither %s nor %s; %sget the rest with: hf download %s",
                   json_text_label(c->path), name, single_name[kind], index_name[kind],
                   checkpoint_is_shard(name) ? "" : "give that file's path, or ", repo_of(c, repo));
}
int checkpoint_read_folder(struct checkpoint *c, struct err *e) {
    struct seen s;
    const int rc = look(c, &s, e);
    if (rc) return rc;
    const char *label = json_text_label(c->path);
    for (int k = 0; k < KINDS; k++) {
        if (s.single[k]) return open_single(c, single_name[k], e);
        if (s.index[k]) return open_index(c, index_name[k], e);
    }
    if (s.safetensors[0]) return not_whole(c, s.safetensors, 0, e);
    if (s.torch[0]) return not_whole(c, s.torch, 1, e);
    if (s.config) return 0;
    if (s.gguf[0]) return err_set(e, STATUS_INVALID, "%s: is a folder; give a file in it: %.100s", label, s.gguf);
    return err_set(e, STATUS_NOTFOUND, "%s: holds no model (no config.json, no *.safetensors, no *.gguf)", label);
}
