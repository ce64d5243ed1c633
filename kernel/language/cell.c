#include "cell.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <ctype.h>
#include <string.h>

enum { LINE_MAX_BYTES = 1 << 20 };

struct reader {
    const char *start, *s, *end;
    int line;
    cell_known *known;
    const void *arg;
    struct cell *out;
    struct err *e;
};
struct span {
    const char *s;
    size_t n;
};

static size_t blank(const char *s, const char *end) {
    if (s == end) return 0;
    if (*s == ' ' || *s == '\t' || *s == '\f' || *s == '\v' || *s == '\r') return 1;
    uint32_t cp;
    const int len = utf8_decode(s, (size_t)(end - s), &cp);
    return len && (cp == 0xa0 || cp == 0x3000 || cp == 0xfeff || (cp >= 0x2000 && cp <= 0x200b)) ? (size_t)len : 0;
}
static struct span trim(const char *s, const char *end) {
    for (size_t n; (n = blank(s, end));) s += n;
    for (bool more = true; more && s < end;) {
        more = false;
        for (size_t n = 1; n <= 3 && (size_t)(end - s) >= n && !more; n++)
            if (blank(end - n, end) == n) end -= n, more = true;
    }
    return (struct span){ s, (size_t)(end - s) };
}
static const char *line_end(const char *s, const char *end) {
    const char *nl = memchr(s, '\n', (size_t)(end - s));
    return nl ? nl : end;
}
static bool letter(uint32_t cp) {
    static const uint32_t range[][2] = { { 0xc0, 0x24f },    { 0x370, 0x52f },    { 0x1100, 0x11ff },
                                         { 0x3040, 0x30ff }, { 0x3131, 0x318e },  { 0x4e00, 0x9fff },
                                         { 0xac00, 0xd7a3 }, { 0x10000, 0x1ffff } };
    if (cp < 0x80) return isalpha((int)cp) || cp == '_';
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (cp >= range[i][0] && cp <= range[i][1] && cp != 0xd7 && cp != 0xf7) return true;
    return false;
}
size_t cell_name_length(const char *s, size_t n) {
    size_t at = 0;
    uint32_t cp;
    for (int len; at < n && (len = utf8_decode(s + at, n - at, &cp)); at += (size_t)len)
        if (!letter(cp) && !(at && cp >= '0' && cp <= '9')) break;
    return at;
}
static bool word_at(struct span t, const char *word) {
    const size_t n = strlen(word);
    return t.n >= n && !memcmp(t.s, word, n) && (t.n == n || !cell_name_length(t.s + n, t.n - n));
}
static bool is_comment(struct span t) { return t.n && t.s[0] == '#' && (t.n == 1 || blank(t.s + 1, t.s + t.n)); }

static struct directive *add(struct reader *r, enum directive_kind kind, struct span name) {
    struct cell *c = r->out;
    if (c->n == c->cap) {
        const int cap = c->cap ? c->cap * 2 : 8;
        struct directive *v = mem_grow(c->v, (size_t)cap, sizeof *v);
        if (!v) goto nomem;
        c->v = v;
        c->cap = cap;
    }
    struct directive *d = &c->v[c->n];
    *d = (struct directive){ .kind = kind, .line = r->line };
    if (name.s && !(d->name = mem_copy(name.s, name.n))) goto nomem;
    c->n++;
    return d;
nomem:
    err_set(r->e, STATUS_NOMEM, "out of memory for a cell of %zu bytes", (size_t)(r->end - r->start));
    return NULL;
}
/* Takes the line at r->s and those that continue it, joined by a blank, trimmed; NULL: a NUL or no memory. */
static char *logical_line(struct reader *r) {
    struct buf b;
    buf_init(&b, LINE_MAX_BYTES);
    for (bool more = true; more;) {
        const char *end = line_end(r->s, r->end);
        struct span t = trim(r->s, end);
        size_t slashes = 0;
        while (slashes < t.n && t.s[t.n - 1 - slashes] == '\\') slashes++;
        more = slashes % 2 && end < r->end;
        if (b.n) buf_puts(&b, " ");
        buf_add(&b, t.s, t.n - more);
        if (memchr(t.s, 0, t.n)) {
            buf_fini(&b);
            err_set(r->e, STATUS_INVALID, "line %d holds a NUL byte", r->line);
            return NULL;
        }
        r->s = end < r->end ? end + 1 : end;
        r->line++;
    }
    char *line = buf_take(&b);
    if (!line) err_set(r->e, STATUS_INVALID, "a line longer than 1 MiB");
    buf_fini(&b);
    return line;
}

