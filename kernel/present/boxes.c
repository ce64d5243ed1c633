#include "boxes.h"
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

struct reader {
    const char *at, *end;
};
static bool have(struct reader *r, const char *word) {
    const size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) return false;
    r->at += n;
    return true;
}
static void skip(struct reader *r) {
    for (;;) {
        if (r->at < r->end && isspace((unsigned char)*r->at)) {
            r->at++;
        } else if (!have(r, "<unk>")) {
            return;
        }
    }
}
/* "<12>" */
static bool number(struct reader *r, double *v) {
    struct reader in = *r;
    skip(&in);
    if (!have(&in, "<")) return false;
    skip(&in);
    const bool minus = have(&in, "-");
    int digits = 0;
    for (*v = 0; in.at < in.end && isdigit((unsigned char)*in.at); in.at++, digits++)
        if (digits < 6) *v = *v * 10 + (*in.at - '0');
    skip(&in);
    if (!digits || !have(&in, ">")) return false;
    if (minus) *v = -*v;
    *r = in;
    return true;
}
static void order(double *a, double *b) {
    double low = *a < *b ? *a : *b, high = *a < *b ? *b : *a;
    *a = low < 0 ? 0 : low;
    *b = high > BOX_SCALE ? BOX_SCALE : high;
}
/* "{<1><2><3><4>}"; without area it is none. */
static bool corners(struct reader *r, struct box *b) {
    struct reader in = *r;
    if (!have(&in, "{") || !number(&in, &b->x1) || !number(&in, &b->y1) || !number(&in, &b->x2) || !number(&in, &b->y2))
        return false;
    skip(&in);
    have(&in, "}");
    *r = in;
    order(&b->x1, &b->x2);
    order(&b->y1, &b->y2);
    return b->x1 < b->x2 && b->y1 < b->y2;
}
/* One box and those joined to it by <delim>; they share a number when they have a phrase. */
static void add_all(struct boxes *out, struct reader *r, const char *phrase, size_t len) {
    int shared = 0;
    for (;;) {
        const char *before = r->at;
        struct box b = { .phrase = phrase, .len = len };
        const bool good = corners(r, &b);
        if (r->at == before) return;
        if (good && out->n < BOXES_MAX) {
            b.number = phrase && shared ? shared : ++out->numbers;
            shared = b.number;
            out->box[out->n++] = b;
        }
        skip(r);
        while (have(r, "<delim>")) skip(r);
    }
}
static bool comes(const struct reader *r, const char *word) { return have(&(struct reader){ r->at, r->end }, word); }
/* Behind "<p>": up to "</p>", or to the box where that is missing. */
static void phrase(struct boxes *out, struct reader *r) {
    const char *start = r->at, *end;
    while (r->at < r->end && *r->at != '{' && !comes(r, "</p>") && !comes(r, "<p>")) r->at++;
    end = r->at;
    have(r, "</p>");
    skip(r);
    while (start < end && isspace((unsigned char)*start)) start++;
    while (start < end && isspace((unsigned char)end[-1])) end--;
    add_all(out, r, start < end ? start : NULL, (size_t)(end - start));
}
/* Four numbers and no more, without braces: a single box, as the authors read it. */
static void bare(struct boxes *out, const char *text, size_t n) {
    struct reader r = { text, text + n };
    double v[4], more;
    int found = 0;
    while (r.at < r.end) {
        if (!number(&r, found < 4 ? &v[found] : &more)) {
            r.at++;
        } else if (++found > 4) {
            return;
        }
    }
    if (found != 4) return;
    struct box b = { .x1 = v[0], .y1 = v[1], .x2 = v[2], .y2 = v[3], .number = 1 };
    order(&b.x1, &b.x2);
    order(&b.y1, &b.y2);
    if (b.x1 < b.x2 && b.y1 < b.y2) out->box[out->n++] = b, out->numbers = 1;
}
void boxes_find(struct boxes *out, const char *text, size_t n) {
    struct reader r = { text, text + n };
    out->n = out->numbers = 0;
    while (r.at < r.end) {
        if (have(&r, "<p>")) {
            phrase(out, &r);
        } else if (*r.at == '{') {
            const char *before = r.at;
            add_all(out, &r, NULL, 0);
            if (r.at == before) r.at++;
        } else {
            r.at++;
        }
    }
    if (!out->n && !memchr(text, '{', n)) bare(out, text, n);
}
