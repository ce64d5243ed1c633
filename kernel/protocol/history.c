#include "history.h"
#include "base/log.h"
#include "base/mem.h"
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct history {
    pthread_mutex_t lock;
    char path[PATH_MAX]; /* "" = none */
    sqlite3 *db;         /* NULL before the first use */
    long long session;
    bool complained;
};
static const char SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS session (number INTEGER PRIMARY KEY AUTOINCREMENT, started TEXT);"
    "CREATE TABLE IF NOT EXISTS input (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, line INTEGER NOT NULL,"
    " source TEXT NOT NULL, result TEXT, UNIQUE (session, line));"
    "INSERT INTO session (started) VALUES (datetime('now'));";

static void complain(struct history *h, const char *what) {
    if (h->complained) return;
    h->complained = true;
    log_at(LOG_WARN, "history: %.200s: %s", h->path[0] ? h->path : "memory", what);
}
static void find_path(struct history *h) {
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n = -1;
    if (data && data[0] == '/')
        n = snprintf(h->path, sizeof h->path, "%s/jaeda/history.sqlite", data);
    else if (home && home[0] == '/')
        n = snprintf(h->path, sizeof h->path, "%s/.local/share/jaeda/history.sqlite", home);
    if (n < 0 || n >= (int)sizeof h->path) h->path[0] = 0;
}
/* Every directory above the file; prompts are private, so new ones are for their owner. */
static void make_directories(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(path, 0700) && errno != EEXIST) log_at(LOG_DEBUG, "history: %.200s: %s", path, strerror(errno));
        *slash = '/';
    }
}
struct history *history_open(const char *path) {
    struct history *h = mem_zero(1, sizeof *h);
    if (!h) return NULL;
    pthread_mutex_init(&h->lock, NULL);
    if (path)
        snprintf(h->path, sizeof h->path, "%s", path);
    else
        find_path(h);
    return h;
}
void history_close(struct history *h) {
    if (!h) return;
    sqlite3_close(h->db);
    pthread_mutex_destroy(&h->lock);
    mem_free(h);
}
/* A rollback journal works on network file systems where the write-ahead log's shared memory does not. */
static int use(struct history *h, const char *path) {
    int rc = sqlite3_open_v2(
        path, &h->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
        NULL);
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(h->db, 1000);
        rc = sqlite3_exec(h->db, "PRAGMA journal_mode=DELETE; PRAGMA synchronous=NORMAL; BEGIN IMMEDIATE;", NULL, NULL,
                          NULL);
    }
    if (rc == SQLITE_OK) rc = sqlite3_exec(h->db, SCHEMA, NULL, NULL, NULL);
    if (rc == SQLITE_OK) h->session = sqlite3_last_insert_rowid(h->db);
    if (rc == SQLITE_OK) rc = sqlite3_exec(h->db, "COMMIT", NULL, NULL, NULL);
    if (rc == SQLITE_OK) return 0;
    complain(h, h->db ? sqlite3_errmsg(h->db) : "no memory");
    sqlite3_close(h->db);
    h->db = NULL;
    return -1;
}
/* Locked. */
static bool ready(struct history *h) {
    if (h->db) return true;
    if (h->path[0]) {
        make_directories(h->path);
        if (!use(h, h->path)) {
            chmod(h->path, 0600);
            return true;
        }
        h->path[0] = 0;
    }
    return !use(h, ":memory:");
}
/* Locked. NULL after a complaint. */
static sqlite3_stmt *prepared(struct history *h, const char *sql) {
    sqlite3_stmt *s = NULL;
    if (ready(h) && sqlite3_prepare_v2(h->db, sql, -1, &s, NULL) == SQLITE_OK) return s;
    if (h->db) complain(h, sqlite3_errmsg(h->db));
    return NULL;
}
static void store(struct history *h, const char *sql, int line, const char *text, size_t n) {
    pthread_mutex_lock(&h->lock);
    sqlite3_stmt *s = n < INT_MAX ? prepared(h, sql) : NULL;
    if (s) {
        sqlite3_bind_int64(s, 1, h->session);
        sqlite3_bind_int(s, 2, line);
        sqlite3_bind_text(s, 3, text, (int)n, SQLITE_STATIC);
        if (sqlite3_step(s) != SQLITE_DONE) complain(h, sqlite3_errmsg(h->db));
        sqlite3_finalize(s);
    }
    pthread_mutex_unlock(&h->lock);
}
void history_add(struct history *h, int line, const char *source, size_t n) {
    store(h, "INSERT OR REPLACE INTO input (session, line, source) VALUES (?1, ?2, ?3)", line, source, n);
}
void history_result(struct history *h, int line, const char *text, size_t n) {
    store(h, "UPDATE input SET result = ?3 WHERE session = ?1 AND line = ?2", line, text, n);
}

