#include "catalog.h"
#include "base/buf.h"
#include "base/mem.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct catalog_entry entries[] = {
    {
        .name = "smollm2-135m",
        .aliases = "smollm2 SmolLM2-135M-Instruct HuggingFaceTB/SmolLM2-135M-Instruct",
        .file = "SmolLM2-135M-Instruct.Q4_1.gguf",
        .template_name = "chatml",
        .system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
        .get = "./notebooks/run --get-model",
        .about = "SmolLM2 135M Instruct, Q4_1: small, English, Apache-2.0; the default model",
    },
};
enum { ENTRIES = sizeof entries / sizeof *entries, WORD = 64, FILES_MAX = 4096 };

int catalog_count(void) { return ENTRIES; }
const struct catalog_entry *catalog_at(int i) { return i >= 0 && i < ENTRIES ? &entries[i] : NULL; }

/* Length of a file name without ".gguf"; 0: it has another ending. */
static size_t stem(const char *file) {
    const size_t n = strlen(file);
    return n > 5 && !strcasecmp(file + n - 5, ".gguf") ? n - 5 : 0;
}
/* The k-th name of an entry: its name, its file's, then for each alias the alias and what follows its last '/'. */
static bool entry_word(const struct catalog_entry *entry, int k, char word[WORD]) {
    if (!k--) return snprintf(word, WORD, "%s", entry->name), true;
    if (!k--) return snprintf(word, WORD, "%.*s", (int)stem(entry->file), entry->file), true;
    const char *at = entry->aliases ? entry->aliases : "";
    for (at += strspn(at, " "); *at; at += strspn(at, " ")) {
        const size_t n = strcspn(at, " ");
        const char *tail = memrchr(at, '/', n);
        if (!k--) return snprintf(word, WORD, "%.*s", (int)n, at), true;
        if (tail && !k--) return snprintf(word, WORD, "%.*s", (int)(at + n - tail - 1), tail + 1), true;
        at += n;
    }
    return false;
}
/* Edits (insert, drop, change) that make a of b, any case. */
static int distance(const char *a, const char *b) {
    int row[WORD];
    int n = 0;
    while (b[n] && n < WORD - 1) n++;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1] && i < WORD; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            const int same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            const int above = row[j], change = diagonal + !same;
            const int shift = 1 + (above < row[j - 1] ? above : row[j - 1]);
            row[j] = change < shift ? change : shift;
            diagonal = above;
        }
    }
    return row[n];
}
struct nearest {
    const char *name;
    char best[WORD];
    int edits;
};
static void consider(struct nearest *near, const char *word) {
    const int edits = distance(near->name, word);
    if (edits >= near->edits) return;
    near->edits = edits;
    snprintf(near->best, sizeof near->best, "%s", word);
}
static struct nearest nearest_start(const char *name) {
    const size_t n = strlen(name);
    return (struct nearest){ .name = name, .edits = n < 6 ? 3 : (int)(n < WORD ? n : WORD) / 2 };
}
static void unknown(const struct nearest *near, struct err *e) {
    if (near->best[0]) {
        err_set(e, STATUS_NOTFOUND, "no model '%.60s'; did you mean %s? %%models lists all", near->name, near->best);
    } else {
        err_set(e, STATUS_NOTFOUND, "no model '%.60s'; give the path of a .gguf file, or see %%models", near->name);
    }
}
static const struct catalog_entry *find_exact(const struct catalog_entry *table, int n, const char *name) {
    char word[WORD];
    for (int i = 0; i < n; i++)
        for (int k = 0; entry_word(&table[i], k, word); k++)
            if (!strcasecmp(word, name)) return &table[i];
    return NULL;
}
static bool entry_starts(const struct catalog_entry *entry, const char *name) {
    char word[WORD];
    for (int k = 0; entry_word(entry, k, word); k++)
        if (!strncasecmp(word, name, strlen(name))) return true;
    return false;
}
/* How many entries start with name; *found is the last, names lists them. */
static int find_prefix(const struct catalog_entry *table, int n, const char *name, const struct catalog_entry **found,
                       struct buf *names) {
    int matches = 0;
    for (int i = 0; i < n; i++) {
        if (!entry_starts(&table[i], name)) continue;
        buf_printf(names, "%s%s", matches++ ? ", " : "", table[i].name);
        *found = &table[i];
    }
    return matches;
}
const struct catalog_entry *catalog_find_in(const struct catalog_entry *table, int n, const char *name, struct err *e) {
    if (!*name) return err_set(e, STATUS_INVALID, "give a model's name or the path of a .gguf file"), NULL;
    const struct catalog_entry *found = find_exact(table, n, name);
    if (found) return found;
    struct buf names;
    buf_init(&names, 200);
    const int matches = find_prefix(table, n, name, &found, &names);
    if (matches > 1) err_set(e, STATUS_INVALID, "'%.60s' may mean %s; write more of it", name, buf_text(&names));
    buf_fini(&names);
    if (matches) return matches == 1 ? found : NULL;
    struct nearest near = nearest_start(name);
    char word[WORD];
    for (int i = 0; i < n; i++)
        for (int k = 0; entry_word(&table[i], k, word); k++) consider(&near, word);
    unknown(&near, e);
    return NULL;
}
const struct catalog_entry *catalog_find(const char *name, struct err *e) {
    return catalog_find_in(entries, ENTRIES, name, e);
}

