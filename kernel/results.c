#include "results.h"
#include "base/mem.h"
#include "kernel/present/secret.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

enum { BUSY_MS = 5000, STALE_LOCK_S = 120, TEXT_MAX = 256 << 20 };

/* X(name, type). messages, options, numbers and system are JSON; times in ms, at in UTC. */
/* clang-format off */
#define COLUMNS(X)                                                                                               \
    X(at, TEXT) X(kind, TEXT) X(state, TEXT) X(notebook, TEXT) X(cell, INTEGER) X(code, TEXT) X(model, TEXT)     \
    X(file, TEXT) X(repo, TEXT) X(revision, TEXT) X(format, TEXT) X(dtype, TEXT) X(kv_dtype, TEXT)               \
    X(max_model_len, INTEGER) X(template, TEXT) X(messages, TEXT) X(options, TEXT) X(text, TEXT) X(error, TEXT)  \
    X(prompt_tokens, INTEGER) X(new_tokens, INTEGER) X(ttft_ms, REAL) X(tpot_ms, REAL) X(tok_s, REAL)            \
    X(waited_ms, REAL) X(dummy, INTEGER) X(numbers, TEXT) X(system, TEXT)
/* clang-format on */
#define NAME(name, type) #name,
#define DECLARE(name, type) ", " #name " " #type
#define LIST(name, type) ", " #name
#define MARK(name, type) ", ?"
static const char *const column[] = { COLUMNS(NAME) };
enum { COLUMN_COUNT = sizeof column / sizeof *column };

/* step[v] makes version v + 1 of version v: a new column is a new step, and what is there is never changed again. */
static const char *const step[RESULTS_VERSION] = {
    "CREATE TABLE run (number INTEGER PRIMARY KEY AUTOINCREMENT" COLUMNS(DECLARE) ");",
};

struct db {
    sqlite3 *h;
    char path[PATH_MAX];
    struct stat st; /* of the file that was opened */
    int code;       /* SQLite's, of what failed */
    struct buf *note;
    struct err *e;
};
/* SQLite knows the locks of its own connections, but a descriptor closed here would drop them: one thread at a time. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the place ---- */
int results_path(char out[4096], struct err *e) {
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n = -1;
    if (data && data[0] == '/')
        n = snprintf(out, 4096, "%s/jaeda/results.sqlite", data);
    else if (home && home[0] == '/')
        n = snprintf(out, 4096, "%s/.local/share/jaeda/results.sqlite", home);
    if (n > 0 && n < 4000) return 0; /* room for the names beside it */
    out[0] = 0;
    return err_set(e, STATUS_IO, "there is no place for results: neither XDG_DATA_HOME nor HOME names a folder");
}
/* Every folder above the file that is missing, for its owner alone; the last one holds prompts. */
static void make_folders(const char *path) {
    char folder[PATH_MAX];
    struct stat st;
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'), *next; slash; slash = next) {
        next = strchr(slash + 1, '/');
        *slash = 0;
        if (mkdir(folder, 0700) && !next && !stat(folder, &st) && (st.st_mode & 077)) chmod(folder, 0700);
        *slash = '/';
    }
}
static const struct file_system {
    unsigned type; /* statfs's f_type */
    const char *name;
    bool local;
} known[] = {
    { 0xEF53, "ext4", true },        { 0x58465342, "xfs", true },   { 0x9123683E, "btrfs", true },
    { 0x01021994, "tmpfs", true },   { 0x2FC12FC1, "zfs", true },   { 0xF2F52010, "f2fs", true },
    { 0x794C7630, "overlay", true }, { 0x858458F6, "ramfs", true }, { 0x6969, "nfs", false },
    { 0xFF534D42, "cifs", false },   { 0xFE534D42, "smb", false },  { 0x0BD00BD0, "lustre", false },
    { 0x00C36400, "ceph", false },   { 0x47504653, "gpfs", false }, { 0x65735546, "fuse", false },
    { 0x5346414F, "afs", false },    { 0x01021997, "9p", false },
};
/* Of the folder that holds path, or of the nearest one above that is there. */
static struct file_system below(const char *path) {
    char folder[PATH_MAX];
    struct statfs s;
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash; (slash = strrchr(folder, '/'));) {
        *slash = 0;
        if (statfs(*folder ? folder : "/", &s)) continue;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (known[i].type == (unsigned)s.f_type) return known[i];
        break;
    }
    return (struct file_system){ 0, "unknown file system", false };
}
/* Asked of a file of its own: closing a descriptor of the database would drop the locks that SQLite holds there. */
static bool locks_work(const char *path) {
    char name[PATH_MAX + 8];
    snprintf(name, sizeof name, "%s.probe", path);
    const int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return true; /* no folder or not writable: SQLite will say so */
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    const bool works = !fcntl(fd, F_SETLK, &whole) || errno == EAGAIN || errno == EACCES;
    close(fd);
    unlink(name);
    return works;
}
/* All kernels of a user must choose alike: it follows from the file system alone. */
static const char *vfs(const char *path) { return below(path).local || locks_work(path) ? "unix" : "unix-dotfile"; }
void results_kind(char out[96]) {
    char path[4096];
    out[0] = 0;
    if (results_path(path, NULL)) return;
    snprintf(out, 96, "%s, %s", below(path).name, strcmp(vfs(path), "unix") ? "a lock file" : "record locks");
}

