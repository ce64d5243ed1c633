#include "tape.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "channel.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char ENDING[] = ".jsonl";
struct record {
    struct record *next;
    uint64_t number;
    size_t bytes;
    json_t *value;
};
struct tape {
    pthread_mutex_t lock;
    struct record *first, **end;
    uint64_t last;
    size_t bytes;
    char path[1024]; /* "": no file, or it is given up */
    char *head;
    int64_t born_us;
    int fd;
    size_t written;
};

/* ---- the file ---- */
static void give_up(struct tape *t, const char *why) {
    log_at(LOG_WARN, "job: %.200s: %s; its output is kept in memory only", t->path, why);
    t->path[0] = 0;
}
static void put(struct tape *t, const char *text) {
    struct buf line;
    if (t->fd < 0 || !text) return;
    buf_init(&line, 2 * TAPE_FILE_BYTES);
    buf_printf(&line, "%s\n", text);
    const bool fits = !line.failed && t->written + line.n <= TAPE_FILE_BYTES;
    if (!fits) t->written = TAPE_FILE_BYTES; /* from here on nothing but the end: a file has no gaps */
    const ssize_t n = fits ? write(t->fd, line.p, line.n) : 0;
    if (n > 0) t->written += (size_t)n;
    if (fits && n != (ssize_t)line.n) {
        give_up(t, n < 0 ? strerror(errno) : "the disk is full");
        close(t->fd);
        t->fd = -1;
    }
    buf_fini(&line);
}
static void put_record(struct tape *t, const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT);
    put(t, text);
    mem_free(text);
}
static void remove_oldest(const char *dir) {
    json_t *files = tape_files(dir);
    char path[1300];
    for (size_t i = TAPE_FILES - 1; i < json_array_size(files); i++) {
        snprintf(path, sizeof path, "%s/%s%s", dir, json_string_value(json_array_get(files, i)), ENDING);
        unlink(path);
    }
    json_decref(files);
}
/* Locked. Begins the file with what the ring holds. */
static void begin_file(struct tape *t) {
    if (!t->path[0] || t->fd >= 0) return;
    char dir[sizeof t->path];
    snprintf(dir, sizeof dir, "%s", t->path);
    for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(dir, 0700);
        *slash = '/';
    }
    *strrchr(dir, '/') = 0;
    remove_oldest(dir);
    t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (t->fd < 0) {
        give_up(t, strerror(errno));
        return;
    }
    put(t, t->head);
    for (const struct record *r = t->first; r; r = r->next) put_record(t, r->value);
}

/* ---- life ---- */
struct tape *tape_open(const char *dir, const char *name, const json_t *head, bool at_once) {
    struct tape *t = mem_zero(1, sizeof *t);
    if (!t) return NULL;
    pthread_mutex_init(&t->lock, NULL);
    t->end = &t->first;
    t->fd = -1;
    t->born_us = clock_us();
    t->head = json_dumps(head, JSON_COMPACT);
    const int n = dir ? snprintf(t->path, sizeof t->path, "%s/%s%s", dir, name, ENDING) : 0;
    if (!t->head || n >= (int)sizeof t->path) t->path[0] = 0;
    if (at_once) begin_file(t);
    return t;
}
static void drop_first(struct tape *t) {
    struct record *r = t->first;
    t->first = r->next;
    if (!t->first) t->end = &t->first;
    t->bytes -= r->bytes;
    json_decref(r->value);
    mem_free(r);
}
void tape_close(struct tape *t) {
    if (!t) return;
    while (t->first) drop_first(t);
    if (t->fd >= 0) close(t->fd);
    mem_free(t->head);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

/* ---- records ---- */
static size_t size_of(const json_t *content) {
    char *text = json_dumps(content, JSON_COMPACT);
    const size_t n = text ? strlen(text) : 0;
    mem_free(text);
    return n + sizeof(struct record);
}
void tape_add(struct tape *t, const char *type, const json_t *content) {
    struct record *r = mem_zero(1, sizeof *r);
    json_t *copy = json_deep_copy(content);
    json_t *data = json_object_get(copy, "data");
    json_object_del(data, "application/vnd.jupyter.widget-view+json"); /* a widget ends with its cell */
    if (r) r->value = json_pack("{s:s, s:o}", "type", type, "content", copy);
    if (!r || !r->value) {
        mem_free(r);
        return;
    }
    r->bytes = size_of(r->value);
    pthread_mutex_lock(&t->lock);
    r->number = ++t->last;
    *t->end = r;
    t->end = &r->next;
    t->bytes += r->bytes;
    if (t->fd >= 0)
        put_record(t, r->value);
    else if (clock_us() - t->born_us > TAPE_PATIENCE_MS * 1000)
        begin_file(t);
    while (t->bytes > TAPE_RING_BYTES && t->first != r) drop_first(t);
    pthread_mutex_unlock(&t->lock);
}
void tape_end(struct tape *t, const char *state) {
    json_t *end = json_pack("{s:s, s:f}", "end", state, "seconds", (double)(clock_us() - t->born_us) * 1e-6);
    pthread_mutex_lock(&t->lock);
    t->written = t->written < TAPE_FILE_BYTES / 2 ? t->written : 0; /* the end is always written */
    if (end) put_record(t, end);
    if (t->fd >= 0) close(t->fd);
    t->fd = -1;
    t->path[0] = 0;
    pthread_mutex_unlock(&t->lock);
    json_decref(end);
}
json_t *tape_next(struct tape *t, uint64_t *at, uint64_t *lost) {
    json_t *value = NULL;
    pthread_mutex_lock(&t->lock);
    struct record *r = t->first;
    while (r && r->number <= *at) r = r->next;
    if (r) {
        *lost += r->number - *at - 1;
        *at = r->number;
        value = json_deep_copy(r->value);
    }
    pthread_mutex_unlock(&t->lock);
    return value;
}

/* ---- files of earlier kernels ---- */
static int newest_first(const void *a, const void *b) { return -strcmp(*(char *const *)a, *(char *const *)b); }
json_t *tape_files(const char *dir) {
    json_t *all = json_array();
    DIR *d = opendir(dir);
    char **name = NULL;
    size_t n = 0;
    for (const struct dirent *item; d && (item = readdir(d));) {
        const size_t len = strlen(item->d_name), end = sizeof ENDING - 1;
        char **grown =
            len > end && !strcmp(item->d_name + len - end, ENDING) ? mem_grow(name, n + 1, sizeof *name) : NULL;
        if (grown) {
            name = grown;
            name[n] = mem_copy(item->d_name, len - end);
            n += name[n] != NULL;
        }
    }
    if (d) closedir(d);
    if (n) qsort(name, n, sizeof *name, newest_first);
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(all, json_string(name[i]));
        mem_free(name[i]);
    }
    mem_free(name);
    return all;
}
json_t *tape_load(const char *dir, const char *name, struct err *e) {
    char path[1300], *line = NULL;
    size_t cap = 0;
    snprintf(path, sizeof path, "%s/%s%s", dir, name, ENDING);
    FILE *f = strchr(name, '/') ? NULL : fopen(path, "re");
    if (!f) {
        err_set(e, STATUS_NOTFOUND, "no output is kept of job %.80s; %%jobs --all lists what there is", name);
        return NULL;
    }
    json_t *all = json_array();
    for (ssize_t n; (n = getline(&line, &cap, f)) > 0;)
        if (line[n - 1] == '\n') json_array_append_new(all, json_loadb(line, (size_t)n, 0, NULL));
    free(line);
    fclose(f);
    return all;
}