static bool home(char out[CATALOG_PATH]) {
    const char *h = getenv("HOME");
    char room[4096];
    struct passwd pw, *found = NULL;
    if ((!h || !*h) && !getpwuid_r(getuid(), &pw, room, sizeof room, &found) && found) h = pw.pw_dir;
    return h && *h && snprintf(out, CATALOG_PATH, "%s", h) < CATALOG_PATH;
}
/* p (n bytes) with a leading ~ or ~/ replaced; false: it does not fit. */
static bool expand(const char *p, size_t n, char out[CATALOG_PATH]) {
    char base[CATALOG_PATH] = "";
    const bool tilde = n && p[0] == '~' && (n == 1 || p[1] == '/');
    if (tilde && !home(base)) return false;
    if (tilde) p++, n--;
    return n < CATALOG_PATH && snprintf(out, CATALOG_PATH, "%s%.*s", base, (int)n, p) < CATALOG_PATH;
}
int catalog_folders(char out[CATALOG_FOLDERS][CATALOG_PATH]) {
    int n = 0;
    const char *list = getenv("JAEDA_MODELS"), *cache = getenv("XDG_CACHE_HOME");
    for (const char *at = list ? list : ""; *at && n < CATALOG_FOLDERS - 1; at += strspn(at, ":")) {
        const size_t len = strcspn(at, ":");
        if (len && expand(at, len, out[n])) n++;
        at += len;
    }
    char base[CATALOG_PATH];
    const bool absolute = cache && cache[0] == '/' && snprintf(base, sizeof base, "%s", cache) < CATALOG_PATH;
    if (!absolute && !expand("~/.cache", 8, base)) return n;
    if (snprintf(out[n], CATALOG_PATH, "%s/jaeda/models", base) < CATALOG_PATH) n++;
    return n;
}

static bool is_file(const char *path, uint64_t *bytes) {
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return false;
    if (bytes) *bytes = (uint64_t)st.st_size;
    return true;
}
static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
static const struct catalog_entry *entry_of_file(const char *path) {
    for (int i = 0; i < ENTRIES; i++)
        if (!strcmp(base_name(path), entries[i].file)) return &entries[i];
    return NULL;
}
struct listing {
    struct catalog_file *file;
    size_t n, cap;
};
static int list_file(struct listing *l, const char *folder, const char *name) {
    struct catalog_file f = { .entry = entry_of_file(name) };
    const size_t len = stem(name);
    if (!len || snprintf(f.path, sizeof f.path, "%s/%s", folder, name) >= CATALOG_PATH) return 0;
    if (!is_file(f.path, &f.bytes) || l->n >= FILES_MAX) return 0;
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(base_name(l->file[i].path), name)) return 0;
    if (f.entry) {
        snprintf(f.name, sizeof f.name, "%s", f.entry->name);
    } else {
        snprintf(f.name, sizeof f.name, "%.*s", (int)(len < sizeof f.name ? len : sizeof f.name - 1), name);
    }
    if (l->n == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : 8;
        struct catalog_file *grown = mem_grow(l->file, cap, sizeof *grown);
        if (!grown) return -1;
        l->file = grown;
        l->cap = cap;
    }
    l->file[l->n++] = f;
    return 0;
}
static int by_name(const void *a, const void *b) {
    const struct catalog_file *x = a, *y = b;
    const int order = strcasecmp(x->name, y->name);
    return order ? order : strcmp(x->path, y->path);
}
int catalog_files(struct catalog_file **out, struct err *e) {
    char folder[CATALOG_FOLDERS][CATALOG_PATH];
    struct listing l = { 0 };
    const int folders = catalog_folders(folder);
    int rc = 0;
    for (int i = 0; i < folders && !rc; i++) {
        DIR *d = opendir(folder[i]);
        for (struct dirent *at; d && !rc && (at = readdir(d));) rc = list_file(&l, folder[i], at->d_name);
        if (d) closedir(d);
    }
    if (rc) {
        mem_free(l.file);
        *out = NULL;
        return err_set(e, STATUS_NOMEM, "no memory to list the model folders");
    }
    if (l.n) qsort(l.file, l.n, sizeof *l.file, by_name);
    *out = l.file;
    return (int)l.n;
}

