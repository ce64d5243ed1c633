#include "catalog.h"
#include "base/buf.h"
#include "base/mem.h"
#include "catalog_list.h"
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

extern const char catalog_json[]; /* engine/data/catalog.json, made into an array by the build */
extern const size_t catalog_json_bytes;

/* Read once, at the first use; kept to the end. A use that finds no memory sees an empty table, the next one tries again. */
const struct catalog_entry *catalog_table(int *n) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct catalog_entry *table;
    static int count;
    pthread_mutex_lock(&lock);
    if (!table) {
        count = catalog_parse(&table, catalog_json, catalog_json_bytes, NULL);
        if (count < 0) count = 0;
    }
    *n = count;
    pthread_mutex_unlock(&lock);
    return table;
}
int catalog_count(void) {
    int n;
    catalog_table(&n);
    return n;
}
const struct catalog_entry *catalog_at(int i) {
    int n;
    const struct catalog_entry *table = catalog_table(&n);
    return i >= 0 && i < n ? &table[i] : NULL;
}
int catalog_fetch(const char *repo, const struct catalog_entry *entry, const char *revision, char *out, size_t room) {
    const char *weights = entry && entry->weights ? entry->weights : "*.safetensors";
    /* Patterns before the options: hf 0.36 takes none behind them, hf 2 only one behind an --include (both tried). */
    return snprintf(out, room, "hf download %s \"*.json\" \"%s\" \"tokenizer.model\"%s%s", repo, weights,
                    revision ? " --revision " : "", revision ? revision : "");
}

size_t catalog_stem(const char *file) {
    const size_t n = strlen(file);
    return n > 5 && !strcasecmp(file + n - 5, ".gguf") ? n - 5 : 0;
}
const char *catalog_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
bool catalog_word(const struct catalog_entry *entry, int k, char word[CATALOG_WORD]) {
    const int stem = entry->file ? (int)catalog_stem(entry->file) : 0;
    if (!k--) return snprintf(word, CATALOG_WORD, "%s", entry->name), true;
    if (stem && !k--) return snprintf(word, CATALOG_WORD, "%.*s", stem, entry->file), true;
    const char *const lists[] = { entry->repo, entry->aliases };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const char *at = lists[i] ? lists[i] : "";
        for (at += strspn(at, " "); *at; at += strspn(at, " ")) {
            const size_t n = strcspn(at, " ");
            const char *tail = memrchr(at, '/', n);
            if (!k--) return snprintf(word, CATALOG_WORD, "%.*s", (int)n, at), true;
            if (tail && !k--) return snprintf(word, CATALOG_WORD, "%.*s", (int)(at + n - tail - 1), tail + 1), true;
            at += n;
        }
    }
    return false;
}
/* Edits (insert, drop, change) that make a of b, any case. */
static int distance(const char *a, const char *b) {
    int row[CATALOG_WORD];
    int n = 0;
    while (b[n] && n < CATALOG_WORD - 1) n++;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1] && i < CATALOG_WORD; i++) {
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
struct catalog_nearest catalog_nearest_start(const char *name) {
    const size_t n = strlen(name);
    return (struct catalog_nearest){ .name = name, .edits = n < 6 ? 3 : (int)(n < 64 ? n : 64) / 2 };
}
void catalog_consider(struct catalog_nearest *near, const char *word) {
    const int edits = distance(near->name, word);
    if (edits >= near->edits) return;
    near->edits = edits;
    snprintf(near->best, sizeof near->best, "%s", word);
}
void catalog_consider_all(struct catalog_nearest *near, const struct catalog_entry *table, int n) {
    char word[CATALOG_WORD];
    for (int i = 0; i < n; i++)
        for (int k = 0; catalog_word(&table[i], k, word); k++) catalog_consider(near, word);
}
const char *catalog_shown(const char *name, char out[80]) {
    size_t n = 0;
    for (; name[n] && n < 60; n++) out[n] = (unsigned char)name[n] < ' ' || name[n] == 127 ? '?' : name[n];
    while (n && name[n] && ((unsigned char)name[n] & 0xc0) == 0x80) n--; /* cut at a whole character */
    out[n] = 0;
    return out;
}
void catalog_unknown(const struct catalog_nearest *near, struct err *e) {
    char shown[80];
    catalog_shown(near->name, shown);
    if (near->best[0]) {
        err_set(e, STATUS_NOTFOUND, "no model '%s'; did you mean %s? %%models lists all", shown, near->best);
    } else {
        err_set(e, STATUS_NOTFOUND, "no model '%s'; give the path of a .gguf file or a folder, or see %%models", shown);
    }
}
const struct catalog_entry *catalog_exact(const struct catalog_entry *table, int n, const char *name) {
    char word[CATALOG_WORD];
    for (int i = 0; i < n; i++)
        for (int k = 0; catalog_word(&table[i], k, word); k++)
            if (!strcasecmp(word, name)) return &table[i];
    return NULL;
}
bool catalog_starts(const struct catalog_entry *entry, const char *name) {
    char word[CATALOG_WORD];
    for (int k = 0; catalog_word(entry, k, word); k++)
        if (!strncasecmp(word, name, strlen(name))) return true;
    return false;
}
const struct catalog_entry *catalog_find_in(const struct catalog_entry *table, int n, const char *name, struct err *e) {
    if (!*name) return err_set(e, STATUS_INVALID, "give a model's name or the path of a .gguf file or a folder"), NULL;
    const struct catalog_entry *found = catalog_exact(table, n, name);
    if (found) return found;
    struct buf names;
    char shown[80];
    int matches = 0;
    buf_init(&names, 200);
    for (int i = 0; i < n; i++) {
        if (!catalog_starts(&table[i], name)) continue;
        buf_printf(&names, "%s%s", matches++ ? ", " : "", table[i].name);
        found = &table[i];
    }
    if (matches > 1)
        err_set(e, STATUS_INVALID, "'%s' may mean %s; write more of it", catalog_shown(name, shown), buf_text(&names));
    buf_fini(&names);
    if (matches) return matches == 1 ? found : NULL;
    struct catalog_nearest near = catalog_nearest_start(name);
    catalog_consider_all(&near, table, n);
    catalog_unknown(&near, e);
    return NULL;
}
const struct catalog_entry *catalog_find(const char *name, struct err *e) {
    int n;
    const struct catalog_entry *table = catalog_table(&n);
    return catalog_find_in(table, n, name, e);
}