/* "%name", "%%name", "%name?", "?%name": s points behind the leading ?s. */
static int magic_line(struct reader *r, const char *text, int first) {
    const char *s = text;
    bool help = false;
    while (*s == '?') s++, help = true;
    size_t marks = 0;
    while (s[marks] == '%') marks++;
    s += marks;
    size_t n = strcspn(s, " \t");
    for (size_t i = 0; i < n; i++)
        if (blank(s + i, s + n)) n = i;
    struct span rest = trim(s + n, s + strlen(s));
    if (n && s[n - 1] == '?' && !rest.n) {
        help = true;
        while (n && s[n - 1] == '?') n--;
    }
    bool quiet = rest.n && rest.s[rest.n - 1] == ';';
    if (quiet) rest = trim(rest.s, rest.s + rest.n - 1);
    if (!rest.n && n && s[n - 1] == ';') n--, quiet = true;
    if (marks > 2 || !n)
        return err_set(
            r->e, STATUS_INVALID,
            "line %d: a magic's name follows %% or %%%% without a blank (%%lsmagic lists them; a prompt that "
            "starts with %% goes into a %%%%generate cell)",
            first - 1);
    struct directive *d = add(r, help ? DIRECTIVE_HELP : DIRECTIVE_MAGIC, (struct span){ s, n });
    if (!d) return r->e->code;
    d->line = first;
    d->cell = marks == 2;
    d->quiet = quiet;
    d->rest = mem_copy(rest.s, rest.n);
    if (!d->rest) return err_set(r->e, STATUS_NOMEM, "out of memory for a line");
    if (d->cell && !help) {
        d->body = r->s;
        d->body_len = (size_t)(r->end - r->s);
        r->s = r->end;
    }
    return 0;
}
static int command_line(struct reader *r) {
    const int first = r->line;
    char *text = logical_line(r);
    if (!text) return r->e->code;
    int rc = 0;
    if (*text != '!') {
        rc = magic_line(r, text, first);
    } else {
        const struct span t = trim(text + strspn(text, "!"), text + strlen(text));
        struct directive *d = NULL;
        if (!t.n) {
            rc = err_set(r->e, STATUS_INVALID, "line %d: a shell command is missing behind !", first);
        } else if (!(d = add(r, DIRECTIVE_SHELL, (struct span){ NULL, 0 })) || !(d->rest = mem_copy(t.s, t.n))) {
            rc = err_set(r->e, STATUS_NOMEM, "out of memory for a line");
        }
        if (d) d->line = first;
    }
    mem_free(text);
    return rc;
}

/* Behind a name: where the value of "= value" or ": type = value" starts; NULL: not an assignment. */
static const char *assigned(const char *s, const char *end) {
    static const char *const type[] = { "int",   "float", "str",  "bool",     "list", "dict",
                                        "tuple", "List",  "Dict", "Optional", "Any" };
    struct span t = trim(s, end);
    if (t.n && *t.s == ':') {
        bool known = false;
        t = trim(t.s + 1, end);
        for (size_t i = 0; i < sizeof type / sizeof *type; i++) known |= word_at(t, type[i]);
        const char *eq = t.n ? memchr(t.s, '=', t.n) : NULL;
        if (!known || !eq) return NULL;
        t = (struct span){ eq, (size_t)(t.s + t.n - eq) };
    }
    return t.n && *t.s == '=' && (t.n < 2 || t.s[1] != '=') ? t.s + 1 : NULL;
}
/* Does a failed assignment's value read as Python rather than as a sentence? Prose has letters of another script or two
 * words in a row outside quotes, or asks. */
