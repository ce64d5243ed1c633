#include "secret.h"
#include "base/mem.h"
#include "format.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

extern char **environ;
enum { SECRET_MIN = 6, SECRETS_MAX = 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char **secret; /* the longest first, so that one that begins another does not leave its tail */
static int secrets;

/* Locked. A list that cannot grow forgets nothing that it has. */
static void insert(const char *value, size_t n) {
    int at = 0;
    while (at < secrets && strlen(secret[at]) > n) at++;
    for (int i = at; i < secrets && strlen(secret[i]) == n; i++)
        if (!strcmp(secret[i], value)) return;
    char **grown = secrets < SECRETS_MAX ? mem_grow(secret, (size_t)secrets + 1, sizeof *grown) : NULL;
    if (grown) secret = grown;
    char *copy = grown ? mem_copy(value, n) : NULL;
    if (!copy) return;
    memmove(secret + at + 1, secret + at, (size_t)(secrets - at) * sizeof *secret);
    secret[at] = copy;
    secrets++;
}
void secret_add(const char *value) {
    const size_t n = strlen(value);
    if (n < SECRET_MIN) return;
    pthread_mutex_lock(&lock);
    insert(value, n);
    pthread_mutex_unlock(&lock);
}
void secret_named(const char *name, const char *value) {
    if (format_is_secret_name(name)) secret_add(value);
}
void secret_environment(void) {
    for (char **v = environ; v && *v; v++) {
        char name[256];
        const size_t n = strcspn(*v, "=");
        snprintf(name, sizeof name, "%.*s", (int)(n < 250 ? n : 250), *v);
        if ((*v)[n]) secret_named(name, *v + n + 1);
    }
}
/* Locked. Length of the secret that begins at s; 0: none does. */
static size_t begins(const char *s, size_t n) {
    for (int i = 0; i < secrets; i++) {
        const size_t len = strlen(secret[i]);
        if (*s == *secret[i] && len <= n && !memcmp(s, secret[i], len)) return len;
    }
    return 0;
}
void secret_redact(struct buf *out, const char *s, size_t n) {
    struct buf known;
    buf_init(&known, out->max);
    pthread_mutex_lock(&lock);
    size_t kept = 0;
    for (size_t i = 0; i < n;) {
        const size_t len = begins(s + i, n - i);
        if (len) {
            buf_add(&known, s + kept, i - kept);
            buf_puts(&known, "<hidden>");
            kept = i + len;
        }
        i += len ? len : 1;
    }
    buf_add(&known, s + kept, n - kept);
    pthread_mutex_unlock(&lock);
    format_redacted(out, buf_text(&known), known.n);
    if (known.failed) out->failed = true;
    buf_fini(&known);
}