/* A listed file called name: by its whole stem, else by the name that catalog_files shows. */
static const struct catalog_file *pick(const struct catalog_file *file, int n, const char *name) {
    for (int i = 0; i < n; i++) {
        const char *base = base_name(file[i].path);
        if (strlen(name) == stem(base) && !strncasecmp(name, base, stem(base))) return &file[i];
    }
    for (int i = 0; i < n; i++)
        if (!strcasecmp(name, file[i].name)) return &file[i];
    return NULL;
}
static int not_here(const struct catalog_entry *entry, struct err *e) {
    char folder[CATALOG_FOLDERS][CATALOG_PATH];
    const int n = catalog_folders(folder);
    return err_set(e, STATUS_NOTFOUND, "%s is not on this disk (looked for %s in %.100s%s); get it with: %s",
                   entry->name, entry->file, n ? folder[n - 1] : "no folder", n > 1 ? " and $JAEDA_MODELS" : "",
                   entry->get);
}
static int resolve_name(const char *name, const struct catalog_file *file, int files, char path[CATALOG_PATH],
                        const struct catalog_entry **entry, struct err *e) {
    const struct catalog_entry *exact = find_exact(entries, ENTRIES, name);
    const struct catalog_file *found = exact ? NULL : pick(file, files, name);
    if (!found) {
        const struct catalog_entry *wanted = exact;
        struct err why = { 0 };
        if (!wanted) wanted = catalog_find(name, &why);
        if (!wanted) {
            struct nearest near = nearest_start(name);
            for (int i = 0; i < files && why.code == STATUS_NOTFOUND; i++) consider(&near, file[i].name);
            if (near.best[0]) return unknown(&near, e), STATUS_NOTFOUND;
            return err_set(e, why.code, "%s", why.text);
        }
        for (int i = 0; i < files && !found; i++)
            if (file[i].entry == wanted) found = &file[i];
        if (!found) return not_here(wanted, e);
    }
    snprintf(path, CATALOG_PATH, "%s", found->path);
    *entry = found->entry;
    return 0;
}
int catalog_resolve(const char *name, char path[CATALOG_PATH], const struct catalog_entry **entry, struct err *e) {
    *entry = NULL;
    if (!*name) return err_set(e, STATUS_INVALID, "give a model's name or the path of a .gguf file");
    if (!expand(name, strlen(name), path)) return err_set(e, STATUS_INVALID, "'%.60s...': the path is too long", name);
    errno = 0;
    if (is_file(path, NULL)) {
        *entry = entry_of_file(path);
        return 0;
    }
    const int why = errno;
    const bool pathlike = strchr("/~.", name[0]) || stem(name);
    if (pathlike && !(why == ENOENT && stem(name) && !strchr(name, '/'))) {
        struct stat st;
        if (!stat(path, &st)) return err_set(e, STATUS_INVALID, "'%.120s' is no regular file; give a .gguf file", name);
        return err_set(e, STATUS_NOTFOUND, "'%.120s': %s; see %%models for the models here", name, strerror(why));
    }
    struct catalog_file *file;
    const int files = catalog_files(&file, e);
    if (files < 0) return files;
    char bare[CATALOG_PATH];
    snprintf(bare, sizeof bare, "%.*s", (int)(stem(name) ? stem(name) : strlen(name)), name);
    const int rc = resolve_name(bare, file, files, path, entry, e);
    mem_free(file);
    return rc;
}
