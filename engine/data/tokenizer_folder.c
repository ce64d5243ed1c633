/* tokenizer_folder.c - the tokenizer files of a model's folder, as the Hugging Face hub has them. */
#include "base/mem.h"
#include "tokenizer_json.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 128 << 20 };
struct folder {
    const char *path;
    char label[640];                  /* of the file that is read, for error texts */
    json_t *config, *special, *added; /* tokenizer_config, special_tokens_map, added_tokens; NULL: not there */
    struct token_extra *extra;
    int extras;
    struct err *e;
};
/* Reads a file of the folder whole. *found: it is there; what is not there is no error. */
static int read_file(const struct folder *f, const char *name, struct buf *out, bool *found) {
    struct buf path;
    struct stat st;
    char part[1 << 14];
    buf_init(&path, 4096);
    buf_init(out, FILE_MAX);
    buf_printf(&path, "%s/%s", f->path, name);
    const bool named = !path.failed;
    *found = named && !stat(buf_text(&path), &st) && S_ISREG(st.st_mode);
    FILE *file = *found ? fopen(buf_text(&path), "rb") : NULL;
    buf_fini(&path);
    if (!named) return err_set(f->e, STATUS_NOMEM, "%s: no memory for its path, or it is too long", name);
    if (!*found) return 0;
    if (!file) return err_set(f->e, STATUS_IO, "%s/%s: %s", f->path, name, strerror(errno));
    for (size_t n; (n = fread(part, 1, sizeof part, file)) && !buf_add(out, part, n);) continue;
    const bool failed = ferror(file);
    fclose(file);
    if (failed) return err_set(f->e, STATUS_IO, "%s/%s: cannot be read", f->path, name);
    if (!out->failed) return 0;
    return st.st_size > FILE_MAX
               ? err_set(f->e, STATUS_FORMAT, "%s/%s: larger than %d MiB", f->path, name, FILE_MAX >> 20)
               : tokenizer_no_memory(f->e);
}
static const char *label_of(struct folder *f, const char *name) {
    snprintf(f->label, sizeof f->label, "%s/%s", f->path, name);
    return f->label;
}
static int read_json(struct folder *f, const char *name, json_t **out) {
    struct buf b;
    bool found;
    int rc = read_file(f, name, &b, &found);
    if (!rc && found && !(*out = tokenizer_json_parse(buf_text(&b), b.n, label_of(f, name), f->e)))
        rc = f->e ? f->e->code : STATUS_FORMAT;
    buf_fini(&b);
    return rc;
}

