/* From what a person typed to the files of a MiniGPT-4. */
#include "catalog_list.h"
#include "home.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* Where LAVIS keeps the files that MiniGPT-4 takes from BLIP-2 (its configs/models/blip2). */
#define LAVIS "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/"
enum part_kind { PART_VIT, PART_QFORMER, PART_PROJECTOR, PART_KINDS };
static const struct {
    const char *what, *option, *mark; /* mark: in the name of such a file, whoever named it */
} kinds[PART_KINDS] = { { "image encoder", "--vit", "eva_vit" },
                        { "Q-Former", "--qformer", "blip2" },
                        { "projector", "--projector", "minigpt" } };
struct search {
    const char *name, *revision;
    const struct catalog_given *given;
    bool all;
    struct catalog_parts *out;
    struct err *e;
    char folder[CATALOG_PATH]; /* that the name is, or of the entry's name in a model folder; "": none */
};

static bool is_folder(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}
static bool is_file(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}
static bool join(char out[CATALOG_PATH], const char *folder, const char *name) {
    char path[CATALOG_PATH];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= CATALOG_PATH) return false;
    memcpy(out, path, sizeof path);
    return true;
}
static bool holds_config(const char *folder) {
    char path[CATALOG_PATH];
    return join(path, folder, "config.json") && is_file(path);
}
static char *part_of(struct catalog_parts *p, int kind) {
    return kind == PART_VIT ? p->vit : kind == PART_QFORMER ? p->qformer : p->projector;
}
static const char *given_of(const struct catalog_given *g, int kind) {
    const char *const named[PART_KINDS] = { g->vit, g->qformer, g->projector };
    return named[kind] && *named[kind] ? named[kind] : NULL;
}
static const char *file_of(const struct catalog_entry *entry, int kind) {
    if (!entry) return NULL;
    return kind == PART_VIT ? entry->vit : kind == PART_QFORMER ? entry->qformer : entry->projector;
}
/* Whether a file's name says that it is such a part: "eva_vit_g.safetensors". */
static bool looks_like(const char *name, int kind) {
    static const char *const endings[] = { ".pth", ".pt", ".bin", ".safetensors" };
    const size_t n = strlen(name);
    bool weights = false;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const size_t k = strlen(endings[i]);
        weights |= n > k && !strcasecmp(name + n - k, endings[i]);
    }
    return weights && strcasestr(name, kinds[kind].mark);
}
/* The only file of a folder that looks like the part; how many do. */
static int find_alike(const char *folder, int kind, char out[CATALOG_PATH]) {
    char path[CATALOG_PATH];
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *at; d && (at = readdir(d));) {
        if (!looks_like(at->d_name, kind) || !join(path, folder, at->d_name) || !is_file(path)) continue;
        if (!n++) memcpy(out, path, sizeof path);
    }
    if (d) closedir(d);
    if (n != 1) out[0] = 0;
    return n;
}
/* By the name that its authors gave the file; in a folder of this model's own also by what it looks like. */
static bool find_part(const struct search *s, const char *folder, bool own, int kind) {
    const char *file = file_of(s->out->entry, kind);
    char *out = part_of(s->out, kind);
    if (*out) return true;
    if (file && join(out, folder, file) && is_file(out)) return true;
    *out = 0;
    return own && find_alike(folder, kind, out) == 1;
}
static void find_parts(const struct search *s, const char *folder, bool own) {
    const struct catalog_entry *entry = s->out->entry;
    for (int kind = 0; kind < PART_KINDS; kind++)
        if (kind != PART_QFORMER || !entry || entry->qformer) find_part(s, folder, own, kind);
}
static bool folder_of(char out[CATALOG_PATH], const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return snprintf(out, CATALOG_PATH, "."), true;
    return snprintf(out, CATALOG_PATH, "%.*s", slash == path ? 1 : (int)(slash - path), path) < CATALOG_PATH;
}

/* The entry whose projector has this file's name. */
static const struct catalog_entry *entry_of_projector(const char *path) {
    int n;
    const struct catalog_entry *table = catalog_table(&n);
    for (int i = 0; i < n; i++)
        if (table[i].vision && !strcasecmp(table[i].projector, catalog_base_name(path))) return &table[i];
    return NULL;
}
static const struct catalog_entry *entry_called(const char *name) {
    int n;
    const struct catalog_entry *table = catalog_table(&n), *entry = catalog_exact(table, n, name);
    return entry && entry->vision ? entry : NULL;
}
/* Of a folder: by its own name, or by which projector it holds. */
static const struct catalog_entry *entry_of_folder(const char *folder) {
    int n;
    char path[CATALOG_PATH];
    const struct catalog_entry *table = catalog_table(&n), *entry = entry_called(catalog_base_name(folder));
    for (int i = 0; i < n && !entry; i++)
        if (table[i].vision && join(path, folder, table[i].projector) && is_file(path)) entry = &table[i];
    return entry;
}