static bool reads_as_code(struct span t) {
    static const char *const word[] = {
        "if", "else", "for", "in", "not", "and", "or", "is", "lambda", "await", "yield"
    };
    if (t.n && t.s[t.n - 1] == '?') return false;
    bool name_before = false;
    for (size_t i = 0; i < t.n;) {
        if (t.s[i] == '"' || t.s[i] == '\'') {
            const char *close = memchr(t.s + i + 1, t.s[i], t.n - i - 1);
            i = close ? (size_t)(close - t.s) + 1 : t.n;
            name_before = false;
            continue;
        }
        if (t.s[i] == '#') return true;
        if ((unsigned char)t.s[i] >= 0x80) return false;
        const size_t len = cell_name_length(t.s + i, t.n - i);
        bool keyword = false;
        for (size_t k = 0; k < sizeof word / sizeof *word; k++)
            keyword |= len && word_at((struct span){ t.s + i, len }, word[k]) && strlen(word[k]) == len;
        if (len && !keyword && name_before) return false;
        if (len) {
            name_before = !keyword;
        } else if (t.s[i] != ' ' && t.s[i] != '\t') {
            name_before = false;
        }
        i += len ? len : 1;
    }
    return true;
}
static void skip_to(struct reader *r, const char *s) {
    for (; r->s < s; r->s++) r->line += *r->s == '\n';
}
/* 1: taken, 0: this line is none, <0: an error. */
static int assignment(struct reader *r, struct span t) {
    const size_t len = cell_name_length(t.s, t.n);
    const char *value = len ? assigned(t.s + len, t.s + t.n) : NULL;
    if (!value) return 0;
    struct err why = { 0 };
    struct literal v;
    size_t used = 0;
    const char *end = NULL;
    if (!literal_parse(&v, value, (size_t)(r->end - value), &used, &why)) {
        end = line_end(value + used, r->end);
        struct span after = trim(value + used, end);
        if (after.n && *after.s == ';') after = trim(after.s + 1, end);
        if (after.n && *after.s != '#') {
            literal_fini(&v);
            err_set(&why, STATUS_INVALID, "a value is one Python literal, without operators or calls");
        }
    }
    if (why.code) {
        r->out->open = value + used >= r->end;
        const struct span shown = trim(value, t.s + t.n);
        if (!r->out->n && !reads_as_code(shown)) return 0;
        return err_set(r->e, why.code, "line %d: cannot set %.*s: %s", r->line, (int)(len > 60 ? 60 : len), t.s,
                       why.text);
    }
    struct directive *d = add(r, DIRECTIVE_ASSIGN, (struct span){ t.s, len });
    if (!d) return literal_fini(&v), r->e->code;
    d->value = v;
    skip_to(r, end < r->end ? end + 1 : end);
    return 1;
}
/* As the first line only when it is all: else it is a prompt that starts with that word. */
static int show(struct reader *r, struct span t) {
    if (t.n && t.s[t.n - 1] == ';') t = trim(t.s, t.s + t.n - 1);
    const size_t dollar = t.n && *t.s == '$';
    const size_t len = cell_name_length(t.s + dollar, t.n - dollar);
    const char *end = line_end(r->s, r->end);
    if (!len || len + dollar != t.n || len > 255) return 0;
    for (const char *more = end; !r->out->n && more < r->end; more = line_end(more + 1, r->end))
        if (trim(more + 1, line_end(more + 1, r->end)).n) return 0;
    char name[256];
    memcpy(name, t.s + dollar, len);
    name[len] = 0;
    bool known = r->known && r->known(r->arg, name);
    for (int i = 0; i < r->out->n; i++) /* or set further up */
        known |= r->out->v[i].kind == DIRECTIVE_ASSIGN && !strcmp(r->out->v[i].name, name);
    if (!known) return 0;
    if (!add(r, DIRECTIVE_SHOW, (struct span){ name, len })) return r->e->code;
    skip_to(r, end < r->end ? end + 1 : end);
    return 1;
}
static int foreign_line(struct reader *r, struct span t) {
    const size_t skip = word_at(t, "import") ? 6 : word_at(t, "from") ? 4 : 0;
    if (!skip) return 0;
    struct span rest = trim(t.s + skip, t.s + t.n);
    size_t n = 0;
    while (n < rest.n && (isalnum((unsigned char)rest.s[n]) || strchr("_.,", rest.s[n]))) n++;
    const struct span after = trim(rest.s + n, rest.s + rest.n);
    if (!n || (after.n && !word_at(after, skip == 6 ? "as" : "import") && *after.s != '#')) return 0;
    if (skip == 4 && !after.n) return 0;
    return err_set(
        r->e, STATUS_INVALID,
        "line %d: a cell here holds magics (%%load, %%generate ...), prompts and !commands, not Python. Python: "
        "another kernel or !python3; as a prompt: %%%%generate",
        r->line);
}
static int later_line(struct reader *r, struct span t) {
    return err_set(
        r->e, STATUS_INVALID,
        "line %d: \"%.*s\" is no %%magic, no !command and no name = value. A prompt has a cell of its own, or "
        "stands under %%%%generate",
        r->line, (int)(t.n > 60 ? 60 - utf8_tail(t.s, 60) : t.n), t.s);
}
static int line(struct reader *r) {
    const char *end = line_end(r->s, r->end);
    const struct span t = trim(r->s, end);
    if (!t.n || is_comment(t)) {
        r->s = end < r->end ? end + 1 : end;
        r->line++;
        return 0;
    }
    size_t ask = 0;
    while (ask < t.n && t.s[ask] == '?') ask++;
    if (*t.s == '!' || (ask < t.n && t.s[ask] == '%')) return command_line(r);
    int rc = assignment(r, t);
    if (!rc) rc = show(r, t);
    if (!rc) rc = foreign_line(r, t);
    if (rc) return rc < 0 ? rc : 0;
    if (r->out->n) return later_line(r, t);
    struct directive *d = add(r, DIRECTIVE_PROMPT, (struct span){ NULL, 0 });
    if (!d) return r->e->code;
    d->body = r->start;
    d->body_len = (size_t)(r->end - r->start);
    r->s = r->end;
    return 0;
}
int cell_parse(struct cell *out, const char *code, size_t n, cell_known *known, const void *arg, struct err *e) {
    struct err own = { 0 };
    struct reader r = { code, code, code + n, 1, known, arg, out, &own };
    *out = (struct cell){ 0 };
    int rc = 0;
    while (!rc && r.s < r.end) rc = line(&r);
    return rc ? err_set(e, own.code, "%s", own.text) : 0;
}
void cell_fini(struct cell *c) {
    for (int i = 0; i < c->n; i++) {
        mem_free(c->v[i].name);
        mem_free(c->v[i].rest);
        literal_fini(&c->v[i].value);
    }
    mem_free(c->v);
    *c = (struct cell){ 0 };
}

/* A cell magic ends with an empty line, as consoles are used to. */
static bool ends_empty(const char *code, size_t n) {
    if (!n || code[n - 1] != '\n') return false;
    const char *last = memrchr(code, '\n', n - 1);
    return last && !trim(last + 1, code + n - 1).n;
}
const char *cell_is_complete(const char *code, size_t n) {
    struct cell c;
    struct err e = { 0 };
    const int rc = cell_parse(&c, code, n, NULL, NULL, &e);
    const struct directive *last = c.n ? &c.v[c.n - 1] : NULL;
    const bool body = last && last->cell && last->kind == DIRECTIVE_MAGIC;
    const bool prompt = last && last->kind == DIRECTIVE_PROMPT, open = c.open;
    cell_fini(&c);
    if (rc) return open ? "incomplete" : "invalid";
    if (prompt) return "complete";
    if (body) return ends_empty(code, n) ? "complete" : "incomplete";
    return n && code[n - 1] == '\\' ? "incomplete" : "complete";
}