/* Is it one of the special tokens of special_tokens_map.json, by itself or in a list? */
static bool is_special(const struct folder *f, const char *text) {
    const char *key;
    json_t *v, *item;
    size_t i;
    json_object_foreach(f->special, key, v) {
        const char *one = tokenizer_json_content(f->special, key);
        if (one && !strcmp(one, text)) return true;
        json_array_foreach(v, i, item) {
            const json_t *part = json_is_object(item) ? json_object_get(item, "content") : item;
            if (json_is_string(part) && !strcmp(json_string_value(part), text)) return true;
        }
    }
    return false;
}
static struct token_extra described(const char *id, const json_t *v) {
    static const struct {
        const char *key;
        unsigned flag;
    } flags[] = { { "special", ADDED_CONTROL },
                  { "lstrip", ADDED_LSTRIP },
                  { "rstrip", ADDED_RSTRIP },
                  { "single_word", ADDED_WORD } };
    const json_t *text = json_object_get(v, "content");
    struct token_extra x = { .p = json_string_value(text), .n = json_string_length(text), .id = -1 };
    for (int k = 0; k < 4; k++) x.flags |= json_is_true(json_object_get(v, flags[k].key)) ? flags[k].flag : 0;
    long number = 0;
    int digits = 0;
    for (; id[digits] >= '0' && id[digits] <= '9' && digits < 8; digits++) number = number * 10 + id[digits] - '0';
    if (digits && !id[digits] && number < TOKENS_MAX) x.id = (int)number;
    return x;
}
/* Tokens beside a tokenizer.model: "added_tokens_decoder" of tokenizer_config.json, else added_tokens.json. */
static int find_extras(struct folder *f) {
    json_t *decoder = json_object_get(f->config, "added_tokens_decoder"), *v;
    const size_t most = json_object_size(decoder) + json_object_size(f->added);
    const char *key;
    if (most > TOKENS_MAX) return err_set(f->e, STATUS_FORMAT, "%s: too many added tokens", f->path);
    if (most && !(f->extra = mem_zero(most, sizeof *f->extra))) return tokenizer_no_memory(f->e);
    json_object_foreach(decoder, key, v) {
        const struct token_extra x = described(key, v);
        if (!x.p || !x.n || x.id < 0)
            return err_set(f->e, STATUS_FORMAT, "tokenizer_config.json: added token %.20s has no id or no content",
                           key);
        f->extra[f->extras++] = x;
    }
    json_object_foreach(decoder ? NULL : f->added, key, v) {
        const json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id >= TOKENS_MAX || !*key)
            return err_set(f->e, STATUS_FORMAT, "added_tokens.json: token '%.40s' has no id below %d", key, TOKENS_MAX);
        f->extra[f->extras++] =
            (struct token_extra){ key, strlen(key), (int)id, is_special(f, key) ? ADDED_CONTROL : 0 };
    }
    return 0;
}
static int find_token(const struct folder *f, const struct tokenizer *t, const char *key) {
    const char *text = tokenizer_json_content(f->config, key);
    if (!text) text = tokenizer_json_content(f->special, key);
    return text ? tokenizer_find(t, text) : -1;
}
/* A text, or a list of named ones, of which "default" counts. */
static const json_t *config_template(const struct folder *f) {
    const json_t *v = json_object_get(f->config, "chat_template"), *found = NULL;
    json_t *item;
    size_t i;
    if (json_is_string(v)) return v;
    json_array_foreach(v, i, item) {
        const json_t *text = json_object_get(item, "template");
        const bool chosen = !found || !strcmp(tokenizer_json_text(item, "name"), "default");
        if (json_is_string(text) && chosen) found = text;
    }
    return found;
}
static int load_template(const struct folder *f, struct tokenizer *t) {
    struct buf b;
    bool found;
    int rc = read_file(f, "chat_template.jinja", &b, &found);
    const json_t *text = found ? NULL : config_template(f);
    if (!rc && found) {
        t->chat_template_n = b.n;
        t->chat_template = mem_copy(buf_text(&b), b.n);
    } else if (!rc && text) {
        t->chat_template_n = json_string_length(text);
        t->chat_template = mem_copy(json_string_value(text), t->chat_template_n);
    }
    if (!rc && (found || text) && !t->chat_template) rc = tokenizer_no_memory(f->e);
    buf_fini(&b);
    return rc;
}
/* What tokenizer_config.json says outweighs the tokenizer's own file, as in transformers. */
static int apply_config(const struct folder *f, struct tokenizer *t) {
    const json_t *adds_bos = json_object_get(f->config, "add_bos_token");
    const int bos = find_token(f, t, "bos_token"), eos = find_token(f, t, "eos_token");
    if (json_is_true(adds_bos) && bos >= 0) t->bos = bos;
    if (json_is_false(adds_bos)) t->bos = -1;
    if (eos >= 0) t->eos = eos;
    return load_template(f, t);
}
static int load(struct folder *f, struct tokenizer **t) {
    struct buf b;
    bool found;
    int rc = read_json(f, "tokenizer_config.json", &f->config);
    if (!rc) rc = read_json(f, "special_tokens_map.json", &f->special);
    if (rc) return rc;
    rc = read_file(f, "tokenizer.json", &b, &found);
    if (!rc && found) rc = tokenizer_from_json(t, buf_text(&b), b.n, label_of(f, "tokenizer.json"), f->e);
    buf_fini(&b);
    if (rc || found) return rc;
    rc = read_file(f, "tokenizer.model", &b, &found);
    if (!rc && !found)
        rc = err_set(f->e, STATUS_NOTFOUND, "%s: holds no tokenizer.json and no tokenizer.model; fetch one of them",
                     f->path);
    if (!rc) rc = read_json(f, "added_tokens.json", &f->added);
    if (!rc) rc = find_extras(f);
    if (!rc) rc = tokenizer_read_model(t, buf_text(&b), b.n, f->extra, f->extras, label_of(f, "tokenizer.model"), f->e);
    buf_fini(&b);
    return rc;
}
int tokenizer_from_folder(struct tokenizer **out, const char *folder, struct err *e) {
    struct folder f = { .path = folder, .e = e };
    struct tokenizer *t = NULL;
    *out = NULL;
    int rc = load(&f, &t);
    if (!rc) rc = apply_config(&f, t);
    json_decref(f.config);
    json_decref(f.special);
    json_decref(f.added);
    mem_free(f.extra);
    if (rc) tokenizer_close(t), t = NULL;
    *out = t;
    return rc;
}