/* What the user named has to be there. */
static int take_given(const struct search *s) {
    char shown[80];
    for (int kind = 0; kind < PART_KINDS; kind++) {
        const char *named = given_of(s->given, kind);
        char *out = part_of(s->out, kind);
        struct stat st;
        if (!named) continue;
        if (!home_expand(named, strlen(named), out, CATALOG_PATH))
            return err_set(s->e, STATUS_INVALID, "%s '%s...': the path is too long", kinds[kind].option,
                           catalog_shown(named, shown));
        if (stat(out, &st))
            return err_set(s->e, STATUS_NOTFOUND, "%s '%s': %s", kinds[kind].option, catalog_shown(named, shown),
                           strerror(errno));
        if (!S_ISREG(st.st_mode))
            return err_set(s->e, STATUS_INVALID, "%s '%s' is no file; give the checkpoint's path", kinds[kind].option,
                           catalog_shown(named, shown));
    }
    return 0;
}
/* A folder's language model: the folder itself, or the only sub-folder that is one (the catalogue's name goes first). */
static int llm_inside(const struct search *s, const char *folder) {
    struct catalog_parts *out = s->out;
    char path[CATALOG_PATH], shown[80];
    int n = 0;
    if (*out->llm) return 0;
    if (holds_config(folder)) return snprintf(out->llm, CATALOG_PATH, "%s", folder), 0;
    if (out->entry && join(path, folder, out->entry->llm) && holds_config(path)) n = 1;
    if (n) return memcpy(out->llm, path, sizeof path), 0;
    DIR *d = opendir(folder);
    for (struct dirent *at; d && (at = readdir(d));) {
        if (at->d_name[0] == '.' || !join(path, folder, at->d_name) || !holds_config(path)) continue;
        if (!n++) memcpy(out->llm, path, sizeof path);
    }
    if (d) closedir(d);
    if (n < 2) return 0;
    out->llm[0] = 0;
    return err_set(s->e, STATUS_INVALID, "%s holds %d language models; say which with --llm PATH",
                   catalog_shown(folder, shown), n);
}
static int resolve_llm(const struct search *s, const char *name) {
    struct err why = { 0 };
    struct catalog_parts *out = s->out;
    const int rc = catalog_resolve(name, s->revision, out->llm, &out->llm_entry, &why);
    if (!rc) return 0;
    out->llm[0] = 0;
    if (rc == STATUS_NOTFOUND && !s->all && out->llm_entry) return 0; /* known, and not needed */
    return err_set(s->e, rc, "language model (--llm): %s", why.text);
}
static int find_llm(const struct search *s, const char *named) {
    struct catalog_parts *out = s->out;
    char shown[80];
    int n;
    const struct catalog_entry *table = catalog_table(&n);
    if (named) return resolve_llm(s, named);
    const int rc = *s->folder ? llm_inside(s, s->folder) : 0;
    if (rc) return rc;
    if (*out->llm) {
        const struct catalog_entry *entry = catalog_exact(table, n, catalog_base_name(out->llm));
        out->llm_entry = entry && !entry->vision ? entry : NULL;
        return 0;
    }
    if (out->entry) return resolve_llm(s, out->entry->llm);
    return s->all ? err_set(s->e, STATUS_NOTFOUND, "%s: no language model in or below it; say which with --llm NAME",
                            catalog_shown(s->name, shown))
                  : 0;
}
/* The model folder's sub-folder with the entry's name or an alias. */
static bool own_folder(const struct catalog_entry *entry, const char *model_folder, char out[CATALOG_PATH]) {
    char word[CATALOG_WORD];
    for (int k = 0; catalog_word(entry, k, word); k++)
        if (join(out, model_folder, word) && is_folder(out)) return true;
    return false;
}
/* In the folder that was named, beside what was named, in the model folders' folder of that name, in themselves. */
static void look_around(struct search *s) {
    char model[CATALOG_FOLDERS][CATALOG_PATH], beside[CATALOG_PATH], own[CATALOG_PATH];
    const int models = catalog_folders(model);
    if (*s->folder) find_parts(s, s->folder, true);
    for (int kind = 0; kind < PART_KINDS; kind++)
        if (given_of(s->given, kind) && folder_of(beside, part_of(s->out, kind))) find_parts(s, beside, true);
    if (!s->out->entry && *s->out->projector) s->out->entry = entry_of_projector(s->out->projector);
    if (!s->out->entry) return;
    for (int i = 0; i < models; i++) {
        if (!own_folder(s->out->entry, model[i], own)) continue;
        if (!*s->folder) memcpy(s->folder, own, sizeof own);
        find_parts(s, own, true);
    }
    for (int i = 0; i < models; i++) find_parts(s, model[i], false);
}
/* The command that fetches a part: of the projector the last of the entry's, which fetches it alone. */
static void command_of(const struct catalog_entry *entry, int kind, char *out, size_t room) {
    const char *last = strrchr(entry->get, ';');
    if (kind != PART_PROJECTOR) {
        snprintf(out, room, "curl -LO " LAVIS "%s", file_of(entry, kind));
    } else {
        snprintf(out, room, "%s", last ? last + 1 + strspn(last + 1, " ") : entry->get);
    }
}
static int check_all(const struct search *s) {
    const struct catalog_entry *entry = s->out->entry;
    char model[CATALOG_FOLDERS][CATALOG_PATH], get[200], shown[80];
    for (int kind = 0; kind < PART_KINDS; kind++) {
        if (*part_of(s->out, kind) || (kind == PART_QFORMER && (!entry || !entry->qformer))) continue;
        const char *name = catalog_shown(entry ? entry->name : s->name, shown), *option = kinds[kind].option;
        if (!entry)
            return err_set(s->e, STATUS_NOTFOUND, "%s: its %s is not to be found; give its file: %s PATH", name,
                           kinds[kind].what, option);
        command_of(entry, kind, get, sizeof get);
        return err_set(s->e, STATUS_NOTFOUND, "%s: no %s (%s); %s PATH, or in %.60s: %s", name, kinds[kind].what,
                       file_of(entry, kind), option, catalog_folders(model) ? model[0] : "a model folder", get);
    }
    return 0;
}
/* What the name is: an entry, a folder that holds parts, or a language model's with parts given. false: none of it. */
static bool identify(struct search *s) {
    const bool given = given_of(s->given, PART_VIT) || given_of(s->given, PART_PROJECTOR);
    const struct catalog_entry *entry = entry_called(s->name);
    char path[CATALOG_PATH], part[CATALOG_PATH];
    struct err ignored = { 0 };
    const bool folder = home_expand(s->name, strlen(s->name), path, CATALOG_PATH) && is_folder(path);
    for (size_t n = strlen(path); folder && n > 1 && path[n - 1] == '/';) path[--n] = 0;
    if (folder && find_alike(path, PART_VIT, part) + find_alike(path, PART_PROJECTOR, part) > 0) {
        memcpy(s->folder, path, sizeof path);
        s->out->entry = entry_of_folder(path);
        return true;
    }
    if (!entry && !folder) { /* the start of a name */
        catalog_resolve(s->name, s->revision, path, &entry, &ignored);
        if (entry && !entry->vision) entry = NULL;
    }
    s->out->entry = entry;
    return entry || given;
}
int catalog_parts(const char *name, const char *revision, const struct catalog_given *given, bool all,
                  struct catalog_parts *out, struct err *e) {
    static const struct catalog_given nothing;
    struct search s = {
        .name = name, .revision = revision, .given = given ? given : &nothing, .all = all, .out = out, .e = e
    };
    char shown[80];
    *out = (struct catalog_parts){ 0 };
    if (!*name || !identify(&s)) return 0; /* catalog_resolve says what is wrong with "" */
    const char *llm = s.given->llm && *s.given->llm ? s.given->llm : NULL;
    if (!out->entry && !*s.folder) { /* a language model's name, and the parts that make it see */
        if (llm)
            return err_set(e, STATUS_INVALID, "which language model, '%s' or --llm '%.60s'? name one of them",
                           catalog_shown(name, shown), llm);
        llm = name;
    }
    int rc = take_given(&s);
    if (!rc) look_around(&s);
    if (!rc && all) rc = check_all(&s);
    if (!rc) rc = find_llm(&s, llm);
    return rc ? rc : 1;
}