/* ---- opening ---- */
/* Keeps what SQLite says of the call that just failed, before another call changes it. */
static int failed(struct db *d, const char *what) {
    d->code = d->h ? sqlite3_errcode(d->h) : SQLITE_NOMEM;
    const char *why = d->code == SQLITE_CANTOPEN && sqlite3_system_errno(d->h) ? strerror(sqlite3_system_errno(d->h))
                                                                               : sqlite3_errstr(d->code);
    const char *way = d->code == SQLITE_FULL       ? "; free some space there"
                      : d->code == SQLITE_IOERR    ? "; the disk may be full or a quota reached"
                      : d->code == SQLITE_BUSY     ? "; another program holds it"
                      : d->code == SQLITE_READONLY ? "; chmod u+w"
                                                   : "";
    return err_set(d->e, STATUS_IO, "cannot %s %.180s: %.80s%s", what, d->path, why, way);
}
static void close_db(struct db *d) {
    sqlite3_close(d->h);
    d->h = NULL;
}
/* A process that was killed leaves its lock file behind. */
static void break_stale_lock(const char *path) {
    char name[PATH_MAX + 8];
    struct stat st;
    snprintf(name, sizeof name, "%s.lock", path);
    if (!stat(name, &st) && S_ISDIR(st.st_mode) && time(NULL) - st.st_mtime > STALE_LOCK_S) rmdir(name);
}
static int user_version(struct db *d) {
    sqlite3_stmt *s = NULL;
    int v = -1;
    if (sqlite3_prepare_v2(d->h, "PRAGMA user_version", -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        v = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return v;
}
static int run_sql(struct db *d, const char *sql) { return sqlite3_exec(d->h, sql, NULL, NULL, NULL) != SQLITE_OK; }

/* Another kernel may do the same at the same time: the version is read again under the lock. */
static int migrate(struct db *d) {
    if (run_sql(d, "BEGIN IMMEDIATE")) return failed(d, "write");
    for (int v = user_version(d); v < RESULTS_VERSION; v++) {
        char sql[64];
        snprintf(sql, sizeof sql, "PRAGMA user_version = %d", v + 1);
        if (v < 0 || run_sql(d, step[v]) || run_sql(d, sql)) return failed(d, "write"); /* closing rolls back */
    }
    return run_sql(d, "COMMIT") ? failed(d, "write") : 0;
}
static int check_version(struct db *d, bool write) {
    const int v = user_version(d);
    if (v < 0) return failed(d, "read");
    if (v > RESULTS_VERSION)
        return err_set(d->e, STATUS_FORMAT,
                       "%.180s is of a newer Jaeda (its version %d, known here %d): it is left alone", d->path, v,
                       RESULTS_VERSION);
    if (v == RESULTS_VERSION) return 0;
    if (!write && v == 0) return err_set(d->e, STATUS_NOTFOUND, "no run is recorded yet in %.180s", d->path);
    return migrate(d);
}
static int open_once(struct db *d, bool write) {
    const char *way = vfs(d->path);
    if (strcmp(way, "unix")) break_stale_lock(d->path);
    if (write) { /* SQLite would make it readable for others */
        const int fd = open(d->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0) close(fd);
    }
    if (stat(d->path, &d->st)) {
        d->st = (struct stat){ 0 };
        if (!write) return err_set(d->e, STATUS_NOTFOUND, "no run is recorded yet in %.180s", d->path);
    }
    if (S_ISREG(d->st.st_mode) && d->st.st_mode & 077) chmod(d->path, 0600);
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    if (sqlite3_open_v2(d->path, &d->h, flags, way) != SQLITE_OK) return failed(d, "open");
    sqlite3_busy_timeout(d->h, BUSY_MS);
    if (run_sql(d, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"))
        return failed(d, "open");
    return check_version(d, write);
}
/* Moves the file away, with its journal, which would else be played into the fresh one. Not when another kernel has done
 * so already and this is its fresh one. */
static void set_aside(struct db *d) {
    char to[PATH_MAX + 64], from[PATH_MAX + 16], stamp[32] = "";
    struct stat st;
    struct tm tm;
    const time_t now = time(NULL);
    if (stat(d->path, &st) || st.st_ino != d->st.st_ino || st.st_dev != d->st.st_dev) return;
    if (gmtime_r(&now, &tm)) strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm);
    snprintf(from, sizeof from, "%s-journal", d->path);
    snprintf(to, sizeof to, "%s.damaged-%s-%d-journal", d->path, stamp, (int)getpid());
    rename(from, to);
    snprintf(to, sizeof to, "%s.damaged-%s-%d", d->path, stamp, (int)getpid());
    if (rename(d->path, to) || !d->note) return;
    buf_printf(d->note, "%s was damaged: it is now %s, and a fresh one is begun\n", d->path, to);
}

/* ---- work: one short transaction each ---- */
typedef int work(struct db *d, void *arg);
/* Opens, works, closes; a damaged file is set aside and the work done again on a fresh one. write: makes the file. */
static int with_db(struct db *d, bool write, work *f, void *arg) {
    struct err *e = d->e;
    int rc = results_path(d->path, e);
    if (rc) return rc;
    pthread_mutex_lock(&lock);
    if (write) make_folders(d->path);
    for (int round = 0;; round++) {
        struct err why = { 0 };
        d->e = &why;
        d->code = SQLITE_OK;
        rc = open_once(d, write) || f(d, arg) ? err_set(&why, STATUS_IO, "cannot use %.180s", d->path) : 0;
        close_db(d);
        if (round || (d->code != SQLITE_CORRUPT && d->code != SQLITE_NOTADB)) {
            if (rc) rc = err_set(e, why.code, "%s", why.text);
            break;
        }
        set_aside(d);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- adding ---- */
static json_t *clean_text(const json_t *v) {
    struct buf b;
    buf_init(&b, TEXT_MAX);
    secret_redact(&b, json_string_value(v), json_string_length(v));
    json_t *text = b.failed ? NULL : json_stringn(buf_text(&b), b.n);
    buf_fini(&b);
    return text;
}
/* A copy of v with every text in it redacted; NULL: no memory. */
static json_t *clean(const json_t *v) {
    const char *key;
    json_t *to, *item;
    size_t i;
    if (json_is_string(v)) return clean_text(v);
    if (json_is_array(v)) {
        to = json_array();
        json_array_foreach(v, i, item) if (json_array_append_new(to, clean(item))) return json_decref(to), NULL;
        return to;
    }
    if (!json_is_object(v)) return json_deep_copy(v);
    to = json_object();
    json_object_foreach((json_t *)v, key, item) {
        if (json_object_set_new(to, key, clean(item))) return json_decref(to), NULL;
    }
    return to;
}
static int bind(sqlite3_stmt *s, int at, const json_t *v) {
    if (json_is_string(v))
        return sqlite3_bind_text(s, at, json_string_value(v), (int)json_string_length(v), SQLITE_STATIC);
    if (json_is_real(v)) return sqlite3_bind_double(s, at, json_real_value(v));
    if (json_is_integer(v)) return sqlite3_bind_int64(s, at, json_integer_value(v));
    if (json_is_boolean(v)) return sqlite3_bind_int(s, at, json_is_true(v));
    char *text = json_is_object(v) || json_is_array(v) ? json_dumps(v, JSON_COMPACT) : NULL;
    return text ? sqlite3_bind_text(s, at, text, -1, free) : SQLITE_OK;
}
struct adding {
    const json_t *run; /* clean */
    long long number;
};
static int add(struct db *d, void *arg) {
    static const char sql[] = "INSERT INTO run (number" COLUMNS(LIST) ") VALUES (NULL" COLUMNS(MARK) ")";
    struct adding *a = arg;
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(d->h, sql, -1, &s, NULL);
    for (int i = 0; i < COLUMN_COUNT && rc == SQLITE_OK; i++) rc = bind(s, i + 1, json_object_get(a->run, column[i]));
    if (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_DONE)
        a->number = sqlite3_last_insert_rowid(d->h);
    else
        rc = failed(d, "write");
    sqlite3_finalize(s);
    return rc;
}
static bool is_column(const char *name) {
    for (int i = 0; i < COLUMN_COUNT; i++)
        if (!strcmp(column[i], name)) return true;
    return false;
}
int results_add(const json_t *run, long long *number, struct buf *note, struct err *e) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)run, key, v) {
        if (!is_column(key)) return err_set(e, STATUS_INVALID, "a run has no %.40s", key);
    }
    struct adding a = { .run = clean(run) };
    struct db d = { .note = note, .e = e };
    const int rc = a.run ? with_db(&d, true, add, &a) : err_set(e, STATUS_NOMEM, "out of memory for a record");
    json_decref((json_t *)a.run);
    *number = a.number;
    return rc;
}

/* ---- reading ---- */
static json_t *value(sqlite3_stmt *s, int at) {
    switch (sqlite3_column_type(s, at)) {
    case SQLITE_INTEGER: return json_integer(sqlite3_column_int64(s, at));
    case SQLITE_FLOAT: return json_real(sqlite3_column_double(s, at));
    case SQLITE_TEXT: {
        const char *text = (const char *)sqlite3_column_text(s, at);
        const size_t n = (size_t)sqlite3_column_bytes(s, at);
        const char *name = sqlite3_column_name(s, at);
        const bool nested = n && strchr("[{", *text) &&
                            (!strcmp(name, "messages") || !strcmp(name, "options") || !strcmp(name, "numbers") ||
                             !strcmp(name, "system"));
        json_t *v = nested ? json_loadb(text, n, 0, NULL) : NULL;
        return v ? v : json_stringn(text, n);
    }
    default: return json_null();
    }
}
static json_t *row(sqlite3_stmt *s) {
    json_t *o = json_object();
    for (int i = 0; i < sqlite3_column_count(s); i++) {
        json_t *v = value(s, i);
        json_object_set_new(o, sqlite3_column_name(s, i), v ? v : json_null());
    }
    return o;
}
struct reading {
    const struct results_filter *f;
    long long number, count; /* in: which; out: how many fit, or were removed */
    json_t *rows;
};
static int all_rows(struct db *d, sqlite3_stmt *s, json_t *to) {
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) json_array_insert_new(to, 0, row(s)); /* the newest came first */
    if (rc == SQLITE_DONE) return 0;
    return failed(d, "read");
}
#define FITS                                                                                                           \
    " FROM run WHERE (?1 IS NULL OR lower(model) GLOB ?1 OR lower(repo) GLOB ?1) AND (?2 IS NULL OR code GLOB ?2"      \
    " OR messages GLOB ?2 OR text GLOB ?2 OR notebook GLOB ?2)"
static int list(struct db *d, void *arg) {
    struct reading *r = arg;
    static const char sql[] =
        "SELECT number, at, kind, state, notebook, cell, substr(code, 1, 200) AS code, model, dtype, prompt_tokens,"
        " new_tokens, ttft_ms, tpot_ms, tok_s, dummy, (SELECT count(*)" FITS ") AS fitting" FITS
        " ORDER BY number DESC LIMIT ?3";
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(d->h, sql, -1, &s, NULL) != SQLITE_OK) return failed(d, "read");
    char *model = r->f->model ? sqlite3_mprintf("%s", r->f->model) : NULL;
    char *grep = r->f->grep ? sqlite3_mprintf("*%s*", r->f->grep) : NULL;
    for (char *c = model; c && *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c + 32);
    sqlite3_bind_text(s, 1, model, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, grep, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 3, r->f->limit > 0 ? r->f->limit : -1);
    json_array_clear(r->rows);
    const int rc = all_rows(d, s, r->rows);
    r->count = json_integer_value(json_object_get(json_array_get(r->rows, 0), "fitting"));
    sqlite3_finalize(s);
    sqlite3_free(model);
    sqlite3_free(grep);
    return rc;
}
json_t *results_list(const struct results_filter *f, long long *total, struct buf *note, struct err *e) {
    struct reading r = { .f = f, .rows = json_array() };
    struct err why = { 0 };
    struct db d = { .note = note, .e = &why };
    int rc = with_db(&d, false, list, &r);
    if (rc == STATUS_NOTFOUND) rc = 0, json_array_clear(r.rows);
    *total = r.count;
    if (!rc) return r.rows;
    json_decref(r.rows);
    err_set(e, why.code, "%s", why.text);
    return NULL;
}
static int get(struct db *d, void *arg) {
    struct reading *r = arg;
    sqlite3_stmt *s = NULL;
    const char *sql = r->number ? "SELECT * FROM run WHERE number = ?1" : "SELECT * FROM run ORDER BY 1 DESC LIMIT 1";
    if (sqlite3_prepare_v2(d->h, sql, -1, &s, NULL) != SQLITE_OK) return failed(d, "read");
    if (r->number) sqlite3_bind_int64(s, 1, r->number);
    json_array_clear(r->rows);
    int rc = all_rows(d, s, r->rows);
    sqlite3_finalize(s);
    if (!rc && !json_array_size(r->rows))
        rc = err_set(d->e, STATUS_NOTFOUND, "no run %lld is recorded; %%runs lists them", r->number);
    return rc;
}
json_t *results_get(long long number, struct buf *note, struct err *e) {
    struct reading r = { .number = number, .rows = json_array() };
    struct db d = { .note = note, .e = e };
    json_t *run = with_db(&d, false, get, &r) ? NULL : json_incref(json_array_get(r.rows, 0));
    json_decref(r.rows);
    return run;
}
static int drop(struct db *d, void *arg) {
    struct reading *r = arg;
    sqlite3_stmt *s = NULL;
    const char *sql = r->number ? "DELETE FROM run WHERE number = ?1" : "DELETE FROM run";
    if (sqlite3_prepare_v2(d->h, sql, -1, &s, NULL) != SQLITE_OK) return failed(d, "read");
    if (r->number) sqlite3_bind_int64(s, 1, r->number);
    const int rc = sqlite3_step(s) == SQLITE_DONE ? 0 : failed(d, "write");
    r->count = sqlite3_changes(d->h);
    sqlite3_finalize(s);
    if (!rc && !r->number) run_sql(d, "VACUUM"); /* gives the space back; without room for it the file stays long */
    return rc;
}
int results_delete(long long number, long long *removed, struct err *e) {
    struct reading r = { .number = number };
    struct db d = { .e = e };
    const int rc = with_db(&d, false, drop, &r);
    *removed = rc ? 0 : r.count;
    return rc;
}