static json_t *column_text(sqlite3_stmt *s, int column) {
    const char *text = (const char *)sqlite3_column_text(s, column);
    return text ? json_stringn(text, (size_t)sqlite3_column_bytes(s, column)) : json_null();
}
/* Rows (session, line, source, result) -> Jupyter's triples. */
static json_t *rows(struct history *h, sqlite3_stmt *s, bool output, struct err *e) {
    json_t *list = json_array();
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        json_t *input = column_text(s, 2), *entry = output ? json_pack("[o, o]", input, column_text(s, 3)) : input;
        json_array_append_new(list, json_pack("[I, I, o]", (json_int_t)sqlite3_column_int64(s, 0),
                                              (json_int_t)sqlite3_column_int64(s, 1), entry));
    }
    if (rc != SQLITE_DONE) {
        err_set(e, STATUS_IO, "the history cannot be read: %s", sqlite3_errmsg(h->db));
        json_decref(list);
        return NULL;
    }
    return list;
}
static long long whole(const json_t *request, const char *name, long long otherwise) {
    const json_t *v = json_object_get(request, name);
    return json_is_number(v) ? (long long)json_number_value(v) : otherwise;
}
#define COLUMNS "SELECT session, line, source, result FROM "
static sqlite3_stmt *statement(struct history *h, const json_t *q, const char *access, struct err *e) {
    const long long n = whole(q, "n", 10);
    sqlite3_stmt *s = NULL;
    if (!strcmp(access, "range")) {
        const long long session = whole(q, "session", 0);
        s = prepared(h, COLUMNS "input WHERE session = ?1 AND line >= ?2 AND line < ?3 ORDER BY line");
        sqlite3_bind_int64(s, 1, session > 0 ? session : h->session + session);
        sqlite3_bind_int64(s, 2, whole(q, "start", 1));
        sqlite3_bind_int64(s, 3, whole(q, "stop", LLONG_MAX));
    } else if (!strcmp(access, "tail")) {
        s = prepared(h, COLUMNS "(SELECT * FROM input ORDER BY id DESC LIMIT ?1) ORDER BY id");
        sqlite3_bind_int64(s, 1, n < 0 ? 0 : n);
    } else if (!strcmp(access, "search")) {
        const char *pattern = json_string_value(json_object_get(q, "pattern"));
        const bool unique = json_is_true(json_object_get(q, "unique"));
        s = prepared(h, unique ? COLUMNS "(SELECT *, max(id) AS newest FROM input WHERE source GLOB ?2 GROUP BY source"
                                         " ORDER BY newest DESC LIMIT ?1) ORDER BY newest"
                               : COLUMNS
                            "(SELECT * FROM input WHERE source GLOB ?2 ORDER BY id DESC LIMIT ?1) ORDER BY id");
        sqlite3_bind_int64(s, 1, json_object_get(q, "n") ? n : -1);
        sqlite3_bind_text(s, 2, pattern ? pattern : "*", -1, SQLITE_STATIC);
    } else {
        err_set(e, STATUS_INVALID, "hist_access_type '%.40s' is none of range, tail, search", access);
        return NULL;
    }
    if (!s) err_set(e, STATUS_IO, "the history cannot be read: %s", h->db ? sqlite3_errmsg(h->db) : "no memory");
    return s;
}
json_t *history_query(struct history *h, const json_t *request, struct err *e) {
    const char *access = json_string_value(json_object_get(request, "hist_access_type"));
    pthread_mutex_lock(&h->lock);
    /* Relative sessions need this session's number, hence an open database. */
    sqlite3_stmt *s = ready(h) ? statement(h, request, access ? access : "tail", e) : NULL;
    json_t *list = s ? rows(h, s, json_is_true(json_object_get(request, "output")), e) : NULL;
    sqlite3_finalize(s);
    pthread_mutex_unlock(&h->lock);
    if (!list) err_set(e, STATUS_IO, "the history cannot be read");
    return list;
}
void history_walk(struct history *h, int session, int n,
                  void (*line)(void *to, int session, int number, const char *input), void *to) {
    struct err e = { 0 };
    json_t *q = json_pack("{s:s, s:i}", "hist_access_type", "range", "session", session);
    json_t *list = history_query(h, q, &e), *row;
    const size_t all = json_array_size(list);
    size_t i;
    json_array_foreach(list, i, row) {
        if (n > 0 && i + (size_t)n < all) continue;
        line(to, (int)json_integer_value(json_array_get(row, 0)), (int)json_integer_value(json_array_get(row, 1)),
             json_string_value(json_array_get(row, 2)));
    }
    json_decref(list);
    json_decref(q);
}
