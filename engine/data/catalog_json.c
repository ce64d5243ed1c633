/* catalog.json -> entries: one block of memory holds them and every text they point to. */
#include "base/mem.h"
#include "catalog_list.h"
#include "config_read.h"
#include "json_text.h"
#include <stdio.h>
#include <string.h>

enum { ENTRIES_MAX = 1000, FETCH = 160, LABEL = 64 };
/* Texts grow upwards in the block, behind the entries. They were part of the JSON, so that its length is room enough,
 * but for the fetch commands, which have FETCH bytes an entry beside the repository's name. */
struct pool {
    char *at;
    const char *entry; /* name of the entry, for errors */
    struct err *e;
};
static int wrong(const struct pool *p, const char *key, const char *why) {
    return err_set(p->e, STATUS_FORMAT, "catalogue: '%.60s': %s %s", p->entry, key, why);
}
static const char *keep(struct pool *p, const char *text, size_t n) {
    char *s = memcpy(p->at, text, n);
    s[n] = 0;
    p->at += n + 1;
    return s;
}
static int read_text(struct pool *p, const json_t *o, const char *key, const char **out) {
    const json_t *v = json_object_get(o, key);
    *out = NULL;
    if (!v) return 0;
    if (!json_is_string(v)) return wrong(p, key, "is no text");
    *out = keep(p, json_string_value(v), json_string_length(v));
    return 0;
}
static int read_stops(struct pool *p, const json_t *o, struct catalog_entry *entry) {
    const json_t *texts = json_object_get(o, "stop"), *ids = json_object_get(o, "stop_ids");
    if ((texts && !json_is_array(texts)) || json_array_size(texts) > CATALOG_STOPS)
        return wrong(p, "stop", "is no list of at most 4 texts");
    if ((ids && !json_is_array(ids)) || json_array_size(ids) > CATALOG_STOPS)
        return wrong(p, "stop_ids", "is no list of at most 4 ids");
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *v = json_array_get(texts, i);
        if (!json_string_length(v)) return wrong(p, "stop", "holds something that is no text");
        entry->stop[i] = keep(p, json_string_value(v), json_string_length(v));
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *v = json_array_get(ids, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= entry->config.vocab)
            return wrong(p, "stop_ids", "holds something that is no token id");
        entry->stop_id[entry->stop_ids++] = (int)json_integer_value(v);
    }
    return 0;
}
/* What its authors do not say is off. */
static int read_sampling(struct pool *p, const json_t *o, struct catalog_sampling *s) {
    const json_t *v = json_object_get(o, "sampling"), *top_k = json_object_get(v, "top_k");
    const json_t *most = json_object_get(v, "max_new_tokens");
    const struct {
        const char *key;
        float *to, otherwise;
    } numbers[] = { { "temperature", &s->temperature, 0 },
                    { "top_p", &s->top_p, 1 },
                    { "repetition_penalty", &s->repetition_penalty, 1 } };
    if (v && !json_is_object(v)) return wrong(p, "sampling", "is no object");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && v; i++) {
        const json_t *x = json_object_get(v, numbers[i].key);
        const double value = x ? json_number_value(x) : (double)numbers[i].otherwise;
        if ((x && !json_is_number(x)) || !(value >= 0 && value <= 100))
            return wrong(p, numbers[i].key, "is no number from 0 to 100");
        *numbers[i].to = (float)value;
    }
    if ((top_k && !json_is_integer(top_k)) || (most && !json_is_integer(most)))
        return wrong(p, "top_k or max_new_tokens", "is no whole number");
    s->top_k = (int)json_integer_value(top_k);
    s->max_new_tokens = (int)json_integer_value(most);
    if (s->top_k < 0 || s->max_new_tokens < 0) return wrong(p, "top_k or max_new_tokens", "is below 0");
    return 0;
}
static int read_vision(struct pool *p, const json_t *o, struct catalog_entry *entry) {
    const json_t *v = json_object_get(o, "vision");
    if (!v) return 0;
    const struct {
        const char *key, **to;
    } texts[] = { { "variant", &entry->vision },
                  { "llm", &entry->llm },
                  { "vit", &entry->vit },
                  { "qformer", &entry->qformer },
                  { "projector", &entry->projector } };
    int rc = json_is_object(v) ? 0 : wrong(p, "vision", "is no object");
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !rc; i++) rc = read_text(p, v, texts[i].key, texts[i].to);
    if (!rc && (!entry->vision || !entry->llm || !entry->vit || !entry->projector))
        rc = wrong(p, "variant, llm, vit or projector", "is missing");
    return rc;
}
static int read_entry(struct pool *p, const json_t *o, struct catalog_entry *entry) {
    char label[LABEL];
    p->entry = "an entry";
    if (!json_is_object(o)) return wrong(p, "it", "is no object");
    int rc = read_text(p, o, "name", &entry->name);
    if (!rc && (!entry->name || !*entry->name)) rc = wrong(p, "name", "is missing");
    if (rc) return rc;
    p->entry = entry->name;
    const struct {
        const char *key, **to;
    } texts[] = {
        { "aliases", &entry->aliases }, { "repo", &entry->repo },
        { "file", &entry->file },       { "template", &entry->template_name },
        { "system", &entry->system },   { "get", &entry->get },
        { "gated", &entry->gated },     { "about", &entry->about },
        { "weights", &entry->weights },
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !rc; i++) rc = read_text(p, o, texts[i].key, texts[i].to);
    if (rc) return rc;
    if (!entry->aliases) entry->aliases = "";
    if (!entry->template_name || !entry->about) return wrong(p, "template or about", "is missing");
    if (!entry->get && entry->repo) {
        char get[FETCH + 100];
        const int n = catalog_fetch(entry->repo, entry, NULL, get, sizeof get);
        if (n < 0 || (size_t)n >= sizeof get) return wrong(p, "repo", "is too long");
        entry->get = keep(p, get, (size_t)n);
    }
    if (!entry->get) return wrong(p, "get or repo", "is missing");
    snprintf(label, sizeof label, "catalogue: %.40s", entry->name);
    rc = config_from_object(&entry->config, json_object_get(o, "config"), label, p->e);
    if (rc) return rc;
    snprintf(entry->config.name, sizeof entry->config.name, "%s", entry->name);
    const char *licence = json_string_value(json_object_get(o, "licence"));
    snprintf(entry->config.license, sizeof entry->config.license, "%s", licence ? licence : "");
    rc = read_stops(p, o, entry);
    if (!rc) rc = read_sampling(p, o, &entry->sampling);
    return rc ? rc : read_vision(p, o, entry);
}
static int read_all(struct catalog_entry **out, const json_t *list, size_t n, struct err *e) {
    const size_t count = json_array_size(list);
    if (!json_is_array(list) || count > ENTRIES_MAX)
        return err_set(e, STATUS_FORMAT, "catalogue: 'models' is no list of at most %d entries", ENTRIES_MAX);
    struct catalog_entry *table = mem_zero(1, count * (sizeof *table + FETCH) + 2 * n + 1);
    if (!table) return err_set(e, STATUS_NOMEM, "no memory for the catalogue");
    struct pool p = { .at = (char *)(table + count), .e = e };
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++) rc = read_entry(&p, json_array_get(list, i), &table[i]);
    if (rc) {
        mem_free(table);
        return rc;
    }
    *out = table;
    return (int)count;
}
int catalog_parse(struct catalog_entry **out, const char *json, size_t n, struct err *e) {
    json_t *root;
    *out = NULL;
    int rc = json_text_parse(&root, json, n, "catalogue", e);
    if (!rc) rc = read_all(out, json_object_get(root, "models"), n, e);
    json_decref(root);
    return rc;
}
